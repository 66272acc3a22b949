//! The settings of an array that is to be opened or created.

use std::marker::PhantomData;

use ndarray::{Dimension, IntoDimension, ShapeBuilder};

use super::wanted::Wanted;
use crate::file::Lock;
use crate::layout::{axes, split_shape};
use crate::mode::ReadWrite;
use crate::npy::HEADER_CAP;

/// Settings for opening or creating an array.
///
/// Start with [`MmapArrayBase::options`](crate::MmapArrayBase::options), change what differs from the defaults, and end with
/// the call that opens the file: [`open`](Self::open), [`load`](Self::load), [`create`](Self::create), their `.npy` versions,
/// or [`map`](Self::map) for a file that is already open.
///
/// # Example: a grid after a header of 16 bytes, in Fortran order
/// ```
/// use ndarray::{ArrayView1, ShapeBuilder};
/// use ndarray_mmap::MmapArray;
///
/// let path = std::env::temp_dir().join("ndarray-mmap-grid.bin");
/// let bytes: Vec<u8> = (0..16 + 48).collect();
/// std::fs::write(&path, bytes)?;
///
/// // SAFETY: while `grid` lives, no other process or handle changes its bytes or truncates the file.
/// let grid = unsafe { MmapArray::<u32>::options().offset(16).shape((3, 4).f()).open(&path)? };
/// let row: ArrayView1<u32> = grid.row(0);
/// assert_eq!(row.strides(), [3]);
/// assert_eq!(row[0].to_le_bytes(), [16, 17, 18, 19]);
/// # drop(grid);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct MmapArrayOptions<A, D, M> {
    pub(super) offset: u64,
    pub(super) wanted: Wanted<D>,
    /// `None`: the default, which is not the same for paths and for handles.
    pub(super) lock: Option<Lock>,
    pub(super) populate: bool,
    pub(super) extend: bool,
    pub(super) preallocate: bool,
    pub(super) max_header_size: usize,
    pub(super) page_aligned: bool,
    pub(super) opens: PhantomData<fn() -> (A, M)>,
}

impl<A, D: Clone, M> Clone for MmapArrayOptions<A, D, M> {
    fn clone(&self) -> Self {
        Self { wanted: self.wanted.clone(), ..*self }
    }
}

impl<A, D, M> MmapArrayOptions<A, D, M> {
    pub(crate) fn new() -> Self {
        Self {
            offset: 0,
            wanted: Wanted::WholeFile,
            lock: None,
            populate: false,
            extend: false,
            preallocate: true,
            max_header_size: HEADER_CAP,
            page_aligned: false,
            opens: PhantomData,
        }
    }

    /// Where the array starts in the file, in bytes; for a `.npy` file, where its header starts. Default: 0.
    #[must_use]
    pub fn offset(mut self, bytes: u64) -> Self {
        self.offset = bytes;
        self
    }

    /// The shape, in elements, and the order: `(3, 4)` in C order, `(3, 4).f()` in Fortran order. Determines the dimension
    /// type.
    ///
    /// Default: one axis, as long as the file; for a `.npy` file, the shape in its header.
    #[must_use]
    pub fn shape<Sh: ShapeBuilder>(self, shape: Sh) -> MmapArrayOptions<A, Sh::Dim, M> {
        let (dim, order) = split_shape(shape);
        self.with(Wanted::Exactly(dim, order))
    }

    /// The shape of one row, for as many rows as the file has after the offset. The rows are the first axis, in C order:
    /// `row_shape((3, 4))` gives an array of shape `(n, 3, 4)`, like NumPy's `reshape(-1, 3, 4)`.
    ///
    /// # Example
    /// ```
    /// use ndarray_mmap::MmapArray;
    ///
    /// let path = std::env::temp_dir().join("ndarray-mmap-rows.bin");
    /// std::fs::write(&path, [0u8; 60])?;
    /// let a = MmapArray::<u8>::options().row_shape((3, 4)).load(&path)?;
    /// assert_eq!(a.dim(), (5, 3, 4));
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn row_shape<I: IntoDimension>(self, row: I) -> MmapArrayOptions<A, <I::Dim as Dimension>::Larger, M> {
        let row = row.into_dimension();
        let mut dim = <I::Dim as Dimension>::Larger::zeros(row.ndim() + 1);
        for (axis, &len) in axes(&row).iter().enumerate() {
            dim[axis + 1] = len;
        }
        self.with(Wanted::Rows(dim))
    }

    fn with<D2>(self, wanted: Wanted<D2>) -> MmapArrayOptions<A, D2, M> {
        let Self { offset, lock, populate, extend, preallocate, max_header_size, page_aligned, opens, .. } = self;
        MmapArrayOptions { offset, wanted, lock, populate, extend, preallocate, max_header_size, page_aligned, opens }
    }

    /// Which lock to take on the file. Default: [`Lock::BestEffort`] for a path, and none for a file handle.
    ///
    /// With [`map`](Self::map) the lock is taken on the caller's own handle, and stays there: see `map`.
    #[must_use]
    pub fn lock(mut self, lock: Lock) -> Self {
        self.lock = Some(lock);
        self
    }

    /// Whether to read all pages while mapping, instead of each at its first access. Default: no.
    #[must_use]
    pub fn populate(mut self, populate: bool) -> Self {
        self.populate = populate;
        self
    }

    /// The maximum length of a `.npy` header, in bytes. Longer ones are refused. Default: 10,000, as in NumPy.
    #[must_use]
    pub fn max_header_size(mut self, bytes: usize) -> Self {
        self.max_header_size = bytes;
        self
    }
}

impl<A, D> MmapArrayOptions<A, D, ReadWrite> {
    /// Whether [`open`](Self::open) and [`map`](Self::map) extend a file, by zeros, that is too short for the offset and the
    /// shape. Default: no.
    ///
    /// A file is never extended for an array without elements, nor if the shape depends on the file's length.
    #[must_use]
    pub fn extend(mut self, extend: bool) -> Self {
        self.extend = extend;
        self
    }

    /// Whether a file that is created, or grows, gets its disk blocks at once. Default: yes.
    ///
    /// A full disk is then an error of this call, and not a crash (SIGBUS) at a later store. On a file system that cannot
    /// allocate blocks in advance, the file is sparse all the same.
    #[must_use]
    pub fn preallocate(mut self, preallocate: bool) -> Self {
        self.preallocate = preallocate;
        self
    }

    /// Whether a new `.npy` file starts its data at a multiple of 4096 bytes, after a longer, still valid header. Default: no.
    ///
    /// Rows of the size of a page are then in one page each, and reading scattered rows from a disk takes half the time.
    #[must_use]
    pub fn page_aligned(mut self, page_aligned: bool) -> Self {
        self.page_aligned = page_aligned;
        self
    }
}
