//! Under `guarded`, a file that is truncated is an error, the process lives, and nothing that happens to files every day is
//! an error. Each test has a process of its own: what is tested would end it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::process::in_child;
use ndarray::prelude::*;
use ndarray_mmap::{ErrorKind, Lock, MmapArray, MmapArrayCow, MmapArrayMut};

const PAGE: usize = 4096;
const PAGES: usize = 64;

/// A file of ones.
fn ones(dir: &tempfile::TempDir) -> std::path::PathBuf {
    let path = dir.path().join("ones.bin");
    fs::write(&path, vec![1u8; PAGES * PAGE]).unwrap();
    path
}

fn open(path: &Path) -> MmapArray<u8, Ix1> {
    // SAFETY: only this test knows the file, and it truncates it in guarded calls only.
    unsafe { MmapArray::<u8>::options().shape(PAGES * PAGE).lock(Lock::None).open(path).unwrap() }
}

fn open_mut(path: &Path) -> MmapArrayMut<u8, Ix1> {
    // SAFETY: as for `open`.
    unsafe { MmapArrayMut::<u8>::options().shape(PAGES * PAGE).open(path).unwrap() }
}

fn truncate(path: &Path, len: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

fn sum(view: ArrayView1<u8>) -> u64 {
    // Looked at, though not by all tests: else the compiler would leave it out.
    std::hint::black_box(view.iter().map(|&x| u64::from(x)).sum())
}

#[test]
fn a_file_truncated_in_mid_sum_is_an_error() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = ones(&dir);
        let a = open(&path);
        assert_eq!(a.guarded(sum).unwrap(), (PAGES * PAGE) as u64);
        let mut seen = 0;
        let err = a
            .guarded(|view| {
                let (first, second) = view.split_at(Axis(0), view.len() / 2);
                seen = sum(first);
                truncate(&path, 0);
                seen += sum(second);
            })
            .unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Truncated);
        assert_eq!(err.path(), Some(path.as_path()));
        assert!(err.to_string().contains("truncated to 0 bytes while an array that ends at 262144"), "{err}");
        assert_eq!(seen, (PAGES * PAGE / 2) as u64, "the second half read as zeros");
    })
    .run()
    .succeeded();
}

#[test]
fn an_unguarded_access_still_dies() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = ones(&dir);
        let a = open(&path);
        truncate(&path, 0);
        assert_eq!(sum(a.view()), 0);
    })
    .run()
    .killed_by(libc::SIGBUS);
}

#[test]
fn an_access_after_a_guarded_call_still_dies() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = ones(&dir);
        let a = open(&path);
        a.guarded(sum).unwrap();
        truncate(&path, 0);
        assert_eq!(sum(a.view()), 0);
    })
    .run()
    .killed_by(libc::SIGBUS);
}

#[test]
fn another_array_than_the_guarded_one_still_dies() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = ones(&dir);
        let (a, b) = (open(&path), open(&path));
        b.guarded(sum).unwrap();
        let _ = a.guarded(|_| {
            truncate(&path, 0);
            sum(b.view())
        });
    })
    .run()
    .killed_by(libc::SIGBUS);
}

#[test]
fn stores_to_a_truncated_file_are_an_error() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = ones(&dir);
        let mut a = open_mut(&path);
        let err = a
            .guarded_mut(|mut view| {
                truncate(&path, 0);
                view.fill(7);
                assert_eq!(view[0], 7, "what is stored after the fault can be read back");
            })
            .unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Truncated);
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    })
    .run()
    .succeeded();
}

#[test]
fn copy_on_write_pages_already_written_are_no_exception() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = ones(&dir);
        // SAFETY: as for `open`.
        let mut a = unsafe { MmapArrayCow::<u8, Ix1>::open(&path).unwrap() };
        let err = a
            .guarded_mut(|mut view| {
                view.fill(2);
                truncate(&path, 0);
                view.fill(3);
                sum(view.view())
            })
            .unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Truncated);
    })
    .run()
    .succeeded();
}

#[test]
fn a_truncation_within_the_last_page_is_an_error_though_no_signal_comes() {
    let dir = tempfile::tempdir().unwrap();
    let path = ones(&dir);
    let a = open(&path);
    let err = a
        .guarded(|view| {
            truncate(&path, (PAGES * PAGE - 1) as u64);
            sum(view)
        })
        .unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Truncated);
}

#[test]
fn after_a_fault_every_call_returns_poisoned_and_views_stay_safe_to_read() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = ones(&dir);
        let mut a = open_mut(&path);
        let faulted = a.guarded(|view| {
            truncate(&path, 0);
            sum(view)
        });
        assert_eq!(faulted.unwrap_err().kind(), ErrorKind::Truncated);
        // Whole again: what was poisoned stays so.
        truncate(&path, (PAGES * PAGE) as u64);
        a[5] = 5;
        a.evict().unwrap();
        assert_eq!(a[5], 5, "evict does nothing to what took the place of the file");
        let poisoned = [
            a.flush().unwrap_err(),
            a.flush_async().unwrap_err(),
            a.flush_rows(0..1).unwrap_err(),
            a.guarded(|_| unreachable!()).unwrap_err(),
            a.guarded_mut(|_| unreachable!()).unwrap_err(),
        ];
        assert_eq!(poisoned.map(|e| e.kind()), [ErrorKind::Poisoned; 5]);
        sum(a.view());
        assert_eq!(a.close().unwrap_err().kind(), ErrorKind::Poisoned);
        assert!(sum(open(&path).view()) == 0, "no later store reached the file");
    })
    .run()
    .succeeded();
}

/// `msync` of what took the place of a mapping says that all is well.
#[test]
fn a_flush_during_the_guarded_call_that_faulted_is_no_success() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = ones(&dir);
        let a = open_mut(&path);
        let _ = a.guarded(|view| {
            truncate(&path, 0);
            sum(view);
            truncate(&path, (PAGES * PAGE) as u64);
            assert_eq!(a.flush().unwrap_err().kind(), ErrorKind::Poisoned);
            a.evict().unwrap();
        });
    })
    .run()
    .succeeded();
}

#[test]
fn nested_calls_report_each_for_its_own_array() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = ones(&dir);
        let whole_path = dir.path().join("whole.bin");
        fs::copy(&path, &whole_path).unwrap();
        let (a, whole) = (open(&path), open(&whole_path));
        let err = a
            .guarded(|_| {
                whole
                    .guarded(|whole_view| {
                        let inner = a.guarded(|view| {
                            truncate(&path, 0);
                            sum(view)
                        });
                        assert_eq!(inner.unwrap_err().kind(), ErrorKind::Truncated);
                        let later = a.guarded(|_| unreachable!());
                        assert_eq!(later.unwrap_err().kind(), ErrorKind::Poisoned);
                        assert_eq!(sum(whole_view), (PAGES * PAGE) as u64);
                    })
                    .unwrap();
            })
            .unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Truncated);
        assert_eq!(whole.guarded(sum).unwrap(), (PAGES * PAGE) as u64);
    })
    .run()
    .succeeded();
}

#[test]
fn a_panic_in_a_guarded_call_goes_on_and_leaves_things_in_order() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = ones(&dir);
        let a = open(&path);
        let panicking = |f: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_err();
        let payload = panicking(&|| a.guarded(|_| panic!("mine")).unwrap());
        assert_eq!(payload.downcast_ref(), Some(&"mine"));
        assert_eq!(a.guarded(sum).unwrap(), (PAGES * PAGE) as u64);
        panicking(&|| {
            a.guarded(|view| {
                truncate(&path, 0);
                panic!("read {}", sum(view));
            })
            .unwrap();
        });
        assert_eq!(a.guarded(sum).unwrap_err().kind(), ErrorKind::Poisoned);

        // Not in a guarded call any more: dies, so that an `active` count left behind would show.
        fs::write(&path, vec![1u8; PAGES * PAGE]).unwrap();
        let b = open(&path);
        panicking(&|| b.guarded(|_| panic!("mine")).unwrap());
        truncate(&path, 0);
        sum(b.view());
    })
    .run()
    .killed_by(libc::SIGBUS);
}

#[test]
fn a_thousand_files_truncated_one_after_the_other_are_a_thousand_errors() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..1000 {
            let path = ones(&dir);
            let a = open(&path);
            assert_eq!(a.guarded(|view| view[0]).unwrap(), 1);
            let err = a.guarded(|view| {
                truncate(&path, PAGE as u64);
                view[PAGE]
            });
            assert_eq!(err.unwrap_err().kind(), ErrorKind::Truncated);
        }
    })
    .run()
    .succeeded();
}

/// No promise stands behind `scratch`, so not a byte of it may change but those that cannot be had.
#[cfg(target_os = "linux")]
#[test]
fn a_fault_in_a_scratch_array_changes_no_other_page() {
    in_child!(|| {
        let mut a = MmapArrayMut::<u8, Ix1>::scratch(4 * PAGE).unwrap();
        // The one way to reach the file, and outside of Rust's guarantees: it plays the failing disk.
        let fds = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
        let deleted =
            |path: &std::path::PathBuf| fs::read_link(path).is_ok_and(|to| to.to_string_lossy().ends_with("(deleted)"));
        let file =
            fds.filter(deleted).find(|path| fs::metadata(path).is_ok_and(|m| m.len() == 4 * PAGE as u64)).unwrap();
        a.fill(1);
        let err = a
            .guarded_mut(|mut view| {
                truncate(&file, PAGE as u64);
                assert_eq!((view[0], view[PAGE], view[2 * PAGE]), (1, 0, 0));
                view[PAGE] = 5;
                view[3 * PAGE] = 6;
                assert_eq!((view[0], view[PAGE], view[3 * PAGE]), (1, 5, 6));
            })
            .unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Truncated);
    })
    .run()
    .succeeded();
}

/// The mapping grows, and may move, after it was registered.
#[test]
fn an_array_that_has_grown_is_guarded_to_its_new_end() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = ones(&dir);
        let mut a = open_mut(&path);
        a.guarded(|view| view[0]).unwrap();
        a.append(&Array1::ones(20 * PAGES * PAGE)).unwrap();
        let err = a.guarded(|view| {
            truncate(&path, PAGE as u64);
            view[view.len() - 1]
        });
        assert_eq!(err.unwrap_err().kind(), ErrorKind::Truncated);
        assert_eq!(a.append(&Array1::ones(1)).unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(a.resize(1).unwrap_err().kind(), ErrorKind::Poisoned);
    })
    .run()
    .succeeded();
}

#[test]
fn where_there_is_no_file_a_guarded_call_is_a_call() {
    let dir = tempfile::tempdir().unwrap();
    let path = ones(&dir);
    let loaded = MmapArray::<u8, Ix1>::load(&path).unwrap();
    let nothing = MmapArray::<u8>::options().offset(8).shape(0);
    // SAFETY: there are no bytes that could change.
    let nothing = unsafe { nothing.lock(Lock::None).open(&path).unwrap() };
    truncate(&path, 0);
    assert_eq!(loaded.guarded(sum).unwrap(), (PAGES * PAGE) as u64);
    assert_eq!(nothing.guarded(sum).unwrap(), 0);
}

#[test]
fn everyday_events_are_no_error_in_a_million_guarded_calls() {
    const CALLS: usize = 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let path = ones(&dir);
    let mut a = open_mut(&path);
    a[0] = 2;
    let done = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            let other = dir.path().join("other.bin");
            let mut i = 0;
            while !done.load(Ordering::Relaxed) {
                file.write_all(b"more").unwrap();
                i += 1;
                if i % 64 == 0 {
                    file.set_permissions(fs::Permissions::from_mode(if i % 128 == 0 { 0o600 } else { 0o444 })).unwrap();
                    // Once, the name goes to a shorter file.
                    fs::write(&other, b"short").unwrap();
                    fs::rename(&other, &path).unwrap();
                }
            }
        });
        let called = (0..CALLS / 2).try_for_each(|i| {
            let index = i % a.len();
            let before = a.guarded(|view| view[index])?;
            a.guarded_mut(|mut view| view[index] = before.wrapping_add(1))
        });
        done.store(true, Ordering::Relaxed);
        called.unwrap();
    });
    a.flush().unwrap();
}
