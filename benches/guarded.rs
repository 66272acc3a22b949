//! The cost of a guarded call when nothing goes wrong: of each call, and of the first one of an array.

#![allow(clippy::undocumented_unsafe_blocks)] // Every file here is the bench's own, in a temporary folder.

use std::fs;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ndarray::Ix1;
use ndarray_mmap::{Lock, MmapArray};

fn guarded(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bin");
    fs::write(&path, vec![1u8; 1 << 20]).unwrap();
    let open = || unsafe { MmapArray::<u8, Ix1>::options().lock(Lock::None).open(&path).unwrap() };

    let mut group = c.benchmark_group("one element of a mapped array");
    let a = open();
    group.bench_function("unguarded", |b| b.iter(|| black_box(a.view())[black_box(5)]));
    group.bench_function("guarded", |b| b.iter(|| a.guarded(|view| black_box(view)[black_box(5)]).unwrap()));
    // Only a fault goes through the registered arrays, so many others must make no difference.
    let others: Vec<_> = (0..1000).map(|_| open()).collect();
    others.iter().for_each(|other| assert_eq!(other.guarded(|view| view[0]).unwrap(), 1));
    group.bench_function("guarded, beside 1000 others", |b| {
        b.iter(|| a.guarded(|view| black_box(view)[black_box(5)]).unwrap())
    });
    drop(others);
    group.finish();

    let mut group = c.benchmark_group("the first access of an array");
    group.bench_function("unguarded", |b| b.iter_batched(open, |a| (a[5], a), BatchSize::LargeInput));
    group.bench_function("guarded", |b| {
        b.iter_batched(open, |a| (a.guarded(|view| view[5]).unwrap(), a), BatchSize::LargeInput)
    });
    group.finish();
}

criterion_group!(benches, guarded);
criterion_main!(benches);
