//! `BigEndian` and `LittleEndian`: values that are stored in one byte order on every machine.
#![allow(unsafe_code)] // See `element`.

use bytemuck::{Pod, Zeroable};

use super::by_value::by_value;
use super::{Datetime64, Str, Timedelta64, for_each_number, time_units::TimeUnit};

/// A type whose values [`BigEndian`] and [`LittleEndian`] can store: integers and floats, `half::f16` and `half::bf16`
/// (feature `half`), [`Datetime64`], [`Timedelta64`] and [`Str`]. No others can be added.
pub trait ByteOrdered: Pod + sealed::Sealed {
    /// The bytes of a value as integers. Not as floats: a processor may change some NaNs when it moves them.
    #[doc(hidden)]
    type Stored: Pod + Send + Sync;

    /// In the other byte order.
    #[doc(hidden)]
    fn swapped(stored: Self::Stored) -> Self::Stored;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! byte_ordered {
    ($(#[$attribute:meta])* [$($($parameter:tt)+)?] $value:ty: $stored:ty, $swapped:expr) => {
        $(#[$attribute])*
        impl $(<$($parameter)+>)? sealed::Sealed for $value {}

        $(#[$attribute])*
        impl $(<$($parameter)+>)? ByteOrdered for $value {
            type Stored = $stored;

            #[inline(always)]
            fn swapped(stored: $stored) -> $stored {
                const { assert!(size_of::<$value>() == size_of::<$stored>()) };
                const { assert!(align_of::<$value>() == align_of::<$stored>()) };
                $swapped(stored)
            }
        }
    };
}

macro_rules! number {
    (f32) => {
        byte_ordered!([] f32: u32, u32::swap_bytes);
    };
    (f64) => {
        byte_ordered!([] f64: u64, u64::swap_bytes);
    };
    ($integer:ident) => {
        byte_ordered!([] $integer: $integer, $integer::swap_bytes);
    };
}

macro_rules! numbers {
    ($($kind:ident $native:ident: $($rend:ident)*;)*) => {
        $(number!($native);)*
    };
}
for_each_number!(numbers);
byte_ordered!(#[cfg(feature = "half")] [] half::f16: u16, u16::swap_bytes);
byte_ordered!(#[cfg(feature = "half")] [] half::bf16: u16, u16::swap_bytes);
byte_ordered!([U: TimeUnit] Datetime64<U>: i64, i64::swap_bytes);
byte_ordered!([U: TimeUnit] Timedelta64<U>: i64, i64::swap_bytes);
byte_ordered!([const N: usize] Str<N>: [u32; N], |units: [u32; N]| units.map(u32::swap_bytes));

macro_rules! stored {
    ($($(#[$attribute:meta])* $order:ident $target_endian:literal)*) => {$(
        $(#[$attribute])*
        #[repr(transparent)]
        pub struct $order<T: ByteOrdered>(T::Stored);

        impl<T: ByteOrdered> $order<T> {
            /// This value, in that byte order.
            #[inline(always)]
            pub fn new(value: T) -> Self {
                Self(Self::turned(bytemuck::cast(value)))
            }

            /// The value.
            #[inline(always)]
            pub fn get(self) -> T {
                bytemuck::cast(Self::turned(self.0))
            }

            /// From this machine's byte order, or to it.
            #[inline(always)]
            fn turned(stored: T::Stored) -> T::Stored {
                if cfg!(target_endian = $target_endian) { stored } else { T::swapped(stored) }
            }
        }

        by_value!($order<T: ByteOrdered>);

        // SAFETY: (1) a transparent wrapper of a `T::Stored`, which is `Pod` and thereby `Zeroable`.
        unsafe impl<T: ByteOrdered> Zeroable for $order<T> {}
        // SAFETY: (1, 2) a transparent wrapper of a `T::Stored`, which is `Pod`. It is `Copy` and `'static`, as that is.
        unsafe impl<T: ByteOrdered> Pod for $order<T> {}
    )*};
}

stored! {
    /// A value that is stored big-endian (NumPy's `>f8`, `>f2`, `>M8[us]`, `>U5`), on every machine.
    ///
    /// Size and alignment are those of `T`; at odd offsets use [`Unaligned<BigEndian<T>>`](crate::Unaligned). It is compared,
    /// ordered, hashed and shown as the value in it. Complex numbers are `Complex<BigEndian<f64>>`. No feature is needed; the
    /// types of the crate `rend` (feature `rend`) store the same, and have arithmetic.
    ///
    /// ```
    /// use ndarray::prelude::*;
    /// use ndarray_mmap::{BigEndian, MmapArray, MmapArrayMut};
    ///
    /// # let path = std::env::temp_dir().join(format!("ndarray-mmap-big-endian-{}.bin", std::process::id()));
    /// std::fs::write(&path, [1.5_f32.to_be_bytes(), (-2.0_f32).to_be_bytes()].concat())?;
    /// // SAFETY: while `a` lives, no other process or handle changes its bytes or truncates the file.
    /// let mut a = unsafe { MmapArrayMut::<BigEndian<f32>, Ix1>::open(&path)? };
    /// assert_eq!(a[0].get(), 1.5);
    /// assert_eq!(a.blocks().sum(), -0.5);
    /// a[1] = 3.25.into();
    /// a.close()?;
    /// assert_eq!(std::fs::read(&path)?[4..], 3.25_f32.to_be_bytes());
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    BigEndian "big"
    /// A value that is stored little-endian, on every machine: as [`BigEndian`], in the other order.
    LittleEndian "little"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_stored_as_its_own_conversions_do() {
        macro_rules! all {
            ($($kind:ident $native:ident: $($rend:ident)*;)*) => {$(
                for byte in 0..=255 {
                    let bytes: [u8; size_of::<$native>()] = std::array::from_fn(|n| byte ^ (n as u8).wrapping_mul(37));
                    let (big, little) = ($native::from_be_bytes(bytes), $native::from_le_bytes(bytes));
                    let same = |x: $native, y: $native| x.to_ne_bytes() == y.to_ne_bytes();
                    assert!(same(bytemuck::cast::<_, BigEndian<$native>>(bytes).get(), big));
                    assert!(same(bytemuck::cast::<_, LittleEndian<$native>>(bytes).get(), little));
                    assert_eq!(bytemuck::bytes_of(&BigEndian::new(big)), bytes);
                    assert_eq!(bytemuck::bytes_of(&LittleEndian::new(little)), bytes);
                }
            )*};
        }
        for_each_number!(all);
    }

    #[test]
    fn strings_and_dates_are_turned_unit_by_unit() {
        let text = Str::<2>::new("aé").unwrap();
        assert_eq!(bytemuck::bytes_of(&BigEndian::new(text)), [0, 0, 0, b'a', 0, 0, 0, 0xe9]);
        assert_eq!(bytemuck::bytes_of(&LittleEndian::new(text)), [b'a', 0, 0, 0, 0xe9, 0, 0, 0]);
        let date = BigEndian::new(Datetime64::<crate::time_units::Day>::new(258));
        assert_eq!(bytemuck::bytes_of(&date), 258_i64.to_be_bytes());
        assert_eq!((format!("{date:?}"), date.get()), ("258 D".into(), Datetime64::new(258)));
    }

    #[test]
    #[cfg(feature = "half")]
    fn half_floats_are_turned() {
        use half::{bf16, f16};
        assert_eq!(bytemuck::bytes_of(&BigEndian::new(f16::ONE)), [0x3c, 0]);
        assert_eq!(bytemuck::bytes_of(&BigEndian::new(bf16::ONE)), [0x3f, 0x80]);
    }

    #[test]
    fn comparison_is_by_value() {
        let (small, large) = (BigEndian::new(255_u16), BigEndian::new(256_u16));
        assert!(small < large && small != large && large == 256 && small.max(large) == large);
        // Its bytes read backwards are a NaN, and it equals itself all the same.
        let x = BigEndian::new(f64::from_bits(0x3ff0_0000_0000_f87f));
        assert!(x == x && BigEndian::new(0.0) == BigEndian::new(-0.0));
        assert!(BigEndian::new(f32::NAN) != BigEndian::new(f32::NAN));
    }
}
