//! The permissions of a file: read from the file that is replaced, and given to the one that takes its place. At no moment
//! can anybody open the new file who could not open the old one.

use std::fs::{File, Metadata};
use std::io;

use super::acl::Acl;
use crate::error::{Error, Result};
use crate::sys::{self, Ownership};

/// The permissions of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Permissions {
    /// `None` on systems without owners. If there is an access control list, the mode's three bits for the group are the
    /// list's mask.
    ownership: Option<Ownership>,
    acl: Option<Acl>,
}

/// The mode of a file that only its owner may open. A file that replaces another starts with it.
pub(super) const PRIVATE: u32 = 0o600;

impl Permissions {
    pub(super) fn of(file: &File, metadata: &Metadata) -> Result<Self> {
        let ownership =
            sys::ownership(metadata).map(|ownership| Ownership { mode: ownership.mode & 0o777, ..ownership });
        Ok(Self { ownership, acl: acl_of(file)? })
    }

    /// Gives a new file these permissions and, if allowed, this owner. If the group cannot be given, its permissions go to
    /// nobody.
    ///
    /// # Errors
    /// `Io`. The file is then accessible to fewer users than it may be, never to more.
    pub(super) fn give(&self, file: &File) -> Result<()> {
        let new = Self::of(file, &metadata(file)?)?;
        let (Some(old_owner), Some(new_owner)) = (self.ownership, new.ownership) else { return Ok(()) };
        if new == *self {
            return Ok(());
        }
        // Only the owner may open the file until everything is set, whoever the owner will be.
        if new_owner.mode & !PRIVATE != 0 {
            set_mode(file, PRIVATE)?;
        }
        let has_group = give_owner(file, old_owner, new_owner)?;
        let (mode, acl) = if has_group { (old_owner.mode, self.acl.clone()) } else { self.without_group(old_owner) };
        if let Some(acl) = &acl
            && set_acl(file, acl)?
        {
            // The list has set the mode as well.
            return Ok(());
        }
        if new.acl.is_some() {
            // The new file has the folder's default list. Setting the mode would raise the mask of that list.
            remove_acl(file)?;
        }
        set_mode(file, acl.map_or(mode, |acl| acl.mode()))
    }

    /// The permissions for a file of another group. Members of the old file's group count as others now, and get no more
    /// than before.
    fn without_group(&self, owner: Ownership) -> (u32, Option<Acl>) {
        let group = owner.mode >> 3 & 0o7;
        (owner.mode & (0o700 | group), self.acl.as_ref().map(Acl::without_group))
    }
}

/// Returns whether the file has the old group afterwards.
fn give_owner(file: &File, old: Ownership, new: Ownership) -> Result<bool> {
    if (new.user, new.group) == (old.user, old.group) {
        return Ok(true);
    }
    // Only root may give a file away. Others become its owner, as with any program that writes by renaming, but can give
    // it a group that they are in.
    let _ = sys::set_owner(file, Some(old.user), old.group).or_else(|_| sys::set_owner(file, None, old.group));
    Ok(sys::ownership(&metadata(file)?).is_some_and(|now| now.group == old.group))
}

fn metadata(file: &File) -> Result<Metadata> {
    file.metadata().map_err(|e| Error::io("cannot look at the new file", e))
}

fn set_mode(file: &File, mode: u32) -> Result<()> {
    sys::set_mode(file, mode).map_err(cannot_give)
}

fn cannot_give(e: io::Error) -> Error {
    Error::io("cannot give the new file the old one's permissions", e)
}

/// `None` if the file has no list, or the file system has no lists.
fn acl_of(file: &File) -> Result<Option<Acl>> {
    let cannot_read = |e| Error::io("cannot read the file's access control list", e);
    let Some(name) = sys::ACL_ATTRIBUTE else { return Ok(None) };
    let Some(bytes) = sys::attribute(file, name).map_err(cannot_read)? else { return Ok(None) };
    let malformed = || cannot_read(io::ErrorKind::InvalidData.into());
    Acl::from_bytes(&bytes).ok_or_else(malformed).map(Some)
}

/// `Ok(false)` if it cannot be set.
fn set_acl(file: &File, acl: &Acl) -> Result<bool> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    let Some(name) = sys::ACL_ATTRIBUTE else { return Ok(false) };
    match sys::set_attribute(file, name, &acl.to_bytes()) {
        Ok(()) => Ok(true),
        // For example, a user that the list names may have no number in this user namespace.
        Err(e) if matches!(e.kind(), InvalidInput | PermissionDenied | Unsupported) => Ok(false),
        Err(e) => Err(cannot_give(e)),
    }
}

fn remove_acl(file: &File) -> Result<()> {
    sys::ACL_ATTRIBUTE.map_or(Ok(()), |name| sys::remove_attribute(file, name).map(drop).map_err(cannot_give))
}
