//! The constructors of `.npy` files: what each does with a good file, and with one that is not what its header specifies.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::arrays::{CreateExt, OpenExt, expect_err, expect_io_err, npy_header};
use crate::support::process::in_child;
use crate::support::snapshot::{names, snapshot};
use bytemuck::Pod;
use ndarray::prelude::*;
use ndarray_mmap::npy::{ByteOrder, DtypeKind, Header, NpyElement};
use ndarray_mmap::{
    Error, ErrorKind, Lock, MmapArray, MmapArrayBase, MmapArrayCow, MmapArrayMut, Mode, Result,
    mode::{OpenExisting, Supports},
};
use tempfile::TempDir;

/// In NumPy's words, for this machine.
const F8: &str = if cfg!(target_endian = "big") { "'>f8'" } else { "'<f8'" };

/// A folder with this file in it.
fn npy(header: &[u8], data: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    fs::write(&path, [header, data].concat()).unwrap();
    (folder, path)
}

/// 0.0, 1.0, 2.0 ...
fn floats(n: usize) -> Vec<u8> {
    (0..n).flat_map(|i| (i as f64).to_ne_bytes()).collect()
}

fn grid() -> Array2<f64> {
    Array2::from_shape_fn((3, 4), |(i, j)| (4 * i + j) as f64)
}

/// Checks the result of each constructor that opens this file, and that none of them touches anything in its folder.
#[track_caller]
fn every_constructor<A: Pod + NpyElement>(path: &Path, check: impl Fn(Result<ArrayD<A>>)) {
    let folder = path.parent().unwrap();
    let before = folder.is_dir().then(|| snapshot(folder));
    check(MmapArray::<A>::options().opened_npy(path).map(|a| a.to_owned()));
    check(MmapArray::<A>::options().populate(true).lock(Lock::Required).opened_npy(path).map(|a| a.to_owned()));
    check(MmapArrayCow::<A>::options().opened_npy(path).map(|a| a.to_owned()));
    check(MmapArrayMut::<A>::options().opened_npy(path).map(|a| a.to_owned()));
    check(MmapArrayMut::<A>::options().extend(true).preallocate(false).opened_npy(path).map(|a| a.to_owned()));
    check(MmapArray::<A>::load_npy(path).map(|a| a.to_owned()));
    check(MmapArrayCow::<A>::load_npy(path).map(|a| a.to_owned()));
    assert_eq!(folder.is_dir().then(|| snapshot(folder)), before, "the folder is not what it was");
}

#[track_caller]
fn every_constructor_refuses<A: Pod + NpyElement>(path: &Path, kind: ErrorKind) -> String {
    every_constructor::<A>(path, |result| {
        let e = expect_err(result, kind);
        assert_eq!(e.path(), Some(path));
        assert!(e.to_string().starts_with(&format!("{}: ", path.display())), "{e}");
    });
    let e = expect_err(MmapArray::<A>::load_npy(path), kind).to_string();
    e.trim_start_matches(&format!("{}: ", path.display())).to_owned()
}

#[track_caller]
fn every_constructor_reads<A: Pod + NpyElement + PartialEq + std::fmt::Debug>(path: &Path, array: &ArrayD<A>) {
    every_constructor::<A>(path, |result| assert_eq!(result.unwrap(), array));
}

#[test]
fn what_is_created_opens_in_every_mode() -> Result<()> {
    fn is_the_grid<D: Dimension, M>(a: MmapArrayBase<f64, D, M>, path: &Path, mode: Mode, strides: [isize; 2]) {
        assert_eq!((a.offset(), a.mode(), a.path()), (128, mode, Some(path)));
        assert_eq!((a.strides(), a.view().into_dyn()), (&strides[..], grid().view().into_dyn()));
    }
    let folder = tempfile::tempdir().unwrap();
    for fortran_order in [false, true] {
        let strides = if fortran_order { [1, 3] } else { [4, 1] };
        let path = folder.path().join(format!("{fortran_order}.npy"));
        // SAFETY: nobody else knows this file.
        let mut made = unsafe { MmapArrayMut::<f64>::create_npy(&path, (3, 4).set_f(fortran_order))? };
        assert!(made.iter().all(|&x| x == 0.0));
        made.assign(&grid());
        made.flush()?;
        is_the_grid(made, &path, Mode::Create, strides);

        // SAFETY: as above.
        is_the_grid(unsafe { MmapArray::<f64>::open_npy(&path)? }, &path, Mode::ReadOnly, strides);
        // SAFETY: as above.
        is_the_grid(unsafe { MmapArray::<f64, Ix2>::open_npy(&path)? }, &path, Mode::ReadOnly, strides);
        // SAFETY: as above.
        is_the_grid(unsafe { MmapArrayMut::<f64, Ix2>::open_npy(&path)? }, &path, Mode::ReadWrite, strides);
        // SAFETY: as above.
        is_the_grid(unsafe { MmapArrayCow::<f64, Ix2>::open_npy(&path)? }, &path, Mode::CopyOnWrite, strides);
        is_the_grid(MmapArray::<f64, Ix2>::load_npy(&path)?, &path, Mode::ReadOnly, strides);
        is_the_grid(MmapArrayCow::<f64>::load_npy(&path)?, &path, Mode::CopyOnWrite, strides);
    }
    Ok(())
}

#[test]
fn what_is_created_is_numpys_to_the_byte() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let (path, fresh) = (folder.path().join("a.npy"), folder.path().join("b.npy"));
    for (fortran_order, word) in [(false, "False"), (true, "True")] {
        let shape = (3, 4).set_f(fortran_order);
        drop(MmapArrayMut::<f64>::options().shape(shape).created_npy(&path)?);
        let text = format!("{{'descr': {F8}, 'fortran_order': {word}, 'shape': (3, 4), }}");
        let header = [b"\x93NUMPY\x01\x00\x76\x00", format!("{text:117}\n").as_bytes()].concat();
        assert_eq!(fs::read(&path).unwrap(), [header, vec![0; 96]].concat());

        // SAFETY: nobody else knows this file.
        drop(unsafe { MmapArrayMut::<f64>::create_new_npy(&fresh, (3, 4).set_f(fortran_order))? });
        assert_eq!(fs::read(&fresh).unwrap(), fs::read(&path).unwrap());
        let e = expect_io_err(
            MmapArrayMut::<f64>::options().shape(1).created_new_npy(&fresh),
            std::io::ErrorKind::AlreadyExists,
        );
        assert_eq!(e.path(), Some(&*fresh));
        assert_eq!(fs::read(&fresh).unwrap(), fs::read(&path).unwrap());
        fs::remove_file(&fresh).unwrap();
    }
    Ok(())
}

#[test]
fn a_store_is_in_the_file_and_nowhere_else() -> Result<()> {
    let header = npy_header(F8, true, "(3, 4)", 64);
    let (folder, path) = npy(&header, &[floats(12), b"trailing".to_vec()].concat());
    let before = fs::read(&path).unwrap();
    let mut c = MmapArrayCow::<f64, Ix2>::options().opened_npy(&path)?;
    c.fill(7.0);
    drop(c);
    assert_eq!(fs::read(&path).unwrap(), before);

    let mut a = MmapArrayMut::<f64, Ix2>::options().opened_npy(&path)?;
    a[[2, 1]] = -1.0;
    a.flush()?;
    a.close()?;
    let mut after = before;
    let at = header.len() + 8 * (2 + 3);
    after[at..at + 8].copy_from_slice(&(-1.0_f64).to_ne_bytes());
    assert_eq!(fs::read(&path).unwrap(), after);
    assert_eq!(names(folder.path()), ["a.npy"]);
    Ok(())
}

#[test]
fn any_dimension_is_checked_against_the_header() {
    fn door<D: Dimension, M: Supports<f64> + OpenExisting>(path: &Path) -> Result<usize> {
        MmapArrayBase::<f64, D, M>::options().opened_npy(path).map(|a| a.ndim())
    }
    fn dimensions<M: Supports<f64> + OpenExisting>(path: &Path) -> [Result<usize>; 8] {
        [
            door::<Ix0, M>(path),
            door::<Ix1, M>(path),
            door::<Ix2, M>(path),
            door::<Ix3, M>(path),
            door::<Ix4, M>(path),
            door::<Ix5, M>(path),
            door::<Ix6, M>(path),
            door::<IxDyn, M>(path),
        ]
    }
    for ndim in 0..=7 {
        let shape = format!("({})", "1, ".repeat(ndim));
        let (folder, path) = npy(&npy_header(F8, false, &shape, 64), &floats(1));
        let before = snapshot(folder.path());
        for answers in [
            dimensions::<ndarray_mmap::ReadOnly>(&path),
            dimensions::<ndarray_mmap::CopyOnWrite>(&path),
            dimensions::<ndarray_mmap::ReadWrite>(&path),
        ] {
            for (asked, answer) in answers.into_iter().enumerate() {
                if asked == ndim || asked == 7 {
                    assert_eq!(answer.unwrap(), ndim);
                } else {
                    let e = expect_err(answer, ErrorKind::ShapeMismatch).to_string();
                    let ones = vec![1; ndim];
                    assert!(
                        e.ends_with(&format!("shape {ones:?}, but an array of {asked} dimensions was asked for")),
                        "{e}"
                    );
                }
            }
        }
        assert_eq!(snapshot(folder.path()), before);
    }
}

#[test]
fn a_shape_beside_the_header_is_compared_and_the_order_is_the_headers() -> Result<()> {
    for fortran_order in [false, true] {
        let (folder, path) = npy(&npy_header(F8, fortran_order, "(3, 4)", 64), &floats(12));
        let before = snapshot(folder.path());
        let whole = MmapArray::<f64>::options().opened_npy(&path)?.to_owned();
        for asked in [false, true] {
            let shape = (3, 4).set_f(asked);
            let a = MmapArray::<f64>::options().shape(shape).opened_npy(&path)?;
            assert_eq!((a.view().into_dyn(), a.is_standard_layout()), (whole.view(), !fortran_order));
        }
        assert_eq!(MmapArray::<f64>::options().shape(vec![3, 4]).load_npy(&path)?.view(), whole);
        assert_eq!(MmapArray::<f64>::options().row_shape(4).opened_npy(&path)?.dim(), (3, 4));
        assert_eq!(MmapArrayMut::<f64>::options().row_shape(vec![4]).opened_npy(&path)?.shape(), [3, 4]);

        let ends_with = |e: Error, ending: &str| assert!(e.to_string().ends_with(ending), "{e}");
        let options = MmapArrayMut::<f64>::options;
        let e = expect_err(options().shape((4, 3)).opened_npy(&path), ErrorKind::ShapeMismatch);
        ends_with(e, "the file's array has shape [3, 4], but [4, 3] was asked for");
        expect_err(options().shape(12).extend(true).opened_npy(&path), ErrorKind::ShapeMismatch);
        expect_err(options().shape((3, 4, 1)).opened_npy(&path), ErrorKind::ShapeMismatch);
        expect_err(options().shape((5, 4)).extend(true).opened_npy(&path), ErrorKind::ShapeMismatch);
        expect_err(MmapArrayCow::<f64>::options().shape(()).load_npy(&path), ErrorKind::ShapeMismatch);
        let e = expect_err(options().row_shape(3).opened_npy(&path), ErrorKind::ShapeMismatch);
        ends_with(e, "the file's array has shape [3, 4], but rows of shape [3] were asked for");
        expect_err(options().row_shape((3, 4)).opened_npy(&path), ErrorKind::ShapeMismatch);
        expect_err(MmapArray::<f64>::options().row_shape(()).load_npy(&path), ErrorKind::ShapeMismatch);
        assert_eq!(snapshot(folder.path()), before);
    }
    let (_folder, path) = npy(&npy_header(F8, false, "()", 64), &floats(1));
    expect_err(MmapArray::<f64>::options().row_shape(()).opened_npy(&path), ErrorKind::ShapeMismatch);
    expect_err(MmapArray::<f64>::options().row_shape(vec![]).opened_npy(&path), ErrorKind::ShapeMismatch);
    Ok(())
}

#[test]
fn the_offset_is_where_the_header_starts() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bin");
    let header = npy_header(F8, false, "(3, 4)", 64);
    for before in [0, 8, 64, 4096, 5000] {
        fs::write(&path, [vec![0xaa; before], header.clone(), floats(12), vec![0xbb; 5]].concat()).unwrap();
        let at = before as u64;
        let a = MmapArray::<f64, Ix2>::options().offset(at).opened_npy(&path)?;
        assert_eq!((a.offset(), a.view()), (at + header.len() as u64, grid().view()));
        assert_eq!(*MmapArrayCow::<f64, Ix2>::options().offset(at).load_npy(&path)?, grid());
        drop(a);

        // A new file is zero up to there.
        let made = MmapArrayMut::<f64>::options().offset(at).shape((3, 4)).created_npy(&path)?;
        assert_eq!(made.offset(), at + 128);
        drop(made);
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), before + 128 + 96);
        assert!(bytes[..before].iter().all(|&byte| byte == 0));
        assert_eq!(&bytes[before..before + 6], b"\x93NUMPY");
    }
    let len = fs::metadata(&path).unwrap().len();
    let photographed = snapshot(folder.path());
    expect_err(MmapArray::<f64>::options().offset(1).opened_npy(&path), ErrorKind::InvalidHeader);
    expect_err(MmapArray::<f64>::options().offset(len).opened_npy(&path), ErrorKind::InvalidHeader);
    let e = expect_err(MmapArray::<f64>::options().offset(len + 1).load_npy(&path), ErrorKind::TooShort);
    assert!(e.to_string().ends_with(&format!("file is {len} bytes, but the header starts at offset {}", len + 1)));
    expect_err(MmapArrayMut::<f64>::options().offset(len + 1).extend(true).opened_npy(&path), ErrorKind::TooShort);
    assert_eq!(snapshot(folder.path()), photographed);
    Ok(())
}

/// The constructors must not even look at the path.
#[test]
fn what_no_file_can_hold_is_refused_before_the_file_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent.npy");
    let offset = |n: u64| MmapArrayMut::<f64>::options().offset(n);
    let beyond = i64::MAX as u64 + 1;
    expect_err(offset(beyond).opened_npy(&absent), ErrorKind::Overflow);
    expect_err(MmapArray::<f64>::options().offset(u64::MAX).load_npy(&absent), ErrorKind::Overflow);
    expect_err(offset(0).shape((usize::MAX, 2)).opened_npy(&absent), ErrorKind::Overflow);
    expect_err(offset(0).shape((isize::MAX as usize, 0)).opened_npy(&absent), ErrorKind::Overflow);
    expect_err(offset(0).created_npy(&absent), ErrorKind::ShapeRequired);
    expect_err(offset(0).row_shape(3).created_new_npy(&absent), ErrorKind::ShapeRequired);
    expect_err(offset(0).shape((usize::MAX, 2)).created_npy(&absent), ErrorKind::Overflow);
    expect_err(offset(u64::MAX).shape(1).created_npy(&absent), ErrorKind::Overflow);
    expect_err(offset(beyond - 128).shape(1).created_npy(&absent), ErrorKind::Overflow);
    expect_err(offset(0).shape(isize::MAX as usize / 8).created_npy(&absent), ErrorKind::Overflow);
    expect_err(offset(1).shape(1).created_npy(&absent), ErrorKind::Misaligned);
    expect_err(offset(0).shape(vec![1; 65]).created_npy(&absent), ErrorKind::Unsupported);
    expect_err(MmapArrayMut::<[f64; 2]>::options().shape((3, 4).f()).created_npy(&absent), ErrorKind::Unsupported);
    assert_eq!(names(folder.path()), [""; 0]);

    // Nor is a file that is there touched.
    fs::write(&absent, "something").unwrap();
    let before = snapshot(folder.path());
    expect_err(offset(0).created_npy(&absent), ErrorKind::ShapeRequired);
    expect_err(offset(0).shape((usize::MAX, 2)).created_npy(&absent), ErrorKind::Overflow);
    expect_err(offset(1).shape(1).created_npy(&absent), ErrorKind::Misaligned);
    expect_err(offset(0).shape(vec![1; 65]).created_npy(&absent), ErrorKind::Unsupported);
    assert_eq!(snapshot(folder.path()), before);
}

#[test]
fn sizes_that_overflow_are_refused_in_every_mode() {
    for (shape, kind) in [
        ("(9223372036854775808,)", ErrorKind::Overflow),
        ("(1, 18446744073709551616)", ErrorKind::Overflow),
        ("(0, 99999999999999999999999999)", ErrorKind::Overflow),
        ("(4611686018427387904, 8)", ErrorKind::Overflow),
        ("(4294967296, 4294967296)", ErrorKind::Overflow),
        ("(2147483648, 2147483648, 2)", ErrorKind::Overflow),
        ("(9223372036854775807, 9223372036854775807, 0)", ErrorKind::Overflow),
        // This many can be addressed, but no file holds them behind a header.
        ("(1152921504606846975,)", ErrorKind::Overflow),
        ("(1152921504606846960,)", ErrorKind::Overflow),
        ("(1152921504606846959,)", ErrorKind::TooShort),
        ("(1099511627776,)", ErrorKind::TooShort),
    ] {
        let (_folder, path) = npy(&npy_header(F8, false, shape, 64), &floats(3));
        every_constructor_refuses::<f64>(&path, kind);
    }
    let (_folder, path) = npy(&npy_header("'|u1'", true, "(3037000500, 3037000500)", 64), &floats(3));
    every_constructor_refuses::<u8>(&path, ErrorKind::Overflow);
}

#[test]
fn bytes_after_the_array_do_not_matter_and_stay() -> Result<()> {
    let data = [floats(12), b"more, of any length".to_vec()].concat();
    let (_folder, path) = npy(&npy_header(F8, false, "(3, 4)", 64), &data);
    every_constructor_reads(&path, &grid().into_dyn());
    let mut a = MmapArrayMut::<f64>::options().opened_npy(&path)?;
    a.fill(1.0);
    a.close()?;
    assert!(fs::read(&path).unwrap().ends_with(b"more, of any length"));
    Ok(())
}

#[test]
fn short_data_are_too_short_in_every_mode_and_nothing_is_extended() {
    let header = npy_header(F8, false, "(3, 4)", 64);
    for len in [0, 1, 8, 95] {
        let (_folder, path) = npy(&header, &floats(12)[..len]);
        let e = every_constructor_refuses::<f64>(&path, ErrorKind::TooShort);
        let (has, at, needs) = (header.len() + len, header.len(), header.len() + 96);
        assert_eq!(e, format!("file is {has} bytes, but offset {at} and shape [3, 4] of f64 need {needs}"));
        let opened = MmapArrayMut::<f64>::options().extend(true).opened_npy(&path);
        // `.extend(true)` would not help, so the message does not suggest it.
        assert!(!expect_err(opened, ErrorKind::TooShort).to_string().contains("extend"));
    }
}

#[test]
fn a_header_that_ends_early_is_no_header() {
    let header = npy_header(F8, false, "(0, 4)", 64);
    let (_folder, path) = npy(&header, &[]);
    every_constructor_reads(&path, &Array2::<f64>::zeros((0, 4)).into_dyn());
    for len in 0..header.len() {
        fs::write(&path, &header[..len]).unwrap();
        every_constructor_refuses::<f64>(&path, ErrorKind::InvalidHeader);
        expect_err(Header::read(&path), ErrorKind::InvalidHeader);
    }
}

#[test]
fn what_is_no_npy_file_is_an_invalid_header_that_names_the_byte() {
    let good = npy_header(F8, false, "(3, 4)", 64);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    for (bytes, message) in [
        (b"PK\x03\x04 is an .npz".to_vec(), "at byte 0: "),
        (with(5, b'y'), "at byte 5: "),
        (with(6, 4), "at byte 6: expected version 1.0, 2.0 or 3.0, found 4.0"),
        (with(7, 1), "at byte 6: expected version 1.0, 2.0 or 3.0, found 1.1"),
        (with(10, b'['), "at byte 18: "),
        (npy_header(F8, false, "(3, -4)", 64), "at byte 64: expected an axis length, found a negative number"),
        (npy_header(F8, false, &format!("({})", "1, ".repeat(65)), 64), "at byte 60: expected at most 64 axes"),
    ] {
        let (_folder, path) = npy(&bytes, &floats(12));
        let e = every_constructor_refuses::<f64>(&path, ErrorKind::InvalidHeader);
        assert!(e.starts_with(message), "{e}");
    }
}

#[test]
fn a_long_header_is_read_where_it_is_allowed() -> Result<()> {
    // The text, and not what goes before it, is what is counted.
    let header = |text: usize| npy_header(F8, false, "(3, 4)", 10 + text);
    for version in [1, 2, 3] {
        for (len, allowed) in [(10_000, true), (10_001, false)] {
            let mut bytes = header(len);
            if version > 1 {
                let message = u32::try_from(len).unwrap().to_le_bytes();
                bytes = [b"\x93NUMPY", &[version, 0][..], &message, &bytes[10..]].concat();
            }
            // So that an `f64` may lie behind it.
            let (_folder, path) = npy(&bytes, &floats(12));
            if allowed {
                assert_eq!(*MmapArray::<f64, Ix2>::load_npy(&path)?, grid());
                assert_eq!(Header::read(&path)?.version(), (version, 0));
                expect_err(
                    MmapArray::<f64>::options().max_header_size(9_999).load_npy(&path),
                    ErrorKind::InvalidHeader,
                );
                continue;
            }
            let e = every_constructor_refuses::<f64>(&path, ErrorKind::InvalidHeader);
            assert!(e.starts_with("at byte 8: expected a header text of at most 10000 bytes, found 10001; "), "{e}");
            expect_err(Header::read(&path), ErrorKind::InvalidHeader);
            let whole = fs::read(&path).unwrap();
            expect_err(Header::from_bytes(&whole), ErrorKind::InvalidHeader);
            for max in [10_001, usize::MAX] {
                let header = Header::read_with_limit(&path, max)?;
                assert_eq!((header.version(), header.shape()), ((version, 0), &[3, 4][..]));
                assert_eq!(Header::from_bytes_with_limit(&whole, max)?, header);
            }
            expect_err(Header::read_with_limit(&path, 10_000), ErrorKind::InvalidHeader);
            let options = MmapArray::<f64, Ix2>::options;
            assert_eq!(*options().max_header_size(10_001).load_npy(&path)?, grid());
            assert_eq!(*options().max_header_size(usize::MAX).load_npy(&path)?, grid());
        }
    }
    Ok(())
}

/// Neither what the header claims of itself, nor what it claims of the data, is memory that is taken.
#[test]
fn a_claim_is_no_allocation() {
    in_child!(|| {
        let long = format!("{{'descr': {F8:>200}, ");
        let claims = [
            [b"\x93NUMPY\x02\x00\xff\xff\xff\xff", long.as_bytes()].concat(),
            npy_header(F8, false, "(1099511627776,)", 64),
        ];
        for (bytes, kind) in claims.into_iter().zip([ErrorKind::InvalidHeader, ErrorKind::TooShort]) {
            let (_folder, path) = npy(&bytes, &floats(3));
            every_constructor_refuses::<f64>(&path, kind);
            let peak = peak_memory();
            let options = MmapArray::<f64>::options().max_header_size(usize::MAX);
            expect_err(options.clone().opened_npy(&path), kind);
            expect_err(options.load_npy(&path), kind);
            assert!(peak_memory() - peak < 1 << 30, "{} bytes more than {peak}", peak_memory() - peak);
        }
    })
    .run()
    .succeeded();
}

/// The most memory that this process ever had, in bytes.
#[cfg(target_os = "linux")]
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[cfg(not(target_os = "linux"))]
fn peak_memory() -> u64 {
    0
}

#[test]
fn misaligned_data_are_refused_in_place_and_copied_by_load() -> Result<()> {
    for align in [1, 2, 4] {
        let header = npy_header(F8, true, "(3, 4)", align);
        assert_ne!(header.len() % 8, 0);
        let (_folder, path) = npy(&header, &[floats(12), vec![1; 3]].concat());
        let check = |e: Error| {
            let data = format!("data start at byte {}, which is no multiple of 8, the alignment of f64", header.len());
            assert!(e.to_string().contains(&data), "{e}");
            let named = if cfg!(target_endian = "big") { "f64_ube" } else { "f64_ule" };
            let advice = format!("use `rend::unaligned::{named}` (feature `rend`), or `load_npy` for a copy");
            assert!(e.to_string().ends_with(&advice), "{e}");
        };
        check(expect_err(MmapArray::<f64>::options().opened_npy(&path), ErrorKind::Misaligned));
        check(expect_err(MmapArrayCow::<f64>::options().opened_npy(&path), ErrorKind::Misaligned));
        check(expect_err(MmapArrayMut::<f64>::options().opened_npy(&path), ErrorKind::Misaligned));
        let whole = Array::from_shape_vec((3, 4).f(), (0..12).map(f64::from).collect()).unwrap();
        let loaded = MmapArray::<f64, Ix2>::load_npy(&path)?;
        assert_eq!((loaded.offset(), loaded.view()), (header.len() as u64, whole.view()));
        assert_eq!(*MmapArrayCow::<f64, Ix2>::load_npy(&path)?, whole);
        // Where no copy would help, none is recommended.
        fs::write(&path, [header.clone(), floats(11)].concat()).unwrap();
        every_constructor_refuses::<f64>(&path, ErrorKind::TooShort);
        // An offset may make up for it.
        fs::write(&path, [vec![0; 8 - header.len() % 8], header.clone(), floats(12)].concat()).unwrap();
        let options = MmapArray::<f64, Ix2>::options().offset(8 - header.len() as u64 % 8);
        assert_eq!(*options.opened_npy(&path)?, whole);
    }
    Ok(())
}

#[test]
fn what_has_no_elements_is_aligned_anywhere() {
    for align in [1, 64] {
        for shape in ["(0,)", "(3, 0)", "(0, 3, 4)", "(1152921504606846975, 0)"] {
            let header = npy_header(F8, true, shape, align);
            let (_folder, path) = npy(&header, &[]);
            every_constructor::<f64>(&path, |result| assert_eq!(result.unwrap().len(), 0));
            // A shorter file has no such array.
            fs::write(&path, &header[..header.len() - 1]).unwrap();
            every_constructor_refuses::<f64>(&path, ErrorKind::InvalidHeader);
        }
    }
}

#[test]
fn arrays_without_axes_or_without_elements_come_back() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    for shape in [vec![], vec![1], vec![0], vec![0, 4], vec![4, 0], vec![2, 0, 3], vec![1; 64]] {
        for fortran_order in [false, true] {
            let mut made =
                MmapArrayMut::<f64>::options().shape(shape.clone().set_f(fortran_order)).created_npy(&path)?;
            made.fill(2.5);
            made.close()?;
            let header = Header::read(&path)?;
            assert_eq!(
                (header.shape(), header.nbytes()),
                (&shape[..], Some(8 * shape.iter().product::<usize>() as u64))
            );
            assert_eq!(fs::metadata(&path).unwrap().len(), header.data_offset() + header.nbytes().unwrap());
            every_constructor_reads(&path, &ArrayD::from_elem(shape.clone(), 2.5));
        }
    }
    // SAFETY: nobody else knows this file.
    let scalar = unsafe { MmapArrayMut::<f64>::create_npy(&path, ())? };
    assert_eq!(scalar[()], 0.0);
    Ok(())
}

#[test]
fn a_header_can_be_read_by_itself() -> Result<()> {
    let mut header = npy_header("'>i2'", true, "(3, 5)", 16);
    let (folder, path) = npy(&header, &[0; 7]);
    let read = Header::read(&path)?;
    assert_eq!(
        (read.dtype().kind(), read.dtype().byteorder(), read.dtype().itemsize()),
        (DtypeKind::Int, ByteOrder::Big, 2)
    );
    assert_eq!((read.shape(), read.fortran_order()), (&[3, 5][..], true));
    assert_eq!((read.data_offset(), read.nbytes(), read.version()), (header.len() as u64, Some(30), (1, 0)));
    assert_eq!(read, Header::from_bytes(&fs::read(&path).unwrap())?);

    // Not even an exclusive lock is in the way: nothing is mapped.
    let lock = File::open(&path).unwrap();
    lock.lock().unwrap();
    assert_eq!(Header::read(&path)?, read);
    drop(lock);

    header[0] = 0;
    fs::write(&path, &header).unwrap();
    let e = expect_err(Header::read(&path), ErrorKind::InvalidHeader);
    assert_eq!(e.path(), Some(&*path));
    expect_io_err(Header::read(folder.path().join("absent.npy")), std::io::ErrorKind::NotFound);
    expect_err(Header::read(folder.path()), ErrorKind::NotRegularFile);
    Ok(())
}

#[test]
fn locks_are_those_of_raw_files() -> Result<()> {
    let (_folder, path) = npy(&npy_header(F8, false, "(3, 4)", 64), &floats(12));
    let reader = MmapArray::<f64>::options().opened_npy(&path)?;
    let second = MmapArrayCow::<f64>::options().opened_npy(&path)?;
    let e = expect_err(MmapArrayMut::<f64>::options().opened_npy(&path), ErrorKind::Locked);
    assert!(e.to_string().contains("Lock::None"), "{e}");
    let beside = MmapArrayMut::<f64>::options().lock(Lock::None).opened_npy(&path)?;
    drop((reader, second, beside));

    let writer = MmapArrayMut::<f64>::options().opened_npy(&path)?;
    expect_err(MmapArray::<f64>::options().opened_npy(&path), ErrorKind::Locked);
    expect_err(MmapArray::<f64>::load_npy(&path), ErrorKind::Locked);
    assert_eq!(*MmapArray::<f64, Ix2>::options().lock(Lock::None).load_npy(&path)?, grid());
    writer.close()?;
    let made = MmapArrayMut::<f64>::options().shape(3).created_npy(&path)?;
    expect_err(MmapArray::<f64>::options().opened_npy(&path), ErrorKind::Locked);
    drop(made);
    assert_eq!(MmapArray::<f64>::options().opened_npy(&path)?.shape(), [3]);
    Ok(())
}

#[test]
fn creating_replaces_the_path_and_leaves_no_litter() -> Result<()> {
    let (folder, path) = npy(&npy_header(F8, false, "(3, 4)", 64), &floats(12));
    let old = MmapArray::<f64, Ix2>::options().opened_npy(&path)?;
    let mut new = MmapArrayMut::<u8>::options().shape((2, 2)).lock(Lock::None).created_npy(&path)?;
    new.fill(9);
    // Whoever has the old file keeps it whole.
    assert_eq!(*old, grid());
    new.close()?;
    assert_eq!(*MmapArray::<u8, Ix2>::options().opened_npy(&path)?, array![[9, 9], [9, 9]]);
    assert_eq!(names(folder.path()), ["a.npy"]);

    expect_io_err(
        MmapArrayMut::<u8>::options().shape(3).created_npy(folder.path().join("no/b.npy")),
        std::io::ErrorKind::NotFound,
    );
    expect_err(MmapArrayMut::<u8>::options().shape(3).created_npy(folder.path()), ErrorKind::NotRegularFile);
    assert_eq!(names(folder.path()), ["a.npy"]);
    Ok(())
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_permissions_kept() -> Result<()> {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (folder, path) = npy(&npy_header(F8, false, "(3, 4)", 64), &floats(12));
    let link = folder.path().join("link.npy");
    symlink("a.npy", &link).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    drop(MmapArrayMut::<u16>::options().shape(7).created_npy(&link)?);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(MmapArray::<u16>::options().opened_npy(&path)?.shape(), [7]);
    assert_eq!(names(folder.path()), ["a.npy", "link.npy"]);
    expect_io_err(MmapArrayMut::<u16>::options().shape(7).created_new_npy(&link), std::io::ErrorKind::AlreadyExists);
    Ok(())
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_refused_as_for_raw_files() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    // A plain open would wait for ever.
    every_constructor_refuses::<f64>(&fifo, ErrorKind::NotRegularFile);
    expect_err(Header::read(&fifo), ErrorKind::NotRegularFile);
    let before = snapshot(folder.path());
    expect_err(MmapArrayMut::<f64>::options().shape(3).created_npy(&fifo), ErrorKind::NotRegularFile);
    expect_io_err(MmapArrayMut::<f64>::options().shape(3).created_new_npy(&fifo), std::io::ErrorKind::AlreadyExists);
    assert_eq!(snapshot(folder.path()), before);

    for device in ["/dev/null", "/dev/zero"] {
        expect_err(MmapArray::<f64>::options().opened_npy(device), ErrorKind::NotRegularFile);
        expect_err(MmapArray::<f64>::load_npy(device), ErrorKind::NotRegularFile);
        expect_err(Header::read(device), ErrorKind::NotRegularFile);
        expect_err(MmapArrayMut::<f64>::options().shape(3).created_npy(device), ErrorKind::NotRegularFile);
    }
    every_constructor::<f64>(&folder.path().join("absent.npy"), |result| {
        expect_io_err(result, std::io::ErrorKind::NotFound);
    });
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    every_constructor::<f64>(&inner, |result| {
        let kind = result.unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::Io | ErrorKind::NotRegularFile), "{kind:?}");
    });
}

#[test]
fn data_can_begin_on_a_page() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    for fortran_order in [false, true] {
        let options = MmapArrayMut::<f64>::options().page_aligned(true).shape((2, 512).set_f(fortran_order));
        let mut made = options.created_npy(&path)?;
        made.fill(3.0);
        assert_eq!(made.offset(), 4096);
        made.close()?;
        assert_eq!(fs::metadata(&path).unwrap().len(), 3 * 4096);
        every_constructor_reads(&path, &ArrayD::from_elem(vec![2, 512], 3.0));
    }
    let fresh = folder.path().join("b.npy");
    assert_eq!(MmapArrayMut::<u8>::options().page_aligned(true).shape(3).created_new_npy(&fresh)?.offset(), 4096);
    assert_eq!(MmapArrayMut::<u8>::options().page_aligned(false).shape(3).created_npy(&fresh)?.offset(), 128);
    Ok(())
}

/// Somebody who appends stores rows, and then the header that tells of them: a mixture of two is never believed.
#[test]
fn a_header_that_is_being_rewritten_is_one_that_was_written() -> Result<()> {
    // All digits are others each time.
    let numbers = (0..10_000).map(|n| 1_111_111_111 * (n % 9 + 1));
    let headers: Vec<_> = numbers.map(|n: u64| npy_header(F8, false, &format!("({n}, 0)"), 64)).collect();
    let (_folder, path) = npy(&headers[0], &[]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also if this panics, for the scope waits for the writer.
        let _writing = Until(&done);
        scope.spawn(|| {
            let file = File::options().write(true).open(&path).unwrap();
            for header in headers.iter().cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                write_at(&file, &[1; 512], 4096);
                write_at(&file, header, 0);
            }
        });
        let read = |turn| -> Result<usize> {
            Ok(match turn % 3 {
                0 => Header::read(&path)?.shape()[0],
                1 => MmapArray::<f64, Ix2>::options().opened_npy(&path)?.nrows(),
                _ => MmapArray::<f64, Ix2>::load_npy(&path)?.nrows(),
            })
        };
        let mut agreed = 0;
        let all = (0..10_000).try_for_each(|turn| {
            match read(turn) {
                Ok(rows) => assert!(rows % 1_111_111_111 == 0, "nobody ever wrote {rows}"),
                // A writer this fast can stay ahead of a reader that an instrumented build makes slow.
                Err(e) if e.to_string().ends_with("the header was another each of the 1000 times it was read") => {
                    return Ok(());
                }
                Err(e) => return Err(e),
            }
            agreed += 1;
            Ok(())
        });
        assert_ne!(agreed, 0);
        all
    })
}

/// Says that it is done when it is dropped, however that comes.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset).unwrap();
}

#[cfg(windows)]
fn write_at(file: &File, bytes: &[u8], offset: u64) {
    let written = std::os::windows::fs::FileExt::seek_write(file, bytes, offset).unwrap();
    assert_eq!(written, bytes.len());
}
