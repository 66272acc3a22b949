//! The cost of opening a file, reading one element and closing it, with a lock and without.

#![allow(clippy::undocumented_unsafe_blocks)] // Every file here is the bench's own, in a temporary folder.

mod side_by_side;

use std::fs::File;
use std::path::{Path, PathBuf};

use criterion::{Criterion, criterion_group, criterion_main};
use memmap2::MmapOptions;
use ndarray::{ArrayView, Ix1};
use ndarray_mmap::{Lock, MmapArray};
use side_by_side::{Contestant, NumPy, compare};

const MIB: usize = 1 << 20;

fn ours(path: &Path, lock: Lock) -> f64 {
    let a = unsafe { MmapArray::<f64, Ix1>::options().lock(lock).open(path).unwrap() };
    a[0]
}

/// Handwritten code, which checks only the length.
fn by_hand(path: &Path) -> f64 {
    let file = File::open(path).unwrap();
    let map = unsafe { MmapOptions::new().map(&file).unwrap() };
    let view = unsafe { ArrayView::<f64, Ix1>::from_shape_ptr(map.len() / 8, map.as_ptr().cast()) };
    view[0]
}

fn read_to_vec(path: &Path) -> Vec<f64> {
    let bytes = std::fs::read(path).unwrap();
    bytes.chunks_exact(8).map(|b| f64::from_ne_bytes(b.try_into().unwrap())).collect()
}

/// Makes a file of which only the first MiB is on the disk. The rest is a hole, which makes no difference to opening it and
/// reading one element.
fn file(folder: &Path, bytes: usize) -> PathBuf {
    let path = folder.join(format!("{bytes}.bin"));
    let values: Vec<u8> = (0..MIB / 8).flat_map(|i| (i as f64).to_ne_bytes()).collect();
    std::fs::write(&path, values).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(bytes as u64).unwrap();
    path
}

fn open_and_first_element(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let mut numpy = NumPy::start();
    for (name, bytes) in [("1 MiB", MIB), ("4 GiB", 4096 * MIB)] {
        let path = file(folder.path(), bytes);
        let mut group = c.benchmark_group(format!("open {name}"));
        group.bench_function("memmap2 by hand", |b| b.iter(|| by_hand(&path)));
        group.bench_function("MmapArray, Lock::None", |b| b.iter(|| ours(&path, Lock::None)));
        group.bench_function("MmapArray", |b| b.iter(|| ours(&path, Lock::BestEffort)));
        group.finish();

        let mut contestants = vec![
            Contestant::new("memmap2 + from_shape_ptr, by hand", || by_hand(&path)),
            Contestant::new("MmapArray, Lock::None", || ours(&path, Lock::None)),
            Contestant::new("MmapArray, default lock", || ours(&path, Lock::BestEffort)),
        ];
        if bytes == MIB {
            contestants.push(Contestant::new("std::fs::read + cast", || read_to_vec(&path)[0]));
        }
        if let Some(numpy) = &mut numpy {
            let work = "np.memmap(path, dtype='f8', mode='r')[0]";
            contestants.push(numpy.contestant("numpy.memmap", path.clone(), work));
        }
        compare(&format!("open + first element + drop, {name}"), 41, 400, contestants);
    }
}

criterion_group!(benches, open_and_first_element);
criterion_main!(benches);
