//! `npy_dispatch!`: runs generic code with the element type that a file has.

use std::borrow::Borrow;

use super::Real;
use crate::element::Unaligned;
use crate::error::{Result, error};
use crate::npy::{Dtype, DtypeKind};

/// Runs code that is generic over [`Real`](crate::npy::Real) with the element type that a [`Dtype`](crate::npy::Dtype) names:
/// for files whose type is known when the program runs.
///
/// `npy_dispatch!(dtype, A => expr)` is `expr` with `A` as that type. `dtype` is a `Dtype` or a reference to one. `expr` is a
/// `Result<T, E>` whose `E` can be made from [`Error`](crate::Error), and `T` and `E` are the same for each `A`. It is compiled
/// once for each type: integers of 8 to 64 bits, `f32` and `f64`, and with the feature `half` (of this crate) `f16` and
/// `bf16`, all in both byte orders. `A` is the plain type for this machine's byte order, else [`BigEndian`](crate::BigEndian)
/// or [`LittleEndian`](crate::LittleEndian) of it, and no feature is needed for that. Only say of `A` what
/// [`Real`](crate::npy::Real) says: then other features do not change what compiles.
///
/// The best place is a call of a generic function, which keeps what is compiled many times small.
///
/// # Example: a `.npy` file of any type
/// ```
/// use std::path::Path;
///
/// use ndarray_mmap::npy::{Header, Real};
/// use ndarray_mmap::{MmapArray, npy_dispatch};
///
/// fn mean_of<A: Real>(path: &Path) -> ndarray_mmap::Result<Option<f64>> {
///     // SAFETY: while `a` lives, no other process or handle changes its bytes or truncates the file.
///     let a = unsafe { MmapArray::<A>::open_npy(path)? };
///     Ok(a.blocks().mean())
/// }
///
/// fn mean(path: &Path) -> ndarray_mmap::Result<Option<f64>> {
///     npy_dispatch!(Header::read(path)?.dtype(), A => mean_of::<A>(path))
/// }
///
/// # let path = std::env::temp_dir().join(format!("ndarray-mmap-dispatch-{}.npy", std::process::id()));
/// // SAFETY: while the array lives, no other process or handle changes its bytes or truncates the file.
/// let mut a = unsafe { ndarray_mmap::MmapArrayMut::<i16>::create_npy(&path, 4)? };
/// a.fill(-3);
/// a.close()?;
/// assert_eq!(mean(&path)?, Some(-3.0));
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Example: a raw file whose format names its type
/// Other formats start their data at any offset. `unaligned A` gives types of alignment 1:
/// [`Unaligned<f64>`](crate::Unaligned), `Unaligned<BigEndian<f64>>`, `u8`.
/// ```
/// use ndarray_mmap::npy::{Dtype, Real};
/// use ndarray_mmap::{MmapArray, npy_dispatch};
///
/// // A line of text, then numbers: as many as there are.
/// # let path = std::env::temp_dir().join(format!("ndarray-mmap-dispatch-{}.bin", std::process::id()));
/// std::fs::write(&path, [&b"float32 big\n"[..], &1.5_f32.to_be_bytes(), &2.5_f32.to_be_bytes()].concat())?;
///
/// let (name, order) = ("float32", "big"); // as read from the first line
/// let dtype: Dtype = match (name, order) {
///     ("int16", "big") => ">i2",
///     ("float32", "big") => ">f4",
///     ("float32", _) => "<f4",
///     (other, _) => other,
/// }
/// .parse()?;
///
/// let total = npy_dispatch!(dtype, unaligned A => {
///     // SAFETY: while `a` lives, no other process or handle changes its bytes or truncates the file.
///     unsafe { MmapArray::<A>::options().offset(12).open(&path) }
///         .map(|a| a.iter().map(|x| x.to_f64()).sum::<f64>())
/// });
/// assert_eq!(total?, 4.0);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `DtypeMismatch` for a dtype that is no [`Real`](crate::npy::Real) number; the message names the type or the feature to use:
/// ```
/// use ndarray_mmap::{ErrorKind, Result, npy::Dtype, npy_dispatch};
///
/// let dtype: Dtype = "<M8[us]".parse()?;
/// let e = (|| -> Result<usize> { npy_dispatch!(&dtype, A => Ok(size_of::<A>())) })().unwrap_err();
/// assert_eq!(e.kind(), ErrorKind::DtypeMismatch);
/// # #[cfg(target_endian = "little")]
/// assert_eq!(e.to_string(), "`<M8[us]` is no real number; use `Datetime64<time_units::Microsecond>`");
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
///
/// # What does not compile
/// What `Real` does not promise of all the types, here that they are integers:
/// ```compile_fail,E0308
/// use ndarray_mmap::{MmapArray, Result, npy::Dtype, npy_dispatch};
/// fn first(dtype: &Dtype) -> Result<i64> {
///     npy_dispatch!(dtype, A => MmapArray::<A>::load("a.bin").map(|a| a[0]))
/// }
/// ```
#[macro_export]
macro_rules! npy_dispatch {
    ($dtype:expr, unaligned $A:ident => $result:expr $(,)?) => {
        $crate::__npy_dispatch!(unaligned, $dtype, $A, $result)
    };
    ($dtype:expr, $A:ident => $result:expr $(,)?) => {
        $crate::__npy_dispatch!(aligned, $dtype, $A, $result)
    };
}

/// With the names of all types. The features are those of this crate, so the macro itself depends on them, and not what it
/// expands to.
#[cfg(feature = "half")]
#[doc(hidden)]
#[macro_export]
macro_rules! __npy_dispatch {
    ($($with:tt)*) => {
        $crate::__npy_dispatch_to!(
            [U8 I8 U16 U16Foreign I16 I16Foreign U32 U32Foreign I32 I32Foreign U64 U64Foreign I64 I64Foreign
             F32 F32Foreign F64 F64Foreign F16 F16Foreign Bf16 Bf16Foreign]
            $($with)*
        )
    };
}
#[cfg(not(feature = "half"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __npy_dispatch {
    ($($with:tt)*) => {
        $crate::__npy_dispatch_to!(
            [U8 I8 U16 U16Foreign I16 I16Foreign U32 U32Foreign I32 I32Foreign U64 U64Foreign I64 I64Foreign
             F32 F32Foreign F64 F64Foreign]
            $($with)*
        )
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __npy_dispatch_to {
    ([$($real:ident)*] $alignment:ident, $dtype:expr, $A:ident, $result:expr) => {{
        let real_type = $crate::__dispatch::RealType::of(&$dtype);
        match real_type {
            $(::core::result::Result::Ok($crate::__dispatch::RealType::$real) => {
                #[allow(dead_code)]
                type $A = $crate::__dispatch::$alignment::$real;
                $result
            })*
            ::core::result::Result::Err(e) => ::core::result::Result::Err(::core::convert::From::from(e)),
        }
    }};
}

/// `T` in the byte order that this machine does not have.
#[cfg(target_endian = "little")]
type Foreign<T> = crate::element::BigEndian<T>;
#[cfg(target_endian = "big")]
type Foreign<T> = crate::element::LittleEndian<T>;

macro_rules! real_types {
    ($($(#[$attribute:meta])* $real:ident: $aligned:ty, $unaligned:ty;)*) => {
        /// A type of numbers that `npy_dispatch!` knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "hidden")]
        pub enum RealType {
            $($(#[$attribute])* $real,)*
        }

        /// The types by these names.
        #[allow(missing_docs, reason = "hidden")]
        pub mod aligned {
            use super::*;
            $($(#[$attribute])* pub type $real = $aligned;)*
        }

        /// Those of alignment 1.
        #[allow(missing_docs, reason = "hidden")]
        pub mod unaligned {
            use super::*;
            $($(#[$attribute])* pub type $real = $unaligned;)*
        }

        /// The dtype of each.
        const DTYPES: &[(fn() -> Dtype, RealType)] = &[
            $($(#[$attribute])* (dtype_of::<$aligned, $unaligned>, RealType::$real),)*
        ];
    };
}

real_types! {
    U8: u8, u8;
    I8: i8, i8;
    U16: u16, Unaligned<u16>;
    U16Foreign: Foreign<u16>, Unaligned<Foreign<u16>>;
    I16: i16, Unaligned<i16>;
    I16Foreign: Foreign<i16>, Unaligned<Foreign<i16>>;
    U32: u32, Unaligned<u32>;
    U32Foreign: Foreign<u32>, Unaligned<Foreign<u32>>;
    I32: i32, Unaligned<i32>;
    I32Foreign: Foreign<i32>, Unaligned<Foreign<i32>>;
    U64: u64, Unaligned<u64>;
    U64Foreign: Foreign<u64>, Unaligned<Foreign<u64>>;
    I64: i64, Unaligned<i64>;
    I64Foreign: Foreign<i64>, Unaligned<Foreign<i64>>;
    F32: f32, Unaligned<f32>;
    F32Foreign: Foreign<f32>, Unaligned<Foreign<f32>>;
    F64: f64, Unaligned<f64>;
    F64Foreign: Foreign<f64>, Unaligned<Foreign<f64>>;
    #[cfg(feature = "half")]
    F16: half::f16, Unaligned<half::f16>;
    #[cfg(feature = "half")]
    F16Foreign: Foreign<half::f16>, Unaligned<Foreign<half::f16>>;
    #[cfg(feature = "half")]
    Bf16: half::bf16, Unaligned<half::bf16>;
    #[cfg(feature = "half")]
    Bf16Foreign: Foreign<half::bf16>, Unaligned<Foreign<half::bf16>>;
}

/// Of two types that are to have the same.
fn dtype_of<A: Real, U: Real>() -> Dtype {
    const { assert!(size_of::<A>() == size_of::<U>() && align_of::<U>() == 1) };
    A::dtype()
}

impl RealType {
    /// The type that reads this dtype.
    ///
    /// # Errors
    /// `DtypeMismatch` if there is none.
    pub fn of(dtype: &impl Borrow<Dtype>) -> Result<Self> {
        let dtype = dtype.borrow();
        if let Some((_, real_type)) = DTYPES.iter().find(|(dtype_of, _)| dtype_of() == *dtype) {
            return Ok(*real_type);
        }
        let brief = dtype.brief("`");
        let is_half = dtype.is_bfloat16() || dtype.kind() == DtypeKind::Float && dtype.itemsize() == 2;
        Err(match dtype.rust_type() {
            _ if !dtype.shape().is_empty() => error!(DtypeMismatch, "{brief} is an array, and no number"),
            Some(_) if is_half => error!(DtypeMismatch, "{brief} needs the feature `half`"),
            Some(rust) => error!(DtypeMismatch, "{brief} is no real number; use {rust}"),
            None => error!(DtypeMismatch, "{brief} is no number that Rust has a type for"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which types they are is tested where users are: in `tests/npy/real.rs`.
    #[test]
    fn no_two_types_have_one_dtype() {
        for (n, (dtype_of, real_type)) in DTYPES.iter().enumerate() {
            assert_eq!(RealType::of(&dtype_of()).unwrap(), *real_type);
            assert!(DTYPES[..n].iter().all(|(other, _)| other() != dtype_of()), "{:?}", dtype_of());
        }
    }

    #[test]
    #[cfg(not(feature = "half"))]
    fn a_missing_feature_is_named() {
        for descr in ["<f2", ">f2", "<V2", ">V2"] {
            let e = RealType::of(&descr.parse::<Dtype>().unwrap()).unwrap_err();
            assert_eq!(e.to_string(), format!("`{descr}` needs the feature `half`"));
        }
    }
}
