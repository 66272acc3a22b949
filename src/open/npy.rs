//! The doors to `.npy` files: the header says where the elements are, what they are, and in what order.
//!
//! # Safety
//! Nothing here dereferences anything: as in `options`.
#![allow(unsafe_code)]

use std::io;
use std::path::Path;

use bytemuck::AnyBitPattern;
use ndarray::{Dimension, IxDyn};

use super::options::{MmapArrayOptions, Placed, Wanted};
use crate::array::MmapArrayBase;
use crate::element::ElementLayout;
use crate::error::{Error, ErrorKind, Result, error};
use crate::file::{ArrayFile, Destination, Lock, PendingFile};
use crate::layout::{Alignment, Layout, Order, axes, check_offset};
use crate::mode::{FileAccess, Loadable, OpenExisting, ReadWrite, Staging, Supports};
use crate::npy::{ARRAY_ALIGN, EncodedHeader, HEADER_CAP, Header, NpyElement, PAGE_ALIGN, Preamble, checked_dtype};

/// Most headers are no longer, so that one read is enough.
const COMMON_HEADER_LEN: usize = 128;

/// A header that differs each time it is read is being rewritten all the time, by something that is no array of ours.
const MOST_READS: usize = 1000;

impl<A, D, M> MmapArrayOptions<A, D, M> {
    /// How many bytes of `.npy` header to read at most. Default: 10,000, as in NumPy.
    #[must_use]
    pub fn max_header_size(mut self, bytes: usize) -> Self {
        self.max_header_size = bytes;
        self
    }
}

impl<A, D> MmapArrayOptions<A, D, ReadWrite> {
    /// Whether the data of a `.npy` file that is created begin on a page of their own (by a longer, still legal header).
    /// Rows as large as a page then lie in one page each, and reading scattered ones from a disk costs half. Default: no.
    #[must_use]
    pub fn page_aligned(mut self, page_aligned: bool) -> Self {
        self.page_aligned = page_aligned;
        self
    }
}

impl<A: AnyBitPattern + NpyElement, D: Dimension, M: Supports<A> + OpenExisting> MmapArrayOptions<A, D, M> {
    /// Maps the array of a `.npy` file, as NumPy's `open_memmap` and `np.load(mmap_mode=...)`. Element type, shape and
    /// order are the header's. What follows the array in the file does not matter, and the file is never
    /// [`extend`](MmapArrayOptions::extend)ed.
    ///
    /// A [`shape`](Self::shape) given beside it is compared with the header's. An [`offset`](Self::offset) is where the
    /// header starts.
    ///
    /// # Beside a live writer
    /// With [`Lock::None`] a file can be opened while somebody [`append`](MmapArrayBase::append)s to it. A header that is
    /// just being rewritten is never taken by half: in a file that was changed in the last few seconds it counts once two
    /// readings agree, with any write that was going on over in between. (What that rests on:
    /// [platforms](crate::doc::platform).)
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidHeader`]: not a `.npy` file, a malformed or cut header, Python objects.
    /// - [`ErrorKind::DtypeMismatch`]: the file holds other elements, or in another byte order; the message names both.
    /// - [`ErrorKind::ShapeMismatch`]: `D`, or the shape given, is not the file's.
    /// - [`ErrorKind::TooShort`]: the data are shorter than the header says.
    /// - [`ErrorKind::Misaligned`]: the data start where elements cannot. The message names the type that reads them in
    ///   place; [`load_npy`](Self::load_npy) copies them.
    /// - [`ErrorKind::Overflow`], [`ErrorKind::Io`], [`ErrorKind::NotRegularFile`], [`ErrorKind::Locked`].
    ///
    /// # Safety
    /// As for [`open`](Self::open).
    pub unsafe fn open_npy<P: AsRef<Path>>(self, path: P) -> Result<MmapArrayBase<A, D, M>> {
        let path = path.as_ref();
        self.check_npy()
            .and_then(|()| ArrayFile::open(path, M::FILE_ACCESS, self.lock.unwrap_or_default()))
            .and_then(|backing| self.map_npy(backing))
            .map_err(|e| e.with_path(path))
    }

    fn map_npy(&self, mut backing: ArrayFile) -> Result<MmapArrayBase<A, D, M>> {
        backing.preallocate(self.preallocate);
        let placed = self.place_npy(&mut backing)?;
        let mapping = self.map_placed(&placed, &backing, "").map_err(|e| match e.kind() {
            // Only if `load_npy` would do.
            ErrorKind::Misaligned => {
                let copied = placed.layout.extent(placed.offset, Alignment::Copied, backing.len(), "");
                copied.err().unwrap_or_else(|| misaligned::<A>(placed.offset))
            }
            _ => e,
        })?;
        if placed.header.as_ref().is_some_and(|header| header.offset() == 0) {
            backing.remove_stale_mark(placed.layout.span(placed.offset, Alignment::InPlace)?.end());
        }
        self.finish(placed, mapping, backing, M::FILE_ACCESS.into())
    }
}

/// Names the type that reads these very bytes in place, if there is one.
fn misaligned<A: NpyElement>(offset: u64) -> Error {
    let item = ElementLayout::of::<A>();
    let (align, name) = (item.align(), item.name());
    let anywhere = A::dtype().rust_type_unaligned().map(|rust| format!("{rust}, or ")).unwrap_or_default();
    Error::new(
        ErrorKind::Misaligned,
        format!(
            "the data start at byte {offset}, which is no multiple of {align}, the alignment of {name}: use \
             {anywhere}`load_npy` for a copy"
        ),
    )
}

impl<A: AnyBitPattern + NpyElement, D: Dimension, M: Supports<A>> MmapArrayOptions<A, D, M> {
    /// What can be known to be wrong before the file is looked at.
    fn check_npy(&self) -> Result<()> {
        check_offset(self.offset)?;
        self.exact_layout().transpose().map(drop)
    }

    /// Where the header says the array lies. The file may have grown to it since its length was read; and a header
    /// that says more than there is counts only once it says so again.
    fn place_npy(&self, backing: &mut ArrayFile) -> Result<Placed<D>> {
        let mut placed = self.read_placed(backing)?;
        for _ in 0..MOST_READS {
            let end = placed.layout.span(placed.offset, Alignment::Copied)?.end();
            if end <= backing.len() || end <= backing.refresh_len()? {
                break;
            }
            let again = self.read_placed(backing)?;
            if again.layout.axes() == placed.layout.axes() {
                break;
            }
            placed = again;
        }
        Ok(placed)
    }

    fn read_placed(&self, backing: &mut ArrayFile) -> Result<Placed<D>> {
        let (header, encoded) = read_header(backing, self.offset, self.max_header_size)?;
        let shape = header.shape_for::<A>()?;
        let dim = self.dim_of(shape)?;
        let order = if header.fortran_order() { Order::F } else { Order::C };
        let layout = Layout::new(dim, order, ElementLayout::of::<A>())?;
        // Both are at most `i64::MAX`: the header was read at the one, and is as long as the other.
        let offset = self.offset.saturating_add(header.data_offset());
        let header = M::FILE_ACCESS.writes_file().then_some(encoded);
        Ok(Placed { layout, offset, header })
    }

    /// The header's shape as a `D`, if it is one, and the one asked for.
    fn dim_of(&self, shape: &[usize]) -> Result<D> {
        let mismatch = |wanted: String| {
            Error::new(
                ErrorKind::ShapeMismatch,
                format!("the file's array has shape {shape:?}, but {wanted} asked for"),
            )
        };
        match &self.wanted {
            Wanted::WholeFile => {}
            Wanted::Exactly(dim, _) if axes(dim) == shape => {}
            Wanted::Rows(dim) if axes(dim).len() == shape.len() && axes(dim)[1..] == shape[1..] => {}
            Wanted::Exactly(dim, _) => return Err(mismatch(format!("{:?} was", axes(dim)))),
            Wanted::Rows(dim) => return Err(mismatch(format!("rows of shape {:?} were", &axes(dim)[1..]))),
        }
        let axes = D::NDIM.unwrap_or_default();
        D::from_dimension(&IxDyn(shape)).ok_or_else(|| mismatch(format!("an array of {axes} dimensions was")))
    }

    /// A new array behind the header that NumPy 2 would write for it, to the byte.
    fn place_new_npy(&self) -> Result<Placed<D>> {
        let layout = self.required_layout()?;
        let align = if self.page_aligned { PAGE_ALIGN } else { ARRAY_ALIGN };
        let dtype = checked_dtype::<A>()?;
        let header = EncodedHeader::format(&dtype, layout.axes(), layout.order() == Order::F, align)?.at(self.offset);
        let Some(offset) = self.offset.checked_add(header.bytes().len() as u64) else {
            return Err(error!(Overflow, "offset {} is beyond the largest file", self.offset));
        };
        Ok(Placed { layout, offset, header: Some(header) })
    }
}

impl<A: AnyBitPattern + NpyElement, D: Dimension, M: Supports<A> + Loadable> MmapArrayOptions<A, D, M> {
    /// Reads the array of a `.npy` file into private memory: safe, on any file system, at any alignment.
    ///
    /// # Errors
    /// Those of [`open_npy`](Self::open_npy) but [`ErrorKind::Misaligned`]; [`ErrorKind::Io`] (out of memory).
    pub fn load_npy<P: AsRef<Path>>(self, path: P) -> Result<MmapArrayBase<A, D, M>> {
        let path = path.as_ref();
        self.check_npy()
            .and_then(|()| ArrayFile::open(path, FileAccess::Read, self.lock.unwrap_or_default()))
            .and_then(|mut backing| Self::load_placed(self.place_npy(&mut backing)?, backing))
            .map_err(|e| e.with_path(path))
    }
}

impl<A: AnyBitPattern + NpyElement, D: Dimension> MmapArrayOptions<A, D, ReadWrite>
where
    ReadWrite: Supports<A>,
{
    /// Creates a `.npy` file, or replaces the one that is there, and maps its array, all zero. The header is what NumPy 2
    /// writes, to the byte, with room for the array to grow. All else as for [`create`](Self::create).
    ///
    /// # Errors
    /// Those of [`create`](Self::create); [`ErrorKind::Unsupported`] for what NumPy has no header for (more than 64
    /// axes, elements that are arrays in Fortran order).
    ///
    /// # Safety
    /// As for [`create`](Self::create).
    pub unsafe fn create_npy<P: AsRef<Path>>(self, path: P) -> Result<MmapArrayBase<A, D, ReadWrite>> {
        let path = path.as_ref();
        self.place_new_npy()
            .and_then(|placed| self.create_at(path, placed, Destination::replace, PendingFile::publish))
            .map_err(|e| e.with_path(path))
    }

    /// Like [`create_npy`](Self::create_npy), at a path where nothing may be yet.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] (already exists), and those of [`create_npy`](Self::create_npy).
    ///
    /// # Safety
    /// As for [`create`](Self::create).
    pub unsafe fn create_new_npy<P: AsRef<Path>>(self, path: P) -> Result<MmapArrayBase<A, D, ReadWrite>> {
        let path = path.as_ref();
        self.place_new_npy()
            .and_then(|placed| self.create_at(path, placed, Destination::vacant, PendingFile::publish_new))
            .map_err(|e| e.with_path(path))
    }
}

impl<A: AnyBitPattern + NpyElement, D: Dimension> MmapArrayOptions<A, D, Staging>
where
    Staging: Supports<A>,
{
    /// See [`MmapArrayBase::stage_npy`].
    pub(crate) fn stage_npy(self, path: &Path) -> Result<MmapArrayBase<A, D, Staging>> {
        self.stage_placed(path, self.place_new_npy()?)
    }
}

impl Header {
    /// Reads the header of a `.npy` file: for files whose element type or shape is not known ahead. Maps nothing, and
    /// takes no lock.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidHeader`], also for one longer than 10,000 bytes (for which there is
    /// [`read_with_limit`](Self::read_with_limit)), [`ErrorKind::Io`], [`ErrorKind::NotRegularFile`].
    ///
    /// ```
    /// use ndarray_mmap::{MmapArrayMut, npy::Header};
    ///
    /// let path = std::env::temp_dir().join("ndarray-mmap-header.npy");
    /// // SAFETY: nobody else knows this file.
    /// drop(unsafe { MmapArrayMut::<f32>::create_npy(&path, (3, 4))? });
    /// let header = Header::read(&path)?;
    /// assert_eq!((header.shape(), header.data_offset()), (&[3, 4][..], 128));
    /// assert_eq!(header.dtype().itemsize(), 4);
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read<P: AsRef<Path>>(path: P) -> Result<Self> {
        Self::read_with_limit(path, HEADER_CAP)
    }

    /// The same for headers of up to `max_header_size` bytes, as
    /// [`MmapArrayOptions::max_header_size`](crate::MmapArrayOptions::max_header_size) is for arrays.
    ///
    /// # Errors
    /// Those of [`read`](Self::read); [`ErrorKind::Io`] (out of memory).
    pub fn read_with_limit<P: AsRef<Path>>(path: P, max_header_size: usize) -> Result<Self> {
        let path = path.as_ref();
        ArrayFile::open(path, FileAccess::Read, Lock::None)
            .and_then(|mut backing| Ok(read_header(&mut backing, 0, max_header_size)?.0))
            .map_err(|e| e.with_path(path))
    }
}

/// The header at `offset`.
///
/// Somebody may be writing a longer array's header over it right now, and may have been stopped in the middle of that,
/// where two readings find the same mixture. So, unless nobody has written for a while, it counts once two readings
/// agree and what was being written is there.
fn read_header(backing: &mut ArrayFile, offset: u64, cap: usize) -> Result<(Header, EncodedHeader)> {
    if offset > backing.len() {
        return Err(Error::new(
            ErrorKind::TooShort,
            format!("file is {} bytes, but the header starts at offset {offset}", backing.len()),
        ));
    }
    let first = header_bytes(backing, offset, cap);
    let bytes = if backing.is_quiescent()? {
        first?
    } else {
        settled(first, || {
            backing.wait_for_write();
            header_bytes(backing, offset, cap)
        })?
    };
    let (header, encoded) = EncodedHeader::parse(bytes, cap)?;
    Ok((header, encoded.at(offset)))
}

/// What two readings in a row agree on. One that fails agrees with one that fails.
fn settled(first: Result<Vec<u8>>, mut again: impl FnMut() -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let mut last = first;
    for _ in 0..MOST_READS {
        let next = again();
        match (&last, &next) {
            (Ok(last), Ok(next)) if last == next => {}
            (Err(_), Err(_)) => {}
            _ => {
                last = next;
                continue;
            }
        }
        return next;
    }
    Err(Error::new(
        ErrorKind::InvalidHeader,
        format!("the header was another each of the {MOST_READS} times it was read"),
    ))
}

/// As many bytes as the preamble says, if the file has them.
fn header_bytes(backing: &ArrayFile, offset: u64, cap: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; COMMON_HEADER_LEN];
    let got = backing.read_at(&mut bytes, offset)?;
    bytes.truncate(got);
    let preamble = Preamble::parse(&bytes, cap)?;
    // What a header claims of itself is made room for only where the file is as long.
    let rest = usize::try_from(backing.len().saturating_sub(offset)).unwrap_or(usize::MAX);
    let end = preamble.text().end.min(rest.max(got));
    if end > got && got == COMMON_HEADER_LEN {
        // From its start again: so it is of one moment.
        let out_of_memory = |_| Error::io("cannot allocate memory for the header", io::ErrorKind::OutOfMemory.into());
        bytes.try_reserve_exact(end - bytes.len()).map_err(out_of_memory)?;
        bytes.resize(end, 0);
        let got = backing.read_at(&mut bytes, offset)?;
        bytes.truncate(got);
    }
    bytes.truncate(end);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_counts_once_two_readings_agree() {
        let bytes = |state: &str| match state {
            "none" => Err(Error::new(ErrorKind::InvalidHeader, "torn")),
            state => Ok(state.as_bytes().to_vec()),
        };
        let read = |states: &[&str]| {
            let mut rest = states[1..].iter();
            let settled = settled(bytes(states[0]), || bytes(rest.next().expect("read too often")));
            assert_eq!(rest.len(), 0, "read too seldom");
            settled
        };
        assert_eq!(read(&["old", "old"]).unwrap(), b"old");
        assert_eq!(read(&["old", "nld", "new", "new"]).unwrap(), b"new");
        assert_eq!(read(&["old", "new", "old", "new", "newer", "newer"]).unwrap(), b"newer");
        assert_eq!(read(&["none", "old", "none", "new", "new"]).unwrap(), b"new");
        assert_eq!(read(&["none", "none"]).unwrap_err().to_string(), "torn");
        let mut n = 0_u64;
        let counting = settled(bytes("0"), || {
            n += 1;
            Ok(n.to_ne_bytes().to_vec())
        });
        assert_eq!(counting.unwrap_err().kind(), ErrorKind::InvalidHeader);
    }
}
