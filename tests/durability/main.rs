//! What survives killed processes, power cuts, and disks that are full or fail.
//!
//! All of it needs signals; see `main.rs` of `durable_steps` for the order of the steps.
#![cfg(unix)]

#[path = "../support/mod.rs"]
mod support;

mod end_of_process;

// Mounted file systems.
#[cfg(target_os = "linux")]
mod failing_disk;
#[cfg(target_os = "linux")]
mod full_disk;
#[cfg(target_os = "linux")]
mod full_disk_growth;
#[cfg(target_os = "linux")]
mod power_cut;
// A kernel that refuses the last step of a publication.
#[cfg(target_os = "linux")]
mod killed_writers;
