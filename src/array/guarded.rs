//! Calls during which a file that is cut, or a disk that fails or is full, is an error rather than the end.

use ndarray::{ArrayView, ArrayViewMut, Dimension};

use super::MmapArrayBase;
use crate::error::Result;
use crate::mode::Writable;

impl<A, D: Dimension, M> MmapArrayBase<A, D, M> {
    /// Calls `f` with a view of the array, and reports as an error what would otherwise end the process: that the file
    /// was cut, or that its disk failed or is full.
    ///
    /// Counts for all that is read of this array while `f` runs, by whatever view and in whatever thread: so rayon's
    /// threads may do the work, and `|_| a.blocks().sum()` is guarded too. Guarded calls may be nested, of one array or
    /// of several. A panic in `f` goes on to the caller.
    ///
    /// What happens to the file otherwise is no error: that it grows, gets another name or other permissions, or is
    /// deleted or replaced at its path. Where there is no file ([`load`](Self::load), no elements), there is nothing to
    /// fear, and `f` is simply called.
    ///
    /// # Errors
    /// - [`ErrorKind::Truncated`](crate::ErrorKind::Truncated): afterwards, the file is shorter than the array's end.
    /// - [`ErrorKind::Fault`](crate::ErrorKind::Fault): the file is as long as it was, but some of it could not be read, or
    ///   stored to.
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): the system does not say how long the file is, or lets no handler be installed.
    /// - [`ErrorKind::Poisoned`](crate::ErrorKind::Poisoned): an earlier call failed, and `f` was not called.
    ///
    /// With the first two, `f` ran to its end, and its result is gone. From then on the array is poisoned: `flush` and later
    /// guarded calls say so. Open the file anew.
    ///
    /// # What the array shows afterwards
    /// - After `Truncated`, zeros in all of it, or in what was cut off: the promise that its bytes stay was broken.
    /// - After `Fault`, what it showed before, but for pages that could not be read, which are zeros. Where it was storing
    ///   that failed, the array is copy-on-write from then on: what is stored later stays in memory. (So on Linux. Elsewhere
    ///   a page that could not be stored to is zeros.)
    ///
    /// So it remains safe to look at, and what was seen does not change, in [`scratch`](MmapArrayBase::scratch) and
    /// [`staged`](crate::Staged) arrays too. There is one exception, which nobody can mend: a page that was seen, and that the
    /// system has dropped from memory since, by itself. If the disk can no longer read it, it is zeros when it is looked at
    /// again (or, without a guarded call, the end of the process); if the disk could not write it before, it is what the
    /// disk has: see [durability](crate::doc::durability).
    ///
    /// # What it does not see
    /// A file that is cut and has grown again before `f` ends, if nothing was read in between; a hole punched in the
    /// file; bytes overwritten by others. All of them just show other bytes. It makes nothing sound that is not:
    /// the promise made when the array was opened still holds.
    ///
    /// # How it works
    /// On unix, the first guarded call of the process installs a handler of `SIGBUS` (other systems than Linux: and
    /// `SIGSEGV`). Faults outside of guarded calls go to the handler that was there before, and end the process if there
    /// was none. A handler installed later has the last word, and must call ours for what it does not know. A thread
    /// that blocks the signal is not helped, nor is a child process that is forked in a guarded call: it has to make one of
    /// its own.
    ///
    /// Elsewhere it is a plain call. Windows does not let a mapped file be cut; a failing disk ends the process.
    /// More: [platforms](crate::doc::platform).
    ///
    /// # Example: a file that is cut while it is read
    /// ```
    /// use ndarray_mmap::{ErrorKind, MmapArray};
    ///
    /// let path = std::env::temp_dir().join("ndarray-mmap-cut.bin");
    /// std::fs::write(&path, [1u8; 100_000])?;
    /// // SAFETY: it does not hold, as will be seen; but nothing is looked at after the guarded call.
    /// let a = unsafe { MmapArray::<u8>::open(&path)? };
    /// assert_eq!(a.guarded(|view| view.iter().map(|&x| u64::from(x)).sum::<u64>())?, 100_000);
    ///
    /// # #[cfg(unix)] {
    /// let cut = a.guarded(|view| {
    ///     std::fs::OpenOptions::new().write(true).open(&path)?.set_len(10)?;
    ///     view[99_999];
    ///     Ok::<_, std::io::Error>(())
    /// });
    /// assert_eq!(cut.unwrap_err().kind(), ErrorKind::Truncated);
    /// # }
    /// # drop(a);
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn guarded<R>(&self, f: impl FnOnce(ArrayView<'_, A, D>) -> R) -> Result<R> {
        self.storage.guarded(|| f(self.view()))
    }
}

impl<A, D: Dimension, M: Writable> MmapArrayBase<A, D, M> {
    /// Like [`guarded`](Self::guarded), with a view for writing.
    ///
    /// Stores to a file that has no blocks on the disk yet (opened or created without
    /// [`preallocate`](crate::MmapArrayOptions::preallocate), or sparse already) need space, and so may end in
    /// [`ErrorKind::Fault`](crate::ErrorKind::Fault) when the disk is full.
    ///
    /// # Errors
    /// Those of [`guarded`](Self::guarded). What `f` stored before the fault may be in the file, what it stored later is
    /// not.
    pub fn guarded_mut<R>(&mut self, f: impl FnOnce(ArrayViewMut<'_, A, D>) -> R) -> Result<R> {
        let (view, _, storage) = self.view_mut_and_pages();
        storage.guarded(|| f(view))
    }
}
