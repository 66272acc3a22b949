//! Ten thousand arrays at once, a hundred thousand one after the other, eight threads in one: nothing leaks, nothing is
//! in the way, and where the system's limit is, a message says so.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::process::in_child;
use ndarray::prelude::*;
use ndarray_mmap::{ErrorKind, Lock, MmapArray, MmapArrayMut};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const LEN: usize = 3 * 4096;

fn file(dir: &tempfile::TempDir) -> std::path::PathBuf {
    let path = dir.path().join("a.bin");
    fs::write(&path, vec![1u8; LEN]).unwrap();
    path
}

fn open(path: &Path) -> ndarray_mmap::Result<MmapArray<u8, Ix1>> {
    // SAFETY: only this test knows the file, and it changes nothing in it.
    unsafe { MmapArray::open(path) }
}

fn limit_descriptors(most: u64) {
    let hard = getrlimit(Resource::Nofile).maximum;
    assert!(hard.is_none_or(|hard| hard >= most), "this test needs a hard limit (ulimit -Hn) of {most} descriptors");
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: hard }).unwrap();
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// How many mappings this process has of a file.
fn mappings(path: &Path) -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.ends_with(path.to_str().unwrap())).count()
}

#[test]
fn ten_thousand_arrays_are_open_at_once() {
    const COUNT: usize = 10_000;
    in_child!(|| {
        limit_descriptors(COUNT as u64 + 100);
        let dir = tempfile::tempdir().unwrap();
        let path = file(&dir);
        let before = descriptors();
        let arrays: Vec<_> = (0..COUNT).map(|_| open(&path).unwrap()).collect();
        assert_eq!(descriptors() - before, COUNT, "one descriptor for each array");
        let sums = arrays.iter().map(|a| a.guarded(|view| view[0]).unwrap() as usize + a[LEN - 1] as usize);
        assert_eq!(sums.sum::<usize>(), 2 * COUNT);
        drop(arrays);
        assert_eq!((descriptors(), mappings(&path)), (before, 0));
    })
    .run()
    .succeeded();
}

#[test]
fn one_array_too_many_is_an_error_that_names_the_limit_and_harms_no_other() {
    in_child!(|| {
        limit_descriptors(100);
        let dir = tempfile::tempdir().unwrap();
        let path = file(&dir);
        let mut arrays = Vec::new();
        let err = loop {
            match open(&path) {
                Ok(a) => arrays.push(a),
                Err(e) => break e,
            }
        };
        assert!((80..100).contains(&arrays.len()), "{}", arrays.len());
        assert_eq!(err.kind(), ErrorKind::Io);
        assert!(err.to_string().contains("RLIMIT_NOFILE"), "{err}");
        // Creating meets the same limit, and leaves nothing behind.
        let fresh = dir.path().join("fresh.bin");
        // SAFETY: only this test knows the file.
        let err = unsafe { MmapArrayMut::<u8>::create(&fresh, 10).unwrap_err() };
        assert!(err.to_string().contains("RLIMIT_NOFILE"), "{err}");
        assert!(arrays.iter().all(|a| a.iter().all(|&x| x == 1)));
        arrays.truncate(arrays.len() - 5);
        open(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    })
    .run()
    .succeeded();
}

#[test]
fn a_hundred_thousand_openings_leak_no_descriptor_and_no_mapping() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = file(&dir);
        let wrong = MmapArray::<u8>::options().shape(LEN + 1);
        open(&path).unwrap();
        let before = (descriptors(), mappings(&path));
        for i in 0..100_000 {
            let a = open(&path).unwrap();
            match i % 4 {
                0 => assert_eq!(a.guarded(|view| view[5]).unwrap(), 1),
                1 => a.close().unwrap(),
                2 => assert_eq!(a.into_dimensionality::<IxDyn>().unwrap().len(), LEN),
                // SAFETY: as in `open`.
                _ => assert!(unsafe { wrong.clone().open(&path) }.is_err()),
            }
        }
        assert_eq!((descriptors(), mappings(&path)), before);
    })
    .run()
    .succeeded();
}

#[test]
fn eight_threads_read_while_one_flushes() {
    const ROUNDS: usize = 200;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.bin");
    // SAFETY: only this test knows the file.
    let mut a = unsafe { MmapArrayMut::<u64>::create(&path, (64, 512)).unwrap() };
    for round in 0..4u64 {
        a.fill(round);
        let (a, flushing) = (&a, AtomicBool::new(true));
        let flushing = &flushing;
        thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(move || {
                    let mut sums = 0;
                    while flushing.load(Ordering::Relaxed) || sums < 10 {
                        assert_eq!(a.sum(), round * a.len() as u64);
                        assert_eq!(a.guarded(|view| view.sum()).unwrap(), round * a.len() as u64);
                        sums += 1;
                    }
                });
            }
            let flushed = (0..ROUNDS).try_for_each(|i| match i % 3 {
                0 => a.flush(),
                1 => a.flush_async(),
                _ => a.flush_rows(i % 64..64),
            });
            flushing.store(false, Ordering::Relaxed);
            flushed.unwrap();
        });
    }
    drop(a);
    // SAFETY: nobody writes it any more.
    let a = unsafe { MmapArray::<u64>::options().lock(Lock::Required).open(&path).unwrap() };
    assert!(a.iter().all(|&x| x == 3));
}
