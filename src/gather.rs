//! Scattered rows, columns or elements, gathered into an array: what is in memory is copied, the rest read from the file.

mod copy;
mod read;

use std::ops::Range;
use std::time::{Duration, Instant};

use bytemuck::AnyBitPattern;
use ndarray::{Array, Axis, Dimension};

use crate::arch::dispatch::{Kernel, dispatch};
use crate::array::MmapArrayBase;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::Order;
use crate::storage::Storage;
use crate::sys::memory::vec_with_room;

/// Bytes that are copied before the clock is looked at, at most: they stay in a core's own cache.
const PIECE: usize = 64 * 1024;

/// Runs that are copied before the clock is looked at, at most.
const MOST_RUNS: usize = 1024;

/// The first piece is one run, and each later one so many times as long as all before it: few page faults happen before one
/// is noticed.
const GROWTH: usize = 3;

/// A piece that takes longer had to wait for the disk, or for new memory.
const SLOW: Duration = Duration::from_micros(200);

/// The number of pages to ask about then.
const SLOW_SAMPLES: usize = 8;

impl<A: AnyBitPattern + Send + Sync, D: Dimension, M> MmapArrayBase<A, D, M> {
    /// A new array of the elements at some indices of an axis, in the order of the indices, which may repeat: NumPy's
    /// `a[indices]`, `a[:, indices]` and so on, or `np.take`.
    ///
    /// What is in memory is copied, on the calling thread. If the array is not in memory, only the pages that are needed are
    /// read: in the order of the file, and many at a time, on threads that wait for the disk; that is several times faster
    /// than one after the other. A sample of the pages decides, and the clock: when copying takes as long as waiting for the
    /// disk, the rest is asked about again. (A file that the system tells nothing about, because it is another user's and
    /// read-only, is read.) One column of a C-order matrix is `gather(Axis(1), &[j])`.
    ///
    /// The result has the order of the array. Beside it, only what is read takes memory: 24 bytes for each run of consecutive
    /// elements, of about 65,000 runs at a time or all that one pass over the indices needs.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`] for an axis or an index that the array does not have; the message names it.
    /// - [`ErrorKind::Overflow`], [`ErrorKind::Io`] (out of memory) if the result is too large.
    /// - [`ErrorKind::Io`] if the disk fails, [`ErrorKind::Truncated`] if the file was truncated. (Only what is read
    ///   from the file reports this. What is in memory is accessed like any other element: see
    ///   [`guarded`](Self::guarded).)
    /// - [`ErrorKind::Poisoned`] after an earlier failure.
    ///
    /// ```
    /// use ndarray::{Axis, array};
    /// use ndarray_mmap::{ErrorKind, MmapArrayMut};
    ///
    /// let mut a = MmapArrayMut::<u8>::scratch((4, 3))?;
    /// a.assign(&array![[0, 1, 2], [10, 11, 12], [20, 21, 22], [30, 31, 32]]);
    /// assert_eq!(a.gather(Axis(0), &[3, 0, 3])?, array![[30, 31, 32], [0, 1, 2], [30, 31, 32]]);
    /// assert_eq!(a.gather(Axis(1), &[1])?, array![[1], [11], [21], [31]]);
    ///
    /// let e = a.gather(Axis(0), &[0, 4]).unwrap_err();
    /// assert_eq!(e.kind(), ErrorKind::InvalidInput);
    /// assert_eq!(e.to_string(), "index 4 is out of range for axis 0, which has length 4");
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn gather(&self, axis: Axis, indices: &[usize]) -> Result<Array<A, D>> {
        self.gathered(axis, indices).map_err(|e| self.named(e))
    }

    fn gathered(&self, axis: Axis, indices: &[usize]) -> Result<Array<A, D>> {
        self.check_poison()?;
        self.check_indices(axis, indices)?;
        let layout = self.layout().with_axis(axis, indices.len())?;
        let count = layout.bytes() / size_of::<A>();
        let out_of_memory = |_| Error::io("cannot allocate memory", std::io::ErrorKind::OutOfMemory.into());
        let mut elements = vec_with_room(count).map_err(out_of_memory)?;
        if count > 0 {
            let gather = Gather::new(self.layout().axes(), self.layout().order(), axis, indices);
            gather.fill(self.view().to_slice_memory_order().unwrap_or_default(), self.storage(), &mut elements)?;
        }
        Array::from_shape_vec(layout.to_shape(), elements).map_err(|e| Error::new(ErrorKind::Overflow, e.to_string()))
    }

    fn check_indices(&self, axis: Axis, indices: &[usize]) -> Result<()> {
        let (axis, axes) = (axis.index(), self.layout().axes());
        let Some(&len) = axes.get(axis) else {
            let message = format!("axis {axis} is out of range for an array of {} dimensions", axes.len());
            return Err(Error::new(ErrorKind::InvalidInput, message));
        };
        let out_of_range = |&&index: &&usize| index >= len;
        if dispatch(AnyOutOfRange { indices, len })
            && let Some(index) = indices.iter().find(out_of_range)
        {
            let message = format!("index {index} is out of range for axis {axis}, which has length {len}");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(())
    }
}

/// Whether any index is too large.
struct AnyOutOfRange<'a> {
    indices: &'a [usize],
    len: usize,
}

impl Kernel for AnyOutOfRange<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        // Without a branch for each index the compiler compares many at once.
        self.indices.iter().fold(false, |any, &index| any | (index >= self.len))
    }
}

/// Which elements of an array are needed: it consists of slabs of `len` runs of `run` elements each, of which those at
/// `indices`.
struct Gather<'a> {
    len: usize,
    run: usize,
    indices: &'a [usize],
}

impl<'a> Gather<'a> {
    fn new(axes: &[usize], order: Order, axis: Axis, indices: &'a [usize]) -> Self {
        let inner = match order {
            Order::C => &axes[axis.index() + 1..],
            Order::F => &axes[..axis.index()],
        };
        Self { len: axes[axis.index()], run: inner.iter().product(), indices }
    }

    /// How many runs are needed, of an array of so many elements.
    fn count(&self, elements: usize) -> usize {
        elements / (self.len * self.run) * self.indices.len()
    }

    /// Where the `n`th run starts: its first element.
    fn start(&self, n: usize) -> usize {
        let (slab, index) = (n / self.indices.len(), self.indices[n % self.indices.len()]);
        (slab * self.len + index) * self.run
    }

    /// Fills `to`, which is empty, from all elements of the array, both in memory order.
    fn fill<A: AnyBitPattern + Send>(&self, from: &[A], storage: &Storage, to: &mut Vec<A>) -> Result<()> {
        let count = self.count(from.len());
        if storage.sample_size() < Storage::SAMPLES {
            // Pages that a smaller sample misses may be gone with the end of the file.
            storage.check_file()?;
        }
        let copied = self.copy_present(from, storage, to);
        if copied < count {
            to.resize(count * self.run, A::zeroed());
            self.bring_in(from, storage, copied, &mut to[copied * self.run..])?;
        }
        Ok(())
    }

    /// Copies runs in their order, as long as they seem to be in memory. Returns how many.
    ///
    /// If the sample is wrong, a page fault reads much more than is needed, and only one at a time: the clock shows it.
    fn copy_present<A: AnyBitPattern>(&self, from: &[A], storage: &Storage, to: &mut Vec<A>) -> usize {
        let count = self.count(from.len());
        let of_file = storage.is_of_file();
        if of_file && self.look_absent::<A>(0..count, storage.sample_size(), storage) {
            return 0;
        }
        let most = (PIECE / (self.run * size_of::<A>())).clamp(1, MOST_RUNS);
        let mut done = 0;
        let mut before = of_file.then(Instant::now);
        while done < count {
            let piece = if of_file { done.saturating_mul(GROWTH).clamp(1, most) } else { most };
            done += self.copy_piece(from, done, piece, to);
            if let Some(before) = &mut before {
                let now = Instant::now();
                if now.duration_since(std::mem::replace(before, now)) > SLOW {
                    storage.note_presence(false);
                    if self.look_absent::<A>(done..count, SLOW_SAMPLES, storage) {
                        break;
                    }
                }
            }
        }
        done
    }

    /// Whether any run of a sample is not in memory, or the system does not report it.
    fn look_absent<A>(&self, runs: Range<usize>, samples: usize, storage: &Storage) -> bool {
        if runs.is_empty() || samples == 0 {
            return false;
        }
        let mut sample = runs.clone().step_by(runs.len().div_ceil(samples));
        let absent = sample.any(|run| !storage.is_present(self.start(run) * size_of::<A>()));
        let absent = absent || !storage.reports_residency();
        storage.note_presence(!absent);
        absent
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn, ShapeBuilder};
    use proptest::prelude::*;

    use super::*;
    use crate::array::MmapArrayMut;

    fn scratch(axes: &[usize], fortran: bool) -> MmapArrayMut<u16> {
        let mut a = MmapArrayMut::<u16>::scratch(IxDyn(axes).set_f(fortran)).unwrap();
        a.iter_mut().zip((0..=u16::MAX).cycle()).for_each(|(x, n)| *x = n);
        a
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_copied_and_then_read_is_what_memory_shows(
            axes in prop_oneof![prop::collection::vec(1..9_usize, 1..6), prop::collection::vec(1..600_usize, 2..3)],
            fortran in any::<bool>(), axis in any::<usize>(), indices in prop::collection::vec(any::<usize>(), 1..60),
            copied in any::<usize>(), piece in 1..2000_usize,
        ) {
            let a = scratch(&axes, fortran);
            let axis = axis % axes.len();
            let indices: Vec<_> = indices.into_iter().map(|i| i % axes[axis]).collect();
            let expected = a.select(Axis(axis), &indices);
            prop_assert_eq!(&a.gather(Axis(axis), &indices).unwrap(), &expected);

            let layout = a.layout().with_axis(Axis(axis), indices.len()).unwrap();
            let gather = Gather::new(&axes, a.layout().order(), Axis(axis), &indices);
            let (view, storage) = (a.view(), a.storage());
            let from = view.to_slice_memory_order().unwrap();
            let count = gather.count(from.len());
            let copied = copied % (count + 1);
            for through_file in [true, false] {
                let mut elements = Vec::new();
                let mut done = 0;
                while done < copied {
                    done += gather.copy_piece(from, done, piece.min(copied - done), &mut elements);
                }
                prop_assert_eq!(elements.len(), copied * gather.run);
                elements.resize(expected.len(), 0);
                let rest = &mut elements[copied * gather.run..];
                if through_file {
                    gather.bring_in(from, storage, copied, rest).unwrap();
                } else {
                    read::request_and_copy(from, storage, &mut gather.sorted_runs(copied, rest));
                }
                prop_assert_eq!(&ArrayD::from_shape_vec(layout.to_shape(), elements).unwrap(), &expected);
            }
        }
    }

    /// What is copied by mistake is slow, and then the rest is asked about: the wrong guess is not made again.
    #[test]
    fn the_sample_shrinks_while_all_is_in_memory_and_grows_back_when_something_is_not() {
        let a = scratch(&[50, 70], false);
        let storage = a.storage();
        let sizes = [16, 8, 4, 2, 1, 0, 0];
        for size in sizes {
            assert_eq!(storage.sample_size(), size);
            storage.note_presence(true);
        }
        storage.note_presence(false);
        assert_eq!(storage.sample_size(), Storage::SAMPLES);
        sizes.iter().for_each(|_| storage.note_presence(true));
        a.evict().unwrap();
        assert_eq!(storage.sample_size(), Storage::SAMPLES);
    }
}
