//! What earlier questions about pages in memory have answered, so that fewer need to be asked.

use std::sync::atomic::{AtomicU8, Ordering};

use super::Storage;

/// How often in a row all pages of a sample were in memory.
#[derive(Debug, Default)]
pub(super) struct Presence(AtomicU8);

impl Storage {
    /// The number of pages to ask about, at first: a system call each, of up to a microsecond.
    pub(crate) const SAMPLES: usize = 16;

    /// The number of pages to ask about before some are accessed: half as many each time that all were in memory, and in
    /// the end none. Then the caller must notice itself when a page was not.
    pub(crate) fn sample_size(&self) -> usize {
        Self::SAMPLES >> self.presence.0.load(Ordering::Relaxed)
    }

    /// Records whether all pages of a sample were in memory.
    pub(crate) fn note_presence(&self, present: bool) {
        let before = self.presence.0.load(Ordering::Relaxed);
        let after = if present { (before + 1).min(Self::SAMPLES.ilog2() as u8 + 1) } else { 0 };
        self.presence.0.store(after, Ordering::Relaxed);
    }
}
