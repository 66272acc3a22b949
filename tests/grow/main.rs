//! Arrays that grow and shrink, in raw files and in `.npy` files, and what is left where a step of it fails.

#[path = "../support/mod.rs"]
mod support;

mod npy;
mod raw;

// System calls that are refused or interrupted, by seccomp filters.
#[cfg(target_os = "linux")]
mod failures;
