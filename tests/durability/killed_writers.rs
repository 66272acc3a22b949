//! What is left when a process is killed in the middle, and what others see meanwhile: a child appends or publishes,
//! says after each step how far it came, and is killed after a random number of steps, while readers look at the file.
//!
//! By default a few runs of each kind, so that the suite stays quick; `NDARRAY_MMAP_KILLS=200` for as many as the gate does.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::{env, fs, thread};

use crate::support::kernel::{no, no_renaming, refusing};
use crate::support::process::{Child, in_child, tell_parent};
use crate::support::snapshot::names;
use ndarray::prelude::*;
use ndarray_mmap::npy::Header;
use ndarray_mmap::{Error, ErrorKind, Lock, MmapArray, MmapArrayMut, Staged};

const COLUMNS: usize = 7;

/// Where the child finds the file, and which of its ways to work it takes.
const FILE: &str = "NDARRAY_MMAP_KILL_FILE";
const SEED: &str = "NDARRAY_MMAP_KILL_SEED";

fn runs() -> u64 {
    env::var("NDARRAY_MMAP_KILLS").map_or(20, |n| n.parse().unwrap())
}

/// Numbers that look random, and are the same each time.
struct Numbers(u64);

impl Numbers {
    /// Below `end`.
    fn next(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Row `i` says who it is in each column.
fn row_value(row: usize, column: usize) -> u64 {
    (row as u64 + 1) * 1_000 + column as u64
}

fn rows(start: usize, count: usize) -> Array2<u64> {
    Array2::from_shape_fn((count, COLUMNS), |(i, j)| row_value(start + i, j))
}

/// How many rows are right, up to the first that is not.
fn right_rows(array: &ArrayRef<u64, Ix2>) -> usize {
    (0..array.nrows()).find(|&i| (0..COLUMNS).any(|j| array[[i, j]] != row_value(i, j))).unwrap_or(array.nrows())
}

fn file_and_seed() -> (std::path::PathBuf, u64) {
    (env::var_os(FILE).unwrap().into(), env::var(SEED).unwrap().parse().unwrap())
}

/// Reports how many steps the child has done.
fn report(step: usize) {
    tell_parent(&format!("did {step}"));
}

fn reported(line: &str) -> Option<usize> {
    line.strip_prefix("did ")?.parse().ok()
}

/// Starts the child and kills it after a random number of its steps, while two threads call `look` over and over. Returns
/// the last step that it reported, after which it may have done another, and the number of looks.
fn killed(child: Child, path: &Path, seed: u64, most_steps: u64, look: impl Fn() + Sync) -> (usize, u64) {
    let mut child = child.with(FILE, path).with(SEED, seed.to_string()).start();
    let steps = 1 + Numbers(seed).next(most_steps);
    let (over, looked) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut did = 0;
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    look();
                    looked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..steps {
            let line = child.line().expect("the child lives until it is killed");
            did = reported(&line).unwrap_or_else(|| panic!("the child wrote {line}"));
        }
        // The last line can be half written.
        let rest = child.kill();
        did = rest.iter().rev().find_map(|line| reported(line)).unwrap_or(did);
        over.store(true, Ordering::Relaxed);
    });
    (did, looked.into_inner())
}

fn open_npy(path: &Path) -> Result<MmapArray<u64, Ix2>, Error> {
    // SAFETY: the writer only adds rows.
    unsafe { MmapArray::<u64, Ix2>::options().lock(Lock::None).open_npy(path) }
}

/// A copy: the last rows may still be changing, which a mapping must not.
fn load_raw(path: &Path) -> Result<MmapArray<u64, Ix2>, Error> {
    MmapArray::<u64, Ix1>::options().row_shape(COLUMNS).lock(Lock::None).load(path)
}

/// Appends blocks of 1 to 300 rows for ever.
fn append_for_ever(mut log: MmapArrayMut<u64, Ix2>, mut numbers: Numbers) {
    loop {
        let count = 1 + if numbers.next(3) == 0 { numbers.next(300) as usize } else { 0 };
        log.append(&rows(log.nrows(), count)).unwrap();
        report(log.nrows());
        if numbers.next(50) == 0 {
            log.flush().unwrap();
        }
    }
}

#[test]
fn a_killed_append_to_npy_leaves_every_row_right() {
    let writer = || {
        let (path, seed) = file_and_seed();
        // SAFETY: nobody else writes to the file.
        let log = unsafe { MmapArrayMut::<u64, Ix2>::open_npy(path).unwrap() };
        append_for_ever(log, Numbers(seed ^ 1));
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.npy");
    let mut looked = 0;
    for run in 0..runs() {
        // Every few runs a new file; in between the next run goes on where the last was killed.
        if run % 4 == 0 {
            // SAFETY: nobody else writes to the file.
            unsafe { MmapArrayMut::<u64>::create_npy(&path, (0, COLUMNS)).unwrap() };
        }
        let before = open_npy(&path).unwrap().nrows();
        let (did, looks) = killed(in_child!(writer), &path, run, 200, || {
            let a = open_npy(&path).expect("an array, at any moment");
            assert!(a.nrows() >= before);
            assert_eq!(right_rows(&a), a.nrows());
        });
        looked += looks;
        let a = open_npy(&path).unwrap();
        assert!(a.nrows() >= did, "{did} rows were appended, {} are there", a.nrows());
        assert_eq!(right_rows(&a), a.nrows());
        drop(a);
        // Appending goes on, and the file ends with the array again.
        // SAFETY: nobody else writes to the file.
        let mut log = unsafe { MmapArrayMut::<u64, Ix2>::open_npy(&path).unwrap() };
        log.append(&rows(log.nrows(), 2)).unwrap();
        assert_eq!(right_rows(&log), log.nrows());
        assert_eq!(fs::metadata(&path).unwrap().len(), 128 + (log.len() * 8) as u64);
        log.close().unwrap();
    }
    println!("{} kills, {looked} openings by live readers, all whole", runs());
    assert!(looked >= runs());
}

/// Of a raw file only its length tells how many rows there are, so that those of the last block may be there before
/// what is in them: zero, all or from some point on.
#[test]
fn a_killed_append_to_a_raw_file_leaves_complete_rows_as_they_were() {
    let writer = || {
        let (path, seed) = file_and_seed();
        // SAFETY: nobody else writes to the file.
        let log = unsafe { MmapArrayMut::<u64, Ix1>::options().row_shape(COLUMNS).open(path).unwrap() };
        append_for_ever(log, Numbers(seed ^ 1));
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.bin");
    let (mut looked, mut incomplete) = (0, 0);
    for run in 0..runs() {
        if run % 4 == 0 {
            // SAFETY: nobody else writes to the file.
            unsafe { MmapArrayMut::<u64>::create(&path, (0, COLUMNS)).unwrap() };
        }
        let seen = AtomicU64::new(0);
        let (did, looks) = killed(in_child!(writer), &path, run, 200, || {
            let known = seen.load(Ordering::SeqCst) as usize;
            let a = load_raw(&path).expect("whole rows, at any moment");
            let right = right_rows(&a);
            assert!(right >= known && a.nrows() - right <= 300, "{right} of {}, {known}", a.nrows());
            seen.fetch_max(right as u64, Ordering::SeqCst);
        });
        looked += looks;
        let a = load_raw(&path).unwrap();
        let right = right_rows(&a);
        assert!(right >= did && a.nrows() - right <= 300, "{right} of {}, {did}", a.nrows());
        // Past the rows that are right there is nothing but zeros.
        let rest = a.slice(s![right.., ..]);
        assert!(rest.iter().skip(COLUMNS).all(|&v| v == 0));
        incomplete += u64::from(!rest.is_empty());
        drop(a);
        // SAFETY: nobody else writes to the file.
        let mut log = unsafe { MmapArrayMut::<u64, Ix1>::options().row_shape(COLUMNS).open(&path).unwrap() };
        log.resize(right).unwrap();
        log.append(&rows(right, 2)).unwrap();
        assert_eq!(right_rows(&log), right + 2);
        log.close().unwrap();
    }
    println!("{} kills, {looked} openings by live readers; {incomplete} left rows of zeros behind", runs());
    assert!(looked >= runs());
}

/// Each version is of another length, and full of its own number.
fn version_rows(version: u64) -> usize {
    1 + (version as usize * 37) % 900
}

#[track_caller]
fn whole_version(path: &Path) -> u64 {
    // The default lock: whoever finds a file at its path may open it at once. (The writer never does; it only stages.)
    // SAFETY: a file that is at the path is never written to again.
    let a = unsafe { MmapArray::<u64, Ix2>::open_npy(path) }.expect("a whole file, at any moment");
    let version = a[[0, 0]];
    assert_eq!(a.dim(), (version_rows(version), COLUMNS));
    assert!(a.iter().all(|&v| v == version));
    version
}

fn publish(path: &Path, version: u64) {
    let mut new = Staged::<u64>::stage_npy(path, (0, COLUMNS)).unwrap();
    new.append(&Array2::zeros((version_rows(version), COLUMNS))).unwrap();
    new.fill(version);
    new.publish().unwrap();
}

#[test]
fn a_killed_publish_leaves_the_old_file_or_the_new_one() {
    let writer = || {
        let (path, _) = file_and_seed();
        let mut version = whole_version(&path);
        loop {
            version += 1;
            publish(&path, version);
            report(version as usize);
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result.npy");
    publish(&path, 0);
    let (mut looked, mut litter) = (0, 0);
    for run in 0..runs() {
        let before = whole_version(&path);
        let (did, looks) = killed(in_child!(writer), &path, run, 12, || {
            assert!(whole_version(&path) >= before);
        });
        looked += looks;
        assert!([did as u64, did as u64 + 1].contains(&whole_version(&path)));
        // Between the two steps of the last a kill can leave one name more: of a whole file.
        for name in names(folder.path()).iter().filter(|name| *name != "result.npy") {
            whole_version(&folder.path().join(name));
            litter += 1;
        }
    }
    println!("{} kills, {looked} openings by live readers, all whole; after {litter} there was a second name", runs());
    assert!(looked >= runs());
    // The next one to publish at the path removes it.
    publish(&path, whole_version(&path) + 1);
    assert_eq!(names(folder.path()), ["result.npy"]);
}

/// Where nothing is at the path yet, the file gets its name in one step: there is nothing to leave behind.
#[test]
fn a_killed_publish_of_new_files_leaves_no_litter() {
    let writer = || {
        let (path, _) = file_and_seed();
        let mut version = 0;
        loop {
            publish(&path.with_extension(format!("{version}.npy")), version);
            version += 1;
            report(version as usize);
        }
    };
    let parent = tempfile::tempdir().unwrap();
    for run in 0..runs() {
        let folder = parent.path().join(run.to_string());
        fs::create_dir(&folder).unwrap();
        let path = folder.join("result.npy");
        let (did, _) = killed(in_child!(writer), &path, run, 12, || {});
        let names = names(&folder);
        assert!([did, did + 1].contains(&names.len()), "{did}: {names:?}");
        for name in names {
            let version = name.strip_prefix("result.").and_then(|n| n.strip_suffix(".npy")).expect("no other name");
            assert_eq!(whole_version(&folder.join(&name)), version.parse::<u64>().unwrap());
        }
    }
}

/// A kill between the two steps, played by a kernel that refuses the second, and refuses to tidy up.
#[test]
fn what_a_kill_left_behind_is_removed_by_the_next_to_publish() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result.npy");
    publish(&path, 1);
    let mut refusals = no_renaming(libc::EIO);
    refusals.extend([no(libc::SYS_unlinkat, libc::EIO), no(libc::SYS_unlink, libc::EIO)]);
    let e = refusing(&refusals, || Staged::<u64>::stage_npy(&path, (9, 9)).unwrap().publish().unwrap_err());
    assert_eq!(e.kind(), ErrorKind::Io);
    assert_eq!((names(folder.path()).len(), whole_version(&path)), (2, 1));
    publish(&path, 2);
    assert_eq!((names(folder.path()).len(), whole_version(&path)), (1, 2));
}

#[test]
fn two_who_publish_at_one_path_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result.npy");
    thread::scope(|scope| {
        for publisher in 0..2 {
            let path = &path;
            scope.spawn(move || {
                for i in 0..100 {
                    publish(path, publisher * 100 + i);
                    whole_version(path);
                }
            });
        }
    });
    assert_eq!(names(folder.path()), ["result.npy"]);
    assert!([99, 199].contains(&whole_version(&path)));
}

/// A copy that is being read while the file is cut is refused; nothing else can happen.
#[test]
fn shrinking_and_growing_leave_a_legal_header_at_every_moment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.npy");
    // SAFETY: nobody else writes to the file, and the readers map nothing.
    let mut log = unsafe { MmapArrayMut::<u64>::create_npy(&path, (0, COLUMNS)).unwrap() };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while !over.load(Ordering::Relaxed) {
                // (Rows that are being cut while they are read can show as zeros: nothing is promised of them.)
                assert_eq!(Header::read(&path).unwrap().shape()[1], COLUMNS);
                seen += 1;
            }
            seen
        });
        for round in 0..300 {
            log.append(&rows(log.nrows(), 1 + round % 50)).unwrap();
            if round % 3 == 0 {
                log.resize(log.nrows() / 2).unwrap();
            }
        }
        over.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
}
