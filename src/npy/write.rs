//! Headers as NumPy 2 writes them, byte for byte.

use super::display::tuple;
use super::dtype::{Dtype, MAX_DIMS, MAX_ITEMSIZE};
use super::encoded::EncodedHeader;
use super::preamble::MAGIC;
use crate::error::{Result, error};

/// NumPy starts the data at a multiple of this.
pub(crate) const ARRAY_ALIGN: usize = 64;

/// Starts the data on a page of their own. Some systems have larger pages, but with those a header would be longer than
/// the 10,000 bytes that readers accept.
pub(crate) const PAGE_ALIGN: usize = 4096;

/// NumPy's number of digits that the growing axis has room for.
const GROWTH_AXIS_MAX_DIGITS: usize = 21;

impl EncodedHeader {
    /// The header that NumPy writes for such an array. The data start at a multiple of `align`, which is `ARRAY_ALIGN` as
    /// in NumPy, or `PAGE_ALIGN`. The axes of a sub-array `dtype` come last in the file's shape.
    ///
    /// # Errors
    /// `Unsupported` for what NumPy could not read.
    pub(crate) fn format(dtype: &Dtype, shape: &[usize], fortran_order: bool, align: usize) -> Result<Self> {
        debug_assert!([ARRAY_ALIGN, PAGE_ALIGN].contains(&align));
        let shape = [shape, dtype.shape()].concat();
        if fortran_order && !dtype.shape().is_empty() && shape.len() > 1 {
            // The axes within an element would be the slowest in the file, so that no element would be contiguous.
            return Err(error!(Unsupported, "a .npy file cannot hold elements {} in Fortran order", dtype.brief("`")));
        }
        if dtype.itemsize() > MAX_ITEMSIZE {
            let (size, brief) = (dtype.itemsize(), dtype.brief("`"));
            return Err(error!(
                Unsupported,
                "NumPy has no elements of more than {MAX_ITEMSIZE} bytes, and {brief} has {size}"
            ));
        }
        if shape.len() > MAX_DIMS {
            return Err(error!(Unsupported, "NumPy has no arrays of more than {MAX_DIMS} axes, found {}", shape.len()));
        }
        let (order, growing) = if fortran_order { ("True", shape.last()) } else { ("False", shape.first()) };
        let before = format!("{{'descr': {}, 'fortran_order': {order}, 'shape': ", dtype.base_descr("'"));
        let latin1: Option<Vec<u8>> = before.chars().map(|c| u8::try_from(c).ok()).collect();
        let (before, version) = match latin1 {
            Some(latin1) => (latin1, (1, 0)),
            None => (before.into_bytes(), (3, 0)),
        };
        let spelled = tuple(&shape);
        let blanks = growing.map_or(0, |n| GROWTH_AXIS_MAX_DIGITS.saturating_sub(n.to_string().len()));
        let text_len = before.len() + spelled.len() + CLOSE.len() + blanks;
        let mut bytes = preamble(version, text_len, align)?;
        let shape_start = bytes.len() + before.len();
        let shape_at = shape_start..shape_start + spelled.len();
        let end = bytes.len() + padded(bytes.len(), text_len, align);
        bytes.reserve_exact(end - bytes.len());
        bytes.extend([&before, spelled.as_bytes(), CLOSE].concat());
        bytes.resize(end - 1, b' ');
        bytes.push(b'\n');
        let axes = shape.len();
        Ok(Self::new(bytes, shape, axes, shape_at))
    }
}

/// What follows the shape.
const CLOSE: &[u8] = b", }";

/// The bytes before a text of `text_len` bytes, of the first version from `version` on that can hold it.
fn preamble(version: (u8, u8), text_len: usize, align: usize) -> Result<Vec<u8>> {
    let (version, length) = match u16::try_from(padded(10, text_len, align)) {
        Ok(length) if version == (1, 0) => (version, length.to_le_bytes().to_vec()),
        _ => match u32::try_from(padded(12, text_len, align)) {
            Ok(length) => (version.max((2, 0)), length.to_le_bytes().to_vec()),
            Err(_) => return Err(error!(Unsupported, "a .npy header of {text_len} bytes is too long")),
        },
    };
    Ok([&MAGIC[..], &[version.0, version.1], &length].concat())
}

/// The length of a text that starts at `start`, with a newline and with padding to a multiple of `align`. As NumPy
/// does it: a text that needs no padding gets a whole `align` of it.
fn padded(start: usize, text_len: usize, align: usize) -> usize {
    text_len + 1 + align - (start + text_len + 1) % align
}

#[cfg(test)]
mod tests {
    use super::super::element::NpyElement;
    use super::super::header::Header;
    use super::*;
    use crate::error::ErrorKind;

    fn dtype(descr: &str) -> Dtype {
        descr.parse().unwrap()
    }

    #[track_caller]
    fn formats(descr: &str, shape: &[usize], fortran_order: bool, align: usize) -> (Header, Vec<u8>) {
        let encoded = EncodedHeader::format(&dtype(descr), shape, fortran_order, align).unwrap();
        let bytes = encoded.bytes().to_vec();
        let header = Header::from_bytes_with_limit(&bytes, usize::MAX).unwrap();
        assert_eq!(header.dtype(), &Dtype { shape: Vec::new(), ..dtype(descr) });
        assert_eq!(
            (header.shape(), header.fortran_order()),
            (&[shape, dtype(descr).shape()].concat()[..], fortran_order)
        );
        assert_eq!(bytes.len() % align, 0);
        assert_eq!(header.data_offset(), bytes.len() as u64);
        assert_eq!(bytes.last(), Some(&b'\n'));
        (header, bytes)
    }

    #[test]
    fn bytes_are_numpys() {
        let (_, bytes) = formats("<f8", &[3, 4], false, ARRAY_ALIGN);
        let text = format!("{:117}\n", "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }");
        assert_eq!(bytes, [b"\x93NUMPY\x01\x00\x76\x00", text.as_bytes()].concat());
        assert_eq!(Header::from_bytes(&bytes).unwrap().to_bytes().unwrap(), bytes);
    }

    #[test]
    fn the_version_is_the_first_that_can_hold_the_text() {
        let record = |name: &str, n: usize| {
            let fields: Vec<String> = (0..n).map(|i| format!("('{name}{i:04}', '<f8')")).collect();
            format!("[{}]", fields.join(", "))
        };
        for (descr, version) in [
            (record("é", 1), (1, 0)),
            (record("漢", 1), (3, 0)),
            (record("e", 2000), (1, 0)),
            (record("é", 5000), (2, 0)),
            (record("漢", 5000), (3, 0)),
        ] {
            assert_eq!(formats(&descr, &[2], false, ARRAY_ALIGN).0.version(), version);
        }
        // Around the last length that 1.0 can say.
        for len in (65_300..65_500).step_by(3) {
            let (header, bytes) = formats(&format!("[('{}', '<f8')]", "x".repeat(len)), &[2], false, ARRAY_ALIGN);
            assert_eq!(header.version(), if bytes.len() - 10 <= 65_535 { (1, 0) } else { (2, 0) });
        }
    }

    #[test]
    fn data_can_begin_on_a_page() {
        for digits in 0..64 {
            let descr = format!("[('{}', '<f8')]", "x".repeat(64 + digits));
            let (_, bytes) = formats(&descr, &[3], false, PAGE_ALIGN);
            assert_eq!(bytes.len(), 4096);
            assert!(Header::from_bytes(&bytes).is_ok());
        }
        let (header, bytes) = formats(&format!("[('{}', '<f8')]", "x".repeat(4100)), &[3], false, PAGE_ALIGN);
        assert_eq!((header.version(), bytes.len()), ((1, 0), 8192));
    }

    #[test]
    fn arrays_as_elements_are_axes_of_the_file() {
        let (header, _) = formats("('<f4', (2, 3))", &[5], false, ARRAY_ALIGN);
        assert_eq!((header.dtype().to_string().as_str(), header.shape()), ("<f4", &[5, 2, 3][..]));
        let format = |dtype: Dtype, shape: &[usize], fortran_order| {
            let encoded = EncodedHeader::format(&dtype, shape, fortran_order, ARRAY_ALIGN)?;
            Header::from_bytes(encoded.bytes())
        };
        let header = format(<[f32; 3]>::dtype(), &[5], false).unwrap();
        assert_eq!(header.shape_for::<[f32; 3]>().unwrap(), [5]);
        let header = format(<[u8; 3]>::dtype(), &[5], true).unwrap();
        assert_eq!((header.dtype().to_string().as_str(), header.shape()), ("|V3", &[5][..]));
        let e = format(<[f32; 3]>::dtype(), &[5], true).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unsupported);
        assert!(format(<[[f32; 3]; 2]>::dtype(), &[], true).is_err());
        assert!(format(<[f32; 3]>::dtype(), &[], true).is_ok());
    }

    #[test]
    fn what_numpy_could_not_read_is_not_written() {
        let refused = |dtype: &Dtype, shape: &[usize]| {
            EncodedHeader::format(dtype, shape, false, ARRAY_ALIGN).unwrap_err().kind()
        };
        assert_eq!(refused(&f64::dtype(), &[1; 65]), ErrorKind::Unsupported);
        assert_eq!(refused(&<[f64; 2]>::dtype(), &[1; 64]), ErrorKind::Unsupported);
        assert_eq!(refused(&<[u8; 1 << 31]>::dtype(), &[1]), ErrorKind::Unsupported);
        assert_eq!(refused(&<[[f64; usize::MAX >> 8]; 16]>::dtype(), &[1]), ErrorKind::Unsupported);
    }
}
