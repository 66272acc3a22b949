//! Where a new file goes: what a path leads to, and whether what is there may be replaced. Nothing is changed here.

use std::fs::{self, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::permissions::Permissions;
use super::{never_wait, not_regular};
use crate::error::{Error, Result};

/// A path at which a file may be made: symbolic links followed, and what is there now known to be replaceable.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// As the caller named it, made absolute.
    pub(super) named: PathBuf,
    /// What it leads to: no symbolic link.
    pub(super) path: PathBuf,
    pub(super) folder: PathBuf,
    /// Of what is there now.
    pub(super) old: Option<Permissions>,
}

/// As many as Linux follows.
const MOST_LINKS: usize = 40;

impl Target {
    /// Follows symbolic links, the dangling ones too, and checks that what is there is a regular file that may be
    /// written. Changes nothing.
    pub(crate) fn replace(path: &Path) -> Result<Self> {
        let mut target = Self::at(path)?;
        for _ in 0..MOST_LINKS {
            let found = match fs::symlink_metadata(&target.path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(target),
                found => found.map_err(|e| Error::io("cannot look at the path", e))?,
            };
            if !found.is_symlink() {
                target.old = Some(check_replaceable(&target.path, &found)?);
                return Ok(target);
            }
            let link = fs::read_link(&target.path).map_err(|e| Error::io("cannot follow the symbolic link", e))?;
            let next = Self::at(&target.folder.join(link))?;
            target = Self { named: target.named, ..next };
        }
        // Whoever follows them gets the system's own word for it.
        let refusal = fs::metadata(&target.named).err().unwrap_or_else(|| io::ErrorKind::InvalidInput.into());
        Err(Error::io("cannot follow the symbolic links", refusal))
    }

    /// Refuses an existing path, whatever it is. (The last step checks again, and decides.)
    pub(crate) fn fresh(path: &Path) -> Result<Self> {
        let target = Self::at(path)?;
        match fs::symlink_metadata(&target.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(target),
            Err(e) => Err(Error::io("cannot look at the path", e)),
            Ok(_) => Err(Error::io("cannot create", io::ErrorKind::AlreadyExists.into())),
        }
    }

    /// Looks at what is there now; whether it has other permissions than what was there when last looked.
    pub(super) fn look_again(&mut self) -> Result<bool> {
        let now = match fs::symlink_metadata(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            found => {
                let found = found.map_err(|e| Error::io("cannot look at the path", e))?;
                Some(check_replaceable(&self.path, &found)?)
            }
        };
        let changed = now != self.old;
        self.old = now;
        Ok(changed)
    }

    /// As the caller named it, made absolute.
    pub(crate) fn path_named(&self) -> PathBuf {
        self.named.clone()
    }

    fn at(path: &Path) -> Result<Self> {
        let absolute = std::path::absolute(path).map_err(|e| Error::io("cannot make the path absolute", e))?;
        // `a/`, `a/.` and `a/..` name folders, whether or not they are there.
        let text = path.as_os_str().as_encoded_bytes();
        let names_a_folder = text.ends_with(b"/") || text.ends_with(b"/.") || absolute.file_name().is_none();
        match absolute.parent() {
            Some(folder) if !names_a_folder => {
                Ok(Self { folder: folder.to_path_buf(), named: absolute.clone(), path: absolute, old: None })
            }
            _ => Err(Error::io("cannot create", io::ErrorKind::IsADirectory.into())),
        }
    }
}

/// Opening for reading and writing, as the new file will be, is the only sure question whether the old one may be.
fn check_replaceable(path: &Path, found: &Metadata) -> Result<Permissions> {
    if !found.is_file() {
        return Err(not_regular(found));
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    never_wait(&mut options);
    let file = options.open(path).map_err(|e| Error::io("cannot open the existing file for reading and writing", e))?;
    let metadata = file.metadata().map_err(|e| Error::io("cannot look at the existing file", e))?;
    if !metadata.is_file() {
        return Err(not_regular(&metadata));
    }
    Permissions::of(&file, &metadata)
}
