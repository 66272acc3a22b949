//! The reductions that leave out NaN. They are compiled once, and not for the widest vectors, too: every reduction has one of
//! these, and would otherwise take twice as long to compile for all who never use it.

use std::ops::Add;

use super::accumulate::{Accumulate, Accumulator, Running};
use super::columns::{ColumnResults, Rows};
use super::lane_reductions::{ColumnSquares, ColumnSums, columns_of};
use super::lanes::LaneReduction;
use super::pairwise::{LEAF, Reduction, reduce_pairwise_once};
use super::reductions::{MeanValue, Moments, Sum, is_unordered, larger, smaller};
use crate::arch::dispatch::Kernel;

/// A sum of the numbers among some elements, and how many they are. (An `f64` counts exactly as long as memory goes, and in
/// the same vectors.)
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NumberSum<S> {
    pub(super) sum: S,
    pub(super) count: f64,
}

impl<S: Accumulator> NumberSum<S> {
    #[inline(always)]
    fn of(x: S) -> Self {
        if x.is_nan() { Self::default() } else { Self { sum: x, count: 1.0 } }
    }

    /// Of some elements.
    pub(super) fn of_all<A: Accumulate<Sum = S>>(elements: &[A]) -> Self {
        reduce_pairwise_once(elements, Sum(|x: A| Self::of(x.widen()))).unwrap_or_default()
    }

    /// `None` if there are no numbers.
    pub(super) fn mean(self) -> Option<S::Mean> {
        (self.count > 0.0).then(|| self.sum.to_mean() / self.count)
    }
}

impl<S: Accumulator> Add for NumberSum<S> {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self { sum: self.sum.plus(other.sum), count: self.count + other.count }
    }
}

/// The moments of the numbers.
#[derive(Clone, Copy)]
pub(super) struct NumberMoments;

/// The square of the distance from the mean, of a number.
#[inline(always)]
fn square<A: Accumulate>(x: A, mean: <A::Sum as Accumulator>::Mean) -> f64 {
    let x = x.widen();
    if x.is_nan() { 0.0 } else { (x.to_mean() - mean).norm_sqr() }
}

impl<A: Accumulate> Reduction<A> for NumberMoments {
    type Output = Moments<<A::Sum as Accumulator>::Mean>;

    #[inline(always)]
    fn reduce_leaf(self, leaf: &[A]) -> Self::Output {
        let sum = Sum(|x: A| NumberSum::of(x.widen())).reduce_leaf(leaf);
        let Some(mean) = sum.mean() else { return Moments::default() };
        let squares = Sum(|x: A| square(x, mean)).reduce_leaf(leaf);
        Moments { count: sum.count as u64, mean, squares }
    }

    #[inline(always)]
    fn merge(self, left: Self::Output, right: Self::Output) -> Self::Output {
        left.merge(right)
    }
}

/// The smallest and the largest number of some elements; two NaN if there is no number among them.
pub(super) struct NumberMinMax<'e, A>(pub(super) &'e [A]);

impl<A: Copy + PartialOrd> Kernel for NumberMinMax<'_, A> {
    type Output = Option<(A, A)>;

    #[inline(always)]
    fn run(self) -> Option<(A, A)> {
        /// Side by side, as in `MinMax`.
        const N: usize = 64;
        let first = *self.0.first()?;
        if size_of::<A>() > 16 {
            return self.0.iter().map(|&x| (x, x)).reduce(merge_numbers);
        }
        let mut all = NumberExtremes([first; N], [first; N]);
        let (rows, rest) = self.0.as_chunks::<N>();
        for row in rows {
            row.iter().enumerate().for_each(|(n, &x)| all.put(n, x));
        }
        rest.iter().enumerate().for_each(|(n, &x)| all.put(n, x));
        (0..N).map(|n| all.of(n)).reduce(merge_numbers)
    }
}

/// The smallest and the largest number of each column so far; the first element of all until there is a number.
struct NumberExtremes<A, const N: usize>([A; N], [A; N]);

impl<A: Copy + PartialOrd, const N: usize> NumberExtremes<A, N> {
    #[inline(always)]
    fn put(&mut self, n: usize, x: A) {
        (self.0[n], self.1[n]) = merge_numbers((self.0[n], self.1[n]), (x, x));
    }

    #[inline(always)]
    fn of(&self, n: usize) -> (A, A) {
        (self.0[n], self.1[n])
    }
}

impl<A: Copy + PartialOrd, const N: usize> ColumnResults<A> for NumberExtremes<A, N> {
    #[inline(always)]
    fn len(&self) -> usize {
        N
    }

    #[inline(always)]
    fn add<const ROWS: usize>(&mut self, column: usize, elements: [A; ROWS]) {
        elements.into_iter().for_each(|x| self.put(column, x));
    }
}

/// Of two smallest and largest numbers, either of which may be two NaN.
#[inline(always)]
pub(super) fn merge_numbers<A: Copy + PartialOrd>(left: (A, A), right: (A, A)) -> (A, A) {
    let number = |a, b, better: A| match (is_unordered(a), is_unordered(b)) {
        (true, _) => b,
        // Of several numbers, of which a later one is NaN: it may be less than another element all the same.
        (false, true) => a,
        (false, false) => better,
    };
    (number(left.0, right.0, smaller(left.0, right.0)), number(left.1, right.1, larger(left.1, right.1)))
}

/// The sum and the count of the numbers of each lane.
#[derive(Clone, Copy)]
pub(super) struct LaneNumberSums;

/// [`NumberSum`] for one of many lanes.
#[derive(Clone, Copy, Default)]
pub(super) struct LaneNumbers<S: Accumulator> {
    running: S::Running,
    count: f64,
}

impl<S: Accumulator> LaneNumbers<S> {
    fn of(NumberSum { sum, count }: NumberSum<S>) -> Self {
        Self { running: Running::of(sum), count }
    }

    pub(super) fn all(self) -> NumberSum<S> {
        NumberSum { sum: self.running.value(), count: self.count }
    }
}

impl<A: Accumulate> LaneReduction<A> for LaneNumberSums {
    const WIDE: bool = false;

    type Part = LaneNumbers<A::Sum>;

    /// As for sums of all elements.
    fn max_rows(one_by_one: bool) -> usize {
        if one_by_one { 128 } else { 512 }
    }

    #[inline(always)]
    fn lane(self, lane: &[A]) -> Self::Part {
        if lane.len() <= LEAF {
            return LaneNumbers::of(Sum(|x: A| NumberSum::of(x.widen())).reduce_leaf(lane));
        }
        LaneNumbers::of(NumberSum::of_all(lane))
    }

    #[inline(always)]
    fn columns<const N: usize>(self, rows: Rows<'_, A>, mut emit: impl FnMut(usize, Self::Part)) {
        let mut sums = [NumberSum::default(); N];
        rows.visit(&mut ColumnSums { sums: &mut sums, read: |x: A| NumberSum::of(x.widen()), plus: NumberSum::add });
        columns_of(&rows, N).for_each(|n| emit(n, LaneNumbers::of(sums[n])));
    }

    #[inline(always)]
    fn merge(self, mut left: Self::Part, right: Self::Part) -> Self::Part {
        left.running.merge(right.running);
        left.count += right.count;
        left
    }
}

impl<A: Accumulate> LaneReduction<A> for NumberMoments {
    const WIDE: bool = false;

    type Part = Moments<<A::Sum as Accumulator>::Mean>;

    /// As for the moments of all elements.
    fn max_rows(_: bool) -> usize {
        64
    }

    #[inline(always)]
    fn lane(self, lane: &[A]) -> Self::Part {
        if lane.len() <= LEAF {
            return self.reduce_leaf(lane);
        }
        reduce_pairwise_once(lane, self).unwrap_or_default()
    }

    #[inline(always)]
    fn columns<const N: usize>(self, rows: Rows<'_, A>, mut emit: impl FnMut(usize, Self::Part)) {
        let mut sums = [NumberSum::default(); N];
        rows.visit(&mut ColumnSums { sums: &mut sums, read: |x: A| NumberSum::of(x.widen()), plus: NumberSum::add });
        let means = sums.map(|sum| sum.mean().unwrap_or_default());
        let mut squares = [0.0; N];
        rows.visit(&mut ColumnSquares { squares: &mut squares, means: &means, square });
        for n in columns_of(&rows, N) {
            emit(n, Moments { count: sums[n].count as u64, mean: means[n], squares: squares[n] });
        }
    }

    #[inline(always)]
    fn merge(self, left: Self::Part, right: Self::Part) -> Self::Part {
        left.merge(right)
    }
}

/// The smallest and the largest number of each lane; two NaN where there is none.
#[derive(Clone, Copy)]
pub(super) struct LaneNumberMinMax;

impl<A: Copy + PartialOrd + Send> LaneReduction<A> for LaneNumberMinMax {
    const WIDE: bool = false;

    type Part = Option<(A, A)>;

    fn max_rows(_: bool) -> usize {
        usize::MAX
    }

    #[inline(always)]
    fn lane(self, lane: &[A]) -> Self::Part {
        NumberMinMax(lane).run()
    }

    // As `MinMax::side_by_side`.
    #[cfg_attr(debug_assertions, inline(never))]
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn columns<const N: usize>(self, rows: Rows<'_, A>, mut emit: impl FnMut(usize, Self::Part)) {
        let first = rows.first_row::<N>();
        let mut extremes = NumberExtremes(first, first);
        rows.visit(&mut extremes);
        columns_of(&rows, N).for_each(|n| emit(n, Some(extremes.of(n))));
    }

    #[inline(always)]
    fn merge(self, left: Self::Part, right: Self::Part) -> Self::Part {
        left.zip(right).map(|(left, right)| merge_numbers(left, right)).or(left).or(right)
    }
}
