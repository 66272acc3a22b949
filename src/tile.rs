//! Copies that change the layout, tile by tile: between C and Fortran order, from transposed, permuted, reversed and
//! sliced arrays.

mod copy;
mod pwrite;
mod tiling;

use std::fmt;

use bytemuck::{AnyBitPattern, NoUninit};
use ndarray::{ArrayRef, ArrayView, ArrayViewMut, Axis, Dimension, IxDyn};

use crate::array::MmapArrayBase;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::Order;
use crate::mode::{Persistent, Supports};
use crate::parallel::{OnProgress, Progress};
use crate::sys::memory::available_memory;
use copy::copy;
use pwrite::PwriteCopy;

/// In bytes: of a smaller array it does not matter whether its pages are in memory.
const MIN_PWRITE: usize = 1 << 20;

impl<A, D: Dimension, M: Persistent> MmapArrayBase<A, D, M>
where
    A: AnyBitPattern + NoUninit + Send + Sync,
    M: Supports<A>,
{
    /// Stores the elements of `src`, an array of the same shape in any layout. It does what ndarray's `assign` does,
    /// several times faster if the layouts differ (a transposed or permuted view, Fortran order from C order), and with
    /// the feature `rayon` on all threads of the current pool.
    ///
    /// Unlike `assign` it does not broadcast: pass it `src.broadcast(shape)`.
    ///
    /// # Memory
    /// The copy goes tile by tile. A tile is a box of indices that has long runs in the memory of both arrays. So a
    /// page of either is visited by at most 2 + ⌈page / run⌉ tiles, however large the arrays are (by one, if rows are
    /// whole pages and runs are whole rows of them). Runs are at least half of √(tile / element) elements long, if the
    /// axes are: with tiles of 4 MiB in memory, 362 elements of 8 bytes. (If the source is in memory and the target is
    /// not, its runs have 1 KiB.)
    ///
    /// If the arrays do not fit in memory, tiles are as large as the free memory allows, up to 64 MiB. Several are read
    /// and written at a time. What was written is written back at once, and leaves the page cache: a
    /// [`flush`](Self::flush) at the end has next to nothing left to do. (On Linux; other systems manage the memory
    /// themselves.) The pages of the source are left to the system.
    ///
    /// A target that is not in memory is written through its file, from threads of its own: there may be more of them
    /// than processors.
    ///
    /// # Errors
    /// - [`ErrorKind::ShapeMismatch`], before anything is stored.
    /// - [`ErrorKind::Io`], [`ErrorKind::Fault`], [`ErrorKind::Truncated`]: the disk failed or is full, or the file was
    ///   truncated. Some of the array is stored. (`src.guarded(|view| dst.assign_tiled(&view))` reports a failure of
    ///   the file of `src`.)
    /// - [`ErrorKind::Poisoned`] after an earlier failure.
    ///
    /// # Example: from C order to Fortran order
    /// ```
    /// use ndarray::ShapeBuilder;
    /// use ndarray_mmap::MmapArrayMut;
    ///
    /// let mut rows = MmapArrayMut::<f32>::scratch((200, 300))?;
    /// rows[[1, 2]] = 7.0;
    /// let mut columns = MmapArrayMut::<f32>::scratch((200, 300).f())?;
    /// columns.assign_tiled(&rows)?;
    /// assert_eq!(*columns, *rows);
    ///
    /// let mut transposed = MmapArrayMut::<f32>::scratch((300, 200))?;
    /// transposed.assign_tiled(&rows.t())?;
    /// assert_eq!(transposed[[2, 1]], 7.0);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn assign_tiled(&mut self, src: &ArrayRef<A, D>) -> Result<()> {
        self.tiled().assign(src)
    }

    /// Stores `f` of each element of `src`: an [`assign_tiled`](Self::assign_tiled) that changes the type, the byte
    /// order or the scale.
    ///
    /// # Errors
    /// Those of [`assign_tiled`](Self::assign_tiled). After a panic in `f` some of the array is stored.
    ///
    /// # Example: transposed, and scaled to another type
    /// ```
    /// use ndarray_mmap::MmapArrayMut;
    ///
    /// let mut raw = MmapArrayMut::<i16>::scratch((200, 300))?;
    /// raw[[3, 4]] = 5;
    /// let mut volts = MmapArrayMut::<f64>::scratch((300, 200))?;
    /// volts.assign_tiled_with(&raw.t(), |&x| f64::from(x) * 0.5)?;
    /// assert_eq!(volts[[4, 3]], 2.5);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn assign_tiled_with<B: Sync>(&mut self, src: &ArrayRef<B, D>, f: impl Fn(&B) -> A + Sync) -> Result<()> {
        self.tiled().assign_with(src, f)
    }

    /// Starts to configure a tiled copy: see [`TiledAssign`].
    pub fn tiled(&mut self) -> TiledAssign<'_, A, D, M> {
        TiledAssign { to: self, progress: None }
    }
}

/// A configured tiled copy that has not started: see [`tiled`](MmapArrayBase::tiled).
///
/// ```
/// use ndarray_mmap::MmapArrayMut;
///
/// let raw = MmapArrayMut::<u16>::scratch((2000, 3000))?;
/// let mut transposed = MmapArrayMut::<f32>::scratch((3000, 2000))?;
/// let mut copied = 0;
/// transposed.tiled().progress(|done, _| copied = done).assign_with(&raw.t(), |&x| x.into())?;
/// assert_eq!(copied, 3000 * 2000 * 4);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
#[must_use = "nothing is copied until `assign` or `assign_with`"]
pub struct TiledAssign<'a, A: 'static, D, M> {
    to: &'a mut MmapArrayBase<A, D, M>,
    progress: Option<OnProgress<'a>>,
}

impl<'a, A, D: Dimension, M: Persistent> TiledAssign<'a, A, D, M>
where
    A: AnyBitPattern + NoUninit + Send + Sync,
    M: Supports<A>,
{
    /// Calls `progress(done, total)`, in bytes of the array that is stored to, whenever a tile is stored; also with
    /// several threads one call at a time, and with numbers that never decrease.
    pub fn progress(mut self, progress: impl FnMut(u64, u64) + Send + 'a) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// Stores the elements of `src`: see [`assign_tiled`](MmapArrayBase::assign_tiled).
    ///
    /// # Errors
    /// Those of [`assign_tiled`](MmapArrayBase::assign_tiled).
    pub fn assign(self, src: &ArrayRef<A, D>) -> Result<()> {
        self.assign_with(src, |&x| x)
    }

    /// Stores `f` of each element of `src`: see [`assign_tiled_with`](MmapArrayBase::assign_tiled_with).
    ///
    /// # Errors
    /// Those of [`assign_tiled`](MmapArrayBase::assign_tiled).
    pub fn assign_with<B: Sync>(self, src: &ArrayRef<B, D>, f: impl Fn(&B) -> A + Sync) -> Result<()> {
        let Self { to, progress } = self;
        to.check_poison()?;
        if src.shape() != to.shape() {
            let message = format!("a source of shape {:?} does not fit shape {:?}", src.shape(), to.shape());
            return Err(to.named(Error::new(ErrorKind::ShapeMismatch, message)));
        }
        if to.is_empty() {
            return Ok(());
        }
        let from = coalesce_axes(src.view(), to.layout().order());
        let writer = to.file_writer();
        let storage = writer.storage();
        let progress = Progress::new(storage.len() as u64, progress);
        if storage.can_write_at() && storage.len() > MIN_PWRITE {
            let all = (storage.len() as u64).saturating_add(from.len() as u64 * size_of::<B>() as u64);
            // Clean pages in memory count as free, those of these arrays too: up to 3/4 of that they stay there.
            let scarce = available_memory().filter(|free| all > free / 4 * 3);
            if scarce.is_some() || !storage.seems_present() {
                let copy =
                    scarce.map_or_else(|| PwriteCopy::cached(writer), |free| PwriteCopy::streaming(writer, free));
                return copy.write(from, &f, &progress).map_err(|e| to.named(e));
            }
        }
        to.guarded_mut(|to| {
            let to = to.into_slice_memory_order().unwrap_or_default();
            // Cannot fail: the shapes were equal, and coalescing axes keeps the number of elements.
            let to = ArrayViewMut::from_shape(from.raw_dim(), to).expect("both sides have as many elements");
            copy(to, from, &f, &progress);
        })
    }
}

impl<A, D: Dimension, M> fmt::Debug for TiledAssign<'_, A, D, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TiledAssign").field("to", &self.to).finish_non_exhaustive()
    }
}

/// The same elements with as few axes as possible, at least one. Their C order is the order of the array to be written.
fn coalesce_axes<B, D: Dimension>(from: ArrayView<'_, B, D>, order: Order) -> ArrayView<'_, B, IxDyn> {
    let from = from.into_dyn();
    let mut from = if order == Order::F { from.reversed_axes() } else { from };
    for axis in (1..from.ndim()).rev() {
        if from.merge_axes(Axis(axis - 1), Axis(axis)) {
            from = from.index_axis_move(Axis(axis - 1), 0);
        } else if from.len_of(Axis(axis)) == 1 {
            from = from.index_axis_move(Axis(axis), 0);
        }
    }
    if from.ndim() == 0 { from.insert_axis(Axis(0)) } else { from }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use ndarray::{Array, ShapeBuilder, array, s};

    use super::tiling::Tiling;
    use super::*;
    use crate::array::MmapArrayMut;

    #[test]
    fn arrays_larger_than_memory_come_out_the_same() {
        let shape = (1500, 1100);
        let values = Array::from_shape_fn(shape, |(i, j)| (i * 1100 + j) as u32);
        for (free, order) in [(0, Order::C), (100 << 20, Order::F)] {
            let mut to = MmapArrayMut::<u32>::scratch((1100, 1500).set_f(order == Order::F)).unwrap();
            let from = coalesce_axes(values.t(), order);
            // Twice: over pages that were never written, and over those of another array.
            for same in [false, true] {
                let writer = to.file_writer();
                let convert = |&x: &u32| if same { x } else { !x };
                let copy = PwriteCopy::streaming(writer, free);
                copy.write(from.view(), &convert, &Progress::new(0, None)).unwrap();
            }
            assert_eq!(*to, values.t());
        }
    }

    /// The most tiles that any page of one side is part of: of `outer` rows of `inner` elements of `size` bytes, in tiles
    /// of this shape.
    fn visits(outer: usize, inner: usize, tile: [usize; 2], size: usize) -> usize {
        let mut pages = HashMap::<usize, HashSet<[usize; 2]>>::new();
        for row in 0..outer {
            for start in (0..inner).step_by(tile[1]) {
                let (first, end) = (row * inner + start, row * inner + inner.min(start + tile[1]));
                for page in first * size / PAGE..=(end * size - 1) / PAGE {
                    pages.entry(page).or_default().insert([row / tile[0], start / tile[1]]);
                }
            }
        }
        pages.into_values().map(|tiles| tiles.len()).max().unwrap_or(0)
    }

    const PAGE: usize = 4096;

    /// The bound in the description of `assign_tiled`, for the tiles that it really uses.
    #[test]
    fn a_page_is_visited_as_often_as_is_said_at_most() {
        let mut scratch = MmapArrayMut::<u8>::scratch(1).unwrap();
        let writer = scratch.file_writer();
        let ways = |item| {
            let through_file =
                [PwriteCopy::cached(writer), PwriteCopy::streaming(writer, 0), PwriteCopy::streaming(writer, 2 << 30)];
            let in_memory = (copy::budget(item), usize::MAX);
            [in_memory].into_iter().chain(through_file.map(|how| how.budget(item)))
        };
        for [a, b] in [[8, 8], [4, 4], [2, 2], [1, 1], [8, 1], [1, 8], [16, 16]] {
            for [rows, columns] in [[2100, 3073], [4096, 2048], [5000, 700], [300, 9000]] {
                for (budget, enough) in ways(a.max(b)) {
                    let (to, from) = ([columns as isize, 1], [1, rows as isize]);
                    let tiling = Tiling::new(&[rows, columns], &to, &from, budget, enough);
                    let &[high, wide] = tiling.tile() else { unreachable!() };
                    let least = |axis: usize| axis.min(enough).min(budget.isqrt() / 2);
                    assert!(high >= least(rows) && wide >= least(columns), "{high} x {wide} of {budget}");
                    let bound = |run: usize, size| 2 + PAGE.div_ceil(run * size);
                    assert!(
                        visits(rows, columns, [high, wide], a) <= bound(wide, a),
                        "{a} {rows} {columns} {tiling:?}"
                    );
                    assert!(
                        visits(columns, rows, [wide, high], b) <= bound(high, b),
                        "{b} {rows} {columns} {tiling:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn axes_that_are_contiguous_become_one() {
        let a = Array::<u8, _>::zeros((2, 1, 3, 4));
        assert_eq!(coalesce_axes(a.view(), Order::C).shape(), [24]);
        assert_eq!(coalesce_axes(a.t(), Order::F).shape(), [24]);
        assert_eq!(coalesce_axes(a.view(), Order::F).shape(), [4, 3, 2]);
        assert_eq!(coalesce_axes(a.slice(s![.., .., 1.., ..]), Order::C).shape(), [2, 8]);
        assert_eq!(coalesce_axes(a.slice(s![..;-1, .., ..;-1, ..;-1]), Order::C).shape(), [24]);
        assert_eq!(coalesce_axes(a.permuted_axes([2, 3, 0, 1]).view(), Order::C).shape(), [12, 2]);
        assert_eq!(coalesce_axes(array![[[1]]].view(), Order::C).shape(), [1]);
        assert_eq!(coalesce_axes(ndarray::arr0(1).view(), Order::F).shape(), [1]);
    }
}
