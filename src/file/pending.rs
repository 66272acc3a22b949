//! Files that are made beside their path and put there atomically, as the last step. Until then nothing has changed, and a
//! process that has the old file mapped keeps it unchanged.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::destination::{Destination, check_trusted};
use super::growth::extend;
use super::lock::LockedFile;
use super::permissions::{PRIVATE, Permissions};
use super::{ArrayFile, Lock};
use crate::error::{Error, ErrorKind, Result};
use crate::mode::FileAccess;
use crate::sys::{self, Anonymous, retry_on_interrupt};

/// A new file that is not at its path yet. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct PendingFile {
    file: LockedFile,
    len: u64,
    /// `None` for an unnamed file, of which not even a kill leaves anything behind.
    name: Option<TemporaryName>,
}

impl PendingFile {
    /// Makes a file of `len` bytes, all zero, in the folder of `destination`.
    pub(crate) fn new(destination: &Destination, len: u64, preallocate: bool) -> Result<Self> {
        match Self::unnamed(&destination.folder, Self::first_mode(destination))? {
            Some(pending) => pending.extended(len, preallocate),
            None => Self::named(destination, len, preallocate),
        }
    }

    /// Like [`new`](Self::new), with a temporary name from the start.
    pub(crate) fn named(destination: &Destination, len: u64, preallocate: bool) -> Result<Self> {
        Self::with_name(&destination.folder, Self::first_mode(destination))?.extended(len, preallocate)
    }

    /// A file that replaces another is accessible to its owner only, until the last step: a user who opened it before that
    /// would keep access, even if the old file were closed to them meanwhile. Any other new file has the system's default
    /// permissions.
    fn first_mode(destination: &Destination) -> u32 {
        if destination.old.is_some() { PRIVATE } else { 0o666 }
    }

    /// Like [`new`](Self::new), as a file that nobody else can find before it is published.
    ///
    /// # Errors
    /// `Unsupported` if the file system has no unnamed files.
    pub(crate) fn anonymous(destination: &Destination, len: u64, preallocate: bool) -> Result<Self> {
        let Some(pending) = Self::unnamed(&destination.folder, 0o666)? else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "this file system has no files without a name (O_TMPFILE), in which an array could be staged",
            ));
        };
        pending.extended(len, preallocate)
    }

    pub(super) fn of_unnamed(file: LockedFile, len: u64) -> Self {
        Self { file, len, name: None }
    }

    fn extended(mut self, len: u64, preallocate: bool) -> Result<Self> {
        extend(&self.file, 0, len, preallocate, &mut 0)?;
        self.len = len;
        Ok(self)
    }

    /// Gives the file the permissions and, if allowed, the owner of the file that it will replace.
    pub(crate) fn inherit(&self, destination: &Destination) -> Result<()> {
        destination.old.as_ref().map_or(Ok(()), |old| old.give(&self.file))
    }

    /// Makes a file of `len` bytes that never gets a name, in the system's folder for temporary files.
    ///
    /// # Errors
    /// `Unsupported` if that folder cannot hold one.
    pub(crate) fn scratch(len: u64) -> Result<Self> {
        // An empty `TMPDIR` counts as unset.
        let folder = Some(std::env::temp_dir()).filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| PathBuf::from("/tmp"));
        let unnamed = Self::unnamed(&folder, PRIVATE).and_then(|d| d.map_or_else(|| Self::unlinked(&folder), Ok));
        unnamed.and_then(|pending| pending.extended(len, true)).map_err(|e| e.with_path(&folder))
    }

    /// `Ok(None)` if the file system, or the kernel, has no unnamed files.
    fn unnamed(folder: &Path, mode: u32) -> Result<Option<Self>> {
        let file = sys::open_unnamed(folder, mode).map_err(cannot_create)?;
        Ok(file.map(|file| Self { file: LockedFile::new(file, true), len: 0, name: None }))
    }

    fn with_name(folder: &Path, mode: u32) -> Result<Self> {
        let mut options = new_file();
        sys::create_with_mode(&mut options, mode);
        let (file, name) = TemporaryName::in_folder(folder, |path| options.open(path))?;
        Ok(Self { file: LockedFile::new(file, true), len: 0, name: Some(name) })
    }

    /// Makes a file that nobody else can open on a file system without unnamed files.
    fn unlinked(folder: &Path) -> Result<Self> {
        match sys::ANONYMOUS {
            Anonymous::Impossible => Err(Error::new(
                ErrorKind::Unsupported,
                "the file system of the folder for temporary files has no unnamed files (O_TMPFILE); set TMPDIR to one \
                 that has",
            )),
            Anonymous::Unlinked => Ok(Self { name: None, ..Self::with_name(folder, PRIVATE)? }),
            Anonymous::DeletedOnClose => {
                let mut options = new_file();
                sys::delete_on_close(&mut options);
                let (file, name) = TemporaryName::in_folder(folder, |path| options.open(path))?;
                name.forget();
                Ok(Self { file: LockedFile::new(file, true), len: 0, name: None })
            }
        }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// In bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Writes within the file.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let mut file: &File = &self.file;
        file.seek(SeekFrom::Start(offset)).map_err(|e| Error::io("cannot seek", e))?;
        file.write_all(bytes).map_err(|e| Error::io("cannot write", e))
    }

    /// Locks the file, so that others are excluded from the moment it has a name.
    pub(crate) fn lock(&self, lock: Lock) -> Result<()> {
        let taken = lock.take(&self.file, FileAccess::ReadWrite)?;
        self.file.note_lock(taken, FileAccess::ReadWrite);
        Ok(())
    }

    /// Makes the lock shared, so that readers can open the file from the moment it is at its path: for a file that nobody
    /// has mapped any more. The shared lock still keeps others from taking its temporary name for one that was left behind.
    pub(crate) fn share(&self) {
        // On a file system without locks, nobody is excluded.
        let _ = retry_on_interrupt(|| self.file.try_lock_shared().map_err(io::Error::from));
    }

    /// Waits until everything that was written to the file is on the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::io("cannot sync the file", e))
    }

    /// The last step of `create`: puts the file at its path, in place of what is there.
    pub(crate) fn publish(self, destination: Destination) -> Published {
        self.publish_beside(destination, |file, destination| TemporaryName::of_unnamed(file, &destination.folder))
    }

    /// Like [`publish`](Self::publish), for a file whose lock is [shared](Self::share).
    pub(crate) fn publish_shared(self, destination: Destination) -> Published {
        self.publish_beside(destination, TemporaryName::of_shared)
    }

    /// An unnamed file needs a temporary name first, unless nothing is at its path: linking cannot replace a file, only
    /// renaming can. A kill between the two steps leaves the temporary name behind.
    fn publish_beside(
        mut self,
        mut destination: Destination,
        named: impl FnOnce(&File, &Destination) -> Result<TemporaryName>,
    ) -> Published {
        self.look_again(&mut destination)?;
        if self.name.is_none() && destination.old.is_none() {
            match sys::link_unnamed(&self.file, &destination.path) {
                Ok(()) => return Ok(self.into_array_file(Some(destination))),
                // Another process has just put a file there. It is replaced as if it had been there before.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.look_again(&mut destination)?,
                Err(e) => return Err(NotPublished::Nameless(self, cannot_create(e))),
            }
        }
        let name = match self.name.take() {
            Some(name) => name,
            None => match named(&self.file, &destination) {
                Ok(name) => name,
                Err(e) => return Err(NotPublished::Nameless(self, e)),
            },
        };
        let renamed = retry_on_interrupt(|| fs::rename(&name.0, &destination.path));
        renamed.map_err(|e| Error::io("cannot put the new file at its path", e))?;
        name.forget();
        Ok(self.into_array_file(Some(destination)))
    }

    /// Reads the old file's permissions again: making and filling the new file may have taken long, and meanwhile the old
    /// one may have been closed to others, or replaced.
    fn look_again(&self, destination: &mut Destination) -> Result<()> {
        destination.look_again()?;
        self.inherit(destination)
    }

    /// The last step of `create_new`: puts the file at its path. Fails if anything is there.
    pub(crate) fn publish_new(mut self, destination: Destination) -> Published {
        match &self.name {
            Some(name) => sys::rename_noreplace(&name.0, &destination.path).map_err(cannot_create)?,
            None => match sys::link_unnamed(&self.file, &destination.path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(cannot_create(e).into()),
                Err(e) => return Err(NotPublished::Nameless(self, cannot_create(e))),
            },
        }
        drop(self.name.take());
        Ok(self.into_array_file(Some(destination)))
    }

    /// Copies the bytes and the permissions to a file that has a temporary name from the start, and syncs it. Until the copy
    /// is complete, only its owner can open it.
    pub(crate) fn named_copy(&self, destination: &Destination) -> Result<Self> {
        let copy = Self::with_name(&destination.folder, PRIVATE)?.extended(self.len, true)?;
        let (mut from, mut to): (&File, &File) = (&self.file, &copy.file);
        let copied = from
            .rewind()
            .and_then(|()| to.rewind())
            // A copy that was interrupted goes on where it stopped, by the positions of both files.
            .and_then(|()| retry_on_interrupt(|| io::copy(&mut from, &mut to)))
            .and_then(|_| to.stream_position());
        let copied = copied.map_err(|e| Error::io("cannot copy the staged file", e))?;
        if copied != self.len {
            return Err(Error::io("cannot copy the staged file", io::ErrorKind::UnexpectedEof.into()));
        }
        let metadata = self.file.metadata().map_err(|e| Error::io("cannot look at the staged file", e))?;
        Permissions::of(&self.file, &metadata)?.give(&copy.file)?;
        copy.sync()?;
        Ok(copy)
    }

    /// For an array whose file has no name yet; `path` is the one that it may get.
    pub(crate) fn keep_unnamed(self, path: Option<PathBuf>) -> ArrayFile {
        ArrayFile { path, unnamed: true, ..ArrayFile::of(self.file, self.len) }
    }

    fn into_array_file(self, destination: Option<Destination>) -> ArrayFile {
        let (path, folder) = destination.map(|t| (t.named, t.folder)).unzip();
        let unsynced = AtomicBool::new(folder.is_some());
        ArrayFile { path, folder, unsynced, ..ArrayFile::of(self.file, self.len) }
    }
}

pub(crate) type Published = std::result::Result<ArrayFile, NotPublished>;

/// Why a file is not at its path.
pub(crate) enum NotPublished {
    Failed(Error),
    /// The system makes unnamed files here but refuses to give them a name. A file that has a name from the start may work.
    Nameless(PendingFile, Error),
}

impl From<Error> for NotPublished {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<NotPublished> for Error {
    fn from(refusal: NotPublished) -> Self {
        match refusal {
            NotPublished::Failed(error) | NotPublished::Nameless(_, error) => error,
        }
    }
}

/// A name in the file system that is removed when the value is dropped.
#[derive(Debug)]
struct TemporaryName(PathBuf);

impl TemporaryName {
    /// Tries random names until `make` finds one that is not taken.
    fn in_folder<T>(folder: &Path, mut make: impl FnMut(&Path) -> io::Result<T>) -> Result<(T, Self)> {
        // The standard library's hash keys are random, which suffices for the names of two programs to differ.
        let random = RandomState::new();
        for attempt in 0..64u32 {
            let mut hasher = random.build_hasher();
            hasher.write_u32(attempt);
            hasher.write_u32(std::process::id());
            let path = Self::path(folder, hasher.finish());
            match retry_on_interrupt(|| make(&path)) {
                Ok(made) => return Ok((made, Self(path))),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(cannot_create(e)),
            }
        }
        Err(cannot_create(io::ErrorKind::AlreadyExists.into()))
    }

    fn of_unnamed(file: &File, folder: &Path) -> Result<Self> {
        Ok(Self::in_folder(folder, |path| sys::link_unnamed(file, path))?.1)
    }

    /// Uses always the same name for one path, so that the next process that publishes there removes what a kill left
    /// behind.
    fn of_shared(file: &File, destination: &Destination) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        destination.path.hash(&mut hasher);
        let path = Self::path(&destination.folder, hasher.finish());
        for _ in 0..2 {
            match sys::link_unnamed(file, &path) {
                Ok(()) => return Ok(Self(path)),
                Err(e)
                    if e.kind() == io::ErrorKind::AlreadyExists
                        && remove_left_behind(&destination.folder, &path).is_ok() => {}
                Err(_) => break,
            }
        }
        Self::of_unnamed(file, &destination.folder)
    }

    fn path(folder: &Path, number: u64) -> PathBuf {
        folder.join(format!(".ndarray-mmap-{number:016x}.tmp"))
    }

    /// Does not remove the name: it is gone already, or the system removes it.
    fn forget(mut self) {
        self.0 = PathBuf::new();
    }
}

impl Drop for TemporaryName {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // A destructor can report no error, and there is nothing else to try.
            let _ = retry_on_interrupt(|| fs::remove_file(&self.0));
        }
    }
}

/// Removes the name of a staged file whose process is gone, and its lock with it.
fn remove_left_behind(folder: &Path, path: &Path) -> Result<()> {
    let not_ours = || cannot_create(io::ErrorKind::AlreadyExists.into());
    let found = fs::symlink_metadata(path).map_err(cannot_create)?;
    if !found.is_file() {
        return Err(not_ours());
    }
    check_trusted(folder, &found, "the temporary name is taken by another user's file")?;
    let mut options = OpenOptions::new();
    options.read(true);
    sys::open_without_waiting_or_following(&mut options);
    let file = options.open(path).map_err(cannot_create)?;
    file.try_lock().map_err(|e| cannot_create(e.into()))?;
    // The process that held the lock before may have removed the file, and another may have taken the name.
    if !is_at(&file, path).map_err(cannot_create)? {
        return Err(not_ours());
    }
    retry_on_interrupt(|| fs::remove_file(path)).map_err(cannot_create)
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let (file, found) = (sys::file_id(&file.metadata()?), sys::file_id(&fs::symlink_metadata(path)?));
    Ok(file.is_some() && file == found)
}

fn new_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    options
}

fn cannot_create(e: io::Error) -> Error {
    Error::io("cannot create", e)
}
