//! A disk that fails is an error of the guarded call, or of the flush, that met it; and no later call returns
//! success.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::support::mount::Mount;
use crate::support::process;
use crate::support::process::in_child;
use ndarray::prelude::*;
use ndarray_mmap::{ErrorKind, MmapArray, MmapArrayMut};

const MIB: usize = 1 << 20;

/// A file of ones on a disk that then loses all but its first part; nothing of the file is in memory.
fn file_on_a_broken_disk(disk: &Mount) -> PathBuf {
    let path = disk.path().join("a.bin");
    fs::write(&path, vec![1u8; 32 * MIB]).unwrap();
    disk.unmount();
    disk.again();
    path
}

#[test]
#[ignore = "needs root: mounts file systems"]
fn a_page_that_cannot_be_read_is_a_fault() {
    in_child!(|| {
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
    .run()
    .succeeded();
}

#[test]
#[ignore = "needs root: mounts file systems"]
fn a_page_that_cannot_be_read_ends_an_unguarded_process() {
    in_child!(|| {
        let disk = Mount::ext4(&std::env::temp_dir(), 64 * MIB as u64);
        let path = file_on_a_broken_disk(&disk);
        // SAFETY: only this test knows the file.
        let a = unsafe { MmapArray::<u8, Ix1>::open(&path).unwrap() };
        disk.image().set_len(2 * MIB as u64).unwrap();
        // Unmounts it, for nobody will be there to do so later; the open file keeps it alive.
        drop(disk);
        std::hint::black_box(a.sum());
    })
    .run()
    .killed_by(libc::SIGBUS);
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

/// A disk with room for 18 MiB, below a file system that believes in 128.
struct Overcommitted {
    // Unmounted before what it lies on.
    disk: Mount,
    below: Mount,
}

impl Overcommitted {
    fn new() -> Self {
        let below = Mount::tmpfs(24 * MIB);
        let disk = Mount::ext4(below.path(), 128 * MIB as u64);
        fs::write(below.path().join("filler"), vec![1; 6 * MIB]).unwrap();
        Self { disk, below }
    }

    /// Room for 6 MiB more: so that what the file system keeps for itself does not fail, and tell in the place of the
    /// file's bytes.
    fn relieve(&self) {
        fs::remove_file(self.below.path().join("filler")).unwrap();
    }
}

/// Has a file written back. Whoever has it open hears of a failure once; this, as somebody else.
fn write_back(path: &Path) -> bool {
    let file = File::open(path).unwrap();
    let all = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: no memory is involved.
    unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, all) == 0 }
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
    in_child!(|| {
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
            // A file with a name in a container, and one without on the disk itself.
            for named in [false, true] {
                // SAFETY: no other thread of this process looks at the environment.
                unsafe { std::env::set_var("TMPDIR", &usual) };
                let full = Overcommitted::new();
                let container = named.then(|| Mount::overlay(&full.disk));
                let mut a = if let Some(container) = &container {
                    // SAFETY: only this test knows the file.
                    unsafe { MmapArrayMut::<u8>::create(container.path().join("a.bin"), TOO_MUCH).unwrap() }
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
    .run()
    .succeeded();
}

/// Whoever keeps blocks of a pass keeps what is in them.
#[test]
#[ignore = "needs root: mounts file systems"]
fn blocks_that_were_passed_keep_their_values_on_a_full_disk() {
    in_child!(|| {
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
    .run()
    .succeeded();
}

/// Two arrays of one handle, for disjoint parts of a file: the system tells a handle of a failure once.
#[test]
#[ignore = "needs root: mounts file systems"]
fn the_array_that_stored_gets_the_error_whichever_array_of_a_handle_gets_it_first() {
    in_child!(|| {
        type Hear = fn(&MmapArray<u8, Ix1>, &MmapArrayMut<u8, Ix1>);
        let ways: [Hear; 6] = [
            |_, _| (),
            |reader, _| drop(reader.evict()),
            |reader, _| assert_eq!(reader.blocks().evict(true).sum(), 0),
            |reader, _| assert_eq!(reader.blocks().keep_cached(false).sum(), 0),
            |_, writer| assert_eq!(writer.blocks().keep_cached(false).sum(), 0),
            |_, writer| drop(writer.flush()),
        ];
        for hear in ways {
            let full = Overcommitted::new();
            let path = full.disk.path().join("a.bin");
            let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
            file.set_len((16 * MIB + TOO_MUCH) as u64).unwrap();
            let options = || MmapArrayMut::<u8>::options().shape(16 * MIB);
            let stores = options().offset(16 * MIB as u64).shape(TOO_MUCH);
            // SAFETY: only this test knows the file, and only one array stores to it.
            let (mut a, other) = unsafe { (stores.map(&file).unwrap(), options().map(&file).unwrap()) };
            // SAFETY: as above.
            let reader = unsafe { MmapArray::<u8>::options().shape(16 * MIB).map(&file).unwrap() };
            a.fill(7);
            a.flush_async().unwrap();
            assert!(!write_back(&path));
            full.relieve();
            for _ in 0..3 {
                hear(&reader, &other);
            }
            assert_eq!(a.flush().unwrap_err().kind(), ErrorKind::Io);
            assert_eq!(a.close().unwrap_err().kind(), ErrorKind::Poisoned);
        }
    })
    .run()
    .succeeded();
}

#[test]
#[ignore = "needs root: mounts file systems"]
fn what_a_forked_child_does_hides_no_failure_from_its_parent() {
    in_child!(|| {
        let full = Overcommitted::new();
        let path = full.disk.path().join("a.bin");
        // SAFETY: only this test knows the file.
        let mut a = unsafe { MmapArrayMut::<u8>::create(&path, TOO_MUCH).unwrap() };
        // What a new file needs beside its bytes.
        a.flush().unwrap();
        a.fill(7);
        a.flush_async().unwrap();
        assert!(!write_back(&path));
        full.relieve();
        let status = process::forked(|| i32::from(a.blocks().keep_cached(false).sum() == 0 || a.evict().is_err()));
        assert_eq!(status, 0);
        assert_eq!(a.flush().unwrap_err().kind(), ErrorKind::Io);
    })
    .run()
    .succeeded();
}

/// A file on a disk where a store to a page that was only read needs the journal. Nothing of it is in memory.
fn file_on_a_disk(disk_mib: usize, bytes: &[u8]) -> (Mount, PathBuf) {
    let disk = Mount::ext4(&std::env::temp_dir(), (disk_mib * MIB) as u64);
    let path = disk.path().join("a.bin");
    fs::write(&path, bytes).unwrap();
    disk.unmount();
    // No space is promised, for that would need none until it is written.
    disk.again_with("nodelalloc");
    (disk, path)
}

#[test]
#[ignore = "needs root: mounts file systems"]
fn what_can_be_read_stays_when_a_file_system_is_shut_down() {
    in_child!(|| {
        let (disk, path) = file_on_a_disk(64, &[5; 2 * PAGE]);
        // SAFETY: only this test knows the file.
        let mut a = unsafe { MmapArrayMut::<u8, Ix1>::open(&path).unwrap() };
        assert!(a.iter().all(|&x| x == 5));
        disk.shut_down();
        let err = a.guarded_mut(|mut view| {
            assert_eq!(view[100], 5);
            view[0] = 1;
            assert_eq!(view[0], 1);
            assert!(view.iter().skip(1).all(|&x| x == 5));
        });
        assert_eq!(err.unwrap_err().kind(), ErrorKind::Fault);
        assert!(a[0] == 1 && a.iter().skip(1).all(|&x| x == 5));
    })
    .run()
    .succeeded();
}

/// Nobody broke a promise: so what Rust holds to be text must be text.
#[test]
#[ignore = "needs root: mounts file systems"]
fn text_that_is_borrowed_stays_when_a_file_system_is_shut_down() {
    in_child!(|| {
        let text = "éx".repeat(PAGE);
        let (disk, path) = file_on_a_disk(64, text.as_bytes());
        // SAFETY: only this test knows the file.
        let mut a = unsafe { MmapArrayMut::<u8, Ix1>::open(&path).unwrap() };
        let err = a.guarded_mut(|mut view| {
            // A letter lies on both sides of the end of the first page, and of what is stored to.
            let (borrowed, rest) = view.as_slice_mut().unwrap().split_at_mut(PAGE + 2);
            let borrowed = std::str::from_utf8(borrowed).unwrap();
            disk.shut_down();
            rest[0] = b'y';
            assert!(std::str::from_utf8(borrowed.as_bytes()).is_ok_and(|now| text.starts_with(now)));
        });
        assert_eq!(err.unwrap_err().kind(), ErrorKind::Fault);
    })
    .run()
    .succeeded();
}

/// A process has so many mappings and no more, fewer than there are pages here.
#[test]
#[ignore = "needs root: mounts file systems"]
fn a_pass_that_stores_to_many_pages_of_a_dead_disk_ends() {
    in_child!(|| {
        for dies in [Mount::abort, Mount::shut_down] {
            let (disk, path) = file_on_a_disk(400, &vec![5; 300 * MIB]);
            // SAFETY: only this test knows the file.
            let mut a = unsafe { MmapArrayMut::<u8, Ix1>::open(&path).unwrap() };
            // Brought in, for afterwards none can be.
            assert!(a.as_slice().unwrap().chunks(PAGE).all(|page| page[0] == 5));
            dies(&disk);
            let err = a.guarded_mut(|mut view| {
                for page in view.as_slice_mut().unwrap().chunks_mut(PAGE) {
                    page[0] = 1;
                    assert_eq!(page[..2], [1, 5]);
                }
            });
            assert_eq!(err.unwrap_err().kind(), ErrorKind::Fault);
            assert!(a.as_slice().unwrap().chunks(PAGE).all(|page| page[..2] == [1, 5]));
        }
    })
    .run()
    .succeeded();
}
