//! The header of a `.npy` file: what its bytes say. (`write.rs` is the way back.)
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
use super::literal::{self, Dialect, Int, Node, Value, malformed};
use crate::error::shorten;
use crate::error::{Error, ErrorKind, Result};

pub(crate) const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// The longest text that is read unless the caller says otherwise: NumPy's 10,000, which it counts in characters and
/// we in bytes, so that it holds before anything is decoded. The two differ only for non-Latin field names (3.0).
pub(crate) const HEADER_CAP: usize = 10_000;

/// What the header of a `.npy` file says: element type, shape, order, and where the data begin.
///
/// The axes of a sub-array type (`('<f4', (3,))`) count among the array's, as in NumPy: `dtype()` is `<f4`, and
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
    /// Reads the header that `bytes` begin with, such as those of a whole `.npy` file in memory.
    ///
    /// # Errors
    /// `InvalidHeader` if there is none, if it is malformed, or if it is longer than 10,000 bytes (for which there is
    /// [`from_bytes_with_limit`](Self::from_bytes_with_limit)); `Overflow` if an axis is longer than `isize::MAX`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::parse(bytes, HEADER_CAP)
    }

    /// The same for headers of up to `max_header_size` bytes, of any length with [`usize::MAX`].
    ///
    /// # Errors
    /// Those of [`from_bytes`](Self::from_bytes).
    pub fn from_bytes_with_limit(bytes: &[u8], max_header_size: usize) -> Result<Self> {
        Self::parse(bytes, max_header_size)
    }

    /// As [`from_bytes`](Self::from_bytes), with another cap on the length.
    pub(crate) fn parse(bytes: &[u8], cap: usize) -> Result<Self> {
        let preamble = Preamble::parse(bytes, cap)?;
        Self::parse_text(preamble, bytes.get(preamble.start..).unwrap_or_default())
    }

    /// Reads `text`, the bytes at `preamble.text()`; what follows them is not looked at.
    pub(crate) fn parse_text(preamble: Preamble, text: &[u8]) -> Result<Self> {
        Ok(parse_text(preamble, text)?.header)
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

    /// The lengths of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Where the data begin, in bytes from the start of the header.
    pub fn data_offset(&self) -> u64 {
        self.data_offset
    }

    /// The bytes of the data; `None` if there are more than a `u64` counts.
    pub fn nbytes(&self) -> Option<u64> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        self.shape.iter().try_fold(self.dtype.itemsize() as u64, |product, &n| product.checked_mul(n as u64))
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

/// The first bytes of a file: enough to know how many more to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Preamble {
    version: (u8, u8),
    start: usize,
    end: usize,
}

impl Preamble {
    /// Reads the first bytes of a file, 12 at least if it has so many, and refuses a text longer than `cap` before anyone
    /// makes room for it. (Given a few more bytes it can tell what a file is that is none of ours.)
    pub(crate) fn parse(prefix: &[u8], cap: usize) -> Result<Self> {
        if let Some(at) = prefix.iter().zip(MAGIC).position(|(a, b)| a != b) {
            let found = another_kind(prefix).map(|kind| format!(", found {kind}")).unwrap_or_default();
            return Err(malformed(at, format_args!(r"expected a .npy file to begin with \x93NUMPY{found}")));
        }
        let Some((_, &[major, minor], rest)) = split_preamble(prefix) else {
            return Err(cut_short(MAGIC.len() + 2, prefix.len()));
        };
        let (start, len) = match (major, minor) {
            (1, 0) => (10, rest.first_chunk().map(|&b| u32::from(u16::from_le_bytes(b)))),
            (2 | 3, 0) => (12, rest.first_chunk().map(|&b| u32::from_le_bytes(b))),
            _ => return Err(malformed(6, format_args!("expected version 1.0, 2.0 or 3.0, found {major}.{minor}"))),
        };
        let len = len.ok_or_else(|| cut_short(start, prefix.len()))?;
        match usize::try_from(len).ok().filter(|&len| len <= cap).and_then(|len| start.checked_add(len)) {
            Some(end) => Ok(Self { version: (major, minor), start, end }),
            None => {
                let message = format!("expected a header text of at most {cap} bytes, found {len}");
                let remedy =
                    "if the file is to be trusted, raise that by `.max_header_size(..)` or `Header::read_with_limit`";
                Err(malformed(8, message + "; " + remedy))
            }
        }
    }

    /// Where the text stands; the data begin where it ends.
    pub(crate) fn text(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// What a file is that people take for a `.npy` file, by its first bytes, and what to do with it.
fn another_kind(prefix: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 16] = [
        (b"PK\x03\x04", "a zip archive, as a `.npz` file is one: extract the `.npy` file first"),
        (b"PK\x05\x06", "an empty zip archive"),
        (b"\x1f\x8b", "gzip-compressed data: decompress it first"),
        (b"BZh", "bzip2-compressed data: decompress it first"),
        (b"\xfd7zXZ\0", "xz-compressed data: decompress it first"),
        (b"\x28\xb5\x2f\xfd", "zstd-compressed data: decompress it first"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file, for an HDF5 library to read"),
        (b"CDF\x01", "a NetCDF file, for a NetCDF library to read"),
        (b"CDF\x02", "a NetCDF file, for a NetCDF library to read"),
        (b"CDF\x05", "a NetCDF file, for a NetCDF library to read"),
        (b"PAR1", "a Parquet file, for a Parquet library to read"),
        (b"SIMPLE  =", "a FITS file, for a FITS library to read"),
        (b"version https://git-lfs", "a Git LFS pointer and not the file itself: get that by `git lfs pull`"),
        (b"<!DOCTYPE", "an HTML page and not the file itself: look at what was downloaded"),
        (b"<!doctype", "an HTML page and not the file itself: look at what was downloaded"),
        (b"<html", "an HTML page and not the file itself: look at what was downloaded"),
    ];
    if let Some((_, kind)) = KINDS.iter().find(|(magic, _)| prefix.starts_with(magic)) {
        return Some(kind);
    }
    match prefix {
        [0x80, 2..=5, ..] => Some("a Python pickle: load it in Python, and save the array by `np.save`"),
        [0, 0, 0, 0, 0, 0, ..] if prefix.iter().take(64).all(|&b| b == 0) => {
            Some("zeros: a file that was never written to its end")
        }
        _ => None,
    }
}

fn split_preamble(prefix: &[u8]) -> Option<(&[u8; 6], &[u8; 2], &[u8])> {
    let (magic, rest) = prefix.split_first_chunk()?;
    let (version, rest) = rest.split_first_chunk()?;
    Some((magic, version, rest))
}

fn cut_short(wanted: usize, found: usize) -> Error {
    malformed(found, format_args!("expected {wanted} bytes of header, but the file ends here"))
}

/// A header, and what only the rewriting of its shape needs.
pub(super) struct Parsed {
    pub(super) header: Header,
    /// The bytes that spell the shape.
    pub(super) shape_at: Range<usize>,
    /// How many of the last axes came from a sub-array `descr`.
    pub(super) inner_axes: usize,
}

pub(super) fn parse_text(preamble: Preamble, text: &[u8]) -> Result<Parsed> {
    let Preamble { version, start, end } = preamble;
    let text = text.get(..end - start).ok_or_else(|| cut_short(end, start + text.len()))?;
    let dialect = Dialect { utf8: version >= (3, 0), long_suffix: version < (3, 0) };
    let root = literal::read(text, start, dialect)?;

    let at = root.span.start;
    let Value::Dict(entries) = root.value else {
        return Err(malformed(at, format_args!("expected a dict, found {}", root.value.name())));
    };
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    for (key, value) in entries {
        // Of a key given twice the last counts, as in Python.
        match &key.value {
            Value::Str(name) if name == "descr" => descr = Some(value),
            Value::Str(name) if name == "fortran_order" => fortran_order = Some(value),
            Value::Str(name) if name == "shape" => shape = Some(value),
            Value::Str(name) => return Err(unexpected_key(&key, &format!("`{}`", shorten(name)))),
            other => return Err(unexpected_key(&key, other.name())),
        }
    }
    let missing = |key| move || malformed(at, format_args!("expected a dict with the key `{key}`"));
    let descr = descr.ok_or_else(missing("descr"))?;
    let fortran_order = fortran_order.ok_or_else(missing("fortran_order"))?;
    let shape = shape.ok_or_else(missing("shape"))?;

    let mut dtype = dtype_of(descr)?;
    let fortran_order = match fortran_order.value {
        Value::Bool(fortran_order) => fortran_order,
        other => {
            let message = format_args!("expected True or False for `fortran_order`, found {}", other.name());
            return Err(malformed(fortran_order.span.start, message));
        }
    };
    let mut lengths = lengths_of(&shape)?;
    let inner_axes = dtype.shape.len();
    lengths.append(&mut dtype.shape);
    if lengths.len() > MAX_DIMS {
        let message = format_args!("expected at most {MAX_DIMS} axes, as NumPy has them, found {}", lengths.len());
        return Err(malformed(shape.span.start, message));
    }
    let header = Header { version, dtype, fortran_order, shape: lengths, data_offset: end as u64 };
    Ok(Parsed { header, shape_at: shape.span, inner_axes })
}

fn unexpected_key(key: &Node, found: &str) -> Error {
    let message = format_args!("expected one of the keys `descr`, `fortran_order` and `shape`, found {found}");
    malformed(key.span.start, message)
}

fn lengths_of(shape: &Node) -> Result<Vec<usize>> {
    let Value::Tuple(nodes) = &shape.value else {
        let message = format_args!("expected a tuple for `shape`, found {}", shape.value.name());
        return Err(malformed(shape.span.start, message));
    };
    let length = |node: &Node| match node.value {
        Value::Int(n) => length_of(n, node.span.start),
        ref other => Err(malformed(node.span.start, format_args!("expected an axis length, found {}", other.name()))),
    };
    nodes.iter().map(length).collect()
}

fn length_of(n: Int, at: usize) -> Result<usize> {
    if n.negative {
        return Err(malformed(at, format_args!("expected an axis length, found a negative number{}", n.shown())));
    }
    let length = n.magnitude.and_then(|m| isize::try_from(m).ok()).and_then(|n| usize::try_from(n).ok());
    length.ok_or_else(|| {
        let message = format!("at byte {at}: expected an axis length of at most {}, found a larger number", isize::MAX);
        Error::new(ErrorKind::Overflow, message + &n.shown())
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

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
        assert!(Header::parse(&pad(HEADER_CAP + 1), HEADER_CAP + 1).is_ok());
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
