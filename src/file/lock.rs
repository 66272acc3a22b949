//! Advisory locks, so that two openings of one file that would break each other's promise find out.

use std::fs::{File, TryLockError};
use std::ops::Deref;

use super::growing;
use crate::access::Rights;
use crate::error::{Error, ErrorKind, Result};

/// What an opening by path asks of the file's advisory lock: shared for reading (and copy-on-write), exclusive for
/// writing, held until the array is closed or dropped, and never waited for.
///
/// Two openings in one process conflict as two processes do. The lock is `flock` on unix: it excludes those who ask
/// for one too, and nobody else (NumPy does not ask). On a handle of the caller's it works otherwise:
/// [`map`](crate::MmapArrayOptions::map) tells how.
///
/// ```
/// use ndarray_mmap::{ErrorKind, Lock, MmapArray, MmapArrayMut};
///
/// let path = std::env::temp_dir().join("ndarray-mmap-lock.bin");
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
    /// Take the lock; a file system without locks is fine. A conflict is [`ErrorKind::Locked`] at once.
    #[default]
    BestEffort,
    /// Take the lock; a file system without locks is [`ErrorKind::Unsupported`].
    Required,
    /// Take no lock: for processes that write disjoint parts of one file, or readers beside a live writer that keep
    /// the promise of the door by other means.
    ///
    /// Those who write then agree on who makes the file longer or shorter. Growing and shrinking look at its length
    /// right before they set it, and leave what somebody else has added; but in the moment between the two nothing but a
    /// lock keeps others out.
    None,
}

impl Lock {
    /// Never upgrades: a failed upgrade would lose the lock that was there.
    pub(super) fn take(self, file: &File, rights: Rights) -> Result<()> {
        if self == Lock::None || cfg!(windows) {
            return Ok(());
        }
        let taken = if rights.writes_file() { file.try_lock() } else { file.try_lock_shared() };
        match taken {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(locked(rights)),
            Err(TryLockError::Error(_)) if self == Lock::BestEffort => Ok(()),
            Err(TryLockError::Error(e)) => {
                Err(Error::new(ErrorKind::Unsupported, "the file cannot be locked, and `Lock::Required` was asked for")
                    .with_source(e))
            }
        }
    }

    /// What others may do with the file meanwhile, in the words of `CreateFileW`.
    #[cfg(windows)]
    pub(super) fn share_mode(self, rights: Rights) -> u32 {
        const READ: u32 = 1;
        const WRITE: u32 = 2;
        const DELETE: u32 = 4;
        match self {
            Lock::None => READ | WRITE | DELETE,
            _ if rights.writes_file() => DELETE,
            _ => READ | DELETE,
        }
    }
}

/// An open file that gives its lock back when it is dropped, and before that takes back its mark. Closing it would not
/// do: the lock belongs to all copies of the descriptor, and a child process that another thread is just starting has
/// one for a moment.
#[derive(Debug)]
pub(super) struct Held {
    file: File,
    locked: bool,
    /// Whether this value marked the file.
    growing: bool,
}

impl Held {
    /// `locked`: the lock is this file's own, not that of a handle of the caller's.
    pub(super) fn new(file: File, locked: bool) -> Self {
        Self { file, locked, growing: false }
    }

    /// See [`growing`].
    pub(super) fn mark_growing(&mut self) {
        if !self.growing {
            growing::mark(&self.file);
            self.growing = true;
        }
    }

    pub(super) fn was_left_growing(&self) -> bool {
        !self.growing && growing::is_marked(&self.file)
    }

    /// The mark stays when the file is closed.
    pub(super) fn leave_growing(&mut self) {
        self.growing = false;
    }
}

impl Deref for Held {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.growing {
            growing::unmark(&self.file);
        }
        if self.locked {
            // There is nobody to tell; the file is closed next.
            let _ = self.file.unlock();
        }
    }
}

fn locked(rights: Rights) -> Error {
    let wanted = if rights.writes_file() { "an exclusive" } else { "a shared" };
    Error::new(
        ErrorKind::Locked,
        format!(
            "{wanted} lock was refused: the file is open elsewhere, in this process or another; `Lock::None` opens it \
             all the same"
        ),
    )
}

/// On Windows a conflict shows when the file is opened.
pub(super) fn sharing_conflict(error: Error) -> Error {
    #[cfg(windows)]
    {
        const ERROR_SHARING_VIOLATION: i32 = 32;
        use std::error::Error as _;
        let source = error.source().and_then(|e| e.downcast_ref::<std::io::Error>());
        if source.and_then(std::io::Error::raw_os_error) == Some(ERROR_SHARING_VIOLATION) {
            return Error::new(
                ErrorKind::Locked,
                "the file is open elsewhere, in this process or another; `Lock::None` opens it if they share it",
            );
        }
    }
    error
}
