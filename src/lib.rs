#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]
#![warn(missing_docs, unreachable_pub, clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
#![warn(clippy::incompatible_msrv)]

mod access;
mod array;
mod blocks;
#[cfg(doc)]
pub mod doc;
mod doors;
mod element;
mod error;
#[cfg(unix)]
mod fault;
mod file;
mod grow;
mod layout;
mod mapping;
pub mod npy;
mod options;
mod progress;
mod simd;
mod stage;
mod stream;
mod threads;
mod tile;

pub use access::{Access, Admits, CopyOnWrite, Mode, Opens, Private, ReadOnly, ReadWrite, Staging, Stored, Writable};
pub use array::{MmapArray, MmapArrayBase, MmapArrayCow, MmapArrayMut, Staged};
#[cfg(feature = "rayon")]
pub use blocks::ParBlocksIter;
pub use blocks::{Accumulate, Blocks, BlocksBase, BlocksIter, BlocksMut, Elements, Mean, Total};
pub use element::{Bool8, Bytes, DateUnit, Datetime64, Timedelta64, units};
pub use error::{Error, ErrorKind, Result};
pub use file::Lock;
pub use mapping::Advice;
pub use options::MmapArrayOptions;
pub use tile::Tiled;
