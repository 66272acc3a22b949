//! What can go wrong, said once: a kind to match on, the file it happened to, and a sentence for a person.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys;

/// The result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An opaque error: ask [`kind`](Self::kind) to decide, print it to tell a person.
///
/// One word large, `Send + Sync + 'static`.
///
/// Printed, it says all there is to say in one line: the file, what was tried, and what the system answered. That answer
/// is also the [`source`](std::error::Error::source), for programs that want its number; a report that prints an error
/// with its sources says it twice, and needs the error only.
///
/// # Example: a file that is too short
/// ```
/// use ndarray_mmap::{ErrorKind, MmapArray};
///
/// let path = std::env::temp_dir().join("ndarray-mmap-too-short.bin");
/// std::fs::write(&path, [0u8; 8])?;
/// let err = MmapArray::<f32>::options().shape((2, 3)).load(&path).unwrap_err();
/// assert_eq!(err.kind(), ErrorKind::TooShort);
/// assert_eq!(err.path(), Some(path.as_path()));
/// assert!(err.to_string().ends_with("file is 8 bytes, but offset 0 and shape [2, 3] of f32 need 24"));
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    path: Option<PathBuf>,
    message: Cow<'static, str>,
    source: Option<io::Error>,
}

/// What went wrong, for a program to decide on.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The system said no: not found, no permission, a directory, storage full, too many open files.
    /// `source()` is the [`io::Error`].
    Io,
    /// A fifo, device, socket or directory: only regular files can be mapped.
    NotRegularFile,
    /// The offset is past the end of the file, or the shape needs more bytes than the file has.
    TooShort,
    /// The shape was to be inferred, and what follows the offset is no whole number of elements or rows.
    LengthNotMultiple,
    /// The shape, or the offset and the shape together, need more bytes than can be addressed.
    Overflow,
    /// The array would not start at a multiple of its element's alignment.
    Misaligned,
    /// A file cannot be created without a shape.
    ShapeRequired,
    /// The number of dimensions, or a shape, is not the one asked for.
    ShapeMismatch,
    /// Not a `.npy` header, or one that this crate cannot read.
    InvalidHeader,
    /// The `.npy` header names another element type than the one asked for.
    DtypeMismatch,
    /// An argument is out of range: rows, an axis, an index, a block size, the text of a mode.
    InvalidInput,
    /// Another opening of the file holds a lock that excludes this one.
    Locked,
    /// The file became shorter than the array while it was mapped.
    Truncated,
    /// The system could not bring in, or store, a page of the file.
    Fault,
    /// An earlier failure left it unknown what reached the disk.
    Poisoned,
    /// Not possible on this platform, file system or file.
    Unsupported,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, path: None, message: message.into(), source: None }))
    }

    /// A refusal by the system while doing what `doing` says ("cannot open").
    pub(crate) fn io(doing: &'static str, source: io::Error) -> Self {
        Self::new(ErrorKind::Io, doing).with_source(source)
    }

    pub(crate) fn with_source(mut self, source: io::Error) -> Self {
        self.0.source = Some(source);
        self
    }

    /// A file of `len` bytes that had `expected`, or more.
    pub(crate) fn truncated(len: u64, expected: u64) -> Self {
        Self::new(
            ErrorKind::Truncated,
            format!("file was truncated to {len} bytes while an array that ends at {expected} was mapped"),
        )
    }

    /// Says what went wrong besides.
    pub(crate) fn and(mut self, besides: &str) -> Self {
        self.0.message = format!("{} ({besides})", self.0.message).into();
        self
    }

    /// Names the file, unless a deeper layer already did.
    pub(crate) fn with_path(mut self, path: &Path) -> Self {
        self.0.path.get_or_insert_with(|| path.to_path_buf());
        self
    }

    /// What went wrong, for a program to decide on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file, as the caller named it; `None` where there was none, as for [`map`](crate::MmapArrayOptions::map).
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.0.path {
            write!(f, "{}: ", path.display())?;
        }
        f.write_str(&self.0.message)?;
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
            if sys::is_descriptor_limit(source) {
                f.write_str("; each mapped array holds one descriptor: raise RLIMIT_NOFILE, or close arrays")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("path", &self.0.path)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}

/// Keeps the kind of the system's own error; the others get the nearest kind that `io` knows.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match (error.kind(), &error.0.source) {
            (ErrorKind::Io, Some(source)) => source.kind(),
            (ErrorKind::TooShort | ErrorKind::Truncated, _) => io::ErrorKind::UnexpectedEof,
            (ErrorKind::Locked, _) => io::ErrorKind::WouldBlock,
            (ErrorKind::Unsupported, _) => io::ErrorKind::Unsupported,
            (ErrorKind::LengthNotMultiple | ErrorKind::InvalidHeader | ErrorKind::DtypeMismatch, _) => {
                io::ErrorKind::InvalidData
            }
            (ErrorKind::Io | ErrorKind::Fault | ErrorKind::Poisoned, _) => io::ErrorKind::Other,
            _ => io::ErrorKind::InvalidInput,
        };
        io::Error::new(kind, error)
    }
}

/// Text that a message quotes, short enough for one, whoever wrote it.
pub(crate) fn shorten(text: &str) -> String {
    const MOST: usize = 40;
    let mut out: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_word_and_crosses_threads() {
        fn crosses<T: Send + Sync + 'static>() {}
        crosses::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn io_kinds_survive_the_way_to_io_error() {
        for kind in [io::ErrorKind::NotFound, io::ErrorKind::StorageFull, io::ErrorKind::PermissionDenied] {
            let e = Error::io("cannot open", kind.into());
            assert_eq!(io::Error::from(e).kind(), kind);
        }
        assert_eq!(io::Error::from(Error::new(ErrorKind::Truncated, "cut")).kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn the_first_path_named_stays() {
        let e = Error::new(ErrorKind::TooShort, "short").with_path(Path::new("a")).with_path(Path::new("b"));
        assert_eq!(e.to_string(), "a: short");
    }
}
