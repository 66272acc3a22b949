//! The dtype of a Rust type, and the Rust type of a dtype.

use super::dtype::{ByteOrder, Dtype, DtypeKind, Field};
use crate::element::{Bool8, Datetime64, FixedBytes, Timedelta64, for_each_number, time_units};

/// An element type that `.npy` files can hold.
///
/// | Rust | NumPy |
/// |---|---|
/// | `u8` .. `u64`, `i8` .. `i64`, `f32`, `f64` | `u1` .. `u8`, `i1` .. `i8`, `f4`, `f8`, in this machine's byte order |
/// | `usize`, `isize` | as wide as on this machine: `u8`, `i8` |
/// | [`Bool8`] | `b1` |
/// | `half::f16` (feature `half`) | `f2` |
/// | `num_complex::Complex<f32>`, `<f64>` (feature `num-complex`) | `c8`, `c16` |
/// | `rend::f64_be`, `rend::u16_le` .. (feature `rend`) | `>f8`, `<u2` ..: the byte order in their name |
/// | `rend::unaligned::f64_ule` .. (feature `rend`) | the same at any offset |
/// | [`Datetime64<U>`], [`Timedelta64<U>`] | `M8[us]`, `m8[s]` .. |
/// | [`FixedBytes<N>`] | `SN` |
/// | `[u8; N]` | `VN`; also reads `SN`, and `u1` with a last axis of N |
/// | `[T; N]` | the type of `T`, and N is the last axis of the file: five `[f32; 3]` are `f4` of shape (5, 3) |
/// | `[T; N]` in a record | a sub-array: `('x', '<f4', (3,))` |
/// | a struct, by [`npy_record!`](crate::npy_record) | `[('x', '<f8'), ('', 'V4'), ..]` |
///
/// Floats of `rend` are ordered as numbers, but `==` compares their stored bytes: see
/// [`Accumulate`](crate::blocks::Accumulate#comparing-floats-of-rend).
///
/// `[u8; N]` is `V` and not `S`, because NumPy treats `S` as text and drops zeros at its end, which would damage a hash or
/// an address. `bool`, `char` and enums are missing, because a file can hold bytes that are not valid values of them.
///
/// The trait is safe to implement by hand. A wrong `dtype` gives wrong values, but never invalid ones: bytemuck's traits
/// decide which types can be mapped.
/// ```
/// use ndarray_mmap::npy::{Dtype, NpyElement};
///
/// #[derive(Clone, Copy)]
/// #[repr(transparent)]
/// struct Kelvin(f32);
///
/// impl NpyElement for Kelvin {
///     fn dtype() -> Dtype {
///         f32::dtype()
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`.npy` files have no type for `{Self}`",
    note = "for booleans there is `Bool8`, for a struct `npy_record!`",
    note = "complex numbers, `f16` and foreign byte orders need the features `num-complex`, `half` and `rend`"
)]
pub trait NpyElement: Sized {
    /// The dtype of one element. Its size must be `size_of::<Self>()` bytes.
    fn dtype() -> Dtype;

    /// The dtype of `[Self; len]`; only that of `u8` is not a sub-array.
    #[doc(hidden)]
    fn dtype_of_array(len: usize) -> Dtype {
        Self::dtype().array(len)
    }
}

impl<T: NpyElement, const N: usize> NpyElement for [T; N] {
    fn dtype() -> Dtype {
        T::dtype_of_array(N)
    }
}

impl NpyElement for u8 {
    fn dtype() -> Dtype {
        Dtype::scalar(DtypeKind::Uint, ByteOrder::NotApplicable, 1)
    }

    fn dtype_of_array(len: usize) -> Dtype {
        Dtype::scalar(DtypeKind::Void, ByteOrder::NotApplicable, len)
    }
}

macro_rules! element {
    // Implemented above, for its arrays.
    (Uint, NATIVE, u8) => {};
    ($kind:ident, $byteorder:ident, $element:ty) => {
        impl NpyElement for $element {
            fn dtype() -> Dtype {
                Dtype::scalar(DtypeKind::$kind, ByteOrder::$byteorder, size_of::<$element>())
            }
        }
    };
}

element!(Bool, NotApplicable, Bool8);
#[cfg(feature = "half")]
element!(Float, NATIVE, half::f16);

/// A number type, and for a float its complex numbers, too.
macro_rules! number {
    (Float, $byteorder:ident, $element:ident) => {
        element!(Float, $byteorder, $element);
        #[cfg(feature = "num-complex")]
        element!(Complex, $byteorder, num_complex::Complex<$element>);
    };
    ($kind:ident, $byteorder:ident, $element:ident) => {
        element!($kind, $byteorder, $element);
    };
}

macro_rules! numbers {
    ($($kind:ident $native:ident: $($le:ident $be:ident $ule:ident $ube:ident)?;)*) => {
        $(number!($kind, NATIVE, $native);)*

        #[cfg(feature = "rend")]
        const _: () = {
            use rend::{unaligned::*, *};
            $($(
                number!($kind, Little, $le);
                number!($kind, Big, $be);
                number!($kind, Little, $ule);
                number!($kind, Big, $ube);
            )?)*
        };

        /// Kind, byte order, size in bytes, whether any offset suits, and name, whether or not the feature is on. The first
        /// that fits is the one to recommend.
        const NUMBERS: &[(DtypeKind, ByteOrder, usize, bool, &str)] = &[
            $((DtypeKind::$kind, ByteOrder::NATIVE, size_of::<$native>(), false, stringify!($native)),)*
            $($(
                (DtypeKind::$kind, ByteOrder::Little, size_of::<$native>(), false, concat!("rend::", stringify!($le))),
                (DtypeKind::$kind, ByteOrder::Big, size_of::<$native>(), false, concat!("rend::", stringify!($be))),
                (DtypeKind::$kind, ByteOrder::Little, size_of::<$native>(), true, concat!("rend::unaligned::", stringify!($ule))),
                (DtypeKind::$kind, ByteOrder::Big, size_of::<$native>(), true, concat!("rend::unaligned::", stringify!($ube))),
            )?)*
        ];
    };
}
for_each_number!(numbers);

impl<const N: usize> NpyElement for FixedBytes<N> {
    fn dtype() -> Dtype {
        Dtype::scalar(DtypeKind::Bytes, ByteOrder::NotApplicable, N)
    }
}

impl<U: time_units::TimeUnit> NpyElement for Datetime64<U> {
    fn dtype() -> Dtype {
        Dtype::scalar(DtypeKind::Datetime { unit: U::UNIT, count: U::COUNT }, ByteOrder::NATIVE, 8)
    }
}

impl<U: time_units::TimeUnit> NpyElement for Timedelta64<U> {
    fn dtype() -> Dtype {
        Dtype::scalar(DtypeKind::Timedelta { unit: U::UNIT, count: U::COUNT }, ByteOrder::NATIVE, 8)
    }
}

impl Dtype {
    /// The Rust type that reads this dtype at aligned offsets, as text for a message: "`rend::f64_be` (feature `rend`)".
    /// `None` if there is none.
    pub fn rust_type(&self) -> Option<String> {
        self.rust_types(false)
    }

    /// The Rust type that reads this dtype at any offset. `None` if there is none, and if [`rust_type`](Self::rust_type)
    /// already does.
    pub fn rust_type_unaligned(&self) -> Option<String> {
        self.rust_types(true)
    }

    /// The kind of struct that reads this record. Fields at unaligned offsets need types of alignment 1: Rust does not allow
    /// `rend`'s aligned types in a packed struct.
    fn rust_struct(&self, unaligned: bool) -> Option<String> {
        let text = match (unaligned, self.is_aligned()) {
            (true, _) if self.alignment() == 1 => return None,
            (false, true) => "a `#[repr(C)]` struct with `npy_record!`",
            _ if self.all_numbers(&|number| number.rust_type_unaligned().is_some()) => {
                "a `#[repr(C)]` struct of types of `rend::unaligned` with `npy_record!` (feature `rend`)"
            }
            _ if self.all_numbers(&|number| number.byteorder == ByteOrder::NATIVE) => {
                "a `#[repr(C, packed)]` struct with `npy_record!`"
            }
            _ => {
                "a `#[repr(C, packed)]` struct, in which numbers of the other byte order are of `rend::unaligned`, with \
                 `npy_record!` (feature `rend`)"
            }
        };
        Some(text.into())
    }

    /// Whether all multi-byte numbers of a record satisfy the predicate.
    fn all_numbers(&self, is_so: &impl Fn(&Dtype) -> bool) -> bool {
        let mut fields = self.fields.iter();
        match self.kind {
            DtypeKind::Record => fields.all(|field| field.dtype.all_numbers(is_so)),
            _ => self.alignment() == 1 || is_so(self),
        }
    }

    /// The alignment of the Rust types for this dtype; `rend`'s aligned types have the same.
    fn alignment(&self) -> usize {
        match self.kind {
            DtypeKind::Int
            | DtypeKind::Uint
            | DtypeKind::Float
            | DtypeKind::Timedelta { .. }
            | DtypeKind::Datetime { .. } => self.base_itemsize,
            DtypeKind::Complex => self.base_itemsize / 2,
            DtypeKind::Record => self.fields.iter().map(|field| field.dtype.alignment()).max().unwrap_or(1),
            DtypeKind::Bool | DtypeKind::Bytes | DtypeKind::Str | DtypeKind::Void => 1,
        }
    }

    /// Whether all fields are aligned, also in an array of such records.
    fn is_aligned(&self) -> bool {
        let suits = |field: &Field| field.offset.is_multiple_of(field.dtype.alignment()) && field.dtype.is_aligned();
        self.base_itemsize.is_multiple_of(self.alignment()) && self.fields.iter().all(suits)
    }

    fn rust_types(&self, unaligned: bool) -> Option<String> {
        let size = self.base_itemsize;
        let native = self.byteorder == ByteOrder::NATIVE;
        let number = |wanted, bytes| {
            let suits = |&(kind, byteorder, size, at_any_offset, _): &(_, _, _, _, _)| {
                (kind, size, at_any_offset) == (wanted, bytes, unaligned) && (size == 1 || byteorder == self.byteorder)
            };
            NUMBERS.iter().copied().find(suits).map(|(.., name)| name)
        };
        let name = match self.kind {
            _ if size == 0 => return None,
            DtypeKind::Record => return self.rust_struct(unaligned),
            DtypeKind::Float if size == 2 && native && !unaligned => "half::f16".into(),
            DtypeKind::Int | DtypeKind::Uint | DtypeKind::Float => number(self.kind, size)?.into(),
            DtypeKind::Complex => format!("num_complex::Complex<{}>", number(DtypeKind::Float, size / 2)?),
            DtypeKind::Datetime { unit, count: 1 } if native && !unaligned => {
                format!("Datetime64<time_units::{unit:?}>")
            }
            DtypeKind::Timedelta { unit, count: 1 } if native && !unaligned => {
                format!("Timedelta64<time_units::{unit:?}>")
            }
            DtypeKind::Bool if !unaligned => "Bool8".into(),
            DtypeKind::Bytes if !unaligned => format!("FixedBytes<{size}>"),
            DtypeKind::Void if !unaligned => format!("[u8; {size}]"),
            _ => return None,
        };
        let crates = [("half::", "`half`"), ("num_complex::", "`num-complex`"), ("rend::", "`rend`")];
        let features: Vec<_> =
            crates.iter().filter(|(path, _)| name.contains(path)).map(|(_, feature)| *feature).collect();
        Some(match features[..] {
            [] => format!("`{name}`"),
            [feature] => format!("`{name}` (feature {feature})"),
            _ => format!("`{name}` (features {})", features.join(" and ")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asserts the dtype of `A` on this machine, and by its bound that `A` can be an element.
    #[track_caller]
    fn is<A: NpyElement + bytemuck::Pod>(descr: &str) {
        let dtype = A::dtype();
        assert_eq!(dtype.itemsize(), size_of::<A>());
        let native = if cfg!(target_endian = "big") { ">" } else { "<" };
        assert_eq!(dtype.to_string(), descr.replace('=', native));
        assert_eq!(descr.parse::<Dtype>().unwrap(), dtype);
    }

    #[test]
    fn elements_have_numpys_names() {
        is::<Bool8>("|b1");
        is::<u8>("|u1");
        is::<u16>("=u2");
        is::<u32>("=u4");
        is::<u64>("=u8");
        is::<i8>("|i1");
        is::<i16>("=i2");
        is::<i32>("=i4");
        is::<i64>("=i8");
        is::<f32>("=f4");
        is::<f64>("=f8");
        #[cfg(target_pointer_width = "64")]
        {
            is::<usize>("=u8");
            is::<isize>("=i8");
        }
        is::<FixedBytes<5>>("|S5");
        is::<[u8; 5]>("|V5");
        is::<[i8; 5]>("('|i1', (5,))");
        is::<[[f32; 3]; 2]>("('=f4', (2, 3))");
        is::<[[u8; 3]; 2]>("('|V3', (2,))");
        is::<Datetime64<time_units::Microsecond>>("=M8[us]");
        is::<Datetime64<time_units::Generic>>("=M8");
        is::<Timedelta64<time_units::Day>>("=m8[D]");
    }

    #[test]
    #[cfg(feature = "half")]
    fn half_floats_are_elements() {
        is::<half::f16>("=f2");
    }

    #[test]
    #[cfg(feature = "num-complex")]
    fn complex_numbers_are_elements() {
        is::<num_complex::Complex<f32>>("=c8");
        is::<num_complex::Complex<f64>>("=c16");
    }

    #[test]
    #[cfg(feature = "rend")]
    fn the_byte_order_is_the_types_own() {
        is::<rend::i16_be>(">i2");
        is::<rend::i32_le>("<i4");
        is::<rend::u64_be>(">u8");
        is::<rend::f32_le>("<f4");
        is::<rend::f64_be>(">f8");
        is::<rend::unaligned::u16_ule>("<u2");
        is::<rend::unaligned::i64_ube>(">i8");
        is::<rend::unaligned::f64_ule>("<f8");
        #[cfg(feature = "num-complex")]
        {
            is::<num_complex::Complex<rend::f64_be>>(">c16");
            is::<num_complex::Complex<rend::unaligned::f32_ule>>("<c8");
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_dtype_names_its_rust_types() {
        #[track_caller]
        fn named(descr: &str, aligned: Option<&str>, unaligned: Option<&str>) {
            let dtype: Dtype = descr.parse().unwrap();
            assert_eq!((dtype.rust_type().as_deref(), dtype.rust_type_unaligned().as_deref()), (aligned, unaligned));
        }
        named("<f8", Some("`f64`"), Some("`rend::unaligned::f64_ule` (feature `rend`)"));
        named(">i4", Some("`rend::i32_be` (feature `rend`)"), Some("`rend::unaligned::i32_ube` (feature `rend`)"));
        named("|u1", Some("`u8`"), None);
        named("|b1", Some("`Bool8`"), None);
        named("<f2", Some("`half::f16` (feature `half`)"), None);
        named(">f2", None, None);
        named("<f16", None, None);
        named(
            "<c8",
            Some("`num_complex::Complex<f32>` (feature `num-complex`)"),
            Some("`num_complex::Complex<rend::unaligned::f32_ule>` (features `num-complex` and `rend`)"),
        );
        named("<m8[ns]", Some("`Timedelta64<time_units::Nanosecond>`"), None);
        named(">m8[ns]", None, None);
        named("<m8[25ns]", None, None);
        named("|S3", Some("`FixedBytes<3>`"), None);
        named("|V3", Some("`[u8; 3]`"), None);
        named("<U3", None, None);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_record_names_a_struct_that_can_have_its_fields_where_they_lie() {
        #[track_caller]
        fn named(descr: &str, aligned: Option<&str>, unaligned: Option<&str>) {
            let dtype: Dtype = descr.parse().unwrap();
            let [aligned, unaligned] = [aligned, unaligned].map(|name| Some(format!("a `#[repr(C{}", name?)));
            assert_eq!((dtype.rust_type(), dtype.rust_type_unaligned()), (aligned, unaligned), "{descr}");
        }
        let plain = Some(")]` struct with `npy_record!`");
        let rend = Some(")]` struct of types of `rend::unaligned` with `npy_record!` (feature `rend`)");
        let packed = Some(", packed)]` struct with `npy_record!`");
        let both = Some(
            ", packed)]` struct, in which numbers of the other byte order are of `rend::unaligned`, with `npy_record!` \
             (feature `rend`)",
        );
        for descr in ["[('a', '<f8')]", "[('a', '|u1'), ('', '|V3'), ('b', '>i4')]", "[('a', '<c16'), ('b', '<f8')]"] {
            named(descr, plain, rend);
        }
        for descr in [
            "[('a', '|u1'), ('b', '<f8')]",
            "[('a', '<f8'), ('b', '|u1')]",
            "[('a', '|S3'), ('b', '>f8')]",
            "[('a', '|u1'), ('b', [('c', '<u2'), ('d', '>c8')], (2,))]",
        ] {
            named(descr, rend, rend);
        }
        named("[('a', '|u1'), ('', '|V7'), ('b', '<M8[us]')]", plain, packed);
        named("[('a', '|u1'), ('b', '<M8[us]'), ('c', '<f8')]", packed, packed);
        named("[('a', '|u1'), ('b', '<M8[us]'), ('c', '>f8')]", both, both);
        named("[('a', '|u1'), ('b', '|S3', (2,))]", plain, None);
        named("[]", None, None);
        named("[('a', '|V0')]", None, None);
    }
}
