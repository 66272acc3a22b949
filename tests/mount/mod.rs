//! Small file systems of a test's own, to be filled, cut off or broken. Needs root.
#![allow(dead_code)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system, unmounted with the value.
pub struct Mount {
    /// Of the mount point, and of what the file system needs.
    _folder: tempfile::TempDir,
    point: PathBuf,
    image: PathBuf,
}

impl Mount {
    /// In memory, with room for this many bytes.
    pub fn tmpfs(bytes: usize) -> Self {
        let mount = Self::nothing(&std::env::temp_dir());
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(&mount.point));
        mount
    }

    /// An ext4 in an image file, which lies in `folder` and is as large as that.
    pub fn ext4(folder: &Path, bytes: u64) -> Self {
        Self::ext4_with_blocks(folder, bytes, 4096)
    }

    /// The same, with blocks of so many bytes.
    pub fn ext4_with_blocks(folder: &Path, bytes: u64, block: usize) -> Self {
        let mount = Self::nothing(folder);
        File::create(&mount.image).unwrap().set_len(bytes).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0", "-b", &block.to_string()]).arg(&mount.image));
        mount.again();
        mount
    }

    fn nothing(folder: &Path) -> Self {
        let folder = tempfile::tempdir_in(folder).unwrap();
        let (point, image) = (folder.path().join("mount"), folder.path().join("image"));
        std::fs::create_dir(&point).unwrap();
        Self { _folder: folder, point, image }
    }

    /// Nothing is written but when somebody asks for it: neither dirty pages nor the journal wait for less than 10
    /// minutes.
    pub fn again(&self) {
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop,commit=600"]).arg(&self.image).arg(&self.point));
    }

    pub fn unmount(&self) {
        run(Command::new("umount").arg(&self.point));
    }

    /// The folder it is mounted at.
    pub fn path(&self) -> &Path {
        &self.point
    }

    /// The image file, which plays the disk.
    pub fn image(&self) -> File {
        File::options().write(true).open(&self.image).unwrap()
    }

    /// What lies there, but for what a new ext4 brings.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.point).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = entries.filter(|name| name != "lost+found").collect();
        names.sort();
        names
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a test that failed may still have something open.
        let _ = Command::new("umount").args(["-l", "-q"]).arg(&self.point).status();
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
