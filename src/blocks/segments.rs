//! The segments of a file that a pass reads ahead and evicts as a whole.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::storage::Storage;

/// In bytes: the largest folio of Linux's page cache with pages of 4 KiB, so that none is evicted in part.
const SEGMENT: usize = 2 << 20;

/// Segments read ahead together: with 8 MiB in one request a disk is at its full speed (bench `blocks`, "cold sum").
const WINDOW: usize = 4;

/// All segments of an array. None if its memory is not that of a file: then there is nothing to read or evict.
#[derive(Debug)]
pub(super) struct Segments {
    all: Vec<Segment>,
    /// Where the array starts in its first segment.
    skew: usize,
    /// Of the array, in bytes.
    len: usize,
}

#[derive(Debug, Default)]
struct Segment {
    /// Bytes that the pass has not left yet.
    remaining: AtomicU32,
    entered: AtomicBool,
    /// Must not stay in the page cache: it was not there before the pass.
    drop_from_page_cache: bool,
}

impl Segments {
    /// With `drop_from_page_cache`, the segments that are not in the page cache now must not be there after the pass.
    pub(super) fn new(storage: &Storage, drop_from_page_cache: bool) -> Self {
        let len = storage.len();
        let skew = (storage.offset() % SEGMENT as u64) as usize;
        let count = if storage.is_of_file() { (skew + len).div_ceil(SEGMENT) } else { 0 };
        let mut segments = Self { all: (0..count).map(|_| Segment::default()).collect(), skew, len };
        let drop_from_page_cache = drop_from_page_cache && storage.reports_residency();
        for n in 0..count {
            let bytes = segments.bytes(n..n + 1);
            *segments.all[n].remaining.get_mut() = bytes.len() as u32;
            segments.all[n].drop_from_page_cache = drop_from_page_cache && storage.is_absent(bytes);
        }
        segments
    }

    /// The segments that a range of the array's bytes overlaps.
    pub(super) fn of(&self, bytes: Range<usize>) -> Range<usize> {
        if self.all.is_empty() || bytes.is_empty() {
            return 0..0;
        }
        (self.skew + bytes.start) / SEGMENT..(self.skew + bytes.end).div_ceil(SEGMENT)
    }

    /// The array's bytes in some segments.
    pub(super) fn bytes(&self, segments: Range<usize>) -> Range<usize> {
        (segments.start * SEGMENT).saturating_sub(self.skew)..(segments.end * SEGMENT - self.skew).min(self.len)
    }

    /// The windows that some segments are in.
    pub(super) fn windows_of(&self, segments: Range<usize>) -> Range<usize> {
        segments.start / WINDOW..segments.end.div_ceil(WINDOW)
    }

    /// The segments of a window.
    pub(super) fn of_window(&self, window: usize) -> Range<usize> {
        window * WINDOW..self.all.len().min((window + 1) * WINDOW)
    }

    /// The number of windows.
    pub(super) fn windows(&self) -> usize {
        self.all.len().div_ceil(WINDOW)
    }

    /// Marks a segment as entered.
    pub(super) fn enter(&self, n: usize) {
        self.all[n].entered.store(true, Ordering::Relaxed);
    }

    /// Counts those of the bytes that are in a segment as done. Returns whether they were its last.
    pub(super) fn leave(&self, n: usize, bytes: &Range<usize>) -> bool {
        let segment = self.bytes(n..n + 1);
        let done = (bytes.end.min(segment.end) - bytes.start.max(segment.start)) as u32;
        self.all[n].remaining.fetch_sub(done, Ordering::AcqRel) == done
    }

    pub(super) fn is_finished(&self, n: usize) -> bool {
        self.all[n].remaining.load(Ordering::Acquire) == 0
    }

    pub(super) fn must_leave_page_cache(&self, n: usize) -> bool {
        self.all[n].drop_from_page_cache
    }

    /// The bytes that must not stay in the page cache, in as few ranges as possible.
    pub(super) fn leaving_page_cache(&self) -> impl Iterator<Item = Range<usize>> {
        let mut next = 0;
        self.all.chunk_by(|a, b| a.drop_from_page_cache == b.drop_from_page_cache).filter_map(move |alike| {
            let segments = next..next + alike.len();
            next = segments.end;
            alike[0].drop_from_page_cache.then(|| self.bytes(segments))
        })
    }

    /// The bytes of the segments that were entered, but not left whole.
    pub(super) fn given_up(&self) -> impl Iterator<Item = Range<usize>> {
        let given_up = |&n: &usize| self.all[n].entered.load(Ordering::Relaxed) && !self.is_finished(n);
        (0..self.all.len()).filter(given_up).map(|n| self.bytes(n..n + 1))
    }
}
