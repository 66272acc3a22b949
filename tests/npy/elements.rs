//! The element types of `.npy` files: each reads its own, in NumPy's words, and no other's.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::arrays::{CreateExt, OpenExt, expect_err, npy_header};
use crate::support::snapshot::{names, snapshot};
use bytemuck::{AnyBitPattern, NoUninit, Pod, Zeroable};
use half::{bf16, f16};
use ndarray::prelude::*;
use ndarray_mmap::npy::{Dtype, Field, Header, NpyElement};
use ndarray_mmap::{
    BigEndian, Bool8, Datetime64, Error, ErrorKind, FixedBytes, LittleEndian, MmapArray, MmapArrayCow, MmapArrayMut,
    Result, Staged, Str, Timedelta64, Unaligned, npy_record, time_units,
};
use num_complex::Complex;
use rend::unaligned::*;
use rend::*;
use tempfile::TempDir;

/// A descr as it is on this machine: `=` stands for its byte order.
fn native(descr: &str) -> String {
    descr.replace('=', if cfg!(target_endian = "big") { ">" } else { "<" })
}

/// A file of somebody else's, its data aligned to nothing larger than 16 bytes.
fn npy<T: NoUninit>(descr: &str, shape: &str, data: &[T]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let data: &[u8] = bytemuck::cast_slice(data);
    fs::write(&path, [&npy_header(&native(descr), false, shape, 16), data].concat()).unwrap();
    (folder, path)
}

/// The result of every constructor that opens files, which must be the same.
#[track_caller]
fn opened<A: Pod + NpyElement + Debug + PartialEq>(path: &Path) -> Result<ArrayD<A>> {
    let answers = [
        MmapArray::<A>::options().opened_npy(path).map(|a| a.to_owned()),
        MmapArrayCow::<A>::options().opened_npy(path).map(|a| a.to_owned()),
        MmapArrayMut::<A>::options().opened_npy(path).map(|a| a.to_owned()),
        MmapArray::<A>::load_npy(path).map(|a| a.to_owned()),
        MmapArrayCow::<A>::load_npy(path).map(|a| a.to_owned()),
    ];
    answers
        .into_iter()
        .reduce(|one, other| {
            match (&one, &other) {
                (Ok(one), Ok(other)) => assert_eq!(one, other),
                (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
                _ => panic!("{one:?}, but {other:?}"),
            }
            one
        })
        .expect("there are doors")
}

#[track_caller]
fn mismatch<A: Pod + NpyElement + Debug + PartialEq>(path: &Path) -> String {
    let e: Error = expect_err(opened::<A>(path), ErrorKind::DtypeMismatch);
    e.to_string().split_once(": ").unwrap().1.to_owned()
}

/// Two values of an element, there and back; the bytes are the elements' own, and the file says what they are.
#[track_caller]
fn comes_back<A: Pod + NpyElement + Debug + PartialEq>(descr: &str, values: [A; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    for fortran_order in [false, true] {
        let array = Array2::from_shape_fn((3, 2), |(i, j)| values[(i + j) % 2]);
        let mut made = MmapArrayMut::<A>::options().shape((3, 2).set_f(fortran_order)).created_npy(&path).unwrap();
        made.assign(&array);
        made.close().unwrap();
        let header = Header::read(&path).unwrap();
        assert_eq!(header.dtype().to_string(), native(descr));
        assert_eq!((header.shape(), header.fortran_order()), (&[3, 2][..], fortran_order));
        assert_eq!(opened::<A>(&path).unwrap(), array.view().into_dyn());
        // The same as if somebody else had put the bytes there.
        let mut elements: Vec<A> = array.iter().copied().collect();
        if fortran_order {
            elements = array.t().iter().copied().collect();
        }
        let bytes = fs::read(&path).unwrap();
        assert_eq!(&bytes[header.data_offset() as usize..], bytemuck::cast_slice::<A, u8>(&elements));
    }
}

#[test]
fn numbers_come_back() {
    comes_back::<u8>("|u1", [0, u8::MAX]);
    comes_back::<i8>("|i1", [i8::MIN, 1]);
    comes_back::<u16>("=u2", [1, 0xfffe]);
    comes_back::<i16>("=i2", [-2, 258]);
    comes_back::<u32>("=u4", [1, 0xfffe_fdfc]);
    comes_back::<i32>("=i4", [i32::MIN, 258]);
    comes_back::<u64>("=u8", [1, u64::MAX - 1]);
    comes_back::<i64>("=i8", [i64::MIN, 258]);
    comes_back::<f32>("=f4", [-0.5, f32::INFINITY]);
    comes_back::<f64>("=f8", [f64::MIN_POSITIVE, -1.5]);
    comes_back::<f16>("=f2", [f16::from_f32(0.5), f16::MAX]);
    comes_back::<Complex<f32>>("=c8", [Complex::new(1.0, -2.0), Complex::new(0.0, 0.5)]);
    comes_back::<Complex<f64>>("=c16", [Complex::new(1.0, -2.0), Complex::new(0.0, 0.5)]);
    comes_back::<Bool8>("|b1", [true.into(), false.into()]);
    #[cfg(target_pointer_width = "64")]
    {
        comes_back::<usize>("=u8", [1, usize::MAX]);
        comes_back::<isize>("=i8", [isize::MIN, 1]);
    }
}

#[test]
fn numbers_of_either_byte_order_come_back() {
    comes_back::<i16_be>(">i2", [i16_be::from_native(258), i16_be::from_native(-1)]);
    comes_back::<u32_be>(">u4", [u32_be::from_native(258), u32_be::from_native(1)]);
    comes_back::<i64_le>("<i8", [i64_le::from_native(258), i64_le::from_native(-1)]);
    comes_back::<f32_be>(">f4", [f32_be::from_native(0.5), f32_be::from_native(-2.0)]);
    comes_back::<f64_le>("<f8", [f64_le::from_native(0.5), f64_le::from_native(-2.0)]);
    comes_back::<u16_ube>(">u2", [u16_ube::from_native(258), u16_ube::from_native(1)]);
    comes_back::<f64_ule>("<f8", [f64_ule::from_native(0.5), f64_ule::from_native(-2.0)]);
    let complex = |re, im| Complex::new(f64_be::from_native(re), f64_be::from_native(im));
    comes_back::<Complex<f64_be>>(">c16", [complex(1.0, -2.0), complex(0.0, 0.5)]);
}

/// Each value in each byte order, aligned and not.
#[test]
fn every_type_comes_back_in_either_byte_order_at_any_offset() {
    macro_rules! all {
        ($($code:literal: $element:ty, $first:expr, $second:expr;)*) => {$({
            let values: [$element; 2] = [$first, $second];
            let (little, big) = (concat!("<", $code), concat!(">", $code));
            comes_back(little, values.map(LittleEndian::new));
            comes_back(big, values.map(BigEndian::new));
            comes_back(little, values.map(|x| Unaligned::new(LittleEndian::new(x))));
            comes_back(big, values.map(|x| Unaligned::new(BigEndian::new(x))));
            let native = if cfg!(target_endian = "big") { big } else { little };
            comes_back(native, values);
            comes_back(native, values.map(Unaligned::new));
            // The same bytes in another order are another type, which its name says.
            let foreign = if cfg!(target_endian = "big") { little } else { big };
            let (_folder, path) = npy(&format!("'{foreign}'"), "(1,)", &[0_u8; 32]);
            let e = mismatch::<$element>(&path);
            assert!(e.contains("; use `rend::") || e.contains("; use `BigEndian<"), "{e}");
        })*};
    }
    all! {
        "i2": i16, 258, -2;
        "u2": u16, 258, 1;
        "i4": i32, 258, -2;
        "u4": u32, 258, 1;
        "i8": i64, 258, -2;
        "u8": u64, 258, 1;
        "f4": f32, 0.5, -2.0;
        "f8": f64, 0.5, -2.0;
        "f2": f16, f16::from_f32(0.5), f16::MAX;
        "V2": bf16, bf16::from_f32(0.5), bf16::MAX;
        "M8[us]": Datetime64<time_units::Microsecond>, Datetime64::new(258), Datetime64::NAT;
        "m8[25s]": Timedelta64<time_units::Multiple<25, time_units::Second>>, Timedelta64::new(-1), Timedelta64::NAT;
        "U5": Str<5>, Str::new("漢é").unwrap(), Str::new("vwxyz").unwrap();
    }
}

/// The bytes that `np.save` writes for `np.array([1.5, -2, 0.1], ml_dtypes.bfloat16)`, of ml_dtypes 0.6.0 and NumPy 2.4.6.
#[test]
#[cfg(target_endian = "little")]
fn bfloat16_is_written_as_ml_dtypes_does_and_read_as_numpy_loads_it() -> Result<()> {
    let saved = |descr: &str| {
        let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (3,), }}");
        [b"\x93NUMPY\x01\x00v\x00", format!("{text:117}\n").as_bytes(), b"\xc0?\x00\xc0\xcd="].concat()
    };
    let values = [1.5, -2.0, 0.1].map(bf16::from_f32);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let mut a = MmapArrayMut::<bf16>::options().shape(3).created_npy(&path)?;
    a.assign(&arr1(&values));
    a.close()?;
    assert_eq!(fs::read(&path).unwrap(), saved("<V2"));
    assert_eq!(opened::<[u8; 2]>(&path)?[0], [0xc0, 0x3f]);
    assert_eq!(
        mismatch::<f16>(&path),
        "file holds `<V2`, but `half::binary16::f16` is `<f2`; use `half::bf16` (feature `half`)"
    );
    mismatch::<BigEndian<bf16>>(&path);
    mismatch::<FixedBytes<2>>(&path);
    // NumPy without ml_dtypes loads `|V2`, and saves that.
    fs::write(&path, saved("|V2")).unwrap();
    assert_eq!(opened::<bf16>(&path)?, arr1(&values).into_dyn());
    Ok(())
}

#[test]
fn any_number_in_a_string_is_read() -> Result<()> {
    let (_folder, path) = npy("'=U2'", "(3,)", &[97_u32, 0xd800, u32::MAX, 0, 0x10_ffff, 0x11_0000]);
    let a = opened::<Str<2>>(&path)?;
    assert_eq!(
        a.map(Str::to_string),
        arr1(&["a\u{fffd}", "\u{fffd}", "\u{10ffff}\u{fffd}"]).map(|s| s.to_string()).into_dyn()
    );
    assert!(a.iter().all(|&s| String::try_from(s).is_err()));
    Ok(())
}

#[test]
fn strings_dates_and_plain_bytes_come_back() {
    comes_back::<FixedBytes<5>>("|S5", [FixedBytes::new(b"abc").unwrap(), FixedBytes::new(b"vwxyz").unwrap()]);
    comes_back::<[u8; 5]>("|V5", [[1, 2, 3, 0, 0], [0; 5]]);
    comes_back::<Datetime64<time_units::Microsecond>>("=M8[us]", [Datetime64::new(-1), Datetime64::NAT]);
    comes_back::<Timedelta64<time_units::Day>>("=m8[D]", [Timedelta64::new(365), Timedelta64::NAT]);
}

/// Each of these is another type to NumPy; whoever asks for one must not get another.
#[test]
fn every_type_refuses_the_files_of_every_other_and_names_both() {
    macro_rules! types {
        ($($descr:literal => $element:ty $(, $named:literal)?;)+) => {
            [$(($descr, <$element>::dtype(), mismatch_of::<$element> as fn(&Path) -> Option<String>,
                [$($named)?].first().copied().unwrap_or(stringify!($element)))),+]
        };
    }
    fn mismatch_of<A: Pod + NpyElement + Debug + PartialEq>(path: &Path) -> Option<String> {
        opened::<A>(path).is_err().then(|| mismatch::<A>(path))
    }
    let types = types! {
        "|b1" => Bool8; "|i1" => i8; "|u1" => u8;
        "<i2" => i16; "<u2" => u16; "<i4" => i32; "<u4" => u32; "<i8" => i64; "<u8" => u64;
        ">i2" => i16_be, "rend::i16_be"; ">u2" => u16_be, "rend::u16_be"; ">i4" => i32_be, "rend::i32_be";
        ">u4" => u32_be, "rend::u32_be"; ">i8" => i64_be, "rend::i64_be"; ">u8" => u64_be, "rend::u64_be";
        "<f2" => f16, "half::f16"; "<f4" => f32; "<f8" => f64; ">f4" => f32_be, "rend::f32_be"; ">f8" => f64_be, "rend::f64_be";
        "<c8" => Complex<f32>, "num_complex::Complex<f32>"; "<c16" => Complex<f64>, "num_complex::Complex<f64>";
        ">c8" => Complex<f32_be>, "num_complex::Complex<rend::f32_be>";
        "|S4" => FixedBytes<4>, "FixedBytes<4>"; "|S8" => FixedBytes<8>, "FixedBytes<8>"; "|V3" => [u8; 3], "[u8; 3]";
        "<M8[us]" => Datetime64<time_units::Microsecond>, "Datetime64<time_units::Microsecond>";
        "<M8[ns]" => Datetime64<time_units::Nanosecond>, "Datetime64<time_units::Nanosecond>";
        "<m8[us]" => Timedelta64<time_units::Microsecond>, "Timedelta64<time_units::Microsecond>";
        "<M8" => Datetime64<time_units::Generic>, "Datetime64<time_units::Generic>";
        ">M8[us]" => BigEndian<Datetime64<time_units::Microsecond>>, "BigEndian<Datetime64<time_units::Microsecond>>";
        ">f2" => BigEndian<f16>, "BigEndian<half::f16>"; "<V2" => bf16, "half::bf16";
        "<U2" => Str<2>, "Str<2>"; ">U2" => BigEndian<Str<2>>, "BigEndian<Str<2>>";
    };
    if cfg!(target_endian = "big") {
        return; // The table is of a little-endian machine.
    }
    for (descr, dtype, _, named) in &types {
        assert_eq!(dtype.to_string(), *descr);
        let (folder, path) = npy(&format!("'{descr}'"), "(2,)", &[0_u8; 32]);
        let before = snapshot(folder.path());
        for (other, _, mismatch, _) in &types {
            let Some(e) = mismatch(&path) else {
                assert_eq!(descr, other);
                continue;
            };
            assert_ne!(descr, other, "{e}");
            assert!(e.starts_with(&format!("file holds `{descr}`, but `")), "{e}");
            assert!(e.contains(&format!("` is `{other}`; use `{named}`")), "{e}");
        }
        assert_eq!(snapshot(folder.path()), before);
    }
}

#[test]
fn a_type_without_a_rust_twin_is_refused_and_named() {
    for descr in ["<f16", ">f16", "<c32"] {
        let (_folder, path) = npy(&format!("'{descr}'"), "(1,)", &[0_u8; 32]);
        assert_eq!(mismatch::<u8>(&path), format!("file holds `{descr}`, but `u8` is `|u1`"));
    }
}

#[test]
fn python_objects_are_refused_as_such() {
    for descr in ["'|O'", "'|O8'", "'O'", "[('a', '<f8'), ('b', '|O')]", "[('a', [('b', '|O')])]", "('|O', (2,))"] {
        let (_folder, path) = npy(descr, "(1,)", &[0_u8; 32]);
        let e = expect_err(opened::<u64>(&path), ErrorKind::InvalidHeader);
        assert!(e.to_string().ends_with("Python objects cannot be in a file"), "{e}");
        expect_err(Header::read(&path), ErrorKind::InvalidHeader);
    }
}

#[test]
fn a_foreign_byte_order_is_stored_as_it_is_read() -> Result<()> {
    let (_folder, path) = npy("'>f8'", "(2,)", &[1.5_f64.to_be_bytes(), (-2.0_f64).to_be_bytes()]);
    assert!(mismatch::<f64_le>(&path).ends_with("; use `rend::f64_be` (feature `rend`)"));
    let mut a = MmapArrayMut::<f64_be, Ix1>::options().opened_npy(&path)?;
    assert_eq!(a.map(|x| x.to_native()), array![1.5, -2.0]);
    a[0] = 0.25.into();
    a.close()?;
    assert!(fs::read(&path).unwrap().ends_with(&[0.25_f64.to_be_bytes(), (-2.0_f64).to_be_bytes()].concat()));
    Ok(())
}

#[test]
fn types_of_alignment_one_map_data_anywhere() -> Result<()> {
    let header = npy_header("'>i4'", false, "(3,)", 1);
    let numbers = [1, -2, 1 << 30];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    for before in 0..8 {
        let data = numbers.map(i32::to_be_bytes).concat();
        fs::write(&path, [vec![0; before], header.clone(), data].concat()).unwrap();
        let mut a = MmapArrayMut::<i32_ube, Ix1>::options().offset(before as u64).opened_npy(&path)?;
        assert_eq!(a.map(|x| x.to_native()), ArrayView::from(&numbers));
        // It is the file itself, no copy.
        a[2] = 7.into();
        assert!(fs::read(&path).unwrap().ends_with(&7_i32.to_be_bytes()));
    }
    Ok(())
}

/// Of what `rend` has no types for.
#[test]
#[cfg(target_endian = "little")]
fn misaligned_elements_name_the_type_that_maps_them() {
    #[track_caller]
    fn check<A: Pod + NpyElement + Debug + PartialEq, U: Pod + NpyElement + Debug + PartialEq>(value: A, name: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let mut header = npy_header(&format!("'{}'", A::dtype()), false, "(1,)", 16);
        // One blank more: an odd length, which is said in the ninth byte.
        header[8] += 1;
        header.insert(header.len() - 1, b' ');
        fs::write(&path, [&header, bytemuck::bytes_of(&value)].concat()).unwrap();
        let e = expect_err(MmapArray::<A>::options().opened_npy(&path), ErrorKind::Misaligned).to_string();
        assert!(e.contains(&format!(": use `{name}`")), "{e}");
        assert_eq!(
            bytemuck::cast_slice::<U, u8>(&opened::<U>(&path).unwrap().into_raw_vec_and_offset().0),
            bytemuck::bytes_of(&value)
        );
    }
    check::<_, Unaligned<f16>>(f16::ONE, "Unaligned<half::f16>");
    check::<_, Unaligned<BigEndian<bf16>>>(BigEndian::new(bf16::ONE), "Unaligned<BigEndian<half::bf16>>");
    check::<_, Unaligned<Str<2>>>(Str::<2>::new("é").unwrap(), "Unaligned<Str<2>>");
    check::<_, Unaligned<BigEndian<Datetime64<time_units::Day>>>>(
        BigEndian::new(Datetime64::<time_units::Day>::new(3)),
        "Unaligned<BigEndian<Datetime64<time_units::Day>>>",
    );
    check::<_, f64_ule>(1.5_f64, "rend::unaligned::f64_ule");
}

#[test]
fn booleans_are_bytes_of_any_value() {
    let (_folder, path) = npy("'|b1'", "(4,)", &[0_u8, 1, 2, 255]);
    let read = opened::<Bool8>(&path).unwrap();
    assert_eq!(read.map(|b| b.get()), array![false, true, true, true].into_dyn());
}

#[test]
fn plain_bytes_read_strings_too_and_rows_of_bytes() {
    let (_folder, path) = npy("'|S3'", "(2,)", b"ab\0xyz");
    assert_eq!(opened::<[u8; 3]>(&path).unwrap(), Array::from_vec(vec![*b"ab\0", *b"xyz"]).into_dyn());
    assert_eq!(opened::<FixedBytes<3>>(&path).unwrap()[1].as_bytes(), b"xyz");
    assert!(mismatch::<[u8; 2]>(&path).ends_with("`[u8; 2]` is `|V2`; use `FixedBytes<3>`"));
    let (_folder, path) = npy("'|u1'", "(2, 3)", b"ab\0xyz");
    assert_eq!(opened::<[u8; 3]>(&path).unwrap(), Array::from_vec(vec![*b"ab\0", *b"xyz"]).into_dyn());
    assert_eq!(opened::<u8>(&path).unwrap().shape(), [2, 3]);
}

#[test]
fn elements_that_are_arrays_are_the_last_axes_of_the_file() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let mut made = MmapArrayMut::<[f32; 3]>::options().shape(5).created_npy(&path)?;
    made[4] = [1.0, 2.0, 3.0];
    made.close()?;
    assert_eq!(Header::read(&path)?.shape(), [5, 3]);
    assert_eq!(opened::<[f32; 3]>(&path)?[4], [1.0, 2.0, 3.0]);
    assert_eq!(opened::<f32>(&path)?.index_axis(Axis(0), 4), array![1.0, 2.0, 3.0].into_dyn());
    assert_eq!(opened::<[[f32; 3]; 5]>(&path)?[IxDyn(&[])][4], [1.0, 2.0, 3.0]);
    assert_eq!(MmapArray::<[f32; 3], Ix1>::options().shape(5).opened_npy(&path)?.dim(), 5);
    // A dimension is the array's, without what is in an element.
    expect_err(MmapArray::<[f32; 3], Ix2>::options().opened_npy(&path), ErrorKind::ShapeMismatch);
    assert!(mismatch::<[f32; 5]>(&path).contains("`=f4` of shape (5, 3)".replace('=', &native("=")).as_str()));
    assert!(mismatch::<[f64; 3]>(&path).contains("; use `f32`"));

    // In Fortran order an element is in no one piece.
    drop(MmapArrayMut::<f32>::options().shape((5, 3).f()).created_npy(&path)?);
    assert!(mismatch::<[f32; 3]>(&path).ends_with("in Fortran order the file has its axes the other way round"));
    let before = snapshot(folder.path());
    expect_err(MmapArrayMut::<[f32; 3]>::options().shape((5, 2).f()).created_npy(&path), ErrorKind::Unsupported);
    assert_eq!(snapshot(folder.path()), before);
    assert_eq!(names(folder.path()), ["a.npy"]);
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Zeroable, Pod)]
#[repr(C)]
struct Reading {
    at: Datetime64<time_units::Millisecond>,
    sensor: u16,
    ok: Bool8,
    gap: [u8; 5],
    xyz: [f32; 3],
    name: FixedBytes<4>,
}
npy_record!(Reading {
    at: Datetime64<time_units::Millisecond>,
    sensor: u16,
    ok: Bool8,
    gap: [u8; 5] as "",
    xyz: [f32; 3],
    name: FixedBytes<4>,
});

const READING: &str =
    "[('at', '=M8[ms]'), ('sensor', '=u2'), ('ok', '|b1'), ('', '|V5'), ('xyz', '=f4', (3,)), ('name', '|S4')]";

fn reading(n: i64) -> Reading {
    let xyz = [n as f32, 0.5, -1.0];
    Reading {
        at: Datetime64::new(n),
        sensor: 7,
        ok: true.into(),
        gap: [0; 5],
        xyz,
        name: FixedBytes::new(b"ab").unwrap(),
    }
}

#[test]
fn records_come_back() {
    comes_back::<Reading>(READING, [reading(1), reading(-1)]);
}

#[test]
fn padding_in_the_file_stays_what_it_was() -> Result<()> {
    let descr = "[('a', '|u1'), ('', '|V7'), ('b', '=f8')]";
    /// Padded by the compiler: it can be read, and not written.
    #[derive(Clone, Copy, Zeroable)]
    #[repr(C)]
    struct Padded {
        a: u8,
        b: f64,
    }
    // SAFETY: every bit pattern is a value of either field.
    unsafe impl AnyBitPattern for Padded {}
    npy_record!(Padded { a: u8, b: f64 });
    /// Padding that has a name can be written.
    #[derive(Clone, Copy, Zeroable, Pod)]
    #[repr(C)]
    struct Spelled {
        a: u8,
        pad: [u8; 7],
        b: f64,
    }
    npy_record!(Spelled { a: u8, pad: [u8; 7] as "", b: f64 });

    let data: Vec<u8> = [&[3][..], &[0xff; 7], &1.5_f64.to_ne_bytes()].concat();
    let (_folder, path) = npy(descr, "(1,)", &data);
    let a = MmapArray::<Padded, Ix1>::options().opened_npy(&path)?;
    assert_eq!((a[0].a, a[0].b), (3, 1.5));
    drop(a);
    let a = MmapArray::<Padded, Ix1>::load_npy(&path)?;
    assert_eq!((a[0].a, a[0].b), (3, 1.5));

    let mut a = MmapArrayMut::<Spelled, Ix1>::options().opened_npy(&path)?;
    assert_eq!(a[0].pad, [0xff; 7]);
    a[0].b = 2.5;
    a.close()?;
    assert!(fs::read(&path).unwrap().ends_with(&[&[3][..], &[0xff; 7], &2.5_f64.to_ne_bytes()].concat()));
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Zeroable, Pod)]
#[repr(C, packed)]
struct Packed {
    a: u8,
    b: f64,
}
npy_record!(Packed { a: u8, b: f64 });

#[test]
fn packed_records_map_data_anywhere() -> Result<()> {
    let (folder, path) = npy::<u8>("[('a', '|u1'), ('b', '=f8')]", "(3,)", &[]);
    for align in [1, 2, 64] {
        let header = npy_header(&native("[('a', '|u1'), ('b', '=f8')]"), false, "(3,)", align);
        let records: Vec<_> = (0..3).map(|k| Packed { a: k, b: k.into() }).collect();
        fs::write(&path, [&header, bytemuck::cast_slice::<Packed, u8>(&records)].concat()).unwrap();
        assert_eq!(opened::<Packed>(&path)?, Array::from_vec(records).into_dyn());
    }
    comes_back::<Packed>("[('a', '|u1'), ('b', '=f8')]", [Packed { a: 1, b: 2.0 }, Packed { a: 3, b: -4.0 }]);
    drop(folder);
    Ok(())
}

/// As NumPy has records unless it is asked for `align=True`: a date, a float and a string at odd offsets.
#[derive(Clone, Copy, Debug, PartialEq, Zeroable, Pod)]
#[repr(C)]
struct Log {
    level: u8,
    at: Unaligned<Datetime64<time_units::Millisecond>>,
    value: Unaligned<BigEndian<f16>>,
    tags: [Unaligned<u16>; 2],
    text: Unaligned<Str<3>>,
}
npy_record!(Log {
    level: u8,
    at: Unaligned<Datetime64<time_units::Millisecond>>,
    value: Unaligned<BigEndian<f16>>,
    tags: [Unaligned<u16>; 2],
    text: Unaligned<Str<3>>,
});

#[test]
fn packed_records_of_any_types_come_back() {
    let log = |level: u8, text| Log {
        level,
        at: Datetime64::new(i64::from(level) - 2).into(),
        value: BigEndian::new(f16::from_f32(0.5)).into(),
        tags: [Unaligned::new(1), Unaligned::new(u16::MAX)],
        text: Str::new(text).unwrap().into(),
    };
    let descr = "[('level', '|u1'), ('at', '=M8[ms]'), ('value', '>f2'), ('tags', '=u2', (2,)), ('text', '=U3')]";
    comes_back::<Log>(descr, [log(1, "é"), log(3, "abc")]);
}

#[test]
fn a_record_of_another_layout_is_refused_with_the_first_difference() {
    let good = READING.trim_matches(['[', ']']);
    let data = [0_u8; 64];
    for (descr, difference) in [
        (good.replace("'=u2'", "'=i2'"), "`sensor` =i2 at byte 8 in the file, `sensor` =u2 at byte 8 in the struct"),
        (good.replace("ms]", "s]"), "`at` =M8[s] at byte 0 in the file, `at` =M8[ms] at byte 0 in the struct"),
        (
            good.replace("'sensor'", "'probe'"),
            "`probe` =u2 at byte 8 in the file, `sensor` =u2 at byte 8 in the struct",
        ),
        (
            good.replace("V5", "V1"),
            "`xyz` ('=f4', (3,)) at byte 12 in the file, `xyz` ('=f4', (3,)) at byte 16 in the struct",
        ),
        (
            good.replace("(3,)", "(4,)"),
            "`xyz` ('=f4', (4,)) at byte 16 in the file, `xyz` ('=f4', (3,)) at byte 16 in the struct",
        ),
        (
            good.replace("'', '|V5'", "'gap', '|V5'"),
            "`gap` |V5 at byte 11 in the file, `xyz` ('=f4', (3,)) at byte 16 in the struct",
        ),
        (good.to_owned() + ", ('', '|V8')", "40 bytes in the file, 32 bytes in the struct"),
        (good.replace(", ('name', '|S4')", ""), "no more fields in the file, `name` |S4 at byte 28 in the struct"),
    ] {
        let (_folder, path) = npy(&format!("[{descr}]"), "(1,)", &data);
        let e = mismatch::<Reading>(&path);
        assert!(e.ends_with(&native(difference)), "{e}");
    }
    // Another byte order is another layout.
    let swapped = if cfg!(target_endian = "big") { "'<u2'" } else { "'>u2'" };
    let (_folder, path) = npy(&format!("[{}]", good.replace("'=u2'", swapped)), "(1,)", &data);
    assert!(mismatch::<Reading>(&path).contains("`sensor`"));
    let (_folder, path) = npy("'|V32'", "(1,)", &data);
    mismatch::<Reading>(&path);
    let (_folder, path) = npy(&format!("[{good}]"), "(1,)", &data);
    assert_eq!(opened::<Reading>(&path).unwrap().len(), 1);
    assert!(mismatch::<u64>(&path).ends_with("; use a `#[repr(C)]` struct with `npy_record!`"));
}

/// What is written by hand may be wrong; what it says is then compared, not believed.
#[test]
fn a_declared_layout_that_is_not_the_structs_is_refused() {
    #[derive(Clone, Copy, Debug, PartialEq, Zeroable, Pod)]
    #[repr(C)]
    struct Pair(f32, f32);
    impl NpyElement for Pair {
        fn dtype() -> Dtype {
            Dtype::record([Field::new("a", 0, f32::dtype()), Field::new("b", 4, f32::dtype())], 12).unwrap()
        }
    }
    let (folder, path) = npy("[('a', '=f4'), ('b', '=f4'), ('', '|V4')]", "(1,)", &[0_u8; 12]);
    assert!(mismatch::<Pair>(&path).ends_with("which has another size"));
    let before = snapshot(folder.path());
    expect_err(MmapArrayMut::<Pair>::options().shape(3).created_npy(&path), ErrorKind::DtypeMismatch);
    expect_err(Staged::<Pair>::stage_npy(&path, 3), ErrorKind::DtypeMismatch);
    assert_eq!(snapshot(folder.path()), before);

    let overlapping = Dtype::record([Field::new("a", 0, f32::dtype()), Field::new("b", 2, f32::dtype())], 8);
    expect_err(overlapping, ErrorKind::InvalidInput);
}

#[test]
fn a_newtype_is_what_it_says_it_is() {
    #[derive(Clone, Copy, Debug, PartialEq, Zeroable, Pod)]
    #[repr(transparent)]
    struct Kelvin(f32);
    impl NpyElement for Kelvin {
        fn dtype() -> Dtype {
            f32::dtype()
        }
    }
    comes_back::<Kelvin>("=f4", [Kelvin(0.0), Kelvin(273.15)]);
}
