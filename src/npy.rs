//! The `.npy` format: the bytes of a header and what they mean.
//!
//! Headers are read as NumPy reads them, and written as NumPy writes them, byte for byte. Work and memory are linear in
//! the length of the header, which is limited before anything is allocated. Nothing in here opens a file, but for
//! [`Header::read`] and its like.
//!
//! # What is not read
//! - Python objects: a file cannot hold them.
//! - A few spellings that NumPy accepts but never writes: several types in one string (`'<i4,<f4'`, `'3f8'`), type names
//!   that depend on the machine (`'long'`, `'int'`), strings in three quotes or side by side, and numbers other than
//!   plain decimal digits.

mod builder;
mod compat;
#[cfg(test)]
mod corpus;
mod descr;
mod display;
mod dtype;
mod element;
mod encoded;
mod header;
mod literal;
mod preamble;
mod record;
mod write;

pub use crate::element::DatetimeUnit;
// For users, who look for it here; no module below `real` may.
pub use crate::real::Real;
pub use builder::HeaderBuilder;
pub(crate) use compat::checked_dtype;
pub use dtype::{ByteOrder, Dtype, DtypeKind, Field};
pub use element::NpyElement;
pub(crate) use encoded::EncodedHeader;
pub(crate) use header::HEADER_CAP;
pub use header::Header;
pub(crate) use preamble::{MAGIC, Preamble};
pub(crate) use write::{ARRAY_ALIGN, PAGE_ALIGN};
