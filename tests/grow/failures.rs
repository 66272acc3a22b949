//! Growing, shrinking and locking where the system refuses a step, or does it and refuses all the same, where others
//! change the file between the steps, and where the process is killed there: nothing that was stored is lost in silence,
//! and what is not as it was says so.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::support::arrays::{CreateExt, OpenExt, expect_err, expect_io_err};
use crate::support::kernel::{no, refusing};
use crate::support::process::{self, Child, in_child};
use crate::support::steps::{Answer, at_call, at_each};
use ndarray::prelude::*;
use ndarray_mmap::{ErrorKind, Lock, MmapArray, MmapArrayMut};
use rustix::fs::FallocateFlags;

const MARK: &str = "user.ndarray-mmap.growing";

/// Ten thousand numbers, in a raw file or in a `.npy` file.
fn numbers(path: &Path, npy: bool) -> MmapArrayMut<f64, Ix1> {
    let options = MmapArrayMut::<f64>::options().shape(10_000);
    let mut a = if npy { options.created_npy(path) } else { options.created(path) }.unwrap();
    a.iter_mut().zip(0..).for_each(|(x, n)| *x = f64::from(n));
    a
}

fn are_there(a: &MmapArrayMut<f64, Ix1>) -> bool {
    a.iter().zip(0..).all(|(&x, n)| x == f64::from(n))
}

fn handle(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

#[track_caller]
fn is_poisoned(mut a: MmapArrayMut<f64, Ix1>) {
    expect_err(a.flush(), ErrorKind::Poisoned);
    expect_err(a.guarded(|_| ()), ErrorKind::Poisoned);
    expect_err(a.append(&array![1.0]), ErrorKind::Poisoned);
    expect_err(a.resize(3), ErrorKind::Poisoned);
    expect_err(a.write_rows(0, &array![1.0]), ErrorKind::Poisoned);
    expect_err(a.close(), ErrorKind::Poisoned);
}

/// ext4 sets the new size before it frees blocks: so it may refuse what is done.
#[test]
fn a_truncation_that_was_done_and_refused_is_not_filled_with_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    for npy in [false, true] {
        // All of what was asked for was done, or a part.
        for left in [100, 5000] {
            let mut a = numbers(&path, npy);
            let short = a.offset() + left * 8;
            let truncates = |_| {
                handle(&path).set_len(short).unwrap();
                Answer::Refused(libc::EUCLEAN)
            };
            at_each(&[libc::SYS_ftruncate], truncates, || expect_err(a.resize(100), ErrorKind::Io));
            assert_eq!(len(&path), short);
            assert!(a.len() == 100 && are_there(&a));
            is_poisoned(a);
            assert_eq!(len(&path), short);
            if npy {
                // What is left over is known to be.
                let mut a = MmapArrayMut::<f64, Ix1>::options().opened_npy(&path).unwrap();
                assert!(a.len() == 100 && are_there(&a));
                a.append(&array![100.0]).unwrap();
                assert!(are_there(&a));
            }
        }
    }
}

#[test]
fn a_truncation_that_was_refused_and_not_done_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    for npy in [false, true] {
        let mut a = numbers(&path, npy);
        let before = fs::read(&path).unwrap();
        refusing(&[no(libc::SYS_ftruncate, libc::EIO)], || expect_err(a.resize(100), ErrorKind::Io));
        assert!(a.len() == 10_000 && are_there(&a));
        assert_eq!(fs::read(&path).unwrap(), before);
        a.flush().unwrap();
        a.resize(100).unwrap();
        a.close().unwrap();
        assert_eq!(len(&path), before.len() as u64 - 9_900 * 8);
    }
}

/// Quotas and signals refuse too, and what a file system had taken until then it keeps.
#[test]
fn reserved_space_is_released_whatever_refused_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    for errno in [libc::ENOSPC, libc::EDQUOT, libc::EIO, libc::EFBIG, libc::EINTR] {
        // The file system takes it back at once, or only when the array is closed.
        for refuses_to_give_back in [false, true] {
            let mut a = numbers(&path, false);
            a.resize(32).unwrap();
            let mut asked = 0;
            let takes_some = |call| {
                asked += 1;
                match call {
                    libc::SYS_fallocate if asked == 1 => {
                        rustix::fs::fallocate(handle(&path), FallocateFlags::KEEP_SIZE, 256, 1 << 19).unwrap();
                        Answer::Refused(errno)
                    }
                    libc::SYS_ftruncate if refuses_to_give_back => Answer::Refused(libc::EIO),
                    _ => Answer::Done,
                }
            };
            at_each(&[libc::SYS_fallocate, libc::SYS_ftruncate], takes_some, || a.append(&array![32.0]).unwrap());
            assert!(a.len() == 33 && are_there(&a));
            a.close().unwrap();
            let file = fs::metadata(&path).unwrap();
            assert!(file.len() == 33 * 8 && file.blocks() <= 16, "{} blocks after errno {errno}", file.blocks());
        }
    }
}

#[test]
fn an_interrupted_lock_is_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    fs::write(&path, [0; 16]).unwrap();
    let mut interruptions = 0;
    let interrupts = |_| {
        interruptions += 1;
        if interruptions < 4 { Answer::Refused(libc::EINTR) } else { Answer::Done }
    };
    let a = at_each(&[libc::SYS_flock], interrupts, || MmapArrayMut::<u8>::options().opened(&path).unwrap());
    let b = MmapArray::<u8>::options().opened(&path);
    let e = expect_err(b, ErrorKind::Locked);
    assert!(e.to_string().contains("this process has the file open already"), "{e}");
    drop(a);
    MmapArray::<u8>::options().opened(&path).unwrap();
}

/// That a lock could not be had says nothing about who else has one.
#[test]
fn a_lock_that_fails_is_an_error_that_names_the_way_without() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    fs::write(&path, [0; 16]).unwrap();
    for errno in [libc::ENOLCK, libc::EIO] {
        refusing(&[no(libc::SYS_flock, errno)], || {
            for lock in [Lock::BestEffort, Lock::Required] {
                let e = expect_err(MmapArray::<u8>::options().lock(lock).opened(&path), ErrorKind::Io);
                assert!(e.to_string().contains("`Lock::None`"), "{e}");
                expect_err(MmapArrayMut::<u8>::options().lock(lock).opened(&path), ErrorKind::Io);
                let handle = handle(&path);
                expect_err(MmapArrayMut::<u8>::options().lock(lock).mapped(&handle), ErrorKind::Io);
            }
            MmapArrayMut::<u8>::options().lock(Lock::None).opened(&path).unwrap();
        });
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_folder_that_cannot_be_synced_is_synced_with_its_file_system() {
    let folder = tempfile::tempdir().unwrap();
    for errno in [libc::EINVAL, libc::EIO] {
        let a = numbers(&folder.path().join("a"), false);
        let mut calls = Vec::new();
        let refuses = |call| {
            calls.push(call);
            // The file first, and then the folder.
            if calls.len() == 2 { Answer::Refused(errno) } else { Answer::Done }
        };
        let flushed = at_each(&[libc::SYS_fsync, libc::SYS_syncfs], refuses, || a.flush());
        if errno == libc::EINVAL {
            flushed.unwrap();
            assert_eq!(calls, [libc::SYS_fsync, libc::SYS_fsync, libc::SYS_syncfs]);
        } else {
            expect_err(flushed, ErrorKind::Io);
            expect_err(a.flush(), ErrorKind::Poisoned);
        }
    }
}

/// A handle of the caller's that reads and writes whole blocks only.
#[test]
fn an_array_on_a_direct_handle_reads_writes_and_grows_through_its_mapping() {
    use std::os::unix::fs::OpenOptionsExt;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("a");
    drop(numbers(&path, false));
    let direct = File::options().read(true).write(true).custom_flags(libc::O_DIRECT).open(&path).unwrap();
    let mut a = MmapArrayMut::<f64>::options().shape(10_000).mapped(&direct).unwrap();
    a.append(&array![10_000.0]).unwrap();
    a.append(&Array1::from_iter((10_001..30_000).map(f64::from))).unwrap();
    assert!(are_there(&a));
    a.write_rows(3, &array![3.0]).unwrap();
    assert_eq!(a.gather(Axis(0), &[29_999, 5]).unwrap(), array![29_999.0, 5.0]);
    let mut out = MmapArrayMut::<f64>::options().shape(30_000).mapped(&direct).unwrap();
    a.blocks().keep_cached(false).map_into(&mut out, |x| x).unwrap();
    a.flush().unwrap();
    assert!(are_there(&a));
    a.close().unwrap();
}

fn add(path: &Path, bytes: &[u8]) {
    File::options().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

fn holds(path: &Path, bytes: &[u8]) -> bool {
    fs::read(path).unwrap().windows(bytes.len()).any(|found| found == bytes)
}

const THEIRS: &[u8] = b"somebody else's rows";

/// Whether the growth fits in a page, and is one step then, or is several.
#[test]
fn rows_that_others_add_between_the_steps_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    for rows in [1, 1000] {
        fs::write(&path, [1; 640]).unwrap();
        let mut a = MmapArrayMut::<u8>::options().row_shape(64).lock(Lock::None).opened(&path).unwrap();
        let more = Array2::from_elem((rows, 64), 2);
        let adds = || {
            add(&path, THEIRS);
            Answer::Done
        };
        let e = at_call(1, &[libc::SYS_fallocate], adds, || a.append(&more).unwrap_err());
        assert!(holds(&path, THEIRS), "{e}");
        assert_eq!(len(&path), 640 + THEIRS.len() as u64, "{e}");
        assert!(a.nrows() == 10 && a.iter().all(|&x| x == 1));
        drop(a);
        assert!(holds(&path, THEIRS));
    }
}

#[test]
fn what_others_add_to_a_file_that_cannot_be_extended_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    fs::write(&path, [1; 10]).unwrap();
    let adds = |_| {
        add(&path, THEIRS);
        Answer::Refused(libc::ENOSPC)
    };
    let options = MmapArrayMut::<u8>::options().shape(100).extend(true).lock(Lock::None);
    expect_err(at_each(&[libc::SYS_fallocate], adds, || options.opened(&path)), ErrorKind::Io);
    assert_eq!(fs::read(&path).unwrap(), [&[1; 10], THEIRS].concat());
}

/// Rows that do not lie in one piece are stored by many calls. One after the cut would make the file long again, with
/// nothing in the gap.
#[test]
fn a_file_truncated_between_two_writes_of_rows_is_not_extended_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut a = MmapArrayMut::<u8>::options().shape((4096, 1024)).created(&path).unwrap();
    let rows = Array2::from_elem((3096, 1024).f(), 2);
    let cuts = || {
        handle(&path).set_len(10).unwrap();
        Answer::Done
    };
    // Not before the last piece: between the look at the file and the write there is a moment left.
    let written = at_call(5, &[libc::SYS_pwrite64], cuts, || a.write_rows(1000, &rows));
    expect_err(written, ErrorKind::Truncated);
    expect_err(a.flush(), ErrorKind::Poisoned);
    assert!(len(&path) < 4096 * 1024);
}

#[test]
fn a_poisoned_array_releases_the_reserved_space() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("a");
    let mut a = numbers(&path, false);
    a.resize(512).unwrap();
    refusing(&[no(libc::SYS_sync_file_range, libc::EIO)], || {
        a.append(&Array1::zeros(1000)).unwrap();
        expect_err(a.flush_async(), ErrorKind::Io);
    });
    assert!(fs::metadata(&path).unwrap().blocks() > 64, "nothing was set aside");
    expect_err(a.close(), ErrorKind::Poisoned);
    let file = fs::metadata(&path).unwrap();
    assert!(file.len() == 1512 * 8 && file.blocks() <= 32, "{} blocks", file.blocks());
}

/// A `.npy` file with so many rows of ones.
fn ones(path: &Path, rows: usize) -> MmapArrayMut<f64, Ix2> {
    let mut a = MmapArrayMut::<f64>::options().shape((rows, 64)).created_npy(path).unwrap();
    a.fill(1.0);
    a
}

fn open(path: &Path) -> MmapArrayMut<f64, Ix2> {
    MmapArrayMut::<f64, Ix2>::options().opened_npy(path).unwrap()
}

fn rows_of(value: f64, rows: usize) -> Array2<f64> {
    Array2::from_elem((rows, 64), value)
}

fn kill_self() -> Answer {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    Answer::Done
}

/// Makes a file of three rows, and is killed before this call while it appends more.
fn append_until_killed(number: usize, call: libc::c_long) {
    let mut a = ones(Path::new("a"), 3);
    at_call(number, &[call], kill_self, || a.append(&rows_of(2.0, 20)).unwrap());
}

/// What such a child leaves.
#[track_caller]
fn left_by(child: &Child) -> tempfile::TempDir {
    let (report, folder) = child.run_in_folder();
    report.killed_by(libc::SIGKILL);
    folder
}

#[track_caller]
fn what_follows_stays(path: &Path) {
    add(path, THEIRS);
    let mut a = open(path);
    expect_err(a.append(&rows_of(3.0, 1)), ErrorKind::InvalidInput);
    expect_err(a.resize(1), ErrorKind::InvalidInput);
    drop(a);
    assert!(holds(path, THEIRS));
}

/// The rows that were left behind are gone, and the mark has done its work.
#[test]
fn what_follows_an_array_after_a_mark_was_used_stays() {
    let folder = left_by(&in_child!(|| append_until_killed(2, libc::SYS_pwrite64)));
    let path = folder.path().join("a");
    let whole = 128 + 3 * 64 * 8;
    assert!(len(&path) > whole);
    let mut a = open(&path);
    a.append(&rows_of(3.0, 0)).unwrap();
    assert_eq!(len(&path), whole);
    a.close().unwrap();
    what_follows_stays(&path);
}

/// Killed before the file grew: there is a mark, but nothing that it marks.
#[test]
fn what_follows_an_array_after_a_mark_of_nothing_stays() {
    let folder = left_by(&in_child!(|| append_until_killed(1, libc::SYS_fallocate)));
    let path = folder.path().join("a");
    assert_eq!(len(&path), 128 + 3 * 64 * 8);
    assert!(rustix::fs::getxattr(&path, MARK, &mut [0; 64]).is_ok());
    open(&path).close().unwrap();
    what_follows_stays(&path);
}

/// One who takes no lock has stored rows that the header does not count yet, when another opens the file.
#[test]
fn a_live_append_is_not_taken_for_a_killed_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    drop(ones(&path, 3));
    let mut a = MmapArrayMut::<f64, Ix2>::options().lock(Lock::None).opened_npy(&path).unwrap();
    let opens = || {
        let mut b = open(&path);
        expect_err(b.append(&rows_of(3.0, 1)), ErrorKind::InvalidInput);
        b.close().unwrap();
        Answer::Done
    };
    at_call(2, &[libc::SYS_pwrite64], opens, || a.append(&rows_of(2.0, 20)).unwrap());
    a.close().unwrap();
    let a = MmapArray::<f64, Ix2>::load_npy(&path).unwrap();
    assert_eq!(*a, ndarray::concatenate![Axis(0), rows_of(1.0, 3), rows_of(2.0, 20)]);
}

/// The header counts what is there, or what was there before; and the next append goes where the header says.
#[test]
fn killed_at_any_call_of_growing_the_file_can_be_used() {
    // All that change the file, and one between them.
    const CALLS: [libc::c_long; 6] = [
        libc::SYS_pwrite64,
        libc::SYS_fallocate,
        libc::SYS_ftruncate,
        libc::SYS_mremap,
        libc::SYS_fsetxattr,
        libc::SYS_fremovexattr,
    ];
    type Change = fn(&mut MmapArrayMut<f64, Ix2>);
    let changes: [(usize, Change, f64); 5] = [
        (23, |a| a.append(&rows_of(2.0, 20)).unwrap(), 2.0),
        (4, |a| a.append(&rows_of(2.0, 1)).unwrap(), 2.0),
        // Another digit in the header.
        (10, |a| a.append(&rows_of(2.0, 7)).unwrap(), 2.0),
        (50, |a| a.resize(50).unwrap(), 0.0),
        (1, |a| a.resize(1).unwrap(), 0.0),
    ];
    let test = || {
        process::end_after(100);
        let path = Path::new("a");
        for (rows, change, value) in changes {
            for number in 1.. {
                let status = process::forked(|| {
                    let mut a = ones(path, 3);
                    at_call(number, &CALLS, kill_self, || change(&mut a));
                    0
                });
                let killed = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL;
                assert!(killed || status == 0, "{status:#x}");
                let found = MmapArray::<f64, Ix2>::load_npy(path).unwrap();
                let expected =
                    |rows: usize| Array2::from_shape_fn((rows, 64), |(i, _)| if i < 3 { 1.0 } else { value });
                assert!(*found == expected(rows) || killed && *found == expected(3), "call {number}: {found}");
                let mut a = open(path);
                a.append(&rows_of(3.0, 1)).unwrap();
                assert_eq!(*a, ndarray::concatenate![Axis(0), found, rows_of(3.0, 1)]);
                assert_eq!(len(path), 128 + a.len() as u64 * 8);
                if !killed {
                    assert!(number > 3, "hardly any call was stopped");
                    break;
                }
            }
        }
    };
    in_child!(test).run().succeeded();
}

/// The system has no memory: nor would a sanitizer have any.
mod refusals {
    use super::*;

    /// Neither can the new rows be mapped then, nor the file be made as short as it was.
    #[test]
    fn a_growth_that_cannot_be_undone_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mapping = [libc::SYS_mremap, libc::SYS_mmap].map(|call| no(call, libc::ENOMEM));
        // The first makes the file longer, where its space was set aside before.
        fn but_one(mut most: usize) -> impl FnMut(libc::c_long) -> Answer {
            move |_| {
                most = most.wrapping_sub(1);
                if most == 0 { Answer::Done } else { Answer::Refused(libc::EIO) }
            }
        }
        for npy in [false, true] {
            for resizes in [false, true] {
                let mut a = numbers(&path, npy);
                let before = len(&path);
                let more = Array1::zeros(10_000);
                let grow = || if resizes { a.resize(20_000) } else { a.append(&more) }.unwrap_err();
                let e = at_each(&[libc::SYS_ftruncate], but_one(1), || refusing(&mapping, grow));
                assert_eq!(e.kind(), ErrorKind::Io);
                assert!(a.len() == 10_000 && are_there(&a));
                assert_eq!(len(&path), before + 80_000);
                is_poisoned(a);
                if npy {
                    // The mark says to whoever opens the file that nobody misses the rest.
                    assert!(rustix::fs::getxattr(&path, MARK, &mut [0; 64]).is_ok());
                    let mut a = MmapArrayMut::<f64, Ix1>::options().opened_npy(&path).unwrap();
                    a.append(&array![10_000.0]).unwrap();
                    assert!(a.len() == 10_001 && are_there(&a));
                    a.close().unwrap();
                    assert!(rustix::fs::getxattr(&path, MARK, &mut [0; 64]).is_err());
                    assert_eq!(len(&path), before + 8);
                }
            }
        }

        // An array that does not come about can say it only in the error.
        fs::write(&path, [0; 16]).unwrap();
        let options = || MmapArrayMut::<f64>::options().extend(true).shape(1000);
        let open = || expect_err(options().opened(&path), ErrorKind::Io);
        let e = at_each(&[libc::SYS_ftruncate], but_one(1), || refusing(&mapping, open));
        assert!(e.to_string().contains("could not be made as short again"), "{e}");
        assert_eq!(len(&path), 8000);
        fs::write(&path, [0; 16]).unwrap();
        let e = refusing(&mapping, || expect_io_err(options().opened(&path), io::ErrorKind::OutOfMemory));
        assert!(!e.to_string().contains("short"), "{e}");
        assert_eq!(len(&path), 16);
    }
}
