//! A limit on the memory of the contestants.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A control group whose processes share a limited amount of memory, page cache included. Removed when it is dropped.
pub struct Group(PathBuf);

impl Group {
    pub fn new(name: &str, limit: usize) -> io::Result<Self> {
        let (root, file) = match Path::new("/sys/fs/cgroup/memory") {
            first if first.is_dir() => (first, "memory.limit_in_bytes"),
            _ => (Path::new("/sys/fs/cgroup"), "memory.max"),
        };
        let path = root.join(format!("ndarray-mmap-bench-{}-{name}", std::process::id()));
        fs::create_dir(&path)?;
        let group = Self(path);
        // The file is missing if groups cannot limit memory here. It cannot be created.
        File::options().write(true).open(group.0.join(file))?.write_all(limit.to_string().as_bytes())?;
        Ok(group)
    }

    /// Makes a process join the group before it has any memory of its own, and end when this one does.
    pub fn take(&self, command: &mut Command) {
        let members = File::options().write(true).open(self.0.join("cgroup.procs")).unwrap();
        let join = move || {
            (&members).write_all(b"0")?;
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            Ok(())
        };
        unsafe { command.pre_exec(join) };
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
