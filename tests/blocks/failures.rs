//! Passes that fail: what they return, and that nothing returns success afterwards.
#![allow(clippy::undocumented_unsafe_blocks)] // Every file here is a test's own, in a temporary folder.

use std::fs::{self, File};
use std::sync::Mutex;

use crate::support::arrays::expect_err;
use crate::support::kernel::{Refusal, no, refusing};
use ndarray::{Axis, Ix1};
use ndarray_mmap::{ErrorKind, MmapArray, MmapArrayMut, Result, Staged};

const MIB: usize = 1 << 20;

/// What was stored does not reach the disk, which the system reports once to whoever waits for it.
fn no_write_back() -> [Refusal; 1] {
    [no(libc::SYS_msync, libc::EIO)]
}

#[test]
fn a_flush_reports_a_writeback_that_failed_before_it() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let create = |name| unsafe { MmapArrayMut::<u8, Ix1>::create(folder.path().join(name), MIB) };

    let mut a = create("for_each")?;
    let failing = || expect_err(a.blocks_mut().keep_cached(false).for_each(|mut b| b.fill(1)), ErrorKind::Io);
    refusing(&no_write_back(), failing);
    expect_err(a.flush(), ErrorKind::Poisoned);
    expect_err(a.blocks_mut().for_each(|mut b| b.fill(1)), ErrorKind::Poisoned);

    let source = MmapArrayMut::<u8>::scratch(MIB)?;
    let mut a = create("map_into")?;
    let failing = || expect_err(source.blocks().keep_cached(false).map_into(&mut a, |x| x + 1), ErrorKind::Io);
    let e = refusing(&no_write_back(), failing);
    assert!(e.path().is_some_and(|path| path.ends_with("map_into")));
    expect_err(a.flush(), ErrorKind::Poisoned);
    expect_err(source.blocks().map_into(&mut a, |x| x), ErrorKind::Poisoned);

    // An iterator returns no error, so the flush must.
    let mut a = create("iterated")?;
    refusing(&no_write_back(), || a.blocks_mut().keep_cached(false).into_iter().for_each(|mut b| b.fill(1)));
    expect_err(a.flush(), ErrorKind::Poisoned);
    Ok(())
}

#[test]
fn a_staged_file_that_may_have_holes_is_not_published() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result.bin");
    fs::write(&path, b"the last good one").unwrap();
    let mut a = Staged::<u8, Ix1>::stage(&path, MIB)?;
    refusing(&no_write_back(), || a.blocks_mut().keep_cached(false).into_iter().for_each(|mut b| b.fill(1)));
    expect_err(a.publish(), ErrorKind::Poisoned);
    assert_eq!(fs::read(&path).unwrap(), b"the last good one");
    Ok(())
}

#[test]
fn a_truncated_target_stays_as_it_is() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bin");
    let source = MmapArrayMut::<u8>::scratch(4 * MIB)?;
    let cut = |len| File::options().write(true).open(&path).unwrap().set_len(len).unwrap();

    for there in [false, true] {
        let mut a = unsafe { MmapArrayMut::<u8, Ix1>::create(&path, 4 * MIB)? };
        if there {
            a.fill(1);
        }
        cut(100);
        expect_err(source.blocks().map_into(&mut a, |x| x + 1), ErrorKind::Truncated);
        assert_eq!(fs::metadata(&path).unwrap().len(), 100);
        expect_err(source.blocks().map_into(&mut a, |x| x + 1), ErrorKind::Poisoned);

        let mut a = unsafe { MmapArrayMut::<u8, Ix1>::create(&path, 4 * MIB)? };
        if there {
            a.fill(1);
        }
        cut(100);
        expect_err(a.assign_tiled(&source.view().into_dimensionality().unwrap()), ErrorKind::Truncated);
        assert_eq!(fs::metadata(&path).unwrap().len(), 100);

        let mut a = unsafe { MmapArrayMut::<u8, Ix1>::create(&path, 4 * MIB)? };
        cut(100);
        expect_err(a.blocks_mut().for_each(|mut block| block.fill(1)), ErrorKind::Truncated);
    }
    Ok(())
}

#[test]
fn nothing_is_gathered_from_a_poisoned_array() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bin");
    fs::write(&path, vec![1; MIB]).unwrap();
    let a = unsafe { MmapArray::<u8, Ix1>::open(&path)? };
    File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
    expect_err(a.guarded(|view| view.sum()), ErrorKind::Truncated);
    expect_err(a.gather(Axis(0), &[1]), ErrorKind::Poisoned);
    Ok(())
}

#[test]
fn a_zipped_pass_ends_with_its_last_block() -> Result<()> {
    let (a, reported) = (MmapArrayMut::<u8>::scratch(1000)?, Mutex::new(Vec::new()));
    let counted = a.blocks().bytes(100).progress(|done, _| reported.lock().unwrap().push(done));
    // The shorter side ends it: nobody asks the other whether it has more.
    assert_eq!((0..10).zip(counted).count(), 10);
    assert_eq!(reported.into_inner().unwrap().last(), Some(&1000));
    Ok(())
}

#[cfg(feature = "rayon")]
mod in_parallel {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use ndarray_mmap::{MmapArrayMut, Result};

    #[test]
    fn progress_may_use_the_threads_of_the_pass() -> Result<()> {
        use rayon::prelude::*;
        let a = MmapArrayMut::<u8>::scratch(100_000)?;
        let last = AtomicUsize::new(0);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let pass = || {
            let blocks = a.blocks().bytes(100).progress(|done, total| {
                // A thread that waits here may get blocks of this very pass.
                let found = (0..64_u64).into_par_iter().map(|n| n + done).sum::<u64>();
                assert_eq!(found, 64 * done + 63 * 32);
                assert!(last.swap(done as usize, Ordering::Relaxed) < done as usize && done <= total);
            });
            blocks.into_par_iter().map(|block| block.len()).sum::<usize>()
        };
        assert_eq!(pool.install(pass), 100_000);
        assert_eq!(last.into_inner(), 100_000);
        Ok(())
    }

    #[test]
    fn a_panic_stops_the_other_threads_too() -> Result<()> {
        use std::panic::{AssertUnwindSafe, catch_unwind};
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let mut a = MmapArrayMut::<u8>::scratch(1000)?;
        let (calls, started, panicked) = (AtomicUsize::new(0), std::sync::Barrier::new(2), AtomicBool::new(false));
        let pass = || {
            a.blocks_mut().bytes(1).parallel(true).for_each(|_| {
                // Both threads have begun; one of them ends at once, and the other goes on once it has.
                if calls.fetch_add(1, Ordering::Relaxed) < 2 && started.wait().is_leader() {
                    let _unwinding = SetOnDrop(&panicked);
                    panic!("enough");
                }
                while !panicked.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                std::thread::yield_now();
            })
        };
        let panic = catch_unwind(AssertUnwindSafe(|| pool.install(pass))).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"enough"));
        assert!(calls.into_inner() < 500, "the other thread has walked all of its half");
        Ok(())
    }

    struct SetOnDrop<'f>(&'f AtomicBool);

    impl Drop for SetOnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}
