//! Guarded calls: while they run, a truncated file or a failing or full disk is an error and not the end of the process.

use ndarray::{ArrayView, ArrayViewMut, Dimension};

use crate::array::MmapArrayBase;
use crate::error::Result;
use crate::mode::Writable;

impl<A, D: Dimension, M> MmapArrayBase<A, D, M> {
    /// Calls `f` with a view of the array, and reports as an error what would otherwise end the process by a signal: the
    /// file was truncated, or its disk failed or is full.
    ///
    /// This covers every access to the array while `f` runs, by any view and in any thread: rayon's threads may do the work,
    /// and `|_| a.blocks().sum()` is guarded too. Guarded calls may be nested, of one array or of several. A panic in `f` is
    /// passed on to the caller.
    ///
    /// Other changes of the file are no errors: it may grow, be renamed, deleted or replaced at its path, or change its
    /// permissions. Where there is no file ([`load`](Self::load), no elements), `f` is simply called.
    ///
    /// # Errors
    /// - [`ErrorKind::Truncated`](crate::ErrorKind::Truncated): the file is now shorter than the array's end.
    /// - [`ErrorKind::Fault`](crate::ErrorKind::Fault): the file is as long as it was, but a part of it could not be read, or
    ///   stored to.
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io): the system does not report the file's length, or lets no handler be
    ///   installed.
    /// - [`ErrorKind::Poisoned`](crate::ErrorKind::Poisoned): an earlier call failed, and `f` was not called.
    ///
    /// After the first two, `f` ran to its end and its result is lost. From then on the array is poisoned: `flush` and later
    /// guarded calls return `Poisoned`. Open the file again.
    ///
    /// # What the array shows afterwards
    /// - After `Truncated`: zeros, in all of it or in what was cut off. The promise that its bytes stay was broken.
    /// - After `Fault`: what it showed before, except that pages that could not be read are zeros. If a store failed, the
    ///   array is copy-on-write from then on: what is stored later stays in memory. (That is Linux. On other systems a page
    ///   that could not be stored to is zeros.)
    ///
    /// The array therefore remains safe to read, and values that were read do not change, in
    /// [`scratch`](MmapArrayBase::scratch) and [`staged`](crate::Staged) arrays too. There is one exception, which nothing
    /// can prevent: a page that was read, and that the system has dropped from memory since, by itself. If the disk can no
    /// longer read that page, it is zeros at the next access (or, outside a guarded call, the end of the process). If the disk
    /// could not write it before, it is what the disk has: see [durability](crate::doc::durability).
    ///
    /// # What it does not notice
    /// A file that is truncated and has grown again before `f` ends, if nothing was read in between; a hole punched in the
    /// file; bytes that others overwrite. In these cases the array shows other bytes. A guarded call does not make a
    /// broken promise sound.
    ///
    /// # How it works
    /// On unix, the first guarded call of the process installs a handler for `SIGBUS` (on systems other than Linux also for
    /// `SIGSEGV`). Faults outside guarded calls go to the handler that was there before; if there was none, they end the
    /// process. A handler that is installed later is called first, and must call ours for faults that it does not know. A
    /// thread that blocks the signal is not covered. Neither is a child process that is forked inside a guarded call: it must
    /// make one of its own.
    ///
    /// On Windows it is a plain call: the system does not let a mapped file be truncated, and a failing disk ends the process.
    /// More: [platforms](crate::doc::platform).
    ///
    /// # Example: a file that is truncated while it is read
    /// ```
    /// use ndarray_mmap::{ErrorKind, MmapArray};
    ///
    /// # let path = std::env::temp_dir().join(format!("ndarray-mmap-truncated-{}.bin", std::process::id()));
    /// std::fs::write(&path, [1u8; 100_000])?;
    /// // SAFETY: the promise is broken below, on purpose; nothing is read after the guarded call.
    /// let a = unsafe { MmapArray::<u8>::open(&path)? };
    /// assert_eq!(a.guarded(|view| view.iter().map(|&x| u64::from(x)).sum::<u64>())?, 100_000);
    ///
    /// # #[cfg(unix)] {
    /// let truncated = a.guarded(|view| {
    ///     std::fs::OpenOptions::new().write(true).open(&path)?.set_len(10)?;
    ///     view[99_999];
    ///     Ok::<_, std::io::Error>(())
    /// });
    /// assert_eq!(truncated.unwrap_err().kind(), ErrorKind::Truncated);
    /// # }
    /// # drop(a);
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn guarded<R>(&self, f: impl FnOnce(ArrayView<'_, A, D>) -> R) -> Result<R> {
        self.storage().guarded(|| f(self.view()))
    }
}

impl<A, D: Dimension, M: Writable> MmapArrayBase<A, D, M> {
    /// Like [`guarded`](Self::guarded), with a view for writing.
    ///
    /// Stores to a sparse file (opened or created with [`preallocate(false)`](crate::MmapArrayOptions::preallocate), or
    /// sparse before) take disk space, and end in [`ErrorKind::Fault`](crate::ErrorKind::Fault) when the disk is full.
    ///
    /// # Errors
    /// Those of [`guarded`](Self::guarded). What `f` stored before the fault may be in the file; what it stored later is
    /// not.
    pub fn guarded_mut<R>(&mut self, f: impl FnOnce(ArrayViewMut<'_, A, D>) -> R) -> Result<R> {
        let (view, _, storage) = self.view_mut_and_storage();
        storage.guarded(|| f(view))
    }
}
