//! The elements: how each is called in NumPy, random ones, and what they are as numbers.

use std::fmt::Debug;

use bytemuck::Pod;
use ndarray::ArrayViewMutD;
use ndarray_mmap::npy::NpyElement;
use ndarray_mmap::{BigEndian, Bool8, Datetime64, LittleEndian, Str, Unaligned, time_units};

use crate::axes::Axes;
use crate::random::Random;
use crate::sums::{Walked, check_min_max, check_sums};

pub const NATIVE: char = if cfg!(target_endian = "big") { '>' } else { '<' };

pub trait Element: NpyElement + Pod + Send + Sync + Debug {
    /// NumPy's description, of one element of what this is an array of.
    fn descr() -> String;

    /// The axes of an element that is an array.
    const INNER: &'static [usize] = &[];

    /// Mostly small, sometimes of any bytes.
    fn of(random: &mut Random) -> Self;

    /// Other bytes than these; and these again, if it is done twice.
    fn flipped(mut self) -> Self {
        bytemuck::bytes_of_mut(&mut self)[0] ^= 1;
        self
    }

    /// The names of the reductions of a pass, if there are any.
    fn reduce<D: Axes>(_walked: &Walked<'_, Self, D>, _random: &mut Random) -> Option<&'static str> {
        None
    }

    /// Adds a number to all elements, of the array and of the model.
    fn add(_to: [ArrayViewMutD<'_, Self>; 2], _random: &mut Random) -> bool {
        false
    }
}

fn any_bytes<A: Pod>(random: &mut Random) -> A {
    bytemuck::pod_read_unaligned(&random.bytes(size_of::<A>()))
}

fn small(random: &mut Random) -> i8 {
    random.below(200) as i8
}

macro_rules! native {
    ($($native:ty: $descr:literal, $wrapping:expr, $of_small:expr;)*) => {$(
        impl Element for $native {
            fn descr() -> String {
                let order = if size_of::<Self>() == 1 { '|' } else { NATIVE };
                format!("{order}{}", $descr)
            }

            fn of(random: &mut Random) -> Self {
                if random.one_in(16) { any_bytes(random) } else { $of_small(small(random)) }
            }

            fn reduce<D: Axes>(walked: &Walked<'_, Self, D>, random: &mut Random) -> Option<&'static str> {
                if random.one_in(4) { check_min_max(walked) } else { check_sums(walked, random) }
            }

            fn add(to: [ArrayViewMutD<'_, Self>; 2], random: &mut Random) -> bool {
                let number = $of_small(small(random));
                for mut view in to {
                    if $wrapping(view.view(), number) {
                        return false;
                    }
                    view += number;
                }
                true
            }
        }
    )*};
}

/// Whether an addition would overflow, which is a panic in some builds.
macro_rules! overflows {
    ($integer:ty) => {
        |view: ndarray::ArrayViewD<'_, $integer>, number: $integer| {
            view.iter().any(|&x| number.checked_add(x).is_none())
        }
    };
}

native! {
    u8: "u1", overflows!(u8), |x: i8| x as u8;
    i16: "i2", overflows!(i16), |x: i8| i16::from(x) * 50;
    u32: "u4", overflows!(u32), |x: i8| x.unsigned_abs().into();
    i64: "i8", overflows!(i64), |x: i8| i64::from(x) << 40;
    f32: "f4", |_, _| false, |x: i8| f32::from(x) / 7.0;
    f64: "f8", |_, _| false, |x: i8| 1000.0 + f64::from(x) / 3.0;
}

macro_rules! others {
    ($($(#[$attribute:meta])* $element:ty: $descr:expr, $of_small:expr, $reduce:ident $(, $inner:literal)?;)*) => {$(
        $(#[$attribute])*
        impl Element for $element {
            fn descr() -> String {
                $descr.into()
            }

            $(const INNER: &'static [usize] = &[$inner];)?

            fn of(random: &mut Random) -> Self {
                if random.one_in(16) { any_bytes(random) } else { $of_small(small(random)) }
            }

            fn reduce<D: Axes>(walked: &Walked<'_, Self, D>, random: &mut Random) -> Option<&'static str> {
                reduce!($reduce, walked, random)
            }
        }
    )*};
}

macro_rules! reduce {
    (all, $walked:ident, $random:ident) => {
        if $random.one_in(4) { check_min_max($walked) } else { check_sums($walked, $random) }
    };
    (sums, $walked:ident, $random:ident) => {
        check_sums($walked, $random)
    };
    (order, $walked:ident, $random:ident) => {{
        let _ = $random;
        check_min_max($walked)
    }};
    (nothing, $walked:ident, $random:ident) => {{
        let _ = ($walked, $random);
        None
    }};
}

others! {
    Bool8: "|b1", |x: i8| Bool8::from_byte(x as u8 & 1), all;
    [u16; 3]: format!("{NATIVE}u2"), |x: i8| [1, 2, x as u16], nothing, 3;
    Datetime64<time_units::Millisecond>: format!("{NATIVE}M8[ms]"), |x: i8| Datetime64::new(x.into()), order;
    Unaligned<BigEndian<i64>>: ">i8", |x: i8| BigEndian::new(i64::from(x) << 40).into(), all;
    LittleEndian<f32>: "<f4", |x: i8| LittleEndian::new(f32::from(x) / 7.0), all;
    BigEndian<Datetime64<time_units::Day>>: ">M8[D]", |x: i8| BigEndian::new(Datetime64::new(x.into())), order;
    Unaligned<Str<2>>: format!("{NATIVE}U2"), |x: i8| Str::new(&format!("{x:2}")[..2]).unwrap().into(), order;
    #[cfg(feature = "num-complex")]
    num_complex::Complex<f32>: format!("{NATIVE}c8"), |x: i8| num_complex::Complex::new(f32::from(x), 0.25), sums;
    #[cfg(feature = "half")]
    half::f16: format!("{NATIVE}f2"), |x: i8| half::f16::from_f32(f32::from(x) / 4.0), all;
    #[cfg(feature = "half")]
    half::bf16: format!("{NATIVE}V2"), |x: i8| half::bf16::from_f32(x.into()), all;
    #[cfg(feature = "half")]
    Unaligned<BigEndian<half::f16>>: ">f2", |x: i8| BigEndian::new(half::f16::from_f32(f32::from(x) / 4.0)).into(), all;
    #[cfg(feature = "rend")]
    rend::f32_be: ">f4", |x: i8| rend::f32_be::from_native(f32::from(x) / 3.0), all;
    #[cfg(feature = "rend")]
    rend::i16_be: ">i2", |x: i8| rend::i16_be::from_native(x.into()), all;
    #[cfg(feature = "rend")]
    rend::f64_be: ">f8", |x: i8| rend::f64_be::from_native(f64::from(x) / 3.0), all;
    #[cfg(feature = "rend")]
    rend::unaligned::f64_ube: ">f8", |x: i8| rend::unaligned::f64_ube::from_native(f64::from(x) / 9.0), all;
    #[cfg(feature = "rend")]
    rend::unaligned::i32_ule: "<i4", |x: i8| rend::unaligned::i32_ule::from_native(x.into()), all;
}
