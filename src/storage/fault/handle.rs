//! A mapping's part in the registry, and the guarded calls of it.
//!
//! # Safety
//! Those of [`fault`](super): what the caller of [`FaultHandle::enter`] promises is demands 1 and 6.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::sync::atomic::Ordering;

use super::atomic_ref::AtomicRef;
use super::replacing::Replacing;
use super::slot::{Mapped, Slot};
use super::{registry, signal};
use crate::mode::FileAccess;
use crate::sys::pages::descriptor;

/// Owns the slot of a mapping. Takes it at the first guarded call, and gives it back when dropped.
#[derive(Debug)]
pub(crate) struct FaultHandle {
    slot: AtomicRef<Slot>,
    access: FileAccess,
}

/// The file below a mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MappedFile<'a> {
    pub(crate) file: &'a File,
    /// Where in the file the mapping starts, in bytes.
    pub(crate) offset: u64,
    /// Others can reach the file, and truncate it.
    pub(crate) truncatable: bool,
}

/// As long as one lives, a fault in its mapping sets the flag and does not end the process.
#[derive(Debug)]
pub(crate) struct GuardedCall<'a>(&'a Slot);

impl FaultHandle {
    pub(crate) fn new(access: FileAccess) -> Self {
        Self { slot: AtomicRef::none(), access }
    }

    #[cfg(test)]
    pub(super) fn of_slot(slot: &'static Slot) -> Self {
        let handle = Self::new(FileAccess::ReadWrite);
        handle.slot.store(Some(slot));
        handle
    }

    /// # Errors
    /// If the system does not let the process handle the signal.
    ///
    /// # Safety
    /// `start .. start + len` is a mapping of that part of the file, with the access that this handle was made for. Until
    /// the handle is dropped or [`reset`](Self::reset), the mapping is neither unmapped nor moved, and the handle is used
    /// with no other range or file.
    pub(crate) unsafe fn enter<'a>(
        &'a self,
        start: *const u8,
        len: usize,
        file: MappedFile<'a>,
    ) -> io::Result<GuardedCall<'a>> {
        signal::ensure_handled()?;
        let slot = self.slot_of(start, len);
        // The same for every call. Before `active`, so that the handler finds it.
        slot.end_in_file.store(file.offset + len as u64, Ordering::Relaxed);
        slot.file.store(descriptor(file.file), Ordering::Relaxed);
        slot.truncatable.store(file.truncatable, Ordering::Relaxed);
        // Orders the call's reads after this, and before the opposite in `drop`.
        slot.active.fetch_add(1, Ordering::AcqRel);
        Ok(GuardedCall(slot))
    }

    /// The slot that this process took. (Demand 7) One that was taken before a fork is the parent's.
    fn slot(&self) -> Option<&'static Slot> {
        self.slot.load().filter(|slot| slot.is_of_this_process())
    }

    fn slot_of(&self, start: *const u8, len: usize) -> &'static Slot {
        if let Some(slot) = self.slot() {
            return slot;
        }
        let mut registry = registry::lock();
        // Another thread may have been faster.
        self.slot().unwrap_or_else(|| {
            let slot = registry.take(Mapped::new(start, len, self.access));
            self.slot.store(Some(slot));
            slot
        })
    }

    /// Whether pages of the mapping were replaced. Those that were replaced before a fork are so in both processes.
    pub(crate) fn faulted(&self) -> bool {
        self.slot.load().is_some_and(|slot| slot.faulted.load(Ordering::Acquire))
    }

    /// Runs `f` if no page of the mapping was replaced, and prevents that any is meanwhile. The mapping is the one that
    /// [`enter`](Self::enter) is called with.
    pub(crate) fn unless_faulted<R>(&self, start: *const u8, len: usize, f: impl FnOnce() -> R) -> Option<R> {
        if self.faulted() {
            return None;
        }
        let slot = self.slot_of(start, len);
        let _replacing = Replacing::acquire(&slot.replacing);
        let faulted = slot.faulted.load(Ordering::Acquire);
        (!faulted).then(f)
    }

    /// Gives the slot back. Must be called before the mapping is moved, and only if no page was replaced: it forgets that,
    /// too.
    pub(crate) fn reset(&mut self) {
        if let Some(slot) = self.slot() {
            registry::lock().give_back(slot);
        }
        self.slot.store(None);
    }
}

impl Drop for FaultHandle {
    fn drop(&mut self) {
        self.reset();
    }
}

impl Drop for GuardedCall<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::AcqRel);
    }
}
