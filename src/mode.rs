//! The modes an array can be opened in: as types, so that what a mode cannot do does not compile, and as a value.

use std::fmt;
use std::str::FromStr;

use bytemuck::{AnyBitPattern, NoUninit};

use crate::error::{Error, ErrorKind, shorten};

/// Mode marker: the array may be read. NumPy's `'r'`.
#[derive(Debug)]
pub enum ReadOnly {}

/// Mode marker: the array may be read and written, and the file is written with it. NumPy's `'r+'` and `'w+'`.
#[derive(Debug)]
pub enum ReadWrite {}

/// Mode marker: the array may be read and written, and the file never changes. NumPy's `'c'`.
#[derive(Debug)]
pub enum CopyOnWrite {}

/// Mode marker: the array may be read and written, in a file that has no name until it is published.
#[derive(Debug)]
pub enum Staging {}

/// A mode of access; the markers of this crate are all there are.
pub trait AccessMode: sealed::Sealed + 'static {
    /// What the door has to ask of the file and of the memory.
    #[doc(hidden)]
    const FILE_ACCESS: FileAccess;
}

/// A mode that opens files that are there.
pub trait OpenExisting: AccessMode {}

/// A mode whose arrays may be written.
pub trait Writable: AccessMode {}

/// A writable mode whose arrays are stored in a file: they can be flushed, and can grow.
pub trait Persistent: Writable {}

/// A mode whose arrays can also live in private memory, without a file.
pub trait Loadable: OpenExisting {}

/// The mode admits elements of type `A`: every bit pattern of a file must be a valid `A`
/// ([`AnyBitPattern`]), and a writable mode must not put uninitialised padding in a file ([`NoUninit`]).
///
/// Implemented for all that may, and sealed: soundness rests on it.
#[diagnostic::on_unimplemented(
    message = "`{A}` cannot be an element of a `{Self}` array",
    note = "reading needs `bytemuck::AnyBitPattern`: every bit pattern is a value (for booleans use `Bool8`)",
    note = "writing needs `bytemuck::NoUninit` too: no padding, whose bytes would reach the file uninitialised"
)]
pub trait Supports<A>: AccessMode + sealed::Supports<A> {}

/// What a mode does with its file.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAccess {
    Read,
    ReadWrite,
    CopyOnWrite,
}

impl FileAccess {
    /// Whether stores reach the file, so that it has to be opened for writing.
    pub(crate) fn writes_file(self) -> bool {
        self == FileAccess::ReadWrite
    }
}

impl AccessMode for ReadOnly {
    const FILE_ACCESS: FileAccess = FileAccess::Read;
}
impl AccessMode for ReadWrite {
    const FILE_ACCESS: FileAccess = FileAccess::ReadWrite;
}
impl AccessMode for CopyOnWrite {
    const FILE_ACCESS: FileAccess = FileAccess::CopyOnWrite;
}

impl AccessMode for Staging {
    const FILE_ACCESS: FileAccess = FileAccess::ReadWrite;
}

impl OpenExisting for ReadOnly {}
impl OpenExisting for ReadWrite {}
impl OpenExisting for CopyOnWrite {}

impl Writable for ReadWrite {}
impl Writable for CopyOnWrite {}
impl Writable for Staging {}

impl Persistent for ReadWrite {}
impl Persistent for Staging {}

impl Loadable for ReadOnly {}
impl Loadable for CopyOnWrite {}

impl<A, M: AccessMode + sealed::Supports<A>> Supports<A> for M {}

mod sealed {
    use super::{AnyBitPattern, CopyOnWrite, NoUninit, ReadOnly, ReadWrite, Staging};

    pub trait Sealed {}
    impl Sealed for ReadOnly {}
    impl Sealed for ReadWrite {}
    impl Sealed for CopyOnWrite {}
    impl Sealed for Staging {}

    pub trait Supports<A> {}
    impl<A: AnyBitPattern> Supports<A> for ReadOnly {}
    impl<A: AnyBitPattern + NoUninit> Supports<A> for ReadWrite {}
    impl<A: AnyBitPattern + NoUninit> Supports<A> for CopyOnWrite {}
    impl<A: AnyBitPattern + NoUninit> Supports<A> for Staging {}
}

/// How an array was opened, as a value. Prints and parses as NumPy's mode strings.
///
/// ```
/// use ndarray_mmap::Mode;
///
/// assert_eq!("copyonwrite".parse::<Mode>()?, Mode::CopyOnWrite);
/// assert_eq!(Mode::ReadWrite.to_string(), "r+");
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// `"r"`, `"readonly"`.
    ReadOnly,
    /// `"r+"`, `"readwrite"`.
    ReadWrite,
    /// `"w+"`, `"write"`: read and written, in a file that this array created.
    Create,
    /// `"c"`, `"copyonwrite"`.
    CopyOnWrite,
}

impl From<FileAccess> for Mode {
    fn from(rights: FileAccess) -> Self {
        match rights {
            FileAccess::Read => Mode::ReadOnly,
            FileAccess::ReadWrite => Mode::ReadWrite,
            FileAccess::CopyOnWrite => Mode::CopyOnWrite,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Mode::ReadOnly => "r",
            Mode::ReadWrite => "r+",
            Mode::Create => "w+",
            Mode::CopyOnWrite => "c",
        })
    }
}

impl FromStr for Mode {
    type Err = Error;

    /// # Errors
    /// [`ErrorKind::InvalidInput`] for any other text, upper case and white space included, as in NumPy.
    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text {
            "r" | "readonly" => Mode::ReadOnly,
            "r+" | "readwrite" => Mode::ReadWrite,
            "w+" | "write" => Mode::Create,
            "c" | "copyonwrite" => Mode::CopyOnWrite,
            _ => {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!(
                        "mode must be one of \"r\", \"c\", \"r+\", \"w+\", \"readonly\", \"copyonwrite\", \
                         \"readwrite\", \"write\" (got \"{}\")",
                        shorten(text)
                    ),
                ));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_parse_what_they_print_and_numpys_long_names() {
        for (short, long, mode) in [
            ("r", "readonly", Mode::ReadOnly),
            ("r+", "readwrite", Mode::ReadWrite),
            ("w+", "write", Mode::Create),
            ("c", "copyonwrite", Mode::CopyOnWrite),
        ] {
            assert_eq!(mode.to_string(), short);
            assert_eq!(short.parse::<Mode>().unwrap(), mode);
            assert_eq!(long.parse::<Mode>().unwrap(), mode);
        }
    }

    #[test]
    fn other_mode_texts_are_refused() {
        for text in ["", "w", "a", "x", "rb", "r+b", "R", " r", "r ", "None", "writeonly"] {
            assert_eq!(text.parse::<Mode>().unwrap_err().kind(), ErrorKind::InvalidInput, "{text:?}");
        }
    }
}
