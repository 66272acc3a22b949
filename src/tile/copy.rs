//! A copy from memory to memory, between layouts.

use bytemuck::{NoUninit, Zeroable};
use ndarray::{ArrayView, ArrayView1, ArrayView2, ArrayViewMut, ArrayViewMut1, ArrayViewMut2, Axis, IxDyn, Zip};

use super::tiling::Tiling;
use crate::arch::nontemporal::{self, with_nontemporal_stores};
use crate::parallel::Progress;

/// What a tile takes of each side, in bytes: pages of it that are open at a time are few enough for the processor to
/// remember where they are, and yet it has whole pages of elements of 4 bytes and more in both.
const TILE: usize = 4 << 20;

/// Elements that a piece of a plane has of each contiguous lane of the source: enough of them follow each other for the
/// processor to read ahead.
const LONG: usize = 512;

/// Bytes that a piece of a plane has of each row of the target: whole lines of the cache mostly, wherever it starts. A
/// piece then stays in a core's own cache.
const WIDE: usize = 1024;

/// Elements of a side of the squares that are kept in registers.
const CELL: usize = 8;

/// How many elements of a thin plane are walked before it is walked anew for its next row.
const STRETCH: usize = 1024;

/// How an element becomes another.
pub(super) trait Convert<B, A>: Sync {
    fn one(&self, from: &B) -> A;

    fn all(&self, from: &[B], to: &mut [A]) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = self.one(from));
    }
}

/// It stays the same.
pub(super) struct Same;

impl<A: Copy> Convert<A, A> for Same {
    fn one(&self, from: &A) -> A {
        *from
    }

    fn all(&self, from: &[A], to: &mut [A]) {
        to.copy_from_slice(from);
    }
}

/// By a function.
pub(super) struct By<F>(pub(super) F);

impl<B, A, F: Fn(&B) -> A + Sync> Convert<B, A> for By<F> {
    fn one(&self, from: &B) -> A {
        (self.0)(from)
    }
}

/// Stores `from` in `to`, which is in C order, on all threads of the current pool.
pub(super) fn copy<A, B, C>(
    to: ArrayViewMut<'_, A, IxDyn>,
    from: ArrayView<'_, B, IxDyn>,
    convert: &C,
    progress: &Progress<'_>,
) where
    A: NoUninit + Zeroable + Send + Sync,
    B: Sync,
    C: Convert<B, A>,
{
    let budget = budget(size_of::<A>().max(size_of::<B>()));
    let tiling = Tiling::new(from.shape(), to.strides(), from.strides(), budget, usize::MAX);
    let with_nontemporal_stores = to.len() * size_of::<A>() >= nontemporal::WORTH_IT;
    in_tiles(to, from, tiling.tile(), &|to, from| {
        let bytes = to.len() * size_of::<A>();
        copy_tile(to, from, convert, with_nontemporal_stores);
        progress.advance(bytes);
    });
}

/// Items that a tile has, of so many bytes each.
pub(super) fn budget(item: usize) -> usize {
    TILE / item.max(1)
}

/// Halves both sides at the border of a tile, until they are tiles.
fn in_tiles<A, B>(
    to: ArrayViewMut<'_, A, IxDyn>,
    from: ArrayView<'_, B, IxDyn>,
    tile: &[usize],
    copy_tile: &(impl Fn(ArrayViewMut<'_, A, IxDyn>, ArrayView<'_, B, IxDyn>) + Sync),
) where
    A: Send + Sync,
    B: Sync,
{
    // The outermost axis first: so each thread gets a stretch of memory to write.
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

/// Stores `from` in `to`, whose last axis is contiguous, both small enough to be near in memory.
pub(super) fn copy_tile<A, B, C>(
    to: ArrayViewMut<'_, A, IxDyn>,
    from: ArrayView<'_, B, IxDyn>,
    convert: &C,
    with_nontemporal_stores: bool,
) where
    A: NoUninit + Zeroable,
    C: Convert<B, A>,
{
    let last = from.ndim() - 1;
    let lying = (0..from.ndim()).filter(|&axis| from.shape()[axis] > 1 && from.strides()[axis] != 0);
    let inner = lying.min_by_key(|&axis| (from.strides()[axis].unsigned_abs(), last - axis)).unwrap_or(last);
    let at_once = from.shape()[last] * if inner == last { 1 } else { from.shape()[inner] };
    if from.ndim() > 1 && at_once < CELL * CELL {
        // Starting on a plane, or a row, would cost more than it gains.
        Zip::from(to).and(from).for_each(|to, from| *to = convert.one(from));
    } else if inner == last {
        rows(to, from, convert);
    } else {
        let mut planes = PlaneTranspose { convert, with_nontemporal_stores, packed: Vec::new(), piece: Vec::new() };
        planes.store(to, from, inner);
    }
}

/// Both sides have the same innermost axis.
fn rows<A, B, C: Convert<B, A>>(mut to: ArrayViewMut<'_, A, IxDyn>, from: ArrayView<'_, B, IxDyn>, convert: &C) {
    for (mut to, from) in to.rows_mut().into_iter().zip(from.rows()) {
        match (to.as_slice_mut(), from.to_slice()) {
            (Some(to), Some(from)) => convert.all(from, to),
            _ => row(to, from, convert),
        }
    }
}

fn row<A, B, C: Convert<B, A>>(to: ArrayViewMut1<'_, A>, from: ArrayView1<'_, B>, convert: &C) {
    Zip::from(to).and(from).for_each(|to, from| *to = convert.one(from));
}

/// The last axis is innermost in the target, and another in the source.
struct PlaneTranspose<'c, A, C> {
    convert: &'c C,
    with_nontemporal_stores: bool,
    /// Lanes of the source, where they are not contiguous.
    packed: Vec<A>,
    /// Rows of the target, before they are stored past the cache.
    piece: Vec<A>,
}

impl<A: NoUninit + Zeroable, C> PlaneTranspose<'_, A, C> {
    fn store<B>(&mut self, mut to: ArrayViewMut<'_, A, IxDyn>, from: ArrayView<'_, B, IxDyn>, inner: usize)
    where
        C: Convert<B, A>,
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

    /// `to` consists of contiguous rows, and `from` is walked best along its columns.
    fn store_plane<B>(&mut self, mut to: ArrayViewMut2<'_, A>, from: ArrayView2<'_, B>)
    where
        C: Convert<B, A>,
    {
        let (height, width) = to.dim();
        if height.min(width) < CELL {
            return thin_plane(to, from, self.convert);
        }
        let wide = (WIDE / size_of::<A>()).clamp(CELL, LONG);
        for (mut to, from) in to.axis_chunks_iter_mut(Axis(0), LONG).zip(from.axis_chunks_iter(Axis(0), LONG)) {
            let mut rows: Vec<&mut [A]> =
                to.axis_iter_mut(Axis(0)).map(|row| row.into_slice().unwrap_or_default()).collect();
            for from in from.axis_chunks_iter(Axis(1), wide) {
                let width = from.ncols();
                let pieces = rows.iter_mut().map(|row| row.split_off_mut(..width).unwrap_or_default()).collect();
                self.store_piece(pieces, from);
            }
        }
    }

    fn store_piece<B>(&mut self, mut rows: Vec<&mut [A]>, from: ArrayView2<'_, B>)
    where
        C: Convert<B, A>,
    {
        let (height, width) = from.dim();
        if !self.with_nontemporal_stores {
            return self.transpose(&mut rows, from);
        }
        // Rows of a power of two would all compete for the same places in the cache.
        let apart = width + CELL;
        let mut piece = std::mem::take(&mut self.piece);
        piece.resize(height * apart, A::zeroed());
        self.transpose(&mut piece.chunks_exact_mut(apart).map(|row| &mut row[..width]).collect::<Vec<_>>(), from);
        with_nontemporal_stores(|stores| {
            for (to, row) in rows.into_iter().zip(piece.chunks_exact(apart)) {
                stores.copy_from_slice(to, &row[..width]);
            }
        });
        self.piece = piece;
    }

    /// Stores the columns of `from` across the rows.
    fn transpose<B>(&mut self, rows: &mut [&mut [A]], from: ArrayView2<'_, B>)
    where
        C: Convert<B, A>,
    {
        let lanes: Option<Vec<&[B]>> = from.axis_iter(Axis(1)).map(|lane| lane.to_slice()).collect();
        match lanes {
            Some(lanes) => cells(rows, &lanes, self.convert),
            None => {
                self.packed.resize(from.len(), A::zeroed());
                for (to, from) in self.packed.chunks_exact_mut(from.nrows()).zip(from.axis_iter(Axis(1))) {
                    row(to.into(), from, self.convert);
                }
                cells(rows, &self.packed.chunks_exact(from.nrows()).collect::<Vec<_>>(), &Same);
            }
        }
    }
}

/// Stores `lanes[j][i]` in `rows[i][j]`.
fn cells<A: Copy, B, C: Convert<B, A>>(rows: &mut [&mut [A]], lanes: &[&[B]], convert: &C) {
    let (height, width) = (rows.len() / CELL * CELL, lanes.len() / CELL * CELL);
    for j in (0..width).step_by(CELL) {
        for i in (0..height).step_by(CELL) {
            let cell: [&[B]; CELL] = std::array::from_fn(|lane| &lanes[j + lane][i..i + CELL]);
            let turned: [[A; CELL]; CELL] =
                std::array::from_fn(|k| std::array::from_fn(|lane| convert.one(&cell[lane][k])));
            for (row, turned) in rows[i..i + CELL].iter_mut().zip(&turned) {
                row[j..j + CELL].copy_from_slice(turned);
            }
        }
    }
    // What is left at the ends.
    for (j, lane) in lanes.iter().enumerate() {
        for i in if j < width { height } else { 0 }..rows.len() {
            rows[i][j] = convert.one(&lane[i]);
        }
    }
}

/// The few rows, or columns, one after the other, as far as the cache goes.
fn thin_plane<A, B, C: Convert<B, A>>(mut to: ArrayViewMut2<'_, A>, from: ArrayView2<'_, B>, convert: &C) {
    let (long, short) = if to.nrows() < to.ncols() { (Axis(1), Axis(0)) } else { (Axis(0), Axis(1)) };
    for (mut to, from) in to.axis_chunks_iter_mut(long, STRETCH).zip(from.axis_chunks_iter(long, STRETCH)) {
        for (to, from) in to.axis_iter_mut(short).zip(from.axis_iter(short)) {
            row(to, from, convert);
        }
    }
}
