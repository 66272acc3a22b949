//! Passes over arrays: in blocks, into other files, in other layouts, and over chosen rows.

#[path = "../support/mod.rs"]
mod support;

mod gather;
mod map;
mod passes;
mod skip_nan;
mod tile;
mod values;

// System calls that are refused, by seccomp filters.
#[cfg(target_os = "linux")]
mod failures;
// Memory as `/proc` counts it.
#[cfg(target_os = "linux")]
mod memory_use;
