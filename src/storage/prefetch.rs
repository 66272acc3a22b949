//! Bringing bytes of a file into the page cache, from a thread that needs neither the array nor its lifetime.

use std::ops::Range;

use crate::element::ElementLayout;
use crate::error::{ErrorKind, Result};
use crate::file::{ArrayFile, Reader};
use crate::layout::{Alignment, Layout, Order};
use crate::mode::FileAccess;

use super::mapping::Mapping;

/// Has a mapping of its own: so its hints do not change the array's, and that one's page tables grow only with what was
/// used.
#[derive(Debug)]
pub(crate) struct PrefetchSource {
    mapping: Mapping,
    reader: Reader,
    /// Where the array starts in its file, in bytes.
    offset: u64,
}

impl PrefetchSource {
    /// Large enough that system calls do not count, small enough for a core's own cache.
    const BUFFER: usize = 256 * 1024;

    pub(super) fn new(file: &ArrayFile, offset: u64, bytes: usize) -> Result<Self> {
        let layout = Layout::new(ndarray::Ix1(bytes), Order::C, ElementLayout::of::<u8>())?;
        let extent = layout.extent(offset, Alignment::InPlace, file.len(), "")?;
        let mapping = Mapping::of_file(file.file(), extent, FileAccess::Read, false)?.in_large_reads();
        Ok(Self { mapping, reader: file.reader()?, offset })
    }

    /// Returns once the bytes are in memory, or cannot be brought there.
    pub(crate) fn fetch(&self, range: Range<usize>) {
        match self.mapping.populate(range.clone()) {
            Err(e) if e.kind() == ErrorKind::Unsupported => self.fetch_by_reading(range),
            _ => drop(self.mapping.evict(range)),
        }
    }

    /// For systems that cannot populate a mapping.
    pub(super) fn fetch_by_reading(&self, range: Range<usize>) {
        let mut buffer = vec![0; Self::BUFFER.min(range.len())];
        self.reader.read_through(self.offset + range.start as u64, range.len(), &mut buffer);
    }
}
