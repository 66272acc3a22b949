//! Memory-mapped files as [`ndarray`] arrays: NumPy's `memmap` and `open_memmap` for Rust.
//!
//! An array of this crate lies in a file. The system reads its pages into the page cache when they are used and writes them
//! back when they were changed, so opening takes microseconds whatever the size, nothing is copied (zero-copy), and the
//! file may be larger than memory (out-of-core). The crate maps raw binary files and `.npy`, at any offset, in C and Fortran
//! order, for every element type for which every bit pattern is valid.
//!
//! # Quick start
//! ```
//! use ndarray::prelude::*;
//! use ndarray_mmap::{MmapArray, MmapArrayMut};
//!
//! # let folder = std::env::temp_dir().join(format!("ndarray-mmap-crate-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! let path = folder.join("grid.npy");
//!
//! // A new `.npy` file of 3 x 4 floats, all zero.
//! // SAFETY: while `grid` lives, no other process or handle changes its bytes or truncates the file.
//! let mut grid = unsafe { MmapArrayMut::<f32>::create_npy(&path, (3, 4))? };
//! grid.row_mut(1).fill(2.0);
//! grid.close()?;
//!
//! // Read-only. It is an ndarray array: methods, slices, iterators, arithmetic.
//! // SAFETY: while `grid` lives, no other process or handle changes its bytes or truncates the file.
//! let grid = unsafe { MmapArray::<f32, Ix2>::open_npy(&path)? };
//! assert_eq!(grid.sum(), 8.0);
//! let doubled: Array2<f32> = &grid * 2.0;
//! assert_eq!(doubled.row(1), array![4.0, 4.0, 4.0, 4.0]);
//! # drop(grid);
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Which type, which constructor
//! | type | mode | NumPy | stores go to |
//! |---|---|---|---|
//! | [`MmapArray`] | read-only | `'r'` | (none) |
//! | [`MmapArrayMut`] | read-write | `'r+'`, `'w+'` | the file |
//! | [`MmapArrayCow`] | copy-on-write | `'c'` | memory |
//! | [`Staged`] (Linux) | read-write | | an unnamed file that takes its path when it is published |
//!
//! All four are [`MmapArrayBase`], whose page lists the constructors and describes the methods. Offset, shape, order and
//! lock are set on [`MmapArrayOptions`].
//!
//! # Larger than memory
//! [`blocks`](MmapArrayBase::blocks) passes over an array in chunks, with read-ahead, in bounded memory, and on all cores
//! with the feature `rayon`: [`sum`](blocks::BlocksBase::sum), [`mean`](blocks::BlocksBase::mean),
//! [`var`](blocks::BlocksBase::var), [`min_max`](blocks::BlocksBase::min_max), sums along an axis, maps from file to file,
//! and iteration. [`assign_tiled`](MmapArrayBase::assign_tiled) transposes, [`gather`](MmapArrayBase::gather) picks rows or
//! columns.
//!
//! # Why some constructors are `unsafe`
//! Rust relies on the memory behind a `&[f64]` not changing, and nothing can stop another program from writing to a file
//! that has a name. The caller of `open`, `create` or `map` therefore promises:
//!
//! > While the array lives, no byte of it changes in the file except through it, and the file is not truncated below the
//! > array's end.
//!
//! Appending behind the array, rewriting a header before it and writing to other parts of the file are allowed. Everything
//! else is checked here: that the file holds the array, that it is aligned, that every bit pattern is a value
//! ([`bytemuck::AnyBitPattern`]), that no view outlives it, and by an advisory [`Lock`] that two arrays on one file notice
//! each other. These constructors are safe: [`load`](MmapArrayBase::load) (a copy in memory),
//! [`scratch`](MmapArrayBase::scratch) and [`stage`](MmapArrayBase::stage) (unnamed files),
//! [`map_sealed`](MmapArrayOptions::map_sealed) (a file that the kernel proves immutable).
//!
//! If the promise is broken or the disk fails, unix systems end the process by a signal (SIGBUS).
//! [`guarded`](MmapArrayBase::guarded) turns that into an [`Error`].
//!
//! # What reaches the disk
//! A store is visible to every process at once and survives the end of this one, even a kill. After
//! [`flush`](MmapArrayBase::flush) it survives a power cut. A file from [`publish`](MmapArrayBase::publish) replaces the old
//! one atomically. [`doc::durability`] has the table.
//!
//! # Modules
//! - [`npy`]: headers, element types and records of `.npy` files; code for files of any number type, with [`npy_dispatch!`].
//! - [`npz`]: what a `.npz` archive has (feature `npz`).
//! - [`blocks`]: what a pass over blocks returns, and which elements can be summed.
//! - [`mode`]: the modes as types, for generic code.
//! - [`time_units`]: the units of [`Datetime64`] and [`Timedelta64`].
//! - [`doc`]: durability, platforms, tuning, architecture.
//!
//! # Features
//! | feature | what it adds |
//! |---|---|
//! | `rayon` | all cores: `par_iter` and ndarray's other parallel methods, `.blocks().parallel(true)`, `assign_tiled` on all cores |
//! | `num-complex` | complex elements (NumPy's `c8`, `c16`) |
//! | `half` | half-precision elements (NumPy's `f2`, and `bfloat16`) |
//! | `rend` | that crate's big- and little-endian numbers, at any offset, in place (NumPy's `>f8`). They have arithmetic; [`BigEndian`], [`LittleEndian`] and [`Unaligned`] need no feature |
//! | `npz` | the arrays of `.npz` files: [`open_npz`](MmapArrayBase::open_npz) maps, [`load_npz`](MmapArrayBase::load_npz) reads, [`npz`] lists them |
//!
//! None is on by default. The minimum supported Rust version is 1.89.
#![deny(unsafe_code)]
#![warn(missing_docs, unreachable_pub, clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
#![warn(clippy::incompatible_msrv)]

mod arch;
#[cfg(doc)]
pub mod doc;
mod element;
mod error;
mod file;
mod layout;
pub mod mode;
pub mod npy;
#[cfg(feature = "npz")]
pub mod npz;
mod parallel;
mod pieces;
mod storage;
mod sys;

// The array's page lists methods in the order of these modules.
mod open;

mod array;

mod grow;

mod publish;

pub mod blocks;

mod tile;

mod gather;

mod strided;

mod field;

mod guarded;

mod real;

pub use array::{MmapArray, MmapArrayBase, MmapArrayCow, MmapArrayMut, ScalarOperand, Staged};
pub use blocks::{Blocks, BlocksMut};
pub use element::{
    BigEndian, Bool8, ByteOrdered, Datetime64, FixedBytes, LittleEndian, Str, Timedelta64, Unaligned, time_units,
};
pub use error::{Error, ErrorKind, Result};
pub use file::Lock;
pub use mode::{CopyOnWrite, Mode, ReadOnly, ReadWrite, Staging};
pub use open::MmapArrayOptions;
pub use publish::save_npy;
pub use storage::Advice;
pub use tile::TiledAssign;

#[doc(hidden)]
pub use real::dispatch as __dispatch;
