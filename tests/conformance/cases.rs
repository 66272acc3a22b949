//! The conformance corpus: what `numpy.memmap` and `numpy.lib.format.open_memmap` were seen to do, case by case, and what
//! this crate does.
//!
//! `tests/data/conformance.json` holds the cases. A few of them cannot be expressed in Rust; they are counted and listed.
//! Writing through NumPy's mode `'r'` is among those that are run: all of it is checked except the write,
//! which does not compile.
//!
//! It was seen on Linux, in files of mostly little-endian elements: so must be what is native here.

mod corpus;
mod element;
mod memmap;
mod open_memmap;
mod scene;
mod seen;

use std::io::{self, Write};

use bytemuck::{AnyBitPattern, Zeroable};

use ndarray_mmap::MmapArray;

use corpus::Case;

/// Goes to the terminal even where the test harness captures the output of tests that pass.
fn tell(line: &str) {
    writeln!(io::stderr(), "{line}").expect("standard error can be written");
}

/// The number of calls that a case came to, or what was wrong with them.
type Check = fn(&Case) -> Result<usize, String>;

/// Runs all of `cases`, and fails with what each of them found.
#[track_caller]
fn check_all<'a>(what: &str, cases: impl IntoIterator<Item = &'a Case>, check: Check) -> usize {
    let answers: Vec<_> = cases.into_iter().map(check).collect();
    let calls: usize = answers.iter().flatten().sum();
    tell(&format!("conformance: {} cases of {what} in {calls} calls", answers.len()));
    let failures: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    let list = failures.iter().map(|failure| failure.as_str()).collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} of {} cases failed:\n{list}", failures.len(), answers.len());
    answers.len()
}

fn memmap_cases() -> Vec<Case> {
    Case::all().into_iter().filter(|case| case.api() == "memmap").collect()
}

#[test]
fn the_corpus_is_whole() {
    assert_eq!(Case::all().len(), 480);
    assert_eq!(memmap_cases().len(), 323);
}

#[test]
fn numpy_memmap_cases() {
    let cases = memmap_cases();
    let (not_in_rust, cases): (Vec<_>, Vec<_>) = cases.iter().partition(|c| memmap::inexpressible(c).is_some());
    for case in &not_in_rust {
        let reason = memmap::inexpressible(case).unwrap_or_default();
        tell(&format!("conformance: {} cannot be expressed in Rust: {reason}", case.id()));
    }
    let run = check_all("numpy.memmap", cases.into_iter().filter(|case| !case.has("requires-nonroot")), memmap::check);
    assert_eq!((run, not_in_rust.len()), (301, 17));
}

#[test]
fn numpy_open_memmap_cases() {
    let cases: Vec<_> = Case::all().into_iter().filter(|case| case.api() == "open_memmap").collect();
    let (not_in_rust, cases): (Vec<_>, Vec<_>) = cases.iter().partition(|c| open_memmap::inexpressible(c).is_some());
    for case in &not_in_rust {
        let reason = open_memmap::inexpressible(case).unwrap_or_default();
        tell(&format!("conformance: {} cannot be expressed in Rust: {reason}", case.id()));
    }
    let run = check_all("numpy.lib.format.open_memmap", cases, open_memmap::check);
    assert_eq!((run, not_in_rust.len()), (152, 5));
}

/// Permissions do not apply to root: run by root, this checks the cases as somebody else.
#[test]
fn numpy_memmap_cases_about_permissions() {
    // Read before: the other user may not have access to the folder.
    let cases = memmap_cases();
    let check = || {
        let cases = cases.iter().filter(|case| case.has("requires-nonroot"));
        assert_eq!(check_all("numpy.memmap (permissions)", cases, memmap::check), 5);
    };
    #[cfg(target_os = "linux")]
    crate::support::kernel::as_nobody(check);
    #[cfg(not(target_os = "linux"))]
    if rustix::process::geteuid().is_root() {
        tell("conformance: the cases about permissions need a user other than root");
    } else {
        check();
    }
}

/// A record whose padding has no name can be read, in place, if not written.
#[test]
fn a_record_with_nameless_padding_reads_as_numpys() {
    #[repr(C)]
    #[derive(Clone, Copy, Zeroable)]
    struct Padded {
        a: u8,
        b: f64,
    }
    // SAFETY: every byte pattern is a value of either field.
    unsafe impl AnyBitPattern for Padded {}

    let cases = memmap_cases();
    let case = cases.iter().find(|case| case.id() == "read-dtype-026").expect("it is in the corpus");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.bin");
    std::fs::write(&path, case.initial_file().unwrap()).unwrap();
    // SAFETY: nobody else knows of the file.
    let records = unsafe { MmapArray::<Padded>::open(&path) }.unwrap();
    assert_eq!(records.shape(), [7]);
    for (k, record) in records.iter().enumerate() {
        assert_eq!((record.a, record.b), (k as u8, 100.0 + k as f64));
    }
}
