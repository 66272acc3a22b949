//! The constructors of an array: each forwards to the options of its mode.
//!
//! # Safety
//! Nothing here dereferences anything: the `unsafe` doors hand their caller's promise on to `options`.
#![allow(unsafe_code)]

use std::path::Path;

use bytemuck::AnyBitPattern;
use ndarray::{Dimension, ShapeBuilder};

use crate::array::MmapArrayBase;
use crate::error::Result;
use crate::mode::{Loadable, OpenExisting, ReadWrite, Staging, Supports};
use crate::npy::NpyElement;
use crate::open::MmapArrayOptions;

impl<A: AnyBitPattern, D: Dimension, M: Supports<A> + OpenExisting> MmapArrayBase<A, D, M> {
    /// Offset, shape, order, lock: how to open an array in this mode.
    pub fn options() -> MmapArrayOptions<A, D, M> {
        MmapArrayOptions::new()
    }

    /// Maps a whole file as an array of one axis.
    ///
    /// # Errors
    /// Those of [`MmapArrayOptions::open`]; [`ErrorKind::ShapeMismatch`](crate::ErrorKind::ShapeMismatch) unless `D` is `IxDyn` or `Ix1`.
    ///
    /// # Safety
    /// As for [`MmapArrayOptions::open`]: while the array lives, no byte of it changes in the file except through it,
    /// and the file is not cut below its end.
    pub unsafe fn open<P: AsRef<Path>>(path: P) -> Result<Self> {
        // SAFETY: the same promise.
        unsafe { Self::options().open(path) }
    }

    /// Maps the array of a `.npy` file: element type, shape and order are its header's.
    ///
    /// # Errors
    /// Those of [`MmapArrayOptions::open_npy`].
    ///
    /// # Safety
    /// As for [`MmapArrayOptions::open`]: while the array lives, no byte of it changes in the file except through it,
    /// and the file is not cut below its end.
    ///
    /// # Example
    /// ```
    /// use ndarray::Ix2;
    /// use ndarray_mmap::{ErrorKind, MmapArray, MmapArrayMut};
    ///
    /// let path = std::env::temp_dir().join("ndarray-mmap-open.npy");
    /// // SAFETY: nobody else knows this file.
    /// let mut new = unsafe { MmapArrayMut::<f64>::create_npy(&path, (2, 3))? };
    /// new.fill(0.5);
    /// new.close()?;
    ///
    /// // SAFETY: nobody writes or cuts these bytes of the file while `a` lives.
    /// let a = unsafe { MmapArray::<f64, Ix2>::open_npy(&path)? };
    /// assert_eq!((a.dim(), a.offset(), a.sum()), ((2, 3), 128, 3.0));
    ///
    /// let err = MmapArray::<f32>::load_npy(&path).unwrap_err();
    /// assert_eq!(err.kind(), ErrorKind::DtypeMismatch);
    /// # drop(a);
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub unsafe fn open_npy<P: AsRef<Path>>(path: P) -> Result<Self>
    where
        A: NpyElement,
    {
        // SAFETY: the same promise.
        unsafe { Self::options().open_npy(path) }
    }
}

impl<A: AnyBitPattern, D: Dimension, M: Supports<A> + Loadable> MmapArrayBase<A, D, M> {
    /// Reads a whole file into private memory, as an array of one axis. Safe, on any file system.
    ///
    /// # Errors
    /// Those of [`MmapArrayOptions::load`]; [`ErrorKind::ShapeMismatch`](crate::ErrorKind::ShapeMismatch) unless `D` is `IxDyn` or `Ix1`.
    pub fn load<P: AsRef<Path>>(path: P) -> Result<Self> {
        Self::options().load(path)
    }

    /// Reads the array of a `.npy` file into private memory. Safe, on any file system.
    ///
    /// # Errors
    /// Those of [`MmapArrayOptions::load_npy`].
    pub fn load_npy<P: AsRef<Path>>(path: P) -> Result<Self>
    where
        A: NpyElement,
    {
        Self::options().load_npy(path)
    }
}

impl<A: AnyBitPattern, D: Dimension> MmapArrayBase<A, D, ReadWrite>
where
    ReadWrite: Supports<A>,
{
    /// Creates a file of this shape, or replaces the one that is there, and maps it, all zero. The shape fixes the
    /// dimension and the order: see [`MmapArrayOptions::create`].
    ///
    /// # Errors
    /// Those of [`MmapArrayOptions::create`].
    ///
    /// # Safety
    /// As for [`MmapArrayOptions::create`]: while the array lives, no byte of it changes in the file except through
    /// it, and the file is not cut.
    pub unsafe fn create<P: AsRef<Path>, Sh: ShapeBuilder>(
        path: P,
        shape: Sh,
    ) -> Result<MmapArrayBase<A, Sh::Dim, ReadWrite>> {
        // SAFETY: the same promise.
        unsafe { Self::options().shape(shape).create(path) }
    }

    /// Like [`create`](Self::create), at a path where nothing may be yet.
    ///
    /// # Errors
    /// Those of [`MmapArrayOptions::create_new`].
    ///
    /// # Safety
    /// As for [`create`](Self::create).
    pub unsafe fn create_new<P: AsRef<Path>, Sh: ShapeBuilder>(
        path: P,
        shape: Sh,
    ) -> Result<MmapArrayBase<A, Sh::Dim, ReadWrite>> {
        // SAFETY: the same promise.
        unsafe { Self::options().shape(shape).create_new(path) }
    }

    /// Creates a `.npy` file of this shape, or replaces the one that is there, and maps its array, all zero. The header is
    /// NumPy 2's, to the byte.
    ///
    /// # Errors
    /// Those of [`MmapArrayOptions::create_npy`].
    ///
    /// # Safety
    /// As for [`create`](Self::create).
    pub unsafe fn create_npy<P: AsRef<Path>, Sh: ShapeBuilder>(
        path: P,
        shape: Sh,
    ) -> Result<MmapArrayBase<A, Sh::Dim, ReadWrite>>
    where
        A: NpyElement,
    {
        // SAFETY: the same promise.
        unsafe { Self::options().shape(shape).create_npy(path) }
    }

    /// Like [`create_npy`](Self::create_npy), at a path where nothing may be yet.
    ///
    /// # Errors
    /// Those of [`MmapArrayOptions::create_new_npy`].
    ///
    /// # Safety
    /// As for [`create`](Self::create).
    pub unsafe fn create_new_npy<P: AsRef<Path>, Sh: ShapeBuilder>(
        path: P,
        shape: Sh,
    ) -> Result<MmapArrayBase<A, Sh::Dim, ReadWrite>>
    where
        A: NpyElement,
    {
        // SAFETY: the same promise.
        unsafe { Self::options().shape(shape).create_new_npy(path) }
    }

    /// A temporary array that may be larger than memory: all zero, in a file without a name, gone when it is dropped.
    /// Safe: nobody else can reach it.
    ///
    /// It lies in the system's folder for temporary files (on unix `TMPDIR`, else `/tmp`), and takes its space there
    /// at once. Where that is held in memory (tmpfs), set `TMPDIR` to a folder on a disk.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) (storage full), [`ErrorKind::Overflow`](crate::ErrorKind::Overflow), [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on a file system that has
    /// no files without a name.
    ///
    /// ```
    /// let mut a = ndarray_mmap::MmapArrayMut::<f64>::scratch((1000, 3))?;
    /// a.fill(0.5);
    /// assert_eq!(a.sum(), 1500.0);
    /// assert!(a.path().is_none());
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn scratch<Sh: ShapeBuilder>(shape: Sh) -> Result<MmapArrayBase<A, Sh::Dim, ReadWrite>> {
        Self::options().shape(shape).scratch()
    }
}

impl<A: AnyBitPattern, D: Dimension> MmapArrayBase<A, D, Staging>
where
    Staging: Supports<A>,
{
    /// An array of this shape, all zero, in a file without a name, on the file system of `path`: to be filled, grown,
    /// and then put at that path by [`publish`](Self::publish). Dropped before, or killed, it leaves nothing behind.
    ///
    /// Safe: nobody else can reach the file before it is published, and then it is no longer mapped here.
    ///
    /// # Errors
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) on a file system (or system) that has no files without a name.
    /// - [`ErrorKind::NotRegularFile`](crate::ErrorKind::NotRegularFile) if there is something at `path` that is no regular file.
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io) if the existing file may not be written, storage is full ...
    /// - [`ErrorKind::Overflow`](crate::ErrorKind::Overflow).
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
        MmapArrayOptions::<A, D, Staging>::new().shape(shape).stage(path).map_err(|e| e.with_path(path))
    }
    /// The same, of a `.npy` file.
    ///
    /// # Errors
    /// Those of [`stage`](Self::stage) and [`create_npy`](MmapArrayOptions::create_npy).
    pub fn stage_npy<P: AsRef<Path>, Sh: ShapeBuilder>(path: P, shape: Sh) -> Result<MmapArrayBase<A, Sh::Dim, Staging>>
    where
        A: NpyElement,
    {
        let path = path.as_ref();
        MmapArrayOptions::<A, D, Staging>::new().shape(shape).stage_npy(path).map_err(|e| e.with_path(path))
    }
}
