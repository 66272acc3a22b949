//! Where a new file goes: resolves a path, and checks whether the file there may be replaced. Nothing is changed here.

use std::fs::{self, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::not_regular;
use super::permissions::Permissions;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::{self, Ownership, retry_on_interrupt};

/// A path at which a file may be created: symbolic links are followed, and the file that is there now may be replaced.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    /// The caller's path, made absolute.
    pub(super) named: PathBuf,
    /// The path that it leads to: not a symbolic link.
    pub(super) path: PathBuf,
    pub(super) folder: PathBuf,
    /// The permissions of the file that is there.
    pub(super) old: Option<Permissions>,
}

/// Linux follows as many.
const MOST_LINKS: usize = 40;

/// Another process may replace the file between two looks at it, but not 40 times in a row.
const MOST_LOOKS: usize = 40;

const HAS_NO_NAME: &str = "the path leads to an open file that has no name there (it was deleted, or never had one), \
                           so that none can be put in its place";

const STRANGERS_LINK: &str = "the symbolic link is not followed: it lies in a folder where everybody may put files (a \
                              sticky one), and belongs neither to this user nor to the folder's owner";

const STRANGERS_FILE: &str = "the file is not replaced: it lies in a folder where everybody may put files (a sticky \
                              one), and belongs neither to this user nor to the folder's owner";

impl Destination {
    /// Follows symbolic links, dangling ones too, and checks that a file that is there is regular and may be written.
    /// Changes nothing.
    pub(crate) fn replace(path: &Path) -> Result<Self> {
        let mut looks = 0;
        loop {
            let (destination, found) = Self::follow(path)?;
            if destination.named == destination.path {
                return Ok(destination);
            }
            // Some links (those of `/proc/self/fd`) lead to an open file, whatever their text says: the text may name
            // another file, or none.
            let reached = match retry_on_interrupt(|| fs::metadata(&destination.named)) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                reached => Some(reached.map_err(|e| Error::io("cannot look at the path", e))?),
            };
            looks += 1;
            match (&found, &reached) {
                (None, None) => return Ok(destination),
                (Some(found), Some(reached)) if sys::file_id(found) == sys::file_id(reached) => return Ok(destination),
                // Another process may just have put another file there.
                _ if looks < MOST_LOOKS => {}
                (_, Some(reached)) if !reached.is_file() => return Err(not_regular(reached)),
                _ => return Err(Error::new(ErrorKind::Unsupported, HAS_NO_NAME)),
            }
        }
    }

    /// Follows the texts of the links.
    fn follow(path: &Path) -> Result<(Self, Option<Metadata>)> {
        let mut destination = Self::at(path)?;
        for _ in 0..MOST_LINKS {
            let Some(found) = look(&destination.path)? else { return Ok((destination, None)) };
            if !found.is_symlink() {
                let (old, found) = check_replaceable(&destination, &found)?;
                destination.old = Some(old);
                return Ok((destination, Some(found)));
            }
            check_trusted(&destination.folder, &found, STRANGERS_LINK)?;
            let link = retry_on_interrupt(|| fs::read_link(&destination.path))
                .map_err(|e| Error::io("cannot follow the symbolic link", e))?;
            let next = Self::at(&destination.folder.join(link))?;
            destination = Self { named: destination.named, ..next };
        }
        // Let the system follow them, for its own error.
        let refusal = fs::metadata(&destination.named).err().unwrap_or_else(|| io::ErrorKind::InvalidInput.into());
        Err(Error::io("cannot follow the symbolic links", refusal))
    }

    /// Refuses an existing path, whatever is there. (The last step of creating checks again, and decides.)
    pub(crate) fn vacant(path: &Path) -> Result<Self> {
        let destination = Self::at(path)?;
        match look(&destination.path)? {
            None => Ok(destination),
            Some(_) => Err(Error::io("cannot create", io::ErrorKind::AlreadyExists.into())),
        }
    }

    /// Checks what is at the path now. If a file was there and is gone, its permissions still apply.
    pub(super) fn look_again(&mut self) -> Result<()> {
        match look(&self.path)? {
            Some(found) if found.is_symlink() => {
                let refusal = io::ErrorKind::AlreadyExists.into();
                return Err(Error::io("a symbolic link was put at the path meanwhile", refusal));
            }
            Some(found) => self.old = Some(check_replaceable(self, &found)?.0),
            None => {}
        }
        Ok(())
    }

    /// The caller's path, made absolute.
    pub(crate) fn path_named(&self) -> PathBuf {
        self.named.clone()
    }

    fn at(path: &Path) -> Result<Self> {
        let absolute = std::path::absolute(path).map_err(|e| Error::io("cannot make the path absolute", e))?;
        // `a/`, `a/.` and `a/..` name folders, whether or not they exist.
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

/// `None` if nothing is at the path. A symbolic link is not followed.
fn look(path: &Path) -> Result<Option<Metadata>> {
    match retry_on_interrupt(|| fs::symlink_metadata(path)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some).map_err(|e| Error::io("cannot look at the path", e)),
    }
}

/// Opens the old file for reading and writing, as the new one will be: nothing else shows for certain that this is allowed.
fn check_replaceable(destination: &Destination, found: &Metadata) -> Result<(Permissions, Metadata)> {
    if !found.is_file() {
        return Err(not_regular(found));
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    sys::open_without_waiting_or_following(&mut options);
    let file = options
        .open(&destination.path)
        .map_err(|e| Error::io("cannot open the existing file for reading and writing", e))?;
    let metadata = file.metadata().map_err(|e| Error::io("cannot look at the existing file", e))?;
    if !metadata.is_file() {
        return Err(not_regular(&metadata));
    }
    check_trusted(&destination.folder, &metadata, STRANGERS_FILE)?;
    Ok((Permissions::of(&file, &metadata)?, metadata))
}

/// Refuses another user's file in a sticky folder such as `/tmp`, where everybody may put files that only their owner can
/// remove. Such a link would make this process write to a file of the other user's choice, and such a file keeps its owner.
/// The kernel protects `open` against both (`protected_symlinks`, `protected_regular`), but not a process that reads where
/// a link leads.
pub(super) fn check_trusted(folder: &Path, found: &Metadata, refusal: &'static str) -> Result<()> {
    const STICKY_AND_FOR_EVERYBODY: u32 = 0o1002;
    let Some(owner) = sys::ownership(found).filter(|owner| owner.user != sys::effective_user()) else { return Ok(()) };
    let folder = retry_on_interrupt(|| fs::metadata(folder)).map_err(|e| Error::io("cannot look at the folder", e))?;
    let is_open = |folder: &Ownership| {
        folder.mode & STICKY_AND_FOR_EVERYBODY == STICKY_AND_FOR_EVERYBODY && folder.user != owner.user
    };
    if sys::ownership(&folder).is_some_and(|folder| is_open(&folder)) {
        return Err(Error::io(refusal, io::ErrorKind::PermissionDenied.into()));
    }
    Ok(())
}
