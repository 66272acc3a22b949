//! What a mapping asks of the system beyond memmap2's portable part.
//!
//! Ranges count bytes from the start of the mapping. Where a system lacks a call, a hint does nothing, and the others return
//! an error of the kind `Unsupported`.
//!
//! # Safety
//! 1. Advice is passed on only if it changes no byte, whatever the memory is; what can change bytes is an `unsafe fn`.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;

use memmap2::MmapRaw;

pub(crate) use hints::{advise, evict, will_need};
pub(crate) use linux::{populate, prefer_huge_pages, prefer_large_pages, remap};
pub(crate) use residency::resident_fraction;
pub(crate) use writeback::start_writeback;

/// How the system should expect the array to be read. A hint: it changes speed, never results.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Advice {
    /// Nothing special; takes back the others.
    Normal,
    /// From the start to the end: read far ahead.
    Sequential,
    /// Here and there: read nothing ahead.
    Random,
    /// Soon: start reading now.
    WillNeed,
}

#[cfg(unix)]
mod hints {
    use super::*;

    /// Passes a hint on.
    pub(crate) fn advise(map: &MmapRaw, advice: Advice, range: Range<usize>) -> io::Result<()> {
        let advice = match advice {
            Advice::Normal => memmap2::Advice::Normal,
            Advice::Sequential => memmap2::Advice::Sequential,
            Advice::Random => memmap2::Advice::Random,
            Advice::WillNeed => memmap2::Advice::WillNeed,
        };
        map.advise_range(advice, range.start, range.len())
    }

    /// Starts reading what is not in memory of elements that lie anywhere. A hint.
    pub(crate) fn will_need<T>(elements: &[T]) {
        let bytes = elements.as_ptr_range();
        let page = rustix::param::page_size();
        let first = bytes.start.map_addr(|a| a / page * page);
        if !bytes.is_empty() {
            // SAFETY: (1) this advice reads pages in, or does nothing.
            unsafe { libc::madvise(first.cast_mut().cast(), bytes.end.addr() - first.addr(), libc::MADV_WILLNEED) };
        }
    }

    /// Drops pages from the memory of this process.
    ///
    /// # Safety
    /// The range shows the pages of a file that is mapped shared, and none that were put in their place: what was stored is in
    /// the page cache, where the next access finds it. Of other memory, the contents are lost.
    pub(crate) unsafe fn evict(map: &MmapRaw, range: Range<usize>) -> io::Result<()> {
        // SAFETY: (1) by the caller.
        unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len()) }
    }
}

#[cfg(not(unix))]
mod hints {
    use super::*;

    pub(crate) fn advise(_: &MmapRaw, _: Advice, _: Range<usize>) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn will_need<T>(_: &[T]) {}

    pub(crate) unsafe fn evict(_: &MmapRaw, _: Range<usize>) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;

    /// Changes the length of a mapping of a file, and moves it if there is no room. After an error it is as it was.
    ///
    /// # Safety
    /// The file reaches as far, and nobody uses an address in the mapping that was obtained before.
    pub(crate) unsafe fn remap(map: &mut MmapRaw, len: usize) -> io::Result<()> {
        let options = memmap2::RemapOptions::new().may_move(true);
        // SAFETY: by the caller.
        unsafe { map.remap(len, options) }
    }

    /// Brings pages into memory and into the page tables, for reading. A file that is too short and a disk that fails are
    /// errors, rather than signals.
    ///
    /// # Errors
    /// `Unsupported` before Linux 5.14.
    pub(crate) fn populate(map: &MmapRaw, range: Range<usize>) -> io::Result<()> {
        let populated = map.advise_range(memmap2::Advice::PopulateRead, range.start, range.len());
        populated.map_err(|e| if e.raw_os_error() == Some(libc::EINVAL) { unsupported() } else { e })
    }

    /// Asks for huge pages, and of a file for reads and cached pages that are as large as possible. A hint that cannot be taken
    /// back.
    pub(crate) fn prefer_large_pages(map: &MmapRaw) {
        let _ = map.advise(memmap2::Advice::HugePage);
    }

    /// Asks for huge pages for memory of any kind that is not used yet, and what else is in its first and last page. A hint.
    pub(crate) fn prefer_huge_pages<T>(memory: &mut [MaybeUninit<T>]) {
        let bytes = memory.as_mut_ptr_range();
        let page = rustix::param::page_size();
        let first = bytes.start.map_addr(|a| a / page * page);
        if !bytes.is_empty() {
            // SAFETY: (1) this advice changes no byte.
            unsafe { libc::madvise(first.cast(), bytes.end.addr() - first.addr(), libc::MADV_HUGEPAGE) };
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod linux {
    use super::*;

    pub(crate) unsafe fn remap(_: &mut MmapRaw, _: usize) -> io::Result<()> {
        Err(unsupported())
    }

    pub(crate) fn populate(_: &MmapRaw, _: Range<usize>) -> io::Result<()> {
        Err(unsupported())
    }

    pub(crate) fn prefer_large_pages(_: &MmapRaw) {}

    pub(crate) fn prefer_huge_pages<T>(_: &mut [MaybeUninit<T>]) {}
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod writeback {
    use std::os::fd::AsRawFd;

    use super::*;

    /// Starts writing a range to the disk. `offset` is where the mapping starts in its file.
    ///
    /// By `sync_file_range`, since `msync(MS_ASYNC)` does nothing on Linux. (On overlayfs neither does anything.)
    pub(crate) fn start_writeback(_: &MmapRaw, range: Range<usize>, file: &File, offset: u64) -> io::Result<()> {
        let (start, len) = (offset + range.start as u64, range.len() as u64);
        let too_far = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let (start, len) = (start.try_into().map_err(too_far)?, len.try_into().map_err(too_far)?);
        // SAFETY: the descriptor is open, and the call touches no memory of this process.
        let answer = unsafe { libc::sync_file_range(file.as_raw_fd(), start, len, libc::SYNC_FILE_RANGE_WRITE) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod writeback {
    use super::*;

    pub(crate) fn start_writeback(map: &MmapRaw, range: Range<usize>, _: &File, _: u64) -> io::Result<()> {
        map.flush_async_range(range.start, range.len())
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "macos", target_os = "freebsd"))]
mod residency {
    use std::io;

    /// The number of pages that the system is asked about at a time: its answer has a byte for each, here 16 KiB.
    const WINDOW: usize = 16 * 1024;

    /// The fraction of the pages around `start .. start + len` that are in memory. `len` is not 0.
    pub(crate) fn resident_fraction(start: *const u8, len: usize) -> io::Result<f64> {
        let page = rustix::param::page_size();
        let first = start.map_addr(|a| a / page * page);
        let pages = (start.addr() + len - first.addr()).div_ceil(page);
        let mut answer = vec![0u8; WINDOW.min(pages)];
        let mut resident = 0;
        for done in (0..pages).step_by(WINDOW) {
            let count = WINDOW.min(pages - done);
            let from = first.wrapping_add(done * page);
            // SAFETY: `answer` has a byte for each of `count` pages, and the call reads none of the pages.
            let failed =
                unsafe { libc::mincore(from.cast_mut().cast(), count * page, answer.as_mut_ptr().cast()) } != 0;
            if failed {
                return Err(io::Error::last_os_error());
            }
            resident += answer[..count].iter().filter(|&&page| page & 1 == 1).count();
        }
        Ok(resident as f64 / pages as f64)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos", target_os = "freebsd")))]
mod residency {
    use super::*;

    pub(crate) fn resident_fraction(_: *const u8, _: usize) -> io::Result<f64> {
        Err(unsupported())
    }
}

fn unsupported() -> io::Error {
    io::ErrorKind::Unsupported.into()
}
