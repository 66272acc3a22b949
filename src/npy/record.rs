//! `npy_record!`: structs as elements.

use super::dtype::{Dtype, Field};
use super::element::NpyElement;

/// Implements [`NpyElement`](crate::npy::NpyElement) for a struct: as a record whose fields have the names of the struct's,
/// or the names given after `as`.
///
/// Offsets and sizes are those of the compiler, padding included, and the field types are checked against the struct's.
/// Name a field `""` if it is explicit padding (as bytemuck's `NoUninit` requires); in a file that is the same as a gap.
///
/// To be mapped, the struct must also be an element: derive bytemuck's `Pod` and `Zeroable` (with its feature `derive`), or
/// implement them as here.
/// ```
/// use bytemuck::{Pod, Zeroable};
/// use ndarray_mmap::npy::NpyElement;
/// use ndarray_mmap::{MmapArray, MmapArrayMut, npy_record};
///
/// #[derive(Clone, Copy)]
/// #[repr(C)]
/// struct Point {
///     id: u16,
///     pad: [u8; 2],
///     xyz: [f32; 3],
///     kind: u8,
///     _pad: [u8; 3],
/// }
///
/// npy_record!(Point { id: u16, pad: [u8; 2] as "", xyz: [f32; 3], kind: u8 as "type", _pad: [u8; 3] as "" });
///
/// # #[cfg(target_endian = "little")]
/// assert_eq!(
///     Point::dtype().to_string(),
///     "[('id', '<u2'), ('', '|V2'), ('xyz', '<f4', (3,)), ('type', '|u1'), ('', '|V3')]"
/// );
///
/// // SAFETY: all bytes zero are a value of every field.
/// unsafe impl Zeroable for Point {}
/// // SAFETY: so is every other bit pattern, and `pad` and `_pad` leave no padding.
/// unsafe impl Pod for Point {}
///
/// # let path = std::env::temp_dir().join(format!("ndarray-mmap-points-{}.npy", std::process::id()));
/// // SAFETY: while `points` lives, no other process or handle changes its bytes or truncates the file.
/// let mut points = unsafe { MmapArrayMut::<Point>::create_npy(&path, 100)? };
/// points[7].xyz = [1.0, 2.0, 3.0];
/// points.close()?;
/// let points = MmapArray::<Point>::load_npy(&path)?;
/// assert_eq!(points[7].xyz[2], 3.0);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Records without gaps
/// NumPy packs its records, unless it is asked for `align=True`: each field starts where the one before ends, and the size of a
/// record is the plain sum of theirs. So most fields lie at unaligned offsets. Make the fields [`Unaligned`](crate::Unaligned),
/// and with [`BigEndian`](crate::BigEndian) in it where the file says `>`. The types of `rend::unaligned` do the same.
/// ```
/// use bytemuck::{Pod, Zeroable};
/// use ndarray::prelude::*;
/// use ndarray_mmap::npy::NpyElement;
/// use ndarray_mmap::{BigEndian, Datetime64, MmapArray, Str, Unaligned, npy_record, time_units::Millisecond};
///
/// #[derive(Clone, Copy)]
/// #[repr(C)]
/// struct Reading {
///     ok: u8,
///     at: Unaligned<Datetime64<Millisecond>>,
///     volts: Unaligned<BigEndian<f64>>,
///     site: Unaligned<Str<3>>,
/// }
///
/// npy_record!(Reading {
///     ok: u8,
///     at: Unaligned<Datetime64<Millisecond>>,
///     volts: Unaligned<BigEndian<f64>>,
///     site: Unaligned<Str<3>>,
/// });
///
/// // SAFETY: all bytes zero are a value of every field.
/// unsafe impl Zeroable for Reading {}
/// // SAFETY: so is every other bit pattern, and fields of alignment 1 leave no padding.
/// unsafe impl Pod for Reading {}
///
/// # #[cfg(target_endian = "little")]
/// # {
/// // A file as NumPy saves it: 1 + 8 + 8 + 12 bytes to a record.
/// let descr = "[('ok', '|u1'), ('at', '<M8[ms]'), ('volts', '>f8'), ('site', '<U3')]";
/// assert_eq!(Reading::dtype().to_string(), descr);
/// assert_eq!(size_of::<Reading>(), 29);
/// let text = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}");
/// # let path = std::env::temp_dir().join(format!("ndarray-mmap-packed-{}.npy", std::process::id()));
/// let mut file = [b"\x93NUMPY\x01\0\xb6\0", format!("{text:181}\n").as_bytes()].concat();
/// file.push(1);
/// file.extend(1_700_000_000_000_i64.to_le_bytes());
/// file.extend(1.5_f64.to_be_bytes());
/// file.extend(['N', 'P', 'L'].into_iter().flat_map(|c| u32::from(c).to_le_bytes()));
/// std::fs::write(&path, file)?;
///
/// // SAFETY: while `readings` lives, no other process or handle changes its bytes or truncates the file.
/// let readings = unsafe { MmapArray::<Reading, Ix1>::open_npy(&path)? };
/// let Reading { at, volts, site, .. } = readings[0];
/// assert_eq!(at.get(), Datetime64::new(1_700_000_000_000));
/// assert_eq!(volts.get().get(), 1.5);
/// assert_eq!(site.get(), "NPL");
/// # drop(readings);
/// # std::fs::remove_file(&path)?;
/// # }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// For a struct with type parameters, implement [`NpyElement`](crate::npy::NpyElement) by hand with
/// [`Dtype::record`](crate::npy::Dtype::record).
///
/// # What does not compile
/// A type that is not the field's:
/// ```compile_fail,E0308
/// #[repr(C)]
/// struct Point { x: f64, y: f64 }
/// ndarray_mmap::npy_record!(Point { x: f64, y: i64 });
/// ```
/// a missing field:
/// ```compile_fail
/// #[repr(C)]
/// struct Point { x: f64, y: f64 }
/// ndarray_mmap::npy_record!(Point { x: f64 });
/// ```
/// an unknown field:
/// ```compile_fail,E0026
/// #[repr(C)]
/// struct Point { x: f64 }
/// ndarray_mmap::npy_record!(Point { x: f64, y: f64 });
/// ```
/// a field whose type no file can hold, such as `bool`:
/// ```compile_fail,E0277
/// #[repr(C)]
/// struct Flag { set: bool }
/// ndarray_mmap::npy_record!(Flag { set: bool });
/// ```
///
/// # Panics
/// `dtype()` panics if two fields have the same name, or if a field's type has an `NpyElement` by hand whose dtype has
/// another size than the type.
#[macro_export]
macro_rules! npy_record {
    ($record:ident { $($field:tt : $type:ty $(as $name:literal)?),* $(,)? }) => {
        impl $crate::npy::NpyElement for $record {
            fn dtype() -> $crate::npy::Dtype {
                // Never called. It compiles only if these are all the fields of the struct, with these types.
                #[allow(dead_code, clippy::no_effect_underscore_binding)]
                fn fields_and_types_match(record: $record) {
                    let $record { $($field: _),* } = record;
                    $(let _: $type = record.$field;)*
                }
                $crate::npy::Dtype::__of_struct::<$record>([
                    $($crate::npy::Field::__of_type::<$type>(
                        $crate::npy_record!(@name $field $($name)?),
                        ::core::mem::offset_of!($record, $field),
                    )),*
                ])
            }
        }
    };
    (@name $field:tt $name:literal) => { $name };
    (@name $field:tt) => { ::core::stringify!($field) };
}

impl Field {
    #[doc(hidden)]
    pub fn __of_type<T: NpyElement>(name: &str, offset: usize) -> Self {
        let dtype = T::dtype();
        // Otherwise fields could overlap, or leave bytes that are not padding.
        assert_eq!(
            dtype.itemsize(),
            size_of::<T>(),
            "`{}` calls itself `{dtype}`, which has another size",
            std::any::type_name::<T>()
        );
        Self::new(name.strip_prefix("r#").unwrap_or(name), offset, dtype)
    }
}

impl Dtype {
    #[doc(hidden)]
    pub fn __of_struct<T>(fields: impl IntoIterator<Item = Field>) -> Self {
        match Self::record(fields, size_of::<T>()) {
            Ok(dtype) => dtype,
            Err(e) => panic!("npy_record!({}): {e}", std::any::type_name::<T>()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bool8;

    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Padded {
        a: u8,
        b: i32,
        c: [i16; 3],
    }
    npy_record!(Padded { a: u8, b: i32 as "why not", c: [i16; 3] });

    #[derive(Clone, Copy)]
    #[repr(C, packed)]
    struct Packed {
        a: u8,
        b: f64,
    }
    npy_record!(Packed { b: f64, a: u8 });

    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Spelled {
        r#type: u8,
        pad: [u8; 3],
        b: i32,
    }
    npy_record!(Spelled { r#type: u8, pad: [u8; 3] as "", b: i32 });

    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Nested(Padded, [Spelled; 2], Bool8);
    npy_record!(Nested { 0: Padded as "p", 1: [Spelled; 2] as "s", 2: Bool8 as "ok" });

    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Twice {
        a: u8,
        b: u8,
    }
    npy_record!(Twice { a: u8 as "x", b: u8 as "x" });

    #[test]
    fn have_the_layout_of_the_struct() {
        let native = if cfg!(target_endian = "big") { ">" } else { "<" };
        let padded = "[('a', '|u1'), ('', '|V3'), ('why not', '=i4'), ('c', '=i2', (3,)), ('', '|V2')]";
        let spelled = "[('type', '|u1'), ('', '|V3'), ('b', '=i4')]";
        let nested = format!("[('p', {padded}), ('s', {spelled}, (2,)), ('ok', '|b1'), ('', '|V3')]");
        for (dtype, descr) in [
            (Padded::dtype(), padded),
            (Packed::dtype(), "[('a', '|u1'), ('b', '=f8')]"),
            (Spelled::dtype(), spelled),
            (Nested::dtype(), &nested),
        ] {
            assert_eq!(dtype.to_string(), descr.replace('=', native));
            assert_eq!(dtype, descr.parse().unwrap());
        }
    }

    #[test]
    fn read_a_file_of_that_layout_only() {
        let spelled = Spelled::dtype();
        for (found, same) in [
            ("[('type', '|u1'), ('', '|V3'), ('b', '=i4')]", true),
            ("[('type', '|u1'), ('', '|V1'), ('', '|u1', (2,)), ('b', '=i4')]", true),
            ("[(('title', 'type'), '|u1'), ('', '|V3'), ('b', '=i4')]", true),
            ("[('type', '|u1'), ('b', '=i4')]", false),
            ("[('type', '|u1'), ('', '|V3'), ('b', '=i4'), ('', '|V4')]", false),
            ("[('type', '|u1'), ('pad', '|V3'), ('b', '=i4')]", false),
            ("[('type', '|i1'), ('', '|V3'), ('b', '=i4')]", false),
            ("[('type', '|u1'), ('', '|V3'), ('c', '=i4')]", false),
            ("[('type', '|u1'), ('', '|V3'), ('b', '=u4')]", false),
            ("[('type', '|u1'), ('', '|V3'), ('b', '=i4', (1,))]", false),
            ("|V8", false),
        ] {
            assert_eq!(spelled.can_read(&found.parse().unwrap()), same, "{found}");
        }
    }

    #[test]
    #[should_panic(expected = "two fields are called `x`")]
    fn refuse_one_name_for_two_fields() {
        Twice::dtype();
    }
}
