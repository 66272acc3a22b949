//! A copy from memory to memory, between layouts.

use bytemuck::Zeroable;
use ndarray::{ArrayView, ArrayView1, ArrayView2, ArrayViewMut, ArrayViewMut1, ArrayViewMut2, Axis, IxDyn, Zip};

use crate::layout::Tiling;

/// What a tile takes of each side, in bytes: pages of it that are open at a time are few enough for the processor to
/// remember where they are, and yet it has whole pages of elements as small as 2 bytes in both.
const TILE: usize = 4 << 20;

/// Elements of a side of the squares that planes are cut into, so that both sides of one stay in a core's own cache.
const SQUARE: usize = 128;

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
pub(super) fn copy<A, B, C>(to: ArrayViewMut<'_, A, IxDyn>, from: ArrayView<'_, B, IxDyn>, convert: &C)
where
    A: Copy + Zeroable + Send + Sync,
    B: Sync,
    C: Convert<B, A>,
{
    let budget = TILE / size_of::<A>().max(size_of::<B>()).max(1);
    let tiling = Tiling::new(from.shape(), to.strides(), from.strides(), budget, usize::MAX);
    in_tiles(to, from, tiling.tile(), convert);
}

/// Halves both sides at the border of a tile, until they are tiles.
fn in_tiles<A, B, C>(to: ArrayViewMut<'_, A, IxDyn>, from: ArrayView<'_, B, IxDyn>, tile: &[usize], convert: &C)
where
    A: Copy + Zeroable + Send + Sync,
    B: Sync,
    C: Convert<B, A>,
{
    // The outermost axis first: so each thread gets a stretch of memory to write.
    let Some(axis) = (0..tile.len()).find(|&axis| from.shape()[axis] > tile[axis]) else {
        return copy_tile(to, from, convert);
    };
    let middle = from.shape()[axis].div_ceil(tile[axis]) / 2 * tile[axis];
    let (to, more_to) = to.split_at(Axis(axis), middle);
    let (from, more_from) = from.split_at(Axis(axis), middle);
    both(|| in_tiles(to, from, tile, convert), || in_tiles(more_to, more_from, tile, convert));
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
pub(super) fn copy_tile<A, B, C>(to: ArrayViewMut<'_, A, IxDyn>, from: ArrayView<'_, B, IxDyn>, convert: &C)
where
    A: Copy + Zeroable,
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
        planes(to, from, inner, convert);
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

/// The last axis is innermost in `to`, and another, `inner`, in `from`.
fn planes<A, B, C>(mut to: ArrayViewMut<'_, A, IxDyn>, from: ArrayView<'_, B, IxDyn>, inner: usize, convert: &C)
where
    A: Copy + Zeroable,
    C: Convert<B, A>,
{
    let last = from.ndim() - 1;
    if let Some(other) = (0..last).find(|&axis| axis != inner) {
        let inner = if other < inner { inner - 1 } else { inner };
        let pairs = to.axis_iter_mut(Axis(other)).zip(from.axis_iter(Axis(other)));
        pairs.for_each(|(to, from)| planes(to, from, inner, convert));
    } else if let (Ok(to), Ok(from)) = (to.into_dimensionality(), from.into_dimensionality()) {
        plane(to, from, convert);
    }
}

/// `to` consists of contiguous rows, and `from` is walked best along its columns.
fn plane<A, B, C>(mut to: ArrayViewMut2<'_, A>, from: ArrayView2<'_, B>, convert: &C)
where
    A: Copy + Zeroable,
    C: Convert<B, A>,
{
    let (height, width) = to.dim();
    if height.min(width) < CELL {
        return thin_plane(to, from, convert);
    }
    let mut packed = Vec::new();
    for (mut to, from) in to.axis_chunks_iter_mut(Axis(0), SQUARE).zip(from.axis_chunks_iter(Axis(0), SQUARE)) {
        let mut rows: Vec<&mut [A]> =
            to.axis_iter_mut(Axis(0)).map(|row| row.into_slice().unwrap_or_default()).collect();
        for (square, from) in from.axis_chunks_iter(Axis(1), SQUARE).enumerate() {
            let lanes: Option<Vec<&[B]>> = from.axis_iter(Axis(1)).map(|lane| lane.to_slice()).collect();
            match lanes {
                Some(lanes) => cells(&mut rows, square * SQUARE, &lanes, convert),
                None => {
                    packed.resize(from.len(), A::zeroed());
                    for (to, from) in packed.chunks_exact_mut(from.nrows()).zip(from.axis_iter(Axis(1))) {
                        row(to.into(), from, convert);
                    }
                    let lanes: Vec<&[A]> = packed.chunks_exact(from.nrows()).collect();
                    cells(&mut rows, square * SQUARE, &lanes, &Same);
                }
            }
        }
    }
}

/// Stores `lanes[j][i]` in `rows[i][start + j]`.
fn cells<A, B, C: Convert<B, A>>(rows: &mut [&mut [A]], start: usize, lanes: &[&[B]], convert: &C) {
    let (height, width) = (rows.len() / CELL * CELL, lanes.len() / CELL * CELL);
    for j in (0..width).step_by(CELL) {
        for i in (0..height).step_by(CELL) {
            let cell: [&[B]; CELL] = std::array::from_fn(|lane| &lanes[j + lane][i..i + CELL]);
            for (k, row) in rows[i..i + CELL].iter_mut().enumerate() {
                let to = &mut row[start + j..start + j + CELL];
                to.iter_mut().zip(cell).for_each(|(to, lane)| *to = convert.one(&lane[k]));
            }
        }
    }
    // What is left at the ends.
    for (j, lane) in lanes.iter().enumerate() {
        for i in if j < width { height } else { 0 }..rows.len() {
            rows[i][start + j] = convert.one(&lane[i]);
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
