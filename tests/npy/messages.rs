//! What is said of a `.npy` file that cannot be read: what stands there, what is wrong with it and what to do, in a few
//! words, however much the file says.

use std::fs;

use crate::support::arrays::{OpenExt, expect_err};
use ndarray_mmap::npy::{Dtype, Header, NpyElement};
use ndarray_mmap::{ErrorKind, MmapArray, Mode, Result};

/// As nobody should have to read more.
const SHORT: usize = 700;

/// What is said of a header with this descr, beside good values.
#[track_caller]
fn message<A: bytemuck::Pod + NpyElement>(descr: &str, kind: ErrorKind) -> String {
    message_of::<A>(&header(descr, "(3, 4)"), kind)
}

/// Of any length: of version 2.0.
fn header(descr: &str, shape: &str) -> Vec<u8> {
    let text = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n");
    [b"\x93NUMPY\x02\x00", &u32::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat()
}

/// The error message of a file, which is the same from every constructor.
#[track_caller]
fn message_of<A: bytemuck::Pod + NpyElement>(file: &[u8], kind: ErrorKind) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    fs::write(&path, file).unwrap();
    let options = MmapArray::<A>::options().max_header_size(usize::MAX);
    let e = expect_err(options.clone().opened_npy(&path), kind).to_string();
    assert_eq!(expect_err(options.load_npy(&path), kind).to_string(), e);
    e.strip_prefix(&format!("{}: ", path.display())).expect("the path first").to_owned()
}

fn record(fields: usize) -> String {
    let fields: Vec<_> = (0..fields).map(|n| format!("('field_{n:04}', '<f8')")).collect();
    format!("[{}]", fields.join(", "))
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Pair {
    a: u64,
    b: u64,
}
ndarray_mmap::npy_record!(Pair { a: u64, b: u64 });
// SAFETY: two numbers of any bits, and no padding between or behind them.
unsafe impl bytemuck::Zeroable for Pair {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Pair {}

#[test]
fn a_mismatch_is_short_and_names_both_types_however_much_the_file_says() {
    let e = message::<f64>(&record(600), ErrorKind::DtypeMismatch);
    assert!(e.len() < SHORT, "{e}");
    assert!(e.starts_with("file holds `[('field_0000', '<f8'), ('field_0001', '<f8'), "), "{e}");
    assert!(e.contains("…` (600 fields, 13800 characters), but `f64` is `"), "{e}");
    assert!(e.contains("use a `#[repr(C)]` struct"), "{e}");

    let e = message::<Pair>(&record(600), ErrorKind::DtypeMismatch);
    assert!(e.len() < SHORT && e.contains("(600 fields, ") && e.contains("Pair` is `[('a', '"), "{e}");
    assert!(e.contains(": `field_0000` <f8 at byte 0 in the file, `a` "), "{e}");

    // Of one field, a long name or a long type.
    let e = message::<Pair>(&format!("[('{}', '<f8')]", "x".repeat(5000)), ErrorKind::DtypeMismatch);
    assert!(e.len() < SHORT && e.contains("(1 field, 5013 characters)") && e.contains("`xxx"), "{e}");
    let e = message::<Pair>(&format!("[('a', {})]", record(600)), ErrorKind::DtypeMismatch);
    assert!(e.len() < SHORT && e.contains("(1 field, ") && e.contains("(600 fields, "), "{e}");

    // What is short is shown in full.
    let e = message::<Pair>("[('a', '<f4'), ('b', '<f4')]", ErrorKind::DtypeMismatch);
    assert!(e.starts_with("file holds `[('a', '<f4'), ('b', '<f4')]`, but `"), "{e}");
}

#[test]
fn no_message_grows_with_the_header() {
    let long = "x".repeat(50_000);
    for (descr, shape) in [
        (record(5000), "(3,)".into()),
        (format!("'{long}'"), "(3,)".into()),
        (format!("[('{long}', '<f8'), ('{long}', '<f8')]"), "(3,)".into()),
        (format!("[(('{long}', '{long}'), '<f8')]"), "(3,)".into()),
        (format!("[('{long}', '<f8', (2, 3))]"), "(3,)".into()),
        (format!("[('a', '<f8', {{'{long}': 1}})]"), "(3,)".into()),
        (long.clone(), "(3,)".into()),
        (format!("np.{long}('f8')"), "(3,)".into()),
        ("'<f4'".into(), format!("({})", "1, ".repeat(64))),
        ("'<f4'".into(), format!("({})", "9223372036854775807, ".repeat(64))),
        ("'<f4'".into(), format!("({})", "9".repeat(50_000))),
        ("'<f4'".into(), format!("(-{},)", "9".repeat(50_000))),
        ("'<f4'".into(), format!("(0.{},)", "9".repeat(50_000))),
        ("'<f4'".into(), format!("(f({long}),)")),
        ("'<f4'".into(), format!("(3,), '{long}': 1")),
        ("'<f4'".into(), format!("(3,), {long}: 1")),
        (format!("('<f4', ({}))", "1, ".repeat(60)), format!("({})", "100000, ".repeat(4))),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        fs::write(&path, header(&descr, &shape)).unwrap();
        let options = MmapArray::<f64>::options().max_header_size(usize::MAX);
        let e = options.opened_npy(&path).unwrap_err().to_string();
        let of_shape = shape.len().min(64 * 21);
        assert!(e.len() < SHORT + of_shape, "{} bytes: {e:.2000}", e.len());
    }
    assert!(long.parse::<Mode>().unwrap_err().to_string().len() < SHORT);
    assert!(long.parse::<Dtype>().unwrap_err().to_string().len() < SHORT);
}

#[test]
fn a_header_over_the_cap_names_the_remedy_and_the_remedy_works() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    fs::write(&path, [header(&record(600), "(1,)"), vec![0; 600 * 8]].concat()).unwrap();
    let (dtype, e) = (
        Header::read_with_limit(&path, 20_000)?.dtype().clone(),
        expect_err(Header::read(&path), ErrorKind::InvalidHeader),
    );
    assert_eq!(dtype.fields().len(), 600);
    let opened = expect_err(MmapArray::<f64>::options().opened_npy(&path), ErrorKind::InvalidHeader);
    for e in [e.to_string(), opened.to_string()] {
        assert!(e.contains("at most 10000 bytes, found 138"), "{e}");
        assert!(e.contains("`.max_header_size(..)`") && e.contains("`Header::read_with_limit`"), "{e}");
    }
    expect_err(MmapArray::<f64>::options().max_header_size(20_000).opened_npy(&path), ErrorKind::DtypeMismatch);
    Ok(())
}

#[test]
fn elements_without_bytes_are_reported_as_unmappable() {
    for descr in ["'|V0'", "'|S0'", "'<U0'", "[]", "[('a', '|V0')]"] {
        let e = message::<f64>(descr, ErrorKind::DtypeMismatch);
        assert!(e.ends_with("; elements of no bytes cannot be mapped") && !e.contains("[u8; 0]"), "{e}");
        let dtype: Dtype = descr.parse().unwrap();
        assert_eq!((dtype.rust_type(), dtype.rust_type_unaligned()), (None, None));
    }
}

#[test]
fn what_stands_in_place_of_a_literal_is_quoted() {
    for (shape, part) in [
        ("(np.int64(3), np.int64(4))", "found `np.int64(3)`"),
        ("(3, np.int64(4))", "found `np.int64(4)`"),
        ("tuple([3, 4])", "found `tuple([3, 4])`"),
        ("(n, 4)", "found `n`"),
        ("(3.5, 4)", "a whole number in plain decimal digits, found `3.5`"),
        ("(3, 4e3)", "found `4e3`"),
        ("(0x10,)", "found `0x10`"),
        ("(3, f(4", "found `f(4}`"),
    ] {
        let e = message_of::<f64>(&header("'<f8'", shape), ErrorKind::InvalidHeader);
        assert!(e.starts_with("at byte ") && e.contains(part), "{e}");
    }
    let e = message_of::<f64>(&header("'<f8'", &format!("({}, 4)", "x".repeat(1000))), ErrorKind::InvalidHeader);
    assert!(e.ends_with(&format!("found `{}…`", "x".repeat(40))), "{e}");
}

#[test]
fn what_stands_in_place_of_an_axis_length_is_named() {
    for (descr, shape, part) in [
        ("'<f8'", "({},)", "expected an axis length, found a dict"),
        ("'<f8'", "(3, -4)", "expected an axis length, found a negative number, -4"),
        ("'<f8'", "{}", "expected a tuple for `shape`, found a dict"),
        ("('<f8', {})", "(3,)", "expected the axis length of a sub-array, or a tuple of them, found a dict"),
        ("('<f8', 'x')", "(3,)", "expected the axis length of a sub-array, or a tuple of them, found a string"),
        ("('<f8', ({},))", "(3,)", "expected an axis length of at most 2147483647, found a dict"),
        ("('<f8', -1)", "(3,)", "of at most 2147483647, found a negative number, -1"),
        ("('<f8', 2147483648)", "(3,)", "of at most 2147483647, found a larger number, 2147483648"),
    ] {
        let e = message_of::<f64>(&header(descr, shape), ErrorKind::InvalidHeader);
        assert!(e.ends_with(part), "{e}");
    }
}

#[test]
fn a_file_of_another_kind_is_named_as_what_it_is() {
    for (file, part) in [
        (&b"PK\x03\x04\x2d\0\0\0\0\0"[..], "`.npz`"),
        (b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "an empty zip archive"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "gzip-compressed data: decompress it first"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\xfd7zXZ\0\0\x04", "xz"),
        (b"\x28\xb5\x2f\xfd\x24\x10", "zstd"),
        (b"\x80\x02}q\0.", "a Python pickle"),
        (b"\x80\x04\x95\x10\0\0", "a Python pickle"),
        (b"\x80\x05\x95\x10\0\0", "`np.save`"),
        (b"\x89HDF\r\n\x1a\n\0\0", "an HDF5 file"),
        (b"CDF\x01\0\0\0\0", "a NetCDF file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "`git lfs pull`"),
        (b"<!DOCTYPE html>\n<html>", "an HTML page"),
        (&[0; 4096], "zeros"),
    ] {
        let e = message_of::<f64>(file, ErrorKind::InvalidHeader);
        assert!(
            e.starts_with(r"at byte 0: expected a .npy file to begin with \x93NUMPY, found ") && e.contains(part),
            "{e}"
        );
        assert_eq!(expect_err(Header::from_bytes(file), ErrorKind::InvalidHeader).to_string(), e);
    }
    // Neither what is cut short nor anything else is taken for one of them.
    for file in [&b"\x80"[..], b"\x80\x06\x95", b"version of mine", b"PK", b"CDF", &[0], &[0, 0, 0, 1, 0, 0, 0]] {
        let e = message_of::<f64>(file, ErrorKind::InvalidHeader);
        assert!(!e.contains("found"), "{e}");
    }
}

/// As NumPy makes them without `align`.
#[test]
fn a_packed_record_is_advised_a_struct_that_reads_it() -> Result<()> {
    use ndarray_mmap::{BigEndian, Datetime64, Unaligned, time_units};

    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Advised {
        a: u8,
        b: Unaligned<BigEndian<f64>>,
        t: Unaligned<Datetime64<time_units::Second>>,
    }
    ndarray_mmap::npy_record!(Advised {
        a: u8,
        b: Unaligned<BigEndian<f64>>,
        t: Unaligned<Datetime64<time_units::Second>>,
    });
    // SAFETY: bytes and numbers of any bits, of alignment 1, so that there is no padding.
    unsafe impl bytemuck::Zeroable for Advised {}
    // SAFETY: as above.
    unsafe impl bytemuck::Pod for Advised {}

    let date = if cfg!(target_endian = "big") { ">M8[s]" } else { "<M8[s]" };
    let descr = format!("[('a', '|u1'), ('b', '>f8'), ('t', '{date}')]");
    let e = message::<f64>(&descr, ErrorKind::DtypeMismatch);
    assert!(e.ends_with("; use a `#[repr(C)]` struct of `Unaligned<..>` fields with `npy_record!`"), "{e}");

    use crate::support::arrays::npy_header;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let record = [&[7][..], &1.5_f64.to_be_bytes(), &9_i64.to_ne_bytes()].concat();
    fs::write(&path, [npy_header(&descr, false, "(1,)", 1), record].concat()).unwrap();
    let a = MmapArray::<Advised, ndarray::Ix1>::options().opened_npy(&path)?;
    assert_eq!((a[0].a, a[0].b.get().get(), a[0].t.get().get()), (7, 1.5, Some(9)));
    Ok(())
}
