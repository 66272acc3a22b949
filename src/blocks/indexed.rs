//! Blocks that know their first row.

use std::iter::FusedIterator;

use ndarray::Dimension;

use super::BlocksBase;
use super::iter::{BlockElements, BlocksIter};

impl<'a, D: Dimension, E: BlockElements<D>> BlocksBase<'a, D, E> {
    /// Pairs each block with its first row: the index, on the outermost axis in memory (the first in C order, the last in
    /// Fortran order), at which it starts. Blocks that are cut within one row have the same.
    ///
    /// ```
    /// use ndarray::Axis;
    /// use ndarray_mmap::MmapArrayMut;
    ///
    /// let mut a = MmapArrayMut::<u32>::scratch((1000, 3))?;
    /// for (first, mut block) in a.blocks_mut().rows(300).indexed() {
    ///     for (row, mut values) in block.axis_iter_mut(Axis(0)).enumerate() {
    ///         values.fill((first + row) as u32);
    ///     }
    /// }
    /// assert_eq!(a[[999, 2]], 999);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn indexed(self) -> IndexedBlocks<'a, D, E> {
        IndexedBlocks(self)
    }
}

/// Blocks with their first rows: see [`indexed`](BlocksBase::indexed). To be iterated over, with the feature `rayon` also
/// in parallel.
#[derive(Debug)]
pub struct IndexedBlocks<'a, D: Dimension, E>(BlocksBase<'a, D, E>);

impl<'a, D: Dimension, E: BlockElements<D>> IntoIterator for IndexedBlocks<'a, D, E> {
    type Item = (usize, E::View);
    type IntoIter = IndexedBlocksIter<'a, D, E>;

    fn into_iter(self) -> Self::IntoIter {
        IndexedBlocksIter(self.0.into_iter())
    }
}

/// The blocks of an array with their first rows, one after the other.
#[derive(Debug)]
pub struct IndexedBlocksIter<'a, D, E>(BlocksIter<'a, D, E>);

impl<D: Dimension, E: BlockElements<D>> Iterator for IndexedBlocksIter<'_, D, E> {
    type Item = (usize, E::View);

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.0.first_row(self.0.numbers().start);
        Some((row, self.0.next()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<D: Dimension, E: BlockElements<D>> DoubleEndedIterator for IndexedBlocksIter<'_, D, E> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let row = self.0.first_row(self.0.numbers().end.checked_sub(1)?);
        Some((row, self.0.next_back()?))
    }
}

impl<D: Dimension, E: BlockElements<D>> ExactSizeIterator for IndexedBlocksIter<'_, D, E> {}
impl<D: Dimension, E: BlockElements<D>> FusedIterator for IndexedBlocksIter<'_, D, E> {}

#[cfg(feature = "rayon")]
mod parallel {
    use rayon::iter::plumbing::{Consumer, Producer, ProducerCallback, UnindexedConsumer, bridge};
    use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

    use super::*;
    use crate::blocks::ParBlocksIter;

    /// The blocks of an array with their first rows, shared out between threads.
    #[derive(Debug)]
    pub struct ParIndexedBlocksIter<'a, D: Dimension, E>(ParBlocksIter<'a, D, E>);

    /// Needs the feature `rayon`.
    impl<'a, D: Dimension, E: BlockElements<D, View: Send> + Send> IntoParallelIterator for IndexedBlocks<'a, D, E> {
        type Item = (usize, E::View);
        type Iter = ParIndexedBlocksIter<'a, D, E>;

        fn into_par_iter(self) -> Self::Iter {
            ParIndexedBlocksIter(self.0.into_par_iter())
        }
    }

    impl<D: Dimension, E: BlockElements<D, View: Send> + Send> ParallelIterator for ParIndexedBlocksIter<'_, D, E> {
        type Item = (usize, E::View);

        fn drive_unindexed<C: UnindexedConsumer<Self::Item>>(self, consumer: C) -> C::Result {
            bridge(self, consumer)
        }

        fn opt_len(&self) -> Option<usize> {
            Some(self.len())
        }
    }

    impl<D: Dimension, E: BlockElements<D, View: Send> + Send> IndexedParallelIterator for ParIndexedBlocksIter<'_, D, E> {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn drive<C: Consumer<Self::Item>>(self, consumer: C) -> C::Result {
            bridge(self, consumer)
        }

        fn with_producer<P: ProducerCallback<Self::Item>>(self, callback: P) -> P::Output {
            callback.callback(IndexedProducer(self.0.into_blocks()))
        }
    }

    struct IndexedProducer<'a, D, E>(BlocksIter<'a, D, E>);

    impl<'a, D: Dimension, E: BlockElements<D, View: Send> + Send> Producer for IndexedProducer<'a, D, E> {
        type Item = (usize, E::View);
        type IntoIter = IndexedBlocksIter<'a, D, E>;

        fn into_iter(self) -> Self::IntoIter {
            IndexedBlocksIter(self.0)
        }

        fn split_at(self, index: usize) -> (Self, Self) {
            let (left, right) = self.0.split_at(index);
            (Self(left), Self(right))
        }
    }
}

#[cfg(feature = "rayon")]
pub use parallel::ParIndexedBlocksIter;
