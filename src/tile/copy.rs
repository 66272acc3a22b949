//! A copy from memory to memory, between layouts.

use bytemuck::{NoUninit, Zeroable};
use ndarray::{ArrayView, ArrayView1, ArrayView2, ArrayViewMut, ArrayViewMut1, ArrayViewMut2, Axis, IxDyn, Zip};

use super::tiling::Tiling;
use crate::arch::nontemporal::{self, with_nontemporal_stores};
use crate::parallel::Progress;

/// What a tile takes of each side, in bytes: 1,024 pages of each, which the processor's second-level TLB holds, and
/// runs of a whole page and more for elements of 4 bytes and more.
const TILE_BYTES: usize = 4 << 20;

/// Elements of each contiguous lane of the source that a panel has: enough for the processor to prefetch.
const PANEL_HEIGHT: usize = 512;

/// Bytes of each row of the target that a panel has: mostly whole cache lines, wherever it starts; and a
/// panel fits in a core's own cache.
const PANEL_ROW_BYTES: usize = 1024;

/// Side of the squares that are transposed in registers.
const SQUARE: usize = 8;

/// Elements copied of one row of a thin plane before those of the next row: both sides of them fit in the first-level
/// cache.
const THIN_LENGTH: usize = 1024;

/// Stores `from` in `to`, which is in C order, on all threads of the current pool.
pub(super) fn copy<A, B>(
    to: ArrayViewMut<'_, A, IxDyn>,
    from: ArrayView<'_, B, IxDyn>,
    convert: &(impl Fn(&B) -> A + Sync),
    progress: &Progress<'_>,
) where
    A: NoUninit + Zeroable + Send + Sync,
    B: Sync,
{
    let budget = budget(size_of::<A>().max(size_of::<B>()));
    let tiling = Tiling::new(from.shape(), to.strides(), from.strides(), budget, usize::MAX);
    let non_temporal = to.len() * size_of::<A>() >= nontemporal::MIN_BYTES;
    in_tiles(to, from, tiling.tile(), &|to, from| {
        let bytes = to.len() * size_of::<A>();
        copy_tile(to, from, convert, non_temporal);
        progress.advance(bytes);
    });
}

/// The elements of a tile, of so many bytes each.
pub(super) fn budget(item: usize) -> usize {
    TILE_BYTES / item.max(1)
}

/// Halves both sides between two tiles, until they are tiles.
fn in_tiles<A, B>(
    to: ArrayViewMut<'_, A, IxDyn>,
    from: ArrayView<'_, B, IxDyn>,
    tile: &[usize],
    copy_tile: &(impl Fn(ArrayViewMut<'_, A, IxDyn>, ArrayView<'_, B, IxDyn>) + Sync),
) where
    A: Send + Sync,
    B: Sync,
{
    // The outermost axis first: so each thread writes a range of memory of its own.
    let Some(axis) = (0..tile.len()).find(|&axis| from.shape()[axis] > tile[axis]) else {
        return copy_tile(to, from);
    };
    let middle = from.shape()[axis].div_ceil(tile[axis]) / 2 * tile[axis];
    let (to, more_to) = to.split_at(Axis(axis), middle);
    let (from, more_from) = from.split_at(Axis(axis), middle);
    both(|| in_tiles(to, from, tile, copy_tile), || in_tiles(more_to, more_from, tile, copy_tile));
}

#[cfg(feature = "rayon")]
fn both(a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
    rayon::join(a, b);
}

#[cfg(not(feature = "rayon"))]
fn both(a: impl FnOnce(), b: impl FnOnce()) {
    a();
    b();
}

/// Stores `from` in `to`, whose last axis is contiguous, both small enough for the cache.
pub(super) fn copy_tile<A, B>(
    to: ArrayViewMut<'_, A, IxDyn>,
    from: ArrayView<'_, B, IxDyn>,
    convert: &impl Fn(&B) -> A,
    non_temporal: bool,
) where
    A: NoUninit + Zeroable,
{
    let last = from.ndim() - 1;
    let in_memory = (0..from.ndim()).filter(|&axis| from.shape()[axis] > 1 && from.strides()[axis] != 0);
    let inner = in_memory.min_by_key(|&axis| (from.strides()[axis].unsigned_abs(), last - axis)).unwrap_or(last);
    let at_once = from.shape()[last] * if inner == last { 1 } else { from.shape()[inner] };
    if from.ndim() > 1 && at_once < SQUARE * SQUARE {
        // The start of each plane, or row, would cost more than it gains.
        Zip::from(to).and(from).for_each(|to, from| *to = convert(from));
    } else if inner == last {
        copy_rows(to, from, convert);
    } else {
        PlaneTranspose { convert, non_temporal, packed: Vec::new(), panel: Vec::new() }.store(to, from, inner);
    }
}

/// Both sides have the same innermost axis.
fn copy_rows<A, B>(mut to: ArrayViewMut<'_, A, IxDyn>, from: ArrayView<'_, B, IxDyn>, convert: &impl Fn(&B) -> A) {
    for (to, from) in to.rows_mut().into_iter().zip(from.rows()) {
        copy_row(to, from, convert);
    }
}

fn copy_row<A, B>(mut to: ArrayViewMut1<'_, A>, from: ArrayView1<'_, B>, convert: &impl Fn(&B) -> A) {
    match (to.as_slice_mut(), from.to_slice()) {
        (Some(to), Some(from)) => convert_slice(to, from, convert),
        _ => Zip::from(to).and(from).for_each(|to, from| *to = convert(from)),
    }
}

/// A `memcpy` if `convert` changes nothing. Only as the arguments of a function of their own are the slices known to be
/// disjoint, which the compiler needs for that.
#[inline(never)]
fn convert_slice<A, B>(to: &mut [A], from: &[B], convert: &impl Fn(&B) -> A) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = convert(from));
}

/// The last axis is innermost in the target, and another in the source.
struct PlaneTranspose<'c, A, C> {
    convert: &'c C,
    non_temporal: bool,
    /// Lanes of the source, if they are not contiguous.
    packed: Vec<A>,
    /// Rows of the target, before they are stored past the cache.
    panel: Vec<A>,
}

impl<A: NoUninit + Zeroable, C> PlaneTranspose<'_, A, C> {
    fn store<B>(&mut self, mut to: ArrayViewMut<'_, A, IxDyn>, from: ArrayView<'_, B, IxDyn>, inner: usize)
    where
        C: Fn(&B) -> A,
    {
        let last = from.ndim() - 1;
        if let Some(other) = (0..last).find(|&axis| axis != inner) {
            let inner = if other < inner { inner - 1 } else { inner };
            let pairs = to.axis_iter_mut(Axis(other)).zip(from.axis_iter(Axis(other)));
            pairs.for_each(|(to, from)| self.store(to, from, inner));
        } else if let (Ok(to), Ok(from)) = (to.into_dimensionality(), from.into_dimensionality()) {
            self.store_plane(to, from);
        }
    }

    /// `to` consists of contiguous rows. The columns of `from` are best for reading.
    fn store_plane<B>(&mut self, mut to: ArrayViewMut2<'_, A>, from: ArrayView2<'_, B>)
    where
        C: Fn(&B) -> A,
    {
        let (height, width) = to.dim();
        if height.min(width) < SQUARE {
            return copy_thin_plane(to, from, self.convert);
        }
        let wide = (PANEL_ROW_BYTES / size_of::<A>()).clamp(SQUARE, PANEL_HEIGHT);
        let panels = to.axis_chunks_iter_mut(Axis(0), PANEL_HEIGHT).zip(from.axis_chunks_iter(Axis(0), PANEL_HEIGHT));
        for (mut to, from) in panels {
            let mut rows: Vec<&mut [A]> =
                to.axis_iter_mut(Axis(0)).map(|row| row.into_slice().unwrap_or_default()).collect();
            for from in from.axis_chunks_iter(Axis(1), wide) {
                let width = from.ncols();
                let panel = rows.iter_mut().map(|row| row.split_off_mut(..width).unwrap_or_default()).collect();
                self.store_panel(panel, from);
            }
        }
    }

    fn store_panel<B>(&mut self, mut rows: Vec<&mut [A]>, from: ArrayView2<'_, B>)
    where
        C: Fn(&B) -> A,
    {
        let (height, width) = from.dim();
        if !self.non_temporal {
            return self.transpose(&mut rows, from);
        }
        // Rows at a distance of a power of two would all compete for the same cache sets.
        let distance = width + SQUARE;
        let mut panel = std::mem::take(&mut self.panel);
        panel.resize(height * distance, A::zeroed());
        self.transpose(&mut panel.chunks_exact_mut(distance).map(|row| &mut row[..width]).collect::<Vec<_>>(), from);
        with_nontemporal_stores(|stores| {
            for (to, row) in rows.into_iter().zip(panel.chunks_exact(distance)) {
                stores.copy_from_slice(to, &row[..width]);
            }
        });
        self.panel = panel;
    }

    /// Stores the columns of `from` across the rows.
    fn transpose<B>(&mut self, rows: &mut [&mut [A]], from: ArrayView2<'_, B>)
    where
        C: Fn(&B) -> A,
    {
        let lanes: Option<Vec<&[B]>> = from.axis_iter(Axis(1)).map(|lane| lane.to_slice()).collect();
        match lanes {
            Some(lanes) => transpose_8x8(rows, &lanes, self.convert),
            None => {
                self.packed.resize(from.len(), A::zeroed());
                for (to, from) in self.packed.chunks_exact_mut(from.nrows()).zip(from.axis_iter(Axis(1))) {
                    copy_row(to.into(), from, self.convert);
                }
                transpose_8x8(rows, &self.packed.chunks_exact(from.nrows()).collect::<Vec<_>>(), &|&x: &A| x);
            }
        }
    }
}

/// Stores `lanes[j][i]` in `rows[i][j]`, in squares of 8 x 8. Inlined, it is slower by 5 % (bench `tile`, f4).
#[inline(never)]
fn transpose_8x8<A: Copy, B>(rows: &mut [&mut [A]], lanes: &[&[B]], convert: &impl Fn(&B) -> A) {
    let (height, width) = (rows.len() / SQUARE * SQUARE, lanes.len() / SQUARE * SQUARE);
    for j in (0..width).step_by(SQUARE) {
        for i in (0..height).step_by(SQUARE) {
            // All of the square is read before any of it is stored: so it stays in registers.
            let square: [&[B]; SQUARE] = std::array::from_fn(|lane| &lanes[j + lane][i..i + SQUARE]);
            let transposed: [[A; SQUARE]; SQUARE] =
                std::array::from_fn(|k| std::array::from_fn(|lane| convert(&square[lane][k])));
            for (row, transposed) in rows[i..i + SQUARE].iter_mut().zip(&transposed) {
                row[j..j + SQUARE].copy_from_slice(transposed);
            }
        }
    }
    // The rest at the ends.
    for (j, lane) in lanes.iter().enumerate() {
        for i in if j < width { height } else { 0 }..rows.len() {
            rows[i][j] = convert(&lane[i]);
        }
    }
}

/// Copies the few rows, or columns, one after the other, as far as the cache goes.
fn copy_thin_plane<A, B>(mut to: ArrayViewMut2<'_, A>, from: ArrayView2<'_, B>, convert: &impl Fn(&B) -> A) {
    let (long, short) = if to.nrows() < to.ncols() { (Axis(1), Axis(0)) } else { (Axis(0), Axis(1)) };
    for (mut to, from) in to.axis_chunks_iter_mut(long, THIN_LENGTH).zip(from.axis_chunks_iter(long, THIN_LENGTH)) {
        for (to, from) in to.axis_iter_mut(short).zip(from.axis_iter(short)) {
            copy_row(to, from, convert);
        }
    }
}
