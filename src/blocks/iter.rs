//! The iterator over blocks. It can be split for several threads, and reports to its scan which bytes are in use.

use std::fmt;
use std::iter::FusedIterator;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use ndarray::{ArrayView, ArrayViewMut, Dimension, Shape};

use super::BlocksBase;
use super::partition::Partition;
use super::scan::{Intent, Scan};
use crate::error::Result;
use crate::parallel::{Threads, lock, run_jobs};

/// Elements in memory order, from which blocks are cut: `&[A]` and `&mut [A]`, and no others.
pub trait BlockElements<D>: sealed::Sealed<D> + Default {
    /// The view that a block is.
    type View;
    #[doc(hidden)]
    fn split(self, at: usize) -> (Self, Self);
    #[doc(hidden)]
    fn into_view(self, shape: Shape<D>) -> Self::View;
}

impl<'a, A, D: Dimension> BlockElements<D> for &'a [A] {
    type View = ArrayView<'a, A, D>;

    fn split(self, at: usize) -> (Self, Self) {
        self.split_at(at)
    }

    fn into_view(self, shape: Shape<D>) -> Self::View {
        // Cannot fail: `Partition::elements` and `Partition::shape` agree (a property test holds them to it).
        ArrayView::from_shape(shape, self).expect("a block has as many elements as its shape")
    }
}

impl<'a, A, D: Dimension> BlockElements<D> for &'a mut [A] {
    type View = ArrayViewMut<'a, A, D>;

    fn split(self, at: usize) -> (Self, Self) {
        self.split_at_mut(at)
    }

    fn into_view(self, shape: Shape<D>) -> Self::View {
        // Cannot fail, as above.
        ArrayViewMut::from_shape(shape, self).expect("a block has as many elements as its shape")
    }
}

mod sealed {
    use ndarray::Dimension;

    /// Has a parameter because `BlockElements<D>` could otherwise be implemented for a `D` of another crate.
    pub trait Sealed<D> {
        const WRITES: bool;
    }
    impl<A, D: Dimension> Sealed<D> for &[A] {
        const WRITES: bool = false;
    }
    impl<A, D: Dimension> Sealed<D> for &mut [A] {
        const WRITES: bool = true;
    }
}

/// The blocks of an array, one after the other.
///
/// The next call ends a block's turn: from then on its memory may be evicted. A block that is still used after that is
/// read again, which costs time only.
pub struct BlocksIter<'a, D, E> {
    /// Those of the blocks that are left.
    elements: E,
    blocks: Range<usize>,
    /// The bytes of the block handed out last, which the scan has entered and not left.
    held: Range<usize>,
    /// Where reading ahead must stop, in bytes.
    end: usize,
    pass: Arc<Pass<'a, D>>,
}

/// What all iterators over the blocks of one pass share.
#[derive(Debug)]
struct Pass<'a, D> {
    partition: Partition<D>,
    scan: Scan<'a>,
}

impl<'a, D: Dimension, E: BlockElements<D>> BlocksIter<'a, D, E> {
    pub(super) fn new(elements: E, partition: Partition<D>, scan: Scan<'a>) -> Self {
        let (blocks, end) = (0..partition.len(), scan.len());
        Self { elements, blocks, held: 0..0, end, pass: Arc::new(Pass { partition, scan }) }
    }

    /// Cuts off the first block, which the scan has not entered: its number, its bytes and its elements.
    fn pop(&mut self) -> Option<(usize, Range<usize>, E)> {
        let block = self.blocks.next()?;
        let partition = &self.pass.partition;
        let at = partition.elements(block);
        let (first, rest) = std::mem::take(&mut self.elements).split(at.len());
        self.elements = rest;
        Some((block, partition.bytes(at), first))
    }

    /// Calls `work` with each block, its number and its elements, on several threads: with one thread in order. Each
    /// thread has a state of its own; returns those of all threads.
    ///
    /// # Errors
    /// That of the first block to fail. Else, if the scan writes, the first error of writing back.
    pub(super) fn run<S: Send>(
        self,
        threads: usize,
        state: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, usize, E) -> Result<()> + Sync,
    ) -> Result<Vec<S>>
    where
        E: Send,
    {
        let pass = Arc::clone(&self.pass);
        let threads = Threads::Pool(threads.min(self.blocks.len()));
        let blocks = Mutex::new(self);
        let next = || lock(&blocks).pop();
        let states = run_jobs(threads, state, next, |state, (block, bytes, elements)| {
            pass.scan.enter(bytes.clone(), pass.scan.len());
            work(state, block, elements)?;
            pass.scan.leave(bytes);
            Ok(())
        })?;
        drop(blocks);
        // The last owner: the iterator is gone, and it was not split.
        Arc::into_inner(pass).map_or(Ok(()), |pass| pass.scan.end())?;
        Ok(states)
    }

    /// The numbers of the blocks that are left.
    pub(super) fn numbers(&self) -> Range<usize> {
        self.blocks.clone()
    }

    /// The index on the outermost axis at which a block starts.
    pub(super) fn first_row(&self, block: usize) -> usize {
        self.pass.partition.first_row(block)
    }

    #[cfg(feature = "rayon")]
    pub(super) fn split_at(mut self, index: usize) -> (Self, Self) {
        let middle = self.blocks.start + index;
        let (partition, pass) = (&self.pass.partition, Arc::clone(&self.pass));
        let at = partition.elements_of(self.blocks.start..middle);
        let (left, right) = std::mem::take(&mut self.elements).split(at.len());
        let end = partition.bytes(at).end;
        let right = Self { elements: right, blocks: middle..self.blocks.end, held: 0..0, end: self.end, pass };
        (self.elements, self.blocks.end, self.end) = (left, middle, end);
        (self, right)
    }
}

impl<D, E> BlocksIter<'_, D, E> {
    fn leave_held(&mut self) {
        if !self.held.is_empty() {
            self.pass.scan.leave(std::mem::take(&mut self.held));
        }
    }
}

impl<D: Dimension, E: BlockElements<D>> Iterator for BlocksIter<'_, D, E> {
    type Item = E::View;

    fn next(&mut self) -> Option<Self::Item> {
        self.leave_held();
        let (block, bytes, elements) = self.pop()?;
        self.held = bytes;
        self.pass.scan.enter(self.held.clone(), self.end);
        Some(elements.into_view(self.pass.partition.shape(block)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.blocks.size_hint()
    }
}

impl<D: Dimension, E: BlockElements<D>> DoubleEndedIterator for BlocksIter<'_, D, E> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.leave_held();
        let block = self.blocks.next_back()?;
        let partition = &self.pass.partition;
        let (rest, last) = std::mem::take(&mut self.elements).split(partition.elements_of(self.blocks.clone()).len());
        self.elements = rest;
        self.held = partition.bytes(partition.elements(block));
        self.end = self.held.start;
        // Nothing is read ahead of a pass that goes backwards.
        self.pass.scan.enter(self.held.clone(), self.held.end);
        Some(last.into_view(self.pass.partition.shape(block)))
    }
}

impl<D: Dimension, E: BlockElements<D>> ExactSizeIterator for BlocksIter<'_, D, E> {}
impl<D: Dimension, E: BlockElements<D>> FusedIterator for BlocksIter<'_, D, E> {}

impl<D, E> fmt::Debug for BlocksIter<'_, D, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlocksIter").field("blocks", &self.blocks).field("scan", &self.pass.scan).finish()
    }
}

/// A caller need not ask for a further block after the last one.
impl<D, E> Drop for BlocksIter<'_, D, E> {
    fn drop(&mut self) {
        self.leave_held();
    }
}

impl<'a, D: Dimension, E: BlockElements<D>> IntoIterator for BlocksBase<'a, D, E> {
    type Item = E::View;
    type IntoIter = BlocksIter<'a, D, E>;

    fn into_iter(self) -> Self::IntoIter {
        let partition = self.partition();
        let intent = if E::WRITES { Intent::Update } else { Intent::Read };
        BlocksIter::new(self.elements, partition, Scan::new(self.storage, self.options, intent))
    }
}

#[cfg(feature = "rayon")]
pub use parallel::ParBlocksIter;

#[cfg(feature = "rayon")]
mod parallel {
    use rayon::iter::plumbing::{Consumer, Producer, ProducerCallback, UnindexedConsumer, bridge};
    use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

    use super::*;

    /// The blocks of an array, shared out between threads.
    pub struct ParBlocksIter<'a, D, E>(BlocksBase<'a, D, E>);

    impl<D: Dimension, E> fmt::Debug for ParBlocksIter<'_, D, E> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_tuple("ParBlocksIter").field(&self.0).finish()
        }
    }

    impl<'a, D: Dimension, E: BlockElements<D>> ParBlocksIter<'a, D, E> {
        pub(in crate::blocks) fn into_blocks(self) -> BlocksIter<'a, D, E> {
            self.0.into_iter()
        }
    }

    /// Needs the feature `rayon`.
    impl<'a, D: Dimension, E: BlockElements<D, View: Send> + Send> IntoParallelIterator for BlocksBase<'a, D, E> {
        type Item = E::View;
        type Iter = ParBlocksIter<'a, D, E>;

        fn into_par_iter(self) -> Self::Iter {
            ParBlocksIter(self)
        }
    }

    impl<D: Dimension, E: BlockElements<D, View: Send> + Send> ParallelIterator for ParBlocksIter<'_, D, E> {
        type Item = E::View;

        fn drive_unindexed<C: UnindexedConsumer<Self::Item>>(self, consumer: C) -> C::Result {
            bridge(self, consumer)
        }

        fn opt_len(&self) -> Option<usize> {
            Some(self.len())
        }
    }

    impl<D: Dimension, E: BlockElements<D, View: Send> + Send> IndexedParallelIterator for ParBlocksIter<'_, D, E> {
        fn len(&self) -> usize {
            self.0.partition().len()
        }

        fn drive<C: Consumer<Self::Item>>(self, consumer: C) -> C::Result {
            bridge(self, consumer)
        }

        fn with_producer<P: ProducerCallback<Self::Item>>(self, callback: P) -> P::Output {
            callback.callback(BlocksProducer(self.into_blocks()))
        }
    }

    /// Keeps rayon's plumbing off the public iterator.
    struct BlocksProducer<'a, D, E>(BlocksIter<'a, D, E>);

    impl<'a, D: Dimension, E: BlockElements<D, View: Send> + Send> Producer for BlocksProducer<'a, D, E> {
        type Item = E::View;
        type IntoIter = BlocksIter<'a, D, E>;

        fn into_iter(self) -> Self::IntoIter {
            self.0
        }

        fn split_at(self, index: usize) -> (Self, Self) {
            let (left, right) = self.0.split_at(index);
            (Self(left), Self(right))
        }
    }
}
