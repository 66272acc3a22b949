//! Advisory locks, so that two arrays on one file that would break each other's promise notice each other.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};

use super::grow_marker;
use crate::error::{Error, ErrorKind, Result, error};
use crate::mode::FileAccess;
use crate::sys;

/// Which advisory lock a file opened by path takes: shared for reading (and copy-on-write), exclusive for writing. It is
/// held until the array is closed or dropped, and never waited for.
///
/// Two arrays in one process conflict as those of two processes do. The lock is `flock` on unix: it excludes programs that
/// take one too, and no others (NumPy takes none). On a handle of the caller's it works differently: see
/// [`map`](crate::MmapArrayOptions::map).
///
/// ```
/// use ndarray_mmap::{ErrorKind, Lock, MmapArray, MmapArrayMut};
///
/// # let path = std::env::temp_dir().join(format!("ndarray-mmap-lock-{}.bin", std::process::id()));
/// // SAFETY: nobody else knows this file.
/// let writer = unsafe { MmapArrayMut::<u8>::create(&path, 8)? };
/// let second = unsafe { MmapArray::<u8>::open(&path) };
/// assert_eq!(second.unwrap_err().kind(), ErrorKind::Locked);
/// // SAFETY: `writer` is not written to while `reader` lives.
/// let reader = unsafe { MmapArray::<u8>::options().lock(Lock::None).open(&path)? };
/// assert_eq!(reader.len(), writer.len());
/// # drop((reader, writer));
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lock {
    /// Takes the lock, and goes on without it if the file system has no locks. A conflict is [`ErrorKind::Locked`] at once.
    #[default]
    BestEffort,
    /// Takes the lock. A file system without locks is [`ErrorKind::Unsupported`], a conflict [`ErrorKind::Locked`].
    Required,
    /// Takes no lock. For processes that write disjoint parts of one file, and for readers beside a live writer that keep
    /// the promise of the constructor by other means.
    ///
    /// The writers must then agree on which of them makes the file longer or shorter. Growing and shrinking check its length
    /// right before they set it, and leave what another process has added. But in the moment between the check and the
    /// system call only a lock keeps others out. Without a lock, what a killed append left behind is not removed either: see
    /// [`append`](crate::MmapArrayBase::append).
    None,
}

impl Lock {
    /// Returns whether the lock was taken. Never upgrades a lock: a failed upgrade would lose the one that was there.
    pub(super) fn take(self, file: &File, access: FileAccess) -> Result<bool> {
        if self == Lock::None || !sys::HAS_ADVISORY_LOCKS {
            return Ok(false);
        }
        let taken = sys::retry_on_interrupt(|| {
            let taken = if access.writes_file() { file.try_lock() } else { file.try_lock_shared() };
            match taken {
                Ok(()) => Ok(true),
                Err(TryLockError::WouldBlock) => Ok(false),
                Err(TryLockError::Error(e)) => Err(e),
            }
        });
        match taken {
            Ok(true) => Ok(true),
            Ok(false) => Err(locked(file, access)),
            Err(e) if !sys::lacks_locks(&e) => {
                Err(Error::io("cannot lock the file (`Lock::None` opens it without a lock)", e))
            }
            Err(_) if self == Lock::BestEffort => Ok(false),
            Err(e) => {
                Err(Error::new(ErrorKind::Unsupported, "the file cannot be locked, and `Lock::Required` was asked for")
                    .with_source(e))
            }
        }
    }

    /// On systems without advisory locks, the sharing mode of the handle takes their place.
    pub(super) fn share(self, options: &mut OpenOptions, access: FileAccess) {
        let with_readers = self == Lock::None || !access.writes_file();
        sys::share(options, with_readers, self == Lock::None);
    }
}

/// An open file that removes its mark and then releases its lock when it is dropped. Closing it would not suffice: the
/// lock belongs to all copies of the descriptor, and a child process that another thread is just starting has one for a
/// moment.
///
/// A forked child has a copy of this value too. It only closes its descriptor: lock and mark belong to the process that took
/// them.
#[derive(Debug)]
pub(super) struct LockedFile {
    file: File,
    locked: bool,
    /// Whether nobody else has a lock, so that no program that takes locks writes to the file.
    exclusive: AtomicBool,
    /// Whether this value marked the file.
    marked: bool,
    /// `None` until the first mark is set.
    identity: Option<grow_marker::Identity>,
    process: u32,
}

impl LockedFile {
    /// `locked`: the lock was taken on this file, and not on a handle of the caller's.
    pub(super) fn new(file: File, locked: bool) -> Self {
        Self {
            file,
            locked,
            exclusive: AtomicBool::new(false),
            marked: false,
            identity: None,
            process: std::process::id(),
        }
    }

    /// Notes what [`Lock::take`] returned. A lock for reading is shared, not exclusive.
    pub(super) fn note_lock(&self, taken: bool, access: FileAccess) {
        self.exclusive.store(taken && access.writes_file(), Ordering::Relaxed);
    }

    pub(super) fn is_exclusive(&self) -> bool {
        self.exclusive.load(Ordering::Relaxed)
    }

    /// Whether this process opened the file itself, and was not forked from one that did.
    pub(super) fn is_of_this_process(&self) -> bool {
        self.process == std::process::id()
    }

    /// See [`grow_marker`].
    pub(super) fn mark_growth(&mut self, header: &[u8], reach: u64) {
        // Without an identity there is no mark, as on a file system without attributes.
        self.identity = self.identity.or_else(|| grow_marker::Identity::of(&self.file).ok());
        if let Some(identity) = self.identity {
            grow_marker::mark(&self.file, identity, header, reach);
            self.marked = true;
        }
    }

    pub(super) fn unmark_growth(&mut self) {
        // If it cannot be removed now, it is tried again when the file is closed.
        self.marked = self.marked && !grow_marker::unmark(&self.file);
    }

    pub(super) fn interrupted_growth(&self, header: &[u8]) -> io::Result<Option<u64>> {
        grow_marker::reach(&self.file, header)
    }

    /// Removes a mark that a killed process has left, if there is nothing that it would mark.
    pub(super) fn remove_mark(&mut self) {
        self.marked = self.marked || grow_marker::is_marked(&self.file);
        self.unmark_growth();
    }

    /// The mark stays when the file is closed.
    pub(super) fn keep_growth_mark(&mut self) {
        self.marked = false;
    }
}

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        if !(self.marked || self.locked) || !self.is_of_this_process() {
            return;
        }
        self.unmark_growth();
        if self.locked {
            // A destructor can report no error, and the file is closed next.
            let _ = self.file.unlock();
        }
    }
}

fn locked(file: &File, access: FileAccess) -> Error {
    let wanted = if access.writes_file() { "an exclusive" } else { "a shared" };
    let holder = if sys::holds_lock(file) {
        "this process has the file open already, perhaps in a variable that a later one of the same name hides: it keeps the \
         lock until it is dropped or closed"
    } else {
        "the file is open elsewhere, in this process or another"
    };
    error!(Locked, "{wanted} lock was refused: {holder}; `Lock::None` opens it all the same")
}

/// On systems whose handles exclude each other, a conflict is an error of opening the file.
pub(super) fn cannot_open(e: io::Error) -> Error {
    if sys::is_sharing_violation(&e) {
        return Error::new(
            ErrorKind::Locked,
            "the file is open elsewhere, in this process or another; `Lock::None` opens it if they share it",
        );
    }
    Error::io("cannot open", e)
}
