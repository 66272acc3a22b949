//! The bytes of an array in the order of a file, whatever its order in memory.

use std::io;

use bytemuck::NoUninit;
use ndarray::{ArrayView, ArrayViewD, Axis, Dimension};

use crate::error::{Error, Result};

/// Elements that are not contiguous are copied together into buffers of about this many bytes: large enough that system calls
/// do not count, small enough for a core's own cache.
const PIECE: usize = 256 * 1024;

/// Passes the bytes of an array to `write`, in the order in which a file has them whose rows are along `outermost`, with
/// their offset from the first.
pub(crate) fn write_pieces<A: NoUninit, D: Dimension>(
    array: ArrayView<'_, A, D>,
    outermost: Axis,
    mut write: impl FnMut(&[u8], usize) -> Result<()>,
) -> Result<()> {
    // In Fortran order the reversed axes are those of C order.
    let array = if outermost == Axis(0) { array } else { array.reversed_axes() };
    let mut at = 0;
    let mut write = |elements: &[A]| {
        let bytes: &[u8] = bytemuck::cast_slice(elements);
        write(bytes, at)?;
        at += bytes.len();
        Ok(())
    };
    match array.as_slice() {
        Some(elements) => write(elements),
        None => write_in_c_order(array.into_dyn(), &mut Vec::new(), &mut write),
    }
}

fn write_in_c_order<A: NoUninit>(
    array: ArrayViewD<'_, A>,
    piece: &mut Vec<A>,
    write: &mut dyn FnMut(&[A]) -> Result<()>,
) -> Result<()> {
    if let Some(elements) = array.as_slice() {
        return write(elements);
    }
    // It has an axis: otherwise it would be contiguous.
    let row = array.len() / array.len_of(Axis(0)).max(1);
    if row * size_of::<A>() > PIECE && array.ndim() > 1 {
        return array.outer_iter().try_for_each(|row| write_in_c_order(row, piece, write));
    }
    let rows = (PIECE / (row * size_of::<A>()).max(1)).max(1);
    for rows in array.axis_chunks_iter(Axis(0), rows) {
        piece.clear();
        let out_of_memory = |_| Error::io("cannot allocate memory", io::ErrorKind::OutOfMemory.into());
        piece.try_reserve(rows.len()).map_err(out_of_memory)?;
        piece.extend(rows.iter().copied());
        write(piece)?;
    }
    Ok(())
}
