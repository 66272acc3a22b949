//! Who may do what with a file: read off the one that is replaced, and given to the one that takes its place, so that at no
//! moment anybody can open this one who could not open that one.

use std::fs::{File, Metadata};

#[cfg(unix)]
use super::acl::Acl;
#[cfg(unix)]
use crate::error::Error;
use crate::error::Result;

/// Of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Permissions {
    #[cfg(unix)]
    owner: u32,
    #[cfg(unix)]
    group: u32,
    /// Its nine bits of permissions. Beside a list, the group's three are the most that the list gives.
    #[cfg(unix)]
    mode: u32,
    #[cfg(unix)]
    acl: Option<Acl>,
}

/// The mode of a file that nobody but its owner may open, with which one that replaces another begins.
pub(super) const PRIVATE: u32 = 0o600;

#[cfg(unix)]
impl Permissions {
    pub(super) fn of(file: &File, metadata: &Metadata) -> Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let acl = acl_of(file)?;
        Ok(Self { owner: metadata.uid(), group: metadata.gid(), mode: metadata.mode() & 0o777, acl })
    }

    /// Gives a new file these permissions, and where allowed the owner. Where the group cannot be given, its permissions
    /// go to nobody.
    ///
    /// # Errors
    /// `Io`; then the file is open to fewer than it may be.
    pub(super) fn give(&self, file: &File) -> Result<()> {
        let new = Self::of(file, &metadata(file)?)?;
        if new == *self {
            return Ok(());
        }
        // Whoever it is going to belong to, nobody gets in before all is as it is to be.
        if new.mode & !PRIVATE != 0 {
            set_mode(file, PRIVATE)?;
        }
        let wanted = if self.give_owner(file, &new)? { self.clone() } else { self.without_group() };
        if let Some(acl) = &wanted.acl
            && set_acl(file, acl)?
        {
            // The list has set the mode as well.
            return Ok(());
        }
        if new.acl.is_some() {
            // The folder's. To set the mode would be to raise its mask.
            remove_acl(file)?;
        }
        set_mode(file, wanted.acl.map_or(wanted.mode, |acl| acl.mode()))
    }

    /// Whether the file has the group then.
    fn give_owner(&self, file: &File, new: &Self) -> Result<bool> {
        use std::os::unix::fs::MetadataExt;

        use rustix::fs::{Gid, Uid, fchown};
        use rustix::io::retry_on_intr;
        if (new.owner, new.group) == (self.owner, self.group) {
            return Ok(true);
        }
        // Only root may; for others the file becomes theirs, as with any program that writes by renaming, but stays with
        // a group that they are in.
        let (owner, group) = (Uid::from_raw(self.owner), Some(Gid::from_raw(self.group)));
        let _ =
            retry_on_intr(|| fchown(file, Some(owner), group)).or_else(|_| retry_on_intr(|| fchown(file, None, group)));
        Ok(metadata(file)?.gid() == self.group)
    }

    /// For a file of another group. Who is in the group that the old file had is one of the others now, and gets no more
    /// than before.
    fn without_group(&self) -> Self {
        let group = self.mode >> 3 & 0o7;
        let mode = self.mode & (0o700 | group);
        Self { mode, acl: self.acl.as_ref().map(Acl::without_group), ..*self }
    }
}

#[cfg(not(unix))]
impl Permissions {
    pub(super) fn of(_: &File, _: &Metadata) -> Result<Self> {
        Ok(Self {})
    }

    pub(super) fn give(&self, _: &File) -> Result<()> {
        Ok(())
    }
}

#[cfg(unix)]
fn metadata(file: &File) -> Result<Metadata> {
    file.metadata().map_err(|e| Error::io("cannot look at the new file", e))
}

#[cfg(unix)]
fn set_mode(file: &File, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(mode)).map_err(cannot_give)
}

#[cfg(unix)]
fn cannot_give(e: impl Into<std::io::Error>) -> Error {
    Error::io("cannot give the new file the old one's permissions", e.into())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const ACCESS: &str = "system.posix_acl_access";

/// `None` where there is no list, or no lists are.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn acl_of(file: &File) -> Result<Option<Acl>> {
    use rustix::io::Errno;
    let cannot_read = |e| Error::io("cannot read the file's access control list", e);
    // Most files have none. No attribute is longer than 64 KiB.
    let mut bytes = vec![0; 1 << 8];
    loop {
        match rustix::fs::fgetxattr(file, ACCESS, &mut bytes[..]) {
            Ok(len) => {
                let malformed = || cannot_read(std::io::ErrorKind::InvalidData.into());
                return Acl::from_bytes(&bytes[..len]).ok_or_else(malformed).map(Some);
            }
            Err(Errno::RANGE) if bytes.len() < 1 << 16 => bytes.resize(1 << 16, 0),
            Err(Errno::INTR) => {}
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(None),
            Err(e) => return Err(cannot_read(e.into())),
        }
    }
}

/// `Ok(false)` where it cannot be set.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_acl(file: &File, acl: &Acl) -> Result<bool> {
    use rustix::fs::{XattrFlags, fsetxattr};
    use rustix::io::{Errno, retry_on_intr};
    let bytes = acl.to_bytes();
    match retry_on_intr(|| fsetxattr(file, ACCESS, &bytes, XattrFlags::empty())) {
        Ok(()) => Ok(true),
        // Somebody named in it may have no number in this namespace of users, for one.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::ACCESS | Errno::INVAL) => Ok(false),
        Err(e) => Err(cannot_give(e)),
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn remove_acl(file: &File) -> Result<()> {
    use rustix::io::{Errno, retry_on_intr};
    match retry_on_intr(|| rustix::fs::fremovexattr(file, ACCESS)) {
        Ok(()) | Err(Errno::NODATA) => Ok(()),
        Err(e) => Err(cannot_give(e)),
    }
}

#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
fn acl_of(_: &File) -> Result<Option<Acl>> {
    Ok(None)
}

#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
fn set_acl(_: &File, _: &Acl) -> Result<bool> {
    Ok(false)
}

#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
fn remove_acl(_: &File) -> Result<()> {
    Ok(())
}
