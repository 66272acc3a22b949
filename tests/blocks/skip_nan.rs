//! Reductions that leave out NaN are those of the numbers that are left, and blocks know their first row.

use std::fmt::Debug;

use ndarray::prelude::*;
use ndarray_mmap::blocks::{Accumulate, Accumulator, Blocks};
use ndarray_mmap::{MmapArrayBase, MmapArrayMut, ReadWrite};
use proptest::prelude::*;

/// A number of an element type as two `f64`: of a real number the second is 0.
trait Element: Accumulate + bytemuck::Pod + PartialOrd + Debug {
    /// NaN where the type has it.
    fn make(number: f64) -> Self;
    fn parts(self) -> [f64; 2];
}

macro_rules! elements {
    ($($name:ty: $make:expr, $parts:expr;)*) => {$(
        impl Element for $name {
            fn make(number: f64) -> Self {
                $make(number)
            }
            fn parts(self) -> [f64; 2] {
                $parts(self)
            }
        }
    )*};
}

elements! {
    f32: |x: f64| x as f32, |x: f32| [x.into(), 0.0];
    f64: |x: f64| x, |x: f64| [x, 0.0];
    i16: |x: f64| x as i16, |x: i16| [x.into(), 0.0];
    u64: |x: f64| x.abs() as u64, |x: u64| [x as f64, 0.0];
}
#[cfg(feature = "half")]
elements! {
    half::f16: half::f16::from_f64, |x: half::f16| [x.to_f64(), 0.0];
}
#[cfg(feature = "rend")]
elements! {
    rend::f64_be: rend::f64_be::from_native, |x: rend::f64_be| [x.to_native(), 0.0];
    rend::unaligned::f32_ube: |x: f64| rend::unaligned::f32_ube::from_native(x as f32),
        |x: rend::unaligned::f32_ube| [x.to_native().into(), 0.0];
}

/// An array in memory of some numbers; where a number is `None` there is NaN, if the type has it.
#[derive(Clone, Debug)]
struct Case {
    shape: Vec<usize>,
    numbers: Vec<Option<i8>>,
    fortran: bool,
    block: Option<usize>,
    parallel: bool,
}

fn cases() -> impl Strategy<Value = Case> {
    let shapes = prop_oneof![
        proptest::collection::vec(0..6_usize, 0..4),
        (1..4_usize, 1..90_usize).prop_map(|(a, b)| vec![a, b]),
        (1..300_usize, 1..40_usize).prop_map(|(a, b)| vec![a, b]),
        Just(vec![20_000]),
    ];
    (shapes, any::<bool>(), prop_oneof![Just(None), (1..5000_usize).prop_map(Some)], any::<bool>(), 0..=3_u8)
        .prop_flat_map(|(shape, fortran, block, parallel, nan_of_3)| {
            let size = shape.iter().product::<usize>();
            let number = (0..3_u8, -100..100_i8).prop_map(move |(third, x)| (third >= nan_of_3).then_some(x));
            proptest::collection::vec(number, size).prop_map(move |numbers| Case {
                shape: shape.clone(),
                numbers,
                fortran,
                block,
                parallel,
            })
        })
}

fn near(a: f64, b: f64) -> bool {
    a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

/// Count, sum, variance and extremes of numbers, from the definitions.
struct Expected {
    count: f64,
    sum: f64,
    squares: f64,
    extremes: Option<(f64, f64)>,
}

impl Expected {
    fn of(numbers: impl Iterator<Item = f64> + Clone) -> Self {
        let numbers = numbers.filter(|x| !x.is_nan());
        let (count, sum) = (numbers.clone().count() as f64, numbers.clone().sum::<f64>());
        let squares = numbers.clone().map(|x| (x - sum / count).powi(2)).sum();
        let extremes = numbers.map(|x| (x, x)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        Self { count, sum, squares, extremes }
    }

    fn var(&self, ddof: f64) -> f64 {
        if self.count > ddof { self.squares / (self.count - ddof) } else { f64::NAN }
    }
}

fn leaves_nan_out<A: Element>(case: &Case) -> std::result::Result<(), TestCaseError>
where
    A::Sum: Into<SumParts>,
    <A::Sum as Accumulator>::Mean: Into<SumParts>,
{
    let elements = case.numbers.iter().map(|x| A::make(x.map_or(f64::NAN, f64::from))).collect();
    let values = ArrayD::from_shape_vec(case.shape.clone(), elements).unwrap();
    let mut array: MmapArrayBase<A, IxDyn, ReadWrite> =
        MmapArrayMut::<A>::scratch(values.raw_dim().set_f(case.fortran)).unwrap();
    array.assign(&values);
    let start = || -> Blocks<'_, A, IxDyn> {
        let blocks = array.blocks().skip_nan(true);
        #[cfg(feature = "rayon")]
        let blocks = blocks.parallel(case.parallel);
        #[cfg(not(feature = "rayon"))]
        let _ = case.parallel;
        match case.block {
            Some(bytes) => blocks.bytes(bytes),
            None => blocks,
        }
    };
    let part = |x: &A| x.parts()[0];
    let all = Expected::of(values.iter().map(part));
    prop_assert!(near(start().sum().into().0, all.sum));
    let mean = start().mean().map(|mean| mean.into().0);
    prop_assert_eq!(mean.is_some(), all.count > 0.0);
    prop_assert!(mean.is_none_or(|mean| near(mean, all.sum / all.count)));
    for ddof in [0.0, 1.0, 3.0] {
        let (var, std) = (start().var(ddof), start().std(ddof));
        prop_assert_eq!(var.is_some(), all.count > ddof);
        prop_assert!(var.is_none_or(|var| near(var, all.var(ddof))), "{:?} {}", var, all.var(ddof));
        prop_assert_eq!(std, var.map(f64::sqrt));
    }
    let extremes = start().min_max().map(|(least, most)| (part(&least), part(&most)));
    prop_assert_eq!(extremes, all.extremes);
    for axis in (0..values.ndim()).map(Axis) {
        let lanes: Vec<_> =
            values.lanes(axis).into_iter().map(|lane| Expected::of(lane.into_iter().map(part))).collect();
        let sums = start().sum_axis(axis);
        prop_assert!(sums.iter().zip(&lanes).all(|(&sum, lane)| near(sum.into().0, lane.sum)));
        prop_assert_eq!(sums.len(), lanes.len());
        let (means, variances) = (start().mean_axis(axis), start().var_axis(axis, 1));
        let extremes = start().min_max_axis(axis);
        if values.len_of(axis) == 0 {
            prop_assert!(means.is_none() && variances.is_none() && extremes.is_none());
            continue;
        }
        let expected = |lane: &Expected| if lane.count > 0.0 { lane.sum / lane.count } else { f64::NAN };
        prop_assert!(means.unwrap().iter().zip(&lanes).all(|(&mean, lane)| near(mean.into().0, expected(lane))));
        prop_assert!(variances.unwrap().iter().zip(&lanes).all(|(&var, lane)| near(var, lane.var(1.0))));
        let (least, most) = extremes.unwrap();
        for ((least, most), lane) in least.iter().zip(&most).zip(&lanes) {
            match lane.extremes {
                Some(expected) => prop_assert_eq!((part(least), part(most)), expected),
                None => prop_assert!(part(least).is_nan() && part(most).is_nan()),
            }
        }
    }
    Ok(())
}

/// The real part of a sum or a mean.
struct SumParts(f64);

macro_rules! sum_parts {
    ($($sum:ty)*) => {$(
        impl From<$sum> for SumParts {
            fn from(sum: $sum) -> Self {
                Self(sum as f64)
            }
        }
    )*};
}
sum_parts!(f64 i128 u128);

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_results_are_those_of_the_numbers_that_are_left(case in cases()) {
        leaves_nan_out::<f32>(&case)?;
        leaves_nan_out::<i16>(&case)?;
        #[cfg(feature = "rend")]
        leaves_nan_out::<rend::f64_be>(&case)?;
        // The same code, and a minute to compile when it is optimised.
        #[cfg(debug_assertions)]
        {
            leaves_nan_out::<f64>(&case)?;
            leaves_nan_out::<u64>(&case)?;
            #[cfg(feature = "half")]
            leaves_nan_out::<half::f16>(&case)?;
            #[cfg(feature = "rend")]
            leaves_nan_out::<rend::unaligned::f32_ube>(&case)?;
        }
    }

    #[test]
    fn blocks_know_their_first_row(
        shape in proptest::collection::vec(0..7_usize, 0..4), fortran in any::<bool>(), bytes in 1..100_usize,
        rows in prop_oneof![Just(None), (0..5_usize).prop_map(Some)],
    ) {
        let shape = IxDyn(&shape);
        let axis = if fortran { shape.ndim().saturating_sub(1) } else { 0 };
        let mut array = MmapArrayMut::<u16>::scratch(shape.clone().set_f(fortran)).unwrap();
        array.indexed_iter_mut().for_each(|(at, x)| *x = if at.ndim() == 0 { 0 } else { at[axis] as u16 });
        let start = || rows.map_or(array.blocks().bytes(bytes), |rows| array.blocks().rows(rows));
        let starts_there = |(first, block): (usize, ArrayViewD<u16>)| {
            block.first().is_some_and(|&x| usize::from(x) == first)
                && (block.ndim() == 0 || block.iter().all(|&x| usize::from(x) < first + block.len_of(Axis(axis))))
        };
        let blocks = start().into_iter().len();
        prop_assert_eq!(start().indexed().into_iter().len(), blocks);
        prop_assert!(start().indexed().into_iter().all(starts_there));
        prop_assert!(start().indexed().into_iter().rev().all(starts_there));
        let mut both = start().indexed().into_iter();
        let mut seen = 0;
        while let Some(block) = if seen % 2 == 0 { both.next() } else { both.next_back() } {
            prop_assert!(starts_there(block));
            seen += 1;
        }
        prop_assert_eq!(seen, blocks);
        #[cfg(feature = "rayon")]
        {
            use ndarray::parallel::prelude::*;
            prop_assert!(start().indexed().into_par_iter().all(starts_there));
            prop_assert_eq!(start().indexed().into_par_iter().count(), blocks);
        }
        let mut other = MmapArrayMut::<u16>::scratch(shape.set_f(fortran)).unwrap();
        for (first, mut block) in other.blocks_mut().bytes(bytes).indexed() {
            match block.ndim() {
                0 => block.fill(first as u16),
                _ => block.axis_iter_mut(Axis(axis)).zip(first..).for_each(|(mut row, n)| row.fill(n as u16)),
            }
        }
        prop_assert_eq!(array.view(), other.view());
    }
}

#[test]
#[cfg(feature = "num-complex")]
fn a_complex_number_is_left_out_if_one_of_its_parts_is_nan() {
    use num_complex::Complex;
    let nan = f64::NAN;
    let values = array![
        [Complex::new(1.0, 2.0), Complex::new(nan, 5.0)],
        [Complex::new(3.0, nan), Complex::new(-2.0, 0.5)],
        [Complex::new(2.0, 4.0), Complex::new(nan, nan)]
    ];
    let mut a = MmapArrayMut::<Complex<f64>>::scratch((3, 2)).unwrap();
    a.assign(&values);
    let start = || a.blocks().skip_nan(true);
    assert_eq!(start().sum(), Complex::new(1.0, 6.5));
    assert_eq!(start().mean(), Some(Complex::new(1.0, 6.5) / 3.0));
    assert_eq!(start().sum_axis(Axis(0)), array![Complex::new(3.0, 6.0), Complex::new(-2.0, 0.5)]);
    assert_eq!(start().mean_axis(Axis(1)).unwrap()[2], Complex::new(2.0, 4.0));
    assert_eq!(start().var_axis(Axis(0), 0).unwrap(), array![1.25, 0.0]);
    a.fill(Complex::new(nan, 0.0));
    assert_eq!((a.blocks().skip_nan(true).sum(), a.blocks().skip_nan(true).mean()), (Complex::new(0.0, 0.0), None));
    assert!(a.blocks().skip_nan(true).mean_axis(Axis(0)).unwrap().iter().all(|z| z.re.is_nan()));
}

/// Elements of several numbers are left out if they are not ordered.
#[test]
fn elements_without_an_order_are_left_out_of_the_extremes() {
    /// With NaN in any place, and elements of up to 16 bytes or more.
    fn extremes<const N: usize>(elements: &[[f64; N]], expected: Option<([f64; N], [f64; N])>) {
        let mut a = MmapArrayMut::<[f64; N]>::scratch((elements.len(), 1)).unwrap();
        a.iter_mut().zip(elements).for_each(|(x, &element)| *x = element);
        for bytes in [1, 1 << 20] {
            assert_eq!(a.blocks().bytes(bytes).skip_nan(true).min_max(), expected, "{elements:?}");
            let along = a.blocks().bytes(bytes).skip_nan(true).min_max_axis(Axis(0)).unwrap();
            match expected {
                Some((least, most)) => assert_eq!((along.0[0], along.1[0]), (least, most), "{elements:?}"),
                None => assert!(along.0[0].iter().any(|x| x.is_nan())),
            }
        }
    }
    let nan = f64::NAN;
    for unordered in [[nan, 0.0, 0.0], [1.0, nan, 0.0], [1.0, 5.0, nan]] {
        let (two, three) = ([2.0, 0.0, 0.0], [3.0, 0.0, 0.0]);
        for elements in [[unordered, two, three], [two, unordered, three], [three, two, unordered]] {
            extremes(&elements, Some((two, three)));
            extremes(
                &elements.map(|[a, b, _]| [a, b]),
                if unordered[2].is_nan() { Some(([1.0, 5.0], [3.0, 0.0])) } else { Some(([2.0, 0.0], [3.0, 0.0])) },
            );
        }
        extremes(&[two, unordered], Some((two, two)));
        extremes(&[unordered, unordered], None);
    }
}
