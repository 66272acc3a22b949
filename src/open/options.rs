//! The settings of an array that is to be opened or created.

use std::marker::PhantomData;
use std::ops::Range;

use ndarray::{Dimension, ShapeBuilder};

use super::wanted::Wanted;
use crate::file::Lock;
use crate::layout::{Order, Remainder, axes, split_row_shape, split_shape};
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
/// # let path = std::env::temp_dir().join(format!("ndarray-mmap-grid-{}.bin", std::process::id()));
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
    pub(super) remainder: Remainder,
    /// `None`: all of them.
    pub(super) rows: Option<Range<usize>>,
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
        Self { wanted: self.wanted.clone(), rows: self.rows.clone(), ..*self }
    }
}

impl<A, D, M> MmapArrayOptions<A, D, M> {
    pub(crate) fn new() -> Self {
        Self {
            offset: 0,
            wanted: Wanted::WholeFile,
            remainder: Remainder::Refused,
            rows: None,
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

    /// The shape of one row, for as many rows as the file has after the offset, like NumPy's `reshape(-1, 3, 4)`.
    ///
    /// `row_shape((3, 4))` gives an array of shape `(n, 3, 4)` in C order, `row_shape((3, 4).f())` one of shape `(3, 4, n)` in
    /// Fortran order. The bytes must be whole rows, unless [`ignore_remainder`](Self::ignore_remainder) is set.
    ///
    /// # Example
    /// ```
    /// use ndarray::ShapeBuilder;
    /// use ndarray_mmap::MmapArray;
    ///
    /// # let path = std::env::temp_dir().join(format!("ndarray-mmap-rows-{}.bin", std::process::id()));
    /// std::fs::write(&path, [0u8; 60])?;
    /// let a = MmapArray::<u8>::options().row_shape((3, 4)).load(&path)?;
    /// assert_eq!(a.dim(), (5, 3, 4));
    /// let a = MmapArray::<u8>::options().row_shape((3, 4).f()).load(&path)?;
    /// assert_eq!(a.dim(), (3, 4, 5));
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn row_shape<Sh: ShapeBuilder>(self, row: Sh) -> MmapArrayOptions<A, <Sh::Dim as Dimension>::Larger, M> {
        let (row, order) = split_row_shape(row);
        let mut dim = <Sh::Dim as Dimension>::Larger::zeros(row.ndim() + 1);
        let first = usize::from(order == Order::C);
        for (axis, &len) in axes(&row).iter().enumerate() {
            dim[first + axis] = len;
        }
        self.with(Wanted::Rows(dim, order))
    }

    pub(super) fn with<D2>(self, wanted: Wanted<D2>) -> MmapArrayOptions<A, D2, M> {
        MmapArrayOptions {
            offset: self.offset,
            wanted,
            remainder: self.remainder,
            rows: self.rows,
            lock: self.lock,
            populate: self.populate,
            extend: self.extend,
            preallocate: self.preallocate,
            max_header_size: self.max_header_size,
            page_aligned: self.page_aligned,
            opens: self.opens,
        }
    }

    /// Whether bytes at the end of the file that are no whole element, or no whole [row](Self::row_shape), are left out.
    /// Default: no, they are [`ErrorKind::LengthNotMultiple`](crate::ErrorKind::LengthNotMultiple).
    ///
    /// For a recording in progress, whose last row is not complete yet, and for formats that pad their files. Without
    /// effect beside a [`shape`](Self::shape) and for `.npy` files: they say how many elements there are.
    ///
    /// # Example: the whole rows of a recording in progress
    /// ```
    /// use ndarray_mmap::MmapArray;
    ///
    /// # let path = std::env::temp_dir().join(format!("ndarray-mmap-remainder-{}.bin", std::process::id()));
    /// std::fs::write(&path, [7u8; 1000])?;
    /// let a = MmapArray::<u8>::options().row_shape(64).ignore_remainder(true).load(&path)?;
    /// assert_eq!(a.dim(), (15, 64));
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn ignore_remainder(mut self, ignore: bool) -> Self {
        self.remainder = if ignore { Remainder::Ignored } else { Remainder::Refused };
        self
    }

    /// Maps only these rows: indices on the outermost axis, which is the first in C order and the last in Fortran order. The
    /// file must hold the whole array all the same. Default: all rows.
    ///
    /// For processes, threads or ranks that each work on their part of one file. The array is as long as the range, its
    /// [`offset`](crate::MmapArrayBase::offset) is where these rows start in the file, and it can be flushed and written to
    /// like any other. It cannot change its length ([`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported)), not even where
    /// its rows are the last of the file, and it never changes the header of a `.npy` file.
    ///
    /// # The promise, and locks
    /// What is promised to an `unsafe` constructor concerns only the mapped rows: that nobody else changes *their* bytes, and
    /// that the file is not truncated below *their* end. The [lock](Self::lock) is on the whole file, however: arrays for
    /// reading share it, but one for writing would keep all others out, also from other rows. So writers of parts of a file
    /// ask for [`Lock::None`], and divide the rows among themselves: no row is written by two of them, nor read by one while
    /// another writes it. (Two writers may share a page at their border: the system merges what they store. On network file
    /// systems it does not; there let borders be multiples of the page size.)
    ///
    /// # Errors of the call that opens the file
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for a range that is reversed or ends past the last row, and
    /// for a call that creates a file.
    ///
    /// # Example: two threads, each with its half of a file
    /// ```
    /// use ndarray_mmap::{Lock, MmapArray, MmapArrayMut};
    ///
    /// # let path = std::env::temp_dir().join(format!("ndarray-mmap-some-rows-{}.npy", std::process::id()));
    /// // SAFETY: nobody else knows this file.
    /// unsafe { MmapArrayMut::<f64>::create_npy(&path, (1000, 8))? }.close()?;
    /// std::thread::scope(|scope| {
    ///     for part in [0..500, 500..1000] {
    ///         let path = &path;
    ///         scope.spawn(move || {
    ///             let options = MmapArrayMut::<f64>::options().rows(part.clone()).lock(Lock::None);
    ///             // SAFETY: while `half` lives, nobody else changes the bytes of these rows or truncates the file.
    ///             let mut half = unsafe { options.open_npy(path) }.unwrap();
    ///             half.fill(part.start as f64);
    ///         });
    ///     }
    /// });
    /// assert_eq!(MmapArray::<f64>::load_npy(&path)?.sum(), 500.0 * 8.0 * 500.0);
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn rows(mut self, rows: Range<usize>) -> Self {
        self.rows = Some(rows);
        self
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
