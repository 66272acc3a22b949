//! Growing, shrinking and locking where the system refuses a step, or does it and refuses all the same: nothing that was
//! stored is lost in silence, and what is not as it was says so.
#![cfg(target_os = "linux")]

mod common;
mod steps;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use common::kernel::{no, refusing};
use common::{Creates, Doors, refused, refused_io};
use ndarray::prelude::*;
use ndarray_mmap::{ErrorKind, Lock, MmapArray, MmapArrayMut};
use rustix::fs::FallocateFlags;
use steps::{Answer, at_each};

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
    refused(a.flush(), ErrorKind::Poisoned);
    refused(a.guarded(|_| ()), ErrorKind::Poisoned);
    refused(a.append(&array![1.0]), ErrorKind::Poisoned);
    refused(a.resize(3), ErrorKind::Poisoned);
    refused(a.write_rows(0, &array![1.0]), ErrorKind::Poisoned);
    refused(a.close(), ErrorKind::Poisoned);
}

/// ext4 sets the new size before it frees blocks: so it may refuse what is done.
#[test]
fn a_truncation_that_was_done_and_refused_is_not_made_good_with_zeros() {
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
            at_each(&[libc::SYS_ftruncate], truncates, || refused(a.resize(100), ErrorKind::Io));
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
        refusing(&[no(libc::SYS_ftruncate, libc::EIO)], || refused(a.resize(100), ErrorKind::Io));
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
fn space_set_aside_is_given_back_whatever_refused_the_rest() {
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

/// Neither can the new rows be mapped then, nor the file be made as short as it was.
#[test]
fn a_growth_that_cannot_be_taken_back_is_no_secret() {
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
    let open = || refused(options().opened(&path), ErrorKind::Io);
    let e = at_each(&[libc::SYS_ftruncate], but_one(1), || refusing(&mapping, open));
    assert!(e.to_string().contains("could not be made as short again"), "{e}");
    assert_eq!(len(&path), 8000);
    fs::write(&path, [0; 16]).unwrap();
    let e = refusing(&mapping, || refused_io(options().opened(&path), io::ErrorKind::OutOfMemory));
    assert!(!e.to_string().contains("short"), "{e}");
    assert_eq!(len(&path), 16);
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
    let e = refused(b, ErrorKind::Locked);
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
                let e = refused(MmapArray::<u8>::options().lock(lock).opened(&path), ErrorKind::Io);
                assert!(e.to_string().contains("`Lock::None`"), "{e}");
                refused(MmapArrayMut::<u8>::options().lock(lock).opened(&path), ErrorKind::Io);
                let handle = handle(&path);
                refused(MmapArrayMut::<u8>::options().lock(lock).mapped(&handle), ErrorKind::Io);
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
            refused(flushed, ErrorKind::Io);
            refused(a.flush(), ErrorKind::Poisoned);
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
