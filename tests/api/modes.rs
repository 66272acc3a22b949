//! What each mode does with its file: who sees what is stored, what stays as it was, and what reaches the disk.

use std::fs;

use crate::support::arrays::{CreateExt, OpenExt, expect_err, file, sparse};
#[cfg(target_os = "linux")]
use crate::support::process::in_child;
use crate::support::snapshot::snapshot;
use ndarray::prelude::*;
use ndarray_mmap::{
    ErrorKind, Lock, MmapArray, MmapArrayBase, MmapArrayCow, MmapArrayMut, Result,
    mode::{OpenExisting, Supports, Writable},
};

#[test]
fn nothing_stored_copy_on_write_reaches_the_file() -> Result<()> {
    let (folder, path) = file(&[1_u32; 10_000]);
    let before = snapshot(folder.path());
    let mut c = MmapArrayCow::<u32>::options().opened(&path)?;
    let mut other = MmapArrayCow::<u32>::options().offset(4).shape(9_000).opened(&path)?;
    let reader = MmapArray::<u32>::options().opened(&path)?;
    c.fill(2);
    c[9_999] = 3;
    other[0] = 4;
    assert_eq!((c[0], c[1], other[0], other[1]), (2, 2, 4, 1));
    assert!(reader.iter().all(|&x| x == 1));
    // Giving pages back must not give up what only they hold.
    c.evict()?;
    assert_eq!((c[0], c[9_999], c.sum()), (2, 3, 20_001));
    c.close()?;
    drop((other, reader));
    assert_eq!(snapshot(folder.path()), before);
    Ok(())
}

#[test]
fn a_file_larger_than_memory_opens_in_every_mode() -> Result<()> {
    // Sparse: it takes no space. No machine that runs tests has that much memory and swap.
    const LEN: u64 = 1 << 40;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.bin");
    drop(sparse(&path, LEN));
    let mut c = MmapArrayCow::<u64>::options().row_shape(1 << 20).opened(&path)?;
    assert_eq!(c.dim(), (1 << 17, 1 << 20));
    c[[1 << 16, 7]] = 9;
    c.row_mut((1 << 17) - 1).slice_mut(s![..1000]).fill(8);
    assert_eq!((c[[1 << 16, 7]], c[[1 << 16, 8]], c[[(1 << 17) - 1, 999]]), (9, 0, 8));
    let r = MmapArray::<u64>::options().opened(&path)?;
    assert_eq!(r[r.len() - 1], 0);
    drop((c, r));
    let w = MmapArrayMut::<u64>::options().opened(&path)?;
    assert_eq!(w[w.len() - 1], 0);
    Ok(())
}

#[test]
fn a_file_opened_read_write_changes_where_it_is_written_and_nowhere_else() -> Result<()> {
    let (_folder, path) = file(&[7_u8; 10_000]);
    let mut w = MmapArrayMut::<u32>::options().offset(4092).shape((4, 3)).opened(&path)?;
    w.fill(u32::MAX);
    w[[3, 2]] = 0;
    // Whoever reads it sees it at once.
    let mut expected = vec![7_u8; 10_000];
    expected[4092..4136].fill(255);
    expected[4136..4140].fill(0);
    assert_eq!(fs::read(&path).unwrap(), expected);
    w.flush()?;
    w.close()?;
    assert_eq!(fs::read(&path).unwrap(), expected);
    Ok(())
}

#[test]
fn opening_and_closing_without_a_store_touches_nothing() -> Result<()> {
    let (folder, path) = file(&[7_u8; 100]);
    let before = snapshot(folder.path());
    drop(MmapArray::<u8>::options().opened(&path)?);
    drop(MmapArrayMut::<u8>::options().opened(&path)?);
    MmapArrayMut::<u8>::options().offset(3).shape(9).opened(&path)?.close()?;
    let w = MmapArrayMut::<u8>::options().shape(50).extend(true).populate(true).opened(&path)?;
    w.flush()?;
    w.flush_async()?;
    drop(w);
    drop(MmapArrayCow::<u8>::load(&path)?);
    assert_eq!(snapshot(folder.path()), before);
    Ok(())
}

#[test]
fn arrays_over_one_file_see_each_others_stores() -> Result<()> {
    let (_folder, path) = file(&[0_u16; 64]);
    let slabs = |rows: u64| MmapArrayMut::<u16>::options().offset(rows * 8).shape((8, 4)).lock(Lock::None);
    let mut first = slabs(0).opened(&path)?;
    let mut second = slabs(8).opened(&path)?;
    first.fill(1);
    second.fill(2);
    let whole = MmapArray::<u16>::options().shape((16, 4)).lock(Lock::None).opened(&path)?;
    assert_eq!(whole.column(3).to_vec(), [[1; 8], [2; 8]].concat());
    Ok(())
}

#[test]
fn a_copy_is_a_snapshot() -> Result<()> {
    let (_folder, path) = file(&[1_u8; 8192]);
    let loaded = MmapArray::<u8>::load(&path)?;
    let mut own = MmapArrayCow::<u8>::load(&path)?;
    own[1] = 5;
    MmapArrayMut::<u8>::options().opened(&path)?.fill(2);
    assert!(loaded.iter().all(|&x| x == 1));
    assert_eq!((own[0], own[1], own[2]), (1, 5, 1));
    fs::write(&path, b"cut").unwrap();
    assert!(loaded.iter().all(|&x| x == 1));
    // Larger than what the allocator is asked for: pages of its own.
    fs::write(&path, vec![3; 1 << 20]).unwrap();
    for offset in [0, 1, 4095, 4096] {
        let large = MmapArray::<[u8; 3]>::options().offset(offset).row_shape(()).shape(300_000).load(&path)?;
        assert!(large.iter().all(|&x| x == [3; 3]));
    }
    Ok(())
}

#[test]
fn extending_grows_a_short_file_by_zeros_and_only_then() -> Result<()> {
    let (_folder, path) = file(b"12345678");
    let open = |offset, len| MmapArrayMut::<u16>::options().offset(offset).shape(len).extend(true).opened(&path);
    let len = || fs::metadata(&path).unwrap().len();
    for (offset, elements, after) in [(0, 4, 8), (2, 2, 8), (0, 5, 10), (20, 3, 26), (0, 0, 26), (4, 1, 26)] {
        assert_eq!(open(offset, elements)?.len(), elements);
        assert_eq!(len(), after);
    }
    let mut expected = b"12345678".to_vec();
    expected.resize(26, 0);
    assert_eq!(fs::read(&path).unwrap(), expected);
    // Where the length makes the shape there is nothing to grow to.
    assert_eq!(MmapArrayMut::<u16>::options().extend(true).opened(&path)?.len(), 13);
    expect_err(MmapArrayMut::<u16>::options().extend(true).row_shape(4).opened(&path), ErrorKind::LengthNotMultiple);
    expect_err(MmapArrayMut::<u16>::options().shape(14).opened(&path), ErrorKind::TooShort);
    assert_eq!(len(), 26);
    let mut grown = MmapArrayMut::<u16>::options().shape(10_000).extend(true).preallocate(false).opened(&path)?;
    grown[9_999] = 1;
    grown.flush()?;
    assert_eq!(len(), 20_000);
    Ok(())
}

#[test]
fn what_was_flushed_is_there_for_the_next_to_open_the_file() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.bin");
    for order in [(5, 3000).into_shape_with_order(), (3000, 5).f()] {
        let mut w = MmapArrayMut::<f64>::options().offset(24).shape(order).created(&path)?;
        for row in 0..5 {
            w.as_slice_memory_order_mut().unwrap()[row * 3000..][..3000].fill(row as f64);
            w.flush_rows(row..row + 1)?;
            w.flush_rows(0..row)?;
            w.flush_async()?;
        }
        w.flush_rows(0..5)?;
        w.flush_rows(5..5)?;
        #[expect(clippy::reversed_empty_ranges)]
        for rows in [0..6, 5..6, 6..6, 3..2, 0..usize::MAX, usize::MAX..usize::MAX] {
            let e = expect_err(w.flush_rows(rows.clone()), ErrorKind::InvalidInput);
            assert!(e.to_string().contains(&format!("{rows:?}")) && e.to_string().contains("5 rows"), "{e}");
            assert_eq!(e.path(), Some(path.as_path()));
        }
        // A refused range is no failed flush.
        w.flush()?;
        w.close()?;
        let r = MmapArray::<f64>::options().offset(24).shape(order).opened(&path)?;
        assert_eq!(r.sum(), 30_000.0);
    }
    let scalar = MmapArrayMut::<f64>::options().shape(()).created(&path)?;
    scalar.flush_rows(0..1)?;
    expect_err(scalar.flush_rows(0..2), ErrorKind::InvalidInput);
    Ok(())
}

#[test]
fn a_flush_after_the_file_was_truncated_is_an_error_for_good() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.bin");
    let w = MmapArrayMut::<u8>::options().shape(10_000).created(&path)?;
    w.flush()?;
    fs::File::options().write(true).open(&path).unwrap().set_len(9_999).unwrap();
    let e = expect_err(w.flush(), ErrorKind::Truncated);
    assert!(e.to_string().contains("9999") && e.to_string().contains("10000"), "{e}");
    fs::File::options().write(true).open(&path).unwrap().set_len(10_000).unwrap();
    expect_err(w.flush(), ErrorKind::Poisoned);
    expect_err(w.flush_async(), ErrorKind::Poisoned);
    expect_err(w.flush_rows(0..0), ErrorKind::Poisoned);
    let e = expect_err(w.close(), ErrorKind::Poisoned);
    assert_eq!(e.path(), Some(path.as_path()));
    assert_eq!(MmapArray::<u8>::options().opened(&path)?.len(), 10_000);
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn a_flush_that_the_disk_refuses_is_an_error_for_good() -> Result<()> {
    use crate::support::kernel::{no, refusing};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.bin");
    for call in [libc::SYS_msync, libc::SYS_fsync] {
        let mut w = MmapArrayMut::<u8>::options().shape((100, 100)).created(&path)?;
        w.fill(1);
        let e = refusing(&[no(call, libc::EIO)], || expect_err(w.flush_rows(3..4), ErrorKind::Io));
        assert_eq!(e.path(), Some(path.as_path()));
        expect_err(w.flush(), ErrorKind::Poisoned);
        expect_err(w.flush_rows(0..1), ErrorKind::Poisoned);
        // What is in memory is still good.
        w.evict()?;
        assert_eq!(w[[99, 99]], 1);
        expect_err(w.close(), ErrorKind::Poisoned);
    }
    // What the system says when it starts to write, it may not say again.
    let w = MmapArrayMut::<u8>::options().shape(100).created(&path)?;
    refusing(&[no(libc::SYS_sync_file_range, libc::EIO)], || expect_err(w.flush_async(), ErrorKind::Io));
    expect_err(w.flush(), ErrorKind::Poisoned);
    expect_err(w.close(), ErrorKind::Poisoned);
    Ok(())
}

#[test]
fn pages_brought_in_at_once_hold_the_same() -> Result<()> {
    fn filled<M: Writable + Supports<u16> + OpenExisting>(path: &std::path::Path) -> Result<()> {
        let mut w = MmapArrayBase::<u16, IxDyn, M>::options().populate(true).opened(path)?;
        assert_eq!(w.sum(), 7 * 5000);
        #[cfg(target_os = "linux")]
        assert_eq!(w.residency()?, 1.0);
        w.fill(7);
        Ok(())
    }
    let (_folder, path) = file(&[7_u16; 5000]);
    filled::<ndarray_mmap::CopyOnWrite>(&path)?;
    filled::<ndarray_mmap::ReadWrite>(&path)?;
    assert_eq!(MmapArray::<u16>::options().populate(true).opened(&path)?.sum(), 7 * 5000);
    assert_eq!(MmapArrayMut::<u16>::options().shape(9).populate(true).created(&path)?.sum(), 0);
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn pages_brought_in_copy_on_write_are_not_copied_before_they_are_written() {
    const LEN: usize = 16 << 20;
    in_child!(|| {
        let private = || {
            let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
            let line = rollup.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
        };
        let (_folder, path) = file(&vec![7_u8; LEN]);
        let before = private();
        let mut c = MmapArrayCow::<u8>::options().populate(true).opened(&path).unwrap();
        assert!(private() < before + LEN / 4, "{} bytes", private() - before);
        c.fill(8);
        assert!(private() >= before + LEN, "{} bytes", private() - before);
    })
    .run()
    .succeeded();
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_evicted_leaves_this_process_and_comes_back() {
    const LEN: usize = 16 << 20;
    let resident = || {
        let statm = fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(2).unwrap().parse::<usize>().unwrap() * rustix::param::page_size()
    };
    in_child!(|| {
        let mut w = MmapArrayMut::<u8>::scratch(LEN).unwrap();
        let before = resident();
        w.fill(3);
        assert!(resident() >= before + LEN, "{} bytes", resident() - before);
        w.evict().unwrap();
        assert!(resident() < before + LEN / 4, "{} bytes", resident() - before);
        assert!(w.iter().all(|&x| x == 3));
    })
    .run()
    .succeeded();
}
