//! Passes over arrays that are larger than memory: block by block, read ahead, evicted behind, on all cores.

mod accumulate;
mod columns;
mod iter;
mod lane_reductions;
mod lanes;
mod pairwise;
mod partition;
mod prefetch;
mod reductions;
mod scan;
mod segments;
mod skip_nan;

// The page of a pass lists methods in the order of these modules.
mod settings;

mod reduce;

mod axis;

mod map;

mod indexed;

use std::fmt;

use ndarray::Dimension;

use crate::array::MmapArrayBase;
use crate::layout::Layout;
use crate::mode::Writable;
use crate::parallel::computing_threads;
use crate::storage::Storage;
use partition::{BlockSize, Partition};
use scan::ScanOptions;

pub use accumulate::{Accumulate, Accumulator};
#[cfg(feature = "rayon")]
pub use indexed::ParIndexedBlocksIter;
pub use indexed::{IndexedBlocks, IndexedBlocksIter};
#[cfg(feature = "rayon")]
pub use iter::ParBlocksIter;
pub use iter::{BlockElements, BlocksIter};
pub use reductions::MeanValue;

/// A pass that reads: see [`blocks`](MmapArrayBase::blocks).
pub type Blocks<'a, A, D> = BlocksBase<'a, D, &'a [A]>;

/// A pass that writes: see [`blocks_mut`](MmapArrayBase::blocks_mut).
pub type BlocksMut<'a, A, D> = BlocksBase<'a, D, &'a mut [A]>;

/// A configured pass over an array that has not started: block by block, in memory order.
///
/// Use it through its aliases [`Blocks`] and [`BlocksMut`]. Iterate over it (the iterator knows its exact size, for
/// progress bars), with the feature `rayon` also in parallel, or call an operation such as [`sum`](Self::sum).
///
/// # Blocks
/// A block is a view of the array's own dimension: as many whole rows (steps of the outermost axis in memory: the
/// first in C order, the last in Fortran order) as fit in [`bytes`](Self::bytes), or as [`rows`](Self::rows) says. A
/// row that is larger is cut along the next axis, and so on. Every element is in one block, and the blocks come in the
/// order of memory. An array without elements has no blocks.
///
/// # Memory
/// The pass reads ahead, from threads of its own. If all of its arrays together fit in half of the free memory, as the
/// system estimates it (the limits of control groups count), what it has passed stays in memory. Otherwise it is
/// evicted: from this process (see [`evict`](Self::evict)), and from the page cache (see
/// [`keep_cached`](Self::keep_cached)). Nothing is evicted before it is on the disk, nor if it cannot be written there.
/// Hints given with [`advise`](MmapArrayBase::advise) stay as they are. An in-memory copy has blocks too, but nothing
/// to read or evict.
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
#[must_use = "a pass does not start until it is iterated over, or an operation is called"]
pub struct BlocksBase<'a, D, E> {
    elements: E,
    layout: &'a Layout<D>,
    storage: &'a Storage,
    size: Option<BlockSize>,
    parallel: bool,
    skip_nan: bool,
    options: ScanOptions<'a>,
}

/// Large enough that the cost of a block's start vanishes, small enough for the cache that cores share (bench `blocks`,
/// "warm sum").
const DEFAULT_BYTES: usize = 4 << 20;

impl<A, D: Dimension, M> MmapArrayBase<A, D, M> {
    /// Returns a builder for a pass over the array: block by block, in bounded memory, however large it is.
    ///
    /// If the file is truncated or the disk fails during the pass, the process ends, unless the pass runs in a
    /// [`guarded`](Self::guarded) call.
    ///
    /// ```no_run
    /// use ndarray::Ix2;
    /// use ndarray_mmap::MmapArray;
    ///
    /// // SAFETY: while `a` lives, no other process or handle changes its bytes or truncates the file.
    /// let a = unsafe { MmapArray::<f64>::options().row_shape(1000).open("larger-than-memory.bin")? };
    /// println!("{} {:?}", a.blocks().sum(), a.blocks().progress(|done, total| eprint!("\r{done}/{total}")).var(1));
    /// for block in a.blocks().rows(5000) {
    ///     println!("{}", block.dim().0);
    /// }
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn blocks(&self) -> Blocks<'_, A, D> {
        BlocksBase::new(self.view().to_slice_memory_order().unwrap_or_default(), self.layout(), self.storage())
    }
}

impl<A, D: Dimension, M: Writable> MmapArrayBase<A, D, M> {
    /// Returns a builder for a pass that writes.
    ///
    /// If the pass evicts (see [`evict`](BlocksBase::evict)), it starts to write a block back as soon as it is done
    /// with it, and waits for the disk before much piles up. To be certain that all is on the disk, call
    /// [`flush`](MmapArrayBase::flush). What is stored in a copy-on-write array stays in memory.
    pub fn blocks_mut(&mut self) -> BlocksMut<'_, A, D> {
        let (view, layout, storage) = self.view_mut_and_storage();
        BlocksBase::new(view.into_slice_memory_order().unwrap_or_default(), layout, storage)
    }
}

impl<'a, D: Dimension, E> BlocksBase<'a, D, E> {
    fn new(elements: E, layout: &'a Layout<D>, storage: &'a Storage) -> Self {
        Self {
            elements,
            layout,
            storage,
            size: None,
            parallel: false,
            skip_nan: false,
            options: ScanOptions::default(),
        }
    }

    fn partition(&self) -> Partition<D> {
        self.layout.partition(self.size.unwrap_or(BlockSize::Bytes(DEFAULT_BYTES)))
    }

    /// The number of threads that the pass may use.
    fn threads(&self) -> usize {
        if self.parallel { computing_threads() } else { 1 }
    }
}

/// The shape and the options, but no contents: they may be larger than memory.
impl<D: Dimension, E> fmt::Debug for BlocksBase<'_, D, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocks")
            .field("shape", &self.layout.axes())
            .field("size", &self.size)
            .field("parallel", &self.parallel)
            .field("options", &self.options)
            .finish()
    }
}
