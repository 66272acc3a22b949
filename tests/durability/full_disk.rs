//! A full disk is an error when space is asked for, and leaves everything as it was; where none was asked for, it is an
//! error of the guarded call that needed it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::mount::Mount;
use crate::support::process;
use crate::support::process::in_child;
use crate::support::steps::{Answer, at_each};
use ndarray::prelude::*;
use ndarray_mmap::{Error, ErrorKind, MmapArrayMut, Staged};

const MIB: usize = 1 << 20;

/// More than any of the disks here.
const TOO_MUCH: usize = 64 * MIB;

/// One file system where running out changes nothing, and one that keeps part of what it could have.
fn small_disks() -> [Mount; 2] {
    [Mount::tmpfs(4 * MIB), Mount::ext4(&std::env::temp_dir(), 16 * MIB as u64)]
}

fn create(path: &Path, len: usize) -> Result<MmapArrayMut<u8, Ix1>, Error> {
    // SAFETY: only this test knows the file.
    unsafe { MmapArrayMut::<u8>::create(path, len) }
}

#[track_caller]
fn is_storage_full(error: Error) {
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::StorageFull);
}

fn free_blocks(disk: &Mount) -> u64 {
    rustix::fs::statvfs(disk.path()).unwrap().f_bfree
}

#[test]
#[ignore = "needs root: mounts file systems"]
fn creating_more_than_fits_is_an_error_and_leaves_nothing() {
    for disk in small_disks() {
        let path = disk.path().join("a.bin");
        let free = free_blocks(&disk);
        is_storage_full(create(&path, TOO_MUCH).unwrap_err());
        // SAFETY: only this test knows the file.
        is_storage_full(unsafe { MmapArrayMut::<u8>::create_new(&path, TOO_MUCH).unwrap_err() });
        is_storage_full(Staged::<u8>::stage(&path, TOO_MUCH).unwrap_err());
        assert_eq!((disk.names(), free_blocks(&disk)), (vec![], free));

        fs::write(&path, "there before").unwrap();
        let before = fs::metadata(&path).unwrap();
        is_storage_full(create(&path, TOO_MUCH).unwrap_err());
        let after = fs::metadata(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"there before");
        assert_eq!((after.ino(), after.modified().unwrap()), (before.ino(), before.modified().unwrap()));
        assert_eq!(disk.names(), ["a.bin"]);
    }
}

#[test]
#[ignore = "needs root: mounts file systems"]
fn scratch_on_a_full_disk_is_an_error() {
    in_child!(|| {
        for disk in small_disks() {
            // SAFETY: no other thread of this process looks at the environment.
            unsafe { std::env::set_var("TMPDIR", disk.path()) };
            is_storage_full(MmapArrayMut::<u8>::scratch(TOO_MUCH).unwrap_err());
            MmapArrayMut::<u8>::scratch(MIB).unwrap();
        }
    })
    .run()
    .succeeded();
}

#[test]
#[ignore = "needs root: mounts file systems"]
fn extending_beyond_what_fits_gives_back_what_the_file_system_had_taken() {
    for disk in small_disks() {
        let path = disk.path().join("a.bin");
        fs::write(&path, vec![1u8; MIB]).unwrap();
        fs::File::open(&path).unwrap().sync_all().unwrap();
        let (before, free) = (fs::metadata(&path).unwrap(), free_blocks(&disk));
        let options = MmapArrayMut::<u8>::options().extend(true).shape(TOO_MUCH);
        // SAFETY: only this test knows the file.
        is_storage_full(unsafe { options.open(&path).unwrap_err() });
        let after = fs::metadata(&path).unwrap();
        assert_eq!(after.len(), before.len());
        // ext4 may keep a block of its own, for where the others were.
        assert!(after.blocks() <= before.blocks() + 8, "{} blocks, not {}", after.blocks(), before.blocks());
        assert!(free_blocks(&disk) >= free - 1, "{} blocks free, not {free}", free_blocks(&disk));
        assert!(fs::read(&path).unwrap().iter().all(|&x| x == 1));
    }
}

#[test]
#[ignore = "needs root: mounts file systems"]
fn growing_beyond_what_fits_leaves_an_array_that_works() {
    for disk in small_disks() {
        let path = disk.path().join("a.bin");
        let mut a = create(&path, MIB).unwrap();
        a.fill(1);
        is_storage_full(a.resize(TOO_MUCH).unwrap_err());
        is_storage_full(a.append(&Array1::ones(TOO_MUCH)).unwrap_err());
        assert_eq!((a.len(), fs::metadata(&path).unwrap().len()), (MIB, MIB as u64));
        a.append(&Array1::ones(10)).unwrap();
        a.flush().unwrap();
        a.close().unwrap();
        assert_eq!(fs::read(&path).unwrap(), vec![1u8; MIB + 10]);
    }
}

#[test]
#[ignore = "needs root: mounts file systems"]
fn running_out_of_space_in_a_sparse_file_is_a_fault() {
    in_child!(|| {
        for disk in small_disks() {
            let path = disk.path().join("a.bin");
            let options = MmapArrayMut::<u8>::options().preallocate(false).shape(TOO_MUCH);
            // SAFETY: only this test knows the file.
            let mut a = unsafe { options.create(&path).unwrap() };
            a.guarded_mut(|mut view| view[0] = 1).unwrap();
            let err = a.guarded_mut(|mut view| view.fill(2)).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::Fault);
            assert!(err.to_string().contains("is full"), "{err}");
            assert_eq!(a.flush().unwrap_err().kind(), ErrorKind::Poisoned);
            assert_eq!(fs::metadata(&path).unwrap().len(), TOO_MUCH as u64);
        }
    })
    .run()
    .succeeded();
}

/// Nobody broke the promise, and so what was seen stays: in pages that were there, and in the one that could not be stored
/// to, where it is blocks smaller than a page that are missing.
#[test]
#[ignore = "needs root: mounts file systems"]
fn running_out_of_space_changes_no_value_that_was_seen() {
    in_child!(|| {
        let small_blocks = Mount::ext4_with_blocks(&std::env::temp_dir(), 16 * MIB as u64, 1024);
        for disk in small_disks().into_iter().chain([small_blocks]) {
            let path = disk.path().join("a.bin");
            let options = MmapArrayMut::<u8>::options().preallocate(false).shape(TOO_MUCH);
            // SAFETY: only this test knows the file.
            let mut a = unsafe { options.create(&path).unwrap() };
            // Every other KiB of the last pages has a block of its own.
            let tail = TOO_MUCH - 16 * 4096;
            for at in (tail..TOO_MUCH).step_by(2048) {
                a.write_rows(at, &Array1::from_elem(1024, 9)).unwrap();
            }
            a[0] = 5;
            let err = a.guarded_mut(|mut view| {
                assert_eq!(view[0], 5);
                let before: u64 = view.slice(ndarray::s![tail..]).iter().map(|&x| u64::from(x)).sum();
                // Until a page faults, and then some.
                view.slice_mut(ndarray::s![4096..tail]).fill(1);
                assert_eq!(view[0], 5);
                view[8192] = 7;
                // A hole of the last pages, beside bytes that were seen.
                for at in (tail + 1024..TOO_MUCH).step_by(2048) {
                    view[at] = 1;
                }
                let after: u64 = view.slice(ndarray::s![tail..]).iter().map(|&x| u64::from(x)).sum();
                assert_eq!(after, before + 32);
                assert_eq!((view[0], view[8192], view[4096]), (5, 7, 1));
            });
            assert_eq!(err.unwrap_err().kind(), ErrorKind::Fault);
            assert_eq!((a[0], a[8192]), (5, 7));
        }
    })
    .run()
    .succeeded();
}

/// The file cannot be mapped a second time then.
#[test]
#[ignore = "needs root: mounts file systems"]
fn running_out_of_space_is_a_fault_where_there_is_no_room_for_another_mapping() {
    in_child!(|| {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let disk = Mount::ext4(&std::env::temp_dir(), 16 * MIB as u64);
        let options = MmapArrayMut::<u8>::options().preallocate(false).shape(8 * TOO_MUCH);
        // SAFETY: only this test knows the file.
        let mut a = unsafe { options.create(disk.path().join("a.bin")).unwrap() };
        // All that is mapped already counts.
        let pages = fs::read_to_string("/proc/self/statm").unwrap();
        let mapped = pages.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096;
        setrlimit(Resource::As, Rlimit { current: Some(mapped + 256 * MIB as u64), maximum: None }).unwrap();
        a[0] = 5;
        let err = a.guarded_mut(|mut view| view.slice_mut(ndarray::s![1..32 * MIB]).fill(1)).unwrap_err();
        assert_eq!((err.kind(), a[0]), (ErrorKind::Fault, 5));
    })
    .run()
    .succeeded();
}

#[test]
#[ignore = "needs root: mounts file systems"]
fn running_out_of_space_unguarded_ends_the_process() {
    in_child!(|| {
        let disk = Mount::tmpfs(MIB);
        let options = MmapArrayMut::<u8>::options().preallocate(false).shape(TOO_MUCH);
        // SAFETY: only this test knows the file.
        let mut a = unsafe { options.create(disk.path().join("a.bin")).unwrap() };
        // Unmounts it, for nobody will be there to do so later; the open file keeps it alive.
        drop(disk);
        a.fill(2);
    })
    .run()
    .killed_by(libc::SIGBUS);
}

/// The system would end the process, by `SIGXFSZ`.
#[test]
fn growing_beyond_the_limit_of_the_process_is_an_error() {
    in_child!(|| {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        let mut a = create(&path, MIB).unwrap();
        setrlimit(Resource::Fsize, Rlimit { current: Some(2 * MIB as u64), maximum: None }).unwrap();
        a.resize(2 * MIB).unwrap();
        for err in [a.resize(3 * MIB).unwrap_err(), create(&dir.path().join("b.bin"), 3 * MIB).unwrap_err()] {
            assert!(err.to_string().contains("RLIMIT_FSIZE"), "{err}");
            assert_eq!(io::Error::from(err).kind(), io::ErrorKind::FileTooLarge);
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), 2 * MIB as u64);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    })
    .run()
    .succeeded();
}

#[test]
#[ignore = "needs root: mounts file systems"]
fn copying_and_mapping_into_a_sparse_file_on_a_full_disk_are_errors() {
    fn sparse(disk: &Mount, len: usize) -> MmapArrayMut<u8, Ix1> {
        let options = MmapArrayMut::<u8>::options().shape(len).preallocate(false);
        // SAFETY: only this test knows the file.
        unsafe { options.create(disk.path().join("a.bin")).unwrap() }
    }
    let source = MmapArrayMut::<u8>::scratch(TOO_MUCH).unwrap();
    for disk in small_disks() {
        // Written through the file.
        is_storage_full(sparse(&disk, TOO_MUCH).assign_tiled(&source).unwrap_err());
        is_storage_full(source.blocks().map_into(&mut sparse(&disk, TOO_MUCH), |x| x + 1).unwrap_err());
    }
    // Stored: the array is too small to ask where it is.
    let disk = Mount::tmpfs(4 * MIB);
    let mut small = sparse(&disk, MIB / 2);
    assert!(fs::write(disk.path().join("filler"), vec![1; TOO_MUCH]).is_err());
    let half = source.slice(ndarray::s![..MIB / 2]);
    assert_eq!(small.assign_tiled(&half).unwrap_err().kind(), ErrorKind::Fault);
    assert_eq!(small.assign_tiled(&half).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(small.flush().unwrap_err().kind(), ErrorKind::Poisoned);
}

/// By which rows could not be written, but stored only, which would end the process.
#[test]
#[ignore = "needs root: mounts file systems"]
fn appending_through_a_handle_that_appends_is_an_error() {
    in_child!(|| {
        let disk = Mount::tmpfs(2 * MIB);
        let path = disk.path().join("a.bin");
        fs::write(&path, [1_u8; 4096]).unwrap();
        let file = fs::File::options().read(true).append(true).open(&path).unwrap();
        let options = MmapArrayMut::<u8>::options().preallocate(false).shape(4096);
        // SAFETY: only this test knows the file.
        let mut a = unsafe { options.map(&file).unwrap() };
        is_storage_full(a.append(&Array1::ones(TOO_MUCH)).unwrap_err());
        assert_eq!(fs::read(&path).unwrap(), [1; 4096]);
        a.append(&Array1::ones(10)).unwrap();
        a.close().unwrap();
        assert_eq!(fs::read(&path).unwrap(), [1; 4106]);
    })
    .run()
    .succeeded();
}

/// Somebody makes room when a page could not be had, and before the file is mapped again: then it can be stored to.
#[test]
#[ignore = "needs root: mounts file systems"]
fn what_other_threads_store_before_the_file_is_mapped_again_stays() {
    const CALLS: [libc::c_long; 8] = [
        libc::SYS_rt_sigprocmask,
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_madvise,
        libc::SYS_mmap,
        libc::SYS_mremap,
        libc::SYS_munmap,
        libc::SYS_process_vm_readv,
    ];
    in_child!(|| {
        process::end_after(60);
        let disk = Mount::tmpfs(MIB);
        let (path, filler) = (disk.path().join("a.bin"), disk.path().join("filler"));
        for number in 1.. {
            fs::File::create(&path).unwrap().set_len(64 * 4096).unwrap();
            // SAFETY: only this test knows the file.
            let mut a = unsafe { MmapArrayMut::<u8, Ix1>::open(&path).unwrap() };
            assert!(fs::write(&filler, vec![1; 2 * MIB]).is_err());
            let (mut seen, mut mapped_again) = (0, false);
            let err = a.guarded_mut(|mut view| {
                // Of the same page.
                let (one, other) = view.as_slice_mut().unwrap().split_at_mut(2048);
                let faults = AtomicBool::new(false);
                let makes_room = |call| {
                    if faults.load(Ordering::SeqCst) && !mapped_again {
                        seen += 1;
                        // What comes later puts zeros where there still is nothing, a moment after it has looked.
                        mapped_again = call == libc::SYS_mremap;
                        if seen == number {
                            fs::remove_file(&filler).unwrap();
                            other[0] = 7;
                        }
                    }
                    Answer::Done
                };
                at_each(&CALLS, makes_room, || {
                    faults.store(true, Ordering::SeqCst);
                    one[0] = 1;
                });
                assert_eq!((view[0], view[2048]), (1, if seen < number { 0 } else { 7 }), "call {number}");
            });
            assert!(err.is_err_and(|e| e.kind() == ErrorKind::Fault));
            if seen < number {
                assert!(number > 2, "hardly any call was stopped");
                break;
            }
        }
    })
    .run()
    .succeeded();
}
