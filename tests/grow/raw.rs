//! Arrays that grow and shrink: what is in them stays, what is in the file is exactly them, and failures change nothing.

use ndarray::prelude::*;
use ndarray::{Slice, concatenate};
use ndarray_mmap::{ErrorKind, Lock, MmapArray, MmapArrayMut, Staged};
use proptest::prelude::*;
use std::path::Path;

/// The file is the test's own: nobody else writes to it.
fn create<Sh: ShapeBuilder>(path: &Path, shape: Sh) -> MmapArrayMut<i32, Sh::Dim> {
    // SAFETY: see above.
    unsafe { MmapArrayMut::<i32>::create(path, shape).unwrap() }
}

fn numbers(start: i32, rows: usize, cols: usize) -> Array2<i32> {
    Array2::from_shape_fn((rows, cols), |(i, j)| start + (i * cols + j) as i32)
}

#[track_caller]
fn kind<T>(result: ndarray_mmap::Result<T>) -> ErrorKind {
    result.err().expect("an error").kind()
}

#[test]
fn rows_are_appended_from_nothing_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.bin");
    let mut log = create(&path, (0, 3));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    for i in 0..1000 {
        log.append(&numbers(i * 3, 1, 3)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), (i as u64 + 1) * 12);
    }
    assert_eq!(*log, numbers(0, 1000, 3));
    log.close().unwrap();
    assert_eq!(*MmapArray::<i32>::options().row_shape(3).load(&path).unwrap(), numbers(0, 1000, 3));
}

#[cfg(unix)]
#[test]
fn close_releases_the_reserved_space() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.bin");
    let mut log = create(&path, (0, 3));
    log.append(&numbers(0, 1, 3)).unwrap();
    log.flush().unwrap();
    log.close().unwrap();
    use std::os::unix::fs::MetadataExt;
    assert!(std::fs::metadata(&path).unwrap().blocks() * 512 <= 8192);
}

#[test]
fn fortran_order_grows_along_the_last_axis() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.bin");
    let mut a = create(&path, (2, 3).f());
    a.assign(&numbers(0, 2, 3));
    a.append(&numbers(100, 2, 2)).unwrap();
    assert_eq!(*a, concatenate![Axis(1), numbers(0, 2, 3), numbers(100, 2, 2)]);
    assert_eq!(a.strides(), [1, 2]);
    assert_eq!(kind(a.append(&numbers(0, 3, 1))), ErrorKind::ShapeMismatch);
    a.resize(1).unwrap();
    assert_eq!(*a, numbers(0, 2, 3).slice_axis(Axis(1), Slice::from(..1)));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 8);
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.bin");
    let mut a = create(&path, (2, 3));
    a.fill(7);
    assert_eq!(kind(a.append(&numbers(0, 1, 4))), ErrorKind::ShapeMismatch);
    assert_eq!(kind(a.resize(usize::MAX)), ErrorKind::Overflow);
    assert_eq!(kind(a.resize(usize::MAX / 16)), ErrorKind::Overflow);
    assert_eq!(kind(a.resize(1 << 50)), ErrorKind::Io);
    assert_eq!(kind(a.write_rows(1, &numbers(0, 2, 3))), ErrorKind::InvalidInput);
    assert_eq!(kind(a.write_rows(usize::MAX, &numbers(0, 2, 3))), ErrorKind::InvalidInput);
    assert_eq!((a.dim(), a.sum()), ((2, 3), 42));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 24);
    let mut scalar = create(&dir.path().join("0d.bin"), ());
    assert_eq!(kind(scalar.resize(2)), ErrorKind::InvalidInput);
    assert_eq!(kind(scalar.append(&arr0(1))), ErrorKind::ShapeMismatch);
}

#[test]
fn what_follows_the_array_in_the_file_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("two.bin");
    std::fs::write(&path, [1u8; 40]).unwrap();
    // SAFETY: the file is this test's own.
    let mut a = unsafe { MmapArrayMut::<u8>::options().offset(8).shape(16).open(&path).unwrap() };
    assert_eq!(kind(a.append(&array![1, 2])), ErrorKind::InvalidInput);
    assert_eq!(kind(a.resize(17)), ErrorKind::InvalidInput);
    assert_eq!(kind(a.resize(3)), ErrorKind::InvalidInput);
    assert_eq!(std::fs::read(&path).unwrap(), [1u8; 40]);
}

#[test]
fn a_truncated_file_is_noticed_before_it_grows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.bin");
    let mut a = create(&path, (4, 1024));
    std::fs::File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
    assert_eq!(kind(a.append(&numbers(0, 1, 1024))), ErrorKind::Truncated);
    assert_eq!(kind(a.resize(8)), ErrorKind::Poisoned);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 100);
}

#[test]
fn rows_written_by_system_call_are_visible_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.bin");
    let mut a = create(&path, (100, 1000));
    a.write_rows(7, &numbers(1, 2, 1000)).unwrap();
    assert_eq!(a.slice(s![7..9, ..]), numbers(1, 2, 1000));
    // A block that lies in no one piece.
    let transposed = numbers(5, 1000, 90);
    a.write_rows(10, &transposed.t()).unwrap();
    assert_eq!(a.slice(s![10.., ..]), transposed.t());
    assert_eq!(a.row(9).sum(), 0);
    let backwards = numbers(5, 3, 1000);
    a.write_rows(0, &backwards.slice(s![..;-1, ..;-1])).unwrap();
    assert_eq!(a.slice(s![..3, ..]), backwards.slice(s![..;-1, ..;-1]));
}

#[test]
fn a_handle_that_appends_stores_where_it_should() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("appends.bin");
    std::fs::write(&path, [0u8; 12]).unwrap();
    let file = std::fs::File::options().read(true).append(true).open(&path).unwrap();
    // SAFETY: the file is this test's own.
    let mut a = unsafe { MmapArrayMut::<u8>::options().row_shape(4).map(&file).unwrap() };
    a.write_rows(1, &array![[1, 2, 3, 4]]).unwrap();
    a.append(&array![[5, 6, 7, 8]]).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), [0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 5, 6, 7, 8]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_handle_that_appends_only_since_it_was_mapped_stores_where_it_should() {
    use rustix::fs::{OFlags, fcntl_setfl};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("appends.bin");
    std::fs::write(&path, [0u8; 12]).unwrap();
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    // SAFETY: the file is this test's own.
    let mut a = unsafe { MmapArrayMut::<u8>::options().row_shape(4).map(&file).unwrap() };
    fcntl_setfl(&file, OFlags::APPEND).unwrap();
    a.write_rows(1, &array![[1, 2, 3, 4]]).unwrap();
    a.append(&array![[5, 6, 7, 8]]).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), [0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 5, 6, 7, 8]);
}

#[test]
fn dynamic_dimensions_and_staged_arrays_grow_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("staged.bin");
    let mut a = Staged::<i32>::stage(&path, vec![0, 2, 2]).unwrap();
    let block = ArrayD::from_shape_fn(vec![5, 2, 2], |i| (i[0] * 4 + i[1] * 2 + i[2]) as i32);
    a.append(&block).unwrap();
    a.append(&block).unwrap();
    assert!(!path.exists());
    a.publish().unwrap();
    let twice = concatenate![Axis(0), block, block];
    assert_eq!(
        *MmapArray::<i32>::options().row_shape((2, 2)).load(&path).unwrap(),
        twice.into_dimensionality::<Ix3>().unwrap()
    );
}

#[test]
fn a_reader_without_a_lock_sees_complete_rows_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("live.bin");
    let mut log = create(&path, (0, 3));
    log.append(&numbers(0, 10, 3)).unwrap();
    // SAFETY: `log` only adds rows while `reader` lives.
    let reader = unsafe { MmapArray::<i32>::options().row_shape(3).lock(Lock::None).open(&path).unwrap() };
    log.append(&numbers(30, 10_000, 3)).unwrap();
    assert_eq!(*reader, numbers(0, 10, 3));
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Resize(usize),
    Write(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0usize..40).prop_map(Step::Append),
        1 => (0usize..60).prop_map(Step::Resize),
        1 => (0usize..50, 0usize..8).prop_map(|(start, rows)| Step::Write(start, rows)),
    ];
    proptest::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Rows of 136 bytes: pages end within rows.
    #[test]
    fn any_sequence_of_steps_agrees_with_an_array_in_memory(steps in steps(), fortran: bool, offset in 0u64..3) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("steps.bin");
        let offset = offset * 2044;
        let shape = if fortran { (34, 0).f() } else { (0, 34).into_shape_with_order() };
        let axis = Axis(fortran.into());
        // SAFETY: the file is this test's own.
        let mut a = unsafe { MmapArrayMut::<i32>::options().offset(offset).shape(shape).create(&path).unwrap() };
        let mut model = Array2::<i32>::zeros(if fortran { (34, 0) } else { (0, 34) });
        let mut next = 1;
        let mut block = |rows: usize| {
            let block = numbers(next, rows, 34);
            next += 1000;
            if fortran { block.reversed_axes() } else { block }
        };
        for step in steps {
            match step {
                Step::Append(rows) => {
                    let block = block(rows);
                    a.append(&block).unwrap();
                    model.append(axis, block.view()).unwrap();
                }
                Step::Resize(rows) => {
                    a.resize(rows).unwrap();
                    let mut resized = Array2::zeros(if fortran { (34, rows) } else { (rows, 34) });
                    let kept = Slice::from(..rows.min(model.len_of(axis)));
                    resized.slice_axis_mut(axis, kept).assign(&model.slice_axis(axis, kept));
                    model = resized;
                }
                Step::Write(start, rows) => {
                    let block = block(rows);
                    let fits = start + rows <= model.len_of(axis);
                    prop_assert_eq!(a.write_rows(start, &block).is_ok(), fits);
                    if fits {
                        model.slice_axis_mut(axis, Slice::from(start..start + rows)).assign(&block);
                    }
                }
            }
            prop_assert_eq!(&*a, &model);
            prop_assert_eq!(std::fs::metadata(&path).unwrap().len(), offset + model.len() as u64 * 4);
        }
    }
}
