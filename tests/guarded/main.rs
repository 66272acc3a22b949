//! Guarded calls: pages that cannot be had are an error of the call that needed them, and of no other.
//!
//! Windows has no signals: a file that is mapped cannot be truncated there.
#![cfg(unix)]

#[path = "../support/mod.rs"]
mod support;

mod calls;
mod signal_handlers;
mod threads;
