//! Operations that end a walk: one result from all blocks.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ndarray::{Array, ArrayView, ArrayViewMut, Axis, Dimension, RemoveAxis, ShapeBuilder};

use super::accumulate::{Accumulate, Accumulator, MeanValue, Running};
use super::pairwise::{CentralMoments, MinMax, Moments, PairwiseTree, Reduction, reduce_pairwise};
use super::{BlockElements, Blocks, BlocksMut};
use crate::error::Result;
use crate::layout::{Order, axes};
use crate::parallel::{CancelFlag, lock, run_on_pool};

type MeanOf<A> = <<A as Accumulate>::Sum as Accumulator>::Mean;

/// # Sums, and what follows from them
/// Integers add up exactly. Floating-point numbers are widened to `f64` and added up pairwise: the result is off by at
/// most 2^-46 (128 roundings) of the sum of the absolute values, however long the array is, and by much less as a rule.
/// Infinities and NaN go their usual ways. Elements of `rend` are read where they lie, whatever their byte order.
/// See [`Accumulate`] for the types.
impl<A: Accumulate, D: Dimension> Blocks<'_, A, D> {
    /// The sum of all elements; zero for none.
    ///
    /// ```
    /// use ndarray_mmap::MmapArrayMut;
    ///
    /// let mut a = MmapArrayMut::<i8>::scratch(1_000_000)?;
    /// a.fill(i8::MIN);
    /// assert_eq!(a.blocks().sum(), -128_000_000);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn sum(self) -> A::Sum {
        self.reduce(A::sum_slice, A::Sum::plus).unwrap_or_default()
    }

    /// The arithmetic mean; `None` for no elements.
    pub fn mean(self) -> Option<MeanOf<A>> {
        let count = self.elements.len();
        let sum = self.reduce(A::sum_slice, A::Sum::plus)?;
        Some(sum.to_mean().over(count as f64))
    }

    /// The variance, with `ddof` degrees of freedom taken off: 0 for the variance of all there is, 1 to estimate it from
    /// a sample. Of complex numbers that of the distance from the mean. `None` unless there are more elements than
    /// `ddof`.
    ///
    /// One walk, and nearly as accurate as two: from each small stretch its mean is taken off before squaring.
    ///
    /// ```
    /// use ndarray_mmap::MmapArrayMut;
    ///
    /// let mut a = MmapArrayMut::<f32>::scratch(4)?;
    /// a.assign(&ndarray::arr1(&[1.0, 2.0, 3.0, 4.0]));
    /// assert_eq!(a.blocks().var(0), Some(1.25));
    /// assert_eq!(a.blocks().var(4), None);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn var(self, ddof: impl Into<f64>) -> Option<f64> {
        let widen = |x: A| x.widen().to_mean();
        self.reduce(|block| reduce_pairwise(block, CentralMoments(widen)).unwrap_or_default(), Moments::merge)?
            .var(ddof.into())
    }

    /// The standard deviation: the root of [`var`](Self::var).
    pub fn std(self, ddof: impl Into<f64>) -> Option<f64> {
        self.var(ddof).map(f64::sqrt)
    }

    /// The sums along an axis, which is gone from the result. The result is held in memory, and while it is computed twice
    /// as much beside it, with [`parallel`](Self::parallel) once for each thread; then the last bit of a floating-point
    /// sum may depend on which thread was faster. The error is bounded as for [`sum`](Self::sum).
    ///
    /// # Panics
    /// If the array has no such axis, as ndarray's, or if there is not enough memory for the result. (Of a file with an
    /// empty axis, and nothing in it, the sums along that axis may be any number of zeros.)
    pub fn sum_axis(self, axis: Axis) -> Array<A::Sum, D::Smaller>
    where
        D: RemoveAxis,
    {
        self.along(axis, |sum, _| sum)
    }

    /// The means along an axis, which is gone from the result: see [`sum_axis`](Self::sum_axis). `None` if the axis has
    /// length 0.
    ///
    /// # Panics
    /// Those of [`sum_axis`](Self::sum_axis).
    pub fn mean_axis(self, axis: Axis) -> Option<Array<MeanOf<A>, D::Smaller>>
    where
        D: RemoveAxis,
    {
        let length = self.layout.axes().get(axis.index()).copied();
        if length == Some(0) {
            return None;
        }
        Some(self.along(axis, |sum, count| sum.to_mean().over(count as f64)))
    }

    fn along<T>(self, axis: Axis, finish: impl Fn(A::Sum, usize) -> T) -> Array<T, D::Smaller>
    where
        D: RemoveAxis,
    {
        let (dim, order) = (self.layout.dim(), self.layout.order());
        assert!(axis.index() < dim.ndim(), "{axis:?} is not an axis of an array of shape {:?}", axes(dim));
        let shape = dim.remove_axis(axis);
        let plan = AxisSums::new(axes(dim), axis.index(), order);
        let count = plan.outer * plan.inner;
        // Before the walk, so that it is not in vain.
        let mut values = room(count, axes(&shape));
        if plan.length == 0 {
            values.extend((0..count).map(|_| finish(A::Sum::default(), 0)));
        } else {
            let zeros = || {
                let mut sums = room(count, axes(&shape));
                sums.resize(count, <A::Sum as Accumulator>::Running::default());
                sums
            };
            let mut parts = self.run_blocks(zeros, |sums, _, at, block| plan.add(sums, at.start, block)).into_iter();
            let mut sums = parts.next().unwrap_or_else(zeros);
            for part in parts {
                sums.iter_mut().zip(part).for_each(|(sum, part)| sum.merge(part));
            }
            values.extend(sums.into_iter().map(|sum| finish(sum.value(), plan.length)));
        }
        Array::from_shape_vec(shape.set_f(order == Order::F), values)
            .unwrap_or_else(|e| unreachable!("a sum for each element of the shape: {e}"))
    }
}

impl<'a, A: Sync, D: Dimension> Blocks<'a, A, D> {
    /// The smallest and the largest element, by the element's own order (`<=`); `None` for no elements. If there is a NaN,
    /// that is an element which is not `<=` itself, both are NaN, as with NumPy.
    ///
    /// Of elements that compare equal but differ (`-0.0` and `0.0`) it may be either. A date that is none
    /// ([`NAT`](crate::Datetime64::NAT)) is less than all others: where there is one it is the smallest, and the largest
    /// is that of the others. (NumPy has both NaT then.)
    ///
    /// ```
    /// use ndarray_mmap::MmapArrayMut;
    ///
    /// let mut a = MmapArrayMut::<f64>::scratch((100, 3))?;
    /// a[[7, 1]] = -2.5;
    /// assert_eq!(a.blocks().min_max(), Some((-2.5, 0.0)));
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn min_max(self) -> Option<(A, A)>
    where
        A: Copy + PartialOrd + Send,
    {
        let merge = |left: Option<_>, right| left.zip(right).map(|(left, right)| MinMax.merge(left, right));
        self.reduce(|block| reduce_pairwise(block, MinMax), merge)?
    }

    /// Folds all blocks into one value, in order and on this thread, whatever [`parallel`](Self::parallel) says.
    pub fn fold<B>(self, init: B, f: impl FnMut(B, ArrayView<'a, A, D>) -> B) -> B {
        self.into_iter().fold(init, f)
    }

    /// Calls `f` with each block: in order, or with [`parallel`](Self::parallel) as threads are free. A panic in `f` ends
    /// the walk, and is passed on.
    pub fn for_each(self, f: impl Fn(ArrayView<'a, A, D>) + Sync) {
        let partition = self.partition();
        self.run_blocks(|| (), |(), block, _, elements| f(elements.into_view(partition.shape(block))));
    }

    /// One result for each block, merged in pairs, of pairs, of pairs: in the same order on any number of threads.
    fn reduce<T: Send>(self, map: impl Fn(&[A]) -> T + Sync, merge: impl Fn(T, T) -> T + Sync) -> Option<T> {
        let merged = Mutex::new(OrderedMerge::default());
        self.run_blocks(
            || (),
            |(), n, _, block| {
                let found = map(block);
                lock(&merged).put(n, found, &merge);
            },
        );
        std::mem::take(&mut *lock(&merged)).tree.into_root(&merge)
    }

    /// Calls `work` for each block, with its number and its place in the array, on as many threads as are wanted. Each
    /// thread has a state of its own.
    fn run_blocks<S: Send>(
        self,
        state: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, usize, Range<usize>, &'a [A]) + Sync,
    ) -> Vec<S> {
        let threads = self.threads();
        let size = self.item().size();
        let (elements, partition, walk) = self.walk();
        let (next, stop) = (AtomicUsize::new(0), CancelFlag::default());
        let serve = || {
            let mut state = state();
            while !stop.is_set() {
                let block = next.fetch_add(1, Ordering::Relaxed);
                if block >= partition.len() {
                    break;
                }
                let at = partition.elements(block);
                let bytes = at.start * size..at.end * size;
                walk.enter(bytes.clone(), elements.len() * size);
                work(&mut state, block, at.clone(), &elements[at]);
                walk.leave(bytes);
            }
            state
        };
        run_on_pool(threads.min(partition.len()), || stop.on_panic(serve))
    }
}

impl<'a, A: Send + Sync, D: Dimension> BlocksMut<'a, A, D> {
    /// Calls `f` with each block: in order, or with [`parallel`](Self::parallel) each thread in a stretch of its own. A
    /// panic in `f` ends the walk, and is passed on.
    ///
    /// # Errors
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io) if something could not be written to the disk. (If all could, it is still
    ///   [`flush`](crate::MmapArrayBase::flush) that makes sure of it.)
    /// - Those of [`guarded_mut`](crate::MmapArrayBase::guarded_mut), for a file that is cut, and for a disk that fails
    ///   or is full, meanwhile.
    pub fn for_each(self, f: impl Fn(ArrayViewMut<'a, A, D>) + Sync) -> Result<()> {
        let (threads, pages) = (self.threads(), self.pages);
        let (elements, partition, walk) = self.walk();
        let split_evenly = Mutex::new(super::iter::split_evenly(elements, &partition, &walk, threads));
        let stop = CancelFlag::default();
        let serve = || {
            let mine = lock(&split_evenly).pop();
            // What is stored after a fault stays in memory, and there may be more of it than memory.
            mine.into_iter().flatten().take_while(|_| !stop.is_set() && !pages.faulted()).for_each(&f);
        };
        let guarded = pages.guarded(|| run_on_pool(threads, || stop.on_panic(serve)));
        drop(split_evenly);
        guarded.and_then(|_| walk.end())
    }
}

impl<D: Dimension, E: BlockElements<D>> super::BlocksBase<'_, D, E> {
    /// How many threads the walk may use.
    pub(super) fn threads(&self) -> usize {
        #[cfg(feature = "rayon")]
        if self.parallel {
            return rayon::current_num_threads();
        }
        debug_assert!(!self.parallel || cfg!(feature = "rayon"));
        1
    }
}

/// Merges what comes in any order as if it came in order.
struct OrderedMerge<T> {
    next: usize,
    early: BTreeMap<usize, T>,
    tree: PairwiseTree<T>,
}

impl<T> Default for OrderedMerge<T> {
    fn default() -> Self {
        Self { next: 0, early: BTreeMap::new(), tree: PairwiseTree::default() }
    }
}

impl<T> OrderedMerge<T> {
    fn put(&mut self, n: usize, found: T, merge: impl Fn(T, T) -> T) {
        self.early.insert(n, found);
        while let Some(found) = self.early.remove(&self.next) {
            self.tree.push(found, &merge);
            self.next += 1;
        }
    }
}

/// Room for what is found of each lane along an axis, in a result of this shape. A file's header may claim any shape at
/// no cost to itself where an axis is empty.
///
/// # Panics
/// If there is no such memory: which is an abort where it is not asked for.
fn room<T>(count: usize, shape: &[usize]) -> Vec<T> {
    let mut room = Vec::new();
    if room.try_reserve_exact(count).is_err() {
        let bytes = count as u128 * size_of::<T>() as u128;
        panic!("there is not enough memory for a result of shape {shape:?}, which takes {bytes} bytes");
    }
    room
}

/// An axis in memory order: steps of `inner` elements, `length` of them, and that `outer` times.
struct AxisSums {
    outer: usize,
    length: usize,
    inner: usize,
}

/// Sums that are kept at hand while rows are added to them.
const TILE: usize = 256;

/// Rows that are added up plainly before the sum goes where nothing is lost.
const DEPTH: usize = 64;

impl AxisSums {
    fn new(dim: &[usize], axis: usize, order: Order) -> Self {
        let (before, after) = (dim[..axis].iter().product(), dim[axis + 1..].iter().product());
        let (outer, inner) = if order == Order::C { (before, after) } else { (after, before) };
        Self { outer, length: dim[axis], inner }
    }

    /// Adds a stretch of elements, in memory order from `start` on, to the sums they belong to.
    fn add<A: Accumulate>(&self, sums: &mut [<A::Sum as Accumulator>::Running], mut start: usize, mut elements: &[A]) {
        let Self { length, inner, .. } = *self;
        while !elements.is_empty() {
            let (row, column) = (start / inner, start % inner);
            let (outer, left) = (row / length, length - row % length);
            let sums = &mut sums[outer * inner..(outer + 1) * inner];
            let taken = if inner == 1 {
                let taken = left.min(elements.len());
                sums[0].add(A::sum_slice(&elements[..taken]));
                taken
            } else if column > 0 || elements.len() < inner {
                let taken = (inner - column).min(elements.len());
                sums[column..].iter_mut().zip(&elements[..taken]).for_each(|(sum, &x)| sum.add(x.widen()));
                taken
            } else {
                let taken = left.min(elements.len() / inner) * inner;
                add_rows(sums, &elements[..taken]);
                taken
            };
            elements = &elements[taken..];
            start += taken;
        }
    }
}

/// Adds whole rows to their sums.
fn add_rows<A: Accumulate>(sums: &mut [<A::Sum as Accumulator>::Running], rows: &[A]) {
    let inner = sums.len();
    // Narrow rows are taken several at a time, as one.
    let wide = (TILE / inner).max(1) * inner;
    for group in rows.chunks(wide.saturating_mul(DEPTH)) {
        for from in (0..wide).step_by(TILE) {
            let tile = from..wide.min(from + TILE);
            let mut at_hand = [A::Sum::default(); TILE];
            for row in group.chunks(wide) {
                let row = &row[tile.start.min(row.len())..tile.end.min(row.len())];
                for (sum, &x) in at_hand.iter_mut().zip(row) {
                    *sum = sum.plus(x.widen());
                }
            }
            for (n, &sum) in tile.zip(&at_hand) {
                sums[n % inner].add(sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_out_of_order_is_merged_in_order() {
        let merge = |a: String, b: String| format!("({a}{b})");
        let merged = |order: &[usize]| {
            let mut all = OrderedMerge::default();
            order.iter().for_each(|&n| all.put(n, n.to_string(), merge));
            all.tree.into_root(merge)
        };
        let expected = Some("(((01)(23))(45))".to_owned());
        assert_eq!(merged(&[0, 1, 2, 3, 4, 5]), expected);
        assert_eq!(merged(&[5, 1, 0, 4, 2, 3]), expected);
        assert_eq!(merged(&[]), None);
    }
}
