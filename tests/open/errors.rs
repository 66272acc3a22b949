//! Errors from real situations: each has its kind, names the numbers and the file, and leaves every file as it was.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::support::arrays::{CreateExt, OpenExt, expect_err, expect_io_err, file};
#[cfg(target_os = "linux")]
use crate::support::kernel;
use crate::support::process::in_child;
use crate::support::snapshot::{names, snapshot};
use ndarray::prelude::*;
use ndarray_mmap::{ErrorKind, MmapArray, MmapArrayCow, MmapArrayMut, Result};
use rustix::fs::{CWD, FileType, Mode};

/// Checks the result of each constructor that opens this path, and that none of them touches anything in its folder.
#[track_caller]
fn every_constructor(path: &Path, check: impl Fn(Result<()>)) {
    let folder = path.parent().unwrap();
    let before = folder.is_dir().then(|| snapshot(folder));
    check(MmapArray::<u16>::options().opened(path).map(drop));
    check(MmapArray::<u16>::options().shape(4).opened(path).map(drop));
    check(MmapArray::<u16>::options().shape((2, 0)).opened(path).map(drop));
    check(MmapArray::<u16>::options().row_shape(2).populate(true).opened(path).map(drop));
    check(MmapArray::<u16>::load(path).map(drop));
    check(MmapArrayCow::<u16>::options().opened(path).map(drop));
    check(MmapArrayCow::<u16>::load(path).map(drop));
    check(MmapArrayMut::<u16>::options().opened(path).map(drop));
    check(MmapArrayMut::<u16>::options().shape(4).extend(true).opened(path).map(drop));
    assert_eq!(folder.is_dir().then(|| snapshot(folder)), before);
}

fn fifo(folder: &Path) -> PathBuf {
    let path = folder.join("fifo");
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    path
}

#[test]
fn a_fifo_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = fifo(folder.path());
    every_constructor(&fifo, |result| {
        let e = expect_err(result, ErrorKind::NotRegularFile);
        assert_eq!(e.path(), Some(fifo.as_path()));
    });
}

#[test]
fn devices_are_refused() {
    for device in ["/dev/null", "/dev/zero", "/dev/urandom"] {
        for result in [
            MmapArray::<u8>::options().opened(device).map(drop),
            MmapArray::<u8>::options().shape(4).opened(device).map(drop),
            MmapArray::<u8>::load(device).map(drop),
            MmapArrayCow::<u8>::options().shape(4).opened(device).map(drop),
            MmapArrayMut::<u8>::options().shape(4).extend(true).opened(device).map(drop),
            MmapArrayMut::<u8>::options().shape(4).created(device).map(drop),
        ] {
            expect_err(result, ErrorKind::NotRegularFile);
        }
        let handle = File::options().read(true).write(true).open(device).unwrap();
        expect_err(MmapArray::<u8>::options().shape(4).mapped(&handle), ErrorKind::NotRegularFile);
        expect_err(MmapArray::<u8>::options().shape(4).map_sealed(&handle), ErrorKind::NotRegularFile);
    }
}

#[test]
fn a_directory_is_refused_in_the_words_of_the_system_or_ours() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    every_constructor(&inner, |result| {
        let e = result.unwrap_err();
        let kind = if e.kind() == ErrorKind::Io { io::Error::from(e).kind() } else { io::ErrorKind::IsADirectory };
        assert_eq!(kind, io::ErrorKind::IsADirectory);
    });
    let e = expect_err(MmapArray::<u8>::load(&inner), ErrorKind::NotRegularFile);
    assert!(e.to_string().contains("a directory"), "{e}");
    expect_io_err(MmapArrayMut::<u8>::options().opened(&inner), io::ErrorKind::IsADirectory);
}

#[test]
fn a_socket_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    every_constructor(&socket, |result| {
        // The system does not open it at all.
        let kind = result.unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::Io | ErrorKind::NotRegularFile), "{kind:?}");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn files_that_the_kernel_makes_up_are_refused() {
    // They claim to be regular, and to hold nothing, or a page.
    for path in ["/proc/self/maps", "/proc/cpuinfo"] {
        let e = expect_io_err(MmapArray::<u8>::options().opened(path), io::ErrorKind::Unsupported);
        assert!(e.to_string().contains("says that it has none"), "{e}");
        expect_err(MmapArray::<u8>::options().shape(1).opened(path), ErrorKind::Io);
        expect_err(MmapArray::<u8>::load(path), ErrorKind::Io);
        expect_err(MmapArray::<u8>::options().mapped(&File::open(path).unwrap()), ErrorKind::Io);
    }
    let cannot_map = MmapArray::<u8>::options().opened("/sys/kernel/mm/transparent_hugepage/enabled");
    let e = expect_err(cannot_map, ErrorKind::Io);
    assert!(e.to_string().contains("cannot map the file"), "{e}");
    expect_err(MmapArray::<u8>::load("/sys/kernel/mm/transparent_hugepage/enabled"), ErrorKind::TooShort);
}

#[test]
fn a_path_that_leads_nowhere_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    symlink("gone", at("dangling")).unwrap();
    symlink("loop", at("loop")).unwrap();
    fs::write(at("plain"), [0; 8]).unwrap();
    let fails = |path: PathBuf, kind: io::ErrorKind| {
        every_constructor(&path, |result| {
            let e = expect_io_err(result, kind);
            assert_eq!(e.path(), Some(path.as_path()));
            assert!(e.to_string().starts_with(&path.display().to_string()), "{e}");
        });
    };
    fails(at("absent"), io::ErrorKind::NotFound);
    fails(at("dangling"), io::ErrorKind::NotFound);
    fails(at("no/such/folder"), io::ErrorKind::NotFound);
    fails(at("plain/inner"), io::ErrorKind::NotADirectory);
    fails(folder.path().join(OsStr::from_bytes(b"nul\0inside")), io::ErrorKind::InvalidInput);
    fails(at(&"n".repeat(256)), io::ErrorKind::InvalidFilename);
    expect_io_err(MmapArray::<u8>::load(""), io::ErrorKind::NotFound);
    expect_err(MmapArray::<u8>::load(at("loop")), ErrorKind::Io);
}

#[test]
fn names_of_any_bytes_and_of_full_length_are_fine() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    for name in [&b"\xff\xfe not text \xe9"[..], &[b'n'; 255], b" ", b"\n", "größe 測.bin".as_bytes()] {
        let path = folder.path().join(OsStr::from_bytes(name));
        MmapArrayMut::<u8>::options().shape(3).created(&path)?.fill(7);
        let a = MmapArray::<u8>::options().opened(&path)?;
        assert_eq!((a.sum(), a.path()), (21, Some(path.as_path())));
        let e = expect_err(MmapArray::<u8>::options().shape(4).opened(&path), ErrorKind::TooShort);
        assert_eq!(e.path(), Some(path.as_path()));
        assert!(!e.to_string().is_empty() && !format!("{e:?}").is_empty());
    }
    Ok(())
}

#[test]
fn the_error_of_a_file_that_is_too_short_has_both_lengths() {
    let (folder, path) = file(&[0_u8; 4096]);
    let before = snapshot(folder.path());
    for (result, remedy) in [
        (MmapArray::<f32>::options().offset(128).shape((1000, 2)).opened(&path).map(drop), ""),
        (MmapArrayCow::<f32>::options().offset(128).shape((1000, 2)).opened(&path).map(drop), ""),
        (MmapArray::<f32>::options().offset(128).shape((1000, 2)).load(&path).map(drop), ""),
        (
            MmapArrayMut::<f32>::options().offset(128).shape((1000, 2)).opened(&path).map(drop),
            "; `.extend(true)` would grow it",
        ),
    ] {
        let e = expect_err(result, ErrorKind::TooShort);
        let sentence = "file is 4096 bytes, but offset 128 and shape [1000, 2] of f32 need 8128";
        assert_eq!(e.to_string(), format!("{}: {sentence}{remedy}", path.display()));
        assert_eq!(io::Error::from(e).kind(), io::ErrorKind::UnexpectedEof);
    }
    expect_err(MmapArray::<u8>::options().shape(4097).opened(&path), ErrorKind::TooShort);
    expect_err(MmapArray::<u8>::options().offset(4096).shape(1).opened(&path), ErrorKind::TooShort);
    let e = expect_err(MmapArray::<u8>::options().offset(5000).opened(&path), ErrorKind::TooShort);
    assert!(e.to_string().contains("4096 bytes") && e.to_string().contains("offset 5000"), "{e}");
    let e = expect_err(MmapArray::<[u8; 5]>::options().opened(&path), ErrorKind::LengthNotMultiple);
    assert!(e.to_string().contains("4096 bytes") && e.to_string().contains("the 5 bytes of one [u8; 5]"), "{e}");
    assert_eq!(io::Error::from(e).kind(), io::ErrorKind::InvalidData);
    assert_eq!(snapshot(folder.path()), before);
}

#[test]
fn an_empty_file_is_an_empty_array_and_too_short_for_any_other() -> Result<()> {
    let (folder, path) = file::<u8>(&[]);
    let before = snapshot(folder.path());
    assert_eq!(MmapArray::<f64>::options().opened(&path)?.len(), 0);
    assert_eq!(MmapArrayCow::<f64>::options().opened(&path)?.len(), 0);
    assert_eq!(MmapArrayMut::<f64>::options().extend(true).opened(&path)?.len(), 0);
    assert_eq!(MmapArray::<f64>::options().row_shape(3).load(&path)?.dim(), (0, 3));
    expect_err(MmapArray::<f64>::options().shape(1).opened(&path), ErrorKind::TooShort);
    expect_err(MmapArrayMut::<f64>::options().shape(1).opened(&path), ErrorKind::TooShort);
    expect_err(MmapArray::<f64>::options().offset(8).opened(&path), ErrorKind::TooShort);
    assert_eq!(snapshot(folder.path()), before);
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_may_not_be_written_opens_for_reading_only() {
    let (folder, path) = file(&[7_u8; 8]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let before = snapshot(folder.path());
    kernel::as_nobody(|| {
        assert_eq!(MmapArray::<u8>::options().opened(&path).unwrap()[7], 7);
        let mut c = MmapArrayCow::<u8>::options().opened(&path).unwrap();
        c.fill(9);
        assert_eq!((c[0], MmapArray::<u8>::load(&path).unwrap()[0]), (9, 7));
        let denied = io::ErrorKind::PermissionDenied;
        expect_io_err(MmapArrayMut::<u8>::options().opened(&path), denied);
        expect_io_err(MmapArrayMut::<u8>::options().shape(9).extend(true).opened(&path), denied);
        expect_io_err(MmapArrayMut::<u8>::options().shape(9).created(&path), denied);
    });
    assert_eq!(snapshot(folder.path()), before);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o222)).unwrap();
    kernel::as_nobody(|| {
        every_constructor(&path, |result| {
            expect_io_err(result, io::ErrorKind::PermissionDenied);
        });
    });
}

#[test]
fn a_handle_must_suit_the_mode_before_anything_grows() -> Result<()> {
    let (folder, path) = file(&[7_u8; 8]);
    let before = snapshot(folder.path());
    let denied = io::ErrorKind::PermissionDenied;
    let reading = File::open(&path).unwrap();
    let writing = File::options().write(true).open(&path).unwrap();
    let appending = File::options().append(true).open(&path).unwrap();
    let all = MmapArrayMut::<u8>::options();
    for handle in [&reading, &writing, &appending] {
        let e = expect_io_err(all.clone().mapped(handle), denied);
        assert!(e.path().is_none() && e.to_string().contains("not open for reading and writing"), "{e}");
        expect_io_err(all.clone().shape(100).extend(true).mapped(handle), denied);
    }
    for handle in [&writing, &appending] {
        expect_io_err(MmapArray::<u8>::options().mapped(handle), denied);
        expect_io_err(MmapArrayCow::<u8>::options().mapped(handle), denied);
        expect_io_err(MmapArray::<u8>::options().map_sealed(handle), denied);
    }
    assert_eq!(MmapArray::<u8>::options().mapped(&reading)?.sum(), 56);
    assert_eq!(MmapArrayCow::<u8>::options().mapped(&reading)?.sum(), 56);
    expect_err(MmapArray::<u8>::options().shape(9).mapped(&reading), ErrorKind::TooShort);
    expect_err(MmapArray::<u8>::options().map_sealed(&reading), ErrorKind::Unsupported);
    assert_eq!(snapshot(folder.path()), before);
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn a_handle_that_is_only_a_path_is_refused() {
    let (_folder, path) = file(&[7_u8; 8]);
    let handle = File::options().read(true).custom_flags(libc::O_PATH).open(&path).unwrap();
    expect_io_err(MmapArray::<u8>::options().mapped(&handle), io::ErrorKind::PermissionDenied);
    expect_io_err(MmapArrayMut::<u8>::options().mapped(&handle), io::ErrorKind::PermissionDenied);
    let neither = File::options().read(true).custom_flags(libc::O_ACCMODE).open(&path).unwrap();
    expect_io_err(MmapArrayMut::<u8>::options().mapped(&neither), io::ErrorKind::PermissionDenied);
}

#[test]
fn a_handle_that_appends_is_grown_like_any_other() -> Result<()> {
    let (_folder, path) = file(b"12345678");
    let handle = File::options().read(true).append(true).open(&path).unwrap();
    let mut w = MmapArrayMut::<u8>::options().offset(4).shape(40).extend(true).mapped(&handle)?;
    w[39] = b'!';
    w[0] = b'-';
    w.flush()?;
    drop(w);
    let mut expected = b"1234-678".to_vec();
    expected.resize(44, 0);
    expected[43] = b'!';
    assert_eq!(fs::read(&path).unwrap(), expected);
    let sparse = MmapArrayMut::<u8>::options().shape(100).extend(true).preallocate(false).mapped(&handle)?;
    assert_eq!((sparse[43], fs::metadata(&path).unwrap().len()), (b'!', 100));
    Ok(())
}

#[test]
fn a_handle_is_neither_moved_nor_closed() -> Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    let (_folder, path) = file(b"12345678");
    let mut handle = File::options().read(true).write(true).open(&path).unwrap();
    handle.seek(SeekFrom::Start(3)).unwrap();
    let a = MmapArray::<u8>::options().offset(2).mapped(&handle)?;
    assert_eq!(a[0], b'3');
    let mut rest = String::new();
    handle.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "45678");
    drop(a);
    handle.rewind().unwrap();
    let b = MmapArray::<u8>::options().mapped(&handle)?;
    drop(handle);
    assert_eq!(b[7], b'8');
    Ok(())
}

#[test]
fn what_is_wrong_by_itself_is_an_error_before_the_file_is_looked_for() {
    let absent = Path::new("/no/such/file");
    expect_err(MmapArray::<f64, Ix2>::options().opened(absent), ErrorKind::ShapeMismatch);
    expect_err(MmapArray::<f64>::options().offset(4).shape(1).opened(absent), ErrorKind::Misaligned);
    expect_err(MmapArray::<f64>::options().row_shape(0).opened(absent), ErrorKind::InvalidInput);
    expect_err(MmapArray::<f64>::options().shape(usize::MAX).opened(absent), ErrorKind::Overflow);
    expect_err(MmapArray::<f64>::options().shape(usize::MAX).load(absent), ErrorKind::Overflow);
    expect_err(MmapArrayMut::<f64>::options().shape(usize::MAX).created(absent), ErrorKind::Overflow);
}

#[test]
fn a_file_cannot_be_created_without_a_shape() {
    let (folder, path) = file(&[7_u8; 8]);
    let before = snapshot(folder.path());
    for options in [MmapArrayMut::<f64>::options(), MmapArrayMut::<f64>::options().offset(8)] {
        expect_err(options.clone().created(&path), ErrorKind::ShapeRequired);
        expect_err(options.created_new(folder.path().join("new")), ErrorKind::ShapeRequired);
    }
    expect_err(MmapArrayMut::<f64>::options().row_shape(3).created(&path), ErrorKind::ShapeRequired);
    assert_eq!(snapshot(folder.path()), before);
}

#[test]
fn when_descriptors_run_out_the_message_says_what_to_raise() {
    in_child!(|| {
        let (folder, path) = file(&[1_u8; 8]);
        let handle = File::open(&path).unwrap();
        let mut held = Vec::new();
        let e = loop {
            match MmapArray::<u8>::options().opened(&path) {
                Ok(a) => held.push(a),
                Err(e) => break e,
            }
            assert!(held.len() < 64, "one descriptor for each mapped array");
        };
        let creating = MmapArrayMut::<u8>::options().shape(8).created(folder.path().join("new")).unwrap_err();
        let by_handle = MmapArray::<u8>::options().mapped(&handle).unwrap_err();
        let scratch = MmapArrayMut::<u8>::scratch(8).unwrap_err();
        for e in [e, creating, by_handle, scratch] {
            assert_eq!(e.kind(), ErrorKind::Io);
            assert!(e.to_string().contains("RLIMIT_NOFILE"), "{e}");
        }
        assert!(held.len() > 40, "{} arrays were open", held.len());
        assert_eq!(held.iter().map(|a| usize::from(a[7])).sum::<usize>(), held.len());
        // A loaded array holds none, and closing makes room.
        held.pop();
        let loaded: Vec<_> = (0..100).map(|_| MmapArray::<u8>::load(&path).unwrap()).collect();
        drop((held, loaded));
        assert_eq!(names(folder.path()), ["data.bin"]);
    })
    .after("ulimit -n 64")
    .run()
    .succeeded();
}
