//! Whichever thread meets the fault, the guarded call it works for gets the error, and no other.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::sync::Barrier;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
#[cfg(target_os = "linux")]
use std::sync::mpsc;
use std::thread;

#[cfg(target_os = "linux")]
use crate::support::kernel;
use crate::support::process;
use crate::support::process::in_child;
#[cfg(target_os = "linux")]
use crate::support::steps::{Answer, at_call, at_each};
use ndarray::prelude::*;
#[cfg(target_os = "linux")]
use ndarray_mmap::MmapArrayMut;
use ndarray_mmap::{ErrorKind, MmapArray};

const PAGE: usize = 4096;
const LEN: usize = 64 * PAGE;

fn open(path: &Path) -> MmapArray<u8, Ix1> {
    fs::write(path, vec![1u8; LEN]).unwrap();
    // SAFETY: only this test knows the file, and it truncates it in guarded calls only.
    unsafe { MmapArray::<u8>::options().shape(LEN).open(path).unwrap() }
}

fn truncate(path: &Path) {
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

    in_child!(|| {
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
            truncate(&path);
            assert_eq!(total(view), 0);
        });
        assert_eq!(err.unwrap_err().kind(), ErrorKind::Truncated);
    })
    .run()
    .succeeded();
}

#[test]
fn eight_threads_each_get_the_error_of_their_own_file_only() {
    in_child!(|| {
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
                                truncate(&path);
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
    .run()
    .succeeded();
}

#[test]
fn eight_threads_in_one_array_all_get_the_error() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        for _ in 0..50 {
            let a = open(&path);
            let (inside, after_the_truncation) = (Barrier::new(8), Barrier::new(8));
            thread::scope(|s| {
                for i in 0..8 {
                    let (a, path, inside, after_the_truncation) = (&a, &path, &inside, &after_the_truncation);
                    s.spawn(move || {
                        let answer = a.guarded(|view| {
                            inside.wait();
                            if i == 0 {
                                truncate(path);
                            }
                            after_the_truncation.wait();
                            sum(view)
                        });
                        assert_eq!(answer.unwrap_err().kind(), ErrorKind::Truncated);
                    });
                }
            });
        }
    })
    .run()
    .succeeded();
}

/// Threads that fault at once replace a page once: a second time would undo what was stored in between.
#[cfg(target_os = "linux")]
#[test]
fn no_store_after_a_fault_is_undone_by_another_threads_fault() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..50 {
            // The first fault replaces all of an array with a name ...
            let path = dir.path().join("a.bin");
            fs::write(&path, vec![1u8; LEN]).unwrap();
            // SAFETY: only this test knows the file, and it truncates it in guarded calls only.
            let named = unsafe { MmapArrayMut::<u8>::options().shape((64, PAGE)).open(&path).unwrap() };
            keeps_what_is_stored_after_a_truncation(named, &path);

            // ... and each its own page of one without. (Through /proc, outside of Rust's guarantees: it plays the
            // failing disk.)
            let unnamed = MmapArrayMut::<u8, Ix2>::scratch((64, PAGE)).unwrap();
            let fds = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
            let file = fds.filter(|fd| fs::metadata(fd).is_ok_and(|m| m.len() == LEN as u64)).last().unwrap();
            keeps_what_is_stored_after_a_truncation(unnamed, &file);
        }
    })
    .run()
    .succeeded();
}

/// On a kernel that cannot be asked whether a page is there.
#[cfg(target_os = "linux")]
#[test]
fn old_kernels_undo_no_store_either() {
    in_child!(|| {
        for _ in 0..50 {
            let unnamed = MmapArrayMut::<u8, Ix2>::scratch((64, PAGE)).unwrap();
            let fds = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
            let file = fds.filter(|fd| fs::metadata(fd).is_ok_and(|m| m.len() == LEN as u64)).last().unwrap();
            kernel::refusing(&[kernel::no(libc::SYS_madvise, libc::EINVAL)], || {
                keeps_what_is_stored_after_a_truncation(unnamed, &file);
            });
        }
    })
    .run()
    .succeeded();
}

#[cfg(target_os = "linux")]
fn keeps_what_is_stored_after_a_truncation(mut a: MmapArrayMut<u8, Ix2>, file: &Path) {
    const THREADS: usize = 8;
    let lost = AtomicUsize::new(0);
    let together = Barrier::new(THREADS);
    let err = a.guarded_mut(|mut view| {
        truncate(file);
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

/// For as long as that takes: a disk may need minutes to say that it has failed.
#[cfg(target_os = "linux")]
#[test]
fn a_thread_that_faults_waits_for_another_that_replaces_pages() {
    /// Whether it is in the call that lets time pass.
    fn is_waiting(thread: libc::pid_t) -> bool {
        let call = fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).unwrap();
        let number = call.split(' ').next().and_then(|number| number.parse().ok());
        number.is_some_and(|number| [libc::SYS_nanosleep, libc::SYS_clock_nanosleep].contains(&number))
    }

    in_child!(|| {
        process::end_after(60);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        fs::write(&path, vec![1u8; LEN]).unwrap();
        // SAFETY: only this test knows the file, and it truncates it in guarded calls only.
        let mut a = unsafe { MmapArrayMut::<u8, Ix1>::options().shape(LEN).open(&path).unwrap() };
        let err = a.guarded_mut(|mut view| {
            truncate(&path);
            let (one, other) = view.as_slice_mut().unwrap().split_at_mut(LEN / 2);
            let (replaces, begin) = mpsc::channel();
            let (tell, second) = mpsc::channel();
            let (first_faults, second_is_done) = (AtomicBool::new(false), AtomicBool::new(false));
            thread::scope(|s| {
                let second_is_done = &second_is_done;
                s.spawn(move || {
                    begin.recv().unwrap();
                    // SAFETY: no memory is involved.
                    tell.send(unsafe { libc::gettid() }).unwrap();
                    other[0] = 2;
                    second_is_done.store(true, Ordering::SeqCst);
                    assert_eq!(other[0], 2);
                });
                let mut stopped = false;
                let stops = |_| {
                    if first_faults.load(Ordering::SeqCst) && !stopped {
                        stopped = true;
                        replaces.send(()).unwrap();
                        let second = second.recv().unwrap();
                        while !is_waiting(second) {
                            thread::yield_now();
                        }
                        assert!(!second_is_done.load(Ordering::SeqCst));
                    }
                    Answer::Done
                };
                at_each(&[libc::SYS_mmap], stops, || {
                    first_faults.store(true, Ordering::SeqCst);
                    one[0] = 1;
                });
                assert!(stopped);
            });
            assert_eq!((view[0], view[LEN / 2]), (1, 2));
        });
        assert_eq!(err.unwrap_err().kind(), ErrorKind::Truncated);
    })
    .run()
    .succeeded();
}

/// Nobody would tell the child that what it reads are zeros.
#[cfg(target_os = "linux")]
#[test]
fn a_forked_child_is_in_no_guarded_call_of_its_parents_threads() {
    in_child!(|| {
        process::end_after(60);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        let a = open(&path);
        let (tell, entered) = mpsc::channel();
        let (leave, left) = mpsc::channel();
        thread::scope(|s| {
            let (a, path) = (&a, &path);
            let inside = s.spawn(move || {
                a.guarded(|_| {
                    tell.send(()).unwrap();
                    left.recv().unwrap();
                })
            });
            entered.recv().unwrap();
            let status = process::forked(|| {
                truncate(path);
                i32::from(sum(a.view()) == 0)
            });
            leave.send(()).unwrap();
            assert_eq!(inside.join().unwrap().unwrap_err().kind(), ErrorKind::Truncated);
            assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGBUS, "{status:#x}");
        });
    })
    .run()
    .succeeded();
}

/// The thread that has it will not give it back in the child: there is no such thread.
#[cfg(target_os = "linux")]
#[test]
fn a_forked_child_waits_for_no_lock_of_its_parent() {
    in_child!(|| {
        process::end_after(60);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        fs::write(&path, vec![1u8; LEN]).unwrap();
        // SAFETY: only this test knows the file.
        let a = unsafe { MmapArrayMut::<u8, Ix1>::open(&path).unwrap() };
        let mut status = None;
        let forks = || {
            status = Some(process::forked(|| {
                let sums = [sum(a.view()), a.guarded(sum).unwrap(), a.blocks().evict(true).sum() as u64];
                a.evict().unwrap();
                i32::from(sums != [LEN as u64; 3] || a.flush().is_ok())
            }));
            Answer::Done
        };
        at_call(1, &[libc::SYS_msync], forks, || a.flush().unwrap());
        assert_eq!(status, Some(0));
        a.close().unwrap();
    })
    .run()
    .succeeded();
}
