//! Maps, copies or creates the file of an array: what raw and `.npy` files have in common.
//!
//! # Safety
//! An array rests on one demand ([`MmapArrayBase::new`]): nobody else changes its bytes or truncates its file. It holds
//! 1. by the promise of whoever calls an `unsafe` constructor, for a file that others can open;
//! 2. because nobody else can, for an unnamed file; or
//! 3. because there is no file, for an in-memory copy.
#![allow(unsafe_code)]

use std::ops::Range;
use std::path::{Path, PathBuf};

use bytemuck::AnyBitPattern;
use ndarray::Dimension;

use super::MmapArrayOptions;
use crate::array::MmapArrayBase;
use crate::error::{Error, Result, error};
use crate::file::{ArrayFile, Destination, NotPublished, PendingFile, Published};
use crate::layout::{Alignment, Extent, Layout};
use crate::mode::{FileAccess, Mode, Supports};
use crate::npy::EncodedHeader;
use crate::storage::{Storage, mapping::Mapping};

/// An array whose place in its file is known.
pub(super) struct Placed<D> {
    pub(super) layout: Layout<D>,
    /// Where the first element is, in bytes.
    pub(super) offset: u64,
    /// The `.npy` header that must state the array's shape, in modes that can change it.
    pub(super) header: Option<EncodedHeader>,
    /// Whether it is some rows of a longer array.
    pub(super) is_part: bool,
}

impl<D: Dimension> Placed<D> {
    /// Where the array ends in its file.
    pub(super) fn end(&self) -> Result<u64> {
        Ok(self.layout.span(self.offset, Alignment::InPlace)?.end())
    }

    pub(super) fn extent(&self, alignment: Alignment, file_len: u64, remedy: &str) -> Result<Extent> {
        self.layout.extent(self.offset, alignment, file_len, remedy)
    }

    /// These rows of it, or all, with the proof that the file holds them. It must hold the others, too.
    pub(super) fn rows(
        self,
        rows: Option<&Range<usize>>,
        alignment: Alignment,
        file_len: u64,
        remedy: &str,
    ) -> Result<(Self, Extent)> {
        let all = self.extent(alignment, file_len, remedy)?;
        let Some(rows) = rows else { return Ok((self, all)) };
        let part = self.part(rows.clone())?;
        let extent = part.extent(alignment, file_len, "")?;
        Ok((part, extent))
    }

    /// Some rows of it. The header is not theirs to change.
    pub(super) fn part(self, rows: Range<usize>) -> Result<Self> {
        let bytes = self.layout.row_bytes(rows.clone())?;
        let layout = self.layout.with_rows(rows.len())?;
        Ok(Self { layout, offset: self.offset.saturating_add(bytes.start as u64), header: None, is_part: true })
    }

    /// # Safety
    /// That of [`MmapArrayBase::new`].
    pub(super) unsafe fn into_array<A, M>(
        self,
        mapping: Mapping,
        file: ArrayFile,
        mode: Mode,
    ) -> Result<MmapArrayBase<A, D, M>>
    where
        A: AnyBitPattern,
        M: Supports<A>,
    {
        let storage = Storage::of_file(mapping, file, self.offset);
        // SAFETY: the caller's.
        unsafe { MmapArrayBase::new(self.layout, storage, mode, self.header, self.is_part) }
    }
}

impl<A: AnyBitPattern, D: Dimension, M: Supports<A>> MmapArrayOptions<A, D, M> {
    /// Refuses rows that no array has, or that an array of this layout has not.
    pub(super) fn check_rows(&self, layout: Option<Layout<D>>) -> Result<()> {
        match (&self.rows, layout) {
            (Some(rows), Some(layout)) if layout.outermost().is_none() => {
                Err(error!(InvalidInput, "an array without axes has no rows {rows:?} to map"))
            }
            (Some(rows), Some(layout)) => layout.row_bytes(rows.clone()).map(drop),
            (Some(rows), None) if rows.start > rows.end => {
                Err(error!(InvalidInput, "rows {rows:?} end before they start"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses rows beside a call that creates a file.
    pub(super) fn check_no_rows(&self) -> Result<()> {
        match &self.rows {
            Some(rows) => {
                Err(error!(InvalidInput, "a file is created with all of its rows, not with rows {rows:?} only"))
            }
            None => Ok(()),
        }
    }

    /// Maps the array that `find` finds in the file at `path`. `checked` says what is wrong whatever the file contains.
    ///
    /// # Safety
    /// (1)
    pub(super) unsafe fn open_at(
        &self,
        path: &Path,
        checked: Result<()>,
        find: impl FnOnce(&Self, &mut ArrayFile) -> Result<Placed<D>>,
    ) -> Result<MmapArrayBase<A, D, M>> {
        checked
            .and_then(|()| ArrayFile::open(path, M::FILE_ACCESS, self.lock.unwrap_or_default()))
            // SAFETY: (1) the caller's.
            .and_then(|file| unsafe { self.map_file(file, find) })
            .map_err(|e| e.with_path(path))
    }

    /// # Safety
    /// (1)
    pub(super) unsafe fn map_file(
        &self,
        mut file: ArrayFile,
        find: impl FnOnce(&Self, &mut ArrayFile) -> Result<Placed<D>>,
    ) -> Result<MmapArrayBase<A, D, M>> {
        file.preallocate(self.preallocate);
        let placed = find(self, &mut file)?;
        let raw = placed.header.is_none();
        let old_len = file.len();
        if self.extend && raw && placed.layout.bytes() > 0 {
            file.grow(placed.end()?)?;
        }
        let remedy = if raw && M::FILE_ACCESS.writes_file() { "; `.extend(true)` would grow it" } else { "" };
        let rows = placed.rows(self.rows.as_ref(), Alignment::InPlace, file.len(), remedy);
        let mapped = rows.and_then(|(placed, extent)| {
            Ok((placed, Mapping::of_file(file.file(), extent, M::FILE_ACCESS, self.populate)?))
        });
        match mapped {
            Ok((placed, mapping)) => {
                // Only a `.npy` file that starts with its header is ever marked.
                if placed.header.as_ref().is_some_and(|header| header.offset() == 0) {
                    file.remove_stale_mark(placed.end()?);
                }
                // SAFETY: (1) the caller's.
                unsafe { placed.into_array(mapping, file, M::FILE_ACCESS.into()) }
            }
            Err(e) if file.len() == old_len || matches!(file.truncate(old_len, file.len()), Ok(true)) => Err(e),
            Err(e) => Err(e.and("and the file, which was extended, could not be made as short again")),
        }
    }

    /// Copies the array that `find` finds in the file at `path` into memory.
    pub(super) fn load_at(
        &self,
        path: &Path,
        checked: Result<()>,
        find: impl FnOnce(&Self, &mut ArrayFile) -> Result<Placed<D>>,
    ) -> Result<MmapArrayBase<A, D, M>> {
        let load = |mut file: ArrayFile| {
            let placed = find(self, &mut file)?;
            let (placed, extent) = placed.rows(self.rows.as_ref(), Alignment::Copied, file.len(), "")?;
            let mapping = Mapping::copy_of_file(&file, extent, placed.layout.item())?;
            let storage = Storage::copied_from(file.take_path(), mapping, placed.offset);
            // SAFETY: (3)
            unsafe { MmapArrayBase::new(placed.layout, storage, M::FILE_ACCESS.into(), None, placed.is_part) }
        };
        checked
            .and_then(|()| ArrayFile::open(path, FileAccess::Read, self.lock.unwrap_or_default()))
            .and_then(load)
            .map_err(|e| e.with_path(path))
    }

    /// Creates a file for the array and gives it the path as the last step: by [`Destination::replace`] and
    /// [`PendingFile::publish`], or by [`Destination::vacant`] and [`PendingFile::publish_new`].
    ///
    /// # Safety
    /// (1)
    pub(super) unsafe fn create_at(
        &self,
        path: &Path,
        placed: Result<Placed<D>>,
        resolve: impl FnOnce(&Path) -> Result<Destination>,
        publish: impl Fn(PendingFile, Destination) -> Published,
    ) -> Result<MmapArrayBase<A, D, M>> {
        let create = |placed: Placed<D>| {
            placed.end()?;
            let destination = resolve(path)?;
            let publish = |pending| publish(pending, destination.clone());
            let made = match self.make(&placed, |len| PendingFile::new(&destination, len, self.preallocate), publish) {
                // The array must be that of the file at the path, so it is made again.
                Err(NotPublished::Nameless(pending, _)) => {
                    // Frees its space first: there may be no more than that.
                    drop(pending);
                    self.make(&placed, |len| PendingFile::named(&destination, len, self.preallocate), publish)
                }
                made => made,
            };
            let (mapping, file) = made?;
            // SAFETY: (1) the caller's.
            unsafe { placed.into_array(mapping, file, Mode::Create) }
        };
        placed.and_then(create).map_err(|e| e.with_path(path))
    }

    /// Creates an unnamed file for the array, on the file system of `path`.
    pub(super) fn stage_at(&self, path: &Path, placed: Result<Placed<D>>) -> Result<MmapArrayBase<A, D, M>> {
        let stage = |placed: Placed<D>| {
            placed.end()?;
            let destination = Destination::replace(path)?;
            let pending = |len| PendingFile::anonymous(&destination, len, self.preallocate);
            self.create_unnamed(placed, pending, Some(destination.path_named()))
        };
        placed.and_then(stage).map_err(|e| e.with_path(path))
    }

    pub(super) fn create_unnamed(
        &self,
        placed: Placed<D>,
        pending: impl FnOnce(u64) -> Result<PendingFile>,
        path: Option<PathBuf>,
    ) -> Result<MmapArrayBase<A, D, M>> {
        let (mapping, file) = self.make(&placed, pending, |pending| Ok::<_, Error>(pending.keep_unnamed(path)))?;
        // SAFETY: (2) `keep_unnamed` is all that becomes of it until `publish`, which unmaps it first.
        unsafe { placed.into_array(mapping, file, Mode::Create) }
    }

    /// Makes the file of a new array and maps it. `publish` comes last, after everything that can fail.
    fn make<E: From<Error>>(
        &self,
        placed: &Placed<D>,
        pending: impl FnOnce(u64) -> Result<PendingFile>,
        publish: impl FnOnce(PendingFile) -> std::result::Result<ArrayFile, E>,
    ) -> std::result::Result<(Mapping, ArrayFile), E> {
        let pending = pending(placed.end()?)?;
        if let Some(header) = &placed.header {
            pending.write_at(header.bytes(), header.offset())?;
        }
        pending.lock(self.lock.unwrap_or_default())?;
        let extent = placed.extent(Alignment::InPlace, pending.len(), "")?;
        let mapping = Mapping::of_file(pending.file(), extent, M::FILE_ACCESS, self.populate)?;
        let mut file = publish(pending)?;
        file.preallocate(self.preallocate);
        Ok((mapping, file))
    }
}
