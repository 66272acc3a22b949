//! Locks: two openings that would break each other's promise find out, in one process as in two.

use std::fs::File;
use std::path::Path;

use crate::support::arrays::{CreateExt, OpenExt, expect_err, file};
use crate::support::process::{Child, Running, in_child, tell_parent, wait_for_parent};
use crate::support::snapshot::snapshot;
use ndarray_mmap::{
    ErrorKind, Lock, MmapArray, MmapArrayBase, MmapArrayCow, MmapArrayMut, Result,
    mode::{OpenExisting, Supports},
};

const PATH: &str = "NDARRAY_MMAP_TEST_PATH";
const OPENING: &str = "NDARRAY_MMAP_TEST_OPENING";

/// The ways to open a file that differ in the lock they take.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Opening {
    Reading,
    Copying,
    Writing,
    Loading,
}

use Opening::{Copying, Loading, Reading, Writing};

impl Opening {
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

/// OpenExisting the file in every way while `first` is open, and checks what happens.
fn conflicts_are_right(path: &Path, first: Opening) {
    for second in Opening::ALL {
        for lock in [Lock::BestEffort, Lock::Required] {
            let opened = second.open(path, lock);
            if first.excludes(second) {
                let e = expect_err(opened, ErrorKind::Locked);
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
    let before = snapshot(folder.path());
    for first in Opening::ALL {
        for lock in [Lock::BestEffort, Lock::Required] {
            let held = first.open(&path, lock).unwrap();
            conflicts_are_right(&path, first);
            drop(held);
        }
        let unlocked = first.open(&path, Lock::None).unwrap();
        assert!(Writing.open(&path, Lock::Required).is_ok(), "beside an unlocked {first:?}");
        drop(unlocked);
    }
    assert_eq!(snapshot(folder.path()), before);
}

/// What a child does, which has the file open until its parent ends or kills it.
fn hold() {
    let path = std::env::var_os(PATH).unwrap();
    let name = std::env::var(OPENING).unwrap();
    let opening = Opening::ALL.into_iter().find(|opening| format!("{opening:?}") == name).unwrap();
    let held = opening.open(Path::new(&path), Lock::BestEffort).unwrap();
    tell_parent("open");
    wait_for_parent();
    drop(held);
}

/// Starts the child, and waits until it has the file open.
fn holding(child: Child, path: &Path, opening: Opening) -> Running {
    let mut running = child.with(PATH, path).with(OPENING, format!("{opening:?}")).start();
    assert_eq!(running.line().as_deref(), Some("open"));
    running
}

#[test]
fn two_processes_conflict_as_two_openings_do() {
    let (folder, path) = file(&[1_u8; 100]);
    let before = snapshot(folder.path());
    for first in Opening::ALL {
        let holder = holding(in_child!(hold), &path, first);
        conflicts_are_right(&path, first);
        holder.finish();
        assert!(Writing.open(&path, Lock::Required).is_ok(), "after {first:?}");
    }
    assert_eq!(snapshot(folder.path()), before);
}

#[test]
fn the_lock_of_a_killed_process_is_free() {
    let (_folder, path) = file(&[1_u8; 100]);
    let holder = holding(in_child!(hold), &path, Writing);
    expect_err(Reading.open(&path, Lock::BestEffort), ErrorKind::Locked);
    holder.kill();
    assert!(Writing.open(&path, Lock::Required).is_ok());
}

#[test]
fn dropping_closing_and_failing_release_the_lock() -> Result<()> {
    let (_folder, path) = file(&[1_u8; 100]);
    drop(MmapArrayMut::<u8>::options().opened(&path)?);
    MmapArrayMut::<u8>::options().opened(&path)?.close()?;
    expect_err(MmapArrayMut::<u8>::options().shape(101).opened(&path), ErrorKind::TooShort);
    expect_err(MmapArray::<[u8; 7]>::options().opened(&path), ErrorKind::LengthNotMultiple);
    expect_err(MmapArray::<u8>::options().shape(101).load(&path), ErrorKind::TooShort);
    let fixed = MmapArray::<u8>::options().opened(&path)?;
    expect_err(fixed.into_dimensionality::<ndarray::Ix2>(), ErrorKind::ShapeMismatch);
    assert!(Writing.open(&path, Lock::Required).is_ok());
    Ok(())
}

#[test]
fn the_lock_goes_with_the_array_through_its_dimensions() -> Result<()> {
    fn goes<M: Supports<u8> + OpenExisting>(path: &Path) -> Result<()> {
        let array = MmapArrayBase::<u8, ndarray::IxDyn, M>::options().opened(path)?;
        let array = array.into_dimensionality::<ndarray::Ix1>()?;
        expect_err(MmapArrayMut::<u8>::options().opened(path), ErrorKind::Locked);
        let moved = Box::new(array.into_dimensionality::<ndarray::IxDyn>()?);
        expect_err(MmapArrayMut::<u8>::options().opened(path), ErrorKind::Locked);
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
    expect_err(Reading.open(&path, Lock::BestEffort), ErrorKind::Locked);
    Ok(())
}

/// In a process of its own: one that another thread is just starting would keep the lock of a closed handle for a moment.
#[test]
fn by_handle_no_lock_is_taken_unless_asked_for() {
    in_child!(|| {
        let (_folder, path) = file(&[1_u8; 100]);
        let open = || File::options().read(true).write(true).open(&path).unwrap();
        let handle = open();
        let unlocked = MmapArrayMut::<u8>::options().mapped(&handle).unwrap();
        let writer = MmapArrayMut::<u8>::options().lock(Lock::Required).opened(&path).unwrap();
        // Nor is it minded.
        assert_eq!(MmapArray::<u8>::options().mapped(&handle).unwrap().len(), unlocked.len());
        expect_err(MmapArray::<u8>::options().lock(Lock::BestEffort).mapped(&open()), ErrorKind::Locked);
        drop((unlocked, writer));

        // Once asked for it belongs to the handle: it outlives the array, and goes with the handle.
        let locked = MmapArrayMut::<u8>::options().lock(Lock::BestEffort).mapped(&handle).unwrap();
        expect_err(Reading.open(&path, Lock::BestEffort), ErrorKind::Locked);
        locked.close().unwrap();
        expect_err(Reading.open(&path, Lock::BestEffort), ErrorKind::Locked);
        drop(handle);
        assert!(Reading.open(&path, Lock::BestEffort).is_ok());
    })
    .run()
    .succeeded();
}

/// As the documentation of `map` says.
#[cfg(unix)]
#[test]
fn a_lock_of_the_callers_own_handle_is_converted_and_stays_so() -> Result<()> {
    let (_folder, path) = file(&[1_u8; 100]);
    let handle = File::options().read(true).write(true).open(&path).unwrap();
    handle.lock().unwrap();
    expect_err(Reading.open(&path, Lock::BestEffort), ErrorKind::Locked);
    MmapArray::<u8>::options().lock(Lock::Required).mapped(&handle)?.close()?;
    drop(Reading.open(&path, Lock::BestEffort)?);
    let writer = MmapArrayMut::<u8>::options().lock(Lock::Required).mapped(&handle)?;
    let _beside = MmapArrayMut::<u8>::options().lock(Lock::Required).mapped(&handle)?;
    expect_err(Reading.open(&path, Lock::BestEffort), ErrorKind::Locked);
    drop(writer);
    expect_err(Reading.open(&path, Lock::BestEffort), ErrorKind::Locked);
    handle.unlock().unwrap();
    drop(Reading.open(&path, Lock::BestEffort)?);
    Ok(())
}

#[test]
fn nothing_grows_under_a_lock_of_others() -> Result<()> {
    let (folder, path) = file(&[1_u8; 100]);
    let _reader = MmapArray::<u8>::options().opened(&path)?;
    let before = snapshot(folder.path());
    expect_err(MmapArrayMut::<u8>::options().shape(200).extend(true).opened(&path), ErrorKind::Locked);
    assert_eq!(snapshot(folder.path()), before);
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
    use crate::support::kernel::{no, refusing};
    let (folder, path) = file(&[1_u8; 100]);
    let new = folder.path().join("new");
    // What NFS, Lustre and others say; 524 is the kernel's own ENOTSUPP.
    for errno in [libc::ENOSYS, libc::EOPNOTSUPP, libc::EINVAL, 524] {
        refusing(&[no(libc::SYS_flock, errno)], || {
            for door in Opening::ALL {
                assert!(door.open(&path, Lock::BestEffort).is_ok(), "{door:?}");
                assert!(door.open(&path, Lock::None).is_ok(), "{door:?}");
                let e = expect_err(door.open(&path, Lock::Required), ErrorKind::Unsupported);
                assert!(e.to_string().contains("`Lock::Required`"), "{e}");
            }
            let create = MmapArrayMut::<u8>::options().shape(3);
            assert!(create.clone().created(&new).is_ok());
            let before = snapshot(folder.path());
            expect_err(create.clone().lock(Lock::Required).created(&new), ErrorKind::Unsupported);
            expect_err(create.lock(Lock::Required).created_new(folder.path().join("newer")), ErrorKind::Unsupported);
            assert_eq!(snapshot(folder.path()), before);
        });
    }
}
