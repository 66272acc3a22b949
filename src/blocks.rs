//! Walking an array that is larger than memory: block by block, read ahead, let go of behind, on all cores.

mod accumulate;
mod iter;
mod map;
mod pairwise;
mod partition;
mod prefetch;
mod reduce;
mod scan;
mod segments;

use std::fmt;

use ndarray::{ArrayView, ArrayViewMut, Dimension, Shape};

use crate::array::MmapArrayBase;
use crate::element::ElementLayout;
use crate::layout::Layout;
use crate::mode::Writable;
use crate::storage::Pages;
use partition::{BlockSize, Partition};

pub use accumulate::{Accumulate, Accumulator, MeanValue};
pub use iter::BlocksIter;
#[cfg(feature = "rayon")]
pub use iter::ParBlocksIter;
use scan::{Intent, Scan, ScanOptions};

/// A walk over an array, to be: see [`blocks`](MmapArrayBase::blocks).
pub type Blocks<'a, A, D> = BlocksBase<'a, D, &'a [A]>;

/// A walk that writes, to be: see [`blocks_mut`](MmapArrayBase::blocks_mut).
pub type BlocksMut<'a, A, D> = BlocksBase<'a, D, &'a mut [A]>;

/// A walk over an array, block by block, in memory order: first how, then what.
///
/// Use it through its aliases [`Blocks`] and [`BlocksMut`]. Iterate over it (it is exact in size, so progress bars
/// know where they are), with the feature `rayon` also in parallel, or end it by an operation such as
/// [`sum`](Self::sum).
///
/// # Blocks
/// A block is a view of the array's own dimension: as many whole rows (steps of the outermost axis in memory: the
/// first in C order, the last in Fortran order) as fit in [`bytes`](Self::bytes), or as [`rows`](Self::rows) says. A
/// row that is larger is cut along the next axis, and so on. Every element is in one block, and the blocks come in the
/// order of memory. An array without elements has no blocks.
///
/// # Memory
/// The walk reads ahead of itself, from threads of its own. Where all arrays of the walk together fit in half of the memory
/// that is free, as the system estimates it (the limits of control groups count), it keeps what it has passed in memory.
/// Otherwise it evicts that: from this process (see [`evict`](Self::evict)), and from the page cache (see
/// [`keep_cached`](Self::keep_cached)). Nothing is evicted before it is on the disk, nor if it cannot be written there.
/// Hints given with [`advise`](MmapArrayBase::advise) stay as they are. Arrays in private memory are walked all the same;
/// there is nothing to read or to evict, then.
///
/// # Example
/// ```
/// use ndarray::Axis;
/// use ndarray_mmap::MmapArrayMut;
///
/// let mut a = MmapArrayMut::<f32>::scratch((1000, 3))?;
/// for mut block in a.blocks_mut().rows(100) {
///     block.fill(0.5);
/// }
/// assert_eq!(a.blocks().sum(), 1500.0);
/// assert_eq!(a.blocks().mean_axis(Axis(0)).unwrap(), ndarray::arr1(&[0.5, 0.5, 0.5]));
///
/// let largest = a.blocks().into_iter().map(|block| block.fold(0.0, |m: f32, &x| m.max(x))).fold(0.0, f32::max);
/// assert_eq!(largest, 0.5);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
#[must_use = "a walk does nothing until it is iterated over, or ended by an operation"]
pub struct BlocksBase<'a, D, E> {
    elements: E,
    layout: &'a Layout<D>,
    pages: Pages<'a>,
    size: Option<BlockSize>,
    parallel: bool,
    habits: ScanOptions<'a>,
}

/// By measurement: large enough that starting on a block costs nothing, small enough for the cache that cores share.
const DEFAULT_BYTES: usize = 4 << 20;

impl<A, D: Dimension, M> MmapArrayBase<A, D, M> {
    /// Walks the array block by block, in bounded memory, however large it is.
    ///
    /// ```no_run
    /// use ndarray::Ix2;
    /// use ndarray_mmap::MmapArray;
    ///
    /// // SAFETY: nobody writes or cuts these bytes of the file while the array lives.
    /// let a = unsafe { MmapArray::<f64>::options().row_shape(1000).open("larger-than-memory.bin")? };
    /// println!("{} {:?}", a.blocks().sum(), a.blocks().progress(|done, total| eprint!("\r{done}/{total}")).var(1));
    /// for block in a.blocks().rows(5000) {
    ///     println!("{}", block.dim().0);
    /// }
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn blocks(&self) -> Blocks<'_, A, D> {
        BlocksBase::new(self.view().to_slice_memory_order().unwrap_or_default(), self.layout(), self.pages())
    }
}

impl<A, D: Dimension, M: Writable> MmapArrayBase<A, D, M> {
    /// Walks the array block by block, for writing.
    ///
    /// Where the walk evicts (see [`evict`](BlocksBase::evict)), what was stored is on its way to the disk as soon as the
    /// walk has passed it, and the walk waits for the disk rather than let much pile up. For certainty there is
    /// [`flush`](MmapArrayBase::flush). What is stored in a copy-on-write array stays in memory.
    pub fn blocks_mut(&mut self) -> BlocksMut<'_, A, D> {
        let (view, layout, pages) = self.view_mut_and_pages();
        BlocksBase::new(view.into_slice_memory_order().unwrap_or_default(), layout, pages)
    }
}

impl<'a, D: Dimension, E> BlocksBase<'a, D, E> {
    fn new(elements: E, layout: &'a Layout<D>, pages: Pages<'a>) -> Self {
        Self { elements, layout, pages, size: None, parallel: false, habits: ScanOptions::default() }
    }

    /// How large a block may be, in bytes; a single element always may (so 0 stands for one). Takes the place of [`rows`](Self::rows).
    /// Default: 4 MiB.
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.size = Some(BlockSize::Bytes(bytes));
        self
    }

    /// How many rows a block has (0 counts as 1), however large; the last has what is left. Takes the place of
    /// [`bytes`](Self::bytes).
    ///
    /// Walks over arrays of the same shape and order that are given the same rows have the same blocks, whatever
    /// their elements, so that they can be zipped.
    ///
    /// ```
    /// use ndarray_mmap::MmapArrayMut;
    ///
    /// let prices = MmapArrayMut::<f64>::scratch((1000, 4))?;
    /// let mut flags = MmapArrayMut::<u8>::scratch((1000, 4))?;
    /// for (price, mut flag) in prices.blocks().rows(64).into_iter().zip(flags.blocks_mut().rows(64)) {
    ///     flag.zip_mut_with(&price, |f, &p| *f = (p == 0.0).into());
    /// }
    /// assert_eq!(flags.blocks().sum(), 4000);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn rows(mut self, rows: usize) -> Self {
        self.size = Some(BlockSize::Rows(rows));
        self
    }

    /// Whether pages behind the walk are evicted from this process, so that its resident set stays small. Nothing is lost
    /// by it: what was stored is written back before, and waited for; and a page that is needed again comes back from the
    /// page cache, or from the file. Has no effect on copy-on-write arrays and private memory, where it would lose what was
    /// stored.
    ///
    /// Default: no if all arrays of the walk fit in half of the memory that is free, as the system estimates it; otherwise,
    /// and with [`keep_cached(false)`](Self::keep_cached), yes.
    pub fn evict(mut self, evict: bool) -> Self {
        self.habits.evict = Some(evict);
        self
    }

    /// Whether what the walk reads, or writes, stays in the page cache, so that the next walk finds it there.
    /// `false` needs [`evict`](Self::evict). What was in the cache before is never dropped from it, nor is anything where the
    /// system does not tell what was (Linux does not of files that the process neither owns nor may write to), nor what is
    /// written through a file handle of the caller's ([`map`](crate::MmapArrayOptions::map)).
    ///
    /// Default: yes if all arrays of the walk fit in half of the memory that is free. Otherwise no: the end of the array would
    /// push its own beginning out of the cache, and everything else with it.
    pub fn keep_cached(mut self, keep: bool) -> Self {
        self.habits.keep_cached = Some(keep);
        self
    }

    /// Calls `progress(done, total)` whenever a block is done with, in bytes; with several threads too, one call at a
    /// time and never back. (Adaptors of iterators that are called `progress`, such as indicatif's, follow
    /// `into_iter()`.)
    pub fn progress(mut self, progress: impl FnMut(u64, u64) + Send + 'a) -> Self {
        self.habits.progress = Some(Box::new(progress));
        self
    }

    /// Whether the operation that ends the walk uses all threads of the current rayon pool. Blocks may then be walked
    /// out of order; the result is the same, to the last bit (but see [`sum_axis`](Self::sum_axis)).
    /// [`fold`](Self::fold) is always in order; for an iteration in parallel see `into_par_iter`.
    /// Default: no.
    ///
    /// Needs the feature `rayon`.
    #[cfg(feature = "rayon")]
    pub fn parallel(mut self, parallel: bool) -> Self {
        self.parallel = parallel;
        self
    }

    fn partition(&self) -> Partition<D> {
        self.layout.partition(self.size.unwrap_or(BlockSize::Bytes(DEFAULT_BYTES)))
    }

    fn item(&self) -> ElementLayout {
        self.layout.item()
    }
}

/// Elements in memory order, that blocks are cut from: `&[A]` and `&mut [A]`, and no others.
pub trait BlockElements<D>: sealed::Sealed<D> + Default {
    /// The view that a block is.
    type View;
    #[doc(hidden)]
    fn count(&self) -> usize;
    #[doc(hidden)]
    fn split(self, at: usize) -> (Self, Self);
    #[doc(hidden)]
    fn into_view(self, shape: Shape<D>) -> Self::View;
}

impl<'a, A, D: Dimension> BlockElements<D> for &'a [A] {
    type View = ArrayView<'a, A, D>;

    fn count(&self) -> usize {
        self.len()
    }

    fn split(self, at: usize) -> (Self, Self) {
        self.split_at(at)
    }

    fn into_view(self, shape: Shape<D>) -> Self::View {
        ArrayView::from_shape(shape, self)
            .unwrap_or_else(|e| unreachable!("a block has as many elements as its shape: {e}"))
    }
}

impl<'a, A, D: Dimension> BlockElements<D> for &'a mut [A] {
    type View = ArrayViewMut<'a, A, D>;

    fn count(&self) -> usize {
        self.len()
    }

    fn split(self, at: usize) -> (Self, Self) {
        self.split_at_mut(at)
    }

    fn into_view(self, shape: Shape<D>) -> Self::View {
        ArrayViewMut::from_shape(shape, self)
            .unwrap_or_else(|e| unreachable!("a block has as many elements as its shape: {e}"))
    }
}

/// The shape and how it is walked; never the contents, which may be larger than memory.
impl<D: Dimension, E> fmt::Debug for BlocksBase<'_, D, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocks")
            .field("shape", &self.layout.axes())
            .field("size", &self.size)
            .field("parallel", &self.parallel)
            .field("habits", &self.habits)
            .finish()
    }
}

mod sealed {
    use ndarray::Dimension;

    /// For a dimension, as the trait that it seals is: or that could be implemented for a `D` of somebody else's.
    pub trait Sealed<D> {
        const WRITES: bool;
    }
    impl<A, D: Dimension> Sealed<D> for &[A] {
        const WRITES: bool = false;
    }
    impl<A, D: Dimension> Sealed<D> for &mut [A] {
        const WRITES: bool = true;
    }
}

impl<'a, D: Dimension, E: BlockElements<D>> BlocksBase<'a, D, E> {
    fn walk(self) -> (E, Partition<D>, Scan<'a>) {
        let partition = self.partition();
        let purpose = if E::WRITES { Intent::Update } else { Intent::Read };
        (self.elements, partition, Scan::new(self.pages, self.habits, purpose))
    }
}
