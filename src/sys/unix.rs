//! What all unix systems share.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};

use rustix::fs::{Gid, OFlags, Uid};

use super::{HandleFlags, Ownership, retry_on_interrupt};

/// `flock` excludes only programs that take it too.
pub(crate) const HAS_ADVISORY_LOCKS: bool = true;

/// A folder can be opened and synced, which brings the names in it to the disk.
pub(crate) const SYNCS_FOLDERS: bool = true;

/// Apple's `msync` leaves the bytes in the disk's own cache, which only a sync of the file empties.
pub(crate) const MSYNC_REACHES_DISK: bool = !cfg!(target_vendor = "apple");

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) const ANONYMOUS: super::Anonymous = super::Anonymous::Unlinked;

pub(crate) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(bytes, offset)
}

pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Opening a fifo must not wait for a writer, and a terminal must not become the controlling terminal of the process.
pub(crate) fn open_without_waiting(options: &mut OpenOptions) {
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
}

/// The same, and refuses a symbolic link that may have taken the file's place since the last check.
pub(crate) fn open_without_waiting_or_following(options: &mut OpenOptions) {
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW);
}

/// The mode of a file that is created, less the umask.
pub(crate) fn create_with_mode(options: &mut OpenOptions, mode: u32) {
    options.mode(mode);
}

/// On unix, handles do not exclude each other.
pub(crate) fn share(_: &mut OpenOptions, _reading: bool, _writing: bool) {}

pub(crate) fn is_sharing_violation(_: &io::Error) -> bool {
    false
}

/// On unix, closing a file does not delete it.
pub(crate) fn delete_on_close(_: &mut OpenOptions) {}

/// Whether the process has as many open files as it may.
pub(crate) fn is_descriptor_limit(e: &io::Error) -> bool {
    e.raw_os_error() == Some(libc::EMFILE)
}

/// Whether the disk failed.
pub(crate) fn is_disk_error(e: &io::Error) -> bool {
    e.raw_os_error() == Some(libc::EIO)
}

/// Whether the file system has no locks at all, as opposed to refusing this one.
pub(crate) fn lacks_locks(e: &io::Error) -> bool {
    /// "Not supported" from Linux's network file systems. It has no name outside the kernel.
    const ENOTSUPP: i32 = 524;
    let code = e.raw_os_error();
    e.kind() == io::ErrorKind::Unsupported
        || matches!(code, Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP))
        || cfg!(any(target_os = "linux", target_os = "android")) && code == Some(ENOTSUPP)
}

/// Device and inode: the same for two handles of one file.
pub(crate) fn file_id(metadata: &Metadata) -> Option<(u64, u64)> {
    Some((metadata.dev(), metadata.ino()))
}

pub(crate) fn ownership(metadata: &Metadata) -> Option<Ownership> {
    Some(Ownership { user: metadata.uid(), group: metadata.gid(), mode: metadata.mode() & 0o1777 })
}

/// The user whose permissions the system checks.
pub(crate) fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

pub(crate) fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode))
}

pub(crate) fn set_owner(file: &File, user: Option<u32>, group: u32) -> io::Result<()> {
    let (user, group) = (user.map(Uid::from_raw), Gid::from_raw(group));
    retry_on_interrupt(|| Ok(rustix::fs::fchown(file, user, Some(group))?))
}

pub(crate) fn handle_flags(file: &File) -> io::Result<HandleFlags> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    // A handle opened with `O_PATH` only names a file, but its access mode claims that it can read.
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    let (names_only, direct) = (flags.contains(OFlags::PATH), flags.contains(OFlags::DIRECT));
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    let (names_only, direct) = (false, false);
    let access = flags & OFlags::RWMODE;
    Ok(HandleFlags {
        reads: !names_only && (access == OFlags::RDWR || access == OFlags::RDONLY),
        writes: !names_only && (access == OFlags::RDWR || access == OFlags::WRONLY),
        appends: flags.contains(OFlags::APPEND),
        direct,
    })
}

/// `RLIMIT_FSIZE`, in bytes. Growing a file past it does not fail, but ends the process by `SIGXFSZ`.
pub(crate) fn file_size_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current
}

/// Drops those pages of a range of a file from the page cache that are clean and not mapped. A hint.
pub(crate) fn drop_from_page_cache(file: &File, offset: u64, bytes: usize) {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    if let Some(bytes) = std::num::NonZeroU64::new(bytes as u64) {
        let _ = rustix::fs::fadvise(file, offset, Some(bytes), rustix::fs::Advice::DontNeed);
    }
    let _ = (file, offset, bytes);
}

/// The value of an extended attribute; `None` if it is not set, or if the file system has no attributes.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
pub(crate) fn attribute(file: &File, name: &str) -> io::Result<Option<Vec<u8>>> {
    use rustix::io::Errno;
    #[cfg(target_vendor = "apple")]
    const NONE: Errno = Errno::NOATTR;
    #[cfg(not(target_vendor = "apple"))]
    const NONE: Errno = Errno::NODATA;
    // 256 bytes suffice for most; no attribute is longer than 64 KiB.
    let mut bytes = vec![0; 1 << 8];
    loop {
        match rustix::fs::fgetxattr(file, name, &mut bytes[..]) {
            Ok(len) => {
                bytes.truncate(len);
                return Ok(Some(bytes));
            }
            Err(Errno::RANGE) if bytes.len() < 1 << 16 => bytes.resize(1 << 16, 0),
            Err(Errno::INTR) => {}
            Err(NONE | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
pub(crate) fn set_attribute(file: &File, name: &str, value: &[u8]) -> io::Result<()> {
    retry_on_interrupt(|| Ok(rustix::fs::fsetxattr(file, name, value, rustix::fs::XattrFlags::empty())?))
}

/// Removes an extended attribute. Returns whether it was set.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
pub(crate) fn remove_attribute(file: &File, name: &str) -> io::Result<bool> {
    use rustix::io::Errno;
    #[cfg(target_vendor = "apple")]
    const NONE: Errno = Errno::NOATTR;
    #[cfg(not(target_vendor = "apple"))]
    const NONE: Errno = Errno::NODATA;
    retry_on_interrupt(|| match rustix::fs::fremovexattr(file, name) {
        Ok(()) => Ok(true),
        Err(NONE) => Ok(false),
        Err(e) => Err(e.into()),
    })
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
pub(crate) use super::portable::{attribute, remove_attribute, set_attribute};
