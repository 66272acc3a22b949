//! Snapshots of what is visible from outside: of a file, of a folder, and of this process.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// 0666 without the bits of the umask that the driver sets.
pub const NEW_FILE_MODE: u32 = 0o644;

/// `st_blocks` counts units of 512 bytes, whatever the file system's block size.
const SECTOR: u64 = 512;

/// A file takes up whole blocks, and the file system may add one or two for its own data.
const BLOCK: u64 = 4096;
const OWN_BLOCKS: u64 = 2 * BLOCK;

/// Above the size of any scenario's small files. Of larger files only the length is compared.
const LARGE: u64 = 1 << 20;

#[derive(Debug)]
pub struct File {
    pub bytes: Vec<u8>,
    pub mode: u32,
    len: u64,
    inode: u64,
    on_disk: u64,
    modified: (i64, i64),
}

impl File {
    pub fn at(path: &Path) -> Option<Self> {
        let is = fs::symlink_metadata(path).ok()?;
        let bytes = if is.is_symlink() {
            fs::read_link(path).ok()?.as_os_str().as_bytes().to_vec()
        } else if is.len() < LARGE {
            fs::read(path).ok()?
        } else {
            Vec::new()
        };
        Some(Self {
            bytes,
            mode: is.mode() & 0o7777,
            len: is.len(),
            inode: is.ino(),
            on_disk: is.blocks() * SECTOR,
            modified: (is.mtime(), is.mtime_nsec()),
        })
    }

    /// How the file differs from what it was. The times of a small file do not count: a growth that was undone changes them.
    pub fn difference(&self, now: &Self) -> Option<String> {
        if self.bytes != now.bytes || self.len != now.len {
            return Some(format!("other contents ({} bytes, were {})", now.len, self.len));
        }
        if self.inode != now.inode {
            return Some("another file".into());
        }
        if self.mode != now.mode {
            return Some(format!("mode {:o}, was {:o}", now.mode, self.mode));
        }
        if self.bytes.is_empty() && self.modified != now.modified && self.len >= LARGE {
            return Some("was written to".into());
        }
        // More blocks are no difference by themselves: bytes that were stored recently may have had none before.
        (now.on_disk > self.on_disk).then(|| now.too_many_blocks()).flatten()
    }

    pub fn too_many_blocks(&self) -> Option<String> {
        let most = self.len.next_multiple_of(BLOCK) + OWN_BLOCKS;
        (self.on_disk > most).then(|| format!("{} bytes take {} on the disk", self.len, self.on_disk))
    }
}

pub fn names(folder: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> =
        fs::read_dir(folder).map(|entries| entries.flatten().map(|e| e.path()).collect()).unwrap_or_default();
    names.sort();
    names
}

/// The descriptors and mappings of this process.
#[derive(Debug, PartialEq)]
pub struct Holdings {
    descriptors: usize,
    /// Mappings of the scenario's files, and of unnamed files.
    mappings: Vec<String>,
}

impl Holdings {
    pub fn now(folder: &Path) -> Self {
        let descriptors = fs::read_dir("/proc/self/fd").expect("/proc is mounted").count();
        let folder = folder.to_str().expect("the folder's name is ASCII");
        let maps = fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
        let ours = |line: &&str| line.contains(folder) || line.ends_with("(deleted)");
        let mappings = maps.lines().filter(ours).map(|line| line.split_whitespace().skip(5).collect()).collect();
        Self { descriptors, mappings }
    }
}

/// Whether the file has the mark of an array that was growing.
pub fn is_marked(path: &Path) -> bool {
    let (path, name) = (c_path(path), c"user.ndarray-mmap.growing");
    // SAFETY: both are C strings, and with a size of 0 nothing is written.
    unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) >= 0 }
}

/// Whether this file can have a mark: on tmpfs since Linux 6.6. Changes the file's ctime.
pub fn takes_marks(path: &Path) -> bool {
    let (path, name) = (c_path(path), c"user.ndarray-mmap.probe");
    // SAFETY: both are C strings, and the value is empty.
    let taken = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), std::ptr::null(), 0, 0) == 0 };
    // SAFETY: as above.
    taken && unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) == 0 }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("paths have no zeros")
}
