//! How elements add up without losing anything: integers exactly, floating-point numbers in double precision and in
//! an order that keeps the error small.

use super::pairwise::{LEAF, NarrowIntSum, Sum, WideIntSum, reduce_pairwise};
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
/// # Comparing floats of `rend`
/// `rend` 0.5 takes two of its floats for equal if the bytes *as they are stored* are, taken for floats of this machine:
/// `f64_be` says that -0.0 is not 0.0, and that NaN is NaN; of numbers whose stored bytes look like a NaN, that they are
/// not themselves. So does ndarray's `==` on arrays of them, and whatever asks it. What is computed here goes by the
/// numbers. Compare the numbers likewise:
#[cfg_attr(feature = "rend", doc = "```")]
#[cfg_attr(not(feature = "rend"), doc = "```ignore")]
/// use ndarray::{Zip, arr1};
/// use rend::f64_be;
///
/// let a = arr1(&[-0.0, f64::from_bits(0x3ff0_0000_0000_f87f)].map(f64_be::from_native));
/// # #[cfg(target_endian = "little")]
/// assert_ne!(a, a); // for the bytes of its second element, read backwards, are a NaN
/// assert_eq!(a.mapv(f64_be::to_native), a.mapv(f64_be::to_native));
///
/// let b = arr1(&[0.0, f64::from_bits(0x3ff0_0000_0000_f87f)].map(f64_be::from_native));
/// assert!(Zip::from(&a).and(&b).all(|x, y| x.to_native() == y.to_native())); // without copies
/// ```
///
/// # Example: an element of one's own
/// ```
/// use bytemuck::{AnyBitPattern, Zeroable};
/// use ndarray_mmap::{MmapArray, blocks::Accumulate};
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
    type Sum: Accumulator;

    /// This element as a sum of one.
    fn widen(self) -> Self::Sum;

    /// The sum of a stretch of elements. Only for speed is there ever a reason to write it anew.
    fn sum_slice(elements: &[Self]) -> Self::Sum {
        Self::Sum::sum_slice(elements, Self::widen)
    }
}

/// What sums are made of: `i128`, `u128`, `f64` and `Complex<f64>`, and no others.
pub trait Accumulator: Copy + Default + Send + Sync + 'static + sealed::Sealed {
    /// What a sum divided by a count is: `f64` or `Complex<f64>`.
    type Mean: MeanValue;
    /// For many sums at once, each of which meets its terms one by one.
    #[doc(hidden)]
    type Running: Running<Self>;

    #[doc(hidden)]
    fn plus(self, other: Self) -> Self;

    #[doc(hidden)]
    fn to_mean(self) -> Self::Mean;

    #[doc(hidden)]
    fn sum_slice<A: Copy>(elements: &[A], widen: impl Fn(A) -> Self + Copy) -> Self;
}

/// What means are: `f64` and `Complex<f64>`, and no others.
pub trait MeanValue: Copy + Default + Send + Sync + 'static + sealed::Sealed {
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

impl MeanValue for f64 {
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

impl Accumulator for f64 {
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
    fn sum_slice<A: Copy>(elements: &[A], widen: impl Fn(A) -> Self + Copy) -> Self {
        reduce_pairwise(elements, Sum(widen)).unwrap_or_default()
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

    use super::{Accumulate, Accumulator, Compensated, MeanValue, Running, Sum, reduce_pairwise};

    impl MeanValue for Complex<f64> {
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

    impl Accumulator for Complex<f64> {
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
        fn sum_slice<A: Copy>(elements: &[A], widen: impl Fn(A) -> Self + Copy) -> Self {
            reduce_pairwise(elements, Sum(widen)).unwrap_or_default()
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
        impl Accumulator for $total {
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
            fn sum_slice<A: Copy>(elements: &[A], widen: impl Fn(A) -> Self + Copy) -> Self {
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

/// A leaf of elements of 16 bits fits in a sum of 32, one of elements of 32 bits in a sum of 64.
const _: () = assert!(LEAF <= 1 << 15);

macro_rules! accumulate_integers {
    ($($element:ty as $native:ty, $short:ty, $sum:ty, $read:expr;)*) => {$(
        impl Accumulate for $element {
            type Sum = $sum;
            #[inline(always)]
            fn widen(self) -> $sum {
                let read: fn(Self) -> $native = $read;
                read(self).into()
            }
            fn sum_slice(elements: &[Self]) -> $sum {
                reduce_pairwise(elements, NarrowIntSum::<_, $short, $sum>::new(|x: Self| x.widen() as $short)).unwrap_or_default()
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

macro_rules! accumulate_long_integers {
    (unsigned { $($unsigned:ty, $read_unsigned:expr;)* } signed { $($signed:ty, $read_signed:expr;)* }) => {
        $(impl Accumulate for $unsigned {
            type Sum = u128;
            #[inline(always)]
            fn widen(self) -> u128 {
                let read: fn(Self) -> u64 = $read_unsigned;
                read(self).into()
            }
            fn sum_slice(elements: &[Self]) -> u128 {
                reduce_pairwise(elements, WideIntSum(|x: Self| x.widen() as u64)).unwrap_or_default()
            }
        })*
        $(impl Accumulate for $signed {
            type Sum = i128;
            #[inline(always)]
            fn widen(self) -> i128 {
                let read: fn(Self) -> i64 = $read_signed;
                read(self).into()
            }
            fn sum_slice(elements: &[Self]) -> i128 {
                // Shifted by 2^63 they are not negative; a sum of fewer than 2^63 of them fits.
                let shifted = reduce_pairwise(elements, WideIntSum(|x: Self| x.widen() as u64 ^ (1 << 63))).unwrap_or_default();
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

    use super::{Accumulate, NarrowIntSum, WideIntSum, reduce_pairwise};

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
