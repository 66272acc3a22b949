//! A copy that is written by system calls: its pages need not be read before they are written, nor stay in memory
//! after.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytemuck::{AnyBitPattern, NoUninit};
use ndarray::{ArrayView, ArrayViewMut, Axis, IxDyn, Slice};

use super::copy::copy_tile;
use super::tiling::Tiling;
use crate::error::Result;
use crate::parallel::{Progress, Threads, computing_threads, run_jobs};
use crate::storage::FileWriter;
use crate::storage::mapping::will_need;

/// Threads if the arrays do not fit in memory: they wait for the disk most of the time, and all of its queue should
/// have something to do (bench `tile`, "cold transpose under a memory limit").
const COPY_THREADS: usize = 8;

/// The smallest and the largest tile if the arrays do not fit in memory, in bytes. Below it the runs of a tile are too
/// short for a disk; above it they gain nothing.
const STREAMED_TILE_BYTES: Range<usize> = 1 << 20..64 << 20;

#[derive(Clone, Copy, Debug)]
pub(super) struct PwriteCopy<'a> {
    writer: FileWriter<'a>,
    threads: usize,
    /// The largest size of a tile, in bytes.
    tile: usize,
    /// The length of a run in the source from which on it need not grow, in bytes: then tiles grow along the target
    /// only.
    run: usize,
    /// Whether what is written may stay in memory.
    keep_cached: bool,
}

impl<'a> PwriteCopy<'a> {
    /// For arrays that fit in memory, the source of which is mostly there.
    pub(super) fn cached(writer: FileWriter<'a>) -> Self {
        // In memory a run of 1 KiB is as good as a longer one, while each run of the target is a system call.
        Self { writer, threads: computing_threads(), tile: 8 << 20, run: 1024, keep_cached: true }
    }

    /// For arrays that do not fit in memory, of which so much is free.
    pub(super) fn streaming(writer: FileWriter<'a>, free: u64) -> Self {
        let free = usize::try_from(free).unwrap_or(usize::MAX);
        // Each thread has a tile in the source, one in its buffer, and one under writeback. Together they take half of
        // the memory.
        let tile = (free / (6 * COPY_THREADS)).clamp(STREAMED_TILE_BYTES.start, STREAMED_TILE_BYTES.end);
        Self { writer, threads: COPY_THREADS, tile, run: usize::MAX, keep_cached: false }
    }

    /// The elements of a tile, of so many bytes each, and the length of a run in the source from which on it need not
    /// grow.
    pub(super) fn budget(&self, item: usize) -> (usize, usize) {
        (self.tile / item, (self.run / item).max(1))
    }

    /// Stores `from`, whose C order is the order of the file.
    pub(super) fn write<A, B>(
        &self,
        from: ArrayView<'_, B, IxDyn>,
        convert: &(impl Fn(&B) -> A + Sync),
        progress: &Progress<'_>,
    ) -> Result<()>
    where
        A: AnyBitPattern + NoUninit + Send + Sync,
        B: Sync,
    {
        let item = size_of::<A>().max(size_of::<B>());
        let (budget, enough) = self.budget(item);
        let tiling = Tiling::new(from.shape(), &c_strides(from.shape()), from.strides(), budget, enough);
        let threads = Threads::Own { count: self.threads.min(tiling.len()), name: "tile" };
        let next = AtomicUsize::new(0);
        let next = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&tile| tile < tiling.len());
        let work = |(buffer, written): &mut (Vec<A>, Option<Range<usize>>), tile| {
            let indices = tiling.indices(tile);
            let part = from.slice_each_axis(|axis| Slice::from(indices[axis.axis.index()].clone()));
            if !self.keep_cached {
                request(part.view());
            }
            buffer.resize(part.len(), A::zeroed());
            // Cannot fail: the buffer was just given the part's length.
            let to =
                ArrayViewMut::from_shape(part.raw_dim(), &mut buffer[..]).expect("the buffer is as long as the tile");
            copy_tile(to, part, convert, false);
            let bytes = self.store(buffer, &tiling, &indices)?;
            if !self.keep_cached {
                self.writer.storage().start_writeback(bytes.clone())?;
                self.drop_cached(written.replace(bytes))?;
            }
            progress.advance(size_of_val(&buffer[..]));
            Ok(())
        };
        for (_, written) in run_jobs(threads, Default::default, next, work)? {
            self.drop_cached(written)?;
        }
        self.writer.storage().check_file()
    }

    /// Writes a tile. Returns the range of the array's bytes that it is in.
    fn store<A: NoUninit>(&self, tile: &[A], tiling: &Tiling, at: &[Range<usize>]) -> Result<Range<usize>> {
        let size = size_of::<A>();
        let (run, starts) = tiling.runs(at);
        // A write to a file that was truncated would extend it again, with zeros in the gap.
        self.writer.storage().check_file()?;
        for (elements, &start) in tile.chunks_exact(run).zip(&starts) {
            self.writer.write_at(bytemuck::cast_slice(elements), start * size)?;
        }
        Ok(starts[0] * size..(starts[starts.len() - 1] + run) * size)
    }

    /// Waits until a tile is on the disk, and drops it from the page cache. Its successor is being written meanwhile.
    fn drop_cached(&self, tile: Option<Range<usize>>) -> Result<()> {
        tile.map_or(Ok(()), |bytes| self.writer.storage().drop_from_page_cache(bytes))
    }
}

/// Starts reading what is not in memory. The copy then waits for these runs only, whereas a page fault would also read
/// what is around them.
fn request<B>(mut part: ArrayView<'_, B, IxDyn>) {
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
