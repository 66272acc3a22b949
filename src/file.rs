//! The only module that touches the file system: opening, locking, lengths, and (in [`draft`]) files that are made
//! elsewhere and put at their path as the last step.
//!
//! # Safety
//! Nothing here dereferences anything. What can change bytes that a mapping of the file shows
//! 1. is an `unsafe fn`, and says what its caller has to know; or
//! 2. takes `&mut Backing`, which is to be had from `&mut` of the whole array only: what sets lengths.

#[cfg(unix)]
mod acl;
mod destination;
mod grow_marker;
mod lock;
mod pending;
mod permissions;

use std::fs::{File, Metadata, OpenOptions};
use std::io;
#[cfg(not(any(unix, windows)))]
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use crate::error::{Error, ErrorKind, Result};
use crate::mode::FileAccess;

pub(crate) use destination::Destination;
pub use lock::Lock;
use lock::LockedFile;
pub(crate) use pending::{NotPublished, PendingFile, Published};

/// A system sets a file's time of change before it stores what a write brings, so that whoever has read a part of that
/// finds the time changed. No single write takes longer than this, by far.
const AT_REST_AFTER: Duration = Duration::from_secs(5);

/// A regular file that an array lives in, kept open as long as the array: for its lock, and to flush and grow it.
#[derive(Debug)]
pub(crate) struct ArrayFile {
    file: LockedFile,
    /// In bytes, when last asked; for growing, and for the proof in [`Layout::extent`](crate::layout::Layout::extent).
    len: u64,
    path: Option<PathBuf>,
    /// Whether the length, or the file's name, may not be on the disk yet.
    unsynced: AtomicBool,
    /// The folder of a file this array created, to be synced with the first flush.
    folder: Option<PathBuf>,
    /// Whether to take disk space before it is needed.
    preallocate: bool,
    /// How far disk space is set aside, beyond the end of the file; in bytes from its start.
    reserved: u64,
    /// Whether any may be set aside, also by an attempt that failed.
    may_have_slack: bool,
    /// How long the file may be by what growing it did, also where that failed.
    grown_to: u64,
    /// It is the caller's own open file, who can change its flags, and could be told of a failed write-back in its place.
    shares_handle: bool,
    /// Whether the file system is known to set no space aside.
    cannot_reserve: bool,
    /// The caller's open file, which has the lock that was asked for, if this one is another.
    #[expect(dead_code, reason = "kept open")]
    locked: Option<File>,
    /// Nobody else can reach the file, nor find it after a kill.
    unnamed: bool,
}

impl ArrayFile {
    /// Opens an existing regular file and locks it, then reads its length.
    ///
    /// Never waits: not for a writer of a fifo, not for a lock.
    pub(crate) fn open(path: &Path, rights: FileAccess, lock: Lock) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(rights.writes_file());
        never_wait(&mut options);
        share(&mut options, lock, rights);
        let file = options.open(path).map_err(|e| lock::sharing_conflict(Error::io("cannot open", e)))?;
        // Locked first: the length counts only once nobody who respects the lock can change it.
        let taken = lock.take(&file, rights)?;
        let file = LockedFile::new(file, taken);
        file.note_lock(taken, rights);
        let len = Self::true_len(&file)?;
        let path = std::path::absolute(path).map_err(|e| Error::io("cannot make the path absolute", e))?;
        Ok(Self { path: Some(path), ..Self::of(file, len) })
    }

    /// The file of a handle of the caller's, opened anew where the system can: then what the caller does with the handle
    /// makes no difference, and a failed write-back is reported to both.
    ///
    /// # Errors
    /// `Io` (permission) if the handle cannot do what the mode needs, before anything is changed.
    pub(crate) fn adopt(file: &File, rights: FileAccess, lock: Lock) -> Result<Self> {
        let second = file.try_clone().map_err(|e| Error::io("cannot duplicate the file handle", e))?;
        check_handle(&second, rights)?;
        // To open a device has effects of its own.
        Self::regular(&second)?;
        let taken = lock.take(&second, rights)?;
        let (file, shares_handle, locked) = match reopened(&second, rights) {
            Some(own) => (own, false, taken.then_some(second)),
            None => (second, true, None),
        };
        let is_direct = shares_handle && HandleLimits::of(&file).direct;
        let len = if is_direct { Self::regular_len(&file)? } else { Self::true_len(&file)? };
        Ok(Self { shares_handle, locked, ..Self::of(LockedFile::new(file, false), len) })
    }

    fn of(file: LockedFile, len: u64) -> Self {
        Self {
            file,
            len,
            path: None,
            unsynced: AtomicBool::new(false),
            folder: None,
            preallocate: true,
            reserved: 0,
            may_have_slack: false,
            grown_to: 0,
            shares_handle: false,
            cannot_reserve: false,
            locked: None,
            unnamed: false,
        }
    }

    /// Leaves files sparse when they grow.
    pub(crate) fn preallocate(&mut self, preallocate: bool) {
        self.preallocate = preallocate;
    }

    fn regular_len(file: &File) -> Result<u64> {
        Ok(Self::regular(file)?.len())
    }

    /// The files of `/proc` and `/sys` say that they are empty, and are not.
    fn true_len(file: &File) -> Result<u64> {
        let len = Self::regular_len(file)?;
        if len > 0 || !matches!(read_some(file, &mut [0], 0), Ok(1)) {
            return Ok(len);
        }
        match Self::regular_len(file)? {
            0 => Err(Error::io(
                "the file has contents, but says that it has none, as those of `/proc` and `/sys` do: it cannot be mapped",
                io::ErrorKind::Unsupported.into(),
            )),
            len => Ok(len),
        }
    }

    fn regular(file: &File) -> Result<Metadata> {
        let metadata = file.metadata().map_err(|e| Error::io("cannot read the file's length", e))?;
        if !metadata.is_file() {
            return Err(not_regular(&metadata));
        }
        Ok(metadata)
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Whether others can open the file.
    #[cfg(unix)]
    pub(crate) fn is_reachable(&self) -> bool {
        !self.unnamed
    }

    /// Absolute, for the array to keep; `None` for a file given as a handle, or without a name.
    pub(crate) fn take_path(&mut self) -> Option<PathBuf> {
        self.path.take()
    }

    /// In bytes, when the file was opened or last grown.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// In bytes, now.
    pub(crate) fn current_len(&self) -> Result<u64> {
        Self::regular_len(&self.file)
    }

    /// In bytes, now; [`len`](Self::len) agrees from then on.
    pub(crate) fn refresh_len(&mut self) -> Result<u64> {
        let len = self.current_len()?;
        self.note_len(len);
        Ok(len)
    }

    fn note_len(&mut self, len: u64) {
        if len != self.len {
            // Whoever changed it may have freed what was set aside.
            self.reserved = 0;
            self.len = len;
        }
    }

    /// Whether nobody has written to the file for a while: then what was read of it before this was asked is of one
    /// piece. [`len`](Self::len) is that of now, too.
    pub(crate) fn is_quiescent(&mut self) -> Result<bool> {
        let metadata = Self::regular(&self.file)?;
        self.note_len(metadata.len());
        Ok(metadata.modified().is_ok_and(|at| is_long_ago(at, SystemTime::now())))
    }

    /// Waits until a write that is going on is over, so that it cannot be read half twice.
    ///
    /// For files opened by path: it may move the descriptor, and nothing else uses that one's position.
    pub(crate) fn wait_for_write(&self) {
        // To look for data takes the lock that a write holds (ext4, tmpfs, btrfs); where it takes none (XFS), reading
        // does. What it finds does not matter.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = rustix::fs::seek(&*self.file, rustix::fs::SeekFrom::Data(0));
    }

    /// Makes a file at least `len` bytes long, zero-filled; on blocks of its own unless told otherwise, so that a full
    /// disk is an error now and no crash later. After an error the length is what it was, if that could be done.
    ///
    /// # Errors
    /// `Truncated` for a file that is shorter than it was when it was last looked at.
    pub(crate) fn grow(&mut self, len: u64) -> Result<()> {
        if len <= self.len {
            return Ok(());
        }
        let reserved = self.preallocate && len <= self.reserved;
        self.may_have_slack |= self.preallocate;
        extend(&self.file, self.len, len, self.preallocate && !reserved, &mut self.grown_to)?;
        self.set_known_len(len);
        Ok(())
    }

    /// After growing it failed: makes the file as long again as it was, if nobody else has changed its length. `false` if it
    /// may hold something of this value's that is no part of the array.
    pub(crate) fn take_back_growth(&mut self, len: u64) -> Result<bool> {
        let most = std::mem::take(&mut self.grown_to);
        Ok(most <= len || self.truncate(len, most)?)
    }

    /// Sets disk space aside beyond the end, in steps that grow with the file, so that growing by many small pieces
    /// costs little. The length stays; where there is no room, so does everything.
    pub(crate) fn reserve(&mut self, len: u64) {
        const SMALLEST_STEP: u64 = 1 << 20;
        if !self.preallocate || self.cannot_reserve || len <= self.reserved.max(self.len) {
            return;
        }
        let wanted = len.saturating_add((len / 8).max(SMALLEST_STEP)).min(i64::MAX as u64);
        self.may_have_slack = true;
        match fallocate_keep_size(&self.file, self.len, wanted - self.len) {
            Ok(()) => self.reserved = wanted,
            Err(e) if e.kind() == io::ErrorKind::Unsupported => {
                (self.cannot_reserve, self.may_have_slack) = (true, false)
            }
            // What was found before the refusal is kept by ext4, whatever refused. If it cannot be given back now, then when
            // the array is closed.
            Err(_) => self.may_have_slack = !truncate(&self.file, self.len, self.len..=self.len).is_ok_and(|done| done),
        }
    }

    /// Marks a `.npy` file that is about to have bytes up to `reach` which no header counts; `header` is the one that will
    /// stand in the file meanwhile. After a kill, [`reach_of_killed`](Self::reach_of_killed) tells the next who opens it.
    pub(crate) fn mark_growth(&mut self, header: &[u8], reach: u64) {
        if self.marks_are_sure() {
            self.file.mark_growth(header, reach);
        }
    }

    /// Whether nobody else can be growing the file, so that who left a mark is gone.
    fn marks_are_sure(&self) -> bool {
        !self.unnamed && self.file.is_exclusive()
    }

    /// For a `.npy` file that ends with its array, at `end`: there is nothing that a killed growth has left behind.
    pub(crate) fn forget_killed(&mut self, end: u64) {
        if self.len == end && self.marks_are_sure() {
            self.file.remove_mark();
        }
    }

    /// Takes the mark back: whatever follows the array from now on is somebody else's.
    pub(crate) fn unmark_growth(&mut self) {
        self.file.unmark_growth();
    }

    /// Leaves the mark when the file is closed, for there are bytes that no header counts.
    pub(crate) fn leave_growth_marked(&mut self) {
        self.file.leave_growth_marked();
    }

    /// How far a growth of this file went that was killed before the header counted it; `None` unless this header, and no
    /// other, is the one that was to be replaced.
    pub(crate) fn reach_of_killed(&self, header: &[u8]) -> Result<Option<u64>> {
        if !self.marks_are_sure() {
            return Ok(None);
        }
        self.file.reach_of_killed(header).map_err(|e| Error::io("cannot read the mark of a growing file", e))
    }

    /// Removes what a killed growth has left from `end` on, where the file is `len` bytes long, and its mark. Whether it
    /// did.
    pub(crate) fn remove_left_behind(&mut self, end: u64, len: u64) -> Result<bool> {
        let removed = self.truncate(end, len)?;
        if removed {
            self.file.remove_mark();
        }
        Ok(removed)
    }

    /// Frees the disk space set aside beyond `end`, if the file ends there. (Rows that somebody else has added lie in that
    /// space; and a file that was truncated is not made longer.)
    pub(crate) fn release_reserve(&mut self, end: u64) -> Result<()> {
        if !self.may_have_slack || !self.file.is_of_this_process() {
            return Ok(());
        }
        let released = truncate(&self.file, end, end..=end);
        released.map(drop).map_err(|e| Error::io("cannot give back the space set aside for growing", e))
    }

    /// Truncates the file to `len` bytes if it has at most `most`. Otherwise somebody else has added to it, or truncated it
    /// further: then nothing is done, and the answer is `false`.
    pub(crate) fn truncate(&mut self, len: u64, most: u64) -> Result<bool> {
        if self.refresh_len()? == len {
            return Ok(true);
        }
        let done = truncate(&self.file, len, len..=most).map_err(|e| Error::io("cannot truncate the file", e))?;
        if done {
            (self.reserved, self.grown_to) = (0, 0);
            self.set_known_len(len);
        }
        Ok(done)
    }

    fn set_known_len(&mut self, len: u64) {
        self.len = len;
        self.note_unsynced();
    }

    /// Whether [`write_at`](Self::write_at) puts bytes where they are meant to be, and a mapping shows them at once.
    pub(crate) fn writes_at(&self) -> bool {
        let limits = self.limits();
        !limits.appends && !limits.direct && cfg!(any(target_os = "linux", target_os = "android"))
    }

    /// Whether system calls read any bytes into any memory.
    pub(crate) fn reads_anywhere(&self) -> bool {
        !self.limits().direct
    }

    fn limits(&self) -> HandleLimits {
        if self.shares_handle { HandleLimits::of(&self.file) } else { HandleLimits::default() }
    }

    /// Whether somebody else may have been told of a failed write-back, who then was the only one.
    pub(crate) fn shares_failures(&self) -> bool {
        self.shares_handle
    }

    /// Whether this process opened it, and was not forked from one that did.
    pub(crate) fn is_of_this_process(&self) -> bool {
        self.file.is_of_this_process()
    }

    /// For what was written where a flush of the pages does not reach.
    pub(crate) fn note_unsynced(&self) {
        self.unsynced.store(true, Ordering::Relaxed);
    }

    /// Writes within the file, by a system call. On Linux a mapping of the file shows the same bytes at once.
    ///
    /// # Safety
    /// If an array is mapped to these bytes, nobody else looks at them or stores to them meanwhile.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        write_all(&self.file, bytes, offset).map_err(|e| Error::io("cannot write", e))
    }

    /// Writes from the end on, which makes the file longer.
    ///
    /// # Errors
    /// `Truncated`, or `InvalidInput` if somebody else has added to it: nothing is written then.
    pub(crate) fn write_at_end(&mut self, bytes: &[u8], end: u64) -> Result<()> {
        let len = end + bytes.len() as u64;
        check_size_limit(len)?;
        check_len(&self.file, end)?;
        self.grown_to = len;
        write_all(&self.file, bytes, end).map_err(|e| Error::io("cannot write", e))?;
        self.set_known_len(len);
        Ok(())
    }

    /// Gives an array's file its place: see [`Draft::publish`] and [`Draft::publish_new`].
    pub(crate) fn into_pending(self) -> PendingFile {
        PendingFile::of_unnamed(self.file, self.len)
    }

    /// Fills `bytes` from `offset` on.
    ///
    /// # Errors
    /// `TooShort` if the file ends first, however long it was when opened.
    pub(crate) fn read_into(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        let got = self.read_at(bytes, offset)?;
        if got < bytes.len() {
            let (end, needed) = (offset + got as u64, offset + bytes.len() as u64);
            return Err(Error::new(
                ErrorKind::TooShort,
                format!(
                    "file was truncated to {end} bytes while the {needed} bytes up to the array's end were being read"
                ),
            ));
        }
        Ok(())
    }

    /// Fills `bytes` from `offset` on, as far as the file goes; how far that was.
    pub(crate) fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize> {
        let mut got = 0;
        while got < bytes.len() {
            match read_some(&self.file, &mut bytes[got..], offset + got as u64) {
                Ok(0) => break,
                Ok(more) => got += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("cannot read", e)),
            }
        }
        Ok(got)
    }

    /// A second descriptor of the same file, to read ahead with.
    pub(crate) fn reader(&self) -> Result<Reader> {
        self.file.try_clone().map(Reader).map_err(|e| Error::io("cannot duplicate the file handle", e))
    }

    /// Drops a range of the file from the page cache, as far as it is clean and nobody maps it. A hint.
    ///
    /// # Safety
    /// The bytes are on the disk as they are in memory: the system drops also what it failed to write.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn drop_from_page_cache(&self, offset: u64, bytes: usize) {
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
        if let Some(bytes) = std::num::NonZeroU64::new(bytes as u64) {
            let _ = rustix::fs::fadvise(&*self.file, offset, Some(bytes), rustix::fs::Advice::DontNeed);
        }
        let _ = (offset, bytes);
    }

    /// Brings what a flush of the pages leaves out to the disk: the file's length, and its name where this array
    /// made it. Does nothing when there is nothing new.
    pub(crate) fn sync_metadata(&self) -> Result<()> {
        self.sync_metadata_by(self.open_folder()?)
    }

    /// What [`sync_metadata_by`](Self::sync_metadata_by) needs: to be asked for first, so that a refusal comes before
    /// anything was tried, and says nothing about the array.
    pub(crate) fn open_folder(&self) -> Result<Option<File>> {
        match &self.folder {
            Some(folder) if cfg!(unix) && self.unsynced.load(Ordering::Relaxed) => match File::open(folder) {
                Ok(folder) => Ok(Some(folder)),
                // One may make files in a folder that one may not read.
                Err(_) if cfg!(any(target_os = "linux", target_os = "android")) => Ok(None),
                Err(e) => Err(Error::io("cannot open the file's folder, to sync it", e)),
            },
            _ => Ok(None),
        }
    }

    pub(crate) fn sync_metadata_by(&self, folder: Option<File>) -> Result<()> {
        // Apple's `msync` leaves the bytes in the disk's own cache, which only a sync of the file empties.
        if !self.unsynced.load(Ordering::Relaxed) && !cfg!(target_vendor = "apple") {
            return Ok(());
        }
        self.file.sync_all().map_err(|e| Error::io("cannot sync the file", e))?;
        // Without it, a power cut can lose the name of a file whose contents are safe.
        let synced = match &folder {
            Some(folder) => is_synced(folder).map_err(|e| Error::io("cannot sync the folder", e))?,
            None => self.folder.is_none(),
        };
        if !synced {
            sync_file_system(&self.file).map_err(|e| Error::io("cannot sync the file system", e))?;
        }
        self.unsynced.store(false, Ordering::Relaxed);
        Ok(())
    }
}

/// A time to come says that a clock is wrong, and so nothing.
fn is_long_ago(at: SystemTime, now: SystemTime) -> bool {
    now.duration_since(at).is_ok_and(|past| past > AT_REST_AFTER)
}

/// Reads a file for the sake of the system's cache only.
#[derive(Debug)]
pub(crate) struct Reader(File);

impl Reader {
    /// Reads a range through `buffer`, and stops where the file, or the disk, does.
    pub(crate) fn read_through(&self, mut offset: u64, bytes: usize, buffer: &mut [u8]) {
        let end = offset.saturating_add(bytes as u64);
        while offset < end {
            let want = usize::try_from(end - offset).unwrap_or(usize::MAX).min(buffer.len());
            match read_some(&self.0, &mut buffer[..want], offset) {
                Ok(0) => return,
                Ok(n) => offset += n as u64,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

#[cfg(unix)]
fn read_some(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, bytes, offset)
}

#[cfg(unix)]
fn write_all(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// It moves the handle's position, which nothing here goes by.
#[cfg(windows)]
fn read_some(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, bytes, offset)
}

#[cfg(windows)]
fn write_all(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => (bytes, offset) = (&bytes[n..], offset + n as u64),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Where there is no call for it: one thread at a time, for the handle has one position.
#[cfg(not(any(unix, windows)))]
static POSITION: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(not(any(unix, windows)))]
fn read_some(mut file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let _mine = crate::parallel::lock(&POSITION);
    file.seek(SeekFrom::Start(offset))?;
    file.read(bytes)
}

#[cfg(not(any(unix, windows)))]
fn write_all(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let _mine = crate::parallel::lock(&POSITION);
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

/// Whether a file is as long as it was when it was last looked at.
fn check_len(file: &File, expected: u64) -> Result<()> {
    match ArrayFile::regular_len(file)? {
        len if len < expected => Err(Error::truncated(len, expected)),
        len if len > expected => Err(Error::new(
            ErrorKind::InvalidInput,
            format!("the file was {expected} bytes long, and is {len} now: somebody else has just added to it"),
        )),
        _ => Ok(()),
    }
}

/// Grows a file from `old` to `new` bytes. After an error it is as it was, or its length is at most `grown_to`.
///
/// # Errors
/// `Truncated` if it has fewer than `old`, `InvalidInput` if it has more.
fn extend(file: &File, old: u64, new: u64, preallocate: bool, grown_to: &mut u64) -> Result<()> {
    if new == old {
        return Ok(());
    }
    check_size_limit(new)?;
    check_len(file, old)?;
    // First the space, and then the length: so whoever adds to the file meanwhile is not taken for this.
    let allocated = if preallocate { allocate(file, old, new - old, grown_to) } else { Ok(()) };
    let extended = allocated.and_then(|()| {
        let expected = old..=(*grown_to).max(old);
        if !expected.contains(&file.metadata()?.len()) {
            return Err(io::Error::other("somebody else has just changed its length"));
        }
        *grown_to = new;
        file.set_len(new)
    });
    extended.map_err(|e| {
        // ext4 keeps what it found before the space ran out.
        let _ = truncate(file, old, old..=(*grown_to).max(old));
        let error = Error::new(ErrorKind::Io, format!("cannot grow the file from {old} to {new} bytes")).with_source(e);
        match ArrayFile::regular_len(file) {
            Ok(len) if len == old => error,
            _ => error.and("and it has another length now"),
        }
    })
}

/// Sets the length of a file which has one of these lengths now. Otherwise somebody else has set it, and it stays. Whether
/// it was set.
///
/// Between the look and the deed there is a moment left, in which only a lock keeps others out.
fn truncate(file: &File, len: u64, now: std::ops::RangeInclusive<u64>) -> io::Result<bool> {
    if !now.contains(&file.metadata()?.len()) {
        return Ok(false);
    }
    file.set_len(len)?;
    Ok(true)
}

/// Takes disk space from the end of a file on. Where the file system cannot, the file stays sparse; where it can only
/// together with the length, that reaches up to `grown_to`.
///
/// The system call itself: glibc's `posix_fallocate` writes to every block where it is missing.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn allocate(file: &File, offset: u64, len: u64, grown_to: &mut u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::{Errno, retry_on_intr};
    // NFS has no call that leaves the length alone.
    for flags in [FallocateFlags::KEEP_SIZE, FallocateFlags::empty()] {
        if flags.is_empty() {
            *grown_to = offset + len;
        }
        match retry_on_intr(|| fallocate(file, flags, offset, len)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            done => return Ok(done?),
        }
    }
    Ok(())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn allocate(_: &File, _: u64, _: u64, _: &mut u64) -> io::Result<()> {
    Ok(())
}

/// Sets disk space aside beyond the end of the file, without changing its length.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn fallocate_keep_size(file: &File, offset: u64, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    Ok(rustix::io::retry_on_intr(|| fallocate(file, FallocateFlags::KEEP_SIZE, offset, len))?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn fallocate_keep_size(_: &File, _: u64, _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Growing a file past `RLIMIT_FSIZE` would kill the process by `SIGXFSZ` rather than fail.
#[cfg(unix)]
fn check_size_limit(len: u64) -> Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
    match limit {
        Some(limit) if len > limit => Err(Error::new(
            ErrorKind::Io,
            format!("a file of {len} bytes is over the limit of {limit} bytes (RLIMIT_FSIZE)"),
        )
        .with_source(io::ErrorKind::FileTooLarge.into())),
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn check_size_limit(_: u64) -> Result<()> {
    Ok(())
}

/// So that opening a fifo does not wait for a writer, nor a terminal take over the process.
#[cfg(unix)]
fn never_wait(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
}

#[cfg(not(unix))]
fn never_wait(_: &mut OpenOptions) {}

/// Windows' own locks would stop plain reads through other handles; what a handle shares serves instead.
#[cfg(windows)]
fn share(options: &mut OpenOptions, lock: Lock, rights: FileAccess) {
    use std::os::windows::fs::OpenOptionsExt;
    options.share_mode(lock.share_mode(rights));
}

#[cfg(not(windows))]
fn share(_: &mut OpenOptions, _: Lock, _: FileAccess) {}

#[cfg(unix)]
fn check_handle(file: &File, rights: FileAccess) -> Result<()> {
    use rustix::fs::OFlags;
    let flags = rustix::fs::fcntl_getfl(file).map_err(|e| Error::io("cannot read the handle's flags", e.into()))?;
    let access = flags & OFlags::RWMODE;
    let suits = access == OFlags::RDWR || (access == OFlags::RDONLY && !rights.writes_file());
    if suits && !names_only(flags) {
        return Ok(());
    }
    let needed = if rights.writes_file() { "reading and writing" } else { "reading" };
    Err(Error::new(ErrorKind::Io, format!("the file handle is not open for {needed}"))
        .with_source(io::ErrorKind::PermissionDenied.into()))
}

#[cfg(not(unix))]
fn check_handle(_: &File, _: FileAccess) -> Result<()> {
    Ok(())
}

/// A handle that stands for a file and cannot read it. Its access says that it can.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn names_only(flags: rustix::fs::OFlags) -> bool {
    flags.contains(rustix::fs::OFlags::PATH)
}

#[cfg(all(unix, not(any(target_os = "linux", target_os = "android", target_os = "freebsd"))))]
fn names_only(_: rustix::fs::OFlags) -> bool {
    false
}

/// The same file, opened anew. `None` where the system does not let us.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn reopened(file: &File, rights: FileAccess) -> Option<File> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;

    let flags = rustix::fs::fcntl_getfl(file).ok()?.bits() as i32;
    let mut options = OpenOptions::new();
    options.read(true).write(rights.writes_file());
    // It is to be as durable as the caller's.
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | flags & (libc::O_SYNC | libc::O_DSYNC));
    let own = options.open(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    destination::are_one(&own.metadata().ok()?, &file.metadata().ok()?).then_some(own)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn reopened(_: &File, _: FileAccess) -> Option<File> {
    None
}

/// What a handle of the caller's cannot do, by the flags it has now.
#[derive(Clone, Copy, Debug, Default)]
struct HandleLimits {
    /// Linux writes at the end through a handle opened for appending, whatever the position asked for.
    appends: bool,
    /// It reads and writes whole blocks only, to and from memory that is aligned as they are (`O_DIRECT`).
    direct: bool,
}

impl HandleLimits {
    #[cfg(unix)]
    fn of(file: &File) -> Self {
        use rustix::fs::OFlags;
        let Ok(flags) = rustix::fs::fcntl_getfl(file) else { return Self::default() };
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
        let direct = flags.contains(OFlags::DIRECT);
        #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
        let direct = false;
        Self { appends: flags.contains(OFlags::APPEND), direct }
    }

    #[cfg(not(unix))]
    fn of(_: &File) -> Self {
        Self::default()
    }
}

fn not_regular(metadata: &Metadata) -> Error {
    let what = if metadata.is_dir() { "a directory" } else { "a fifo, device or socket" };
    Error::new(ErrorKind::NotRegularFile, format!("only regular files can be mapped, and this is {what}"))
}

/// Brings a folder to the disk; `false` where the file system cannot do that for a folder alone.
fn is_synced(folder: &File) -> io::Result<bool> {
    match folder.sync_all() {
        Ok(()) => Ok(true),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EROFS | libc::EOPNOTSUPP | libc::ENOSYS)) => {
            Ok(false)
        }
        Err(e) => Err(e),
    }
}

/// For a folder that cannot be synced by itself. It takes as long as all that others have written does.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn sync_file_system(file: &File) -> io::Result<()> {
    Ok(rustix::fs::syncfs(file)?)
}

/// Elsewhere the folder was opened, or has no need of it (Windows).
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn sync_file_system(_: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_just_written_or_is_to_come_is_not_long_ago() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let moment = Duration::from_nanos(1);
        assert!(is_long_ago(now - AT_REST_AFTER - moment, now));
        assert!(is_long_ago(SystemTime::UNIX_EPOCH, now));
        for at in [now - AT_REST_AFTER, now - moment, now, now + moment, now + AT_REST_AFTER * 2] {
            assert!(!is_long_ago(at, now), "{at:?}");
        }
    }

    /// As where no lock keeps others out, and they come between our looks at the length.
    #[test]
    fn what_others_have_added_since_is_not_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for preallocate in [false, true] {
            std::fs::write(&path, [0; 10]).unwrap();
            let mut backing = ArrayFile::open(&path, FileAccess::ReadWrite, Lock::None).unwrap();
            backing.preallocate(preallocate);
            backing.reserve(20);
            std::fs::write(&path, [1; 100]).unwrap();
            assert_eq!(backing.grow(50).unwrap_err().kind(), ErrorKind::InvalidInput);
            assert!(backing.take_back_growth(10).unwrap());
            assert_eq!(backing.write_at_end(&[2; 5], 10).unwrap_err().kind(), ErrorKind::InvalidInput);
            assert!(backing.take_back_growth(10).unwrap());
            assert!(!backing.truncate(20, 50).unwrap());
            backing.release_reserve(10).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), [1; 100]);
            assert!(backing.truncate(20, 100).unwrap());
            assert_eq!(backing.current_len().unwrap(), 20);
        }
    }

    #[test]
    fn a_file_that_ends_while_it_is_read_is_told_with_both_lengths() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, [0; 30]).unwrap();
        let backing = ArrayFile::open(&path, FileAccess::Read, Lock::None).unwrap();
        let e = backing.read_into(&mut [0; 20], 16).unwrap_err();
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
        let mut backing = ArrayFile::open(&path, FileAccess::Read, Lock::None).unwrap();
        assert!(!backing.is_quiescent().unwrap());
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(20).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!((backing.is_quiescent().unwrap(), backing.len()), (true, 20));
        file.set_modified(SystemTime::now() + Duration::from_secs(3600)).unwrap();
        assert!(!backing.is_quiescent().unwrap());
    }
}
