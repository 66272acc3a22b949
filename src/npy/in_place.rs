//! The header of an open file, kept so that it can be rewritten when its array grows.

use std::ops::Range;

use super::write::with_shape;
use crate::error::Result;

/// A header as it stands in a file.
#[derive(Clone, Debug)]
pub(crate) struct HeaderInPlace {
    bytes: Vec<u8>,
    /// In bytes from the start of the file.
    offset: u64,
    /// All axes, those within an element too.
    shape: Vec<usize>,
}

impl HeaderInPlace {
    pub(crate) fn new(bytes: Vec<u8>, offset: u64, shape: &[usize]) -> Self {
        Self { bytes, offset, shape: shape.to_vec() }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where it begins, in bytes from the start of the file.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Where it differs from the bytes that stand in the file, from the first to the last of them.
    pub(crate) fn changes_to(&self, in_file: &[u8]) -> Range<usize> {
        let differ = |(new, old): (&u8, &u8)| new != old;
        let start = self.bytes.iter().zip(in_file).position(differ).unwrap_or(self.bytes.len());
        let end = self.bytes.iter().zip(in_file).rposition(differ).map_or(start, |last| last + 1);
        start..end
    }

    /// Whether bytes that stand in the file can be this header when its change to `new` was written in part.
    pub(crate) fn could_become(&self, in_file: &[u8], new: &Self) -> bool {
        let expected = self.bytes.iter().zip(&new.bytes);
        in_file.len() == self.bytes.len() && in_file.iter().zip(expected).all(|(b, (old, new))| b == old || b == new)
    }

    /// The header of the same array with another number of rows, as many bytes long.
    ///
    /// # Errors
    /// `Unsupported` if there is no room for the number.
    pub(crate) fn with_rows(&self, axis: usize, rows: usize) -> Result<Self> {
        let mut shape = self.shape.clone();
        if let Some(len) = shape.get_mut(axis) {
            *len = rows;
        }
        let bytes = with_shape(&self.bytes, &shape, usize::MAX)?;
        Ok(Self { bytes, offset: self.offset, shape })
    }
}
