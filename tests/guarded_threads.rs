//! Whichever thread meets the fault, the guarded call it works for gets the error, and no other.
#![cfg(unix)]

mod child;
mod common;

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::sync::Barrier;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use ndarray::prelude::*;
#[cfg(target_os = "linux")]
use ndarray_mmap::MmapArrayMut;
use ndarray_mmap::{ErrorKind, MmapArray};

const PAGE: usize = 4096;
const LEN: usize = 64 * PAGE;

fn open(path: &Path) -> MmapArray<u8, Ix1> {
    fs::write(path, vec![1u8; LEN]).unwrap();
    // SAFETY: only this test knows the file, and it cuts it in guarded calls only.
    unsafe { MmapArray::<u8>::options().shape(LEN).open(path).unwrap() }
}

fn cut(path: &Path) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
}

fn sum(view: ArrayView1<u8>) -> u64 {
    // Looked at, though not by all tests: else the compiler would leave it out.
    std::hint::black_box(view.iter().map(|&x| u64::from(x)).sum())
}

#[cfg(feature = "rayon")]
#[test]
fn faults_of_rayons_workers_are_caught() {
    use rayon::prelude::*;

    child::run("faults_of_rayons_workers_are_caught", || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        let a = open(&path);
        let caller = thread::current().id();
        let total = |view: ArrayView1<u8>| {
            pool.install(|| {
                let pages: Vec<_> = view.exact_chunks(PAGE).into_iter().collect();
                pages.into_par_iter().map(|page| (assert_ne!(thread::current().id(), caller), sum(page)).1).sum::<u64>()
            })
        };
        assert_eq!(a.guarded(total).unwrap(), LEN as u64);
        let err = a.guarded(|view| {
            cut(&path);
            assert_eq!(total(view), 0);
        });
        assert_eq!(err.unwrap_err().kind(), ErrorKind::Truncated);
    })
    .well();
}

#[test]
fn eight_threads_each_learn_of_their_own_file_only() {
    child::run("eight_threads_each_learn_of_their_own_file_only", || {
        let dir = tempfile::tempdir().unwrap();
        let together = Barrier::new(8);
        thread::scope(|s| {
            for i in 0..8 {
                let (path, together) = (dir.path().join(format!("{i}.bin")), &together);
                s.spawn(move || {
                    for _ in 0..50 {
                        let a = open(&path);
                        together.wait();
                        let answer = a.guarded(|view| {
                            if i % 2 == 0 {
                                cut(&path);
                            }
                            sum(view)
                        });
                        match i % 2 {
                            0 => assert_eq!(answer.unwrap_err().kind(), ErrorKind::Truncated),
                            _ => assert_eq!(answer.unwrap(), LEN as u64),
                        }
                    }
                });
            }
        });
    })
    .well();
}

#[test]
fn eight_threads_in_one_array_all_learn_of_the_cut() {
    child::run("eight_threads_in_one_array_all_learn_of_the_cut", || {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        for _ in 0..50 {
            let a = open(&path);
            let (inside, after_the_cut) = (Barrier::new(8), Barrier::new(8));
            thread::scope(|s| {
                for i in 0..8 {
                    let (a, path, inside, after_the_cut) = (&a, &path, &inside, &after_the_cut);
                    s.spawn(move || {
                        let answer = a.guarded(|view| {
                            inside.wait();
                            if i == 0 {
                                cut(path);
                            }
                            after_the_cut.wait();
                            sum(view)
                        });
                        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Truncated);
                    });
                }
            });
        }
    })
    .well();
}

/// Threads that fault at once replace a page once: a second time would undo what was stored in between.
#[cfg(target_os = "linux")]
#[test]
fn no_store_after_a_fault_is_undone_by_another_threads_fault() {
    child::run("no_store_after_a_fault_is_undone_by_another_threads_fault", || {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..50 {
            // The first fault replaces all of an array with a name ...
            let path = dir.path().join("a.bin");
            fs::write(&path, vec![1u8; LEN]).unwrap();
            // SAFETY: only this test knows the file, and it cuts it in guarded calls only.
            let named = unsafe { MmapArrayMut::<u8>::options().shape((64, PAGE)).open(&path).unwrap() };
            keeps_what_is_stored_after_a_cut(named, &path);

            // ... and each its own page of one without. (Through /proc, outside of Rust's guarantees: it plays the
            // failing disk.)
            let unnamed = MmapArrayMut::<u8, Ix2>::scratch((64, PAGE)).unwrap();
            let fds = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
            let file = fds.filter(|fd| fs::metadata(fd).is_ok_and(|m| m.len() == LEN as u64)).last().unwrap();
            keeps_what_is_stored_after_a_cut(unnamed, &file);
        }
    })
    .well();
}

/// On a kernel that cannot be asked whether a page is there.
#[cfg(target_os = "linux")]
#[test]
fn old_kernels_undo_no_store_either() {
    child::run("old_kernels_undo_no_store_either", || {
        for _ in 0..50 {
            let unnamed = MmapArrayMut::<u8, Ix2>::scratch((64, PAGE)).unwrap();
            let fds = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
            let file = fds.filter(|fd| fs::metadata(fd).is_ok_and(|m| m.len() == LEN as u64)).last().unwrap();
            common::kernel::refusing(&[common::kernel::no(libc::SYS_madvise, libc::EINVAL)], || {
                keeps_what_is_stored_after_a_cut(unnamed, &file);
            });
        }
    })
    .well();
}

#[cfg(target_os = "linux")]
fn keeps_what_is_stored_after_a_cut(mut a: MmapArrayMut<u8, Ix2>, file: &Path) {
    const THREADS: usize = 8;
    let lost = AtomicUsize::new(0);
    let together = Barrier::new(THREADS);
    let err = a.guarded_mut(|mut view| {
        cut(file);
        thread::scope(|s| {
            // Each thread has some columns, and so a part of every page.
            for mut columns in view.axis_chunks_iter_mut(Axis(1), PAGE / THREADS) {
                let (lost, together) = (&lost, &together);
                s.spawn(move || {
                    together.wait();
                    columns.rows_mut().into_iter().for_each(|mut part| part[0] = 9);
                    together.wait();
                    lost.fetch_add(columns.rows().into_iter().filter(|part| part[0] != 9).count(), Ordering::Relaxed);
                });
            }
        });
    });
    assert_eq!(err.unwrap_err().kind(), ErrorKind::Truncated);
    assert_eq!(lost.into_inner(), 0);
}
