//! Counts forks, so that a forked child can be told from its parent, whose threads it lacks.
//!
//! # Safety
//! 1. The function that runs in a forked child only adds to an atomic, which any code may do there.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

static FORKS: AtomicUsize = AtomicUsize::new(0);

/// How many forks lie between the process that first called [`start_counting`] and this one. Async-signal-safe.
pub(crate) fn count() -> usize {
    FORKS.load(Ordering::Relaxed)
}

/// Counts from the first call on. If the system has no memory for it, or no such call, forks go unnoticed.
pub(crate) fn start_counting() {
    static STARTED: AtomicBool = AtomicBool::new(false);
    if !STARTED.swap(true, Ordering::Relaxed) {
        #[cfg(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd"))]
        // SAFETY: (1)
        unsafe {
            libc::pthread_atfork(None, None, Some(add_one))
        };
        #[cfg(not(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd")))]
        let _ = add_one;
    }
}

extern "C" fn add_one() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}
