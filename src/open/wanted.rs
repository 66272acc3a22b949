//! The shape that a caller asks for, and the layout that it gives in a file.

use ndarray::{Dimension, IxDyn};

use crate::element::ElementLayout;
use crate::error::{Error, Result, error};
use crate::layout::{Alignment, Layout, Order, Remainder, axes, row_of};

#[derive(Clone, Debug)]
pub(super) enum Wanted<D> {
    /// One axis, as long as the file.
    WholeFile,
    /// As many rows as the file has; the length of the outermost axis is not set.
    Rows(D, Order),
    Exactly(D, Order),
}

impl<D: Dimension> Wanted<D> {
    /// Refuses what is wrong whatever a raw file contains.
    pub(super) fn check(&self, item: ElementLayout, offset: u64, alignment: Alignment) -> Result<()> {
        match self.exact_layout(item) {
            Some(layout) => layout?.span(offset, alignment).map(drop),
            None => self.rows().and_then(|(dim, order)| Layout::inferable(&dim, order, item, offset)).map(drop),
        }
    }

    /// The layout in a raw file of `file_len` bytes.
    pub(super) fn layout(
        &self,
        item: ElementLayout,
        offset: u64,
        file_len: u64,
        remainder: Remainder,
    ) -> Result<Layout<D>> {
        self.exact_layout(item).unwrap_or_else(|| {
            let (dim, order) = self.rows()?;
            Layout::inferred(dim, order, item, offset, file_len, remainder)
        })
    }

    /// The layout that needs no file; `None` if the number of rows depends on one.
    pub(super) fn exact_layout(&self, item: ElementLayout) -> Option<Result<Layout<D>>> {
        match self {
            Wanted::Exactly(dim, order) => Some(Layout::new(dim.clone(), *order, item)),
            _ => None,
        }
    }

    /// The layout in a new file.
    pub(super) fn required_layout(&self, item: ElementLayout) -> Result<Layout<D>> {
        self.exact_layout(item)
            .unwrap_or_else(|| Err(error!(ShapeRequired, "a file cannot be created without a `.shape()`")))
    }

    /// The axes of an array whose outermost axis depends on the file, and their order.
    fn rows(&self) -> Result<(D, Order)> {
        match (self, D::NDIM) {
            (Wanted::Rows(dim, order) | Wanted::Exactly(dim, order), _) => Ok((dim.clone(), *order)),
            (Wanted::WholeFile, None | Some(1)) => Ok((D::zeros(1), Order::C)),
            (Wanted::WholeFile, Some(ndim)) => Err(error!(
                ShapeMismatch,
                "without a shape the array has 1 dimension, but {ndim} were asked for: give a `.shape()`"
            )),
        }
    }

    /// The shape of a header, if it is the wanted one.
    ///
    /// # Errors
    /// `ShapeMismatch`.
    pub(super) fn match_shape(&self, shape: &[usize]) -> Result<D> {
        let mismatch = |wanted: String| -> Error {
            error!(ShapeMismatch, "the file's array has shape {shape:?}, but {wanted} asked for")
        };
        match self {
            Wanted::Exactly(dim, _) if axes(dim) != shape => return Err(mismatch(format!("{:?} was", axes(dim)))),
            Wanted::Rows(dim, order) => {
                let row = row_of(axes(dim), *order);
                if row_of(shape, *order) != row {
                    return Err(mismatch(format!("rows of shape {:?} were", row.unwrap_or_default())));
                }
            }
            _ => {}
        }
        let ndim = D::NDIM.unwrap_or_default();
        D::from_dimension(&IxDyn(shape)).ok_or_else(|| mismatch(format!("an array of {ndim} dimensions was")))
    }
}
