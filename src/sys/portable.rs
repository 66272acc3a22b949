//! Replacements for calls that a system lacks: what the standard library offers, or nothing.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::{Anonymous, HandleFlags, Ownership};

/// Where there are none after all, the standard library says so.
pub(crate) const HAS_ADVISORY_LOCKS: bool = true;
pub(crate) const SYNCS_FOLDERS: bool = false;
pub(crate) const SYNCS_FILE_SYSTEMS: bool = false;
pub(crate) const MSYNC_REACHES_DISK: bool = true;
/// A mapping need not show what a system call has written until the file is mapped again.
pub(crate) const MAPPING_SHOWS_WRITES: bool = false;
pub(crate) const ANONYMOUS: Anonymous = Anonymous::Impossible;
pub(crate) const ACL_ATTRIBUTE: Option<&str> = None;

/// A handle has a single position, so only one thread at a time may use it.
static POSITION: Mutex<()> = Mutex::new(());

pub(crate) fn read_at(mut file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let _mine = POSITION.lock().unwrap_or_else(PoisonError::into_inner);
    file.seek(SeekFrom::Start(offset))?;
    file.read(bytes)
}

pub(crate) fn write_all_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let _mine = POSITION.lock().unwrap_or_else(PoisonError::into_inner);
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

pub(crate) fn open_without_waiting(_: &mut OpenOptions) {}

pub(crate) fn open_without_waiting_or_following(_: &mut OpenOptions) {}

pub(crate) fn create_with_mode(_: &mut OpenOptions, _mode: u32) {}

pub(crate) fn share(_: &mut OpenOptions, _reading: bool, _writing: bool) {}

pub(crate) fn is_sharing_violation(_: &io::Error) -> bool {
    false
}

pub(crate) fn delete_on_close(_: &mut OpenOptions) {}

pub(crate) fn is_descriptor_limit(_: &io::Error) -> bool {
    false
}

pub(crate) fn is_disk_error(_: &io::Error) -> bool {
    false
}

pub(crate) fn lacks_locks(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::Unsupported
}

pub(crate) fn file_id(_: &Metadata) -> Option<(u64, u64)> {
    None
}

pub(crate) fn ownership(_: &Metadata) -> Option<Ownership> {
    None
}

pub(crate) fn effective_user() -> u32 {
    0
}

pub(crate) fn set_mode(_: &File, _mode: u32) -> io::Result<()> {
    Ok(())
}

pub(crate) fn set_owner(_: &File, _user: Option<u32>, _group: u32) -> io::Result<()> {
    Ok(())
}

pub(crate) fn handle_flags(_: &File) -> io::Result<HandleFlags> {
    Ok(HandleFlags { reads: true, writes: true, appends: false, direct: false })
}

pub(crate) fn file_size_limit() -> Option<u64> {
    None
}

pub(crate) fn drop_from_page_cache(_: &File, _offset: u64, _bytes: usize) {}

pub(crate) fn attribute(_: &File, _name: &str) -> io::Result<Option<Vec<u8>>> {
    Ok(None)
}

pub(crate) fn set_attribute(_: &File, _name: &str, _value: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn remove_attribute(_: &File, _name: &str) -> io::Result<bool> {
    Ok(false)
}

pub(crate) fn allocate(_: &File, _offset: u64, _len: u64, _keep_size: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn open_unnamed(_folder: &Path, _mode: u32) -> io::Result<Option<File>> {
    Ok(None)
}

pub(crate) fn link_unnamed(_: &File, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn rename_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    super::retry_on_interrupt(|| fs::hard_link(from, to))
}

pub(crate) fn reopen(_: &File, _write: bool) -> Option<File> {
    None
}

pub(crate) fn wait_for_write(_: &File) {}

pub(crate) fn sync_file_system(_: &File) -> io::Result<()> {
    Ok(())
}

pub(crate) fn holds_lock(_: &File) -> bool {
    false
}
