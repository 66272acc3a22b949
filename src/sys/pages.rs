//! What is done to pages of memory that may be missing, from within a signal handler.
//!
//! Every function here is async-signal-safe: it makes system calls, does not allocate from the heap, and takes no lock.
//! The caller in a signal handler must preserve `errno`. The page size is known once [`Pages::around`] was called.
//!
//! # Safety
//! 1. What is put in the place of pages has their address, their length and their access.
//! 2. Only an `unsafe fn` replaces or unmaps what the caller names; the others ask for new memory, or change none.
//! 3. A mapping of a file, which the system may refuse, is asked for elsewhere first, and then moved: refused in place, the
//!    call would leave nothing there.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

pub(crate) use system::{is_readable, replace_by_copy, replace_by_private_map};

/// Whole pages of one mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pages {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) writable: bool,
}

impl Pages {
    /// Those that these bytes lie in.
    pub(crate) fn around(start: *const u8, len: usize, writable: bool) -> Self {
        let end = (start.addr() + len).next_multiple_of(page_size());
        Self { start: start.addr() / page_size() * page_size(), end, writable }
    }

    /// The page of an address.
    pub(crate) fn page_of(self, address: usize) -> Self {
        let start = address / page_size() * page_size();
        Self { start, end: start + page_size(), ..self }
    }

    pub(crate) fn contains(self, address: usize) -> bool {
        (self.start..self.end).contains(&address)
    }

    /// In bytes.
    pub(crate) fn len(self) -> usize {
        self.end - self.start
    }

    pub(crate) fn count(self) -> usize {
        self.len() / page_size()
    }

    fn address(self) -> *mut c_void {
        ptr::without_provenance_mut(self.start)
    }

    fn protection(self) -> c_int {
        if self.writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ }
    }
}

pub(crate) fn page_size() -> usize {
    rustix::param::page_size()
}

/// Puts zeros in the place of pages, and returns whether it could. Zeros next to each other stay one mapping for the system,
/// which has a limited number of them.
///
/// # Safety
/// The pages are mapped and belong to the caller, who knows that their bytes change.
pub(crate) unsafe fn replace_by_zeros(pages: Pages) -> bool {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_FIXED | NO_RESERVE;
    // SAFETY: (1), (2) by the caller.
    unsafe { libc::mmap(pages.address(), pages.len(), pages.protection(), flags, -1, 0) != libc::MAP_FAILED }
}

/// New memory of whole pages, writable and all zero; takes up nothing until it is used.
fn anonymous(len: usize) -> Option<*mut c_void> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANON | NO_RESERVE;
    // SAFETY: (2) it asks for new memory.
    let new = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    (new != libc::MAP_FAILED).then_some(new)
}

/// # Safety
/// `memory` was mapped with this length, and nobody uses it from now on.
unsafe fn unmap(memory: *mut c_void, len: usize) {
    // SAFETY: (2) by the caller.
    unsafe { libc::munmap(memory, len) };
}

/// Zeroed memory that the system is asked for when it is first needed, since a signal handler cannot allocate from the heap.
/// Used by one thread at a time.
#[derive(Debug, Default)]
pub(crate) struct LazyMemory {
    start: AtomicPtr<c_void>,
    len: AtomicUsize,
}

impl LazyMemory {
    /// `None` if there is no memory. `len` counts at the first call only. It lives until [`release`](Self::release), whatever
    /// happens to `self`.
    pub(crate) fn get(&self, len: usize) -> Option<*mut c_void> {
        let known = self.start.load(Ordering::Relaxed);
        if !known.is_null() {
            return Some(known);
        }
        let new = anonymous(len)?;
        self.len.store(len, Ordering::Relaxed);
        self.start.store(new, Ordering::Relaxed);
        Some(new)
    }

    pub(crate) fn release(&self) {
        let start = self.start.swap(ptr::null_mut(), Ordering::Relaxed);
        if !start.is_null() {
            // SAFETY: `get` mapped it with this length, and who uses its address answers for that.
            unsafe { unmap(start, self.len.load(Ordering::Relaxed)) };
        }
    }
}

/// What the functions here take a file as, for as long as the file is open.
pub(crate) fn descriptor(file: &File) -> c_int {
    file.as_raw_fd()
}

/// The length of a file in bytes; `None` if the system does not report it.
pub(crate) fn file_len(file: c_int) -> Option<u64> {
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    use libc::{fstat, stat};
    #[cfg(any(target_os = "linux", target_os = "android"))]
    use libc::{fstat64 as fstat, stat64 as stat};
    let mut found = MaybeUninit::<stat>::uninit();
    // SAFETY: it writes one `stat` to where there is room for one.
    let failed = unsafe { fstat(file, found.as_mut_ptr()) } != 0;
    if failed {
        return None;
    }
    // SAFETY: the call succeeded, so it wrote it.
    u64::try_from(unsafe { found.assume_init() }.st_size).ok()
}

/// A mapping larger than memory must not be refused for lack of memory that nobody will use.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple", target_os = "netbsd"))]
const NO_RESERVE: c_int = libc::MAP_NORESERVE;
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple", target_os = "netbsd")))]
const NO_RESERVE: c_int = 0;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use super::*;
    use crate::sys::signals::errno;

    /// Maps a file again in the place of pages that show it, privately: all that can be read stays, and what is stored from
    /// then on stays in memory. `end` is where the mapping ends in the file, in bytes.
    ///
    /// # Safety
    /// The pages are all of a shared mapping of this file, and belong to the caller.
    pub(crate) unsafe fn replace_by_private_map(pages: Pages, file: c_int, end: u64) -> bool {
        // The last page ends at the same byte of memory and of the file.
        let end = end.next_multiple_of(page_size() as u64);
        let Some(Ok(offset)) = end.checked_sub(pages.len() as u64).map(TryInto::try_into) else { return false };
        let flags = libc::MAP_PRIVATE | NO_RESERVE;
        // SAFETY: (2), (3) it asks for new memory.
        let new = unsafe { libc::mmap64(ptr::null_mut(), pages.len(), pages.protection(), flags, file, offset) };
        // SAFETY: (1) it was just mapped; the bytes are those of the pages, for the mapping was shared.
        new != libc::MAP_FAILED && unsafe { move_into_place(new, pages) }
    }

    /// Puts memory with the same bytes in the place of a page; `false` if it cannot be read, or there is no memory. `room` is
    /// where the copy is made: copies from next to each other are one mapping, of which the system has a limited number.
    ///
    /// # Safety
    /// The page is mapped writable and belongs to the caller, who knows that it shows other memory from now on. `room` is
    /// as much memory from [`LazyMemory::get`], which nobody else uses.
    pub(crate) unsafe fn replace_by_copy(page: Pages, room: Option<*mut c_void>) -> bool {
        let replaced = room.is_some_and(|room| {
            // SAFETY: by the caller.
            let copied = unsafe { copy(page, room) };
            // `room` stays mapped, and is zero again. Linux has this call from 5.7 on.
            // SAFETY: (1), (2) by the caller.
            copied && unsafe { move_to(page, room, libc::MREMAP_DONTUNMAP) }
        });
        if replaced {
            return true;
        }
        // Each such copy is a mapping more.
        let Some(new) = anonymous(page.len()) else { return false };
        // SAFETY: it was just mapped, and is as long.
        if unsafe { copy(page, new) } {
            // SAFETY: (1), (2) by the caller.
            return unsafe { move_into_place(new, page) };
        }
        // SAFETY: it was just mapped.
        unsafe { unmap(new, page.len()) };
        false
    }

    /// Copies a page, which may be missing, and returns whether it could be read.
    ///
    /// # Safety
    /// `to` points to as much memory, which only the caller uses.
    unsafe fn copy(page: Pages, to: *mut c_void) -> bool {
        let to = libc::iovec { iov_base: to, iov_len: page.len() };
        let from = libc::iovec { iov_base: page.address(), iov_len: page.len() };
        // SAFETY: no demands.
        let this_process = unsafe { libc::getpid() };
        // SAFETY: by the caller; the system reports a missing page as an error.
        unsafe { libc::process_vm_readv(this_process, &to, 1, &from, 1, 0) == page.len() as isize }
    }

    /// Moves memory to the place of pages in one step.
    ///
    /// # Safety
    /// Both are mapped, are equally long and accessible, and belong to the caller.
    unsafe fn move_to(pages: Pages, memory: *mut c_void, flags: c_int) -> bool {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | flags;
        // SAFETY: (1), (2) by the caller.
        unsafe { libc::mremap(memory, pages.len(), pages.len(), flags, pages.address()) != libc::MAP_FAILED }
    }

    /// Moves memory to the place of pages in one step, or unmaps it.
    ///
    /// # Safety
    /// As for [`move_to`].
    unsafe fn move_into_place(memory: *mut c_void, pages: Pages) -> bool {
        // SAFETY: by the caller.
        let moved = unsafe { move_to(pages, memory, 0) };
        if !moved {
            // SAFETY: by the caller.
            unsafe { unmap(memory, pages.len()) };
        }
        moved
    }

    /// Whether a page can be read; `None` if the system does not report it.
    pub(crate) fn is_readable(page: Pages) -> Option<bool> {
        /// The only size of a signal set that the kernel accepts, in bytes.
        const SIGNAL_SET: usize = if cfg!(any(target_arch = "mips", target_arch = "mips64")) { 16 } else { 8 };
        /// No operation: the kernel reads the set first, and then refuses to do this with it.
        const NONE: c_int = -1;
        let set = page.address();
        // SAFETY: (2) it fails in any case, and changes nothing.
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, NONE, set, ptr::null_mut::<c_void>(), SIGNAL_SET) };
        match errno() {
            libc::EINVAL => Some(true),
            libc::EFAULT => Some(false),
            _ => None,
        }
    }
}

/// These systems cannot replace pages by others with the same bytes in one step.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    use super::*;

    pub(crate) unsafe fn replace_by_private_map(_: Pages, _: c_int, _: u64) -> bool {
        false
    }

    pub(crate) unsafe fn replace_by_copy(_: Pages, _: Option<*mut c_void>) -> bool {
        false
    }

    pub(crate) fn is_readable(_: Pages) -> Option<bool> {
        None
    }
}

/// Makes a page unreadable, as if neither disk nor memory had it.
///
/// # Safety
/// It belongs to the caller, who knows that accesses fault.
#[cfg(test)]
pub(crate) unsafe fn make_unreadable(page: Pages) {
    // SAFETY: (2) by the caller.
    assert_eq!(unsafe { libc::mprotect(page.address(), page.len(), libc::PROT_NONE) }, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_around_bytes_are_whole() {
        let page = page_size();
        let pages = Pages::around(ptr::without_provenance(5 * page + 8), page, false);
        assert_eq!((pages.start, pages.end, pages.count()), (5 * page, 7 * page, 2));
    }
}
