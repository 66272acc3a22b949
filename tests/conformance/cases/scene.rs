//! The files of one call: as they are before, and as they are after.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use tempfile::TempDir;

use super::corpus::Case;

/// The folder of one call, and the file in it.
pub struct Scene {
    folder: TempDir,
    pub path: PathBuf,
    /// For calls that hand an open file over.
    pub handle: Option<File>,
    pub position_before: u64,
}

impl Scene {
    pub fn new(case: &Case) -> Self {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let path = folder.path().join(case.call("path").as_str().unwrap_or("data.bin"));
        if let Some(bytes) = case.initial_file() {
            fs::write(&path, bytes).expect("the file can be written");
        }
        let handle = case.call("file_open").as_str().map(|mode| {
            let mut options = OpenOptions::new();
            match mode {
                "rb" => options.read(true),
                "r+b" => options.read(true).write(true),
                "w+b" => options.read(true).write(true).truncate(true),
                "wb" => options.write(true).truncate(true),
                "a+b" => options.read(true).append(true),
                other => panic!("no way to open a file {other:?}"),
            };
            options.open(&path).expect("the file can be opened")
        });
        let mut scene = Self { folder, path, handle, position_before: 0 };
        if let (Some(mut handle), Some(position)) = (scene.handle.as_ref(), case.call("file_seek").as_u64()) {
            handle.seek(SeekFrom::Start(position)).expect("a regular file");
        }
        scene.position_before = scene.position();
        scene
    }

    pub fn position(&self) -> u64 {
        self.handle.as_ref().map_or(0, |mut handle| handle.stream_position().expect("a regular file"))
    }

    /// Sets the permissions that the case is about.
    pub fn restrict(&self, case: &Case) {
        if let Some(permissions) = case.permissions() {
            fs::set_permissions(&self.path, fs::Permissions::from_mode(permissions)).expect("the file is ours");
        }
    }

    /// Everything in the folder.
    pub fn files(&self) -> Vec<Entry> {
        let entry = |path: PathBuf| {
            let inode = fs::metadata(&path).expect("it was listed").ino();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("the file is ours");
            let bytes = fs::read(&path).expect("a readable file");
            Entry { path, inode, bytes }
        };
        let entries = fs::read_dir(&self.folder).expect("the folder is there");
        entries.map(|e| entry(e.expect("the folder can be listed").path())).collect()
    }
}

#[derive(PartialEq)]
pub struct Entry {
    pub path: PathBuf,
    inode: u64,
    pub bytes: Vec<u8>,
}

/// The one file of a scene; nothing where there is none.
pub fn contents(files: &[Entry]) -> &[u8] {
    files.first().map_or(&[], |file| &file.bytes)
}

pub fn lengths(files: &[Entry]) -> String {
    let length = |file: &Entry| format!("{} ({} bytes, inode {})", file.path.display(), file.bytes.len(), file.inode);
    files.iter().map(length).collect::<Vec<_>>().join(", ")
}
