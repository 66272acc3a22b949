//! Creating: a new file is put at its path, whole, as the last step; all that was there before stays as it was.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::support::arrays::{CreateExt, OpenExt, expect_err, expect_io_err, file};
use crate::support::kernel;
use crate::support::process::{in_child, tell_parent};
use crate::support::snapshot::{names, snapshot};
use ndarray::prelude::*;
use ndarray_mmap::{Error, ErrorKind, Lock, MmapArray, MmapArrayCow, MmapArrayMut, Mode, Result, Staged};
use rustix::fs::{CWD, FileType, mknodat};

fn bytes(len: usize) -> ndarray_mmap::MmapArrayOptions<u8, Ix1, ndarray_mmap::ReadWrite> {
    MmapArrayMut::<u8>::options().shape(len)
}

#[track_caller]
fn already_exists<T>(result: Result<T>) -> Error {
    expect_io_err(result, io::ErrorKind::AlreadyExists)
}

#[test]
fn a_created_file_is_as_long_as_asked_and_all_zero() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let plain = MmapArrayMut::<f64>::options().shape((3, 4)).created(at("plain"))?;
    let header = MmapArrayMut::<f64>::options().offset(128).shape((3, 4).f()).created_new(at("header"))?;
    assert_eq!((plain.sum(), header.sum()), (0.0, 0.0));
    assert_eq!((plain.mode(), header.mode()), (Mode::Create, Mode::Create));
    assert_eq!(fs::read(at("plain")).unwrap(), [0; 96]);
    assert_eq!(fs::read(at("header")).unwrap(), [0; 224]);
    assert_eq!(names(folder.path()), ["header", "plain"]);

    // Without elements the length is the offset, and reads back as no elements.
    for (name, offset) in [("empty", 0), ("only header", 80)] {
        let mut empty = MmapArrayMut::<f64>::options().offset(offset).shape((0, 4)).created(at(name))?;
        empty.fill(1.0);
        empty.flush()?;
        assert_eq!(fs::metadata(at(name)).unwrap().len(), offset);
        drop(empty);
        assert_eq!(MmapArray::<f64>::options().offset(offset).row_shape(4).opened(at(name))?.dim(), (0, 4));
    }
    Ok(())
}

#[test]
fn an_array_of_the_old_file_keeps_all_of_it() -> Result<()> {
    let (folder, path) = file(&[1_u8; 10_000]);
    let link = folder.path().join("hard link");
    fs::hard_link(&path, &link).unwrap();
    let old_inode = fs::metadata(&path).unwrap().ino();
    let handle = File::open(&path).unwrap();
    let reader = MmapArray::<u8>::options().opened(&path)?;
    let mut copy = MmapArrayCow::<u8>::options().opened(&path)?;
    copy[0] = 9;

    let mut new = bytes(3).created(&path)?;
    new.fill(2);
    assert_ne!(fs::metadata(&path).unwrap().ino(), old_inode);
    assert_eq!(fs::read(&path).unwrap(), [2; 3]);
    assert!(reader.iter().all(|&x| x == 1));
    assert_eq!((copy[0], copy[9_999]), (9, 1));
    assert_eq!((handle.metadata().unwrap().len(), fs::read(&link).unwrap()), (10_000, vec![1; 10_000]));

    // Ours too: an array may be created over one that this process is writing.
    let again = bytes(5).created(&path)?;
    new.fill(3);
    new.flush()?;
    new.close()?;
    assert_eq!((again.sum(), fs::read(&path).unwrap()), (0, vec![0; 5]));
    assert_eq!(names(folder.path()), ["data.bin", "hard link"]);
    Ok(())
}

#[test]
fn symbolic_links_are_followed_and_stay() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("inner")).unwrap();
    fs::write(at("inner/target"), b"old").unwrap();
    symlink("inner/target", at("relative")).unwrap();
    symlink(at("inner/target"), at("absolute")).unwrap();
    symlink("../relative", at("inner/chain")).unwrap();
    symlink("inner", at("folder")).unwrap();
    symlink("inner/not yet", at("dangling")).unwrap();

    for (len, link) in (1..).zip(["relative", "absolute", "inner/chain", "folder/target", "folder/../relative"]) {
        let inode = fs::metadata(at("inner/target")).unwrap().ino();
        let array = bytes(len).created(at(link))?;
        assert_eq!(array.path(), Some(at(link).as_path()));
        let target = fs::symlink_metadata(at("inner/target")).unwrap();
        assert!(target.is_file() && target.len() == len as u64 && target.ino() != inode, "{link}");
    }
    drop(bytes(7).created(at("dangling"))?);
    assert_eq!(fs::read(at("inner/not yet")).unwrap(), [0; 7]);
    for link in ["relative", "absolute", "inner/chain", "folder", "dangling"] {
        assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink(), "{link}");
    }
    assert_eq!(names(folder.path()), ["absolute", "dangling", "folder", "inner", "relative"]);
    assert_eq!(names(&at("inner")), ["chain", "not yet", "target"]);
    Ok(())
}

#[test]
fn symbolic_links_that_lead_nowhere_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    symlink("b", at("a")).unwrap();
    symlink("a", at("b")).unwrap();
    symlink("gone/too", at("no folder")).unwrap();
    symlink("plain/", at("slash")).unwrap();
    let before = snapshot(folder.path());
    let e = expect_err(bytes(3).created(at("a")), ErrorKind::Io);
    let system = fs::read(at("a")).unwrap_err();
    assert!(e.to_string().ends_with(&system.to_string()), "{e}");
    expect_io_err(bytes(3).created(at("no folder")), io::ErrorKind::NotFound);
    expect_io_err(bytes(3).created(at("slash")), io::ErrorKind::IsADirectory);
    assert_eq!(snapshot(folder.path()), before);
}

#[test]
fn what_is_no_regular_file_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("folder")).unwrap();
    mknodat(CWD, at("fifo"), FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o644), 0).unwrap();
    let _listener = UnixListener::bind(at("socket")).unwrap();
    symlink("/dev/null", at("device")).unwrap();
    symlink("fifo", at("link")).unwrap();
    let before = snapshot(folder.path());
    for name in ["folder", "fifo", "socket", "device", "link"] {
        let e = expect_err(bytes(3).created(at(name)), ErrorKind::NotRegularFile);
        assert_eq!(e.path(), Some(at(name).as_path()));
        already_exists(bytes(3).created_new(at(name)));
    }
    assert_eq!(snapshot(folder.path()), before);
}

#[test]
fn create_new_refuses_whatever_is_there() {
    let (folder, path) = file(b"mine");
    let dangling = folder.path().join("dangling");
    symlink("gone", &dangling).unwrap();
    let before = snapshot(folder.path());
    let e = already_exists(bytes(3).created_new(&path));
    assert_eq!(e.path(), Some(path.as_path()));
    already_exists(bytes(3).created_new(&dangling));
    already_exists(bytes(3).created_new(folder.path()));
    already_exists(bytes(0).created_new(&path));
    assert_eq!(snapshot(folder.path()), before);
}

#[test]
fn paths_that_name_no_file_are_an_error() {
    let (folder, path) = file(b"mine");
    let before = snapshot(folder.path());
    let text = path.to_str().unwrap();
    for (named, kind) in [
        (format!("{text}/"), io::ErrorKind::IsADirectory),
        (format!("{text}/."), io::ErrorKind::IsADirectory),
        (format!("{text} new/."), io::ErrorKind::IsADirectory),
        (format!("{text}/.."), io::ErrorKind::IsADirectory),
        (format!("{text}/../other"), io::ErrorKind::NotADirectory),
        (format!("{text}/inner"), io::ErrorKind::NotADirectory),
        (format!("{text} new/"), io::ErrorKind::IsADirectory),
        (format!("{text}-gone/inner"), io::ErrorKind::NotFound),
        (format!("{text}\0"), io::ErrorKind::InvalidInput),
        (format!("{text}{}", "n".repeat(250)), io::ErrorKind::InvalidFilename),
        (String::new(), io::ErrorKind::InvalidInput),
        ("..".into(), io::ErrorKind::IsADirectory),
    ] {
        let e = expect_io_err(bytes(3).created(&named), kind);
        assert_eq!(e.path(), Some(Path::new(&named)));
        expect_io_err(bytes(3).created_new(&named), kind);
    }
    assert_eq!(snapshot(folder.path()), before);
}

#[test]
fn the_old_mode_is_kept() -> Result<()> {
    let (_folder, path) = file(b"mine");
    for mode in [0o600, 0o640, 0o755, 0o666, 0o444 | 0o200] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        drop(bytes(3).created(&path)?);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
    }
    Ok(())
}

#[test]
fn a_new_file_gets_what_the_umask_leaves() {
    let mut child = in_child!(|| {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        // The standard library's own files show what is usual.
        fs::write(at("usual"), b"").unwrap();
        let usual = fs::metadata(at("usual")).unwrap().mode();
        drop(bytes(3).created(at("created")).unwrap());
        drop(bytes(3).created_new(at("created new")).unwrap());
        assert_eq!(fs::metadata(at("created")).unwrap().mode(), usual);
        assert_eq!(fs::metadata(at("created new")).unwrap().mode(), usual);
        // What was there counts for more.
        fs::set_permissions(at("usual"), fs::Permissions::from_mode(0o646)).unwrap();
        drop(bytes(3).created(at("usual")).unwrap());
        assert_eq!(fs::metadata(at("usual")).unwrap().mode() & 0o777, 0o646);
    });
    for umask in ["0077", "0022", "0000"] {
        child = child.after(&format!("umask {umask}"));
        child.run().succeeded();
    }
}

#[test]
#[ignore = "needs root, who may give files away"]
fn the_old_owner_is_kept() -> Result<()> {
    let (_folder, path) = file(b"mine");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(&path, Some(1234), Some(5678)).unwrap();
    drop(bytes(3).created(&path)?);
    let new = fs::metadata(&path).unwrap();
    assert_eq!((new.uid(), new.gid(), new.mode() & 0o777, new.len()), (1234, 5678, 0o640, 3));
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs root, who may give files away"]
fn the_old_group_is_kept_by_its_members() -> Result<()> {
    const GROUP: libc::gid_t = 5678;
    let (folder, path) = file(b"theirs");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
    std::os::unix::fs::chown(&path, Some(1234), Some(GROUP)).unwrap();
    kernel::as_nobody_in(&[GROUP], || bytes(3).created(&path).map(drop))?;
    let new = fs::metadata(&path).unwrap();
    assert_eq!((new.gid(), new.mode() & 0o777, new.len()), (GROUP, 0o660, 3));
    Ok(())
}

#[test]
fn a_created_file_is_locked_until_it_is_released() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.bin");
    for create in [CreateExt::created, CreateExt::created_new] {
        let array: MmapArrayMut<u8, Ix1> = create(bytes(3), path.clone())?;
        expect_err(MmapArray::<u8>::options().opened(&path), ErrorKind::Locked);
        drop(array);
        MmapArrayMut::<u8>::options().opened(&path)?.close()?;
        fs::remove_file(&path).unwrap();
    }
    let _unlocked = bytes(3).lock(Lock::None).created(&path)?;
    MmapArrayMut::<u8>::options().lock(Lock::Required).opened(&path)?;
    Ok(())
}

#[test]
fn of_many_creators_at_once_each_has_a_whole_file_and_one_stays() {
    const LEN: usize = 5000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.bin");
    let fresh = folder.path().join("fresh.bin");
    let barrier = std::sync::Barrier::new(8);
    let first = std::thread::scope(|scope| {
        let creators: Vec<_> = (1..=8_u8)
            .map(|id| {
                let (path, fresh, barrier) = (&path, &fresh, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let won = bytes(LEN).created_new(fresh).map(|mut array| array.fill(id)).is_ok();
                    for _ in 0..20 {
                        let mut array = bytes(LEN).created(path).unwrap();
                        array.fill(id);
                        assert!(array.iter().all(|&x| x == id));
                    }
                    won.then_some(id)
                })
            })
            .collect();
        let won: Vec<_> = creators.into_iter().filter_map(|c| c.join().unwrap()).collect();
        assert_eq!(won.len(), 1, "{won:?} made a path new");
        won[0]
    });
    assert_eq!(names(folder.path()), ["data.bin", "fresh.bin"]);
    assert_eq!(fs::read(&fresh).unwrap(), [first; LEN]);
    let last = fs::read(&path).unwrap();
    assert_eq!(last, [last[0]; LEN]);
}

#[test]
fn a_killed_creator_leaves_the_old_file_or_the_new_one_and_nothing_torn() {
    const PATH: &str = "NDARRAY_MMAP_TEST_PATH";
    let (_folder, path) = file(&[7_u8; 9]);
    let creator = in_child!(|| {
        let path = std::env::var_os(PATH).unwrap();
        loop {
            drop(bytes(100_000).created(&path).unwrap());
            tell_parent("made");
        }
    })
    .with(PATH, &path);
    for lines in 0..20 {
        fs::write(&path, [7; 9]).unwrap();
        let mut running = creator.start();
        for _ in 0..lines {
            assert_eq!(running.line().as_deref(), Some("made"));
        }
        running.kill();
        let left = fs::read(&path).unwrap();
        assert!(left == [7; 9] || left == [0; 100_000], "{} bytes", left.len());
        // The lock died with it.
        MmapArrayMut::<u8>::options().lock(Lock::Required).opened(&path).unwrap();
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use crate::support::kernel::{Refusal, as_nobody, no, no_files, no_renaming, no_unnamed_files, refusing};

    #[test]
    fn space_is_allocated_at_once_unless_turned_off() -> Result<()> {
        const LEN: usize = 1 << 20;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.bin");
        let stored = || fs::metadata(&path).unwrap().blocks() * 512;
        let full = bytes(LEN).created(&path)?;
        assert!(stored() >= LEN as u64, "{} bytes", stored());
        drop(full);
        let sparse = bytes(LEN).preallocate(false).created(&path)?;
        assert_eq!((sparse.len(), stored()), (LEN, 0));
        drop(sparse);
        // A file system that cannot makes it sparse all the same.
        refusing(&[no(libc::SYS_fallocate, libc::EOPNOTSUPP)], || {
            let sparse = bytes(LEN).created(&path).unwrap();
            assert_eq!((sparse.sum(), stored()), (0, 0));
        });
        drop(bytes(LEN).extend(true).opened(&path)?);
        assert_eq!(fs::metadata(&path).unwrap().len(), LEN as u64);
        drop(bytes(2 * LEN).extend(true).opened(&path)?);
        assert!(stored() >= LEN as u64, "{} bytes", stored());
        Ok(())
    }

    #[test]
    fn without_the_right_to_write_there_nothing_is_made() {
        let (folder, path) = file(b"mine");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
        let before = snapshot(folder.path());
        let denied = io::ErrorKind::PermissionDenied;
        as_nobody(|| {
            expect_io_err(bytes(3).created(&path), denied);
            expect_io_err(bytes(3).created(folder.path().join("new")), denied);
            expect_io_err(bytes(3).created_new(folder.path().join("new")), denied);
        });
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        as_nobody(|| expect_io_err(bytes(3).created(&path), denied));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(before.keys().collect::<Vec<_>>(), snapshot(folder.path()).keys().collect::<Vec<_>>());
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        // Whose file it was does not matter where the folder may be written.
        as_nobody(|| bytes(3).created(&path).map(drop)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [0; 3]);
    }

    /// A letter box: the folder cannot be opened to be synced.
    #[test]
    fn in_a_folder_that_may_be_written_but_not_read_a_new_file_is_flushed_and_published() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o333)).unwrap();
        let path = folder.path().join("new");
        as_nobody(|| -> Result<()> {
            assert!(File::open(folder.path()).is_err());
            let mut a = bytes(3).created(&path)?;
            a.fill(7);
            a.flush()?;
            a.append(&array![7])?;
            a.flush()?;
            a.close()?;
            let mut staged = Staged::<u8>::stage(&path, 5)?;
            staged.fill(7);
            staged.publish()
        })?;
        assert_eq!(fs::read(&path).unwrap(), [7; 5]);
        Ok(())
    }

    #[test]
    fn whichever_step_fails_the_old_file_stays_and_nothing_else_does() {
        let (folder, path) = file(b"mine");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let new = folder.path().join("new");
        let before = snapshot(folder.path());
        let mapping = Refusal::with(libc::SYS_mmap, 3, libc::MAP_SHARED as u32, libc::ENOMEM);
        let steps = [
            ("make", no_files(libc::EMFILE)),
            ("give the mode", vec![no(libc::SYS_fchmod, libc::EPERM)]),
            ("take the space", vec![no(libc::SYS_fallocate, libc::ENOSPC)]),
            ("grow", vec![no(libc::SYS_fallocate, libc::EOPNOTSUPP), no(libc::SYS_ftruncate, libc::ENOSPC)]),
            ("map", vec![mapping]),
            ("put at its path", [no_renaming(libc::EIO), vec![no(libc::SYS_linkat, libc::EIO)]].concat()),
        ];
        for (step, refusals) in &steps {
            for named in [vec![], no_unnamed_files()] {
                let refusals = [named, refusals.clone()].concat();
                let e = refusing(&refusals, || expect_err(bytes(5000).created(&path), ErrorKind::Io));
                assert_eq!(e.path(), Some(path.as_path()), "{step}");
                assert_eq!(snapshot(folder.path()), before, "{step}");
                if *step != "give the mode" {
                    refusing(&refusals, || expect_err(bytes(5000).created_new(&new), ErrorKind::Io));
                    assert_eq!(snapshot(folder.path()), before, "{step}");
                }
            }
        }
        let full = refusing(&steps[2].1, || bytes(5000).created(&path).unwrap_err());
        assert_eq!(io::Error::from(full).kind(), io::ErrorKind::StorageFull);
        // A new file is named by a link; one that replaces another by a rename too.
        refusing(&no_renaming(libc::EIO), || expect_err(bytes(5000).created(&path), ErrorKind::Io));
        assert_eq!(snapshot(folder.path()), before);
    }

    #[test]
    fn a_file_system_without_unnamed_files_will_do() {
        let (folder, path) = file(b"mine");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let new = folder.path().join("new");
        for more in [vec![], renaming_flags_unknown()] {
            let refusals = [no_unnamed_files(), more].concat();
            refusing(&refusals, || {
                let mut array = bytes(3).created(&path).unwrap();
                array.fill(5);
                assert_eq!(names(folder.path()), ["data.bin"]);
                let made = bytes(4).created_new(&new).unwrap();
                assert_eq!(made.path(), Some(new.as_path()));
                already_exists(bytes(9).created_new(&new));
            });
            assert_eq!((fs::read(&path).unwrap(), fs::read(&new).unwrap()), (vec![5; 3], vec![0; 4]));
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
            assert_eq!(names(folder.path()), ["data.bin", "new"]);
            assert_eq!(fs::metadata(&new).unwrap().nlink(), 1);
            fs::remove_file(&new).unwrap();
        }
    }

    #[test]
    fn what_appears_after_create_new_looked_is_spared() {
        let (folder, path) = file(b"mine");
        let before = snapshot(folder.path());
        let not_there_yet = Refusal::with(libc::SYS_statx, 2, libc::AT_SYMLINK_NOFOLLOW as u32, libc::ENOENT);
        let named = [no_unnamed_files(), renaming_flags_unknown()].concat();
        for kind in [vec![], no_unnamed_files(), named] {
            let refusals = [vec![not_there_yet], kind].concat();
            refusing(&refusals, || already_exists(bytes(3).created_new(&path)));
            assert_eq!(snapshot(folder.path()), before);
        }
    }

    /// As on NFS: renaming works, but not with the flag that spares what is there.
    fn renaming_flags_unknown() -> Vec<Refusal> {
        vec![no(libc::SYS_renameat2, libc::EINVAL)]
    }

    #[test]
    fn a_scratch_array_has_no_name_takes_its_space_and_is_gone_when_dropped() {
        const LEN: usize = 1 << 20;
        in_child!(|| {
            let folder = std::env::temp_dir();
            let in_folder = || {
                let open = fs::read_dir("/proc/self/fd").unwrap().map(|e| e.unwrap().path());
                open.filter(|fd| fs::read_link(fd).is_ok_and(|to| to.starts_with(&folder)))
                    .map(|fd| fs::metadata(fd).unwrap())
                    .collect::<Vec<_>>()
            };
            let mut array = MmapArrayMut::<u64>::scratch((LEN / 64, 8).f()).unwrap();
            assert_eq!((array.sum(), array.path(), array.strides()), (0, None, &[1, LEN as isize / 64][..]));
            array.fill(3);
            array.flush().unwrap();
            array.flush_async().unwrap();
            assert!(names(&folder).is_empty());
            let [file] = &in_folder()[..] else { panic!("{} files", in_folder().len()) };
            assert_eq!((file.nlink(), file.mode() & 0o777), (0, 0o600));
            assert!(file.blocks() * 512 >= LEN as u64);
            assert_eq!(array.sum(), 3 * LEN as u64 / 8);
            drop(array);
            assert!(in_folder().is_empty() && names(&folder).is_empty());

            let e = refusing(&no_unnamed_files(), || MmapArrayMut::<u8>::scratch(5).unwrap_err());
            assert_eq!((e.kind(), e.path()), (ErrorKind::Unsupported, Some(folder.as_path())));
            assert!(e.to_string().contains("TMPDIR"), "{e}");
            let full = [no(libc::SYS_fallocate, libc::ENOSPC)];
            let e = refusing(&full, || expect_io_err(MmapArrayMut::<u8>::scratch(5), io::ErrorKind::StorageFull));
            assert_eq!(e.path(), Some(folder.as_path()));
            assert!(in_folder().is_empty() && names(&folder).is_empty());
        })
        .run()
        .succeeded();
    }
}
