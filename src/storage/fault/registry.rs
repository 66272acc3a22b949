//! The slots of a process: the list that the handler follows, and those that are free.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::atomic_ref::AtomicRef;
use super::slot::{Mapped, Slot};
use crate::sys::forks;

/// The first slot of the list.
static FIRST: AtomicRef<Slot> = AtomicRef::none();

/// Never accessed by the handler.
static REGISTRY: AtomicRef<ProcessRegistry> = AtomicRef::none();

struct ProcessRegistry {
    /// [`forks::count`], when it was made.
    forks: usize,
    registry: Mutex<Registry>,
}

#[derive(Default)]
pub(super) struct Registry {
    free: Vec<&'static Slot>,
}

/// The slots of all processes that this one was forked from, too. Async-signal-safe.
pub(super) fn slots() -> impl Iterator<Item = &'static Slot> {
    std::iter::successors(FIRST.load(), |slot| slot.next)
}

/// Locks the registry of this process. (Demand 7) A forked child makes one of its own: its parent's may have been locked
/// when it was forked, and would stay so.
pub(super) fn lock() -> MutexGuard<'static, Registry> {
    forks::start_counting();
    loop {
        let (current, forks) = (REGISTRY.load(), forks::count());
        if let Some(current) = current.filter(|current| current.forks == forks) {
            return current.registry.lock().unwrap_or_else(PoisonError::into_inner);
        }
        REGISTRY.compare_exchange(current, Box::new(ProcessRegistry { forks, registry: Mutex::default() }));
    }
}

impl Registry {
    pub(super) fn take(&mut self, mapped: Mapped) -> &'static Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            let slot = Box::leak(Box::new(Slot::new(FIRST.load())));
            FIRST.store(Some(slot));
            slot
        });
        slot.reset(mapped);
        slot
    }

    pub(super) fn give_back(&mut self, slot: &'static Slot) {
        slot.clear();
        self.free.push(slot);
    }
}

#[cfg(test)]
mod tests {
    use std::ptr;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::mode::FileAccess;

    #[test]
    fn a_given_back_slot_covers_nothing_and_is_taken_again() {
        let mapped = |start| Mapped::new(ptr::without_provenance(start), 1, FileAccess::ReadWrite);
        // Not the one of the process, for other tests take slots from that.
        let mut registry = Registry::default();
        let slot = registry.take(mapped(1 << 20));
        slot.faulted.store(true, Ordering::Relaxed);
        registry.give_back(slot);
        assert!(slot.mapped().is_some_and(|mapped| !mapped.pages.contains(1 << 20)));
        let again = registry.take(mapped(1 << 21));
        assert!(ptr::eq(slot, again) && !again.faulted.load(Ordering::Relaxed));
        slot.clear();
    }
}
