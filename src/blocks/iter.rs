//! Blocks one after the other, or shared out between threads.

use std::fmt;
use std::iter::FusedIterator;
use std::ops::Range;

use ndarray::Dimension;

use super::partition::Partition;
use super::{BlockElements, BlocksBase, Scan};

/// Blocks that are still to come: some of a walk's, next to each other.
struct Cursor<E> {
    elements: E,
    blocks: Range<usize>,
    /// In bytes, what was handed out last and is not left yet.
    held: Range<usize>,
}

impl<E> Cursor<E> {
    fn new(elements: E, blocks: usize) -> Self {
        Self { elements, blocks: 0..blocks, held: 0..0 }
    }

    fn next<D: Dimension>(&mut self, walk: &Scan<'_>, partition: &Partition<D>) -> Option<(usize, E::View)>
    where
        E: BlockElements<D>,
    {
        self.let_go(walk);
        let block = self.blocks.next()?;
        let elements = partition.elements(block);
        let (first, rest) = std::mem::take(&mut self.elements).split(elements.len());
        self.elements = rest;
        let end = self.blocks.clone().next_back().map_or(elements.end, |last| partition.elements(last).end);
        self.hold(walk, partition, elements, end);
        Some((block, first.into_view(partition.shape(block))))
    }

    fn next_back<D: Dimension>(&mut self, walk: &Scan<'_>, partition: &Partition<D>) -> Option<(usize, E::View)>
    where
        E: BlockElements<D>,
    {
        self.let_go(walk);
        let block = self.blocks.next_back()?;
        let elements = partition.elements(block);
        let rest = std::mem::take(&mut self.elements);
        let at = rest.count() - elements.len();
        let (rest, last) = rest.split(at);
        self.elements = rest;
        // Nothing is read ahead of a walk that goes backwards.
        let end = elements.end;
        self.hold(walk, partition, elements, end);
        Some((block, last.into_view(partition.shape(block))))
    }

    fn hold<D: Dimension>(&mut self, walk: &Scan<'_>, partition: &Partition<D>, elements: Range<usize>, end: usize) {
        let size = partition.item().size();
        self.held = elements.start * size..elements.end * size;
        walk.enter(self.held.clone(), end * size);
    }

    fn let_go(&mut self, walk: &Scan<'_>) {
        if !self.held.is_empty() {
            walk.leave(std::mem::take(&mut self.held));
        }
    }
}

/// The blocks of an array, one after the other.
///
/// A block is done with, for what goes on behind the walk, when the next one is asked for. It may still be used then:
/// that costs time, and nothing else.
pub struct BlocksIter<'a, D, E> {
    cursor: Cursor<E>,
    partition: Partition<D>,
    walk: Scan<'a>,
}

impl<'a, D: Dimension, E: BlockElements<D>> IntoIterator for BlocksBase<'a, D, E> {
    type Item = E::View;
    type IntoIter = BlocksIter<'a, D, E>;

    fn into_iter(self) -> Self::IntoIter {
        let (elements, partition, walk) = self.walk();
        BlocksIter { cursor: Cursor::new(elements, partition.len()), partition, walk }
    }
}

impl<D: Dimension, E: BlockElements<D>> Iterator for BlocksIter<'_, D, E> {
    type Item = E::View;

    fn next(&mut self) -> Option<Self::Item> {
        self.cursor.next(&self.walk, &self.partition).map(|(_, block)| block)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.cursor.blocks.size_hint()
    }
}

impl<D: Dimension, E: BlockElements<D>> DoubleEndedIterator for BlocksIter<'_, D, E> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.cursor.next_back(&self.walk, &self.partition).map(|(_, block)| block)
    }
}

impl<D: Dimension, E: BlockElements<D>> ExactSizeIterator for BlocksIter<'_, D, E> {}
impl<D: Dimension, E: BlockElements<D>> FusedIterator for BlocksIter<'_, D, E> {}

impl<D, E> fmt::Debug for BlocksIter<'_, D, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlocksIter").field("blocks", &self.cursor.blocks).field("walk", &self.walk).finish()
    }
}

/// Whoever takes the blocks may stop at the last one, without asking for a further one.
impl<D, E> Drop for BlocksIter<'_, D, E> {
    fn drop(&mut self) {
        self.cursor.let_go(&self.walk);
    }
}

/// One thread's share, until it is split further.
struct Part<'w, 'a, D, E> {
    cursor: Cursor<E>,
    partition: &'w Partition<D>,
    walk: &'w Scan<'a>,
}

impl<D: Dimension, E: BlockElements<D>> Part<'_, '_, D, E> {
    fn split(self, index: usize) -> (Self, Self) {
        let Part { cursor: Cursor { elements, blocks, .. }, partition, walk } = self;
        let middle = blocks.start + index;
        let before = blocks.start..middle;
        let bounds = before.clone().next().zip(before.clone().next_back());
        let at = bounds.map_or(0, |(first, last)| partition.elements(last).end - partition.elements(first).start);
        let (left, right) = elements.split(at);
        let part = |elements, blocks| Part { cursor: Cursor { elements, blocks, held: 0..0 }, partition, walk };
        (part(left, before), part(right, middle..blocks.end))
    }
}

/// Cuts all blocks into so many stretches of about the same length.
pub(super) fn split_evenly<'w, 'a, D: Dimension, E: BlockElements<D>>(
    elements: E,
    partition: &'w Partition<D>,
    walk: &'w Scan<'a>,
    count: usize,
) -> Vec<PartIter<'w, 'a, D, E>> {
    let mut rest = Part { cursor: Cursor::new(elements, partition.len()), partition, walk };
    let mut split_evenly = Vec::with_capacity(count);
    for left in (1..=count).rev() {
        let share = rest.cursor.blocks.len().div_ceil(left);
        let (first, others) = rest.split(share);
        split_evenly.push(PartIter(first));
        rest = others;
    }
    split_evenly
}

pub(super) struct PartIter<'w, 'a, D, E>(Part<'w, 'a, D, E>);

impl<D: Dimension, E: BlockElements<D>> PartIter<'_, '_, D, E> {
    /// The next block, and which it is.
    pub(super) fn next_numbered(&mut self) -> Option<(usize, E::View)> {
        self.0.cursor.next(self.0.walk, self.0.partition)
    }

    /// Where the part ends, counted in the array's elements.
    pub(super) fn end(&self) -> usize {
        self.0.cursor.blocks.clone().next_back().map_or(0, |last| self.0.partition.elements(last).end)
    }
}

impl<D: Dimension, E: BlockElements<D>> Iterator for PartIter<'_, '_, D, E> {
    type Item = E::View;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.cursor.next(self.0.walk, self.0.partition).map(|(_, block)| block)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.cursor.blocks.size_hint()
    }
}

impl<D: Dimension, E: BlockElements<D>> DoubleEndedIterator for PartIter<'_, '_, D, E> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.cursor.next_back(self.0.walk, self.0.partition).map(|(_, block)| block)
    }
}

impl<D: Dimension, E: BlockElements<D>> ExactSizeIterator for PartIter<'_, '_, D, E> {}

/// As for all blocks.
impl<D, E> Drop for PartIter<'_, '_, D, E> {
    fn drop(&mut self) {
        self.0.cursor.let_go(self.0.walk);
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
    pub struct ParBlocksIter<'a, D, E> {
        blocks: BlocksBase<'a, D, E>,
    }

    impl<D: Dimension, E> fmt::Debug for ParBlocksIter<'_, D, E> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_tuple("ParBlocksIter").field(&self.blocks).finish()
        }
    }

    /// Needs the feature `rayon`.
    impl<'a, D: Dimension, E: BlockElements<D, View: Send> + Send> IntoParallelIterator for BlocksBase<'a, D, E> {
        type Item = E::View;
        type Iter = ParBlocksIter<'a, D, E>;

        fn into_par_iter(self) -> Self::Iter {
            ParBlocksIter { blocks: self }
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
            self.blocks.partition().len()
        }

        fn drive<C: Consumer<Self::Item>>(self, consumer: C) -> C::Result {
            bridge(self, consumer)
        }

        fn with_producer<P: ProducerCallback<Self::Item>>(self, callback: P) -> P::Output {
            let (elements, partition, walk) = self.blocks.walk();
            let cursor = Cursor::new(elements, partition.len());
            callback.callback(Part { cursor, partition: &partition, walk: &walk })
        }
    }

    impl<'w, 'a, D: Dimension, E: BlockElements<D, View: Send> + Send> Producer for Part<'w, 'a, D, E> {
        type Item = E::View;
        type IntoIter = PartIter<'w, 'a, D, E>;

        fn into_iter(self) -> Self::IntoIter {
            PartIter(self)
        }

        fn split_at(self, index: usize) -> (Self, Self) {
            self.split(index)
        }
    }
}
