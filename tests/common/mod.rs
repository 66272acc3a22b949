//! What the tests share: the `unsafe` doors with their promise given once, photographs of folders, and ways to run a
//! part of a test in a child process, as another user, or under a kernel that refuses something.
#![allow(dead_code)] // Each test file is a crate of its own, and uses a part.

#[cfg(target_os = "linux")]
pub mod kernel;

use std::collections::BTreeMap;
use std::fs::{self, File, FileType};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use bytemuck::{AnyBitPattern, NoUninit};
use ndarray::Dimension;
use ndarray_mmap::npy::NpyElement;
use ndarray_mmap::{
    Error, ErrorKind, MmapArrayBase, MmapArrayOptions, ReadWrite, Result,
    mode::{OpenExisting, Supports},
};
use tempfile::TempDir;

/// The doors of any mode. The promise is kept by all tests: each maps files of its own, in a folder of its own, and
/// where one is changed or cut behind an array's back, no view is in use meanwhile, and nothing cut off is looked at.
pub trait Doors<A: 'static, D, M>: Sized {
    fn opened(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, M>>;
    fn mapped(self, file: &File) -> Result<MmapArrayBase<A, D, M>>;
    fn opened_npy(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, M>>
    where
        A: NpyElement;
}

impl<A: AnyBitPattern, D: Dimension, M: Supports<A> + OpenExisting> Doors<A, D, M> for MmapArrayOptions<A, D, M> {
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
}

/// The doors that make files. The promise is that of [`Doors`].
pub trait Creates<A: 'static, D>: Sized {
    fn created(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, ReadWrite>>;
    fn created_new(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, ReadWrite>>;
    fn created_npy(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, ReadWrite>>
    where
        A: NpyElement;
    fn created_new_npy(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, ReadWrite>>
    where
        A: NpyElement;
}

impl<A: AnyBitPattern, D: Dimension> Creates<A, D> for MmapArrayOptions<A, D, ReadWrite>
where
    ReadWrite: Supports<A>,
{
    fn created(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, ReadWrite>> {
        // SAFETY: see `Doors`.
        unsafe { self.create(path) }
    }

    fn created_new(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, ReadWrite>> {
        // SAFETY: see `Doors`.
        unsafe { self.create_new(path) }
    }

    fn created_npy(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, ReadWrite>>
    where
        A: NpyElement,
    {
        // SAFETY: see `Doors`.
        unsafe { self.create_npy(path) }
    }

    fn created_new_npy(self, path: impl AsRef<Path>) -> Result<MmapArrayBase<A, D, ReadWrite>>
    where
        A: NpyElement,
    {
        // SAFETY: see `Doors`.
        unsafe { self.create_new_npy(path) }
    }
}

/// The error, which must be of this kind.
#[track_caller]
pub fn refused<T>(result: Result<T>, kind: ErrorKind) -> Error {
    match result {
        Ok(_) => panic!("succeeded, but {kind:?} was expected"),
        Err(e) => {
            assert_eq!(e.kind(), kind, "{e}");
            e
        }
    }
}

/// The error, which must be the system's, of this kind, and must keep it on the way to `io::Error`.
#[track_caller]
pub fn refused_io<T>(result: Result<T>, kind: std::io::ErrorKind) -> Error {
    use std::error::Error as _;
    let e = refused(result, ErrorKind::Io);
    let source = e.source().and_then(|s| s.downcast_ref::<std::io::Error>());
    assert_eq!(source.map(std::io::Error::kind), Some(kind), "{e}");
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

/// A `.npy` header as somebody else may have written it, of version 1.0: `descr` and `shape` are Python, and the data are
/// to begin at the next multiple of `align`.
pub fn npy_header(descr: &str, fortran_order: bool, shape: &str, align: usize) -> Vec<u8> {
    let order = if fortran_order { "True" } else { "False" };
    let mut text = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}");
    let len = (10 + text.len() + 1).next_multiple_of(align) - 10;
    text = format!("{text:width$}\n", width = len - 1);
    let said = u16::try_from(len).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", &said[..], text.as_bytes()].concat()
}

/// A file as long as that, of which nothing is stored.
pub fn sparse(path: &Path, len: u64) -> File {
    let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
    file.set_len(len).unwrap();
    file
}

/// All that can be seen of the files in a folder, but when they were read. Two photographs are equal if nothing was
/// touched in between, not even for a moment.
pub fn photo(folder: &Path) -> BTreeMap<PathBuf, Shot> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries.map(|path| (path.clone(), Shot::of(&path))).collect()
}

#[derive(Debug, PartialEq)]
pub struct Shot {
    kind: FileType,
    len: u64,
    modified: SystemTime,
    contents: Option<Vec<u8>>,
    link: Option<PathBuf>,
    /// Inode, links, mode, owner, group, blocks, change time.
    #[cfg(unix)]
    inode: (u64, u64, u32, u32, u32, u64, i64, i64),
}

impl Shot {
    fn of(path: &Path) -> Self {
        const TOO_MUCH: u64 = 1 << 20;
        let m = fs::symlink_metadata(path).unwrap();
        Self {
            kind: m.file_type(),
            len: m.len(),
            modified: m.modified().unwrap(),
            contents: (m.is_file() && m.len() < TOO_MUCH).then(|| fs::read(path).unwrap_or_default()),
            link: fs::read_link(path).ok(),
            #[cfg(unix)]
            inode: {
                use std::os::unix::fs::MetadataExt;
                (m.ino(), m.nlink(), m.mode(), m.uid(), m.gid(), m.blocks(), m.ctime(), m.ctime_nsec())
            },
        }
    }
}

/// What [`photo`] sees but for times: what must be as it was when a growth has been taken back.
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

/// The names in a folder, in order.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

const CHILD: &str = "NDARRAY_MMAP_TEST_CHILD";

/// Whether this is the child process that [`again`] or [`after`] started.
pub fn in_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// This test, by its name, in a child process.
pub fn again(test: &str) -> Command {
    marked(Command::new(std::env::current_exe().unwrap()), test)
}

/// This test, by its name, in a child process that a shell becomes after these commands.
#[cfg(unix)]
pub fn after(commands: &str, test: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{commands}\nexec \"$0\" \"$@\"")).arg(std::env::current_exe().unwrap());
    marked(shell, test)
}

fn marked(mut command: Command, test: &str) -> Command {
    command.args([test, "--exact", "--nocapture", "--include-ignored"]).env(CHILD, "1");
    command
}

/// Runs a child test, which must exist and pass.
#[track_caller]
pub fn passes(mut child: Command) {
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{}\n{said}\n{complained}", output.status);
}
