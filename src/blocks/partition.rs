//! An array cut into blocks, each of which is one range of memory.

use std::ops::Range;

use ndarray::{Dimension, Shape, ShapeBuilder};

use crate::element::ElementLayout;
use crate::layout::{Layout, Order};

/// How large blocks are. Zero counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockSize {
    /// As many whole rows as fit in so many bytes. A row that does not fit is cut along the next axis.
    Bytes(usize),
    /// So many rows, however large.
    Rows(usize),
}

/// The blocks of an array, numbered in memory order.
///
/// One axis is cut. A block has length 1 on the axes outside of it (in memory), at most `length` on the axis itself,
/// and all of the axes inside: so it is one range of memory.
#[derive(Clone, Debug)]
pub(crate) struct Partition<D> {
    dim: D,
    order: Order,
    item: ElementLayout,
    /// Which axis is cut, counted from the outermost in memory.
    cut: usize,
    /// Its length.
    axis: usize,
    /// A block's length along it. The last block before the axis ends may be shorter.
    length: usize,
    /// Elements of one step along it.
    inner: usize,
    blocks: usize,
}

impl<D: Dimension> Layout<D> {
    /// Cuts the array into blocks.
    pub(crate) fn partition(&self, size: BlockSize) -> Partition<D> {
        let (dim, order, item, ndim) = (self.dim().clone(), self.order(), self.item(), self.dim().ndim());
        let elements = self.bytes() / item.size();
        if elements == 0 {
            return Partition { dim, order, item, cut: 0, axis: 1, length: 1, inner: 1, blocks: 0 };
        }
        let (mut cut, mut outer, mut inner) = (0, 1, elements);
        loop {
            // An array without axes is one block of one element, as if it had one axis of length 1.
            let axis = if ndim == 0 { 1 } else { dim[order.axis(cut, ndim)] };
            inner /= axis;
            let length = match size {
                BlockSize::Rows(rows) => rows.max(1),
                BlockSize::Bytes(bytes) => bytes / (inner * item.size()),
            };
            if length > 0 || cut + 1 >= ndim {
                let length = length.clamp(1, axis);
                let blocks = outer * axis.div_ceil(length);
                return Partition { dim, order, item, cut, axis, length, inner, blocks };
            }
            outer *= axis;
            cut += 1;
        }
    }
}

impl<D> Partition<D> {
    /// The number of blocks.
    pub(crate) fn len(&self) -> usize {
        self.blocks
    }

    /// The elements of a block, counted in memory order from the start of the array.
    pub(crate) fn elements(&self, block: usize) -> Range<usize> {
        let (outer, along) = self.place(block);
        let start = outer * self.axis;
        (start + along.start) * self.inner..(start + along.end) * self.inner
    }

    /// Those of consecutive blocks.
    pub(crate) fn elements_of(&self, blocks: Range<usize>) -> Range<usize> {
        if blocks.is_empty() {
            return 0..0;
        }
        self.elements(blocks.start).start..self.elements(blocks.end - 1).end
    }

    /// The bytes of some elements.
    pub(crate) fn bytes(&self, elements: Range<usize>) -> Range<usize> {
        elements.start * self.item.size()..elements.end * self.item.size()
    }

    /// The index of a block along the axes outside of the cut one, and its range along that axis.
    fn place(&self, block: usize) -> (usize, Range<usize>) {
        let blocks = self.axis.div_ceil(self.length);
        let start = block % blocks * self.length;
        (block / blocks, start..self.axis.min(start + self.length))
    }
}

impl<D: Dimension> Partition<D> {
    /// The shape of a block: as many axes as the array has, in its order.
    pub(crate) fn shape(&self, block: usize) -> Shape<D> {
        let mut dim = self.dim.clone();
        let ndim = dim.ndim();
        if ndim > 0 {
            for n in 0..self.cut {
                dim[self.order.axis(n, ndim)] = 1;
            }
            dim[self.order.axis(self.cut, ndim)] = self.place(block).1.len();
        }
        dim.set_f(self.order == Order::F)
    }

    /// The index of a block's first element on the outermost axis in memory. Also of a block that there is not.
    pub(crate) fn first_row(&self, block: usize) -> usize {
        let ndim = self.dim.ndim();
        if ndim == 0 || block >= self.blocks {
            return 0;
        }
        self.origin(block)[self.order.axis(0, ndim)]
    }

    /// The index of a block's first element.
    pub(crate) fn origin(&self, block: usize) -> D {
        let ndim = self.dim.ndim();
        let mut origin = D::zeros(ndim);
        if ndim > 0 {
            let (mut outer, along) = self.place(block);
            origin[self.order.axis(self.cut, ndim)] = along.start;
            for n in (0..self.cut).rev() {
                let axis = self.order.axis(n, ndim);
                origin[axis] = outer % self.dim[axis];
                outer /= self.dim[axis];
            }
        }
        origin
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array, IxDyn, SliceInfoElem};
    use proptest::prelude::*;

    use super::*;
    use crate::layout::axes;

    fn layout(dim: &[usize], order: Order) -> Layout<IxDyn> {
        Layout::new(IxDyn(dim), order, ElementLayout::of::<u32>()).unwrap()
    }

    fn orders() -> impl Strategy<Value = Order> {
        prop_oneof![Just(Order::C), Just(Order::F)]
    }

    fn sizes() -> impl Strategy<Value = BlockSize> {
        prop_oneof![(0..200usize).prop_map(BlockSize::Bytes), (0..9usize).prop_map(BlockSize::Rows)]
    }

    proptest! {
        #[test]
        fn blocks_cover_each_element_once_and_in_order(
            dim in prop::collection::vec(0..6usize, 0..6), order in orders(), size in sizes(),
        ) {
            let partition = layout(&dim, order).partition(size);
            let mut next = 0;
            for block in 0..partition.len() {
                let elements = partition.elements(block);
                prop_assert_eq!(elements.start, next);
                prop_assert!(!elements.is_empty());
                prop_assert_eq!(elements.len(), partition.shape(block).raw_dim().size());
                next = elements.end;
            }
            prop_assert_eq!(next, dim.iter().product::<usize>());
        }

        #[test]
        fn a_block_is_what_a_slice_at_its_origin_is(
            dim in prop::collection::vec(1..6usize, 0..6), order in orders(), size in sizes(),
        ) {
            let count = dim.iter().product::<usize>();
            let partition = layout(&dim, order).partition(size);
            let shape = IxDyn(&dim).set_f(order == Order::F);
            let whole = Array::from_shape_vec(shape, (0..count).collect()).unwrap();
            for block in 0..partition.len() {
                let (origin, shape) = (partition.origin(block), partition.shape(block));
                let slice: Vec<SliceInfoElem> = axes(&origin)
                    .iter()
                    .zip(axes(shape.raw_dim()))
                    .map(|(&from, &len)| (from..from + len).into())
                    .collect();
                let block = Array::from_shape_vec(shape, partition.elements(block).collect()).unwrap();
                prop_assert_eq!(whole.slice(&slice[..]), block);
            }
        }

        #[test]
        fn blocks_keep_to_their_bytes_and_rows_are_cut_only_if_they_must(
            dim in prop::collection::vec(1..6usize, 0..6), order in orders(), bytes in 0..200usize,
        ) {
            let whole = layout(&dim, order);
            let row = whole.bytes() / whole.rows();
            let partition = whole.partition(BlockSize::Bytes(bytes));
            for block in 0..partition.len() {
                let elements = partition.elements(block);
                prop_assert!(elements.len() * 4 <= bytes.max(4));
                if row <= bytes {
                    prop_assert_eq!((elements.start * 4 % row, elements.end * 4 % row), (0, 0));
                }
            }
            if row <= bytes {
                prop_assert_eq!(partition.len(), whole.rows().div_ceil(bytes / row));
            }
        }

        #[test]
        fn rows_are_never_cut_when_rows_are_asked_for(
            dim in prop::collection::vec(1..6usize, 1..6), order in orders(), rows in 1..9usize,
        ) {
            let whole = layout(&dim, order);
            let row = whole.bytes() / whole.rows() / 4;
            let partition = whole.partition(BlockSize::Rows(rows));
            prop_assert_eq!(partition.len(), whole.rows().div_ceil(rows));
            for block in 0..partition.len() {
                prop_assert_eq!(partition.elements(block).start, block * rows * row);
            }
        }
    }

    #[test]
    fn a_row_larger_than_its_bytes_is_cut_along_the_next_axis() {
        let partition = layout(&[2, 5, 3], Order::C).partition(BlockSize::Bytes(2 * 3 * 4));
        let shapes: Vec<_> = (0..partition.len()).map(|b| axes(partition.shape(b).raw_dim()).to_vec()).collect();
        assert_eq!(shapes, [[1, 2, 3], [1, 2, 3], [1, 1, 3], [1, 2, 3], [1, 2, 3], [1, 1, 3]]);
    }

    #[test]
    fn the_largest_shapes_do_not_overflow() {
        let half = isize::MAX as usize / 4;
        let partition = layout(&[half], Order::C).partition(BlockSize::Bytes(usize::MAX));
        assert_eq!((partition.len(), partition.elements(0)), (1, 0..half));
        let partition = layout(&[half, 1], Order::F).partition(BlockSize::Rows(usize::MAX));
        assert_eq!((partition.len(), partition.elements(0)), (1, 0..half));
        assert_eq!(layout(&[half, 0], Order::C).partition(BlockSize::Rows(1)).len(), 0);
    }
}
