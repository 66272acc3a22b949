//! Which faults each call is tried with, and what must become of some of them whatever the operation is.

use std::collections::BTreeSet;

use crate::library::{Call, Fault, Kind, Library};
use Kind::{After, Fail, From, Half, Short};
use libc::*;

/// Of one call so many are made to fail, the first ones, and the last.
const MOST_OF_ONE_CALL: i32 = 12;

/// `libc` has the number, not every version of it the name.
const UNCLEAN: i32 = EUCLEAN;

type Row = (&'static str, &'static [(Kind, &'static [i32])]);

/// What disks, file systems and kernels were seen to answer.
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

/// A file system, or kernel, that has no such thing: so every call of these names fails, with that.
pub struct World {
    pub name: &'static str,
    pub denied: &'static [(&'static str, i32)],
    /// Scenarios that cannot do without; all others can. How their names begin, or end.
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
    // Advice for a part of a mapping makes it several to the system, which it does not remap as one.
    World { name: "no-mremap", denied: &[("mremap", EFAULT)], stops: &[] },
    // Files that nobody can cut any more: whatever a growth did stays.
    World {
        name: "no-cut",
        denied: &[("mremap", EFAULT), ("cut", EIO)],
        stops: &["resize", "close", "publish_grown", "append_after_kill"],
    },
    World { name: "no-folder-sync", denied: &[("fsync_folder", EINVAL)], stops: &[] },
    // A folder that one may write to and not read: a flush opens nothing else.
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

/// All faults for what was seen in a run without any.
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

/// All calls that were seen in a run without any, each with the process killed in its place.
pub fn kills(library: Library, world: &World) -> Vec<Fault> {
    let made = |call: &Call| !world.denies(library.name(*call));
    let all = library.calls().filter(made).flat_map(|call| (1..=library.seen(call)).map(move |nth| (call, nth)));
    all.map(|(call, nth)| Fault { call, nth, errno: 0, kind: Kind::Kill }).collect()
}

/// Calls that need not be seen in a run of all: what only others than root ask, and what nothing uses now.
const RARE: &[&str] = &["access", "fchown", "fdatasync"];

/// Whether all that can fail was seen, or some of it went past libc.
pub fn never_seen(seen: &BTreeSet<String>) -> Vec<&'static str> {
    let names = TABLE.iter().map(|(name, _)| *name);
    names.filter(|name| !seen.contains(*name) && !RARE.contains(name)).collect()
}

/// Of these calls some were made in the run before.
pub fn seen(library: Library) -> impl Iterator<Item = &'static str> {
    library.calls().filter(move |&call| library.seen(call) > 0).map(move |call| library.name(call))
}

/// What no operation may be hindered by: calls that were interrupted, or did a part of their work.
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
