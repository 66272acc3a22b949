//! What a stretch of elements amounts to: of each leaf of it by a loop that fills the processor's widest vectors, then of
//! pairs of leaves, pairs of pairs, and so on, which keeps the error of sums small.

use std::marker::PhantomData;
use std::ops::Add;

use super::accumulate::MeanValue;
use crate::arch::dispatch::{Kernel, dispatch};

/// Results side by side, so that they need not wait for each other, and fit the widest registers.
const LANES: usize = 16;

/// What is gone through before lanes are joined, which takes long enough for the memory to wait.
///
/// No element goes through more than `RUN / LANES + 1` additions in its lane, `LEAF / RUN` from run to run, 4 to join the
/// lanes, and 1 for each doubling of the length from there on: 128 at most, whatever the array.
pub(super) const LEAF: usize = 8 * RUN;

/// What is added up lane by lane.
const RUN: usize = 1024;

/// What is wanted of elements.
pub(super) trait Reduction<A>: Copy {
    type Found;

    /// Of elements, one at least and [`LEAF`] at most. Implement it with `#[inline(always)]`, for [`dispatch`].
    fn reduce_leaf(self, leaf: &[A]) -> Self::Found;

    /// Of two stretches, one behind the other.
    fn merge(self, left: Self::Found, right: Self::Found) -> Self::Found;
}

/// `None` for no elements.
pub(super) fn reduce_pairwise<A, R: Reduction<A>>(elements: &[A], reduction: R) -> Option<R::Found> {
    dispatch(InPairs { elements, reduction })
}

struct InPairs<'e, A, R> {
    elements: &'e [A],
    reduction: R,
}

impl<A, R: Reduction<A>> Kernel for InPairs<'_, A, R> {
    type Output = Option<R::Found>;

    #[inline(always)]
    fn run(self) -> Option<R::Found> {
        let Self { elements, reduction } = self;
        let (first, rest) = elements.split_at(LEAF.min(elements.len()));
        if first.is_empty() {
            return None;
        }
        let first = reduction.reduce_leaf(first);
        if rest.is_empty() {
            return Some(first);
        }
        let merge = |left, right| reduction.merge(left, right);
        let mut tree = PairwiseTree::default();
        tree.push(first, merge);
        for leaf in rest.chunks(LEAF) {
            tree.push(reduction.reduce_leaf(leaf), merge);
        }
        tree.into_root(merge)
    }
}

/// A balanced tree of merges, of which only the finished branches are there: with their heights, the highest first.
pub(super) struct PairwiseTree<T>(Vec<(u32, T)>);

impl<T> Default for PairwiseTree<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> PairwiseTree<T> {
    pub(super) fn push(&mut self, leaf: T, merge: impl Fn(T, T) -> T) {
        let (mut height, mut right) = (0, leaf);
        while let Some((_, left)) = self.0.pop_if(|(h, _)| *h == height) {
            right = merge(left, right);
            height += 1;
        }
        self.0.push((height, right));
    }

    pub(super) fn into_root(mut self, merge: impl Fn(T, T) -> T) -> Option<T> {
        let mut root = self.0.pop()?.1;
        while let Some((_, left)) = self.0.pop() {
            root = merge(left, root);
        }
        Some(root)
    }
}

/// The sum of floating-point numbers.
#[derive(Clone, Copy)]
pub(super) struct Sum<F>(pub(super) F);

impl<A: Copy, R: MeanValue, F: Fn(A) -> R + Copy> Reduction<A> for Sum<F> {
    type Found = R;

    #[inline(always)]
    fn reduce_leaf(self, leaf: &[A]) -> R {
        let mut sums = [R::default(); LANES];
        for run in leaf.chunks(RUN) {
            let mut lanes = [R::default(); LANES];
            let (groups, rest) = run.as_chunks::<LANES>();
            for group in groups {
                for (lane, &x) in lanes.iter_mut().zip(group) {
                    *lane = lane.plus(self.0(x));
                }
            }
            for (lane, &x) in lanes.iter_mut().zip(rest) {
                *lane = lane.plus(self.0(x));
            }
            for (sum, &lane) in sums.iter_mut().zip(&lanes) {
                *sum = sum.plus(lane);
            }
        }
        join(sums)
    }

    #[inline(always)]
    fn merge(self, left: R, right: R) -> R {
        left.plus(right)
    }
}

/// Halves are added to halves. Not inlined, or the compiler would choose vectors for the whole loop by what suits its end.
#[inline(never)]
fn join<R: MeanValue>(mut lanes: [R; LANES]) -> R {
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for n in 0..width {
            lanes[n] = lanes[n].plus(lanes[n + width]);
        }
    }
    lanes[0]
}

/// The sum of integers of so few bits that a leaf's fits in an `S`, as a `T`.
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
    type Found = T;

    #[inline(always)]
    fn reduce_leaf(self, leaf: &[A]) -> T {
        leaf.iter().fold(S::default(), |sum, &x| sum + self.0(x)).into()
    }

    #[inline(always)]
    fn merge(self, left: T, right: T) -> T {
        left + right
    }
}

/// The sum of 64-bit integers: of two halves, each of which fits in a sum of 64 bits, so that no carry is waited for.
#[derive(Clone, Copy)]
pub(super) struct WideIntSum<F>(pub(super) F);

impl<A: Copy, F: Fn(A) -> u64 + Copy> Reduction<A> for WideIntSum<F> {
    type Found = u128;

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

/// Count, mean, and the sum of the squared distances from the mean: what a variance is made of, and can be merged from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments<R> {
    pub(super) count: u64,
    mean: R,
    squares: f64,
}

/// The moments of numbers. Each leaf is looked at twice while it is in the core's own cache: once for its mean, once for
/// the distances from it.
#[derive(Clone, Copy)]
pub(super) struct CentralMoments<F>(pub(super) F);

impl<A: Copy, R: MeanValue, F: Fn(A) -> R + Copy> Reduction<A> for CentralMoments<F> {
    type Found = Moments<R>;

    #[inline(always)]
    fn reduce_leaf(self, leaf: &[A]) -> Moments<R> {
        let mean = Sum(self.0).reduce_leaf(leaf).over(leaf.len() as f64);
        let squares = Sum(|x| self.0(x).minus(mean).square()).reduce_leaf(leaf);
        Moments { count: leaf.len() as u64, mean, squares }
    }

    #[inline(always)]
    fn merge(self, left: Moments<R>, right: Moments<R>) -> Moments<R> {
        left.merge(right)
    }
}

impl<R: MeanValue> Moments<R> {
    pub(super) fn merge(self, other: Self) -> Self {
        if self.count == 0 || other.count == 0 {
            return if self.count == 0 { other } else { self };
        }
        let count = self.count + other.count;
        let share = other.count as f64 / count as f64;
        let apart = other.mean.minus(self.mean);
        Self {
            count,
            mean: self.mean.plus(apart.times(share)),
            squares: self.squares + other.squares + apart.square() * share * self.count as f64,
        }
    }

    /// `None` unless more elements than `ddof` were seen.
    pub(super) fn var(self, ddof: f64) -> Option<f64> {
        let degrees = self.count as f64 - ddof;
        (self.count > 0 && degrees > 0.0).then(|| self.squares / degrees)
    }
}

/// The smallest and the largest; if an element is not as small as itself (NaN), both are the first such element.
#[derive(Clone, Copy)]
pub(super) struct MinMax;

impl<A: Copy + PartialOrd> Reduction<A> for MinMax {
    type Found = (A, A);

    #[inline(always)]
    fn reduce_leaf(self, leaf: &[A]) -> (A, A) {
        let first = leaf[0];
        let (mut least, mut most) = ([first; LANES], [first; LANES]);
        let mut unordered = false;
        let (groups, rest) = leaf.as_chunks::<LANES>();
        for group in groups {
            for n in 0..LANES {
                let x = group[n];
                least[n] = if x < least[n] { x } else { least[n] };
                most[n] = if x > most[n] { x } else { most[n] };
                unordered |= is_unordered(x);
            }
        }
        for (n, &x) in rest.iter().enumerate() {
            least[n] = if x < least[n] { x } else { least[n] };
            most[n] = if x > most[n] { x } else { most[n] };
            unordered |= is_unordered(x);
        }
        if unordered && let Some(&x) = leaf.iter().find(|&&x| is_unordered(x)) {
            return (x, x);
        }
        let least = least.into_iter().reduce(|a, b| if b < a { b } else { a });
        let most = most.into_iter().reduce(|a, b| if b > a { b } else { a });
        (least.unwrap_or(first), most.unwrap_or(first))
    }

    #[inline(always)]
    fn merge(self, left: (A, A), right: (A, A)) -> (A, A) {
        if is_unordered(left.0) || is_unordered(right.0) {
            return if is_unordered(left.0) { left } else { right };
        }
        (if right.0 < left.0 { right.0 } else { left.0 }, if right.1 > left.1 { right.1 } else { left.1 })
    }
}

/// NaN, for whatever type has one. It is the order that is asked, and not `==`, which need not be about the same thing:
/// floats of `rend` are ordered as numbers, but equal if the bytes they are stored as are, taken for native floats.
#[inline(always)]
#[expect(clippy::eq_op, clippy::neg_cmp_op_on_partial_ord, reason = "only NaN is not as small as itself")]
fn is_unordered<A: PartialOrd + Copy>(x: A) -> bool {
    !(x <= x)
}
