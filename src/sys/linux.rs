//! What only Linux has (and Android, which runs on it).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{Anonymous, retry_on_interrupt};

/// A mapping and system calls show each other's bytes at once: both use the page cache.
pub(crate) const MAPPING_SHOWS_WRITES: bool = true;

pub(crate) const ANONYMOUS: Anonymous = Anonymous::Impossible;

/// [`sync_file_system`] can take the place of syncing a folder.
pub(crate) const SYNCS_FILE_SYSTEMS: bool = true;

/// The extended attribute that holds a file's access control list.
pub(crate) const ACL_ATTRIBUTE: Option<&str> = Some("system.posix_acl_access");

/// Allocates disk space for a range of a file; with `keep_size` the length stays as it is.
///
/// Makes the system call directly: if the file system lacks it, glibc's `posix_fallocate` writes to every block instead.
///
/// # Errors
/// `Unsupported` if the file system has no such call.
pub(crate) fn allocate(file: &File, offset: u64, len: u64, keep_size: bool) -> io::Result<()> {
    let flags = if keep_size { FallocateFlags::KEEP_SIZE } else { FallocateFlags::empty() };
    retry_on_interrupt(|| Ok(rustix::fs::fallocate(file, flags, offset, len)?))
}

/// Opens a new unnamed file; `None` if the file system, or the kernel, has no unnamed files.
pub(crate) fn open_unnamed(folder: &Path, mode: u32) -> io::Result<Option<File>> {
    // Without /proc it could not be given a name later.
    if !Path::new("/proc/self/fd").try_exists()? {
        return Ok(None);
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    retry_on_interrupt(|| match rustix::fs::open(folder, flags, Mode::from_raw_mode(mode)) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => Ok(None),
        Err(e) => Err(e.into()),
    })
}

/// Gives an unnamed file a name. Fails if the name is taken.
pub(crate) fn link_unnamed(file: &File, path: &Path) -> io::Result<()> {
    let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
    retry_on_interrupt(|| Ok(rustix::fs::linkat(CWD, &descriptor, CWD, path, AtFlags::SYMLINK_FOLLOW)?))
}

/// Gives a file another name. Fails if that name is taken. The file may keep its first name as well.
pub(crate) fn rename_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    retry_on_interrupt(|| match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A hard link is the portable way to take a name only if it is free; the first name stays.
        Err(Errno::INVAL | Errno::NOSYS) => fs::hard_link(from, to),
        done => Ok(done?),
    })
}

/// Opens the file of a handle again, with its `O_SYNC` and `O_DSYNC`; `None` if the system refuses it.
pub(crate) fn reopen(file: &File, write: bool) -> Option<File> {
    let flags = rustix::fs::fcntl_getfl(file).ok()?.bits() as i32;
    let mut options = OpenOptions::new();
    options.read(true).write(write);
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | flags & (libc::O_SYNC | libc::O_DSYNC));
    let own = options.open(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    let is_same = super::file_id(&own.metadata().ok()?) == super::file_id(&file.metadata().ok()?);
    is_same.then_some(own)
}

/// Waits until a write in progress is complete. May move the descriptor's position.
pub(crate) fn wait_for_write(file: &File) {
    // Looking for data takes the lock that a write holds (ext4, tmpfs, btrfs). On XFS it takes none, but reading does. The
    // result does not matter.
    let _ = rustix::fs::seek(file, rustix::fs::SeekFrom::Data(0));
}

/// Brings everything that was written to the file's whole file system to the disk.
pub(crate) fn sync_file_system(file: &File) -> io::Result<()> {
    Ok(rustix::fs::syncfs(file)?)
}

/// Whether this process is known to hold a lock on the file.
pub(crate) fn holds_lock(file: &File) -> bool {
    /// The list is read in parts, and an entry between two of them can be missed while others come and go.
    const READINGS: usize = 3;
    let Ok(metadata) = file.metadata() else { return false };
    let (device, process) = (metadata.dev(), std::process::id().to_string());
    // `1: FLOCK  ADVISORY  WRITE 708 fe:00:1835 0 EOF`: see proc_locks(5).
    let place = format!("{:02x}:{:02x}:{}", rustix::fs::major(device), rustix::fs::minor(device), metadata.ino());
    let is_it = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.contains(&"FLOCK") && words.contains(&place.as_str()) && words.contains(&process.as_str())
    };
    (0..READINGS).any(|_| fs::read_to_string("/proc/locks").is_ok_and(|locks| locks.lines().any(is_it)))
}
