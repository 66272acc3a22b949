//! Who may do what with a file: read off the one that is replaced, and given to the one that takes its place.

use std::fs::{File, Metadata};

use crate::error::Result;

/// Of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Permissions {
    #[cfg(unix)]
    owner: u32,
    #[cfg(unix)]
    group: u32,
    /// Its nine bits of permissions.
    #[cfg(unix)]
    mode: u32,
}

#[cfg(unix)]
impl Permissions {
    pub(super) fn of(_: &File, metadata: &Metadata) -> Result<Self> {
        use std::os::unix::fs::MetadataExt;
        Ok(Self { owner: metadata.uid(), group: metadata.gid(), mode: metadata.mode() & 0o777 })
    }

    /// Gives a new file these permissions, and where allowed the owner.
    pub(super) fn give(&self, file: &File) -> Result<()> {
        use std::os::unix::fs::{PermissionsExt, fchown};

        use crate::error::Error;
        let new = file.metadata().map_err(|e| Error::io("cannot look at the new file", e))?;
        let new = Self::of(file, &new)?;
        if (new.owner, new.group) != (self.owner, self.group) {
            // Only root may; for others the file becomes theirs, as with any program that writes by renaming, but stays with
            // a group that they are in.
            let _ = fchown(file, Some(self.owner), Some(self.group)).or_else(|_| fchown(file, None, Some(self.group)));
        }
        if new.mode != self.mode {
            file.set_permissions(std::fs::Permissions::from_mode(self.mode))
                .map_err(|e| Error::io("cannot give the new file the old one's permissions", e))?;
        }
        Ok(())
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
