//! NumPy's times and time spans, with their unit in the type.
#![allow(unsafe_code)] // See `element`.

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;

use crate::npy::Unit;

/// The step that a [`Datetime64`] or a [`Timedelta64`] counts in: one of [`units`], or your own.
/// ```
/// use ndarray_mmap::npy::{NpyElement, Unit};
/// use ndarray_mmap::{DateUnit, Timedelta64};
///
/// #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
/// struct QuarterHour;
/// impl DateUnit for QuarterHour {
///     const UNIT: Unit = Unit::Minute;
///     const COUNT: u32 = 15;
/// }
/// # #[cfg(target_endian = "little")]
/// assert_eq!(Timedelta64::<QuarterHour>::dtype().to_string(), "<m8[15m]");
/// ```
pub trait DateUnit: Copy + fmt::Debug + Ord + Hash + Send + Sync + 'static {
    /// What is counted.
    const UNIT: Unit;
    /// How many of them make one step.
    const COUNT: u32 = 1;
}

/// The units of NumPy's dates.
pub mod units {
    use super::{DateUnit, Unit};

    macro_rules! units {
        ($($unit:ident)*) => {$(
            #[doc = concat!("NumPy's `", stringify!($unit), "`.")]
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $unit;

            impl DateUnit for $unit {
                const UNIT: Unit = Unit::$unit;
            }
        )*};
    }

    units! {
        Generic Year Month Week Day Hour Minute Second
        Millisecond Microsecond Nanosecond Picosecond Femtosecond Attosecond
    }
}

macro_rules! dates {
    ($($(#[$attr:meta])* $name:ident)*) => {$(
        $(#[$attr])*
        ///
        /// Compared by that number: unlike NumPy's, `NAT` equals itself, and is less than all others (so it is the least
        /// of [`min_max`](crate::BlocksBase::min_max), too).
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name<U: DateUnit>(i64, PhantomData<U>);

        impl<U: DateUnit> $name<U> {
            /// Not a time.
            pub const NAT: Self = Self::new(i64::MIN);

            /// Of so many steps; `i64::MIN` is [`NAT`](Self::NAT).
            pub const fn new(steps: i64) -> Self {
                Self(steps, PhantomData)
            }

            /// The number of steps; `None` for [`NAT`](Self::NAT).
            pub const fn get(self) -> Option<i64> {
                if self.is_nat() { None } else { Some(self.0) }
            }

            /// Whether it is [`NAT`](Self::NAT).
            pub const fn is_nat(self) -> bool {
                self.0 == i64::MIN
            }
        }

        impl<U: DateUnit> fmt::Debug for $name<U> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match (self.get(), U::COUNT) {
                    (None, _) => f.write_str("NaT"),
                    (Some(steps), 1) => write!(f, "{steps} {}", U::UNIT.code()),
                    (Some(steps), count) => write!(f, "{steps} x {count} {}", U::UNIT.code()),
                }
            }
        }

        // SAFETY: a transparent wrapper of an `i64`, next to which `PhantomData` has no bytes.
        unsafe impl<U: DateUnit> bytemuck::Zeroable for $name<U> {}
        // SAFETY: a transparent wrapper of an `i64`: every bit pattern is a value, and there is no padding; `DateUnit`
        // asks for `Copy` and `'static`.
        unsafe impl<U: DateUnit> bytemuck::Pod for $name<U> {}
    )*};
}

dates! {
    /// NumPy's `datetime64`: a time, as the number of steps of `U` since 1970.
    Datetime64
    /// NumPy's `timedelta64`: a time span, as a number of steps of `U`.
    Timedelta64
}
