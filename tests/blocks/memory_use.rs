//! What a pass leaves in memory, in this process and in the page cache, and what it does not touch.
//!
//! One test at a time: what is measured is the whole process's.
#![allow(clippy::undocumented_unsafe_blocks)] // Every file here is a test's own, in a temporary folder.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::support::process::{self, in_child};
use ndarray::Ix1;
use ndarray_mmap::{Advice, MmapArray, MmapArrayMut};
use tempfile::TempDir;

const MIB: usize = 1 << 20;

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Beside the build, for the system's folder for temporary files may lie in memory.
fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn file_of(folder: &Path, mib: usize) -> PathBuf {
    let path = folder.join("a.bin");
    fs::write(&path, vec![1u8; mib * MIB]).unwrap();
    path
}

/// As eight bytes of a file are read.
const ONES: u128 = 0x0101_0101_0101_0101;

/// What the eights of bytes in a file of ones add up to.
fn sum_of(mib: usize) -> u128 {
    (mib * MIB / 8) as u128 * ONES
}

fn open(path: &Path) -> MmapArray<u64, Ix1> {
    unsafe { MmapArray::open(path).unwrap() }
}

/// Drops a file from the page cache.
fn chill(path: &Path) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    assert_eq!(open(path).residency().unwrap(), 0.0, "this file system keeps its files in memory");
}

/// In MiB.
fn status(key: &str) -> usize {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap();
    line.trim_end_matches("kB").trim().parse::<usize>().unwrap() / 1024
}

/// The most memory that `work` held on top of what was held before, in MiB.
fn peak_growth(work: impl FnOnce()) -> usize {
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS:");
    work();
    status("VmHWM:") - before
}

#[test]
fn a_pass_that_evicts_holds_little_memory_and_one_that_does_not_holds_all() {
    let _alone = alone();
    in_child!(|| {
        let folder = folder();
        let path = file_of(folder.path(), 256);
        for cold in [true, false] {
            let ready = || if cold { chill(&path) } else { drop(fs::read(&path).unwrap()) };
            let a = open(&path);
            ready();
            assert!(peak_growth(|| assert_eq!(a.blocks().evict(true).sum(), sum_of(256))) < 48);
            ready();
            let rows = peak_growth(|| {
                a.blocks()
                    .evict(true)
                    .rows(1000)
                    .into_iter()
                    .for_each(|block| assert_eq!(u128::from(block[999 % block.len()]), ONES))
            });
            assert!(rows < 48);
            #[cfg(feature = "rayon")]
            {
                use rayon::prelude::*;
                let two = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
                ready();
                assert!(
                    peak_growth(|| two.install(|| assert_eq!(a.blocks().evict(true).parallel(true).sum(), sum_of(256))))
                        < 96
                );
                ready();
                let each =
                    || a.blocks().evict(true).into_par_iter().for_each(|block| assert_eq!(u128::from(block[0]), ONES));
                assert!(peak_growth(|| two.install(each)) < 96);
            }
            let rows = unsafe { MmapArray::<u64>::options().row_shape(64 * 1024).open(&path).unwrap() };
            for axis in [0, 1].map(ndarray::Axis) {
                ready();
                assert!(peak_growth(|| assert_eq!(rows.blocks().evict(true).sum_axis(axis).sum(), sum_of(256))) < 48);
            }
            for keeps in [a.blocks(), a.blocks().evict(false)] {
                a.evict().unwrap();
                assert!(peak_growth(|| assert_eq!(keeps.sum(), sum_of(256))) > 200);
            }
        }
    })
    .run()
    .succeeded();
}

#[test]
fn writing_passes_hold_little_memory_too() {
    let _alone = alone();
    in_child!(|| {
        let folder = folder();
        let path = file_of(folder.path(), 256);
        let a = open(&path);
        let mut out = unsafe { MmapArrayMut::<u64>::create(folder.path().join("out.bin"), 256 * MIB / 8).unwrap() };
        assert!(peak_growth(|| out.blocks_mut().evict(true).for_each(|mut block| block.fill(3)).unwrap()) < 48);
        assert!(peak_growth(|| a.blocks().evict(true).map_into(&mut out, |x| x + 1).unwrap()) < 48);
        assert!(peak_growth(|| a.blocks().keep_cached(false).map_into(&mut out, |x| x * 2).unwrap()) < 48);
        assert_eq!(out.blocks().sum(), 2 * sum_of(256));
    })
    .run()
    .succeeded();
}

#[test]
fn a_source_in_the_other_order_is_evicted_too() {
    use ndarray::ShapeBuilder;
    let _alone = alone();
    in_child!(|| {
        let folder = folder();
        let path = file_of(folder.path(), 128);
        let a = unsafe { MmapArray::<u64>::options().shape((4 * 1024, 4 * 1024)).open(&path).unwrap() };
        let mut out =
            unsafe { MmapArrayMut::<u64>::create(folder.path().join("o"), (4 * 1024, 4 * 1024).f()).unwrap() };
        assert!(peak_growth(|| a.blocks().evict(true).map_into(&mut out, |x| x * 2).unwrap()) < 64);
        assert_eq!(out.blocks().sum(), 2 * sum_of(128));
    })
    .run()
    .succeeded();
}

#[test]
fn an_abandoned_pass_leaves_neither_memory_nor_threads() {
    let _alone = alone();
    in_child!(|| {
        let folder = folder();
        let path = file_of(folder.path(), 128);
        let a = open(&path);
        chill(&path);
        let threads = || fs::read_dir("/proc/self/task").unwrap().count();
        let abandon = || {
            let threads_before = threads();
            let mut blocks = a.blocks().keep_cached(false).into_iter();
            let _ = (blocks.next(), blocks.next());
            assert!(threads() > threads_before);
            drop(blocks);
            // The system counts a thread for a moment after it was joined. One that stays hangs the test.
            process::end_after(60);
            while threads() > threads_before {
                std::thread::yield_now();
            }
        };
        // The first time, pages of the program itself come into memory.
        abandon();
        chill(&path);
        let before = status("RssFile:");
        abandon();
        assert!(status("RssFile:") <= before + 1);
    })
    .run()
    .succeeded();
}

#[test]
fn an_array_that_fits_stays_cached_and_one_that_is_not_to_does_not() {
    let _alone = alone();
    in_child!(|| {
        let folder = folder();
        // With a skew, so that no unit of the cache is the array's alone.
        let path = file_of(folder.path(), 65);
        let a = unsafe { MmapArray::<u64>::options().offset(128).shape(64 * MIB / 8).open(&path).unwrap() };
        chill(&path);
        assert_eq!(a.blocks().sum(), sum_of(64));
        assert!(a.residency().unwrap() > 0.95);
        a.evict().unwrap();
        chill(&path);
        assert_eq!(a.blocks().keep_cached(false).sum(), sum_of(64));
        assert!(a.residency().unwrap() < 0.05);
        chill(&path);
        assert_eq!(a.blocks().keep_cached(false).bytes(1000).into_iter().map(|b| b.len()).sum::<usize>(), 64 * MIB / 8);
        assert!(a.residency().unwrap() < 0.05);
    })
    .run()
    .succeeded();
}

#[test]
fn what_was_cached_before_a_pass_is_cached_after_it() {
    let _alone = alone();
    in_child!(|| {
        let folder = folder();
        let path = file_of(folder.path(), 64);
        chill(&path);
        // Sixteen MiB in the middle, and nothing around them.
        let mut file = File::open(&path).unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
        file.seek(SeekFrom::Start(20 * MIB as u64)).unwrap();
        file.take(16 * MIB as u64).read_to_end(&mut Vec::new()).unwrap();
        let a = open(&path);
        let before = a.residency().unwrap();
        assert!((0.2..0.4).contains(&before), "{before}");
        assert_eq!(a.blocks().keep_cached(false).sum(), sum_of(64));
        let after = a.residency().unwrap();
        // Neither all of it, nor none: a system may itself free pages that nobody maps, at any time, if only a few.
        assert!((before - after).abs() < 0.05, "{before} before, {after} after");
    })
    .run()
    .succeeded();
}

#[test]
fn what_a_writing_pass_does_not_keep_is_on_the_disk_and_out_of_the_cache() {
    let _alone = alone();
    in_child!(|| {
        let folder = folder();
        let path = folder.path().join("out.bin");
        let mut out = unsafe { MmapArrayMut::<u64>::create(&path, 64 * MIB / 8).unwrap() };
        out.blocks_mut().keep_cached(false).for_each(|mut block| block.fill(7)).unwrap();
        assert!(out.residency().unwrap() < 0.05);
        let source = MmapArrayMut::<u64>::scratch(64 * MIB / 8).unwrap();
        source.blocks().keep_cached(false).map_into(&mut out, |x| x + 5).unwrap();
        assert!(out.residency().unwrap() < 0.05);
        assert_eq!(out.blocks().sum(), 5 * (64 * MIB / 8) as u128);
    })
    .run()
    .succeeded();
}

/// The flags of the mapping that an address lies in, as the kernel prints them.
fn flags_at(address: usize) -> String {
    let text = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in text.lines() {
        let bounds = line.split(' ').next().and_then(|range| range.split_once('-'));
        if let Some((start, end)) = bounds
            && let (Ok(start), Ok(end)) = (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16))
        {
            inside = (start..end).contains(&address);
        } else if inside && let Some(flags) = line.strip_prefix("VmFlags:") {
            return flags.trim().to_owned();
        }
    }
    panic!("no mapping at {address:x}");
}

#[test]
fn a_pass_leaves_the_callers_advice_alone() {
    let _alone = alone();
    in_child!(|| {
        let folder = folder();
        let path = file_of(folder.path(), 64);
        let a = open(&path);
        for advice in [Advice::Normal, Advice::Random, Advice::Sequential] {
            a.advise(advice).unwrap();
            let flags = || flags_at(a.as_ptr().addr());
            let before = flags();
            for _ in a.blocks().bytes(8 * MIB) {
                assert_eq!(flags(), before);
            }
            assert_eq!(flags(), before);
        }
    })
    .run()
    .succeeded();
}

#[test]
fn memory_that_is_locked_stays_and_is_no_error() {
    let _alone = alone();
    in_child!(|| {
        let lock = |a: &MmapArrayMut<u8, Ix1>| {
            // SAFETY: it is mapped, and no byte of it changes.
            assert_eq!(unsafe { libc::mlock(a.as_ptr().cast(), a.len()) }, 0, "{}", std::io::Error::last_os_error());
        };
        let mut a = MmapArrayMut::<u8>::scratch(MIB).unwrap();
        let mut out = MmapArrayMut::<u8>::scratch(MIB).unwrap();
        lock(&a);
        lock(&out);
        a.blocks_mut().evict(true).for_each(|mut block| block.fill(1)).unwrap();
        a.blocks().evict(true).map_into(&mut out, |x| x + 1).unwrap();
        out.blocks_mut().keep_cached(false).for_each(|mut block| block[0] = 3).unwrap();
        out.flush().unwrap();
        assert!(a.iter().all(|&x| x == 1) && out[0] == 3 && out[MIB - 1] == 2);
    })
    .run()
    .succeeded();
}
