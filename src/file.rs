//! The open file that an array lies in: opening and locking it, its length, reading and writing beside the mapping, syncing.
//!
//! # Safety
//! Nothing here dereferences a pointer. A function that can change bytes that a mapping of the file shows
//! 1. is an `unsafe fn` that states what its caller must know; or
//! 2. takes `&mut ArrayFile`, which only `&mut` of the whole array gives: the functions that set lengths ([`growth`]).

mod acl;
mod destination;
mod grow_marker;
mod growth;
mod lock;
mod pending;
mod permissions;

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use crate::error::{Error, Result, error};
use crate::mode::FileAccess;
use crate::sys::{self, HandleFlags};

pub(crate) use destination::Destination;
use growth::Growth;
pub use lock::Lock;
use lock::LockedFile;
pub(crate) use pending::{NotPublished, PendingFile, Published};

/// Every system sets a file's modification time before it stores the bytes of a write, so a reader that has seen a part of
/// them finds the time changed. No single write takes 5 seconds.
const QUIESCENT_AFTER: Duration = Duration::from_secs(5);

/// A regular file that an array lies in. Kept open as long as the array: for its lock, and to flush and grow it.
#[derive(Debug)]
pub(crate) struct ArrayFile {
    file: LockedFile,
    /// In bytes, when last read from the system. Used for growing, and for the proof in
    /// [`Layout::extent`](crate::layout::Layout::extent).
    len: u64,
    path: Option<PathBuf>,
    /// Whether the length, or the file's name, may not be on the disk yet.
    unsynced: AtomicBool,
    /// The folder of a file that this array created. The first flush syncs it.
    folder: Option<PathBuf>,
    growth: Growth,
    /// Whether the file is the caller's own handle. Then its flags can change, and a failed write-back may have been
    /// reported to the caller instead of this array.
    shares_handle: bool,
    /// The caller's handle, if `file` is another: the lock was taken on it.
    #[expect(dead_code, reason = "kept open")]
    locked: Option<File>,
    /// Whether nobody else can open the file, nor find it after a kill.
    unnamed: bool,
}

impl ArrayFile {
    /// Opens an existing regular file and locks it, then reads its length.
    ///
    /// Never waits, neither for a writer of a fifo nor for a lock.
    pub(crate) fn open(path: &Path, access: FileAccess, lock: Lock) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(access.writes_file());
        sys::open_without_waiting(&mut options);
        lock.share(&mut options, access);
        let file = options.open(path).map_err(lock::cannot_open)?;
        // The lock comes first: until it is held, another process that respects it could still change the length.
        let taken = lock.take(&file, access)?;
        let file = LockedFile::new(file, taken);
        file.note_lock(taken, access);
        let len = true_len(&file)?;
        let path = std::path::absolute(path).map_err(|e| Error::io("cannot make the path absolute", e))?;
        Ok(Self { path: Some(path), ..Self::of(file, len) })
    }

    /// Takes the file of a caller's handle, opened again if the system can do that: then nothing that the caller does with
    /// the handle matters, and a failed write-back is reported to both.
    ///
    /// # Errors
    /// `Io` (permission) if the handle cannot do what the mode needs, before anything is changed.
    pub(crate) fn adopt(file: &File, access: FileAccess, lock: Lock) -> Result<Self> {
        let second = file.try_clone().map_err(|e| Error::io("cannot duplicate the file handle", e))?;
        check_handle(&second, access)?;
        // Checked before the file is opened again: opening a device has side effects.
        regular(&second)?;
        let taken = lock.take(&second, access)?;
        let (file, shares_handle, locked) = match sys::reopen(&second, access.writes_file()) {
            Some(own) => (own, false, taken.then_some(second)),
            None => (second, true, None),
        };
        let is_direct = shares_handle && sys::handle_flags(&file).is_ok_and(|flags| flags.direct);
        let len = if is_direct { regular(&file)?.len() } else { true_len(&file)? };
        Ok(Self { shares_handle, locked, ..Self::of(LockedFile::new(file, false), len) })
    }

    fn of(file: LockedFile, len: u64) -> Self {
        Self {
            file,
            len,
            path: None,
            unsynced: AtomicBool::new(false),
            folder: None,
            growth: Growth::default(),
            shares_handle: false,
            locked: None,
            unnamed: false,
        }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Whether others can open the file.
    pub(crate) fn is_reachable(&self) -> bool {
        !self.unnamed
    }

    /// Moves the absolute path out, for the array to keep. `None` for a file given as a handle, and for an unnamed file.
    pub(crate) fn take_path(&mut self) -> Option<PathBuf> {
        self.path.take()
    }

    /// The length in bytes when the file was opened or last grown.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The length in bytes now.
    pub(crate) fn current_len(&self) -> Result<u64> {
        Ok(regular(&self.file)?.len())
    }

    /// The length in bytes now, which [`len`](Self::len) returns from then on.
    pub(crate) fn refresh_len(&mut self) -> Result<u64> {
        let len = self.current_len()?;
        self.note_len(len);
        Ok(len)
    }

    fn note_len(&mut self, len: u64) {
        if len != self.len {
            // The process that changed the length may have freed the space that was set aside.
            self.growth.forget_reserve();
            self.len = len;
        }
    }

    /// Whether nobody has written to the file for a while. If so, what was read of it before this call is consistent.
    /// Also refreshes [`len`](Self::len).
    pub(crate) fn is_quiescent(&mut self) -> Result<bool> {
        let metadata = regular(&self.file)?;
        self.note_len(metadata.len());
        Ok(metadata.modified().is_ok_and(|at| is_long_ago(at, SystemTime::now())))
    }

    /// Waits until a write in progress is complete, so that two readings cannot find the same half of it.
    ///
    /// Not by the caller's own handle: it may move the position.
    pub(crate) fn wait_for_write(&self) {
        if !self.shares_handle {
            sys::wait_for_write(&self.file);
        }
    }

    /// Whether [`write_at`](Self::write_at) stores bytes at the given offset, and a mapping shows them at once.
    pub(crate) fn writes_at(&self) -> bool {
        sys::MAPPING_SHOWS_WRITES && self.writes_anywhere()
    }

    /// Whether system calls write to any offset, from any memory.
    pub(crate) fn writes_anywhere(&self) -> bool {
        !self.handle_is(|flags| flags.appends || flags.direct)
    }

    /// Whether system calls read from any offset into any memory (`O_DIRECT` needs both aligned).
    pub(crate) fn reads_anywhere(&self) -> bool {
        !self.handle_is(|flags| flags.direct)
    }

    fn handle_is(&self, limited: impl FnOnce(HandleFlags) -> bool) -> bool {
        self.shares_handle && sys::handle_flags(&self.file).is_ok_and(limited)
    }

    /// Whether a failed write-back may have been reported to another user of the handle, and so to nobody later.
    pub(crate) fn shares_failures(&self) -> bool {
        self.shares_handle
    }

    /// Whether this process opened the file itself, and was not forked from one that did.
    pub(crate) fn is_of_this_process(&self) -> bool {
        self.file.is_of_this_process()
    }

    /// Records that something was changed that a flush of the pages does not bring to the disk.
    pub(crate) fn note_unsynced(&self) {
        self.unsynced.store(true, Ordering::Relaxed);
    }

    /// Writes within the file, by a system call. On Linux a mapping of the file shows the same bytes at once.
    ///
    /// # Safety
    /// If an array is mapped to these bytes, nobody else reads them or stores to them during the call.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        sys::write_all_at(&self.file, bytes, offset).map_err(|e| Error::io("cannot write", e))
    }

    /// Turns an array's file into a [`PendingFile`], which [`PendingFile::publish`] puts at its path.
    pub(crate) fn into_pending(self) -> PendingFile {
        PendingFile::of_unnamed(self.file, self.len)
    }

    /// Fills `bytes` from `offset` on.
    ///
    /// # Errors
    /// `TooShort` if the file ends before that, however long it was when it was opened.
    pub(crate) fn read_into(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        let got = self.read_at(bytes, offset)?;
        if got < bytes.len() {
            let (end, needed) = (offset + got as u64, offset + bytes.len() as u64);
            return Err(error!(
                TooShort,
                "file was truncated to {end} bytes while the {needed} bytes up to the array's end were being read"
            ));
        }
        Ok(())
    }

    /// Fills `bytes` from `offset` on, and returns how many bytes there were before the end of the file.
    pub(crate) fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize> {
        let mut got = 0;
        while got < bytes.len() {
            let read = || sys::read_at(&self.file, &mut bytes[got..], offset + got as u64);
            match sys::retry_on_interrupt(read).map_err(|e| Error::io("cannot read", e))? {
                0 => break,
                more => got += more,
            }
        }
        Ok(got)
    }

    /// A second descriptor of the same file, to prefetch with.
    pub(crate) fn reader(&self) -> Result<Reader> {
        self.file.try_clone().map(Reader).map_err(|e| Error::io("cannot duplicate the file handle", e))
    }

    /// Drops those pages of a range of the file from the page cache that are clean and not mapped. A hint.
    ///
    /// # Safety
    /// The bytes are on the disk as they are in memory: the system also drops pages that it failed to write.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn drop_from_page_cache(&self, offset: u64, bytes: usize) {
        sys::drop_from_page_cache(&self.file, offset, bytes);
    }

    /// Brings to the disk what a flush of the pages leaves out: the file's length and, if this array created the file, its
    /// name. Does nothing if neither has changed.
    pub(crate) fn sync_metadata(&self) -> Result<()> {
        self.sync_metadata_by(self.open_folder()?)
    }

    /// Opens the folder that [`sync_metadata_by`](Self::sync_metadata_by) needs. Call it before the pages are flushed: a
    /// refusal then comes before anything was tried, and need not poison the array.
    pub(crate) fn open_folder(&self) -> Result<Option<File>> {
        let folder = self.folder.as_ref().filter(|_| sys::SYNCS_FOLDERS && self.unsynced.load(Ordering::Relaxed));
        match folder.map(File::open) {
            None => Ok(None),
            Some(Ok(folder)) => Ok(Some(folder)),
            // The folder may be writable and not readable: then the whole file system is synced instead.
            Some(Err(_)) if sys::SYNCS_FILE_SYSTEMS => Ok(None),
            Some(Err(e)) => Err(Error::io("cannot open the file's folder, to sync it", e)),
        }
    }

    pub(crate) fn sync_metadata_by(&self, folder: Option<File>) -> Result<()> {
        if !self.unsynced.load(Ordering::Relaxed) && sys::MSYNC_REACHES_DISK {
            return Ok(());
        }
        self.file.sync_all().map_err(|e| Error::io("cannot sync the file", e))?;
        // Without it, a power cut can lose the name of a file whose contents are safe.
        let synced = match &folder {
            Some(folder) => sync_folder(folder).map_err(|e| Error::io("cannot sync the folder", e))?,
            None => self.folder.is_none(),
        };
        if !synced {
            // The last resort: it also waits for everything that other processes have written.
            sys::sync_file_system(&self.file).map_err(|e| Error::io("cannot sync the file system", e))?;
        }
        self.unsynced.store(false, Ordering::Relaxed);
        Ok(())
    }
}

/// Returns `false` if the file system cannot sync a folder alone.
fn sync_folder(folder: &File) -> io::Result<bool> {
    use io::ErrorKind::{InvalidInput, ReadOnlyFilesystem, Unsupported};
    match folder.sync_all() {
        Ok(()) => Ok(true),
        Err(e) if sys::SYNCS_FILE_SYSTEMS && matches!(e.kind(), InvalidInput | ReadOnlyFilesystem | Unsupported) => {
            Ok(false)
        }
        Err(e) => Err(e),
    }
}

fn regular(file: &File) -> Result<Metadata> {
    let metadata = file.metadata().map_err(|e| Error::io("cannot read the file's length", e))?;
    if !metadata.is_file() {
        return Err(not_regular(&metadata));
    }
    Ok(metadata)
}

fn not_regular(metadata: &Metadata) -> Error {
    let what = if metadata.is_dir() { "a directory" } else { "a fifo, device or socket" };
    error!(NotRegularFile, "only regular files can be mapped, and this is {what}")
}

/// Returns the file's length. Refuses a file that claims to be empty and has contents, as those of `/proc` and `/sys` do.
fn true_len(file: &File) -> Result<u64> {
    let len = regular(file)?.len();
    if len > 0 || !matches!(sys::read_at(file, &mut [0], 0), Ok(1)) {
        return Ok(len);
    }
    match regular(file)?.len() {
        0 => Err(Error::io(
            "the file has contents, but says that it has none, as those of `/proc` and `/sys` do: it cannot be mapped",
            io::ErrorKind::Unsupported.into(),
        )),
        len => Ok(len),
    }
}

fn check_handle(file: &File, access: FileAccess) -> Result<()> {
    let flags = sys::handle_flags(file).map_err(|e| Error::io("cannot read the handle's flags", e))?;
    if flags.reads && (flags.writes || !access.writes_file()) {
        return Ok(());
    }
    let needed = if access.writes_file() { "reading and writing" } else { "reading" };
    Err(error!(Io, "the file handle is not open for {needed}").with_source(io::ErrorKind::PermissionDenied.into()))
}

/// `false` for a time in the future: it means a wrong clock, and the file may have been written just now.
fn is_long_ago(at: SystemTime, now: SystemTime) -> bool {
    now.duration_since(at).is_ok_and(|past| past > QUIESCENT_AFTER)
}

/// Reads a file only to bring it into the page cache.
#[derive(Debug)]
pub(crate) struct Reader(File);

impl Reader {
    /// Reads a range through `buffer`. Stops at the end of the file, and at the first error.
    pub(crate) fn read_through(&self, mut offset: u64, bytes: usize, buffer: &mut [u8]) {
        let end = offset.saturating_add(bytes as u64);
        while offset < end {
            let want = usize::try_from(end - offset).unwrap_or(usize::MAX).min(buffer.len());
            match sys::retry_on_interrupt(|| sys::read_at(&self.0, &mut buffer[..want], offset)) {
                Ok(0) | Err(_) => return,
                Ok(n) => offset += n as u64,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_was_just_written_or_is_to_come_is_not_long_ago() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let moment = Duration::from_nanos(1);
        assert!(is_long_ago(now - QUIESCENT_AFTER - moment, now));
        assert!(is_long_ago(SystemTime::UNIX_EPOCH, now));
        for at in [now - QUIESCENT_AFTER, now - moment, now, now + moment, now + QUIESCENT_AFTER * 2] {
            assert!(!is_long_ago(at, now), "{at:?}");
        }
    }

    #[test]
    fn a_file_that_ends_while_it_is_read_is_told_with_both_lengths() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, [0; 30]).unwrap();
        let file = ArrayFile::open(&path, FileAccess::Read, Lock::None).unwrap();
        let e = file.read_into(&mut [0; 20], 16).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::TooShort);
        assert_eq!(
            e.to_string(),
            "file was truncated to 30 bytes while the 36 bytes up to the array's end were being read"
        );
    }

    #[test]
    fn a_file_is_at_rest_by_its_time_and_its_length_is_that_of_now() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, [0; 10]).unwrap();
        let mut array_file = ArrayFile::open(&path, FileAccess::Read, Lock::None).unwrap();
        assert!(!array_file.is_quiescent().unwrap());
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(20).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!((array_file.is_quiescent().unwrap(), array_file.len()), (true, 20));
        file.set_modified(SystemTime::now() + Duration::from_secs(3600)).unwrap();
        assert!(!array_file.is_quiescent().unwrap());
    }
}
