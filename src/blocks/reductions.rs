//! The reductions: sums, moments, and the smallest and largest element, each in loops that fill the widest vectors of
//! the processor.

use std::marker::PhantomData;
use std::ops::{Add, Div, Mul, Sub};

use super::columns::{ColumnResults, in_pairs};
use super::pairwise::{LEAF, Reduction};
use crate::arch::dispatch::Kernel;

/// Results side by side, so that none waits for the one before: two registers of the widest vectors for `f64`.
const LANES: usize = 16;

/// The elements that are added up lane by lane, before the lanes are added to those of the runs before.
///
/// No element goes through more than `RUN / LANES + 1` additions in its lane, `LEAF / RUN` from run to run, 4 to join
/// the lanes, and 1 for each doubling of the length from there on. That is at most 128, however long the array is.
const RUN: usize = 1024;

/// A mean: `f64` or `Complex<f64>`, and no others.
pub trait MeanValue:
    Copy
    + Default
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<f64, Output = Self>
    + Div<f64, Output = Self>
    + sealed::Sealed
    + 'static
{
    /// The square of the absolute value.
    #[doc(hidden)]
    fn norm_sqr(self) -> f64;
}

pub(super) mod sealed {
    pub trait Sealed {}
    impl Sealed for f64 {}
    #[cfg(feature = "num-complex")]
    impl Sealed for num_complex::Complex<f64> {}
}

impl MeanValue for f64 {
    #[inline(always)]
    fn norm_sqr(self) -> f64 {
        self * self
    }
}

#[cfg(feature = "num-complex")]
impl MeanValue for num_complex::Complex<f64> {
    #[inline(always)]
    fn norm_sqr(self) -> f64 {
        num_complex::Complex::norm_sqr(&self)
    }
}

/// The sum of floating-point numbers, each converted by a function.
#[derive(Clone, Copy)]
pub(super) struct Sum<F>(pub(super) F);

impl<A, R, F> Reduction<A> for Sum<F>
where
    A: Copy,
    R: Copy + Default + Add<Output = R>,
    F: Fn(A) -> R + Copy,
{
    type Output = R;

    #[inline(always)]
    fn reduce_leaf(self, leaf: &[A]) -> R {
        let mut sums = [R::default(); LANES];
        for run in leaf.chunks(RUN) {
            let mut lanes = [R::default(); LANES];
            let (groups, rest) = run.as_chunks::<LANES>();
            for group in groups {
                for (lane, &x) in lanes.iter_mut().zip(group) {
                    *lane = *lane + self.0(x);
                }
            }
            for (lane, &x) in lanes.iter_mut().zip(rest) {
                *lane = *lane + self.0(x);
            }
            for (sum, &lane) in sums.iter_mut().zip(&lanes) {
                *sum = *sum + lane;
            }
        }
        join(sums)
    }

    #[inline(always)]
    fn merge(self, left: R, right: R) -> R {
        left + right
    }
}

/// Adds halves to halves. Not inlined: the compiler would choose vectors for the whole loop before it by what suits its
/// end.
#[inline(never)]
fn join<R: Copy + Add<Output = R>>(lanes: [R; LANES]) -> R {
    in_pairs(lanes, |a, b| a + b)
}

/// A leaf of 16-bit integers fits in a sum of 32 bits, one of 32-bit integers in a sum of 64.
const _: () = assert!(LEAF <= 1 << 15);

/// The sum of integers of few bits: of a leaf in an `S`, of leaves in a `T`.
#[derive(Clone, Copy)]
pub(super) struct NarrowIntSum<F, S, T>(F, PhantomData<fn(S) -> T>);

impl<F, S, T> NarrowIntSum<F, S, T> {
    pub(super) fn new(read: F) -> Self {
        Self(read, PhantomData)
    }
}

impl<A: Copy, F, S, T> Reduction<A> for NarrowIntSum<F, S, T>
where
    F: Fn(A) -> S + Copy,
    S: Default + Add<Output = S> + Copy,
    T: From<S> + Add<Output = T> + Copy,
{
    type Output = T;

    #[inline(always)]
    fn reduce_leaf(self, leaf: &[A]) -> T {
        leaf.iter().fold(S::default(), |sum, &x| sum + self.0(x)).into()
    }

    #[inline(always)]
    fn merge(self, left: T, right: T) -> T {
        left + right
    }
}

/// The sum of 64-bit integers. Their upper and lower halves are added up apart, so that no addition of a leaf has a
/// carry.
#[derive(Clone, Copy)]
pub(super) struct WideIntSum<F>(pub(super) F);

impl<A: Copy, F: Fn(A) -> u64 + Copy> Reduction<A> for WideIntSum<F> {
    type Output = u128;

    #[inline(always)]
    fn reduce_leaf(self, leaf: &[A]) -> u128 {
        let (low, high) = leaf.iter().fold((0u64, 0u64), |(low, high), &x| {
            let x = self.0(x);
            (low + (x & u64::from(u32::MAX)), high + (x >> 32))
        });
        u128::from(low) + (u128::from(high) << 32)
    }

    #[inline(always)]
    fn merge(self, left: u128, right: u128) -> u128 {
        left + right
    }
}

/// Count, mean, and the sum of the squared distances from the mean: from these a variance is computed, and they can be
/// merged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments<R> {
    pub(super) count: u64,
    pub(super) mean: R,
    pub(super) squares: f64,
}

impl<R: MeanValue> Moments<R> {
    pub(super) fn merge(self, other: Self) -> Self {
        if self.count == 0 || other.count == 0 {
            return if self.count == 0 { other } else { self };
        }
        let count = self.count + other.count;
        let share = other.count as f64 / count as f64;
        let distance = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + distance * share,
            squares: self.squares + other.squares + distance.norm_sqr() * share * self.count as f64,
        }
    }

    /// `None` unless there were more elements than `ddof`.
    pub(super) fn var(self, ddof: f64) -> Option<f64> {
        let degrees = self.count as f64 - ddof;
        (self.count > 0 && degrees > 0.0).then(|| self.squares / degrees)
    }
}

/// The moments of numbers, each converted by a function. Each leaf is read twice, while it is in the core's own cache:
/// for its mean, and for the distances from it.
#[derive(Clone, Copy)]
pub(super) struct CentralMoments<F>(pub(super) F);

impl<A: Copy, R: MeanValue, F: Fn(A) -> R + Copy> Reduction<A> for CentralMoments<F> {
    type Output = Moments<R>;

    #[inline(always)]
    fn reduce_leaf(self, leaf: &[A]) -> Moments<R> {
        let mean = Sum(self.0).reduce_leaf(leaf) / leaf.len() as f64;
        let squares = Sum(|x| (self.0(x) - mean).norm_sqr()).reduce_leaf(leaf);
        Moments { count: leaf.len() as u64, mean, squares }
    }

    #[inline(always)]
    fn merge(self, left: Moments<R>, right: Moments<R>) -> Moments<R> {
        left.merge(right)
    }
}

/// The smallest and the largest of some elements. If one is unordered (NaN), both are such an element.
pub(super) struct MinMax<'e, A>(pub(super) &'e [A]);

impl<A: Copy + PartialOrd> Kernel for MinMax<'_, A> {
    type Output = Option<(A, A)>;

    #[inline(always)]
    fn run(self) -> Option<(A, A)> {
        // Results side by side: four or more registers of the widest vectors (bench `peers`, "min_max"). Larger elements are no
        // single numbers, and not compared in vectors.
        match size_of::<A>() {
            1 => self.side_by_side::<256>(),
            2 => self.side_by_side::<128>(),
            ..=16 => self.side_by_side::<64>(),
            _ => self.one_by_one(),
        }
    }
}

impl<A: Copy + PartialOrd> MinMax<'_, A> {
    /// Of so few elements that it matters how long it takes to join what was found side by side.
    #[inline(always)]
    pub(super) fn of_lane(self) -> Option<(A, A)> {
        match size_of::<A>() {
            ..=8 => self.side_by_side::<64>(),
            _ => self.one_by_one(),
        }
    }

    #[inline(always)]
    pub(super) fn one_by_one(self) -> Option<(A, A)> {
        self.0.iter().map(|&x| (x, x)).reduce(merge_min_max)
    }

    // Not inlined without optimisation: there a branch that is never taken has its place on the stack all the same, which
    // may be too large.
    #[cfg_attr(debug_assertions, inline(never))]
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn side_by_side<const N: usize>(self) -> Option<(A, A)> {
        let first = *self.0.first()?;
        let mut all = Extremes([first; N], [first; N], [first; N]);
        let (rows, rest) = self.0.as_chunks::<N>();
        for row in rows {
            row.iter().enumerate().for_each(|(n, &x)| all.add(n, x));
        }
        rest.iter().enumerate().for_each(|(n, &x)| all.add(n, x));
        Some(all.of_all())
    }
}

/// The smallest, the largest and the last unordered element of each column so far. (Where none is unordered, the last is
/// the first of all.)
pub(super) struct Extremes<A, const N: usize>(pub(super) [A; N], pub(super) [A; N], pub(super) [A; N]);

impl<A: Copy + PartialOrd, const N: usize> Extremes<A, N> {
    #[inline(always)]
    fn add(&mut self, n: usize, x: A) {
        let Self(least, most, unordered) = self;
        least[n] = smaller(least[n], x);
        most[n] = larger(most[n], x);
        unordered[n] = if is_unordered(x) { x } else { unordered[n] };
    }

    #[inline(always)]
    fn of_all(self) -> (A, A) {
        let Self(least, most, unordered) = self;
        // All are looked at, which vectors do at once.
        if unordered.iter().fold(false, |any, &x| any | is_unordered(x)) {
            let x = unordered.into_iter().find(|&x| is_unordered(x)).unwrap_or(unordered[0]);
            return (x, x);
        }
        (join_lanes(least, smaller), join_lanes(most, larger))
    }

    #[inline(always)]
    pub(super) fn of(&self, n: usize) -> (A, A) {
        let Self(least, most, unordered) = self;
        if is_unordered(unordered[n]) { (unordered[n], unordered[n]) } else { (least[n], most[n]) }
    }
}

/// Combines lanes with lanes until as many are left as a vector has.
#[inline(always)]
fn join_lanes<R: Copy, const N: usize>(lanes: [R; N], combine: impl Fn(R, R) -> R) -> R {
    let (first, rest) = lanes.split_at(LANES);
    let mut joined: [R; LANES] = std::array::from_fn(|n| first[n]);
    for lanes in rest.as_chunks::<LANES>().0 {
        joined.iter_mut().zip(lanes).for_each(|(joined, &lane)| *joined = combine(*joined, lane));
    }
    in_pairs(joined, combine)
}

impl<A: Copy + PartialOrd, const N: usize> ColumnResults<A> for Extremes<A, N> {
    #[inline(always)]
    fn len(&self) -> usize {
        N
    }

    #[inline(always)]
    fn add<const ROWS: usize>(&mut self, column: usize, elements: [A; ROWS]) {
        elements.into_iter().for_each(|x| Self::add(self, column, x));
    }
}

/// Of two smallest and largest elements. If one is unordered, both are.
#[inline(always)]
pub(super) fn merge_min_max<A: Copy + PartialOrd>(left: (A, A), right: (A, A)) -> (A, A) {
    if is_unordered(left.0) || is_unordered(right.0) {
        return if is_unordered(left.0) { left } else { right };
    }
    (smaller(left.0, right.0), larger(left.1, right.1))
}

#[inline(always)]
pub(super) fn smaller<A: PartialOrd>(a: A, b: A) -> A {
    if b < a { b } else { a }
}

#[inline(always)]
pub(super) fn larger<A: PartialOrd>(a: A, b: A) -> A {
    if b > a { b } else { a }
}

/// Whether an element is NaN, for any type that has one. Goes by the order rather than by `==`, which for floats of
/// `rend` compares the stored bytes.
#[inline(always)]
#[expect(clippy::eq_op, clippy::neg_cmp_op_on_partial_ord, reason = "only NaN is not `<=` itself")]
pub(super) fn is_unordered<A: PartialOrd + Copy>(x: A) -> bool {
    !(x <= x)
}
