//! Replacing: who may read and write the new file, what is followed and what is refused, and ways round a kernel that
//! says no. Linux, where access control lists, files without a name and `/proc` are.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use crate::support::arrays::{CreateExt, OpenExt, expect_err, expect_io_err, file};
use crate::support::kernel::{Refusal, as_nobody, as_nobody_in, no, no_renaming, no_unnamed_files, refusing};
use crate::support::snapshot::{names, snapshot};
use crate::support::steps::{self, Answer};
use ndarray::prelude::*;
use ndarray_mmap::{ErrorKind, MmapArray, MmapArrayMut, ReadWrite, Result, Staged};
use rustix::fs::XattrFlags;

const NOBODY: u32 = 65534;
const STRANGER: u32 = 1234;
const GROUP: u32 = 5678;

fn bytes(len: usize) -> ndarray_mmap::MmapArrayOptions<u8, Ix1, ReadWrite> {
    MmapArrayMut::<u8>::options().shape(len)
}

/// The ways in which a file gets to a path where another may be.
const WAYS: [fn(&Path) -> Result<()>; 2] = [create, stage];

fn create(path: &Path) -> Result<()> {
    let mut array = bytes(5000).created(path)?;
    array.fill(7);
    array.close()
}

fn stage(path: &Path) -> Result<()> {
    let mut staged = Staged::<u8>::stage(path, 5000)?;
    staged.fill(7);
    staged.publish()
}

#[track_caller]
fn already_exists<T>(result: Result<T>) {
    expect_io_err(result, io::ErrorKind::AlreadyExists);
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// An entry of an access control list: tag, permissions, and whose they are.
type Entry = (u16, u16, u32);

const NO_ID: u32 = u32::MAX;

fn owner(permissions: u16) -> Entry {
    (0x01, permissions, NO_ID)
}

fn user(id: u32, permissions: u16) -> Entry {
    (0x02, permissions, id)
}

fn group(permissions: u16) -> Entry {
    (0x04, permissions, NO_ID)
}

fn mask(permissions: u16) -> Entry {
    (0x10, permissions, NO_ID)
}

fn others(permissions: u16) -> Entry {
    (0x20, permissions, NO_ID)
}

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

fn set_acl(path: &Path, name: &str, entries: &[Entry]) {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        bytes.extend(id.to_le_bytes());
    }
    rustix::fs::setxattr(path, name, &bytes, XattrFlags::empty()).unwrap();
}

fn acl(path: &Path) -> Option<Vec<Entry>> {
    let mut bytes = [0; 1024];
    let len = match rustix::fs::getxattr(path, ACCESS, &mut bytes) {
        Err(rustix::io::Errno::NODATA) => return None,
        len => len.unwrap(),
    };
    let (entries, _) = bytes[4..len].as_chunks::<8>();
    let number = |b: &[u8]| u16::from_le_bytes(b.try_into().unwrap());
    Some(
        entries
            .iter()
            .map(|e| (number(&e[..2]), number(&e[2..4]), u32::from_le_bytes(e[4..].try_into().unwrap())))
            .collect(),
    )
}

fn may_read(path: &Path) -> bool {
    as_nobody_in(&[GROUP], || File::open(path).is_ok())
}

/// Whether or not the file system has files without a name.
fn on_both_kinds(f: impl Fn() + Sync) {
    f();
    refusing(&no_unnamed_files(), &f);
}

#[test]
fn an_access_control_list_is_kept() -> Result<()> {
    let (folder, path) = file(b"mine");
    let friends: Vec<_> = (0..40).map(|n| user(STRANGER + n, 6)).collect();
    let list = [&[owner(6)], &friends[..], &[group(0), mask(6), others(0)]].concat();
    for way in WAYS {
        fs::write(&path, b"mine").unwrap();
        set_acl(&path, ACCESS, &list);
        way(&path)?;
        assert_eq!((acl(&path).unwrap(), mode(&path)), (list.clone(), 0o660));
        assert_eq!(fs::read(&path).unwrap(), [7; 5000]);
    }
    refusing(&no_unnamed_files(), || create(&path))?;
    assert_eq!((acl(&path).unwrap(), mode(&path)), (list, 0o660));
    assert_eq!(names(folder.path()), ["data.bin"]);
    Ok(())
}

/// Where a list cannot be set, `st_mode` would say what its mask says.
#[test]
fn without_its_list_a_file_is_open_to_nobody_whom_the_list_kept_out() {
    let no_lists = [no(libc::SYS_fsetxattr, libc::EOPNOTSUPP)];
    for (list, expected) in [
        (&[owner(6), user(STRANGER, 6), group(0), mask(6), others(0)][..], 0o600),
        (&[owner(6), user(STRANGER, 7), group(7), mask(4), others(4)], 0o644),
        // One who is kept out by name is in the group, or among the others.
        (&[owner(6), user(STRANGER, 0), group(6), mask(6), others(4)], 0o600),
        (&[owner(6), user(STRANGER, 4), group(6), mask(6), others(0)], 0o640),
        (&[owner(6), group(4), (0x08, 0, GROUP), mask(7), others(4)], 0o640),
    ] {
        for way in WAYS {
            let (_folder, path) = file(b"mine");
            set_acl(&path, ACCESS, list);
            refusing(&no_lists, || way(&path)).unwrap();
            assert_eq!((acl(&path), mode(&path)), (None, expected), "{list:?}");
        }
    }
}

#[test]
fn the_list_that_a_folder_gives_to_new_files_lets_nobody_into_a_replaced_one() {
    on_both_kinds(|| {
        let (folder, path) = file(b"mine");
        set_mode(&path, 0o660);
        let given = [owner(7), user(STRANGER, 6), group(6), mask(7), others(4)];
        set_acl(folder.path(), DEFAULT, &given);
        create(&path).unwrap();
        assert_eq!((acl(&path), mode(&path)), (None, 0o660));
        // A new file gets it from the kernel, as any.
        for (name, made) in [("usual", false), ("ours", true)] {
            let new = folder.path().join(name);
            if made {
                create(&new).unwrap()
            } else {
                fs::write(&new, b"").unwrap()
            }
            assert_eq!(acl(&new).unwrap(), [owner(6), user(STRANGER, 6), group(6), mask(6), others(4)]);
        }
    });
    let (folder, path) = file(b"mine");
    set_mode(&path, 0o660);
    set_acl(folder.path(), DEFAULT, &[owner(7), user(STRANGER, 6), group(6), mask(7), others(4)]);
    stage(&path).unwrap();
    assert_eq!((acl(&path), mode(&path)), (None, 0o660));
}

#[cfg(target_arch = "x86_64")]
const RENAME: libc::c_long = libc::SYS_rename;
#[cfg(not(target_arch = "x86_64"))]
const RENAME: libc::c_long = libc::SYS_renameat;
#[cfg(target_arch = "x86_64")]
const OPEN: libc::c_long = libc::SYS_open;
#[cfg(not(target_arch = "x86_64"))]
const OPEN: libc::c_long = libc::SYS_openat;
#[cfg(target_arch = "x86_64")]
const READLINK: libc::c_long = libc::SYS_readlink;
#[cfg(not(target_arch = "x86_64"))]
const READLINK: libc::c_long = libc::SYS_readlinkat;
#[cfg(target_arch = "x86_64")]
const UNLINK: libc::c_long = libc::SYS_unlink;
#[cfg(not(target_arch = "x86_64"))]
const UNLINK: libc::c_long = libc::SYS_unlinkat;

/// Between any two calls of the thread that makes it. Root, for it can give the group.
#[test]
#[ignore = "needs root, who may give files away"]
fn at_no_moment_is_the_new_file_more_open_than_the_old_one() {
    const CALLS: [libc::c_long; 12] = [
        libc::SYS_fchown,
        libc::SYS_fchmod,
        libc::SYS_fsetxattr,
        libc::SYS_fremovexattr,
        libc::SYS_fgetxattr,
        libc::SYS_fallocate,
        libc::SYS_flock,
        libc::SYS_mmap,
        libc::SYS_linkat,
        RENAME,
        libc::SYS_fstat,
        libc::SYS_statx,
    ];
    let list = [owner(6), user(STRANGER, 4), group(0), mask(4), others(0)];
    for (list, inherited) in [(None, false), (Some(&list[..]), false), (None, true)] {
        for (way, named) in [(WAYS[0], false), (WAYS[0], true), (WAYS[1], false)] {
            let (folder, path) = file(b"theirs");
            chown(&path, Some(STRANGER), Some(GROUP)).unwrap();
            set_mode(folder.path(), 0o755);
            set_mode(&path, 0o640);
            if let Some(list) = list {
                set_acl(&path, ACCESS, list);
            }
            if inherited {
                set_acl(folder.path(), DEFAULT, &[owner(7), user(NOBODY, 6), group(6), mask(7), others(6)]);
            }
            let in_group = list.is_none();
            let mut looks = 0;
            let look = |_| {
                for name in names(folder.path()) {
                    let at = folder.path().join(&name);
                    let metadata = fs::metadata(&at).unwrap();
                    let open_to_group = metadata.gid() == GROUP && in_group;
                    let most = if open_to_group || acl(&at).is_some() { 0o640 } else { 0o600 };
                    assert_eq!(metadata.mode() & 0o7777 & !most, 0, "{name}, {:o}", metadata.mode());
                    assert!(as_nobody(|| File::open(&at).is_err()), "{name}");
                    looks += 1;
                }
                Answer::Done
            };
            let run = || if named { refusing(&no_unnamed_files(), || way(&path)) } else { way(&path) };
            steps::at_each(&CALLS, look, run).unwrap();
            assert!(looks > 5, "{looks}");
            assert_eq!((may_read(&path), mode(&path)), (in_group, 0o640));
            assert_eq!(names(folder.path()), ["data.bin"]);
        }
    }
}

#[test]
#[ignore = "needs root, who may give files away"]
fn a_group_that_cannot_be_kept_leaves_its_permissions_to_nobody() {
    let list = |group_obj, rest| vec![owner(6), user(NOBODY, 6), group(group_obj), mask(6), others(rest)];
    for (old, expected) in [(0o666, 0o606), (0o664, 0o604), (0o606, 0o600), (0o646, 0o604)] {
        on_both_kinds(|| {
            let (folder, path) = file(b"theirs");
            set_mode(folder.path(), 0o777);
            chown(&path, Some(NOBODY), Some(GROUP)).unwrap();
            set_mode(&path, old);
            as_nobody(|| create(&path)).unwrap();
            assert_eq!((mode(&path), fs::metadata(&path).unwrap().gid()), (expected, NOBODY), "{old:o}");
        });
    }
    for (old, expected) in [(list(6, 4), list(0, 4)), (list(4, 6), list(0, 4)), (list(0, 4), list(0, 0))] {
        for way in WAYS {
            let (folder, path) = file(b"theirs");
            set_mode(folder.path(), 0o777);
            chown(&path, Some(NOBODY), Some(GROUP)).unwrap();
            set_acl(&path, ACCESS, &old);
            as_nobody(|| way(&path)).unwrap();
            assert_eq!(acl(&path), Some(expected.clone()));
        }
    }
}

#[test]
fn permissions_that_cannot_be_read_or_given_are_an_error_and_nothing_changes() {
    let (folder, path) = file(b"mine");
    let list = [owner(6), user(STRANGER, 6), group(0), mask(6), others(0)];
    set_acl(&path, ACCESS, &list);
    let before = snapshot(folder.path());
    for refusal in [no(libc::SYS_fgetxattr, libc::EIO), no(libc::SYS_fsetxattr, libc::ENOSPC)] {
        for way in WAYS {
            refusing(&[refusal], || expect_err(way(&path), ErrorKind::Io));
            assert_eq!(snapshot(folder.path()), before);
            assert_eq!(acl(&path).unwrap(), list);
        }
        refusing(&[&no_unnamed_files()[..], &[refusal]].concat(), || expect_err(create(&path), ErrorKind::Io));
        assert_eq!(snapshot(folder.path()), before);
    }
}

/// Somebody closes the file to others while the array is made, or puts another there.
#[test]
fn what_was_closed_or_put_there_meanwhile_counts() {
    let (folder, path) = file(b"mine");
    for put in [false, true] {
        for way in WAYS {
            if put {
                fs::remove_file(&path).unwrap();
            } else {
                set_mode(&path, 0o644);
            }
            let look = |_| {
                if put {
                    fs::write(&path, b"meanwhile").unwrap();
                }
                set_mode(&path, 0o600);
                Answer::Done
            };
            steps::at_each(&[libc::SYS_fallocate], look, || way(&path)).unwrap();
            assert_eq!(mode(&path), 0o600, "{put}");
            assert!(fs::read(&path).unwrap() == [7; 5000]);
        }
    }
    assert_eq!(names(folder.path()), ["data.bin"]);
}

/// A folder like `/tmp`, of this owner.
fn open_folder(owner: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    chown(folder.path(), Some(owner), None).unwrap();
    set_mode(folder.path(), 0o1777);
    folder
}

fn link(owner: u32, to: &Path, at: &Path) {
    symlink(to, at).unwrap();
    lchown(at, Some(owner), None).unwrap();
}

#[test]
#[ignore = "needs root, who may give files away"]
fn a_strangers_link_in_a_sticky_folder_is_not_followed() {
    let folder = open_folder(GROUP);
    let (elsewhere, target) = file(b"mine");
    let at = |name: &str| folder.path().join(name);
    set_mode(elsewhere.path(), 0o777);
    set_mode(&target, 0o666);
    for (name, owner) in [("stranger's", STRANGER), ("root's", 0), ("nobody's", NOBODY), ("the folder's", GROUP)] {
        link(owner, &target, &at(name));
    }
    link(STRANGER, &elsewhere.path().join("new"), &at("dangling"));
    // It is looked at wherever in a chain it is.
    symlink(at("stranger's"), elsewhere.path().join("chain")).unwrap();
    let refused_here = |path: &Path| {
        let before = (snapshot(folder.path()), snapshot(elsewhere.path()));
        for way in WAYS {
            let e = expect_io_err(way(path), io::ErrorKind::PermissionDenied);
            assert!(e.to_string().contains("symbolic link") && e.to_string().contains("everybody"), "{e}");
        }
        assert_eq!((snapshot(folder.path()), snapshot(elsewhere.path())), before);
    };
    let followed = |path: &Path| {
        for way in WAYS {
            fs::write(&target, b"old").unwrap();
            way(path).unwrap();
            assert_eq!(fs::read(&target).unwrap().len(), 5000);
        }
    };
    for path in [at("stranger's"), at("dangling"), at("nobody's"), elsewhere.path().join("chain")] {
        refused_here(&path);
    }
    followed(&at("root's"));
    followed(&at("the folder's"));
    set_mode(&target, 0o666);
    as_nobody(|| {
        refused_here(&at("stranger's"));
        refused_here(&at("root's"));
        create(&at("nobody's")).unwrap();
        stage(&at("the folder's")).unwrap();
    });
    // Where everybody may take away what others have put there, or only its owner may write, nothing is won by it.
    for mode in [0o777, 0o1775, 0o755] {
        set_mode(folder.path(), mode);
        followed(&at("stranger's"));
    }
}

#[test]
#[ignore = "needs root, who may give files away"]
fn a_strangers_file_in_a_sticky_folder_is_not_replaced() {
    let folder = open_folder(GROUP);
    let path = folder.path().join("data.bin");
    for (owner, replaced) in [(STRANGER, false), (NOBODY, false), (0, true), (GROUP, true)] {
        for way in WAYS {
            fs::write(&path, b"old").unwrap();
            set_mode(&path, 0o666);
            chown(&path, Some(owner), None).unwrap();
            let before = snapshot(folder.path());
            if replaced {
                way(&path).unwrap();
            } else {
                let e = expect_io_err(way(&path), io::ErrorKind::PermissionDenied);
                assert!(e.to_string().contains("everybody"), "{e}");
                assert_eq!(snapshot(folder.path()), before);
            }
            fs::remove_file(&path).unwrap();
        }
    }
}

/// What is put at the path while the array is made is looked at as what was there before.
#[test]
#[ignore = "needs root, who may give files away"]
fn what_a_stranger_puts_into_a_sticky_folder_meanwhile_is_not_replaced() {
    for is_link in [false, true] {
        for way in WAYS {
            let folder = open_folder(GROUP);
            let path = folder.path().join("data.bin");
            let put = |_| {
                if is_link {
                    link(STRANGER, Path::new("elsewhere"), &path)
                } else {
                    fs::write(&path, b"theirs").unwrap()
                }
                lchown(&path, Some(STRANGER), None).unwrap();
                Answer::Done
            };
            steps::at_each(&[libc::SYS_fallocate], put, || way(&path)).unwrap_err();
            assert_eq!(fs::symlink_metadata(&path).unwrap().uid(), STRANGER);
            assert_eq!(names(folder.path()), ["data.bin"]);
        }
    }
}

/// The name that a staged file has for a moment is known beforehand.
#[test]
#[ignore = "needs root, who may give files away"]
fn what_a_stranger_puts_at_the_temporary_name_is_left_alone() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let (elsewhere, target) = file(b"mine");
    for what in ["link", "dangling", "file", "fifo"] {
        let folder = open_folder(GROUP);
        let path = folder.path().join("data.bin");
        fs::write(&path, b"old").unwrap();
        // A look shows which name it is.
        let mut name = None;
        let look = |_| {
            name = names(folder.path()).into_iter().find(|name| name.starts_with(".ndarray-mmap-")).or(name.take());
            Answer::Done
        };
        steps::at_each(&[RENAME], look, || stage(&path)).unwrap();
        let name = folder.path().join(name.unwrap());
        match what {
            "link" => symlink(&target, &name).unwrap(),
            "dangling" => symlink(elsewhere.path().join("new"), &name).unwrap(),
            "file" => fs::write(&name, b"theirs").unwrap(),
            _ => mknodat(CWD, &name, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap(),
        }
        lchown(&name, Some(STRANGER), None).unwrap();
        let before = (snapshot(elsewhere.path()), fs::symlink_metadata(&name).unwrap().ino());
        stage(&path).unwrap();
        assert_eq!((snapshot(elsewhere.path()), fs::symlink_metadata(&name).unwrap().ino()), before, "{what}");
        assert_eq!(fs::read(&path).unwrap().len(), 5000);
        assert_eq!(names(folder.path()).len(), 2);
    }
}

/// Those that the kernel follows by itself, whatever their text says.
#[test]
fn a_link_to_an_open_file_without_a_name_is_refused() {
    let (folder, path) = file(b"mine");
    let by_descriptor = |file: &File| PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let linked = folder.path().join("linked");
    // One that has its name is replaced there, as always.
    for way in WAYS {
        for by_link in [false, true] {
            fs::write(&path, b"mine").unwrap();
            let named = File::open(&path).unwrap();
            let fd = by_descriptor(&named);
            symlink(&fd, &linked).unwrap();
            way(if by_link { &linked } else { &fd }).unwrap();
            assert_eq!((fs::read(&path).unwrap().len(), names(folder.path()).len()), (5000, 2));
            fs::remove_file(&linked).unwrap();
        }
    }

    let deleted = File::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    symlink(by_descriptor(&deleted), &linked).unwrap();
    let memory: File = rustix::fs::memfd_create("numbers", rustix::fs::MemfdFlags::CLOEXEC).unwrap().into();
    let unnamed = tempfile::tempfile().unwrap();
    // A file that has the name which the link's text says is another one.
    let text = fs::read_link(by_descriptor(&deleted)).unwrap();
    assert!(text.to_str().unwrap().ends_with("data.bin (deleted)"));
    for lure in [false, true] {
        if lure {
            fs::write(&text, b"another").unwrap();
        }
        let before = snapshot(folder.path());
        for path in [by_descriptor(&deleted), by_descriptor(&memory), by_descriptor(&unnamed), linked.clone()] {
            for way in WAYS {
                let e = expect_err(way(&path), ErrorKind::Unsupported);
                assert!(e.to_string().contains("no name"), "{e}");
            }
            already_exists(bytes(3).created_new(&path));
            assert_eq!(snapshot(folder.path()), before);
        }
    }
    assert!(names(Path::new("/")).iter().all(|name| !name.contains("memfd")));
    let (reader, writer) = io::pipe().unwrap();
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    for fd in [reader.as_raw_fd(), writer.as_raw_fd(), socket.as_raw_fd()] {
        for way in WAYS {
            expect_err(way(&PathBuf::from(format!("/proc/self/fd/{fd}"))), ErrorKind::NotRegularFile);
        }
    }
}

/// As on some network file systems, and under some security modules: files without a name may be made, but not named.
#[test]
fn where_an_unnamed_file_gets_no_name_one_with_a_name_takes_its_place() {
    for errno in [libc::EPERM, libc::EACCES, libc::ENOENT, libc::EXDEV, libc::EIO, libc::EMLINK] {
        let (folder, old) = file(b"mine");
        let at = |name: &str| folder.path().join(name);
        set_acl(&old, ACCESS, &[owner(6), user(STRANGER, 6), group(0), mask(6), others(0)]);
        fs::write(at("usual"), b"").unwrap();
        let (usual, usual_old) = (mode(&at("usual")), acl(&old));
        refusing(&[no(libc::SYS_linkat, errno)], || {
            // The array is that of the file at the path, from its header on.
            let mut created = MmapArrayMut::<u32>::options().shape((2, 3)).created_npy(at("created")).unwrap();
            let mut new = bytes(3).created_new(at("new")).unwrap();
            created.fill(5);
            new.fill(6);
            let mut staged = Staged::<u32>::stage_npy(at("staged"), (2, 3)).unwrap();
            staged.fill(5);
            staged.publish().unwrap();
            let mut staged = Staged::<u8>::stage(at("staged new"), 3_000_000).unwrap();
            staged.fill(6);
            staged.publish_new().unwrap();
            expect_err(MmapArray::<u8>::options().opened(at("created")), ErrorKind::Locked);
            created.close().unwrap();

            already_exists(bytes(9).created_new(at("new")));
            let staged = Staged::<u8>::stage(at("new"), 3).unwrap();
            already_exists(staged.publish_new());
            for way in WAYS {
                way(&old).unwrap();
                assert!(fs::read(&old).unwrap() == [7; 5000]);
                assert_eq!((acl(&old), mode(&old)), (usual_old.clone(), 0o660));
            }
        });
        assert_eq!(fs::read(at("new")).unwrap(), [6; 3]);
        assert!(fs::read(at("staged new")).unwrap() == [6; 3_000_000]);
        assert_eq!(fs::read(at("created")).unwrap(), fs::read(at("staged")).unwrap());
        let array = MmapArray::<u32, Ix2>::options().opened_npy(at("created")).unwrap();
        assert_eq!((array.dim(), array.sum()), ((2, 3), 30));
        for name in ["created", "new", "staged", "staged new"] {
            let made = fs::metadata(at(name)).unwrap();
            assert_eq!((made.mode() & 0o7777, made.nlink()), (usual, 1), "{name}");
        }
        assert_eq!(names(folder.path()), ["created", "data.bin", "new", "staged", "staged new", "usual"]);
    }
}

/// No file can be made that has a name from the start.
fn with_a_name(errno: i32) -> Refusal {
    Refusal::with(libc::SYS_openat, 2, libc::O_EXCL as u32, errno)
}

#[test]
fn where_a_file_with_a_name_fails_too_nothing_is_left() {
    let (folder, path) = file(b"mine");
    let new = folder.path().join("new");
    let before = snapshot(folder.path());
    let no_link = no(libc::SYS_linkat, libc::EPERM);
    let failures = [
        ("renaming", no_renaming(libc::EIO)),
        ("linking", vec![no(libc::SYS_renameat2, libc::EINVAL)]),
        ("making", vec![with_a_name(libc::EROFS)]),
        ("copying", vec![no(libc::SYS_copy_file_range, libc::EIO)]),
    ];
    for (what, refusals) in failures {
        let refusals = [&refusals[..], &[no_link]].concat();
        refusing(&refusals, || {
            for way in WAYS {
                // A file that is replaced needs no link, and one that is made needs no copy.
                let done = way(&path);
                assert_eq!(
                    done.is_ok(),
                    what == "linking" || (what == "copying" && fs::read(&path).unwrap() != b"mine")
                );
                if done.is_ok() {
                    fs::write(&path, b"mine").unwrap();
                }
            }
            let fails = what != "copying";
            assert_eq!(bytes(3).created_new(&new).is_err(), fails, "{what}");
            let staged = Staged::<u8>::stage(&new, 3).unwrap();
            assert!(staged.publish_new().is_err(), "{what}");
        });
        let _ = fs::remove_file(&new);
        assert_eq!(snapshot(folder.path()).keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "{what}");
        assert_eq!(fs::read(&path).unwrap(), b"mine", "{what}");
    }
}

/// While the array is copied, nobody can look at what there is of it.
#[test]
fn a_copy_is_its_owners_alone_until_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new");
    let mut staged = Staged::<u8>::stage(&path, 100_000).unwrap();
    staged.fill(7);
    let mut seen = Vec::new();
    let look = |_| {
        seen.extend(names(folder.path()).iter().map(|name| mode(&folder.path().join(name))));
        Answer::Done
    };
    steps::at_each(&[libc::SYS_copy_file_range], look, || {
        refusing(&[no(libc::SYS_linkat, libc::EPERM)], || staged.publish()).unwrap();
    });
    assert!(!seen.is_empty() && seen.iter().all(|&mode| mode == 0o600), "{seen:?}");
    assert!(fs::read(&path).unwrap() == [7; 100_000]);
    assert_eq!(names(folder.path()), ["new"]);
}

/// The handler of a signal returns, and the call has done nothing yet.
#[test]
fn an_interrupted_call_is_made_again() {
    let list = [owner(6), user(STRANGER, 6), group(0), mask(6), others(0)];
    let calls = [
        ("openat", libc::SYS_openat),
        ("open", OPEN),
        ("linkat", libc::SYS_linkat),
        ("readlink", READLINK),
        ("rename", RENAME),
        ("renameat2", libc::SYS_renameat2),
        ("unlink", UNLINK),
        ("fchown", libc::SYS_fchown),
        ("fchmod", libc::SYS_fchmod),
        ("fgetxattr", libc::SYS_fgetxattr),
        ("fsetxattr", libc::SYS_fsetxattr),
        ("fremovexattr", libc::SYS_fremovexattr),
        ("fallocate", libc::SYS_fallocate),
        ("fsync", libc::SYS_fsync),
        ("copy_file_range", libc::SYS_copy_file_range),
    ];
    let (mut interrupted, mut odd) = (0, false);
    for (name, call) in calls {
        let before = interrupted;
        for refusals in [
            // There is no way round.
            vec![with_a_name(libc::EROFS)],
            no_unnamed_files(),
            [no_unnamed_files(), vec![no(libc::SYS_renameat2, libc::EINVAL)]].concat(),
            vec![no(libc::SYS_linkat, libc::EPERM)],
        ] {
            let (folder, path) = file(b"mine");
            // All that a file can must be given or taken.
            if rustix::process::geteuid().is_root() {
                chown(&path, Some(STRANGER), Some(GROUP)).unwrap();
            }
            let old = fs::metadata(&path).map(|old| (old.uid(), old.gid())).unwrap();
            let (plain, link) = (folder.path().join("plain"), folder.path().join("link"));
            symlink("plain", &link).unwrap();
            fs::write(&plain, b"mine").unwrap();
            set_acl(&path, ACCESS, &list);
            set_acl(folder.path(), DEFAULT, &list);
            let staged = Staged::<u8>::stage(&path, 3).unwrap();
            let staged_new = Staged::<u8>::stage(folder.path().join("staged new"), 3).unwrap();
            let look = |_| {
                odd = !odd;
                interrupted += i32::from(odd);
                if odd { Answer::Refused(libc::EINTR) } else { Answer::Done }
            };
            steps::at_each(&[call], look, || {
                refusing(&refusals, || {
                    bytes(3).created(&path)?.close()?;
                    bytes(3).created(&link)?.close()?;
                    bytes(3).created_new(folder.path().join("new"))?.close()?;
                    staged.publish()?;
                    staged_new.publish_new()
                })
            })
            .unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(names(folder.path()), ["data.bin", "link", "new", "plain", "staged new"], "{name}");
            assert_eq!(acl(&path).unwrap(), list);
            let new = fs::metadata(&path).unwrap();
            assert_eq!((new.uid(), new.gid()), old);
        }
        // Without root's rights there may be nothing to change the owner of.
        assert!(interrupted > before || name == "fchown", "{name}");
    }
}

/// Whoever had opened it before the old file was closed to others would have it still.
#[test]
fn under_a_temporary_name_a_file_that_replaces_another_is_its_owners_alone() {
    let (folder, path) = file(b"mine");
    for meanwhile in ["nothing", "closed", "gone"] {
        fs::write(&path, b"mine").unwrap();
        set_mode(&path, 0o664);
        let mut seen = Vec::new();
        let look = |_| {
            seen.extend(
                names(folder.path()).iter().filter(|n| n.ends_with(".tmp")).map(|n| mode(&folder.path().join(n))),
            );
            match meanwhile {
                "closed" => set_mode(&path, 0o600),
                "gone" => drop(fs::remove_file(&path)),
                _ => {}
            }
            Answer::Done
        };
        steps::at_each(&[libc::SYS_fallocate], look, || refusing(&no_unnamed_files(), || create(&path))).unwrap();
        assert!(!seen.is_empty() && seen.iter().all(|&mode| mode == 0o600), "{seen:?}");
        assert_eq!(mode(&path), if meanwhile == "closed" { 0o600 } else { 0o664 }, "{meanwhile}");
        assert_eq!(names(folder.path()), ["data.bin"]);
    }
}
