//! The dtype of a Rust type, and the Rust type of a dtype.

use super::dtype::{ByteOrder, Dtype, DtypeKind, Field};
use crate::element::{
    BigEndian, Bool8, ByteOrdered, Datetime64, FixedBytes, LittleEndian, Str, Timedelta64, Unaligned, for_each_number,
    time_units,
};

/// An element type that `.npy` files can hold.
///
/// | Rust | NumPy |
/// |---|---|
/// | `u8` .. `u64`, `i8` .. `i64`, `f32`, `f64` | `u1` .. `u8`, `i1` .. `i8`, `f4`, `f8`, in this machine's byte order |
/// | `usize`, `isize` | as wide as on this machine: `u8`, `i8` |
/// | [`Bool8`] | `b1` |
/// | `half::f16` (feature `half`) | `f2` |
/// | `half::bf16` (feature `half`) | `<V2`, as the Python package ml_dtypes writes `bfloat16`; also reads `|V2` |
/// | `num_complex::Complex<f32>`, `<f64>` (feature `num-complex`) | `c8`, `c16` |
/// | [`Datetime64<U>`], [`Timedelta64<U>`] | `M8[us]`, `m8[s]` .. |
/// | [`Str<N>`] | `UN`, strings of characters |
/// | [`FixedBytes<N>`] | `SN`, strings of bytes |
/// | [`BigEndian<T>`], [`LittleEndian<T>`] | `>f8`, `>f2`, `<M8[us]`, `>U5` ..: that byte order |
/// | [`Unaligned<T>`] | that of `T`, at any offset |
/// | `rend::f64_be`, `rend::u16_le` .. (feature `rend`) | `>f8`, `<u2` ..: the byte order in their name |
/// | `rend::unaligned::f64_ule` .. (feature `rend`) | the same at any offset |
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
    note = "complex numbers, `f16` and the types of `rend` need the features `num-complex`, `half` and `rend`"
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
#[cfg(feature = "half")]
element!(Void, NATIVE, half::bf16);

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

impl<const N: usize> NpyElement for Str<N> {
    fn dtype() -> Dtype {
        Dtype::scalar(DtypeKind::Str, ByteOrder::NATIVE, size_of::<Self>())
    }
}

impl<T: NpyElement + bytemuck::Pod> NpyElement for Unaligned<T> {
    fn dtype() -> Dtype {
        T::dtype()
    }

    fn dtype_of_array(len: usize) -> Dtype {
        T::dtype_of_array(len)
    }
}

macro_rules! stored {
    ($($order:ident $byteorder:ident)*) => {$(
        impl<T: NpyElement + ByteOrdered> NpyElement for $order<T> {
            fn dtype() -> Dtype {
                T::dtype().with_byteorder(ByteOrder::$byteorder)
            }

            fn dtype_of_array(len: usize) -> Dtype {
                T::dtype_of_array(len).with_byteorder(ByteOrder::$byteorder)
            }
        }

        #[cfg(feature = "num-complex")]
        element!(Complex, $byteorder, num_complex::Complex<$order<f32>>);
        #[cfg(feature = "num-complex")]
        element!(Complex, $byteorder, num_complex::Complex<$order<f64>>);
    )*};
}
stored!(BigEndian Big LittleEndian Little);

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

    /// The kind of struct that reads this record.
    fn rust_struct(&self, unaligned: bool) -> Option<String> {
        let text = match (unaligned, self.is_aligned()) {
            (true, _) if self.alignment() == 1 => return None,
            (false, true) => "a `#[repr(C)]` struct with `npy_record!`",
            _ => "a `#[repr(C)]` struct of `Unaligned<..>` fields with `npy_record!`",
        };
        Some(text.into())
    }

    /// The alignment of the Rust types for this dtype; `rend`'s aligned types have the same.
    fn alignment(&self) -> usize {
        match self.kind {
            DtypeKind::Int
            | DtypeKind::Uint
            | DtypeKind::Float
            | DtypeKind::Timedelta { .. }
            | DtypeKind::Datetime { .. } => self.base_itemsize,
            DtypeKind::Str => align_of::<u32>(),
            DtypeKind::Void if self.is_bfloat16() => 2,
            DtypeKind::Complex => self.base_itemsize / 2,
            DtypeKind::Record => self.fields.iter().map(|field| field.dtype.alignment()).max().unwrap_or(1),
            DtypeKind::Bool | DtypeKind::Bytes | DtypeKind::Void => 1,
        }
    }

    /// Whether all fields are aligned, also in an array of such records.
    fn is_aligned(&self) -> bool {
        let suits = |field: &Field| field.offset.is_multiple_of(field.dtype.alignment()) && field.dtype.is_aligned();
        self.base_itemsize.is_multiple_of(self.alignment()) && self.fields.iter().all(suits)
    }

    fn rust_types(&self, unaligned: bool) -> Option<String> {
        let size = self.base_itemsize;
        let number = |wanted, bytes| {
            let suits = |&(kind, byteorder, size, at_any_offset, _): &(_, _, _, _, _)| {
                (kind, size, at_any_offset) == (wanted, bytes, unaligned) && (size == 1 || byteorder == self.byteorder)
            };
            NUMBERS.iter().copied().find(suits).map(|(.., name)| name)
        };
        // A type that has the byte order of this machine, and an alignment.
        let wrapped = |name: String| {
            let ordered = match self.byteorder {
                ByteOrder::Little if self.byteorder != ByteOrder::NATIVE => format!("LittleEndian<{name}>"),
                ByteOrder::Big if self.byteorder != ByteOrder::NATIVE => format!("BigEndian<{name}>"),
                _ => name,
            };
            if unaligned { format!("Unaligned<{ordered}>") } else { ordered }
        };
        let step = |unit, count| match count {
            1 => format!("time_units::{unit:?}"),
            count => format!("time_units::Multiple<{count}, time_units::{unit:?}>"),
        };
        let name = match self.kind {
            _ if size == 0 => return None,
            DtypeKind::Record => return self.rust_struct(unaligned),
            DtypeKind::Float if size == 2 => wrapped("half::f16".into()),
            DtypeKind::Void if self.is_bfloat16() => wrapped("half::bf16".into()),
            DtypeKind::Int | DtypeKind::Uint | DtypeKind::Float => number(self.kind, size)?.into(),
            DtypeKind::Complex => format!("num_complex::Complex<{}>", number(DtypeKind::Float, size / 2)?),
            DtypeKind::Datetime { unit, count } => wrapped(format!("Datetime64<{}>", step(unit, count))),
            DtypeKind::Timedelta { unit, count } => wrapped(format!("Timedelta64<{}>", step(unit, count))),
            DtypeKind::Str => wrapped(format!("Str<{}>", size / size_of::<u32>())),
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
        is::<Str<3>>("=U3");
        is::<BigEndian<Str<3>>>(">U3");
        is::<LittleEndian<Datetime64<time_units::Day>>>("<M8[D]");
        is::<Unaligned<BigEndian<Timedelta64<time_units::Second>>>>(">m8[s]");
        is::<Unaligned<f32>>("=f4");
        is::<[Unaligned<BigEndian<f32>>; 3]>("('>f4', (3,))");
        is::<[Unaligned<u8>; 3]>("|V3");
        is::<BigEndian<u8>>("|u1");
        is::<Unaligned<[u16; 2]>>("('=u2', (2,))");
        is::<Timedelta64<time_units::Multiple<25, time_units::Nanosecond>>>("=m8[25ns]");
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
        is::<BigEndian<half::f16>>(">f2");
        is::<Unaligned<LittleEndian<half::f16>>>("<f2");
        is::<half::bf16>(if cfg!(target_endian = "big") { ">V2" } else { "<V2" });
        is::<BigEndian<half::bf16>>(">V2");
    }

    #[test]
    #[cfg(feature = "num-complex")]
    fn complex_numbers_are_elements() {
        is::<num_complex::Complex<f32>>("=c8");
        is::<num_complex::Complex<f64>>("=c16");
        is::<num_complex::Complex<BigEndian<f64>>>(">c16");
        is::<Unaligned<num_complex::Complex<LittleEndian<f32>>>>("<c8");
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
        let half = |name: &str| Some(format!("`{name}` (feature `half`)"));
        for (descr, aligned, unaligned) in [
            ("<f2", "half::f16", "Unaligned<half::f16>"),
            (">f2", "BigEndian<half::f16>", "Unaligned<BigEndian<half::f16>>"),
            ("<V2", "half::bf16", "Unaligned<half::bf16>"),
            (">V2", "BigEndian<half::bf16>", "Unaligned<BigEndian<half::bf16>>"),
        ] {
            named(descr, half(aligned).as_deref(), half(unaligned).as_deref());
        }
        named("<f16", None, None);
        named(
            "<c8",
            Some("`num_complex::Complex<f32>` (feature `num-complex`)"),
            Some("`num_complex::Complex<rend::unaligned::f32_ule>` (features `num-complex` and `rend`)"),
        );
        named(
            "<m8[ns]",
            Some("`Timedelta64<time_units::Nanosecond>`"),
            Some("`Unaligned<Timedelta64<time_units::Nanosecond>>`"),
        );
        named(
            ">M8[25s]",
            Some("`BigEndian<Datetime64<time_units::Multiple<25, time_units::Second>>>`"),
            Some("`Unaligned<BigEndian<Datetime64<time_units::Multiple<25, time_units::Second>>>>`"),
        );
        named("|S3", Some("`FixedBytes<3>`"), None);
        named("|V3", Some("`[u8; 3]`"), None);
        named("|V2", Some("`[u8; 2]`"), None);
        named("<V1", Some("`[u8; 1]`"), None);
        named("<U3", Some("`Str<3>`"), Some("`Unaligned<Str<3>>`"));
        named(">U3", Some("`BigEndian<Str<3>>`"), Some("`Unaligned<BigEndian<Str<3>>>`"));
        named("<U0", None, None);
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
        let unaligned = Some(")]` struct of `Unaligned<..>` fields with `npy_record!`");
        for descr in [
            "[('a', '<f8')]",
            "[('a', '|u1'), ('', '|V3'), ('b', '>i4')]",
            "[('a', '<c16'), ('b', '<f8')]",
            "[('a', '|u1'), ('', '|V7'), ('b', '<M8[us]')]",
            "[('a', '<U2'), ('b', '<U1')]",
            "[('a', '<V2'), ('b', '|u1', (2,))]",
        ] {
            named(descr, plain, unaligned);
        }
        for descr in [
            "[('a', '|u1'), ('b', '<f8')]",
            "[('a', '<f8'), ('b', '|u1')]",
            "[('a', '|S3'), ('b', '>f8')]",
            "[('a', '|u1'), ('b', [('c', '<u2'), ('d', '>c8')], (2,))]",
            "[('a', '|u1'), ('b', '<M8[us]'), ('c', '>f8')]",
            "[('a', '|u1'), ('b', '<U1')]",
            "[('a', '|u1'), ('b', '<V2')]",
        ] {
            named(descr, unaligned, unaligned);
        }
        named("[('a', '|u1'), ('b', '|S3', (2,))]", plain, None);
        named("[]", None, None);
        named("[('a', '|V0')]", None, None);
    }
}
