//! Passes over arrays, and copies of them: what was read is right, a failed write is reported, and a hint that the system
//! refuses stops nothing.

use std::fs::File;

use ndarray::{Array2, Axis, Ix1, Ix2, ShapeBuilder};
use ndarray_mmap::{Advice, ErrorKind, MmapArray, MmapArrayCow, MmapArrayMut, Result};

use super::Scenario;
use crate::scene::{End, Scene};
use crate::table::{Format, ROW, numbers};

const ROWS: usize = 3000;

/// In bytes: long enough for read-ahead.
const LONG: u64 = 16 << 20;

/// If one of these fails, it is unknown what is on the disk.
const WRITES: &[&str] = &["msync", "fsync", "sync_file_range", "pwrite"];

pub fn all() -> Vec<Scenario> {
    let mut all = vec![];
    for (how, keep) in [("", None), ("_kept", Some(true)), ("_let_go", Some(false))] {
        all.push(Scenario::new(format!("blocks_sum{how}"), move |s| sums(s, keep)));
        all.push(Scenario::new(format!("blocks_mut{how}"), move |s| doubles(s, keep)));
        all.push(Scenario::new(format!("blocks_map_into{how}"), move |s| maps_into(s, keep)));
    }
    all.push(Scenario::new("blocks_sum_ahead", sums_ahead));
    all.push(Scenario::new("assign_tiled", assigns));
    all.push(Scenario::new("assign_tiled_through_file", assigns_through_file));
    all.push(Scenario::new("gather", |s| gathers(s, false)));
    all.push(Scenario::new("gather_absent", |s| gathers(s, true)));
    all.push(Scenario::new("advise", |s| asks(s, |a| a.advise(Advice::WillNeed))));
    all.push(Scenario::new("evict", |s| asks(s, |a| a.evict())));
    all.push(Scenario::new("residency", |s| asks(s, |a| a.residency().map(drop))));
    all.push(Scenario::new("guarded", |s| asks(s, |a| a.guarded(|view| view.sum()).map(drop))));
    all.push(Scenario::new("guarded_first", guards_first));
    all.push(Scenario::new("guarded_blocks", |s| asks(s, |a| a.guarded(|_| a.blocks().sum()).map(drop))));
    all.push(Scenario::new("evict_copied", evicts_copied));
    all
}

fn reader(s: &mut Scene<'_>) -> (MmapArray<f64, Ix2>, Vec<f64>) {
    let numbers = numbers(0..ROWS);
    let path = s.put("a", &Format::RAW.bytes(&numbers));
    // SAFETY: nobody else knows the file.
    let a = unsafe { MmapArray::<f64>::options().shape((ROWS, ROW)).open(path) };
    (a.expect("opens"), numbers)
}

fn writer(s: &mut Scene<'_>, name: &str, numbers: &[f64]) -> (MmapArrayMut<f64, Ix2>, std::path::PathBuf) {
    let path = s.put(name, &Format::NPY.bytes(numbers));
    // SAFETY: nobody else knows the file.
    let a = unsafe { MmapArrayMut::<f64, Ix2>::open_npy(&path) };
    (a.expect("opens"), path)
}

fn sums(s: &mut Scene<'_>, keep: Option<bool>) {
    let (a, numbers) = reader(s);
    let sum = s.armed(|| {
        let blocks = a.blocks().rows(700);
        keep.map_or(a.blocks().rows(700), |keep| blocks.keep_cached(keep)).sum()
    });
    s.claim(sum == Some(numbers.iter().sum()), "another sum");
    s.same("after a walk", a.view(), &numbers);
}

fn sums_ahead(s: &mut Scene<'_>) {
    let path = s.folder.join("long");
    File::create(&path).and_then(|file| file.set_len(LONG)).expect("the scenario's own file");
    s.watch(&path);
    // SAFETY: nobody else knows the file.
    let a = unsafe { MmapArray::<u64, Ix1>::open(&path) }.expect("opens");
    let sum = s.armed(|| a.blocks().keep_cached(false).sum());
    s.claim(sum == Some(0), "another sum");
}

/// Checks that after an error each element has its old or its new value and that, if write-back failed, the array is
/// poisoned.
fn stored(
    s: &mut Scene<'_>,
    a: MmapArrayMut<f64, Ix2>,
    path: &std::path::Path,
    outcome: Result<()>,
    old: &[f64],
    new: &[f64],
) {
    let done = s.judge(outcome, &[ErrorKind::Io]).is_some();
    s.claim(!done || !s.met_badly(WRITES), "the disk failed, and nothing is said of it");
    let now = a.view().to_slice_memory_order().expect("contiguous").to_vec();
    if done {
        s.same("stored", a.view(), new);
        s.ends(path, End::AnyOf(vec![Format::NPY.bytes(new)]));
        s.claim(a.flush().is_ok(), "flush");
        s.claim(a.close().is_ok(), "close");
        s.sample(path, &Format::NPY.axes(ROWS), new.iter().sum());
        return;
    }
    let either = now.iter().zip(old.iter().zip(new)).all(|(now, (old, new))| now == old || now == new);
    s.claim(either, "an element is neither as it was nor as it was to be");
    if s.met(&["sync_file_range", "msync", "fsync"]) {
        s.claim(a.flush().is_err(), "write-back failed, but flush says Ok");
    }
    drop(a);
    s.ends(path, End::AnyOf(vec![Format::NPY.bytes(&now)]));
}

fn doubles(s: &mut Scene<'_>, keep: Option<bool>) {
    let old = numbers(0..ROWS);
    let new: Vec<f64> = old.iter().map(|x| x * 2.0).collect();
    let (mut a, path) = writer(s, "a", &old);
    let outcome = s.armed(|| {
        let blocks = a.blocks_mut().rows(700);
        let blocks = match keep {
            Some(keep) => blocks.keep_cached(keep),
            None => blocks,
        };
        blocks.for_each(|mut block| block *= 2.0)
    });
    if let Some(outcome) = outcome {
        stored(s, a, &path, outcome, &old, &new);
    }
}

fn maps_into(s: &mut Scene<'_>, keep: Option<bool>) {
    let (a, numbers) = reader(s);
    let old = vec![-1.0; numbers.len()];
    let new: Vec<f64> = numbers.iter().map(|x| x + 1.0).collect();
    let (mut out, path) = writer(s, "out", &old);
    let outcome = s.armed(|| {
        let blocks = a.blocks().rows(700);
        let blocks = match keep {
            Some(keep) => blocks.keep_cached(keep),
            None => blocks,
        };
        blocks.map_into(&mut out, |x| x + 1.0)
    });
    if let Some(outcome) = outcome {
        stored(s, out, &path, outcome, &old, &new);
    }
    s.same("what was read", a.view(), &numbers);
}

fn assigns(s: &mut Scene<'_>) {
    let old = vec![-1.0; ROWS * ROW];
    let new = numbers(0..ROWS);
    let from: Array2<f64> = Format::RAW.array(&new).reversed_axes().as_standard_layout().reversed_axes().to_owned();
    let (mut a, path) = writer(s, "a", &old);
    // Evicted pages are written by system calls, if any are.
    a.evict().expect("evicts");
    if let Some(outcome) = s.armed(|| a.assign_tiled(&from)) {
        stored(s, a, &path, outcome, &old, &new);
    }
}

/// Copies to pages that are not in memory: a file that was never written to.
fn assigns_through_file(s: &mut Scene<'_>) {
    /// Large enough for the copy to write by system calls.
    const SIDE: usize = 400;
    let path = s.absent("a");
    // SAFETY: nobody else knows the file.
    let mut a = unsafe { MmapArrayMut::<f64>::create_npy(&path, (SIDE, SIDE)) }.expect("creates");
    s.watch(&path);
    let from = Array2::from_shape_fn((SIDE, SIDE).f(), |(row, column)| (row * SIDE + column) as f64 + 0.5);
    let Some(outcome) = s.armed(|| a.assign_tiled(&from)) else { return };
    let done = s.judge(outcome, &[ErrorKind::Io]).is_some();
    s.claim(!done || !s.met_badly(WRITES), "the disk failed, and nothing is said of it");
    let either = a.iter().zip(&from).all(|(now, new)| now == new || !done && *now == 0.0);
    s.claim(either, "an element is neither as it was nor as it was to be");
    s.ends(&path, End::Whatever);
}

fn gathers(s: &mut Scene<'_>, absent: bool) {
    let (a, numbers) = reader(s);
    if absent {
        // The system drops pages of the page cache only if they are on the disk and nobody has them mapped.
        a.evict().expect("evicts");
        let file = File::open(a.path().expect("it has one")).expect("opens");
        s.library.pretend_syncs(false);
        file.sync_all().expect("syncs");
        s.library.pretend_syncs(true);
        // SAFETY: a hint for a descriptor that is open.
        unsafe { libc::posix_fadvise(std::os::fd::AsRawFd::as_raw_fd(&file), 0, 0, libc::POSIX_FADV_DONTNEED) };
    }
    let rows: Vec<usize> = (0..ROWS).step_by(57).rev().collect();
    let Some(outcome) = s.armed(|| a.gather(Axis(0), &rows)) else { return };
    if let Some(gathered) = s.judge(outcome, &[ErrorKind::Io]) {
        s.claim(gathered == a.view().select(Axis(0), &rows), "other rows");
    }
    s.same("what was read", a.view(), &numbers);
}

fn asks(s: &mut Scene<'_>, ask: impl FnOnce(&MmapArray<f64, Ix2>) -> Result<()>) {
    let (a, numbers) = reader(s);
    let Some(outcome) = s.armed(|| ask(&a)) else { return };
    s.judge(outcome, &[ErrorKind::Io]);
    s.same("afterwards", a.view(), &numbers);
}

/// Makes the first guarded call, in a process that has no handler yet. Failures are reported by a panic.
fn guards_first(s: &mut Scene<'_>) {
    let (a, _) = reader(s);
    // A guarded call installs the handler before it runs, and checks the file's length afterwards.
    let (uninstalled, unknown) = (s.refuses("sigaction"), s.refuses("stat"));
    s.in_child(|arm| {
        arm();
        let outcome = a.guarded(|view| view.len()).map_err(|e| e.kind());
        let wanted = if uninstalled || unknown { Err(ErrorKind::Io) } else { Ok(ROWS * ROW) };
        assert_eq!(outcome, wanted);
        assert!(!uninstalled || a.guarded(|view| view.len()).is_ok(), "once more");
    });
}

fn evicts_copied(s: &mut Scene<'_>) {
    let numbers = numbers(0..ROWS);
    let path = s.put("a", &Format::RAW.bytes(&numbers));
    // SAFETY: nobody else knows the file.
    let a = unsafe { MmapArrayCow::<f64>::options().shape((ROWS, ROW)).open(path) };
    let mut a = a.expect("opens");
    a[[7, 1]] = -1.0;
    let mut expected = numbers;
    expected[7 * ROW + 1] = -1.0;
    if let Some(outcome) = s.armed(|| a.evict()) {
        s.judge(outcome, &[ErrorKind::Io]);
    }
    s.same("a copy was let go of", a.view(), &expected);
}
