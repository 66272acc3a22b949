//! Random operations on random arrays, and the same on plain arrays in memory: after each step the array, its file to the
//! byte, and all that lies beside it are what they must be, whatever the element, the shape, the order, the mode, and the
//! kind of file; and what is refused is refused as it is documented, and changes nothing.
//!
//! The cases are numbered, and a case is the same whenever it is run. A failure says how to run that case alone, and what
//! is left of it when all steps are dropped that it does not take.
//!
//! - `NDARRAY_MMAP_CASES`: how many.
//! - `NDARRAY_MMAP_SEED`: the number of the first. Default: 1.
//! - `NDARRAY_MMAP_STEPS`: of each case these steps only, by their numbers: `0,3,4`.
//!
//! With `--nocapture` it prints how often each thing was done.
#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

mod axes;
mod begin;
mod counts;
mod element;
mod file;
mod growing;
mod open;
mod others;
mod random;
mod session;
mod source;
mod sparse;
mod steps;
mod sums;
mod walks;

use std::any::type_name;
use std::cell::{Cell, RefCell};
use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;

use ndarray::{Ix0, Ix1, Ix2, Ix3, Ix4, IxDyn};
use ndarray_mmap::{BigEndian, Bool8, Datetime64, LittleEndian, Str, Unaligned, time_units};

use crate::support::mount::Mount;
use axes::Axes;
use counts::Counts;
use element::Element;
use random::Random;
use session::Session;

/// One case, of an element and a dimension.
type Run = fn(&Case<'_>, &Counts, &RefCell<Vec<String>>);

struct Case<'c> {
    seed: u64,
    steps: &'c [usize],
    folder: &'c Path,
    full: bool,
    runs: &'c [Run],
    /// Makes room on the disk, or leaves as little as the case of that number gets.
    before: &'c dyn Fn(Option<u64>),
}

fn run<A: Element, D: Axes>(case: &Case<'_>, counts: &Counts, log: &RefCell<Vec<String>>) {
    counts.add("elements", type_name::<A>());
    counts.add("dimensions", D::NDIM.map_or("dynamic".into(), |n| format!("{n}")));
    let mut session = Session::<A, D>::new(case.folder, case.full, counts, log);
    for &step in case.steps {
        session.step(&mut Random::part(case.seed, step as u64));
    }
    session.leave();
}

/// Every element, and every dimension, but not all pairs of them: that would take the compiler too long.
const RUNS: &[Run] = &[
    run::<u8, IxDyn>,
    run::<u8, Ix1>,
    run::<i16, IxDyn>,
    run::<i16, Ix2>,
    run::<u32, Ix3>,
    run::<i64, IxDyn>,
    run::<i64, Ix4>,
    run::<f32, IxDyn>,
    run::<f32, Ix2>,
    run::<f64, IxDyn>,
    run::<f64, Ix0>,
    run::<f64, Ix3>,
    run::<Bool8, IxDyn>,
    run::<[u16; 3], IxDyn>,
    run::<[u16; 3], Ix1>,
    run::<Datetime64<time_units::Millisecond>, IxDyn>,
    run::<Unaligned<BigEndian<i64>>, IxDyn>,
    run::<LittleEndian<f32>, Ix2>,
    run::<BigEndian<Datetime64<time_units::Day>>, IxDyn>,
    run::<Unaligned<Str<2>>, Ix1>,
    #[cfg(feature = "num-complex")]
    run::<num_complex::Complex<f32>, IxDyn>,
    #[cfg(feature = "half")]
    run::<half::f16, IxDyn>,
    #[cfg(feature = "half")]
    run::<half::bf16, IxDyn>,
    #[cfg(feature = "half")]
    run::<Unaligned<BigEndian<half::f16>>, IxDyn>,
    #[cfg(feature = "rend")]
    run::<rend::f32_be, IxDyn>,
    #[cfg(feature = "rend")]
    run::<rend::i16_be, Ix2>,
    #[cfg(feature = "rend")]
    run::<rend::f64_be, IxDyn>,
    #[cfg(feature = "rend")]
    run::<rend::unaligned::f64_ube, IxDyn>,
    #[cfg(feature = "rend")]
    run::<rend::unaligned::i32_ule, Ix2>,
];

thread_local! {
    /// What the last panic of a case said. `None` outside of cases.
    static SAID: Cell<Option<String>> = const { Cell::new(None) };
}

/// Runs a case in a folder of its own. What went wrong, if anything, and what was done until then.
fn outcome(case: &Case<'_>, counts: &Counts) -> Result<(), (String, Vec<String>)> {
    let run = case.runs[Random::new(case.seed).below(case.runs.len())];
    (case.before)(None);
    let folder = tempfile::tempdir_in(case.folder).unwrap();
    (case.before)(Some(case.seed));
    let case = Case { folder: folder.path(), ..*case };
    let log = RefCell::default();
    SAID.set(Some(String::new()));
    let ran = panic::catch_unwind(AssertUnwindSafe(|| run(&case, counts, &log)));
    let message = SAID.take().unwrap_or_default();
    ran.map_err(|_| (message, log.take()))
}

/// Panics of cases are kept for what is said of them in the end.
fn hear_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| match SAID.take() {
            Some(_) => SAID.set(Some(info.to_string())),
            None => hook(info),
        }));
    });
}

/// The steps that a failure takes.
fn minimal(case: &Case<'_>) -> Vec<usize> {
    let mut steps = case.steps.to_vec();
    loop {
        let dropped = (0..steps.len()).rev().find(|&i| {
            let mut fewer = steps.clone();
            fewer.remove(i);
            outcome(&Case { steps: &fewer, ..*case }, &Counts::default()).is_err()
        });
        match dropped {
            Some(i) => steps.remove(i),
            None => return steps,
        };
    }
}

fn numbers_of(variable: &str) -> Option<Vec<u64>> {
    let text = env::var(variable).ok()?;
    Some(text.split(',').map(|n| n.parse().unwrap_or_else(|_| panic!("{variable}: {text:?}"))).collect())
}

/// So many cases, in a folder; of those that fail it says how, and how to see it again.
fn cases(test: &str, runs: &[Run], folder: &Path, full: bool, count: u64, before: &dyn Fn(Option<u64>)) {
    hear_panics();
    let first = numbers_of("NDARRAY_MMAP_SEED").map_or(1, |numbers| numbers[0]);
    let count = numbers_of("NDARRAY_MMAP_CASES").map_or(count, |numbers| numbers[0]);
    let only = numbers_of("NDARRAY_MMAP_STEPS");
    let counts = Counts::default();
    let mut failures = vec![];
    for seed in first..first + count {
        let length = 6 + Random::part(seed, u64::MAX).below(20);
        let steps =
            only.as_ref().map_or((0..length).collect(), |only| only.iter().map(|&n| n as usize).collect::<Vec<_>>());
        let case = Case { seed, steps: &steps, folder, full, runs, before };
        counts.add("cases", test);
        let Err((first, _)) = outcome(&case, &counts) else { continue };
        let steps = minimal(&case);
        let Err((message, log)) = outcome(&Case { steps: &steps, ..case }, &Counts::default()) else {
            failures.push(format!("case {seed} fails, but not always:\n  {first}\n"));
            continue;
        };
        let steps = steps.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        failures.push(format!(
            "NDARRAY_MMAP_SEED={seed} NDARRAY_MMAP_CASES=1 NDARRAY_MMAP_STEPS={steps} cargo test --all-features --test \
             differential {test} -- --include-ignored\n  {}\n  {message}\n",
            log.join("\n  ")
        ));
        if failures.len() == 10 {
            break;
        }
    }
    println!("{counts}");
    assert!(failures.is_empty(), "{} cases fail:\n\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn arrays_are_what_plain_arrays_are_and_files_what_numpy_would_write() {
    let folder = tempfile::tempdir().unwrap();
    let test = "arrays_are_what_plain_arrays_are_and_files_what_numpy_would_write";
    cases(test, RUNS, folder.path(), false, 600, &|_| ());
}

/// As long as the disk has room, all is as ever; where it has none, that is said, and nothing has changed.
#[test]
#[ignore = "needs root: mounts file systems"]
fn on_small_and_full_disks_what_does_not_fit_changes_nothing() {
    on_full_disks("on_small_and_full_disks_what_does_not_fit_changes_nothing", RUNS, 60);
}

/// Where no space was asked for, a store may find none.
#[test]
#[ignore = "needs root: mounts file systems"]
fn on_full_disks_sparse_arrays_are_poisoned_and_what_was_seen_stays() {
    const SPARSE: &[Run] = &[sparse::run::<u8>, sparse::run::<u32>, sparse::run::<f64>];
    on_full_disks("on_full_disks_sparse_arrays_are_poisoned_and_what_was_seen_stays", SPARSE, 60);
}

fn on_full_disks(test: &str, runs: &[Run], count: u64) {
    const MIB: usize = 1 << 20;
    let disks = [Mount::tmpfs(MIB), Mount::ext4(&env::temp_dir(), 8 * MIB as u64)];
    for disk in &disks {
        fs::create_dir(disk.path().join("cases")).unwrap();
        // How much is left is another thing for each case, and the same whenever that is run.
        let before = |seed: Option<u64>| {
            let filler = disk.path().join("filler");
            let _ = fs::remove_file(&filler);
            // ext4 has the space again once its journal says so.
            rustix::fs::syncfs(File::open(disk.path()).unwrap()).unwrap();
            let Some(seed) = seed else { return };
            let free = rustix::fs::statvfs(disk.path()).unwrap();
            let left = Random::part(seed, u64::MAX - 1).pick(&[0, 1, 2, 5, 10, 20, 40, 100]);
            let fill = free.f_bavail.saturating_sub(left) * free.f_frsize;
            let _ = File::create(&filler).and_then(|mut file| {
                file.write_all(&vec![1; fill as usize])?;
                file.sync_all()
            });
        };
        cases(test, runs, &disk.path().join("cases"), true, count, &before);
    }
}
