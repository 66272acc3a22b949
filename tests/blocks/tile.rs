//! Copies that change the layout: what is stored is what ndarray stores, whatever the layouts, and by whichever way.

#[cfg(unix)]
use std::fs::File;
use std::path::Path;

use crate::support::arrays::expect_err;
use bytemuck::{AnyBitPattern, NoUninit};
use ndarray::prelude::*;
use ndarray::{ArrayRef, Dimension, Slice};
use ndarray_mmap::{ErrorKind, MmapArrayMut, Staged};
use proptest::prelude::*;
use proptest::sample::select;

/// Larger than what is stored without asking where it is.
const LARGE: usize = 1 << 20;

fn opened<A: AnyBitPattern + NoUninit, D: Dimension>(
    path: &Path,
    offset: u64,
    shape: impl ShapeBuilder<Dim = D>,
) -> MmapArrayMut<A, D> {
    // SAFETY: nobody else knows the files of these tests; where one is cut, nothing past its new end is read.
    unsafe { MmapArrayMut::<A>::options().offset(offset).shape(shape).open(path).unwrap() }
}

#[cfg(unix)]
fn created<A: AnyBitPattern + NoUninit, D: Dimension>(
    path: &Path,
    shape: impl ShapeBuilder<Dim = D>,
) -> MmapArrayMut<A, D> {
    // SAFETY: as in `opened`.
    unsafe { MmapArrayMut::<A>::options().shape(shape).create(path).unwrap() }
}

fn counting<D: Dimension>(shape: impl ShapeBuilder<Dim = D>) -> Array<u32, D> {
    let mut array = Array::zeros(shape);
    array.iter_mut().zip(0..).for_each(|(x, n)| *x = n);
    array
}

/// What ndarray stores, into an array of this order, on the disk and in memory.
fn assert_as_assign<D: Dimension>(src: &ArrayRef<u32, D>, fortran: bool) {
    let shape = || src.raw_dim().set_f(fortran);
    let mut expected = Array::zeros(shape());
    expected.assign(src);

    let mut fresh = MmapArrayMut::<u32>::scratch(shape()).unwrap();
    fresh.assign_tiled(src).unwrap();
    assert_eq!(*fresh, expected, "{:?} {:?}", src.shape(), src.strides());
    fresh.fill(0);
    fresh.assign_tiled(src).unwrap();
    assert_eq!(*fresh, expected, "{:?} {:?}", src.shape(), src.strides());

    let mut converted = MmapArrayMut::<f64>::scratch(shape()).unwrap();
    converted.assign_tiled_with(src, |&x| f64::from(x) / 2.0).unwrap();
    assert_eq!(*converted, expected.mapv(|x| f64::from(x) / 2.0));
}

/// An axis: its length, how it is stepped through, and where the next axis goes.
fn layouts(
    longest: usize,
    axes: std::ops::Range<usize>,
) -> impl Strategy<Value = (Vec<usize>, Vec<isize>, Vec<usize>)> {
    let axis = (0..=longest, select(vec![1, 1, 1, 2, 3, -1, -2]));
    prop::collection::vec(axis, axes).prop_flat_map(|axes| {
        let (shape, steps): (Vec<_>, Vec<_>) = axes.into_iter().unzip();
        let order: Vec<_> = (0..shape.len()).collect();
        (Just(shape), Just(steps), Just(order).prop_shuffle())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_layout_is_stored_as_ndarray_stores_it(
        (shape, steps, order) in prop_oneof![layouts(6, 0..7), layouts(40, 2..4), layouts(400, 1..3)],
        fortran in any::<bool>(), src_fortran in any::<bool>(),
    ) {
        let whole = counting(IxDyn(&shape).set_f(src_fortran));
        let src = whole.slice_each_axis(|axis| Slice::from(..).step_by(steps[axis.axis.index()]));
        assert_as_assign(&src.permuted_axes(order), fortran);
    }
}

#[test]
fn fixed_numbers_of_axes_are_stored_too() {
    assert_as_assign(&arr0(5), false);
    assert_as_assign(&counting(1000).slice(s![..;-3]), false);
    assert_as_assign(&counting((30, 50)).t(), false);
    assert_as_assign(&counting((30, 50, 7).f()).view().permuted_axes([1, 2, 0]), false);
    assert_as_assign(&counting((3, 4, 5, 6)).view().permuted_axes([3, 0, 2, 1]), true);
    assert_as_assign(&counting((3, 4, 5, 6, 2)).view().reversed_axes(), false);
    assert_as_assign(&counting((3, 4, 5, 3, 2, 4)).view().reversed_axes(), false);
}

#[test]
fn large_arrays_are_stored_whether_their_pages_are_there_or_not() {
    let square = counting((1023, 1030));
    assert!(square.len() * 4 > LARGE);
    for fortran in [false, true] {
        assert_as_assign(&square, fortran);
        assert_as_assign(&square.t(), fortran);
        assert_as_assign(&square.slice(s![..;-1, 3..;2]), fortran);
        assert_as_assign(&square.broadcast((3, 1023, 1030)).unwrap(), fortran);
        let planes = counting((3, 700, 600));
        assert_as_assign(&planes.view().permuted_axes([1, 2, 0]), fortran);
        assert_as_assign(&planes.view().permuted_axes([2, 0, 1]), fortran);
        assert_as_assign(&counting((400_000, 2)).t(), fortran);
    }
}

#[test]
fn elements_of_any_size_are_moved_whole() {
    fn check<A: AnyBitPattern + NoUninit + Send + Sync + PartialEq + std::fmt::Debug>() {
        let mut bytes = Array::<A, _>::from_elem((261, 140), A::zeroed());
        let memory = bytes.as_slice_mut().unwrap();
        bytemuck::cast_slice_mut::<A, u8>(memory).iter_mut().zip((0..251).cycle()).for_each(|(x, n)| *x = n);
        let mut to = MmapArrayMut::<A>::scratch((140, 261)).unwrap();
        to.assign_tiled(&bytes.t()).unwrap();
        assert_eq!(*to, bytes.t());
    }
    check::<u8>();
    check::<i16>();
    check::<[u8; 3]>();
    check::<u64>();
    check::<[u32; 5]>();
    check::<[u64; 40]>();
}

#[test]
fn byte_order_is_changed_on_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big-endian.bin");
    std::fs::write(&path, [1, 2, 3, 256_u32].map(u32::to_be_bytes).as_flattened()).unwrap();
    let big = opened::<rend::u32_be, _>(&path, 0, (2, 2));
    let mut native = MmapArrayMut::<u32>::scratch((2, 2).f()).unwrap();
    native.assign_tiled_with(&big, |x| x.to_native()).unwrap();
    assert_eq!(*native, array![[1, 2], [3, 256]]);
    let mut back = MmapArrayMut::<rend::u32_be>::scratch((2, 2)).unwrap();
    back.assign_tiled_with(&native, |&x| x.into()).unwrap();
    assert_eq!(*back, *big);
}

#[test]
fn a_staged_array_is_published_as_it_was_assigned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.bin");
    let src = counting((900, 800));
    let mut staged = Staged::<u32>::stage(&path, (800, 900)).unwrap();
    staged.assign_tiled(&src.t()).unwrap();
    staged.publish().unwrap();
    let published = opened::<u32, _>(&path, 0, (800, 900));
    assert_eq!(*published, src.t());
}

#[test]
fn what_was_stored_reaches_the_file_and_nothing_around_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("middle.bin");
    let src = counting((700, 600));
    std::fs::write(&path, vec![7; 100 + src.len() * 4 + 50]).unwrap();
    let mut middle = opened::<u32, _>(&path, 100, (600, 700));
    middle.assign_tiled(&src.t()).unwrap();
    middle.flush().unwrap();
    drop(middle);
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes[..100].iter().chain(&bytes[bytes.len() - 50..]).all(|&b| b == 7));
    let stored: Vec<u8> = src.t().iter().flat_map(|x| x.to_ne_bytes()).collect();
    assert!(bytes[100..bytes.len() - 50] == stored);
}

#[test]
fn another_shape_is_refused_before_anything_is_stored() {
    let mut to = MmapArrayMut::<u32>::scratch((3, 4)).unwrap();
    to.fill(9);
    for src in [counting((4, 3)), counting((1, 4)), counting((3, 1)), counting((3, 5)), counting((0, 4))] {
        let e = expect_err(to.assign_tiled(&src), ErrorKind::ShapeMismatch);
        assert!(e.to_string().contains(&format!("{:?} does not fit shape [3, 4]", src.shape())), "{e}");
    }
    assert!(to.iter().all(|&x| x == 9));
}

#[test]
fn arrays_without_elements_are_copied_too() {
    for shape in [vec![0], vec![0, 5], vec![5, 0, 3]] {
        let mut to = MmapArrayMut::<u32>::scratch(shape.clone()).unwrap();
        to.assign_tiled(&counting(IxDyn(&shape))).unwrap();
        expect_err(to.assign_tiled(&counting(IxDyn(&[7]))), ErrorKind::ShapeMismatch);
    }
}

#[test]
fn a_panic_in_the_conversion_reaches_the_caller() {
    for rows in [10, 1000] {
        let src = counting((rows, 700));
        let mut to = MmapArrayMut::<u32>::scratch((700, rows)).unwrap();
        let work = || to.assign_tiled_with(&src.t(), |&x| if x == 6999 { panic!("no such value") } else { x });
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"no such value"));
        to.assign_tiled(&src.t()).unwrap();
        assert_eq!(*to, src.t());
    }
}

#[test]
fn progress_counts_up_to_all_of_the_bytes_whichever_way_they_go() {
    let src = counting((1500, 1100));
    // To a file that nothing of is in memory, and then to one of which all is.
    let mut to = MmapArrayMut::<f64>::scratch((1100, 1500)).unwrap();
    for _ in 0..2 {
        let mut reported = vec![];
        let copy = to.tiled().progress(|done, total| reported.push((done, total)));
        copy.assign_with(&src.t(), |&x| x.into()).unwrap();
        assert_eq!(*to, src.t().mapv(f64::from));
        assert!(reported.len() > 1 && reported.is_sorted());
        assert_eq!(*reported.last().unwrap(), (1500 * 1100 * 8, 1500 * 1100 * 8));
    }
}

#[cfg(unix)]
#[test]
fn a_truncated_file_is_an_error_and_then_a_poisoned_array() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.bin");
    let src = counting((100, 100));
    let mut to = created::<u32, _>(&path, (100, 100));
    to.assign_tiled(&src.t()).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
    expect_err(to.assign_tiled(&src.t()), ErrorKind::Truncated);
    expect_err(to.assign_tiled(&src.t()), ErrorKind::Poisoned);
    expect_err(to.assign_tiled_with(&src, |&x| x), ErrorKind::Poisoned);
}

/// What is written after the cut would make the file long again, with nothing in the gap.
#[cfg(target_os = "linux")]
#[test]
fn a_file_truncated_between_two_writes_of_a_tile_is_not_extended_again() {
    use crate::support::steps::{Answer, at_each};
    // Neither its rows nor its columns fit in a tile.
    const SHAPE: (usize, usize) = (1100, 12_000);
    const LEN: u64 = (SHAPE.0 * SHAPE.1) as u64;
    // Beside the build, for the system's folder for temporary files may lie in memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("cut.bin");
    let src = Array2::from_elem(SHAPE.f(), 2_u8);
    // Stores everything by system calls, and has the file cut before the one of this number; how many calls there were.
    let store = |number| {
        let mut to = created::<u8, _>(&path, SHAPE);
        let mut calls = 0;
        let cuts = |_| {
            calls += 1;
            if calls == number {
                File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
            }
            Answer::Done
        };
        let stored = at_each(&[libc::SYS_pwrite64], cuts, || on_one_thread(|| to.assign_tiled(&src)));
        (stored, to.flush(), calls)
    };
    let (stored, flushed, calls) = store(0);
    stored.and(flushed).unwrap();
    assert!(calls > SHAPE.0, "{calls} calls");
    // Not before the last: between the look at the file and the write there is a moment left.
    for number in [calls / 3, calls / 2, calls - 100, calls - 1] {
        let (stored, flushed, _) = store(number);
        expect_err(stored, ErrorKind::Truncated);
        expect_err(flushed, ErrorKind::Poisoned);
        assert!(path.metadata().unwrap().len() < LEN);
    }
}

/// So that what is written last is the end of the file.
#[cfg(target_os = "linux")]
fn on_one_thread<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    #[cfg(feature = "rayon")]
    return rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(f);
    #[cfg(not(feature = "rayon"))]
    f()
}
