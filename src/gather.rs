//! Scattered rows, columns or elements, gathered into an array: read in the order of the file, many at a time.

use std::mem::take;
use std::ops::Range;
use std::sync::Mutex;

use bytemuck::AnyBitPattern;
use ndarray::{Array, Axis, Dimension};

use crate::array::MmapArrayBase;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::Order;
use crate::parallel::{Threads, lock, run_jobs};
use crate::storage::Storage;

/// Threads that wait for the disk: solid-state disks reach their full speed with about so many requests in their queue
/// (bench `tile`, "cold, random rows").
const READ_THREADS: usize = 32;

/// For fewer runs a thread costs more than it saves.
const MIN_RUNS_PER_THREAD: usize = 4;

/// A gap in the file, in bytes, that takes less time to read than a request of its own.
const MAX_GAP: usize = 8 * 1024;

/// Bytes read at a time: fits in a core's own cache, in which the elements are copied from it.
const BUFFER: usize = 128 * 1024;

/// Runs that are sorted together, at least: this bounds the memory that sorting takes (1.5 MiB).
const SORTED_RUNS: usize = 1 << 16;

/// Runs that make up a job.
const RUNS_PER_JOB: usize = 16;

/// Runs in memory that are requested before the first of them is copied: enough to fill the queue of a disk.
const RUNS_AHEAD: usize = 64;

/// Consecutive elements of the source that are needed: where they start, and where they go.
type Run<'a, A> = (usize, &'a mut [A]);

impl<A: AnyBitPattern + Send + Sync, D: Dimension, M> MmapArrayBase<A, D, M> {
    /// A new array of the elements at some indices of an axis, in the order of the indices, which may repeat: NumPy's
    /// `a[indices]`, `a[:, indices]` and so on, or `np.take`.
    ///
    /// If the array is not in memory, only the pages that are needed are read: in the order of the file, and many at a
    /// time, which is several times faster than one after the other. One column of a C-order matrix is
    /// `gather(Axis(1), &[j])`.
    ///
    /// The result has the order of the array.
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
        let mut elements = Vec::new();
        let count = layout.bytes() / size_of::<A>();
        let out_of_memory = |_| Error::io("cannot allocate memory", std::io::ErrorKind::OutOfMemory.into());
        elements.try_reserve_exact(count).map_err(out_of_memory)?;
        elements.resize(count, A::zeroed());
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
        if let Some(index) = indices.iter().find(|&&index| index >= len) {
            let message = format!("index {index} is out of range for axis {axis}, which has length {len}");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(())
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

    /// Fills `to` from all elements of the array, both in memory order.
    fn fill<A: AnyBitPattern + Send>(&self, from: &[A], storage: &Storage, to: &mut [A]) -> Result<()> {
        let slab = self.indices.len() * self.run;
        let slabs = (SORTED_RUNS / self.indices.len()).max(1);
        let absent = self.looks_absent::<A>(from.len(), storage);
        for (n, to) in to.chunks_mut(slab.saturating_mul(slabs)).enumerate() {
            let mut runs = self.runs(n * slabs, to);
            runs.sort_unstable_by_key(|(start, _)| *start);
            if absent && storage.can_read_at() {
                read(storage, &mut runs)?;
            } else {
                copy(from, storage, absent, &mut runs);
            }
        }
        Ok(())
    }

    /// The runs of some slabs, from the `first` on.
    fn runs<'t, A>(&self, first: usize, to: &'t mut [A]) -> Vec<Run<'t, A>> {
        let slabs = to.chunks_exact_mut(self.indices.len() * self.run).zip(first..);
        let runs = slabs.flat_map(|(to, slab)| {
            let starts = self.indices.iter().map(move |&index| (slab * self.len + index) * self.run);
            starts.zip(to.chunks_exact_mut(self.run))
        });
        runs.collect()
    }

    /// Whether any run of a small sample is not in memory, or the system does not report it.
    fn looks_absent<A>(&self, elements: usize, storage: &Storage) -> bool {
        const SAMPLES: usize = 16;
        let slabs = elements / (self.len * self.run);
        let runs = slabs * self.indices.len();
        let mut samples = (0..runs).step_by(runs.div_ceil(SAMPLES));
        let is_absent = |run: usize| {
            let (slab, index) = (run / self.indices.len(), self.indices[run % self.indices.len()]);
            !storage.is_present((slab * self.len + index) * self.run * size_of::<A>())
        };
        storage.is_of_file() && (samples.any(is_absent) || !storage.reports_residency())
    }
}

/// Copies sorted runs. If they may not be in memory, they are requested a little ahead.
fn copy<A: Copy>(from: &[A], storage: &Storage, absent: bool, runs: &mut [Run<'_, A>]) {
    for runs in runs.chunks_mut(RUNS_AHEAD) {
        if absent {
            runs.iter().for_each(|(start, to)| storage.will_need(bytes_of::<A>(*start..*start + to.len())));
        }
        runs.iter_mut().for_each(|(start, to)| to.copy_from_slice(&from[*start..*start + to.len()]));
    }
}

/// Reads sorted runs from the file, on many threads.
fn read<A: AnyBitPattern + Send>(storage: &Storage, runs: &mut [Run<'_, A>]) -> Result<()> {
    let threads = runs.len().div_ceil(MIN_RUNS_PER_THREAD).min(READ_THREADS);
    let jobs = Mutex::new(runs.chunks_mut(runs.len().div_ceil(threads).min(RUNS_PER_JOB)));
    let threads = Threads::Own { count: threads, name: "gather" };
    let next = || lock(&jobs).next();
    let read = |buffer: &mut _, runs| near(runs).try_for_each(|group| read_group(storage, group, buffer));
    run_jobs(threads, Vec::new, next, read).map(drop)
}

/// Splits sorted runs into groups that are worth one read each.
fn near<'p, 'a, A>(mut runs: &'p mut [Run<'a, A>]) -> impl Iterator<Item = &'p mut [Run<'a, A>]> {
    std::iter::from_fn(move || {
        let (first, _) = runs.first()?;
        let begins_group = |i: &usize| {
            let (before, (start, to)) = (&runs[*i - 1], &runs[*i]);
            let gap = start.saturating_sub(before.0 + before.1.len()) * size_of::<A>();
            gap > MAX_GAP || (start + to.len() - first) * size_of::<A>() > BUFFER
        };
        let end = (1..runs.len()).find(begins_group).unwrap_or(runs.len());
        let (group, rest) = take(&mut runs).split_at_mut(end);
        runs = rest;
        Some(group)
    })
}

/// Reads a group of runs at once; a run longer than the buffer, which is alone in its group, by parts.
fn read_group<A: AnyBitPattern>(storage: &Storage, group: &mut [Run<'_, A>], buffer: &mut Vec<u8>) -> Result<()> {
    let size = size_of::<A>();
    let mut get = |elements: Range<usize>, to: &mut dyn FnMut(&[u8])| {
        let bytes = bytes_of::<A>(elements);
        buffer.resize(bytes.len(), 0);
        storage.read_at(buffer, bytes.start)?;
        to(buffer);
        Ok(())
    };
    let put = |bytes: &[u8], to: &mut [A]| {
        to.iter_mut().zip(bytes.chunks_exact(size)).for_each(|(to, bytes)| *to = bytemuck::pod_read_unaligned(bytes));
    };
    if let [(start, to)] = group {
        let step = (BUFFER / size).max(1);
        return to.chunks_mut(step).enumerate().try_for_each(|(n, to)| {
            let from = *start + n * step;
            get(from..from + to.len(), &mut |bytes| put(bytes, to))
        });
    }
    let (first, end) = (group[0].0, group.iter().map(|(start, to)| start + to.len()).max().unwrap_or_default());
    get(first..end, &mut |bytes| {
        group.iter_mut().for_each(|(start, to)| put(&bytes[(*start - first) * size..], to));
    })
}

fn bytes_of<A>(elements: Range<usize>) -> Range<usize> {
    elements.start * size_of::<A>()..elements.end * size_of::<A>()
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
        fn reading_the_file_gives_what_memory_shows(
            axes in prop_oneof![prop::collection::vec(1..9_usize, 1..6), prop::collection::vec(1..600_usize, 2..3)],
            fortran in any::<bool>(), axis in any::<usize>(), indices in prop::collection::vec(any::<usize>(), 1..60),
        ) {
            let a = scratch(&axes, fortran);
            let axis = axis % axes.len();
            let indices: Vec<_> = indices.into_iter().map(|i| i % axes[axis]).collect();
            let expected = a.select(Axis(axis), &indices);
            prop_assert_eq!(&a.gather(Axis(axis), &indices).unwrap(), &expected);

            let layout = a.layout().with_axis(Axis(axis), indices.len()).unwrap();
            let gather = Gather::new(&axes, a.layout().order(), Axis(axis), &indices);
            for through_file in [true, false] {
                let mut elements = vec![0; expected.len()];
                let mut runs = gather.runs(0, &mut elements);
                runs.sort_unstable_by_key(|(start, _)| *start);
                if through_file {
                    read(a.storage(), &mut runs).unwrap();
                } else {
                    copy(a.view().to_slice_memory_order().unwrap(), a.storage(), true, &mut runs);
                }
                prop_assert_eq!(&ArrayD::from_shape_vec(layout.to_shape(), elements).unwrap(), &expected);
            }
        }
    }

    #[test]
    fn runs_that_are_near_are_read_together_and_others_alone() {
        let mut memory = [[0_u8; 100]; 6];
        let starts = [0, 100, 150, 5_000, 20_000, 20_000];
        let mut runs: Vec<Run<'_, u8>> = starts.into_iter().zip(memory.iter_mut().map(|m| &mut m[..])).collect();
        let groups: Vec<usize> = near(&mut runs).map(|group| group.len()).collect();
        assert_eq!(groups, [4, 2]);

        let mut memory = vec![0_u8; 4 * BUFFER];
        let mut runs: Vec<Run<'_, u8>> = (0..).step_by(BUFFER).zip(memory.chunks_mut(BUFFER)).collect();
        assert_eq!(near(&mut runs).count(), 4);
    }

    #[test]
    fn rows_longer_than_a_buffer_are_read_whole() {
        let a = scratch(&[5, 100_000], false);
        let mut elements = vec![0; 300_000];
        let mut runs = Gather { len: 5, run: 100_000, indices: &[1, 2, 4] }.runs(0, &mut elements);
        read(a.storage(), &mut runs).unwrap();
        assert_eq!(ArrayD::from_shape_vec(vec![3, 100_000], elements).unwrap(), a.select(Axis(0), &[1, 2, 4]));
    }
}
