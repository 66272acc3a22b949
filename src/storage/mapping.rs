//! The memory that an array's elements lie in: a mapping of a file, or an in-memory copy.
//!
//! # Safety
//! What the rest of the crate may rely on, as long as a [`Mapping`] lives:
//! 1. `as_ptr()` changes only by `remap`, and `as_ptr() .. as_ptr() + len()` is one allocation, readable, and writable unless it
//!    was mapped with [`FileAccess::Read`].
//! 2. `as_ptr()` is aligned for every element that [`ElementLayout::of`] accepts, if the [`Extent`] it was made from was laid
//!    out for that element (`len() == 0` included, when it dangles).
//! 3. The bytes are initialised. Those of a file are whatever the file holds; that nothing else changes them is the promise of
//!    the caller of the `unsafe` constructor.
//!
//! References to the memory are made in `array` only, and here while an in-memory copy is being filled.
#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::AtomicU8;

use bytemuck::Zeroable;
use memmap2::{MmapOptions, MmapRaw};

use crate::element::ElementLayout;
use crate::error::{Error, ErrorKind, Result, error};
use crate::file::ArrayFile;
use crate::layout::Extent;
use crate::mode::FileAccess;
use crate::storage::fault::{FaultHandle, MappedFile};
use crate::sys::{mapping as system, memory::vec_with_room};

pub use crate::sys::mapping::Advice;
pub(crate) use crate::sys::mapping::will_need;

/// Owns the memory of one array.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// Declared before the memory, so that it is dropped before that is unmapped: see `fault`, demand 1. For the same reason
    /// it must be reset before the memory is moved.
    faults: FaultHandle,
    writable: bool,
    memory: Memory,
}

#[derive(Debug)]
enum Memory {
    /// A file's own pages: what is stored reaches the file.
    Shared(MmapRaw),
    /// A file's pages until they are written to, then private copies.
    CopyOnWrite(MmapRaw),
    /// An in-memory copy in pages of its own.
    Anonymous(MmapRaw),
    /// A small in-memory copy.
    Heap(Heap),
    /// Arrays without elements map nothing.
    Nothing,
}

/// Moving the `Vec` leaves addresses in it valid.
struct Heap {
    chunks: Vec<Chunk>,
    bytes: usize,
}

/// Never the contents.
impl fmt::Debug for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// As aligned as most elements need. Atomics, so that it can be written to while it is borrowed, through the address that
/// [`Mapping::as_ptr`] returns.
#[repr(align(16))]
#[expect(dead_code, reason = "only its address is used")]
struct Chunk([AtomicU8; 16]);

// SAFETY: zeros are valid for atomic integers.
unsafe impl Zeroable for Chunk {}

/// From this size on, an in-memory copy has pages of its own. The allocator uses memory again whose pages are mapped already:
/// a smaller copy that is made after another was dropped takes 0.07 to 0.9 of the time. Larger memory it returns to the
/// system, too; then a mapping is faster, for it is mostly all huge pages. And the system allows a process only about 65,000
/// mappings.
const SMALLEST_ANONYMOUS_MAP: usize = 32 * 1024 * 1024;

/// Memory from the allocator is zeroed and filled by parts of this size: the zeros are still in a core's own cache when they
/// are overwritten.
const PART: usize = 256 * 1024;

impl Mapping {
    /// Maps a file's bytes. The extent proves that the file has them.
    pub(crate) fn of_file(file: &File, extent: Extent, access: FileAccess, populate: bool) -> Result<Self> {
        let span = extent.span();
        if span.bytes() == 0 {
            return Ok(Self::new(Memory::Nothing, access));
        }
        let mut options = MmapOptions::new();
        options.offset(span.offset()).len(span.bytes());
        if populate && access != FileAccess::CopyOnWrite {
            options.populate();
        }
        let mapped = match access {
            FileAccess::Read => options.map_raw_read_only(file).map(Memory::Shared),
            FileAccess::ReadWrite => options.map_raw(file).map(Memory::Shared),
            FileAccess::CopyOnWrite => {
                // Without swap space for a copy of every page, a file larger than memory can be mapped.
                options.no_reserve_swap();
                // SAFETY: `map_copy` demands that the file does not change under the slice that its result can be used as. No
                // slice is made of it: it is turned into raw memory at once, under demand 3.
                let map = unsafe { options.map_copy(file) };
                map.map(|map| {
                    let map = MmapRaw::from(map);
                    if populate {
                        // `MAP_POPULATE` would bring the pages in for writing: as copies, which take as much memory as the
                        // file is long.
                        let _ = system::populate(&map, 0..map.len());
                    }
                    Memory::CopyOnWrite(map)
                })
            }
        };
        Ok(Self::new(mapped.map_err(|e| Error::io("cannot map the file", e))?, access))
    }

    /// Makes a shared mapping as long as the new extent, which starts where the old one did: in place if there is room. After
    /// an error it is as it was.
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
        self.faults.reset();
        let bytes = extent.span().bytes();
        if let Memory::Shared(map) = &mut self.memory
            && bytes > 0
        {
            // SAFETY: the extent proves that the file reaches as far. `&mut self`: nobody uses an address in it (demand 1).
            if unsafe { system::remap(map, bytes) }.is_ok() {
                return Ok(());
            }
            // Advice for a part of it splits the mapping for the system, which then does not remap it as one.
        }
        self.memory = Self::of_file(file, extent, FileAccess::ReadWrite, false)?.memory;
        Ok(())
    }

    /// Maps a file that the kernel guarantees never to change.
    ///
    /// # Errors
    /// `Unsupported` if it does not guarantee that.
    pub(crate) fn of_sealed_file(backing: &ArrayFile, extent: Extent) -> Result<Self> {
        let span = extent.span();
        let (offset, len) = if span.bytes() == 0 { (0, 0) } else { (span.offset(), span.bytes()) };
        let map = MmapOptions::new().offset(offset).len(len).map_if_safe(backing.file()).map_err(|e| {
            if e.map_failed() {
                return Error::io("cannot map the file", e.into());
            }
            error!(Unsupported, "the kernel does not prove this file immutable (a sealed memfd, or fs-verity): {e}")
        })?;
        let memory = if len == 0 { Memory::Nothing } else { Memory::Shared(map.into()) };
        Ok(Self::new(memory, FileAccess::Read))
    }

    /// An in-memory copy of a file's bytes, at whatever offset they start.
    pub(crate) fn copy_of_file(backing: &ArrayFile, extent: Extent, element: ElementLayout) -> Result<Self> {
        let span = extent.span();
        let mut mapping = Self::owned(span.bytes(), element)?;
        while mapping.len() < span.bytes() {
            let before = mapping.len();
            mapping.lengthen((before + PART).min(span.bytes()));
            let part = &mut mapping.as_mut_slice()[before..];
            if backing.read_at(part, span.offset() + before as u64)? < part.len() {
                // The file is too short now. Reading all of it says so.
                mapping.lengthen(span.bytes());
                backing.read_into(mapping.as_mut_slice(), span.offset())?;
            }
        }
        if matches!(mapping.memory, Memory::Anonymous(_)) {
            backing.read_into(mapping.as_mut_slice(), span.offset())?;
        }
        Ok(mapping)
    }

    /// Memory of its own, filled from its start to its end by calls of `fill`.
    #[cfg(feature = "npz")]
    pub(crate) fn filled(
        bytes: usize,
        element: ElementLayout,
        mut fill: impl FnMut(&mut [u8]) -> Result<()>,
    ) -> Result<Self> {
        let mut mapping = Self::owned(bytes, element)?;
        let mut done = 0;
        while done < bytes {
            let end = bytes.min(done + PART);
            mapping.lengthen(end);
            fill(&mut mapping.as_mut_slice()[done..end])?;
            done = end;
        }
        Ok(mapping)
    }

    /// Memory of its own, all zero; or room for so many bytes, of which there are none yet.
    ///
    /// # Errors
    /// `Io` (out of memory), where the standard library's containers would abort the process.
    fn owned(bytes: usize, element: ElementLayout) -> Result<Self> {
        let memory = if bytes == 0 {
            Memory::Nothing
        } else if bytes < SMALLEST_ANONYMOUS_MAP && element.align() <= align_of::<Chunk>() {
            let out_of_memory = |_| Error::io("cannot allocate memory", io::ErrorKind::OutOfMemory.into());
            let chunks = vec_with_room(bytes.div_ceil(size_of::<Chunk>())).map_err(out_of_memory)?;
            Memory::Heap(Heap { chunks, bytes: 0 })
        } else {
            let map = MmapOptions::new().len(bytes).map_anon().map_err(|e| Error::io("cannot allocate memory", e))?;
            let map = MmapRaw::from(map);
            // Fewer page faults while it is filled.
            system::prefer_large_pages(&map);
            Memory::Anonymous(map)
        };
        Ok(Self::new(memory, FileAccess::ReadWrite))
    }

    /// Makes memory from the allocator longer, within the room that it has: its end is zero.
    fn lengthen(&mut self, bytes: usize) {
        if let Memory::Heap(heap) = &mut self.memory {
            heap.chunks.resize_with(bytes.div_ceil(size_of::<Chunk>()), Chunk::zeroed);
            heap.bytes = bytes;
        }
    }

    fn new(memory: Memory, access: FileAccess) -> Self {
        Self { faults: FaultHandle::new(access), writable: access != FileAccess::Read, memory }
    }

    /// Demands 1 to 3 above say what it points to.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        match &self.memory {
            Memory::Shared(map) | Memory::CopyOnWrite(map) | Memory::Anonymous(map) => map.as_mut_ptr(),
            Memory::Heap(heap) => heap.chunks.as_ptr().cast_mut().cast(),
            Memory::Nothing => std::ptr::without_provenance_mut(ElementLayout::LARGEST_ALIGNMENT),
        }
    }

    /// In bytes.
    pub(crate) fn len(&self) -> usize {
        match &self.memory {
            Memory::Shared(map) | Memory::CopyOnWrite(map) | Memory::Anonymous(map) => map.len(),
            Memory::Heap(heap) => heap.bytes,
            Memory::Nothing => 0,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        debug_assert!(matches!(self.memory, Memory::Heap(_) | Memory::Anonymous(_) | Memory::Nothing));
        // SAFETY: memory of its own, so (1) it is one allocation of `len` bytes, (2) aligned for bytes, (3) initialised; `&mut
        // self` keeps everything else away from it as long as the slice lives.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr(), self.len()) }
    }

    /// The map that shows a file's own pages, for a range that is not empty.
    fn shared_map(&self, range: &Range<usize>) -> Option<&MmapRaw> {
        self.file_map(range).filter(|_| self.is_shared())
    }

    /// The map that shows a file's pages, or copies of some of them, for a range that is not empty.
    fn file_map(&self, range: &Range<usize>) -> Option<&MmapRaw> {
        match &self.memory {
            Memory::Shared(map) | Memory::CopyOnWrite(map) if !range.is_empty() => Some(map),
            _ => None,
        }
    }

    /// Waits until a range of bytes, counted from the start of the array, is on the disk.
    pub(crate) fn flush(&self, range: Range<usize>) -> Result<()> {
        let Some(map) = self.shared_map(&range) else { return Ok(()) };
        map.flush_range(range.start, range.len()).map_err(|e| Error::io("cannot flush", e))
    }

    /// Starts writing a range of bytes to the disk. `in_file` is where the array starts in its file.
    pub(crate) fn flush_async(&self, range: Range<usize>, backing: &ArrayFile, in_file: u64) -> Result<()> {
        let Some(map) = self.shared_map(&range) else { return Ok(()) };
        let started = system::start_writeback(map, range, backing.file(), in_file);
        started.map_err(|e| Error::io("cannot start write-back", e))
    }

    /// Passes a hint on. Does nothing outside unix, and for memory that is not mapped.
    pub(crate) fn advise(&self, advice: Advice) -> Result<()> {
        match &self.memory {
            Memory::Shared(map) | Memory::CopyOnWrite(map) | Memory::Anonymous(map) => {
                system::advise(map, advice, 0..map.len()).map_err(|e| Error::io("cannot advise", e))
            }
            Memory::Heap(_) | Memory::Nothing => Ok(()),
        }
    }

    /// Drops the pages that this process holds in memory; the next access brings them back from the file.
    ///
    /// Does nothing for an in-memory copy, whose data it would destroy, nor if pages of the file were replaced.
    pub(crate) fn evict(&self, range: Range<usize>) -> Result<()> {
        let Some(map) = self.shared_map(&range) else { return Ok(()) };
        // SAFETY: a shared mapping of a file, of which no page was replaced, nor is one meanwhile.
        let evict = || unsafe { system::evict(map, range) };
        let evicted = self.faults.unless_faulted(map.as_ptr(), map.len(), evict);
        evicted.unwrap_or(Ok(())).map_err(|e| Error::io("cannot evict", e))
    }

    /// Runs `f`. On unix, missing pages of the file are replaced meanwhile, and [`faulted`] reports it from then on. An
    /// in-memory copy has no such pages.
    ///
    /// `backing` is the file that was mapped, and `in_file` where the array starts in it.
    ///
    /// [`faulted`]: Self::faulted
    pub(crate) fn guarded<R>(&self, backing: &ArrayFile, in_file: u64, f: impl FnOnce() -> R) -> Result<R> {
        let _call = match self.file_map(&(0..self.len())) {
            Some(map) => {
                let file = MappedFile { file: backing.file(), offset: in_file, truncatable: backing.is_reachable() };
                // SAFETY: the handle was made for this mapping's access, is reset before it moves, and is dropped before it.
                let call = unsafe { self.faults.enter(map.as_ptr(), map.len(), file) };
                Some(call.map_err(|e| Error::io("cannot install a signal handler", e))?)
            }
            None => None,
        };
        Ok(f())
    }

    /// Whether pages were replaced. Then the memory is no longer the file's.
    pub(crate) fn faulted(&self) -> bool {
        self.faults.faulted()
    }

    /// The fraction of the pages of a range that are in memory, 0 to 1; 1 for no pages.
    pub(crate) fn residency_of(&self, range: Range<usize>) -> Result<f64> {
        assert!(range.start <= range.end && range.end <= self.len(), "bytes outside of the mapping");
        if range.is_empty() {
            return Ok(1.0);
        }
        let fraction = system::resident_fraction(self.as_ptr().wrapping_add(range.start), range.len());
        fraction.map_err(|e| match e.kind() {
            io::ErrorKind::Unsupported => {
                Error::new(ErrorKind::Unsupported, "this system does not report which pages are in memory")
            }
            _ => Error::io("cannot ask which pages are in memory", e),
        })
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
        let Some(map) = self.file_map(&range) else { return Ok(()) };
        system::advise(map, Advice::WillNeed, range).map_err(|e| Error::io("cannot read ahead", e))
    }

    /// Brings a range of bytes into memory and into the page tables, for reading, in one system call. Changes nothing, and
    /// reports a file that is too short, or a disk that fails, as an error rather than a signal.
    ///
    /// # Errors
    /// `Unsupported` if the system has no such call: Linux has it from 5.14 on.
    pub(crate) fn populate(&self, range: Range<usize>) -> Result<()> {
        let Some(map) = self.file_map(&range) else {
            return Err(Error::new(ErrorKind::Unsupported, "this memory cannot be read ahead"));
        };
        system::populate(map, range).map_err(|e| match e.kind() {
            io::ErrorKind::Unsupported => Error::new(ErrorKind::Unsupported, "this system cannot populate a mapping"),
            _ => Error::io("cannot read ahead", e),
        })
    }

    /// Asks that its pages are read, and cached, in units as large as possible. A hint that cannot be taken back, so it is for
    /// mappings of the crate's own.
    pub(crate) fn in_large_reads(self) -> Self {
        if let Memory::Shared(map) = &self.memory {
            system::prefer_large_pages(map);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::file::Lock;
    use crate::layout::{Alignment, Layout, Order};

    #[test]
    fn a_copy_made_by_parts_is_whole_or_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let content: Vec<u8> = (0..3 * PART + 100).map(|n| (n ^ (n >> 8)) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let backing = ArrayFile::open(&path, FileAccess::Read, Lock::None).unwrap();
        let element = ElementLayout::of::<u8>();
        let copy = |offset: usize, bytes: usize, file_len: usize| {
            let layout = Layout::new(ndarray::Ix1(bytes), Order::C, element).unwrap();
            let extent = layout.extent(offset as u64, Alignment::Copied, file_len as u64, "").unwrap();
            Mapping::copy_of_file(&backing, extent, element)
        };
        for offset in [0, 1, 90] {
            for bytes in [0, 1, 15, 17, PART - 1, PART, PART + 1, 2 * PART, 3 * PART + 9] {
                let mut mapping = copy(offset, bytes, content.len()).unwrap();
                assert!(mapping.as_mut_slice() == &content[offset..offset + bytes], "{bytes} bytes from {offset}");
            }
        }
        let e = copy(7, 5 * PART, 7 + 5 * PART).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::TooShort);
        let (end, needed) = (content.len(), 7 + 5 * PART);
        let message =
            format!("file was truncated to {end} bytes while the {needed} bytes up to the array's end were being read");
        assert_eq!(e.to_string(), message);
    }
}
