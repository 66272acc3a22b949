//! The first bytes of a `.npy` file: the magic, the version, and the length of the text.

use std::ops::Range;

use super::literal::invalid_header;
use crate::error::{Error, Result};

pub(crate) const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// The magic, the version and the length of the text: enough to know how many more bytes to read.
pub(crate) struct Preamble {
    pub(super) version: (u8, u8),
    /// The range of the text in the header. The data start at its end.
    pub(crate) text: Range<usize>,
}

impl Preamble {
    /// Parses the first bytes of a file: at least 12, if the file has as many. More bytes help the message about a file of
    /// another format.
    ///
    /// # Errors
    /// `InvalidHeader`, also for a text longer than `cap`, before memory is allocated for it.
    pub(crate) fn parse(prefix: &[u8], cap: usize) -> Result<Self> {
        if let Some(at) = prefix.iter().zip(MAGIC).position(|(a, b)| a != b) {
            let found = another_kind(prefix).map(|kind| format!(", found {kind}")).unwrap_or_default();
            return Err(invalid_header!(at, r"expected a .npy file to begin with \x93NUMPY{found}"));
        }
        let &[_, _, _, _, _, _, major, minor, ref rest @ ..] = prefix else {
            return Err(truncated(MAGIC.len() + 2, prefix.len()));
        };
        let (start, len) = match (major, minor) {
            (1, 0) => (10, rest.first_chunk().map(|&b| u32::from(u16::from_le_bytes(b)))),
            (2 | 3, 0) => (12, rest.first_chunk().map(|&b| u32::from_le_bytes(b))),
            _ => {
                return Err(invalid_header!(6, "expected version 1.0, 2.0 or 3.0, found {major}.{minor}"));
            }
        };
        let len = len.ok_or_else(|| truncated(start, prefix.len()))?;
        match usize::try_from(len).ok().filter(|&len| len <= cap).and_then(|len| start.checked_add(len)) {
            Some(end) => Ok(Self { version: (major, minor), text: start..end }),
            None => {
                let remedy =
                    "if the file is to be trusted, raise that by `.max_header_size(..)` or `Header::read_with_limit`";
                Err(invalid_header!(8, "expected a header text of at most {cap} bytes, found {len}; {remedy}"))
            }
        }
    }
}

/// Recognises other formats by their first bytes: what the file is, and what to do with it.
fn another_kind(prefix: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 16] = [
        (b"PK\x03\x04", "a zip archive, as a `.npz` file is one: use `open_npz` or `load_npz` (feature `npz`)"),
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

pub(super) fn truncated(wanted: usize, found: usize) -> Error {
    invalid_header!(found, "expected {wanted} bytes of header, but the file ends here")
}
