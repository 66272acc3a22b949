//! Parts of files: some rows of an array, the whole rows of a file that ends in the middle of one, one field of records, and
//! `.npy` files by a handle.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use crate::support::arrays::{CreateExt, OpenExt, expect_err, file};
use crate::support::snapshot::snapshot;
use bytemuck::Pod;
use ndarray::Slice;
use ndarray::prelude::*;
use ndarray_mmap::mode::{OpenExisting, Supports};
use ndarray_mmap::npy::NpyElement;
use ndarray_mmap::{
    CopyOnWrite, ErrorKind, Lock, MmapArray, MmapArrayBase, MmapArrayCow, MmapArrayMut, MmapArrayOptions, ReadOnly,
    ReadWrite, Result,
};

/// Shapes whose rows are along the first axis in C order and along the last in Fortran order.
const SHAPES: [&[usize]; 5] = [&[7], &[7, 3], &[3, 7], &[5, 2, 6], &[4, 1, 1, 4]];

const RANGES: [Range<usize>; 5] = [0..0, 0..1, 1..3, 2..4, 0..4];

const LIVE_ROWS: usize = 4;

fn outermost(shape: &[usize], fortran: bool) -> Axis {
    Axis(if fortran { shape.len() - 1 } else { 0 })
}

/// A file of this array at `offset`, and as `.npy`.
struct Files {
    _folder: tempfile::TempDir,
    raw: std::path::PathBuf,
    npy: std::path::PathBuf,
    offset: u64,
}

fn files<A: Pod + NpyElement>(content: &ArrayD<A>, fortran: bool, offset: u64) -> Files {
    let folder = tempfile::tempdir().unwrap();
    let (raw, npy) = (folder.path().join("raw"), folder.path().join("npy"));
    let shape = || content.raw_dim().set_f(fortran);
    MmapArrayMut::<A>::options().offset(offset).shape(shape()).created(&raw).unwrap().assign(content);
    // Something follows the raw array.
    OpenOptions::new().append(true).open(&raw).unwrap().write_all(b"more").unwrap();
    MmapArrayMut::<A>::options().offset(offset).shape(shape()).created_npy(&npy).unwrap().assign(content);
    Files { _folder: folder, raw, npy, offset }
}

/// Every way of opening some rows in mode `M` shows those rows, and knows where they are.
fn opens_its_rows<A, M>(files: &Files, content: &ArrayD<A>, fortran: bool, rows: &Range<usize>)
where
    A: Pod + NpyElement + PartialEq + std::fmt::Debug + Send + Sync,
    M: Supports<A> + OpenExisting,
{
    let axis = outermost(content.shape(), fortran);
    let wanted = content.slice_axis(axis, Slice::from(rows.clone()));
    let row_bytes = content.len() / content.len_of(axis) * size_of::<A>();
    let shape = || content.raw_dim().set_f(fortran);
    let options = || MmapArrayBase::<A, IxDyn, M>::options().offset(files.offset).rows(rows.clone());
    let handle = |path: &Path| OpenOptions::new().read(true).write(true).open(path).unwrap();
    let (raw, npy) = (handle(&files.raw), handle(&files.npy));
    let data = |whole: &MmapArrayBase<A, IxDyn, M>| whole.offset() + (rows.start * row_bytes) as u64;
    let whole_raw =
        data(&MmapArrayBase::<A, IxDyn, M>::options().offset(files.offset).shape(shape()).opened(&files.raw).unwrap());
    let whole_npy = data(&MmapArrayBase::<A, IxDyn, M>::options().offset(files.offset).opened_npy(&files.npy).unwrap());
    for (opened, start) in [
        (options().shape(shape()).opened(&files.raw), whole_raw),
        (options().shape(shape()).mapped(&raw), whole_raw),
        (options().opened_npy(&files.npy), whole_npy),
        (options().mapped_npy(&npy), whole_npy),
    ] {
        let part = opened.unwrap();
        assert_eq!(part.view(), wanted);
        assert_eq!(part.offset(), start);
        // What reads or drops parts of the file counts from the part's own start.
        let backwards: Vec<_> = (0..rows.len()).rev().collect();
        assert_eq!(part.gather(axis, &backwards).unwrap(), wanted.select(axis, &backwards));
        part.evict().unwrap();
        let blocks = part.blocks().bytes(16).evict(true).keep_cached(false);
        let all = blocks.fold(vec![], |all: Vec<A>, block| [all, in_memory_order(&block)].concat());
        assert_eq!(all, in_memory_order(&part));
        assert_eq!(part.view(), wanted);
    }
}

fn in_memory_order<A: Copy>(array: &ArrayRef<A, IxDyn>) -> Vec<A> {
    array.as_slice_memory_order().unwrap().to_vec()
}

fn loads_its_rows<A: Pod + NpyElement + PartialEq + std::fmt::Debug>(
    files: &Files,
    content: &ArrayD<A>,
    fortran: bool,
    rows: &Range<usize>,
) {
    let wanted = content.slice_axis(outermost(content.shape(), fortran), Slice::from(rows.clone()));
    let shape = || content.raw_dim().set_f(fortran);
    let options = || MmapArray::<A>::options().offset(files.offset).rows(rows.clone());
    assert_eq!(options().shape(shape()).load(&files.raw).unwrap().view(), wanted);
    assert_eq!(options().load_npy(&files.npy).unwrap().view(), wanted);
    let options = || MmapArrayCow::<A>::options().offset(files.offset).rows(rows.clone());
    assert_eq!(options().shape(shape()).load(&files.raw).unwrap().view(), wanted);
    assert_eq!(options().load_npy(&files.npy).unwrap().view(), wanted);
}

fn in_all_modes<A: Pod + NpyElement + PartialEq + std::fmt::Debug + Send + Sync>(element: impl Fn(usize) -> A) {
    for shape in SHAPES {
        let size = shape.iter().product();
        let content = ArrayD::from_shape_vec(shape, (0..size).map(&element).collect()).unwrap();
        for fortran in [false, true] {
            for offset in [0, 64] {
                let files = files(&content, fortran, offset);
                for rows in &RANGES {
                    if rows.end > content.len_of(outermost(shape, fortran)) {
                        continue;
                    }
                    opens_its_rows::<A, ReadOnly>(&files, &content, fortran, rows);
                    opens_its_rows::<A, ReadWrite>(&files, &content, fortran, rows);
                    opens_its_rows::<A, CopyOnWrite>(&files, &content, fortran, rows);
                    loads_its_rows(&files, &content, fortran, rows);
                }
            }
        }
    }
}

#[test]
fn some_rows_are_those_rows_in_every_mode_and_order() {
    in_all_modes(|n| n as u8);
    in_all_modes(|n| n as f64 / 2.0);
    in_all_modes(|n| [n as u8, 1, 7]);
}

#[test]
fn rows_that_are_not_there_are_refused_before_anything_is_touched() -> Result<()> {
    let (_folder, path) = file(&[0_u16; 12]);
    let reversed = Range { start: 3, end: 1 };
    for rows in [0..5, 5..5, 4..usize::MAX, reversed.clone(), usize::MAX..usize::MAX] {
        let options = || MmapArrayMut::<u16>::options().rows(rows.clone());
        expect_err(options().shape((4, 3)).opened(&path), ErrorKind::InvalidInput);
        expect_err(options().row_shape(3).opened(&path), ErrorKind::InvalidInput);
        // Known without the file.
        expect_err(options().shape((4, 3)).opened("/nowhere"), ErrorKind::InvalidInput);
        expect_err(options().shape((4, 3)).extend(true).opened(&path), ErrorKind::InvalidInput);
        expect_err(MmapArray::<u16>::options().rows(rows.clone()).shape((4, 3)).load(&path), ErrorKind::InvalidInput);
    }
    expect_err(MmapArrayMut::<u16>::options().rows(reversed).opened("/nowhere"), ErrorKind::InvalidInput);
    let before = snapshot(path.parent().unwrap());
    let scalar = || MmapArrayMut::<u64>::options().rows(0..1).offset(24).shape(());
    for extend in [false, true] {
        let e = expect_err(scalar().extend(extend).opened(&path), ErrorKind::InvalidInput);
        assert!(e.to_string().ends_with("an array without axes has no rows 0..1 to map"), "{e}");
    }
    assert_eq!(snapshot(path.parent().unwrap()), before);
    // The rest of the array must be there, too.
    expect_err(MmapArray::<u16>::options().rows(0..1).shape((5, 3)).opened(&path), ErrorKind::TooShort);
    expect_err(MmapArray::<u16>::options().rows(0..1).shape((5, 3)).load(&path), ErrorKind::TooShort);
    let new = || MmapArrayMut::<u16>::options().rows(0..1).shape((4, 3));
    expect_err(new().created(&path), ErrorKind::InvalidInput);
    expect_err(new().created_new("/nowhere"), ErrorKind::InvalidInput);
    expect_err(new().created_npy(&path), ErrorKind::InvalidInput);
    expect_err(new().created_new_npy("/nowhere"), ErrorKind::InvalidInput);
    assert_eq!(fs::read(&path).unwrap(), [0; 24]);
    Ok(())
}

#[test]
fn a_file_is_extended_for_the_whole_shape_whatever_rows_are_mapped() -> Result<()> {
    let (_folder, path) = file(&[1_u16; 3]);
    let part = MmapArrayMut::<u16>::options().shape((4, 3)).rows(1..2).extend(true).opened(&path)?;
    assert_eq!((part.len(), part.offset(), fs::metadata(&path).unwrap().len()), (3, 6, 24));
    Ok(())
}

/// Writers of neighbouring rows, each in its own mapping, leave one file with the rows of all.
#[test]
fn writers_of_their_own_rows_share_a_file_and_no_more() -> Result<()> {
    for fortran in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let shape = if fortran { [3, 100] } else { [100, 3] };
        MmapArrayMut::<u32>::options().shape(shape.set_f(fortran)).created_npy(&path)?.close()?;
        let header = fs::read(&path).unwrap()[..128].to_vec();
        let part = |rows: Range<usize>| MmapArrayMut::<u32>::options().rows(rows).lock(Lock::None).opened_npy(&path);
        std::thread::scope(|scope| {
            for n in 0..10 {
                scope.spawn(move || {
                    let mut mine = part(n * 10..n * 10 + 10).unwrap();
                    mine.fill(n as u32);
                    mine.flush_rows(0..10).unwrap();
                    mine.flush().unwrap();
                    let block = mine.slice_axis(outermost(&shape, fortran), Slice::from(..2)).to_owned() + 100;
                    mine.write_rows(8, &block).unwrap();
                    mine.close().unwrap();
                });
            }
        });
        let whole = MmapArray::<u32>::load_npy(&path)?;
        for (row, lane) in whole.axis_iter(outermost(&shape, fortran)).enumerate() {
            let expected = row / 10 + if row % 10 >= 8 { 100 } else { 0 };
            assert!(lane.iter().all(|&x| x as usize == expected), "row {row}");
        }
        assert_eq!(fs::read(&path).unwrap()[..128], header);
    }
    Ok(())
}

#[test]
fn some_rows_cannot_change_the_length_of_the_file_even_if_they_are_its_last() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    for npy in [false, true] {
        let path = folder.path().join(format!("{npy}"));
        let new = MmapArrayMut::<u32>::options().shape((4, 2));
        if npy { new.created_npy(&path)? } else { new.created(&path)? }.close()?;
        let before = fs::read(&path).unwrap();
        for rows in [0..4, 2..4, 4..4, 0..2] {
            let options = MmapArrayMut::<u32>::options().shape((4, 2)).rows(rows.clone());
            let mut part = if npy { options.opened_npy(&path)? } else { options.opened(&path)? };
            let e = expect_err(part.append(&array![[1, 2]]), ErrorKind::Unsupported);
            assert!(e.to_string().contains(".rows(..)"), "{e}");
            for n in [0, rows.len(), 10] {
                expect_err(part.resize(n), ErrorKind::Unsupported);
            }
            part.flush()?;
            part.close()?;
        }
        assert_eq!(fs::read(&path).unwrap(), before);
    }
    Ok(())
}

// Windows locks what others read, too.
#[cfg(unix)]
#[test]
fn readers_of_parts_share_a_lock_and_a_writer_asks_for_none() -> Result<()> {
    let (_folder, path) = file(&[0_u16; 12]);
    let reader = |rows| MmapArray::<u16>::options().shape((4, 3)).rows(rows).opened(&path);
    let writer = |rows| MmapArrayMut::<u16>::options().shape((4, 3)).rows(rows);
    let readers = (reader(0..2)?, reader(1..3)?);
    let e = expect_err(writer(3..4).opened(&path), ErrorKind::Locked);
    assert!(e.to_string().contains("Lock::None"), "{e}");
    writer(3..4).lock(Lock::None).opened(&path)?;
    drop(readers);
    let _one = writer(0..1).opened(&path)?;
    expect_err(writer(1..2).opened(&path), ErrorKind::Locked);
    Ok(())
}

/// What one row, or one element, is in each of these files; and the bytes behind the last whole one.
#[test]
fn what_is_left_behind_the_last_whole_row_is_refused_or_left_out() -> Result<()> {
    for remainder in 0..24 {
        for offset in [0, 8] {
            let bytes: Vec<u8> = (0..offset + 24 * LIVE_ROWS + remainder).map(|n| n as u8).collect();
            let (_folder, path) = file(&bytes);
            let rows = |read: &mut dyn FnMut(bool) -> Result<Vec<usize>>, row_bytes: usize| {
                let ignored = read(true).unwrap();
                let whole = (24 * LIVE_ROWS + remainder) / row_bytes;
                assert_eq!(ignored.iter().product::<usize>() * size_of::<u32>(), whole * row_bytes);
                match read(false) {
                    Ok(shape) => assert_eq!((remainder % row_bytes, shape), (0, ignored)),
                    Err(e) => {
                        assert_eq!(e.kind(), ErrorKind::LengthNotMultiple);
                        assert!(remainder % row_bytes != 0);
                        assert!(e.to_string().contains(".ignore_remainder(true)"), "{e}");
                    }
                }
            };
            let options = |ignore| MmapArray::<u32>::options().offset(offset as u64).ignore_remainder(ignore);
            rows(&mut |ignore| Ok(options(ignore).opened(&path)?.shape().to_vec()), 4);
            rows(&mut |ignore| Ok(options(ignore).load(&path)?.shape().to_vec()), 4);
            rows(&mut |ignore| Ok(options(ignore).mapped(&File::open(&path).unwrap())?.shape().to_vec()), 4);
            rows(&mut |ignore| Ok(options(ignore).row_shape((2, 3)).opened(&path)?.shape().to_vec()), 24);
            rows(&mut |ignore| Ok(options(ignore).row_shape((2, 3).f()).opened(&path)?.shape().to_vec()), 24);
            let cow = |ignore| MmapArrayCow::<u32>::options().offset(offset as u64).ignore_remainder(ignore);
            rows(&mut |ignore| Ok(cow(ignore).row_shape(6).opened(&path)?.shape().to_vec()), 24);
            let writable = |ignore| MmapArrayMut::<u32>::options().offset(offset as u64).ignore_remainder(ignore);
            rows(&mut |ignore| Ok(writable(ignore).row_shape(3).opened(&path)?.shape().to_vec()), 12);
            // What is left out is still there, and keeps the array from growing.
            let mut a = writable(true).row_shape(6).opened(&path)?;
            match a.append(&Array2::zeros((1, 6))) {
                Ok(()) => assert_eq!(remainder, 0),
                Err(e) => assert_eq!((e.kind(), remainder > 0), (ErrorKind::InvalidInput, true)),
            }
        }
    }
    // Not even one.
    let (_folder, path) = file(&[1_u8; 7]);
    let none = MmapArray::<f64>::options().ignore_remainder(true);
    assert_eq!(none.clone().opened(&path)?.shape(), [0]);
    assert_eq!(none.clone().row_shape(3).load(&path)?.dim(), (0, 3));
    expect_err(none.clone().offset(8).opened(&path), ErrorKind::TooShort);
    expect_err(none.row_shape(0).opened(&path), ErrorKind::InvalidInput);
    Ok(())
}

#[test]
fn rows_in_fortran_order_are_along_the_last_axis() -> Result<()> {
    let numbers: Vec<u32> = (0..24).collect();
    let (_folder, path) = file(&numbers);
    let options = MmapArray::<u32>::options;
    let by_shape = options().shape((2, 3, 4).f()).load(&path)?;
    let a: MmapArray<u32, Ix3> = options().row_shape((2, 3).f()).opened(&path)?;
    assert_eq!((a.view(), a.strides()), (by_shape.view(), by_shape.strides()));
    let a: MmapArray<u32, IxDyn> = options().row_shape(vec![2, 3].f()).load(&path)?;
    assert_eq!(a.view(), by_shape.view().into_dyn());
    let a: MmapArray<u32, Ix2> = options().row_shape(6.f()).rows(1..3).opened(&path)?;
    assert_eq!((a.dim(), a[[0, 0]], a.strides()), ((6, 2), 6, &[1, 6][..]));
    assert_eq!(options().row_shape(().f()).opened(&path)?.dim(), 24);

    let npy = path.with_extension("npy");
    MmapArrayMut::<u32>::options().shape((2, 3, 4).f()).created_npy(&npy)?.assign(&by_shape);
    assert_eq!(options().row_shape((2, 3).f()).opened_npy(&npy)?.view(), by_shape.view());
    assert_eq!(options().row_shape((3, 4)).opened_npy(&npy)?.view(), by_shape.view());
    let e = expect_err(options().row_shape((3, 4).f()).opened_npy(&npy), ErrorKind::ShapeMismatch);
    assert!(e.to_string().contains("rows of shape [3, 4] were"), "{e}");
    expect_err(options().row_shape((2, 3)).opened_npy(&npy), ErrorKind::ShapeMismatch);
    Ok(())
}

/// By a handle as by a path: the same array, whatever the handle's position, which stays.
#[test]
fn a_npy_file_is_mapped_by_its_handle() -> Result<()> {
    fn maps<M: Supports<f32> + OpenExisting>(path: &Path, file: &mut File, shape: &[usize]) {
        file.seek(SeekFrom::Start(3)).unwrap();
        let by_path = MmapArrayBase::<f32, IxDyn, M>::options().lock(Lock::None).opened_npy(path).unwrap();
        let by_handle = MmapArrayBase::<f32, IxDyn, M>::options().mapped_npy(file).unwrap();
        assert_eq!((by_handle.view(), by_handle.strides()), (by_path.view(), by_path.strides()));
        assert_eq!((by_handle.offset(), by_handle.path(), by_handle.shape()), (by_path.offset(), None, shape));
        // Elsewhere reading at an offset moves it.
        #[cfg(unix)]
        assert_eq!(file.stream_position().unwrap(), 3);
    }
    let folder = tempfile::tempdir().unwrap();
    for (shape, fortran) in [(vec![], false), (vec![0, 4], false), (vec![5, 4], false), (vec![5, 4], true)] {
        let path = folder.path().join(format!("{shape:?}{fortran}"));
        let mut new = MmapArrayMut::<f32>::options().shape(shape.clone().set_f(fortran)).created_npy(&path)?;
        new.iter_mut().zip(0..).for_each(|(x, n)| *x = n as f32);
        new.close()?;
        let mut file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        maps::<ReadOnly>(&path, &mut file, &shape);
        maps::<CopyOnWrite>(&path, &mut file, &shape);
        maps::<ReadWrite>(&path, &mut file, &shape);
        let mut reading = File::open(&path).unwrap();
        maps::<ReadOnly>(&path, &mut reading, &shape);
        expect_err(MmapArrayMut::<f32>::options().mapped_npy(&reading), ErrorKind::Io);
        expect_err(MmapArray::<f64>::options().mapped_npy(&reading), ErrorKind::DtypeMismatch);
        expect_err(MmapArray::<f32>::options().offset(1).mapped_npy(&reading), ErrorKind::InvalidHeader);
        expect_err(MmapArray::<f32>::options().offset(u64::MAX).mapped_npy(&reading), ErrorKind::Overflow);
    }
    #[cfg(unix)]
    expect_err(MmapArray::<f32>::options().mapped_npy(&File::open("/dev/null").unwrap()), ErrorKind::NotRegularFile);
    Ok(())
}

#[test]
fn a_npy_file_grows_by_its_handle_even_one_that_appends() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    // Where the file cannot be opened anew, a handle that appends cannot rewrite the header: see the next test.
    for append in if cfg!(target_os = "linux") { [false, true] } else { [false, false] } {
        let path = folder.path().join(format!("{append}"));
        MmapArrayMut::<u16>::options().shape((0, 2)).created_npy(&path)?.close()?;
        let mut file = OpenOptions::new().read(true).write(true).append(append).open(&path).unwrap();
        let mut log = MmapArrayMut::<u16, Ix2>::options().mapped_npy(&file)?;
        for n in 0..20 {
            log.append(&array![[n, n + 1]])?;
        }
        log.resize(12)?;
        log.close()?;
        let whole = MmapArray::<u16, Ix2>::load_npy(&path)?;
        assert_eq!((whole.dim(), whole.row(11)), ((12, 2), aview1(&[11, 12])));
        assert_eq!(fs::metadata(&path).unwrap().len(), 128 + 48);
        let mut start = [0; 6];
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"\x93NUMPY");
    }
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn a_handle_that_appends_and_cannot_be_opened_anew_changes_no_header() -> Result<()> {
    use crate::support::kernel::{no_files, refusing};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    MmapArrayMut::<u16>::options().shape((3, 2)).created_npy(&path)?.close()?;
    let before = fs::read(&path).unwrap();
    let mapped = |append| {
        let file = OpenOptions::new().read(true).write(true).append(append).open(&path).unwrap();
        refusing(&no_files(libc::EACCES), || MmapArrayMut::<u16, Ix2>::options().mapped_npy(&file))
    };
    let mut log = mapped(true)?;
    expect_err(log.append(&array![[1, 2]]), ErrorKind::Unsupported);
    expect_err(log.push(&array![1, 2]), ErrorKind::Unsupported);
    expect_err(log.resize(1), ErrorKind::Unsupported);
    assert_eq!(log.dim(), (3, 2));
    log.close()?;
    assert_eq!(fs::read(&path).unwrap(), before);
    let mut log = mapped(false)?;
    log.append(&array![[1, 2]])?;
    log.close()?;
    assert_eq!(MmapArray::<u16, Ix2>::load_npy(&path)?.row(3), aview1(&[1, 2]));
    Ok(())
}

/// A table of record sizes, fields and places: a view where strides can say it, and always a copy.
#[test]
fn fields_are_those_bytes_of_every_record() -> Result<()> {
    fn is_at<const N: usize, T>(bytes: &[u8], path: &Path, byte: usize, offset: usize)
    where
        T: Pod + PartialEq + std::fmt::Debug,
    {
        let whole = (bytes.len() - offset) / N;
        let of_record = |r: usize| {
            let at = offset + r * N + byte;
            bytemuck::pod_read_unaligned::<T>(&bytes[at..at + size_of::<T>()])
        };
        let fits = byte + size_of::<T>() <= N;
        let expected: Vec<T> = (0..whole).map_while(|r| fits.then(|| of_record(r))).collect();

        let packets = MmapArray::<u8>::options().offset(offset as u64).row_shape(N).ignore_remainder(true);
        match packets.opened(path).unwrap().read_field::<T>(byte) {
            Ok(copied) => assert_eq!(copied.to_vec(), expected),
            Err(e) => assert_eq!((e.kind(), fits), (ErrorKind::InvalidInput, false)),
        }
        // The same bytes with the first of each record together, then the second.
        let planes = Array2::from_shape_fn((whole, N).f(), |(r, b)| bytes[offset + r * N + b]);
        let mut fortran = MmapArrayMut::<u8>::scratch((whole, N).f()).unwrap();
        fortran.assign(&planes);
        assert_eq!(fortran.read_field::<T>(byte).ok().map(|copied| copied.to_vec()), fits.then(|| expected.clone()));

        let options = || MmapArray::<[u8; N]>::options().offset(offset as u64).ignore_remainder(true);
        for records in [options().opened(path).unwrap(), options().load(path).unwrap()] {
            let copied = records.copy_field::<T>(byte).map(|copied| copied.into_iter().collect::<Vec<_>>());
            assert_eq!(copied.ok(), fits.then(|| expected.clone()));
            let start = records.as_ptr().addr() + byte;
            let viewed = records.field::<T>(byte).map(|view| view.iter().copied().collect::<Vec<_>>());
            match viewed.map_err(|e| e.kind()) {
                Ok(viewed) => assert_eq!(viewed, expected),
                Err(ErrorKind::InvalidInput) => assert!(!fits),
                Err(ErrorKind::Unsupported) => assert!(!N.is_multiple_of(size_of::<T>())),
                Err(ErrorKind::Misaligned) => assert!(!start.is_multiple_of(align_of::<T>())),
                Err(other) => panic!("{other:?}"),
            }
        }
        let mut records = MmapArrayCow::<[u8; N]>::options().ignore_remainder(true).opened(path).unwrap();
        let readable = records.field::<T>(byte).is_ok();
        let unwritten = records.to_owned();
        match records.field_mut::<T>(byte) {
            Ok(mut view) => {
                assert!(readable);
                view.fill(T::zeroed());
                let place = byte..byte + size_of::<T>();
                for (new, old) in records.iter().zip(&unwritten) {
                    assert!(new[place.clone()].iter().all(|&b| b == 0));
                    assert_eq!((&new[..byte], &new[place.end..]), (&old[..byte], &old[place.end..]));
                }
            }
            Err(_) => assert!(!readable),
        }
    }
    let bytes: Vec<u8> = (0..500_u32).map(|n| (n * 7) as u8).collect();
    let (_folder, path) = file(&bytes);
    for byte in [0, 1, 4, 5, 8, 15, 16, 22, 23, 24, usize::MAX] {
        for offset in [0, 1, 8] {
            if byte <= 24 {
                is_at::<24, u8>(&bytes, &path, byte, offset);
                is_at::<24, u64>(&bytes, &path, byte, offset);
                is_at::<24, [u16; 3]>(&bytes, &path, byte, offset);
                is_at::<23, u32>(&bytes, &path, byte, offset);
                is_at::<23, u64>(&bytes, &path, byte, offset);
                is_at::<100, u64>(&bytes, &path, byte, offset);
                is_at::<16, u128>(&bytes, &path, byte, offset);
            }
        }
        let records = MmapArray::<[u8; 20]>::load(&path)?;
        assert_eq!(records.field::<u32>(byte).is_ok(), byte <= 16 && byte % 4 == 0);
    }
    Ok(())
}

#[test]
fn a_field_has_the_shape_and_order_of_its_records() -> Result<()> {
    for fortran in [false, true] {
        let mut a = MmapArrayMut::<[u32; 3]>::scratch((4, 5).set_f(fortran))?;
        a.indexed_iter_mut().for_each(|((i, j), x)| *x = [i as u32, j as u32, 9]);
        let (i, j) = (a.field::<u32>(0)?, a.field::<u32>(4)?);
        assert_eq!((i.dim(), j.dim()), ((4, 5), (4, 5)));
        assert!(i.indexed_iter().all(|((at, _), &x)| x as usize == at));
        assert!(j.indexed_iter().all(|((_, at), &x)| x as usize == at));
        assert_eq!(i.strides()[0] == 3, fortran);
        let bytes = MmapArrayMut::<u8>::scratch((4, 5, 12).set_f(fortran))?;
        assert_eq!(bytes.read_field::<u32>(8)?.dim(), (4, 5));
        assert_eq!(bytes.read_field::<u32>(8)?.is_standard_layout(), !fortran);
    }
    let none = MmapArrayMut::<[u32; 3]>::scratch((4, 0))?;
    assert_eq!(none.field::<u32>(4)?.dim(), (4, 0));
    let none = MmapArrayMut::<u8>::scratch((4, 0))?;
    assert_eq!(none.read_field::<u8>(0).unwrap_err().kind(), ErrorKind::InvalidInput);
    let dynamic = MmapArrayMut::<u8>::scratch(vec![3, 8])?;
    assert_eq!(dynamic.read_field::<f64>(0)?.shape(), [3]);
    let scalar = MmapArrayMut::<u8>::scratch(vec![])?;
    assert_eq!(scalar.read_field::<u8>(0).unwrap_err().kind(), ErrorKind::InvalidInput);
    Ok(())
}

/// Padding of a record that can only be read is bytes of the file, too.
#[test]
fn a_field_may_lie_in_the_padding_of_a_record() -> Result<()> {
    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Padded(u8, u32);
    // SAFETY: zero is a value of both fields.
    unsafe impl bytemuck::Zeroable for Padded {}
    // SAFETY: so is every bit pattern.
    unsafe impl bytemuck::AnyBitPattern for Padded {}
    let (_folder, path) = file(&[1_u8, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16, 17, 18]);
    for records in [MmapArray::<Padded>::options().opened(&path)?, MmapArray::<Padded>::load(&path)?] {
        assert_eq!(
            records.field::<[u8; 2]>(2)?,
            array![[3_u8, 4], [13, 14]].map_axis(Axis(1), |b| [b[0], b[1]]).into_dyn()
        );
    }
    Ok(())
}

/// Types are inferred from what is given.
#[test]
fn a_shape_of_rows_fixes_the_dimension() {
    let _: MmapArrayOptions<u8, Ix1, ReadOnly> = MmapArray::<u8>::options().row_shape(());
    let _: MmapArrayOptions<u8, Ix3, ReadOnly> = MmapArray::<u8>::options().row_shape((2, 2).f());
    let _: MmapArrayOptions<u8, IxDyn, ReadOnly> = MmapArray::<u8>::options().row_shape(&[2, 2][..]);
    let _: MmapArrayOptions<u8, Ix2, ReadOnly> = MmapArray::<u8>::options().row_shape(Ix1(2));
    let _: MmapArrayOptions<u8, Ix3, ReadOnly> = MmapArray::<u8>::options().row_shape([2, 2]);
}
