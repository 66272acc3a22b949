//! Growing and shrinking a file: disk space that is allocated before it is needed, and growth that is undone, or found
//! again after a kill.

use std::fs::File;
use std::io;
use std::ops::RangeInclusive;

use super::{ArrayFile, regular};
use crate::error::{Error, Result, error};
use crate::sys;

/// What is known about disk space beyond the end of a file, and about growth in progress.
#[derive(Debug)]
pub(super) struct Growth {
    /// Whether to allocate disk space before it is needed.
    preallocate: bool,
    /// Up to which byte of the file disk space is set aside, beyond its end.
    reserved: u64,
    /// Whether any space may be set aside, also by an attempt that failed.
    may_have_slack: bool,
    /// The length up to which growing, successful or not, may have extended the file.
    grown_to: u64,
    /// Whether the file system is known not to support setting space aside.
    cannot_reserve: bool,
}

impl Default for Growth {
    fn default() -> Self {
        Self { preallocate: true, reserved: 0, may_have_slack: false, grown_to: 0, cannot_reserve: false }
    }
}

impl Growth {
    pub(super) fn forget_reserve(&mut self) {
        self.reserved = 0;
    }
}

impl ArrayFile {
    /// Sets whether growing allocates disk space at once. Otherwise the file is sparse.
    pub(crate) fn preallocate(&mut self, preallocate: bool) {
        self.growth.preallocate = preallocate;
    }

    /// Makes the file at least `len` bytes long, zero-filled. Unless [`preallocate`](Self::preallocate) is off, disk space is
    /// allocated, so that a full disk is an error now and not a crash later. After an error the length is what it was, if
    /// it could be restored.
    ///
    /// # Errors
    /// `Truncated` if the file is shorter than the last known length; `InvalidInput` if it is longer.
    pub(crate) fn grow(&mut self, len: u64) -> Result<()> {
        if len <= self.len {
            return Ok(());
        }
        let growth = &mut self.growth;
        let reserved = growth.preallocate && len <= growth.reserved;
        growth.may_have_slack |= growth.preallocate;
        extend(&self.file, self.len, len, growth.preallocate && !reserved, &mut growth.grown_to)?;
        self.set_known_len(len);
        Ok(())
    }

    /// Writes from the end on, which makes the file longer.
    ///
    /// # Errors
    /// `Truncated`, or `InvalidInput` if another process has added to the file. Nothing is written then.
    pub(crate) fn write_at_end(&mut self, bytes: &[u8], end: u64) -> Result<()> {
        let len = end + bytes.len() as u64;
        check_size_limit(len)?;
        check_len(&self.file, end)?;
        self.growth.grown_to = len;
        sys::write_all_at(&self.file, bytes, end).map_err(|e| Error::io("cannot write", e))?;
        self.set_known_len(len);
        Ok(())
    }

    /// After growing failed: truncates the file to its length before, if nobody else has changed its length. Returns `false`
    /// if the file may still hold bytes that this value wrote and that are not part of the array.
    pub(crate) fn undo_growth(&mut self, len: u64) -> Result<bool> {
        let most = std::mem::take(&mut self.growth.grown_to);
        Ok(most <= len || self.truncate(len, most)?)
    }

    /// Sets disk space aside beyond the end, in steps that grow with the file, so that growing by many small blocks is
    /// cheap. The length does not change. If there is no room, nothing is done.
    pub(crate) fn reserve(&mut self, len: u64) {
        /// 1 MiB: enough for many appends of a row or two, and negligible on a disk.
        const SMALLEST_STEP: u64 = 1 << 20;
        let growth = &mut self.growth;
        if !growth.preallocate || growth.cannot_reserve || len <= growth.reserved.max(self.len) {
            return;
        }
        let wanted = len.saturating_add((len / 8).max(SMALLEST_STEP)).min(i64::MAX as u64);
        growth.may_have_slack = true;
        match sys::allocate(&self.file, self.len, wanted - self.len, true) {
            Ok(()) => growth.reserved = wanted,
            Err(e) if e.kind() == io::ErrorKind::Unsupported => {
                (growth.cannot_reserve, growth.may_have_slack) = (true, false);
            }
            // ext4 keeps what it allocated before it refused the rest. If this cannot be released now, `may_have_slack`
            // makes closing the array try again.
            Err(_) => {
                growth.may_have_slack = !truncate(&self.file, self.len, self.len..=self.len).is_ok_and(|done| done)
            }
        }
    }

    /// Frees the disk space set aside beyond `end`, if the file ends there. (If it is longer, rows that another process has
    /// added lie in that space; if it is shorter, it was truncated, and is not extended.)
    pub(crate) fn release_reserve(&mut self, end: u64) -> Result<()> {
        if !self.growth.may_have_slack || !self.file.is_of_this_process() {
            return Ok(());
        }
        let released = truncate(&self.file, end, end..=end);
        released.map(drop).map_err(|e| Error::io("cannot give back the space set aside for growing", e))
    }

    /// Truncates the file to `len` bytes if its length is from `len` to `most`. Otherwise another process has added to it,
    /// or truncated it further: then nothing is done, and the result is `false`.
    pub(crate) fn truncate(&mut self, len: u64, most: u64) -> Result<bool> {
        if self.refresh_len()? == len {
            return Ok(true);
        }
        let done = truncate(&self.file, len, len..=most).map_err(|e| Error::io("cannot truncate the file", e))?;
        if done {
            (self.growth.reserved, self.growth.grown_to) = (0, 0);
            self.set_known_len(len);
        }
        Ok(done)
    }

    fn set_known_len(&mut self, len: u64) {
        self.len = len;
        self.note_unsynced();
    }

    /// Marks a `.npy` file that is about to hold bytes up to `reach` that its header does not count; `header` is the header
    /// that the file has during that time. After a kill, [`interrupted_growth`](Self::interrupted_growth) finds the mark.
    pub(crate) fn mark_growth(&mut self, header: &[u8], reach: u64) {
        if self.can_trust_marks() {
            self.file.mark_growth(header, reach);
        }
    }

    /// Whether nobody else can be growing the file, so that the process that left a mark is gone.
    fn can_trust_marks(&self) -> bool {
        !self.unnamed && self.file.is_exclusive()
    }

    /// Removes the mark of a `.npy` file that ends with its array, at `end`: no killed growth has left anything behind.
    pub(crate) fn remove_stale_mark(&mut self, end: u64) {
        if self.len == end && self.can_trust_marks() {
            self.file.remove_mark();
        }
    }

    /// Removes the mark: bytes that follow the array from now on are somebody else's.
    pub(crate) fn unmark_growth(&mut self) {
        self.file.unmark_growth();
    }

    /// Keeps the mark when the file is closed, because there are bytes that no header counts.
    pub(crate) fn keep_growth_mark(&mut self) {
        self.file.keep_growth_mark();
    }

    /// Returns how far a growth of this file was to reach that was killed before the header counted it. `None` unless
    /// `header` is the one that it was to replace.
    pub(crate) fn interrupted_growth(&self, header: &[u8]) -> Result<Option<u64>> {
        if !self.can_trust_marks() {
            return Ok(None);
        }
        self.file.interrupted_growth(header).map_err(|e| Error::io("cannot read the mark of a growing file", e))
    }

    /// Removes what a killed growth has left from `end` on, and its mark, if the file is at most `len` bytes long. Returns
    /// whether it did.
    pub(crate) fn remove_interrupted_growth(&mut self, end: u64, len: u64) -> Result<bool> {
        let removed = self.truncate(end, len)?;
        if removed {
            self.file.remove_mark();
        }
        Ok(removed)
    }
}

/// Checks that a file still has the expected length.
fn check_len(file: &File, expected: u64) -> Result<()> {
    match regular(file)?.len() {
        len if len < expected => Err(Error::truncated(len, expected)),
        len if len > expected => Err(error!(
            InvalidInput,
            "the file was {expected} bytes long, and is {len} now: somebody else has just added to it"
        )),
        _ => Ok(()),
    }
}

/// Grows a file from `old` to `new` bytes. After an error the file is as it was, or its length is at most `grown_to`.
///
/// # Errors
/// `Truncated` if it has fewer than `old`, `InvalidInput` if it has more.
pub(super) fn extend(file: &File, old: u64, new: u64, preallocate: bool, grown_to: &mut u64) -> Result<()> {
    if new == old {
        return Ok(());
    }
    check_size_limit(new)?;
    check_len(file, old)?;
    // Allocate the space first and then set the length: so bytes that others add meanwhile are not taken for these.
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
        // ext4 keeps what it allocated before the space ran out.
        let _ = truncate(file, old, old..=(*grown_to).max(old));
        let error = error!(Io, "cannot grow the file from {old} to {new} bytes").with_source(e);
        match regular(file) {
            Ok(metadata) if metadata.len() == old => error,
            _ => error.and("and it has another length now"),
        }
    })
}

/// Sets the length of a file if its present length is in `now`. Otherwise another process has set it, and it stays. Returns
/// whether it was set.
///
/// Between the check and the system call there is a moment in which only a lock keeps others out.
fn truncate(file: &File, len: u64, now: RangeInclusive<u64>) -> io::Result<bool> {
    if !now.contains(&file.metadata()?.len()) {
        return Ok(false);
    }
    file.set_len(len)?;
    Ok(true)
}

/// Allocates disk space from the end of a file on. If the file system cannot do that, the file stays sparse. If it can do
/// it only by extending the file, `grown_to` is the length that the file may have then.
fn allocate(file: &File, offset: u64, len: u64, grown_to: &mut u64) -> io::Result<()> {
    let is_unsupported = |result: &io::Result<()>| matches!(result, Err(e) if e.kind() == io::ErrorKind::Unsupported);
    let allocated = sys::allocate(file, offset, len, true);
    if !is_unsupported(&allocated) {
        return allocated;
    }
    // NFS has no call that leaves the length unchanged.
    let before = std::mem::replace(grown_to, offset + len);
    let allocated = sys::allocate(file, offset, len, false);
    if is_unsupported(&allocated) {
        // Nothing was done, so a file that is longer now is somebody else's doing.
        *grown_to = before;
        return Ok(());
    }
    allocated
}

/// Growing a file past this limit would end the process (`SIGXFSZ`) instead of failing.
fn check_size_limit(len: u64) -> Result<()> {
    match sys::file_size_limit() {
        Some(limit) if len > limit => {
            Err(error!(Io, "a file of {len} bytes is over the limit of {limit} bytes (RLIMIT_FSIZE)")
                .with_source(io::ErrorKind::FileTooLarge.into()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::file::Lock;
    use crate::mode::FileAccess;

    /// Without a lock, others may change the length between two checks of it.
    #[test]
    fn what_others_have_added_since_is_not_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for preallocate in [false, true] {
            std::fs::write(&path, [0; 10]).unwrap();
            let mut file = ArrayFile::open(&path, FileAccess::ReadWrite, Lock::None).unwrap();
            file.preallocate(preallocate);
            file.reserve(20);
            std::fs::write(&path, [1; 100]).unwrap();
            assert_eq!(file.grow(50).unwrap_err().kind(), ErrorKind::InvalidInput);
            assert!(file.undo_growth(10).unwrap());
            assert_eq!(file.write_at_end(&[2; 5], 10).unwrap_err().kind(), ErrorKind::InvalidInput);
            assert!(file.undo_growth(10).unwrap());
            assert!(!file.truncate(20, 50).unwrap());
            file.release_reserve(10).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), [1; 100]);
            assert!(file.truncate(20, 100).unwrap());
            assert_eq!(file.current_len().unwrap(), 20);
        }
    }
}
