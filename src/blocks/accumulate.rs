//! How elements add up: integers exactly, floating-point numbers in double precision with a small error.

#[cfg(feature = "num-complex")]
use num_complex::Complex;

use super::columns::Rows;
use super::lane_reductions::{ColumnSums, HalfSums, columns_of};
use super::pairwise::reduce_pairwise;
use super::reductions::sealed::Sealed;
use super::reductions::{MeanValue, NarrowIntSum, Sum, WideIntSum};
use crate::element::{BigEndian, Bool8, ByteOrdered, LittleEndian, Unaligned, for_each_number};

/// An element that can be added up: it has [`sum`](super::BlocksBase::sum), [`mean`](super::BlocksBase::mean),
/// [`var`](super::BlocksBase::var) and what is computed likewise.
///
/// | elements | [`Sum`](Self::Sum) | mean | |
/// |---|---|---|---|
/// | `i8` to `i64`, `isize` | `i128` | `f64` | exact: 128 bits hold the sum of any array |
/// | `u8` to `u64`, `usize` | `u128` | `f64` | exact |
/// | [`Bool8`] | `u128` | `f64` | counts the true ones |
/// | `f32`, `f64` | `f64` | `f64` | |
/// | `half::f16`, `half::bf16` | `f64` | `f64` | feature `half` |
/// | `Complex<f32>`, `Complex<f64>` | `Complex<f64>` | `Complex<f64>` | feature `num-complex` |
/// | [`BigEndian<T>`], [`LittleEndian<T>`], [`Unaligned<T>`] | as `T` | | |
/// | `Complex` of `BigEndian` or `LittleEndian` floats | `Complex<f64>` | `Complex<f64>` | feature `num-complex` |
/// | `rend`'s big- and little-endian numbers, aligned or not, and `Complex` of its floats | as the native ones | | feature `rend` |
///
/// Integers of 128 bits have no sum: it might not fit.
///
/// # Comparing floats of `rend`
/// The `==` of `rend` 0.5 compares the *stored bytes* of two floats, as if they were floats of this machine. So for
/// `f64_be` -0.0 is not equal to 0.0, NaN is equal to NaN, and a number is not equal to itself if its stored bytes are
/// those of a NaN. ndarray's `==` on arrays of them does the same. The operations of this crate use the numbers, and so does
/// the `==` of [`BigEndian`]. To compare numbers:
#[cfg_attr(feature = "rend", doc = "```")]
#[cfg_attr(not(feature = "rend"), doc = "```ignore")]
/// use ndarray::{Zip, arr1};
/// use rend::f64_be;
///
/// let a = arr1(&[-0.0, f64::from_bits(0x3ff0_0000_0000_f87f)].map(f64_be::from_native));
/// # #[cfg(target_endian = "little")]
/// assert_ne!(a, a); // the bytes of its second element, read backwards, are a NaN
/// assert_eq!(a.mapv(f64_be::to_native), a.mapv(f64_be::to_native));
///
/// let b = arr1(&[0.0, f64::from_bits(0x3ff0_0000_0000_f87f)].map(f64_be::from_native));
/// assert!(Zip::from(&a).and(&b).all(|x, y| x.to_native() == y.to_native())); // without copies
/// ```
///
/// # Example: an element of your own
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
/// # let path = std::env::temp_dir().join(format!("ndarray-mmap-temperature-{}.bin", std::process::id()));
/// std::fs::write(&path, [2150i16, 1850, 2000].map(i16::to_ne_bytes).concat())?;
/// let a = MmapArray::<Temperature>::load(&path)?;
/// assert_eq!(a.blocks().mean(), Some(20.0));
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no sum",
    note = "it is implemented for numbers of up to 64 bits, and with the features `half`, `num-complex` and `rend` for the \
            numbers of those crates; for a type of your own, implement `Accumulate`"
)]
pub trait Accumulate: Copy + Send + Sync + 'static {
    /// The type of sums: `i128`, `u128`, `f64` or `Complex<f64>`.
    type Sum: Accumulator;

    /// The sum of this element alone.
    fn widen(self) -> Self::Sum;

    /// The sum of consecutive elements. Implement it only to be faster.
    fn sum_slice(elements: &[Self]) -> Self::Sum {
        Self::sum_slice_of(elements, |x| x)
    }

    /// The same of elements that `get` makes of others.
    #[doc(hidden)]
    #[inline(always)]
    fn sum_slice_of<E: Copy>(elements: &[E], get: impl Fn(E) -> Self + Copy) -> Self::Sum {
        Self::Sum::sum_slice(elements, move |x| get(x).widen())
    }

    /// The sum of so few elements that a plain loop is the fastest.
    #[doc(hidden)]
    #[inline(always)]
    fn sum_few(elements: &[Self]) -> Self::Sum {
        Self::sum_few_of(elements, |x| x)
    }

    /// The same of elements that `get` makes of others.
    #[doc(hidden)]
    #[inline(always)]
    fn sum_few_of<E: Copy>(elements: &[E], get: impl Fn(E) -> Self + Copy) -> Self::Sum {
        elements.iter().fold(Self::Sum::default(), |sum, &x| sum.plus(get(x).widen()))
    }

    /// Passes on the sum of each column, with its number: of at most `N` columns of at most 512 rows.
    #[doc(hidden)]
    #[inline(always)]
    fn sum_columns<const N: usize>(rows: Rows<'_, Self>, emit: impl FnMut(usize, Self::Sum)) {
        Self::sum_columns_of::<N, _>(rows, |x| x, emit);
    }

    /// The same of elements that `get` makes of others.
    #[doc(hidden)]
    #[inline(always)]
    fn sum_columns_of<const N: usize, E: Copy>(
        rows: Rows<'_, E>,
        get: impl Fn(E) -> Self + Copy,
        emit: impl FnMut(usize, Self::Sum),
    ) {
        sum_columns::<N, _, _>(rows, move |x| get(x).widen(), Self::Sum::plus, emit);
    }
}

/// Passes on the sum of each column, with its number, of elements that `read` converts and `plus` adds.
#[inline(always)]
fn sum_columns<const N: usize, A: Copy, S: Copy + Default>(
    rows: Rows<'_, A>,
    read: impl Fn(A) -> S,
    plus: impl Fn(S, S) -> S,
    mut emit: impl FnMut(usize, S),
) {
    let mut sums = [S::default(); N];
    rows.visit(&mut ColumnSums { sums: &mut sums, read, plus });
    columns_of(&rows, N).for_each(|n| emit(n, sums[n]));
}

/// The same for 64-bit integers.
#[inline(always)]
fn sum_wide_columns<const N: usize, A: Copy>(
    rows: Rows<'_, A>,
    read: impl Fn(A) -> u64,
    mut emit: impl FnMut(usize, u128),
) {
    let (mut low, mut high) = ([0; N], [0; N]);
    rows.visit(&mut HalfSums { low: &mut low, high: &mut high, read });
    columns_of(&rows, N).for_each(|n| emit(n, u128::from(low[n]) + (u128::from(high[n]) << 32)));
}

/// A sum: `i128`, `u128`, `f64` or `Complex<f64>`, and no others.
pub trait Accumulator: Copy + Default + Send + Sync + 'static + Sealed {
    /// A sum divided by a count: `f64` or `Complex<f64>`.
    type Mean: MeanValue;
    /// For many sums at once, to each of which terms are added one by one.
    #[doc(hidden)]
    type Running: Running<Self>;

    /// Whether there are values that are not numbers.
    #[doc(hidden)]
    const HAS_NAN: bool = true;

    #[doc(hidden)]
    fn is_nan(self) -> bool;

    #[doc(hidden)]
    fn plus(self, other: Self) -> Self;

    #[doc(hidden)]
    fn to_mean(self) -> Self::Mean;

    #[doc(hidden)]
    fn sum_slice<A: Copy>(elements: &[A], widen: impl Fn(A) -> Self + Copy) -> Self;
}

/// A sum that terms are added to.
#[doc(hidden)]
pub trait Running<S>: Copy + Default + Send {
    fn of(term: S) -> Self;
    fn add(&mut self, term: S);
    fn merge(&mut self, other: Self);
    fn value(self) -> S;
}

impl Accumulator for f64 {
    type Mean = f64;
    type Running = Compensated;

    #[inline(always)]
    fn is_nan(self) -> bool {
        self.is_nan()
    }
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

/// A sum and its rounding errors so far (Neumaier's variant of Kahan's sum).
#[derive(Clone, Copy, Debug, Default)]
pub struct Compensated {
    sum: f64,
    lost: f64,
}

impl Running<f64> for Compensated {
    #[inline(always)]
    fn of(sum: f64) -> Self {
        Self { sum, lost: 0.0 }
    }

    #[inline(always)]
    fn add(&mut self, term: f64) {
        let sum = self.sum + term;
        // Exactly the rounding error of the addition, whichever of the two is larger (Knuth's TwoSum).
        let kept = sum - self.sum;
        self.lost += (self.sum - (sum - kept)) + (term - kept);
        self.sum = sum;
    }

    #[inline(always)]
    fn merge(&mut self, other: Self) {
        self.add(other.sum);
        self.lost += other.lost;
    }

    #[inline(always)]
    fn value(self) -> f64 {
        // Of infinities and NaN the error is meaningless.
        if self.lost.is_finite() { self.sum + self.lost } else { self.sum }
    }
}

#[cfg(feature = "num-complex")]
impl Accumulator for Complex<f64> {
    type Mean = Self;
    type Running = Complex<Compensated>;

    #[inline(always)]
    fn is_nan(self) -> bool {
        self.re.is_nan() || self.im.is_nan()
    }
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

#[cfg(feature = "num-complex")]
impl Running<Complex<f64>> for Complex<Compensated> {
    fn of(term: Complex<f64>) -> Self {
        Self { re: Running::of(term.re), im: Running::of(term.im) }
    }
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

macro_rules! integer_accumulator {
    ($($sum:ty),*) => {$(
        impl Sealed for $sum {}

        /// Saturates, so that nothing panics whatever an element of the caller's own widens to.
        impl Accumulator for $sum {
            type Mean = f64;
            type Running = $sum;

            const HAS_NAN: bool = false;

            #[inline(always)]
            fn is_nan(self) -> bool {
                false
            }
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

        impl Running<$sum> for $sum {
            #[inline(always)]
            fn of(term: $sum) -> Self {
                term
            }
            #[inline(always)]
            fn add(&mut self, term: $sum) {
                *self = self.plus(term);
            }
            #[inline(always)]
            fn merge(&mut self, other: $sum) {
                *self = self.plus(other);
            }
            #[inline(always)]
            fn value(self) -> $sum {
                self
            }
        }
    )*};
}
integer_accumulator!(i128, u128);

/// A type of this machine's numbers.
macro_rules! accumulate {
    (Float $native:ident) => {
        impl Accumulate for $native {
            type Sum = f64;
            #[inline(always)]
            fn widen(self) -> f64 {
                self.into()
            }
        }

        #[cfg(feature = "num-complex")]
        impl Accumulate for Complex<$native> {
            type Sum = Complex<f64>;
            #[inline(always)]
            fn widen(self) -> Complex<f64> {
                Complex::new(self.re.into(), self.im.into())
            }
        }
    };
    (Uint $native:ident) => {
        impl Accumulate for $native {
            type Sum = u128;
            #[inline(always)]
            fn widen(self) -> u128 {
                self as u128
            }
            #[inline(always)]
            fn sum_slice_of<E: Copy>(elements: &[E], get: impl Fn(E) -> Self + Copy) -> u128 {
                match size_of::<Self>() {
                    ..=2 => reduce_pairwise(elements, NarrowIntSum::<_, u32, u128>::new(move |x| get(x) as u32)),
                    ..=4 => reduce_pairwise(elements, NarrowIntSum::<_, u64, u128>::new(move |x| get(x) as u64)),
                    _ => reduce_pairwise(elements, WideIntSum(move |x| get(x) as u64)),
                }
                .unwrap_or_default()
            }
            #[inline(always)]
            fn sum_few_of<E: Copy>(elements: &[E], get: impl Fn(E) -> Self + Copy) -> u128 {
                elements.iter().fold(0, |sum: u128, &x| sum.wrapping_add(get(x).widen()))
            }
            #[inline(always)]
            fn sum_columns_of<const N: usize, E: Copy>(
                rows: Rows<'_, E>,
                get: impl Fn(E) -> Self + Copy,
                mut emit: impl FnMut(usize, u128),
            ) {
                let (narrow, wide) = (|x| get(x) as u32, |x| get(x) as u64);
                match size_of::<Self>() {
                    ..=2 => sum_columns::<N, _, _>(rows, narrow, |a, b| a + b, |n, sum| emit(n, sum.into())),
                    ..=4 => sum_columns::<N, _, _>(rows, wide, |a, b| a + b, |n, sum| emit(n, sum.into())),
                    _ => sum_wide_columns::<N, _>(rows, wide, emit),
                }
            }
        }
    };
    (Int $native:ident) => {
        impl Accumulate for $native {
            type Sum = i128;
            #[inline(always)]
            fn widen(self) -> i128 {
                self as i128
            }
            #[inline(always)]
            fn sum_slice_of<E: Copy>(elements: &[E], get: impl Fn(E) -> Self + Copy) -> i128 {
                match size_of::<Self>() {
                    ..=2 => reduce_pairwise(elements, NarrowIntSum::<_, i32, i128>::new(move |x| get(x) as i32)),
                    ..=4 => reduce_pairwise(elements, NarrowIntSum::<_, i64, i128>::new(move |x| get(x) as i64)),
                    // Shifted by 2^63 they are not negative; a sum of fewer than 2^63 of them fits.
                    _ => reduce_pairwise(elements, WideIntSum(move |x| get(x) as u64 ^ (1 << 63)))
                        .map(|shifted| shifted as i128 - ((elements.len() as i128) << 63)),
                }
                .unwrap_or_default()
            }
            #[inline(always)]
            fn sum_few_of<E: Copy>(elements: &[E], get: impl Fn(E) -> Self + Copy) -> i128 {
                elements.iter().fold(0, |sum: i128, &x| sum.wrapping_add(get(x).widen()))
            }
            #[inline(always)]
            fn sum_columns_of<const N: usize, E: Copy>(
                rows: Rows<'_, E>,
                get: impl Fn(E) -> Self + Copy,
                mut emit: impl FnMut(usize, i128),
            ) {
                let (narrow, wide) = (|x| get(x) as i32, |x| get(x) as i64);
                // As in `sum_slice_of`.
                let (shifted, shift) = (|x| get(x) as u64 ^ (1 << 63), (rows.count() as i128) << 63);
                match size_of::<Self>() {
                    ..=2 => sum_columns::<N, _, _>(rows, narrow, |a, b| a + b, |n, sum| emit(n, sum.into())),
                    ..=4 => sum_columns::<N, _, _>(rows, wide, |a, b| a + b, |n, sum| emit(n, sum.into())),
                    _ => sum_wide_columns::<N, _>(rows, shifted, |n, sum| emit(n, sum as i128 - shift)),
                }
            }
        }
    };
}

/// An element that adds up as another, which `get` makes of it.
macro_rules! accumulate_as {
    ([$($($parameter:tt)+)?] $element:ty => $value:ty, $get:expr) => {
        impl $(<$($parameter)+>)? Accumulate for $element {
            type Sum = <$value as Accumulate>::Sum;
            #[inline(always)]
            fn widen(self) -> Self::Sum {
                <$value>::widen($get(self))
            }
            #[inline(always)]
            fn sum_slice_of<E: Copy>(elements: &[E], get: impl Fn(E) -> Self + Copy) -> Self::Sum {
                <$value>::sum_slice_of(elements, move |x| $get(get(x)))
            }
            #[inline(always)]
            fn sum_few_of<E: Copy>(elements: &[E], get: impl Fn(E) -> Self + Copy) -> Self::Sum {
                <$value>::sum_few_of(elements, move |x| $get(get(x)))
            }
            #[inline(always)]
            fn sum_columns_of<const N: usize, E: Copy>(
                rows: Rows<'_, E>,
                get: impl Fn(E) -> Self + Copy,
                emit: impl FnMut(usize, Self::Sum),
            ) {
                <$value>::sum_columns_of::<N, E>(rows, move |x| $get(get(x)), emit);
            }
        }
    };
}

/// A type of `rend`, and for a float its complex numbers, too.
#[cfg(feature = "rend")]
macro_rules! accumulate_rend {
    (Float $native:ident $element:ident) => {
        accumulate_as!([] $element => $native, $native::from);
        #[cfg(feature = "num-complex")]
        accumulate_as!([] Complex<$element> => Complex<$native>, |z: Complex<$element>| {
            Complex::new($native::from(z.re), $native::from(z.im))
        });
    };
    ($kind:ident $native:ident $element:ident) => {
        accumulate_as!([] $element => $native, $native::from);
    };
}

macro_rules! accumulate_numbers {
    ($($kind:ident $native:ident: $($rend:ident)*;)*) => {
        $(accumulate!($kind $native);)*

        #[cfg(feature = "rend")]
        const _: () = {
            use rend::{unaligned::*, *};
            $($(accumulate_rend!($kind $native $rend);)*)*
        };
    };
}
for_each_number!(accumulate_numbers);
accumulate_as!([] Bool8 => u8, |x: Bool8| u8::from(x.get()));
#[cfg(feature = "half")]
accumulate_as!([] half::f16 => f32, f32::from);
#[cfg(feature = "half")]
accumulate_as!([] half::bf16 => f32, f32::from);
accumulate_as!([T: Accumulate + bytemuck::Pod] Unaligned<T> => T, Unaligned::get);

macro_rules! accumulate_stored {
    ($($order:ident)*) => {$(
        accumulate_as!([T: Accumulate + ByteOrdered] $order<T> => T, $order::get);
        #[cfg(feature = "num-complex")]
        accumulate_as!([] Complex<$order<f32>> => Complex<f32>, |z: Complex<$order<f32>>| Complex::new(z.re.get(), z.im.get()));
        #[cfg(feature = "num-complex")]
        accumulate_as!([] Complex<$order<f64>> => Complex<f64>, |z: Complex<$order<f64>>| Complex::new(z.re.get(), z.im.get()));
    )*};
}
accumulate_stored!(BigEndian LittleEndian);

#[cfg(all(test, feature = "num-complex"))]
mod tests {
    use super::*;

    #[test]
    fn complex_numbers_add_up_in_either_byte_order() {
        let values = [Complex::new(1.5f32, -2.0), Complex::new(0.25, 8.0)];
        let expected = Complex::new(1.75, 6.0);
        let (big, little) = (BigEndian::<f32>::new, LittleEndian::<f32>::new);
        let sums = [
            Accumulate::sum_slice(&values.map(|z| Complex::new(big(z.re), big(z.im)))),
            Accumulate::sum_slice(&values.map(|z| Complex::new(little(z.re), little(z.im)))),
            Accumulate::sum_slice(&values.map(|z| Unaligned::new(Complex::new(big(z.re), big(z.im))))),
        ];
        assert_eq!(sums, [expected; 3]);
        #[cfg(feature = "rend")]
        {
            let (big, little) = (rend::f32_be::from_native, rend::f32_le::from_native);
            let sums = [
                Accumulate::sum_slice(&values.map(|z| Complex::new(big(z.re), big(z.im)))),
                Accumulate::sum_slice(&values.map(|z| Complex::new(little(z.re), little(z.im)))),
            ];
            assert_eq!(sums, [expected; 2]);
        }
    }
}
