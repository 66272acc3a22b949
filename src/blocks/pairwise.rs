//! Reductions in pairs, pairs of pairs, and so on: this keeps the rounding error of sums small.

use crate::arch::dispatch::{Kernel, dispatch};

/// The elements that a reduction handles at once: few enough for a core's own cache, and many enough that a sum of so
/// many 16-bit integers just fits in 32 bits (`reductions` asserts it).
pub(super) const LEAF: usize = 8 * 1024;

/// One result from elements.
pub(super) trait Reduction<A>: Copy {
    type Output;

    /// Of at least one element and at most [`LEAF`]. Implement it with `#[inline(always)]`, for [`dispatch`].
    fn reduce_leaf(self, leaf: &[A]) -> Self::Output;

    /// Of two consecutive ranges of elements.
    fn merge(self, left: Self::Output, right: Self::Output) -> Self::Output;
}

/// `None` for no elements.
pub(super) fn reduce_pairwise<A, R: Reduction<A>>(elements: &[A], reduction: R) -> Option<R::Output> {
    dispatch(Pairwise { elements, reduction })
}

/// [`reduce_pairwise`], compiled once, for the vectors that all processors have.
pub(super) fn reduce_pairwise_once<A, R: Reduction<A>>(elements: &[A], reduction: R) -> Option<R::Output> {
    Pairwise { elements, reduction }.run()
}

struct Pairwise<'e, A, R> {
    elements: &'e [A],
    reduction: R,
}

impl<A, R: Reduction<A>> Kernel for Pairwise<'_, A, R> {
    type Output = Option<R::Output>;

    #[inline(always)]
    fn run(self) -> Option<R::Output> {
        let Self { elements, reduction } = self;
        let (first, rest) = elements.split_at(LEAF.min(elements.len()));
        if first.is_empty() {
            return None;
        }
        let first = reduction.reduce_leaf(first);
        // Short arrays need no tree, which allocates.
        if rest.is_empty() {
            return Some(first);
        }
        let merge = |left, right| reduction.merge(left, right);
        let mut tree = PairwiseTree::default();
        tree.push(first, merge);
        for leaf in rest.chunks(LEAF) {
            tree.push(reduction.reduce_leaf(leaf), merge);
        }
        tree.into_root(merge)
    }
}

/// A balanced tree of merges, of which only the roots of complete subtrees are kept, with their heights: the highest
/// first.
pub(super) struct PairwiseTree<T>(Vec<(u32, T)>);

impl<T> Default for PairwiseTree<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> PairwiseTree<T> {
    pub(super) fn push(&mut self, leaf: T, merge: impl Fn(T, T) -> T) {
        let (mut height, mut right) = (0, leaf);
        while let Some((_, left)) = self.0.pop_if(|(h, _)| *h == height) {
            right = merge(left, right);
            height += 1;
        }
        self.0.push((height, right));
    }

    /// `None` if nothing was pushed.
    pub(super) fn into_root(mut self, merge: impl Fn(T, T) -> T) -> Option<T> {
        let mut root = self.0.pop()?.1;
        while let Some((_, left)) = self.0.pop() {
            root = merge(left, root);
        }
        Some(root)
    }
}
