//! Arrays in memory that hold given values, in any layout that a view can have.

use ndarray::{Array, ArrayD, ArrayView, Dimension, ShapeBuilder, Slice};

use crate::axes::dim;
use crate::element::Element;
use crate::random::Random;

/// Owns what a view with permuted, reversed and skipping axes looks at.
pub struct Source<A, D> {
    base: Array<A, D>,
    /// Which of the base's axes each axis is.
    axes: D,
    steps: Vec<isize>,
}

impl<A: Element, D: Dimension> Source<A, D> {
    pub fn of(values: &ArrayD<A>, random: &mut Random) -> Self {
        let shape = values.shape();
        let ndim = shape.len();
        let plain = random.one_in(3);
        let steps: Vec<isize> = (0..ndim).map(|_| if plain { 1 } else { random.pick(&[1, 1, -1, 2, -2]) }).collect();
        let permutation = if plain { (0..ndim).collect() } else { random.permutation(ndim) };
        let (mut axes, mut base) = (vec![0; ndim], vec![0; ndim]);
        for (i, &axis) in permutation.iter().enumerate() {
            axes[axis] = i;
            base[i] = shape[axis] * steps[axis].unsigned_abs();
        }
        let noise = A::of(random);
        let base = Array::from_elem(dim::<D>(&base).set_f(random.coin()), noise);
        let mut source = Self { base, axes: dim(&axes), steps };
        let mut view = source.base.view_mut().permuted_axes(source.axes.clone());
        view.slice_each_axis_inplace(|axis| Slice::new(0, None, source.steps[axis.axis.index()]));
        view.into_dyn().assign(values);
        source
    }

    pub fn view(&self) -> ArrayView<'_, A, D> {
        let mut view = self.base.view().permuted_axes(self.axes.clone());
        view.slice_each_axis_inplace(|axis| Slice::new(0, None, self.steps[axis.axis.index()]));
        view
    }
}
