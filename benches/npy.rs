//! The cost of opening a `.npy` file of 1 MiB, reading its first element and closing it, compared with other libraries.

#![allow(clippy::undocumented_unsafe_blocks)] // Every file here is the bench's own, in a temporary folder.

mod side_by_side;

use std::fs::File;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use memmap2::MmapOptions;
use ndarray::{ArrayView, ArrayView1, Ix1};
use ndarray_mmap::{Lock, MmapArray, MmapArrayMut};
use ndarray_npy::ViewNpyExt;
use side_by_side::{Contestant, NumPy, compare};

const ELEMENTS: usize = (1 << 20) / size_of::<f64>();

fn ours(path: &Path, lock: Lock) -> f64 {
    let a = unsafe { MmapArray::<f64, Ix1>::options().lock(lock).open_npy(path).unwrap() };
    a[0]
}

/// Code that knows the header's contents beforehand.
fn by_hand(path: &Path) -> f64 {
    let file = File::open(path).unwrap();
    let map = unsafe { MmapOptions::new().offset(128).map(&file).unwrap() };
    let view = unsafe { ArrayView::<f64, Ix1>::from_shape_ptr(map.len() / size_of::<f64>(), map.as_ptr().cast()) };
    view[0]
}

fn view_npy(path: &Path) -> f64 {
    let file = File::open(path).unwrap();
    let map = unsafe { MmapOptions::new().map(&file).unwrap() };
    let view = ArrayView1::<f64>::view_npy(&map).unwrap();
    view[0]
}

fn open_and_first_element(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.npy");
    let mut new = unsafe { MmapArrayMut::<f64>::create_npy(&path, ELEMENTS).unwrap() };
    new.iter_mut().enumerate().for_each(|(i, x)| *x = i as f64);
    new.flush().unwrap();
    new.close().unwrap();

    c.bench_function("open_npy 1 MiB", |b| b.iter(|| ours(&path, Lock::BestEffort)));

    let mut numpy = NumPy::start();
    let mut contestants = vec![
        Contestant::new("memmap2 by hand, offset known", || by_hand(&path)),
        Contestant::new("open_npy, Lock::None", || ours(&path, Lock::None)),
        Contestant::new("open_npy, default lock", || ours(&path, Lock::BestEffort)),
        Contestant::new("memmap2 + ndarray-npy view_npy", || view_npy(&path)),
    ];
    if let Some(numpy) = &mut numpy {
        let work = "np.lib.format.open_memmap(path, mode='r')[0]";
        contestants.push(numpy.contestant("numpy open_memmap", path.clone(), work));
    }
    compare("open + first element + drop, .npy of 1 MiB", 41, 400, contestants);
}

criterion_group!(benches, open_and_first_element);
criterion_main!(benches);
