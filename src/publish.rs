//! Staged arrays: their file appears at its path atomically.

use std::path::Path;

use ndarray::Dimension;

use crate::array::MmapArrayBase;
use crate::error::{Error, ErrorKind, Result};
use crate::file::{Destination, NotPublished, PendingFile, Published};
use crate::mode::Staging;

impl<A, D: Dimension> MmapArrayBase<A, D, Staging> {
    /// Flushes the array, closes it, and puts its file at its path atomically, in place of what is there; then flushes the name
    /// too. A process that opens the path at any moment finds the old file or the new one, whole. One that has the old file
    /// mapped keeps it.
    ///
    /// Symbolic links, permissions, and anything but a regular file are treated as by [`create`](MmapArrayBase::create). Some
    /// file systems make unnamed files but cannot name them; there the array is copied to a file that has a name, which
    /// takes time, and its disk space twice.
    ///
    /// # Errors
    /// Those of [`flush`](Self::flush) and of [`create`](MmapArrayBase::create). After an error
    /// the staged array is gone and the path is unchanged, unless only the final sync of the folder failed.
    pub fn publish(self) -> Result<()> {
        self.publish_by(Destination::replace, PendingFile::publish_shared)
    }

    /// Like [`publish`](Self::publish), at a path where nothing may be.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] (already exists), and those of [`publish`](Self::publish).
    pub fn publish_new(self) -> Result<()> {
        self.publish_by(Destination::vacant, PendingFile::publish_new)
    }

    fn publish_by(
        self,
        resolve: impl FnOnce(&Path) -> Result<Destination>,
        publish: impl Fn(PendingFile, Destination) -> Published,
    ) -> Result<()> {
        self.check_poison()?;
        let (Some(path), Some(mut file)) = self.into_file() else {
            return Err(Error::new(ErrorKind::Unsupported, "the array has no file to publish"));
        };
        let published = resolve(&path).and_then(|destination| {
            file.release_reserve(file.len())?;
            let pending = file.into_pending();
            pending.inherit(&destination)?;
            // The whole file, the header included, is on the disk before the name is.
            pending.sync()?;
            pending.share();
            let published = match publish(pending, destination.clone()) {
                Err(NotPublished::Nameless(pending, _)) => publish(pending.named_copy(&destination)?, destination),
                published => published,
            };
            published?.sync_metadata()
        });
        published.map_err(|e| e.with_path(&path))
    }
}
