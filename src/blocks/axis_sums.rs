//! Sums along an axis: one for each lane, updated from blocks in memory order.

use ndarray::{Array, Axis, Dimension, RemoveAxis, ShapeBuilder};

use super::Blocks;
use super::accumulate::{Accumulate, Accumulator, Running};
use super::reduce::MeanOf;
use crate::layout::{Order, axes};

/// Sums updated together while rows are added to them, so that they stay in the core's own cache.
const LANES_TOGETHER: usize = 256;

/// Rows added up plainly before their sum is added to a running one, which costs several times as much.
const PLAIN_ROWS: usize = 64;

/// # Along an axis
impl<A: Accumulate, D: Dimension> Blocks<'_, A, D> {
    /// The sums along an axis, which the result does not have. The result is held in memory, and twice as much beside
    /// it while it is computed: with [`parallel`](Self::parallel) for each thread. Then the last bit of a
    /// floating-point sum may depend on which thread was faster. The error is bounded as for [`sum`](Self::sum).
    ///
    /// # Panics
    /// If the array has no such axis, as in ndarray, or if there is not enough memory for the result. (A header may
    /// claim any shape that has an empty axis, and so any number of sums along it.)
    pub fn sum_axis(self, axis: Axis) -> Array<A::Sum, D::Smaller>
    where
        D: RemoveAxis,
    {
        self.reduce_axis(axis, |sum, _| sum)
    }

    /// The means along an axis, which the result does not have: see [`sum_axis`](Self::sum_axis). `None` if the axis
    /// has length 0.
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
        Some(self.reduce_axis(axis, |sum, count| sum.to_mean() / count as f64))
    }

    fn reduce_axis<T>(self, axis: Axis, finish: impl Fn(A::Sum, usize) -> T) -> Array<T, D::Smaller>
    where
        D: RemoveAxis,
    {
        let (dim, order) = (self.layout.dim(), self.layout.order());
        assert!(axis.index() < dim.ndim(), "{axis:?} is not an axis of an array of shape {:?}", axes(dim));
        let shape = dim.remove_axis(axis);
        let lanes = AxisSums::new(axes(dim), axis.index(), order);
        let count = lanes.outer * lanes.inner;
        // Reserved before the pass: if there is no memory for it, the pass is of no use.
        let mut values = reserve(count, axes(&shape));
        if lanes.length == 0 {
            values.extend((0..count).map(|_| finish(A::Sum::default(), 0)));
        } else {
            let zeros = || {
                let mut sums = reserve(count, axes(&shape));
                sums.resize(count, <A::Sum as Accumulator>::Running::default());
                sums
            };
            let partition = self.partition();
            let add =
                |sums: &mut Vec<_>, block, elements: &[A]| lanes.add(sums, partition.elements(block).start, elements);
            let mut parts = self.run(zeros, add).into_iter();
            let mut sums = parts.next().unwrap_or_else(zeros);
            for part in parts {
                sums.iter_mut().zip(part).for_each(|(sum, part)| sum.merge(part));
            }
            values.extend(sums.into_iter().map(|sum| finish(sum.value(), lanes.length)));
        }
        // Cannot fail: `count` is the number of elements of `shape`.
        Array::from_shape_vec(shape.set_f(order == Order::F), values).expect("one value for each lane")
    }
}

/// Memory for one value of each lane, in a result of this shape.
///
/// # Panics
/// If there is not enough memory: allocating it directly would abort.
fn reserve<T>(count: usize, shape: &[usize]) -> Vec<T> {
    let mut values = Vec::new();
    if values.try_reserve_exact(count).is_err() {
        let bytes = count as u128 * size_of::<T>() as u128;
        panic!("there is not enough memory for a result of shape {shape:?}, which takes {bytes} bytes");
    }
    values
}

/// The lanes along an axis in memory order: `outer` times `length` rows of `inner` elements, in which each element is
/// of another lane.
struct AxisSums {
    outer: usize,
    length: usize,
    inner: usize,
}

impl AxisSums {
    fn new(dim: &[usize], axis: usize, order: Order) -> Self {
        let (before, after) = (dim[..axis].iter().product(), dim[axis + 1..].iter().product());
        let (outer, inner) = if order == Order::C { (before, after) } else { (after, before) };
        Self { outer, length: dim[axis], inner }
    }

    /// Adds elements, in memory order from `start` on, to the sums of their lanes.
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
    // Several narrow rows are treated as one wide row.
    let wide = (LANES_TOGETHER / inner).max(1) * inner;
    for group in rows.chunks(wide.saturating_mul(PLAIN_ROWS)) {
        for from in (0..wide).step_by(LANES_TOGETHER) {
            let lanes = from..wide.min(from + LANES_TOGETHER);
            let mut plain = [A::Sum::default(); LANES_TOGETHER];
            for row in group.chunks(wide) {
                let row = &row[lanes.start.min(row.len())..lanes.end.min(row.len())];
                for (sum, &x) in plain.iter_mut().zip(row) {
                    *sum = sum.plus(x.widen());
                }
            }
            for (n, &sum) in lanes.zip(&plain) {
                sums[n % inner].add(sum);
            }
        }
    }
}
