//! A disk that fails is an error of the guarded call, or of the flush, that met it; and no later call says that all is
//! well.
#![cfg(target_os = "linux")]

mod child;
mod mount;

use std::fs;

use mount::Mount;
use ndarray::prelude::*;
use ndarray_mmap::{ErrorKind, MmapArray, MmapArrayMut};

const MIB: usize = 1 << 20;

/// A file of ones on a disk that then loses all but its first part; nothing of the file is in memory.
fn file_on_a_broken_disk(disk: &Mount) -> std::path::PathBuf {
    let path = disk.path().join("a.bin");
    fs::write(&path, vec![1u8; 32 * MIB]).unwrap();
    disk.unmount();
    disk.again();
    path
}

#[test]
#[ignore = "needs root: mounts file systems"]
fn a_page_that_cannot_be_read_is_a_fault() {
    child::run("a_page_that_cannot_be_read_is_a_fault", || {
        let disk = Mount::ext4(&std::env::temp_dir(), 64 * MIB as u64);
        let path = file_on_a_broken_disk(&disk);
        // SAFETY: only this test knows the file.
        let a = unsafe { MmapArray::<u8, Ix1>::open(&path).unwrap() };
        disk.image().set_len(2 * MIB as u64).unwrap();
        let err = a.guarded(|view| view.iter().map(|&x| u64::from(x)).sum::<u64>()).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Fault);
        assert!(err.to_string().contains("the disk failed"), "{err}");
        assert_eq!(a.guarded(|view| view[0]).unwrap_err().kind(), ErrorKind::Poisoned);
    })
    .well();
}

#[test]
#[ignore = "needs root: mounts file systems"]
fn a_page_that_cannot_be_read_ends_an_unguarded_process() {
    child::run("a_page_that_cannot_be_read_ends_an_unguarded_process", || {
        let disk = Mount::ext4(&std::env::temp_dir(), 64 * MIB as u64);
        let path = file_on_a_broken_disk(&disk);
        // SAFETY: only this test knows the file.
        let a = unsafe { MmapArray::<u8, Ix1>::open(&path).unwrap() };
        disk.image().set_len(2 * MIB as u64).unwrap();
        // Unmounts it, for nobody will be there to do so later; the open file keeps it alive.
        drop(disk);
        std::hint::black_box(a.sum());
    })
    .by_signal(libc::SIGBUS);
}

/// The disk takes the space when it is asked for, and has none when it is written to: as thinly provisioned ones do.
#[test]
#[ignore = "needs root: mounts file systems"]
fn a_flush_that_fails_is_an_error_and_no_later_one_says_otherwise() {
    let below = Mount::tmpfs(24 * MIB);
    let disk = Mount::ext4(below.path(), 128 * MIB as u64);
    // SAFETY: only this test knows the file.
    let mut a = unsafe { MmapArrayMut::<u8>::create(disk.path().join("a.bin"), 64 * MIB).unwrap() };
    a.fill(1);
    let err = a.flush().unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Io, "{err}");
    assert_eq!(a.flush().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(a.flush_rows(0..1).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(a.flush_async().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(a.guarded(|view| view[0]).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(a.resize(10).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(a.close().unwrap_err().kind(), ErrorKind::Poisoned);
}
