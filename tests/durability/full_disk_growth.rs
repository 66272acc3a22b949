//! A disk that fills up while arrays grow: the row that does not fit is an error, every row before it is there, and with
//! room again the array goes on.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::support::arrays::expect_io_err;
use crate::support::mount::Mount;
use ndarray::prelude::*;
use ndarray_mmap::{Lock, MmapArray, MmapArrayMut, Staged};

const MIB: usize = 1 << 20;
const COLUMNS: usize = 100;

/// One file system where running out changes nothing, and one that keeps part of what it could have.
fn small_disks() -> [Mount; 2] {
    [Mount::tmpfs(4 * MIB), Mount::ext4(&std::env::temp_dir(), 8 * MIB as u64)]
}

fn row(i: usize) -> Array2<u64> {
    Array2::from_shape_fn((1, COLUMNS), |(_, j)| (i * COLUMNS + j) as u64 + 1)
}

fn free(disk: &Mount) -> u64 {
    rustix::fs::statvfs(disk.path()).unwrap().f_bfree
}

/// Takes all that is left.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for piece in [MIB, 4096, 1] {
        while file.write_all(&vec![1; piece]).is_ok() {}
    }
    // ext4 finds out here what it has promised twice.
    let _ = file.sync_all();
}

#[track_caller]
fn holds(path: &Path, rows: usize) {
    let a = MmapArray::<u64, Ix2>::options().lock(Lock::None).load_npy(path).unwrap();
    assert_eq!(a.dim(), (rows, COLUMNS));
    assert!(a.iter().zip(1u64..).all(|(&value, i)| value == i));
    assert_eq!(fs::metadata(path).unwrap().len(), 128 + (rows * COLUMNS * 8) as u64);
}

/// In C order, and row by row: by one step of the system, or by several where a row crosses a page.
#[test]
#[ignore = "needs root: mounts file systems"]
fn the_row_that_does_not_fit_is_an_error_and_the_others_are_there() {
    for disk in small_disks() {
        for preallocate in [true, false] {
            let path = disk.path().join("log.npy");
            let options = MmapArrayMut::<u64>::options().preallocate(preallocate).shape((0, COLUMNS));
            // SAFETY: only this test knows the file.
            let mut log = unsafe { options.create_npy(&path).unwrap() };
            log.append(&row(0)).unwrap();
            fill(&disk.path().join("filler"));
            let mut rows = 1;
            let refused = loop {
                match log.append(&row(rows)) {
                    Ok(()) => rows += 1,
                    refused => break refused,
                }
                assert!(rows * COLUMNS * 8 < 8 * MIB, "more than the disk holds");
            };
            expect_io_err(refused, ErrorKind::StorageFull);
            expect_io_err(log.append(&Array2::zeros((10_000, COLUMNS))), ErrorKind::StorageFull);
            if preallocate {
                expect_io_err(log.resize(1_000_000), ErrorKind::StorageFull);
            }
            assert_eq!(log.nrows(), rows);
            holds(&path, rows);

            fs::remove_file(disk.path().join("filler")).unwrap();
            // ext4 has the space again once its journal says so.
            rustix::fs::syncfs(File::open(disk.path()).unwrap()).unwrap();
            for i in rows..rows + 10 {
                log.append(&row(i)).unwrap();
            }
            log.flush().unwrap();
            log.close().unwrap();
            holds(&path, rows + 10);
            fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
#[ignore = "needs root: mounts file systems"]
fn what_a_refused_growth_had_taken_is_given_back() {
    for disk in small_disks() {
        let path = disk.path().join("log.npy");
        // SAFETY: only this test knows the file.
        let mut log = unsafe { MmapArrayMut::<u64>::create_npy(&path, (0, COLUMNS)).unwrap() };
        log.append(&row(0)).unwrap();
        log.flush().unwrap();
        log.close().unwrap();
        // SAFETY: as above.
        let mut log = unsafe { MmapArrayMut::<u64, Ix2>::open_npy(&path).unwrap() };
        let before = free(&disk);
        expect_io_err(log.resize(1_000_000), ErrorKind::StorageFull);
        expect_io_err(log.append(&Array2::zeros((100_000, COLUMNS))), ErrorKind::StorageFull);
        log.close().unwrap();
        assert!(free(&disk) + 1 >= before, "{} blocks free, not {before}", free(&disk));
        holds(&path, 1);
    }
}

#[test]
#[ignore = "needs root: mounts file systems"]
fn a_staged_array_has_its_space_and_is_published_on_a_full_disk() {
    for disk in small_disks() {
        let path = disk.path().join("result.npy");
        fs::write(&path, b"the old one").unwrap();
        let mut result = Staged::<u64>::stage_npy(&path, (1000, COLUMNS)).unwrap();
        fill(&disk.path().join("filler"));
        expect_io_err(result.resize(100_000), ErrorKind::StorageFull);
        expect_io_err(Staged::<u64>::stage_npy(&path, (1000, COLUMNS)), ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"the old one");
        for i in 0..1000 {
            result.row_mut(i).assign(&row(i).row(0));
        }
        result.publish().unwrap();
        holds(&path, 1000);
        assert_eq!(disk.names(), ["filler", "result.npy"]);
    }
}
