//! What goes on below a walk: pages are read ahead of it, evicted behind it, and written back where it writes.
//!
//! Everything is counted in [`Segments`]: one is evicted once every byte of it was walked, whoever walked it and in
//! whatever order. That nothing is evicted which is not on the disk is not this module's to see to: [`Pages`] does.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::prefetch::Prefetcher;
use super::segments::Segments;
use crate::error::{Error, Result};
use crate::parallel::lock;
use crate::parallel::{OnProgress, Progress};
use crate::storage::Pages;
use crate::sys::memory::available_memory;

/// How many windows are asked for before they are needed.
const AHEAD: usize = 3;

/// How far a window has come: nothing was asked of it,
const NOT_ASKED_FOR: u8 = 0;
/// or whether it is here: it is, or it will be asked for in a moment,
const LOOKED_FOR: u8 = 1;
/// or the readers were asked for it.
const ASKED_FOR: u8 = 2;

/// Below this, starting threads costs more than waiting for the disk does.
const WORTH_READING_AHEAD: usize = 16 << 20;

/// How much is evicted at a time behind a walk that reads, in bytes.
const EVICTED_TOGETHER: usize = 16 << 20;

/// How much may be on its way to the disk, and so still in memory, before a walk that writes waits for the oldest of it.
const MOST_DIRTY: usize = 24 << 20;

/// How a walk treats the memory it passes through. `None`: as the free memory allows.
#[derive(Default)]
pub(super) struct ScanOptions<'a> {
    pub(super) evict: Option<bool>,
    pub(super) keep_cached: Option<bool>,
    pub(super) progress: Option<OnProgress<'a>>,
}

impl ScanOptions<'_> {
    /// What a walk does that passes through so many bytes, of all its arrays: whether it evicts, and whether it keeps what
    /// it has read or written in the page cache.
    pub(super) fn decide(&self, bytes: usize) -> (bool, bool) {
        let (evict, keep) = match (self.evict, self.keep_cached) {
            (Some(evict), Some(keep)) => (evict, keep),
            // Asked for, it is done, and it takes the other.
            (None, Some(keep)) => (!keep || !fits_in_cache(bytes), keep),
            (Some(false), None) => (false, true),
            (Some(true), None) => (true, fits_in_cache(bytes)),
            (None, None) => {
                let fits = fits_in_cache(bytes);
                (!fits, fits)
            }
        };
        (evict, keep || !evict)
    }
}

impl fmt::Debug for ScanOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScanOptions").field("evict", &self.evict).field("keep_cached", &self.keep_cached).finish()
    }
}

/// What a walk does to the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    Read,
    /// Some are read and some stored, in place.
    Update,
    /// All are stored and none read.
    Overwrite,
}

/// Whether so many bytes may stay in the system's cache without pushing out much else, themselves included.
pub(super) fn fits_in_cache(bytes: usize) -> bool {
    bytes <= WORTH_READING_AHEAD || available_memory().is_none_or(|free| bytes as u64 <= free / 2)
}

/// One walk over all bytes of an array. Whoever walks tells it which bytes are entered and left, each once.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    pages: Pages<'a>,
    purpose: Intent,
    evict: bool,
    units: Arc<Segments>,
    /// Whether it is known which pages are in memory.
    tells: bool,
    /// How far each window has come; none where nothing is read ahead.
    windows: Vec<AtomicU8>,
    /// From the first page on that is not there yet; `None` where they cannot be had.
    readers: OnceLock<Option<Prefetcher>>,
    progress: Progress<'a>,
    behind: Mutex<EvictQueue>,
}

/// What was walked and is still in memory.
#[derive(Debug, Default)]
struct EvictQueue {
    /// The oldest first, and whether they are to leave the page cache.
    ranges: VecDeque<(Range<usize>, bool)>,
    bytes: usize,
    failed: Option<Error>,
}

impl EvictQueue {
    /// The first failure is the one to tell.
    fn note(&mut self, result: Result<()>) {
        if let Err(e) = result {
            self.failed.get_or_insert(e);
        }
    }
}

impl<'a> Scan<'a> {
    /// A walk over one array alone.
    pub(super) fn new(pages: Pages<'a>, habits: ScanOptions<'a>, purpose: Intent) -> Self {
        let (evict, keep_cached) = habits.decide(pages.len());
        Self::decided(pages, evict, keep_cached, habits.progress, purpose)
    }

    /// A walk of which is decided whether it evicts, and keeps what it passes in the page cache.
    pub(super) fn decided(
        pages: Pages<'a>,
        evict: bool,
        keep_cached: bool,
        progress: Option<OnProgress<'a>>,
        purpose: Intent,
    ) -> Self {
        let (len, of_file) = (pages.len(), pages.are_of_file());
        let units = Arc::new(Segments::new(pages, of_file && evict && !keep_cached));
        let read_ahead = of_file && len >= WORTH_READING_AHEAD && purpose != Intent::Overwrite;
        let windows = if read_ahead { units.windows() } else { 0 };
        Self {
            pages,
            purpose,
            evict: of_file && evict,
            tells: read_ahead && pages.tell_presence(),
            windows: (0..windows).map(|_| AtomicU8::new(NOT_ASKED_FOR)).collect(),
            readers: OnceLock::new(),
            units,
            progress: Progress::new(len as u64, progress),
            behind: Mutex::default(),
        }
    }

    /// The walk comes to these bytes next; those up to `end` will follow soon.
    pub(super) fn enter(&self, bytes: Range<usize>, end: usize) {
        let units = self.units.of(bytes.clone());
        if !self.windows.is_empty() {
            let now = self.units.windows_of(units.clone());
            let last = self.units.windows_of(self.units.of(0..end)).end;
            (now.start..last.min(now.end.saturating_add(AHEAD))).for_each(|window| self.ask_for(window));
            now.for_each(|window| self.wait_for(window));
        }
        for n in units {
            // A store would have to fault again on a page that was populated for reading.
            if self.units.enter(n) && self.purpose == Intent::Read {
                self.pages.populate(self.units.bytes(n..n + 1));
            }
        }
    }

    fn ask_for(&self, window: usize) {
        let asked = |from, to| self.windows[window].compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        if asked(NOT_ASKED_FOR, LOOKED_FOR).is_err() {
            return;
        }
        // One page of each unit tells whether they are here already, or it is not known.
        let here =
            self.tells && self.units.of_window(window).all(|n| self.pages.is_present(self.units.bytes(n..n + 1).start));
        let start = || Prefetcher::start(self.pages.read_ahead()?, &self.units);
        if !here && let Some(readers) = self.readers.get_or_init(start) {
            readers.ask_for(window);
            self.windows[window].store(ASKED_FOR, Ordering::Release);
        }
    }

    fn wait_for(&self, window: usize) {
        if self.windows[window].load(Ordering::Acquire) == ASKED_FOR
            && let Some(Some(readers)) = self.readers.get()
        {
            readers.wait_for(window);
        }
    }

    /// The walk is done with these bytes.
    pub(super) fn leave(&self, bytes: Range<usize>) {
        let mut finished = 0..0;
        for n in self.units.of(bytes.clone()) {
            if !self.units.leave(n, &bytes) {
                continue;
            }
            if finished.end != n || self.units.is_to_uncache(finished.start) != self.units.is_to_uncache(n) {
                self.finish(finished);
                finished = n..n;
            }
            finished.end = n + 1;
        }
        self.finish(finished);
        self.progress.advance(bytes.len());
    }

    /// Every byte of these units was walked.
    fn finish(&self, units: Range<usize>) {
        if units.is_empty() || !self.evict {
            return;
        }
        let drop_from_page_cache = self.units.is_to_uncache(units.start);
        let bytes = self.units.bytes(units);
        let started = if self.purpose == Intent::Read { Ok(()) } else { self.pages.start_writeback(bytes.clone()) };
        let mut behind = lock(&self.behind);
        behind.note(started);
        behind.bytes += bytes.len();
        behind.ranges.push_back((bytes, drop_from_page_cache));
        if self.purpose == Intent::Read {
            if behind.bytes >= EVICTED_TOGETHER {
                let mut behind = std::mem::take(&mut *behind);
                self.settle(&mut behind, 0);
            }
        } else if behind.bytes > MOST_DIRTY {
            // The others wait for the disk, too, rather than store more.
            self.settle(&mut behind, MOST_DIRTY / 2);
        }
    }

    /// Evicts the oldest until at most so many bytes are left. Next to each other where they can be: to wait for the disk takes
    /// as long for much as for little, and evicting has every processor forget what it knows of the pages.
    fn settle(&self, behind: &mut EvictQueue, most: usize) {
        let mut oldest = Vec::new();
        while behind.bytes > most
            && let Some((bytes, drop_from_page_cache)) = behind.ranges.pop_front()
        {
            behind.bytes -= bytes.len();
            oldest.push((bytes, drop_from_page_cache));
        }
        oldest.sort_unstable_by_key(|(bytes, _)| bytes.start);
        let next_to_each_other =
            |a: &(Range<usize>, bool), b: &(Range<usize>, bool)| a.0.end == b.0.start && a.1 == b.1;
        for alike in oldest.chunk_by(next_to_each_other) {
            behind.note(self.evict(alike[0].0.start..alike[alike.len() - 1].0.end, alike[0].1));
        }
    }

    /// Fails if what was stored there could not be written back.
    fn evict(&self, bytes: Range<usize>, drop_from_page_cache: bool) -> Result<()> {
        self.pages.try_evict(bytes.clone())?;
        if drop_from_page_cache { self.pages.drop_from_page_cache(bytes) } else { Ok(()) }
    }

    /// Ends the walk, and says what went wrong behind one that writes.
    pub(super) fn end(mut self) -> Result<()> {
        self.close()
    }

    /// A walk that is given up leaves no more memory behind than one that was finished.
    fn close(&mut self) -> Result<()> {
        drop(self.readers.take());
        let mut behind = std::mem::take(&mut *lock(&self.behind));
        self.settle(&mut behind, 0);
        if std::mem::take(&mut self.evict) {
            self.units.given_up().for_each(|bytes| behind.note(self.evict(bytes, false)));
            // The system reads ahead of what it is asked for, also into what was dropped before.
            self.units.to_uncache().for_each(|bytes| behind.note(self.pages.drop_from_page_cache(bytes)));
        }
        match behind.failed {
            Some(e) if self.purpose != Intent::Read => Err(e),
            _ => Ok(()),
        }
    }
}

impl Drop for Scan<'_> {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_done_and_what_fits_is_kept() {
        let decide = |evict, keep_cached, bytes| ScanOptions { evict, keep_cached, progress: None }.decide(bytes);
        let small = 1 << 20;
        assert_eq!(decide(None, None, small), (false, true));
        assert_eq!(decide(Some(true), None, small), (true, true));
        assert_eq!(decide(None, Some(false), small), (true, false));
        assert_eq!(decide(None, Some(true), small), (false, true));
        assert_eq!(decide(Some(false), Some(false), small), (false, true));
        assert_eq!(decide(Some(true), Some(false), small), (true, false));
        if available_memory().is_some() {
            assert_eq!(decide(None, None, usize::MAX), (true, false));
            assert_eq!(decide(None, Some(true), usize::MAX), (true, true));
            assert_eq!(decide(Some(false), None, usize::MAX), (false, true));
        }
    }
}
