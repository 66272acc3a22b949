//! The modes in which an array can be opened: NumPy's `'r'`, `'r+'`, `'w+'` and `'c'`, and staging.
//!
//! A mode is a type, so that what it cannot do does not compile. [`Mode`] is a value that an array reports, in NumPy's
//! terms: an array that created its file reports [`Mode::Create`], staged and scratch arrays included. The traits say what a
//! mode can do, and are implemented for the types of this module only.

use std::fmt;
use std::str::FromStr;

use bytemuck::{AnyBitPattern, NoUninit};

use crate::error::{Error, error, shorten};

/// The array can be read. NumPy's `'r'`.
#[derive(Debug)]
pub enum ReadOnly {}

/// The array can be read and written, and what is written goes to the file. NumPy's `'r+'` and `'w+'`.
#[derive(Debug)]
pub enum ReadWrite {}

/// The array can be read and written, but the file never changes. NumPy's `'c'`.
#[derive(Debug)]
pub enum CopyOnWrite {}

/// The array can be read and written, in a file that has no name until it is
/// [published](crate::MmapArrayBase::publish).
#[derive(Debug)]
pub enum Staging {}

/// Any mode.
pub trait AccessMode: sealed::Sealed + 'static {
    /// The access to the file and to the memory that the mode needs.
    #[doc(hidden)]
    const FILE_ACCESS: FileAccess;
}

/// A mode that can open existing files.
pub trait OpenExisting: AccessMode {}

/// A mode whose arrays can be written to.
pub trait Writable: AccessMode {}

/// A writable mode whose changes go to the file: its arrays can be flushed, and can grow.
pub trait Persistent: Writable {}

/// A mode whose arrays can also be in-memory copies of a file.
pub trait Loadable: OpenExisting {}

/// A mode whose arrays can have elements of type `A`.
///
/// All modes need `A: AnyBitPattern` ([bytemuck's](AnyBitPattern)): every bit pattern in a file must be a valid `A`. Writable
/// modes also need [`NoUninit`]: padding would put uninitialised bytes in the file. The trait is implemented wherever
/// these bounds hold, and nowhere else, because soundness depends on it.
#[diagnostic::on_unimplemented(
    message = "`{A}` cannot be an element of a `{Self}` array",
    note = "reading needs `bytemuck::AnyBitPattern`: every bit pattern is a value (for booleans use `Bool8`)",
    note = "writing needs `bytemuck::NoUninit` too: no padding, whose bytes would reach the file uninitialised"
)]
pub trait Supports<A>: AccessMode + sealed::Supports<A> {}

mod access {
    /// What a mode does with its file. Users cannot name it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum FileAccess {
        Read,
        ReadWrite,
        CopyOnWrite,
    }

    impl FileAccess {
        /// Whether stores go to the file, so that it must be open for writing.
        pub(crate) fn writes_file(self) -> bool {
            self == FileAccess::ReadWrite
        }
    }
}
pub(crate) use access::FileAccess;

macro_rules! modes {
    ($($mode:ident: $access:ident, $($capability:ident)+;)*) => {$(
        impl sealed::Sealed for $mode {}
        impl AccessMode for $mode {
            const FILE_ACCESS: FileAccess = FileAccess::$access;
        }
        $(impl $capability for $mode {})+
    )*};
}

modes! {
    ReadOnly: Read, OpenExisting Loadable;
    ReadWrite: ReadWrite, OpenExisting Writable Persistent;
    CopyOnWrite: CopyOnWrite, OpenExisting Loadable Writable;
    Staging: ReadWrite, Writable Persistent;
}

impl<A, M: AccessMode + sealed::Supports<A>> Supports<A> for M {}

mod sealed {
    use super::{AnyBitPattern, CopyOnWrite, NoUninit, ReadOnly, ReadWrite, Staging};

    pub trait Sealed {}

    pub trait Supports<A> {}
    impl<A: AnyBitPattern> Supports<A> for ReadOnly {}
    impl<A: AnyBitPattern + NoUninit> Supports<A> for ReadWrite {}
    impl<A: AnyBitPattern + NoUninit> Supports<A> for CopyOnWrite {}
    impl<A: AnyBitPattern + NoUninit> Supports<A> for Staging {}
}

/// The mode of an array as a value. It prints and parses as NumPy's mode strings.
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
    /// `"w+"`, `"write"`: like `"r+"`, for a file that this array created.
    Create,
    /// `"c"`, `"copyonwrite"`.
    CopyOnWrite,
}

impl From<FileAccess> for Mode {
    fn from(access: FileAccess) -> Self {
        match access {
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
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for any other text; as in NumPy, that includes other
    /// case and white space.
    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text {
            "r" | "readonly" => Mode::ReadOnly,
            "r+" | "readwrite" => Mode::ReadWrite,
            "w+" | "write" => Mode::Create,
            "c" | "copyonwrite" => Mode::CopyOnWrite,
            _ => {
                return Err(error!(
                    InvalidInput,
                    "mode must be one of \"r\", \"c\", \"r+\", \"w+\", \"readonly\", \"copyonwrite\", \
                     \"readwrite\", \"write\" (got \"{}\")",
                    shorten(text)
                ));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

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
