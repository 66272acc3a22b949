//! The array: owns its storage, and is an ndarray array by `Deref`.
//!
//! # Safety
//! An array holds a view with the lifetime `'static` over memory that it owns. What keeps that sound:
//! 1. The memory outlives the view: both are private fields of one value, nothing copies the view out of it, and everything
//!    handed out borrows the array.
//! 2. The memory is as long as the layout says, and aligned for `A`: `new` checks both.
//! 3. Every byte pattern is an `A`: `A: AnyBitPattern`, and the memory is initialised (`mapping`, demand 3).
//! 4. Nobody writes while a shared view lives, and nobody else reads while a unique one does: within the crate by the
//!    borrow of the array, outside it by the promise made to the constructor, or because nobody else can reach the memory.
//! 5. Unique views are made in writable modes only, whose memory is writable (`mapping`, demand 1), from the mapping's
//!    own pointer, never from a shared reference.
#![allow(unsafe_code)]

#[deny(unsafe_code)]
mod arithmetic;
#[deny(unsafe_code)]
mod ndarray_traits;

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Index, IndexMut, Range};
use std::path::{Path, PathBuf};

use bytemuck::AnyBitPattern;
use ndarray::{ArrayRef, ArrayView, ArrayViewMut, Dimension, IxDyn, NdIndex};

pub use arithmetic::ScalarOperand;

use crate::error::{Error, ErrorKind, Result, error};
use crate::file::ArrayFile;
use crate::layout::{Alignment, Layout};
use crate::mode::{CopyOnWrite, Mode, Persistent, ReadOnly, ReadWrite, Staging, Supports, Writable};
use crate::npy::EncodedHeader;
use crate::storage::{Advice, FileWriter, Storage};

/// A read-only array in a file. NumPy's mode `'r'`.
///
/// Constructors: [`open`](MmapArrayBase::open), [`open_npy`](MmapArrayBase::open_npy), and the safe
/// [`load`](MmapArrayBase::load) and [`load_npy`](MmapArrayBase::load_npy); with an offset, a shape or a handle
/// [`options`](MmapArrayBase::options), which also has the safe [`map_sealed`](crate::MmapArrayOptions::map_sealed).
///
/// The dimension is `IxDyn` unless stated: `MmapArray<f64>` or `MmapArray<f64, Ix2>`. With `options().shape(..)` it
/// follows from the shape; a `.npy` file must have as many axes.
/// ```
/// use ndarray::Axis;
/// use ndarray_mmap::MmapArray;
///
/// # let path = std::env::temp_dir().join(format!("ndarray-mmap-read-{}.f64", std::process::id()));
/// std::fs::write(&path, [1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0].map(f64::to_ne_bytes).concat())?;
/// // SAFETY: while `a` lives, no other process or handle changes its bytes or truncates the file.
/// let a = unsafe { MmapArray::<f64>::options().shape((2, 3)).open(&path)? };
/// assert_eq!(a.mean_axis(Axis(0)).unwrap(), ndarray::arr1(&[2.5, 3.5, 4.5]));
/// # drop(a);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub type MmapArray<A = u8, D = IxDyn> = MmapArrayBase<A, D, ReadOnly>;

/// An array in a file, for reading and writing. NumPy's modes `'r+'` and `'w+'`.
///
/// Constructors: [`open`](MmapArrayBase::open) and [`open_npy`](MmapArrayBase::open_npy) for existing files;
/// [`create`](MmapArrayBase::create), [`create_new`](MmapArrayBase::create_new),
/// [`create_npy`](MmapArrayBase::create_npy), [`create_new_npy`](MmapArrayBase::create_new_npy) for new ones; the safe
/// [`scratch`](MmapArrayBase::scratch) for a temporary one; [`options`](MmapArrayBase::options) for the rest.
///
/// When a file is created, the dimension and the order follow from the shape: `(3, 4)` is `Ix2` in C order, `(3, 4).f()` in
/// Fortran order, `vec![3, 4]` is `IxDyn`.
/// ```
/// use ndarray_mmap::MmapArrayMut;
///
/// let mut a = MmapArrayMut::<f64>::scratch((3, 4))?;
/// a.row_mut(1).fill(2.0);
/// a[[0, 0]] = 7.0;
/// a += 1.0;
/// assert_eq!(a.sum(), 12.0 + 8.0 + 7.0);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
pub type MmapArrayMut<A = u8, D = IxDyn> = MmapArrayBase<A, D, ReadWrite>;

/// An array in a file whose stores stay in memory (copy-on-write). NumPy's mode `'c'`.
///
/// Constructors: those of [`MmapArray`] except `map_sealed`. Only pages that are stored to take memory of their own, and the
/// file never changes. It can be larger than memory.
///
/// It is no snapshot: pages that were not stored to still show what others do to the file. For a snapshot use
/// [`load`](MmapArrayBase::load).
/// ```
/// use ndarray_mmap::MmapArrayCow;
///
/// # let path = std::env::temp_dir().join(format!("ndarray-mmap-cow-{}.u8", std::process::id()));
/// std::fs::write(&path, [1, 2, 3])?;
/// // SAFETY: while `a` lives, no other process or handle changes its bytes or truncates the file.
/// let mut a = unsafe { MmapArrayCow::<u8>::open(&path)? };
/// a[0] = 100;
/// assert_eq!((a[0], std::fs::read(&path)?), (100, vec![1, 2, 3]));
/// # drop(a);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub type MmapArrayCow<A = u8, D = IxDyn> = MmapArrayBase<A, D, CopyOnWrite>;

/// An array in an unnamed file that is put at its path, whole, by [`publish`](MmapArrayBase::publish).
///
/// Linux only, on file systems with unnamed files. Constructors: [`stage`](MmapArrayBase::stage) and
/// [`stage_npy`](MmapArrayBase::stage_npy). Both are safe, for nobody else
/// can open the file, and both take the dimension and the order from the shape. Dropped before it is published, or killed, it
/// leaves nothing behind.
/// ```
/// use ndarray_mmap::{MmapArray, Staged};
///
/// # #[cfg(target_os = "linux")] {
/// # let path = std::env::temp_dir().join(format!("ndarray-mmap-staged-{}.npy", std::process::id()));
/// let mut a = Staged::<f32>::stage_npy(&path, (0, 2))?;
/// a.append(&ndarray::arr2(&[[1.0, 2.0], [3.0, 4.0]]))?;
/// assert!(!path.exists());
/// a.publish()?; // readers see the old file or this one, never a part
/// assert_eq!(MmapArray::<f32>::load_npy(&path)?.sum(), 10.0);
/// # std::fs::remove_file(&path)?;
/// # }
/// # Ok::<(), std::io::Error>(())
/// ```
pub type Staged<A = u8, D = IxDyn> = MmapArrayBase<A, D, Staging>;

/// An array that lies in a file: it owns the memory map, and is an ndarray array by [`Deref`].
///
/// | you want to | use | |
/// |---|---|---|
/// | map a raw file, or a part of it | [`open`](Self::open), [`options`](Self::options) | `unsafe` |
/// | map a `.npy` file | [`open_npy`](Self::open_npy) | `unsafe` |
/// | map an array of a `.npz` archive, or read it (feature `npz`) | [`open_npz`](Self::open_npz), [`load_npz`](Self::load_npz) | the first `unsafe` |
/// | read a file into memory | [`load`](Self::load), [`load_npy`](Self::load_npy) | |
/// | make a file | [`create`](Self::create), [`create_npy`](Self::create_npy) | `unsafe` |
/// | have a temporary array larger than memory | [`scratch`](Self::scratch) | |
/// | make a file that appears atomically (Linux) | [`stage`](Self::stage), [`stage_npy`](Self::stage_npy), then [`publish`](Self::publish) | |
/// | map some rows of a file, or the whole rows of one in progress | [`rows`](crate::MmapArrayOptions::rows), [`ignore_remainder`](crate::MmapArrayOptions::ignore_remainder) | |
/// | map a file that is open | [`map`](crate::MmapArrayOptions::map), [`map_npy`](crate::MmapArrayOptions::map_npy) | `unsafe` |
/// | skip headers between frames, pick channels | [`strided`](Self::strided) | |
/// | read a header, and the data behind it, from one mapping | [`view_as`](Self::view_as) | |
/// | view or copy one field of records | [`field`](Self::field), [`read_field`](Self::read_field) | |
/// | open a log, or start it | [`open_or_create_npy`](Self::open_or_create_npy) | `unsafe` |
/// | add or remove rows | [`append`](Self::append), [`push`](Self::push), [`resize`](Self::resize) | |
/// | save any array as `.npy`, atomically | [`save_npy`](crate::save_npy) | |
/// | sum, map or iterate beyond memory | [`blocks`](Self::blocks) | |
/// | change the order, or pick rows and columns | [`assign_tiled`](Self::assign_tiled), [`gather`](Self::gather) | |
///
/// `A` is the element type, `D` the dimension, `M` the [mode](crate::mode). Use its aliases: [`MmapArray`]
/// (read-only), [`MmapArrayMut`] (read-write), [`MmapArrayCow`] (copy-on-write) and [`Staged`].
///
/// # Example
/// ```
/// use ndarray::prelude::*;
/// use ndarray_mmap::{MmapArray, MmapArrayMut};
///
/// # let path = std::env::temp_dir().join(format!("ndarray-mmap-base-{}.npy", std::process::id()));
/// // SAFETY: while `log` lives, no other process or handle changes its bytes or truncates the file.
/// let mut log = unsafe { MmapArrayMut::<f64>::create_npy(&path, (2, 3))? };
/// log.fill(0.5);
/// log.append(&array![[1.0, 2.0, 3.0]])?;
/// log.flush()?; // on the disk when it returns
/// log.close()?; // unmapped and unlocked now
///
/// // SAFETY: while `log` lives, no other process or handle changes its bytes or truncates the file.
/// let log = unsafe { MmapArray::<f64, Ix2>::open_npy(&path)? };
/// let view: ArrayView2<f64> = log.view();
/// assert_eq!(view.row(2), array![1.0, 2.0, 3.0]);
/// assert_eq!(log.blocks().sum(), 9.0); // in bounded memory, however large the file
/// # drop(log);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Rows
/// A row is one step along the outermost axis in memory: the first axis in C order, the last in Fortran order (a column of a
/// matrix, in NumPy's words). `append`, `resize`, `write_rows`, `flush_rows` and `blocks` count rows.
///
/// # Arithmetic and comparison
/// A reference to a mapped array is an operand as a reference to an `Array` is: `&a + &b`, `2.0 * &a`, `&a - &owned`, `-&a`,
/// in every mode, with broadcasting, between mapped arrays and `Array`, `&Array`, `&ArrayView` and `&ArrayRef` on either side.
/// Results are plain owned arrays in memory ([`map_into`](crate::blocks::BlocksBase::map_into) computes into a file). Writable
/// arrays have `+=` and its like. `==` compares shapes and elements of mapped and owned arrays.
/// ```
/// use ndarray::{Array2, array};
/// use ndarray_mmap::MmapArrayMut;
///
/// let mut a = MmapArrayMut::<f64>::scratch((2, 2))?;
/// a += 1.5;
/// a *= &array![[1.0], [2.0]];
/// let b: Array2<f64> = 2.0 * &a - array![0.0, 1.0];
/// assert_eq!(b, array![[3.0, 2.0], [6.0, 5.0]]);
/// assert!(a == array![[1.5, 1.5], [3.0, 3.0]] && a != b);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
///
/// # Functions over any array
/// A function of `&ArrayRef<A, D>` takes mapped arrays, owned ones and views alike; one of `&ArrayBase<S, D>` takes
/// `&a.view()`.
/// ```
/// use ndarray::{ArrayBase, ArrayRef, Data, Dimension, Ix2, array};
/// use ndarray_mmap::{MmapArrayMut, Result};
///
/// fn norm<D: Dimension>(a: &ArrayRef<f64, D>) -> f64 {
///     a.iter().map(|x| x * x).sum::<f64>().sqrt()
/// }
/// fn older<S: Data<Elem = f64>>(a: &ArrayBase<S, Ix2>) -> f64 {
///     a.row(0).sum()
/// }
///
/// let mut a = MmapArrayMut::<f64>::scratch((2, 2))?;
/// a.fill(2.0);
/// assert_eq!((norm(&a), norm(&array![3.0, 4.0])), (4.0, 5.0));
/// assert_eq!(older(&a.view()), 4.0);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
///
/// # Life of an array
/// Views borrow from the array and cannot outlive it. Dropping it releases the map, the file and
/// its lock, and reports nothing: [`close`](Self::close) does. What was stored is visible to every process at once and
/// survives the end of this one; [`flush`](Self::flush) makes it survive a power cut.
///
/// `Index`, `AsRef`, `From<&array> for ArrayView`, `IntoIterator`, `IntoNdProducer` (for [`Zip`](ndarray::Zip)) and, with the
/// feature `rayon`, `IntoParallelIterator` are implemented for references to it. `Debug` prints shape, path and mode, never
/// the contents; `Display` prints as ndarray does.
///
/// # What does not compile
/// Views cannot outlive the array:
/// ```compile_fail,E0505
/// # use ndarray_mmap::MmapArray;
/// # fn f(array: MmapArray<f64>) {
/// let view = array.view();
/// drop(array);
/// println!("{}", view.sum());
/// # }
/// ```
/// ```compile_fail,E0505
/// # use ndarray_mmap::MmapArray;
/// # fn f(array: MmapArray<f64>) {
/// let row = array.index_axis(ndarray::Axis(0), 0);
/// array.close().unwrap();
/// println!("{}", row.sum());
/// # }
/// ```
/// ```compile_fail,E0716
/// # use ndarray_mmap::MmapArray;
/// # fn f() -> ndarray_mmap::Result<()> {
/// let view = MmapArray::<f64>::load("x.bin")?.view();
/// println!("{}", view.sum());
/// # Ok(())
/// # }
/// ```
///
/// An array owns its mapping, and is not cloned: [`to_owned`](ndarray::ArrayRef#method.to_owned) copies its elements to an
/// `Array` in memory.
/// ```compile_fail,E0599
/// # fn f(array: ndarray_mmap::MmapArray<f64>) {
/// let copy = array.clone();
/// # }
/// ```
///
/// Nor can an array do what its mode does not allow:
/// ```compile_fail,E0596
/// # fn f(mut array: ndarray_mmap::MmapArray<f64>) {
/// array.fill(1.0);
/// # }
/// ```
/// ```compile_fail,E0599
/// # fn f(array: ndarray_mmap::MmapArrayCow<f64>) {
/// array.flush();
/// # }
/// ```
/// Nor hold elements for which some bytes are invalid, or that have no size:
/// ```compile_fail,E0277
/// let a = ndarray_mmap::MmapArray::<bool>::load("flags.bin");
/// ```
/// ```compile_fail,E0080
/// let a = ndarray_mmap::MmapArray::<()>::load("nothing.bin");
/// ```
/// Nor, for writing, elements with padding, whose bytes would reach the file uninitialised:
/// ```compile_fail,E0277
/// #[repr(C)]
/// #[derive(Clone, Copy)]
/// struct Padded(u8, u32);
/// // SAFETY: zero is a value of both fields.
/// unsafe impl bytemuck::Zeroable for Padded {}
/// // SAFETY: so is every bit pattern.
/// unsafe impl bytemuck::AnyBitPattern for Padded {}
///
/// let readable = ndarray_mmap::MmapArray::<Padded>::load("records.bin");
/// let writable = ndarray_mmap::MmapArrayCow::<Padded>::load("records.bin");
/// ```
pub struct MmapArrayBase<A: 'static, D, M> {
    /// Invariant: over all of `storage`, in `layout`.
    view: ArrayView<'static, A, D>,
    /// What `DerefMut` returns, made anew at each call: changes of its axes do not last.
    deref_view: Option<ArrayViewMut<'static, A, D>>,
    layout: Layout<D>,
    storage: Storage,
    mode: Mode,
    /// Of a `.npy` file whose array can change its shape.
    header: Option<EncodedHeader>,
    /// Whether it is some rows of a longer array, so that its length cannot change.
    is_part: bool,
    access: PhantomData<fn() -> M>,
}

impl<A: AnyBitPattern, D: Dimension, M: Supports<A>> MmapArrayBase<A, D, M> {
    /// Makes memory an array.
    ///
    /// # Errors
    /// `Misaligned` if the memory does not fit the layout.
    ///
    /// # Safety
    /// While the array lives, nobody else changes a byte of the memory or truncates the file below it: because nobody else can
    /// reach either, or by the promise that the caller of an `unsafe` constructor made.
    pub(crate) unsafe fn new(
        layout: Layout<D>,
        storage: Storage,
        mode: Mode,
        header: Option<EncodedHeader>,
        is_part: bool,
    ) -> Result<Self> {
        check_fit::<A, D>(&layout, &storage)?;
        // SAFETY: (1) `view` joins `storage` in one value; (2) just checked; (3) by the bound on `A`; (4) the caller's.
        let view = unsafe { view_of(&layout, &storage) };
        Ok(Self { view, deref_view: None, layout, storage, mode, header, is_part, access: PhantomData })
    }
}

fn check_fit<A, D: Dimension>(layout: &Layout<D>, storage: &Storage) -> Result<()> {
    let start = storage.as_ptr().cast::<A>();
    if storage.len() != layout.bytes() || !start.is_aligned() {
        return Err(error!(Misaligned, "the mapping at {start:p} ({} bytes) does not fit the array", storage.len()));
    }
    Ok(())
}

/// # Safety
/// 1. The view is not used once the memory is gone: it joins `storage` in one array.
/// 2. [`check_fit`] has passed. (By `Layout`'s invariant no offset within it overflows.)
/// 3. Every byte pattern is an `A`.
/// 4. Nobody writes to the memory while the view is used.
unsafe fn view_of<A, D: Dimension>(layout: &Layout<D>, storage: &Storage) -> ArrayView<'static, A, D> {
    // SAFETY: (1 to 4) the caller's.
    unsafe { ArrayView::from_shape_ptr(layout.to_shape(), storage.as_ptr().cast::<A>()) }
}

impl<A, D: Dimension, M> MmapArrayBase<A, D, M> {
    /// A view of the whole array.
    pub fn view(&self) -> ArrayView<'_, A, D> {
        self.view.view()
    }
}

impl<A: AnyBitPattern, D, M> MmapArrayBase<A, D, M> {
    /// The bytes of all elements, in memory order; of readable elements also their padding.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        // SAFETY: (1) the slice borrows `self`; (2) bytes are aligned anywhere; (3) the memory is initialised, padding
        // included: where there is padding nothing is stored, for the writable modes exclude it; (4) as for `view`, and `A`
        // has no interior mutability.
        unsafe { std::slice::from_raw_parts(self.storage.as_ptr(), self.storage.len()) }
    }
}

impl<A, D: Dimension, M: Writable> MmapArrayBase<A, D, M> {
    /// A view of the whole array, for writing.
    pub fn view_mut(&mut self) -> ArrayViewMut<'_, A, D> {
        self.view_mut_and_storage().0
    }

    /// [`view_mut`](Self::view_mut), and what lies below it. Prefetching and evicting change no byte of the array, so they are
    /// allowed while it is written to.
    pub(crate) fn view_mut_and_storage(&mut self) -> (ArrayViewMut<'_, A, D>, &Layout<D>, &Storage) {
        let start = self.storage.as_ptr().cast::<A>();
        // SAFETY: (1) the lifetime is that of the borrow of `self`; (2, 3) as when `new` made `view`, from the same
        // layout and memory; (4) `&mut self`: no other view is in use as long as this one, and `Storage` hands out no
        // reference to the memory; (5) `M: Writable`.
        let view = unsafe { ArrayViewMut::from_shape_ptr(self.layout.to_shape(), start) };
        (view, &self.layout, &self.storage)
    }
}

impl<A, D: Dimension, M: Persistent> MmapArrayBase<A, D, M> {
    /// Waits until every element and the file's length are on the disk; for a file that this array created, its name too.
    /// [Durability](crate::doc::durability) has a table of what survives what, with a flush and without.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the disk fails or is full, [`ErrorKind::Truncated`] if the file has been truncated since it was
    /// opened, [`ErrorKind::Fault`] if pages of it were lost. From then on it is unknown what reached the disk, and every later
    /// flush is [`ErrorKind::Poisoned`].
    ///
    /// The name of a new file reaches the disk by syncing its folder, which must be opened for that. If that is refused (a
    /// folder that can be written but not read), Linux syncs the whole file system instead; other systems return
    /// [`ErrorKind::Io`] before anything is done, and the array is not poisoned.
    pub fn flush(&self) -> Result<()> {
        self.storage.flush(0..self.storage.len())
    }

    /// Starts writing to the disk what is not there yet, without waiting. A later [`flush`](Self::flush) then has less to do.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], which poisons the array as in [`flush`](Self::flush); [`ErrorKind::Poisoned`].
    pub fn flush_async(&self) -> Result<()> {
        self.storage.start_writeback(0..self.storage.len())
    }

    /// Like [`flush`](Self::flush), for some rows: indices on the outermost axis in memory, which is the first in C
    /// order and the last in Fortran order. Flushes only the pages they lie in.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for rows the array does not have, and those of [`flush`](Self::flush).
    pub fn flush_rows(&self, rows: Range<usize>) -> Result<()> {
        let bytes = self.layout.row_bytes(rows).map_err(|e| self.named(e))?;
        self.storage.flush(bytes)
    }
}

impl<A, D: Dimension, M> MmapArrayBase<A, D, M> {
    /// Releases the mapping, the lock and the file now, and gives back disk space that was set aside for growing. Does not
    /// wait for the disk: [`flush`](MmapArrayBase::flush) does.
    ///
    /// A lock taken by [`map`](crate::MmapArrayOptions::map) belongs to the caller's handle, and remains.
    ///
    /// # Errors
    /// [`ErrorKind::Poisoned`] if an earlier flush or guarded call failed; for a writable array [`ErrorKind::Truncated`] if its
    /// file is shorter than the array, [`ErrorKind::Fault`] if pages of it were lost; [`ErrorKind::Io`] if disk space could not
    /// be given back. The array is released all the same.
    pub fn close(self) -> Result<()> {
        self.storage.close()
    }

    /// Converts to a fixed number of dimensions, or to a dynamic one (`IxDyn`).
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`] if `D2` has another number of dimensions than the array.
    ///
    /// ```
    /// use ndarray::Ix2;
    /// use ndarray_mmap::MmapArrayMut;
    ///
    /// let a = MmapArrayMut::<f64>::scratch(vec![3, 4])?;
    /// let a = a.into_dimensionality::<Ix2>()?;
    /// assert_eq!(a.dim(), (3, 4));
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn into_dimensionality<D2: Dimension>(self) -> Result<MmapArrayBase<A, D2, M>> {
        let Self { view, layout, storage, mode, header, is_part, .. } = self;
        let layout = layout.into_dimensionality::<D2>().map_err(|e| storage.named(e))?;
        let view = view
            .into_dimensionality::<D2>()
            .map_err(|e| storage.named(Error::new(ErrorKind::ShapeMismatch, e.to_string())))?;
        Ok(MmapArrayBase { view, deref_view: None, layout, storage, mode, header, is_part, access: PhantomData })
    }

    /// The file's absolute path, with symbolic links kept; for a staged array, the path that it will get. `None` for an array
    /// opened by a file handle, and for [`scratch`](Self::scratch).
    pub fn path(&self) -> Option<&Path> {
        self.storage.path()
    }

    /// Where the array starts in its file, in bytes. For a [`load`](Self::load)ed array, where it was read from.
    pub fn offset(&self) -> u64 {
        self.storage.offset()
    }

    /// How the array was opened. Arrays that created their file report [`Mode::Create`].
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The fraction of the array's pages that are in memory, in this process or in the page cache: 0 to 1, and 1 for an array
    /// without elements.
    ///
    /// Linux reports it only for files that the caller owns or may write to; for others it reports 1.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] outside Linux, Android, macOS and FreeBSD.
    pub fn residency(&self) -> Result<f64> {
        self.storage.residency()
    }

    /// Advises the system how the array will be read. A hint, in force until the next: it changes speed, never results.
    /// Does nothing on Windows.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the system refuses it.
    pub fn advise(&self, advice: Advice) -> Result<()> {
        self.storage.advise(advice)
    }

    /// Drops the array's pages from this process (not on Windows, where it does nothing); the next access brings them back from the file, mostly from the page cache.
    /// Nothing is lost: what is not on the disk yet is written there first, and waited for.
    ///
    /// Does nothing where it would lose data: for copy-on-write and [`load`](Self::load)ed arrays, and after a failed
    /// write-back or a fault.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the system refuses it, or could not write something: a writable array is then poisoned, as by
    /// [`flush`](MmapArrayBase::flush).
    pub fn evict(&self) -> Result<()> {
        self.storage.evict(0..self.storage.len())
    }
}

impl<A, D: Dimension, M> MmapArrayBase<A, D, M> {
    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    pub(crate) fn layout(&self) -> &Layout<D> {
        &self.layout
    }

    pub(crate) fn check_poison(&self) -> Result<()> {
        self.storage.check_poison()
    }

    /// Names the file in an error.
    pub(crate) fn named(&self, error: Error) -> Error {
        self.storage.named(error)
    }
}

impl<A, D: Dimension, M: Persistent> MmapArrayBase<A, D, M> {
    /// The file, for what is done to it beside its mapping. (The storage itself is lent to nobody mutably: the view would not
    /// follow if it were replaced.)
    pub(crate) fn file_mut(&mut self) -> Result<&mut ArrayFile> {
        self.storage.file_mut()
    }

    /// Writes bytes at an offset of the file, which need not lie in the array.
    pub(crate) fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        self.storage.write_at(bytes, offset)
    }

    /// Whether it is some rows of a longer array.
    pub(crate) fn is_part(&self) -> bool {
        self.is_part
    }

    /// The `.npy` header that must state the array's shape.
    pub(crate) fn header(&mut self) -> &mut Option<EncodedHeader> {
        &mut self.header
    }

    /// Takes on a layout of the same elements at the same place, which the file is long enough for. After an error all
    /// is as it was.
    pub(crate) fn relayout(&mut self, layout: Layout<D>) -> Result<()> {
        let file_len = self.storage.file_mut()?.len();
        let extent = layout.extent(self.storage.offset(), Alignment::InPlace, file_len, "")?;
        self.deref_view = None;
        // SAFETY: (1) `view` is all that is left of the old memory, and is replaced before it is used again: after an error
        // the memory is as it was.
        unsafe { self.storage.remap(extent)? };
        assert!(check_fit::<A, D>(&layout, &self.storage).is_ok(), "the extent is that of the layout");
        // SAFETY: (1) it replaces the view over the memory that is gone, which nobody else holds: `&mut self`; (2) the
        // mapping is as long as the extent, which is as long as the layout, and starts where it did in its page; (3, 4) as
        // in `new`, which made this array.
        self.view = unsafe { view_of(&layout, &self.storage) };
        self.layout = layout;
        Ok(())
    }

    pub(crate) fn file_writer(&mut self) -> FileWriter<'_> {
        FileWriter::new(&mut self.storage)
    }

    /// Unmaps the array and returns its file and path.
    pub(crate) fn into_file(self) -> (Option<PathBuf>, Option<ArrayFile>) {
        self.storage.into_file()
    }
}

impl<A, D, M> Deref for MmapArrayBase<A, D, M> {
    type Target = ArrayRef<A, D>;

    fn deref(&self) -> &ArrayRef<A, D> {
        &self.view
    }
}

/// `swap_axes`, `invert_axis` and the like change only this reference: the array keeps its own shape.
impl<A, D: Dimension, M: Writable> DerefMut for MmapArrayBase<A, D, M> {
    fn deref_mut(&mut self) -> &mut ArrayRef<A, D> {
        let start = self.storage.as_ptr().cast::<A>();
        // SAFETY: (1) it goes into `deref_view`, beside the storage, and what is returned borrows `self`; (2..5) as in
        // `view_mut`.
        let view = unsafe { ArrayViewMut::from_shape_ptr(self.layout.to_shape(), start) };
        self.deref_view.insert(view)
    }
}

/// # Panics
/// If the index is out of bounds, as ndarray's. `get` does not.
impl<A, D: Dimension, M, I: NdIndex<D>> Index<I> for MmapArrayBase<A, D, M> {
    type Output = A;

    #[track_caller]
    fn index(&self, index: I) -> &A {
        &self.view[index]
    }
}

/// # Panics
/// If the index is out of bounds, as ndarray's. `get_mut` does not.
impl<A, D: Dimension, M: Writable, I: NdIndex<D>> IndexMut<I> for MmapArrayBase<A, D, M> {
    #[track_caller]
    fn index_mut(&mut self, index: I) -> &mut A {
        let Some(element) = self.view.get_ptr(index) else {
            panic!("index is out of bounds for an array of shape {:?}", self.view.shape());
        };
        // SAFETY: (2) `get_ptr` checked the index and computed the address from the view's own pointer, which is the
        // mapping's, (5) not from a reference; (3, 4) as in `view_mut`.
        unsafe { &mut *element.cast_mut() }
    }
}

/// Shape, path and mode; never the contents, which may be larger than memory.
impl<A, D: Dimension, M> fmt::Debug for MmapArrayBase<A, D, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MmapArray")
            .field("shape", &self.view.shape())
            .field("path", &self.storage.path())
            .field("mode", &self.mode)
            .finish()
    }
}

/// The contents, as ndarray prints them.
impl<A: fmt::Display, D: Dimension, M> fmt::Display for MmapArrayBase<A, D, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}
