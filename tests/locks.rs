//! Locks: two openings that would break each other's promise find out, in one process as in two.
#![cfg(unix)]

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};

use common::{Creates, Doors, file, photo, refused};
use ndarray_mmap::{
    ErrorKind, Lock, MmapArray, MmapArrayBase, MmapArrayCow, MmapArrayMut, Result,
    mode::{OpenExisting, Supports},
};

const PATH: &str = "NDARRAY_MMAP_TEST_PATH";
const DOOR: &str = "NDARRAY_MMAP_TEST_DOOR";

/// The ways to open a file that differ in the lock they take.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Door {
    Reading,
    Copying,
    Writing,
    Loading,
}

use Door::{Copying, Loading, Reading, Writing};

impl Door {
    const ALL: [Self; 4] = [Reading, Copying, Writing, Loading];

    /// OpenExisting, and gives what is held open, if anything.
    fn open(self, path: &Path, lock: Lock) -> Result<Box<dyn std::any::Any + Send>> {
        Ok(match self {
            Reading => Box::new(MmapArray::<u8>::options().lock(lock).opened(path)?),
            Copying => Box::new(MmapArrayCow::<u8>::options().lock(lock).opened(path)?),
            Writing => Box::new(MmapArrayMut::<u8>::options().lock(lock).opened(path)?),
            Loading => Box::new(MmapArray::<u8>::options().lock(lock).load(path)?),
        })
    }

    /// Whether an array opened by this one excludes `other`.
    fn excludes(self, other: Self) -> bool {
        self != Loading && (self == Writing || other == Writing)
    }
}

/// OpenExisting `second` by every door while `first` is open, and tells whether what happens is right.
fn conflicts_are_right(path: &Path, first: Door) {
    for second in Door::ALL {
        for lock in [Lock::BestEffort, Lock::Required] {
            let opened = second.open(path, lock);
            if first.excludes(second) {
                let e = refused(opened, ErrorKind::Locked);
                assert!(e.to_string().contains("`Lock::None`"), "{e}");
                assert_eq!(e.path(), Some(path));
                assert_eq!(std::io::Error::from(e).kind(), std::io::ErrorKind::WouldBlock);
            } else {
                assert!(opened.is_ok(), "{second:?} beside {first:?}");
            }
        }
        assert!(second.open(path, Lock::None).is_ok(), "{second:?}");
    }
}

#[test]
fn two_openings_in_one_process_conflict_if_one_writes() {
    let (folder, path) = file(&[1_u8; 100]);
    let before = photo(folder.path());
    for first in Door::ALL {
        for lock in [Lock::BestEffort, Lock::Required] {
            let held = first.open(&path, lock).unwrap();
            conflicts_are_right(&path, first);
            drop(held);
        }
        let unlocked = first.open(&path, Lock::None).unwrap();
        assert!(Writing.open(&path, Lock::Required).is_ok(), "beside an unlocked {first:?}");
        drop(unlocked);
    }
    assert_eq!(photo(folder.path()), before);
}

/// A child process that has the file open, until it is told to end or killed.
fn holder(path: &Path, door: Door) -> Child {
    let mut child = common::again("two_processes_conflict_as_two_openings_do");
    child.env(PATH, path).env(DOOR, format!("{door:?}"));
    let mut child = child.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "open\n");
    child
}

/// What the child does.
fn hold() {
    let path = std::env::var_os(PATH).unwrap();
    let name = std::env::var(DOOR).unwrap();
    let door = Door::ALL.into_iter().find(|door| format!("{door:?}") == name).unwrap();
    let held = door.open(Path::new(&path), Lock::BestEffort).unwrap();
    eprintln!("open");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    drop(held);
}

#[test]
fn two_processes_conflict_as_two_openings_do() {
    if common::in_child() {
        return hold();
    }
    let (folder, path) = file(&[1_u8; 100]);
    let before = photo(folder.path());
    for first in Door::ALL {
        let mut child = holder(&path, first);
        conflicts_are_right(&path, first);
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(child.wait().unwrap().success());
        assert!(Writing.open(&path, Lock::Required).is_ok(), "after {first:?}");
    }
    assert_eq!(photo(folder.path()), before);
}

#[test]
fn the_lock_of_a_killed_process_is_free() {
    let (_folder, path) = file(&[1_u8; 100]);
    let mut child = holder(&path, Writing);
    refused(Reading.open(&path, Lock::BestEffort), ErrorKind::Locked);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(Writing.open(&path, Lock::Required).is_ok());
}

#[test]
fn dropping_closing_and_failing_release_the_lock() -> Result<()> {
    let (_folder, path) = file(&[1_u8; 100]);
    drop(MmapArrayMut::<u8>::options().opened(&path)?);
    MmapArrayMut::<u8>::options().opened(&path)?.close()?;
    refused(MmapArrayMut::<u8>::options().shape(101).opened(&path), ErrorKind::TooShort);
    refused(MmapArray::<[u8; 7]>::options().opened(&path), ErrorKind::LengthNotMultiple);
    refused(MmapArray::<u8>::options().shape(101).load(&path), ErrorKind::TooShort);
    let fixed = MmapArray::<u8>::options().opened(&path)?;
    refused(fixed.into_dimensionality::<ndarray::Ix2>(), ErrorKind::ShapeMismatch);
    assert!(Writing.open(&path, Lock::Required).is_ok());
    Ok(())
}

#[test]
fn the_lock_goes_with_the_array_through_its_dimensions() -> Result<()> {
    fn goes<M: Supports<u8> + OpenExisting>(path: &Path) -> Result<()> {
        let array = MmapArrayBase::<u8, ndarray::IxDyn, M>::options().opened(path)?;
        let array = array.into_dimensionality::<ndarray::Ix1>()?;
        refused(MmapArrayMut::<u8>::options().opened(path), ErrorKind::Locked);
        let moved = Box::new(array.into_dimensionality::<ndarray::IxDyn>()?);
        refused(MmapArrayMut::<u8>::options().opened(path), ErrorKind::Locked);
        moved.close()
    }
    let (_folder, path) = file(&[1_u8; 100]);
    goes::<ndarray_mmap::ReadOnly>(&path)?;
    goes::<ndarray_mmap::ReadWrite>(&path)?;
    goes::<ndarray_mmap::CopyOnWrite>(&path)
}

#[test]
fn an_array_without_elements_holds_its_lock_too() -> Result<()> {
    let (_folder, path) = file::<u8>(&[]);
    let _empty = MmapArrayMut::<u8>::options().opened(&path)?;
    refused(Reading.open(&path, Lock::BestEffort), ErrorKind::Locked);
    Ok(())
}

#[test]
fn by_handle_no_lock_is_taken_unless_asked_for() -> Result<()> {
    let (_folder, path) = file(&[1_u8; 100]);
    let open = || File::options().read(true).write(true).open(&path).unwrap();
    let handle = open();
    let unlocked = MmapArrayMut::<u8>::options().mapped(&handle)?;
    let writer = MmapArrayMut::<u8>::options().lock(Lock::Required).opened(&path)?;
    // Nor is it minded.
    assert_eq!(MmapArray::<u8>::options().mapped(&handle)?.len(), unlocked.len());
    refused(MmapArray::<u8>::options().lock(Lock::BestEffort).mapped(&open()), ErrorKind::Locked);
    drop((unlocked, writer));

    // Once asked for it belongs to the handle: it outlives the array, and goes with the handle.
    let locked = MmapArrayMut::<u8>::options().lock(Lock::BestEffort).mapped(&handle)?;
    refused(Reading.open(&path, Lock::BestEffort), ErrorKind::Locked);
    locked.close()?;
    refused(Reading.open(&path, Lock::BestEffort), ErrorKind::Locked);
    drop(handle);
    assert!(Reading.open(&path, Lock::BestEffort).is_ok());
    Ok(())
}

/// As the documentation of `map` says.
#[cfg(unix)]
#[test]
fn a_lock_of_the_callers_own_handle_is_converted_and_stays_so() -> Result<()> {
    let (_folder, path) = file(&[1_u8; 100]);
    let handle = File::options().read(true).write(true).open(&path).unwrap();
    handle.lock().unwrap();
    refused(Reading.open(&path, Lock::BestEffort), ErrorKind::Locked);
    MmapArray::<u8>::options().lock(Lock::Required).mapped(&handle)?.close()?;
    drop(Reading.open(&path, Lock::BestEffort)?);
    let writer = MmapArrayMut::<u8>::options().lock(Lock::Required).mapped(&handle)?;
    let _beside = MmapArrayMut::<u8>::options().lock(Lock::Required).mapped(&handle)?;
    refused(Reading.open(&path, Lock::BestEffort), ErrorKind::Locked);
    drop(writer);
    refused(Reading.open(&path, Lock::BestEffort), ErrorKind::Locked);
    handle.unlock().unwrap();
    drop(Reading.open(&path, Lock::BestEffort)?);
    Ok(())
}

#[test]
fn nothing_grows_under_a_lock_of_others() -> Result<()> {
    let (folder, path) = file(&[1_u8; 100]);
    let _reader = MmapArray::<u8>::options().opened(&path)?;
    let before = photo(folder.path());
    refused(MmapArrayMut::<u8>::options().shape(200).extend(true).opened(&path), ErrorKind::Locked);
    assert_eq!(photo(folder.path()), before);
    // To replace it disturbs nobody.
    drop(MmapArrayMut::<u8>::options().shape(200).created(&path)?);
    Ok(())
}

/// As while another thread starts a child process, which for a moment has a copy of every descriptor.
#[cfg(target_os = "linux")]
#[test]
fn releasing_does_not_wait_for_copies_of_the_descriptor() -> Result<()> {
    use std::os::fd::{BorrowedFd, RawFd};
    use std::os::unix::fs::MetadataExt;
    let copy_of_descriptor = |path: &Path| {
        let inode = std::fs::metadata(path).unwrap().ino();
        let open = std::fs::read_dir("/proc/self/fd").unwrap().map(|e| e.unwrap().path());
        let mut to_it = open.filter(|fd| std::fs::metadata(fd).is_ok_and(|to| to.ino() == inode));
        let number: RawFd = to_it.next().unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap();
        // SAFETY: it is open: the array has it.
        unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned().unwrap()
    };
    let (_folder, path) = file(&[1_u8; 100]);
    let writer = MmapArrayMut::<u8>::options().opened(&path)?;
    let copy = copy_of_descriptor(&path);
    drop(writer);
    assert!(Writing.open(&path, Lock::Required).is_ok());
    let created = MmapArrayMut::<u8>::options().shape(3).created(&path)?;
    let another = copy_of_descriptor(&path);
    created.close()?;
    assert!(Writing.open(&path, Lock::Required).is_ok());
    drop((copy, another));
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_system_without_locks_is_fine_unless_one_is_required() {
    use common::kernel::{no, refusing};
    let (folder, path) = file(&[1_u8; 100]);
    let new = folder.path().join("new");
    // What NFS, Lustre and others say; 524 is the kernel's own ENOTSUPP.
    for errno in [libc::ENOSYS, libc::EOPNOTSUPP, libc::EINVAL, 524] {
        refusing(&[no(libc::SYS_flock, errno)], || {
            for door in Door::ALL {
                assert!(door.open(&path, Lock::BestEffort).is_ok(), "{door:?}");
                assert!(door.open(&path, Lock::None).is_ok(), "{door:?}");
                let e = refused(door.open(&path, Lock::Required), ErrorKind::Unsupported);
                assert!(e.to_string().contains("`Lock::Required`"), "{e}");
            }
            let create = MmapArrayMut::<u8>::options().shape(3);
            assert!(create.clone().created(&new).is_ok());
            let before = photo(folder.path());
            refused(create.clone().lock(Lock::Required).created(&new), ErrorKind::Unsupported);
            refused(create.lock(Lock::Required).created_new(folder.path().join("newer")), ErrorKind::Unsupported);
            assert_eq!(photo(folder.path()), before);
        });
    }
}
