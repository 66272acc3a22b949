//! What was stored survives the end of the process, whatever ends it, without a flush; what has no name leaves nothing.

use std::fs;

use crate::support::process::in_child;
use ndarray::prelude::*;
use ndarray_mmap::MmapArrayMut;

const LEN: usize = 1 << 20;

fn kill_self() {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

fn create(name: &str) -> MmapArrayMut<u8, Ix1> {
    // SAFETY: only this test knows the file.
    unsafe { MmapArrayMut::<u8>::create(name, LEN).unwrap() }
}

#[test]
fn stores_survive_a_kill() {
    let (report, folder) = in_child!(|| {
        let mut a = create("a.bin");
        a.fill(1);
        a.append(&Array1::from_elem(10, 2)).unwrap();
        a[0] = 3;
        kill_self();
    })
    .run_in_folder();
    report.killed_by(libc::SIGKILL);
    let bytes = fs::read(folder.path().join("a.bin")).unwrap();
    let mut expected = [vec![1u8; LEN], vec![2; 10]].concat();
    expected[0] = 3;
    assert!(bytes == expected);
}

#[cfg(target_os = "linux")]
#[test]
fn what_was_not_published_leaves_nothing_after_a_kill() {
    let (report, folder) = in_child!(|| {
        fs::write("b.bin", "there before").unwrap();
        let mut a = ndarray_mmap::Staged::<u8>::stage("a.bin", LEN).unwrap();
        let mut b = ndarray_mmap::Staged::<u8>::stage("b.bin", LEN).unwrap();
        a.fill(1);
        b.fill(1);
        a.flush().unwrap();
        kill_self();
    })
    .run_in_folder();
    report.killed_by(libc::SIGKILL);
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["b.bin"]);
    assert_eq!(fs::read(folder.path().join("b.bin")).unwrap(), b"there before");
}
