//! The ways other code takes an array: by iteration, as a producer for `Zip` and `azip!`, as a view.

use ndarray::iter::{Iter, IterMut};
use ndarray::{ArrayRef, ArrayView, ArrayViewMut, Dimension, IntoNdProducer};

use super::MmapArrayBase;
use crate::mode::Writable;

impl<A, D: Dimension, M> AsRef<ArrayRef<A, D>> for MmapArrayBase<A, D, M> {
    fn as_ref(&self) -> &ArrayRef<A, D> {
        self
    }
}

impl<'a, A, D: Dimension, M> From<&'a MmapArrayBase<A, D, M>> for ArrayView<'a, A, D> {
    fn from(array: &'a MmapArrayBase<A, D, M>) -> Self {
        array.view()
    }
}

impl<'a, A, D: Dimension, M: Writable> From<&'a mut MmapArrayBase<A, D, M>> for ArrayViewMut<'a, A, D> {
    fn from(array: &'a mut MmapArrayBase<A, D, M>) -> Self {
        array.view_mut()
    }
}

impl<'a, A, D: Dimension, M> IntoIterator for &'a MmapArrayBase<A, D, M> {
    type Item = &'a A;
    type IntoIter = Iter<'a, A, D>;

    fn into_iter(self) -> Self::IntoIter {
        self.view().into_iter()
    }
}

impl<'a, A, D: Dimension, M: Writable> IntoIterator for &'a mut MmapArrayBase<A, D, M> {
    type Item = &'a mut A;
    type IntoIter = IterMut<'a, A, D>;

    fn into_iter(self) -> Self::IntoIter {
        self.view_mut().into_iter()
    }
}

impl<'a, A, D: Dimension, M> IntoNdProducer for &'a MmapArrayBase<A, D, M> {
    type Item = &'a A;
    type Dim = D;
    type Output = ArrayView<'a, A, D>;

    fn into_producer(self) -> Self::Output {
        self.view()
    }
}

impl<'a, A, D: Dimension, M: Writable> IntoNdProducer for &'a mut MmapArrayBase<A, D, M> {
    type Item = &'a mut A;
    type Dim = D;
    type Output = ArrayViewMut<'a, A, D>;

    fn into_producer(self) -> Self::Output {
        self.view_mut()
    }
}

#[cfg(feature = "rayon")]
mod parallel {
    use ndarray::parallel::Parallel;
    use rayon::iter::IntoParallelIterator;

    use super::{ArrayView, ArrayViewMut, Dimension, MmapArrayBase, Writable};

    /// Needs the feature `rayon`.
    impl<'a, A: Sync, D: Dimension, M> IntoParallelIterator for &'a MmapArrayBase<A, D, M> {
        type Item = &'a A;
        type Iter = Parallel<ArrayView<'a, A, D>>;

        fn into_par_iter(self) -> Self::Iter {
            self.view().into_par_iter()
        }
    }

    /// Needs the feature `rayon`.
    impl<'a, A: Send + Sync, D: Dimension, M: Writable> IntoParallelIterator for &'a mut MmapArrayBase<A, D, M> {
        type Item = &'a mut A;
        type Iter = Parallel<ArrayViewMut<'a, A, D>>;

        fn into_par_iter(self) -> Self::Iter {
            self.view_mut().into_par_iter()
        }
    }
}
