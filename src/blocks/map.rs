//! Elementwise results from one or two files into another, in bounded memory.

use bytemuck::{AnyBitPattern, NoUninit};
use ndarray::{ArrayView, ArrayViewMut, Axis, Dimension, Slice, Zip};

use super::iter::{BlockElements, BlocksIter};
use super::partition::BlockSize;
use super::scan::{Intent, Scan};
use super::{Blocks, DEFAULT_BYTES};
use crate::arch::dispatch::{Kernel, dispatch};
use crate::array::MmapArrayBase;
use crate::error::{Error, ErrorKind, Result};
use crate::mode::Persistent;
use crate::parallel::OnProgress;
use crate::storage::Storage;

/// The default size in bytes of a block that is computed in a buffer and then written: both fit in a core's own cache. Others
/// are larger: if a source has the other order, the larger a block, the less often it visits each page of that source; and
/// threads that store in place must be far enough apart not to wait for the same unit of the page cache (up to 2 MiB).
const BLOCK: usize = 256 * 1024;

/// How much of a source in the other order is visited before its pages are evicted, in bytes: this bounds the memory
/// that it takes.
const OTHER_ORDER_SLAB: usize = 16 << 20;

impl<A: Copy + Sync, D: Dimension> Blocks<'_, A, D> {
    /// Stores `f` of each element in `out`, an array of the same shape in a file. The element type and the order may
    /// differ.
    ///
    /// If the orders differ, the source is read block by block in the order of `out`. Then
    /// [`assign_tiled_with`](MmapArrayBase::assign_tiled_with) is faster if `out` is in memory, and reads each page less
    /// often if the arrays are larger than memory.
    ///
    /// Memory stays bounded, as in every pass: results are written to the file block by block, and never pile up.
    /// [`bytes`](Self::bytes) and [`rows`](Self::rows) then count in `out`. By default the results stay in the page
    /// cache if all arrays fit, and [`flush`](MmapArrayBase::flush) brings them to the disk. With
    /// [`keep_cached(false)`](Self::keep_cached) each block is written back at once and leaves the cache, so that a
    /// `flush` at the end has next to nothing left to do.
    ///
    /// # Errors
    /// [`ErrorKind::ShapeMismatch`], before anything is written. If the disk fails or is full, or the file of `out` is
    /// truncated, or there is no memory for a block: [`ErrorKind::Io`], [`ErrorKind::Fault`] or
    /// [`ErrorKind::Truncated`]. Then, as after a panic in `f`, some of `out` is written. [`ErrorKind::Poisoned`] after
    /// an earlier failure of `out`. A failure of a source becomes an error of this call under
    /// [`guarded`](MmapArrayBase::guarded): `a.guarded(|_| a.blocks().map_into(&mut out, f))`.
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
        let a = Operand::new(&self, out)?;
        self.write_into(out, &[a.source], |place, mut to| match place.start.zip(to.as_slice_memory_order_mut()) {
            Some((start, to)) => dispatch(Map { from: &a.elements[start..][..to.len()], to, f: &f }),
            None => {
                let x = a.part(&place.origin, to.raw_dim());
                Zip::from(to).and(x).for_each(|to, &x| *to = f(x));
            }
        })
    }

    /// Stores `f` of each element and its counterpart in `b` in `out`: [`map_into`](Self::map_into) for two sources of
    /// the same shape, in any orders.
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
        let (a, b) = (Operand::new(&self, out)?, Operand::new(&b.blocks(), out)?);
        self.write_into(out, &[a.source, b.source], |place, mut to| {
            match place.start.zip(to.as_slice_memory_order_mut()) {
                Some((start, to)) => {
                    let from = (&a.elements[start..][..to.len()], &b.elements[start..][..to.len()]);
                    dispatch(ZipMap { from, to, f: &f });
                }
                None => {
                    let (x, y) = (a.part(&place.origin, to.raw_dim()), b.part(&place.origin, to.raw_dim()));
                    Zip::from(to).and(x).and(y).for_each(|to, &x, &y| *to = f(x, y));
                }
            }
        })
    }

    /// Fills `out` block by block by `f`, which is passed where the elements to fill are in the array.
    fn write_into<'s, C, E, M>(
        self,
        out: &mut MmapArrayBase<C, E, M>,
        sources: &[Source<'s>],
        f: impl Fn(&Place<E>, ArrayViewMut<'_, C, E>) + Sync,
    ) -> Result<()>
    where
        C: AnyBitPattern + NoUninit + Send + Sync,
        E: Dimension,
        M: Persistent,
    {
        let threads = self.threads();
        let (view, layout, storage) = out.view_mut_and_storage();
        let (other_order, same_order): (Vec<_>, Vec<_>) =
            sources.iter().copied().partition(|source| source.other_order);
        // Pages that are not in memory need not be read to be overwritten.
        let by_system_calls = storage.can_write_at() && !storage.seems_present();
        let default = if other_order.is_empty() && by_system_calls { BLOCK } else { DEFAULT_BYTES };
        let partition = layout.partition(self.size.unwrap_or(BlockSize::Bytes(default)));
        let bytes = sources.iter().fold(storage.len(), |sum, source| sum.saturating_add(source.storage.len()));
        let (evict, keep_cached) = self.options.decide(bytes);
        let read = |s: &Source<'s>| (Scan::decided(s.storage, (evict, keep_cached), None, Intent::Read), s.item);
        let reads: Vec<_> = same_order.iter().map(read).collect();
        // The caller configured a pass over the first source: progress is reported in its bytes.
        let total = sources.first().map_or(0, |source| source.storage.len() as u64);
        let progress = self.options.progress.map(|mut report| -> OnProgress<'_> {
            Box::new(move |done, of| report((u128::from(done) * u128::from(total) / u128::from(of)) as u64, total))
        });

        let fill = |block: usize, to: &mut [C]| {
            let mut to = to.into_view(partition.shape(block));
            let mut place = Place { origin: partition.origin(block), start: None };
            if other_order.is_empty() {
                place.start = Some(partition.elements(block).start);
                return f(&place, to);
            }
            // In slabs of few rows of those sources, so that they can be evicted.
            let axis = layout.order().other().axis(0, to.ndim());
            let row = other_order.iter().map(|source| source.row).max().unwrap_or(1);
            for slab in to.axis_chunks_iter_mut(Axis(axis), (OTHER_ORDER_SLAB / row).max(1)) {
                let rows = place.origin[axis]..place.origin[axis] + slab.len_of(Axis(axis));
                f(&place, slab);
                for source in other_order.iter().filter(|_| evict) {
                    // A hint. A source that cannot be written back reports that itself.
                    let _ = source.storage.evict(rows.start * source.row..rows.end * source.row);
                }
                place.origin[axis] = rows.end;
            }
        };
        let work = |buffer: &mut Vec<C>, block, to: &mut [C]| {
            let at = partition.elements(block);
            let bytes_of = |item: usize| at.start * item..at.end * item;
            reads.iter().for_each(|(scan, item)| scan.enter(bytes_of(*item), scan.len()));
            if by_system_calls {
                let more = at.len().saturating_sub(buffer.len());
                let no_memory =
                    |_| Error::io("cannot allocate memory for a block", std::io::ErrorKind::OutOfMemory.into());
                buffer.try_reserve_exact(more).map_err(no_memory)?;
                buffer.resize(at.len(), C::zeroed());
                fill(block, buffer);
                // A write to a file that was truncated would extend it again, with zeros in the gap.
                storage.check_file()?;
                storage.write_over(to, buffer)?;
            } else {
                fill(block, to);
            }
            reads.iter().for_each(|(scan, item)| scan.leave(bytes_of(*item)));
            Ok(())
        };
        let elements = view.into_slice_memory_order().unwrap_or_default();
        let scan = Scan::decided(storage, (evict, keep_cached), progress, Intent::Overwrite);
        let blocks = BlocksIter::new(elements, partition.clone(), scan);
        let written = storage.guarded(|| {
            storage.check_file()?;
            blocks.run(threads, Vec::new, work)
        });
        written.flatten().map(drop).map_err(|e| out.named(e))
    }
}

/// Where elements are in an array.
struct Place<E> {
    /// The index of the first.
    origin: E,
    /// Its number in memory order, if all arrays have the same order, so that the others follow it.
    start: Option<usize>,
}

/// Compiled for the widest vectors, as far as `f` is inlined.
struct Map<'s, 't, A, C, F> {
    from: &'s [A],
    to: &'t mut [C],
    f: F,
}

impl<A: Copy, C, F: Fn(A) -> C> Kernel for Map<'_, '_, A, C, F> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.to.iter_mut().zip(self.from).for_each(|(to, &x)| *to = (self.f)(x));
    }
}

/// The same of two arrays.
struct ZipMap<'s, 't, A, B, C, F> {
    from: (&'s [A], &'s [B]),
    to: &'t mut [C],
    f: F,
}

impl<A: Copy, B: Copy, C, F: Fn(A, B) -> C> Kernel for ZipMap<'_, '_, A, B, C, F> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (a, b) = self.from;
        self.to.iter_mut().zip(a).zip(b).for_each(|((to, &x), &y)| *to = (self.f)(x, y));
    }
}

/// An array to be read, in the dimension type of the one to be written.
struct Operand<'s, A, E> {
    /// In memory order.
    elements: &'s [A],
    view: ArrayView<'s, A, E>,
    source: Source<'s>,
}

/// What the pass must know of an array to be read, whatever its element type.
#[derive(Clone, Copy)]
struct Source<'s> {
    storage: &'s Storage,
    /// Of an element, in bytes.
    item: usize,
    /// Of one step of the outermost axis in memory, in bytes.
    row: usize,
    /// Whether its order is not that of the array to be written.
    other_order: bool,
}

impl<'s, A, E: Dimension> Operand<'s, A, E> {
    fn new<D: Dimension, C, M>(from: &Blocks<'s, A, D>, out: &MmapArrayBase<C, E, M>) -> Result<Self> {
        let (layout, to) = (from.layout, out.layout());
        let mismatch = || {
            let message = format!("a source of shape {:?} does not fit shape {:?}", layout.axes(), to.axes());
            out.named(Error::new(ErrorKind::ShapeMismatch, message))
        };
        if layout.axes() != to.axes() {
            return Err(mismatch());
        }
        let view = ArrayView::from_shape(layout.to_shape(), from.elements).map_err(|_| mismatch())?;
        let view = view.into_dimensionality().map_err(|_| mismatch())?;
        let row = layout.bytes() / layout.rows().max(1);
        // With one long axis both orders are the same layout.
        let other_order = layout.order() != to.order() && layout.axes().iter().filter(|&&n| n > 1).count() > 1;
        Ok(Self {
            elements: from.elements,
            view,
            source: Source { storage: from.storage, item: layout.item().size(), row, other_order },
        })
    }

    /// The elements from the index `origin` on, of shape `dim`.
    fn part(&self, origin: &E, dim: E) -> ArrayView<'s, A, E> {
        let mut part = self.view.clone();
        part.slice_each_axis_inplace(|axis| {
            let axis = axis.axis.index();
            Slice::from(origin[axis]..origin[axis] + dim[axis])
        });
        part
    }
}
