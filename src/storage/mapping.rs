//! Memory that an array's elements lie in: a mapping of a file, or private memory that stands in for one.
//!
//! # Safety
//! What the rest of the crate may rely on, as long as a [`Mapping`] lives:
//! 1. `as_ptr()` does not change but by `remap`, and `as_ptr() .. as_ptr() + len()` is one allocation, readable, and writable unless
//!    it was mapped with [`Rights::Read`].
//! 2. `as_ptr()` is aligned for every element that [`Item::of`](crate::element::Item::of) admits, if the [`Extent`]
//!    it was made from was laid out for that element (`len() == 0` included, where it dangles).
//! 3. The bytes are initialised. Those of a file are whatever the file holds; that nobody else changes them is the
//!    promise that the caller of the `unsafe` door made.
//!
//! References to the memory are made in `array` only, and here while a private copy is being filled.
#![allow(unsafe_code)]

use std::alloc;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;

use memmap2::{MmapMut, MmapOptions, MmapRaw};

use crate::element::ElementLayout;
use crate::error::{Error, ErrorKind, Result};
use crate::file::ArrayFile;
use crate::layout::Extent;
use crate::mode::FileAccess;
#[cfg(unix)]
use crate::storage::fault::{Kind, MappedFile, Watch};

/// Owns the memory of one array.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// Declared before the memory, so that it is dropped before that is unmapped: see `fault`, demand 1. For the same
    /// reason, whoever moves the memory makes it `forget` first.
    #[cfg(unix)]
    watch: Watch,
    writable: bool,
    memory: Memory,
}

#[derive(Debug)]
enum Memory {
    /// A file's own pages: what is stored reaches the file.
    Shared(MmapRaw),
    /// A file's pages until they are written to, then private copies.
    CopyOnWrite(MmapRaw),
    /// Private memory in pages of its own.
    Anonymous(MmapRaw),
    /// Private memory from the allocator: for little, and where there is no `mmap` (Miri).
    Heap(Heap),
    /// Arrays without elements map nothing.
    Nothing,
}

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

/// Below this, a mapping of its own costs more than it saves.
const SMALLEST_ANONYMOUS_MAP: usize = 128 * 1024;

impl Mapping {
    /// Maps a file's bytes. The extent proves that the file has them.
    pub(crate) fn of_file(file: &File, extent: Extent, rights: FileAccess, populate: bool) -> Result<Self> {
        let span = extent.span();
        if span.bytes() == 0 {
            return Ok(Self::around(Memory::Nothing, rights));
        }
        let mut options = MmapOptions::new();
        options.offset(span.offset()).len(span.bytes());
        if populate && rights != FileAccess::CopyOnWrite {
            options.populate();
        }
        let mapped = match rights {
            FileAccess::Read => options.map_raw_read_only(file).map(Memory::Shared),
            FileAccess::ReadWrite => options.map_raw(file).map(Memory::Shared),
            FileAccess::CopyOnWrite => {
                // Swap space for a copy of every page is not set aside, so that a file larger than memory can be mapped.
                options.no_reserve_swap();
                // SAFETY: `map_copy` asks that the file is not changed under the slice it could be used as. No slice
                // is ever made of it: it is taken as raw memory at once, under demand 3.
                let map = unsafe { options.map_copy(file) };
                let map = map.inspect(|map| {
                    if populate {
                        populate_uncopied(map)
                    }
                });
                map.map(|map| Memory::CopyOnWrite(map.into()))
            }
        };
        Ok(Self::around(mapped.map_err(|e| Error::io("cannot map the file", e))?, rights))
    }

    /// Makes a shared mapping as long as the new extent, which starts where the old one did: in place where there is
    /// room. After an error it is as it was.
    ///
    /// Moves the memory, and gives up what the new extent leaves out: no view may be in use.
    ///
    /// # Errors
    /// `Fault` if pages of it were replaced: what they hold is not in the file.
    pub(crate) fn remap(&mut self, file: &File, extent: Extent) -> Result<()> {
        if self.faulted() {
            return Err(Error::new(
                ErrorKind::Fault,
                "pages of the array were replaced after a fault, so it cannot move",
            ));
        }
        #[cfg(unix)]
        self.watch.forget();
        #[cfg(target_os = "linux")]
        if let Memory::Shared(map) = &mut self.memory
            && extent.span().bytes() > 0
        {
            let options = memmap2::RemapOptions::new().may_move(true);
            // SAFETY: asked for is that the file reaches as far, which the extent proves. `&mut self`: whoever holds an
            // address within (demand 1) has to ask for it anew.
            let remapped = unsafe { map.remap(extent.span().bytes(), options) };
            if remapped.is_ok() {
                return Ok(());
            }
            // Advice for a part of it makes the mapping several to the system, which it does not remap as one.
        }
        self.memory = Self::of_file(file, extent, FileAccess::ReadWrite, false)?.memory;
        Ok(())
    }

    /// Maps a file that the kernel promises will never change.
    ///
    /// # Errors
    /// `Unsupported` where it does not promise so.
    pub(crate) fn of_sealed_file(backing: &ArrayFile, extent: Extent) -> Result<Self> {
        let span = extent.span();
        let (offset, len) = if span.bytes() == 0 { (0, 0) } else { (span.offset(), span.bytes()) };
        let map = MmapOptions::new().offset(offset).len(len).map_if_safe(backing.file()).map_err(|e| {
            if e.map_failed() {
                return Error::io("cannot map the file", e.into());
            }
            Error::new(
                ErrorKind::Unsupported,
                format!("the kernel does not prove this file immutable (a sealed memfd, or fs-verity): {e}"),
            )
        })?;
        let memory = if len == 0 { Memory::Nothing } else { Memory::Shared(map.into()) };
        Ok(Self::around(memory, FileAccess::Read))
    }

    /// Private memory holding a copy of a file's bytes, at whatever offset they start.
    pub(crate) fn copy_of_file(backing: &ArrayFile, extent: Extent, item: ElementLayout) -> Result<Self> {
        let span = extent.span();
        let mut mapping = Self::zeroed(span.bytes(), item)?;
        backing.read_into(mapping.as_mut_slice(), span.offset())?;
        Ok(mapping)
    }

    /// Private memory, all zero.
    ///
    /// # Errors
    /// `Io` (out of memory), where the allocator of the standard library would end the process.
    fn zeroed(bytes: usize, item: ElementLayout) -> Result<Self> {
        let memory = if bytes == 0 {
            Memory::Nothing
        } else if bytes < SMALLEST_ANONYMOUS_MAP || cfg!(miri) {
            Memory::Heap(Heap::zeroed(bytes, item)?)
        } else {
            let map = MmapOptions::new().len(bytes).map_anon().map_err(|e| Error::io("cannot allocate memory", e))?;
            Memory::Anonymous(in_large_pages(map).into())
        };
        Ok(Self::around(memory, FileAccess::ReadWrite))
    }

    fn around(memory: Memory, rights: FileAccess) -> Self {
        let writable = rights != FileAccess::Read;
        Self {
            #[cfg(unix)]
            watch: Watch::new(match rights {
                FileAccess::Read => Kind::ReadOnly,
                FileAccess::ReadWrite => Kind::Shared,
                FileAccess::CopyOnWrite => Kind::CopyOnWrite,
            }),
            writable,
            memory,
        }
    }

    /// Read demands 1 to 3 above before using it.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        match &self.memory {
            Memory::Shared(map) | Memory::CopyOnWrite(map) | Memory::Anonymous(map) => map.as_mut_ptr(),
            Memory::Heap(heap) => heap.start.as_ptr(),
            Memory::Nothing => std::ptr::without_provenance_mut(ElementLayout::LARGEST_ALIGNMENT),
        }
    }

    /// In bytes.
    pub(crate) fn len(&self) -> usize {
        match &self.memory {
            Memory::Shared(map) | Memory::CopyOnWrite(map) | Memory::Anonymous(map) => map.len(),
            Memory::Heap(heap) => heap.layout.size(),
            Memory::Nothing => 0,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        debug_assert!(matches!(self.memory, Memory::Heap(_) | Memory::Anonymous(_) | Memory::Nothing));
        // SAFETY: private memory, so (1) it is one allocation of `len` bytes, (2) aligned for bytes, (3) initialised;
        // `&mut self` keeps everything else away from it as long as the slice lives.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr(), self.len()) }
    }

    /// Waits until a range of bytes, counted from the start of the array, is on the disk.
    pub(crate) fn flush(&self, range: Range<usize>) -> Result<()> {
        match &self.memory {
            Memory::Shared(map) if !range.is_empty() => {
                map.flush_range(range.start, range.len()).map_err(|e| Error::io("cannot flush", e))
            }
            _ => Ok(()),
        }
    }

    /// Starts bringing a range of bytes to the disk. `in_file` is where the array starts in its file.
    pub(crate) fn flush_async(&self, range: Range<usize>, backing: &ArrayFile, in_file: u64) -> Result<()> {
        match &self.memory {
            Memory::Shared(map) if !range.is_empty() => {
                start_write_back(map, range, backing, in_file).map_err(|e| Error::io("cannot start write-back", e))
            }
            _ => Ok(()),
        }
    }

    /// Passes a hint on. Nothing to do outside unix, and for no memory.
    pub(crate) fn advise(&self, advice: Advice) -> Result<()> {
        #[cfg(unix)]
        if let Memory::Shared(map) | Memory::CopyOnWrite(map) | Memory::Anonymous(map) = &self.memory {
            let advice = match advice {
                Advice::Normal => memmap2::Advice::Normal,
                Advice::Sequential => memmap2::Advice::Sequential,
                Advice::Random => memmap2::Advice::Random,
                Advice::WillNeed => memmap2::Advice::WillNeed,
            };
            return map.advise(advice).map_err(|e| Error::io("cannot advise", e));
        }
        let _ = advice;
        Ok(())
    }

    /// Drops the pages that this process holds in memory; the next access brings them back from the file.
    ///
    /// Does nothing for private memory, where it would destroy data, nor for what took the place of the file's pages.
    pub(crate) fn evict(&self, range: Range<usize>) -> Result<()> {
        #[cfg(unix)]
        if let Memory::Shared(map) = &self.memory
            && !range.is_empty()
        {
            let evict = || {
                // SAFETY: on a shared mapping of a file, what was stored is in the page cache, and later accesses find it
                // there: no byte changes. All of it is the file's: no page was replaced, nor is one meanwhile.
                unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len()) }
            };
            let advised = self.watch.unless_faulted(map.as_ptr(), map.len(), evict);
            return advised.unwrap_or(Ok(())).map_err(|e| Error::io("cannot evict", e));
        }
        let _ = range;
        Ok(())
    }

    /// Runs `f`. On unix, pages of the file that cannot be had meanwhile are replaced by zeros, and [`faulted`] tells so
    /// from then on. Private memory has no such pages.
    ///
    /// `backing` is the file that was mapped, and `in_file` where the array starts in it.
    ///
    /// [`faulted`]: Self::faulted
    pub(crate) fn guarded<R>(&self, backing: &ArrayFile, in_file: u64, f: impl FnOnce() -> R) -> Result<R> {
        #[cfg(unix)]
        let _inside = match &self.memory {
            Memory::Shared(map) | Memory::CopyOnWrite(map) => {
                let file = MappedFile { file: backing.file(), offset: in_file, truncatable: backing.is_reachable() };
                // SAFETY: the watch was made in `around` for this mapping's kind, and is dropped before it.
                let inside = unsafe { self.watch.enter(map.as_ptr(), map.len(), file) };
                Some(inside.map_err(|e| Error::io("cannot install a signal handler", e))?)
            }
            _ => None,
        };
        let _ = (backing, in_file);
        Ok(f())
    }

    /// Whether pages were replaced. Then the memory is no longer the file's.
    pub(crate) fn faulted(&self) -> bool {
        #[cfg(unix)]
        return self.watch.faulted();
        #[cfg(not(unix))]
        false
    }

    /// The fraction of the pages of a range that are in memory, 0 to 1; 1 for no pages.
    pub(crate) fn residency_of(&self, range: Range<usize>) -> Result<f64> {
        assert!(range.start <= range.end && range.end <= self.len(), "bytes outside of the mapping");
        if range.is_empty() {
            return Ok(1.0);
        }
        resident_fraction(self.as_ptr().wrapping_add(range.start), range.len())
    }

    /// Whether it shows the pages of a file (copies of some of them included), rather than memory of its own.
    pub(crate) fn is_of_file(&self) -> bool {
        matches!(self.memory, Memory::Shared(_) | Memory::CopyOnWrite(_))
    }

    /// Whether it shows the pages of a file, and none but those.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.memory, Memory::Shared(_))
    }

    /// Whether what is stored in it reaches a file.
    pub(crate) fn is_writable(&self) -> bool {
        self.writable && self.is_shared()
    }

    /// Starts reading a range of bytes into memory, and returns. A hint.
    pub(crate) fn will_need(&self, range: Range<usize>) -> Result<()> {
        #[cfg(unix)]
        if let Memory::Shared(map) | Memory::CopyOnWrite(map) = &self.memory
            && !range.is_empty()
        {
            let advised = map.advise_range(memmap2::Advice::WillNeed, range.start, range.len());
            return advised.map_err(|e| Error::io("cannot read ahead", e));
        }
        let _ = range;
        Ok(())
    }

    /// Brings a range of bytes into memory and into the page tables, for reading, in one go. Nothing is changed by it,
    /// and a file that is too short, or a disk that fails, is an error and no signal.
    ///
    /// # Errors
    /// `Unsupported` where the system has no such call: Linux has it from 5.14 on.
    pub(crate) fn populate(&self, range: Range<usize>) -> Result<()> {
        #[cfg(target_os = "linux")]
        if let Memory::Shared(map) | Memory::CopyOnWrite(map) = &self.memory
            && !range.is_empty()
        {
            return map.advise_range(memmap2::Advice::PopulateRead, range.start, range.len()).map_err(|e| {
                match e.raw_os_error() {
                    Some(libc::EINVAL) => Error::new(ErrorKind::Unsupported, "this kernel cannot populate a mapping"),
                    _ => Error::io("cannot read ahead", e),
                }
            });
        }
        let _ = range;
        Err(Error::new(ErrorKind::Unsupported, "this memory cannot be read ahead"))
    }

    /// Asks that its pages be read, and cached, in pieces as large as can be. A hint for good: there is no way to take
    /// it back, so it is for mappings of the crate's own.
    pub(crate) fn in_large_reads(self) -> Self {
        #[cfg(target_os = "linux")]
        if let Memory::Shared(map) = &self.memory {
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        self
    }
}

/// Brings pages in for reading. `MAP_POPULATE` would bring those of a writable private mapping in for writing: as copies,
/// as much memory as the file is long. A hint: it may be refused.
fn populate_uncopied(map: &MmapMut) {
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::PopulateRead);
    #[cfg(not(target_os = "linux"))]
    let _ = map;
}

/// Starts reading what is not in memory of elements that lie anywhere. A hint.
pub(crate) fn will_need<T>(elements: &[T]) {
    #[cfg(unix)]
    if size_of_val(elements) > 0 {
        let bytes = elements.as_ptr_range();
        let page = rustix::param::page_size();
        let first = bytes.start.map_addr(|a| a / page * page);
        // SAFETY: this advice reads pages in, or does nothing: whatever memory it is, no byte of it changes.
        unsafe { libc::madvise(first.cast_mut().cast(), bytes.end.addr() - first.addr(), libc::MADV_WILLNEED) };
    }
    let _ = elements;
}

/// Fewer page faults while a large copy is filled. A hint: it may be refused.
fn in_large_pages(map: MmapMut) -> MmapMut {
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    map
}

/// `msync(MS_ASYNC)` does nothing on Linux; this is the call that starts writing, where it does anything (not on overlayfs).
#[cfg(any(target_os = "linux", target_os = "android"))]
fn start_write_back(_: &MmapRaw, range: Range<usize>, backing: &ArrayFile, in_file: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let (start, len) = (in_file + range.start as u64, range.len() as u64);
    let too_far = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let (start, len) = (start.try_into().map_err(too_far)?, len.try_into().map_err(too_far)?);
    let file = backing.file().as_raw_fd();
    // SAFETY: a system call on a descriptor that is open, and that touches no memory of this process.
    let answer = unsafe { libc::sync_file_range(file, start, len, libc::SYNC_FILE_RANGE_WRITE) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn start_write_back(map: &MmapRaw, range: Range<usize>, _: &ArrayFile, _: u64) -> io::Result<()> {
    map.flush_async_range(range.start, range.len())
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "macos", target_os = "freebsd"))]
fn resident_fraction(start: *mut u8, len: usize) -> Result<f64> {
    /// Pages asked about at a time: the answer takes a byte for each.
    const WINDOW: usize = 16 * 1024;
    let page = rustix::param::page_size();
    let first = start.map_addr(|a| a / page * page);
    let pages = (start.addr() + len - first.addr()).div_ceil(page);
    let mut answer = vec![0u8; WINDOW.min(pages)];
    let mut resident = 0;
    for done in (0..pages).step_by(WINDOW) {
        let count = WINDOW.min(pages - done);
        let from = first.wrapping_add(done * page);
        // SAFETY: `answer` has a byte for each of `count` pages, and the system call reads none of the pages.
        let failed = unsafe { libc::mincore(from.cast(), count * page, answer.as_mut_ptr().cast()) } != 0;
        if failed {
            return Err(Error::io("cannot ask which pages are in memory", io::Error::last_os_error()));
        }
        resident += answer[..count].iter().filter(|&&b| b & 1 == 1).count();
    }
    Ok(resident as f64 / pages as f64)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos", target_os = "freebsd")))]
fn resident_fraction(_: *mut u8, _: usize) -> Result<f64> {
    Err(Error::new(ErrorKind::Unsupported, "this system does not tell which pages are in memory"))
}

/// A raw allocation: unlike a `Box`, moving it makes no claim about who may look at the memory.
#[derive(Debug)]
struct Heap {
    start: NonNull<u8>,
    layout: alloc::Layout,
}

// SAFETY: it owns plain bytes, with no tie to a thread.
unsafe impl Send for Heap {}
// SAFETY: by `&Heap` only an address and a length can be had.
unsafe impl Sync for Heap {}

impl Heap {
    fn zeroed(bytes: usize, item: ElementLayout) -> Result<Self> {
        let out_of_memory = || Error::io("cannot allocate memory", io::ErrorKind::OutOfMemory.into());
        let layout = alloc::Layout::from_size_align(bytes, item.align()).map_err(|_| out_of_memory())?;
        debug_assert!(layout.size() > 0);
        // SAFETY: `zeroed` of `Mapping` comes here for at least one byte.
        let start = unsafe { alloc::alloc_zeroed(layout) };
        let start = NonNull::new(start).ok_or_else(out_of_memory)?;
        Ok(Self { start, layout })
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this very layout, and nobody can use it after this.
        unsafe { alloc::dealloc(self.start.as_ptr(), self.layout) }
    }
}
