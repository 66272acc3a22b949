//! What goes on below a walk: pages are read ahead of it, let go of behind it, and written back where it writes.
//!
//! Everything is counted in [`Units`]: one is let go of once every byte of it was walked, whoever walked it and in
//! whatever order.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::read_ahead::Readers;
use super::units::Units;
use crate::array::Pages;
use crate::error::{Error, Result};
use crate::file::available_memory;
use crate::progress::{OnProgress, Progress};
use crate::threads::lock;

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

/// How much is let go of at a time, in bytes.
const LET_GO_TOGETHER: usize = 16 << 20;

/// How much may be on its way to the disk before a walk that writes waits for the oldest of it.
const MOST_DIRTY: usize = 32 << 20;

/// How a walk treats the memory it passes through.
pub(super) struct Habits<'a> {
    pub(super) evict: bool,
    /// `None`: as the free memory allows.
    pub(super) keep_cached: Option<bool>,
    pub(super) progress: Option<OnProgress<'a>>,
}

impl Default for Habits<'_> {
    fn default() -> Self {
        Self { evict: true, keep_cached: None, progress: None }
    }
}

impl fmt::Debug for Habits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Habits").field("evict", &self.evict).field("keep_cached", &self.keep_cached).finish()
    }
}

/// What a walk does to the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    /// Some are read and some stored, in place: what was stored is brought to the disk behind the walk.
    Update,
    /// All are stored and none read. What was stored is brought to the disk where it is not to stay in the cache.
    Overwrite,
}

/// Whether so many bytes may stay in the system's cache without pushing out much else, themselves included.
pub(super) fn fits_in_cache(bytes: usize) -> bool {
    bytes <= WORTH_READING_AHEAD || available_memory().is_none_or(|free| bytes as u64 <= free / 2)
}

/// One walk over all bytes of an array. Whoever walks tells it which bytes are entered and left, each once.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    pages: Pages<'a>,
    purpose: Purpose,
    evict: bool,
    uncache: bool,
    units: Arc<Units>,
    /// Whether it is known which pages are in memory.
    tells: bool,
    /// How far each window has come; none where nothing is read ahead.
    windows: Vec<AtomicU8>,
    /// From the first page on that is not there yet; `None` where they cannot be had.
    readers: OnceLock<Option<Readers>>,
    progress: Progress<'a>,
    behind: Mutex<Behind>,
    dirty: Mutex<Dirty>,
}

/// What was walked and is still in memory.
#[derive(Debug, Default)]
struct Behind {
    /// And whether they are to leave the cache.
    ranges: Vec<(Range<usize>, bool)>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Dirty {
    /// The oldest first, and whether they are to leave the cache.
    ranges: VecDeque<(Range<usize>, bool)>,
    bytes: usize,
    failed: Option<Error>,
}

impl Dirty {
    /// The first failure is the one to tell.
    fn note(&mut self, result: Result<()>) {
        if let Err(e) = result {
            self.failed.get_or_insert(e);
        }
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(pages: Pages<'a>, habits: Habits<'a>, purpose: Purpose) -> Self {
        let Habits { evict, keep_cached, progress } = habits;
        let (len, of_file) = (pages.len(), pages.are_of_file());
        let uncache = of_file && evict && !keep_cached.unwrap_or_else(|| fits_in_cache(len));
        let units = Arc::new(Units::new(pages, uncache));
        let read_ahead = of_file && len >= WORTH_READING_AHEAD && purpose != Purpose::Overwrite;
        let windows = if read_ahead { units.windows() } else { 0 };
        Self {
            pages,
            purpose,
            evict,
            uncache,
            tells: read_ahead && pages.tell_presence(),
            windows: (0..windows).map(|_| AtomicU8::new(NOT_ASKED_FOR)).collect(),
            readers: OnceLock::new(),
            units,
            progress: Progress::new(len as u64, progress),
            behind: Mutex::default(),
            dirty: Mutex::default(),
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
            if self.units.enter(n) && self.purpose == Purpose::Read {
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
        let start = || Readers::start(self.pages.read_ahead()?, &self.units);
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
        if units.is_empty() {
            return;
        }
        let uncache = self.units.is_to_uncache(units.start);
        let bytes = self.units.bytes(units);
        let to_disk = self.purpose == Purpose::Update || self.purpose == Purpose::Overwrite && self.uncache;
        if to_disk {
            if self.evict {
                self.pages.evict(bytes.clone());
            }
            return self.write_back(bytes, uncache);
        }
        let mut behind = lock(&self.behind);
        behind.bytes += bytes.len();
        behind.ranges.push((bytes, uncache));
        if behind.bytes >= LET_GO_TOGETHER {
            let behind = std::mem::take(&mut *behind);
            self.let_go(behind);
        }
    }

    /// Next to each other where they can be: letting go has every processor forget what it knows of the pages.
    fn let_go(&self, Behind { mut ranges, .. }: Behind) {
        ranges.sort_unstable_by_key(|(bytes, _)| bytes.start);
        let next_to_each_other =
            |a: &(Range<usize>, bool), b: &(Range<usize>, bool)| a.0.end == b.0.start && a.1 == b.1;
        for alike in ranges.chunk_by(next_to_each_other) {
            let (bytes, uncache) = (alike[0].0.start..alike[alike.len() - 1].0.end, alike[0].1);
            if self.evict {
                self.pages.evict(bytes.clone());
            }
            if uncache {
                self.pages.uncache(bytes);
            }
        }
    }

    fn write_back(&self, bytes: Range<usize>, uncache: bool) {
        let mut dirty = lock(&self.dirty);
        dirty.note(self.pages.start_write_back(bytes.clone()));
        dirty.bytes += bytes.len();
        dirty.ranges.push_back((bytes, uncache));
        self.settle(&mut dirty, MOST_DIRTY);
    }

    /// Waits until at most so many bytes are on their way to the disk.
    fn settle(&self, dirty: &mut Dirty, most: usize) {
        while dirty.bytes > most
            && let Some((oldest, uncache)) = dirty.ranges.pop_front()
        {
            dirty.bytes -= oldest.len();
            dirty.note(self.pages.wait_for_write_back(oldest.clone()));
            if uncache {
                self.pages.uncache(oldest);
            }
        }
    }

    /// Says what went wrong behind a walk that writes.
    pub(super) fn end(&self) -> Result<()> {
        let mut dirty = lock(&self.dirty);
        if self.uncache {
            self.settle(&mut dirty, 0);
        }
        dirty.failed.take().map_or(Ok(()), Err)
    }
}

/// A walk that is given up leaves no more memory behind than one that was finished.
impl Drop for Walk<'_> {
    fn drop(&mut self) {
        drop(self.readers.take());
        let _ = self.end();
        self.let_go(std::mem::take(&mut *lock(&self.behind)));
        if self.evict {
            self.units.given_up().for_each(|bytes| self.pages.evict(bytes));
        }
        // The system reads ahead of what it is asked for, also into what was let go of before.
        self.units.to_uncache().for_each(|bytes| self.pages.uncache(bytes));
    }
}
