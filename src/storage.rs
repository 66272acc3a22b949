//! The memory below an array, as a pass over it sees it: ranges of bytes that are brought in and evicted.
//!
//! # Safety
//! No reference to an element is made here. What keeps bytes that somebody looks at as they are:
//! 1. Nothing is evicted, or dropped from the page cache, before the system has said that it is on the disk ([`Pages::is_written`]);
//!    nor is anything once a write-back has failed, for which the only copy may be in memory. This holds in whatever order
//!    the methods are called.
//! 2. Bytes are written by a system call only where somebody has them exclusively: a `&mut` slice of them
//!    ([`Pages::write_over`]), or the whole array ([`FileWriter`]).
#![allow(unsafe_code)]

#[cfg(unix)]
mod fault;
pub(crate) mod mapping;

pub use mapping::Advice;

use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, TryLockError};

use bytemuck::NoUninit;

use crate::error::{Error, ErrorKind, Result};
use crate::file::{ArrayFile, Reader};
use crate::mode::FileAccess;
use crate::sys::memory::tells_residency;

use crate::layout::{Alignment, Layout, Order};
use crate::parallel::lock;
use crate::storage::mapping::Mapping;

/// What is known of the way of an array's bytes to the disk.
#[derive(Debug, Default)]
pub(crate) struct SyncState {
    /// After a failed flush nobody knows what reached the disk, after a fault what the array holds; and no later success
    /// can tell.
    poisoned: AtomicBool,
    /// Held while the system is asked what was written. It reports a failure once to each open file, whatever range it was
    /// asked about: so the next one to ask has to find it noted.
    asking: Mutex<()>,
}

/// Borrowed from the array. Ranges count bytes from its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pages<'a> {
    mapping: &'a Mapping,
    /// `None` for private memory.
    backing: Option<&'a ArrayFile>,
    in_file: u64,
    sync: &'a SyncState,
}

impl<'a> Pages<'a> {
    pub(super) fn new(mapping: &'a Mapping, backing: Option<&'a ArrayFile>, in_file: u64, sync: &'a SyncState) -> Self {
        Self { mapping, backing, in_file, sync }
    }

    /// From now on it is unknown what is on the disk.
    pub(crate) fn poison(self) {
        self.sync.poisoned.store(true, Ordering::Relaxed);
    }

    /// Passes a result on. Any error is the last thing that is known about the array.
    pub(crate) fn poisoning<R>(self, result: Result<R>) -> Result<R> {
        result.inspect_err(|_| self.poison())
    }

    /// Asks the system to bring something to the disk, or whether it is there. An error poisons the array.
    pub(crate) fn sync(self, ask: impl FnOnce() -> Result<()>) -> Result<()> {
        let is_child = self.backing.is_some_and(|backing| !backing.is_of_this_process());
        let _one_at_a_time = match self.sync.asking.try_lock() {
            Ok(mine) => mine,
            Err(TryLockError::WouldBlock) if is_child => {
                return Err(Error::io(
                    "this process was forked while a thread of its parent was waiting for the disk, and so cannot",
                    io::ErrorKind::WouldBlock.into(),
                ));
            }
            Err(_) => lock(&self.sync.asking),
        };
        self.check_poison()?;
        self.poisoning(ask())
    }

    pub(crate) fn check_poison(self) -> Result<()> {
        if self.sync.poisoned.load(Ordering::Relaxed) || self.mapping.faulted() {
            return Err(Error::new(
                ErrorKind::Poisoned,
                "an earlier flush or guarded call of this array failed, so it is unknown what it holds and what is on the \
                 disk",
            ));
        }
        Ok(())
    }

    /// Whether the file still has all of the array, as it had when it was mapped, and did have it when it was accessed.
    /// If not, the array is poisoned.
    pub(crate) fn check_file(self) -> Result<()> {
        self.poisoning(self.look_at_file())
    }

    fn look_at_file(self) -> Result<()> {
        if self.mapping.len() > 0
            && let Some(backing) = self.backing
        {
            let end = self.in_file + self.mapping.len() as u64;
            // A disk that has failed may not even say that.
            let len = match backing.current_len() {
                Err(_) if self.mapping.faulted() => end,
                len => len?,
            };
            if len < end {
                return Err(Error::truncated(len, end));
            }
        }
        if self.mapping.faulted() {
            return Err(Error::new(
                ErrorKind::Fault,
                "a page of the file could not be brought in, or stored: the disk failed, or is full",
            ));
        }
        Ok(())
    }

    /// Runs `f`, and reports as an error what would otherwise end the process: see
    /// [`guarded`](super::MmapArrayBase::guarded).
    pub(crate) fn guarded<R>(self, f: impl FnOnce() -> R) -> Result<R> {
        self.check_poison()?;
        let answer = match self.backing {
            Some(backing) => self.mapping.guarded(backing, self.in_file, f)?,
            None => f(),
        };
        self.check_file()?;
        Ok(answer)
    }

    /// Whether pages were replaced, and a guarded call will say so.
    pub(crate) fn faulted(self) -> bool {
        self.mapping.faulted()
    }

    /// Of the array, in bytes.
    pub(crate) fn len(self) -> usize {
        self.mapping.len()
    }

    /// Where the array starts in its file.
    pub(crate) fn in_file(self) -> u64 {
        self.in_file
    }

    /// Whether the pages are those of a file, so that they can be read ahead, and let go of once they were used.
    pub(crate) fn are_of_file(self) -> bool {
        self.backing.is_some() && self.mapping.is_of_file()
    }

    /// Brings pages in, for reading. A hint.
    pub(crate) fn populate(self, range: Range<usize>) {
        let _ = self.mapping.populate(range);
    }

    /// Drops the memory that this process holds, once what was stored is on the disk. Nothing is lost: where something could
    /// be, nothing is done.
    ///
    /// # Errors
    /// `Io` if it could not be written back, or the system refuses it (locked memory).
    pub(crate) fn evict(self, range: Range<usize>) -> Result<()> {
        self.evict_if_possible(range)?
    }

    /// [`evict`](Self::evict), where it does not matter if the system refuses it.
    pub(crate) fn try_evict(self, range: Range<usize>) -> Result<()> {
        self.evict_if_possible(range).map(drop)
    }

    /// The outer error is one of write-back.
    fn evict_if_possible(self, range: Range<usize>) -> Result<Result<()>> {
        let evicts = self.mapping.is_shared() && self.is_written(range.clone())?;
        Ok(if evicts { self.mapping.evict(range) } else { Ok(()) })
    }

    /// Drops pages from the page cache which no process has mapped, once what was stored is on the disk. A page that is
    /// stored to meanwhile is mapped again, and stays.
    ///
    /// Of an array that only reads, for pages that were not there before it brought them in: they hold nothing that others
    /// have stored.
    ///
    /// # Errors
    /// `Io` if they could not be written back.
    pub(crate) fn drop_from_page_cache(self, range: Range<usize>) -> Result<()> {
        // What was read of a copy-on-write array stays mapped.
        if let Some(backing) = self.backing
            && self.mapping.is_shared()
            && !(self.mapping.is_writable() && backing.shares_failures())
            && self.is_written(range.clone())?
        {
            // SAFETY: (1) it is on the disk as it is in memory: this array has stored nothing there, or it was written.
            unsafe { backing.drop_from_page_cache(self.in_file + range.start as u64, range.len()) };
        }
        Ok(())
    }

    /// Waits until what was stored through this array is on the disk. `false` if it is not known to be, because something
    /// was not.
    ///
    /// `msync`, for nothing less will do: `sync_file_range` asks the pages of the descriptor's inode, which on overlayfs are
    /// not those that are mapped; and ext4 says of pages that they were written, and only its journal that the file has
    /// them.
    fn is_written(self, range: Range<usize>) -> Result<bool> {
        if !self.mapping.is_writable() {
            return Ok(true);
        }
        // A forked child would take the answer from its parent, whose array it is, and may find the lock held for ever.
        if !self.backing.is_some_and(ArrayFile::is_of_this_process) {
            return Ok(false);
        }
        let _one_at_a_time = lock(&self.sync.asking);
        if self.check_poison().is_err() {
            return Ok(false);
        }
        self.poisoning(self.mapping.flush(range)).map(|()| true)
    }

    /// Whether the system tells which pages are in memory; if not, the following three are guesses.
    pub(crate) fn tell_presence(self) -> bool {
        self.backing.is_some_and(|backing| tells_residency(backing.file()))
    }

    /// Whether none of the pages is in memory; also `false` where the system does not tell.
    pub(crate) fn are_absent(self, range: Range<usize>) -> bool {
        self.mapping.residency_of(range).is_ok_and(|resident| resident == 0.0)
    }

    /// Whether the page of a byte is in memory.
    pub(crate) fn is_present(self, byte: usize) -> bool {
        self.mapping.residency_of(byte..byte + 1).is_ok_and(|resident| resident == 1.0)
    }

    /// Whether the array seems to be in memory, going by a few pages of it.
    pub(crate) fn look_present(self) -> bool {
        const LOOKS: usize = 16;
        let step = (self.len() / LOOKS).max(1);
        (0..self.len()).step_by(step).all(|byte| self.is_present(byte))
    }

    /// Starts bringing to the disk what was stored. An error poisons the array: the system may report it to nobody else.
    pub(crate) fn start_writeback(self, range: Range<usize>) -> Result<()> {
        match self.backing {
            Some(backing) => {
                self.check_poison()?;
                self.poisoning(self.mapping.flush_async(range, backing, self.in_file))
            }
            None => Ok(()),
        }
    }

    /// Whether system calls can write what would else be stored.
    pub(crate) fn can_be_written_by_calls(self) -> bool {
        self.are_of_file() && self.backing.is_some_and(ArrayFile::writes_at)
    }

    /// Writes elements through the file rather than through memory, in the place of those that `to` is: some of the array's.
    pub(crate) fn write_over<A: NoUninit>(self, to: &mut [A], elements: &[A]) -> Result<()> {
        let Some(backing) = self.backing else { return Ok(()) };
        let start = to.as_ptr().addr().checked_sub(self.mapping.as_ptr().addr());
        let Some(start) = start.filter(|start| start + size_of_val(to) <= self.len() && to.len() == elements.len())
        else {
            return Err(Error::new(ErrorKind::InvalidInput, "elements that are no part of the array"));
        };
        // SAFETY: (2) `to` is exactly these bytes.
        unsafe { backing.write_at(bytemuck::cast_slice(elements), self.in_file + start as u64) }
    }

    /// Whether [`read_at`](Self::read_at) can be used instead of looking at the elements: the memory is the file's own,
    /// and nothing took its place.
    pub(crate) fn read_at_shows_memory(self) -> bool {
        cfg!(any(target_os = "linux", target_os = "android"))
            && self.mapping.is_shared()
            && self.backing.is_some_and(ArrayFile::reads_anywhere)
            && !self.sync.poisoned.load(Ordering::Relaxed)
            && !self.mapping.faulted()
    }

    /// Reads elements' bytes from the file rather than from memory.
    pub(crate) fn read_at(self, bytes: &mut [u8], start: usize) -> Result<()> {
        let Some(backing) = self.backing else { return Ok(()) };
        if backing.read_at(bytes, self.in_file + start as u64)? < bytes.len() {
            self.check_file()?;
            // It has grown again since.
            return Err(Error::new(ErrorKind::Truncated, "file was truncated for a while in which its array was read"));
        }
        Ok(())
    }

    /// Starts reading what is not in memory. A hint.
    pub(crate) fn will_need(self, range: Range<usize>) {
        let _ = self.mapping.will_need(range);
    }

    /// What another thread needs to read the same bytes ahead; `None` if it cannot be had.
    pub(crate) fn read_ahead(self) -> Option<PrefetchSource> {
        let backing = self.backing.filter(|_| self.mapping.is_of_file())?;
        PrefetchSource::new(backing, self.in_file, self.len()).ok()
    }
}

/// Writes any part of an array through its file, from many threads. The array is exclusively its own as long as it lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileWriter<'a> {
    pages: Pages<'a>,
    array: PhantomData<&'a Mapping>,
}

impl<'a> FileWriter<'a> {
    /// # Safety
    /// Nobody else looks at the array, or writes to it, for the lifetime `'a`.
    pub(super) unsafe fn new(pages: Pages<'a>) -> Self {
        Self { pages, array: PhantomData }
    }

    pub(crate) fn pages(self) -> Pages<'a> {
        self.pages
    }

    /// Writes bytes of elements, `start` bytes from the start of the array.
    pub(crate) fn write_at(self, bytes: &[u8], start: usize) -> Result<()> {
        match start.checked_add(bytes.len()) {
            // It would hide that the file was truncated before.
            Some(end) if end == self.pages.len() => self.pages.check_file()?,
            Some(end) if end < self.pages.len() => {}
            _ => return Err(Error::new(ErrorKind::InvalidInput, "bytes that are no part of the array")),
        }
        match self.pages.backing {
            // SAFETY: (2) by the demand of `new`.
            Some(backing) => unsafe { backing.write_at(bytes, self.pages.in_file + start as u64) },
            None => Ok(()),
        }
    }
}

/// Brings bytes of a file into the system's cache, from any thread.
///
/// It has a mapping of its own: so its hints are never seen on the array's, it needs no lifetime, and the memory that
/// the array's mapping holds grows with what was used only.
#[derive(Debug)]
pub(crate) struct PrefetchSource {
    mapping: Mapping,
    reader: Reader,
    in_file: u64,
}

impl PrefetchSource {
    /// Large enough for few system calls, small enough for a core's own cache.
    const BUFFER: usize = 256 * 1024;

    fn new(backing: &ArrayFile, in_file: u64, bytes: usize) -> Result<Self> {
        let layout = Layout::new(ndarray::Ix1(bytes), Order::C, crate::element::ElementLayout::of::<u8>())?;
        let extent = layout.extent(in_file, Alignment::InPlace, backing.len(), "")?;
        let mapping = Mapping::of_file(backing.file(), extent, FileAccess::Read, false)?.in_large_reads();
        Ok(Self { mapping, reader: backing.reader()?, in_file })
    }

    /// Returns once the bytes are there, or it is known that they will not be.
    pub(crate) fn fetch(&self, range: Range<usize>) {
        match self.mapping.populate(range.clone()) {
            Err(e) if e.kind() == ErrorKind::Unsupported => self.fetch_by_reading(range),
            _ => drop(self.mapping.evict(range)),
        }
    }

    /// For systems that cannot populate a mapping.
    fn fetch_by_reading(&self, range: Range<usize>) {
        let mut buffer = vec![0; Self::BUFFER.min(range.len())];
        self.reader.read_through(self.in_file + range.start as u64, range.len(), &mut buffer);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::array::MmapArray;

    #[test]
    fn systems_that_cannot_populate_read_ahead_all_the_same() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = folder.path().join("a.bin");
        std::fs::write(&path, vec![1u8; 3 << 20]).unwrap();
        // SAFETY: a file of the test's own.
        let a = unsafe { MmapArray::<u8>::options().offset(128).open(&path).unwrap() };
        let pages = a.pages();
        let ahead = pages.read_ahead().unwrap();
        for fetch in [PrefetchSource::fetch, PrefetchSource::fetch_by_reading] {
            std::fs::File::open(&path).unwrap().sync_all().unwrap();
            pages.drop_from_page_cache(0..a.len()).unwrap();
            // SAFETY: all of the file was just synced.
            unsafe { pages.backing.unwrap().drop_from_page_cache(0, 3 << 20) };
            assert!(pages.are_absent(0..a.len()));
            fetch(&ahead, 0..a.len());
            assert!(pages.is_present(0) && pages.is_present(a.len() - 1));
        }
    }
}
