//! Runs that are in memory, copied in the order of the indices: no slower than a loop that is written for one shape.

use bytemuck::AnyBitPattern;

use super::Gather;

/// Short runs that are copied by one step of a loop, without waiting for each other.
const TOGETHER: usize = 8;

/// Runs of more bytes than a register has are copied one by one.
const MAX_TOGETHER: usize = 8;

/// For fewer indices than [`TOGETHER`] a pass for each is faster, as long as its steps, in bytes, stay within a page.
const MAX_STEP: usize = 4096;

/// Runs of at least so many bytes are stored to memory that is not in the processor's cache as fast as to memory that is.
const MIN_LONG: usize = 256;

impl Gather<'_> {
    /// Appends up to `most` runs from the `done`th on to `to`: some whole slabs, or a part of one. Returns how many.
    pub(super) fn copy_piece<A: AnyBitPattern>(&self, from: &[A], done: usize, most: usize, to: &mut Vec<A>) -> usize {
        let n = self.indices.len();
        let (slab, first) = (done / n, done % n);
        let from = &from[slab * self.len * self.run..];
        if first > 0 || most < n {
            let indices = &self.indices[first..n.min(first + most)];
            self.copy_slabs(&from[..self.len * self.run], indices, to);
            return indices.len();
        }
        let slabs = (most / n).min(from.len() / (self.len * self.run));
        self.copy_slabs(&from[..slabs * self.len * self.run], self.indices, to);
        slabs * n
    }

    /// Appends the runs at `indices` of each slab.
    fn copy_slabs<A: AnyBitPattern>(&self, slabs: &[A], indices: &[usize], to: &mut Vec<A>) {
        match self.run {
            1 => copy_runs::<A, 1>(slabs, self.len, indices, to),
            2 => copy_runs::<A, 2>(slabs, self.len, indices, to),
            3 => copy_runs::<A, 3>(slabs, self.len, indices, to),
            4 => copy_runs::<A, 4>(slabs, self.len, indices, to),
            8 => copy_runs::<A, 8>(slabs, self.len, indices, to),
            16 => copy_runs::<A, 16>(slabs, self.len, indices, to),
            run => slabs.chunks_exact(self.len * run).for_each(|slab| copy_any_runs(slab, run, indices, to)),
        }
    }
}

/// Runs of a length that the compiler knows. The zeros that come first bring their memory into the processor's cache, in
/// order, and save asking for room for each run.
fn copy_runs<A: AnyBitPattern, const RUN: usize>(slabs: &[A], len: usize, indices: &[usize], to: &mut Vec<A>) {
    let (slabs, _) = slabs.as_chunks::<RUN>();
    let (before, n) = (to.len(), indices.len());
    to.resize(before + slabs.len() / len * n * RUN, A::zeroed());
    let (runs, _) = to[before..].as_chunks_mut::<RUN>();
    if n < TOGETHER && len * size_of::<[A; RUN]>() <= MAX_STEP {
        for (k, &index) in indices.iter().enumerate() {
            let runs = runs[k..].iter_mut().step_by(n);
            runs.zip(slabs[index..].iter().step_by(len)).for_each(|(run, from)| *run = *from);
        }
        return;
    }
    let together = if size_of::<[A; RUN]>() <= MAX_TOGETHER { n / TOGETHER * TOGETHER } else { 0 };
    let (indices, last_indices) = indices.split_at(together);
    let (indices, _) = indices.as_chunks::<TOGETHER>();
    for (slab, runs) in slabs.chunks_exact(len).zip(runs.chunks_exact_mut(n)) {
        let (runs, last_runs) = runs.split_at_mut(together);
        let (runs, _) = runs.as_chunks_mut::<TOGETHER>();
        runs.iter_mut().zip(indices).for_each(|(runs, indices)| *runs = indices.map(|index| slab[index]));
        last_runs.iter_mut().zip(last_indices).for_each(|(run, &index)| *run = slab[index]);
    }
}

/// Runs of any other length: each is a call, to which it matters more where the bytes go.
fn copy_any_runs<A: AnyBitPattern>(slab: &[A], run: usize, indices: &[usize], to: &mut Vec<A>) {
    let runs = indices.iter().map(|index| &slab[index * run..][..run]);
    if run * size_of::<A>() < MIN_LONG {
        let before = to.len();
        to.resize(before + indices.len() * run, A::zeroed());
        to[before..].chunks_exact_mut(run).zip(runs).for_each(|(to, run)| to.copy_from_slice(run));
    } else {
        runs.for_each(|run| to.extend_from_slice(run));
    }
}
