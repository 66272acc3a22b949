//! Dimensions, with what ndarray has for those only that have an axis to take away.

use ndarray::{ArrayD, Axis, Dimension, Ix0, Ix1, Ix2, Ix3, Ix4, IxDyn};
use ndarray_mmap::{
    Blocks,
    blocks::{Accumulate, Accumulator},
};

pub trait Axes: Dimension + 'static {
    /// By `sum_axis`; the axis must be there.
    fn sums<A: Accumulate>(blocks: Blocks<'_, A, Self>, axis: Axis) -> ArrayD<A::Sum>;

    /// By `mean_axis`; the axis must be there.
    fn means<A: Accumulate>(blocks: Blocks<'_, A, Self>, axis: Axis) -> Option<ArrayD<<A::Sum as Accumulator>::Mean>>;

    /// By `var_axis` and `std_axis`; the axis must be there.
    fn variances<'a, A: Accumulate>(
        blocks: impl Fn() -> Blocks<'a, A, Self>,
        axis: Axis,
        ddof: f64,
    ) -> Option<[ArrayD<f64>; 2]>;

    /// By `min_max_axis`; the axis must be there.
    fn extremes<A: Copy + PartialOrd + Send + Sync>(
        blocks: Blocks<'_, A, Self>,
        axis: Axis,
    ) -> Option<(ArrayD<A>, ArrayD<A>)>;
}

impl Axes for Ix0 {
    fn sums<A: Accumulate>(_: Blocks<'_, A, Self>, axis: Axis) -> ArrayD<A::Sum> {
        panic!("no {axis:?}");
    }

    fn means<A: Accumulate>(_: Blocks<'_, A, Self>, axis: Axis) -> Option<ArrayD<<A::Sum as Accumulator>::Mean>> {
        panic!("no {axis:?}");
    }

    fn variances<'a, A: Accumulate>(
        _: impl Fn() -> Blocks<'a, A, Self>,
        axis: Axis,
        _: f64,
    ) -> Option<[ArrayD<f64>; 2]> {
        panic!("no {axis:?}");
    }

    fn extremes<A: Copy + PartialOrd + Send + Sync>(
        _: Blocks<'_, A, Self>,
        axis: Axis,
    ) -> Option<(ArrayD<A>, ArrayD<A>)> {
        panic!("no {axis:?}");
    }
}

macro_rules! axes {
    ($($dim:ty)*) => {$(
        impl Axes for $dim {
            fn sums<A: Accumulate>(blocks: Blocks<'_, A, Self>, axis: Axis) -> ArrayD<A::Sum> {
                blocks.sum_axis(axis).into_dyn()
            }

            fn means<A: Accumulate>(
                blocks: Blocks<'_, A, Self>,
                axis: Axis,
            ) -> Option<ArrayD<<A::Sum as Accumulator>::Mean>> {
                blocks.mean_axis(axis).map(|means| means.into_dyn())
            }

            fn variances<'a, A: Accumulate>(
                blocks: impl Fn() -> Blocks<'a, A, Self>,
                axis: Axis,
                ddof: f64,
            ) -> Option<[ArrayD<f64>; 2]> {
                let both = blocks().var_axis(axis, ddof).zip(blocks().std_axis(axis, ddof));
                both.map(|(variances, deviations)| [variances.into_dyn(), deviations.into_dyn()])
            }

            fn extremes<A: Copy + PartialOrd + Send + Sync>(
                blocks: Blocks<'_, A, Self>,
                axis: Axis,
            ) -> Option<(ArrayD<A>, ArrayD<A>)> {
                blocks.min_max_axis(axis).map(|(least, most)| (least.into_dyn(), most.into_dyn()))
            }
        }
    )*};
}
axes!(Ix1 Ix2 Ix3 Ix4 IxDyn);

/// A shape in as many dimensions as `D` has.
pub fn dim<D: Dimension>(shape: &[usize]) -> D {
    D::from_dimension(&IxDyn(shape)).unwrap_or_else(|| panic!("{shape:?} has another number of axes"))
}
