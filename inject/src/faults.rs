//! The faults that each call is tried with, and the worlds that lack some calls.

use std::collections::BTreeSet;

use crate::library::{Call, Fault, Kind, Library};
use Kind::{After, Fail, From, Half, Short};
use libc::*;

/// Of the calls of one name only the first 12, and the last, are made to fail, which limits the number of cases.
const MOST_OF_ONE_CALL: i32 = 12;

/// The errno of a damaged file system.
const UNCLEAN: i32 = EUCLEAN;

type Row = (&'static str, &'static [(Kind, &'static [i32])]);

/// Errors that disks, file systems and kernels were observed to return.
const TABLE: &[Row] = &[
    ("open", &[(Fail, &[EINTR, EIO, EMFILE, EACCES, ENOMEM])]),
    ("open_new", &[(Fail, &[EINTR, EIO, ENOSPC, EACCES, EEXIST])]),
    ("open_unnamed", &[(Fail, &[EINTR, EIO, ENOSPC, EACCES, EOPNOTSUPP, EISDIR])]),
    ("stat", &[(Fail, &[EIO, ENOMEM])]),
    ("readlink", &[(Fail, &[EIO, EINVAL])]),
    ("access", &[(Fail, &[EACCES])]),
    ("read", &[(Fail, &[EINTR, EIO]), (Short, &[0])]),
    ("pread", &[(Fail, &[EINTR, EIO]), (Short, &[0])]),
    ("write", &[(Fail, &[EINTR, EIO, ENOSPC]), (Half, &[EIO, ENOSPC]), (Short, &[0])]),
    ("pwrite", &[(Fail, &[EINTR, EIO, ENOSPC, EDQUOT]), (Half, &[EIO, ENOSPC]), (Short, &[0]), (From, &[EIO])]),
    ("lseek", &[(Fail, &[EIO])]),
    ("lengthen", &[(Fail, &[EINTR, EIO, EPERM, EFBIG]), (After, &[EIO]), (From, &[EIO])]),
    // ext4 sets the new length before it frees the blocks behind it.
    ("cut", &[(Fail, &[EINTR, EIO, EPERM]), (After, &[EIO, UNCLEAN]), (From, &[EIO])]),
    (
        "fallocate",
        &[
            (Fail, &[EINTR, ENOSPC, EDQUOT, EIO, EFBIG, EOPNOTSUPP, ENOSYS]),
            (Half, &[EINTR, ENOSPC, EDQUOT, EIO]),
            (After, &[ENOSPC, EIO]),
            (From, &[ENOSPC]),
        ],
    ),
    ("mmap", &[(Fail, &[ENOMEM, ENODEV, EPERM]), (From, &[ENOMEM])]),
    ("mremap", &[(Fail, &[ENOMEM, EFAULT])]),
    ("msync", &[(Fail, &[EIO, ENOSPC]), (After, &[EIO])]),
    ("madvise", &[(Fail, &[EINVAL, ENOMEM, EAGAIN]), (From, &[EINVAL, EIO])]),
    ("mincore", &[(Fail, &[EAGAIN]), (From, &[ENOMEM])]),
    ("flock", &[(Fail, &[EINTR, EIO, ENOLCK, EWOULDBLOCK, EOPNOTSUPP, ENOSYS])]),
    ("unlock", &[(Fail, &[EINTR, EIO])]),
    ("fsync", &[(Fail, &[EINTR, EIO, ENOSPC]), (After, &[EIO])]),
    ("fsync_folder", &[(Fail, &[EINVAL, EIO])]),
    ("fdatasync", &[(Fail, &[EINTR, EIO, ENOSPC]), (After, &[EIO])]),
    ("syncfs", &[(Fail, &[EIO, ENOSPC])]),
    ("sync_file_range", &[(Fail, &[EIO, ENOSPC]), (From, &[EIO, ESPIPE])]),
    ("fadvise", &[(Fail, &[EINVAL, EIO]), (From, &[EINVAL])]),
    ("fsetxattr", &[(Fail, &[ENOTSUP, ENOSPC, EDQUOT, EPERM]), (After, &[EIO])]),
    ("fgetxattr", &[(Fail, &[ENODATA, ENOTSUP, EIO])]),
    ("fremovexattr", &[(Fail, &[ENODATA, EIO]), (After, &[EIO])]),
    ("linkat", &[(Fail, &[EPERM, EIO, ENOENT, EEXIST, ENOSPC])]),
    ("rename", &[(Fail, &[EIO, EPERM, EACCES, ENOSPC, EBUSY])]),
    ("renameat2", &[(Fail, &[EINVAL, ENOSYS, EIO, EEXIST])]),
    ("unlink", &[(Fail, &[EIO, EPERM])]),
    ("fchmod", &[(Fail, &[EPERM, EIO])]),
    ("fchown", &[(Fail, &[EPERM, EIO])]),
    ("dup", &[(Fail, &[EMFILE])]),
    ("getfl", &[(Fail, &[EIO])]),
    ("seals", &[(Fail, &[EINVAL])]),
    ("sigaction", &[(Fail, &[EINVAL])]),
    ("pthread_create", &[(Fail, &[EAGAIN]), (From, &[EAGAIN])]),
];

/// A file system, or kernel, that lacks some calls: every call of these names fails with the given errno.
pub struct World {
    pub name: &'static str,
    pub denied: &'static [(&'static str, i32)],
    /// Scenarios that cannot do without these calls, by how their names start or end. All others can.
    stops: &'static [&'static str],
}

impl World {
    fn denies(&self, call: &str) -> bool {
        self.denied.iter().any(|(denied, _)| *denied == call)
    }

    pub fn stops(&self, scenario: &str) -> bool {
        self.stops.iter().any(|part| scenario.starts_with(part) || scenario.ends_with(part))
    }
}

pub const WORLDS: &[World] = &[
    World { name: "whole", denied: &[], stops: &[] },
    World { name: "no-unnamed", denied: &[("open_unnamed", EOPNOTSUPP)], stops: &["stage", "scratch"] },
    World { name: "no-link", denied: &[("linkat", EPERM)], stops: &[] },
    World { name: "no-fallocate", denied: &[("fallocate", EOPNOTSUPP)], stops: &[] },
    World { name: "no-locks", denied: &[("flock", EOPNOTSUPP), ("unlock", EOPNOTSUPP)], stops: &["required"] },
    World {
        name: "no-marks",
        denied: &[("fsetxattr", ENOTSUP), ("fgetxattr", ENOTSUP), ("fremovexattr", ENOTSUP)],
        stops: &[],
    },
    // The system does not remap a mapping that advice for a part of it has split.
    World { name: "no-mremap", denied: &[("mremap", EFAULT)], stops: &[] },
    // Files that cannot be truncated: a growth cannot be undone.
    World {
        name: "no-cut",
        denied: &[("mremap", EFAULT), ("cut", EIO)],
        stops: &["resize", "close", "publish_grown", "append_after_kill"],
    },
    World { name: "no-folder-sync", denied: &[("fsync_folder", EINVAL)], stops: &[] },
    // A folder that may be written but not read. A flush opens nothing but the folder.
    World {
        name: "no-folder-open",
        denied: &[("open", EACCES)],
        stops: &["open", "load", "header", "extend", "create", "over"],
    },
    World {
        name: "no-advice",
        denied: &[("madvise", EINVAL), ("fadvise", EINVAL), ("mincore", ENOMEM)],
        stops: &["advise", "evict", "residency"],
    },
];

/// All faults for the calls that were seen in a run without faults.
pub fn all(library: Library, world: &World) -> Vec<Fault> {
    let mut faults = Vec::new();
    for &(name, ways) in TABLE {
        let call = library.call(name);
        let seen = if world.denies(name) { 0 } else { library.seen(call) };
        let last = (seen > MOST_OF_ONE_CALL).then_some(seen);
        for nth in (1..=seen.min(MOST_OF_ONE_CALL)).chain(last) {
            for &(kind, errnos) in ways {
                faults.extend(errnos.iter().map(|&errno| Fault { call, nth, errno, kind }));
            }
        }
    }
    faults
}

/// For each call that was seen in a run without faults: the process killed in its place.
pub fn kills(library: Library, world: &World) -> Vec<Fault> {
    let made = |call: &Call| !world.denies(library.name(*call));
    let all = library.calls().filter(made).flat_map(|call| (1..=library.seen(call)).map(move |nth| (call, nth)));
    all.map(|(call, nth)| Fault { call, nth, errno: 0, kind: Kind::Kill }).collect()
}

/// Calls that need not be seen in a full run: those that only users other than root make, and those that nothing uses now.
const RARE: &[&str] = &["access", "fchown", "fdatasync"];

/// Calls of the table that were never seen, perhaps because they bypassed libc.
pub fn never_seen(seen: &BTreeSet<String>) -> Vec<&'static str> {
    let names = TABLE.iter().map(|(name, _)| *name);
    names.filter(|name| !seen.contains(*name) && !RARE.contains(name)).collect()
}

/// The calls that were made in the run before.
pub fn seen(library: Library) -> impl Iterator<Item = &'static str> {
    library.calls().filter(move |&call| library.seen(call) > 0).map(move |call| library.name(call))
}

/// Whether the fault must not make any operation fail: the call was interrupted, or did a part of its work.
pub fn is_harmless(fault: Fault) -> bool {
    fault.kind == Short || fault.errno == EINTR
}

#[rustfmt::skip]
pub fn errno_name(errno: i32) -> String {
    const NAMES: &[(i32, &str)] = &[
        (0, "-"), (EINTR, "EINTR"), (EIO, "EIO"), (EMFILE, "EMFILE"), (EACCES, "EACCES"), (ENOMEM, "ENOMEM"),
        (ENOSPC, "ENOSPC"), (EEXIST, "EEXIST"), (EOPNOTSUPP, "EOPNOTSUPP"), (EISDIR, "EISDIR"), (EINVAL, "EINVAL"),
        (EDQUOT, "EDQUOT"), (EPERM, "EPERM"), (EFBIG, "EFBIG"), (UNCLEAN, "EUCLEAN"), (ENOSYS, "ENOSYS"),
        (ENODEV, "ENODEV"), (EFAULT, "EFAULT"), (EAGAIN, "EAGAIN"), (ENOLCK, "ENOLCK"), (ESPIPE, "ESPIPE"),
        (ENODATA, "ENODATA"), (ENOENT, "ENOENT"), (EBUSY, "EBUSY"),
    ];
    NAMES.iter().find(|(n, _)| *n == errno).map_or_else(|| errno.to_string(), |(_, name)| (*name).into())
}
