//! The exclusive right to replace the pages of a mapping, or to prevent it.

use std::ffi::c_long;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sys::forks;
use crate::sys::signals::{BlockedSignals, sleep};

/// Held by at most one thread of a process. Meanwhile no handler of another signal runs on that thread: it could access the
/// mapping, and then wait for itself.
pub(super) struct Replacing<'a> {
    holder: &'a AtomicUsize,
    /// Unblocked after `drop` has released the right.
    _blocked: BlockedSignals,
}

impl<'a> Replacing<'a> {
    /// In nanoseconds. The holder makes a few system calls of some microseconds each, unless its disk fails, and then it waits
    /// for far longer.
    const WAIT: c_long = 100_000;

    /// Waits until no other thread of this process holds the right. `holder` is 0, or (demand 7) one more than the number of
    /// forks when it was taken: of another number, it was taken in a parent, and no thread here will release it.
    pub(super) fn acquire(holder: &'a AtomicUsize) -> Self {
        let blocked = BlockedSignals::all_but_faults();
        loop {
            let (current, this_process) = (holder.load(Ordering::Relaxed), forks::count().wrapping_add(1));
            if current == this_process {
                sleep(Self::WAIT);
            } else if holder.compare_exchange(current, this_process, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Self { holder, _blocked: blocked };
            }
        }
    }
}

impl Drop for Replacing<'_> {
    fn drop(&mut self) {
        self.holder.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::signals::{OTHERS, is_blocked};

    /// As `fork` leaves it if another thread of the parent is just replacing a page.
    #[test]
    fn a_right_that_was_taken_in_another_process_is_free() {
        let holder = AtomicUsize::new(forks::count().wrapping_add(7));
        let replacing = Replacing::acquire(&holder);
        assert_eq!(holder.load(Ordering::Relaxed), forks::count().wrapping_add(1));
        drop(replacing);
        assert_eq!(holder.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn no_handler_of_another_signal_runs_while_pages_are_replaced() {
        let holder = AtomicUsize::new(0);
        let replacing = Replacing::acquire(&holder);
        assert!(OTHERS.into_iter().all(is_blocked));
        drop(replacing);
        assert!(!OTHERS.into_iter().any(is_blocked));
    }
}
