//! Pure checked arithmetic: where the elements of an array lie, and the proof that a file holds them.
//!
//! [`Layout`] (shape, order, element) -> [`Span`] (a legal range of file offsets) -> [`Extent`] (a range proven to
//! lie in the file). Each step has one constructor, so a mapping past the end of a file, or a misaligned one, cannot
//! be written down.

use std::ops::Range;

use ndarray::{Array, Axis, Dimension, Shape, ShapeBuilder};

use crate::element::Item;
use crate::error::{Error, ErrorKind, Result};

/// Which axis varies fastest in memory: the last (C), or the first (Fortran).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    C,
    F,
}

/// A shape, an order and an element: how many bytes, and which byte belongs to which index.
///
/// Invariant: the product of the non-zero axes, in bytes, is at most `isize::MAX`, and `bytes` is the size of all
/// elements together.
#[derive(Clone, Debug)]
pub(crate) struct Layout<D> {
    dim: D,
    order: Order,
    item: Item,
    bytes: usize,
}

/// Whether the bytes are used where they lie, or copied to where they can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    InPlace,
    Copied,
}

/// File offsets `offset .. offset + bytes` that do not overflow and, used in place, suit the element's alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    offset: u64,
    bytes: usize,
}

/// A [`Span`] that lay within the file when its length was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent(Span);

impl<D: Dimension> Layout<D> {
    /// # Errors
    /// `Overflow` if the non-zero axes together are more bytes than can be addressed.
    pub(crate) fn new(dim: D, order: Order, item: Item) -> Result<Self> {
        let bytes = bytes_of(axes(&dim), item)?;
        Ok(Self { dim, order, item, bytes })
    }

    /// As many rows of shape `dim[1..]` as the file holds from `offset` on; `dim[0]` is filled in.
    ///
    /// # Errors
    /// `TooShort` for an offset past the end, `LengthNotMultiple` for a broken last row, `InvalidInput` for rows
    /// without elements, `Overflow`.
    pub(crate) fn inferred(mut dim: D, item: Item, offset: u64, file_len: u64) -> Result<Self> {
        check_offset(offset)?;
        let row = &axes(&dim)[1..];
        let row_bytes = bytes_of(row, item)?;
        if row_bytes == 0 {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the number of rows cannot be inferred: a row of shape {row:?} has no elements"),
            ));
        }
        let rest = file_len.checked_sub(offset).ok_or_else(|| past_the_end(file_len, offset))?;
        if rest % row_bytes as u64 != 0 {
            let unit = if row.is_empty() { item.name().to_owned() } else { format!("row {row:?} of {}", item.name()) };
            return Err(Error::new(
                ErrorKind::LengthNotMultiple,
                format!("{rest} bytes follow offset {offset}, no multiple of the {row_bytes} bytes of one {unit}"),
            ));
        }
        // A count beyond usize is an overflow like any other shape's; only 32-bit systems meet it.
        dim[0] = usize::try_from(rest / row_bytes as u64).unwrap_or(usize::MAX);
        Self::new(dim, Order::C, item)
    }

    pub(crate) fn order(&self) -> Order {
        self.order
    }

    /// Of all elements together.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn axes(&self) -> &[usize] {
        axes(&self.dim)
    }

    pub(crate) fn item(&self) -> Item {
        self.item
    }

    /// For ndarray's constructors.
    pub(crate) fn to_shape(&self) -> Shape<D> {
        self.dim.clone().set_f(self.order == Order::F)
    }

    /// The same layout with another type for the same number of axes.
    pub(crate) fn into_dimensionality<D2: Dimension>(self) -> Result<Layout<D2>> {
        let Some(dim) = D2::from_dimension(&self.dim) else {
            return Err(Error::new(
                ErrorKind::ShapeMismatch,
                format!(
                    "the array has {} dimensions (shape {:?}), but {} were asked for",
                    self.dim.ndim(),
                    self.axes(),
                    D2::NDIM.unwrap_or_default()
                ),
            ));
        };
        Ok(Layout { dim, order: self.order, item: self.item, bytes: self.bytes })
    }

    /// Where these elements lie in a file if the first is at `offset` (in bytes).
    ///
    /// # Errors
    /// `Overflow` beyond `i64::MAX`, which no file reaches; `Misaligned` where the elements could not be used in place.
    pub(crate) fn span(&self, offset: u64, placement: Placement) -> Result<Span> {
        check_offset(offset)?;
        if offset + self.bytes as u64 > i64::MAX as u64 {
            return Err(Error::new(
                ErrorKind::Overflow,
                format!(
                    "offset {offset} and shape {:?} of {} ({} bytes) end beyond the largest file, {} bytes",
                    self.axes(),
                    self.item.name(),
                    self.bytes,
                    i64::MAX
                ),
            ));
        }
        let align = self.item.align();
        if placement == Placement::InPlace && self.bytes > 0 && !offset.is_multiple_of(align as u64) {
            return Err(Error::new(
                ErrorKind::Misaligned,
                format!(
                    "offset {offset} is no multiple of {align}, the alignment of {}: use an element type of alignment 1 \
                     (`rend::unaligned`, `[u8; {}]`), or `load` for a copy",
                    self.item.name(),
                    self.item.size()
                ),
            ));
        }
        Ok(Span { offset, bytes: self.bytes })
    }

    /// The proof that a file of `file_len` bytes holds these elements, the first at `offset`.
    ///
    /// # Errors
    /// Those of [`span`](Self::span), then `TooShort`, naming both lengths and ending in `remedy`.
    pub(crate) fn extent(&self, offset: u64, placement: Placement, file_len: u64, remedy: &str) -> Result<Extent> {
        let span = self.span(offset, placement)?;
        if span.end() > file_len {
            return Err(Error::new(
                ErrorKind::TooShort,
                format!(
                    "file is {file_len} bytes, but offset {offset} and shape {:?} of {} need {}{remedy}",
                    self.axes(),
                    self.item.name(),
                    span.end()
                ),
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

    /// The same layout with another number of rows; those that both have lie where they lay.
    ///
    /// # Errors
    /// `InvalidInput` for an array without axes, `Overflow`.
    pub(crate) fn with_rows(&self, rows: usize) -> Result<Self> {
        let Some(axis) = self.outermost() else {
            return Err(Error::new(ErrorKind::InvalidInput, "an array without axes has no rows to add or remove"));
        };
        let mut dim = self.dim.clone();
        dim[axis.index()] = rows;
        Self::new(dim, self.order, self.item)
    }

    /// How many rows a block of this shape has, if it has such rows as this array.
    ///
    /// # Errors
    /// `ShapeMismatch` if any but the outermost axis differs.
    pub(crate) fn rows_of_block(&self, block: &[usize]) -> Result<usize> {
        let own = self.axes();
        let outermost = self.outermost().map(|axis| axis.index());
        let alike = own.len() == block.len() && (0..own.len()).all(|i| Some(i) == outermost || own[i] == block[i]);
        match outermost {
            Some(axis) if alike => Ok(block[axis]),
            _ => Err(Error::new(
                ErrorKind::ShapeMismatch,
                format!(
                    "a block of shape {block:?} does not fit an array of shape {own:?}, whose rows are along {}",
                    outermost.map_or("no axis".to_owned(), |axis| format!("axis {axis}"))
                ),
            )),
        }
    }

    /// The bytes of some rows, counted from the start of the array.
    ///
    /// # Errors
    /// `InvalidInput` for a range that is reversed or goes past the last row.
    pub(crate) fn row_bytes(&self, rows: Range<usize>) -> Result<Range<usize>> {
        let count = self.rows();
        if rows.start > rows.end || rows.end > count {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("rows {rows:?} are not within the {count} rows of shape {:?}", self.axes()),
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

    /// The shortest file that holds it; at most `i64::MAX`.
    pub(crate) fn end(self) -> u64 {
        self.offset + self.bytes as u64
    }
}

impl Extent {
    pub(crate) fn span(self) -> Span {
        self.0
    }
}

/// Takes a shape apart into what ndarray keeps private in it: the order.
///
/// Reads it off the strides of an array over `()`, which takes no memory. Where they are those of C order too (nothing,
/// or one long axis), it matters only for the axis to grow along, and is read off the shape's `Debug` text. A shape that
/// overflows has none; [`Layout::new`] will refuse it.
pub(crate) fn take_apart<Sh: ShapeBuilder>(shape: Sh) -> (Sh::Dim, Order) {
    let shape = shape.into_shape_with_order();
    let dim = shape.raw_dim().clone();
    if dim.ndim() < 2 || bytes_of(axes(&dim), Item::of::<u8>()).is_err() {
        return (dim, Order::C);
    }
    let in_c_order = Array::<(), Sh::Dim>::uninit(dim.clone());
    let as_given = Array::<(), Sh::Dim>::uninit(shape.clone());
    let in_f_order = as_given.strides() != in_c_order.strides() || format!("{shape:?}").ends_with("strides: F }");
    (dim, if in_f_order { Order::F } else { Order::C })
}

pub(crate) fn axes<D: Dimension>(dim: &D) -> &[usize] {
    // A dimension's own axis lengths always lie in a row.
    dim.as_array_view().to_slice().unwrap_or_default()
}

/// Bytes of an array; the product of the *non-zero* axes must fit, as ndarray computes strides from it.
fn bytes_of(axes: &[usize], item: Item) -> Result<usize> {
    let nonzero = axes.iter().filter(|&&n| n != 0).try_fold(item.size(), |bytes, &n| bytes.checked_mul(n));
    match nonzero {
        Some(bytes) if isize::try_from(bytes).is_ok() => Ok(if axes.contains(&0) { 0 } else { bytes }),
        _ => Err(Error::new(
            ErrorKind::Overflow,
            format!("shape {axes:?} of {} ({} bytes each) is more than can be addressed", item.name(), item.size()),
        )),
    }
}

/// Refuses an offset that no file reaches.
pub(crate) fn check_offset(offset: u64) -> Result<()> {
    if i64::try_from(offset).is_err() {
        return Err(Error::new(
            ErrorKind::Overflow,
            format!("offset {offset} is beyond the largest file, {} bytes", i64::MAX),
        ));
    }
    Ok(())
}

fn past_the_end(file_len: u64, offset: u64) -> Error {
    Error::new(ErrorKind::TooShort, format!("file is {file_len} bytes, but the array starts at offset {offset}"))
}

#[cfg(test)]
mod order_tests {
    use super::*;
    use ndarray::IxDyn;

    #[test]
    fn the_order_of_a_shape_is_recovered_even_where_its_strides_do_not_tell() {
        for axes in [(3, 4), (3, 0), (0, 3), (5, 1), (1, 5), (1, 1), (0, 0)] {
            assert_eq!(take_apart(axes).1, Order::C, "{axes:?}");
            assert_eq!(take_apart(axes.f()).1, Order::F, "{axes:?}");
            let dynamic = IxDyn(&[axes.0, axes.1]);
            assert_eq!(take_apart(dynamic.clone()).1, Order::C, "{axes:?}");
            assert_eq!(take_apart(dynamic.f()).1, Order::F, "{axes:?}");
        }
    }
}
