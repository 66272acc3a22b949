//! Arrays and files to test with: the `unsafe` constructors with their promise given once, expected errors, and files.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use bytemuck::{AnyBitPattern, NoUninit};
use ndarray::Dimension;
use ndarray_mmap::npy::NpyElement;
use ndarray_mmap::{
    Error, ErrorKind, MmapArrayBase, MmapArrayOptions, ReadWrite, Result,
    mode::{OpenExisting, Supports},
};
use tempfile::TempDir;

/// The constructors of any mode. The promise is kept by all tests: each maps files of its own, in a folder of its own, and
/// where one is changed or truncated while an array maps it, no view is in use meanwhile, and nothing past its new end is
/// read.
pub trait OpenExt<A: 'static, D, M>: Sized {
    fn opened(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, M>>;
    fn mapped(self, file: &File) -> Result<MmapArrayBase<A, D, M>>;
    fn opened_npy(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, M>>
    where
        A: NpyElement;
    fn mapped_npy(self, file: &File) -> Result<MmapArrayBase<A, D, M>>
    where
        A: NpyElement;
}

impl<A: AnyBitPattern, D: Dimension, M: Supports<A> + OpenExisting> OpenExt<A, D, M> for MmapArrayOptions<A, D, M> {
    fn opened(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, M>> {
        // SAFETY: see the trait.
        unsafe { self.open(path) }
    }

    fn mapped(self, file: &File) -> Result<MmapArrayBase<A, D, M>> {
        // SAFETY: see the trait.
        unsafe { self.map(file) }
    }

    fn opened_npy(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, M>>
    where
        A: NpyElement,
    {
        // SAFETY: see the trait.
        unsafe { self.open_npy(path) }
    }

    fn mapped_npy(self, file: &File) -> Result<MmapArrayBase<A, D, M>>
    where
        A: NpyElement,
    {
        // SAFETY: see the trait.
        unsafe { self.map_npy(file) }
    }
}

/// The constructors that make files. The promise is that of [`OpenExt`].
pub trait CreateExt<A: 'static, D>: Sized {
    fn created(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, ReadWrite>>;
    fn created_new(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, ReadWrite>>;
    fn created_npy(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, ReadWrite>>
    where
        A: NpyElement;
    fn created_new_npy(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, ReadWrite>>
    where
        A: NpyElement;
}

impl<A: AnyBitPattern, D: Dimension> CreateExt<A, D> for MmapArrayOptions<A, D, ReadWrite>
where
    ReadWrite: Supports<A>,
{
    fn created(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, ReadWrite>> {
        // SAFETY: see `OpenExt`.
        unsafe { self.create(path) }
    }

    fn created_new(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, ReadWrite>> {
        // SAFETY: see `OpenExt`.
        unsafe { self.create_new(path) }
    }

    fn created_npy(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, ReadWrite>>
    where
        A: NpyElement,
    {
        // SAFETY: see `OpenExt`.
        unsafe { self.create_npy(path) }
    }

    fn created_new_npy(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, ReadWrite>>
    where
        A: NpyElement,
    {
        // SAFETY: see `OpenExt`.
        unsafe { self.create_new_npy(path) }
    }
}

/// The error, which must be of this kind.
#[track_caller]
pub fn expect_err<T>(result: Result<T>, kind: ErrorKind) -> Error {
    match result {
        Ok(_) => panic!("succeeded, but {kind:?} was expected"),
        Err(e) => {
            assert_eq!(e.kind(), kind, "{e}");
            e
        }
    }
}

/// The error, which must be an operating-system error of this kind, and must keep it when it becomes an `io::Error`.
#[track_caller]
pub fn expect_io_err<T>(result: Result<T>, kind: std::io::ErrorKind) -> Error {
    let e = expect_err(result, ErrorKind::Io);
    assert_eq!(e.io_kind(), Some(kind), "{e}");
    let again = std::io::Error::from(e);
    assert_eq!(again.kind(), kind);
    *again.into_inner().unwrap().downcast().unwrap()
}

/// A folder with one file in it.
pub fn file<A: NoUninit>(elements: &[A]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.bin");
    fs::write(&path, bytemuck::cast_slice::<A, u8>(elements)).unwrap();
    (folder, path)
}

/// A `.npy` header as somebody else may have written it, of version 1.0: `descr` and `shape` are Python, and the data begin
/// at the next multiple of `align`.
pub fn npy_header(descr: &str, fortran_order: bool, shape: &str, align: usize) -> Vec<u8> {
    let order = if fortran_order { "True" } else { "False" };
    let mut text = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}");
    let len = (10 + text.len() + 1).next_multiple_of(align) - 10;
    text = format!("{text:width$}\n", width = len - 1);
    let written_len = u16::try_from(len).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", &written_len[..], text.as_bytes()].concat()
}

/// A file of this length, without any stored blocks.
pub fn sparse(path: &Path, len: u64) -> File {
    let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
    file.set_len(len).unwrap();
    file
}
