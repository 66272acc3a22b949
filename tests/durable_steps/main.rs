//! The order of the steps that make an array durable, on record: this program has its own `msync`, `fsync` and `rename`,
//! which write down that they were called before they do their work.
#![cfg(target_os = "linux")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;

use ndarray::prelude::*;
use ndarray_mmap::{MmapArray, MmapArrayMut, Staged};

const PAGE: usize = 4096;

static RECORD: Mutex<Vec<Step>> = Mutex::new(Vec::new());

/// One test at a time, for there is one record.
static TURN: Mutex<()> = Mutex::new(());

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Address and length, in bytes.
    Msync(usize, usize),
    /// Of the file or folder with this inode.
    Fsync(u64),
    /// To this path.
    Rename(String),
}

#[unsafe(no_mangle)]
extern "C" fn msync(start: *mut c_void, len: usize, flags: c_int) -> c_int {
    assert_eq!(flags, libc::MS_SYNC);
    RECORD.lock().unwrap().push(Step::Msync(start.addr(), len));
    // SAFETY: the very call that was meant.
    unsafe { libc::syscall(libc::SYS_msync, start, len, flags) as c_int }
}

#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    let inode = fs::metadata(format!("/proc/self/fd/{fd}")).unwrap().ino();
    RECORD.lock().unwrap().push(Step::Fsync(inode));
    // SAFETY: the very call that was meant.
    unsafe { libc::syscall(libc::SYS_fsync, fd) as c_int }
}

#[unsafe(no_mangle)]
extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: who calls `rename` hands over a path.
    let path = unsafe { CStr::from_ptr(to) };
    RECORD.lock().unwrap().push(Step::Rename(path.to_str().unwrap().to_owned()));
    // SAFETY: the very call that was meant.
    unsafe { libc::renameat(libc::AT_FDCWD, from, libc::AT_FDCWD, to) }
}

/// The steps of `f`.
fn record(f: impl FnOnce()) -> Vec<Step> {
    RECORD.lock().unwrap().clear();
    f();
    std::mem::take(&mut RECORD.lock().unwrap())
}

fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.bin");
    (dir, path)
}

fn create(path: &Path) -> MmapArrayMut<u8, Ix2> {
    // SAFETY: only this test knows the file.
    unsafe { MmapArrayMut::<u8>::create(path, (16, PAGE)).unwrap() }
}

fn pages<A, D: Dimension, M>(a: &ndarray_mmap::MmapArrayBase<A, D, M>) -> Step {
    Step::Msync(a.as_ptr().addr(), a.len())
}

fn fsync_of(path: &Path) -> Step {
    Step::Fsync(fs::metadata(path).unwrap().ino())
}

fn rename_to(path: &Path) -> Step {
    Step::Rename(path.display().to_string())
}

#[test]
fn the_first_flush_of_a_created_file_brings_its_pages_its_length_and_its_name_to_the_disk() {
    let _turn = TURN.lock();
    let (dir, path) = folder();
    let mut a = create(&path);
    a.fill(1);
    let first = record(|| a.flush().unwrap());
    assert_eq!(first, [pages(&a), fsync_of(&path), fsync_of(dir.path())]);
    // The length and the name are there; the pages may have changed.
    assert_eq!(record(|| a.flush().unwrap()), [pages(&a)]);
}

#[test]
fn a_flush_after_growing_brings_the_new_length_to_the_disk() {
    let _turn = TURN.lock();
    let (_dir, path) = folder();
    let mut a = create(&path);
    a.flush().unwrap();
    a.append(&Array2::ones((3, PAGE))).unwrap();
    let steps = record(|| a.flush().unwrap());
    assert_eq!(steps[..2], [pages(&a), fsync_of(&path)]);
}

/// Rows without elements: the header is all that changes.
#[test]
fn a_flush_after_a_change_of_the_header_alone_brings_it_to_the_disk() {
    let _turn = TURN.lock();
    let (_dir, path) = folder();
    // SAFETY: only this test knows the file.
    let mut a = unsafe { MmapArrayMut::<u8>::create_npy(&path, (2, 0)).unwrap() };
    a.flush().unwrap();
    assert_eq!(record(|| a.flush().unwrap()), []);
    a.resize(3).unwrap();
    assert_eq!(record(|| a.flush().unwrap())[..1], [fsync_of(&path)]);
    a.append(&Array2::zeros((4, 0))).unwrap();
    assert_eq!(record(|| a.flush().unwrap())[..1], [fsync_of(&path)]);
}

#[test]
fn flushing_rows_touches_their_pages_only() {
    let _turn = TURN.lock();
    let (_dir, path) = folder();
    let a = create(&path);
    a.flush().unwrap();
    let start = a.as_ptr().addr();
    assert_eq!(record(|| a.flush_rows(3..5).unwrap()), [Step::Msync(start + 3 * PAGE, 2 * PAGE)]);
    assert_eq!(record(|| a.flush_rows(5..5).unwrap()), []);
}

#[test]
fn publishing_names_a_file_that_is_on_the_disk_and_then_brings_its_name_there() {
    let _turn = TURN.lock();
    let (dir, path) = folder();
    fs::write(&path, "there before").unwrap();
    let mut staged = Staged::<u8>::stage(&path, 16 * PAGE).unwrap();
    staged.fill(1);
    let steps = record(|| staged.publish().unwrap());
    assert_eq!(steps[..2], [fsync_of(&path), rename_to(&path)]);
    assert!(steps[2..].contains(&fsync_of(dir.path())), "{steps:?}");
}

#[test]
fn neither_creating_nor_reading_nor_closing_waits_for_the_disk() {
    let _turn = TURN.lock();
    let (_dir, path) = folder();
    let steps = record(|| {
        create(&path).close().unwrap();
        // SAFETY: only this test knows the file.
        let a = unsafe { MmapArray::<u8>::open(&path).unwrap() };
        assert_eq!(a.guarded(|view| view.sum()).unwrap(), 0);
    });
    assert_eq!(steps, []);
}
