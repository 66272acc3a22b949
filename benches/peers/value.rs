//! Element types, and a number that stands for a result, so that results can be compared between processes.

use bytemuck::Pod;
use half::f16;
use ndarray::{Array, ArrayView1, Dimension};
use ndarray_mmap::MmapArrayBase;
use ndarray_mmap::blocks::Accumulate;
use num_complex::Complex;
use rend::f64_be;

pub trait Number: Copy {
    fn number(self) -> f64;
}

/// An element of the files that are measured.
pub trait Element: Accumulate<Sum: Number> + Pod + Number {
    /// NumPy's name.
    const DTYPE: &'static str;
    /// How far results of the contestants may differ, relatively: some of them add up in few bits.
    const TOLERANCE: f64;

    fn from_int(n: i32) -> Self;

    /// The sum as a user of ndarray would write it who wants the result to be right.
    fn sum_by_ndarray(view: ArrayView1<'_, Self>) -> f64;

    /// Element number `n` of every file: scattered between -2047 and 2047, and such that sums stay near zero. Sums of few
    /// bits, which some contestants compute, would otherwise be far from right.
    fn numbered(n: usize) -> Self {
        let scattered = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 53;
        Self::from_int(2 * scattered as i32 - 2047)
    }
}

macro_rules! elements {
    ($($type:ty, $dtype:literal, $tolerance:literal, $from:expr, $number:expr, $sum:expr;)*) => {$(
        impl Number for $type {
            fn number(self) -> f64 {
                let number: fn(Self) -> f64 = $number;
                number(self)
            }
        }

        impl Element for $type {
            const DTYPE: &'static str = $dtype;
            const TOLERANCE: f64 = $tolerance;

            fn from_int(n: i32) -> Self {
                let from: fn(i32) -> Self = $from;
                from(n)
            }

            fn sum_by_ndarray(view: ArrayView1<'_, Self>) -> f64 {
                let sum: fn(ArrayView1<'_, Self>) -> f64 = $sum;
                sum(view)
            }
        }
    )*};
}

elements! {
    u8, "u1", 1e-9, |n| (n >> 1) as u8, f64::from, |v| v.fold(0_u64, |sum, &x| sum + u64::from(x)) as f64;
    i16, "i2", 1e-9, |n| n as i16, f64::from, |v| v.fold(0_i64, |sum, &x| sum + i64::from(x)) as f64;
    i32, "i4", 1e-9, |n| n, f64::from, |v| v.fold(0_i64, |sum, &x| sum + i64::from(x)) as f64;
    i64, "i8", 1e-9, i64::from, |x| x as f64, |v| v.sum() as f64;
    f16, "f2", 2e-3, |n| f16::from_f32(n as f32 / 32.0), f64::from, |v| v.fold(0.0, |sum, &x| sum + f64::from(x));
    f32, "f4", 1e-3, |n| n as f32 / 32.0, f64::from, |v| v.sum().into();
    f64, "f8", 1e-9, |n| f64::from(n) / 32.0, |x| x, |v| v.sum();
    f64_be, ">f8", 1e-9, |n| (f64::from(n) / 32.0).into(), f64_be::to_native, |v| v.fold(0.0, |sum, x| sum + x.to_native());
    Complex<f64>, "c16", 1e-9, |n| Complex::new(n.into(), 0.5), |x| x.re + 3.0 * x.im, |v| v.sum().number();
}

impl Number for u128 {
    fn number(self) -> f64 {
        self as f64
    }
}

impl Number for i128 {
    fn number(self) -> f64 {
        self as f64
    }
}

/// A result.
pub trait Value {
    /// A number that depends on all of it, or on a million elements of a large array, and on their order.
    fn value(&self) -> f64;
}

/// A result in a file, which is compared by the file.
impl Value for () {
    fn value(&self) -> f64 {
        0.0
    }
}

impl<A: Number> Value for A {
    fn value(&self) -> f64 {
        self.number()
    }
}

/// `None` is the result for no elements, and there are some.
impl<R: Value> Value for Option<R> {
    fn value(&self) -> f64 {
        self.as_ref().map_or(f64::NAN, R::value)
    }
}

impl<A: Value, B: Value> Value for (A, B) {
    fn value(&self) -> f64 {
        self.0.value() + 2.0 * self.1.value()
    }
}

impl<A: Number> Value for [A] {
    fn value(&self) -> f64 {
        weighted(self.iter(), self.len())
    }
}

impl<A: Number> Value for Vec<A> {
    fn value(&self) -> f64 {
        self[..].value()
    }
}

impl<A: Number, D: Dimension> Value for Array<A, D> {
    fn value(&self) -> f64 {
        weighted(self.iter(), self.len())
    }
}

impl<A: Number, D: Dimension, M> Value for MmapArrayBase<A, D, M> {
    fn value(&self) -> f64 {
        weighted(self.iter(), self.len())
    }
}

fn weighted<'a, A: Number + 'a>(elements: impl Iterator<Item = &'a A>, len: usize) -> f64 {
    let some = elements.step_by((len / 1_000_000).max(1));
    some.enumerate().map(|(n, x)| x.number() * (n % 1021 + 1) as f64).sum()
}
