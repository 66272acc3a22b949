//! Operations with one result: from all blocks, in order, or of each block.

use std::collections::BTreeMap;
use std::ops::Add;
use std::sync::Mutex;

use ndarray::{ArrayView, ArrayViewMut, Dimension};

use super::accumulate::{Accumulate, Accumulator};
use super::pairwise::{PairwiseTree, reduce_pairwise, reduce_pairwise_once};
use super::reductions::{CentralMoments, MinMax, Moments, is_unordered, merge_min_max};
use super::skip_nan::{NumberMinMax, NumberMoments, NumberSum, merge_numbers};
use super::{BlockElements, Blocks, BlocksMut};
use crate::arch::dispatch::{Kernel, dispatch};
use crate::error::Result;
use crate::parallel::lock;

/// The mean of elements `A`.
pub(super) type MeanOf<A> = <<A as Accumulate>::Sum as Accumulator>::Mean;

/// # Sums, and what is computed from them
/// Integers add up exactly. Floating-point numbers are converted to `f64` and added up pairwise: the error is at
/// most 2^-46 (128 roundings) of the sum of the absolute values, however long the array is, and usually much less.
/// Infinities and NaN are added up as usual. Elements of `rend` are read in place, whatever their byte order.
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
        if self.leaves_nan_out() {
            return self.number_sum().sum;
        }
        self.reduce(A::sum_slice, A::Sum::plus).unwrap_or_default()
    }

    /// The arithmetic mean; `None` for no elements.
    pub fn mean(self) -> Option<MeanOf<A>> {
        if self.leaves_nan_out() {
            return self.number_sum().mean();
        }
        let count = self.elements.len();
        let sum = self.reduce(A::sum_slice, A::Sum::plus)?;
        Some(sum.to_mean() / count as f64)
    }

    /// The variance, with `ddof` degrees of freedom subtracted: 0 for the variance of a population, 1 to estimate it
    /// from a sample. For complex numbers, the variance of the distance from the mean. `None` unless there are more
    /// elements than `ddof`.
    ///
    /// One pass, and nearly as accurate as two: of every few thousand elements the mean is subtracted before they are
    /// squared.
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
        if self.leaves_nan_out() {
            let moments = |block: &[A]| reduce_pairwise_once(block, NumberMoments).unwrap_or_default();
            return self.reduce(moments, Moments::merge)?.var(ddof.into());
        }
        let widen = |x: A| x.widen().to_mean();
        self.reduce(|block| reduce_pairwise(block, CentralMoments(widen)).unwrap_or_default(), Moments::merge)?
            .var(ddof.into())
    }

    /// The standard deviation: the square root of [`var`](Self::var).
    pub fn std(self, ddof: impl Into<f64>) -> Option<f64> {
        self.var(ddof).map(f64::sqrt)
    }

    /// Whether elements may be NaN, and are to be left out then.
    pub(super) fn leaves_nan_out(&self) -> bool {
        self.skip_nan && A::Sum::HAS_NAN
    }

    fn number_sum(self) -> NumberSum<A::Sum> {
        self.reduce(NumberSum::of_all, NumberSum::add).unwrap_or_default()
    }
}

impl<'a, A: Sync, D: Dimension> Blocks<'a, A, D> {
    /// The smallest and the largest element, by the element's own order (`<=`); `None` for no elements. If there is a
    /// NaN (an element that is not `<=` itself), both are NaN, as in NumPy.
    ///
    /// If elements compare equal but differ (`-0.0` and `0.0`), the result may be either of them.
    /// [`NAT`](crate::Datetime64::NAT) is less than all dates: if the array has one, it is the smallest, and the
    /// largest is that of the dates. (In NumPy both are NaT then.)
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
        if self.skip_nan {
            let merge = |left: Option<_>, right| left.zip(right).map(|(left, right)| merge_numbers(left, right));
            let found = self.reduce(|block| NumberMinMax(block).run(), merge)?;
            return found.filter(|&(least, _)| !is_unordered(least));
        }
        let merge = |left: Option<_>, right| left.zip(right).map(|(left, right)| merge_min_max(left, right));
        self.reduce(|block| dispatch(MinMax(block)), merge)?
    }

    /// Folds all blocks into one value, in order and on this thread, whatever [`parallel`](Self::parallel) says.
    pub fn fold<B>(self, init: B, f: impl FnMut(B, ArrayView<'a, A, D>) -> B) -> B {
        self.into_iter().fold(init, f)
    }

    /// Calls `f` with each block: in order, or with [`parallel`](Self::parallel) as threads are free. A panic in `f`
    /// ends the pass, and is passed on.
    pub fn for_each(self, f: impl Fn(ArrayView<'a, A, D>) + Sync) {
        let partition = self.partition();
        self.run(|| (), |(), block, elements| f(elements.into_view(partition.shape(block))));
    }

    /// One result of each block, merged in pairs, pairs of pairs, and so on: in the same order on any number of
    /// threads.
    fn reduce<T: Send>(self, map: impl Fn(&[A]) -> T + Sync, merge: impl Fn(T, T) -> T + Sync) -> Option<T> {
        let merged = Mutex::new(OrderedMerge::default());
        self.run(
            || (),
            |(), block, elements| {
                let result = map(elements);
                lock(&merged).put(block, result, &merge);
            },
        );
        std::mem::take(&mut *lock(&merged)).tree.into_root(&merge)
    }

    /// Calls `work` with each block, its number and its elements. Returns the states of all threads.
    pub(super) fn run<S: Send>(
        self,
        state: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, usize, &'a [A]) + Sync,
    ) -> Vec<S> {
        let threads = self.threads();
        let work = |state: &mut S, block, elements| {
            work(state, block, elements);
            Ok(())
        };
        // No error can come: `work` returns none, and a pass that reads has nothing to write back.
        self.into_iter().run(threads, state, work).unwrap_or_default()
    }
}

impl<'a, A: Send + Sync, D: Dimension> BlocksMut<'a, A, D> {
    /// Calls `f` with each block: in order, or with [`parallel`](Self::parallel) as threads are free. A panic in `f`
    /// ends the pass, and is passed on.
    ///
    /// # Errors
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io) if something could not be written to the disk. (If all could, only a
    ///   [`flush`](crate::MmapArrayBase::flush) makes sure of it.)
    /// - Those of [`guarded_mut`](crate::MmapArrayBase::guarded_mut): if the file is truncated meanwhile, or the disk
    ///   fails or is full.
    pub fn for_each(self, f: impl Fn(ArrayViewMut<'a, A, D>) + Sync) -> Result<()> {
        let (threads, storage, partition) = (self.threads(), self.storage, self.partition());
        let blocks = self.into_iter();
        let work = |(): &mut (), block, elements: &'a mut [A]| {
            // What is stored after a fault stays in memory, and it may be more than there is.
            if storage.faulted() {
                storage.check_file()?;
            }
            f(elements.into_view(partition.shape(block)));
            Ok(())
        };
        storage.guarded(|| blocks.run(threads, || (), work)).flatten().map(drop)
    }
}

/// Merges results that come in any order as if they came in order.
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
    fn put(&mut self, n: usize, result: T, merge: impl Fn(T, T) -> T) {
        self.early.insert(n, result);
        while let Some(result) = self.early.remove(&self.next) {
            self.tree.push(result, &merge);
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_that_come_out_of_order_are_merged_in_order() {
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
