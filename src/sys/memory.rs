//! How much memory is available, memory in huge pages, and whether the system reports which pages of a file are in memory.

use std::collections::TryReserveError;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::mapping::prefer_huge_pages;

/// From this size on, in bytes, memory is put into huge pages: 64 MiB in them take 0.3 of the page faults, and 0.85 of the
/// time. (It is NumPy's own limit.)
const MIN_HUGE: usize = 4 << 20;

/// An empty vector with room for so many elements; in huge pages, where the system has them, if it is large. (The hint stays
/// with the allocator's memory, as NumPy's does: that may then be held in larger units, and changes in no other way.)
pub(crate) fn vec_with_room<T>(count: usize) -> Result<Vec<T>, TryReserveError> {
    let mut elements = Vec::new();
    elements.try_reserve_exact(count)?;
    let room = elements.spare_capacity_mut();
    if size_of_val(room) >= MIN_HUGE {
        prefer_huge_pages(room);
    }
    Ok(elements)
}

/// The memory that this process could still use, in bytes, as the system estimates it: the smallest of what the machine has
/// and what the process's control groups allow. `None` if the system does not report it.
pub(crate) fn available_memory() -> Option<u64> {
    let of_machine = fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(of_meminfo);
    let of_groups = fs::read_to_string("/proc/self/cgroup").ok().map(|groups| of_groups(&groups)).unwrap_or_default();
    of_machine.into_iter().chain(of_groups).min()
}

/// Whether the system reports which pages of a file are in the page cache. Linux reports it to users who own the file or may
/// write to it. To all others it reports every page as present, because what somebody else has read is confidential.
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

/// Returns what the control groups of a process (`hierarchy:controllers:path`, one per line), and their parents, have left.
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
        // In a container this may be the path outside of it; the container's own group is then the root.
        let own = Path::new(root).join(path.trim_start_matches('/'));
        left.extend(own.ancestors().take_while(|group| group.starts_with(root)).filter_map(|group| names.left(group)));
    }
    left
}

/// The files of a control group that hold its limit, its usage, and how much of the usage is page cache.
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
