//! The bytes of an array in the order of a file, whatever its order in memory.

use bytemuck::NoUninit;
use ndarray::{ArrayView, Axis, Dimension};

use crate::error::Result;

/// Rows that are not contiguous are copied together into buffers of about this many bytes: large enough that system calls
/// do not count, small enough for a core's own cache.
const PIECE: usize = 256 * 1024;

/// Passes the bytes of an array to `write`, in the order in which a file has them whose rows are along `outermost`, with
/// their offset from the first.
pub(crate) fn write_pieces<A: NoUninit, D: Dimension>(
    block: ArrayView<'_, A, D>,
    outermost: Axis,
    mut write: impl FnMut(&[u8], usize) -> Result<()>,
) -> Result<()> {
    // In Fortran order the reversed axes are those of C order.
    let block = if outermost == Axis(0) { block } else { block.reversed_axes() };
    if let Some(elements) = block.as_slice() {
        return write(bytemuck::cast_slice(elements), 0);
    }
    let row = block.len() / block.len_of(Axis(0)).max(1) * size_of::<A>();
    let rows = (PIECE / row.max(1)).max(1);
    let mut at = 0;
    let mut piece = Vec::new();
    for rows in block.axis_chunks_iter(Axis(0), rows) {
        piece.clear();
        piece.extend(rows.iter().copied());
        let bytes: &[u8] = bytemuck::cast_slice(&piece);
        write(bytes, at)?;
        at += bytes.len();
    }
    Ok(())
}
