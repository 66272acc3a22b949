//! The pieces of a file that a walk brings in and lets go of: 2 MiB each, because that is what the system's cache is
//! made of at best.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::storage::Pages;

/// The largest pieces of a file that a system's cache holds, in bytes.
const UNIT: usize = 2 << 20;

/// Units that are read ahead together.
const WINDOW: usize = 4;

/// All units of an array. None for memory that is not a file's: there is nothing to do, then.
#[derive(Debug)]
pub(super) struct Segments {
    all: Vec<Unit>,
    /// Where the array starts in its first unit.
    skew: usize,
    /// Of the array, in bytes.
    len: usize,
}

#[derive(Debug, Default)]
struct Unit {
    /// Bytes that are still to be left.
    remaining: AtomicU32,
    entered: AtomicBool,
    /// Is to leave the system's cache after the walk: nobody had it there before.
    drop_from_page_cache: bool,
}

impl Segments {
    /// With `drop_from_page_cache`, those that nobody has in the system's cache are to leave it again.
    pub(super) fn new(pages: Pages<'_>, drop_from_page_cache: bool) -> Self {
        let len = pages.len();
        let skew = (pages.in_file() % UNIT as u64) as usize;
        let count = if pages.are_of_file() { (skew + len).div_ceil(UNIT) } else { 0 };
        let mut units = Self { all: (0..count).map(|_| Unit::default()).collect(), skew, len };
        let drop_from_page_cache = drop_from_page_cache && pages.tell_presence();
        for n in 0..count {
            let bytes = units.bytes(n..n + 1);
            *units.all[n].remaining.get_mut() = bytes.len() as u32;
            units.all[n].drop_from_page_cache = drop_from_page_cache && pages.are_absent(bytes);
        }
        units
    }

    /// Those that some bytes of the array lie in.
    pub(super) fn of(&self, bytes: Range<usize>) -> Range<usize> {
        if self.all.is_empty() || bytes.is_empty() {
            return 0..0;
        }
        (self.skew + bytes.start) / UNIT..(self.skew + bytes.end).div_ceil(UNIT)
    }

    /// The array's bytes that lie in some of them.
    pub(super) fn bytes(&self, units: Range<usize>) -> Range<usize> {
        (units.start * UNIT).saturating_sub(self.skew)..(units.end * UNIT - self.skew).min(self.len)
    }

    /// The windows that some units lie in.
    pub(super) fn windows_of(&self, units: Range<usize>) -> Range<usize> {
        units.start / WINDOW..units.end.div_ceil(WINDOW)
    }

    pub(super) fn of_window(&self, window: usize) -> Range<usize> {
        window * WINDOW..self.all.len().min((window + 1) * WINDOW)
    }

    pub(super) fn windows(&self) -> usize {
        self.all.len().div_ceil(WINDOW)
    }

    /// Whether this is the first time.
    pub(super) fn enter(&self, n: usize) -> bool {
        !self.all[n].entered.swap(true, Ordering::Relaxed)
    }

    /// Counts bytes of a unit that were walked; whether they were the last.
    pub(super) fn leave(&self, n: usize, bytes: &Range<usize>) -> bool {
        let unit = self.bytes(n..n + 1);
        let walked = (bytes.end.min(unit.end) - bytes.start.max(unit.start)) as u32;
        self.all[n].remaining.fetch_sub(walked, Ordering::AcqRel) == walked
    }

    pub(super) fn is_finished(&self, n: usize) -> bool {
        self.all[n].remaining.load(Ordering::Acquire) == 0
    }

    pub(super) fn is_to_uncache(&self, n: usize) -> bool {
        self.all[n].drop_from_page_cache
    }

    /// Those that are to leave the cache, as few stretches of bytes.
    pub(super) fn to_uncache(&self) -> impl Iterator<Item = Range<usize>> {
        let mut next = 0;
        self.all.chunk_by(|a, b| a.drop_from_page_cache == b.drop_from_page_cache).filter_map(move |alike| {
            let units = next..next + alike.len();
            next = units.end;
            alike[0].drop_from_page_cache.then(|| self.bytes(units))
        })
    }

    /// Those that were entered, and some bytes of which were not left.
    pub(super) fn given_up(&self) -> impl Iterator<Item = Range<usize>> {
        let given_up = |&n: &usize| self.all[n].entered.load(Ordering::Relaxed) && !self.is_finished(n);
        (0..self.all.len()).filter(given_up).map(|n| self.bytes(n..n + 1))
    }
}
