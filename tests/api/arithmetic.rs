//! Arithmetic and comparison: mapped arrays are operands as plain arrays are, in every mode and form, with the same results.
#![expect(clippy::op_ref, clippy::nonminimal_bool, reason = "references and both sides are among the forms")]

use std::fs;

use crate::support::arrays::OpenExt;
use ndarray::prelude::*;
use ndarray::{ArcArray, Zip};
use ndarray_mmap::{MmapArray, MmapArrayBase, MmapArrayCow, MmapArrayMut};
use proptest::prelude::*;

/// One array in each mode that the machine has, with the same elements.
struct Modes<A: bytemuck::Pod, D: Dimension> {
    _folder: tempfile::TempDir,
    read: MmapArray<A, D>,
    cow: MmapArrayCow<A, D>,
    write: MmapArrayMut<A, D>,
    loaded: MmapArray<A, D>,
}

fn modes<A: bytemuck::Pod, D: Dimension>(values: &Array<A, D>, fortran: bool) -> Modes<A, D> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let ordered: Vec<A> = if fortran { values.t().iter().copied().collect() } else { values.iter().copied().collect() };
    fs::write(&path, bytemuck::cast_slice(&ordered)).unwrap();
    let shape = || values.raw_dim().set_f(fortran);
    let mut write = MmapArrayMut::<A>::scratch(shape()).unwrap();
    write.assign(values);
    Modes {
        read: MmapArray::<A>::options().shape(shape()).opened(&path).unwrap(),
        cow: MmapArrayCow::<A>::options().shape(shape()).opened(&path).unwrap(),
        loaded: MmapArray::<A>::options().shape(shape()).load(&path).unwrap(),
        write,
        _folder: folder,
    }
}

/// All forms of one operator between two arrays, against ndarray's own between plain arrays.
macro_rules! all_forms {
    ($a:expr, $b:expr, $fortran:expr, $operator:tt, $assign:tt) => {{
        let (a, b) = (&$a, &$b);
        let expected = a $operator b;
        let (m, n) = (modes(a, $fortran), modes(b, !$fortran));
        // Between modes.
        assert_eq!(&m.read $operator &n.read, expected);
        assert_eq!(&m.read $operator &n.write, expected);
        assert_eq!(&m.write $operator &n.cow, expected);
        assert_eq!(&m.cow $operator &n.loaded, expected);
        assert_eq!(&m.loaded $operator &n.read, expected);
        // With plain arrays, on either side.
        assert_eq!(&m.read $operator b, expected);
        assert_eq!(&m.read $operator b.clone(), expected);
        assert_eq!(&m.write $operator &b.view(), expected);
        assert_eq!(&m.cow $operator &**b, expected);
        assert_eq!(&m.cow $operator &b.to_shared(), expected);
        assert_eq!(a $operator &n.read, expected);
        assert_eq!(a.clone() $operator &n.read, expected);
        assert_eq!(&a.view() $operator &n.write, expected);
        assert_eq!(&**a $operator &n.cow, expected);
        assert_eq!(a.to_shared() $operator &n.loaded, expected);
        let _: Array<_, _> = &m.read $operator &n.read;
        let _: ArcArray<_, _> = a.to_shared() $operator &n.read;
        if expected.shape() == a.shape() {
            let Modes { mut cow, mut write, .. } = m;
            write $assign &n.read;
            assert_eq!(write, expected);
            cow $assign b;
            assert_eq!(cow, expected);
            let mut m = modes(a, !$fortran);
            m.write $assign &**b;
            m.cow $assign &b.view();
            assert_eq!((m.write == expected, m.cow == expected), (true, true));
            let mut plain = a.clone();
            plain $assign &n.read;
            assert_eq!(plain, expected);
        }
    }};
}

/// All forms of one operator with a number.
macro_rules! with_scalar {
    ($a:expr, $x:expr, $fortran:expr, $operator:tt, $assign:tt) => {{
        let (a, x) = (&$a, $x);
        let expected = a $operator x;
        let reversed = x $operator a;
        let m = modes(a, $fortran);
        assert_eq!(&m.read $operator x, expected);
        assert_eq!(&m.write $operator x, expected);
        assert_eq!(&m.cow $operator x, expected);
        assert_eq!(&m.loaded $operator x, expected);
        assert_eq!(x $operator &m.read, reversed);
        assert_eq!(x $operator &m.write, reversed);
        assert_eq!(x $operator &m.cow, reversed);
        assert_eq!(x $operator &m.loaded, reversed);
        let Modes { mut cow, mut write, .. } = m;
        write $assign x;
        cow $assign x;
        assert_eq!((write == expected, cow == expected), (true, true));
    }};
}

macro_rules! numbers {
    ($A:ty, $x:expr) => {
        for fortran in [false, true] {
            let a = Array3::<$A>::from_shape_fn((2, 3, 4), |(i, j, k)| (i * 12 + j * 4 + k + 1) as $A);
            let b = a.mapv(|x| x / (2 as $A) + (1 as $A));
            all_forms!(a, b, fortran, +, +=);
            all_forms!(a, b.mapv(|x| x.min(1 as $A)), fortran, -, -=);
            all_forms!(a, b.mapv(|x| x.min(2 as $A)), fortran, *, *=);
            all_forms!(a, b, fortran, /, /=);
            all_forms!(a, b, fortran, %, %=);
            // Broadcast to the shape of the left, and to one that neither has.
            all_forms!(a, b.slice(s![0, 0, ..]).to_owned(), fortran, +, +=);
            all_forms!(a.slice(s![.., .., ..1]).to_owned(), b.slice(s![.., ..1, ..]).to_owned(), fortran, +, +=);
            all_forms!(a.clone().into_dyn(), b.slice(s![.., ..1, ..]).to_owned().into_dyn(), fortran, +, +=);
            all_forms!(a.slice(s![.., ..0, ..]).to_owned(), b.slice(s![.., ..0, ..]).to_owned(), fortran, +, +=);
            let big = a.mapv(|x| x + (30 as $A));
            with_scalar!(big, $x, fortran, +, +=);
            with_scalar!(a.mapv(|_| $x), $x, fortran, -, -=);
            with_scalar!(a, $x, fortran, *, *=);
            with_scalar!(big, $x, fortran, /, /=);
            with_scalar!(big, $x, fortran, %, %=);
        }
    };
}

#[test]
fn every_form_of_arithmetic_is_that_of_plain_arrays() {
    numbers!(f32, 2.0);
    numbers!(f64, 2.0);
    numbers!(u8, 3);
    numbers!(i8, 3);
    numbers!(u64, 3);
    numbers!(i32, 3);
}

#[test]
fn bits_are_combined_and_shifted() {
    for fortran in [false, true] {
        let a = Array2::from_shape_fn((3, 5), |(i, j)| (i * 50 + j * 7) as u16);
        let b = a.mapv(|x| x % 7);
        all_forms!(a, b, fortran, &, &=);
        all_forms!(a, b, fortran, |, |=);
        all_forms!(a, b, fortran, ^, ^=);
        all_forms!(a, b, fortran, <<, <<=);
        all_forms!(a, b, fortran, >>, >>=);
        let small = a.mapv(|x| x % 13);
        with_scalar!(small, 5_u16, fortran, &, &=);
        with_scalar!(small, 5_u16, fortran, |, |=);
        with_scalar!(small, 5_u16, fortran, ^, ^=);
        with_scalar!(small, 1_u16, fortran, <<, <<=);
        with_scalar!(small, 1_u16, fortran, >>, >>=);
        assert_eq!(!&modes(&a, fortran).read, !&a);
    }
}

#[test]
fn negation_and_literals_need_no_types() {
    let values = array![[1.5_f32, -2.0], [0.0, 8.0]];
    let m = modes(&values, false);
    assert_eq!(-&m.read, -&values);
    // What the page of the crate says, and a longer one.
    let scaled: Array2<f32> = &m.read * 2.0 + 1.0;
    assert_eq!(scaled, &values * 2.0 + 1.0);
    let all: Array2<f32> = 2.0 * &m.read - &m.write / &m.cow + (-&m.loaded) * 0.5;
    let expected = 2.0 * &values - &values / &values + (-&values) * 0.5;
    assert!(Zip::from(&all).and(&expected).all(|a, b| a == b || a.is_nan() && b.is_nan()));
    let mut c = m.write;
    c += 1.0;
    c *= 2.0;
    c -= &values;
    assert_eq!(c, &values + 2.0);
}

#[test]
#[cfg(target_os = "linux")]
fn staged_arrays_take_part() {
    let folder = tempfile::tempdir().unwrap();
    let mut staged = ndarray_mmap::Staged::<i32>::stage(folder.path().join("a"), (2, 2)).unwrap();
    staged += 3;
    staged *= &array![1, 2];
    assert_eq!(&staged - 1, array![[2, 5], [2, 5]]);
    assert_eq!(staged, array![[3, 6], [3, 6]]);
}

#[test]
#[cfg(feature = "num-complex")]
fn complex_numbers_take_part() {
    use num_complex::Complex;
    let a = array![[Complex::new(1.0_f64, 2.0), Complex::new(0.5, -3.0)]];
    let i = Complex::new(0.0, 1.0);
    for fortran in [false, true] {
        all_forms!(a, a.mapv(|z| z + i), fortran, *, *=);
        all_forms!(a, a.mapv(|z| z + i), fortran, /, /=);
        let m = modes(&a, fortran);
        assert_eq!((&m.read * i, i * &m.read, i / &m.cow), (&a * i, i * &a, i / &a));
        // A real factor, as for plain arrays.
        assert_eq!(&m.read * 2.0, &a * 2.0);
    }
}

#[test]
#[cfg(feature = "half")]
fn half_floats_take_part() {
    use half::f16;
    let a = array![1.0, 2.0, 3.5].mapv(f16::from_f32);
    let two = f16::from_f32(2.0);
    let m = modes(&a, false);
    assert_eq!(&m.read * two, a.mapv(|x| x * two));
    assert_eq!(two - &m.read, a.mapv(|x| two - x));
    assert_eq!(&m.read + &m.cow, a.mapv(|x| x + x));
}

#[test]
fn equality_has_every_form_and_looks_at_shapes_too() {
    for fortran in [false, true] {
        let values = array![[1, 2, 3], [4, 5, 6]];
        let m = modes(&values, fortran);
        let (view, reference) = (values.view(), &*values);
        assert!(m.read == m.write && &m.read == &m.cow && m.read == &m.loaded && &m.loaded == m.read);
        assert!(m.read == values && m.read == &values && &m.read == values && &m.read == &values);
        assert!(values == m.read && values == &m.read && &values == m.read && &values == &m.read);
        assert!(m.read == view && view == m.read && &m.read == view && view == &m.read);
        assert!(m.read == *reference && m.read == reference && *reference == m.read && reference == m.read);
        assert!(&m.read == *reference && *reference == &m.read);
        let other = array![[1, 2, 3], [4, 5, 7]];
        assert!(m.read != other && other != m.read && m.read != modes(&other, !fortran).read);
        let transposed = array![[1, 4], [2, 5], [3, 6]];
        assert!(m.read != transposed && transposed != m.read);
        assert!(modes(&array![f64::NAN], false).read != array![f64::NAN]);
        // As an element type that compares with another.
        fn needs_eq<T: Eq>(_: &T) {}
        needs_eq(&m.read);
    }
}

#[test]
fn shapes_that_do_not_broadcast_panic_as_those_of_plain_arrays_do() {
    let panics = |f: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err();
    let m = modes(&Array2::<f64>::zeros((2, 3)), false);
    let odd = modes(&Array1::<f64>::zeros(2), false);
    assert!(panics(&|| drop(&m.read + &odd.read)));
    assert!(panics(&|| drop(&m.read + &Array1::<f64>::zeros(2))));
    assert!(panics(&|| drop(Array1::<f64>::zeros(2) + &m.read)));
    assert!(panics(&|| {
        let mut m = modes(&Array2::<f64>::zeros((2, 3)), false);
        m.write += &Array1::<f64>::zeros(2);
    }));
}

/// Generic code says what it needs as for plain arrays.
#[test]
fn generic_functions_can_ask_for_it() {
    use ndarray_mmap::ScalarOperand;
    use std::ops::{Mul, Sub};
    fn doubled_less_one<A, D: Dimension, M>(a: &MmapArrayBase<A, D, M>, one: A) -> Array<A, D>
    where
        A: Clone + ScalarOperand + Mul<Output = A> + Sub<Output = A> + std::ops::Add<Output = A>,
    {
        a * (one.clone() + one.clone()) - &Array::from_elem(a.raw_dim(), one)
    }
    let m = modes(&array![1, 2, 3], false);
    assert_eq!(doubled_less_one(&m.read, 1), array![1, 3, 5]);
    assert_eq!(doubled_less_one(&m.cow, 1), array![1, 3, 5]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_two_shapes_broadcast_as_plain_arrays_do(
        a in proptest::collection::vec(0..4_usize, 0..4), b in proptest::collection::vec(0..4_usize, 0..4),
        fortran in any::<bool>(),
    ) {
        let array = |shape: &[usize]| {
            let size = shape.iter().product::<usize>();
            ArrayD::from_shape_vec(shape, (0..size).map(|n| n as i64).collect()).unwrap()
        };
        let (a, b) = (array(&a), array(&b));
        let (m, n) = (modes(&a, fortran), modes(&b, !fortran));
        let plain = std::panic::catch_unwind(|| &a + &b).ok();
        let mapped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| &m.read + &n.cow)).ok();
        prop_assert_eq!(plain, mapped);
    }
}
