//! NumPy's dates and time spans, with their unit in the type.
#![allow(unsafe_code)] // See `element`.

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;

/// The step in which a [`Datetime64`] or a [`Timedelta64`] counts: one of [`time_units`], or your own.
///
/// ```
/// use ndarray_mmap::npy::{DatetimeUnit, NpyElement};
/// use ndarray_mmap::{Timedelta64, time_units::TimeUnit};
///
/// #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
/// struct QuarterHour;
/// impl TimeUnit for QuarterHour {
///     const UNIT: DatetimeUnit = DatetimeUnit::Minute;
///     const COUNT: u32 = 15;
/// }
/// # #[cfg(target_endian = "little")]
/// assert_eq!(Timedelta64::<QuarterHour>::dtype().to_string(), "<m8[15m]");
/// ```
pub trait TimeUnit: Copy + fmt::Debug + Ord + Hash + Send + Sync + 'static {
    /// The unit.
    const UNIT: DatetimeUnit;
    /// The number of units in one step.
    const COUNT: u32 = 1;
}

/// `N` steps of `U` in one: `Multiple<25, Second>` is NumPy's `25s`.
///
/// ```
/// use ndarray_mmap::npy::NpyElement;
/// use ndarray_mmap::time_units::{Multiple, Second};
/// use ndarray_mmap::Timedelta64;
///
/// let frames = Timedelta64::<Multiple<25, Second>>::new(3);
/// assert_eq!(format!("{frames:?}"), "3 x 25 s");
/// # #[cfg(target_endian = "little")]
/// assert_eq!(Timedelta64::<Multiple<25, Second>>::dtype().to_string(), "<m8[25s]");
/// ```
///
/// # What does not compile
/// No steps at all, or more than NumPy can count:
/// ```compile_fail,E0080
/// use ndarray_mmap::time_units::{Multiple, Second, TimeUnit};
/// let none = Multiple::<0, Second>::COUNT;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Multiple<const N: u32, U>(PhantomData<U>);

impl<const N: u32, U: TimeUnit> TimeUnit for Multiple<N, U> {
    const UNIT: DatetimeUnit = U::UNIT;
    const COUNT: u32 = match N.checked_mul(U::COUNT) {
        Some(count @ 1..=0x7fff_ffff) => count,
        // When it is compiled.
        _ => panic!("a step of NumPy has from 1 to 2^31 - 1 units"),
    };
}

macro_rules! time_units {
    ($($unit:ident $code:literal)*) => {
        /// The unit of a [`Datetime64`] or a [`Timedelta64`]. `Generic` is none (`M8`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "the names say everything")]
        pub enum DatetimeUnit {
            $($unit,)*
        }

        impl DatetimeUnit {
            /// NumPy's code for the unit, such as `us` in `M8[us]`.
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$unit => $code,)*
                }
            }

            pub(crate) fn from_code(code: &str) -> Option<Self> {
                match code {
                    $($code => Some(Self::$unit),)*
                    "μs" => Some(Self::Microsecond),
                    _ => None,
                }
            }
        }

        /// The units of NumPy's dates and time spans, as types.
        pub mod time_units {
            use super::DatetimeUnit;
            pub use super::{Multiple, TimeUnit};

            $(
                #[doc = concat!("NumPy's `", $code, "`.")]
                #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
                pub struct $unit;

                impl TimeUnit for $unit {
                    const UNIT: DatetimeUnit = DatetimeUnit::$unit;
                }
            )*
        }
    };
}

time_units! {
    Generic "generic" Year "Y" Month "M" Week "W" Day "D" Hour "h" Minute "m" Second "s"
    Millisecond "ms" Microsecond "us" Nanosecond "ns" Picosecond "ps" Femtosecond "fs" Attosecond "as"
}

macro_rules! dates {
    ($($(#[$attr:meta])* $name:ident)*) => {$(
        $(#[$attr])*
        ///
        /// Values are compared by that number. So `NAT` equals itself, unlike NumPy's, and is less than all others (it is
        /// also the minimum of [`min_max`](crate::blocks::BlocksBase::min_max)).
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name<U: TimeUnit>(i64, PhantomData<U>);

        impl<U: TimeUnit> $name<U> {
            /// Not a time: NumPy's `NaT`.
            pub const NAT: Self = Self::new(i64::MIN);

            /// The value of this number of steps; `i64::MIN` is [`NAT`](Self::NAT).
            pub const fn new(steps: i64) -> Self {
                Self(steps, PhantomData)
            }

            /// The number of steps; `None` for [`NAT`](Self::NAT).
            pub const fn get(self) -> Option<i64> {
                if self.is_nat() { None } else { Some(self.0) }
            }

            /// Whether this is [`NAT`](Self::NAT).
            pub const fn is_nat(self) -> bool {
                self.0 == i64::MIN
            }
        }

        impl<U: TimeUnit> fmt::Debug for $name<U> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match (self.get(), U::COUNT) {
                    (None, _) => f.write_str("NaT"),
                    (Some(steps), 1) => write!(f, "{steps} {}", U::UNIT.code()),
                    (Some(steps), count) => write!(f, "{steps} x {count} {}", U::UNIT.code()),
                }
            }
        }

        // SAFETY: (1) a transparent wrapper of an `i64`, for which zero is a value; `PhantomData` has no bytes.
        unsafe impl<U: TimeUnit> bytemuck::Zeroable for $name<U> {}
        // SAFETY: a transparent wrapper of an `i64`: (1) every bit pattern is a value, and (2) there is no padding. It is
        // `Copy` and `'static`, because `TimeUnit` requires both of `U`.
        unsafe impl<U: TimeUnit> bytemuck::Pod for $name<U> {}
    )*};
}

dates! {
    /// A time, as a number of steps of `U` since 1970: NumPy's `datetime64`.
    Datetime64
    /// A time span, as a number of steps of `U`: NumPy's `timedelta64`.
    Timedelta64
}
