//! The contract: every public name, with the signature and the behaviour that callers compile against.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::support::arrays::{CreateExt, OpenExt, expect_err, file};
use crate::support::process::in_child;
use bytemuck::AnyBitPattern;
use ndarray::prelude::*;
use ndarray::{ArrayRef, Zip, azip};
use ndarray_mmap::{
    Advice, Blocks, BlocksMut, Bool8, CopyOnWrite, Error, ErrorKind, Lock, MmapArray, MmapArrayBase, MmapArrayCow,
    MmapArrayMut, MmapArrayOptions, Mode, ReadOnly, ReadWrite, Result, Staged, Staging,
    mode::{AccessMode, Loadable, OpenExisting, Persistent, Supports, Writable},
};

fn counting(n: u16) -> Vec<f64> {
    (0..n).map(f64::from).collect()
}

#[test]
fn the_first_example_does_what_it_says() -> Result<()> {
    let (folder, samples) = file(&counting(10));
    let a = unsafe { MmapArray::<f64>::open(&samples)? };
    assert_eq!((a.len(), a.sum()), (10, 45.0));
    let scaled: ArrayD<f64> = &*a * 2.0 + 1.0;
    assert_eq!(scaled[9], 19.0);
    let view: ArrayViewD<f64> = a.view();
    assert_eq!(view.shape(), [10]);

    let (_grids, grid) = file(&(0..16).map(|i| i as f32).collect::<Vec<_>>());
    let b = unsafe { MmapArray::<f32>::options().offset(16).shape((3, 4).f()).open(&grid)? };
    let row: ArrayView1<f32> = b.row(0);
    assert_eq!(row, array![4.0, 7.0, 10.0, 13.0]);

    let out = folder.path().join("out.bin");
    let mut c = unsafe { MmapArrayMut::<f32>::create(&out, (3, 4))? };
    c.assign(&b);
    c[[0, 0]] = 7.0;
    *c += 1.0;
    c.flush()?;
    c.close()?;
    let written = MmapArray::<f32>::options().shape((3, 4)).load(&out)?;
    assert_eq!(written.row(0), array![8.0, 8.0, 11.0, 14.0]);

    let safe = MmapArray::<f64>::load(&samples)?;
    assert_eq!(&*safe, &*a);
    Ok(())
}

#[test]
fn the_aliases_default_to_bytes_of_any_dimension() -> Result<()> {
    let (_folder, path) = file(b"bytes");
    let a: MmapArray = unsafe { MmapArray::open(&path)? };
    let c: MmapArrayCow = MmapArrayCow::load(&path)?;
    let m: MmapArrayMut = unsafe { MmapArrayMut::options().lock(Lock::None).open(&path)? };
    let same: &MmapArrayBase<u8, IxDyn, ReadOnly> = &a;
    assert_eq!((same.len(), c.len(), m.len()), (5, 5, 5));
    Ok(())
}

#[test]
fn every_constructor_has_the_signature_of_the_contract() {
    type Opened<A, D, M> = Result<MmapArrayBase<A, D, M>>;
    let _: unsafe fn(PathBuf) -> Opened<f32, Ix1, ReadOnly> = MmapArray::<f32, Ix1>::open;
    let _: fn(PathBuf) -> Opened<f32, IxDyn, ReadOnly> = MmapArray::<f32>::load;
    let _: fn() -> MmapArrayOptions<f32, IxDyn, ReadWrite> = MmapArrayMut::<f32>::options;
    type Pair = (usize, usize);
    let _: unsafe fn(PathBuf, Pair) -> Opened<f32, Ix2, ReadWrite> = MmapArrayMut::<f32>::create;
    let _: unsafe fn(PathBuf, [usize; 2]) -> Opened<f32, Ix2, ReadWrite> = MmapArrayMut::<f32>::create_new;
    let _: fn(usize) -> Opened<f32, Ix1, ReadWrite> = MmapArrayMut::<f32>::scratch;

    type Options<M> = MmapArrayOptions<f32, Ix2, M>;
    let _: unsafe fn(Options<ReadOnly>, PathBuf) -> Opened<f32, Ix2, ReadOnly> = MmapArrayOptions::open;
    let _: unsafe fn(Options<ReadOnly>, &File) -> Opened<f32, Ix2, ReadOnly> = MmapArrayOptions::map;
    let _: fn(Options<ReadOnly>, &File) -> Opened<f32, Ix2, ReadOnly> = MmapArrayOptions::map_sealed;
    let _: fn(Options<ReadOnly>, PathBuf) -> Opened<f32, Ix2, ReadOnly> = MmapArrayOptions::load;
    let _: unsafe fn(Options<ReadWrite>, PathBuf) -> Opened<f32, Ix2, ReadWrite> = MmapArrayOptions::create;
    let _: unsafe fn(Options<ReadWrite>, PathBuf) -> Opened<f32, Ix2, ReadWrite> = MmapArrayOptions::create_new;

    let options = MmapArrayMut::<f32>::options().offset(8).shape((2, 2).f()).lock(Lock::Required).populate(true);
    let _: Options<ReadWrite> = options.extend(true).preallocate(false).clone();
    let _: MmapArrayOptions<f32, Ix3, ReadOnly> = MmapArray::<f32>::options().row_shape((2, 2));
    let _: MmapArrayOptions<f32, Ix2, ReadOnly> = MmapArray::<f32>::options().row_shape(2);
    let _: MmapArrayOptions<f32, IxDyn, ReadOnly> = MmapArray::<f32>::options().row_shape(vec![2, 2]);
}

#[test]
fn every_npy_constructor_has_the_signature_of_the_contract() {
    type Opened<D, M> = Result<MmapArrayBase<f32, D, M>>;
    type Options<M> = MmapArrayOptions<f32, Ix2, M>;
    type Pair = (usize, usize);
    fn opens<M: OpenExisting + Supports<f32>>() {
        let _: unsafe fn(PathBuf) -> Opened<Ix2, M> = MmapArrayBase::<f32, Ix2, M>::open_npy;
        let _: unsafe fn(&'static str) -> Opened<IxDyn, M> = MmapArrayBase::<f32, IxDyn, M>::open_npy;
        let _: unsafe fn(Options<M>, PathBuf) -> Opened<Ix2, M> = MmapArrayOptions::open_npy;
        let _: unsafe fn(Options<M>, &File) -> Opened<Ix2, M> = MmapArrayOptions::map;
    }
    opens::<ReadOnly>();
    opens::<ReadWrite>();
    opens::<CopyOnWrite>();
    fn loads<M: Loadable + Supports<f32>>() {
        let _: fn(PathBuf) -> Opened<Ix2, M> = MmapArrayBase::<f32, Ix2, M>::load_npy;
        let _: fn(Options<M>, PathBuf) -> Opened<Ix2, M> = MmapArrayOptions::load_npy;
        let _: fn(Options<M>, PathBuf) -> Opened<Ix2, M> = MmapArrayOptions::load;
    }
    loads::<ReadOnly>();
    loads::<CopyOnWrite>();
    let _: unsafe fn(PathBuf, Pair) -> Opened<Ix2, ReadWrite> = MmapArrayMut::<f32>::create_npy;
    let _: unsafe fn(PathBuf, Pair) -> Opened<Ix2, ReadWrite> = MmapArrayMut::<f32>::create_new_npy;
    let _: unsafe fn(Options<ReadWrite>, PathBuf) -> Opened<Ix2, ReadWrite> = MmapArrayOptions::create_npy;
    let _: unsafe fn(Options<ReadWrite>, PathBuf) -> Opened<Ix2, ReadWrite> = MmapArrayOptions::create_new_npy;
    let _: fn(PathBuf, Pair) -> Result<Staged<f32, Ix2>> = Staged::<f32>::stage;
    let _: fn(PathBuf, Pair) -> Result<Staged<f32, Ix2>> = Staged::<f32>::stage_npy;
    let _: MmapArrayOptions<f32, Ix2, ReadOnly> = MmapArray::<f32, Ix2>::options().max_header_size(20_000);
    let _: MmapArrayOptions<f32, Ix2, ReadWrite> = MmapArrayMut::<f32, Ix2>::options().page_aligned(true);
}

/// What a mode must not have is in `src/doc/REFUSED.md`, where it does not compile.
#[test]
fn every_method_has_the_signature_of_the_contract_on_the_modes_it_belongs_to() {
    type Base<M> = MmapArrayBase<f64, Ix2, M>;
    type Free<M> = MmapArrayBase<f64, IxDyn, M>;
    type Rows = ArrayRef<f64, Ix2>;
    fn any<M>() {
        let _: for<'a> fn(&'a Base<M>) -> ArrayView2<'a, f64> = Base::<M>::view;
        let _: fn(&Base<M>) -> Option<&Path> = Base::<M>::path;
        let _: fn(&Base<M>) -> u64 = Base::<M>::offset;
        let _: fn(&Base<M>) -> Mode = Base::<M>::mode;
        let _: fn(Base<M>) -> Result<Free<M>> = Base::<M>::into_dimensionality;
        let _: fn(&Base<M>, Advice) -> Result<()> = Base::<M>::advise;
        let _: fn(&Base<M>) -> Result<()> = Base::<M>::evict;
        let _: fn(&Base<M>) -> Result<f64> = Base::<M>::residency;
        let _: fn(Base<M>) -> Result<()> = Base::<M>::close;
        let _: for<'a> fn(&'a Base<M>) -> Blocks<'a, f64, Ix2> = Base::<M>::blocks;
        let _ = |a: &Base<M>| -> Result<f64> { a.guarded(|view: ArrayView2<'_, f64>| view.sum()) };
    }
    any::<ReadOnly>();
    any::<ReadWrite>();
    any::<CopyOnWrite>();
    any::<Staging>();
    fn writable<M: Writable>() {
        let _: for<'a> fn(&'a mut Base<M>) -> ArrayViewMut2<'a, f64> = Base::<M>::view_mut;
        let _: for<'a> fn(&'a mut Base<M>) -> BlocksMut<'a, f64, Ix2> = Base::<M>::blocks_mut;
        let _ = |a: &mut Base<M>| -> Result<()> { a.guarded_mut(|mut view: ArrayViewMut2<'_, f64>| view.fill(1.0)) };
        let _ = |a: &mut Base<M>| a[[0, 0]] = 1.0;
    }
    writable::<ReadWrite>();
    writable::<CopyOnWrite>();
    writable::<Staging>();
    fn stored<M: Persistent + Supports<f64>>() {
        let _: fn(&Base<M>) -> Result<()> = Base::<M>::flush;
        let _: fn(&Base<M>) -> Result<()> = Base::<M>::flush_async;
        let _: fn(&Base<M>, Range<usize>) -> Result<()> = Base::<M>::flush_rows;
        let _: fn(&mut Base<M>, usize) -> Result<()> = Base::<M>::resize;
        let _: fn(&mut Base<M>, &Rows) -> Result<()> = Base::<M>::append;
        let _: fn(&mut Base<M>, usize, &Rows) -> Result<()> = Base::<M>::write_rows;
        let _: fn(&mut Base<M>, &Rows) -> Result<()> = Base::<M>::assign_tiled;
    }
    stored::<ReadWrite>();
    stored::<Staging>();
    let _: fn(Staged<f64, Ix2>) -> Result<()> = Staged::publish;
    let _: fn(Staged<f64, Ix2>) -> Result<()> = Staged::publish_new;
}

#[test]
fn a_function_over_arrays_takes_a_mapped_one() -> Result<()> {
    fn trace(x: &ArrayRef<f64, Ix2>) -> f64 {
        x.diag().sum()
    }
    fn total<A: AnyBitPattern + num_traits::Zero, D: Dimension, M>(x: &MmapArrayBase<A, D, M>) -> A {
        x.sum()
    }
    fn describe<M: AccessMode, A, D: Dimension>(x: &MmapArrayBase<A, D, M>) -> (usize, Mode) {
        (x.ndim(), x.mode())
    }
    fn borrow(x: impl AsRef<ArrayRef<f64, Ix2>>) -> f64 {
        x.as_ref()[[0, 1]]
    }
    let (_folder, path) = file(&counting(9));
    let a = MmapArray::<f64>::options().shape((3, 3)).opened(&path)?;
    assert_eq!(trace(&a), 12.0);
    assert_eq!(total(&a), 36.0);
    assert_eq!(describe(&a), (2, Mode::ReadOnly));
    assert_eq!(borrow(a), 1.0);
    Ok(())
}

#[test]
fn a_mapped_array_is_read_like_any_other() -> Result<()> {
    let (_folder, path) = file(&counting(12));
    let a = MmapArray::<f64>::options().shape((3, 4)).opened(&path)?;
    let b = MmapArrayCow::<f64>::options().shape((3, 4)).opened(&path)?;

    assert_eq!(a[[2, 3]], 11.0);
    assert_eq!(a.get((3, 0)), None);
    assert_eq!(a.slice(s![1.., ..;2]), array![[4.0, 6.0], [8.0, 10.0]]);
    assert_eq!(a.mean(), Some(5.5));
    let sum: Array2<f64> = &*a + &*b;
    assert_eq!(sum, &*a * 2.0);
    let mapped: Array2<f64> = a.mapv(f64::sqrt);
    assert_eq!(mapped[[1, 0]], 2.0);
    let product: Array2<f64> = a.dot(&b.t());
    assert_eq!(product.dim(), (3, 3));

    let mut seen = 0.0;
    for x in &a {
        seen += x;
    }
    assert_eq!(seen, 66.0);
    let mut doubled = Array2::zeros((3, 4));
    Zip::from(&mut doubled).and(&a).and(&b).for_each(|d, x, y| *d = x + y);
    assert_eq!(doubled, sum);
    azip!((d in &mut doubled, x in &a) *d -= x);
    assert_eq!(doubled, *a);

    let view = ArrayView::from(&a);
    assert_eq!(view.as_ptr(), a.as_ptr());
    Ok(())
}

#[test]
fn a_writable_array_is_written_like_any_other() -> Result<()> {
    fn write_in_every_way<M: ndarray_mmap::mode::Writable>(mut c: MmapArrayBase<f64, Ix2, M>) -> Array2<f64> {
        c.fill(1.0);
        *c += 1.0;
        *c *= &*array![1.0, 10.0, 100.0, 1000.0];
        c.row_mut(1).assign(&array![5.0, 6.0, 7.0, 8.0]);
        c.slice_mut(s![2.., ..2]).fill(-1.0);
        c[[0, 3]] = 0.5;
        c[(0, 2)] += 0.25;
        for x in &mut c {
            *x += 1.0;
        }
        c.iter_mut().for_each(|x| *x -= 1.0);
        let other = c.to_owned();
        Zip::from(&mut c).and(&other).for_each(|x, y| *x += y);
        azip!((x in &mut c) *x /= 2.0);
        c.view_mut()[[2, 3]] = f64::INFINITY;
        ArrayViewMut::from(&mut c)[[2, 2]] = f64::MAX;
        c.to_owned()
    }
    let expected = array![[2.0, 20.0, 200.25, 0.5], [5.0, 6.0, 7.0, 8.0], [-1.0, -1.0, f64::MAX, f64::INFINITY]];
    let (_folder, path) = file(&counting(12));
    let cow = MmapArrayCow::<f64>::options().shape((3, 4)).opened(&path)?;
    assert_eq!(write_in_every_way(cow), expected);
    let private = MmapArrayCow::<f64>::options().shape((3, 4)).load(&path)?;
    assert_eq!(write_in_every_way(private), expected);
    assert_eq!(MmapArray::<f64, Ix1>::load(&path)?.to_vec(), counting(12));
    let fortran = MmapArrayMut::<f64>::scratch((3, 4).f())?;
    assert_eq!(write_in_every_way(fortran), expected);
    let shared = MmapArrayMut::<f64>::options().shape((3, 4)).opened(&path)?;
    assert_eq!(write_in_every_way(shared), expected);
    assert_eq!(*MmapArray::<f64>::options().shape((3, 4)).load(&path)?, expected);
    Ok(())
}

#[cfg(feature = "rayon")]
#[test]
fn all_cores_read_and_write_a_mapped_array() -> Result<()> {
    use ndarray::parallel::prelude::*;
    let mut c = MmapArrayMut::<f64>::scratch((100, 50))?;
    c.par_iter_mut().for_each(|x| *x = 2.0);
    (&mut c).into_par_iter().for_each(|x| *x += 1.0);
    c.par_map_inplace(|x| *x += 1.0);
    assert_eq!((&c).into_par_iter().sum::<f64>(), 20_000.0);
    assert_eq!(c.par_iter().copied().sum::<f64>(), 20_000.0);
    let rows: Vec<f64> = c.axis_iter(Axis(0)).into_par_iter().map(|row| row.sum()).collect();
    assert_eq!(rows, vec![200.0; 100]);
    let mut sum = Array2::zeros((100, 50));
    Zip::from(&mut sum).and(&c).par_for_each(|s, x| *s = x + 1.0);
    assert_eq!(sum, Array2::from_elem((100, 50), 5.0));
    Ok(())
}

#[test]
fn nothing_done_to_the_axes_of_a_borrow_lasts() -> Result<()> {
    let (_folder, path) = file(&counting(12));
    let mut c = MmapArrayMut::<f64>::options().shape((3, 4)).opened(&path)?;
    let before = (c.dim(), c.strides().to_vec(), c.as_ptr());

    let lent = &mut *c;
    lent.swap_axes(0, 1);
    lent.invert_axis(Axis(0));
    assert_eq!(lent.dim(), (4, 3));
    lent[[0, 0]] = 33.0; // What is stored through it does last: the last element of the first row.
    c.swap_axes(0, 1);
    c.invert_axis(Axis(1));
    c.slice_collapse(s![1..2, ..]);
    c.collapse_axis(Axis(0), 2);
    c.merge_axes(Axis(0), Axis(1));

    assert_eq!((c.dim(), c.strides().to_vec(), c.as_ptr()), before);
    assert_eq!(c.view().dim(), (3, 4));
    assert_eq!(c.view_mut().dim(), (3, 4));
    let lent = &mut *c;
    assert_eq!(lent.dim(), (3, 4));
    assert_eq!(c[[0, 3]], 33.0);
    c[[2, 3]] = 44.0;
    c.flush_rows(0..3)?;
    expect_err(c.flush_rows(0..4), ErrorKind::InvalidInput);
    c.flush()?;
    assert_eq!(format!("{c:?}"), format!("MmapArray {{ shape: [3, 4], path: {:?}, mode: ReadWrite }}", Some(&path)));
    c.close()?;
    let mut expected = counting(12);
    (expected[3], expected[11]) = (33.0, 44.0);
    assert_eq!(MmapArray::<f64, Ix1>::load(&path)?.to_vec(), expected);
    Ok(())
}

#[test]
#[should_panic(expected = "out of bounds")]
fn reading_past_an_axis_panics_as_in_ndarray() {
    let a = MmapArrayMut::<f64>::scratch((3, 4)).unwrap();
    let _ = a[[0, 4]];
}

#[test]
#[should_panic(expected = "out of bounds")]
fn writing_past_an_axis_panics_as_in_ndarray() {
    let mut a = MmapArrayMut::<f64>::scratch((3, 4)).unwrap();
    a[[3, 0]] = 1.0;
}

#[test]
fn debug_shows_what_the_array_is_and_never_its_elements() -> Result<()> {
    let (_folder, path) = file(&[271_828_182_i64; 4]);
    let c = MmapArrayCow::<i64>::options().shape((2, 2)).opened(&path)?;
    fn debug_of_any<A, D: Dimension, M>(array: &MmapArrayBase<A, D, M>) -> String {
        format!("{array:?}")
    }
    let reported = debug_of_any(&c);
    assert!(
        reported.contains("[2, 2]") && reported.contains("data.bin") && reported.contains("CopyOnWrite"),
        "{reported}"
    );
    assert!(!reported.contains("271828182"), "{reported}");
    assert_eq!(format!("{c}"), format!("{}", Array2::from_elem((2, 2), 271_828_182_i64)));
    assert_eq!(format!("{c:12}"), format!("{:12}", Array2::from_elem((2, 2), 271_828_182_i64)));
    #[cfg(target_os = "linux")]
    {
        let mut staged = Staged::<i64>::stage(path.with_extension("staged"), (1, 2))?;
        staged.fill(271_828_182);
        let reported = debug_of_any(&staged);
        assert!(reported.starts_with("MmapArray { shape: [1, 2]") && reported.contains("data.staged"), "{reported}");
        assert!(reported.ends_with("mode: Create }") && !reported.contains("271828182"), "{reported}");
        assert_eq!(format!("{staged}"), "[[271828182, 271828182]]");
    }
    // Whatever the element is: nothing of it is asked.
    #[derive(Clone, Copy)]
    #[repr(transparent)]
    struct Silent(u8);
    // SAFETY: a byte, of which every pattern is a value.
    unsafe impl bytemuck::Zeroable for Silent {}
    // SAFETY: as above.
    unsafe impl bytemuck::AnyBitPattern for Silent {}
    let silent = MmapArray::<Silent>::load(&path)?;
    assert_eq!(silent[0].0, 271_828_182_i64.to_ne_bytes()[0]);
    assert!(format!("{silent:?}").starts_with("MmapArray { shape: [32]"));
    Ok(())
}

#[test]
fn guards_cross_threads_and_errors_do() {
    fn crosses<T: Send + Sync + 'static>() {}
    crosses::<MmapArray<f64>>();
    crosses::<MmapArrayMut<u8, Ix2>>();
    crosses::<MmapArrayCow<[i32; 3], Ix3>>();
    crosses::<Staged<f64, Ix2>>();
    crosses::<MmapArrayOptions<f64, Ix1, ReadOnly>>();
    crosses::<Error>();
    fn plain<T: Copy + std::fmt::Debug + PartialEq + Eq + std::hash::Hash + Send + Sync>() {}
    plain::<ErrorKind>();
    plain::<Mode>();
    plain::<Lock>();
    plain::<Advice>();
    fn settles<T: std::panic::RefUnwindSafe>() {}
    settles::<MmapArray<f64>>();

    let a = MmapArrayMut::<u64>::scratch(8).unwrap();
    let sum = std::thread::scope(|s| s.spawn(|| a.sum()).join().unwrap());
    let there = std::thread::spawn(move || a.sum()).join().unwrap();
    assert_eq!((sum, there), (0, 0));
}

#[test]
fn an_array_knows_its_file_its_offset_and_its_mode() -> Result<()> {
    let (folder, path) = file(&counting(4));
    let a = MmapArray::<f64>::options().offset(8).opened(&path)?;
    assert_eq!((a.path(), a.offset(), a.mode()), (Some(path.as_path()), 8, Mode::ReadOnly));
    let c = MmapArrayCow::<f64>::options().offset(16).opened(&path)?;
    assert_eq!((c.path(), c.offset(), c.mode()), (Some(path.as_path()), 16, Mode::CopyOnWrite));
    let l = MmapArrayCow::<f64>::options().offset(24).load(&path)?;
    assert_eq!((l.path(), l.offset(), l.mode()), (Some(path.as_path()), 24, Mode::CopyOnWrite));
    let h = MmapArray::<f64>::options().offset(8).mapped(&File::open(&path).unwrap())?;
    assert_eq!((h.path(), h.offset(), h.mode()), (None, 8, Mode::ReadOnly));
    drop((a, c));
    let m = MmapArrayMut::<f64>::options().opened(&path)?;
    assert_eq!((m.path(), m.offset(), m.mode()), (Some(path.as_path()), 0, Mode::ReadWrite));
    let new = folder.path().join("new");
    let w = MmapArrayMut::<f64>::options().offset(8).shape(2).created(&new)?;
    assert_eq!((w.path(), w.offset(), w.mode()), (Some(new.as_path()), 8, Mode::Create));
    let s = MmapArrayMut::<f64>::scratch(2)?;
    assert_eq!((s.path(), s.offset(), s.mode()), (None, 0, Mode::Create));
    let modes = [a_mode("r"), a_mode("r+"), a_mode("w+"), a_mode("c")];
    assert_eq!(modes, [Mode::ReadOnly, Mode::ReadWrite, Mode::Create, Mode::CopyOnWrite]);
    Ok(())
}

fn a_mode(text: &str) -> Mode {
    let mode: Mode = text.parse().unwrap();
    assert_eq!(mode.to_string(), text);
    mode
}

#[test]
fn relative_paths_become_absolute_ones() {
    in_child!(|| {
        let here = std::env::current_dir().unwrap();
        let w = MmapArrayMut::<u8>::options().shape(3).created("x.bin").unwrap();
        assert_eq!(w.path(), Some(here.join("x.bin").as_path()));
        drop(w);
        let a = MmapArray::<u8>::options().opened("./x.bin").unwrap();
        assert_eq!(a.path(), Some(here.join("x.bin").as_path()));
        let l = MmapArray::<u8>::load("x.bin").unwrap();
        assert_eq!(l.path(), Some(here.join("x.bin").as_path()));
        let n = MmapArrayMut::<u8>::options().shape(3).created_new("n.bin").unwrap();
        assert_eq!(n.path(), Some(here.join("n.bin").as_path()));
        // An error names the file as the caller did.
        let e = expect_err(MmapArray::<u8>::load("no/such.bin"), ErrorKind::Io);
        assert_eq!(e.path(), Some(Path::new("no/such.bin")));
        assert!(e.io_error().is_some() && e.to_string().starts_with("no/such.bin: cannot open: "), "{e}");
    })
    .run()
    .succeeded();
}

#[test]
fn a_dimension_is_fixed_and_freed_and_fits_or_is_refused() -> Result<()> {
    let (_folder, path) = file(&counting(12));
    let a = MmapArray::<f64>::options().shape(vec![3, 4].f()).opened(&path)?;
    let fixed: MmapArray<f64, Ix2> = a.into_dimensionality()?;
    assert_eq!(fixed.strides(), [1, 3]);
    let free: MmapArray<f64> = fixed.into_dimensionality::<IxDyn>()?;
    assert_eq!((free.shape(), free.path(), free.mode()), (&[3, 4][..], Some(path.as_path()), Mode::ReadOnly));
    let e = expect_err(free.into_dimensionality::<Ix3>(), ErrorKind::ShapeMismatch);
    assert!(e.to_string().contains("[3, 4]") && e.to_string().contains('3'), "{e}");
    assert_eq!(e.path(), Some(path.as_path()));
    let mut c = MmapArrayCow::<f64>::options().shape(vec![3, 4]).opened(&path)?.into_dimensionality::<Ix2>()?;
    c[[2, 3]] = 1.0;
    c.fill(2.0);
    assert_eq!(c.into_dimensionality::<IxDyn>()?.sum(), 24.0);
    Ok(())
}

#[test]
fn hints_and_eviction_change_nothing_but_speed() -> Result<()> {
    let (_folder, path) = file(&vec![1.0_f64; 100_000]);
    fn tried<M>(a: &MmapArrayBase<f64, IxDyn, M>, sum: f64) -> Result<()> {
        for advice in [Advice::Sequential, Advice::Random, Advice::WillNeed, Advice::Normal] {
            a.advise(advice)?;
            assert_eq!(a.sum(), sum);
        }
        a.evict()?;
        assert_eq!(a.sum(), sum);
        #[cfg(any(target_os = "linux", target_os = "macos"))]
        assert!((0.0..=1.0).contains(&a.residency()?));
        Ok(())
    }
    tried(&MmapArray::<f64>::options().offset(8).opened(&path)?, 99_999.0)?;
    tried(&MmapArray::<f64>::load(&path)?, 100_000.0)?;
    tried(&MmapArray::<f64>::options().shape(vec![0]).load(&path)?, 0.0)?;
    let mut c = MmapArrayCow::<f64>::options().opened(&path)?;
    c.fill(2.0);
    tried(&c, 200_000.0)?;
    let mut l = MmapArrayCow::<f64>::load(&path)?;
    l.fill(2.0);
    tried(&l, 200_000.0)?;
    drop(c);
    let mut m = MmapArrayMut::<f64>::options().opened(&path)?;
    m.fill(3.0);
    tried(&m, 300_000.0)?;
    tried(&MmapArrayMut::<f64>::scratch(vec![5])?, 0.0)?;
    Ok(())
}

#[test]
fn booleans_are_a_type_of_their_own() -> Result<()> {
    let (_folder, path) = file(&[0_u8, 1, 2, 255]);
    let a = MmapArray::<Bool8, Ix1>::load(&path)?;
    assert_eq!(a.mapv(bool::from), array![false, true, true, true]);
    Ok(())
}
