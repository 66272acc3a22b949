//! What differs on Windows from [`portable`](super::portable).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::{FileExt, OpenOptionsExt};

use super::Anonymous;
pub(crate) use super::portable::*;

/// They would stop plain reads through other handles.
pub(crate) const HAS_ADVISORY_LOCKS: bool = false;

pub(crate) const ANONYMOUS: Anonymous = Anonymous::DeletedOnClose;

/// Moves the handle's position, which nothing here uses.
pub(crate) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek_read(bytes, offset)
}

pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match super::retry_on_interrupt(|| file.seek_write(bytes, offset))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => (bytes, offset) = (&bytes[n..], offset + n as u64),
        }
    }
    Ok(())
}

/// Sets what others may do with the file while this handle is open. This takes the place of a lock: Windows' own locks would
/// stop plain reads through other handles.
pub(crate) fn share(options: &mut OpenOptions, reading: bool, writing: bool) {
    const FILE_SHARE_READ: u32 = 1;
    const FILE_SHARE_WRITE: u32 = 2;
    const FILE_SHARE_DELETE: u32 = 4;
    let (reading, writing) = (if reading { FILE_SHARE_READ } else { 0 }, if writing { FILE_SHARE_WRITE } else { 0 });
    options.share_mode(reading | writing | FILE_SHARE_DELETE);
}

/// Whether another handle does not share the requested access.
pub(crate) fn is_sharing_violation(e: &io::Error) -> bool {
    const ERROR_SHARING_VIOLATION: i32 = 32;
    e.raw_os_error() == Some(ERROR_SHARING_VIOLATION)
}

/// Lets nobody else open the file, and deletes it when it is closed.
pub(crate) fn delete_on_close(options: &mut OpenOptions) {
    const FILE_FLAG_DELETE_ON_CLOSE: u32 = 0x0400_0000;
    options.share_mode(0).custom_flags(FILE_FLAG_DELETE_ON_CLOSE);
}
