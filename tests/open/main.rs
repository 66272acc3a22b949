//! Opening and creating files: layouts, locks, limits, errors, and what becomes of a file that is replaced.

#[path = "../support/mod.rs"]
mod support;

mod formats;
mod layouts;
mod parts;
mod real_files;

// Inodes, permissions, owners and symbolic links.
#[cfg(unix)]
mod create;
// FIFOs, sockets, devices, and file names of any bytes.
#[cfg(unix)]
mod errors;
// `ulimit`, and the wording of unix.
#[cfg(unix)]
mod limits;
// Advisory locks: Windows locks what others read, too.
#[cfg(unix)]
mod locks;

// Open descriptors and mappings, counted in `/proc`.
#[cfg(target_os = "linux")]
mod many_arrays;
// Access control lists, unnamed files and `/proc`.
#[cfg(target_os = "linux")]
mod replace;
