//! Runs that are not in memory, read in the order of the file, many at a time.

use std::mem::take;
use std::ops::Range;
use std::sync::Mutex;

use bytemuck::AnyBitPattern;

use super::Gather;
use crate::error::Result;
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
pub(super) type Run<'a, A> = (usize, &'a mut [A]);

impl Gather<'_> {
    /// Fills `to` with the runs from the `first` on.
    pub(super) fn bring_in<A: AnyBitPattern + Send>(
        &self,
        from: &[A],
        storage: &Storage,
        first: usize,
        to: &mut [A],
    ) -> Result<()> {
        let together = self.indices.len().max(SORTED_RUNS);
        for (n, to) in to.chunks_mut(self.run.saturating_mul(together)).enumerate() {
            let mut runs = self.sorted_runs(first + n * together, to);
            if storage.can_read_at() {
                read(storage, &mut runs)?;
            } else {
                request_and_copy(from, storage, &mut runs);
            }
        }
        Ok(())
    }

    /// The runs from the `first` on that fill `to`, in the order of the file.
    pub(super) fn sorted_runs<'t, A>(&self, first: usize, to: &'t mut [A]) -> Vec<Run<'t, A>> {
        let starts = (first..).map(|n| self.start(n));
        let mut runs: Vec<_> = starts.zip(to.chunks_exact_mut(self.run)).collect();
        runs.sort_unstable_by_key(|(start, _)| *start);
        runs
    }
}

/// Copies sorted runs, which are requested a little ahead.
pub(super) fn request_and_copy<A: Copy>(from: &[A], storage: &Storage, runs: &mut [Run<'_, A>]) {
    for runs in runs.chunks_mut(RUNS_AHEAD) {
        runs.iter().for_each(|(start, to)| storage.will_need(bytes_of::<A>(*start..*start + to.len())));
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
    use ndarray::{Array2, Axis};

    use super::*;
    use crate::array::MmapArrayMut;

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
        let mut a = MmapArrayMut::<u16>::scratch((5, 100_000)).unwrap();
        a.iter_mut().zip((0..=u16::MAX).cycle()).for_each(|(x, n)| *x = n);
        let mut elements = vec![0; 300_000];
        let mut runs = Gather { len: 5, run: 100_000, indices: &[1, 2, 4] }.sorted_runs(0, &mut elements);
        read(a.storage(), &mut runs).unwrap();
        assert_eq!(Array2::from_shape_vec((3, 100_000), elements).unwrap(), a.select(Axis(0), &[1, 2, 4]));
    }
}
