//! One result for each lane along an axis, from the lanes' elements in memory order.
//!
//! In memory, an axis divides an array into slabs (one for each index of the axes outside of it) of as many rows as the
//! axis is long. A row has one element of each lane of its slab, so the lanes are the slab's columns.

use std::ops::Range;

use super::columns::Rows;
use crate::arch::dispatch::{Kernel, dispatch};
use crate::layout::Order;

/// Columns whose results are computed side by side: so many of 8 bytes leave half of the first-level cache to the rows.
pub(super) const COLUMNS: usize = 1024;

/// The same for matrices that are not wider: it costs less to start with.
const FEW_COLUMNS: usize = 64;

/// Rows that are worth being cut into several to be joined to longer ones.
const ROWS_LEFT: usize = 8;

/// What is computed of each lane.
pub(super) trait LaneReduction<A>: Copy + Sync {
    /// Whether it is compiled for the widest vectors, too.
    const WIDE: bool = true;

    /// Of some elements of a lane. The default is that of none.
    type Part: Copy + Default + Send;

    /// The most rows of which columns can be computed at once: together, or one by one.
    fn max_rows(one_by_one: bool) -> usize;

    /// Of a lane whose elements follow each other. Implement it with `#[inline(always)]`, for [`dispatch`].
    fn lane(self, lane: &[A]) -> Self::Part;

    /// Passes on the part of each column, with its number, in order: of at most `N` columns, and at least one and at most
    /// [`max_rows`](Self::max_rows) rows. Implement it with `#[inline(always)]`.
    fn columns<const N: usize>(self, rows: Rows<'_, A>, emit: impl FnMut(usize, Self::Part));

    /// Of the elements of two parts.
    fn merge(self, left: Self::Part, right: Self::Part) -> Self::Part;
}

/// The lanes along an axis in memory order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lanes {
    pub(super) slabs: usize,
    /// Rows of a slab: the length of each lane.
    pub(super) length: usize,
    /// Elements of a row: the lanes of a slab.
    pub(super) width: usize,
}

impl Lanes {
    pub(super) fn new(dim: &[usize], axis: usize, order: Order) -> Self {
        let (before, after) = (dim[..axis].iter().product(), dim[axis + 1..].iter().product());
        let (slabs, width) = if order == Order::C { (before, after) } else { (after, before) };
        Self { slabs, length: dim[axis], width }
    }

    pub(super) fn count(&self) -> usize {
        self.slabs * self.width
    }

    /// Adds elements, in memory order from `start` on, to the parts of their lanes.
    pub(super) fn add<A: Copy, R: LaneReduction<A>>(
        &self,
        reduction: R,
        parts: &mut [R::Part],
        mut start: usize,
        mut elements: &[A],
    ) {
        let Self { length, width, .. } = *self;
        while !elements.is_empty() {
            let (row, column) = (start / width, start % width);
            let (slab, left) = (row / length, length - row % length);
            let (taken, columns) = if column > 0 || elements.len() < width {
                let taken = (width - column).min(elements.len());
                (taken, column..column + taken)
            } else {
                (left.min(elements.len() / width) * width, 0..width)
            };
            let rows = Rows::new(&elements[..taken], columns.len());
            let add = AddSlab { reduction, rows, parts: &mut parts[slab * width..][columns] };
            if R::WIDE {
                dispatch(add)
            } else {
                add.run()
            }
            elements = &elements[taken..];
            start += taken;
        }
    }
}

/// Adds a part of a slab to the parts of its lanes.
struct AddSlab<'e, 'p, A, R, P> {
    reduction: R,
    rows: Rows<'e, A>,
    parts: &'p mut [P],
}

impl<A: Copy, R: LaneReduction<A>> Kernel for AddSlab<'_, '_, A, R, R::Part> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        add_slab(self.reduction, self.rows, self.parts);
    }
}

#[inline(always)]
fn add_slab<A: Copy, R: LaneReduction<A>>(reduction: R, rows: Rows<'_, A>, parts: &mut [R::Part]) {
    let width = rows.width();
    if let Some(lane) = rows.only_column() {
        parts[0] = reduction.merge(parts[0], reduction.lane(lane));
        return;
    }
    // Several narrow rows are one wide row, whose columns belong to the same lanes again and again.
    let together = (COLUMNS / width).min(rows.count() / ROWS_LEFT);
    let rest = match rows.joined(together) {
        Some((joined, rest)) => {
            let mut lane = 0;
            columns(reduction, joined, |_, part| {
                parts[lane] = reduction.merge(parts[lane], part);
                lane = if lane + 1 < width { lane + 1 } else { 0 };
            });
            rest
        }
        None => rows,
    };
    columns(reduction, rest, |n, part| parts[n] = reduction.merge(parts[n], part));
}

/// Passes on the parts of all columns, again for every [`max_rows`](LaneReduction::max_rows) rows.
#[inline(always)]
fn columns<A: Copy, R: LaneReduction<A>>(reduction: R, rows: Rows<'_, A>, mut emit: impl FnMut(usize, R::Part)) {
    let most = R::max_rows(rows.one_by_one());
    for first in (0..rows.count()).step_by(most) {
        let rows = rows.rows(first..rows.count().min(first.saturating_add(most)));
        // The results so far are on the stack: of large elements few.
        match size_of::<A>() {
            ..=16 if rows.width() > FEW_COLUMNS => side_by_side::<COLUMNS, _, _>(reduction, rows, &mut emit),
            ..=256 => side_by_side::<FEW_COLUMNS, _, _>(reduction, rows, &mut emit),
            _ => side_by_side::<1, _, _>(reduction, rows, &mut emit),
        }
    }
}

#[inline(always)]
fn side_by_side<const N: usize, A: Copy, R: LaneReduction<A>>(
    reduction: R,
    rows: Rows<'_, A>,
    emit: &mut impl FnMut(usize, R::Part),
) {
    for from in (0..rows.width()).step_by(N) {
        let some = from..rows.width().min(from + N);
        reduction.columns::<N>(rows.columns(some), |n, part| emit(from + n, part));
    }
}

/// Computes the results of whole lanes: of several slabs, or of some columns of one.
pub(super) struct WholeLanes<'e, 'o, A, R, T, F> {
    pub(super) reduction: R,
    /// The rows of all slabs.
    pub(super) rows: Rows<'e, A>,
    /// Rows of a slab.
    pub(super) length: usize,
    /// One result of each lane.
    pub(super) results: &'o mut [T],
    pub(super) finish: F,
}

impl<A: Copy, R: LaneReduction<A>, T, F: Fn(R::Part) -> T> Kernel for WholeLanes<'_, '_, A, R, T, F> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { reduction, rows, length, results, finish } = self;
        let width = rows.width();
        let mut parts = Vec::new();
        for (slab, results) in results.chunks_mut(width).enumerate() {
            let rows = rows.rows(slab * length..(slab + 1) * length);
            if let Some(lane) = rows.only_column() {
                results[0] = finish(reduction.lane(lane));
            } else if length <= R::max_rows(rows.one_by_one()) && (width > FEW_COLUMNS || length < 2 * ROWS_LEFT) {
                // Each column is passed on once.
                columns(reduction, rows, |n, part| results[n] = finish(part));
            } else {
                parts.clear();
                parts.resize(width, R::Part::default());
                add_slab(reduction, rows, &mut parts);
                results.iter_mut().zip(&parts).for_each(|(result, &part)| *result = finish(part));
            }
        }
    }
}

/// Whole lanes whose results are computed together: all columns of some slabs, or some columns of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) slabs: Range<usize>,
    pub(super) columns: Range<usize>,
}

impl Lanes {
    /// Divides the lanes into shares of whole slabs, of up to so many elements, in the order of their results. `None` if a
    /// slab has more.
    pub(super) fn shares_of_slabs(&self, elements: usize) -> Option<Vec<Share>> {
        let Self { slabs, length, width } = *self;
        let together = elements / (length * width);
        let share = |first: usize| Share { slabs: first..slabs.min(first + together), columns: 0..width };
        (together > 0).then(|| (0..slabs).step_by(together).map(share).collect())
    }

    /// Divides the lanes into shares of some columns of a slab, at least so many, in the order of their results. `None` if
    /// a slab does not have twice as many.
    pub(super) fn shares_of_columns(&self, least: usize) -> Option<Vec<Share>> {
        let Self { slabs, width, .. } = *self;
        let parts = width / least;
        // As even as can be.
        let columns = move |part: usize| part * (width / parts) + part.min(width % parts);
        let share = move |slab: usize, part| Share { slabs: slab..slab + 1, columns: columns(part)..columns(part + 1) };
        (parts > 1).then(|| (0..slabs).flat_map(|slab| (0..parts).map(move |part| share(slab, part))).collect())
    }

    /// The number of results of a share.
    pub(super) fn results(&self, share: &Share) -> usize {
        share.slabs.len() * share.columns.len()
    }

    /// Where the elements of a share are, in memory order: as few ranges as possible, all of the same length.
    pub(super) fn pieces(&self, share: &Share) -> impl Iterator<Item = Range<usize>> + use<> {
        let Self { length, width, .. } = *self;
        let slab = length * width;
        let (first, step, piece) = if share.columns.len() == width {
            (share.slabs.start * slab, slab * share.slabs.len(), slab * share.slabs.len())
        } else {
            (share.slabs.start * slab + share.columns.start, width, share.columns.len())
        };
        let end = share.slabs.end * slab;
        (first..end).step_by(step.max(1)).map(move |start| start..start + piece)
    }

    /// The elements of a share, of those of the array.
    pub(super) fn rows<'e, A>(&self, share: &Share, elements: &'e [A]) -> Rows<'e, A> {
        let slab = self.length * self.width;
        Rows::new(&elements[share.slabs.start * slab..share.slabs.end * slab], self.width)
            .columns(share.columns.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_have_each_lane_once_and_in_order(
            slabs in 1..5usize, length in 1..6usize, width in 1..20usize, elements in 1..200usize, least in 1..8usize,
            columns: bool,
        ) {
            let lanes = Lanes { slabs, length, width };
            let shares = if columns { lanes.shares_of_columns(least) } else { lanes.shares_of_slabs(elements) };
            let Some(shares) = shares else {
                let too_few = if columns { width < 2 * least } else { length * width > elements };
                prop_assert!(too_few);
                return Ok(());
            };
            let all: Vec<usize> = (0..slabs * length * width).collect();
            let (mut next, mut read) = (0, Vec::new());
            for share in &shares {
                let rows = lanes.rows(share, &all);
                let of_share: Vec<usize> = (0..rows.count()).flat_map(|n| rows.row(n).to_vec()).collect();
                let in_pieces: Vec<usize> = lanes.pieces(share).flatten().collect();
                prop_assert_eq!(&of_share, &in_pieces);
                read.extend(in_pieces);
                for slab in share.slabs.clone() {
                    for column in share.columns.clone() {
                        prop_assert_eq!(slab * width + column, next);
                        next += 1;
                    }
                }
                let fits = if columns { share.columns.len() >= least } else { of_share.len() <= elements };
                prop_assert!(fits);
            }
            prop_assert_eq!(next, lanes.count());
            read.sort_unstable();
            prop_assert_eq!(read, all);
        }
    }
}
