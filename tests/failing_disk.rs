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

/// A disk with room for 24 MiB, below a file system that believes in 128.
struct Overcommitted {
    // Unmounted before what it lies on.
    disk: Mount,
    _below: Mount,
}

impl Overcommitted {
    fn new() -> Self {
        let below = Mount::tmpfs(24 * MIB);
        Self { disk: Mount::ext4(below.path(), 128 * MIB as u64), _below: below }
    }
}

/// What is behind every pass over an array that stores more than the disk has room for.
const TOO_MUCH: usize = 48 * MIB;

const PAGE: usize = 4096;

/// What a page of an array is filled with: not zero, and text throughout.
fn letters(page: usize) -> [u8; PAGE] {
    [b'a' + (page % 23) as u8; PAGE]
}

/// Fills whole pages of an array.
fn fill(bytes: &mut [u8], first_page: usize) {
    bytes.chunks_mut(PAGE).zip(first_page..).for_each(|(bytes, page)| bytes.copy_from_slice(&letters(page)));
}

#[track_caller]
fn are_there(bytes: &[u8], first_page: usize) {
    let lost = bytes.chunks(PAGE).zip(first_page..).filter(|&(bytes, page)| bytes != letters(page)).count();
    assert_eq!(lost, 0, "so many pages have other values");
    assert!(std::str::from_utf8(bytes).is_ok());
}

/// What was stored is nowhere but in memory then, and "write the data again" needs it.
#[test]
#[ignore = "needs root: mounts file systems"]
fn what_could_not_be_written_stays_in_memory_whatever_pass_stored_it() {
    child::run("what_could_not_be_written_stays_in_memory_whatever_pass_stored_it", || {
        type Store = fn(&mut MmapArrayMut<u8, Ix1>) -> ndarray_mmap::Result<()>;
        let stores: [(&str, Store); 6] = [
            ("blocks, by an iterator", |a| {
                let mut page = 0;
                for mut block in a.blocks_mut().keep_cached(false) {
                    fill(block.as_slice_mut().unwrap(), page);
                    page += block.len() / PAGE;
                }
                a.flush()
            }),
            ("blocks given up halfway", |a| {
                fill(a.as_slice_mut().unwrap(), 0);
                let mut blocks = a.blocks_mut().keep_cached(false).into_iter();
                assert!(blocks.by_ref().take(9).all(|block| block[0] > 0));
                drop(blocks);
                a.flush()
            }),
            ("blocks of all threads", |a| {
                fill(a.as_slice_mut().unwrap(), 0);
                #[cfg(feature = "rayon")]
                let blocks = a.blocks_mut().parallel(true);
                #[cfg(not(feature = "rayon"))]
                let blocks = a.blocks_mut();
                blocks.keep_cached(false).for_each(|mut block| {
                    let first = block[0];
                    block[0] = 0;
                    block[0] = first;
                })
            }),
            ("stores, and a pass that only reads", |a| {
                fill(a.as_slice_mut().unwrap(), 0);
                assert!(a.blocks().keep_cached(false).sum() > 0);
                a.flush()
            }),
            ("stores, and evict", |a| {
                fill(a.as_slice_mut().unwrap(), 0);
                a.evict()
            }),
            ("stores, and flush", |a| {
                fill(a.as_slice_mut().unwrap(), 0);
                a.flush()
            }),
        ];
        let usual = std::env::temp_dir();
        for (how, store) in stores {
            for named in [false, true] {
                // SAFETY: no other thread of this process looks at the environment.
                unsafe { std::env::set_var("TMPDIR", &usual) };
                let full = Overcommitted::new();
                let mut a = if named {
                    // SAFETY: only this test knows the file.
                    unsafe { MmapArrayMut::<u8>::create(full.disk.path().join("a.bin"), TOO_MUCH).unwrap() }
                } else {
                    // SAFETY: no other thread of this process looks at the environment.
                    unsafe { std::env::set_var("TMPDIR", full.disk.path()) };
                    MmapArrayMut::<u8>::scratch(TOO_MUCH).unwrap()
                };
                let err = store(&mut a).unwrap_err();
                assert!(matches!(err.kind(), ErrorKind::Io | ErrorKind::Poisoned), "{how}: {err}");
                are_there(a.as_slice().unwrap(), 0);
                // Nor does anything drop it later.
                a.evict().unwrap();
                assert!(a.blocks().keep_cached(false).sum() > 0);
                are_there(a.as_slice().unwrap(), 0);
                assert_eq!(a.flush().unwrap_err().kind(), ErrorKind::Poisoned, "{how}");
            }
        }
    })
    .well();
}

/// Whoever keeps blocks of a pass keeps what is in them.
#[test]
#[ignore = "needs root: mounts file systems"]
fn blocks_that_were_passed_keep_their_values_on_a_full_disk() {
    child::run("blocks_that_were_passed_keep_their_values_on_a_full_disk", || {
        let full = Overcommitted::new();
        // SAFETY: no other thread of this process looks at the environment.
        unsafe { std::env::set_var("TMPDIR", full.disk.path()) };
        let mut a = MmapArrayMut::<u8>::scratch(TOO_MUCH).unwrap();
        let mut kept = Vec::new();
        let mut page = 0;
        for mut block in a.blocks_mut().keep_cached(false) {
            fill(block.as_slice_mut().unwrap(), page);
            let pages = block.len() / PAGE;
            kept.push((page, block));
            page += pages;
        }
        kept.iter().for_each(|(page, block)| are_there(block.as_slice().unwrap(), *page));
        drop(kept);
        assert_eq!(a.flush().unwrap_err().kind(), ErrorKind::Poisoned);
    })
    .well();
}
