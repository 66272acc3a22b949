//! An atomic reference to a value that is never freed.
//!
//! # Safety
//! 1. The pointer is null, or comes from a `&'static T` or a leaked box: so it is valid for ever, and nothing borrows the value
//!    uniquely.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Async-signal-safe, but for [`compare_exchange`](Self::compare_exchange).
#[derive(Debug)]
pub(super) struct AtomicRef<T: 'static>(AtomicPtr<T>);

impl<T: Sync> AtomicRef<T> {
    pub(super) const fn none() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    pub(super) fn load(&self) -> Option<&'static T> {
        // SAFETY: (1)
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    pub(super) fn store(&self, value: Option<&'static T>) {
        self.0.store(pointer(value), Ordering::Release);
    }

    /// Leaks `new` into the place of `current`, or drops it if something else is there by now.
    pub(super) fn compare_exchange(&self, current: Option<&'static T>, new: Box<T>) {
        let new = Box::into_raw(new);
        if self.0.compare_exchange(pointer(current), new, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // SAFETY: it comes from the box above, and was not shared.
            drop(unsafe { Box::from_raw(new) });
        }
    }
}

fn pointer<T>(value: Option<&'static T>) -> *mut T {
    value.map_or(ptr::null_mut(), |value| ptr::from_ref(value).cast_mut())
}
