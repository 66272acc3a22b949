//! What files and folders look like from outside, to be compared later.

use std::collections::BTreeMap;
use std::fs::{self, FileType};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Everything about the files in a folder except when they were last read. Two snapshots are equal only if nothing was
/// touched in between, not even for a moment.
pub fn snapshot(folder: &Path) -> BTreeMap<PathBuf, FileState> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries.map(|path| (path.clone(), FileState::of(&path))).collect()
}

#[derive(Debug, PartialEq)]
pub struct FileState {
    kind: FileType,
    len: u64,
    modified: SystemTime,
    contents: Option<Vec<u8>>,
    link: Option<PathBuf>,
    /// Inode, links, mode, owner, group, blocks, change time.
    #[cfg(unix)]
    inode: (u64, u64, u32, u32, u32, u64, i64, i64),
}

impl FileState {
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

/// What the files in a folder hold, without their times: what must be as before when a growth has been undone.
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
