//! `.npz` archives: zip files of `.npy` files, as `np.savez` and `np.savez_compressed` write them.
//!
//! [`Archive`] shows what an archive has. Its arrays are mapped by [`open_npz`](crate::MmapArrayBase::open_npz), if they are
//! stored without compression, and read by [`load_npz`](crate::MmapArrayBase::load_npz). Each of these reads the directory of
//! the archive; for many arrays of one archive there are [`Archive::map`] and [`Archive::load`].
//!
//! ```
//! use ndarray_mmap::{MmapArray, npz::Archive};
//!
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/example.npz");
//! let archive = Archive::open(path)?;
//! assert_eq!(archive.names().collect::<Vec<_>>(), ["grid", "days/count"]);
//! let header = archive.header("grid")?;
//! assert_eq!(header.to_string(), "<f8 (2, 3) in C order, data at byte 128, .npy version 1.0");
//! assert!(archive.is_stored("grid")? && !archive.is_stored("days/count")?);
//!
//! let days = MmapArray::<i32>::load_npz(path, "days/count")?;
//! assert_eq!(days.sum(), 7000);
//! # Ok::<(), ndarray_mmap::Error>(())
//! ```
//!
//! # What is read
//! Members that are stored or deflated; archives and members of any size (zip64); archives with a comment, and with other
//! bytes before them. What a member's own header says must be what the directory says (a record behind the data is not read), and no two members
//! may share bytes.
//! Work and memory are bounded by the size of the file: a member that claims to be more than its compressed bytes can become
//! is refused before anything is allocated, and an array must be exactly as long as its member.
//!
//! # What is not read
//! - Encrypted members, archives in several parts, and other compression than deflate.
//! - A name that an archive has twice. (NumPy reads the last one.)
//! - Archives that somebody is writing to: the directory, at the end, is written last.

mod directory;
mod end;
mod member;
mod name;
mod reader;

use std::fmt;
use std::path::{Path, PathBuf};

pub(crate) use directory::Directory;
pub(crate) use member::Located;

use crate::error::{Error, Result};
use crate::file::{ArrayFile, Lock};
use crate::mode::FileAccess;
use crate::npy::{HEADER_CAP, Header};

/// The arrays of a `.npz` file: their names and headers. Maps nothing, and takes no lock.
///
/// It keeps the file open, and its directory in memory: names and places are those of the moment when it was opened. If the
/// file is written to meanwhile, a header may be an error or another array's.
pub struct Archive {
    file: ArrayFile,
    path: PathBuf,
    directory: Directory,
}

/// The path and the number of members.
impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = self.names().len();
        f.debug_struct("Archive").field("path", &self.path).field("members", &members).finish_non_exhaustive()
    }
}

impl Archive {
    /// Reads the directory of an archive.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidHeader`](crate::ErrorKind::InvalidHeader): no zip archive, or one whose directory is damaged or
    ///   was cut off.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): one part of an archive in several.
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io), [`ErrorKind::NotRegularFile`](crate::ErrorKind::NotRegularFile).
    pub fn open<P: AsRef<Path>>(path: P) -> Result<Self> {
        let path = path.as_ref();
        let open = |mut file: ArrayFile| {
            let directory = Directory::read(&file)?;
            let absolute = file.take_path().unwrap_or_else(|| path.to_path_buf());
            Ok(Self { file, path: absolute, directory })
        };
        ArrayFile::open(path, FileAccess::Read, Lock::None).and_then(open).map_err(|e| e.with_path(path))
    }

    /// The names of all members in the archive's order, as NumPy's `files` has them: without `.npy` at the end. A member in a
    /// folder of the archive has the folder in its name: `layer1/weights`.
    ///
    /// As in NumPy, members that are no arrays are among them. Their [`header`](Self::header) is an error.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> + DoubleEndedIterator + Clone {
        self.directory.member_names().map(name::of_array)
    }

    /// Reads the header of an array: of a compressed one, its first bytes only. Its
    /// [`data_offset`](Header::data_offset) counts from the start of the member.
    ///
    /// The name may end with `.npy` or not. The member that has exactly this name is looked for first.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): the archive has no such name.
    /// - [`ErrorKind::InvalidHeader`](crate::ErrorKind::InvalidHeader): the member is no `.npy` file, is damaged, or there
    ///   are two of this name.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): an encrypted member, or another compression.
    /// - [`ErrorKind::TooShort`](crate::ErrorKind::TooShort): the file was truncated since it was opened.
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io), also of the kind `InvalidData` for damaged compressed data.
    pub fn header(&self, name: &str) -> Result<Header> {
        self.header_with_limit(name, HEADER_CAP)
    }

    /// Like [`header`](Self::header), for headers of up to `max_header_size` bytes.
    ///
    /// # Errors
    /// Those of [`header`](Self::header).
    pub fn header_with_limit(&self, name: &str, max_header_size: usize) -> Result<Header> {
        let read = |member: &Located| member.reader(&self.file)?.header(max_header_size);
        let member = self.directory.locate(&self.file, name).map_err(|e| self.named(e))?;
        read(&member).map_err(|e| self.named(member.named(e)))
    }

    /// Whether an array is stored without compression, so that [`open_npz`](crate::MmapArrayBase::open_npz) can map it (with
    /// an element type of alignment 1, unless its data happen to be aligned).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput): the archive has no such name.
    /// [`ErrorKind::InvalidHeader`](crate::ErrorKind::InvalidHeader): it has two.
    pub fn is_stored(&self, name: &str) -> Result<bool> {
        Ok(self.directory.find(name).map_err(|e| self.named(e))?.is_stored())
    }

    pub(crate) fn file(&self) -> &ArrayFile {
        &self.file
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The file's absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn named(&self, error: Error) -> Error {
        error.with_path(&self.path)
    }
}
