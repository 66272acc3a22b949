//! Operations with one result for each lane along an axis.

use std::mem::take;
use std::sync::Mutex;

use ndarray::{Array, Axis, Dimension, RemoveAxis, ShapeBuilder};

use super::accumulate::{Accumulate, Accumulator, Running};
use super::lane_reductions::{LaneMinMax, LaneMoments, LaneSums};
use super::lanes::{LaneReduction, Lanes, Share, WholeLanes};
use super::partition::BlockSize;
use super::reduce::MeanOf;
use super::reductions::{MeanValue, Moments};
use super::scan::{Intent, Scan};
use super::skip_nan::{LaneNumberMinMax, LaneNumberSums, NumberMoments};
use super::{Blocks, DEFAULT_BYTES};
use crate::arch::dispatch::{Kernel, dispatch};
use crate::layout::{Order, axes};
use crate::parallel::{Threads, lock, run_jobs};
use crate::sys::memory::vec_with_room;

/// The blocks of all threads together, at most, in bytes, if they are larger than others: a pass that evicts holds so much.
const MOST_BYTES: usize = 16 << 20;

/// Rows of a block, if they fit: each costs a part of what merging the results of a block costs.
const ROWS_OF_BLOCK: usize = 256;

/// Of a row, at least so many bytes are read together, if each thread computes results of whole lanes: fewer are slower
/// to read, as they are in more places.
const BYTES_OF_ROW: usize = 64 * 1024;

/// # Along an axis
/// The result does not have the axis, and is held in memory. So are one to three numbers for each result while they are
/// computed, with [`parallel`](Self::parallel) for each thread, if the axis is the outermost in memory, or near it. Then
/// the last bits of a floating-point result may depend on which thread was faster. Unless [`bytes`](Self::bytes) or
/// [`rows`](Self::rows) says otherwise, blocks are as large as suits the axis: 16 MiB in all threads together, or 4 MiB in
/// each. Of an array in memory they need not follow the order of memory.
///
/// All of these operations panic if the array has no such axis, as in ndarray, or if there is not enough memory for the
/// result. (A header may claim any shape that has an empty axis, and so any number of sums along it.)
impl<A: Accumulate, D: Dimension> Blocks<'_, A, D> {
    /// The sums along an axis. The error is bounded as for [`sum`](Self::sum).
    ///
    /// # Panics
    /// See [above](#along-an-axis).
    pub fn sum_axis(self, axis: Axis) -> Array<A::Sum, D::Smaller>
    where
        D: RemoveAxis,
    {
        if self.leaves_nan_out() {
            return self.reduce_axis(axis, LaneNumberSums, |numbers, _| numbers.all().sum);
        }
        self.reduce_axis(axis, LaneSums, |sum, _| sum.value())
    }

    /// The means along an axis. `None` if it has length 0.
    ///
    /// # Panics
    /// See [above](#along-an-axis).
    pub fn mean_axis(self, axis: Axis) -> Option<Array<MeanOf<A>, D::Smaller>>
    where
        D: RemoveAxis,
    {
        if self.length_of(axis) == 0 {
            return None;
        }
        Some(if self.leaves_nan_out() {
            self.reduce_axis(axis, LaneNumberSums, |numbers, _| numbers.all().mean().unwrap_or_else(nan))
        } else {
            self.reduce_axis(axis, LaneSums, |sum, length| sum.value().to_mean() / length as f64)
        })
    }

    /// The variances along an axis, with `ddof` degrees of freedom subtracted; NaN if the axis is not longer than `ddof`.
    /// `None` if it has length 0.
    ///
    /// One pass, and nearly as accurate as [`var`](Self::var): of every 64 elements the mean is subtracted before they are
    /// squared. Of a million numbers whose mean is 10^6 times their deviation, at least ten digits are right.
    ///
    /// # Panics
    /// See [above](#along-an-axis).
    ///
    /// ```
    /// use ndarray::{Axis, arr1, array};
    /// use ndarray_mmap::MmapArrayMut;
    ///
    /// let mut a = MmapArrayMut::<i16>::scratch((3, 2))?;
    /// a.assign(&array![[1, 5], [2, 5], [3, 5]]);
    /// assert_eq!(a.blocks().var_axis(Axis(0), 1), Some(arr1(&[1.0, 0.0])));
    /// assert_eq!(a.blocks().std_axis(Axis(1), 0), Some(arr1(&[2.0, 1.5, 1.0])));
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn var_axis(self, axis: Axis, ddof: impl Into<f64>) -> Option<Array<f64, D::Smaller>>
    where
        D: RemoveAxis,
    {
        let ddof = ddof.into();
        if self.length_of(axis) == 0 {
            return None;
        }
        let var = move |moments: Moments<_>, _| moments.var(ddof).unwrap_or(f64::NAN);
        Some(if self.leaves_nan_out() {
            self.reduce_axis(axis, NumberMoments, var)
        } else {
            self.reduce_axis(axis, LaneMoments(|x: A| x.widen().to_mean()), var)
        })
    }

    /// The standard deviations along an axis: the square roots of [`var_axis`](Self::var_axis).
    ///
    /// # Panics
    /// See [above](#along-an-axis).
    pub fn std_axis(self, axis: Axis, ddof: impl Into<f64>) -> Option<Array<f64, D::Smaller>>
    where
        D: RemoveAxis,
    {
        self.var_axis(axis, ddof).map(|variances| variances.mapv_into(f64::sqrt))
    }
}

impl<A: Copy + PartialOrd + Send + Sync, D: Dimension> Blocks<'_, A, D> {
    /// The smallest and the largest elements along an axis, as [`min_max`](Self::min_max) finds them. `None` if it has
    /// length 0.
    ///
    /// # Panics
    /// See [above](#along-an-axis).
    ///
    /// ```
    /// use ndarray::{Axis, arr1, array};
    /// use ndarray_mmap::MmapArrayMut;
    ///
    /// let mut a = MmapArrayMut::<f32>::scratch((2, 3))?;
    /// a.assign(&array![[1.0, 5.0, -2.0], [0.0, 6.0, f32::NAN]]);
    /// let (least, most) = a.blocks().min_max_axis(Axis(0)).unwrap();
    /// assert_eq!(least.as_slice().unwrap()[..2], [0.0, 5.0]);
    /// assert_eq!(most.as_slice().unwrap()[..2], [1.0, 6.0]);
    /// assert!(least[2].is_nan() && most[2].is_nan());
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    #[expect(clippy::type_complexity, reason = "a tuple, as of `min_max`")]
    pub fn min_max_axis(self, axis: Axis) -> Option<(Array<A, D::Smaller>, Array<A, D::Smaller>)>
    where
        D: RemoveAxis,
    {
        if self.length_of(axis) == 0 {
            return None;
        }
        let (order, elements) = (self.layout.order(), self.elements);
        // Every lane has elements. Where its result will be, any element will do until then; it is asked for only if there
        // are some.
        let finish = |both: Option<(A, A)>, _| both.unwrap_or_else(|| (elements[0], elements[0]));
        let both = match self.skip_nan {
            true => self.reduce_axis(axis, LaneNumberMinMax, finish),
            false => self.reduce_axis(axis, LaneMinMax, finish),
        };
        let only = |one: fn(&(A, A)) -> A| {
            let mut values = room(both.len(), both.shape());
            values.extend(both.as_slice_memory_order().unwrap_or_default().iter().map(one));
            let shape = both.raw_dim().set_f(order == Order::F);
            // Cannot fail: there are as many.
            Array::from_shape_vec(shape, values).expect("as many as both")
        };
        Some((only(|both| both.0), only(|both| both.1)))
    }
}

impl<A: Copy + Sync, D: Dimension> Blocks<'_, A, D> {
    /// The length of an axis.
    ///
    /// # Panics
    /// If it is not there.
    fn length_of(&self, axis: Axis) -> usize {
        let shape = self.layout.axes();
        *shape.get(axis.index()).unwrap_or_else(|| panic!("{axis:?} is not an axis of an array of shape {shape:?}"))
    }

    /// One result of each lane along an axis, from its part and its length.
    fn reduce_axis<R, T>(
        mut self,
        axis: Axis,
        reduction: R,
        finish: impl Fn(R::Part, usize) -> T + Copy + Sync,
    ) -> Array<T, D::Smaller>
    where
        D: RemoveAxis,
        R: LaneReduction<A>,
        T: Copy + Send,
    {
        let (dim, order) = (self.layout.dim(), self.layout.order());
        let length = self.length_of(axis);
        let shape = dim.remove_axis(axis);
        let lanes = Lanes::new(axes(dim), axis.index(), order);
        let finish = move |part| finish(part, length);
        // Before the pass: if there is no memory for the results, it is of no use.
        let mut results = room(lanes.count(), axes(&shape));
        if length == 0 {
            results.resize(lanes.count(), finish(R::Part::default()));
        } else if !self.elements.is_empty() {
            match self.shares(&lanes) {
                Some(shares) => self.reduce_shares(lanes, &shares, reduction, finish, &mut results),
                None => self.reduce_blocks(lanes, reduction, finish, &mut results, axes(&shape)),
            }
        }
        // Cannot fail: there is one result of each lane.
        Array::from_shape_vec(shape.set_f(order == Order::F), results).expect("one result of each lane")
    }

    /// Lanes that each thread can compute whole; `None` if it is better to read the array in the order of memory.
    fn shares(&mut self, lanes: &Lanes) -> Option<Vec<Share>> {
        let item = size_of::<A>();
        // Smaller ones would cost more to start than to compute.
        let elements = self.block_bytes().max(BYTES_OF_ROW) / item;
        if let Some(shares) = lanes.shares_of_slabs(elements) {
            return Some(shares);
        }
        let (evict, keep_cached) = self.options.decide(self.storage.len());
        (self.options.evict, self.options.keep_cached) = (Some(evict), Some(keep_cached));
        // Columns are far from each other: that is no way to read a file. And there may be too few for all threads.
        if self.size.is_some() || self.storage.is_of_file() && (evict || !self.storage.seems_present()) {
            return None;
        }
        lanes.shares_of_columns((BYTES_OF_ROW / item).max(1)).filter(|shares| shares.len() >= self.threads())
    }

    /// The size of a block.
    fn block_bytes(&self) -> usize {
        match self.size {
            Some(BlockSize::Bytes(bytes)) => bytes,
            Some(BlockSize::Rows(rows)) => rows.saturating_mul(self.layout.bytes() / self.layout.rows().max(1)),
            None => DEFAULT_BYTES,
        }
    }

    /// Share by share: all elements of a lane are read by one thread.
    fn reduce_shares<R: LaneReduction<A>, T: Copy + Send>(
        self,
        lanes: Lanes,
        shares: &[Share],
        reduction: R,
        finish: impl Fn(R::Part) -> T + Copy + Sync,
        results: &mut Vec<T>,
    ) {
        let (elements, item, threads) = (self.elements, size_of::<A>(), self.threads().min(shares.len()));
        let none = finish(R::Part::default());
        let scan = Scan::new(self.storage, self.options, Intent::Read);
        let reduce = |share: &Share, results: &mut [T]| {
            let pieces = || lanes.pieces(share).map(|piece| piece.start * item..piece.end * item);
            pieces().for_each(|piece| scan.enter(piece, scan.len()));
            let (rows, length) = (lanes.rows(share, elements), lanes.length);
            let whole = WholeLanes { reduction, rows, length, results, finish };
            if R::WIDE {
                dispatch(whole)
            } else {
                whole.run()
            }
            scan.leave_all(pieces());
        };
        if threads == 1 {
            for share in shares {
                let before = results.len();
                // They are still in the cache when they are overwritten.
                results.resize(before + lanes.results(share), none);
                reduce(share, &mut results[before..]);
            }
            return;
        }
        results.resize(lanes.count(), none);
        let jobs = Mutex::new((shares.iter(), &mut results[..]));
        let next = || {
            let (shares, rest) = &mut *lock(&jobs);
            let share = shares.next()?;
            let (results, behind) = take(rest).split_at_mut(lanes.results(share));
            *rest = behind;
            Some((share, results))
        };
        let work = |(): &mut (), (share, results): (&Share, &mut [T])| {
            reduce(share, results);
            Ok(())
        };
        // No error can come: `work` returns none, and a pass that reads has nothing to write back.
        let _ = run_jobs(Threads::Pool(threads), || (), next, work);
    }

    /// Block by block, in the order of memory: each thread has a part of every lane.
    fn reduce_blocks<R: LaneReduction<A>, T: Copy>(
        mut self,
        lanes: Lanes,
        reduction: R,
        finish: impl Fn(R::Part) -> T,
        results: &mut Vec<T>,
        shape: &[usize],
    ) {
        let row = lanes.width * size_of::<A>();
        let most = (MOST_BYTES / self.threads()).max(DEFAULT_BYTES);
        let bytes = row.saturating_mul(ROWS_OF_BLOCK).clamp(DEFAULT_BYTES, most);
        self.size.get_or_insert(BlockSize::Bytes(bytes));
        let partition = self.partition();
        let none = || {
            let mut parts = room(lanes.count(), shape);
            parts.resize(lanes.count(), R::Part::default());
            parts
        };
        let add = |parts: &mut Vec<_>, block, elements: &[A]| {
            lanes.add(reduction, parts, partition.elements(block).start, elements);
        };
        let mut all = self.run(none, add).into_iter();
        let mut parts = all.next().unwrap_or_else(none);
        for other in all {
            parts.iter_mut().zip(other).for_each(|(part, other)| *part = reduction.merge(*part, other));
        }
        results.extend(parts.into_iter().map(finish));
    }
}

/// The mean of no numbers.
fn nan<R: MeanValue>() -> R {
    R::default() / 0.0
}

/// Memory for one value of each lane, in a result of this shape.
///
/// # Panics
/// If there is not enough memory: allocating it directly would abort.
fn room<T>(count: usize, shape: &[usize]) -> Vec<T> {
    vec_with_room(count).unwrap_or_else(|_| {
        let bytes = count as u128 * size_of::<T>() as u128;
        panic!("there is not enough memory for a result of shape {shape:?}, which takes {bytes} bytes")
    })
}
