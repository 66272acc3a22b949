//! Where the elements of an array are, and the proof that a file holds them: pure, checked arithmetic.
//!
//! [`Layout`] (shape, order, element) -> [`Span`] (a valid range of file offsets) -> [`Extent`] (a range that is within the
//! file). Each step has one constructor, so that no code can make a mapping that is misaligned or ends past the file.

use std::ops::Range;

use ndarray::{Array, Axis, Dimension, Shape, ShapeBuilder};

use crate::element::ElementLayout;
use crate::error::{Result, error};

/// Which axis varies fastest in memory: the last (C), or the first (Fortran).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    C,
    F,
}

/// A shape, an order and an element: the number of bytes, and the place of each index among them.
///
/// Invariant: the product of the non-zero axes, in bytes, is at most `isize::MAX`, and `bytes` is the size of all
/// elements together.
#[derive(Clone, Debug)]
pub(crate) struct Layout<D> {
    dim: D,
    order: Order,
    item: ElementLayout,
    bytes: usize,
}

/// What becomes of bytes at the end of a file that are not a whole row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remainder {
    Refused,
    Ignored,
}

/// Whether the bytes are used where they are in the file, or copied to aligned memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alignment {
    InPlace,
    Copied,
}

/// The file offsets `offset .. offset + bytes`, which do not overflow and, if used in place, are aligned for the element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    offset: u64,
    bytes: usize,
}

/// A [`Span`] that was within the file when the file's length was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent(Span);

impl Order {
    pub(crate) fn other(self) -> Self {
        match self {
            Order::C => Order::F,
            Order::F => Order::C,
        }
    }

    /// The axis that is the `n`th in memory, counted from the outermost.
    pub(crate) fn axis(self, n: usize, ndim: usize) -> usize {
        match self {
            Order::C => n,
            Order::F => ndim - 1 - n,
        }
    }
}

impl<D: Dimension> Layout<D> {
    /// # Errors
    /// `Overflow` if the non-zero axes together are more bytes than can be addressed.
    pub(crate) fn new(dim: D, order: Order, item: ElementLayout) -> Result<Self> {
        let bytes = bytes_of(axes(&dim), item)?;
        Ok(Self { dim, order, item, bytes })
    }

    /// The bytes of one row, which is what can be checked of [`inferred`](Self::inferred) before there is a file.
    ///
    /// # Errors
    /// `InvalidInput` for rows without elements, `Overflow`.
    pub(crate) fn inferable(dim: &D, order: Order, item: ElementLayout, offset: u64) -> Result<usize> {
        check_offset(offset)?;
        let row = row_of(axes(dim), order).unwrap_or_default();
        match bytes_of(row, item)? {
            0 => Err(error!(
                InvalidInput,
                "the number of rows cannot be inferred: a row of shape {row:?} has no elements"
            )),
            bytes => Ok(bytes),
        }
    }

    /// As many rows as the file has from `offset` on. Sets the length of the outermost axis of `dim`.
    ///
    /// # Errors
    /// `TooShort` for an offset past the end, `LengthNotMultiple` for a broken last row unless that is ignored,
    /// `InvalidInput` for rows without elements, `Overflow`.
    pub(crate) fn inferred(
        mut dim: D,
        order: Order,
        item: ElementLayout,
        offset: u64,
        file_len: u64,
        remainder: Remainder,
    ) -> Result<Self> {
        let row_bytes = Self::inferable(&dim, order, item, offset)? as u64;
        let rest = file_len
            .checked_sub(offset)
            .ok_or_else(|| error!(TooShort, "file is {file_len} bytes, but the array starts at offset {offset}"))?;
        if rest % row_bytes != 0 && remainder == Remainder::Refused {
            let row = row_of(axes(&dim), order).unwrap_or_default();
            let unit = if row.is_empty() { item.name().to_owned() } else { format!("row {row:?} of {}", item.name()) };
            return Err(error!(
                LengthNotMultiple,
                "{rest} bytes follow offset {offset}, no multiple of the {row_bytes} bytes of one {unit}; \
                 `.ignore_remainder(true)` would leave out the last {}",
                rest % row_bytes
            ));
        }
        let outermost = order.axis(0, dim.ndim());
        // Only on 32-bit systems: a count beyond `usize` becomes a shape that `new` refuses.
        dim[outermost] = usize::try_from(rest / row_bytes).unwrap_or(usize::MAX);
        Self::new(dim, order, item)
    }

    pub(crate) fn order(&self) -> Order {
        self.order
    }

    /// The size of all elements together.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn axes(&self) -> &[usize] {
        axes(&self.dim)
    }

    pub(crate) fn dim(&self) -> &D {
        &self.dim
    }

    pub(crate) fn item(&self) -> ElementLayout {
        self.item
    }

    /// For ndarray's constructors.
    pub(crate) fn to_shape(&self) -> Shape<D> {
        self.dim.clone().set_f(self.order == Order::F)
    }

    /// The same layout with another type for the same number of axes.
    pub(crate) fn into_dimensionality<D2: Dimension>(self) -> Result<Layout<D2>> {
        let Some(dim) = D2::from_dimension(&self.dim) else {
            return Err(error!(
                ShapeMismatch,
                "the array has {} dimensions (shape {:?}), but {} were asked for",
                self.dim.ndim(),
                self.axes(),
                D2::NDIM.unwrap_or_default()
            ));
        };
        Ok(Layout { dim, order: self.order, item: self.item, bytes: self.bytes })
    }

    /// The range of these elements in a file if the first is at `offset` (in bytes).
    ///
    /// # Errors
    /// `Overflow` beyond `i64::MAX`, the largest file; `Misaligned` if elements used in place would not be aligned.
    pub(crate) fn span(&self, offset: u64, placement: Alignment) -> Result<Span> {
        check_offset(offset)?;
        if offset + self.bytes as u64 > i64::MAX as u64 {
            return Err(error!(
                Overflow,
                "offset {offset} and shape {:?} of {} ({} bytes) end beyond the largest file, {} bytes",
                self.axes(),
                self.item.name(),
                self.bytes,
                i64::MAX
            ));
        }
        let (align, name) = (self.item.align(), self.item.name());
        if placement == Alignment::InPlace && self.bytes > 0 && !offset.is_multiple_of(align as u64) {
            return Err(error!(
                Misaligned,
                "offset {offset} is no multiple of {align}, the alignment of {name}: use an element type of alignment 1 \
                 (`Unaligned<{name}>`, `rend::unaligned`, `[u8; {}]`), or `load` for a copy",
                self.item.size()
            ));
        }
        Ok(Span { offset, bytes: self.bytes })
    }

    /// Proves that a file of `file_len` bytes holds these elements, the first at `offset`.
    ///
    /// # Errors
    /// Those of [`span`](Self::span), then `TooShort`, whose message names both lengths and ends with `remedy`.
    pub(crate) fn extent(&self, offset: u64, placement: Alignment, file_len: u64, remedy: &str) -> Result<Extent> {
        let span = self.span(offset, placement)?;
        if span.end() > file_len {
            return Err(error!(
                TooShort,
                "file is {file_len} bytes, but offset {offset} and shape {:?} of {} need {}{remedy}",
                self.axes(),
                self.item.name(),
                span.end()
            ));
        }
        Ok(Extent(span))
    }

    /// The outermost axis in memory, along which the array can grow: the first in C order and the last in Fortran
    /// order. `None` for an array without axes.
    pub(crate) fn outermost(&self) -> Option<Axis> {
        match self.order {
            _ if self.dim.ndim() == 0 => None,
            Order::C => Some(Axis(0)),
            Order::F => Some(Axis(self.dim.ndim() - 1)),
        }
    }

    /// The number of rows: the length of the outermost axis. An array without axes is one row.
    pub(crate) fn rows(&self) -> usize {
        self.outermost().map_or(1, |axis| self.dim[axis.index()])
    }

    /// The same layout with another number of rows. The rows that both have keep their place.
    ///
    /// # Errors
    /// `InvalidInput` for an array without axes, `Overflow`.
    pub(crate) fn with_rows(&self, rows: usize) -> Result<Self> {
        let Some(axis) = self.outermost() else {
            return Err(error!(InvalidInput, "an array without axes has no rows to add or remove"));
        };
        self.with_axis(axis, rows)
    }

    /// The same element and order with another length of `axis`, which must exist.
    pub(crate) fn with_axis(&self, axis: Axis, len: usize) -> Result<Self> {
        let mut dim = self.dim.clone();
        dim[axis.index()] = len;
        Self::new(dim, self.order, self.item)
    }

    /// The number of rows of a block of this shape, whose rows must be like this array's.
    ///
    /// # Errors
    /// `ShapeMismatch` if any but the outermost axis differs.
    pub(crate) fn rows_of_block(&self, block: &[usize]) -> Result<usize> {
        let own = self.axes();
        let outermost = self.outermost().map(|axis| axis.index());
        let alike = own.len() == block.len() && (0..own.len()).all(|i| Some(i) == outermost || own[i] == block[i]);
        match outermost {
            Some(axis) if alike => Ok(block[axis]),
            _ => Err(error!(
                ShapeMismatch,
                "a block of shape {block:?} does not fit an array of shape {own:?}, whose rows are along {}",
                outermost.map_or("no axis".to_owned(), |axis| format!("axis {axis}"))
            )),
        }
    }

    /// The bytes of some rows, counted from the start of the array.
    ///
    /// # Errors
    /// `InvalidInput` for a range that is reversed or ends past the last row.
    pub(crate) fn row_bytes(&self, rows: Range<usize>) -> Result<Range<usize>> {
        let count = self.rows();
        if rows.start > rows.end || rows.end > count {
            return Err(error!(
                InvalidInput,
                "rows {rows:?} are not within the {count} rows of shape {:?}",
                self.axes()
            ));
        }
        let row = self.bytes.checked_div(count).unwrap_or(0);
        Ok(rows.start * row..rows.end * row)
    }
}

impl Span {
    /// In bytes from the start of the file.
    pub(crate) fn offset(self) -> u64 {
        self.offset
    }

    /// In bytes.
    pub(crate) fn bytes(self) -> usize {
        self.bytes
    }

    /// The length of the shortest file that holds the span; at most `i64::MAX`.
    pub(crate) fn end(self) -> u64 {
        self.offset + self.bytes as u64
    }
}

impl Extent {
    pub(crate) fn span(self) -> Span {
        self.0
    }
}

/// The dimension and the order of a shape. ndarray keeps the order private.
///
/// It shows in the strides of an array of `()`, which needs no memory. If these are also the strides of C order (no
/// elements, or one long axis), the order only decides along which axis the array grows, and is taken from the shape's
/// `Debug` text. A shape that overflows has no strides, and [`Layout::new`] will refuse it.
pub(crate) fn split_shape<Sh: ShapeBuilder>(shape: Sh) -> (Sh::Dim, Order) {
    let shape = shape.into_shape_with_order();
    let dim = shape.raw_dim().clone();
    if dim.ndim() < 2 || bytes_of(axes(&dim), ElementLayout::of::<u8>()).is_err() {
        return (dim, Order::C);
    }
    let in_c_order = Array::<(), Sh::Dim>::uninit(dim.clone());
    let as_given = Array::<(), Sh::Dim>::uninit(shape.clone());
    let in_f_order = as_given.strides() != in_c_order.strides() || says_f(&shape);
    (dim, if in_f_order { Order::F } else { Order::C })
}

/// [`split_shape`] for the shape of a row, of which one axis has an order, too: the array has one more.
pub(crate) fn split_row_shape<Sh: ShapeBuilder>(shape: Sh) -> (Sh::Dim, Order) {
    let shape = shape.into_shape_with_order();
    match shape.raw_dim().ndim() {
        1 if says_f(&shape) => (shape.raw_dim().clone(), Order::F),
        _ => split_shape(shape),
    }
}

fn says_f<D: Dimension>(shape: &Shape<D>) -> bool {
    format!("{shape:?}").ends_with("strides: F }")
}

pub(crate) fn axes<D: Dimension>(dim: &D) -> &[usize] {
    // Never the default: the axis lengths of a dimension are contiguous.
    dim.as_array_view().to_slice().unwrap_or_default()
}

/// All axes but the outermost; `None` if there are none.
pub(crate) fn row_of(axes: &[usize], order: Order) -> Option<&[usize]> {
    match (axes, order) {
        ([], _) => None,
        ([_, row @ ..], Order::C) | ([row @ .., _], Order::F) => Some(row),
    }
}

/// The bytes of an array. The product of the *non-zero* axes must fit, because ndarray computes strides from it.
fn bytes_of(axes: &[usize], item: ElementLayout) -> Result<usize> {
    let nonzero = axes.iter().filter(|&&n| n != 0).try_fold(item.size(), |bytes, &n| bytes.checked_mul(n));
    match nonzero {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(if axes.contains(&0) { 0 } else { bytes }),
        _ => Err(error!(
            Overflow,
            "shape {axes:?} of {} ({} bytes each) is more than can be addressed",
            item.name(),
            item.size()
        )),
    }
}

/// Refuses an offset beyond the largest file.
pub(crate) fn check_offset(offset: u64) -> Result<()> {
    if i64::try_from(offset).is_err() {
        return Err(error!(Overflow, "offset {offset} is beyond the largest file, {} bytes", i64::MAX));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use ndarray::{ArrayView, IxDyn};
    use proptest::prelude::*;

    type Expected = std::result::Result<u128, ErrorKind>;

    const I64_MAX: u64 = i64::MAX as u64;

    /// Small numbers, those at the edges of types and of products, and any.
    fn numbers() -> impl Strategy<Value = u64> {
        let edges = vec![1 << 31, 1 << 32, I64_MAX / 8, I64_MAX / 2, I64_MAX, u64::MAX];
        let near_edges = (proptest::sample::select(edges), 0..3_u64, any::<bool>())
            .prop_map(|(edge, by, up)| if up { edge.saturating_add(by) } else { edge - by });
        prop_oneof![4 => 0..6_u64, 1 => near_edges, 1 => any::<u64>()]
    }

    fn shapes() -> impl Strategy<Value = Vec<usize>> {
        proptest::collection::vec(numbers().prop_map(|n| n as usize), 0..6)
    }

    fn small_shapes() -> impl Strategy<Value = Vec<usize>> {
        proptest::collection::vec(0..5_usize, 0..6)
    }

    fn items() -> impl Strategy<Value = ElementLayout> {
        proptest::sample::select(vec![
            ElementLayout::of::<u8>(),
            ElementLayout::of::<[u8; 5]>(),
            ElementLayout::of::<u16>(),
            ElementLayout::of::<f64>(),
            ElementLayout::of::<u128>(),
            ElementLayout::of::<[u64; 1000]>(),
        ])
    }

    fn orders() -> impl Strategy<Value = Order> {
        proptest::sample::select(vec![Order::C, Order::F])
    }

    fn placements() -> impl Strategy<Value = Alignment> {
        proptest::sample::select(vec![Alignment::InPlace, Alignment::Copied])
    }

    /// Bytes of the non-zero axes together, or more than can be counted.
    fn wide_bytes(axes: &[usize], item: ElementLayout) -> u128 {
        let nonzero = axes.iter().filter(|&&n| n != 0);
        nonzero.fold(item.size() as u128, |bytes, &n| bytes.saturating_mul(n as u128))
    }

    /// What `Layout::new` must say, by arithmetic that does not overflow.
    fn expected_bytes(axes: &[usize], item: ElementLayout) -> Expected {
        match wide_bytes(axes, item) {
            wide if wide > isize::MAX as u128 => Err(ErrorKind::Overflow),
            _ if axes.contains(&0) => Ok(0),
            wide => Ok(wide),
        }
    }

    /// What `span` must say: offset and bytes, both without overflow.
    fn expected_span(offset: u64, bytes: usize, item: ElementLayout, placement: Alignment) -> Expected {
        let end = u128::from(offset) + bytes as u128;
        if end > u128::from(I64_MAX) {
            Err(ErrorKind::Overflow)
        } else if placement == Alignment::InPlace && bytes > 0 && !offset.is_multiple_of(item.align() as u64) {
            Err(ErrorKind::Misaligned)
        } else {
            Ok(end)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_layout_is_refused_exactly_where_its_nonzero_axes_overflow(
            axes in shapes(), order in orders(), item in items(),
        ) {
            let layout = Layout::new(IxDyn(&axes), order, item);
            let bytes = layout.as_ref().map(|l| l.bytes() as u128).map_err(Error::kind);
            prop_assert_eq!(bytes, expected_bytes(&axes, item));
        }

        #[test]
        fn a_span_and_an_extent_agree_with_arithmetic_that_cannot_overflow(
            axes in shapes(), order in orders(), item in items(), placement in placements(),
            offset in numbers(), file_len in numbers(),
        ) {
            let Ok(layout) = Layout::new(IxDyn(&axes), order, item) else { return Ok(()) };
            let expected = expected_span(offset, layout.bytes(), item, placement);
            let span = layout.span(offset, placement);
            prop_assert_eq!(span.as_ref().map(|s| u128::from(s.end())).map_err(Error::kind), expected);

            let extent = layout.extent(offset, placement, file_len, "");
            let expected = expected.and_then(|end| if end > file_len.into() { Err(ErrorKind::TooShort) } else { Ok(end) });
            prop_assert_eq!(extent.as_ref().map(|e| u128::from(e.span().end())).map_err(Error::kind), expected);
            if let Ok(extent) = extent {
                prop_assert_eq!((extent.span().offset(), extent.span().bytes()), (offset, layout.bytes()));
            }
        }

        #[test]
        fn inferred_rows_end_with_the_file(
            row in shapes(), order in orders(), item in items(), offset in numbers(), file_len in numbers(), ignore in any::<bool>(),
        ) {
            let dim = with_rows_of(&row, order);
            let remainder = if ignore { Remainder::Ignored } else { Remainder::Refused };
            let inferred = Layout::inferred(dim, order, item, offset, file_len, remainder);
            let row_bytes = wide_bytes(&row, item);
            let rest = u128::from(file_len).checked_sub(offset.into());
            let expected: Expected = match rest {
                _ if offset > I64_MAX || row_bytes > isize::MAX as u128 => Err(ErrorKind::Overflow),
                _ if row.contains(&0) => Err(ErrorKind::InvalidInput),
                None => Err(ErrorKind::TooShort),
                Some(rest) if rest % row_bytes != 0 && !ignore => Err(ErrorKind::LengthNotMultiple),
                Some(rest) if rest - rest % row_bytes > isize::MAX as u128 => Err(ErrorKind::Overflow),
                Some(rest) => Ok(rest - rest % row_bytes),
            };
            prop_assert_eq!(inferred.as_ref().map(|l| l.bytes() as u128).map_err(Error::kind), expected);
            if let Ok(layout) = inferred {
                prop_assert_eq!(layout.rows() as u128, rest.unwrap_or_default() / row_bytes);
                prop_assert_eq!(row_of(layout.axes(), order), Some(&row[..]));
            }
        }

        /// Whatever its length, that is: no length is too long to be asked of before it is known.
        #[test]
        fn what_no_file_holds_rows_of_is_known_before_there_is_one(
            row in shapes(), order in orders(), item in items(), offset in numbers(), file_len in numbers(),
        ) {
            let dim = with_rows_of(&row, order);
            let known = Layout::inferable(&dim, order, item, offset);
            let in_file = |len| {
                let inferred = Layout::inferred(dim.clone(), order, item, offset, len, Remainder::Refused);
                inferred.map(|l| l.rows()).map_err(|e| e.kind())
            };
            match known {
                Ok(bytes) => {
                    prop_assert_eq!(bytes as u128, wide_bytes(&row, item));
                    prop_assert_eq!(in_file(offset), Ok(0));
                }
                Err(e) => prop_assert_eq!(in_file(file_len), Err(e.kind())),
            }
        }

        #[test]
        fn consecutive_rows_are_consecutive_bytes_and_all_rows_all_bytes(
            axes in shapes(), order in orders(), item in items(), cuts in proptest::collection::vec(any::<usize>(), 0..5),
        ) {
            let Ok(layout) = Layout::new(IxDyn(&axes), order, item) else { return Ok(()) };
            let rows = layout.rows();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut % rows.saturating_add(1)).collect();
            cuts.extend([0, rows]);
            cuts.sort_unstable();
            let mut end = 0;
            for rows in cuts.windows(2) {
                let bytes = layout.row_bytes(rows[0]..rows[1]).unwrap();
                prop_assert_eq!(bytes.start, end);
                prop_assert_eq!(bytes.len() as u128 * rows_or_one(&layout), (rows[1] - rows[0]) as u128 * layout.bytes() as u128);
                end = bytes.end;
            }
            prop_assert_eq!(end, layout.bytes());
        }

        #[test]
        fn any_other_range_of_rows_is_refused(
            axes in shapes(), order in orders(), item in items(), start in numbers(), end in numbers(),
        ) {
            let Ok(layout) = Layout::new(IxDyn(&axes), order, item) else { return Ok(()) };
            let (start, end) = (start as usize, end as usize);
            let fits = start <= end && end <= layout.rows();
            let kind = layout.row_bytes(start..end).map(drop).map_err(|e| e.kind());
            prop_assert_eq!(kind, if fits { Ok(()) } else { Err(ErrorKind::InvalidInput) });
        }

        #[test]
        fn rows_are_where_ndarray_has_them(axes in small_shapes(), order in orders()) {
            let layout = Layout::new(IxDyn(&axes), order, ElementLayout::of::<u16>()).unwrap();
            let memory = vec![0_u16; layout.bytes() / 2];
            let array = ArrayView::from_shape(layout.to_shape(), &memory).unwrap();
            let Some(axis) = layout.outermost() else { return Ok(()) };
            for (r, row) in array.axis_iter(axis).enumerate() {
                let bytes = layout.row_bytes(r..r + 1).unwrap();
                let mut places: Vec<_> = row.iter().map(|x| (x as *const u16).addr() - memory.as_ptr().addr()).collect();
                places.sort_unstable();
                prop_assert_eq!(places, bytes.step_by(2).collect::<Vec<_>>());
            }
        }

        #[test]
        fn a_shape_comes_out_as_it_went_in(axes in shapes(), order in orders()) {
            let given = IxDyn(&axes).set_f(order == Order::F);
            let (dim, recovered) = split_shape(given.clone());
            prop_assert_eq!(dim.slice(), &axes[..]);
            if expected_bytes(&axes, ElementLayout::of::<u8>()).is_ok() {
                let strides = |shape| Array::<(), IxDyn>::uninit(shape).strides().to_vec();
                prop_assert_eq!(strides(dim.set_f(recovered == Order::F)), strides(given));
            }
        }

        #[test]
        fn rows_that_stay_lie_where_they_lay(
            axes in shapes(), order in orders(), item in items(), rows in numbers(), row in numbers(),
        ) {
            let Ok(old) = Layout::new(IxDyn(&axes), order, item) else { return Ok(()) };
            let Ok(new) = old.with_rows(rows as usize) else { return Ok(()) };
            prop_assert_eq!(new.rows(), rows as usize);
            let row = row as usize % old.rows().min(new.rows()).max(1);
            // Without elements there are no rows to lie anywhere.
            if old.bytes() > 0 && new.bytes() > 0 {
                prop_assert_eq!(old.row_bytes(row..row + 1).unwrap(), new.row_bytes(row..row + 1).unwrap());
            }
        }
    }

    /// The shape of no rows.
    fn with_rows_of(row: &[usize], order: Order) -> IxDyn {
        let mut axes = row.to_vec();
        axes.insert(if order == Order::C { 0 } else { row.len() }, 0);
        IxDyn(&axes)
    }

    fn rows_or_one<D: Dimension>(layout: &Layout<D>) -> u128 {
        layout.rows().max(1) as u128
    }

    #[test]
    fn the_order_of_a_row_is_recovered_even_if_it_has_one_axis() {
        for len in [0, 1, 5, usize::MAX] {
            assert_eq!((split_row_shape(len).1, split_row_shape(len.f()).1), (Order::C, Order::F));
            let dynamic = IxDyn(&[len]);
            assert_eq!((split_row_shape(dynamic.clone()).1, split_row_shape(dynamic.f()).1), (Order::C, Order::F));
            assert_eq!(split_shape(len.f()).1, Order::C);
        }
        assert_eq!((split_row_shape((2, 3)).1, split_row_shape((2, 3).f()).1), (Order::C, Order::F));
    }

    #[test]
    fn the_order_of_a_shape_is_recovered_even_where_its_strides_do_not_tell() {
        for axes in [(3, 4), (3, 0), (0, 3), (5, 1), (1, 5), (1, 1), (0, 0)] {
            assert_eq!(split_shape(axes).1, Order::C, "{axes:?}");
            assert_eq!(split_shape(axes.f()).1, Order::F, "{axes:?}");
            let dynamic = IxDyn(&[axes.0, axes.1]);
            assert_eq!(split_shape(dynamic.clone()).1, Order::C, "{axes:?}");
            assert_eq!(split_shape(dynamic.f()).1, Order::F, "{axes:?}");
        }
    }
}
