//! How much memory is available, and whether the system reports what of a file is in it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The memory that this process could still take, in bytes, as the system estimates it: of the machine, and of what the
/// process is limited to by control groups. `None` where the system does not report it.
pub(crate) fn available_memory() -> Option<u64> {
    let of_machine = fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(of_meminfo);
    let of_groups = fs::read_to_string("/proc/self/cgroup").ok().map(|groups| of_groups(&groups)).unwrap_or_default();
    of_machine.into_iter().chain(of_groups).min()
}

/// Whether the system reports which pages of a file are in the page cache. Linux reports it to those who own the file or may
/// write to it, and to others that all of them are: what somebody else has read is a secret.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn reports_residency(file: &File) -> bool {
    use rustix::fs::{Access, AtFlags, accessat};
    let user = super::effective_user();
    user == 0
        || file.metadata().is_ok_and(|metadata| super::ownership(&metadata).is_some_and(|owner| owner.user == user))
        || accessat(file, c"", Access::WRITE_OK, AtFlags::EMPTY_PATH | AtFlags::EACCESS).is_ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn reports_residency(_: &File) -> bool {
    cfg!(any(target_os = "macos", target_os = "freebsd"))
}

fn of_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What is left to the groups of a process (`hierarchy:controllers:path`, one a line), and to those they are in.
fn of_groups(groups: &str) -> Vec<u64> {
    let mut left = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, names) = match controllers {
            "" => ("/sys/fs/cgroup", &SECOND),
            _ if controllers.split(',').any(|c| c == "memory") => ("/sys/fs/cgroup/memory", &FIRST),
            _ => continue,
        };
        // In a container the path may be that outside of it; its own group is then the root.
        let own = Path::new(root).join(path.trim_start_matches('/'));
        left.extend(own.ancestors().take_while(|group| group.starts_with(root)).filter_map(|group| names.left(group)));
    }
    left
}

/// The files that state a control group's limit, its use, and how much of that is page cache.
struct Names {
    limit: &'static str,
    usage: &'static str,
    /// In `memory.stat`.
    cached: [&'static str; 2],
}

const FIRST: Names = Names {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cached: ["total_active_file", "total_inactive_file"],
};

const SECOND: Names = Names { limit: "memory.max", usage: "memory.current", cached: ["active_file", "inactive_file"] };

impl Names {
    /// `None` for a group without a limit.
    fn left(&self, group: &Path) -> Option<u64> {
        let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let limit = number(group.join(self.limit))?;
        let usage = number(group.join(self.usage))?;
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        Some(limit.saturating_sub(usage.saturating_sub(self.cached(&stat))))
    }

    fn cached(&self, stat: &str) -> u64 {
        let numbers = stat.lines().filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            self.cached.contains(&name).then_some(value.parse::<u64>().ok()?)
        });
        numbers.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_bytes() {
        assert_eq!(of_meminfo("MemTotal: 9 kB\nMemFree:  7 kB\nMemAvailable:   8 kB\n"), Some(8192));
        assert_eq!(of_meminfo("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn what_a_group_caches_can_be_had_back() {
        let group = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(group.path().join(name), text).unwrap();
        write("memory.max", "1000\n");
        write("memory.current", "900\n");
        write("memory.stat", "anon 300\nactive_file 200\ninactive_file 350\nfile 600\n");
        assert_eq!(SECOND.left(group.path()), Some(650));
        write("memory.max", "max\n");
        assert_eq!(SECOND.left(group.path()), None);
    }
}
