//! Arrays whose file appears at its path whole, or not at all.

use std::path::Path;

use bytemuck::AnyBitPattern;
use ndarray::{Dimension, ShapeBuilder};

use crate::access::{Admits, Staging};
use crate::array::MmapArrayBase;
use crate::error::{Error, ErrorKind, Result};
use crate::file::{Backing, Draft, Target};

impl<A: AnyBitPattern, D: Dimension> MmapArrayBase<A, D, Staging>
where
    Staging: Admits<A>,
{
    /// An array of this shape, all zero, in a file without a name, on the file system of `path`: to be filled, grown,
    /// and then put at that path by [`publish`](Self::publish). Dropped before, or killed, it leaves nothing behind.
    ///
    /// Safe: nobody else can reach the file before it is published, and then it is no longer mapped here.
    ///
    /// # Errors
    /// - [`ErrorKind::Unsupported`] on a file system (or system) that has no files without a name.
    /// - [`ErrorKind::NotRegularFile`] if there is something at `path` that is no regular file.
    /// - [`ErrorKind::Io`] if the existing file may not be written, storage is full ...
    /// - [`ErrorKind::Overflow`].
    ///
    /// # Example: replacing a result file, whoever reads it meanwhile
    /// ```
    /// use ndarray_mmap::{MmapArray, Staged};
    ///
    /// # let folder = std::env::temp_dir().join("ndarray-mmap-stage");
    /// # std::fs::create_dir_all(&folder)?;
    /// let path = folder.join("result.bin");
    /// let mut result = Staged::<f64>::stage(&path, (2, 3))?;
    /// result.fill(1.5);
    /// assert!(!path.exists());
    /// result.publish()?; // on the disk, at its path, when it returns
    /// assert_eq!(MmapArray::<f64>::load(&path)?.sum(), 9.0);
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stage<P: AsRef<Path>, Sh: ShapeBuilder>(path: P, shape: Sh) -> Result<MmapArrayBase<A, Sh::Dim, Staging>> {
        let path = path.as_ref();
        Self::options().shape(shape).stage(path).map_err(|e| e.with_path(path))
    }
}

impl<A, D: Dimension> MmapArrayBase<A, D, Staging> {
    /// Brings the array to the disk, releases it, and puts its file at its path in one step, in place of what is there;
    /// then brings the name to the disk too. Whoever opens the path at any moment finds the old file or the new one,
    /// whole; whoever has the old one mapped keeps it.
    ///
    /// Links, permissions, and what is no regular file are treated as by [`create`](MmapArrayBase::create).
    ///
    /// # Errors
    /// Those of [`flush`](Self::flush) and of [`create`](MmapArrayBase::create); the path is then as it was, unless only the
    /// very last step failed, and the staged array is gone.
    pub fn publish(self) -> Result<()> {
        self.publish_by(Target::replace, Draft::publish)
    }

    /// Like [`publish`](Self::publish), at a path where nothing may be.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] (already exists), and those of [`publish`](Self::publish).
    pub fn publish_new(self) -> Result<()> {
        self.publish_by(Target::fresh, Draft::publish_new)
    }

    fn publish_by(
        self,
        resolve: impl FnOnce(&Path) -> Result<Target>,
        publish: impl FnOnce(Draft, Target) -> Result<Backing>,
    ) -> Result<()> {
        self.flush()?;
        let (Some(path), Some(backing)) = self.into_backing() else {
            return Err(Error::new(ErrorKind::Unsupported, "the array has no file to publish"));
        };
        let published = resolve(&path).and_then(|target| {
            backing.give_back_reserve()?;
            let draft = backing.into_draft();
            draft.inherit(&target)?;
            publish(draft, target)?.sync_metadata()
        });
        published.map_err(|e| e.with_path(&path))
    }
}
