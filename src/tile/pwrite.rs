//! A copy that is written by system calls: to pages that are not in memory, and need not be read before they are
//! written, nor stay once they are.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytemuck::{AnyBitPattern, NoUninit};
use ndarray::{ArrayView, ArrayViewMut, Axis, IxDyn, Slice};

use super::copy::{Convert, copy_tile};
use super::tiling::Tiling;
use crate::error::Result;
use crate::parallel::Progress;
use crate::parallel::{CancelFlag, computing_threads, lock, on_waiting_threads};
use crate::storage::FileWriter;
use crate::storage::mapping::will_need;

/// Threads that wait for a disk, rather than compute.
const WAITING: usize = 8;

/// The shortest and the longest tile for arrays that do not fit in memory, in bytes.
const TILES: Range<usize> = 1 << 20..64 << 20;

#[derive(Clone, Copy, Debug)]
pub(super) struct PwriteCopy<'a> {
    writer: FileWriter<'a>,
    threads: usize,
    /// How large a tile may be, in bytes.
    tile: usize,
    /// How much is enough to read in one piece, in bytes: from then on, tiles grow to be written in one piece.
    run: usize,
    /// Whether what was written may stay in memory.
    keep_cached: bool,
}

impl<'a> PwriteCopy<'a> {
    /// For arrays that fit in memory, and of which what is read is in memory mostly.
    pub(super) fn cached(writer: FileWriter<'a>) -> Self {
        Self { writer, threads: computing_threads(), tile: 8 << 20, run: 1024, keep_cached: true }
    }

    /// For arrays that do not fit in memory, of which so much is free.
    pub(super) fn passing(writer: FileWriter<'a>, free: u64) -> Self {
        let free = usize::try_from(free).unwrap_or(usize::MAX);
        // A tile is in memory twice and once more on its way to the disk, and memory is not all ours.
        let tile = (free / (6 * WAITING)).clamp(TILES.start, TILES.end);
        Self { writer, threads: WAITING, tile, run: usize::MAX, keep_cached: false }
    }

    /// Items that a tile has, of so many bytes each, and how many are enough to read in one piece.
    pub(super) fn budget(&self, item: usize) -> (usize, usize) {
        (self.tile / item, (self.run / item).max(1))
    }

    /// Stores `from`, whose C order is the order of the file.
    pub(super) fn write<A, B, C>(
        &self,
        from: ArrayView<'_, B, IxDyn>,
        convert: &C,
        progress: &Progress<'_>,
    ) -> Result<()>
    where
        A: AnyBitPattern + NoUninit + Send + Sync,
        B: Sync,
        C: Convert<B, A>,
    {
        let item = size_of::<A>().max(size_of::<B>());
        let (budget, enough) = self.budget(item);
        let tiling = Tiling::new(from.shape(), &c_strides(from.shape()), from.strides(), budget, enough);
        let (next, stop, failed) = (AtomicUsize::new(0), CancelFlag::default(), Mutex::new(None));
        let serve = || -> Result<()> {
            let mut buffer: Vec<A> = Vec::new();
            let mut behind = None;
            while !stop.is_set() {
                let tile = next.fetch_add(1, Ordering::Relaxed);
                if tile >= tiling.len() {
                    break;
                }
                let indices = tiling.indices(tile);
                let part = from.slice_each_axis(|axis| Slice::from(indices[axis.axis.index()].clone()));
                if !self.keep_cached {
                    fetch(part.view());
                }
                buffer.resize(part.len(), A::zeroed());
                let Ok(to) = ArrayViewMut::from_shape(part.raw_dim(), &mut buffer) else {
                    unreachable!("the buffer is as long as the tile");
                };
                copy_tile(to, part, convert, false);
                let bytes = self.store(&buffer, &tiling, &indices)?;
                self.let_go(&mut behind, Some(bytes))?;
                progress.advance(size_of_val(&buffer[..]));
            }
            self.let_go(&mut behind, None)
        };
        on_waiting_threads(self.threads.min(tiling.len()), "tile", &|| {
            if let Err(e) = stop.on_panic(serve) {
                lock(&failed).get_or_insert(e);
                stop.set();
            }
        });
        lock(&failed).take().map_or(Ok(()), Err)?;
        self.writer.pages().check_file()
    }

    /// Writes a tile, and tells between which bytes of the array it lies.
    fn store<A: NoUninit>(&self, tile: &[A], tiling: &Tiling, at: &[Range<usize>]) -> Result<Range<usize>> {
        let size = size_of::<A>();
        let (run, starts) = tiling.runs(at);
        // Writing would make a file that was truncated longer again, with nothing in the gap.
        self.writer.pages().check_file()?;
        for (elements, &start) in tile.chunks_exact(run).zip(&starts) {
            self.writer.write_at(bytemuck::cast_slice(elements), start * size)?;
        }
        Ok(starts[0] * size..(starts[starts.len() - 1] + run) * size)
    }

    /// Has a tile written back, and then lets go of the one before.
    fn let_go(&self, behind: &mut Option<Range<usize>>, tile: Option<Range<usize>>) -> Result<()> {
        if self.keep_cached {
            return Ok(());
        }
        if let Some(bytes) = tile.clone() {
            self.writer.pages().start_writeback(bytes)?;
        }
        if let Some(bytes) = std::mem::replace(behind, tile) {
            self.writer.pages().drop_from_page_cache(bytes)?;
        }
        Ok(())
    }
}

/// Starts reading what is not in memory. Whoever then looks at it waits for these pieces only, where a fault would also
/// read what is around.
fn fetch<B>(mut part: ArrayView<'_, B, IxDyn>) {
    for axis in 0..part.ndim() {
        if part.strides()[axis] < 0 {
            part.invert_axis(Axis(axis));
        }
    }
    let mut outermost_first: Vec<_> = (0..part.ndim()).collect();
    outermost_first.sort_by_key(|&axis| std::cmp::Reverse(part.strides()[axis]));
    let mut part = part.permuted_axes(outermost_first);
    for axis in (1..part.ndim()).rev() {
        if part.merge_axes(Axis(axis - 1), Axis(axis)) {
            part = part.index_axis_move(Axis(axis - 1), 0);
        }
    }
    for elements in part.rows() {
        if let Some(elements) = elements.to_slice() {
            will_need(elements);
        }
    }
}

/// Strides of an array in C order.
fn c_strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis] as isize;
    }
    strides
}
