//! Gathering: what ndarray selects, from every mode, whether the file is in memory or not.

use std::fmt::Debug;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::support::arrays::expect_err;
use bytemuck::{AnyBitPattern, Pod, Zeroable};
use ndarray::prelude::*;
use ndarray_mmap::{
    ErrorKind, MmapArray, MmapArrayBase, MmapArrayCow, MmapArrayMut, Staged,
    mode::{OpenExisting, Supports},
};
use proptest::prelude::*;
use tempfile::TempDir;

const OFFSET: usize = 40;

/// A file of 2,000 rows of 300 elements behind a header, and what is in it.
fn file() -> (TempDir, PathBuf, Array2<u32>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.bin");
    let values = Array2::from_shape_fn((2000, 300), |(i, j)| (i * 300 + j) as u32);
    let mut bytes = vec![0; OFFSET];
    bytes.extend(values.iter().flat_map(|x| x.to_ne_bytes()));
    std::fs::write(&path, bytes).unwrap();
    (folder, path, values)
}

fn opened<A: AnyBitPattern, M: Supports<A> + OpenExisting>(path: &Path, columns: usize) -> MmapArrayBase<A, Ix2, M> {
    let options = MmapArrayBase::<A, IxDyn, M>::options().offset(OFFSET as u64).shape((2000, columns));
    // SAFETY: nobody else knows the files of these tests; where one is cut, nothing past its new end is read.
    unsafe { options.open(path).unwrap() }
}

/// Drops a file from the page cache, as far as the file system can.
#[cfg(unix)]
fn chill(path: &Path) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    #[cfg(target_os = "linux")]
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

#[cfg(not(unix))]
fn chill(_: &Path) {}

#[track_caller]
fn assert_gathers<M>(a: &MmapArrayBase<u32, Ix2, M>, values: &Array2<u32>, path: &Path) {
    let rows = [1999, 0, 7, 1000, 7, 3, 1500];
    let columns = [299, 0, 0, 150];
    for _cold_then_warm in 0..2 {
        assert_eq!(a.gather(Axis(0), &rows).unwrap(), values.select(Axis(0), &rows));
        assert_eq!(a.gather(Axis(1), &columns).unwrap(), values.select(Axis(1), &columns));
        assert_eq!(a.gather(Axis(1), &[42]).unwrap().index_axis(Axis(1), 0), values.column(42));
    }
    a.evict().unwrap();
    chill(path);
    let all: Vec<_> = (0..2000).rev().collect();
    assert_eq!(a.gather(Axis(0), &all).unwrap(), values.slice(s![..;-1, ..]));
}

#[test]
fn every_mode_gathers_what_ndarray_selects() {
    let (folder, path, values) = file();
    chill(&path);
    assert_gathers(&opened::<u32, _>(&path, 300) as &MmapArray<u32, Ix2>, &values, &path);
    chill(&path);
    assert_gathers(&opened::<u32, _>(&path, 300) as &MmapArrayMut<u32, Ix2>, &values, &path);
    chill(&path);
    assert_gathers(&opened::<u32, _>(&path, 300) as &MmapArrayCow<u32, Ix2>, &values, &path);
    let loaded = MmapArray::<u32>::options().offset(OFFSET as u64).shape((2000, 300)).load(&path).unwrap();
    assert_gathers(&loaded, &values, &path);
    let mut staged = Staged::<u32>::stage(folder.path().join("staged.bin"), (2000, 300)).unwrap();
    staged.assign(&values);
    assert_gathers(&staged, &values, &path);
}

#[test]
fn what_was_stored_a_moment_ago_is_gathered() {
    let (_folder, path, mut values) = file();
    let (_other_folder, other_path, _) = file();
    chill(&path);
    chill(&other_path);
    let mut shared: MmapArrayMut<u32, Ix2> = opened(&path, 300);
    let mut private: MmapArrayCow<u32, Ix2> = opened(&other_path, 300);
    for a in [[5, 6], [700, 7], [1999, 299]] {
        (values[a], shared[a], private[a]) = (77, 77, 77);
    }
    private[[3, 3]] = 33;
    let rows: Vec<_> = (0..2000).step_by(5).chain([1999, 700]).collect();
    assert_eq!(shared.gather(Axis(0), &rows).unwrap(), values.select(Axis(0), &rows));
    values[[3, 3]] = 33;
    let rows: Vec<_> = (0..2000).step_by(3).chain([5, 700]).collect();
    assert_eq!(private.gather(Axis(0), &rows).unwrap(), values.select(Axis(0), &rows));
}

/// What is in memory of the file when it is gathered from.
#[derive(Clone, Copy, Debug)]
enum Cached {
    All,
    None,
    EveryOtherPart,
}

/// Gathers elements of one type, of every axis and in every way, from a file of `shape`.
fn assert_all_gathered<A>(path: &Path, shape: &[usize], fortran: bool, cached: Cached, picked: &[usize])
where
    A: Pod + PartialEq + Debug + Send + Sync,
{
    let shaped = || IxDyn(shape).set_f(fortran);
    // SAFETY: nobody else knows the file.
    let mapped: MmapArray<A> = unsafe { MmapArray::<A>::options().shape(shaped()).open(path).unwrap() };
    // SAFETY: as above.
    let private: MmapArrayCow<A> = unsafe { MmapArrayCow::<A>::options().shape(shaped()).open(path).unwrap() };
    let loaded = MmapArray::<A>::options().shape(shaped()).load(path).unwrap();
    for (axis, len) in shape.iter().enumerate() {
        let indices: Vec<_> = picked.iter().map(|index| index % len).collect();
        let expected = loaded.select(Axis(axis), &indices);
        mapped.evict().unwrap();
        chill(path);
        match cached {
            Cached::All => drop(std::fs::read(path).unwrap()),
            Cached::None => {}
            Cached::EveryOtherPart => touch(&mapped),
        }
        assert_eq!(mapped.gather(Axis(axis), &indices).unwrap(), expected);
        assert_eq!(private.gather(Axis(axis), &indices).unwrap(), expected);
        assert_eq!(loaded.gather(Axis(axis), &indices).unwrap(), expected);
    }
}

fn touch<A: AnyBitPattern>(a: &MmapArray<A>) {
    let elements = a.as_slice_memory_order().unwrap();
    let part = (64 * 1024 / size_of::<A>()).max(1);
    std::hint::black_box(elements.iter().step_by(2 * part).copied().collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn elements_of_every_size_are_gathered_from_every_axis_and_order(
        inner in prop_oneof![Just(1_usize), 2..=4_usize, Just(8), Just(16), 5..=40_usize, Just(300)],
        middle in 1..=20_usize,
        fortran in any::<bool>(),
        cached in prop_oneof![Just(Cached::All), Just(Cached::None), Just(Cached::EveryOtherPart)],
        picked in prop_oneof![
            prop::collection::vec(any::<usize>(), 1..20),
            prop::collection::vec(any::<usize>(), 200..3000),
            (0..3000_usize).prop_map(|n| (0..n).collect()),
            (1..3000_usize).prop_map(|n| (0..n).rev().collect()),
            (1..3000_usize).prop_map(|n| vec![29; n]),
        ],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        let outer = 30;
        let mut shape = [outer, middle, inner];
        if fortran {
            shape.reverse();
        }
        let bytes: Vec<u8> = (0..outer * middle * inner * 16).map(|n| (n * 7 + n / 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        for shape in [&shape[..], &[shape.iter().product()]] {
            assert_all_gathered::<u8>(&path, shape, fortran, cached, &picked);
            assert_all_gathered::<u16>(&path, shape, fortran, cached, &picked);
            assert_all_gathered::<[u8; 3]>(&path, shape, fortran, cached, &picked);
            assert_all_gathered::<u32>(&path, shape, fortran, cached, &picked);
            assert_all_gathered::<u64>(&path, shape, fortran, cached, &picked);
            assert_all_gathered::<[u32; 3]>(&path, shape, fortran, cached, &picked);
            assert_all_gathered::<u128>(&path, shape, fortran, cached, &picked);
        }
    }
}

/// Only the first pages are in memory, so the first runs are copied; the sample may not show it.
#[test]
fn rows_that_are_in_memory_and_then_others_are_gathered() {
    let (_folder, path, values) = file();
    let rows: Vec<_> = (0..2000).collect();
    for cached in [0, 1, 500, 1999] {
        let a: MmapArray<u32, Ix2> = opened(&path, 300);
        for _often_present in 0..6 {
            a.gather(Axis(0), &rows).unwrap();
        }
        chill(&path);
        std::hint::black_box(a.slice(s![..cached, ..]).to_owned());
        assert_eq!(a.gather(Axis(0), &rows).unwrap(), values);
        assert_eq!(a.gather(Axis(1), &[7, 299]).unwrap(), values.select(Axis(1), &[7, 299]));
    }
}

#[test]
fn records_with_padding_are_gathered_too() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    #[repr(C)]
    struct Padded(u8, u32);
    // SAFETY: zero is a value of both fields.
    unsafe impl Zeroable for Padded {}
    // SAFETY: so is every bit pattern.
    unsafe impl AnyBitPattern for Padded {}

    let (_folder, path, _) = file();
    chill(&path);
    let a: MmapArray<Padded, Ix2> = opened(&path, 150);
    let column = a.gather(Axis(1), &[149]).unwrap();
    assert_eq!(column[[1999, 0]], Padded(599_998_u32.to_ne_bytes()[0], 599_999));
    assert_eq!(column, a.select(Axis(1), &[149]));
}

#[test]
fn an_index_or_axis_out_of_range_is_named() {
    let a = MmapArrayMut::<u8>::scratch((4, 3)).unwrap();
    let message =
        |axis, indices: &[usize]| expect_err(a.gather(Axis(axis), indices), ErrorKind::InvalidInput).to_string();
    assert_eq!(message(0, &[3, 0, 4, 9]), "index 4 is out of range for axis 0, which has length 4");
    assert_eq!(message(1, &[3]), "index 3 is out of range for axis 1, which has length 3");
    assert_eq!(message(2, &[0]), "axis 2 is out of range for an array of 2 dimensions");
    let nothing = MmapArrayMut::<u8>::scratch(vec![0, 3]).unwrap();
    expect_err(nothing.gather(Axis(0), &[0]), ErrorKind::InvalidInput);
    let scalar = MmapArrayMut::<u8>::scratch(()).unwrap();
    expect_err(scalar.gather(Axis(0), &[]), ErrorKind::InvalidInput);
}

#[test]
fn nothing_is_gathered_from_nothing_and_for_no_indices() {
    let a = MmapArrayMut::<u8>::scratch((4, 3)).unwrap();
    assert_eq!(a.gather(Axis(0), &[]).unwrap().shape(), [0, 3]);
    assert_eq!(a.gather(Axis(1), &[]).unwrap().shape(), [4, 0]);
    let nothing = MmapArrayMut::<u8>::scratch((4, 0)).unwrap();
    assert_eq!(nothing.gather(Axis(0), &[1, 1, 2]).unwrap().shape(), [3, 0]);
}

#[test]
fn a_result_larger_than_memory_is_an_error_and_no_abort() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse.bin");
    File::create_new(&path).unwrap().set_len(1 << 42).unwrap();
    // SAFETY: nobody else knows the file.
    let a = unsafe { MmapArray::<u8>::options().shape((1, 1 << 42)).open(&path).unwrap() };
    expect_err(a.gather(Axis(0), &[0; 1 << 10]), ErrorKind::Io);
    expect_err(a.gather(Axis(0), &[0; 1 << 22]), ErrorKind::Overflow);
}

#[cfg(unix)]
#[test]
fn a_truncated_file_is_an_error_where_it_is_read() {
    let (_folder, path, _) = file();
    chill(&path);
    let a: MmapArray<u32, Ix2> = opened(&path, 300);
    File::options().write(true).open(&path).unwrap().set_len(10_000).unwrap();
    let e = expect_err(a.gather(Axis(0), &[0, 1999]), ErrorKind::Truncated);
    assert_eq!(e.path(), Some(path.as_path()));
}

#[test]
fn nor_does_a_file_that_was_in_memory_hide_that_it_was_truncated() {
    let (_folder, path, _) = file();
    let a: MmapArray<u32, Ix2> = opened(&path, 300);
    for _ in 0..10 {
        a.gather(Axis(0), &[0, 1999]).unwrap();
    }
    File::options().write(true).open(&path).unwrap().set_len(10_000).unwrap();
    let e = expect_err(a.gather(Axis(0), &[0, 1999]), ErrorKind::Truncated);
    assert_eq!(e.path(), Some(path.as_path()));
}
