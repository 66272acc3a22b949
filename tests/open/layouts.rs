//! Shapes, orders and offsets: every view is the one that memmap2 and `ArrayView::from_shape_ptr` make by hand.

use std::fs::{self, File};
use std::path::Path;

use crate::support::arrays::{CreateExt, OpenExt, expect_err, file};
use crate::support::snapshot::snapshot;
use memmap2::MmapOptions;
use ndarray::prelude::*;
use ndarray::{Dimension, IntoDimension, Shape, ShapeBuilder};
use ndarray_mmap::{ErrorKind, Lock, MmapArray, MmapArrayBase, MmapArrayCow, MmapArrayMut, Result};

fn counting(n: u32) -> Vec<u32> {
    (0..n).collect()
}

/// Opens `shape` in every mode, in both orders and at several offsets, and compares it with the view made by hand.
#[track_caller]
fn as_by_hand<I: IntoDimension<Dim = D> + Clone, D: Dimension>(path: &Path, shape: I) {
    for fortran in [false, true] {
        for offset in [0, 4, 4096, 5000] {
            let shape: Shape<D> = shape.clone().into_dimension().set_f(fortran);
            let len = shape.size() * size_of::<u32>();
            let file = File::open(path).unwrap();
            // SAFETY: nobody changes the file.
            let map = unsafe { MmapOptions::new().offset(offset).len(len).map(&file) }.unwrap();
            // SAFETY: the map is as long as the shape says, and the offsets suit a `u32`.
            let by_hand = unsafe { ArrayView::from_shape_ptr(shape.clone(), map.as_ptr().cast::<u32>()) };

            let alike = |mapped: ArrayView<u32, D>| {
                const PAGE: usize = 4096;
                assert_eq!(mapped.as_ptr().addr() % PAGE, by_hand.as_ptr().addr() % PAGE);
                assert_eq!((mapped.raw_dim(), mapped.strides()), (by_hand.raw_dim(), by_hand.strides()));
                assert_eq!(mapped.as_slice_memory_order(), by_hand.as_slice_memory_order());
                assert_eq!(mapped, by_hand);
            };
            let r = MmapArray::<u32>::options().offset(offset).shape(shape.clone()).opened(path).unwrap();
            let c = MmapArrayCow::<u32>::options().offset(offset).shape(shape.clone()).opened(path).unwrap();
            alike(r.view());
            alike(c.view());
            drop((r, c));
            let w = MmapArrayMut::<u32>::options().offset(offset).shape(shape.clone()).opened(path).unwrap();
            alike(w.view());
            drop(w);
            let l = MmapArray::<u32>::options().offset(offset).shape(shape).load(path).unwrap();
            assert_eq!((l.strides(), l.view()), (by_hand.strides(), by_hand.view()));
        }
    }
}

#[test]
fn a_view_of_any_dimension_is_as_by_hand() {
    let (_folder, path) = file(&counting(4000));
    as_by_hand(&path, ());
    as_by_hand(&path, 7);
    as_by_hand(&path, (3, 4));
    as_by_hand(&path, (4, 1));
    as_by_hand(&path, (1, 4));
    as_by_hand(&path, [2, 3, 4]);
    as_by_hand(&path, (2, 3, 4, 5));
    as_by_hand(&path, (1, 2, 1, 3, 4));
    as_by_hand(&path, (2, 3, 2, 3, 2, 3));
    as_by_hand(&path, IxDyn(&[]));
    as_by_hand(&path, vec![5]);
    as_by_hand(&path, IxDyn(&[2, 3, 4]));
    as_by_hand(&path, IxDyn(&[2, 1, 2, 1, 2, 1, 2, 1, 2, 3]));
    let mut seventy = vec![1; 70];
    (seventy[3], seventy[69]) = (5, 7);
    as_by_hand(&path, seventy);
}

#[test]
fn the_length_becomes_one_axis_where_no_shape_is_given() -> Result<()> {
    let (_folder, path) = file(&counting(10));
    let a = MmapArray::<u32>::options().offset(8).opened(&path)?;
    assert_eq!((a.ndim(), a[0], a.len()), (1, 2, 8));
    let a: MmapArray<u64, Ix1> = MmapArray::<u64, Ix1>::options().opened(&path)?;
    assert_eq!(a.len(), 5);
    // Exactly at the end there is nothing, and that is an array too.
    assert_eq!(MmapArray::<u32>::options().offset(40).opened(&path)?.shape(), [0]);
    expect_err(MmapArray::<u32>::options().offset(41).opened(&path), ErrorKind::TooShort);
    expect_err(MmapArray::<u64>::options().offset(4).opened(&path), ErrorKind::LengthNotMultiple);
    let e = expect_err(MmapArray::<u32, Ix2>::options().opened(&path), ErrorKind::ShapeMismatch);
    assert!(e.to_string().contains("`.shape()`"), "{e}");
    expect_err(MmapArray::<u32, Ix0>::options().load(&path), ErrorKind::ShapeMismatch);
    Ok(())
}

#[test]
fn rows_are_as_many_as_the_file_holds() -> Result<()> {
    let (_folder, path) = file(&counting(25));
    let a = MmapArray::<u32>::options().offset(4).row_shape((2, 3)).opened(&path)?;
    assert_eq!((a.dim(), a[[3, 1, 2]]), ((4, 2, 3), 24));
    let a = MmapArrayCow::<u32>::options().row_shape(5).opened(&path)?;
    assert_eq!((a.dim(), a[[4, 0]]), ((5, 5), 20));
    let a = MmapArrayMut::<u32>::options().row_shape(()).lock(Lock::None).opened(&path)?;
    assert_eq!(a.dim(), 25);
    let a = MmapArray::<u32>::options().row_shape(vec![5, 1]).load(&path)?;
    assert_eq!(a.shape(), [5, 5, 1]);
    assert_eq!(MmapArray::<u32>::options().offset(100).row_shape((2, 3)).opened(&path)?.dim(), (0, 2, 3));

    let e = expect_err(MmapArray::<u32>::options().row_shape((2, 3)).opened(&path), ErrorKind::LengthNotMultiple);
    assert!(e.to_string().contains("100 bytes") && e.to_string().contains("24 bytes"), "{e}");
    expect_err(MmapArray::<u32>::options().offset(104).row_shape((2, 3)).opened(&path), ErrorKind::TooShort);
    for row in [vec![0], vec![2, 0], vec![0, usize::MAX / 8]] {
        expect_err(MmapArray::<u32>::options().row_shape(row.clone()).opened(&path), ErrorKind::InvalidInput);
        expect_err(MmapArrayMut::<u32>::options().extend(true).row_shape(row).opened(&path), ErrorKind::InvalidInput);
    }
    Ok(())
}

#[test]
fn an_array_without_elements_needs_no_bytes_of_its_file() -> Result<()> {
    fn empty<M>(a: &MmapArrayBase<f64, Ix3, M>) {
        assert_eq!((a.dim(), a.len(), a.sum(), a.iter().count()), ((3, 0, 2), 0, 0.0, 0));
        assert!(a.as_ptr().is_aligned());
        assert_eq!(a.outer_iter().count(), 3);
    }
    let (folder, path) = file::<u8>(&[]);
    let before = snapshot(folder.path());
    for shape in [(3, 0, 2).into_shape_with_order(), (3, 0, 2).f()] {
        empty(&MmapArray::<f64>::options().shape(shape).opened(&path)?);
        empty(&MmapArrayCow::<f64>::options().shape(shape).opened(&path)?);
        empty(&MmapArray::<f64>::options().shape(shape).load(&path)?);
        let mut w = MmapArrayMut::<f64>::options().shape(shape).extend(true).opened(&path)?;
        empty(&w);
        w.fill(1.0);
        *w += 1.0;
        w.swap_axes(0, 1);
        assert_eq!(w.get((0, 0, 0)), None);
        w.flush()?;
        w.flush_async()?;
        w.flush_rows(0..2)?;
        w.evict()?;
        assert_eq!(w.residency()?, 1.0);
        w.close()?;
        expect_err(MmapArray::<f64>::options().shape(shape).offset(1).opened(&path), ErrorKind::TooShort);
        let extending = MmapArrayMut::<f64>::options().shape(shape).offset(8).extend(true);
        expect_err(extending.opened(&path), ErrorKind::TooShort);
        empty(&MmapArrayMut::<f64>::scratch(shape)?);
    }
    assert_eq!(MmapArray::<f64>::options().opened(&path)?.shape(), [0]);
    assert_eq!(snapshot(folder.path()), before);

    // If nothing needs alignment, no offset is wrong.
    let (_folder, path) = file(&[0_u8; 16]);
    empty(&MmapArray::<f64>::options().shape((3, 0, 2)).offset(3).opened(&path)?);
    assert_eq!(MmapArray::<f64>::options().offset(16).opened(&path)?.shape(), [0]);
    Ok(())
}

#[test]
fn a_created_array_has_the_order_asked_for_and_reads_back() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.bin");
    let mut f = MmapArrayMut::<u32>::options().offset(4).shape((2, 3).f()).created(&path)?;
    for (i, x) in f.iter_mut().enumerate() {
        *x = i as u32;
    }
    drop(f);
    let words: Vec<u32> =
        fs::read(&path).unwrap().chunks(4).map(|w| u32::from_ne_bytes(w.try_into().unwrap())).collect();
    assert_eq!(words, [0, 0, 3, 1, 4, 2, 5]);
    let again = MmapArray::<u32>::options().offset(4).shape((2, 3).f()).opened(&path)?;
    assert_eq!(*again, array![[0, 1, 2], [3, 4, 5]]);
    Ok(())
}

#[test]
fn a_misaligned_start_is_refused_in_place_and_works_in_a_copy() -> Result<()> {
    let bytes: Vec<u8> = (0..33).collect();
    let (folder, path) = file(&bytes);
    let before = snapshot(folder.path());
    for offset in [1, 2, 3, 5, 7, 9] {
        let e = expect_err(MmapArray::<f64>::options().offset(offset).shape(3).opened(&path), ErrorKind::Misaligned);
        let message = e.to_string();
        assert!(
            message.contains(&format!("offset {offset} ")) && message.contains('8') && message.contains("`load`"),
            "{message}"
        );
        assert!(message.contains("[u8; 8]") && message.contains("rend"), "{message}");
        expect_err(MmapArrayCow::<f64>::options().offset(offset).shape(3).opened(&path), ErrorKind::Misaligned);
        expect_err(MmapArrayMut::<f64>::options().offset(offset).shape(3).opened(&path), ErrorKind::Misaligned);
        let growing = MmapArrayMut::<f64>::options().offset(offset).shape(30).extend(true);
        expect_err(growing.opened(&path), ErrorKind::Misaligned);
        let creating = MmapArrayMut::<f64>::options().offset(offset).shape(3);
        expect_err(creating.clone().created(&path), ErrorKind::Misaligned);
        expect_err(creating.created_new(folder.path().join("new")), ErrorKind::Misaligned);

        let start = offset as usize;
        let expected = f64::from_ne_bytes(bytes[start + 16..start + 24].try_into().unwrap());
        let copy = MmapArray::<f64>::options().offset(offset).shape(3).load(&path)?;
        assert!(copy.as_ptr().is_aligned());
        assert_eq!(copy[2].to_bits(), expected.to_bits());
        assert_eq!(MmapArrayCow::<f64>::options().offset(1).load(&path)?.len(), 4);
    }
    expect_err(MmapArray::<f64>::options().offset(1).opened(&path), ErrorKind::Misaligned);
    expect_err(MmapArray::<f64>::options().offset(1).row_shape(2).opened(&path), ErrorKind::Misaligned);
    let whole = MmapArray::<[u8; 8]>::options().offset(1).opened(&path)?;
    assert_eq!(whole[3], bytes[25..33]);
    assert_eq!(snapshot(folder.path()), before);
    Ok(())
}

#[test]
fn offsets_beyond_four_gigabytes_are_found() -> Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    const FAR: u64 = 5 << 30;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("far.bin");
    let mut file = crate::support::arrays::sparse(&path, FAR + 16);
    file.seek(SeekFrom::Start(FAR + 8)).unwrap();
    file.write_all(&42_u64.to_ne_bytes()).unwrap();
    for offset in [FAR, FAR - 4096, FAR + 8] {
        let a = MmapArray::<u64>::options().offset(offset).opened(&path)?;
        assert_eq!(a[a.len() - 1], 42);
    }
    let all = MmapArray::<u64>::options().opened(&path)?;
    assert_eq!(all[(FAR / 8) as usize + 1], 42);
    assert_eq!(MmapArray::<u64>::options().offset(FAR + 8).load(&path)?[0], 42);
    Ok(())
}
