//! What the test binaries share. Each of them includes this tree, and uses a part of it.
#![allow(dead_code, unused_imports, unused_macros)]

pub mod arrays;
pub mod process;
pub mod snapshot;

// Threads for which the kernel behaves differently, by seccomp filters and by Linux's user ids for each thread.
#[cfg(target_os = "linux")]
pub mod kernel;
#[cfg(target_os = "linux")]
pub mod steps;

// ext4, tmpfs and overlays.
#[cfg(target_os = "linux")]
pub mod mount;
