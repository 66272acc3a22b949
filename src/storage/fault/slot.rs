//! What the handler knows of one mapping.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};

use crate::mode::FileAccess;
use crate::sys::forks;
use crate::sys::pages::{LazyMemory, Pages};

/// Where a mapping is, and what stores to it do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapped {
    pub(super) pages: Pages,
    pub(super) access: FileAccess,
}

impl Mapped {
    pub(super) const NOTHING: Self =
        Self { pages: Pages { start: 0, end: 0, writable: false }, access: FileAccess::Read };

    pub(super) fn new(start: *const u8, len: usize, access: FileAccess) -> Self {
        Self { pages: Pages::around(start, len, access != FileAccess::Read), access }
    }
}

/// One registered mapping; once that is gone, the place of a later one.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The slot that was first in the list before this one.
    pub(super) next: Option<&'static Slot>,
    /// Odd while the next three change.
    version: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    access: AtomicU8,
    /// Where the mapping ends in its file, in bytes.
    pub(super) end_in_file: AtomicU64,
    /// A descriptor.
    pub(super) file: AtomicI32,
    /// Others can reach the file, and truncate it.
    pub(super) truncatable: AtomicBool,
    /// [`forks::count`], when the slot was taken.
    forks: AtomicUsize,
    /// How many guarded calls are running.
    pub(super) active: AtomicUsize,
    /// See [`Replacing`](super::replacing::Replacing).
    pub(super) replacing: AtomicUsize,
    pub(super) faulted: AtomicBool,
    /// A bit for each page that was replaced alone: [`AtomicU8`]s, set only by the thread that replaces pages.
    pub(super) replaced: LazyMemory,
    /// As long as the mapping: where pages are copied to before they are moved.
    pub(super) copies: LazyMemory,
    pub(super) all_replaced: AtomicBool,
    /// The file was mapped again, privately.
    pub(super) is_private: AtomicBool,
}

impl Slot {
    pub(super) fn new(next: Option<&'static Slot>) -> Self {
        Self { next, ..Self::default() }
    }

    /// Forgets the mapping that the slot was used for.
    pub(super) fn reset(&self, mapped: Mapped) {
        for flag in [&self.faulted, &self.all_replaced, &self.is_private, &self.truncatable] {
            flag.store(false, Ordering::Relaxed);
        }
        self.file.store(-1, Ordering::Relaxed);
        self.forks.store(forks::count(), Ordering::Relaxed);
        self.set(mapped);
    }

    /// Gives the memory back that replacing pages took. No guarded call may be running.
    pub(super) fn clear(&self) {
        debug_assert_eq!(self.active.load(Ordering::Relaxed), 0);
        self.set(Mapped::NOTHING);
        self.replaced.release();
        self.copies.release();
    }

    pub(super) fn is_of_this_process(&self) -> bool {
        self.forks.load(Ordering::Relaxed) == forks::count()
    }

    /// Called by the owner of the slot, or under the lock of the registry while there is none.
    fn set(&self, mapped: Mapped) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.start.store(mapped.pages.start, Ordering::Relaxed);
        self.end.store(mapped.pages.end, Ordering::Relaxed);
        self.access.store(mapped.access as u8, Ordering::Relaxed);
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// `None` while it changes: then no guarded call of it is running.
    pub(super) fn mapped(&self) -> Option<Mapped> {
        const ACCESSES: [FileAccess; 3] = [FileAccess::Read, FileAccess::ReadWrite, FileAccess::CopyOnWrite];
        let version = self.version.load(Ordering::Acquire);
        let (start, end) = (self.start.load(Ordering::Relaxed), self.end.load(Ordering::Relaxed));
        // Any number, while it changes.
        let access = ACCESSES[usize::from(self.access.load(Ordering::Relaxed)) % ACCESSES.len()];
        fence(Ordering::Acquire);
        let unchanged = version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version;
        unchanged.then_some(Mapped { pages: Pages { start, end, writable: access != FileAccess::Read }, access })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(start: usize) -> Mapped {
        Mapped { pages: Pages { start, end: start + 4096, writable: true }, access: FileAccess::ReadWrite }
    }

    #[test]
    fn a_range_that_is_being_changed_is_not_believed() {
        let slot = Slot::default();
        slot.set(page(4096));
        let mapped = slot.mapped().unwrap();
        assert!(mapped.pages.contains(4096) && !mapped.pages.contains(8192) && mapped.access == FileAccess::ReadWrite);
        slot.version.fetch_add(1, Ordering::Relaxed);
        assert!(slot.mapped().is_none());
    }

    #[test]
    fn readers_of_a_changing_range_see_one_or_the_other() {
        const ROUNDS: usize = 200_000;
        let slot = Slot::default();
        std::thread::scope(|s| {
            s.spawn(|| (0..ROUNDS).for_each(|i| slot.set(page(i * 4096))));
            for _ in 0..ROUNDS {
                if let Some(mapped) = slot.mapped() {
                    assert!(mapped.pages.end == 0 || mapped.pages.len() == 4096, "{mapped:?}");
                }
            }
        });
    }
}
