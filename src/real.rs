//! `Real`: one bound for the real numbers of files, in any byte order and at any offset.

pub mod dispatch;

use std::fmt::{Debug, Display};

use bytemuck::Pod;

use crate::blocks::{Accumulate, Accumulator};
use crate::element::{BigEndian, ByteOrdered, LittleEndian, Unaligned, for_each_number};
use crate::npy::NpyElement;

/// A real number of a file, in any byte order, aligned or not: the bound of functions for files of any such type.
///
/// It can be read and written ([`Pod`]), is an element of `.npy` files ([`NpyElement`]), adds up with a mean of `f64`
/// ([`Accumulate`]), is ordered, shown, and converted by [`to_f64`](Self::to_f64). The types are the integers of up to 64 bits,
/// `f32` and `f64`, `half::f16` and `half::bf16` (feature `half`), the numbers of `rend` (feature `rend`),
/// [`BigEndian<T>`], [`LittleEndian<T>`] and [`Unaligned<T>`] of these. Complex numbers, booleans, dates and strings are not.
/// [`npy_dispatch!`](crate::npy_dispatch) calls such a function with the type that a file has.
///
/// ```
/// use ndarray::prelude::*;
/// use ndarray_mmap::{BigEndian, MmapArray, npy::Real};
///
/// /// Mean, standard deviation, and the largest distance from the mean.
/// fn summary<A: Real>(a: &MmapArray<A>) -> Option<(f64, f64, f64)> {
///     let mean = a.blocks().mean()?;
///     let (least, most) = a.blocks().min_max()?;
///     Some((mean, a.blocks().std(0)?, (mean - least.to_f64()).max(most.to_f64() - mean)))
/// }
///
/// # let path = std::env::temp_dir().join(format!("ndarray-mmap-real-{}.bin", std::process::id()));
/// std::fs::write(&path, [1_i16, 2, 3, 6].map(i16::to_be_bytes).concat())?;
/// let a = MmapArray::<BigEndian<i16>>::load(&path)?;
/// assert_eq!(summary(&a), Some((3.0, 3.5_f64.sqrt(), 3.0)));
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no real number of a file",
    note = "it is implemented for numbers of up to 64 bits in any byte order, and with the features `half` and `rend` for the \
            real numbers of those crates; not for complex numbers, booleans, dates and strings"
)]
pub trait Real: Pod + NpyElement + Accumulate<Sum: Accumulator<Mean = f64>> + PartialOrd + Debug + Display {
    /// The number. Integers of 64 bits are rounded to the nearest `f64`, and that is exact up to 2^53; all other types are
    /// exact.
    fn to_f64(self) -> f64;
}

macro_rules! real {
    ([$($($parameter:tt)+)?] $element:ty, $to_f64:expr) => {
        impl $(<$($parameter)+>)? Real for $element {
            #[inline(always)]
            fn to_f64(self) -> f64 {
                $to_f64(self)
            }
        }
    };
}

macro_rules! numbers {
    ($($kind:ident $native:ident: $($rend:ident)*;)*) => {
        $(real!([] $native, |x| x as f64);)*

        #[cfg(feature = "rend")]
        const _: () = {
            use rend::{unaligned::*, *};
            $($(real!([] $rend, |x| $native::from(x) as f64);)*)*
        };
    };
}
for_each_number!(numbers);
#[cfg(feature = "half")]
real!([] half::f16, f64::from);
#[cfg(feature = "half")]
real!([] half::bf16, f64::from);
real!([T: Real] Unaligned<T>, |x: Self| x.get().to_f64());
real!([T: Real + ByteOrdered] BigEndian<T>, |x: Self| x.get().to_f64());
real!([T: Real + ByteOrdered] LittleEndian<T>, |x: Self| x.get().to_f64());
