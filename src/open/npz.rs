//! Opens and loads the arrays of `.npz` archives: the archive's directory has where a `.npy` file is in it.
//!
//! # Safety
//! As in `raw.rs`: this file dereferences nothing. It declares `unsafe` functions, whose callers make the promise that is
//! written at [`MmapArrayOptions::open`], and passes it on to `placed`. An array that is loaded has no file: demand 3 there.
#![allow(unsafe_code)]

use std::path::{Path, PathBuf};

use bytemuck::AnyBitPattern;
use ndarray::Dimension;

use super::MmapArrayOptions;
use super::npy::misaligned;
use super::placed::Placed;
use crate::array::{MmapArray, MmapArrayBase};
use crate::element::ElementLayout;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::{Result, error};
use crate::file::{ArrayFile, Lock};
use crate::mode::{FileAccess, Loadable, ReadOnly, Supports};
use crate::npy::{Header, NpyElement};
use crate::npz::{Archive, Directory, Located};
use crate::storage::{Storage, mapping::Mapping};

impl<A: AnyBitPattern + NpyElement, D: Dimension, M: Supports<A>> MmapArrayOptions<A, D, M> {
    /// Refuses what is wrong whatever the archive contains.
    fn check_npz(&self) -> Result<()> {
        if self.offset != 0 {
            return Err(error!(
                InvalidInput,
                "an array of an archive is found by its name, so an offset ({}) cannot be given", self.offset
            ));
        }
        self.check_rows(self.wanted.exact_layout(ElementLayout::of::<A>()).transpose()?)
    }

    /// The array as the header in its member specifies it.
    fn place(&self, member: &Located, header: &Header) -> Result<Placed<D>> {
        let layout = self.layout_of(header)?;
        member.check_array(header, layout.bytes())?;
        // Neither is more than the length of a file.
        let offset = member.start().saturating_add(header.data_offset());
        Ok(Placed { layout, offset, header: None, is_part: false })
    }

    /// The array in place.
    fn find_npz(&self, directory: &Directory, file: &mut ArrayFile, name: &str) -> Result<Placed<D>> {
        let member = directory.locate(file, name)?;
        let find = || {
            member.check_stored()?;
            let header = member.reader(file)?.header(self.max_header_size)?;
            let placed = self.place(&member, &header)?;
            placed.end().map_err(|_| misaligned::<A>(&format!("byte {} of the archive", placed.offset), "load_npz"))?;
            Ok(placed)
        };
        let placed = find().map_err(|e| member.named(e))?;
        file.refresh_len()?;
        Ok(placed)
    }

    /// A copy of the array, or of the rows of it that were asked for.
    fn copy_npz(
        &self,
        directory: &Directory,
        file: &ArrayFile,
        path: Option<PathBuf>,
        name: &str,
    ) -> Result<MmapArrayBase<A, D, M>> {
        let member = directory.locate(file, name)?;
        let copy = || {
            let mut reader = member.reader(file)?;
            let header = reader.header(self.max_header_size)?;
            let all = self.place(&member, &header)?;
            let start = all.offset;
            let placed = match &self.rows {
                Some(rows) => all.part(rows.clone())?,
                None => all,
            };
            reader.skip(placed.offset - start)?;
            let (bytes, item) = (placed.layout.bytes(), placed.layout.item());
            let mapping = Mapping::filled(bytes, item, |part| reader.fill(part))?;
            reader.finish()?;
            Ok((placed, mapping))
        };
        let (placed, mapping) = copy().map_err(|e| member.named(e))?;
        // The bytes of a compressed array have no place in the file. This is where the compressed ones start.
        let offset = if member.is_stored() { placed.offset } else { member.start() };
        let storage = Storage::copied_from(path, mapping, offset);
        // SAFETY: (3)
        unsafe { MmapArrayBase::new(placed.layout, storage, M::FILE_ACCESS.into(), None, placed.is_part) }
    }
}

impl<A: AnyBitPattern + NpyElement, D: Dimension, M: Supports<A> + Loadable> MmapArrayOptions<A, D, M> {
    /// Maps an array of a `.npz` archive where it is, if it is stored without compression, as `np.savez` stores it. Otherwise
    /// like [`open_npy`](Self::open_npy). (NumPy cannot: for archives it ignores `mmap_mode`.)
    ///
    /// The name may end with `.npy` or not: [`Archive`] has the names. An [`offset`](Self::offset) cannot be given.
    ///
    /// # Alignment
    /// `np.savez` does not align the data, so that only one array of doubles in eight can be mapped as `f64`. Types of
    /// alignment 1, such as `rend::unaligned::f64_ule` (feature `rend`), map all of them.
    ///
    /// # Errors
    /// - [`ErrorKind::Unsupported`]: the array is compressed (use [`load_npz`](Self::load_npz)) or encrypted, or the archive
    ///   is one of several parts.
    /// - [`ErrorKind::Misaligned`]: the data are not aligned for the element. The message names the type that can read them
    ///   in place; [`load_npz`](Self::load_npz) copies them.
    /// - [`ErrorKind::InvalidInput`]: the archive has no such name (the message has some that it has); an offset.
    /// - [`ErrorKind::InvalidHeader`]: no zip archive, or a damaged one; two members of this name; a member that is no
    ///   `.npy` file, or is longer than its array.
    /// - [`ErrorKind::TooShort`]: the member is shorter than its header says.
    /// - [`ErrorKind::DtypeMismatch`], [`ErrorKind::ShapeMismatch`], [`ErrorKind::Overflow`], [`ErrorKind::Io`],
    ///   [`ErrorKind::NotRegularFile`], [`ErrorKind::Locked`].
    ///
    /// The checksum of the archive is not verified, for that would read all of the array. [`load_npz`](Self::load_npz) does.
    ///
    /// # Safety
    /// As for [`open`](Self::open).
    pub unsafe fn open_npz<P: AsRef<Path>>(self, path: P, name: &str) -> Result<MmapArrayBase<A, D, M>> {
        // SAFETY: the caller's.
        unsafe {
            self.open_at(path.as_ref(), self.check_npz(), |options, file| {
                options.find_npz(&Directory::read(file)?, file, name)
            })
        }
    }

    /// Reads an array of a `.npz` archive into memory, whether it is stored or deflated, and verifies its checksum. Safe:
    /// later changes of the file do not matter. Works on any file system and at any alignment. Of an array of which only some
    /// [`rows`](Self::rows) are kept, all are read, for the checksum.
    ///
    /// The [`offset`](MmapArrayBase::offset) of a compressed array is that of its first compressed byte.
    ///
    /// # Archives of strangers
    /// A compressed array can take a thousand times as much memory as its file, and be a valid one, of zeros. To see how much
    /// before it is read, ask [`Archive::header`] for its [`nbytes`](Header::nbytes).
    ///
    /// # Errors
    /// Those of [`open_npz`](Self::open_npz) except [`ErrorKind::Misaligned`]. Compression other than deflate is
    /// [`ErrorKind::Unsupported`]. A wrong checksum, and damaged compressed data, are [`ErrorKind::Io`] of the kind
    /// `InvalidData`; an array that does not fit in memory is [`ErrorKind::Io`] (out of memory).
    pub fn load_npz<P: AsRef<Path>>(self, path: P, name: &str) -> Result<MmapArrayBase<A, D, M>> {
        let path = path.as_ref();
        self.check_npz()
            .and_then(|()| ArrayFile::open(path, FileAccess::Read, self.lock.unwrap_or_default()))
            .and_then(|mut file| {
                let path = file.take_path();
                self.copy_npz(&Directory::read(&file)?, &file, path, name)
            })
            .map_err(|e| e.with_path(path))
    }
}

impl Archive {
    /// Reads an array into memory: [`load_npz`](MmapArrayBase::load_npz), without reading the directory again.
    ///
    /// # Errors
    /// Those of [`load_npz`](MmapArrayBase::load_npz).
    ///
    /// # Example: all arrays of an archive that are of one type
    /// ```
    /// use ndarray::IxDyn;
    /// use ndarray_mmap::{npy::NpyElement, npz::Archive};
    ///
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/example.npz");
    /// let archive = Archive::open(path)?;
    /// for name in archive.names() {
    ///     if archive.header(name)?.dtype() == &i32::dtype() {
    ///         println!("{name}: {}", archive.load::<i32, IxDyn>(name)?.sum());
    ///     }
    /// }
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn load<A: AnyBitPattern + NpyElement, D: Dimension>(&self, name: &str) -> Result<MmapArray<A, D>> {
        let path = Some(self.path().to_path_buf());
        let copied = MmapArray::<A, D>::options().copy_npz(self.directory(), self.file(), path, name);
        copied.map_err(|e| e.with_path(self.path()))
    }

    /// Maps a stored array where it is: [`open_npz`](MmapArrayBase::open_npz), without reading the directory again. Takes no
    /// lock.
    ///
    /// # Errors
    /// Those of [`open_npz`](MmapArrayBase::open_npz).
    ///
    /// # Safety
    /// As for [`MmapArrayBase::open`].
    pub unsafe fn map<A: AnyBitPattern + NpyElement, D: Dimension>(&self, name: &str) -> Result<MmapArray<A, D>> {
        let find = |options: &MmapArrayOptions<A, D, ReadOnly>, file: &mut ArrayFile| {
            options.find_npz(self.directory(), file, name)
        };
        let mapped = ArrayFile::adopt(self.file().file(), FileAccess::Read, Lock::None)
            // SAFETY: the caller's.
            .and_then(|file| unsafe { MmapArray::<A, D>::options().map_file(file, find) });
        mapped.map_err(|e| e.with_path(self.path()))
    }
}

impl<A: AnyBitPattern + NpyElement, D: Dimension, M: Supports<A> + Loadable> MmapArrayBase<A, D, M> {
    /// Maps an array of a `.npz` archive where it is, if it is stored without compression, as `np.savez` stores it.
    ///
    /// `np.savez` does not align the data: a type of alignment 1, such as `rend::unaligned::f64_ule`, maps them all.
    ///
    /// Read-only and copy-on-write arrays have this constructor. Stores to an archive would break its checksum:
    /// ```compile_fail,E0599
    /// # use ndarray_mmap::MmapArrayMut;
    /// // SAFETY: it does not compile.
    /// let grid = unsafe { MmapArrayMut::<f64>::open_npz("run.npz", "grid") };
    /// ```
    ///
    /// # Errors
    /// Those of [`MmapArrayOptions::open_npz`].
    ///
    /// # Safety
    /// As for [`open`](Self::open).
    ///
    /// # Example
    /// ```
    /// use ndarray_mmap::{ErrorKind, MmapArray};
    ///
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/example.npz");
    /// // SAFETY: while `grid` lives, no other process or handle changes its bytes or truncates the file.
    /// match unsafe { MmapArray::<f64>::open_npz(path, "grid") } {
    ///     Ok(grid) => assert_eq!(grid.sum(), 15.0),
    ///     // As in most archives. `rend::unaligned::f64_ule` would map it; this reads it:
    ///     Err(e) if e.kind() == ErrorKind::Misaligned => {
    ///         assert_eq!(MmapArray::<f64>::load_npz(path, "grid")?.sum(), 15.0);
    ///     }
    ///     Err(e) => return Err(e),
    /// }
    ///
    /// // A compressed array cannot be mapped.
    /// // SAFETY: as above.
    /// let e = unsafe { MmapArray::<i32>::open_npz(path, "days/count") }.unwrap_err();
    /// assert_eq!(e.kind(), ErrorKind::Unsupported);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub unsafe fn open_npz<P: AsRef<Path>>(path: P, name: &str) -> Result<Self> {
        // SAFETY: the same promise.
        unsafe { Self::options().open_npz(path, name) }
    }

    /// Reads an array of a `.npz` archive into memory, whether it is stored or compressed, and verifies its checksum. Safe:
    /// later changes of the file do not matter. Works on any file system.
    ///
    /// # Errors
    /// Those of [`MmapArrayOptions::load_npz`].
    pub fn load_npz<P: AsRef<Path>>(path: P, name: &str) -> Result<Self> {
        Self::options().load_npz(path, name)
    }
}
