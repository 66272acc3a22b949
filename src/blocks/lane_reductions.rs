//! The reductions of lanes: sums, moments, and the smallest and largest element.

use std::ops::Range;

use super::accumulate::{Accumulate, Accumulator, Running};
use super::columns::{ColumnResults, Rows, in_pairs};
use super::lanes::LaneReduction;
use super::pairwise::{LEAF, Reduction, reduce_pairwise};
use super::reductions::{CentralMoments, Extremes, MeanValue, MinMax, Moments, merge_min_max};

/// Elements of a lane that are added up one by one: for so few, starting a vectorised loop costs more.
const FEW: usize = 32;

/// Sums in columns, each of elements that a function converts and another adds.
pub(super) struct ColumnSums<'s, S, F, G> {
    pub(super) sums: &'s mut [S],
    pub(super) read: F,
    pub(super) plus: G,
}

impl<A: Copy, S: Copy, F: Fn(A) -> S, G: Fn(S, S) -> S> ColumnResults<A> for ColumnSums<'_, S, F, G> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.sums.len()
    }

    #[inline(always)]
    fn add<const ROWS: usize>(&mut self, column: usize, elements: [A; ROWS]) {
        let sum = in_pairs(elements.map(&self.read), &self.plus);
        self.sums[column] = (self.plus)(self.sums[column], sum);
    }
}

/// Sums of 64-bit integers: their lower and upper halves are added up apart, so that no addition has a carry.
pub(super) struct HalfSums<'s, F> {
    pub(super) low: &'s mut [u64],
    pub(super) high: &'s mut [u64],
    pub(super) read: F,
}

impl<A: Copy, F: Fn(A) -> u64> ColumnResults<A> for HalfSums<'_, F> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.low.len().min(self.high.len())
    }

    #[inline(always)]
    fn add<const ROWS: usize>(&mut self, column: usize, elements: [A; ROWS]) {
        let elements = elements.map(&self.read);
        self.low[column] += in_pairs(elements.map(|x| x & u64::from(u32::MAX)), |a, b| a + b);
        self.high[column] += in_pairs(elements.map(|x| x >> 32), |a, b| a + b);
    }
}

/// The sum of each lane.
#[derive(Clone, Copy)]
pub(super) struct LaneSums;

impl<A: Accumulate> LaneReduction<A> for LaneSums {
    type Part = <A::Sum as Accumulator>::Running;

    /// Of floating-point numbers: 127 roundings in all at most, as [`sum`](super::BlocksBase::sum) has 128. Of integers:
    /// see [`LEAF`].
    fn max_rows(one_by_one: bool) -> usize {
        if one_by_one { 128 } else { 512 }
    }

    #[inline(always)]
    fn lane(self, lane: &[A]) -> Self::Part {
        Running::of(if lane.len() <= FEW { A::sum_few(lane) } else { A::sum_slice(lane) })
    }

    #[inline(always)]
    fn columns<const N: usize>(self, rows: Rows<'_, A>, mut emit: impl FnMut(usize, Self::Part)) {
        A::sum_columns::<N>(rows, |n, sum| emit(n, Running::of(sum)));
    }

    #[inline(always)]
    fn merge(self, mut left: Self::Part, right: Self::Part) -> Self::Part {
        left.merge(right);
        left
    }
}

/// The moments of each lane, of elements that a function converts.
#[derive(Clone, Copy)]
pub(super) struct LaneMoments<F>(pub(super) F);

impl<A: Copy, R: MeanValue, F: Fn(A) -> R + Copy + Sync> LaneReduction<A> for LaneMoments<F> {
    type Part = Moments<R>;

    /// They are read twice: with [`COLUMNS`](super::lanes::COLUMNS) of 8 bytes these fit in a core's own cache.
    fn max_rows(_: bool) -> usize {
        64
    }

    #[inline(always)]
    fn lane(self, lane: &[A]) -> Moments<R> {
        if lane.len() <= LEAF {
            return CentralMoments(self.0).reduce_leaf(lane);
        }
        reduce_pairwise(lane, CentralMoments(self.0)).unwrap_or_default()
    }

    #[inline(always)]
    fn columns<const N: usize>(self, rows: Rows<'_, A>, mut emit: impl FnMut(usize, Moments<R>)) {
        let (mut means, mut squares) = ([R::default(); N], [0.0; N]);
        rows.visit(&mut ColumnSums { sums: &mut means, read: self.0, plus: |a, b| a + b });
        let count = rows.count() as f64;
        means[..rows.width()].iter_mut().for_each(|mean| *mean = *mean / count);
        let square = |x, mean| ((self.0)(x) - mean).norm_sqr();
        rows.visit(&mut ColumnSquares { squares: &mut squares, means: &means, square });
        for n in columns_of(&rows, N) {
            emit(n, Moments { count: rows.count() as u64, mean: means[n], squares: squares[n] });
        }
    }

    #[inline(always)]
    fn merge(self, left: Moments<R>, right: Moments<R>) -> Moments<R> {
        left.merge(right)
    }
}

/// The numbers of some columns, of which there are at most `most`.
#[inline(always)]
pub(super) fn columns_of<A>(rows: &Rows<'_, A>, most: usize) -> Range<usize> {
    0..rows.width().min(most)
}

/// The sums of squared distances from the means of columns.
pub(super) struct ColumnSquares<'s, R, F> {
    pub(super) squares: &'s mut [f64],
    pub(super) means: &'s [R],
    /// Of one element.
    pub(super) square: F,
}

impl<A: Copy, R: MeanValue, F: Fn(A, R) -> f64> ColumnResults<A> for ColumnSquares<'_, R, F> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.squares.len().min(self.means.len())
    }

    #[inline(always)]
    fn add<const ROWS: usize>(&mut self, column: usize, elements: [A; ROWS]) {
        let mean = self.means[column];
        self.squares[column] += in_pairs(elements.map(|x| (self.square)(x, mean)), |a, b| a + b);
    }
}

/// The smallest and the largest element of each lane.
#[derive(Clone, Copy)]
pub(super) struct LaneMinMax;

impl<A: Copy + PartialOrd + Send> LaneReduction<A> for LaneMinMax {
    type Part = Option<(A, A)>;

    fn max_rows(_: bool) -> usize {
        usize::MAX
    }

    #[inline(always)]
    fn lane(self, lane: &[A]) -> Self::Part {
        if lane.len() <= FEW { MinMax(lane).one_by_one() } else { MinMax(lane).of_lane() }
    }

    // As `MinMax::side_by_side`.
    #[cfg_attr(debug_assertions, inline(never))]
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn columns<const N: usize>(self, rows: Rows<'_, A>, mut emit: impl FnMut(usize, Self::Part)) {
        let first = rows.first_row::<N>();
        let mut extremes = Extremes(first, first, first);
        rows.visit(&mut extremes);
        for n in columns_of(&rows, N) {
            emit(n, Some(extremes.of(n)));
        }
    }

    #[inline(always)]
    fn merge(self, left: Self::Part, right: Self::Part) -> Self::Part {
        left.zip(right).map(|(left, right)| merge_min_max(left, right)).or(left).or(right)
    }
}
