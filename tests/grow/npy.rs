//! `.npy` files whose arrays grow and shrink: after each step the file is one that NumPy could have written, and
//! what cannot grow is as it was.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::support::arrays::{OpenExt, expect_err};
#[cfg(target_os = "linux")]
use crate::support::process::{self, in_child};
use crate::support::snapshot::contents;
#[cfg(unix)]
use ndarray::Slice;
use ndarray::concatenate;
use ndarray::prelude::*;
use ndarray_mmap::npy::{Header, NpyElement};
use ndarray_mmap::{ErrorKind, Lock, MmapArray, MmapArrayMut, Staged};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn numbers(start: i32, rows: usize, cols: usize) -> Array2<i32> {
    Array2::from_shape_fn((rows, cols), |(i, j)| start + (i * cols + j) as i32)
}

/// As [`numbers`], with the rows along the last axis.
fn in_f_order(start: i32, rows: usize, cols: usize) -> Array2<i32> {
    numbers(start, rows, cols).reversed_axes()
}

fn create<A, Sh>(path: &Path, shape: Sh) -> MmapArrayMut<A, Sh::Dim>
where
    A: NpyElement + bytemuck::Pod,
    Sh: ShapeBuilder,
{
    // SAFETY: the promise is kept as `OpenExt` says.
    unsafe { MmapArrayMut::<A>::create_npy(path, shape).unwrap() }
}

fn open<A: NpyElement + bytemuck::Pod, D: Dimension>(path: &Path) -> MmapArrayMut<A, D> {
    // SAFETY: as above.
    unsafe { MmapArrayMut::<A, D>::open_npy(path).unwrap() }
}

/// The bytes that `np.save` would write for `array`: a header from nothing, and the elements in the order of the file.
fn saved<A: NpyElement + bytemuck::Pod, D: Dimension>(array: &ArrayRef<A, D>, fortran_order: bool) -> Vec<u8> {
    let folder = folder();
    let path = folder.path().join("saved.npy");
    let mut new = create::<A, _>(&path, array.raw_dim().set_f(fortran_order));
    new.assign(array);
    new.close().unwrap();
    fs::read(path).unwrap()
}

/// The file is one that NumPy could have written for `array`, to the byte, and is read back as it.
#[track_caller]
fn holds<A, D>(path: &Path, array: &ArrayRef<A, D>, fortran_order: bool)
where
    A: NpyElement + bytemuck::Pod + PartialEq + std::fmt::Debug,
    D: Dimension,
{
    assert_eq!(fs::read(path).unwrap(), saved(array, fortran_order));
    let read = MmapArray::<A, D>::options().lock(Lock::None).load_npy(path).unwrap();
    assert_eq!(*read, *array);
}

/// A `.npy` file as other programs may write it: `text` without a blank to spare.
fn tight(path: &Path, text: &str, data: &[u8]) {
    let length = u16::try_from(text.len()).unwrap().to_le_bytes();
    fs::write(path, [&b"\x93NUMPY\x01\x00"[..], &length, text.as_bytes(), data].concat()).unwrap();
}

#[test]
fn each_step_leaves_the_file_that_numpy_would_write() {
    let folder = folder();
    let path = folder.path().join("c.npy");
    let mut a = create::<i32, _>(&path, (0, 3));
    holds(&path, &numbers(0, 0, 3), false);
    let mut rows = 0;
    // Over every number of digits that a test can afford, one row at a time where it changes.
    for more in [1, 7, 1, 1, 1, 88, 1, 1, 899, 1, 9_000, 1] {
        a.append(&numbers(rows as i32 * 3, more, 3)).unwrap();
        rows += more;
        assert_eq!(*a, numbers(0, rows, 3));
        holds(&path, &numbers(0, rows, 3), false);
    }
    for fewer in [9_999, 1_000, 999, 10, 9, 1, 0] {
        a.resize(fewer).unwrap();
        assert_eq!(*a, numbers(0, fewer, 3));
        holds(&path, &numbers(0, fewer, 3), false);
    }
    a.resize(5).unwrap();
    holds(&path, &Array2::<i32>::zeros((5, 3)), false);
}

#[test]
fn fortran_order_grows_along_the_last_axis() {
    let folder = folder();
    let path = folder.path().join("f.npy");
    let mut a = create::<i32, _>(&path, (3, 0).f());
    holds(&path, &in_f_order(0, 0, 3), true);
    let mut rows = 0;
    for more in [1, 8, 1, 90, 1] {
        a.append(&in_f_order(rows as i32 * 3, more, 3)).unwrap();
        rows += more;
        holds(&path, &in_f_order(0, rows, 3), true);
    }
    // A block that lies in memory the other way round.
    let as_c = in_f_order(rows as i32 * 3, 4, 3).as_standard_layout().to_owned();
    a.append(&as_c).unwrap();
    holds(&path, &in_f_order(0, rows + 4, 3), true);
    a.resize(9).unwrap();
    holds(&path, &in_f_order(0, 9, 3), true);
    a.close().unwrap();
    assert_eq!(Header::read(&path).unwrap().shape(), [3, 9]);
}

#[test]
fn any_number_of_axes_grows_along_the_outermost() {
    let folder = folder();
    for fortran_order in [false, true] {
        for axes in [vec![0], vec![2, 3, 0, 2], vec![0, 2, 3], vec![2, 0]] {
            let axis = Axis(if fortran_order { axes.len() - 1 } else { 0 });
            let mut axes = axes;
            axes[axis.index()] = 2;
            let path = folder.path().join("n.npy");
            let mut a = create::<u16, _>(&path, IxDyn(&axes).set_f(fortran_order));
            let mut next = 0;
            let block = ArrayD::from_shape_simple_fn(IxDyn(&axes), || {
                next += 1;
                next
            });
            a.assign(&block);
            a.append(&block).unwrap();
            // One axis has one order, and NumPy calls it C.
            holds(&path, &concatenate![axis, block, block], fortran_order);
        }
    }
}

#[test]
fn rows_without_elements_are_counted_too() {
    let folder = folder();
    let path = folder.path().join("empty.npy");
    let mut a = create::<f64, _>(&path, (2, 0));
    a.append(&Array2::zeros((3, 0))).unwrap();
    holds(&path, &Array2::<f64>::zeros((5, 0)), false);
    a.resize(1).unwrap();
    holds(&path, &Array2::<f64>::zeros((1, 0)), false);
    a.close().unwrap();
    assert_eq!(open::<f64, Ix2>(&path).dim(), (1, 0));
}

#[test]
fn elements_that_are_arrays_keep_their_axes_in_the_header() {
    let folder = folder();
    let path = folder.path().join("points.npy");
    let mut points = create::<[f32; 3], _>(&path, 0);
    for i in 0..12 {
        points.append(&arr1(&[[i as f32, 0.5, -1.0]])).unwrap();
    }
    assert_eq!(Header::read(&path).unwrap().shape(), [12, 3]);
    points.resize(11).unwrap();
    points.close().unwrap();
    let as_matrix = Array2::from_shape_fn((11, 3), |(i, j)| [i as f32, 0.5, -1.0][j]);
    holds(&path, &as_matrix, false);
    let mut points = open::<[f32; 3], Ix1>(&path);
    points.append(&arr1(&[[9.0; 3], [8.0; 3]])).unwrap();
    assert_eq!(Header::read(&path).unwrap().shape(), [13, 3]);
    assert_eq!(open_shared::<[f32; 3]>(&path)[12], [8.0; 3]);
}

fn open_shared<A: NpyElement + bytemuck::Pod>(path: &Path) -> MmapArray<A, Ix1> {
    // SAFETY: nothing is written to the file as long as it lives.
    unsafe { MmapArray::<A, Ix1>::options().lock(Lock::None).open_npy(path).unwrap() }
}

#[test]
fn an_array_behind_other_bytes_grows_where_it_is() {
    let folder = folder();
    let path = folder.path().join("behind.npy");
    // SAFETY: as in `create`.
    let mut a = unsafe { MmapArrayMut::<i32>::options().offset(4096).shape((0, 3)).create_npy(&path).unwrap() };
    a.append(&numbers(0, 30, 3)).unwrap();
    a.close().unwrap();
    let bytes = fs::read(&path).unwrap();
    assert!(bytes[..4096].iter().all(|&b| b == 0));
    assert_eq!(bytes[4096..], saved(&numbers(0, 30, 3), false));
}

#[test]
fn data_on_a_page_of_their_own_stay_there() {
    let folder = folder();
    let path = folder.path().join("page.npy");
    // SAFETY: as in `create`.
    let mut a = unsafe { MmapArrayMut::<i32>::options().shape((0, 3)).page_aligned(true).create_npy(&path).unwrap() };
    a.append(&numbers(0, 1_000, 3)).unwrap();
    a.flush().unwrap();
    a.close().unwrap();
    assert_eq!(Header::read(&path).unwrap().data_offset(), 4096);
    assert_eq!(*MmapArray::<i32, Ix2>::load_npy(&path).unwrap(), numbers(0, 1_000, 3));
}

#[test]
fn staged_arrays_grow_before_they_have_a_name() {
    let folder = folder();
    let path = folder.path().join("staged.npy");
    let mut a = Staged::<i32>::stage_npy(&path, (0, 3)).unwrap();
    a.append(&numbers(0, 1_000, 3)).unwrap();
    a.append(&numbers(3_000, 1, 3)).unwrap();
    assert!(!path.exists());
    a.publish().unwrap();
    holds(&path, &numbers(0, 1_001, 3), false);
}

#[test]
fn a_header_without_room_names_the_way_out_and_nothing_changes() {
    let folder = folder();
    let path = folder.path().join("tight.npy");
    tight(&path, "{'descr':'|u1','fortran_order':False,'shape':(9,),}\n", b"123456789");
    let before = contents(folder.path());
    let mut a = open::<u8, Ix1>(&path);
    for result in [a.append(&array![1]), a.resize(10), a.resize(1 << 40)] {
        let e = expect_err(result, ErrorKind::Unsupported);
        assert!(e.to_string().contains("write the array to a new file"), "{e}");
    }
    assert_eq!(*a, Array1::from_vec(b"123456789".to_vec()));
    assert_eq!(contents(folder.path()), before);
    // What takes no more digits has room.
    a.resize(7).unwrap();
    a.append(&array![b'x', b'y']).unwrap();
    expect_err(a.append(&array![b'z']), ErrorKind::Unsupported);
    a.close().unwrap();
    assert_eq!(fs::read(&path).unwrap(), [&before[&path][..before[&path].len() - 2], b"xy"].concat());

    // The way out that the message names.
    let old = MmapArray::<u8, Ix1>::load_npy(&path).unwrap();
    let mut new = Staged::<u8>::stage_npy(&path, 0).unwrap();
    new.append(&old).unwrap();
    new.append(&array![b'z']).unwrap();
    new.publish().unwrap();
    assert_eq!(*MmapArray::<u8, Ix1>::load_npy(&path).unwrap(), Array1::from_vec(b"1234567xyz".to_vec()));
}

fn add(path: &Path, bytes: &[u8]) {
    File::options().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

/// What a process leaves that is killed in an append, before it comes to the header: an array that was never dropped, the
/// rows, and the old header.
#[cfg(target_os = "linux")]
fn killed_in_an_append(path: &Path, rows: &Array2<i32>) {
    let header = fs::read(path).unwrap()[..128].to_vec();
    let mut a = open::<i32, Ix2>(path);
    a.append(rows).unwrap();
    never_dropped(path, a);
    rewrite(path, &header);
}

/// As in a process that is killed, and yet no leak: its locks end with it.
#[cfg(target_os = "linux")]
fn never_dropped<A: bytemuck::Pod + Send + Sync, D: Dimension + 'static>(path: &Path, a: MmapArrayMut<A, D>) {
    type Anything = Box<dyn std::any::Any + Send>;
    static ARRAYS: std::sync::Mutex<Vec<Anything>> = std::sync::Mutex::new(Vec::new());
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let fd = entry.unwrap().path();
        if fs::read_link(&fd).is_ok_and(|to| to == path) {
            let fd = fd.file_name().unwrap().to_str().unwrap().parse().unwrap();
            // SAFETY: no memory is involved.
            assert_eq!(unsafe { libc::flock(fd, libc::LOCK_UN) }, 0);
        }
    }
    ARRAYS.lock().unwrap().push(Box::new(a));
}

/// Writes over the start of a file.
fn rewrite(path: &Path, bytes: &[u8]) {
    File::options().write(true).open(path).unwrap().write_all(bytes).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn rows_that_an_append_left_behind_are_no_part_of_the_array() {
    let folder = folder();
    let path = folder.path().join("left.npy");
    let mut a = create::<i32, _>(&path, (0, 3));
    a.append(&numbers(0, 10, 3)).unwrap();
    a.close().unwrap();
    let whole = fs::read(&path).unwrap();

    killed_in_an_append(&path, &numbers(7, 2, 3));
    let left = fs::read(&path).unwrap();
    assert_eq!(*MmapArray::<i32, Ix2>::options().lock(Lock::None).load_npy(&path).unwrap(), numbers(0, 10, 3));
    // Opening, reading and closing take nothing away, and do not forget.
    let again = || open::<i32, Ix2>(&path);
    assert_eq!(*again(), numbers(0, 10, 3));
    again().close().unwrap();
    assert_eq!(fs::read(&path).unwrap(), left);

    let mut a = again();
    a.resize(12).unwrap();
    let rows = Slice::from(10..);
    assert_eq!(a.slice_axis(Axis(0), rows), Array2::<i32>::zeros((2, 3)));
    a.resize(10).unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
    drop(a);
    killed_in_an_append(&path, &numbers(7, 3, 3));
    // Some of it may have been on its way yet.
    let set_len = |len| File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
    set_len(whole.len() as u64 + 13);
    let mut a = again();
    a.append(&numbers(30, 1, 3)).unwrap();
    holds(&path, &numbers(0, 11, 3), false);
    drop(a);
}

/// The mark of a killed append is of that file, with that header, as far as that append went.
#[cfg(target_os = "linux")]
#[test]
fn what_no_killed_append_left_behind_stays_whatever_mark_the_file_bears() {
    let folder = folder();
    let path = folder.path().join("marked.npy");
    let whole = saved(&numbers(0, 3, 3), false);
    let stays = |path: &Path| {
        let before = contents(folder.path());
        let mut a = open::<i32, Ix2>(path);
        expect_err(a.append(&numbers(33, 1, 3)), ErrorKind::InvalidInput);
        expect_err(a.append(&numbers(33, 0, 3)), ErrorKind::InvalidInput);
        expect_err(a.resize(100), ErrorKind::InvalidInput);
        expect_err(a.resize(1), ErrorKind::InvalidInput);
        a.close().unwrap();
        assert_eq!(contents(folder.path()), before);
        fs::remove_file(path).unwrap();
    };
    let marked = || {
        fs::write(&path, &whole).unwrap();
        killed_in_an_append(&path, &numbers(7, 2, 3));
    };
    // Further than the append went.
    marked();
    add(&path, b"a trailer, and it is somebody's");
    stays(&path);
    // Another array, as by `np.save` to an open file.
    marked();
    rewrite(&path, &[&whole[..], &whole[..24]].concat());
    stays(&path);
    // A copy, with all its attributes.
    marked();
    let copy = folder.path().join("copy.npy");
    assert!(std::process::Command::new("cp").arg("-a").args([&path, &copy]).status().unwrap().success());
    fs::remove_file(&path).unwrap();
    stays(&copy);
    // An array that was never dropped, whose header counts every row.
    for shrunk in [false, true] {
        fs::write(&path, &whole).unwrap();
        let mut a = open::<i32, Ix2>(&path);
        a.append(&numbers(7, 2, 3)).unwrap();
        if shrunk {
            a.resize(2).unwrap();
        }
        never_dropped(&path, a);
        add(&path, &[7; 12]);
        stays(&path);
    }
    // Of one that is alive, and only about to count its rows: who has no lock to himself cannot tell.
    marked();
    let live = open::<i32, Ix2>(&path);
    let before = contents(folder.path());
    let mut a = MmapArrayMut::<i32, Ix2>::options().lock(Lock::None).opened_npy(&path).unwrap();
    expect_err(a.append(&numbers(33, 1, 3)), ErrorKind::InvalidInput);
    expect_err(a.resize(1), ErrorKind::InvalidInput);
    drop((a, live));
    assert_eq!(contents(folder.path()), before);
    // What a killed append has left was removed, or was never there, before somebody added to the file.
    for grew in [true, false] {
        marked();
        if grew {
            open::<i32, Ix2>(&path).append(&numbers(7, 0, 3)).unwrap();
        } else {
            File::options().write(true).open(&path).unwrap().set_len(whole.len() as u64).unwrap();
            drop(open::<i32, Ix2>(&path));
        }
        assert_eq!(fs::read(&path).unwrap(), whole);
        add(&path, &[7; 12]);
        stays(&path);
    }
    // One whose append was refused, and taken back.
    {
        use crate::support::kernel::{no, refusing};
        fs::write(&path, &whole).unwrap();
        let mut a = open::<i32, Ix2>(&path);
        refusing(&[no(libc::SYS_pwrite64, libc::EIO)], || expect_err(a.append(&numbers(7, 2, 3)), ErrorKind::Io));
        never_dropped(&path, a);
        add(&path, &[7; 12]);
        stays(&path);
    }
}

/// Appends, resizes and stores of rows in every way in which nothing may change.
fn refuse_to_change(a: &mut MmapArrayMut<f64, Ix1>, folder: &Path, kind: ErrorKind) {
    let before = contents(folder);
    expect_err(a.append(&array![4.0]), kind);
    expect_err(a.append(&Array1::zeros(1000)), kind);
    expect_err(a.append(&Array1::zeros(0)), kind);
    expect_err(a.resize(2), kind);
    expect_err(a.resize(3), kind);
    expect_err(a.resize(300), kind);
    expect_err(a.write_rows(0, &array![5.0]), kind);
    assert_eq!(contents(folder), before);
}

#[test]
fn rows_that_others_added_stay_and_the_header_stays_theirs() {
    let folder = folder();
    let path = folder.path().join("log.npy");
    let three = saved(&array![1.0, 2.0, 3.0], false);
    let fifteen = saved(&Array1::from_iter((0..15).map(f64::from)), false);
    let open = || MmapArrayMut::<f64, Ix1>::options().lock(Lock::None).opened_npy(&path).unwrap();

    // By another array in this process; by something else, beside an array that is growing or is not.
    for theirs in [0, 1, 2] {
        fs::write(&path, &three).unwrap();
        let mut a = open();
        if theirs == 1 {
            a.append(&array![4.0]).unwrap();
            a.resize(3).unwrap();
        }
        if theirs == 2 {
            open().append(&Array1::from_iter((3..15).map(f64::from))).unwrap();
        } else {
            fs::write(&path, &fifteen).unwrap();
        }
        refuse_to_change(&mut a, folder.path(), ErrorKind::InvalidInput);
        a.close().unwrap();
        assert_eq!(MmapArray::<f64, Ix1>::load_npy(&path).unwrap().len(), 15);
    }
}

/// A header says the same in many ways, and this one has no digits where ours would have them.
#[test]
fn a_header_that_others_spelled_anew_is_not_written_to() {
    let folder = folder();
    let path = folder.path().join("spelled.npy");
    let data = bytemuck::cast_slice::<f64, u8>(&[1.0, 2.0, 3.0]);
    fs::write(&path, saved(&array![1.0, 2.0, 3.0], false)).unwrap();
    let mut a = open::<f64, Ix1>(&path);
    let text = "{'shape': (3,), 'fortran_order': False, 'descr': '<f8'}";
    let header = format!("\x7fNUMPY\x01\x00v\x00{text:117}\n").into_bytes();
    rewrite(&path, &[b"\x93", &header[1..], data].concat());
    refuse_to_change(&mut a, folder.path(), ErrorKind::InvalidInput);
    a.flush().unwrap();
    a.close().unwrap();
    // Whoever opens it now finds room in it.
    let mut a = open::<f64, Ix1>(&path);
    a.append(&array![4.0]).unwrap();
    a.close().unwrap();
    assert_eq!(*MmapArray::<f64, Ix1>::load_npy(&path).unwrap(), array![1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn a_truncation_is_reported_and_not_undone_by_any_call() {
    let folder = folder();
    let path = folder.path().join("truncated.npy");
    let set_len = |len| File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
    for reserve in [false, true] {
        for call in 0..6 {
            fs::write(&path, saved(&Array1::<f64>::ones(1000), false)).unwrap();
            let mut a = open::<f64, Ix1>(&path);
            if reserve {
                a.append(&array![4.0]).unwrap();
            }
            set_len(130);
            let result = match call {
                0 => a.append(&array![4.0]),
                1 => a.resize(5),
                2 => a.resize(5000),
                3 => a.write_rows(900, &array![5.0]),
                4 => a.flush(),
                _ => a.guarded(|_| ()),
            };
            expect_err(result, ErrorKind::Truncated);
            expect_err(a.flush(), ErrorKind::Poisoned);
            expect_err(a.guarded(|_| ()), ErrorKind::Poisoned);
            expect_err(a.close(), ErrorKind::Poisoned);
            assert_eq!(fs::metadata(&path).unwrap().len(), 130);
        }
        fs::write(&path, saved(&Array1::<f64>::ones(1000), false)).unwrap();
        let mut a = open::<f64, Ix1>(&path);
        if reserve {
            a.append(&array![4.0]).unwrap();
        }
        set_len(130);
        expect_err(a.close(), ErrorKind::Truncated);
        assert_eq!(fs::metadata(&path).unwrap().len(), 130);
    }
}

/// Lock and mark of an array are those of the process that opened it.
#[cfg(target_os = "linux")]
#[test]
fn a_forked_child_takes_neither_lock_nor_mark_nor_space_from_its_parent() {
    use std::os::unix::fs::MetadataExt;
    in_child!(|| {
        let folder = folder();
        let path = folder.path().join("forked.npy");
        for closes in [false, true] {
            let mut a = create::<f64, _>(&path, 3);
            a.append(&array![1.0]).unwrap();
            let blocks = fs::metadata(&path).unwrap().blocks();
            let mut a = Some(a);
            // (Taken in the child only: here it stays.)
            let status = process::forked(|| match a.take().unwrap() {
                a if closes => i32::from(a.close().is_err()),
                _dropped => 0,
            });
            let mut a = a.unwrap();
            assert_eq!(status, 0);
            let mut name = [0; 64];
            let marked = rustix::fs::getxattr(&path, "user.ndarray-mmap.growing", &mut name);
            assert!(marked.is_ok() || marked == Err(rustix::io::Errno::OPNOTSUPP), "{marked:?}");
            assert_eq!(fs::metadata(&path).unwrap().blocks(), blocks);
            expect_err(MmapArray::<f64>::options().opened_npy(&path), ErrorKind::Locked);
            a.append(&array![2.0]).unwrap();
            a.close().unwrap();
        }
    })
    .run()
    .succeeded();
}

/// Rows of one byte: anything is a whole number of them.
#[test]
fn whole_rows_that_no_append_left_behind_are_never_truncated() {
    let folder = folder();
    let path = folder.path().join("signed.npy");
    let stays = |a: &mut MmapArrayMut<u8, Ix1>| {
        let before = contents(folder.path());
        let e = expect_err(a.append(&array![1]), ErrorKind::InvalidInput);
        let (end, len) = (before[&path].len() - 9, before[&path].len());
        assert!(e.to_string().contains(&format!("ends at byte {end}, but the file at {len}")), "{e}");
        expect_err(a.resize(100), ErrorKind::InvalidInput);
        expect_err(a.resize(1), ErrorKind::InvalidInput);
        assert_eq!(contents(folder.path()), before);
    };
    // In a file that grew, was closed, and was signed by somebody else; or dropped; or never grew.
    for end in [|a: MmapArrayMut<u8, Ix1>| a.close().unwrap(), drop] {
        for rows in [0, 5] {
            let mut a = create::<u8, _>(&path, 7);
            a.append(&Array1::ones(rows)).unwrap();
            end(a);
            add(&path, b"signature");
            stays(&mut open(&path));
        }
    }
    drop(create::<u8, _>(&path, 7));
    add(&path, b"signature");
    stays(&mut open(&path));
    // While it is open, too.
    let mut a = create::<u8, _>(&path, 7);
    a.append(&Array1::ones(5)).unwrap();
    add(&path, b"signature");
    stays(&mut a);
}

#[test]
fn what_else_follows_an_array_stops_its_growth_and_is_untouched() {
    let folder = folder();
    let array = saved(&numbers(0, 4, 3), false);
    // Another array, as by `np.save` twice to one file; what is no whole row; an array in a file of something else.
    for (before, behind) in [(&b""[..], &array[..]), (b"", b"a note"), (b"", &[1; 13]), (&[0; 64], &[0; 12])] {
        let path = folder.path().join("two.npy");
        fs::write(&path, [before, &array, behind].concat()).unwrap();
        let unchanged = contents(folder.path());
        let mut a = MmapArrayMut::<i32>::options().offset(before.len() as u64).opened_npy(&path).unwrap();
        let e = expect_err(a.append(&numbers(0, 1, 3).into_dyn()), ErrorKind::InvalidInput);
        assert!(e.to_string().contains("what follows would be overwritten or cut"), "{e}");
        expect_err(a.resize(9), ErrorKind::InvalidInput);
        expect_err(a.resize(1), ErrorKind::InvalidInput);
        assert_eq!(*a, numbers(0, 4, 3).into_dyn());
        a.close().unwrap();
        assert_eq!(contents(folder.path()), unchanged);
    }
}

#[test]
fn the_second_array_of_a_file_grows_and_the_first_stays() {
    let folder = folder();
    let path = folder.path().join("two.npy");
    let first = saved(&numbers(0, 40, 3), false);
    fs::write(&path, [&first[..], &saved(&numbers(500, 2, 3), false)].concat()).unwrap();
    let mut a = MmapArrayMut::<i32>::options().offset(first.len() as u64).opened_npy(&path).unwrap();
    a.append(&numbers(506, 100, 3).into_dyn()).unwrap();
    a.close().unwrap();
    assert_eq!(fs::read(&path).unwrap(), [&first[..], &saved(&numbers(500, 102, 3), false)].concat());
}

/// The hint of the message above.
#[test]
fn after_what_followed_is_removed_the_array_grows() {
    let folder = folder();
    let path = folder.path().join("cut.bin");
    fs::write(&path, vec![1u8; 100_000]).unwrap();
    let mut a = MmapArrayMut::<u8>::options().shape(16).opened(&path).unwrap();
    expect_err(a.resize(50_000), ErrorKind::InvalidInput);
    File::options().write(true).open(&path).unwrap().set_len(16).unwrap();
    a.resize(50_000).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 50_000);
    assert_eq!(a.iter().filter(|&&b| b == 1).count(), 16);
}

#[test]
fn closing_truncates_nothing_that_others_added() {
    let folder = folder();
    let path = folder.path().join("shared.bin");
    // SAFETY: as in `create`.
    let mut a = unsafe { MmapArrayMut::<u8>::create(&path, 0).unwrap() };
    a.append(&array![1, 2, 3]).unwrap();
    File::options().append(true).open(&path).unwrap().write_all(b"theirs").unwrap();
    a.close().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"\x01\x02\x03theirs");
}

#[test]
fn an_array_with_different_advice_for_a_part_still_grows() {
    #[cfg(target_os = "linux")]
    {
        let folder = folder();
        let path = folder.path().join("advised.npy");
        let mut a = create::<u8, _>(&path, 1 << 20);
        a.fill(3);
        let page = a.as_ptr().map_addr(|at| at & !4095).wrapping_add(1 << 16);
        // SAFETY: a page within the mapping, and advice changes no byte of it.
        assert_eq!(unsafe { libc::madvise(page.cast_mut().cast(), 4096, libc::MADV_RANDOM) }, 0);
        a.append(&Array1::from_elem(1 << 16, 4)).unwrap();
        assert_eq!(a.iter().map(|&b| u32::from(b)).sum::<u32>(), (3 << 20) + (4 << 16));
        a.resize(10).unwrap();
        assert_eq!(*a, Array1::from_elem(10, 3));
    }
}

/// The system refuses at one of the steps; a thread of its own has such a kernel.
#[cfg(target_os = "linux")]
mod refusals {
    use super::*;
    use crate::support::arrays::expect_io_err;
    use crate::support::kernel::{no, refusing};

    #[test]
    fn a_step_that_the_system_refuses_changes_nothing() {
        for call in [libc::SYS_pwrite64, libc::SYS_mremap] {
            let folder = folder();
            let path = folder.path().join("steps.npy");
            let mut a = create::<i32, _>(&path, (0, 3));
            a.append(&numbers(0, 9, 3)).unwrap();
            let before = contents(folder.path());
            // If remapping fails, the file is mapped anew: that is refused too.
            refusing(&[no(call, libc::ENOMEM), no(libc::SYS_mmap, libc::ENOMEM)], || {
                expect_io_err(a.append(&numbers(27, 1_000, 3)), std::io::ErrorKind::OutOfMemory);
                expect_io_err(a.resize(20), std::io::ErrorKind::OutOfMemory);
                expect_io_err(a.resize(5), std::io::ErrorKind::OutOfMemory);
            });
            assert_eq!(contents(folder.path()), before);
            a.append(&numbers(27, 1, 3)).unwrap();
            a.flush().unwrap();
            holds(&path, &numbers(0, 10, 3), false);
        }
    }

    #[test]
    fn a_file_that_cannot_be_truncated_keeps_its_rows() {
        let folder = folder();
        let path = folder.path().join("cut.npy");
        let mut a = create::<i32, _>(&path, (9, 3));
        a.assign(&numbers(0, 9, 3));
        let e = refusing(&[no(libc::SYS_ftruncate, libc::EIO)], || expect_err(a.resize(5), ErrorKind::Io));
        assert!(e.to_string().contains("truncate"), "{e}");
        assert_eq!(*a, numbers(0, 9, 3));
        assert_eq!(Header::read(&path).unwrap().shape(), [9, 3]);
    }
}
