//! The conformance corpus: what `numpy.memmap` and `numpy.lib.format.open_memmap` were seen to do, case by case, and what
//! this crate does.
//!
//! `tests/data/conformance.json` holds the cases. A few of them cannot be said in Rust; they are counted and listed.
//! Writing through NumPy's mode `'r'` is among those that are run: what can be said of it is everything but the write,
//! which does not compile.
//!
//! It was seen on Linux, in files of mostly little-endian elements: what is native here has to be so too.
#![cfg(all(unix, target_endian = "little"))]

mod corpus;
mod element;
mod memmap;
mod open_memmap;
mod scene;
mod seen;

use std::io::{self, Write};
use std::process::Command;

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
        tell(&format!("conformance: {} cannot be said in Rust: {reason}", case.id()));
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
        tell(&format!("conformance: {} cannot be said in Rust: {reason}", case.id()));
    }
    let run = check_all("numpy.lib.format.open_memmap", cases, open_memmap::check);
    assert_eq!((run, not_in_rust.len()), (152, 5));
}

/// Root passes over permissions: run by root, this test runs itself again as somebody else.
#[test]
fn numpy_memmap_cases_about_permissions() {
    const NAME: &str = "numpy_memmap_cases_about_permissions";
    if !rustix::process::geteuid().is_root() {
        let cases = memmap_cases();
        let cases = cases.iter().filter(|case| case.has("requires-nonroot"));
        let run = check_all("numpy.memmap (permissions)", cases, memmap::check);
        assert_eq!(run, 5);
        return;
    }
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    // By this name no folder has to be passed through, while the path of the program may lead through root's own.
    let program = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe().unwrap() };
    let mut again = Command::new(program);
    again.args([NAME, "--exact", "--nocapture"]).uid(NOBODY).gid(NOBODY).current_dir("/").env_remove("TMPDIR");
    let output = again.output().expect("the test can run itself");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    tell(err.trim_end());
    assert!(output.status.success() && out.contains("1 passed"), "as user {NOBODY}:\n{out}{err}");
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
