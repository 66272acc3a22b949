//! NumPy's own tests of `memmap` (`numpy/_core/tests/test_memmap.py`), rewritten for this crate.
//!
//! Each test names the NumPy test it answers to. Where the two libraries differ on purpose, the test says how.
//! One has no meaning here: `test_memmap_subclass` asks that a subclass of `memmap` stays one through indexing and
//! arithmetic; Rust has no subclasses, and results are plain owned arrays.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ndarray::prelude::*;
use ndarray::{OwnedRepr, ViewRepr};
use ndarray_mmap::{
    ErrorKind, MmapArray, MmapArrayBase, MmapArrayMut, MmapArrayOptions, Mode,
    mode::{OpenExisting, Supports},
};
use tempfile::TempDir;

/// A folder with room for one file, as NumPy's tests have.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("mmap")
    }

    /// A file of this test's own, created with the shape of [`data`].
    fn create(&self) -> MmapArrayMut<f32, Ix2> {
        // SAFETY: nobody else knows of the file, and the test keeps one array of it at a time.
        unsafe { MmapArrayMut::<f32>::create(self.file(), (3, 4)) }.unwrap()
    }
}

fn data() -> Array2<f32> {
    Array::range(0.0, 12.0, 1.0).into_shape_with_order((3, 4)).unwrap()
}

fn open<A: bytemuck::Pod, D: Dimension, M: Supports<A> + OpenExisting>(
    options: MmapArrayOptions<A, D, M>,
    path: &Path,
) -> ndarray_mmap::Result<MmapArrayBase<A, D, M>> {
    // SAFETY: nobody else knows of the file, and the test keeps one array of it at a time.
    unsafe { options.open(path) }
}

/// The largest page, or granularity of mappings, there is on the systems that Rust supports.
const GRANULARITY: usize = 64 * 1024;

/// `test_roundtrip`
#[test]
fn what_was_assigned_is_read_back_by_a_later_array() {
    let folder = Folder::new();
    let mut written = folder.create();
    written.assign(&data());
    drop(written);

    let read = open(MmapArray::<f32>::options().shape((3, 4)), &folder.file()).unwrap();
    assert_eq!(*read, data());
    // Its elements cannot be assigned to: that is a compile error, shown in the documentation of `MmapArrayBase`.
    assert_eq!(read.mode(), Mode::ReadOnly);
}

/// `test_open_with_filename`
#[test]
fn a_file_is_created_by_its_name() {
    let folder = Folder::new();
    let mut array = folder.create();
    array.assign(&data());
    drop(array);
    assert_eq!(fs::metadata(folder.file()).unwrap().len(), 12 * 4);
}

/// `test_unnamed_file`
///
/// NumPy grows the file in silence; here that is asked for. For a temporary array, `scratch` needs no file at all.
#[test]
fn a_file_without_a_name_can_be_mapped() {
    let file = tempfile::tempfile().unwrap();
    let options = MmapArrayMut::<f32>::options().shape((3, 4));
    // SAFETY: nobody else can reach a file without a name.
    let refused = unsafe { options.clone().map(&file) };
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::TooShort);
    // SAFETY: as above.
    let mut array = unsafe { options.extend(true).map(&file) }.unwrap();
    array.assign(&data());
    assert!(array.path().is_none());
    drop(array);
    assert_eq!(file.metadata().unwrap().len(), 12 * 4);

    let mut scratch = MmapArrayMut::<f32>::scratch((3, 4)).unwrap();
    scratch.assign(&data());
    assert_eq!(*scratch, data());
}

/// `test_attributes`
///
/// At NumPy's offset, 1, a float is not aligned; 4 is the least that suits it.
#[test]
fn an_array_knows_its_offset_and_mode() {
    let folder = Folder::new();
    let options = MmapArrayMut::<f32>::options().shape((3, 4));
    // SAFETY: nobody else knows of the file.
    let refused = unsafe { options.clone().offset(1).create(folder.file()) };
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Misaligned);
    // SAFETY: as above.
    let array = unsafe { options.offset(4).create(folder.file()) }.unwrap();
    assert_eq!(array.offset(), 4);
    assert_eq!(array.mode(), Mode::Create);
    assert_eq!(array.mode().to_string(), "w+");
}

/// `test_filename`, `test_path`
///
/// A view is ndarray's own and has no path; the array it borrows from, which must outlive it, has.
// On Windows the folder may lie on another drive.
#[cfg(unix)]
#[test]
fn an_array_knows_the_absolute_path_of_its_file() {
    let folder = Folder::new();
    // Relative to wherever the tests are run, so that there is something to make absolute.
    let here = std::env::current_dir().unwrap();
    let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
    let relative = up.join(folder.file().strip_prefix("/").unwrap_or(&folder.file()));
    // SAFETY: nobody else knows of the file.
    let mut array = unsafe { MmapArrayMut::<f32>::create(&relative, (3, 4)) }.unwrap();
    array.assign(&data());
    let path = array.path().unwrap();
    assert!(path.is_absolute());
    assert_eq!(fs::canonicalize(path).unwrap(), fs::canonicalize(folder.file()).unwrap());
    assert_eq!(array.slice(s![..1, ..]), data().slice(s![..1, ..]));
}

/// `test_filename_fileobj`
///
/// NumPy asks the file object for its name; a Rust `File` has none to give.
#[test]
fn an_array_of_a_file_handle_has_no_path() {
    let folder = Folder::new();
    drop(folder.create());
    let file = fs::OpenOptions::new().read(true).write(true).open(folder.file()).unwrap();
    // SAFETY: nobody else knows of the file.
    let array = unsafe { MmapArrayMut::<f32>::options().shape((3, 4)).map(&file) }.unwrap();
    assert!(array.path().is_none());
}

/// `test_flush`
#[test]
fn flush_succeeds_and_keeps_the_elements() {
    let folder = Folder::new();
    let mut array = folder.create();
    array.assign(&data());
    assert_eq!(array.row(0), data().row(0));
    array.flush().unwrap();
    assert_eq!(*array, data());
    let bytes: Vec<u8> = data().iter().flat_map(|x| x.to_ne_bytes()).collect();
    assert_eq!(fs::read(folder.file()).unwrap(), bytes);
}

/// `test_del`
#[test]
fn the_end_of_a_view_is_not_the_end_of_the_mapping() {
    let folder = Folder::new();
    let mut array = folder.create();
    array.row_mut(0).fill(5.0);
    {
        let view = array.slice(s![0..1, ..]);
        assert!(view.iter().all(|&x| x == 5.0));
    }
    assert!(array.row(0).iter().all(|&x| x == 5.0));
    array.row_mut(0).fill(6.0);
    assert!(array.row(0).iter().all(|&x| x == 6.0));
}

/// The memory of an array, as a range of addresses.
fn memory<A, D: Dimension>(array: &ArrayRef<A, D>) -> std::ops::Range<usize> {
    let start = array.as_ptr().addr();
    start..start + array.len() * size_of::<A>()
}

/// `test_arithmetic_drops_references`, `test_indexing_drops_references`
#[test]
fn results_and_selections_are_owned_and_outlive_the_array() {
    let folder = Folder::new();
    let mut array = folder.create();
    array.assign(&data());
    let sum: Array2<f32> = &*array + 10.0;
    let selected: Array2<f32> = array.select(Axis(0), &[1, 2]);
    assert!(!memory(&array).contains(&sum.as_ptr().addr()));
    assert!(!memory(&array).contains(&selected.as_ptr().addr()));
    array.close().unwrap();
    assert_eq!(sum, data() + 10.0);
    assert_eq!(selected, data().slice(s![1.., ..]));
}

/// `test_slicing_keeps_references`
#[test]
fn a_slice_is_the_mapping_itself() {
    let folder = Folder::new();
    let mut array = folder.create();
    let start = array.as_ptr();
    let slice = array.slice(s![..2, ..2]);
    assert_eq!(slice.as_ptr(), start);
    array.slice_mut(s![..2, ..2]).fill(7.0);
    assert_eq!(array[[1, 1]], 7.0);
    assert_eq!(array.sum(), 4.0 * 7.0);
}

/// `test_view`
///
/// NumPy asks for the base of a view of a view; here both are the same memory, and the borrow is the array's.
#[test]
fn a_view_of_a_view_is_the_mapping_itself() {
    let folder = Folder::new();
    let array = folder.create();
    let view = array.view();
    let again = view.view();
    let plain: &ArrayRef<f32, Ix2> = &array;
    for start in [view.as_ptr(), again.as_ptr(), plain.as_ptr()] {
        assert_eq!(start, array.as_ptr());
    }
}

/// Which type of array it is, for the compiler to say.
trait Storage {
    const OWNED: bool;
}

impl<A, D> Storage for ArrayBase<OwnedRepr<A>, D, A> {
    const OWNED: bool = true;
}

impl<A, D> Storage for ArrayBase<ViewRepr<&A>, D, A> {
    const OWNED: bool = false;
}

fn is_owned<S: Storage>(_: &S) -> bool {
    S::OWNED
}

/// `test_ufunc_return_ndarray`
#[test]
fn reductions_give_numbers_or_owned_arrays_and_assignments_stay_in_the_file() {
    let folder = Folder::new();
    let mut array = folder.create();
    array.assign(&data());

    let numbers: [f32; 3] = [array.sum(), array.mean().unwrap(), array.product()];
    assert_eq!(numbers, [66.0, 5.5, 0.0]);
    for axis in [Axis(0), Axis(1)] {
        assert!(is_owned(&array.sum_axis(axis)));
        assert!(is_owned(&array.mean_axis(axis).unwrap()));
        assert!(is_owned(&array.product_axis(axis)));
        assert_eq!(array.sum_axis(axis), data().sum_axis(axis));
    }
    for owned in [&array.view() + &data(), &data() - &array.view(), &*array * &*array] {
        assert!(is_owned(&owned));
    }

    *array += 1.0;
    assert_eq!(*array, data() + 1.0);
    array.zip_mut_with(&data(), |x, _| *x += 1.0);
    drop(array);
    let read = open(MmapArray::<f32>::options().shape((3, 4)), &folder.file()).unwrap();
    assert_eq!(*read, data() + 2.0);
}

/// `test_getitem`
#[test]
fn a_slice_is_a_view_and_a_selection_is_owned() {
    let folder = Folder::new();
    let mut array = folder.create();
    array.assign(&data());
    assert!(!is_owned(&array.slice(s![1.., ..-1])));
    assert!(is_owned(&array.select(Axis(0), &[0, 1])));
    assert_eq!(array.slice(s![1.., ..-1]), data().slice(s![1.., ..-1]));
}

/// `test_mmap_offset_greater_than_allocation_granularity`
#[test]
fn an_offset_need_not_be_on_a_page() {
    let folder = Folder::new();
    let offset = GRANULARITY as u64 + 1;
    let options = MmapArrayMut::<u8>::options().shape(5 * GRANULARITY).offset(offset);
    // SAFETY: nobody else knows of the file.
    let mut array = unsafe { options.create(folder.file()) }.unwrap();
    assert_eq!(array.offset(), offset);
    array[0] = 1;
    array[5 * GRANULARITY - 1] = 2;
    drop(array);
    let bytes = fs::read(folder.file()).unwrap();
    assert_eq!(bytes.len(), GRANULARITY + 1 + 5 * GRANULARITY);
    assert_eq!((bytes[GRANULARITY + 1], bytes[bytes.len() - 1]), (1, 2));
    assert_eq!(bytes.iter().filter(|&&b| b != 0).count(), 2);
}

/// `test_empty_array_with_offset_multiple_of_allocation_granularity`
#[test]
fn an_empty_array_may_start_on_a_page() {
    let folder = Folder::new();
    let offset = GRANULARITY as u64;
    fs::write(folder.file(), vec![b'a'; GRANULARITY]).unwrap();
    let options = MmapArrayMut::<u8>::options().shape(0).offset(offset);
    let opened = open(options.clone(), &folder.file()).unwrap();
    assert_eq!((opened.offset(), opened.len()), (offset, 0));
    drop(opened);
    assert_eq!(fs::read(folder.file()).unwrap(), vec![b'a'; GRANULARITY]);
    // SAFETY: nobody else knows of the file.
    let created = unsafe { options.create(folder.file()) }.unwrap();
    assert_eq!((created.offset(), created.len()), (offset, 0));
    assert_eq!(fs::metadata(folder.file()).unwrap().len(), offset);
}

/// `test_no_shape`
#[test]
fn without_a_shape_the_file_says_how_long_the_array_is() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[b'a'; 16]).unwrap();
    file.seek(SeekFrom::Start(5)).unwrap();
    // SAFETY: nobody else can reach a file without a name.
    let array = unsafe { MmapArrayMut::<f64>::options().map(&file) }.unwrap();
    assert_eq!(array.shape(), [2]);
    assert_eq!(array[0], f64::from_ne_bytes([b'a'; 8]));
}

/// `test_empty_array`
///
/// NumPy refuses to read an empty file, and leaves one byte in it when it creates an empty array. Here an empty array
/// is an empty file, and reads back.
#[test]
fn an_empty_array_is_an_empty_file() {
    let folder = Folder::new();
    fs::write(folder.file(), []).unwrap();
    let reading = MmapArray::<u8>::options().shape((0, 4));
    assert_eq!(open(reading.clone(), &folder.file()).unwrap().dim(), (0, 4));
    for _ in 0..2 {
        // SAFETY: nobody else knows of the file.
        let created = unsafe { MmapArrayMut::<u8>::create(folder.file(), (0, 4)) }.unwrap();
        assert_eq!(created.dim(), (0, 4));
        assert_eq!(fs::metadata(folder.file()).unwrap().len(), 0);
    }
    assert_eq!(open(reading, &folder.file()).unwrap().dim(), (0, 4));
}

/// `test_shape_type`
///
/// Of NumPy's: a number, a tuple, a list, an array. Of ndarray's: those that say the number of axes when compiled, and
/// those that do not.
#[test]
fn a_shape_may_be_written_in_all_of_ndarrays_ways() {
    let folder = Folder::new();
    fn create<Sh: ShapeBuilder>(folder: &Folder, shape: Sh) -> Vec<usize> {
        // SAFETY: nobody else knows of the file.
        let array = unsafe { MmapArrayMut::<u8>::create(folder.file(), shape) }.unwrap();
        array.shape().to_vec()
    }
    assert_eq!(create(&folder, 3), [3]);
    assert_eq!(create(&folder, (3, 4)), [3, 4]);
    assert_eq!(create(&folder, [3, 4]), [3, 4]);
    assert_eq!(create(&folder, vec![3, 4]), [3, 4]);
    assert_eq!(create(&folder, &[3usize, 4][..]), [3, 4]);
    assert_eq!(create(&folder, data().raw_dim()), [3, 4]);
    assert_eq!(create(&folder, IxDyn(&[3, 4])), [3, 4]);
    assert_eq!(create(&folder, (3, 4).f()), [3, 4]);
}
