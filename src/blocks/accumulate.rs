//! How elements add up without losing anything: integers exactly, floating-point numbers in double precision and in
//! an order that keeps the error small.

use crate::element::Bool8;

/// An element that can be added up: gives [`sum`](super::BlocksBase::sum), [`mean`](super::BlocksBase::mean),
/// [`var`](super::BlocksBase::var) and their kin.
///
/// | elements | [`Sum`](Self::Sum) | mean | |
/// |---|---|---|---|
/// | `i8` to `i64`, `isize` | `i128` | `f64` | exact: 128 bits hold the sum of any array |
/// | `u8` to `u64`, `usize` | `u128` | `f64` | exact |
/// | [`Bool8`] | `u128` | `f64` | counts the true ones |
/// | `f32`, `f64` | `f64` | `f64` | |
/// | `half::f16`, `half::bf16` | `f64` | `f64` | feature `half` |
/// | `Complex<f32>`, `Complex<f64>` | `Complex<f64>` | `Complex<f64>` | feature `num-complex` |
/// | `rend`'s big- and little-endian numbers, aligned or not | as the native ones | | feature `rend` |
///
/// Integers of 128 bits are left out: their sum might not fit.
///
/// # Example: an element of one's own
/// ```
/// use bytemuck::{AnyBitPattern, Zeroable};
/// use ndarray_mmap::{Accumulate, MmapArray};
///
/// /// Hundredths of a degree.
/// #[derive(Clone, Copy)]
/// #[repr(transparent)]
/// struct Temperature(i16);
///
/// // SAFETY: a transparent wrapper of `i16`, of which zero and every other bit pattern is a value.
/// unsafe impl Zeroable for Temperature {}
/// unsafe impl AnyBitPattern for Temperature {}
///
/// impl Accumulate for Temperature {
///     type Sum = f64;
///     fn widen(self) -> f64 {
///         f64::from(self.0) / 100.0
///     }
/// }
///
/// let path = std::env::temp_dir().join("ndarray-mmap-temperature.bin");
/// std::fs::write(&path, [2150i16, 1850, 2000].map(i16::to_ne_bytes).concat())?;
/// let a = MmapArray::<Temperature>::load(&path)?;
/// assert_eq!(a.blocks().mean(), Some(20.0));
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no sum",
    note = "numbers of up to 64 bits have, with the features `half`, `num-complex` and `rend` also those crates'; \
            for a type of your own implement `Accumulate`"
)]
pub trait Accumulate: Copy + Send + Sync + 'static {
    /// What sums are: `i128`, `u128`, `f64` or `Complex<f64>`.
    type Sum: Total;

    /// This element as a sum of one.
    fn widen(self) -> Self::Sum;

    /// The sum of a stretch of elements. Only for speed is there ever a reason to write it anew.
    fn add_up(elements: &[Self]) -> Self::Sum {
        Self::Sum::add_up(elements, Self::widen)
    }
}

/// What sums are made of: `i128`, `u128`, `f64` and `Complex<f64>`, and no others.
pub trait Total: Copy + Default + Send + Sync + 'static + sealed::Sealed {
    /// What a sum divided by a count is: `f64` or `Complex<f64>`.
    type Mean: Mean;
    /// For many sums at once, each of which meets its terms one by one.
    #[doc(hidden)]
    type Running: Running<Self>;

    #[doc(hidden)]
    fn plus(self, other: Self) -> Self;

    #[doc(hidden)]
    fn to_mean(self) -> Self::Mean;

    #[doc(hidden)]
    fn add_up<A: Copy>(elements: &[A], widen: impl Fn(A) -> Self + Copy) -> Self;
}

/// What means are: `f64` and `Complex<f64>`, and no others.
pub trait Mean: Copy + Default + Send + Sync + 'static + sealed::Sealed {
    #[doc(hidden)]
    fn plus(self, other: Self) -> Self;
    #[doc(hidden)]
    fn minus(self, other: Self) -> Self;
    #[doc(hidden)]
    fn times(self, factor: f64) -> Self;
    #[doc(hidden)]
    fn over(self, divisor: f64) -> Self;
    /// The square of the absolute value.
    #[doc(hidden)]
    fn square(self) -> f64;
}

/// A sum that is being added to.
#[doc(hidden)]
pub trait Running<S>: Copy + Default + Send {
    fn add(&mut self, term: S);
    fn merge(&mut self, other: Self);
    fn value(self) -> S;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for i128 {}
    impl Sealed for u128 {}
    impl Sealed for f64 {}
    #[cfg(feature = "num-complex")]
    impl Sealed for num_complex::Complex<f64> {}
}

/// Sums side by side, so that they need not wait for each other, and fit the widest registers.
const LANES: usize = 16;

/// What is added up lane by lane, before halves are added to halves.
///
/// No element goes through more than `LEAF / LANES + 1` additions in its lane, 4 to join the lanes, and 1 for each
/// doubling of the length from there on: 128 at most, whatever the array.
const LEAF: usize = 1024;

/// Adds floating-point numbers in pairs, of pairs, of pairs.
fn pairwise<A: Copy, R: Mean>(elements: &[A], widen: impl Fn(A) -> R + Copy) -> R {
    if elements.len() > LEAF {
        let (left, right) = elements.split_at((elements.len() / 2).next_multiple_of(LEAF));
        return pairwise(left, widen).plus(pairwise(right, widen));
    }
    let mut lanes = [R::default(); LANES];
    let (groups, rest) = elements.as_chunks::<LANES>();
    for group in groups {
        for (lane, &x) in lanes.iter_mut().zip(group) {
            *lane = lane.plus(widen(x));
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = lane.plus(widen(x));
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for n in 0..width {
            lanes[n] = lanes[n].plus(lanes[n + width]);
        }
    }
    lanes[0]
}

/// Count, mean, and the sum of the squared distances from the mean: what a variance is made of, and can be merged from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments<R> {
    pub(super) count: u64,
    mean: R,
    squares: f64,
}

impl<R: Mean> Moments<R> {
    /// Each leaf is looked at twice while it is in the core's own cache: once for its mean, once for the distances.
    pub(super) fn of<A: Copy>(elements: &[A], widen: impl Fn(A) -> R + Copy) -> Self {
        if elements.len() > LEAF {
            let (left, right) = elements.split_at((elements.len() / 2).next_multiple_of(LEAF));
            return Self::of(left, widen).merge(Self::of(right, widen));
        }
        if elements.is_empty() {
            return Self::default();
        }
        let mean = pairwise(elements, widen).over(elements.len() as f64);
        let squares = pairwise(elements, |x| widen(x).minus(mean).square());
        Self { count: elements.len() as u64, mean, squares }
    }

    pub(super) fn merge(self, other: Self) -> Self {
        if self.count == 0 || other.count == 0 {
            return if self.count == 0 { other } else { self };
        }
        let count = self.count + other.count;
        let share = other.count as f64 / count as f64;
        let apart = other.mean.minus(self.mean);
        Self {
            count,
            mean: self.mean.plus(apart.times(share)),
            squares: self.squares + other.squares + apart.square() * share * self.count as f64,
        }
    }

    /// `None` unless more elements than `ddof` were seen.
    pub(super) fn var(self, ddof: f64) -> Option<f64> {
        let degrees = self.count as f64 - ddof;
        (self.count > 0 && degrees > 0.0).then(|| self.squares / degrees)
    }
}

/// The smallest and the largest; if an element is not equal to itself (NaN), both are such an element.
pub(super) fn min_max<A: Copy + PartialOrd>(elements: &[A]) -> Option<(A, A)> {
    let mut found = None;
    for leaf in elements.chunks(LEAF) {
        found = merge_min_max(found, Some(min_max_of_leaf(leaf, leaf[0])));
    }
    found
}

fn min_max_of_leaf<A: Copy + PartialOrd>(leaf: &[A], first: A) -> (A, A) {
    let (mut least, mut most) = ([first; LANES], [first; LANES]);
    let mut unordered = false;
    let (groups, rest) = leaf.as_chunks::<LANES>();
    for group in groups {
        for n in 0..LANES {
            let x = group[n];
            least[n] = if x < least[n] { x } else { least[n] };
            most[n] = if x > most[n] { x } else { most[n] };
            unordered |= is_unordered(x);
        }
    }
    for (n, &x) in rest.iter().enumerate() {
        least[n] = if x < least[n] { x } else { least[n] };
        most[n] = if x > most[n] { x } else { most[n] };
        unordered |= is_unordered(x);
    }
    if unordered && let Some(&x) = leaf.iter().find(|&&x| is_unordered(x)) {
        return (x, x);
    }
    let least = least.into_iter().reduce(|a, b| if b < a { b } else { a });
    let most = most.into_iter().reduce(|a, b| if b > a { b } else { a });
    (least.unwrap_or(first), most.unwrap_or(first))
}

/// Takes the earlier NaN where there are two.
pub(super) fn merge_min_max<A: Copy + PartialOrd>(left: Option<(A, A)>, right: Option<(A, A)>) -> Option<(A, A)> {
    match (left, right) {
        (Some(l), Some(_)) if is_unordered(l.0) => Some(l),
        (Some(_), Some(r)) if is_unordered(r.0) => Some(r),
        (Some(l), Some(r)) => Some((if r.0 < l.0 { r.0 } else { l.0 }, if r.1 > l.1 { r.1 } else { l.1 })),
        (found, None) | (None, found) => found,
    }
}

/// NaN, for whatever type has one.
#[expect(clippy::eq_op, reason = "only NaN differs from itself")]
fn is_unordered<A: PartialOrd + Copy>(x: A) -> bool {
    x != x
}

impl Mean for f64 {
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self + other
    }
    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        self - other
    }
    #[inline(always)]
    fn times(self, factor: f64) -> Self {
        self * factor
    }
    #[inline(always)]
    fn over(self, divisor: f64) -> Self {
        self / divisor
    }
    #[inline(always)]
    fn square(self) -> f64 {
        self * self
    }
}

impl Total for f64 {
    type Mean = f64;
    type Running = Compensated;

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self + other
    }
    #[inline(always)]
    fn to_mean(self) -> f64 {
        self
    }
    fn add_up<A: Copy>(elements: &[A], widen: impl Fn(A) -> Self + Copy) -> Self {
        pairwise(elements, widen)
    }
}

/// A sum, and what its roundings have lost (Neumaier's variant of Kahan's).
#[derive(Clone, Copy, Debug, Default)]
pub struct Compensated {
    sum: f64,
    lost: f64,
}

impl Running<f64> for Compensated {
    #[inline(always)]
    fn add(&mut self, term: f64) {
        let sum = self.sum + term;
        // What an addition rounds away is exactly this, whichever of the two was larger (Knuth).
        let kept = sum - self.sum;
        self.lost += (self.sum - (sum - kept)) + (term - kept);
        self.sum = sum;
    }

    fn merge(&mut self, other: Self) {
        self.add(other.sum);
        self.lost += other.lost;
    }

    fn value(self) -> f64 {
        // Infinities and NaN leave nothing sensible in `lost`.
        if self.lost.is_finite() { self.sum + self.lost } else { self.sum }
    }
}

#[cfg(feature = "num-complex")]
mod complex {
    use num_complex::Complex;

    use super::{Accumulate, Compensated, Mean, Running, Total, pairwise};

    impl Mean for Complex<f64> {
        #[inline(always)]
        fn plus(self, other: Self) -> Self {
            self + other
        }
        #[inline(always)]
        fn minus(self, other: Self) -> Self {
            self - other
        }
        #[inline(always)]
        fn times(self, factor: f64) -> Self {
            self * factor
        }
        #[inline(always)]
        fn over(self, divisor: f64) -> Self {
            self / divisor
        }
        #[inline(always)]
        fn square(self) -> f64 {
            self.norm_sqr()
        }
    }

    impl Total for Complex<f64> {
        type Mean = Self;
        type Running = Complex<Compensated>;

        #[inline(always)]
        fn plus(self, other: Self) -> Self {
            self + other
        }
        #[inline(always)]
        fn to_mean(self) -> Self {
            self
        }
        fn add_up<A: Copy>(elements: &[A], widen: impl Fn(A) -> Self + Copy) -> Self {
            pairwise(elements, widen)
        }
    }

    impl Running<Complex<f64>> for Complex<Compensated> {
        fn add(&mut self, term: Complex<f64>) {
            self.re.add(term.re);
            self.im.add(term.im);
        }
        fn merge(&mut self, other: Self) {
            self.re.merge(other.re);
            self.im.merge(other.im);
        }
        fn value(self) -> Complex<f64> {
            Complex::new(self.re.value(), self.im.value())
        }
    }

    impl Accumulate for Complex<f64> {
        type Sum = Self;
        #[inline(always)]
        fn widen(self) -> Self {
            self
        }
    }

    impl Accumulate for Complex<f32> {
        type Sum = Complex<f64>;
        #[inline(always)]
        fn widen(self) -> Complex<f64> {
            Complex::new(self.re.into(), self.im.into())
        }
    }
}

macro_rules! exact_total {
    ($($total:ty),*) => {$(
        /// Whatever a type of the caller's own may widen to, nothing panics: such sums end at the type's limits.
        impl Total for $total {
            type Mean = f64;
            type Running = $total;

            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self.saturating_add(other)
            }
            #[inline(always)]
            fn to_mean(self) -> f64 {
                self as f64
            }
            fn add_up<A: Copy>(elements: &[A], widen: impl Fn(A) -> Self + Copy) -> Self {
                elements.iter().fold(0, |sum, &x| sum.plus(widen(x)))
            }
        }

        impl Running<$total> for $total {
            #[inline(always)]
            fn add(&mut self, term: $total) {
                *self = self.plus(term);
            }
            fn merge(&mut self, other: $total) {
                *self = self.plus(other);
            }
            fn value(self) -> $total {
                self
            }
        }
    )*};
}
exact_total!(i128, u128);

/// Elements of up to 32 bits: so many fit in a sum of 64.
const SHORT: usize = 1 << 15;

macro_rules! accumulate_integers {
    ($($element:ty as $native:ty, $short:ty, $sum:ty, $read:expr;)*) => {$(
        impl Accumulate for $element {
            type Sum = $sum;
            #[inline(always)]
            fn widen(self) -> $sum {
                let read: fn(Self) -> $native = $read;
                read(self).into()
            }
            fn add_up(elements: &[Self]) -> $sum {
                let read: fn(Self) -> $native = $read;
                let short = |leaf: &[Self]| leaf.iter().fold(0, |sum: $short, &x| sum + <$short>::from(read(x)));
                elements.chunks(SHORT).fold(0, |sum: $sum, leaf| sum + <$sum>::from(short(leaf)))
            }
        }
    )*};
}

macro_rules! accumulate_floats {
    ($($element:ty, $read:expr;)*) => {$(
        impl Accumulate for $element {
            type Sum = f64;
            #[inline(always)]
            fn widen(self) -> f64 {
                let read: fn(Self) -> _ = $read;
                read(self).into()
            }
        }
    )*};
}

accumulate_integers! {
    i8 as i8, i32, i128, |x| x;
    i16 as i16, i32, i128, |x| x;
    i32 as i32, i64, i128, |x| x;
    u8 as u8, u32, u128, |x| x;
    u16 as u16, u32, u128, |x| x;
    u32 as u32, u64, u128, |x| x;
    Bool8 as u8, u32, u128, |x| x.get().into();
}
accumulate_floats! {
    f32, |x| x;
    f64, |x| x;
}

/// Adds 64-bit integers as two halves, each of which fits in a sum of 64 bits, so that no carry is waited for.
fn add_up_halves<A: Copy>(elements: &[A], read: impl Fn(A) -> u64 + Copy) -> u128 {
    let halves = |leaf: &[A]| {
        leaf.iter().fold((0u64, 0u64), |(low, high), &x| {
            let x = read(x);
            (low + (x & u64::from(u32::MAX)), high + (x >> 32))
        })
    };
    elements.chunks(SHORT).fold(0, |sum, leaf| {
        let (low, high) = halves(leaf);
        sum + u128::from(low) + (u128::from(high) << 32)
    })
}

macro_rules! accumulate_long_integers {
    (unsigned { $($unsigned:ty, $read_unsigned:expr;)* } signed { $($signed:ty, $read_signed:expr;)* }) => {
        $(impl Accumulate for $unsigned {
            type Sum = u128;
            #[inline(always)]
            fn widen(self) -> u128 {
                let read: fn(Self) -> u64 = $read_unsigned;
                read(self).into()
            }
            fn add_up(elements: &[Self]) -> u128 {
                add_up_halves(elements, $read_unsigned)
            }
        })*
        $(impl Accumulate for $signed {
            type Sum = i128;
            #[inline(always)]
            fn widen(self) -> i128 {
                let read: fn(Self) -> i64 = $read_signed;
                read(self).into()
            }
            fn add_up(elements: &[Self]) -> i128 {
                // Shifted by 2^63 they are not negative; a sum of fewer than 2^63 of them fits.
                let read: fn(Self) -> i64 = $read_signed;
                let shifted = add_up_halves(elements, |x| (read(x) as u64) ^ (1 << 63));
                shifted as i128 - ((elements.len() as i128) << 63)
            }
        })*
    };
}

accumulate_long_integers! {
    unsigned {
        u64, |x| x;
        usize, |x| x as u64;
    }
    signed {
        i64, |x| x;
        isize, |x| x as i64;
    }
}

#[cfg(feature = "half")]
accumulate_floats! {
    half::f16, |x| x.to_f32();
    half::bf16, |x| x.to_f32();
}

#[cfg(feature = "rend")]
mod endian {
    use rend::unaligned::*;
    use rend::*;

    use super::{Accumulate, SHORT, add_up_halves};

    accumulate_integers! {
        i16_be as i16, i32, i128, |x| x.to_native();
        i16_le as i16, i32, i128, |x| x.to_native();
        i16_ube as i16, i32, i128, |x| x.to_native();
        i16_ule as i16, i32, i128, |x| x.to_native();
        i32_be as i32, i64, i128, |x| x.to_native();
        i32_le as i32, i64, i128, |x| x.to_native();
        i32_ube as i32, i64, i128, |x| x.to_native();
        i32_ule as i32, i64, i128, |x| x.to_native();
        u16_be as u16, u32, u128, |x| x.to_native();
        u16_le as u16, u32, u128, |x| x.to_native();
        u16_ube as u16, u32, u128, |x| x.to_native();
        u16_ule as u16, u32, u128, |x| x.to_native();
        u32_be as u32, u64, u128, |x| x.to_native();
        u32_le as u32, u64, u128, |x| x.to_native();
        u32_ube as u32, u64, u128, |x| x.to_native();
        u32_ule as u32, u64, u128, |x| x.to_native();
    }
    accumulate_floats! {
        f32_be, |x| x.to_native();
        f32_le, |x| x.to_native();
        f32_ube, |x| x.to_native();
        f32_ule, |x| x.to_native();
        f64_be, |x| x.to_native();
        f64_le, |x| x.to_native();
        f64_ube, |x| x.to_native();
        f64_ule, |x| x.to_native();
    }
    accumulate_long_integers! {
        unsigned {
            u64_be, |x| x.to_native();
            u64_le, |x| x.to_native();
            u64_ube, |x| x.to_native();
            u64_ule, |x| x.to_native();
        }
        signed {
            i64_be, |x| x.to_native();
            i64_le, |x| x.to_native();
            i64_ube, |x| x.to_native();
            i64_ule, |x| x.to_native();
        }
    }
}
