//! Stores that bypass the processor's cache. An ordinary store first reads its cache line, only to overwrite it: if
//! whole lines are stored that are not read soon, bypassing the cache saves a third of the memory traffic of a copy.
//!
//! # Safety
//! 1. Such stores are not ordered with others until a fence. The thread that stored executes it, before anything
//!    can read the memory.
//! 2. Every address that is read or stored to lies in a slice that is borrowed for it, and is aligned as the
//!    instruction needs it.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use bytemuck::NoUninit;

/// In bytes: of a larger array, what was stored first has left the cache before it is read (bench `tile`, "warm").
pub(crate) const MIN_BYTES: usize = 16 << 20;

/// Borrows memory to store to for `'to`, which is longer than [`with_nontemporal_stores`] runs: so nothing can read it
/// before the fence. For that, `'to` is invariant, and the value stays on its thread.
pub(crate) struct NonTemporalStores<'to> {
    invariant: PhantomData<fn(&'to ()) -> &'to ()>,
    on_one_thread: PhantomData<*const ()>,
}

/// Runs `work`, which may store past the cache.
pub(crate) fn with_nontemporal_stores<'to, R>(work: impl FnOnce(&NonTemporalStores<'to>) -> R) -> R {
    let _fence = Fence;
    work(&NonTemporalStores { invariant: PhantomData, on_one_thread: PhantomData })
}

/// Dropped also after a panic.
struct Fence;

impl Drop for Fence {
    fn drop(&mut self) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        // SAFETY: every x86-64 has this instruction, and it accesses no memory.
        unsafe {
            std::arch::x86_64::_mm_sfence();
        }
    }
}

impl<'to> NonTemporalStores<'to> {
    /// # Panics
    /// If the lengths differ.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    pub(crate) fn copy_from_slice<A: NoUninit>(&self, to: &'to mut [A], from: &[A]) {
        use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
        const LINE: usize = 64;
        const STORE: usize = size_of::<__m128i>();

        assert_eq!(to.len(), from.len());
        let len = size_of_val(from);
        let (to, from) = (to.as_mut_ptr().cast::<u8>(), from.as_ptr().cast::<u8>());
        let before = to.align_offset(LINE).min(len);
        let whole = (len - before) / LINE * LINE;
        let copy = |range: std::ops::Range<usize>| {
            let (to, from) = (to.wrapping_add(range.start), from.wrapping_add(range.start));
            // SAFETY: (2) `range` lies in `0..len` in all calls, and bytes need no alignment; `&mut` keeps the two
            // apart.
            unsafe { std::ptr::copy_nonoverlapping(from, to, range.len()) }
        };
        copy(0..before);
        for at in (before..before + whole).step_by(STORE) {
            let (to, from) = (to.wrapping_add(at).cast(), from.wrapping_add(at).cast());
            // SAFETY: every x86-64 has the instruction; (2) `at + STORE` is at most `before + whole`, which is at most
            // `len`; the load needs no alignment.
            let bytes = unsafe { _mm_loadu_si128(from) };
            // SAFETY: (2) as above, and `at` is a multiple of `STORE` from where the alignment is that of a line;
            // (1) `Fence` is dropped before `with_nontemporal_stores` returns, and thereby before `'to` ends.
            unsafe { _mm_stream_si128(to, bytes) };
        }
        copy(before + whole..len);
    }

    /// On other processors these are ordinary stores.
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    pub(crate) fn copy_from_slice<A: NoUninit>(&self, to: &'to mut [A], from: &[A]) {
        let _ = (self.invariant, self.on_one_thread);
        to.copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_past_the_cache_store_the_same_wherever_they_start_and_end() {
        let from: Vec<[u8; 3]> = (0..400).map(|n: i32| [n as u8, (n >> 1) as u8, 7]).collect();
        for start in 0..70 {
            for len in (0..70).chain([200, 300]) {
                let mut to = vec![[0; 3]; 400];
                with_nontemporal_stores(|stores| {
                    stores.copy_from_slice(&mut to[start..start + len], &from[start..start + len])
                });
                let is_stored = |n: usize| (start..start + len).contains(&n);
                assert!((0..400).all(|n| to[n] == if is_stored(n) { from[n] } else { [0; 3] }), "{start} {len}");
            }
        }
    }
}
