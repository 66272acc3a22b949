//! The crate's one error: a kind to match on, the file it happened to, and a sentence for a person.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys;

/// The result of every call of this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call failed: match on its [`kind`](Self::kind), or print it.
///
/// It is one word large and `Send + Sync + 'static`.
///
/// Printed, it is one line that has everything: the file, what was tried, and the operating system's own error, which a
/// program finds in [`io_error`](Self::io_error). [`source`](std::error::Error::source) does not repeat it, so that a report
/// of an error and its sources, as `anyhow` and `eyre` print it, says everything once.
///
/// # Example: a file that is too short
/// ```
/// use ndarray_mmap::{ErrorKind, MmapArray};
///
/// # let path = std::env::temp_dir().join(format!("ndarray-mmap-too-short-{}.bin", std::process::id()));
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

/// What went wrong, for a program to match on.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// An operating-system error: not found, no permission, a directory, storage full, too many open files.
    /// [`io_kind`](Error::io_kind) says which. Of an archive's member also a wrong checksum (`InvalidData`).
    Io,
    /// A fifo, device, socket or directory: only regular files can be mapped.
    NotRegularFile,
    /// The offset is past the end of the file, or the shape needs more bytes than the file has.
    TooShort,
    /// The shape had to be inferred, but the bytes after the offset are not a whole number of elements or rows.
    LengthNotMultiple,
    /// The shape, or the offset and the shape together, need more bytes than can be addressed.
    Overflow,
    /// The array would not start at a multiple of its element's alignment.
    Misaligned,
    /// A file cannot be created without a shape.
    ShapeRequired,
    /// The number of dimensions, or the shape, is not the requested one.
    ShapeMismatch,
    /// Not a `.npy` header, or one that this crate cannot read. Not a `.npz` archive, or a damaged one.
    InvalidHeader,
    /// The `.npy` header specifies another element type than the requested one.
    DtypeMismatch,
    /// An argument is out of range (rows, an axis, an index, the text of a mode, a name in an archive), or the file does not
    /// allow what was asked for: other bytes follow the array, or somebody else has changed its header or length.
    InvalidInput,
    /// The file is locked by someone else: another process, or another array in this one.
    Locked,
    /// The file became shorter than the array while it was mapped.
    Truncated,
    /// The system could not read, or store, a page of the file.
    Fault,
    /// After an earlier failure it is unknown what reached the disk.
    Poisoned,
    /// Not possible on this platform, file system or file.
    Unsupported,
}

/// An [`Error`] of this kind, with a message as for [`format!`].
macro_rules! error {
    ($kind:ident, $($message:tt)+) => {
        $crate::error::Error::new($crate::error::ErrorKind::$kind, format!($($message)+))
    };
}
pub(crate) use error;

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, path: None, message: message.into(), source: None }))
    }

    /// An operating-system error; `doing` says what failed ("cannot open").
    pub(crate) fn io(doing: &'static str, source: io::Error) -> Self {
        Self::new(ErrorKind::Io, doing).with_source(source)
    }

    pub(crate) fn with_source(mut self, source: io::Error) -> Self {
        self.0.source = Some(source);
        self
    }

    /// A file of `len` bytes that had `expected`, or more.
    pub(crate) fn truncated(len: u64, expected: u64) -> Self {
        error!(Truncated, "file was truncated to {len} bytes while an array that ends at {expected} was mapped")
    }

    /// Adds a second failure to the message.
    pub(crate) fn and(mut self, besides: &str) -> Self {
        self.0.message = format!("{} ({besides})", self.0.message).into();
        self
    }

    /// Names the member of an archive that it is about.
    #[cfg(feature = "npz")]
    pub(crate) fn of_member(mut self, name: &str) -> Self {
        self.0.message = format!("member `{}`: {}", shorten(name), self.0.message).into();
        self
    }

    /// Adds the file's path, unless the error has one already.
    pub(crate) fn with_path(mut self, path: &Path) -> Self {
        self.0.path.get_or_insert_with(|| path.to_path_buf());
        self
    }

    /// What went wrong, for a program to match on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The kind of the operating system's own error, if there is one: `NotFound`, `PermissionDenied`, `StorageFull` ...
    ///
    /// ```
    /// use std::io;
    /// use ndarray_mmap::{ErrorKind, MmapArray};
    ///
    /// let e = MmapArray::<f64>::load("no/such/file").unwrap_err();
    /// assert_eq!((e.kind(), e.io_kind()), (ErrorKind::Io, Some(io::ErrorKind::NotFound)));
    /// ```
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        self.io_error().map(io::Error::kind)
    }

    /// The operating system's own error, if there is one.
    pub fn io_error(&self) -> Option<&io::Error> {
        self.0.source.as_ref()
    }

    /// The file: for a constructor the path as the caller gave it, for a method of an array the absolute path, for
    /// [`scratch`](crate::MmapArrayBase::scratch) the folder for temporary files. `None` for an array opened by a handle
    /// ([`map`](crate::MmapArrayOptions::map)).
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

/// The kind and what [`Display`](fmt::Display) prints: a program that returns the error from `main`, or unwraps it, shows this.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

/// What stands behind the operating system's error, which is mostly nothing: the error itself is printed already.
impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.io_error().and_then(std::error::Error::source)
    }
}

/// Keeps the kind of an operating-system error. Other errors get the nearest kind that `io` has.
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

/// Text from a file or a caller, escaped and short enough to be quoted in a message.
pub(crate) fn shorten(text: &str) -> String {
    /// Enough to recognise a name, and a message stays one line.
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

    /// As reports of an error and its sources print it.
    #[test]
    fn everything_is_said_once() {
        use std::error::Error as _;
        let not_found = || io::Error::from(io::ErrorKind::NotFound);
        let e = Error::io("cannot open", not_found()).with_path(Path::new("a"));
        assert_eq!(e.to_string(), format!("a: cannot open: {}", not_found()));
        assert!(e.source().is_none());
        assert_eq!(
            (e.io_kind(), e.io_error().unwrap().kind()),
            (Some(io::ErrorKind::NotFound), io::ErrorKind::NotFound)
        );
        // Of an error that wraps another, the sources begin with what its text does not have.
        let inner = io::Error::other("inner");
        let outer = io::Error::other(Error::io("cannot read", inner));
        assert_eq!(outer.to_string(), "cannot read: inner");
        let mut source = outer.source();
        while let Some(e) = source {
            assert_ne!(e.to_string(), "inner");
            source = e.source();
        }
        let e = Error::new(ErrorKind::TooShort, "short").with_path(Path::new("a"));
        assert_eq!(format!("{e:?}"), "TooShort: a: short");
        assert!(e.io_kind().is_none() && e.io_error().is_none() && e.source().is_none());
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
