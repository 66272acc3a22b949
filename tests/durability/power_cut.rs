//! What `flush` promises holds through a power cut, which an ext4 plays that is shut down without writing its journal;
//! and what was not flushed is lost there, so that the test proves something. (Unless somebody else on the machine calls
//! `sync` in that very moment.)

use std::fs::{self, File};
use std::os::fd::AsRawFd;

use crate::support::kernel::{no_files, refusing};
use crate::support::mount::Mount;
use ndarray::prelude::*;
use ndarray_mmap::{MmapArrayMut, Staged};

const LEN: usize = 1 << 20;

fn disk() -> Mount {
    Mount::ext4(&std::env::temp_dir(), 64 << 20)
}

/// Loses all that is not on the disk, and comes back with what is.
fn cut_power(disk: &Mount) {
    const FS_IOC_SHUTDOWN: libc::Ioctl = 0x8004_587d;
    const WITHOUT_FLUSHING_THE_JOURNAL: u32 = 2;
    let root = File::open(disk.path()).unwrap();
    // SAFETY: the call reads one `u32`.
    let answer = unsafe { libc::ioctl(root.as_raw_fd(), FS_IOC_SHUTDOWN, &WITHOUT_FLUSHING_THE_JOURNAL) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    drop(root);
    disk.unmount();
    disk.again();
}

fn create(disk: &Mount, name: &str) -> MmapArrayMut<u8, Ix1> {
    // SAFETY: only this test knows the file.
    unsafe { MmapArrayMut::<u8>::create(disk.path().join(name), LEN).unwrap() }
}

#[track_caller]
fn holds(disk: &Mount, name: &str, bytes: &[u8]) {
    assert!(fs::read(disk.path().join(name)).unwrap() == bytes, "{name} has other bytes");
}

#[test]
#[ignore = "needs root: mounts file systems"]
fn what_was_flushed_survives_a_power_cut_and_what_was_not_is_lost() {
    let disk = disk();
    let mut flushed = create(&disk, "flushed.bin");
    flushed.fill(1);
    flushed.flush().unwrap();
    let mut unflushed = create(&disk, "unflushed.bin");
    unflushed.fill(1);
    // Not enough: `close` and `drop` do not wait for the disk, and starting to write is no end.
    unflushed.flush_async().unwrap();
    unflushed.close().unwrap();
    flushed.close().unwrap();
    cut_power(&disk);
    assert_eq!(disk.names(), ["flushed.bin"]);
    holds(&disk, "flushed.bin", &[1; LEN]);
}

/// The file system is synced instead.
#[test]
#[ignore = "needs root: mounts file systems"]
fn a_name_survives_a_power_cut_where_its_folder_cannot_be_opened() {
    let disk = disk();
    let mut a = create(&disk, "flushed.bin");
    a.fill(1);
    refusing(&no_files(libc::EACCES), || a.flush()).unwrap();
    drop(a);
    cut_power(&disk);
    assert_eq!(disk.names(), ["flushed.bin"]);
    holds(&disk, "flushed.bin", &[1; LEN]);
}

#[test]
#[ignore = "needs root: mounts file systems"]
fn replacing_a_file_is_all_or_nothing_in_a_power_cut() {
    let disk = disk();
    for name in ["flushed.bin", "unflushed.bin"] {
        fs::write(disk.path().join(name), [9; LEN]).unwrap();
    }
    rustix::fs::syncfs(File::open(disk.path()).unwrap()).unwrap();
    let mut flushed = create(&disk, "flushed.bin");
    flushed.fill(1);
    flushed.flush().unwrap();
    let mut unflushed = create(&disk, "unflushed.bin");
    unflushed.fill(1);
    drop((flushed, unflushed));
    cut_power(&disk);
    holds(&disk, "flushed.bin", &[1; LEN]);
    holds(&disk, "unflushed.bin", &[9; LEN]);
    assert_eq!(disk.names(), ["flushed.bin", "unflushed.bin"]);
}

#[test]
#[ignore = "needs root: mounts file systems"]
fn rows_that_were_flushed_survive_a_power_cut_without_the_others() {
    let disk = disk();
    let path = disk.path().join("a.bin");
    // SAFETY: only this test knows the file.
    let mut a = unsafe { MmapArrayMut::<u8>::create(&path, (16, LEN)).unwrap() };
    a.flush().unwrap();
    a.fill(1);
    a.flush_rows(3..5).unwrap();
    drop(a);
    cut_power(&disk);
    let bytes = fs::read(&path).unwrap();
    let row_is = |row: usize, x: u8| bytes[row * LEN..][..LEN].iter().all(|&y| y == x);
    assert!((3..5).all(|row| row_is(row, 1)));
    // The system may hold up to 2 MiB in one piece, and writes it as one.
    assert!((8..16).all(|row| row_is(row, 0)));
}

#[test]
#[ignore = "needs root: mounts file systems"]
fn growth_that_was_flushed_survives_a_power_cut() {
    let disk = disk();
    for (name, flush) in [("flushed.bin", true), ("unflushed.bin", false)] {
        let mut a = create(&disk, name);
        a.fill(1);
        a.flush().unwrap();
        a.append(&Array1::from_elem(LEN, 2)).unwrap();
        if flush {
            a.flush().unwrap();
        }
    }
    cut_power(&disk);
    holds(&disk, "flushed.bin", &[[1; LEN], [2; LEN]].concat());
    holds(&disk, "unflushed.bin", &[1; LEN]);
}

#[test]
#[ignore = "needs root: mounts file systems"]
fn what_was_published_survives_a_power_cut() {
    let disk = disk();
    let mut staged = Staged::<u8>::stage(disk.path().join("a.bin"), LEN).unwrap();
    staged.fill(1);
    staged.publish().unwrap();
    cut_power(&disk);
    holds(&disk, "a.bin", &[1; LEN]);
}
