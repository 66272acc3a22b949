//! The `.npy` format: header bytes and what they mean. No file, no mapping, no `unsafe`.
//!
//! Headers are read as NumPy reads them and written as it writes them, byte for byte. Work and memory are linear in
//! the header's length, which is capped before anything is allocated.
//!
//! # What is not read
//! Python objects, which a file cannot hold. And a few spellings that NumPy takes but never writes: several types in
//! one string (`'<i4,<f4'`, `'3f8'`), names of types that depend on the machine (`'long'`, `'int'`), strings in three
//! quotes or side by side, numbers other than in plain decimal digits.

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
pub(crate) use compat::checked_dtype;
pub use dtype::{ByteOrder, Dtype, DtypeKind, Field};
pub use element::NpyElement;
pub(crate) use encoded::EncodedHeader;
pub(crate) use header::HEADER_CAP;
pub use header::Header;
pub(crate) use preamble::{MAGIC, Preamble};
pub(crate) use write::{ARRAY_ALIGN, PAGE_ALIGN};
