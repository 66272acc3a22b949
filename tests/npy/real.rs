//! `Real` and `npy_dispatch!`: one function for files of every real type, in either byte order, at any offset.

use std::any::{TypeId, type_name};
use std::fs;

use crate::support::arrays::{CreateExt, OpenExt, npy_header};
use half::{bf16, f16};
use ndarray::prelude::*;
use ndarray_mmap::blocks::Accumulator;
use ndarray_mmap::npy::{ByteOrder, Dtype, Header, NpyElement, Real};
use ndarray_mmap::{
    BigEndian, ByteOrdered, Error, ErrorKind, LittleEndian, MmapArray, MmapArrayMut, Result, Unaligned, npy_dispatch,
};
use rend::unaligned::*;
use rend::*;
use tempfile::TempDir;

/// All that code may ask of an array whose element is bounded by `Real` alone.
fn summary<A: Real>(a: &MmapArray<A, Ix2>) -> [f64; 8] {
    let copy: Array2<A> = a.view().to_owned();
    assert!(
        copy.iter().zip(a).all(|(x, y)| x.partial_cmp(y).is_some() && format!("{x} {x:?}") == format!("{y} {y:?}"))
    );
    let (least, most) = a.blocks().min_max().unwrap();
    let means = a.blocks().mean_axis(Axis(0)).unwrap();
    let (smallest, largest) = a.blocks().min_max_axis(Axis(1)).unwrap();
    let _exact = (a.blocks().sum(), a.blocks().sum_axis(Axis(0)));
    [
        a.blocks().mean().unwrap(),
        a.blocks().std(0).unwrap(),
        a.blocks().var_axis(Axis(0), 0.0).unwrap()[0],
        least.to_f64(),
        most.to_f64(),
        means[0],
        smallest[1].to_f64(),
        largest[0].to_f64(),
    ]
}

/// Writes the values 1, 5, 3, 7 as `A` at an offset, and passes over them.
fn passes<A: Real>(values: [A; 4]) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.bin");
    let offset = if align_of::<A>() == 1 { 3 } else { 16 };
    let mut a = MmapArrayMut::<A>::options().shape((2, 2)).offset(offset).created(&path).unwrap();
    a.assign(&ArrayView2::from_shape((2, 2), &values).unwrap());
    a.close().unwrap();
    let a = MmapArray::<A>::options().shape((2, 2)).offset(offset).opened(&path).unwrap();
    assert_eq!(summary(&a), [4.0, 5_f64.sqrt(), 1.0, 1.0, 7.0, 2.0, 3.0, 5.0], "{}", type_name::<A>());
}

#[test]
fn a_function_bounded_by_real_does_all_that_it_may_ask() {
    let values = [1, 5, 3, 7];
    passes(values.map(|x| Unaligned::new(x as u64)));
    passes(values.map(|x| BigEndian::new(x as i16)));
    passes(values.map(|x| Unaligned::new(f64::from(x))));
    passes(values.map(|x| Unaligned::new(BigEndian::new(f16::from_f32(x as f32)))));
    passes(values.map(|x| bf16::from_f32(x as f32)));
}

/// Compiling all passes for all the types would take minutes.
#[test]
fn every_type_is_real_and_its_values_are_the_numbers() {
    #[track_caller]
    fn is<A: Real>(values: [A; 4]) {
        assert_eq!(values.map(A::to_f64), [1.0, 5.0, 3.0, 7.0]);
        assert_eq!(A::sum_slice(&values).to_mean(), 16.0);
        let [one, five, three, seven] = values;
        assert!(one < three && three <= five && seven > five && seven >= seven && one.partial_cmp(&seven).is_some());
        assert!([1.0, 5.0, 3.0, 7.0].iter().zip(&values).all(|(x, y)| format!("{y}").parse() == Ok(*x)));
        assert_eq!(A::dtype().itemsize(), size_of::<A>());
        let bytes = bytemuck::bytes_of(&values);
        assert_eq!(bytemuck::pod_read_unaligned::<[A; 4]>(bytes).map(A::to_f64), values.map(A::to_f64));
    }
    fn every_order<A: Real + ByteOrdered>(values: [A; 4]) {
        fn both<A: Real>(values: [A; 4]) {
            is(values);
            is(values.map(Unaligned::new));
        }
        both(values);
        both(values.map(BigEndian::new));
        both(values.map(LittleEndian::new));
    }
    macro_rules! all {
        ($($native:ident: $($rend:ident)*;)*) => {$(
            let values = [1, 5, 3, 7].map(|x| x as $native);
            every_order(values);
            $(is(values.map($rend::from_native));)*
        )*};
    }
    all! {
        i8: ; i16: i16_le i16_be i16_ule i16_ube; i32: i32_le i32_be i32_ule i32_ube; i64: i64_le i64_be i64_ule i64_ube;
        u8: ; u16: u16_le u16_be u16_ule u16_ube; u32: u32_le u32_be u32_ule u32_ube; u64: u64_le u64_be u64_ule u64_ube;
        f32: f32_le f32_be f32_ule f32_ube; f64: f64_le f64_be f64_ule f64_ube; isize: ; usize: ;
    }
    every_order([1.0, 5.0, 3.0, 7.0].map(f16::from_f32));
    every_order([1.0, 5.0, 3.0, 7.0].map(bf16::from_f32));
}

/// The smallest and the largest of all types are converted exactly, or are rounded.
#[test]
fn numbers_become_the_nearest_f64() {
    assert_eq!(i8::MIN.to_f64(), -128.0);
    assert_eq!(BigEndian::new(u32::MAX).to_f64(), 4_294_967_295.0);
    assert_eq!(((1_i64 << 53) + 1).to_f64(), 9_007_199_254_740_992.0);
    assert_eq!(u64::MAX.to_f64(), 18_446_744_073_709_551_616.0);
    assert_eq!(Unaligned::new(BigEndian::new(f16::MAX)).to_f64(), 65504.0);
    assert_eq!(bf16::from_f32(-0.0).to_f64().to_bits(), (-0.0_f64).to_bits());
    assert!(LittleEndian::new(f64::NAN).to_f64().is_nan());
}

#[test]
fn nan_is_the_smallest_and_the_largest_in_every_float() {
    #[track_caller]
    fn check<A: Real>(values: [A; 3]) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.bin");
        fs::write(&path, bytemuck::cast_slice::<A, u8>(&values)).unwrap();
        let a = MmapArray::<A>::load(&path).unwrap();
        let (least, most) = a.blocks().min_max().unwrap();
        assert!(least.to_f64().is_nan() && most.to_f64().is_nan(), "{}", type_name::<A>());
        assert!(a.blocks().mean().unwrap().is_nan());
    }
    let values = [1.0_f64, f64::NAN, 2.0];
    check(values.map(BigEndian::new));
    check(values.map(Unaligned::new));
    check(values.map(f16::from_f64).map(|x| Unaligned::new(BigEndian::new(x))));
    check(values.map(bf16::from_f64));
}

/// The type that a dtype is run with.
fn chosen<A: 'static>(unaligned: bool, dtype: &Dtype) -> (bool, &'static str) {
    fn of<A: 'static, B: Real>() -> Result<(bool, &'static str)> {
        Ok((TypeId::of::<A>() == TypeId::of::<B>(), type_name::<B>()))
    }
    let found = if unaligned {
        npy_dispatch!(dtype, unaligned B => of::<A, B>())
    } else {
        npy_dispatch!(dtype, B => of::<A, B>())
    };
    found.unwrap()
}

#[track_caller]
fn chooses<A: 'static, U: 'static>(descr: &str) {
    let dtype: Dtype = descr.parse().unwrap();
    for (same, name) in [chosen::<A>(false, &dtype), chosen::<U>(true, &dtype)] {
        assert!(same, "{descr} is run with {name}");
    }
}

#[test]
fn a_dtype_chooses_its_type_however_it_is_spelled() {
    /// In both byte orders by letter, and without one.
    #[track_caller]
    fn number<A: Real + ByteOrdered>(code: &str, names: &[&str]) {
        for spelled in [code.into(), format!("={code}"), format!("|{code}")]
            .iter()
            .map(String::as_str)
            .chain(names.iter().copied())
        {
            // `|V2` is bytes, but `bfloat16` is a number.
            if !spelled.contains('V') {
                chooses::<A, Unaligned<A>>(spelled);
            }
        }
        let (native, foreign) = if cfg!(target_endian = "big") { (">", "<") } else { ("<", ">") };
        chooses::<A, Unaligned<A>>(&format!("{native}{code}"));
        let foreign = format!("{foreign}{code}");
        if cfg!(target_endian = "big") {
            chooses::<LittleEndian<A>, Unaligned<LittleEndian<A>>>(&foreign);
        } else {
            chooses::<BigEndian<A>, Unaligned<BigEndian<A>>>(&foreign);
        }
    }
    for descr in ["u1", "|u1", "<u1", ">u1", "=u1", "B", "uint8", "ubyte"] {
        chooses::<u8, u8>(descr);
    }
    for descr in ["i1", "|i1", ">i1", "b", "int8", "byte"] {
        chooses::<i8, i8>(descr);
    }
    number::<i16>("i2", &["h", "int16", "short"]);
    number::<u16>("u2", &["H", "uint16", "ushort"]);
    number::<i32>("i4", &["i", "int32"]);
    number::<u32>("u4", &["I", "uint32"]);
    number::<i64>("i8", &["q", "int64"]);
    number::<u64>("u8", &["Q", "uint64"]);
    number::<f32>("f4", &["f", "float32", "single"]);
    number::<f64>("f8", &["d", "float64", "double", "float"]);
    number::<f16>("f2", &["e", "float16", "half"]);
    number::<bf16>("V2", &["bfloat16"]);
}

/// What a function of a path does that knows nothing but the header.
fn mean(path: &std::path::Path) -> Result<f64> {
    npy_dispatch!(Header::read(path)?.dtype(), A => {
        MmapArray::<A>::options().opened_npy(path).map(|a| a.iter().map(|x| x.to_f64()).sum::<f64>() / a.len() as f64)
    })
}

#[test]
fn a_file_of_every_type_is_run_with_its_own() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    for code in ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "V2"] {
        for order in ["<", ">"] {
            let descr = format!("{order}{code}");
            let dtype: Dtype = descr.parse()?;
            // What is 3 in little-endian bytes.
            let mut three = match code {
                "f2" => f16::from_f32(3.0).to_le_bytes().to_vec(),
                "V2" => bf16::from_f32(3.0).to_le_bytes().to_vec(),
                "f4" => 3_f32.to_le_bytes().to_vec(),
                "f8" => 3_f64.to_le_bytes().to_vec(),
                _ => 3_u64.to_le_bytes()[..dtype.itemsize()].to_vec(),
            };
            if dtype.byteorder() == ByteOrder::Big {
                three.reverse();
            }
            let mut file = npy_header(&format!("'{descr}'"), false, "(4,)", 16);
            file.extend(three.repeat(4));
            fs::write(&path, &file).unwrap();
            assert_eq!(mean(&path)?, 3.0, "{descr}");
            // And at an odd offset of some other format.
            let data = file.split_off(file.len() - 4 * three.len());
            fs::write(&path, [b"odd", &data[..]].concat()).unwrap();
            let total: Result<f64> = npy_dispatch!(&dtype, unaligned A => {
                let a = MmapArray::<A>::options().offset(3).opened(&path)?;
                Ok(a.iter().map(|x| x.to_f64()).sum())
            });
            assert_eq!(total?, 12.0, "{descr}");
        }
    }
    Ok(())
}

#[test]
#[cfg(target_endian = "little")]
fn what_is_no_real_number_is_refused_with_what_to_do() {
    #[derive(Debug)]
    struct Mine(Error);
    impl From<Error> for Mine {
        fn from(e: Error) -> Self {
            Self(e)
        }
    }
    for (descr, message) in [
        ("<c8", "`<c8` is no real number; use `num_complex::Complex<f32>` (feature `num-complex`)"),
        ("|b1", "`|b1` is no real number; use `Bool8`"),
        ("<M8[us]", "`<M8[us]` is no real number; use `Datetime64<time_units::Microsecond>`"),
        (">U3", "`>U3` is no real number; use `BigEndian<Str<3>>`"),
        ("|V2", "`|V2` is no real number; use `[u8; 2]`"),
        ("<f16", "`<f16` is no number that Rust has a type for"),
        ("('<f4', (3,))", "`('<f4', (3,))` is an array, and no number"),
        ("[('a', '<f4')]", "`[('a', '<f4')]` is no real number; use a `#[repr(C)]` struct with `npy_record!`"),
    ] {
        let dtype: Dtype = descr.parse().unwrap();
        // With any error that can be made from the crate's.
        let refused: std::result::Result<usize, Mine> = npy_dispatch!(dtype, A => Ok(size_of::<A>()));
        let Mine(e) = refused.unwrap_err();
        assert_eq!((e.kind(), e.to_string().as_str()), (ErrorKind::DtypeMismatch, message));
    }
}

/// It is used as an expression, and its code may do what code may do around it.
#[test]
fn the_code_may_use_and_leave_what_is_around_it() -> Result<()> {
    fn size(dtype: Dtype) -> Result<usize> {
        let mut calls = 0;
        let size = npy_dispatch!(dtype, Element => {
            calls += 1;
            if Element::dtype().itemsize() == 1 {
                return Ok(0);
            }
            Result::Ok(size_of::<Element>())
        })?;
        // It was only looked at.
        assert_eq!(dtype.itemsize(), size * calls);
        Ok(size)
    }
    assert_eq!((size(">f4".parse()?)?, size("u1".parse()?)?), (4, 0));
    Ok(())
}
