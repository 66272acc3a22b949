#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]
#![warn(missing_docs, unreachable_pub, clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
#![warn(clippy::incompatible_msrv)]

mod arch;
mod array;
pub mod blocks;
#[cfg(doc)]
pub mod doc;
mod element;
mod error;
mod file;
mod gather;
mod layout;
pub mod mode;
pub mod npy;
mod open;
mod parallel;
mod storage;
mod sys;
mod tile;

pub use array::{MmapArray, MmapArrayBase, MmapArrayCow, MmapArrayMut, Staged};
pub use blocks::{Blocks, BlocksMut};
pub use element::{Bool8, Datetime64, FixedBytes, Timedelta64, time_units};
pub use error::{Error, ErrorKind, Result};
pub use file::Lock;
pub use mode::{CopyOnWrite, Mode, ReadOnly, ReadWrite, Staging};
pub use open::MmapArrayOptions;
pub use storage::Advice;
pub use tile::TiledAssign;
