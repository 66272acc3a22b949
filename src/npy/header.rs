//! The header of a `.npy` file: what its bytes mean. (`write.rs` is the way back.)
//!
//! ```text
//! \x93NUMPY  major minor  length  {'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }  blanks \n  data
//! 6 bytes    1     1      2; 4    Latin-1 or, from 3.0 on, UTF-8
//!                         from 2.0 on
//! ```

use std::fmt;
use std::ops::Range;

use super::descr::dtype_of;
use super::display::tuple;
use super::dtype::{Dtype, MAX_DIMS};
use super::encoded::EncodedHeader;
use super::literal::{self, Dialect, Int, Spanned, Value, invalid_header};
use super::preamble::{Preamble, truncated};
use super::write::ARRAY_ALIGN;
use crate::error::{Result, error, shorten};

/// The default limit of the text's length: NumPy's 10,000. NumPy counts characters; this crate counts bytes, so that the
/// limit applies before anything is decoded. The two differ only for non-Latin field names (version 3.0).
pub(crate) const HEADER_CAP: usize = 10_000;

/// The header of a `.npy` file: element type, shape, order, and where the data start.
///
/// As in NumPy, the axes of a sub-array type (`('<f4', (3,))`) are the last axes of the array: `dtype()` is `<f4`, and
/// `shape()` ends with 3.
///
/// ```
/// use ndarray_mmap::npy::Header;
///
/// let bytes = b"\x93NUMPY\x01\x00\x3a\x00{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4)}\n";
/// let header = Header::from_bytes(bytes)?;
/// assert_eq!(header.shape(), [3, 4]);
/// assert_eq!(header.to_string(), "<f8 (3, 4) in C order, data at byte 68, .npy version 1.0");
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub(super) version: (u8, u8),
    /// Invariant: no sub-array.
    pub(super) dtype: Dtype,
    pub(super) fortran_order: bool,
    pub(super) shape: Vec<usize>,
    pub(super) data_offset: u64,
}

impl Header {
    /// Parses the header at the start of `bytes`, such as those of a whole `.npy` file in memory.
    ///
    /// # Errors
    /// - `InvalidHeader` if there is none, if it is malformed, or if it is longer than 10,000 bytes (for longer ones there
    ///   is [`from_bytes_with_limit`](Self::from_bytes_with_limit)).
    /// - `Overflow` if an axis is longer than `isize::MAX`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::from_bytes_with_limit(bytes, HEADER_CAP)
    }

    /// Like [`from_bytes`](Self::from_bytes), for headers of up to `max_header_size` bytes; [`usize::MAX`] allows any length.
    ///
    /// # Errors
    /// Those of [`from_bytes`](Self::from_bytes).
    pub fn from_bytes_with_limit(bytes: &[u8], max_header_size: usize) -> Result<Self> {
        Ok(Parsed::new(bytes, max_header_size)?.header)
    }

    /// The version of the format: (1, 0), (2, 0) or (3, 0).
    pub fn version(&self) -> (u8, u8) {
        self.version
    }

    /// The type of the elements.
    pub fn dtype(&self) -> &Dtype {
        &self.dtype
    }

    /// Whether the first axis varies fastest.
    pub fn fortran_order(&self) -> bool {
        self.fortran_order
    }

    /// The lengths of the axes, in elements.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Where the data start, in bytes from the start of the header.
    pub fn data_offset(&self) -> u64 {
        self.data_offset
    }

    /// The size of the data in bytes; `None` if it does not fit in a `u64`.
    pub fn nbytes(&self) -> Option<u64> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        self.shape.iter().try_fold(self.dtype.itemsize() as u64, |product, &n| product.checked_mul(n as u64))
    }

    /// This header as NumPy writes it. Spelling, padding and version may differ from those that were read.
    ///
    /// # Errors
    /// `Unsupported` if the text is longer than 4 GiB.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let encoded = EncodedHeader::format(&self.dtype, &self.shape, self.fortran_order, ARRAY_ALIGN)?;
        Ok(encoded.into_bytes())
    }
}

impl fmt::Display for Header {
    /// `<f8 (3, 4) in C order, data at byte 128, .npy version 1.0`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.version;
        let order = if self.fortran_order { "Fortran" } else { "C" };
        write!(f, "{} {} in {order} order, ", self.dtype, tuple(&self.shape))?;
        write!(f, "data at byte {}, .npy version {major}.{minor}", self.data_offset)
    }
}

/// A header, and what the rewriting of its shape needs.
pub(super) struct Parsed {
    pub(super) header: Header,
    /// The bytes that spell the shape.
    pub(super) shape_at: Range<usize>,
    /// How many of the last axes came from a sub-array `descr`.
    pub(super) inner_axes: usize,
    /// Where the data start.
    pub(super) end: usize,
}

impl Parsed {
    /// Parses the header at the start of `bytes`.
    pub(super) fn new(bytes: &[u8], cap: usize) -> Result<Self> {
        let Preamble { version, text: Range { start, end } } = Preamble::parse(bytes, cap)?;
        let text = bytes.get(start..end).ok_or_else(|| truncated(end, bytes.len()))?;
        let dialect = Dialect { utf8: version >= (3, 0), long_suffix: version < (3, 0) };
        let root = literal::read(text, start, dialect)?;

        let at = root.span.start;
        let Value::Dict(entries) = root.value else {
            return Err(root.expected("a dict"));
        };
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        for (key, value) in entries {
            // As in Python, the last of two equal keys counts.
            match &key.value {
                Value::Str(name) if name == "descr" => descr = Some(value),
                Value::Str(name) if name == "fortran_order" => fortran_order = Some(value),
                Value::Str(name) if name == "shape" => shape = Some(value),
                Value::Str(name) => {
                    return Err(invalid_header!(key.span.start, "expected {KEYS}, found `{}`", shorten(name)));
                }
                _ => return Err(key.expected(KEYS)),
            }
        }
        let missing = |key| move || invalid_header!(at, "expected a dict with the key `{key}`");
        let descr = descr.ok_or_else(missing("descr"))?;
        let fortran_order = fortran_order.ok_or_else(missing("fortran_order"))?;
        let shape = shape.ok_or_else(missing("shape"))?;

        let mut dtype = dtype_of(descr)?;
        let Value::Bool(fortran_order) = fortran_order.value else {
            return Err(fortran_order.expected("True or False for `fortran_order`"));
        };
        let mut lengths = lengths_of(&shape)?;
        let inner_axes = dtype.shape.len();
        lengths.append(&mut dtype.shape);
        if lengths.len() > MAX_DIMS {
            return Err(invalid_header!(
                shape.span.start,
                "expected at most {MAX_DIMS} axes, as NumPy has them, found {}",
                lengths.len()
            ));
        }
        let header = Header { version, dtype, fortran_order, shape: lengths, data_offset: end as u64 };
        Ok(Self { header, shape_at: shape.span, inner_axes, end })
    }
}

/// The keys of a header, for a message.
const KEYS: &str = "one of the keys `descr`, `fortran_order` and `shape`";

fn lengths_of(shape: &Spanned) -> Result<Vec<usize>> {
    let Value::Tuple(axes) = &shape.value else { return Err(shape.expected("a tuple for `shape`")) };
    let length = |axis: &Spanned| match axis.value {
        Value::Int(n) => length_of(n, axis.span.start),
        _ => Err(axis.expected("an axis length")),
    };
    axes.iter().map(length).collect()
}

fn length_of(n: Int, at: usize) -> Result<usize> {
    if n.negative {
        return Err(invalid_header!(at, "expected an axis length, found a negative number{}", n.shown()));
    }
    let length = n.magnitude.and_then(|m| isize::try_from(m).ok()).and_then(|n| usize::try_from(n).ok());
    length.ok_or_else(|| {
        error!(
            Overflow,
            "at byte {at}: expected an axis length of at most {}, found a larger number{}",
            isize::MAX,
            n.shown()
        )
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::preamble::MAGIC;
    use super::*;
    use crate::error::ErrorKind;

    /// A header of version 1.0 without padding.
    pub(in crate::npy) fn file(text: &str) -> Vec<u8> {
        let length = u16::try_from(text.len()).unwrap().to_le_bytes();
        [&MAGIC[..], &[1, 0], &length, text.as_bytes()].concat()
    }

    /// The same for one value, the others being good.
    pub(in crate::npy) fn with(key: &str, value: &str) -> Vec<u8> {
        let of = |name, good| if name == key { value } else { good };
        let (descr, order, shape) = (of("descr", "'<f8'"), of("order", "False"), of("shape", "(3, 4)"));
        file(&format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}"))
    }

    #[track_caller]
    fn refuses(bytes: &[u8], at: usize, part: &str) {
        let e = Header::from_bytes(bytes).expect_err(part);
        assert_eq!(e.kind(), ErrorKind::InvalidHeader, "{e}");
        let message = e.to_string();
        assert!(message.starts_with(&format!("at byte {at}: ")) && message.contains(part), "{message}");
    }

    #[test]
    fn the_spelling_does_not_matter() {
        let plain = Header::from_bytes(&with("", "")).unwrap();
        assert_eq!((plain.shape(), plain.fortran_order(), plain.version()), (&[3, 4][..], false, (1, 0)));
        for text in [
            "{'shape': (3, 4), 'descr': '<f8', 'fortran_order': False}",
            " {\"shape\":(3,4,),\n\t\"descr\":u'<f8' , 'fortran_order':False,}  \n",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (3L, 4L)}",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4)} # 'shape': (5,)",
            "{'descr': '<i4', 'descr': '<f8', 'shape': None, 'fortran_order': False, 'shape': (3, 4)}",
        ] {
            let header = Header::from_bytes(&file(text)).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(Header { data_offset: plain.data_offset, ..header }, plain, "{text}");
        }
    }

    #[test]
    fn versions_differ_in_length_and_encoding() {
        let text = "{'descr': [('é', '<f8')], 'fortran_order': False, 'shape': ()}";
        let long = u32::try_from(text.len()).unwrap().to_le_bytes();
        let new = |version: [u8; 2]| [&MAGIC[..], &version, &long, text.as_bytes()].concat();
        for (bytes, version, name, offset) in
            [(file(text), (1, 0), "Ã©", 10), (new([2, 0]), (2, 0), "Ã©", 12), (new([3, 0]), (3, 0), "é", 12)]
        {
            let header = Header::from_bytes(&bytes).unwrap();
            assert_eq!((header.version(), header.dtype().fields()[0].name()), (version, name));
            assert_eq!(header.data_offset(), (offset + text.len()) as u64);
        }
        for (major, minor) in [(0, 0), (1, 1), (2, 1), (4, 0), (255, 255)] {
            refuses(&new([major, minor]), 6, &format!("found {major}.{minor}"));
        }
    }

    #[test]
    fn python_2_numbers_are_for_the_old_versions() {
        let text = "{'descr': '<f8', 'fortran_order': False, 'shape': (3L,)}";
        let long = u32::try_from(text.len()).unwrap().to_le_bytes();
        let new = |major| [&MAGIC[..], &[major, 0], &long, text.as_bytes()].concat();
        assert_eq!(Header::from_bytes(&new(2)).unwrap().shape(), [3]);
        refuses(&new(3), 12 + 52, "found `3L`");
    }

    #[test]
    fn a_header_cut_short_is_refused_at_its_end() {
        let whole = with("", "");
        for len in 0..whole.len() {
            refuses(&whole[..len], len, "but the file ends here");
        }
        assert!(Header::from_bytes(&[&whole[..], b"data"].concat()).is_ok());
        refuses(b"\x93NUMPy", 5, "begin with");
        refuses(b"PK\x03\x04", 0, "begin with");
    }

    #[test]
    fn a_long_header_is_refused_by_its_length_alone() {
        let pad = |len: usize| file(&format!("{:len$}", "{'descr': '<f8', 'fortran_order': False, 'shape': ()}"));
        assert!(Header::from_bytes(&pad(HEADER_CAP)).is_ok());
        refuses(&pad(HEADER_CAP + 1), 8, "at most 10000 bytes, found 10001");
        assert!(Header::from_bytes_with_limit(&pad(HEADER_CAP + 1), HEADER_CAP + 1).is_ok());
        refuses(b"\x93NUMPY\x02\x00\xff\xff\xff\xff", 8, "found 4294967295");
        assert!(Preamble::parse(b"\x93NUMPY\x02\x00\xff\xff\xff\xff", usize::MAX).is_ok());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_byte() {
        refuses(&file(""), 10, "a Python literal, but the header ends here");
        refuses(&file("[]"), 10, "expected a dict, found a list");
        refuses(&file("{}"), 10, "the key `descr`");
        refuses(&file("{'descr': '<f8', 'shape': ()}"), 10, "the key `fortran_order`");
        refuses(&file("{'descr': '<f8', 'fortran_order': False}"), 10, "the key `shape`");
        refuses(&file("{'extra\n': 1}"), 11, "no quote closes");
        refuses(&file("{'ex\\ntra': 1}"), 11, r"found `ex\ntra`");
        refuses(&file("{3: 1}"), 11, "found a number");
        refuses(&with("order", "1"), 44, "True or False for `fortran_order`, found a number");
        refuses(&with("order", "false"), 44, "a Python literal");
        refuses(&with("descr", "None"), 20, "expected a type: a string, a list, or a tuple; found None");
        refuses(&with("descr", "'|O'"), 20, "Python objects");
        refuses(&with("shape", "[3, 4]"), 60, "expected a tuple for `shape`, found a list");
        refuses(&with("shape", "(3)"), 61, "found a number");
        refuses(&with("shape", "(3, -4)"), 64, "negative number");
        refuses(&with("shape", "(3, 4.0)"), 65, "whole number");
        refuses(&with("shape", "(True,)"), 61, "expected an axis length, found a bool");
        refuses(&with("shape", &format!("({})", "1, ".repeat(65))), 60, "at most 64 axes, as NumPy has them, found 65");
        assert_eq!(Header::from_bytes(&with("shape", &format!("({})", "1, ".repeat(64)))).unwrap().shape().len(), 64);
    }

    #[test]
    fn a_length_that_no_array_has_is_an_overflow() {
        for n in ["9223372036854775808", "18446744073709551615", "18446744073709551616", &"9".repeat(5000)] {
            let e = Header::from_bytes(&with("shape", &format!("(3, {n})"))).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Overflow);
            assert!(e.to_string().starts_with("at byte 64: "), "{e}");
        }
        #[cfg(target_pointer_width = "64")]
        {
            let header = Header::from_bytes(&with("shape", "(9223372036854775807, 4)")).unwrap();
            assert_eq!(header.nbytes(), None);
            let header = Header::from_bytes(&with("shape", "(9223372036854775807, 9223372036854775807, 0)")).unwrap();
            assert_eq!(header.nbytes(), Some(0));
        }
        assert_eq!(Header::from_bytes(&with("", "")).unwrap().nbytes(), Some(96));
    }

    #[test]
    fn the_axes_of_a_sub_array_are_the_arrays() {
        let header = Header::from_bytes(&with("descr", "('<f4', (2, 5))")).unwrap();
        assert_eq!((header.dtype().to_string().as_str(), header.shape()), ("<f4", &[3, 4, 2, 5][..]));
        let axes = format!("('<f4', ({}))", "1, ".repeat(63));
        refuses(&with("descr", &axes), 60 + axes.len() - "'<f8'".len(), "at most 64 axes, as NumPy has them, found 65");
    }
}
