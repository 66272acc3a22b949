//! The constructors of an array: each forwards to the options of its mode.
//!
//! # Safety
//! As in `raw.rs`: this file declares `unsafe` functions and dereferences nothing. Each passes its caller's promise on.
#![allow(unsafe_code)]

use std::path::Path;

use bytemuck::AnyBitPattern;
use ndarray::{Dimension, ShapeBuilder};

use crate::array::MmapArrayBase;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::Result;
use crate::mode::{Loadable, OpenExisting, ReadWrite, Staging, Supports};
use crate::npy::NpyElement;
use crate::open::MmapArrayOptions;

impl<A: AnyBitPattern, D: Dimension, M: Supports<A> + OpenExisting> MmapArrayBase<A, D, M> {
    /// The options for opening an array in this mode: offset, shape, order, lock and others.
    pub fn options() -> MmapArrayOptions<A, D, M> {
        MmapArrayOptions::new()
    }

    /// Maps a whole file as an array of one axis.
    ///
    /// # Errors
    /// Those of [`MmapArrayOptions::open`]; [`ErrorKind::ShapeMismatch`] unless `D` is `IxDyn` or `Ix1`.
    ///
    /// # Safety
    /// As for [`MmapArrayOptions::open`]: while the array lives,
    /// 1. no byte of it changes in the file except through it, and
    /// 2. the file is not truncated below the array's end.
    ///
    /// A comment to copy: `// SAFETY: while the array lives, no other process or handle changes its bytes or truncates the file.`
    pub unsafe fn open<P: AsRef<Path>>(path: P) -> Result<Self> {
        // SAFETY: the same promise.
        unsafe { Self::options().open(path) }
    }

    /// Maps the array of a `.npy` file. Its header specifies element type, shape and order.
    ///
    /// # Errors
    /// Those of [`MmapArrayOptions::open_npy`].
    ///
    /// # Safety
    /// As for [`open`](Self::open).
    ///
    /// # Example
    /// ```
    /// use ndarray::Ix2;
    /// use ndarray_mmap::{ErrorKind, MmapArray, MmapArrayMut};
    ///
    /// # let path = std::env::temp_dir().join(format!("ndarray-mmap-open-{}.npy", std::process::id()));
    /// // SAFETY: nobody else knows this file.
    /// let mut new = unsafe { MmapArrayMut::<f64>::create_npy(&path, (2, 3))? };
    /// new.fill(0.5);
    /// new.close()?;
    ///
    /// // SAFETY: while `a` lives, no other process or handle changes its bytes or truncates the file.
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
    /// Reads a whole file into memory, as an array of one axis. Safe: later changes of the file do not matter. Works on any
    /// file system.
    ///
    /// # Errors
    /// Those of [`MmapArrayOptions::load`]; [`ErrorKind::ShapeMismatch`] unless `D` is `IxDyn` or `Ix1`.
    pub fn load<P: AsRef<Path>>(path: P) -> Result<Self> {
        Self::options().load(path)
    }

    /// Reads the array of a `.npy` file into memory. Safe: later changes of the file do not matter. Works on any file system.
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
    /// Creates a file for an array of this shape and maps it, or replaces an existing file. All elements are zero. The shape
    /// determines the dimension type and the order.
    ///
    /// [`MmapArrayOptions::create`] says what happens to an existing file.
    ///
    /// # Errors
    /// Those of [`MmapArrayOptions::create`].
    ///
    /// # Safety
    /// As for [`MmapArrayOptions::create`]: while the array lives,
    /// 1. no byte of it changes in the file except through it, and
    /// 2. the file is not truncated below the array's end.
    ///
    /// A comment to copy: `// SAFETY: while the array lives, no other process or handle changes its bytes or truncates the file.`
    pub unsafe fn create<P: AsRef<Path>, Sh: ShapeBuilder>(
        path: P,
        shape: Sh,
    ) -> Result<MmapArrayBase<A, Sh::Dim, ReadWrite>> {
        // SAFETY: the same promise.
        unsafe { Self::options().shape(shape).create(path) }
    }

    /// Creates a file for an array of this shape and maps it, at a path where nothing exists. Otherwise like
    /// [`create`](Self::create).
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

    /// Creates a `.npy` file for an array of this shape and maps the array, or replaces an existing file. All elements are
    /// zero. The header is the one that NumPy 2 writes, byte for byte.
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

    /// Creates a `.npy` file for an array of this shape and maps the array, at a path where nothing exists. Otherwise like
    /// [`create_npy`](Self::create_npy).
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

    /// Opens a `.npy` file, or creates it if nothing is at the path. With a shape of no rows, such as `(0, 3)`, an existing
    /// file may have any number of rows; the other axes, the order and the element type are compared.
    ///
    /// # Errors
    /// Those of [`MmapArrayOptions::open_or_create_npy`].
    ///
    /// # Safety
    /// As for [`open`](Self::open).
    ///
    /// # Example: a log that goes on where it stopped
    /// ```
    /// use ndarray::aview1;
    /// use ndarray_mmap::MmapArrayMut;
    ///
    /// # let path = std::env::temp_dir().join(format!("ndarray-mmap-log-{}.npy", std::process::id()));
    /// for run in 1..=3 {
    ///     // SAFETY: while `log` lives, no other process or handle changes its bytes or truncates the file.
    ///     let mut log = unsafe { MmapArrayMut::<f64>::open_or_create_npy(&path, (0, 2))? };
    ///     log.push(&aview1(&[run as f64, 0.5]))?;
    ///     assert_eq!(log.dim(), (run, 2));
    ///     log.close()?;
    /// }
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub unsafe fn open_or_create_npy<P: AsRef<Path>, Sh: ShapeBuilder>(
        path: P,
        shape: Sh,
    ) -> Result<MmapArrayBase<A, Sh::Dim, ReadWrite>>
    where
        A: NpyElement,
    {
        // SAFETY: the same promise.
        unsafe { Self::options().shape(shape).open_or_create_npy(path) }
    }

    /// Creates a temporary array, which can be larger than memory, in an unnamed file. All elements are zero. When the array
    /// is dropped, the file is gone. Safe: no other process can open the file.
    ///
    /// The file is in the folder for temporary files (on unix `TMPDIR`, or `/tmp`), and takes its space there at once. If
    /// that folder is in memory (tmpfs), set `TMPDIR` to a folder on a disk.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] (storage full), [`ErrorKind::Overflow`], [`ErrorKind::Unsupported`] on a file system without
    /// unnamed files.
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
    /// Creates an array of this shape in an unnamed file, on the file system of `path`. All elements are zero. Fill it, let it
    /// grow, and put it at the path by [`publish`](Self::publish). If it is dropped or killed before that, nothing is left
    /// behind.
    ///
    /// Safe: before the file is published no other process can open it, and then it is no longer mapped. Linux only, on file
    /// systems with unnamed files.
    ///
    /// # Errors
    /// - [`ErrorKind::Unsupported`] on a system, or a file system, without unnamed files.
    /// - [`ErrorKind::NotRegularFile`] if there is something other than a regular file at `path`.
    /// - [`ErrorKind::Io`] if the existing file is not writable, storage is full ...
    /// - [`ErrorKind::Overflow`].
    ///
    /// # Example: replacing a result file that others may be reading
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use ndarray_mmap::{MmapArray, Staged};
    ///
    /// # let folder = std::env::temp_dir().join(format!("ndarray-mmap-stage-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// let path = folder.join("result.bin");
    /// let mut result = Staged::<f64>::stage(&path, (2, 3))?;
    /// result.fill(1.5);
    /// assert!(!path.exists());
    /// result.publish()?; // on the disk, at its path, when it returns
    /// assert_eq!(MmapArray::<f64>::load(&path)?.sum(), 9.0);
    /// # std::fs::remove_dir_all(&folder)?;
    /// # }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stage<P: AsRef<Path>, Sh: ShapeBuilder>(path: P, shape: Sh) -> Result<MmapArrayBase<A, Sh::Dim, Staging>> {
        MmapArrayOptions::<A, D, Staging>::new().shape(shape).stage(path.as_ref())
    }

    /// Like [`stage`](Self::stage), for a `.npy` file.
    ///
    /// # Errors
    /// Those of [`stage`](Self::stage) and [`create_npy`](MmapArrayOptions::create_npy).
    pub fn stage_npy<P: AsRef<Path>, Sh: ShapeBuilder>(path: P, shape: Sh) -> Result<MmapArrayBase<A, Sh::Dim, Staging>>
    where
        A: NpyElement,
    {
        MmapArrayOptions::<A, D, Staging>::new().shape(shape).stage_npy(path.as_ref())
    }
}
