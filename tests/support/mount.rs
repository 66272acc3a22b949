//! Small file systems of a test's own, to be filled, cut off or broken. Needs root.

use std::fs::File;
use std::os::fd::AsRawFd;
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

    /// An overlay, as containers have it, over folders of another file system. What its files hold is the other's.
    pub fn overlay(over: &Mount) -> Self {
        let mount = Self::nothing(&std::env::temp_dir());
        let folders = ["lower", "upper", "work"].map(|name| over.point.join(name));
        folders.iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
        let [lower, upper, work] = folders.map(|folder| folder.display().to_string());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        run(Command::new("mount").args(["-t", "overlay", "-o", &options, "overlay"]).arg(&mount.point));
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
        self.again_with("commit=600");
    }

    /// With these options; what was in memory of its files is not any more.
    pub fn again_with(&self, options: &str) {
        let options = format!("loop,{options}");
        run(Command::new("mount").args(["-t", "ext4", "-o", &options]).arg(&self.image).arg(&self.point));
    }

    /// Nothing reaches the disk of an ext4 any more, nor is anything read from it.
    pub fn shut_down(&self) {
        /// `EXT4_IOC_SHUTDOWN`, and not to write even the journal before.
        const SHUT_DOWN: libc::Ioctl = 0x8004_587d;
        let (root, at_once) = (File::open(&self.point).unwrap(), 2_u32);
        // SAFETY: it reads one number, which lives until the call returns.
        let answer = unsafe { libc::ioctl(root.as_raw_fd(), SHUT_DOWN, &raw const at_once) };
        assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    }

    /// As after an error that an ext4 cannot go on from.
    pub fn abort(&self) {
        // It says that it does not like it.
        let _ = Command::new("mount").args(["-o", "remount,abort"]).arg(&self.point).output();
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
