//! Every system call, and every difference between systems: the rest of the crate makes no system calls and names no system.
//!
//! All systems offer the same functions, which are chosen here, once. If a system lacks one, `portable` has a replacement.
//! Nothing of the crate is imported: errors are [`std::io`]'s.

#[cfg(unix)]
pub(crate) mod forks;
pub(crate) mod mapping;
pub(crate) mod memory;
#[cfg(unix)]
pub(crate) mod pages;
#[cfg(unix)]
pub(crate) mod signals;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[cfg_attr(any(unix, windows), allow(dead_code))]
mod portable;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) use linux::*;
#[cfg(not(any(unix, windows)))]
pub(crate) use portable::*;
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
pub(crate) use portable::{
    ACL_ATTRIBUTE, MAPPING_SHOWS_WRITES, SYNCS_FILE_SYSTEMS, allocate, holds_lock, link_unnamed, open_unnamed,
    rename_noreplace, reopen, sync_file_system, wait_for_write,
};
#[cfg(unix)]
pub(crate) use unix::*;
#[cfg(windows)]
pub(crate) use windows::*;

use std::io;

/// Who owns a file, and its nine bits of permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ownership {
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// The nine bits, and the sticky bit (0o1000).
    pub(crate) mode: u32,
}

/// What an open file can do, according to its present flags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HandleFlags {
    pub(crate) reads: bool,
    pub(crate) writes: bool,
    /// `O_APPEND`: Linux writes at the end through such a handle, whatever the offset.
    pub(crate) appends: bool,
    /// `O_DIRECT`: reads and writes whole blocks only, to and from memory with the same alignment.
    pub(crate) direct: bool,
}

/// How to make a file that nobody else can open on a file system without unnamed files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "each system has one of them")]
pub(crate) enum Anonymous {
    /// Not safely: creating a file and then removing its name leaves a window in which others can open it.
    Impossible,
    /// Its name is removed before the file is used.
    Unlinked,
    /// It is opened for exclusive use, and deleted when it is closed.
    DeletedOnClose,
}

/// Repeats the call as long as a signal interrupts it before it has done anything, as happens on some file systems.
pub(crate) fn retry_on_interrupt<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
