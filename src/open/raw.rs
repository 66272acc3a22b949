//! Opens, loads and creates raw files: the options specify where the elements are, what they are, and in what order.
//!
//! # Safety
//! This file dereferences nothing. It declares the `unsafe` functions whose callers make the promise on which mapped arrays
//! rest, written at [`MmapArrayOptions::open`], and passes it on to `placed`:
//! 1. no byte of the array changes except through it, and
//! 2. the file is not truncated below the array's end.
#![allow(unsafe_code)]

use std::fs::File;
use std::path::Path;

use bytemuck::AnyBitPattern;
use ndarray::Dimension;

use super::MmapArrayOptions;
use super::placed::Placed;
use crate::array::MmapArrayBase;
use crate::element::ElementLayout;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::Result;
use crate::file::{ArrayFile, Destination, Lock, PendingFile};
use crate::layout::{Alignment, Layout};
use crate::mode::{FileAccess, Loadable, Mode, OpenExisting, ReadOnly, ReadWrite, Staging, Supports};
use crate::storage::mapping::Mapping;

impl<A: AnyBitPattern, D: Dimension, M: Supports<A>> MmapArrayOptions<A, D, M> {
    /// Refuses what is wrong whatever the file contains.
    fn check(&self, alignment: Alignment) -> Result<()> {
        let item = ElementLayout::of::<A>();
        self.wanted.check(item, self.offset, alignment)?;
        self.check_rows(self.wanted.exact_layout(item).transpose()?)
    }

    fn find(&self, file: &mut ArrayFile) -> Result<Placed<D>> {
        let item = ElementLayout::of::<A>();
        self.wanted.layout(item, self.offset, file.len(), self.remainder).map(|layout| self.at_offset(layout))
    }

    fn new_placed(&self) -> Result<Placed<D>> {
        self.check_no_rows()?;
        self.wanted.required_layout(ElementLayout::of::<A>()).map(|layout| self.at_offset(layout))
    }

    fn at_offset(&self, layout: Layout<D>) -> Placed<D> {
        Placed { layout, offset: self.offset, header: None, is_part: false }
    }
}

impl<A: AnyBitPattern, D: Dimension, M: Supports<A> + OpenExisting> MmapArrayOptions<A, D, M> {
    /// Maps an existing file. Its bytes are the elements, from the [`offset`](Self::offset) on.
    ///
    /// # Errors
    /// - [`ErrorKind::Io`]: not found, no permission, too many open files; with [`extend`](Self::extend) also storage full.
    /// - [`ErrorKind::NotRegularFile`].
    /// - [`ErrorKind::Locked`]: see [`Lock`].
    /// - [`ErrorKind::TooShort`]: the offset is past the end of the file, or the shape needs more bytes than the file has.
    /// - [`ErrorKind::LengthNotMultiple`]: without a shape, the file is not a whole number of elements (or rows) long.
    /// - [`ErrorKind::Misaligned`]: the offset is not a multiple of the element's alignment.
    /// - [`ErrorKind::Overflow`], [`ErrorKind::InvalidInput`] (rows without elements, or [`rows`](Self::rows) that the array
    ///   does not have).
    /// - [`ErrorKind::ShapeMismatch`]: without a shape, `D` is not one-dimensional.
    ///
    /// After an error the file is as it was, unless [`extend`](Self::extend) has made it longer and the system refuses to make it
    /// as short again; the message then says so.
    ///
    /// # Safety
    /// While the array lives,
    /// 1. no byte of the array (its elements, in the file) changes except through it, and
    /// 2. the file is not truncated below the array's end,
    ///
    /// neither by other processes, nor by other handles and mappings in this one. Appending after the array, rewriting a
    /// header before it, and writing to other parts of the file are allowed. The demands are the same for a copy-on-write
    /// array, because what it has not written to is still the file.
    ///
    /// A comment to copy: `// SAFETY: while the array lives, no other process or handle changes its bytes or truncates the file.`
    pub unsafe fn open<P: AsRef<Path>>(self, path: P) -> Result<MmapArrayBase<A, D, M>> {
        // SAFETY: (1, 2) the caller's.
        unsafe { self.open_at(path.as_ref(), self.check(Alignment::InPlace), Self::find) }
    }

    /// Maps a file that is already open.
    ///
    /// The array keeps its own descriptor (two if it takes a lock). It neither uses nor moves the position of the caller's
    /// handle. Where the system allows it (on Linux, through `/proc`), the file is opened anew: then flags such as `O_APPEND`
    /// do not matter, and a failed write-back is reported to the array and to the caller's handle.
    ///
    /// # Locks
    /// By default no lock is taken, because it would belong to the caller's handle and to all its copies. If you ask for one
    /// by [`lock`](Self::lock), then on unix (where the lock is `flock`)
    /// - a lock that the handle already has is converted: a shared one becomes exclusive for a writing mode, and an
    ///   exclusive one becomes shared for a reading mode, which admits others;
    /// - a conversion that is refused ([`ErrorKind::Locked`]) may lose the lock that was there;
    /// - the lock stays when the array is closed or dropped, and also if mapping then fails, until the caller unlocks the
    ///   handle or closes its last copy. Two arrays on one handle share one lock, and do not exclude each other.
    ///
    /// Closing the array also releases all `fcntl` locks of this process on the file: POSIX releases them when any
    /// descriptor of the file is closed.
    ///
    /// # Errors
    /// Those of [`open`](Self::open). A handle without the access that the mode needs is [`ErrorKind::Io`] (permission).
    ///
    /// # Safety
    /// As for [`open`](Self::open).
    pub unsafe fn map(self, file: &File) -> Result<MmapArrayBase<A, D, M>> {
        self.check(Alignment::InPlace)?;
        let file = ArrayFile::adopt(file, M::FILE_ACCESS, self.lock.unwrap_or(Lock::None))?;
        // SAFETY: (1, 2) the caller's.
        unsafe { self.map_file(file, Self::find) }
    }
}

impl<A: AnyBitPattern, D: Dimension, M: Supports<A> + Loadable> MmapArrayOptions<A, D, M> {
    /// Reads the array into memory. Safe: later changes of the file do not matter. Works on any file system and at any
    /// offset; a misaligned array is copied to aligned memory.
    ///
    /// # Errors
    /// Those of [`open`](Self::open) except [`ErrorKind::Misaligned`]. An array that does not fit in memory is
    /// [`ErrorKind::Io`] (out of memory).
    pub fn load<P: AsRef<Path>>(self, path: P) -> Result<MmapArrayBase<A, D, M>> {
        self.load_at(path.as_ref(), self.check(Alignment::Copied), Self::find)
    }
}

impl<A: AnyBitPattern, D: Dimension> MmapArrayOptions<A, D, ReadOnly> {
    /// Maps an open file that the kernel guarantees not to change. Safe: on Linux and FreeBSD that is a memfd sealed against
    /// writing and shrinking, on Linux also a file under fs-verity.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for any other file, and those of [`map`](Self::map).
    pub fn map_sealed(self, file: &File) -> Result<MmapArrayBase<A, D, ReadOnly>> {
        self.check(Alignment::InPlace)?;
        let mut file = ArrayFile::adopt(file, FileAccess::Read, self.lock.unwrap_or(Lock::None))?;
        let placed = self.find(&mut file)?;
        let (placed, extent) = placed.rows(self.rows.as_ref(), Alignment::InPlace, file.len(), "")?;
        let mapping = Mapping::of_sealed_file(&file, extent)?;
        // SAFETY: (1, 2) the kernel has proved that the file does not change.
        unsafe { placed.into_array(mapping, file, Mode::ReadOnly) }
    }
}

impl<A: AnyBitPattern, D: Dimension> MmapArrayOptions<A, D, ReadWrite>
where
    ReadWrite: Supports<A>,
{
    /// Creates a file and maps it, or replaces an existing file. It is as long as the offset and the array, and all zero.
    ///
    /// The new file gets its path as the last step. Before that nothing has changed. Afterwards, processes
    /// that have the old file open or mapped, and its other hard links, keep the old contents. The call needs permission to
    /// write to the folder.
    ///
    /// A symbolic link is followed, except for another user's link in a folder where everybody can create files (a sticky
    /// one, like `/tmp`). In such a folder another user's file is not replaced, either.
    ///
    /// # Permissions
    /// A new file gets 0666 less the umask. A file that replaces another gets its permissions, its access control list
    /// (Linux), and where the system allows it its owner and group. If the group cannot be kept, nobody gets the group's
    /// permissions. At no moment, and under no name, can anybody open the new file who could not open the old one.
    ///
    /// # Errors
    /// - [`ErrorKind::ShapeRequired`]: there is no [`shape`](Self::shape).
    /// - [`ErrorKind::NotRegularFile`]: the path is that of something else, which is not touched.
    /// - [`ErrorKind::Io`]: no permission (for the folder, or for the existing file), storage full, no such folder ...
    /// - [`ErrorKind::Unsupported`]: the path leads to an unnamed open file (such as `/proc/self/fd/3` for a deleted file).
    /// - [`ErrorKind::Misaligned`], [`ErrorKind::Overflow`].
    ///
    /// After an error nothing has changed, and nothing is left behind.
    ///
    /// # Safety
    /// As for [`open`](Self::open), from the moment when the file is at its path.
    pub unsafe fn create<P: AsRef<Path>>(self, path: P) -> Result<MmapArrayBase<A, D, ReadWrite>> {
        // SAFETY: (1, 2) the caller's.
        unsafe { self.create_at(path.as_ref(), self.new_placed(), Destination::replace, PendingFile::publish) }
    }

    /// Creates a file and maps it, at a path where nothing exists. Otherwise like [`create`](Self::create).
    ///
    /// # Errors
    /// [`ErrorKind::Io`] (already exists) if there is anything at the path, even a dangling symbolic link, and those of
    /// [`create`](Self::create).
    ///
    /// # Safety
    /// As for [`create`](Self::create).
    pub unsafe fn create_new<P: AsRef<Path>>(self, path: P) -> Result<MmapArrayBase<A, D, ReadWrite>> {
        // SAFETY: (1, 2) the caller's.
        unsafe { self.create_at(path.as_ref(), self.new_placed(), Destination::vacant, PendingFile::publish_new) }
    }

    /// See [`MmapArrayBase::scratch`].
    pub(super) fn scratch(self) -> Result<MmapArrayBase<A, D, ReadWrite>> {
        self.create_unnamed(self.new_placed()?, PendingFile::scratch, None)
    }
}

impl<A: AnyBitPattern, D: Dimension> MmapArrayOptions<A, D, Staging>
where
    Staging: Supports<A>,
{
    /// See [`MmapArrayBase::stage`].
    pub(super) fn stage(self, path: &Path) -> Result<MmapArrayBase<A, D, Staging>> {
        self.stage_at(path, self.new_placed())
    }
}
