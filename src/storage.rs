//! The owner of an array's memory and of the file below it: everything that needs no element type,
//! dimension or mode.
//!
//! # Safety
//! No reference to an element is made here. What keeps bytes that are being looked at as they are:
//! 1. Nothing is evicted, or dropped from the page cache, before the system has confirmed that it is on the disk
//!    ([`Storage::is_written`]); nothing at all once a write-back has failed, for the only copy may be the one in memory.
//!    This holds in whatever order the methods are called.
//! 2. A system call writes bytes only while its caller holds them exclusively: as a `&mut` slice of them
//!    ([`Storage::write_over`]), or as `&mut Storage`, which only `&mut` of the whole array gives.
#![allow(unsafe_code)]

#[cfg_attr(not(unix), path = "storage/unguarded.rs")]
#[deny(unsafe_code)]
mod fault;
pub(crate) mod mapping;
#[deny(unsafe_code)]
mod prefetch;
#[deny(unsafe_code)]
mod presence;

use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, TryLockError};

use bytemuck::NoUninit;

use crate::error::{Error, ErrorKind, Result};
use crate::file::ArrayFile;
use crate::layout::Extent;
use crate::parallel::lock;
use crate::sys::{self, memory::reports_residency};

pub use mapping::Advice;
use mapping::Mapping;
pub(crate) use prefetch::PrefetchSource;
use presence::Presence;

/// The memory of one array, the file that it shows, and what is known of the way from the one to the other.
///
/// Ranges count bytes from the start of the array. Errors name the path.
#[derive(Debug)]
pub(crate) struct Storage {
    mapping: Mapping,
    /// `None` for an in-memory copy.
    file: Option<ArrayFile>,
    path: Option<PathBuf>,
    /// Where the array starts in its file, in bytes.
    offset: u64,
    /// Set after a failed flush, when nobody knows what reached the disk, or a fault, when nobody knows what the array
    /// holds. No later success can tell.
    poisoned: AtomicBool,
    /// Held while the system is asked what was written. It reports a failure once to each open file, whatever range it was
    /// asked about, so the next to ask must find it noted.
    asking: Mutex<()>,
    presence: Presence,
}

impl Storage {
    /// A mapping of `file`, whose path it takes.
    pub(crate) fn of_file(mapping: Mapping, mut file: ArrayFile, offset: u64) -> Self {
        let path = file.take_path();
        Self::new(mapping, Some(file), path, offset)
    }

    /// An in-memory copy of what the file at `path` holds.
    pub(crate) fn copied_from(path: Option<PathBuf>, mapping: Mapping, offset: u64) -> Self {
        Self::new(mapping, None, path, offset)
    }

    fn new(mapping: Mapping, file: Option<ArrayFile>, path: Option<PathBuf>, offset: u64) -> Self {
        let (poisoned, asking, presence) = Default::default();
        Self { mapping, file, path, offset, poisoned, asking, presence }
    }

    /// Demands 1 to 3 of `mapping` say what it points to.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.mapping.as_ptr()
    }

    /// Length of the array, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.mapping.len()
    }

    /// Where the array starts in its file, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Absolute; `None` for a file given as a handle, or an unnamed one.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Names the file in an error.
    pub(crate) fn named(&self, error: Error) -> Error {
        match &self.path {
            Some(path) => error.with_path(path),
            None => error,
        }
    }

    fn naming<R>(&self, result: Result<R>) -> Result<R> {
        result.map_err(|e| self.named(e))
    }

    /// The file, for what is done to it beside its mapping.
    pub(crate) fn file_mut(&mut self) -> Result<&mut ArrayFile> {
        self.file.as_mut().ok_or_else(|| Error::new(ErrorKind::Unsupported, "the array has no file"))
    }

    /// Unmaps the array and returns its file and path.
    pub(crate) fn into_file(self) -> (Option<PathBuf>, Option<ArrayFile>) {
        (self.path, self.file)
    }

    /// Makes the mapping as long as `extent`, which starts where the array does. After an error all is as it was.
    ///
    /// # Safety
    /// After `Ok` no view of the memory that was there is used: it may have moved.
    pub(crate) unsafe fn remap(&mut self, extent: Extent) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        self.mapping.remap(file.file(), extent)
    }

    /// Unmaps the array, unlocks and closes its file, and gives back disk space that was set aside for growing.
    pub(crate) fn close(mut self) -> Result<()> {
        let healthy = self.check_poison().and_then(|()| if self.is_writable() { self.check_file() } else { Ok(()) });
        let end = self.offset + self.len() as u64;
        let released = self.file.as_mut().map_or(Ok(()), |file| file.release_reserve(end));
        self.naming(healthy.and(released))
    }

    /// Records that it is unknown from now on what is on the disk.
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Relaxed);
    }

    /// Poisons the array if `result` is an error.
    fn poisoning<R>(&self, result: Result<R>) -> Result<R> {
        result.inspect_err(|_| self.poison())
    }

    pub(crate) fn check_poison(&self) -> Result<()> {
        if self.poisoned.load(Ordering::Relaxed) || self.faulted() {
            return Err(self.named(Error::new(
                ErrorKind::Poisoned,
                "an earlier flush or guarded call of this array failed, so it is unknown what it holds and what is on the \
                 disk",
            )));
        }
        Ok(())
    }

    /// Checks that the file still has all of the array, as it had when it was mapped, and did have it whenever it was
    /// accessed.
    ///
    /// # Errors
    /// `Truncated`, `Fault`, `Io`; each poisons the array.
    pub(crate) fn check_file(&self) -> Result<()> {
        let checked = self.check_len().and_then(|()| {
            if self.faulted() {
                return Err(Error::new(
                    ErrorKind::Fault,
                    "a page of the file could not be brought in, or stored: the disk failed, or is full",
                ));
            }
            Ok(())
        });
        self.naming(self.poisoning(checked))
    }

    fn check_len(&self) -> Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| self.len() > 0) else { return Ok(()) };
        let end = self.offset + self.len() as u64;
        let len = match file.current_len() {
            // A disk that has failed may refuse even this; the fault then says more.
            Err(_) if self.faulted() => end,
            len => len?,
        };
        if len < end { Err(Error::truncated(len, end)) } else { Ok(()) }
    }

    /// Runs `f`, and reports as an error what would otherwise end the process: see
    /// [`guarded`](crate::MmapArrayBase::guarded).
    pub(crate) fn guarded<R>(&self, f: impl FnOnce() -> R) -> Result<R> {
        self.check_poison()?;
        let answer = match &self.file {
            Some(file) => self.naming(self.mapping.guarded(file, self.offset, f))?,
            None => f(),
        };
        self.check_file()?;
        Ok(answer)
    }

    /// Whether pages were replaced, so that a guarded call will end in an error.
    pub(crate) fn faulted(&self) -> bool {
        self.mapping.faulted()
    }

    /// Waits until a range of bytes is on the disk, and the file's length and name with it.
    pub(crate) fn flush(&self, range: Range<usize>) -> Result<()> {
        self.check_poison()?;
        let Some(file) = &self.file else { return Ok(()) };
        let folder = self.naming(file.open_folder())?;
        let flushed = self.ask_about_writes(|| {
            self.mapping.flush(range)?;
            file.sync_metadata_by(folder)
        });
        // The system reports success for pages past the end of the file, and for those that replaced others: they are
        // written nowhere.
        flushed.and_then(|()| self.check_file())
    }

    /// Asks the system to bring something to the disk, or whether it is there. An error poisons the array.
    fn ask_about_writes(&self, ask: impl FnOnce() -> Result<()>) -> Result<()> {
        let is_child = self.file.as_ref().is_some_and(|file| !file.is_of_this_process());
        let _one_at_a_time = match self.asking.try_lock() {
            Ok(mine) => mine,
            Err(TryLockError::WouldBlock) if is_child => {
                return Err(self.named(Error::io(
                    "this process was forked while a thread of its parent was waiting for the disk, and so cannot",
                    io::ErrorKind::WouldBlock.into(),
                )));
            }
            Err(_) => lock(&self.asking),
        };
        self.check_poison()?;
        self.naming(self.poisoning(ask()))
    }

    /// Starts bringing stored bytes to the disk. An error poisons the array: the system may report it to nobody else.
    pub(crate) fn start_writeback(&self, range: Range<usize>) -> Result<()> {
        self.check_poison()?;
        let Some(file) = &self.file else { return Ok(()) };
        self.naming(self.poisoning(self.mapping.flush_async(range, file, self.offset)))
    }

    /// Waits until what was stored through this array is on the disk. `false` if it is not known to be, because something
    /// was not.
    ///
    /// By `msync`, for nothing less will do: `sync_file_range` looks at the pages of the descriptor's inode, which on
    /// overlayfs are not those that are mapped; and ext4 reports pages as written before its journal knows that the file
    /// has them.
    fn is_written(&self, range: Range<usize>) -> Result<bool> {
        if !self.is_writable() {
            return Ok(true);
        }
        // In a forked child the answer would be taken from the parent, whose array it is; and the lock may be held for ever.
        if !self.file.as_ref().is_some_and(ArrayFile::is_of_this_process) {
            return Ok(false);
        }
        let _one_at_a_time = lock(&self.asking);
        if self.check_poison().is_err() {
            return Ok(false);
        }
        self.naming(self.poisoning(self.mapping.flush(range))).map(|()| true)
    }

    /// Drops the memory that this process holds, once what was stored is on the disk. Does nothing where something could be
    /// lost.
    ///
    /// # Errors
    /// `Io` if it could not be written back, or the system refuses it (locked memory).
    pub(crate) fn evict(&self, range: Range<usize>) -> Result<()> {
        self.evict_if_possible(range)?
    }

    /// [`evict`](Self::evict), where a refusal does not matter but a failed write-back does.
    pub(crate) fn try_evict(&self, range: Range<usize>) -> Result<()> {
        self.evict_if_possible(range).map(drop)
    }

    /// The outer error is one of write-back.
    fn evict_if_possible(&self, range: Range<usize>) -> Result<Result<()>> {
        let evicts = self.mapping.is_shared() && self.is_written(range.clone())?;
        self.note_presence(false);
        Ok(if evicts { self.naming(self.mapping.evict(range)) } else { Ok(()) })
    }

    /// Drops pages from the page cache that no process has mapped, once what was stored is on the disk. A page that is
    /// stored to meanwhile is mapped again, and stays.
    ///
    /// For a read-only array, call it for pages that were absent before it brought them in: those hold nothing that others
    /// have stored.
    ///
    /// # Errors
    /// `Io` if they could not be written back.
    pub(crate) fn drop_from_page_cache(&self, range: Range<usize>) -> Result<()> {
        // What was read of a copy-on-write array stays mapped.
        if let Some(file) = &self.file
            && self.mapping.is_shared()
            && !(self.is_writable() && file.shares_failures())
            && self.is_written(range.clone())?
        {
            // SAFETY: (1) it is on the disk as it is in memory: this array has stored nothing there, or it was written.
            unsafe { file.drop_from_page_cache(self.offset + range.start as u64, range.len()) };
        }
        Ok(())
    }

    /// Whether the pages are those of a file, so that they can be prefetched and evicted.
    pub(crate) fn is_of_file(&self) -> bool {
        self.file.is_some() && self.mapping.is_of_file()
    }

    /// Whether what is stored reaches a file.
    fn is_writable(&self) -> bool {
        self.mapping.is_writable()
    }

    /// Passes a hint on to the system.
    pub(crate) fn advise(&self, advice: Advice) -> Result<()> {
        self.naming(self.mapping.advise(advice))
    }

    /// Starts reading what is not in memory. A hint.
    pub(crate) fn will_need(&self, range: Range<usize>) {
        let _ = self.mapping.will_need(range);
    }

    /// The fraction of the pages that are in memory, 0 to 1; 1 for no pages.
    pub(crate) fn residency(&self) -> Result<f64> {
        self.naming(self.mapping.residency_of(0..self.len()))
    }

    /// Whether the system reports which pages are in memory; if not, the three methods below guess.
    pub(crate) fn reports_residency(&self) -> bool {
        self.file.as_ref().is_some_and(|file| reports_residency(file.file()))
    }

    /// Whether none of the pages is in memory; also `false` where the system does not report it.
    pub(crate) fn is_absent(&self, range: Range<usize>) -> bool {
        self.mapping.residency_of(range).is_ok_and(|resident| resident == 0.0)
    }

    /// Whether the page of a byte is in memory.
    pub(crate) fn is_present(&self, byte: usize) -> bool {
        self.mapping.residency_of(byte..byte + 1).is_ok_and(|resident| resident == 1.0)
    }

    /// Whether the array seems to be in memory, judging by a sample of its pages.
    pub(crate) fn seems_present(&self) -> bool {
        let step = (self.len() / Self::SAMPLES).max(1);
        (0..self.len()).step_by(step).all(|byte| self.is_present(byte))
    }

    /// Whether [`read_at`](Self::read_at) can be used in place of the memory: that is the file's own, and none of it was
    /// replaced.
    pub(crate) fn can_read_at(&self) -> bool {
        sys::MAPPING_SHOWS_WRITES
            && self.mapping.is_shared()
            && self.file.as_ref().is_some_and(ArrayFile::reads_anywhere)
            && self.check_poison().is_ok()
    }

    /// Fills `bytes` from the file rather than from memory, from byte `start` of the array on.
    pub(crate) fn read_at(&self, bytes: &mut [u8], start: usize) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if self.naming(file.read_at(bytes, self.offset + start as u64))? < bytes.len() {
            self.check_file()?;
            // It has grown again since.
            let message = "file was truncated for a while in which its array was read";
            return Err(self.named(Error::new(ErrorKind::Truncated, message)));
        }
        Ok(())
    }

    /// Whether [`write_over`](Self::write_over) and [`FileWriter`] can be used in place of stores.
    pub(crate) fn can_write_at(&self) -> bool {
        self.is_of_file() && self.file.as_ref().is_some_and(ArrayFile::writes_at)
    }

    /// Writes `elements` over `to`, which is a part of the array, through the file rather than through memory.
    pub(crate) fn write_over<A: NoUninit>(&self, to: &mut [A], elements: &[A]) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let start = to.as_ptr().addr().checked_sub(self.as_ptr().addr());
        let Some(start) = start.filter(|start| start + size_of_val(to) <= self.len() && to.len() == elements.len())
        else {
            return Err(Error::new(ErrorKind::InvalidInput, "elements that are no part of the array"));
        };
        // SAFETY: (2) `to` is exactly these bytes.
        let written = unsafe { file.write_at(bytemuck::cast_slice(elements), self.offset + start as u64) };
        self.naming(written)
    }

    /// Writes bytes at an offset of the file, which need not lie in the array.
    pub(crate) fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        let file = self.file_mut()?;
        // SAFETY: (2) `&mut self`.
        unsafe { file.write_at(bytes, offset) }
    }

    /// Reads the same bytes as the array, from any thread; `None` if the system cannot do that.
    pub(crate) fn prefetch_source(&self) -> Option<PrefetchSource> {
        let file = self.file.as_ref().filter(|_| self.mapping.is_of_file())?;
        PrefetchSource::new(file, self.offset, self.len()).ok()
    }
}

/// Writes any part of an array through its file, from many threads. The array is exclusively its own while it lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileWriter<'a> {
    storage: &'a Storage,
    exclusive: PhantomData<&'a mut Storage>,
}

impl<'a> FileWriter<'a> {
    pub(crate) fn new(storage: &'a mut Storage) -> Self {
        Self { storage, exclusive: PhantomData }
    }

    pub(crate) fn storage(self) -> &'a Storage {
        self.storage
    }

    /// Writes bytes of elements, from byte `start` of the array on.
    pub(crate) fn write_at(self, bytes: &[u8], start: usize) -> Result<()> {
        let storage = self.storage();
        match start.checked_add(bytes.len()) {
            // Writing up to the end would hide that the file was truncated before.
            Some(end) if end == storage.len() => storage.check_file()?,
            Some(end) if end < storage.len() => {}
            _ => return Err(Error::new(ErrorKind::InvalidInput, "bytes that are no part of the array")),
        }
        let Some(file) = &storage.file else { return Ok(()) };
        // SAFETY: (2) the writer was made of `&mut Storage`, for as long as it lives.
        storage.naming(unsafe { file.write_at(bytes, storage.offset + start as u64) })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use crate::array::MmapArray;
    use crate::storage::PrefetchSource;

    #[test]
    fn systems_that_cannot_populate_read_ahead_all_the_same() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = folder.path().join("a.bin");
        std::fs::write(&path, vec![1u8; 3 << 20]).unwrap();
        // SAFETY: a file of the test's own.
        let a = unsafe { MmapArray::<u8>::options().offset(128).open(&path).unwrap() };
        let storage = a.storage();
        let source = storage.prefetch_source().unwrap();
        for fetch in [PrefetchSource::fetch, PrefetchSource::fetch_by_reading] {
            std::fs::File::open(&path).unwrap().sync_all().unwrap();
            storage.drop_from_page_cache(0..a.len()).unwrap();
            // SAFETY: all of the file was just synced.
            unsafe { storage.file.as_ref().unwrap().drop_from_page_cache(0, 3 << 20) };
            assert!(storage.is_absent(0..a.len()));
            fetch(&source, 0..a.len());
            assert!(storage.is_present(0) && storage.is_present(a.len() - 1));
        }
    }
}
