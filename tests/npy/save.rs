//! `save_npy` and `open_or_create_npy`: whatever lies in memory is written as NumPy writes it, and a path has the old file or
//! the new one.

use std::fs;
use std::path::Path;

#[cfg(unix)]
use crate::support::arrays::expect_io_err;
use crate::support::arrays::{CreateExt, OpenExt, expect_err};
#[cfg(target_os = "linux")]
use crate::support::process::in_child;
use crate::support::snapshot::snapshot;
use bytemuck::Pod;
use ndarray::prelude::*;
use ndarray_mmap::npy::{Header, NpyElement};
use ndarray_mmap::{
    Datetime64, ErrorKind, FixedBytes, MmapArray, MmapArrayBase, MmapArrayMut, ReadWrite, Result, save_npy, time_units,
};

/// The bytes that NumPy writes for these elements in this order.
fn file_of<A: Pod + NpyElement, D: Dimension>(array: &ArrayRef<A, D>, fortran: bool) -> Vec<u8> {
    let shape = array.shape().to_vec();
    let header = Header::builder().dtype(A::dtype()).shape(shape).fortran_order(fortran).build().unwrap();
    let mut bytes = header.to_bytes().unwrap();
    let elements: Vec<A> = if fortran { array.t().iter().copied().collect() } else { array.iter().copied().collect() };
    bytes.extend_from_slice(bytemuck::cast_slice(&elements));
    bytes
}

#[track_caller]
fn saves<A: Pod + NpyElement, D: Dimension>(path: &Path, array: &ArrayRef<A, D>, fortran: bool) {
    save_npy(path, array).unwrap();
    assert!(fs::read(path).unwrap() == file_of(array, fortran), "{:?} {:?}", array.shape(), array.strides());
}

/// Every way an array lies in memory, of a shape of two axes or more.
fn saves_in_all_layouts<A: Pod + NpyElement>(path: &Path, element: impl Fn(usize) -> A) {
    for shape in [vec![0, 3], vec![3, 0], vec![5, 4], vec![1, 7], vec![7, 1], vec![2, 3, 4], vec![4, 1, 3, 2]] {
        let size: usize = shape.iter().product();
        let c = ArrayD::from_shape_vec(shape.clone(), (0..size).map(&element).collect()).unwrap();
        saves(path, &c, false);
        let transposed = c.t();
        saves(path, &transposed, !transposed.is_standard_layout());
        let mut f = ArrayD::from_elem(shape.clone().f(), element(0));
        f.assign(&c);
        saves(path, &f, !f.is_standard_layout());
        for (step, axis) in [(2, 0), (-1, 0), (-1, 1), (3, 1)] {
            let sliced = c.slice_axis(Axis(axis), ndarray::Slice::new(0, None, step));
            saves(path, &sliced, !sliced.is_standard_layout() && sliced.t().is_standard_layout());
        }
        if !c.is_empty() {
            let broadcast = c.index_axis(Axis(c.ndim() - 1), 0);
            let repeated = broadcast.broadcast([&[3], broadcast.shape()].concat()).unwrap();
            saves(path, &repeated, false);
        }
    }
    saves(path, &arr0(element(7)), false);
    saves(path, &Array1::from_iter((0..9).map(&element)), false);
    saves(path, &Array1::from_iter((0..9).map(&element)).slice(s![..;-2]), false);
}

#[test]
fn whatever_the_layout_the_file_is_numpys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    saves_in_all_layouts(&path, |n| n as u8);
    saves_in_all_layouts(&path, |n| n as f64 / 3.0);
    saves_in_all_layouts(&path, |n| FixedBytes::<3>::new(&[n as u8, 1]).unwrap());
    saves_in_all_layouts(&path, |n| Datetime64::<time_units::Second>::new(n as i64));
    // More than one piece, rows that are longer than one, and one row that is all.
    let large = Array2::from_shape_fn((300, 1000), |(i, j)| (i * 1000 + j) as u32);
    saves(&path, &large.slice(s![.., ..;2]), false);
    saves(&path, &large.t(), true);
    let wide = Array2::from_shape_fn((3, 200_000), |(i, j)| (i * 200_000 + j) as u32);
    saves(&path, &wide.slice(s![..;-1, ..]), false);
    saves(&path, &wide.slice(s![..1, ..;2]), false);
    saves(&path, &wide.slice(s![.., ..;3]).insert_axis(Axis(0)), false);
    let cube = Array3::from_shape_fn((2, 700, 300), |(i, j, k)| (i * 210_000 + j * 300 + k) as u16);
    saves(&path, &cube.view().permuted_axes([1, 0, 2]), false);
    saves(&path, &cube.view().permuted_axes([0, 2, 1]), false);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// In Fortran order a `.npy` file could not hold them: they are written in C order.
#[test]
fn elements_that_are_arrays_are_saved_in_c_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let triples = Array2::from_shape_fn((4, 5).f(), |(i, j)| [i as f32, j as f32, 9.0]);
    save_npy(&path, &triples).unwrap();
    let header = Header::read(&path).unwrap();
    assert_eq!((header.shape(), header.fortran_order()), (&[4, 5, 3][..], false));
    assert_eq!(MmapArray::<[f32; 3], Ix2>::load_npy(&path).unwrap(), triples);
}

// Windows does not let a mapped file be replaced.
#[cfg(unix)]
#[test]
fn an_array_is_saved_to_the_file_that_it_is_mapped_from() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    save_npy(&path, &array![[1_i32, 2], [3, 4]])?;
    let a = MmapArray::<i32, Ix2>::options().opened_npy(&path);
    let a = a.or_else(|_| MmapArray::<i32>::options().opened_npy(&path)?.into_dimensionality())?;
    save_npy(&path, &a.t())?;
    assert_eq!(a, array![[1, 2], [3, 4]]);
    assert_eq!(MmapArray::<i32, Ix2>::load_npy(&path)?, array![[1, 3], [2, 4]]);
    // Mapped arrays of any mode, results of arithmetic.
    save_npy(&path, &(&a * 10))?;
    let cow = MmapArrayMut::<i32>::scratch((2, 2))?;
    save_npy(&path, &cow)?;
    assert_eq!(MmapArray::<i32, Ix2>::load_npy(&path)?.sum(), 0);
    Ok(())
}

#[test]
fn what_cannot_be_saved_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    save_npy(&path, &array![1, 2, 3]).unwrap();
    let before = snapshot(folder.path());
    // More axes than NumPy has.
    expect_err(save_npy(&path, &ArrayD::<u8>::zeros(vec![1; 65])), ErrorKind::Unsupported);
    expect_err(save_npy(folder.path(), &array![1]), ErrorKind::NotRegularFile);
    expect_err(save_npy(folder.path().join("no/such/folder.npy"), &array![1]), ErrorKind::Io);
    // More bytes than can be counted, of one element.
    let huge = aview0(&1_u64);
    let huge = huge.broadcast([1 << 31, 1 << 30]).unwrap();
    let e = expect_err(save_npy(&path, &huge), ErrorKind::Overflow);
    assert_eq!(e.path(), Some(path.as_path()));
    assert_eq!(snapshot(folder.path()), before);
}

#[cfg(unix)]
#[test]
fn permissions_and_links_are_kept() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let (path, link) = (folder.path().join("a.npy"), folder.path().join("link"));
    save_npy(&path, &array![1]).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&path, &link).unwrap();
    save_npy(&link, &array![2]).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(MmapArray::<i32>::load_npy(&path).unwrap()[0], 2);
    let missing = folder.path().join("no");
    expect_io_err(save_npy(missing.join("a"), &array![1]), std::io::ErrorKind::NotFound);
}

fn open_or_create<D: Dimension>(
    path: &Path,
    shape: impl ShapeBuilder<Dim = D>,
) -> Result<MmapArrayBase<f32, D, ReadWrite>> {
    // SAFETY: as `OpenExt` says.
    unsafe { MmapArrayMut::<f32>::open_or_create_npy(path, shape) }
}

#[test]
fn a_log_is_created_once_and_opened_from_then_on() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    for fortran in [false, true] {
        let path = folder.path().join(format!("{fortran}"));
        let shape = || if fortran { [3, 0] } else { [0, 3] }.set_f(fortran);
        for run in 0..5 {
            let mut log = open_or_create(&path, shape())?;
            assert_eq!(log.len(), run * 3);
            log.push(&array![run as f32, 0.5, 1.5])?;
            log.close()?;
        }
        let whole = MmapArray::<f32, Ix2>::load_npy(&path)?;
        let whole = if fortran { whole.t().to_owned() } else { whole.to_owned() };
        assert_eq!(whole.column(0), aview1(&[0.0, 1.0, 2.0, 3.0, 4.0]));
        // A new file is the one that `create_new_npy` makes.
        let new = folder.path().join(format!("new {fortran}"));
        MmapArrayMut::<f32>::options().shape(shape()).created_new_npy(&new)?.close()?;
        let created = folder.path().join(format!("created {fortran}"));
        open_or_create(&created, shape())?.close()?;
        assert_eq!(fs::read(&new).unwrap(), fs::read(&created).unwrap());
    }
    let mut one = open_or_create(&folder.path().join("one axis"), 0)?;
    one.push(&arr0(1.0))?;
    one.close()?;
    assert_eq!(open_or_create(&folder.path().join("one axis"), 0.f())?.len(), 1);
    Ok(())
}

/// Shape asked for, in which order, and what an existing file of shape (4, 3) in C order says.
#[test]
fn an_existing_file_must_be_the_one_that_was_asked_for() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    MmapArrayMut::<f32>::options().shape((4, 3)).created_npy(&path)?.close()?;
    let before = snapshot(folder.path());
    for (shape, fortran, fits) in [
        (vec![0, 3], false, true),
        (vec![4, 3], false, true),
        (vec![0, 3], true, false),
        (vec![4, 0], true, false),
        (vec![4, 3], true, false),
        (vec![0, 4], false, false),
        (vec![5, 3], false, false),
        (vec![0], false, false),
        (vec![0, 3, 1], false, false),
        (vec![4, 0], false, false),
    ] {
        match open_or_create(&path, shape.clone().set_f(fortran)) {
            Ok(a) => assert_eq!((a.shape(), fits), (&[4, 3][..], true), "{shape:?} {fortran}"),
            Err(e) => assert_eq!((e.kind(), fits), (ErrorKind::ShapeMismatch, false), "{shape:?} {fortran}: {e}"),
        }
    }
    // SAFETY: as `OpenExt` says.
    expect_err(unsafe { MmapArrayMut::<f64>::open_or_create_npy(&path, (0, 3)) }, ErrorKind::DtypeMismatch);
    // SAFETY: as `OpenExt` says.
    expect_err(unsafe { MmapArrayMut::<f32>::options().open_or_create_npy(&path) }, ErrorKind::ShapeRequired);
    expect_err(open_or_create(folder.path(), (0, 3)), ErrorKind::Io);
    expect_err(open_or_create(&folder.path().join("no/such"), (0, 3)), ErrorKind::Io);
    let reader = MmapArray::<f32>::options().opened_npy(&path)?;
    expect_err(open_or_create(&path, (0, 3)), ErrorKind::Locked);
    drop(reader);
    assert_eq!(snapshot(folder.path()), before);
    fs::write(folder.path().join("text"), "no array").unwrap();
    expect_err(open_or_create(&folder.path().join("text"), (0, 3)), ErrorKind::InvalidHeader);
    Ok(())
}

/// Many at once: one creates, the others open, and no row is lost.
#[test]
fn of_many_that_come_first_one_creates_the_file() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let path = folder.path().join(format!("{round}"));
        std::thread::scope(|scope| {
            for n in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    loop {
                        match open_or_create(path, (0, 2)) {
                            Ok(mut log) => {
                                log.push(&array![n as f32, 1.0]).unwrap();
                                return log.close().unwrap();
                            }
                            Err(e) => assert_eq!(e.kind(), ErrorKind::Locked, "{e}"),
                        }
                        std::thread::yield_now();
                    }
                });
            }
        });
        let log = MmapArray::<f32, Ix2>::load_npy(&path).unwrap();
        let mut seen = log.column(0).to_vec();
        seen.sort_by(f32::total_cmp);
        assert_eq!(seen, (0..8).map(|n| n as f32).collect::<Vec<_>>());
    }
}

/// A process that is killed at any moment while it saves leaves the old file or the new one.
#[cfg(target_os = "linux")]
#[test]
fn a_killed_save_leaves_a_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let array = |n: u64| Array2::from_elem((200, 100), n);
    save_npy(&path, &array(0)).unwrap();
    for _ in 0..10 {
        let mut child = in_child!(|| {
            let path = std::env::var_os("SAVED").unwrap();
            for n in 0_u64.. {
                save_npy(Path::new(&path), &Array2::from_elem((200, 100), n)).unwrap();
                if n == 3 {
                    crate::support::process::tell_parent("saving");
                }
            }
        })
        .with("SAVED", &path)
        .start();
        assert_eq!(child.line().as_deref(), Some("saving"));
        child.kill();
        let found = MmapArray::<u64, Ix2>::options().lock(ndarray_mmap::Lock::None).load_npy(&path).unwrap();
        assert!(found.iter().all(|&x| x == found[[0, 0]]));
    }
    // An unnamed file leaves nothing behind; a name, while it is renamed, at most once.
    assert!(fs::read_dir(folder.path()).unwrap().count() <= 2);
}
