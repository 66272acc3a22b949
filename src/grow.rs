//! Arrays that change their number of rows, and rows that are stored by a system call: the order of the steps, so that
//! a failure, or a kill between any two of them, leaves an array that is whole.

use bytemuck::NoUninit;
use ndarray::{ArrayRef, ArrayView, Axis, Dimension, Slice};

use crate::access::{Admits, Stored};
use crate::array::MmapArrayBase;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{Layout, Placement};
use crate::npy::{HeaderInPlace, MAGIC};

/// Rows that do not lie in one piece are brought into one in pieces of about this many bytes.
const PIECE: usize = 256 * 1024;

impl<A: NoUninit, D: Dimension, M: Stored + Admits<A>> MmapArrayBase<A, D, M> {
    /// Adds the rows of `block` at the end: along the outermost axis in memory, which is the first in C order and the
    /// last in Fortran order. The file grows by exactly these rows.
    ///
    /// Appending a few rows at a time is cheap: the mapping grows in place where it can, and disk space is set aside in
    /// larger steps, beyond the end of the file, until [`close`](Self::close) gives it back.
    ///
    /// # Errors
    /// - [`ErrorKind::ShapeMismatch`] if the block differs in any other axis.
    /// - [`ErrorKind::Io`]: storage full ...
    /// - [`ErrorKind::InvalidInput`] if the array has no axes, or if something else follows it in the file: see below.
    /// - [`ErrorKind::Truncated`], [`ErrorKind::Poisoned`], [`ErrorKind::Overflow`].
    /// - [`ErrorKind::Unsupported`] if the header of a `.npy` file, written by something that left no room in it, cannot
    ///   tell the new shape: copy the array to a new file, as by [`create_npy`](Self::create_npy).
    ///
    /// The array and its file are then as they were.
    ///
    /// # What follows the array in the file
    /// ... is not touched, and stops the array from growing or shrinking; the message says where it starts, so that who
    /// knows that it can go may cut the file there.
    ///
    /// But for rows which an append to a `.npy` file had stored when it was killed, before the header told of them: the
    /// next to grow or shrink that array cuts them off. They are known by a mark on the file, the attribute
    /// `user.ndarray-mmap.growing`: set by the first append or resize, taken back by [`close`](Self::close) and when the
    /// array is dropped, and so found after a kill only. Where a file cannot have one (some network file systems, tmpfs
    /// before Linux 6.6, systems other than Linux and macOS), they too are refused.
    ///
    /// # Live readers
    /// The header of a `.npy` file is written last, when the rows are there: whoever opens it at any moment finds the
    /// array without them or with them. In a raw file the rows that were complete stay as they are.
    ///
    /// What reads a header only once, as NumPy does, could meet one of which half is new: an error, or fewer rows than
    /// there are, never wrong ones. Mostly one digit is all that changes, and in some 90,000 openings by NumPy beside
    /// writers at full speed it did not happen.
    ///
    /// # Example: a log of readings
    /// ```
    /// use ndarray::array;
    /// use ndarray_mmap::MmapArrayMut;
    ///
    /// let mut log = MmapArrayMut::<f32>::scratch((0, 3))?;
    /// log.append(&array![[1.0, 2.0, 3.0]])?;
    /// log.append(&array![[4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])?;
    /// assert_eq!(log.dim(), (3, 3));
    /// assert_eq!(log.row(2), array![7.0, 8.0, 9.0]);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn append(&mut self, block: &ArrayRef<A, D>) -> Result<()> {
        let appended = self.append_rows(block);
        appended.map_err(|e| self.named(e))
    }

    /// Makes the array `n` rows long: along the outermost axis in memory, which is the first in C order and the last in
    /// Fortran order. New rows are zero; rows beyond the new end are gone.
    ///
    /// They are gone for everybody: whoever has them mapped, or reads them at that moment, was promised that they stay.
    /// Where others look on, only add rows.
    ///
    /// # Errors
    /// Those of [`append`](Self::append), but for the block's shape.
    pub fn resize(&mut self, n: usize) -> Result<()> {
        let resized = self.resize_rows(n);
        resized.map_err(|e| self.named(e))
    }

    /// Stores whole rows from row `start` on, by a system call: `rows` are as in [`append`](Self::append). The array shows them at once.
    ///
    /// For a few rows here and there: a store through the mapping makes the system write back all that it keeps in one
    /// piece, up to 2 MiB for a row; this, only the pages the rows lie in. The gain is at the next
    /// [`flush`](Self::flush).
    ///
    /// Outside Linux, and for a file opened by a handle that appends, it stores through the mapping.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`], [`ErrorKind::InvalidInput`] for rows the array does not have, [`ErrorKind::Io`],
    /// [`ErrorKind::Poisoned`].
    pub fn write_rows(&mut self, start: usize, rows: &ArrayRef<A, D>) -> Result<()> {
        let written = self.check_rows(start, rows).and_then(|()| self.store_rows(start, rows));
        written.map_err(|e| self.named(e))
    }

    fn append_rows(&mut self, block: &ArrayRef<A, D>) -> Result<()> {
        let more = self.layout().rows_of_block(block.shape())?;
        let old = self.layout().clone();
        let rows = old.rows();
        let Some(total) = rows.checked_add(more) else {
            return Err(Error::new(ErrorKind::Overflow, format!("{rows} rows and {more} more cannot be counted")));
        };
        let new = old.with_rows(total)?;
        let header = self.header_of(&new)?;
        let end = new.span(self.offset(), Placement::InPlace)?.end();
        let old_end = self.check_end()?;
        let backing = self.backing()?;
        let stored = if backing.writes_at() && in_one_page(old_end, end) {
            backing.reserve(end);
            self.write_at_end(block, old_end).and_then(|()| self.relayout(new))
        } else {
            self.grow_to(&new)?;
            self.store_rows(rows, block)
        };
        stored.and_then(|()| self.tell(header)).map_err(|e| self.undo(old, end, e))
    }

    /// Adds rows to the file by writing them, which for so few is one step: the length never is without them, whoever
    /// looks or kills.
    fn write_at_end(&mut self, block: &ArrayRef<A, D>, end: u64) -> Result<()> {
        let Some(axis) = self.layout().outermost() else { return Ok(()) };
        write_block(block.view(), axis, |bytes, at| self.backing()?.write_at_end(bytes, end + at as u64))
    }

    fn resize_rows(&mut self, n: usize) -> Result<()> {
        let old = self.layout().clone();
        let new = old.with_rows(n)?;
        let header = self.header_of(&new)?;
        let old_end = self.check_end()?;
        let end = new.span(self.offset(), Placement::InPlace)?.end();
        if n >= old.rows() {
            self.grow_to(&new)?;
            return self.tell(header).map_err(|e| self.undo(old, end, e));
        }
        // The header goes before what it tells of, and the memory before what it shows.
        let cut = self.tell(header).and_then(|()| self.relayout(new)).and_then(|()| self.cut_rows(end, old_end));
        cut.map_err(|e| self.undo(old, old_end, e))
    }

    fn cut_rows(&mut self, end: u64, old_end: u64) -> Result<()> {
        if self.backing()?.cut(end, old_end)? {
            return Ok(());
        }
        let len = self.backing()?.current_len()?;
        Err(Error::new(
            ErrorKind::InvalidInput,
            format!("the array ended at byte {old_end}, but now the file at {len}: somebody else has just added to it"),
        ))
    }

    /// What a `.npy` header will have to say, before anything is done that it might have no room for.
    fn header_of(&mut self, new: &Layout<D>) -> Result<Option<HeaderInPlace>> {
        let axis = new.outermost().map_or(0, |axis| axis.index());
        self.header().as_ref().map(|header| header.with_rows(axis, new.rows())).transpose()
    }

    /// Tells readers of a `.npy` file of the new shape: the last step of growing, by one system call.
    fn tell(&mut self, header: Option<HeaderInPlace>) -> Result<()> {
        let Some((new, old)) = header.zip(self.header().clone()) else { return Ok(()) };
        self.rewrite(&new, old.bytes())?;
        *self.header() = Some(new);
        Ok(())
    }

    /// Writes what is new in a header, and no more: mostly that is one digit, which no reader can see half of.
    fn rewrite(&mut self, header: &HeaderInPlace, in_file: &[u8]) -> Result<()> {
        let new = header.changes_to(in_file);
        let offset = header.offset() + new.start as u64;
        let backing = self.backing()?;
        // The length need not change with it, nor need the header lie in a page of the array.
        backing.note_unsynced();
        backing.write_at(&header.bytes()[new], offset)
    }

    /// Adds zero rows at the end, which has been checked. First the file, which can fail, then the mapping.
    fn grow_to(&mut self, new: &Layout<D>) -> Result<()> {
        let end = new.span(self.offset(), Placement::InPlace)?.end();
        let old_end = self.layout().span(self.offset(), Placement::InPlace)?.end();
        let backing = self.backing()?;
        backing.reserve(end);
        backing.grow(end)?;
        self.relayout(new.clone()).inspect_err(|_| {
            // Best effort: the first error is the one to tell, and a longer file does no harm to the array.
            let _ = self.backing().and_then(|backing| backing.cut(old_end, end));
        })
    }

    /// Back to an earlier layout after a failure, of a file that had at most `most` bytes meanwhile. If even this fails,
    /// nothing more is known.
    fn undo(&mut self, old: Layout<D>, most: u64, failure: Error) -> Error {
        let undone = old.span(self.offset(), Placement::InPlace).and_then(|span| {
            if self.layout().axes() != old.axes() {
                self.backing()?.grow(span.end())?;
                self.relayout(old.clone())?;
            }
            if let Some(header) = self.header_of(&old)? {
                // What the failure left of it, or made of it.
                let mut in_file = vec![0; header.bytes().len()];
                self.backing()?.read_into(&mut in_file, header.offset())?;
                self.rewrite(&header, &in_file)?;
                *self.header() = Some(header);
            }
            self.backing()?.cut(span.end(), most)
        });
        if undone.is_err() {
            self.poison();
            if let Ok(backing) = self.backing() {
                backing.leave_growing();
            }
        }
        failure
    }

    /// Where the array ends, in bytes from the start of the file: which has to end there too, unless it goes on with
    /// what an append left behind. What comes to lie behind the array from now on is known to be ours.
    fn check_end(&mut self) -> Result<u64> {
        self.check_poison()?;
        let end = self.layout().span(self.offset(), Placement::InPlace)?.end();
        let len = self.backing()?.refresh_len()?;
        if len < end {
            self.poison();
            return Err(Error::new(
                ErrorKind::Truncated,
                format!("file was cut to {len} bytes while an array that ends at {end} was mapped"),
            ));
        }
        if len > end && self.is_left_behind(end, len)? {
            self.backing()?.cut(end, len)?;
        } else if len > end {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "the array ends at byte {end}, but the file at {len}: what follows would be overwritten or cut \
                     (`std::fs::File::set_len` removes it)"
                ),
            ));
        }
        if self.is_of_npy_file() {
            self.backing()?.mark_growing();
        }
        Ok(end)
    }

    /// Whether the file is nothing but a `.npy` file of this array.
    fn is_of_npy_file(&mut self) -> bool {
        self.header().as_ref().is_some_and(|header| header.offset() == 0)
    }

    /// Whether the bytes behind the array are rows that an append had stored when it was killed, and no header told of.
    /// Only then nobody misses them.
    fn is_left_behind(&mut self, end: u64, len: u64) -> Result<bool> {
        let row = self.layout().with_rows(1)?.bytes() as u64;
        let whole_rows = row > 0 && (len - end).is_multiple_of(row);
        if !whole_rows || !self.is_of_npy_file() || !self.backing()?.was_left_growing() {
            return Ok(false);
        }
        // `np.save` to an open file puts one array behind another.
        let mut magic = [0; MAGIC.len()];
        self.backing()?.read_at(&mut magic, end)?;
        Ok(&magic != MAGIC)
    }

    fn check_rows(&self, start: usize, block: &ArrayRef<A, D>) -> Result<()> {
        self.check_poison()?;
        let rows = self.layout().rows_of_block(block.shape())?;
        let end = start.checked_add(rows).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, format!("{rows} rows from row {start} on cannot be counted"))
        })?;
        self.layout().row_bytes(start..end).map(drop)
    }

    /// Stores rows that the array has.
    fn store_rows(&mut self, start: usize, block: &ArrayRef<A, D>) -> Result<()> {
        let Some(axis) = self.layout().outermost() else { return Ok(()) };
        let rows = block.len_of(axis);
        let bytes = self.layout().row_bytes(start..start + rows)?;
        let offset = self.offset() + bytes.start as u64;
        if self.backing()?.writes_at() {
            return write_block(block.view(), axis, |bytes, at| self.backing()?.write_at(bytes, offset + at as u64));
        }
        self.view_mut().slice_axis_mut(axis, Slice::from(start..start + rows)).assign(block);
        Ok(())
    }
}

/// The system copies at least what lies in one page of a file in one go. (There are smaller pages nowhere, and the
/// larger ones of some systems are not needed here.)
fn in_one_page(start: u64, end: u64) -> bool {
    const PAGE: u64 = 4096;
    start / PAGE == end.saturating_sub(1) / PAGE
}

/// Passes on the bytes of a block, in the order of the file, and where each piece starts.
fn write_block<A: NoUninit, D: Dimension>(
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
