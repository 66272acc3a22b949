//! Arrays that change their number of rows, and rows that are stored by a system call. The order of the steps is such that
//! a failure, or a kill between any two of them, leaves a whole array.

use bytemuck::NoUninit;
use ndarray::{ArrayRef, Dimension, Slice};

use crate::array::MmapArrayBase;
use crate::error::{Error, ErrorKind, Result, error};
use crate::layout::{Alignment, Layout, row_of};
use crate::mode::{Persistent, Supports};
use crate::npy::{EncodedHeader, MAGIC};
use crate::pieces::write_pieces;

/// An array as it was before its number of rows changed.
struct Before<D> {
    layout: Layout<D>,
    header: Option<EncodedHeader>,
}

impl<A: NoUninit, D: Dimension, M: Persistent + Supports<A>> MmapArrayBase<A, D, M> {
    /// Adds the rows of `block` at the end: along the outermost axis in memory, which is the first in C order and the
    /// last in Fortran order. The file grows by exactly these rows.
    ///
    /// Appending a few rows at a time is cheap: the mapping grows in place where it can, and disk space is set aside in
    /// larger steps, beyond the end of the file, until [`close`](Self::close) gives it back.
    ///
    /// # Errors
    /// - [`ErrorKind::ShapeMismatch`] if the block differs in any other axis, or the array has no axes.
    /// - [`ErrorKind::Io`]: storage full, and other errors of the system.
    /// - [`ErrorKind::InvalidInput`] if something else follows the array in the file (see below), or if the header of a
    ///   `.npy` file is no longer the one that this array last read or wrote: somebody else has added rows, or rewritten the
    ///   header. Open the file again.
    /// - [`ErrorKind::Truncated`] if the file is shorter than the array; [`ErrorKind::Poisoned`], [`ErrorKind::Overflow`].
    /// - [`ErrorKind::Unsupported`] if the header of a `.npy` file has no room for the new shape, because the program that
    ///   wrote it left none: copy the array to a new file, for example by [`create_npy`](Self::create_npy). Also for an array
    ///   of [some rows](crate::MmapArrayOptions::rows) of its file, and for a `.npy` file opened by a handle that appends where
    ///   the system cannot open it anew.
    ///
    /// The array and its file are then as they were. If the system refuses even that, the array is poisoned.
    ///
    /// # Bytes behind the array
    /// Bytes that follow the array in the file are never touched, and keep the array from growing or shrinking. The message
    /// states where they start, so that you can truncate the file there if that data is not needed.
    ///
    /// There is one exception: rows that an append to a `.npy` file had stored when it was killed, before the header counted
    /// them. The next call that grows or shrinks the array removes them. They are recognised by a mark on the file, the
    /// extended attribute `user.ndarray-mmap.growing`. It records the header before the growth, and the byte at which the
    /// growth would have ended; it is ignored if the header differs, on a copy of the file, and for bytes beyond that end.
    /// [`close`](Self::close) and drop remove it. Only an array that holds the file's [lock](crate::Lock) exclusively sets or
    /// trusts a mark: so the process that left it is gone.
    ///
    /// Without such a lock ([`Lock::None`](crate::Lock::None), file systems without locks), and where a file cannot have a
    /// mark (some network file systems, tmpfs before Linux 6.6, systems other than Linux and macOS, an array behind
    /// something else in its file), such rows count as foreign data, and `append` returns [`ErrorKind::InvalidInput`].
    ///
    /// # Fork
    /// When a child process inherits an array by `fork`, lock, mark and the space set aside remain the parent's. The child may
    /// read, store, drop and close. Only one of the two may change the array's length, and only one should
    /// [`flush`](Self::flush) it, for the system reports a failed write-back once. (Blocks that the child passes over are not
    /// evicted.)
    ///
    /// # Live readers
    /// The header of a `.npy` file is written last, when the rows are there: a reader of this crate that opens the file at any
    /// moment finds the array without the new rows or with them. In a raw file the rows that were complete stay as they are; a killed
    /// append may leave rows of zeros behind them.
    ///
    /// A program that reads the header only once, as NumPy does, could read one that is half old, half new. It then gets an error, or
    /// fewer rows than there are, never wrong ones. Mostly a single digit changes, and in some 90,000 openings by NumPy beside
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

    /// Adds one row at the end: [`append`](Self::append) for a row without its axis. Of an array of one axis, a row is one
    /// element: `push(&arr0(x))`. A row of an array of any dimension (`IxDyn`) is of any dimension, too:
    /// `push(&row.into_dyn())`.
    ///
    /// When it returns, the row is in the file and survives the end of the process, as with `append`. Rows that come together
    /// are cheaper by one `append`.
    ///
    /// # Errors
    /// Those of [`append`](Self::append).
    ///
    /// ```
    /// use ndarray::{arr0, aview1};
    /// use ndarray_mmap::MmapArrayMut;
    ///
    /// let mut log = MmapArrayMut::<f32>::scratch((0, 3))?;
    /// log.push(&aview1(&[1.0, 2.0, 3.0]))?;
    /// assert_eq!(log.dim(), (1, 3));
    ///
    /// let mut values = MmapArrayMut::<u8>::scratch(0)?;
    /// values.push(&arr0(7))?;
    /// assert_eq!(values[0], 7);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn push(&mut self, row: &ArrayRef<A, D::Smaller>) -> Result<()> {
        let pushed = self.push_row(row);
        pushed.map_err(|e| self.named(e))
    }

    /// Makes the array `n` rows long: along the outermost axis in memory, which is the first in C order and the last in
    /// Fortran order. New rows are zero; rows beyond the new end are gone.
    ///
    /// Shrinking breaks the promise of every process that has these rows mapped. While others read the file, only add rows.
    ///
    /// # Errors
    /// Those of [`append`](Self::append); an array without axes is [`ErrorKind::InvalidInput`].
    pub fn resize(&mut self, n: usize) -> Result<()> {
        let resized = self.resize_rows(n);
        resized.map_err(|e| self.named(e))
    }

    /// Stores whole rows from row `start` on, by a system call: `rows` is as in [`append`](Self::append). The array shows them
    /// at once.
    ///
    /// Use it for a few scattered rows. A store through the mapping makes the system write back the whole folio (a unit of the
    /// page cache, up to 2 MiB) that it lies in; this writes only the pages that the rows lie in. The gain comes with the next [`flush`](Self::flush).
    ///
    /// Outside Linux, and for a file opened by a handle that appends, it stores through the mapping.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`]; [`ErrorKind::InvalidInput`] for rows the array does not have, and for a `.npy` file
    /// whose header is no longer the one that this array last read or wrote; [`ErrorKind::Truncated`] if the file is shorter
    /// than the array; [`ErrorKind::Io`], [`ErrorKind::Poisoned`].
    pub fn write_rows(&mut self, start: usize, rows: &ArrayRef<A, D>) -> Result<()> {
        let written = self.check_rows(start, rows).and_then(|()| {
            self.check_file()?;
            self.store_rows(start, rows)
        });
        written.map_err(|e| self.named(e))
    }

    /// Refuses what has no end of its own, or no header that can be rewritten.
    fn check_can_grow(&mut self) -> Result<()> {
        if self.is_part() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "an array of some rows of its file (`.rows(..)`) cannot change its length: open the whole array",
            ));
        }
        if self.header().is_some() && !self.file_mut()?.writes_anywhere() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the header of the `.npy` file cannot be rewritten by a handle that appends, or that bypasses the page cache",
            ));
        }
        Ok(())
    }

    fn append_rows(&mut self, block: &ArrayRef<A, D>) -> Result<()> {
        let more = self.layout().rows_of_block(block.shape())?;
        self.check_can_grow()?;
        let old = self.layout().clone();
        let rows = old.rows();
        let Some(total) = rows.checked_add(more) else {
            return Err(error!(Overflow, "{rows} rows and {more} more cannot be counted"));
        };
        let new = old.with_rows(total)?;
        let end = new.span(self.offset(), Alignment::InPlace)?.end();
        let old_end = self.check_file()?;
        let header = self.header_of(&new)?;
        self.check_nothing_follows(old_end)?;
        if more == 0 {
            return Ok(());
        }
        let before = Before { layout: old, header: self.header().clone() };
        self.mark_growth(&before.header, end)?;
        let file = self.file_mut()?;
        let stored = if file.writes_at() && in_one_page(old_end, end) {
            file.reserve(end);
            self.write_at_end(block, old_end).and_then(|()| self.relayout(new))
        } else {
            self.grow_to(new).and_then(|()| self.store_rows(rows, block))
        };
        stored.and_then(|()| self.rewrite_header(&header)).map_err(|e| self.undo(before, header, e))
    }

    fn push_row(&mut self, row: &ArrayRef<A, D::Smaller>) -> Result<()> {
        let own = self.layout().axes();
        let fits = self.layout().outermost().filter(|_| row_of(own, self.layout().order()) == Some(row.shape()));
        let block = fits.and_then(|axis| row.view().insert_axis(axis).into_dimensionality::<D>().ok());
        let Some(block) = block else {
            return Err(error!(
                ShapeMismatch,
                "{:?} is not the shape of one row of an array of shape {own:?}",
                row.shape()
            ));
        };
        self.append_rows(&block)
    }

    /// Adds rows to the file by writing them. For so few bytes that is one step: nobody sees the new length without the rows,
    /// not even after a kill.
    fn write_at_end(&mut self, block: &ArrayRef<A, D>, end: u64) -> Result<()> {
        let Some(axis) = self.layout().outermost() else { return Ok(()) };
        write_pieces(block.view(), axis, |bytes, at| self.file_mut()?.write_at_end(bytes, end + at as u64))
    }

    fn resize_rows(&mut self, n: usize) -> Result<()> {
        self.check_can_grow()?;
        let old = self.layout().clone();
        let new = old.with_rows(n)?;
        let end = new.span(self.offset(), Alignment::InPlace)?.end();
        let old_end = self.check_file()?;
        let header = self.header_of(&new)?;
        self.check_nothing_follows(old_end)?;
        if n == old.rows() {
            return Ok(());
        }
        let before = Before { header: self.header().clone(), layout: old };
        if n > before.layout.rows() {
            self.mark_growth(&before.header, end)?;
            let grown = self.grow_to(new).and_then(|()| self.rewrite_header(&header));
            return grown.map_err(|e| self.undo(before, header, e));
        }
        // The header shrinks before the rows that it counts go, and the mapping before the bytes that it shows.
        self.mark_growth(&header, old_end)?;
        let shrunk =
            self.rewrite_header(&header).and_then(|()| self.relayout(new)).and_then(|()| self.truncate(end, old_end));
        shrunk.map_err(|e| self.undo(before, header, e))?;
        self.file_mut()?.unmark_growth();
        Ok(())
    }

    fn truncate(&mut self, end: u64, old_end: u64) -> Result<()> {
        if self.file_mut()?.truncate(end, old_end)? {
            return Ok(());
        }
        let len = self.file_mut()?.current_len()?;
        Err(error!(
            InvalidInput,
            "the array ended at byte {old_end}, but now the file at {len}: somebody else has changed its length"
        ))
    }

    /// The `.npy` header for the new shape. Built before anything is changed, for the header may have no room for it.
    fn header_of(&mut self, new: &Layout<D>) -> Result<Option<EncodedHeader>> {
        let axis = new.outermost().map_or(0, |axis| axis.index());
        self.header().as_ref().map(|header| header.with_rows(axis, new.rows())).transpose()
    }

    /// Shows readers of a `.npy` file the new shape: the last step of growing, by one system call. Writes only the bytes that
    /// differ: mostly one digit, which no reader can see half of.
    fn rewrite_header(&mut self, new: &Option<EncodedHeader>) -> Result<()> {
        let Some((new, old)) = new.as_ref().zip(self.header().clone()) else { return Ok(()) };
        self.patch_header(new, old.bytes())?;
        *self.header() = Some(new.clone());
        Ok(())
    }

    fn patch_header(&mut self, header: &EncodedHeader, in_file: &[u8]) -> Result<()> {
        let new = header.changes_to(in_file);
        let offset = header.offset() + new.start as u64;
        // The length need not change with it, nor need the header lie in a page of the array.
        self.file_mut()?.note_unsynced();
        self.write_at(&header.bytes()[new], offset)
    }

    /// Adds zero rows at the end, which has been checked. The file grows first, for that can fail, then the mapping.
    fn grow_to(&mut self, new: Layout<D>) -> Result<()> {
        let end = new.span(self.offset(), Alignment::InPlace)?.end();
        let file = self.file_mut()?;
        file.reserve(end);
        file.grow(end)?;
        self.relayout(new)
    }

    /// Undoes what was done before a failure. The file may have the `new` header by then.
    ///
    /// A file that was made shorter stays so: what was cut off is gone, and zeros in its place would be a lie. If not everything
    /// could be undone, the array is poisoned, and the mark stays for the next process that opens the file.
    fn undo(&mut self, before: Before<D>, new: Option<EncodedHeader>, failure: Error) -> Error {
        let undone = matches!(self.undo_steps(before, new), Ok(true));
        if !undone {
            self.storage().poison();
        }
        if let Ok(file) = self.file_mut() {
            if undone { file.unmark_growth() } else { file.keep_growth_mark() }
        }
        failure
    }

    /// Whether all is as it was.
    fn undo_steps(&mut self, before: Before<D>, new: Option<EncodedHeader>) -> Result<bool> {
        let Before { layout, header } = before;
        let old_end = layout.span(self.offset(), Alignment::InPlace)?.end();
        if self.file_mut()?.refresh_len()? < old_end {
            return Ok(false);
        }
        if self.layout().axes() != layout.axes() {
            self.relayout(layout)?;
        }
        if let Some((old, new)) = header.zip(new) {
            // A part may be what the failed write has made of it; any other difference is somebody else's.
            let in_file = self.header_in_file(&old)?;
            if !old.could_become(&in_file, &new) {
                return Ok(false);
            }
            self.patch_header(&old, &in_file)?;
            *self.header() = Some(old);
        }
        // What others have added to a file that did not grow is theirs, and does not harm the array.
        self.file_mut()?.undo_growth(old_end)
    }

    /// Checks that the file is still what this array knows: at least as long, with the same header. Returns where the array
    /// ends, in bytes from the start of the file.
    fn check_file(&mut self) -> Result<u64> {
        self.check_poison()?;
        let end = self.layout().span(self.offset(), Alignment::InPlace)?.end();
        let len = self.file_mut()?.refresh_len()?;
        if len < end {
            self.storage().poison();
            return Err(Error::truncated(len, end));
        }
        if let Some(header) = self.header().clone()
            && self.header_in_file(&header)? != header.bytes()
        {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the file's header is not the one that this array last read or wrote: somebody else has changed it, so \
                 open the file again",
            ));
        }
        Ok(end)
    }

    /// Checks that the file ends with the array. What a killed append left behind is removed.
    fn check_nothing_follows(&mut self, end: u64) -> Result<()> {
        let len = self.file_mut()?.len();
        let left_behind = len > end && self.is_left_behind(end, len)?;
        if len == end || left_behind && self.file_mut()?.remove_interrupted_growth(end, len)? {
            return Ok(());
        }
        Err(error!(
            InvalidInput,
            "the array ends at byte {end}, but the file at {len}: what follows would be overwritten or cut off \
                 (`std::fs::File::set_len` removes it)"
        ))
    }

    /// Marks the file before it has bytes up to `reach` that `header`, which is in it meanwhile, does not count.
    fn mark_growth(&mut self, header: &Option<EncodedHeader>, reach: u64) -> Result<()> {
        if let Some(header) = header.as_ref().filter(|header| header.offset() == 0) {
            self.file_mut()?.mark_growth(header.bytes(), reach);
        }
        Ok(())
    }

    /// The bytes that are now in the header's place.
    fn header_in_file(&mut self, header: &EncodedHeader) -> Result<Vec<u8>> {
        let mut in_file = vec![0; header.bytes().len()];
        let got = self.file_mut()?.read_at(&mut in_file, header.offset())?;
        in_file.truncate(got);
        Ok(in_file)
    }

    /// Whether the bytes behind the array are what a killed append had stored, so that nobody misses them.
    fn is_left_behind(&mut self, end: u64, len: u64) -> Result<bool> {
        // Only a file that is nothing but the `.npy` file of this array has a mark.
        let Some(header) = self.header().clone().filter(|header| header.offset() == 0) else { return Ok(false) };
        if self.file_mut()?.interrupted_growth(header.bytes())?.is_none_or(|reach| len > reach) {
            return Ok(false);
        }
        // `np.save` to an open file writes one array behind another.
        let mut magic = [0; MAGIC.len()];
        self.file_mut()?.read_at(&mut magic, end)?;
        Ok(&magic != MAGIC)
    }

    fn check_rows(&self, start: usize, block: &ArrayRef<A, D>) -> Result<()> {
        self.check_poison()?;
        let rows = self.layout().rows_of_block(block.shape())?;
        let end = start
            .checked_add(rows)
            .ok_or_else(|| error!(InvalidInput, "{rows} rows from row {start} on cannot be counted"))?;
        self.layout().row_bytes(start..end).map(drop)
    }

    /// Stores rows that the array has.
    fn store_rows(&mut self, start: usize, block: &ArrayRef<A, D>) -> Result<()> {
        let Some(axis) = self.layout().outermost() else { return Ok(()) };
        let rows = block.len_of(axis);
        let bytes = self.layout().row_bytes(start..start + rows)?;
        let offset = self.offset() + bytes.start as u64;
        if self.file_mut()?.writes_at() {
            return write_pieces(block.view(), axis, |bytes, at| {
                if at > 0 {
                    // Writing would make a file that was truncated meanwhile longer again, with nothing in the gap.
                    self.storage().check_file()?;
                }
                self.write_at(bytes, offset + at as u64)
            });
        }
        // A sparse file may have no space for them yet.
        self.guarded_mut(|mut view| view.slice_axis_mut(axis, Slice::from(start..start + rows)).assign(block))
    }
}

/// The system copies what lies in one page of a file in one step. (4096 is the smallest page size that there is.)
fn in_one_page(start: u64, end: u64) -> bool {
    const PAGE: u64 = 4096;
    start / PAGE == end.saturating_sub(1) / PAGE
}
