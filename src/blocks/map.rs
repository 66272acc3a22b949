//! Elementwise from files into a file, in bounded memory.

use std::ops::Range;
use std::sync::Mutex;

use bytemuck::{AnyBitPattern, NoUninit};
use ndarray::{ArrayView, ArrayViewMut, Axis, Dimension, Slice, Zip};

use super::Blocks;
use super::iter::split_evenly;
use super::partition::BlockSize;
use super::scan::{Intent, Scan, ScanOptions};
use crate::arch::nontemporal::{self, with_nontemporal_stores};
use crate::array::MmapArrayBase;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::Layout;
use crate::mode::Persistent;
use crate::parallel::OnProgress;
use crate::parallel::{CancelFlag, lock, run_on_pool};
use crate::storage::Pages;

/// What is computed before it is written: as much as a core's own cache holds.
const IN_ORDER: usize = 256 * 1024;

/// The same where the source has the other order: the larger, the less often a page of it is visited.
const ACROSS: usize = 4 << 20;

/// How much of a source in the other order is visited before its pages are let go of.
const SLAB: usize = 16 << 20;

impl<'a, A: Copy + Sync, D: Dimension> Blocks<'a, A, D> {
    /// Stores `f` of each element in `out`, an array of the same shape in a file. The element and the order may differ.
    ///
    /// (With another order, the elements are read in blocks of those of `out`; where both arrays are larger than memory,
    /// [`assign_tiled_with`](MmapArrayBase::assign_tiled_with) reads each of their pages less often.)
    ///
    /// Memory stays bounded, as for every walk: results are written to the file block by block, and never pile up.
    /// [`bytes`](Self::bytes) and [`rows`](Self::rows) are then those of `out`. By default what is written stays in the
    /// system's cache if all of it fits, and is brought to the disk by [`flush`](MmapArrayBase::flush); with
    /// [`keep_cached(false)`](Self::keep_cached) it is on its way there at once, and leaves the cache, so that a `flush`
    /// at the end has next to nothing left to do.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`], before anything is written. If the disk fails or is full, or the file of `out` is
    /// cut, or there is no memory for a block: [`ErrorKind::Io`], [`ErrorKind::Fault`] or [`ErrorKind::Truncated`]; then,
    /// as after a panic in `f`, some of `out` is written. [`ErrorKind::Poisoned`] after an earlier failure of `out`. A failure of a source is one of this
    /// call under [`guarded`](MmapArrayBase::guarded): `a.guarded(|_| a.blocks().map_into(&mut out, f))`.
    ///
    /// ```
    /// use ndarray::ShapeBuilder;
    /// use ndarray_mmap::MmapArrayMut;
    ///
    /// let mut a = MmapArrayMut::<i16>::scratch((200, 30))?;
    /// a.fill(-3);
    /// let mut out = MmapArrayMut::<f32>::scratch((200, 30).f())?;
    /// a.blocks().map_into(&mut out, |x| f32::from(x) / 2.0)?;
    /// assert!(out.iter().all(|&x| x == -1.5));
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn map_into<C, E, M>(self, out: &mut MmapArrayBase<C, E, M>, f: impl Fn(A) -> C + Sync) -> Result<()>
    where
        C: AnyBitPattern + NoUninit + Send + Sync,
        E: Dimension,
        M: Persistent,
    {
        let a = Source::new(self.elements, self.layout, self.pages, out)?;
        let how = Elementwise { size: self.size, threads: self.threads(), habits: self.habits, sources: vec![a.lies] };
        how.write(
            out,
            |range, to| to.iter_mut().zip(&a.elements[range]).for_each(|(to, &x)| *to = f(x)),
            |origin, to| {
                let x = a.part(origin, to.raw_dim());
                Zip::from(to).and(x).for_each(|to, &x| *to = f(x));
            },
        )
    }

    /// Stores `f` of each element and its counterpart in `b` in `out`: [`map_into`](Self::map_into) for two sources, of
    /// the same shape, whatever their orders.
    ///
    /// # Errors
    /// Those of [`map_into`](Self::map_into).
    ///
    /// ```
    /// use ndarray_mmap::MmapArrayMut;
    ///
    /// let mut a = MmapArrayMut::<f64>::scratch(1000)?;
    /// let mut b = MmapArrayMut::<f64>::scratch(1000)?;
    /// a.fill(20.0);
    /// b.fill(2.0);
    /// let mut out = MmapArrayMut::<f64>::scratch(1000)?;
    /// a.blocks().zip_map_into(&b, &mut out, |x, y| x * 2.0 + y)?;
    /// assert_eq!(out.sum(), 42_000.0);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn zip_map_into<B, D2, N, C, E, M>(
        self,
        b: &MmapArrayBase<B, D2, N>,
        out: &mut MmapArrayBase<C, E, M>,
        f: impl Fn(A, B) -> C + Sync,
    ) -> Result<()>
    where
        B: Copy + Sync,
        D2: Dimension,
        C: AnyBitPattern + NoUninit + Send + Sync,
        E: Dimension,
        M: Persistent,
    {
        let a = Source::new(self.elements, self.layout, self.pages, out)?;
        let second = b.blocks();
        let b = Source::new(second.elements, second.layout, second.pages, out)?;
        let how = Elementwise {
            size: self.size,
            threads: self.threads(),
            habits: self.habits,
            sources: vec![a.lies, b.lies],
        };
        how.write(
            out,
            |range, to| {
                let pairs = a.elements[range.clone()].iter().zip(&b.elements[range]);
                to.iter_mut().zip(pairs).for_each(|(to, (&x, &y))| *to = f(x, y));
            },
            |origin, to| {
                let (x, y) = (a.part(origin, to.raw_dim()), b.part(origin, to.raw_dim()));
                Zip::from(to).and(x).and(y).for_each(|to, &x, &y| *to = f(x, y));
            },
        )
    }
}

/// An array to be read, in the dimension of the one to be written.
struct Source<'s, A, E> {
    elements: &'s [A],
    view: ArrayView<'s, A, E>,
    lies: SourceLayout<'s>,
}

/// How a source lies in memory, whatever its element is.
#[derive(Clone, Copy)]
struct SourceLayout<'s> {
    pages: Pages<'s>,
    /// In bytes, an element.
    item: usize,
    /// In bytes, a step of its outermost axis.
    row: usize,
    /// In another order than the array to be written.
    other_order: bool,
}

impl<'s, A, E: Dimension> Source<'s, A, E> {
    fn new<D: Dimension, C, M>(
        elements: &'s [A],
        layout: &'s Layout<D>,
        pages: Pages<'s>,
        out: &MmapArrayBase<C, E, M>,
    ) -> Result<Self> {
        let mismatch = || {
            let message = format!("a source of shape {:?} does not fit shape {:?}", layout.axes(), out.layout().axes());
            out.named(Error::new(ErrorKind::ShapeMismatch, message))
        };
        if layout.axes() != out.layout().axes() {
            return Err(mismatch());
        }
        let view = ArrayView::from_shape(layout.to_shape(), elements).map_err(|_| mismatch())?;
        let view = view.into_dimensionality().map_err(|_| mismatch())?;
        let item = layout.item().size();
        let row = layout.bytes() / layout.rows().max(1);
        // With one long axis both orders are the same layout.
        let other_order =
            layout.order() != out.layout().order() && layout.axes().iter().filter(|&&n| n > 1).count() > 1;
        Ok(Self { elements, view, lies: SourceLayout { pages, item, row, other_order } })
    }

    fn part(&self, origin: &E, dim: E) -> ArrayView<'s, A, E> {
        let mut part = self.view.clone();
        part.slice_each_axis_inplace(|axis| {
            let axis = axis.axis.index();
            Slice::from(origin[axis]..origin[axis] + dim[axis])
        });
        part
    }
}

/// How results reach the array.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WriteStrategy {
    /// Where its pages are not in memory, and need not be brought there to be overwritten.
    PwriteCopy,
    /// Where there is more than a cache holds.
    PastCache,
    InPlace,
}

/// A walk over an array to be written, and those it is computed from.
struct Elementwise<'a> {
    size: Option<BlockSize>,
    threads: usize,
    habits: ScanOptions<'a>,
    sources: Vec<SourceLayout<'a>>,
}

impl Elementwise<'_> {
    /// Fills `out` block by block: by `in_order`, which is told the elements' places in memory, where all sources have
    /// its order; else by `other_order`, which is told the index of the first.
    fn write<C, E, M>(
        self,
        out: &mut MmapArrayBase<C, E, M>,
        in_order: impl Fn(Range<usize>, &mut [C]) + Sync,
        other_order: impl Fn(&E, &mut ArrayViewMut<'_, C, E>) + Sync,
    ) -> Result<()>
    where
        C: AnyBitPattern + NoUninit + Send + Sync,
        E: Dimension,
        M: Persistent,
    {
        let Elementwise { size, threads, habits, sources } = self;
        let (view, layout, pages) = out.view_mut_and_pages();
        let is_across = sources.iter().any(|s| s.other_order);
        let size = size.unwrap_or(BlockSize::Bytes(if is_across { ACROSS } else { IN_ORDER }));
        let partition = layout.partition(size);
        let all = sources.iter().fold(pages.len(), |sum, s| sum.saturating_add(s.pages.len()));
        let (evict, keep_cached) = habits.decide(all);
        let mut readings = Vec::new();
        for s in sources.iter().filter(|s| !s.other_order) {
            readings.push((Scan::decided(s.pages, evict, keep_cached, None, Intent::Read), s.item));
        }
        // What was done is told in bytes of the array that is walked, whatever is written for them.
        let total = sources.first().map_or(0, |s| s.pages.len() as u64);
        let progress = habits.progress.map(|mut tell| -> OnProgress<'_> {
            Box::new(move |done, of| tell((u128::from(done) * u128::from(total) / u128::from(of)) as u64, total))
        });
        let writing = Scan::decided(pages, evict, keep_cached, progress, Intent::Overwrite);
        let how = if pages.can_be_written_by_calls() && !pages.look_present() {
            WriteStrategy::PwriteCopy
        } else if pages.len() >= nontemporal::WORTH_IT {
            WriteStrategy::PastCache
        } else {
            WriteStrategy::InPlace
        };
        let failed = Mutex::new(None);
        let stop = CancelFlag::default();
        let split_evenly =
            split_evenly(view.into_slice_memory_order().unwrap_or_default(), &partition, &writing, threads);
        let split_evenly = Mutex::new(split_evenly);

        let fill = |block: usize, to: &mut [C]| {
            if !is_across {
                return in_order(partition.elements(block), to);
            }
            let Ok(mut to) = ArrayViewMut::from_shape(partition.shape(block), to) else {
                unreachable!("a block has as many elements as its shape");
            };
            let axis = layout.order().other().axis(0, to.ndim());
            let row = sources.iter().filter(|s| s.other_order).map(|s| s.row).max().unwrap_or(1);
            let step = (SLAB / row).max(1);
            let mut origin = partition.origin(block);
            for mut slab in to.axis_chunks_iter_mut(Axis(axis), step) {
                other_order(&origin, &mut slab);
                let rows = origin[axis]..origin[axis] + slab.len_of(Axis(axis));
                for source in sources.iter().filter(|s| s.other_order && evict) {
                    // A hint: it is the source's affair if it cannot be written back.
                    let _ = source.pages.evict(rows.start * source.row..rows.end * source.row);
                }
                origin[axis] = rows.end;
            }
        };
        let work = || {
            let Some(mut mine) = lock(&split_evenly).pop() else { return };
            let end = mine.end();
            let mut buffer = Vec::new();
            while !stop.is_set()
                && let Some((block, mut to)) = mine.next_numbered()
            {
                let at = partition.elements(block);
                readings.iter().for_each(|(walk, item)| walk.enter(at.start * item..at.end * item, end * item));
                let to = to.as_slice_memory_order_mut().unwrap_or_default();
                let written = if how == WriteStrategy::InPlace {
                    fill(block, to);
                    Ok(())
                } else if buffer.try_reserve_exact(at.len().saturating_sub(buffer.len())).is_err() {
                    Err(Error::io("cannot allocate memory for a block", std::io::ErrorKind::OutOfMemory.into()))
                } else {
                    buffer.resize(at.len(), C::zeroed());
                    fill(block, &mut buffer);
                    if how == WriteStrategy::PwriteCopy {
                        // Writing would make a file that was truncated longer again, with nothing in the gap.
                        pages.check_file().and_then(|()| pages.write_over(to, &buffer))
                    } else {
                        with_nontemporal_stores(|stores| stores.copy_from_slice(to, &buffer));
                        Ok(())
                    }
                };
                readings.iter().for_each(|(walk, item)| walk.leave(at.start * item..at.end * item));
                if let Err(e) = written {
                    lock(&failed).get_or_insert(e);
                    stop.set();
                }
            }
        };
        let written = pages.guarded(|| {
            pages.check_file()?;
            run_on_pool(threads, || stop.on_panic(work));
            lock(&failed).take().map_or(Ok(()), Err)
        });
        drop(split_evenly);
        written.flatten().and_then(|()| writing.end()).map_err(|e| out.named(e))
    }
}
