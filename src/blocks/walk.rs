//! What goes on below a walk: pages are read ahead of it, let go of behind it, and written back where it writes.
//!
//! Everything is counted in *units*, 2 MiB of the file, because that is what the system's cache is made of at best: a
//! unit is let go of once every byte of it was walked, whoever walked it and in whatever order.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use crate::array::{Pages, ReadAhead};
use crate::error::{Error, Result};
use crate::file::available_memory;

/// The largest pieces of a file that a system's cache holds.
const UNIT: usize = 2 << 20;

/// What is read ahead at a time, in units.
const WINDOW: usize = 4;

/// How many windows are asked for before they are needed.
const AHEAD: usize = 3;

/// Two keep a disk busy while one of them is being told of the next window.
const READERS: usize = 2;

/// Below this, starting threads costs more than waiting for the disk does.
const WORTH_READING_AHEAD: usize = 16 << 20;

/// How much may be on its way to the disk before a walk that writes waits for the oldest of it.
const MOST_DIRTY: usize = 32 << 20;

pub(super) type OnProgress<'a> = Box<dyn FnMut(u64, u64) + Send + 'a>;

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
    /// From the first page on that is not there yet; `None` where they cannot be had.
    readers: OnceLock<Option<Readers>>,
    read_ahead: bool,
    told: Mutex<Told<'a>>,
    dirty: Mutex<Dirty>,
}

/// All units of an array. None for memory that is not a file's: there is nothing to do, then.
#[derive(Debug)]
struct Units {
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
    asked_for: AtomicBool,
    /// Is to leave the system's cache after the walk: nobody had it there before.
    uncache: bool,
}

struct Told<'a> {
    done: u64,
    total: u64,
    progress: Option<OnProgress<'a>>,
}

impl fmt::Debug for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.done, self.total)
    }
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
        let len = pages.len();
        let skew = (pages.in_file() % UNIT as u64) as usize;
        let Habits { evict, keep_cached, progress } = habits;
        let of_file = pages.are_of_file();
        let uncache = of_file && evict && !keep_cached.unwrap_or_else(|| fits_in_cache(len));
        let count = if of_file { (skew + len).div_ceil(UNIT) } else { 0 };
        let mut units = Units { all: (0..count).map(|_| Unit::default()).collect(), skew, len };
        for n in 0..count {
            let bytes = units.bytes(n..n + 1);
            *units.all[n].remaining.get_mut() = bytes.len() as u32;
            units.all[n].uncache = uncache && pages.are_absent(bytes);
        }
        Self {
            pages,
            purpose,
            evict,
            uncache,
            readers: OnceLock::new(),
            read_ahead: of_file && len >= WORTH_READING_AHEAD && purpose != Purpose::Overwrite,
            units: Arc::new(units),
            told: Mutex::new(Told { done: 0, total: len as u64, progress }),
            dirty: Mutex::default(),
        }
    }

    /// The walk comes to these bytes next; those up to `end` will follow soon.
    pub(super) fn enter(&self, bytes: Range<usize>, end: usize) {
        let units = self.units.of(bytes.clone());
        if self.read_ahead {
            let first = units.start / WINDOW;
            let last = units.end.div_ceil(WINDOW).saturating_add(AHEAD).min(self.units.of(0..end).end.div_ceil(WINDOW));
            for window in first..last {
                self.ask_for(window);
            }
        }
        // A store would have to fault again on a page that was populated for reading.
        if self.purpose != Purpose::Read {
            return;
        }
        for n in units {
            if !self.units.all[n].entered.swap(true, Ordering::Relaxed) {
                self.pages.populate(self.units.bytes(n..n + 1));
            }
        }
    }

    fn ask_for(&self, window: usize) {
        let units = window * WINDOW..self.units.all.len().min((window + 1) * WINDOW);
        if self.units.all[units.start].asked_for.swap(true, Ordering::Relaxed) {
            return;
        }
        // One page of each unit tells whether they are here already.
        let here = units.clone().all(|n| self.pages.is_present(self.units.bytes(n..n + 1).start));
        let start = || Readers::start(self.pages.read_ahead()?, &self.units);
        if !here && let Some(readers) = self.readers.get_or_init(start) {
            readers.fetch(units);
        }
    }

    /// The walk is done with these bytes.
    pub(super) fn leave(&self, bytes: Range<usize>) {
        let mut finished = 0..0;
        for n in self.units.of(bytes.clone()) {
            let unit = self.units.bytes(n..n + 1);
            let walked = bytes.end.min(unit.end) - bytes.start.max(unit.start);
            if self.units.all[n].remaining.fetch_sub(walked as u32, Ordering::AcqRel) != walked as u32 {
                continue;
            }
            if finished.end != n || self.units.all[finished.start].uncache != self.units.all[n].uncache {
                self.finish(finished);
                finished = n..n;
            }
            finished.end = n + 1;
        }
        self.finish(finished);
        let mut told = lock(&self.told);
        let Told { done, total, progress } = &mut *told;
        *done += bytes.len() as u64;
        if let Some(progress) = progress {
            progress(*done, *total);
        }
    }

    /// Every byte of these units was walked.
    fn finish(&self, units: Range<usize>) {
        if units.is_empty() {
            return;
        }
        let uncache = self.units.all[units.start].uncache;
        let bytes = self.units.bytes(units);
        if self.evict {
            self.pages.evict(bytes.clone());
        }
        match self.purpose {
            Purpose::Update => self.write_back(bytes, uncache),
            Purpose::Overwrite if self.uncache => self.write_back(bytes, uncache),
            _ if uncache => self.pages.uncache(bytes),
            _ => {}
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

impl Units {
    /// Those that some bytes of the array lie in.
    fn of(&self, bytes: Range<usize>) -> Range<usize> {
        if self.all.is_empty() || bytes.is_empty() {
            return 0..0;
        }
        (self.skew + bytes.start) / UNIT..(self.skew + bytes.end).div_ceil(UNIT)
    }

    /// The array's bytes that lie in some of them.
    fn bytes(&self, units: Range<usize>) -> Range<usize> {
        (units.start * UNIT).saturating_sub(self.skew)..(units.end * UNIT - self.skew).min(self.len)
    }

    fn is_finished(&self, n: usize) -> bool {
        self.all[n].remaining.load(Ordering::Acquire) == 0
    }
}

/// A walk that is given up leaves no more memory behind than one that was finished.
impl Drop for Walk<'_> {
    fn drop(&mut self) {
        drop(self.readers.take());
        let _ = self.end();
        let all = &self.units.all;
        for (n, unit) in all.iter().enumerate() {
            if self.evict && unit.entered.load(Ordering::Relaxed) && !self.units.is_finished(n) {
                self.pages.evict(self.units.bytes(n..n + 1));
            }
        }
        // The system reads ahead of what it is asked for, also into what was let go of before.
        let mut next = 0;
        for alike in all.chunk_by(|a, b| a.uncache == b.uncache) {
            let units = next..next + alike.len();
            next = units.end;
            if all[units.start].uncache {
                self.pages.uncache(self.units.bytes(units));
            }
        }
    }
}

/// The threads that read ahead. They own what they read by, and end with this.
#[derive(Debug)]
struct Readers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    source: ReadAhead,
    units: Arc<Units>,
    queue: Mutex<Queue>,
    asked: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Units.
    wanted: VecDeque<Range<usize>>,
    closed: bool,
}

impl Readers {
    /// `None` where no thread can be had: then the walk reads for itself.
    fn start(source: ReadAhead, units: &Arc<Units>) -> Option<Self> {
        let units = Arc::clone(units);
        let shared = Arc::new(Shared { source, units, queue: Mutex::default(), asked: Condvar::new() });
        let threads: Vec<_> = (0..READERS)
            .map_while(|_| {
                let shared = Arc::clone(&shared);
                thread::Builder::new().name("read-ahead".into()).spawn(move || shared.serve()).ok()
            })
            .collect();
        (!threads.is_empty()).then_some(Self { shared, threads })
    }

    fn fetch(&self, units: Range<usize>) {
        lock(&self.shared.queue).wanted.push_back(units);
        self.shared.asked.notify_one();
    }
}

impl Shared {
    fn serve(&self) {
        let mut queue = lock(&self.queue);
        loop {
            if queue.closed {
                return;
            }
            match queue.wanted.pop_front() {
                Some(units) => {
                    drop(queue);
                    self.fetch(units);
                    queue = lock(&self.queue);
                }
                None => queue = self.asked.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Shared {
    /// The walk may be faster: what it is done with is not read again, and does not stay if it was.
    fn fetch(&self, units: Range<usize>) {
        let Some(first) = units.clone().find(|&n| !self.units.is_finished(n)) else { return };
        self.source.fetch(self.units.bytes(first..units.end));
        for n in first..units.end {
            if self.units.is_finished(n) && self.units.all[n].uncache {
                self.source.uncache(self.units.bytes(n..n + 1));
            }
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.asked.notify_all();
        for thread in self.threads.drain(..) {
            // A reader runs no code of the caller's: there is no panic to pass on.
            let _ = thread.join();
        }
    }
}

/// What a panic leaves behind here is no worse for it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
