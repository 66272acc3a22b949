//! What happens below a pass: pages are read ahead of it and evicted behind it, and written back before if it writes.
//!
//! Bytes are counted in [`Segments`]. One is evicted once the pass has left all of its bytes, on whatever threads and
//! in whatever order. This module need not ensure that nothing is evicted before it is on the disk: [`Storage`] does.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use super::prefetch::Prefetcher;
use super::segments::Segments;
use crate::error::{Error, Result};
use crate::parallel::{OnProgress, Progress, lock};
use crate::storage::Storage;
use crate::sys::memory::available_memory;

/// How many windows are requested in all, from the current one on: one that is used, one that is on its way from the
/// disk, and one that keeps the disk from running dry between them (bench `blocks`, "cold sum").
const WINDOWS_AHEAD: usize = 3;

/// In bytes: for less, starting threads costs more than waiting for the disk.
const MIN_READ_AHEAD: usize = 16 << 20;

/// How much is evicted at a time behind a pass that reads, in bytes. Each time interrupts all processors that run this
/// process, so it must be rare; and it is what the pass holds in memory.
const EVICTED_TOGETHER: usize = 16 << 20;

/// How much may be dirty or under writeback, and so in memory, before a pass that writes waits for the oldest of it, in
/// bytes.
const MAX_DIRTY: usize = 24 << 20;

/// How a pass treats the memory it goes through. `None`: as the free memory allows.
#[derive(Default)]
pub(super) struct ScanOptions<'a> {
    pub(super) evict: Option<bool>,
    pub(super) keep_cached: Option<bool>,
    pub(super) progress: Option<OnProgress<'a>>,
}

impl ScanOptions<'_> {
    /// Whether a pass evicts, and whether it keeps what it has read or written in the page cache, if all of its arrays
    /// together are so many bytes.
    pub(super) fn decide(&self, bytes: usize) -> (bool, bool) {
        let (evict, keep) = match (self.evict, self.keep_cached) {
            (Some(evict), Some(keep)) => (evict, keep),
            // Not to keep needs eviction.
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

/// What a pass does with the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    Read,
    /// Reads and stores in place.
    Update,
    /// Stores all elements, and reads none.
    Overwrite,
}

/// Whether so many bytes can stay in the page cache without pushing out much else, or each other.
fn fits_in_cache(bytes: usize) -> bool {
    bytes <= MIN_READ_AHEAD || available_memory().is_none_or(|free| bytes as u64 <= free / 2)
}

/// One pass over all bytes of an array, each of which is entered and left once.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    storage: &'a Storage,
    intent: Intent,
    evict: bool,
    segments: Arc<Segments>,
    /// Whether the system reports which pages are in memory.
    knows_residency: bool,
    /// Empty if nothing is read ahead.
    windows: Vec<Mutex<Window>>,
    /// Started for the first window that is not in memory. `None` inside if that failed.
    prefetcher: OnceLock<Option<Prefetcher>>,
    progress: Progress<'a>,
    left: Mutex<EvictQueue>,
}

/// What was done to have a window in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Window {
    #[default]
    Idle,
    /// It was in memory, or is being requested.
    Checked,
    Requested,
}

/// What the pass has left and not evicted yet.
#[derive(Debug, Default)]
struct EvictQueue {
    /// The oldest first, each with whether it must leave the page cache too.
    ranges: VecDeque<(Range<usize>, bool)>,
    bytes: usize,
    failed: Option<Error>,
}

impl EvictQueue {
    /// Keeps the first error.
    fn note(&mut self, result: Result<()>) {
        if let Err(e) = result {
            self.failed.get_or_insert(e);
        }
    }
}

impl<'a> Scan<'a> {
    /// A pass over one array alone.
    pub(super) fn new(storage: &'a Storage, options: ScanOptions<'a>, intent: Intent) -> Self {
        let decided = options.decide(storage.len());
        Self::decided(storage, decided, options.progress, intent)
    }

    /// One of several passes for which it was decided together whether to evict, and whether to keep in the page cache.
    pub(super) fn decided(
        storage: &'a Storage,
        (evict, keep_cached): (bool, bool),
        progress: Option<OnProgress<'a>>,
        intent: Intent,
    ) -> Self {
        let (len, of_file) = (storage.len(), storage.is_of_file());
        let segments = Arc::new(Segments::new(storage, of_file && evict && !keep_cached));
        let read_ahead = of_file && len >= MIN_READ_AHEAD && intent != Intent::Overwrite;
        let windows = if read_ahead { segments.windows() } else { 0 };
        Self {
            storage,
            intent,
            evict: of_file && evict,
            knows_residency: read_ahead && storage.reports_residency(),
            windows: (0..windows).map(|_| Mutex::default()).collect(),
            prefetcher: OnceLock::new(),
            segments,
            progress: Progress::new(len as u64, progress),
            left: Mutex::default(),
        }
    }

    /// Of the array, in bytes.
    pub(super) fn len(&self) -> usize {
        self.storage.len()
    }

    /// The pass uses these bytes next, and those up to `end` soon.
    pub(super) fn enter(&self, bytes: Range<usize>, end: usize) {
        let segments = self.segments.of(bytes);
        if !self.windows.is_empty() {
            let now = self.segments.windows_of(segments.clone());
            let last = self.segments.windows_of(self.segments.of(0..end)).end;
            (now.start..last.min(now.end.saturating_add(WINDOWS_AHEAD))).for_each(|window| self.request(window));
            now.for_each(|window| self.wait_for(window));
        }
        segments.for_each(|n| self.segments.enter(n));
    }

    fn request(&self, window: usize) {
        {
            let mut state = lock(&self.windows[window]);
            if *state != Window::Idle {
                return;
            }
            *state = Window::Checked;
        }
        // One page stands for its segment: asking for all of them would cost more than reading some again.
        let is_present = |n: usize| self.storage.is_present(self.segments.bytes(n..n + 1).start);
        let present = self.knows_residency && self.segments.of_window(window).all(is_present);
        let start = || Prefetcher::start(self.storage.prefetch_source()?, &self.segments);
        if !present && let Some(prefetcher) = self.prefetcher.get_or_init(start) {
            prefetcher.request(window);
            *lock(&self.windows[window]) = Window::Requested;
        }
    }

    fn wait_for(&self, window: usize) {
        if let Some(Some(prefetcher)) = self.prefetcher.get()
            && *lock(&self.windows[window]) == Window::Requested
        {
            prefetcher.wait_for(window);
        }
    }

    /// The pass is done with these bytes.
    pub(super) fn leave(&self, bytes: Range<usize>) {
        self.leave_all([bytes]);
    }

    /// The pass is done with all of these bytes, which are reported together.
    pub(super) fn leave_all(&self, pieces: impl IntoIterator<Item = Range<usize>>) {
        let mut done = 0;
        for bytes in pieces {
            done += bytes.len();
            self.leave_piece(bytes);
        }
        self.progress.advance(done);
    }

    fn leave_piece(&self, bytes: Range<usize>) {
        let mut finished = 0..0;
        for n in self.segments.of(bytes.clone()) {
            if !self.segments.leave(n, &bytes) {
                continue;
            }
            let (first, segments) = (finished.start, &self.segments);
            if finished.end != n || segments.must_leave_page_cache(first) != segments.must_leave_page_cache(n) {
                self.finish(finished);
                finished = n..n;
            }
            finished.end = n + 1;
        }
        self.finish(finished);
    }

    /// Queues segments for eviction, all bytes of which the pass has left. Evicts if enough are queued.
    fn finish(&self, segments: Range<usize>) {
        if segments.is_empty() || !self.evict {
            return;
        }
        let drop_from_page_cache = self.segments.must_leave_page_cache(segments.start);
        let bytes = self.segments.bytes(segments);
        let started = if self.intent == Intent::Read { Ok(()) } else { self.storage.start_writeback(bytes.clone()) };
        let mut left = lock(&self.left);
        left.note(started);
        left.bytes += bytes.len();
        left.ranges.push_back((bytes, drop_from_page_cache));
        if self.intent == Intent::Read {
            if left.bytes >= EVICTED_TOGETHER {
                let mut left = std::mem::take(&mut *left);
                self.evict_queued(&mut left, 0);
            }
        } else if left.bytes > MAX_DIRTY {
            // Under the lock: the other threads must wait for the disk too, rather than store more.
            self.evict_queued(&mut left, MAX_DIRTY / 2);
        }
    }

    /// Evicts the oldest ranges until at most `max` bytes are left. Adjacent ranges go together: waiting for the disk
    /// takes as long for little as for much, and each eviction interrupts other processors.
    fn evict_queued(&self, left: &mut EvictQueue, max: usize) {
        let mut oldest = Vec::new();
        while left.bytes > max
            && let Some((bytes, drop_from_page_cache)) = left.ranges.pop_front()
        {
            left.bytes -= bytes.len();
            oldest.push((bytes, drop_from_page_cache));
        }
        oldest.sort_unstable_by_key(|(bytes, _)| bytes.start);
        for adjacent in oldest.chunk_by(|a, b| a.0.end == b.0.start && a.1 == b.1) {
            left.note(self.evict(adjacent[0].0.start..adjacent[adjacent.len() - 1].0.end, adjacent[0].1));
        }
    }

    /// Fails if what was stored there could not be written back.
    fn evict(&self, bytes: Range<usize>, drop_from_page_cache: bool) -> Result<()> {
        self.storage.try_evict(bytes.clone())?;
        if drop_from_page_cache { self.storage.drop_from_page_cache(bytes) } else { Ok(()) }
    }

    /// Ends the pass. Fails if something that it stored could not be written back.
    pub(super) fn end(mut self) -> Result<()> {
        self.close()
    }

    /// A pass that is given up must leave no more memory behind than one that is finished.
    fn close(&mut self) -> Result<()> {
        drop(self.prefetcher.take());
        let mut left = std::mem::take(&mut *lock(&self.left));
        self.evict_queued(&mut left, 0);
        if std::mem::take(&mut self.evict) {
            self.segments.given_up().for_each(|bytes| left.note(self.evict(bytes, false)));
            // The system's own read-ahead may have brought back what was dropped.
            self.segments.leaving_page_cache().for_each(|bytes| left.note(self.storage.drop_from_page_cache(bytes)));
        }
        match left.failed {
            Some(e) if self.intent != Intent::Read => Err(e),
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
