//! How an array is to be opened, and the doors that open it.
//!
//! # Safety
//! Nothing here dereferences anything: the module declares the `unsafe` doors, whose callers make the promise written
//! at [`MmapArrayOptions::open`], and hands it on to `array`.
#![allow(unsafe_code)]

use std::fs::File;
use std::marker::PhantomData;
use std::path::Path;

use bytemuck::AnyBitPattern;
use ndarray::{Dimension, IntoDimension, ShapeBuilder};

use crate::array::MmapArrayBase;
use crate::element::ElementLayout;
use crate::error::{Error, ErrorKind, Result};
use crate::file::{ArrayFile, Destination, Lock, NotPublished, PendingFile, Published};
use crate::layout::{Alignment, Layout, Order, axes, split_shape};
use crate::mode::{FileAccess, Loadable, Mode, OpenExisting, ReadOnly, ReadWrite, Staging, Supports};
use crate::npy::{EncodedHeader, HEADER_CAP};
use crate::storage::{Storage, mapping::Mapping};

/// How to open an array: made by [`options`](MmapArrayBase::options), ended by a door such as [`open`](Self::open).
///
/// # Example: a grid after a header of 16 bytes, in Fortran order
/// ```
/// use ndarray::{ArrayView1, ShapeBuilder};
/// use ndarray_mmap::MmapArray;
///
/// let path = std::env::temp_dir().join("ndarray-mmap-grid.bin");
/// let bytes: Vec<u8> = (0..16 + 48).collect();
/// std::fs::write(&path, bytes)?;
///
/// // SAFETY: nobody writes these bytes of the file while `grid` lives.
/// let grid = unsafe { MmapArray::<u32>::options().offset(16).shape((3, 4).f()).open(&path)? };
/// let row: ArrayView1<u32> = grid.row(0);
/// assert_eq!(row.strides(), [3]);
/// assert_eq!(row[0].to_le_bytes(), [16, 17, 18, 19]);
/// # drop(grid);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct MmapArrayOptions<A, D, M> {
    pub(super) offset: u64,
    pub(super) wanted: Wanted<D>,
    /// `None`: what the door does by itself.
    pub(super) lock: Option<Lock>,
    pub(super) populate: bool,
    pub(super) extend: bool,
    pub(super) preallocate: bool,
    /// For `.npy` files.
    pub(super) max_header_size: usize,
    pub(super) page_aligned: bool,
    pub(super) opens: PhantomData<fn() -> (A, M)>,
}

/// An array whose place in its file is known.
pub(super) struct Placed<D> {
    pub(super) layout: Layout<D>,
    /// Of the first element, in bytes.
    pub(super) offset: u64,
    /// The `.npy` header to be kept in step with the array, where the mode can change its shape.
    pub(super) header: Option<EncodedHeader>,
}

#[derive(Clone, Debug)]
pub(super) enum Wanted<D> {
    /// One axis, as long as the file.
    WholeFile,
    /// As many rows as the file holds; the first axis is to be filled in.
    Rows(D),
    Exactly(D, Order),
}

impl<A, D: Clone, M> Clone for MmapArrayOptions<A, D, M> {
    fn clone(&self) -> Self {
        Self { wanted: self.wanted.clone(), ..*self }
    }
}

impl<A, D, M> MmapArrayOptions<A, D, M> {
    pub(crate) fn new() -> Self {
        Self {
            offset: 0,
            wanted: Wanted::WholeFile,
            lock: None,
            populate: false,
            extend: false,
            preallocate: true,
            max_header_size: HEADER_CAP,
            page_aligned: false,
            opens: PhantomData,
        }
    }

    /// Where the array, or the `.npy` header before it, starts in the file, in bytes. Default: 0.
    #[must_use]
    pub fn offset(mut self, bytes: u64) -> Self {
        self.offset = bytes;
        self
    }

    /// The shape, in elements, and the order: `(3, 4)` in C order, `(3, 4).f()` in Fortran order. Fixes the dimension.
    ///
    /// Default: one axis, as long as the file.
    #[must_use]
    pub fn shape<Sh: ShapeBuilder>(self, shape: Sh) -> MmapArrayOptions<A, Sh::Dim, M> {
        let (dim, order) = split_shape(shape);
        self.with(Wanted::Exactly(dim, order))
    }

    /// The shape of one row; there are as many rows as the file holds after the offset. In C order, and the rows come
    /// first: `row_shape((3, 4))` gives an array of shape `(n, 3, 4)`, as NumPy's `reshape(-1, 3, 4)`.
    ///
    /// # Example
    /// ```
    /// use ndarray_mmap::MmapArray;
    ///
    /// let path = std::env::temp_dir().join("ndarray-mmap-rows.bin");
    /// std::fs::write(&path, [0u8; 60])?;
    /// let a = MmapArray::<u8>::options().row_shape((3, 4)).load(&path)?;
    /// assert_eq!(a.dim(), (5, 3, 4));
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn row_shape<I: IntoDimension>(self, row: I) -> MmapArrayOptions<A, <I::Dim as Dimension>::Larger, M> {
        let row = row.into_dimension();
        let mut dim = <I::Dim as Dimension>::Larger::zeros(row.ndim() + 1);
        for (axis, &len) in axes(&row).iter().enumerate() {
            dim[axis + 1] = len;
        }
        self.with(Wanted::Rows(dim))
    }

    fn with<D2>(self, wanted: Wanted<D2>) -> MmapArrayOptions<A, D2, M> {
        let Self { offset, lock, populate, extend, preallocate, max_header_size, page_aligned, .. } = self;
        let opens = PhantomData;
        MmapArrayOptions { offset, wanted, lock, populate, extend, preallocate, max_header_size, page_aligned, opens }
    }

    /// Which lock to take. Default: [`Lock::BestEffort`] for files opened by path, none for file handles.
    ///
    /// Asked for with [`map`](Self::map), it is the caller's own handle that is locked, and stays so: see there.
    #[must_use]
    pub fn lock(mut self, lock: Lock) -> Self {
        self.lock = Some(lock);
        self
    }

    /// Brings all pages in while mapping, rather than each with its first access. Default: no.
    #[must_use]
    pub fn populate(mut self, populate: bool) -> Self {
        self.populate = populate;
        self
    }
}

impl<A, D> MmapArrayOptions<A, D, ReadWrite> {
    /// Lets [`open`](Self::open) and [`map`](Self::map) grow a file that is too short for the offset and the shape,
    /// zero-filled. It never grows for an array without elements, nor where the shape comes from the length.
    /// Default: no.
    #[must_use]
    pub fn extend(mut self, extend: bool) -> Self {
        self.extend = extend;
        self
    }

    /// Whether a file that is created or grown gets its blocks at once, so that a full disk is an error here, and not
    /// a crash (SIGBUS) at some later store. A file system that cannot makes it sparse. Default: yes.
    #[must_use]
    pub fn preallocate(mut self, preallocate: bool) -> Self {
        self.preallocate = preallocate;
        self
    }
}

impl<A: AnyBitPattern, D: Dimension, M: Supports<A> + OpenExisting> MmapArrayOptions<A, D, M> {
    /// Maps an existing file.
    ///
    /// # Errors
    /// - [`ErrorKind::Io`]: not found, no permission, too many open files ...
    /// - [`ErrorKind::NotRegularFile`]
    /// - [`ErrorKind::Locked`]: see [`Lock`].
    /// - [`ErrorKind::TooShort`]: the offset is past the end, or the shape needs more bytes than the file has.
    /// - [`ErrorKind::LengthNotMultiple`]: no shape was given, and the length is no whole number of elements (or rows).
    /// - [`ErrorKind::Misaligned`]: the offset does not suit the element.
    /// - [`ErrorKind::Overflow`], [`ErrorKind::InvalidInput`] (rows without elements), [`ErrorKind::ShapeMismatch`] (no
    ///   shape was given, and `D` is not one-dimensional).
    ///
    /// The file is then as it was.
    ///
    /// # Safety
    /// While the array lives,
    /// 1. no byte of its extent (its elements, in the file) changes except through it, and
    /// 2. the file is not cut below the end of that extent,
    ///
    /// by other processes, or by other handles and mappings in this one. Appending past the extent, rewriting a header
    /// before it, and writing other parts of the file are allowed. A copy-on-write array asks the same: what was not
    /// written to yet is still the file.
    ///
    /// A ready sentence: `// SAFETY: nobody writes or cuts these bytes of the file while the array lives.`
    pub unsafe fn open<P: AsRef<Path>>(self, path: P) -> Result<MmapArrayBase<A, D, M>> {
        let path = path.as_ref();
        self.check()
            .and_then(|()| ArrayFile::open(path, M::FILE_ACCESS, self.lock.unwrap_or_default()))
            .and_then(|b| self.map_backing(b))
            .map_err(|e| e.with_path(path))
    }

    /// Maps a file that is open already. The array keeps a descriptor of its own (two, if a lock is asked for); the position
    /// of the caller's does not matter and is not moved. Where the system lets it (on Linux, by `/proc`), the file is opened
    /// anew, so that flags such as `O_APPEND` do not matter either, and a failed write-back is reported to both.
    ///
    /// Takes no lock unless asked to by [`lock`](Self::lock): it would belong to the caller's handle, and all copies of it.
    /// So, if asked to (on unix, where the lock is `flock`),
    /// - a lock which that handle has already is converted: a shared one becomes exclusive for a writing mode, and an
    ///   exclusive one shared for a reading mode, which lets others in;
    /// - a conversion that is refused ([`ErrorKind::Locked`]) may lose the lock that was there;
    /// - what was taken or converted stays when the array is closed or dropped, and when it then cannot be mapped: until the
    ///   caller unlocks the handle, or closes its last copy. Two arrays on one handle share one lock, and do not exclude each other.
    ///
    /// Locks of another kind (`fcntl`) that this process has on the file are gone when the array is, for the system gives them
    /// up with any descriptor of the file.
    ///
    /// # Errors
    /// Those of [`open`](Self::open); a handle that is not open for what the mode does is [`ErrorKind::Io`]
    /// (permission).
    ///
    /// # Safety
    /// As for [`open`](Self::open).
    pub unsafe fn map(self, file: &File) -> Result<MmapArrayBase<A, D, M>> {
        self.check()?;
        let backing = ArrayFile::adopt(file, M::FILE_ACCESS, self.lock.unwrap_or(Lock::None))?;
        self.map_backing(backing)
    }

    pub(super) fn map_backing(&self, mut backing: ArrayFile) -> Result<MmapArrayBase<A, D, M>> {
        backing.preallocate(self.preallocate);
        let placed = self.place(self.layout(backing.len())?);
        let old_len = backing.len();
        if self.extend && placed.layout.bytes() > 0 {
            let span = placed.layout.span(placed.offset, Alignment::InPlace)?;
            backing.grow(span.end())?;
        }
        let remedy = if M::FILE_ACCESS.writes_file() { "; `.extend(true)` would grow it" } else { "" };
        match self.map_placed(&placed, &backing, remedy) {
            Ok(mapping) => self.finish(placed, mapping, backing, M::FILE_ACCESS.into()),
            Err(e) => {
                if backing.len() == old_len || matches!(backing.truncate(old_len, backing.len()), Ok(true)) {
                    return Err(e);
                }
                Err(e.and("and the file, which was extended, could not be made as short again"))
            }
        }
    }
}

impl<A: AnyBitPattern, D: Dimension, M: Supports<A>> MmapArrayOptions<A, D, M> {
    /// An array that starts at the offset: no `.npy` file.
    pub(super) fn place(&self, layout: Layout<D>) -> Placed<D> {
        Placed { layout, offset: self.offset, header: None }
    }

    pub(super) fn map_placed(&self, placed: &Placed<D>, backing: &ArrayFile, remedy: &str) -> Result<Mapping> {
        let extent = placed.layout.extent(placed.offset, Alignment::InPlace, backing.len(), remedy)?;
        Mapping::of_file(backing.file(), extent, M::FILE_ACCESS, self.populate)
    }

    pub(super) fn finish(
        &self,
        placed: Placed<D>,
        mapping: Mapping,
        backing: ArrayFile,
        mode: Mode,
    ) -> Result<MmapArrayBase<A, D, M>> {
        let Placed { layout, offset, header } = placed;
        MmapArrayBase::new(layout, Storage::of_file(mapping, backing, offset), mode, header)
    }

    /// What can be known to be wrong before a file is touched.
    pub(super) fn check(&self) -> Result<()> {
        self.check_for(Alignment::InPlace)
    }

    pub(super) fn check_for(&self, placement: Alignment) -> Result<()> {
        match &self.wanted {
            Wanted::Exactly(dim, order) => {
                Layout::new(dim.clone(), *order, ElementLayout::of::<A>())?.span(self.offset, placement).map(drop)
            }
            // How many rows there are is for the file to say; here, what one of them is.
            Wanted::Rows(dim) => Layout::inferable(dim, ElementLayout::of::<A>(), self.offset).map(drop),
            Wanted::WholeFile => Layout::inferable(&Self::one_axis()?, ElementLayout::of::<A>(), self.offset).map(drop),
        }
    }

    pub(super) fn exact_layout(&self) -> Option<Result<Layout<D>>> {
        match &self.wanted {
            Wanted::Exactly(dim, order) => Some(Layout::new(dim.clone(), *order, ElementLayout::of::<A>())),
            _ => None,
        }
    }

    pub(super) fn required_layout(&self) -> Result<Layout<D>> {
        self.exact_layout().unwrap_or_else(|| {
            Err(Error::new(ErrorKind::ShapeRequired, "a file cannot be created without a `.shape()`"))
        })
    }

    /// A new array in a file that is not told of yet.
    pub(super) fn create_placed(
        &self,
        placed: Placed<D>,
        pending: impl FnOnce(u64) -> Result<PendingFile>,
        publish: impl FnOnce(PendingFile) -> Result<ArrayFile>,
    ) -> Result<MmapArrayBase<A, D, M>> {
        let (mapping, backing) = self.make(&placed, pending, publish)?;
        self.finish(placed, mapping, backing, Mode::Create)
    }

    /// Makes the file of a new array and maps it; `publish` comes last, after everything that can fail.
    pub(super) fn make<E: From<Error>>(
        &self,
        placed: &Placed<D>,
        pending: impl FnOnce(u64) -> Result<PendingFile>,
        publish: impl FnOnce(PendingFile) -> std::result::Result<ArrayFile, E>,
    ) -> std::result::Result<(Mapping, ArrayFile), E> {
        let len = placed.layout.span(placed.offset, Alignment::InPlace)?.end();
        let pending = pending(len)?;
        if let Some(header) = &placed.header {
            pending.write_at(header.bytes(), header.offset())?;
        }
        pending.lock(self.lock.unwrap_or_default())?;
        let extent = placed.layout.extent(placed.offset, Alignment::InPlace, pending.len(), "")?;
        let mapping = Mapping::of_file(pending.file(), extent, M::FILE_ACCESS, self.populate)?;
        let mut backing = publish(pending)?;
        backing.preallocate(self.preallocate);
        Ok((mapping, backing))
    }

    pub(super) fn layout(&self, file_len: u64) -> Result<Layout<D>> {
        let item = ElementLayout::of::<A>();
        match &self.wanted {
            Wanted::Exactly(dim, order) => Layout::new(dim.clone(), *order, item),
            Wanted::Rows(dim) => Layout::inferred(dim.clone(), item, self.offset, file_len),
            Wanted::WholeFile => Layout::inferred(Self::one_axis()?, item, self.offset, file_len),
        }
    }

    /// As long as the file.
    pub(super) fn one_axis() -> Result<D> {
        match D::NDIM {
            None | Some(1) => Ok(D::zeros(1)),
            Some(ndim) => Err(Error::new(
                ErrorKind::ShapeMismatch,
                format!("without a shape the array has 1 dimension, but {ndim} were asked for: give a `.shape()`"),
            )),
        }
    }
}

impl<A: AnyBitPattern, D: Dimension, M: Supports<A> + Loadable> MmapArrayOptions<A, D, M> {
    /// Reads the array into private memory: safe, on any file system, and at any offset (a misaligned array is copied
    /// to where it is aligned). What happens to the file afterwards does not matter.
    ///
    /// # Errors
    /// Those of [`open`](Self::open) but [`ErrorKind::Misaligned`]; [`ErrorKind::Io`] (out of memory) for an array that
    /// does not fit in memory.
    pub fn load<P: AsRef<Path>>(self, path: P) -> Result<MmapArrayBase<A, D, M>> {
        let path = path.as_ref();
        self.load_path(path).map_err(|e| e.with_path(path))
    }

    pub(super) fn load_path(&self, path: &Path) -> Result<MmapArrayBase<A, D, M>> {
        self.check_for(Alignment::Copied)?;
        let backing = ArrayFile::open(path, FileAccess::Read, self.lock.unwrap_or_default())?;
        let placed = self.place(self.layout(backing.len())?);
        Self::load_placed(placed, backing)
    }

    pub(super) fn load_placed(placed: Placed<D>, backing: ArrayFile) -> Result<MmapArrayBase<A, D, M>> {
        let Placed { layout, offset, .. } = placed;
        let extent = layout.extent(offset, Alignment::Copied, backing.len(), "")?;
        let mapping = Mapping::copy_of_file(&backing, extent, layout.item())?;
        MmapArrayBase::new(layout, Storage::copied_from(backing, mapping, offset), M::FILE_ACCESS.into(), None)
    }
}

impl<A: AnyBitPattern, D: Dimension> MmapArrayOptions<A, D, ReadOnly> {
    /// Maps a file that the kernel proves immutable, so that no promise is needed: on Linux and FreeBSD a memfd sealed
    /// against writing and shrinking, on Linux also a file under fs-verity.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for any other file, and those of [`map`](Self::map).
    pub fn map_sealed(self, file: &File) -> Result<MmapArrayBase<A, D, ReadOnly>> {
        self.check()?;
        let backing = ArrayFile::adopt(file, FileAccess::Read, self.lock.unwrap_or(Lock::None))?;
        let placed = self.place(self.layout(backing.len())?);
        let extent = placed.layout.extent(placed.offset, Alignment::InPlace, backing.len(), "")?;
        let mapping = Mapping::of_sealed_file(&backing, extent)?;
        self.finish(placed, mapping, backing, Mode::ReadOnly)
    }
}

impl<A: AnyBitPattern, D: Dimension> MmapArrayOptions<A, D, ReadWrite>
where
    ReadWrite: Supports<A>,
{
    /// Creates a file, or replaces the one that is there, and maps it: the offset and the array long, all zero.
    ///
    /// The new file takes the path as the last step. Until then nothing has changed; afterwards whoever has the old
    /// file open or mapped, or another hard link to it, keeps it whole. A symbolic link is followed, but not a
    /// stranger's in a folder where everybody may put files (a sticky one, as `/tmp`), where no stranger's file is replaced
    /// either. A new file gets 0666 less the umask. Needs the right to write to the folder.
    ///
    /// What replaces a file has its permissions, its access control list (Linux), and where the system allows its owner
    /// and group; where the group cannot be kept, its permissions go to nobody. At no moment, under no name, is it open to
    /// anybody to whom the old one was not.
    ///
    /// # Errors
    /// - [`ErrorKind::ShapeRequired`]: a file cannot be created without a [`shape`](Self::shape).
    /// - [`ErrorKind::NotRegularFile`]: what is there is no regular file; it is untouched.
    /// - [`ErrorKind::Io`]: no permission (for the folder, or for the existing file), storage full, no such folder ...
    /// - [`ErrorKind::Unsupported`]: the path leads to an open file without a name (`/proc/self/fd/3` of one that was deleted).
    /// - [`ErrorKind::Misaligned`], [`ErrorKind::Overflow`].
    ///
    /// Nothing is changed, and nothing left behind, then.
    ///
    /// # Safety
    /// As for [`open`](Self::open), from the moment the file is at its path.
    pub unsafe fn create<P: AsRef<Path>>(self, path: P) -> Result<MmapArrayBase<A, D, ReadWrite>> {
        let path = path.as_ref();
        self.required_layout()
            .and_then(|layout| self.create_at(path, self.place(layout), Destination::replace, PendingFile::publish))
            .map_err(|e| e.with_path(path))
    }

    /// Like [`create`](Self::create), at a path where nothing may be yet.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] (already exists) for a path that leads to anything, a dangling symbolic link included, and those of
    /// [`create`](Self::create).
    ///
    /// # Safety
    /// As for [`create`](Self::create).
    pub unsafe fn create_new<P: AsRef<Path>>(self, path: P) -> Result<MmapArrayBase<A, D, ReadWrite>> {
        let path = path.as_ref();
        self.required_layout()
            .and_then(|layout| self.create_at(path, self.place(layout), Destination::vacant, PendingFile::publish_new))
            .map_err(|e| e.with_path(path))
    }

    pub(super) fn create_at(
        &self,
        path: &Path,
        placed: Placed<D>,
        resolve: impl FnOnce(&Path) -> Result<Destination>,
        publish: impl Fn(PendingFile, Destination) -> Published,
    ) -> Result<MmapArrayBase<A, D, ReadWrite>> {
        placed.layout.span(placed.offset, Alignment::InPlace)?;
        let destination = resolve(path)?;
        let publish = |pending| publish(pending, destination.clone());
        let made = match self.make(&placed, |len| PendingFile::new(&destination, len, self.preallocate), publish) {
            // The array is to be that of the file at the path: it is made again.
            Err(NotPublished::Nameless(pending, _)) => {
                // Its space may be all there is.
                drop(pending);
                self.make(&placed, |len| PendingFile::named(&destination, len, self.preallocate), publish)
            }
            made => made,
        };
        let (mapping, backing) = made?;
        self.finish(placed, mapping, backing, Mode::Create)
    }

    /// A temporary array: see [`MmapArrayBase::scratch`].
    pub(crate) fn scratch(self) -> Result<MmapArrayBase<A, D, ReadWrite>> {
        let placed = self.place(self.required_layout()?);
        self.create_placed(placed, PendingFile::scratch, |pending| Ok(pending.keep_unnamed(None)))
    }
}

impl<A: AnyBitPattern, D: Dimension> MmapArrayOptions<A, D, Staging>
where
    Staging: Supports<A>,
{
    /// A file without a name, to be put at `path` later: see [`MmapArrayBase::stage`].
    pub(crate) fn stage(self, path: &Path) -> Result<MmapArrayBase<A, D, Staging>> {
        let placed = self.place(self.required_layout()?);
        self.stage_placed(path, placed)
    }

    pub(super) fn stage_placed(&self, path: &Path, placed: Placed<D>) -> Result<MmapArrayBase<A, D, Staging>> {
        placed.layout.span(placed.offset, Alignment::InPlace)?;
        let destination = Destination::replace(path)?;
        let pending = |len| PendingFile::anonymous(&destination, len, self.preallocate);
        self.create_placed(placed, pending, |pending| Ok(pending.keep_unnamed(Some(destination.path_named()))))
    }
}
