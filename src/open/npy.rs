//! Opens, loads and creates `.npy` files: the header specifies where the elements are, what they are, and in what order.
//!
//! # Safety
//! As in `raw.rs`: this file dereferences nothing. It declares `unsafe` functions, whose callers make the promise that is
//! written at [`MmapArrayOptions::open`], and passes it on to `placed`.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;

use bytemuck::AnyBitPattern;
use ndarray::Dimension;

use super::MmapArrayOptions;
use super::placed::Placed;
use super::read_header::{MOST_READS, read_header};
use super::wanted::Wanted;
use crate::array::MmapArrayBase;
use crate::element::ElementLayout;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::{Error, Result, error};
use crate::file::{ArrayFile, Destination, Lock, PendingFile};
use crate::layout::{Alignment, Layout, Order, check_offset};
use crate::mode::{Loadable, OpenExisting, ReadWrite, Staging, Supports};
use crate::npy::{ARRAY_ALIGN, EncodedHeader, Header, NpyElement, PAGE_ALIGN, checked_dtype};

impl<A: AnyBitPattern + NpyElement, D: Dimension, M: Supports<A>> MmapArrayOptions<A, D, M> {
    /// Refuses what is wrong whatever the file contains.
    fn check_npy(&self) -> Result<()> {
        check_offset(self.offset)?;
        self.check_rows(self.wanted.exact_layout(ElementLayout::of::<A>()).transpose()?)
    }

    /// The array as its header specifies it.
    fn find_npy(&self, file: &mut ArrayFile) -> Result<Placed<D>> {
        let mut placed = self.read_placed(file)?;
        for _ in 0..MOST_READS {
            let end = placed.layout.span(placed.offset, Alignment::Copied)?.end();
            // There may be more rows since the length was read.
            if end <= file.len() || end <= file.refresh_len()? {
                break;
            }
            // Or fewer since the header was read. A header that says the same again is wrong: the file is too short.
            let again = self.read_placed(file)?;
            if again.layout.axes() == placed.layout.axes() {
                break;
            }
            placed = again;
        }
        Ok(placed)
    }

    /// [`find_npy`](Self::find_npy) for elements that are used in place.
    fn find_npy_in_place(&self, file: &mut ArrayFile) -> Result<Placed<D>> {
        let placed = self.find_npy(file)?;
        // The advice is good only if `load_npy` would succeed.
        placed.extent(Alignment::Copied, file.len(), "")?;
        placed.end().map_err(|_| misaligned::<A>(&format!("byte {}", placed.offset), "load_npy"))?;
        Ok(placed)
    }

    /// The layout of the array that a header describes.
    pub(super) fn layout_of(&self, header: &Header) -> Result<Layout<D>> {
        let dim = self.wanted.match_shape(header.shape_for::<A>()?)?;
        let order = if header.fortran_order() { Order::F } else { Order::C };
        Layout::new(dim, order, ElementLayout::of::<A>())
    }

    fn read_placed(&self, file: &mut ArrayFile) -> Result<Placed<D>> {
        let (header, encoded) = read_header(file, self.offset, self.max_header_size)?;
        let layout = self.layout_of(&header)?;
        // Neither is more than `i64::MAX`: the header was read at the one, and the other is its length.
        let offset = self.offset.saturating_add(header.data_offset());
        Ok(Placed { layout, offset, header: M::FILE_ACCESS.writes_file().then_some(encoded), is_part: false })
    }

    /// A new array after the header that NumPy 2 would write for it.
    fn new_npy(&self) -> Result<Placed<D>> {
        self.check_no_rows()?;
        let layout = self.wanted.required_layout(ElementLayout::of::<A>())?;
        let align = if self.page_aligned { PAGE_ALIGN } else { ARRAY_ALIGN };
        let dtype = checked_dtype::<A>()?;
        let header = EncodedHeader::format(&dtype, layout.axes(), layout.order() == Order::F, align)?.at(self.offset);
        match self.offset.checked_add(header.bytes().len() as u64) {
            Some(offset) => Ok(Placed { layout, offset, header: Some(header), is_part: false }),
            None => Err(error!(Overflow, "offset {} is beyond the largest file", self.offset)),
        }
    }
}

/// Names the type that can read these bytes in place, if there is one, and the call that copies them.
pub(super) fn misaligned<A: NpyElement>(place: &str, load: &str) -> Error {
    let item = ElementLayout::of::<A>();
    let (align, name) = (item.align(), item.name());
    let anywhere = A::dtype().rust_type_unaligned().map(|rust| format!("{rust}, or ")).unwrap_or_default();
    error!(
        Misaligned,
        "the data start at {place}, which is no multiple of {align}, the alignment of {name}: use {anywhere}`{load}` for a \
         copy"
    )
}

impl<A: AnyBitPattern + NpyElement, D: Dimension, M: Supports<A> + OpenExisting> MmapArrayOptions<A, D, M> {
    /// Maps the array of a `.npy` file, like NumPy's `open_memmap` and `np.load(mmap_mode=...)`. Element type, shape and
    /// order are those of the header.
    ///
    /// A [`shape`](Self::shape) or [`row_shape`](Self::row_shape) is compared with the header's; its order is not, for the
    /// header decides. An [`offset`](Self::offset) is where the header starts. Bytes after the array do not matter, and the file is never [extended](MmapArrayOptions::extend).
    ///
    /// # Beside a live writer
    /// With [`Lock::None`] a file can be opened while another process or array [`append`](MmapArrayBase::append)s to it. A
    /// header that is being rewritten is never used half old and half new: in a file that was changed in the last few
    /// seconds, the header counts only when two readings agree, and any write that was going on has finished in between.
    /// ([Platforms](crate::doc::platform) says what that depends on.)
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidHeader`]: not a `.npy` file, a malformed or truncated header, Python objects.
    /// - [`ErrorKind::DtypeMismatch`]: the file holds other elements, or another byte order; the message names both types.
    /// - [`ErrorKind::ShapeMismatch`]: `D`, or the given shape, is not the file's.
    /// - [`ErrorKind::TooShort`]: the file is shorter than its header says.
    /// - [`ErrorKind::Misaligned`]: the data are not aligned for the element. The message names the type that can read them
    ///   in place; [`load_npy`](Self::load_npy) copies them.
    /// - [`ErrorKind::Overflow`], [`ErrorKind::Io`], [`ErrorKind::NotRegularFile`], [`ErrorKind::Locked`].
    ///
    /// # Safety
    /// As for [`open`](Self::open).
    pub unsafe fn open_npy<P: AsRef<Path>>(self, path: P) -> Result<MmapArrayBase<A, D, M>> {
        // SAFETY: the caller's.
        unsafe { self.open_at(path.as_ref(), self.check_npy(), Self::find_npy_in_place) }
    }

    /// Maps the array of a `.npy` file that is already open. The handle and its locks are treated as by [`map`](Self::map),
    /// the header as by [`open_npy`](Self::open_npy).
    ///
    /// (On Windows reading the header moves the handle's position.) An array for writing can grow. But without an exclusive lock, which the caller's handle has and not the array, what a
    /// killed [`append`](MmapArrayBase::append) left behind is not removed.
    ///
    /// # Errors
    /// Those of [`map`](Self::map) and [`open_npy`](Self::open_npy).
    ///
    /// # Safety
    /// As for [`open`](Self::open).
    pub unsafe fn map_npy(self, file: &File) -> Result<MmapArrayBase<A, D, M>> {
        self.check_npy()?;
        let file = ArrayFile::adopt(file, M::FILE_ACCESS, self.lock.unwrap_or(Lock::None))?;
        // SAFETY: the caller's.
        unsafe { self.map_file(file, Self::find_npy_in_place) }
    }
}

impl<A: AnyBitPattern + NpyElement, D: Dimension, M: Supports<A> + Loadable> MmapArrayOptions<A, D, M> {
    /// Reads the array of a `.npy` file into memory. Safe: later changes of the file do not matter. Works on any file system
    /// and at any alignment.
    ///
    /// # Errors
    /// Those of [`open_npy`](Self::open_npy) except [`ErrorKind::Misaligned`]. An array that does not fit in memory is
    /// [`ErrorKind::Io`] (out of memory).
    pub fn load_npy<P: AsRef<Path>>(self, path: P) -> Result<MmapArrayBase<A, D, M>> {
        self.load_at(path.as_ref(), self.check_npy(), Self::find_npy)
    }
}

impl<A: AnyBitPattern + NpyElement, D: Dimension> MmapArrayOptions<A, D, ReadWrite>
where
    ReadWrite: Supports<A>,
{
    /// Creates a `.npy` file and maps its array, or replaces an existing file. All elements are zero. The header is the one
    /// that NumPy 2 writes, byte for byte, with room for the array to grow. Otherwise like [`create`](Self::create).
    ///
    /// # Errors
    /// Those of [`create`](Self::create); [`ErrorKind::Unsupported`] for arrays that no header can describe (more than 64
    /// axes; elements of more than 2 GiB; in Fortran order, elements that are arrays). [`ErrorKind::DtypeMismatch`] for an
    /// element whose hand-written dtype has another size than the type.
    ///
    /// # Safety
    /// As for [`create`](Self::create).
    pub unsafe fn create_npy<P: AsRef<Path>>(self, path: P) -> Result<MmapArrayBase<A, D, ReadWrite>> {
        // SAFETY: the caller's.
        unsafe { self.create_at(path.as_ref(), self.new_npy(), Destination::replace, PendingFile::publish) }
    }

    /// Creates a `.npy` file and maps its array, at a path where nothing exists. Otherwise like
    /// [`create_npy`](Self::create_npy).
    ///
    /// # Errors
    /// [`ErrorKind::Io`] (already exists), and those of [`create_npy`](Self::create_npy).
    ///
    /// # Safety
    /// As for [`create`](Self::create).
    pub unsafe fn create_new_npy<P: AsRef<Path>>(self, path: P) -> Result<MmapArrayBase<A, D, ReadWrite>> {
        // SAFETY: the caller's.
        unsafe { self.create_at(path.as_ref(), self.new_npy(), Destination::vacant, PendingFile::publish_new) }
    }

    /// Opens a `.npy` file, or creates it if nothing is at the path: for logs and results that go on where an earlier run
    /// stopped.
    ///
    /// The [`shape`](Self::shape) is what a new file gets. Of an existing one, shape and order are compared with it, but for the
    /// number of rows if `shape` has none: `(0, 3)` opens a file of any number of rows of three. The order says along which
    /// axis the array grows, so it must be the same even where both orders mean the same bytes. If another process creates the
    /// file at the same time, one of the two creates it and the other opens it.
    ///
    /// # Errors
    /// - [`ErrorKind::ShapeMismatch`] if the existing array has another shape, or another order.
    /// - [`ErrorKind::ShapeRequired`]: there is no [`shape`](Self::shape).
    /// - Those of [`open_npy`](Self::open_npy) and [`create_new_npy`](Self::create_new_npy): [`ErrorKind::DtypeMismatch`],
    ///   [`ErrorKind::Locked`], [`ErrorKind::Io`] (already exists) for a symbolic link that leads nowhere ...
    ///
    /// # Safety
    /// As for [`open`](Self::open).
    pub unsafe fn open_or_create_npy<P: AsRef<Path>>(self, path: P) -> Result<MmapArrayBase<A, D, ReadWrite>> {
        /// The file may be removed and created again by others between two steps, but not for ever.
        const ATTEMPTS: usize = 100;
        let path = path.as_ref();
        let new = self.new_npy().map_err(|e| e.with_path(path))?;
        let existing = match new.layout.rows() {
            0 => self.clone().with(Wanted::Rows(new.layout.dim().clone(), new.layout.order())),
            _ => self.clone(),
        };
        let mut attempts = 1..ATTEMPTS;
        loop {
            // SAFETY: the caller's.
            let opened = unsafe { existing.open_at(path, existing.check_npy(), Self::find_npy_in_order) };
            match opened {
                Err(e) if e.io_kind() == Some(io::ErrorKind::NotFound) => {}
                opened => return opened,
            }
            // SAFETY: the caller's.
            match unsafe { self.clone().create_new_npy(path) } {
                Err(e) if e.io_kind() == Some(io::ErrorKind::AlreadyExists) && attempts.next().is_some() => {}
                created => return created,
            }
        }
    }

    /// [`find_npy_in_place`](Self::find_npy_in_place), in the order that was asked for.
    fn find_npy_in_order(&self, file: &mut ArrayFile) -> Result<Placed<D>> {
        let placed = self.find_npy_in_place(file)?;
        let (found, name) = (placed.layout.order(), |order| if order == Order::C { "C" } else { "Fortran" });
        match &self.wanted {
            // With one axis the two are the same.
            Wanted::Rows(dim, order) | Wanted::Exactly(dim, order) if dim.ndim() > 1 && *order != found => Err(error!(
                ShapeMismatch,
                "the file's array is in {} order, but one in {} order was asked for",
                name(found),
                name(*order)
            )),
            _ => Ok(placed),
        }
    }
}

impl<A: AnyBitPattern + NpyElement, D: Dimension> MmapArrayOptions<A, D, Staging>
where
    Staging: Supports<A>,
{
    /// See [`MmapArrayBase::stage_npy`].
    pub(super) fn stage_npy(self, path: &Path) -> Result<MmapArrayBase<A, D, Staging>> {
        self.stage_at(path, self.new_npy())
    }
}
