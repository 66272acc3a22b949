//! Whether an element type can read a file, and if not, the message.

use super::display::tuple;
use super::dtype::{Dtype, DtypeKind, Field};
use super::element::NpyElement;
use super::header::Header;
use crate::error::{Error, Result, error, shorten};

impl Header {
    /// The shape of this file as an array of `A`: without the axes within one element, if `A` is an array itself.
    ///
    /// # Errors
    /// `DtypeMismatch`, naming both types and where possible the one to use.
    pub(crate) fn shape_for<A: NpyElement>(&self) -> Result<&[usize]> {
        let wanted = checked_dtype::<A>()?;
        // `[u8; N]` has no axes, but can be the last one of a `|u1` file.
        for inner in [wanted.shape().len(), wanted.shape().len() + 1] {
            let split = self.shape.len().checked_sub(inner).and_then(|at| self.shape.split_at_checked(at));
            let Some((outer, inner)) = split else { continue };
            if !wanted.can_read_with_axes(&self.dtype, inner) {
                continue;
            }
            if self.fortran_order && !inner.is_empty() && self.shape.len() > 1 {
                return Err(self.mismatch::<A>(&wanted, "; in Fortran order the file has its axes the other way round"));
            }
            return Ok(outer);
        }
        if self.dtype.itemsize() == 0 {
            return Err(self.mismatch::<A>(&wanted, "; elements of no bytes cannot be mapped"));
        }
        let advice = match (first_difference(&wanted, &self.dtype), self.dtype.rust_type()) {
            (Some(difference), _) => format!(": {difference}"),
            (None, Some(rust)) if self.dtype != wanted => format!("; use {rust}"),
            _ => String::new(),
        };
        Err(self.mismatch::<A>(&wanted, &advice))
    }

    fn mismatch<A>(&self, wanted: &Dtype, more: &str) -> Error {
        let (found, wanted_brief, rust) = (self.dtype.brief("`"), wanted.brief("`"), std::any::type_name::<A>());
        let of_shape = match wanted.shape() {
            [] => String::new(),
            _ => format!(" of shape {}", tuple(&self.shape)),
        };
        error!(DtypeMismatch, "file holds {found}{of_shape}, but `{rust}` is {wanted_brief}{more}")
    }
}

/// The dtype of `A`, which an [`NpyElement`] by hand may misstate.
///
/// # Errors
/// `DtypeMismatch` if it has another size than `A`.
pub(crate) fn checked_dtype<A: NpyElement>() -> Result<Dtype> {
    let dtype = A::dtype();
    if dtype.itemsize() != size_of::<A>() {
        let (rust, brief) = (std::any::type_name::<A>(), dtype.brief("`"));
        return Err(error!(DtypeMismatch, "`{rust}` calls itself {brief}, which has another size"));
    }
    Ok(dtype)
}

/// The first difference of two records, for a message.
fn first_difference(wanted: &Dtype, found: &Dtype) -> Option<String> {
    if wanted.kind != DtypeKind::Record || found.kind != DtypeKind::Record {
        return None;
    }
    let (mut ours, mut theirs) = (wanted.fields.iter(), found.fields.iter());
    loop {
        let (ours, theirs) = match (ours.next(), theirs.next()) {
            (Some(ours), Some(theirs)) if ours.can_read(theirs) => continue,
            (None, None) if wanted.base_itemsize == found.base_itemsize => return None,
            (None, None) => (format!("{} bytes", wanted.base_itemsize), format!("{} bytes", found.base_itemsize)),
            (ours, theirs) => {
                let describe = |f: &Field| format!("`{}` {} at byte {}", shorten(&f.name), f.dtype.brief(""), f.offset);
                let show = |field: Option<&Field>| field.map_or("no more fields".into(), describe);
                (show(ours), show(theirs))
            }
        };
        return Some(format!("{theirs} in the file, {ours} in the struct"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::header::tests::{file, with};
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn elements_that_are_arrays_take_the_last_axes() {
        let header = |descr: &str, order: &str| {
            let text = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': (5, 2, 3)}}");
            Header::from_bytes(&file(&text)).unwrap()
        };
        let f4 = header("'=f4'", "False");
        assert_eq!(f4.shape_for::<f32>().unwrap(), [5, 2, 3]);
        assert_eq!(f4.shape_for::<[f32; 3]>().unwrap(), [5, 2]);
        assert_eq!(f4.shape_for::<[[f32; 3]; 2]>().unwrap(), [5]);
        assert_eq!(f4.shape_for::<[[[f32; 3]; 2]; 5]>().unwrap(), [0; 0]);
        assert!(f4.shape_for::<[f32; 2]>().is_err());
        assert!(f4.shape_for::<[u8; 4]>().is_err());
        let u1 = header("'|u1'", "False");
        assert_eq!(u1.shape_for::<[u8; 3]>().unwrap(), [5, 2]);
        assert_eq!(u1.shape_for::<[[u8; 3]; 2]>().unwrap(), [5]);
        assert_eq!(header("'|S3'", "False").shape_for::<[u8; 3]>().unwrap(), [5, 2, 3]);
        assert_eq!(header("'|V2'", "True").shape_for::<[u8; 2]>().unwrap(), [5, 2, 3]);

        let fortran = header("'=f4'", "True");
        assert_eq!(fortran.shape_for::<f32>().unwrap(), [5, 2, 3]);
        let e = fortran.shape_for::<[f32; 3]>().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::DtypeMismatch);
        assert!(e.to_string().contains("the other way round"), "{e}");
        assert_eq!(fortran.shape_for::<[[[f32; 3]; 2]; 5]>().map_err(|e| e.kind()), Err(ErrorKind::DtypeMismatch));
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_mismatch_names_both_types_and_the_one_to_use() {
        #[track_caller]
        fn says<A: NpyElement>(descr: &str, message: &str) {
            let e = Header::from_bytes(&with("descr", descr)).unwrap().shape_for::<A>().unwrap_err();
            assert_eq!((e.kind(), e.to_string().as_str()), (ErrorKind::DtypeMismatch, message));
        }
        says::<f64>("'>f8'", "file holds `>f8`, but `f64` is `<f8`; use `rend::f64_be` (feature `rend`)");
        says::<f64>("'<f4'", "file holds `<f4`, but `f64` is `<f8`; use `f32`");
        says::<u8>("'|b1'", "file holds `|b1`, but `u8` is `|u1`; use `Bool8`");
        says::<u8>("'<U3'", "file holds `<U3`, but `u8` is `|u1`; use `Str<3>`");
        says::<i64>("'<M8[us]'", "file holds `<M8[us]`, but `i64` is `<i8`; use `Datetime64<time_units::Microsecond>`");
        says::<f32>(
            "[('x', '<f8')]",
            "file holds `[('x', '<f8')]`, but `f32` is `<f4`; use a `#[repr(C)]` struct with `npy_record!`",
        );
        says::<[f32; 3]>("'<f4'", "file holds `<f4` of shape (3, 4), but `[f32; 3]` is `('<f4', (3,))`; use `f32`");
    }

    #[test]
    fn a_mismatch_of_records_names_the_first_difference() {
        #[repr(C)]
        struct Point {
            _a: u8,
            _b: u32,
        }
        crate::npy_record!(Point { _a: u8 as "a", _b: u32 as "b" });
        for (descr, difference) in [
            ("[('a', '|u1'), ('b', '=u4')]", "`b` =u4 at byte 1 in the file, `b` =u4 at byte 4 in the struct"),
            ("[('a', '|i1')]", "`a` |i1 at byte 0 in the file, `a` |u1 at byte 0 in the struct"),
            ("[('a', '|u1')]", "no more fields in the file, `b` =u4 at byte 4 in the struct"),
            ("[('a', '|u1'), ('', '|V3'), ('b', '=u4'), ('', '|V1')]", "9 bytes in the file, 8 bytes in the struct"),
        ] {
            let e = Header::from_bytes(&with("descr", descr)).unwrap().shape_for::<Point>().unwrap_err();
            let native = if cfg!(target_endian = "big") { ">" } else { "<" };
            assert!(e.to_string().ends_with(&difference.replace('=', native)), "{e}");
        }
        let file = with("descr", "[('a', '|u1'), ('', '|V3'), ('b', '=u4')]");
        let e = Header::from_bytes(&file).unwrap().shape_for::<[Point; 3]>().unwrap_err();
        assert!(e.to_string().contains("of shape (3, 4)") && !e.to_string().contains("in the struct"), "{e}");
    }

    #[test]
    fn an_element_that_misstates_its_size_is_refused() {
        struct Liar;
        impl NpyElement for Liar {
            fn dtype() -> Dtype {
                f64::dtype()
            }
        }
        let e = Header::from_bytes(&with("descr", "'=f8'")).unwrap().shape_for::<Liar>().unwrap_err();
        assert!(e.to_string().ends_with("which has another size"), "{e}");
    }
}
