//! Passes in blocks: what a user gets is what ndarray gives on the same data, whatever the blocks, the order, the
//! constructor and the number of threads.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use approx::assert_relative_eq;
use bytemuck::{AnyBitPattern, NoUninit};
use ndarray::prelude::*;
use ndarray_mmap::{Bool8, ErrorKind, MmapArray, MmapArrayCow, MmapArrayMut};
use proptest::prelude::*;

/// A file, and the array in it, opened for reading.
fn stored<A: NoUninit + AnyBitPattern>(dir: &Path, dim: &[usize], f_order: bool, values: &[A]) -> MmapArray<A> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let path = dir.join(format!("{}.bin", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::write(&path, bytemuck::cast_slice(values)).unwrap();
    // SAFETY: a file of the test's own, written to no more.
    unsafe { MmapArray::<A>::options().shape(IxDyn(dim).set_f(f_order)).open(path).unwrap() }
}

fn in_memory<A: Clone>(dim: &[usize], f_order: bool, values: &[A]) -> ArrayD<A> {
    ArrayD::from_shape_vec(IxDyn(dim).set_f(f_order), values.to_vec()).unwrap()
}

fn dims() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![9 => 1..7usize, 1 => Just(0)], 1..=6)
}

/// How a pass is divided: by bytes or by rows.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Default,
    Bytes(usize),
    Rows(usize),
}

fn cuts() -> impl Strategy<Value = Cut> {
    prop_oneof![Just(Cut::Default), (0..3000usize).prop_map(Cut::Bytes), (0..8usize).prop_map(Cut::Rows)]
}

macro_rules! cut {
    ($blocks:expr, $cut:expr) => {
        match $cut {
            Cut::Default => $blocks,
            Cut::Bytes(bytes) => $blocks.bytes(bytes),
            Cut::Rows(rows) => $blocks.rows(rows),
        }
    };
}

#[cfg(feature = "rayon")]
macro_rules! parallel {
    ($blocks:expr, $parallel:expr) => {
        $blocks.parallel($parallel)
    };
}
#[cfg(not(feature = "rayon"))]
macro_rules! parallel {
    ($blocks:expr, $parallel:expr) => {{
        let _ = $parallel;
        $blocks
    }};
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn blocks_put_together_are_the_array(dim in dims(), f_order: bool, cut in cuts()) {
        let dir = tempfile::tempdir().unwrap();
        let values: Vec<u32> = (0..dim.iter().product::<usize>() as u32).collect();
        let a = stored(dir.path(), &dim, f_order, &values);
        let blocks = cut!(a.blocks(), cut).into_iter();
        let announced = blocks.len();
        let mut seen = Vec::new();
        let mut count = 0;
        for block in blocks {
            prop_assert_eq!(block.ndim(), dim.len());
            // In memory order a block is one stretch.
            seen.extend_from_slice(block.to_slice_memory_order().unwrap());
            count += 1;
        }
        prop_assert_eq!(seen, values);
        prop_assert_eq!(count, announced);
    }

    #[test]
    fn blocks_from_the_end_are_the_same_blocks(dim in dims(), f_order: bool, cut in cuts(), turn in 0..5usize) {
        let dir = tempfile::tempdir().unwrap();
        let values: Vec<u16> = (0..dim.iter().product::<usize>()).map(|n| n as u16).collect();
        let a = stored(dir.path(), &dim, f_order, &values);
        let forwards: Vec<_> = cut!(a.blocks(), cut).into_iter().collect();
        let mut blocks = cut!(a.blocks(), cut).into_iter();
        let mut both: Vec<_> = blocks.by_ref().take(turn).collect();
        let mut back: Vec<_> = blocks.by_ref().rev().collect();
        back.reverse();
        both.extend(back);
        prop_assert_eq!(forwards, both);
        prop_assert!(blocks.next().is_none() && blocks.next_back().is_none());
    }

    #[test]
    fn integers_add_up_exactly(
        dim in dims(), f_order: bool, cut in cuts(), par: bool, seed in any::<u64>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let count = dim.iter().product::<usize>();
        let values: Vec<i64> = (0..count as u64).map(|n| (n ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) as i64).collect();
        let a = stored(dir.path(), &dim, f_order, &values);
        let expected: i128 = values.iter().map(|&x| i128::from(x)).sum();
        prop_assert_eq!(parallel!(cut!(a.blocks(), cut), par).sum(), expected);
        let mean = (count > 0).then(|| expected as f64 / count as f64);
        prop_assert_eq!(parallel!(cut!(a.blocks(), cut), par).mean(), mean);
        let min_max = values.iter().copied().min().zip(values.iter().copied().max());
        prop_assert_eq!(parallel!(cut!(a.blocks(), cut), par).min_max(), min_max);
        let model = in_memory(&dim, f_order, &values).mapv(i128::from);
        for axis in (0..dim.len()).map(Axis) {
            let sums = parallel!(cut!(a.blocks(), cut), par).sum_axis(axis);
            prop_assert_eq!(sums, model.sum_axis(axis));
        }
    }

    #[test]
    fn floats_agree_with_ndarray(
        dim in dims(), f_order: bool, cut in cuts(), par: bool, ddof in 0..3u8,
        values in prop::collection::vec(-1e6..1e6f64, 7usize.pow(4)),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let count = dim.iter().product::<usize>();
        let values: Vec<f64> = values.into_iter().cycle().take(count).collect();
        let a = stored(dir.path(), &dim, f_order, &values);
        let model = in_memory(&dim, f_order, &values);
        assert_relative_eq!(parallel!(cut!(a.blocks(), cut), par).sum(), model.sum(), epsilon = 1e-3);
        let mean = parallel!(cut!(a.blocks(), cut), par).mean();
        prop_assert_eq!(mean.is_some(), model.mean().is_some());
        assert_relative_eq!(mean.unwrap_or(0.0), model.mean().unwrap_or(0.0), epsilon = 1e-6);
        let var = parallel!(cut!(a.blocks(), cut), par).var(ddof);
        prop_assert_eq!(var.is_some(), count > ddof.into());
        if let Some(var) = var {
            assert_relative_eq!(var, model.var(ddof.into()), max_relative = 1e-9, epsilon = 1e-3);
            let std = parallel!(cut!(a.blocks(), cut), par).std(ddof).unwrap();
            assert_relative_eq!(std * std, var, max_relative = 1e-12);
        }
        let least = values.iter().copied().reduce(f64::min);
        let most = values.iter().copied().reduce(f64::max);
        prop_assert_eq!(parallel!(cut!(a.blocks(), cut), par).min_max(), least.zip(most));
        let folded = cut!(a.blocks(), cut).fold(Vec::new(), |mut all, block| {
            all.extend_from_slice(block.as_slice_memory_order().unwrap());
            all
        });
        prop_assert_eq!(&folded, &values);
        let seen = std::sync::Mutex::new((0, 0.0));
        parallel!(cut!(a.blocks(), cut), par).for_each(|block| {
            let mut seen = seen.lock().unwrap();
            *seen = (seen.0 + block.len(), seen.1 + block.sum());
        });
        let (seen, sum) = seen.into_inner().unwrap();
        prop_assert_eq!(seen, count);
        assert_relative_eq!(sum, model.sum(), epsilon = 1e-3);
        for axis in (0..dim.len()).map(Axis) {
            let sums = parallel!(cut!(a.blocks(), cut), par).sum_axis(axis);
            assert_relative_eq!(sums, model.sum_axis(axis), epsilon = 1e-3);
            let means = parallel!(cut!(a.blocks(), cut), par).mean_axis(axis);
            prop_assert_eq!(means.is_some(), dim[axis.0] > 0);
            if let Some(means) = means {
                assert_relative_eq!(means, model.mean_axis(axis).unwrap(), epsilon = 1e-6);
            }
        }
    }

    #[test]
    fn blocks_mut_write_every_element_once(dim in dims(), f_order: bool, cut in cuts(), par: bool) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        // SAFETY: a file of the test's own.
        let mut a = unsafe { MmapArrayMut::<i32>::create(&path, IxDyn(&dim).set_f(f_order)).unwrap() };
        cut!(a.blocks_mut(), cut).into_iter().for_each(|mut block| block += 1);
        parallel!(cut!(a.blocks_mut(), cut), par).for_each(|mut block| block += 1).unwrap();
        let count = dim.iter().product::<usize>();
        a.close().unwrap();
        prop_assert_eq!(std::fs::read(&path).unwrap(), [2u8, 0, 0, 0].repeat(count));
    }
}

#[cfg(feature = "rayon")]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_parallel_iteration_is_indexed_and_in_order(dim in dims(), f_order: bool, cut in cuts()) {
        use ndarray::parallel::prelude::*;
        let dir = tempfile::tempdir().unwrap();
        let values: Vec<u32> = (0..dim.iter().product::<usize>() as u32).collect();
        let a = stored(dir.path(), &dim, f_order, &values);
        let forwards: Vec<_> = cut!(a.blocks(), cut).into_iter().collect();
        let parallel: Vec<_> = cut!(a.blocks(), cut).into_par_iter().collect();
        prop_assert_eq!(&forwards, &parallel);
        let backwards: Vec<_> = cut!(a.blocks(), cut).into_par_iter().rev().collect();
        prop_assert_eq!(forwards.iter().rev().collect::<Vec<_>>(), backwards.iter().collect::<Vec<_>>());
        let zipped = cut!(a.blocks(), cut).into_par_iter().zip(cut!(a.blocks(), cut).into_par_iter());
        prop_assert!(zipped.all(|(x, y)| x == y));
        let mut copy = MmapArrayMut::<u32>::scratch(IxDyn(&dim).set_f(f_order)).unwrap();
        cut!(copy.blocks_mut(), cut).into_par_iter().zip(cut!(a.blocks(), cut).into_par_iter()).for_each(
            |(mut to, from)| to.assign(&from),
        );
        prop_assert_eq!(copy.view(), a.view());
    }

    #[test]
    fn threads_do_not_change_a_bit_of_a_sum(values in prop::collection::vec(-1e9..1e9f64, 0..3000), bytes in 8..4000usize) {
        let dir = tempfile::tempdir().unwrap();
        let a = stored(dir.path(), &[values.len()], false, &values);
        let serial = a.blocks().bytes(bytes);
        prop_assert_eq!(serial.sum().to_bits(), a.blocks().bytes(bytes).parallel(true).sum().to_bits());
        let var = |parallel| a.blocks().bytes(bytes).parallel(parallel).var(0).map(f64::to_bits);
        prop_assert_eq!(var(false), var(true));
    }
}

#[test]
fn arrays_without_axes_and_single_elements_are_one_block() {
    let dir = tempfile::tempdir().unwrap();
    for dim in [&[][..], &[1], &[1, 1, 1]] {
        let a = stored(dir.path(), dim, false, &[2.5f32]);
        for cut in [Cut::Default, Cut::Bytes(0), Cut::Rows(0), Cut::Rows(7)] {
            assert_eq!(
                cut!(a.blocks(), cut).into_iter().map(|b| b.shape().to_vec()).collect::<Vec<_>>(),
                [dim.to_vec()]
            );
        }
        assert_eq!(a.blocks().sum(), 2.5);
        assert_eq!(a.blocks().var(0), Some(0.0));
        assert_eq!(a.blocks().var(1), None);
    }
}

#[test]
fn nothing_has_no_mean_and_no_least() {
    let dir = tempfile::tempdir().unwrap();
    for dim in [&[0][..], &[0, 3], &[3, 0]] {
        let a = stored::<f64>(dir.path(), dim, false, &[]);
        assert_eq!(a.blocks().into_iter().len(), 0);
        assert_eq!(a.blocks().sum(), 0.0);
        assert_eq!(
            (a.blocks().mean(), a.blocks().var(0), a.blocks().std(0), a.blocks().min_max()),
            (None, None, None, None)
        );
        assert_eq!(a.blocks().fold(7, |n, _| n + 1), 7);
    }
    let a = stored::<f64>(dir.path(), &[0, 3], false, &[]);
    assert_eq!(a.blocks().sum_axis(Axis(0)), arr1(&[0.0; 3]).into_dyn());
    assert_eq!(a.blocks().mean_axis(Axis(0)), None);
    assert_eq!(a.blocks().mean_axis(Axis(1)).unwrap().shape(), [0]);
}

#[test]
fn passes_over_loaded_and_copy_on_write_arrays_see_their_elements() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.bin");
    let values: Vec<i16> = (0..100_000).map(|n| n as i16).collect();
    std::fs::write(&path, bytemuck::cast_slice(&values)).unwrap();
    let expected: i128 = values.iter().map(|&x| i128::from(x)).sum();
    assert_eq!(MmapArray::<i16>::load(&path).unwrap().blocks().bytes(1000).sum(), expected);
    let mut loaded = MmapArrayCow::<i16>::load(&path).unwrap();
    // SAFETY: a file of the test's own, written to no more.
    let mut copy = unsafe { MmapArrayCow::<i16>::open(&path).unwrap() };
    for a in [&mut loaded, &mut copy] {
        a.blocks_mut().bytes(1000).keep_cached(false).for_each(|mut block| block.fill(1)).unwrap();
        // Neither this pass nor the one before evicted what was stored.
        assert_eq!(a.blocks().bytes(1000).keep_cached(false).sum(), 100_000);
    }
    assert_eq!(std::fs::read(&path).unwrap(), bytemuck::cast_slice::<_, u8>(&values));
}

#[test]
fn nan_goes_through_everything_and_infinities_stay() {
    let dir = tempfile::tempdir().unwrap();
    for place in [0, 1, 999, 1000, 5000, 9_999] {
        let mut values = vec![1.0f64; 10_000];
        values[place] = f64::NAN;
        let a = stored(dir.path(), &[100, 100], false, &values);
        let b = || a.blocks().bytes(3000);
        assert!(b().sum().is_nan() && b().mean().unwrap().is_nan() && b().var(0).unwrap().is_nan());
        let (least, most) = b().min_max().unwrap();
        assert!(least.is_nan() && most.is_nan());
        let sums = b().sum_axis(Axis(0));
        assert_eq!(sums.iter().filter(|s| s.is_nan()).count(), 1);
        assert!(sums[place % 100].is_nan());

        values[place] = f64::NEG_INFINITY;
        let a = stored(dir.path(), &[100, 100], false, &values);
        let b = || a.blocks().bytes(3000);
        assert_eq!((b().sum(), b().mean()), (f64::NEG_INFINITY, Some(f64::NEG_INFINITY)));
        assert_eq!(b().min_max(), Some((f64::NEG_INFINITY, 1.0)));
        assert_eq!(b().sum_axis(Axis(1))[place / 100], f64::NEG_INFINITY);
        assert_eq!(b().sum_axis(Axis(0))[place % 100], f64::NEG_INFINITY);
        assert!(b().var(0).unwrap().is_nan());

        values[(place + 1) % 10_000] = f64::INFINITY;
        let a = stored(dir.path(), &[100, 100], false, &values);
        assert!(a.blocks().bytes(3000).sum().is_nan());
    }
    let largest = stored(dir.path(), &[4], false, &[f64::MAX; 4]);
    assert_eq!(largest.blocks().sum(), f64::INFINITY);
}

/// Terms of very different size that nearly cancel, as multiples of 2^-40, so that integers know the exact sum.
fn hard_terms(count: usize) -> (Vec<f64>, i128) {
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let exact: Vec<i128> = (0..count)
        .map(|_| {
            let term = i128::from(random()) << (random() % 70);
            if random() % 2 == 0 { term } else { -term }
        })
        .collect();
    (exact.iter().map(|&x| x as f64 / (1u64 << 40) as f64).collect(), exact.iter().sum())
}

#[test]
fn the_error_of_a_sum_is_within_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    for count in [1, 2, 15, 17, 1023, 1025, 4097, 100_000, 1_000_003] {
        let (values, exact) = hard_terms(count);
        let size: f64 = values.iter().map(|x| x.abs()).sum();
        let a = stored(dir.path(), &[count], false, &values);
        let off = |sum: f64| (sum - exact as f64 / (1u64 << 40) as f64).abs();
        for bytes in [1000, 1 << 20] {
            assert!(off(a.blocks().bytes(bytes).sum()) <= size * 2f64.powi(-46));
        }
        let column = stored(dir.path(), &[count, 1], false, &values);
        assert!(off(column.blocks().sum_axis(Axis(0))[0]) <= size * 2f64.powi(-46));
        // As one of several columns, where terms meet their sum one by one.
        let wide: Vec<f64> = values.iter().flat_map(|&x| [x, 1.0, -x]).collect();
        let wide = stored(dir.path(), &[count, 3], false, &wide);
        let sums = wide.blocks().bytes(10_000).sum_axis(Axis(0));
        assert!(off(sums[0]) <= size * 2f64.powi(-46));
        assert_eq!((sums[1], sums[2]), (count as f64, -sums[0]));
    }
}

#[test]
fn small_floats_do_not_stop_counting() {
    let dir = tempfile::tempdir().unwrap();
    // In f32 this sum would stop at 2^24.
    let count = (1 << 24) + 1001;
    let a = stored(dir.path(), &[count], false, &vec![1.0f32; count]);
    assert_eq!(a.blocks().sum(), count as f64);
    let a = stored(dir.path(), &[count / 8, 8], false, &vec![1.0f32; count / 8 * 8]);
    assert_eq!(a.blocks().sum_axis(Axis(0)), arr1(&[(count / 8) as f64; 8]).into_dyn());
}

#[test]
fn a_variance_far_from_zero_keeps_its_digits() {
    let dir = tempfile::tempdir().unwrap();
    let values: Vec<f64> = (0..1_000_000).map(|n| 1e9 + f64::from(n % 2)).collect();
    let a = stored(dir.path(), &[values.len()], false, &values);
    assert_relative_eq!(a.blocks().bytes(5000).var(0).unwrap(), 0.25, max_relative = 1e-9);
}

#[test]
fn variances_along_an_axis_keep_their_digits_too() {
    let dir = tempfile::tempdir().unwrap();
    for (width, length) in [(3, 200_000), (200, 5000), (3000, 300)] {
        let values: Vec<f64> = (0..width * length).map(|n| 1e6 + f64::from(n / width % 2)).collect();
        let a = stored(dir.path(), &[length as usize, width as usize], false, &values);
        for par in [false, true] {
            let variances = parallel!(a.blocks(), par).var_axis(Axis(0), 0).unwrap();
            assert!(variances.iter().all(|v| (v * 4.0 - 1.0).abs() < 1e-10), "{width} {length}: {variances}");
        }
    }
}

/// Rows so long that threads share out the columns, if the array is in memory.
#[test]
fn columns_far_from_each_other_are_those_of_ndarray() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, columns) = (28, 40_003);
    let values: Vec<f32> = (0..rows * columns).map(|n| (n * 7919 % 1000) as f32 - 300.0).collect();
    for (dim, f_order, axis) in [(vec![rows, columns], false, 0), (vec![columns, rows], true, 1)] {
        let a = stored(dir.path(), &dim, f_order, &values);
        let expected = in_memory(&dim, f_order, &values).mapv(f64::from);
        let axis = Axis(axis);
        for par in [false, true] {
            let total = (values.len() * 4) as u64;
            let mut reported = vec![];
            let sums = parallel!(a.blocks().progress(|done, of| reported.push((done, of))), par).sum_axis(axis);
            assert_eq!(sums, expected.sum_axis(axis));
            assert!(reported.is_sorted() && reported.len() < 40, "{reported:?}");
            assert_eq!(reported.last(), Some(&(total, total)));
            let blocks = || parallel!(a.blocks(), par);
            let near = |found: Option<ArrayD<f64>>, expected: ArrayD<f64>| {
                let off = (&found.unwrap() - &expected).mapv(f64::abs);
                assert!(off.iter().zip(&expected).all(|(off, x)| *off <= 1e-12 * x.abs()), "{off}");
            };
            near(blocks().var_axis(axis, 1), expected.var_axis(axis, 1.0));
            near(blocks().std_axis(axis, 1), expected.std_axis(axis, 1.0));
            let (least, most) = blocks().min_max_axis(axis).unwrap();
            assert_eq!(least.mapv(f64::from), expected.map_axis(axis, |lane| lane.fold(1e9, |a, &b| f64::min(a, b))));
            assert_eq!(most.mapv(f64::from), expected.map_axis(axis, |lane| lane.fold(-1e9, |a, &b| f64::max(a, b))));
        }
    }
}

/// An element of many numbers, of which the first counts.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
#[repr(transparent)]
struct Large([u32; 32]);

// SAFETY: a transparent wrapper of numbers, of which zero and every other bit pattern is a value.
unsafe impl bytemuck::Zeroable for Large {}
// SAFETY: as above; there is no padding.
unsafe impl bytemuck::Pod for Large {}

impl ndarray_mmap::blocks::Accumulate for Large {
    type Sum = f64;
    fn widen(self) -> f64 {
        self.0[0].into()
    }
}

#[test]
fn large_elements_have_results_along_axes_and_need_no_large_stack() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, columns) = (70, 1024);
    let values: Vec<_> = (0..rows * columns).map(|n| Large([(n * 7919 % 1000) as u32; 32])).collect();
    let a = stored(dir.path(), &[rows, columns], false, &values);
    let expected = in_memory(&[rows, columns], false, &values).mapv(|x| f64::from(x.0[0]));
    assert_eq!(a.blocks().sum_axis(Axis(0)), expected.sum_axis(Axis(0)));
    assert_relative_eq!(
        a.blocks().var_axis(Axis(0), 0).unwrap(),
        expected.var_axis(Axis(0), 0.0),
        max_relative = 1e-12
    );

    // The same bytes as fewer and larger elements, in rows of which each thread has some columns.
    let bytes: Vec<[u8; 1024]> = (0..64 * 128).map(|n| [(n * 7919 % 251) as u8; 1024]).collect();
    let a = stored(dir.path(), &[64, 128], false, &bytes);
    let expected = in_memory(&[64, 128], false, &bytes);
    for par in [false, true] {
        let (least, most) = parallel!(a.blocks(), par).min_max_axis(Axis(0)).unwrap();
        assert_eq!(least, expected.map_axis(Axis(0), |lane| *lane.iter().min().unwrap()));
        assert_eq!(most, expected.map_axis(Axis(0), |lane| *lane.iter().max().unwrap()));
    }
    let huge = stored(dir.path(), &[2, 2], true, &[[1u8; 1 << 12], [2; 1 << 12], [3; 1 << 12], [4; 1 << 12]]);
    let (least, most) = huge.blocks().min_max_axis(Axis(1)).unwrap();
    assert_eq!((least[[0]][0], most[[1]][7]), (1, 4));
    assert_eq!(huge.blocks().min_max().map(|(least, most)| (least[0], most[0])), Some((1, 4)));
}

#[test]
fn extremes_of_every_integer_add_up_without_overflow() {
    macro_rules! check {
        ($dir:expr, $($integer:ty)*) => {$(
            for extreme in [<$integer>::MIN, <$integer>::MAX] {
                let a = stored($dir, &[70_001], false, &vec![extreme; 70_001]);
                assert_eq!(a.blocks().sum() as i128, extreme as i128 * 70_001);
                assert_eq!(a.blocks().mean(), Some((extreme as i128 * 70_001) as f64 / 70_001.0));
                assert_eq!(a.blocks().min_max(), Some((extreme, extreme)));
                let columns = stored($dir, &[10_000, 7], false, &vec![extreme; 70_000]);
                assert!(columns.blocks().sum_axis(Axis(0)).iter().all(|&s| s as i128 == extreme as i128 * 10_000));
                assert!(columns.blocks().sum_axis(Axis(1)).iter().all(|&s| s as i128 == extreme as i128 * 7));
            }
        )*};
    }
    let dir = tempfile::tempdir().unwrap();
    check!(dir.path(), i8 i16 i32 i64 isize u8 u16 u32 u64 usize);
}

#[test]
fn booleans_count_whatever_byte_says_true() {
    let dir = tempfile::tempdir().unwrap();
    let values: Vec<Bool8> = (0..=255).map(Bool8::from_byte).collect();
    let a = stored(dir.path(), &[2, 128], false, &values);
    assert_eq!(a.blocks().sum(), 255);
    assert_eq!(a.blocks().sum_axis(Axis(1)), arr1(&[127, 128]).into_dyn());
    assert_eq!(a.blocks().mean(), Some(255.0 / 256.0));
    assert_eq!(a.blocks().min_max(), Some((Bool8::FALSE, Bool8::TRUE)));
}

#[cfg(feature = "rend")]
#[test]
fn big_endian_elements_are_read_where_they_lie() {
    use rend::{f64_be, i16_be, unaligned::u32_ube};
    let dir = tempfile::tempdir().unwrap();
    let values: Vec<f64_be> = (0..5000).map(|n| f64_be::from_native(f64::from(n) - 0.5)).collect();
    let a = stored(dir.path(), &[50, 100], true, &values);
    assert_eq!(a.blocks().bytes(1000).sum(), 4999.0 * 2500.0 - 2500.0);
    let native: Vec<f64> = values.iter().map(|x| x.to_native()).collect();
    let model = stored(dir.path(), &[50, 100], true, &native);
    assert_eq!(a.blocks().var(1), model.blocks().var(1));
    assert_eq!(a.blocks().sum_axis(Axis(1)), model.blocks().sum_axis(Axis(1)));
    assert_eq!(a.blocks().min_max(), Some((f64_be::from_native(-0.5), f64_be::from_native(4998.5))));
    let a =
        stored(dir.path(), &[3], false, &[i16_be::from_native(-2), i16_be::from_native(300), i16_be::from_native(1)]);
    assert_eq!(
        (a.blocks().sum(), a.blocks().min_max()),
        (299, Some((i16_be::from_native(-2), i16_be::from_native(300))))
    );
    let a = stored(dir.path(), &[2], false, &[u32_ube::from_native(u32::MAX); 2]);
    assert_eq!(a.blocks().sum(), u128::from(u32::MAX) * 2);
}

#[cfg(feature = "num-complex")]
#[test]
fn complex_numbers_have_sums_and_a_real_variance() {
    use num_complex::Complex;
    let dir = tempfile::tempdir().unwrap();
    let values: Vec<Complex<f32>> = (0..1000).map(|n| Complex::new(n as f32, -(n as f32))).collect();
    let a = stored(dir.path(), &[10, 100], false, &values);
    assert_eq!(a.blocks().sum(), Complex::new(499_500.0, -499_500.0));
    assert_eq!(a.blocks().mean(), Some(Complex::new(499.5, -499.5)));
    let real = stored(dir.path(), &[1000], false, &values.iter().map(|z| z.re).collect::<Vec<_>>());
    assert_relative_eq!(a.blocks().var(0).unwrap(), 2.0 * real.blocks().var(0).unwrap(), max_relative = 1e-12);
    assert_eq!(a.blocks().sum_axis(Axis(0))[3], Complex::new(4530.0, -4530.0));
}

#[cfg(feature = "half")]
#[test]
fn half_precision_adds_up_in_double() {
    use half::f16;
    let dir = tempfile::tempdir().unwrap();
    let a = stored(dir.path(), &[100_000], false, &vec![f16::from_f32(0.5); 100_000]);
    assert_eq!(a.blocks().sum(), 50_000.0);
    assert_eq!(a.blocks().min_max(), Some((f16::from_f32(0.5), f16::from_f32(0.5))));
}

#[test]
fn passes_over_different_elements_zip_by_rows() {
    let long = MmapArrayMut::<f64>::scratch((103, 5)).unwrap();
    let short = MmapArrayMut::<u8>::scratch((103, 5)).unwrap();
    let pairs: Vec<_> =
        long.blocks().rows(10).into_iter().zip(short.blocks().rows(10)).map(|(l, s)| (l.dim(), s.dim())).collect();
    assert_eq!(pairs.len(), 11);
    assert!(pairs.iter().all(|(l, s)| l == s));
    assert_eq!(pairs[10].0, (3, 5));
}

#[test]
fn progress_counts_up_to_all_of_the_bytes() {
    let a = MmapArrayMut::<f64>::scratch((1000, 3)).unwrap();
    for par in [false, true] {
        let mut reported = Vec::new();
        let sum = parallel!(a.blocks().rows(64).progress(|done, total| reported.push((done, total))), par).sum();
        assert_eq!(sum, 0.0);
        assert_eq!(reported.len(), 16);
        assert!(reported.is_sorted() && reported.iter().all(|&(_, total)| total == 24_000));
        assert_eq!(reported.last(), Some(&(24_000, 24_000)));
    }
}

#[test]
fn a_panic_in_a_closure_ends_the_pass_and_nothing_else() {
    let mut a = MmapArrayMut::<u8>::scratch(100_000).unwrap();
    a.fill(1);
    for par in [false, true] {
        let pass = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            parallel!(a.blocks().bytes(100), par).for_each(|_| panic!("the closure's own"));
        }));
        assert_eq!(*pass.unwrap_err().downcast::<&str>().unwrap(), "the closure's own");
        let pass = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = parallel!(a.blocks_mut().bytes(100), par).for_each(|_| panic!("the closure's own"));
        }));
        assert_eq!(*pass.unwrap_err().downcast::<&str>().unwrap(), "the closure's own");
        let pass = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            parallel!(a.blocks().bytes(100).progress(|_, _| panic!("the closure's own")), par).sum()
        }));
        assert_eq!(*pass.unwrap_err().downcast::<&str>().unwrap(), "the closure's own");
        assert_eq!(a.blocks().sum(), 100_000);
    }
}

#[test]
#[should_panic(expected = "Axis(2) is not an axis of an array of shape [3, 4]")]
fn an_axis_that_is_not_there_is_the_callers_mistake() {
    MmapArrayMut::<u8>::scratch((3, 4)).unwrap().blocks().sum_axis(Axis(2));
}

#[test]
#[should_panic(expected = "Axis(1) is not an axis of an array of shape [0]")]
fn nor_is_it_there_where_nothing_is() {
    MmapArrayMut::<u8>::scratch(0).unwrap().blocks().min_max_axis(Axis(1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn mapping_into_a_file_is_mapping_in_memory(
        dim in dims(), orders: [bool; 3], cut in cuts(), par: bool, warm: bool, keep in any::<Option<bool>>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let count = dim.iter().product::<usize>();
        let (x, y): (Vec<i16>, Vec<f32>) = (0..count).map(|n| (n as i16, n as f32 / 8.0)).unzip();
        let (a, b) = (stored(dir.path(), &dim, orders[0], &x), stored(dir.path(), &dim, orders[1], &y));
        let (a_model, b_model) = (in_memory(&dim, orders[0], &x), in_memory(&dim, orders[1], &y));
        let path = dir.path().join("out.bin");
        // SAFETY: a file of the test's own.
        let mut out = unsafe { MmapArrayMut::<f64>::create(&path, IxDyn(&dim).set_f(orders[2])).unwrap() };
        if warm {
            out.fill(f64::NAN);
        }
        let pass = || {
            let blocks = parallel!(cut!(a.blocks(), cut), par);
            keep.map_or(a.blocks(), |keep| blocks.keep_cached(keep))
        };
        pass().map_into(&mut out, |x| f64::from(x) * 2.0 - 1.0).unwrap();
        prop_assert_eq!(out.view(), a_model.mapv(|x| f64::from(x) * 2.0 - 1.0));
        pass().zip_map_into(&b, &mut out, |x, y| f64::from(x) + f64::from(y)).unwrap();
        let expected = a_model.mapv(f64::from) + b_model.mapv(f64::from);
        prop_assert_eq!(out.view(), &expected);
        out.flush().unwrap();
        out.close().unwrap();
        // What the map shows is what the file holds.
        let file = MmapArray::<f64>::options().shape(IxDyn(&dim).set_f(orders[2])).load(&path).unwrap();
        prop_assert_eq!(file.view(), expected);
    }
}

#[test]
fn mapping_does_not_touch_what_lies_beside_the_array() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.bin");
    std::fs::write(&path, [7u8; 4096]).unwrap();
    let a = stored(dir.path(), &[100], false, &[1u16; 100]);
    // SAFETY: a file of the test's own.
    let mut out = unsafe { MmapArrayMut::<u32>::options().offset(100).shape(100).open(&path).unwrap() };
    a.blocks().map_into(&mut out, u32::from).unwrap();
    out.close().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(&bytes[..100], [7; 100]);
    assert_eq!(&bytes[100..500], [1u8, 0, 0, 0].repeat(100));
    assert_eq!(&bytes[500..], [7; 3596]);
}

#[cfg(unix)]
#[test]
fn a_handle_that_appends_is_written_to_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.bin");
    std::fs::write(&path, [7u8; 800]).unwrap();
    let a = stored(dir.path(), &[100], false, &[3u64; 100]);
    let file = std::fs::OpenOptions::new().read(true).append(true).open(&path).unwrap();
    // SAFETY: a file of the test's own.
    let mut out = unsafe { MmapArrayMut::<u64>::options().shape(100).map(&file).unwrap() };
    a.blocks().map_into(&mut out, |x| x + 1).unwrap();
    assert!(out.iter().all(|&x| x == 4));
    drop(out);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 800);
}

#[test]
fn shapes_that_differ_are_refused_before_anything_is_written() {
    let mut out = MmapArrayMut::<u8>::scratch((3, 4)).unwrap();
    out.fill(9);
    let (same, other) = (MmapArrayMut::<u8>::scratch((3, 4)).unwrap(), MmapArrayMut::<u8>::scratch((4, 3)).unwrap());
    let refused = other.blocks().map_into(&mut out, |x| x).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ShapeMismatch);
    assert_eq!(refused.to_string(), "a source of shape [4, 3] does not fit shape [3, 4]");
    let refused = same.blocks().zip_map_into(&other, &mut out, |x, _| x).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ShapeMismatch);
    assert!(out.iter().all(|&x| x == 9));
}

#[test]
fn progress_of_a_mapping_counts_the_bytes_that_are_read() {
    let a = MmapArrayMut::<u8>::scratch((1000, 3)).unwrap();
    let mut out = MmapArrayMut::<f64>::scratch((1000, 3)).unwrap();
    let mut reported = Vec::new();
    a.blocks().rows(300).progress(|done, total| reported.push((done, total))).map_into(&mut out, f64::from).unwrap();
    assert_eq!(reported, [(900, 3000), (1800, 3000), (2700, 3000), (3000, 3000)]);
}

#[test]
fn a_panic_while_mapping_is_passed_on() {
    let a = MmapArrayMut::<u8>::scratch(100_000).unwrap();
    let mut out = MmapArrayMut::<u8>::scratch(100_000).unwrap();
    for par in [false, true] {
        let pass = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            parallel!(a.blocks().bytes(100), par).map_into(&mut out, |_| panic!("the closure's own"))
        }));
        assert_eq!(*pass.unwrap_err().downcast::<&str>().unwrap(), "the closure's own");
    }
}

#[cfg(unix)]
#[test]
fn a_file_truncated_during_a_guarded_pass_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for par in [false, true] {
        // Large enough to be read ahead.
        let a = stored(dir.path(), &[32 << 20], false, &vec![1u8; 32 << 20]);
        let cut = |done| {
            if done > 0 {
                std::fs::File::options().write(true).open(a.path().unwrap()).unwrap().set_len(5 << 20).unwrap();
            }
        };
        let pass = a.guarded(|_| parallel!(a.blocks().bytes(1 << 20).progress(|done, _| cut(done)), par).sum());
        assert_eq!(pass.unwrap_err().kind(), ErrorKind::Truncated);
        assert_eq!(a.guarded(|_| a.blocks().sum()).unwrap_err().kind(), ErrorKind::Poisoned);
        // A whole one is walked as ever.
        let a = stored(dir.path(), &[32 << 20], false, &vec![1u8; 32 << 20]);
        assert_eq!(a.guarded(|_| parallel!(a.blocks(), par).sum()).unwrap(), 32 << 20);
    }
}
