//! What reductions must give: integers exactly, floating-point numbers within the bound that is documented.

use std::fmt::Debug;
use std::sync::Mutex;

use ndarray::{ArrayD, ArrayViewD, Axis};
use ndarray_mmap::{
    BigEndian, Blocks, Bool8, Datetime64, LittleEndian, Str, Unaligned,
    blocks::{Accumulate, Accumulator},
    time_units,
};

use crate::axes::Axes;
use crate::random::Random;

/// A pass that can be repeated, each time in another way, and what it passes over.
pub struct Walked<'w, A: 'static, D> {
    pub start: &'w dyn Fn() -> Blocks<'w, A, D>,
    pub values: &'w ArrayD<A>,
    /// Of the blocks, drawn once.
    pub ways: Ways,
}

/// How a pass is configured.
#[derive(Clone, Copy, Debug)]
pub struct Ways {
    bytes: Option<usize>,
    rows: Option<usize>,
    evict: Option<bool>,
    keep_cached: Option<bool>,
    parallel: bool,
}

impl Ways {
    pub fn any(random: &mut Random) -> Self {
        let choice = |random: &mut Random| random.one_in(6).then(|| random.coin());
        Self {
            bytes: random.coin().then(|| random.pick(&[0, 1, 7, 64, 1000, 4096, 70_000, usize::MAX])),
            rows: random.one_in(3).then(|| random.pick(&[0, 1, 2, 3, 10, usize::MAX])),
            evict: choice(random),
            keep_cached: choice(random),
            parallel: random.coin(),
        }
    }

    pub fn of<'a, D, E>(
        self,
        mut blocks: ndarray_mmap::blocks::BlocksBase<'a, D, E>,
    ) -> ndarray_mmap::blocks::BlocksBase<'a, D, E>
    where
        D: ndarray::Dimension,
    {
        if let Some(bytes) = self.bytes {
            blocks = blocks.bytes(bytes);
        }
        if let Some(rows) = self.rows {
            blocks = blocks.rows(rows);
        }
        if let Some(evict) = self.evict {
            blocks = blocks.evict(evict);
        }
        if let Some(keep) = self.keep_cached {
            blocks = blocks.keep_cached(keep);
        }
        #[cfg(feature = "rayon")]
        let blocks = blocks.parallel(self.parallel);
        #[cfg(not(feature = "rayon"))]
        let _ = self.parallel;
        blocks
    }
}

/// What `progress` reported.
#[derive(Default)]
pub struct Told(Mutex<Vec<(u64, u64)>>);

impl Told {
    pub fn tell(&self) -> impl FnMut(u64, u64) + Send {
        |done, total| self.0.lock().unwrap().push((done, total))
    }

    /// Never back, and to the end, of a pass over so many bytes.
    #[track_caller]
    pub fn check(self, bytes: usize) {
        let reported = self.0.into_inner().unwrap();
        assert!(reported.is_sorted() && reported.iter().all(|t| t.1 == bytes as u64), "{reported:?} of {bytes} bytes");
        assert_eq!(reported.last().map_or(0, |t| t.0), bytes as u64, "{reported:?} of {bytes} bytes");
    }
}

/// A number that holds any of the elements, and their exact sums.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wide {
    Integer(i128),
    /// A sum of two, and what rounding lost of it.
    Real([f64; 2]),
    Complex([[f64; 2]; 2]),
}

fn plus([a, lost]: [f64; 2], [b, more]: [f64; 2]) -> [f64; 2] {
    let sum = a + b;
    if !sum.is_finite() {
        return [sum, 0.0];
    }
    let from_b = sum - a;
    [sum, lost + more + ((a - (sum - from_b)) + (b - from_b))]
}

impl Wide {
    fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => Self::Integer(a + b),
            (Self::Real(a), Self::Real(b)) => Self::Real(plus(a, b)),
            (Self::Complex([a, b]), Self::Complex([c, d])) => Self::Complex([plus(a, c), plus(b, d)]),
            _ => panic!("{self:?} and {other:?} are of different kinds"),
        }
    }

    fn parts(self) -> Vec<f64> {
        match self {
            Self::Integer(x) => vec![x as f64],
            Self::Real(x) => vec![x[0] + x[1]],
            Self::Complex(x) => x.map(|x| x[0] + x[1]).to_vec(),
        }
    }

    /// Exactly an integer; a floating-point number up to `off`.
    #[track_caller]
    fn check(self, expected: Self, off: f64, what: &dyn Debug) {
        if let (Self::Integer(_), Self::Integer(_)) = (self, expected) {
            assert_eq!(self, expected, "{what:?}");
        }
        for (x, y) in self.parts().into_iter().zip(expected.parts()) {
            let near = x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= off;
            assert!(near, "{what:?}: {x:?} for {y:?}, which is off by {:e}, more than {off:e}", (x - y).abs());
        }
    }
}

pub trait IntoWide: Copy + Debug {
    fn wide(self) -> Wide;
}

macro_rules! wide {
    ($($(#[$attribute:meta])* $number:ty: $wide:expr;)*) => {$(
        $(#[$attribute])*
        impl IntoWide for $number {
            fn wide(self) -> Wide {
                $wide(self)
            }
        }
    )*};
}
wide! {
    u8: |x: u8| Wide::Integer(x.into());
    i16: |x: i16| Wide::Integer(x.into());
    u32: |x: u32| Wide::Integer(x.into());
    i64: |x: i64| Wide::Integer(x.into());
    i128: Wide::Integer;
    u128: |x: u128| Wide::Integer(x as i128);
    Bool8: |x: Bool8| Wide::Integer(x.get().into());
    f32: |x: f32| Wide::Real([x.into(), 0.0]);
    f64: |x: f64| Wide::Real([x, 0.0]);
    #[cfg(feature = "num-complex")]
    num_complex::Complex<f32>: |x: num_complex::Complex<f32>| Wide::Complex([[x.re.into(), 0.0], [x.im.into(), 0.0]]);
    #[cfg(feature = "num-complex")]
    num_complex::Complex<f64>: |x: num_complex::Complex<f64>| Wide::Complex([[x.re, 0.0], [x.im, 0.0]]);
    #[cfg(feature = "half")]
    half::f16: |x: half::f16| Wide::Real([x.to_f64(), 0.0]);
    #[cfg(feature = "half")]
    half::bf16: |x: half::bf16| Wide::Real([x.to_f64(), 0.0]);
    #[cfg(feature = "half")]
    Unaligned<BigEndian<half::f16>>: |x: Unaligned<BigEndian<half::f16>>| x.get().get().wide();
    Unaligned<BigEndian<i64>>: |x: Unaligned<BigEndian<i64>>| x.get().get().wide();
    LittleEndian<f32>: |x: LittleEndian<f32>| x.get().wide();
    // In the order of these, and without sums.
    Datetime64<time_units::Millisecond>: |x: Datetime64<_>| Wide::Integer(x.get().unwrap_or(i64::MIN).into());
    BigEndian<Datetime64<time_units::Day>>: |x: BigEndian<Datetime64<_>>| Wide::Integer(x.get().get().unwrap_or(i64::MIN).into());
    Unaligned<Str<2>>: |x: Unaligned<Str<2>>| {
        Wide::Integer(bytemuck::cast::<_, [u32; 2]>(x).iter().fold(0, |all, &unit| all << 32 | i128::from(unit)))
    };
    #[cfg(feature = "rend")]
    rend::f32_be: |x: rend::f32_be| x.to_native().wide();
    #[cfg(feature = "rend")]
    rend::i16_be: |x: rend::i16_be| x.to_native().wide();
    #[cfg(feature = "rend")]
    rend::f64_be: |x: rend::f64_be| x.to_native().wide();
    #[cfg(feature = "rend")]
    rend::unaligned::f64_ube: |x: rend::unaligned::f64_ube| x.to_native().wide();
    #[cfg(feature = "rend")]
    rend::unaligned::i32_ule: |x: rend::unaligned::i32_ule| Wide::Integer(x.to_native().into());
}

/// The documented bound of the error of a sum, for a sum of absolute values of 1.
const BOUND: f64 = 1.0 / (1u64 << 46) as f64;

/// Numbers whose squares could be beyond what there is are left out.
const HUGE: f64 = 1e100;

/// The exact sum, and that of the absolute values of what is finite; the sum is `None` where it could overflow on the way.
fn sum<A: IntoWide>(values: ArrayViewD<'_, A>, zero: Wide) -> (Option<Wide>, f64) {
    let all = values.iter().fold(zero, |sum, &x| sum.plus(x.wide()));
    let parts = values.iter().flat_map(|x| x.wide().parts());
    let abs: f64 = parts.filter(|x| x.is_finite()).map(f64::abs).sum();
    (abs.is_finite().then_some(all), abs)
}

pub fn check_sums<A, D>(walked: &Walked<'_, A, D>, random: &mut Random) -> Option<&'static str>
where
    A: Accumulate + IntoWide,
    A::Sum: IntoWide,
    <A::Sum as Accumulator>::Mean: IntoWide,
    D: Axes,
{
    let Walked { start, values, ways } = walked;
    let start = || ways.of(start());
    let zero = A::Sum::default().wide();
    let count = values.len() as f64;
    let bytes = values.len() * size_of::<A>();
    let kind = random.below(5);
    match kind {
        0 => {
            let reported = Told::default();
            let found = start().progress(reported.tell()).sum().wide();
            reported.check(bytes);
            if let (Some(expected), abs) = sum(values.view(), zero) {
                found.check(expected, BOUND * abs, &"sum");
            }
            Some("sum")
        }
        1 => {
            let found = start().mean();
            assert_eq!(found.is_none(), values.is_empty());
            if let (Some(found), (Some(expected), abs)) = (found, sum(values.view(), zero)) {
                let off = (BOUND + f64::EPSILON) * abs / count;
                over(expected, count).check_near(found.wide(), off);
            }
            Some("mean")
        }
        2 => {
            let ddof = random.pick(&[0.0, 1.0, 2.0, 0.5]);
            let (variance, deviation) = (start().var(ddof), start().std(ddof));
            assert_eq!(variance.is_none(), count <= ddof, "var of {count} with {ddof}");
            assert_eq!(variance.map(|v| v.sqrt().to_bits()), deviation.map(f64::to_bits));
            check_variance(values, variance, ddof);
            Some("var, std")
        }
        _ if values.ndim() == 0 => None,
        3 => {
            let ddof = random.pick(&[0.0, 1.0, 2.0, 0.5]);
            for axis in (0..values.ndim()).map(Axis) {
                let found = D::variances(start, axis, ddof);
                let length = values.len_of(axis);
                assert_eq!(found.is_none(), length == 0);
                let Some([variances, deviations]) = found else { continue };
                // On several threads, two passes may differ in the last bits.
                for (variance, deviation) in variances.iter().zip(&deviations) {
                    let same = *deviation == variance.sqrt() || deviation.is_nan() && variance.is_nan();
                    assert!(same || (deviation / variance.sqrt() - 1.0).abs() < 1e-12, "{variance} {deviation}");
                }
                assert_eq!(variances.shape(), without(values.shape(), axis));
                for (lane, &variance) in values.lanes(axis).into_iter().zip(&variances) {
                    if length as f64 > ddof {
                        check_variance(&lane.to_owned().into_dyn(), Some(variance), ddof);
                    } else {
                        assert!(variance.is_nan(), "{variance} of {length} with {ddof}");
                    }
                }
            }
            Some("var_axis, std_axis")
        }
        _ => {
            for axis in (0..values.ndim()).map(Axis) {
                let sums = D::sums(start(), axis);
                let means = D::means(start(), axis);
                let length = values.len_of(axis);
                assert_eq!(means.is_none(), length == 0);
                let shape = without(values.shape(), axis);
                assert_eq!(sums.shape(), shape);
                if values.is_empty() {
                    assert!(sums.iter().all(|sum| sum.wide() == zero));
                    continue;
                }
                let means = means.unwrap();
                assert_eq!(means.shape(), shape);
                for ((lane, found), mean) in values.lanes(axis).into_iter().zip(&sums).zip(&means) {
                    let (Some(expected), abs) = sum(lane.into_dyn(), zero) else { continue };
                    found.wide().check(expected, BOUND * abs, &("sum", axis));
                    let off = (BOUND + f64::EPSILON) * abs / length as f64;
                    over(expected, length as f64).check_near(mean.wide(), off);
                }
            }
            Some("sum_axis, mean_axis")
        }
    }
}

fn without(shape: &[usize], axis: Axis) -> Vec<usize> {
    let mut shape = shape.to_vec();
    shape.remove(axis.0);
    shape
}

struct Parts(Vec<f64>);

fn over(sum: Wide, count: f64) -> Parts {
    Parts(sum.parts().into_iter().map(|x| x / count).collect())
}

impl Parts {
    #[track_caller]
    fn check_near(self, found: Wide, off: f64) {
        for (x, y) in found.parts().into_iter().zip(self.0) {
            let near = x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= off;
            assert!(near, "mean {x:?} for {y:?}, which is off by {:e}, more than {off:e}", (x - y).abs());
        }
    }
}

/// In two passes.
fn check_variance<A: IntoWide>(values: &ArrayD<A>, found: Option<f64>, ddof: f64) {
    let Some(found) = found else { return };
    let parts: Vec<_> = values.iter().map(|x| x.wide().parts()).collect();
    let most =
        parts.iter().flatten().fold(0.0, |most: f64, x| if x.is_nan() { f64::INFINITY } else { most.max(x.abs()) });
    if most > HUGE {
        let definite = parts.iter().flatten().all(|x| x.is_finite());
        assert!(definite || !found.is_finite(), "{found} for a variance of what is not finite");
        return;
    }
    let count = parts.len() as f64;
    let axes = parts.first().map_or(0, Vec::len);
    let mut squares = 0.0;
    for axis in 0..axes {
        let total = parts.iter().fold([0.0; 2], |sum, x| plus(sum, [x[axis], 0.0]));
        let mean = (total[0] + total[1]) / count;
        let spread = parts.iter().fold([0.0; 2], |sum, x| plus(sum, [(x[axis] - mean).powi(2), 0.0]));
        squares += spread[0] + spread[1];
    }
    let expected = squares / (count - ddof);
    // Nearly that of two passes: some roundings of the result, and of the mean, squared.
    let off = 1e-11 * expected + 1e-28 * most * most * count / (count - ddof) + f64::MIN_POSITIVE;
    assert!((found - expected).abs() <= off, "variance {found:?} for {expected:?}, more than {off:e} off");
}

pub fn check_min_max<A, D>(walked: &Walked<'_, A, D>) -> Option<&'static str>
where
    A: Copy + PartialOrd + Send + Sync + IntoWide,
    D: Axes,
{
    let Walked { start, values, ways } = walked;
    let start = || ways.of(start());
    check_extremes(values.iter(), start().min_max());
    for axis in (0..values.ndim()).map(Axis) {
        let found = D::extremes(start(), axis);
        assert_eq!(found.is_none(), values.len_of(axis) == 0);
        let Some((least, most)) = found else { continue };
        assert_eq!((least.shape(), most.shape()), (&*without(values.shape(), axis), &*without(values.shape(), axis)));
        for ((lane, &least), &most) in values.lanes(axis).into_iter().zip(&least).zip(&most) {
            check_extremes(lane.iter(), Some((least, most)));
        }
    }
    Some("min_max, min_max_axis")
}

fn check_extremes<'a, A: IntoWide + 'a>(values: impl Iterator<Item = &'a A>, found: Option<(A, A)>) {
    let numbers = values.map(|x| match x.wide() {
        Wide::Real([x, _]) => (x, 0),
        Wide::Integer(x) => (0.0, x),
        Wide::Complex(_) => panic!("complex numbers have no order"),
    });
    let expected = numbers.fold(None, |most: Option<[_; 2]>, x: (f64, i128)| {
        let [least, largest] = most.unwrap_or([x, x]);
        let nan = [least.0, x.0].iter().any(|x| x.is_nan()).then_some((f64::NAN, 0));
        let less = if x < least { x } else { least };
        let more = if x > largest { x } else { largest };
        Some([nan.unwrap_or(less), nan.unwrap_or(more)])
    });
    let found = found.map(|(least, largest)| [least, largest].map(|x| x.wide().parts()[0]));
    let expected = expected.map(|both| both.map(|(real, integer)| if integer == 0 { real } else { integer as f64 }));
    match (found, expected) {
        (Some(found), Some(expected)) if expected[0].is_nan() => assert!(found.iter().all(|x| x.is_nan()), "{found:?}"),
        _ => assert_eq!(found, expected, "min_max"),
    }
}
