//! Good archives, in every form: what is mapped is in the file at its place, and what is read is what was written.

use std::fs;

use ndarray::prelude::*;
use ndarray_mmap::npz::Archive;
use ndarray_mmap::{Bool8, ErrorKind, MmapArray, MmapArrayCow, Mode, Result, Unaligned};

use crate::support::arrays::{expect_err, npy_header};
use crate::support::snapshot::snapshot;
use crate::writer::{Built, F8, Form, Member, OpenNpz, archive, archive_as, floats, member, npy};

const DATA: [f64; 6] = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];

fn grid() -> Vec<u8> {
    npy(F8, false, "(2, 3)", &DATA)
}

/// Every form of a member, and of an archive around it.
fn forms() -> Vec<(String, Built)> {
    let mut forms = vec![];
    for method in ["stored", "deflated"] {
        for long in [false, true] {
            for descriptor in [false, true] {
                for (name, form) in [
                    ("plain", Form::default()),
                    ("prefix", Form { prefix: 7, ..Form::default() }),
                    ("counted prefix", Form { prefix: 7, counts_prefix: true, ..Form::default() }),
                    ("comment", Form { comment: b"PK\x01\x02 or so".to_vec(), ..Form::default() }),
                    ("long comment", Form { comment: vec![b'c'; 65535], ..Form::default() }),
                    ("zip64", Form { long: true, ..Form::default() }),
                    ("zip64 and comment", Form { long: true, comment: b"c".to_vec(), ..Form::default() }),
                ] {
                    let of = |name: &str, content: &[u8]| {
                        let member = Member { long, descriptor, ..member(name, content) };
                        if method == "deflated" { member.deflated() } else { member }
                    };
                    let built = archive_as(&[of("first.npy", &floats(9)), of("x.npy", &grid())], &form);
                    forms.push((format!("{method}, {name}, long: {long}, descriptor: {descriptor}"), built));
                }
            }
        }
    }
    forms
}

#[test]
fn every_form_is_read_and_what_is_stored_is_mapped() -> Result<()> {
    for (form, built) in forms() {
        let (_folder, path) = built.file();
        let loaded = MmapArray::<f64, Ix2>::load_npz(&path, "x")?;
        assert_eq!(*loaded, *arr2(&[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]), "{form}");
        assert_eq!((loaded.path(), loaded.mode()), (Some(&*path), Mode::ReadOnly));
        let archive = Archive::open(&path)?;
        assert_eq!(archive.names().collect::<Vec<_>>(), ["first", "x"], "{form}");
        assert_eq!(archive.header("x")?.shape(), [2, 3], "{form}");
        let stored = form.starts_with("stored");
        assert_eq!(archive.is_stored("x.npy")?, stored);
        let again = archive.load::<f64, Ix2>("x")?;
        assert_eq!((again.view(), again.offset(), again.path()), (loaded.view(), loaded.offset(), Some(&*path)));
        // SAFETY: the file is this test's own.
        let mapped = unsafe { archive.map::<Unaligned<f64>, Ix2>("x") };
        match mapped {
            Ok(mapped) => assert_eq!(
                (mapped.mapv(Unaligned::get), mapped.offset(), stored),
                (again.to_owned(), again.offset(), true)
            ),
            Err(e) => assert_eq!((e.kind(), e.path(), stored), (ErrorKind::Unsupported, Some(&*path), false)),
        }
        let opened = MmapArray::<[u8; 8]>::options().opened_npz(&path, "x");
        if stored {
            let start = built.data[1] + archive.header("x")?.data_offset() as usize;
            assert_eq!(loaded.offset(), start as u64, "{form}");
            let e = opened.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::DtypeMismatch, "{e}");
        } else {
            assert_eq!(loaded.offset(), built.data[1] as u64, "{form}");
            let e = expect_err(opened, ErrorKind::Unsupported);
            assert!(
                e.to_string().contains("member `x.npy`: it is compressed") && e.to_string().contains("`load_npz`"),
                "{e}"
            );
        }
    }
    Ok(())
}

#[test]
fn stored_arrays_are_mapped_at_every_alignment_that_their_type_allows() -> Result<()> {
    let mut aligned = 0;
    for padding in 4..68 {
        let built = archive(&[Member { padding, ..member("x.npy", &grid()) }]);
        let (folder, path) = built.file();
        let before = snapshot(folder.path());
        let start = built.bytes.windows(48).position(|bytes| bytes == bytemuck::cast_slice::<f64, u8>(&DATA)).unwrap();
        let opened = MmapArray::<f64>::options().populate(padding % 2 == 0).opened_npz(&path, "x");
        if start % align_of::<f64>() == 0 {
            aligned += 1;
            let opened = opened?;
            assert_eq!((opened.offset(), opened.as_slice()), (start as u64, Some(&DATA[..])));
            let mut copy = MmapArrayCow::<f64>::options().opened_npz(&path, "x")?;
            copy.fill(7.0);
            assert_eq!((copy.sum(), copy.mode()), (42.0, Mode::CopyOnWrite));
        } else {
            let e = expect_err(opened, ErrorKind::Misaligned).to_string();
            assert!(e.contains(&format!("member `x.npy`: the data start at byte {start} of the archive")), "{e}");
            assert!(e.contains("`load_npz`"), "{e}");
            #[cfg(target_endian = "little")]
            assert!(e.contains("`rend::unaligned::f64_ule` (feature `rend`)"), "{e}");
        }
        #[cfg(all(feature = "rend", target_endian = "little"))]
        {
            type Anywhere = rend::unaligned::f64_ule;
            let opened = MmapArray::<Anywhere, Ix2>::options().opened_npz(&path, "x")?;
            assert_eq!(opened.offset(), start as u64);
            assert!(opened.iter().map(|x| x.to_native()).eq(DATA));
            let mut copy = MmapArrayCow::<Anywhere>::options().opened_npz(&path, "x")?;
            copy[[0, 0]] = 9.0.into();
        }
        let mut loaded = MmapArrayCow::<f64>::load_npz(&path, "x")?;
        assert_eq!((loaded.offset(), loaded.as_slice()), (start as u64, Some(&DATA[..])));
        loaded.fill(1.0);
        assert_eq!(snapshot(folder.path()), before);
    }
    assert_eq!(aligned, 8);
    Ok(())
}

#[test]
fn types_shapes_and_orders_are_those_of_the_header() -> Result<()> {
    let long: Vec<u8> = (0..600_000_u32).flat_map(|n| (n ^ (n >> 9)).to_ne_bytes()).collect();
    let members = [
        member("fortran.npy", &npy(F8, true, "(2, 3)", &DATA)),
        member("scalar.npy", &npy(F8, false, "()", &DATA[..1])),
        member("empty.npy", &npy::<f64>(F8, false, "(0, 3)", &[])),
        member("bytes.npy", &npy("'|u1'", false, "(5,)", b"bytes")),
        member("bools.npy", &npy("'|b1'", false, "(3,)", &[1_u8, 0, 2])),
        member("text.npy", &npy("'|S3'", false, "(2,)", b"abcdef")),
        // Ends in the middle of a part, of those that are read at a time.
        member("long.npy", &npy("'|u1'", false, "(2400000,)", &long)),
    ];
    for deflated in [false, true] {
        let members = members.clone().map(|member| if deflated { member.deflated() } else { member });
        let (_folder, path) = archive(&members).file();
        let fortran = MmapArray::<f64, Ix2>::load_npz(&path, "fortran")?;
        assert_eq!((fortran.strides(), fortran[[1, 2]], fortran[[1, 0]]), (&[1, 2][..], 5.0, 1.0));
        assert_eq!(MmapArray::<f64, Ix0>::load_npz(&path, "scalar")?.into_scalar_for_test(), 0.0);
        assert_eq!(MmapArray::<f64>::load_npz(&path, "empty")?.shape(), [0, 3]);
        assert_eq!(MmapArray::<u8>::load_npz(&path, "bytes")?.as_slice(), Some(&b"bytes"[..]));
        assert_eq!(MmapArray::<Bool8, Ix1>::load_npz(&path, "bools")?.len(), 3);
        assert!(MmapArray::<u8>::load_npz(&path, "long")?.as_slice() == Some(&long[..]));
        let e = expect_err(MmapArray::<f32>::load_npz(&path, "fortran"), ErrorKind::DtypeMismatch);
        assert!(e.to_string().contains("member `fortran.npy`: file holds"), "{e}");
        expect_err(MmapArray::<f64, Ix1>::load_npz(&path, "fortran"), ErrorKind::ShapeMismatch);
        if !deflated {
            let bytes = MmapArray::<u8>::options().opened_npz(&path, "bytes")?;
            assert_eq!(bytes.as_slice(), Some(&b"bytes"[..]));
            assert!(MmapArray::<u8>::options().opened_npz(&path, "long")?.as_slice() == Some(&long[..]));
            // Arrays without elements are nowhere misaligned.
            assert_eq!(MmapArray::<f64>::options().opened_npz(&path, "empty")?.shape(), [0, 3]);
        }
    }
    Ok(())
}

/// The first bytes that are read of a member can have a part of its elements, or all of them.
#[test]
fn headers_of_every_length_are_followed_by_the_elements() -> Result<()> {
    for blanks in 0..80 {
        let members = [1, 2, 20].map(|n| {
            let header = npy_header(&format!("{F8}{}", " ".repeat(blanks)), false, &format!("({n},)"), 1);
            let elements: Vec<_> = (1..=n).flat_map(|i| f64::from(i).to_ne_bytes()).collect();
            member(&n.to_string(), &[header, elements].concat())
        });
        let deflated = members.clone().map(|m| Member { name: [b"deflated ", &m.name[..]].concat(), ..m.deflated() });
        let (_folder, path) = archive(&[members, deflated].concat()).file();
        for n in [1, 2, 20] {
            let expected: Vec<_> = (1..=n).map(f64::from).collect();
            for name in [format!("{n}"), format!("deflated {n}")] {
                assert_eq!(
                    MmapArray::<f64>::load_npz(&path, &name)?.as_slice(),
                    Some(&expected[..]),
                    "{blanks}, {name}"
                );
            }
        }
    }
    Ok(())
}

trait Scalar {
    fn into_scalar_for_test(self) -> f64;
}

impl Scalar for MmapArray<f64, Ix0> {
    fn into_scalar_for_test(self) -> f64 {
        self[()]
    }
}

/// Large enough for memory that is mapped, not allocated.
#[test]
fn large_arrays_are_read_whole() -> Result<()> {
    let n = 5 << 20;
    let elements: Vec<f64> = (0..n).map(|i| (i % 1000) as f64).collect();
    let content = npy(F8, false, &format!("({n},)"), &elements);
    let (_folder, path) =
        archive(&[member("stored.npy", &content), member("deflated.npy", &content).deflated()]).file();
    for name in ["stored", "deflated"] {
        assert!(MmapArray::<f64>::load_npz(&path, name)?.as_slice() == Some(&elements[..]), "{name}");
    }
    Ok(())
}

#[test]
fn the_options_are_those_of_npy_files() -> Result<()> {
    let header = npy_header(&format!("{F8}{}", " ".repeat(20_000)), false, "(2, 3)", 64);
    let long = [&header[..], bytemuck::cast_slice(&DATA)].concat();
    let built = archive(&[member("x.npy", &grid()).deflated(), member("long.npy", &long)]);
    let (_folder, path) = built.file();
    let options = MmapArray::<f64>::options;
    assert_eq!(options().shape((2, 3)).load_npz(&path, "x")?.dim(), (2, 3));
    assert_eq!(options().row_shape(3).load_npz(&path, "x")?.dim(), (2, 3));
    expect_err(options().shape((3, 2)).load_npz(&path, "x"), ErrorKind::ShapeMismatch);
    expect_err(options().row_shape(2).load_npz(&path, "x"), ErrorKind::ShapeMismatch);
    expect_err(options().shape((usize::MAX, 2)).load_npz(&path, "x"), ErrorKind::Overflow);

    let e = expect_err(options().load_npz(&path, "long"), ErrorKind::InvalidHeader);
    assert!(e.to_string().contains("member `long.npy`: ") && e.to_string().contains(".max_header_size("), "{e}");
    assert_eq!(options().max_header_size(30_000).load_npz(&path, "long")?.sum(), 15.0);

    let e = expect_err(options().offset(128).load_npz(&path, "x"), ErrorKind::InvalidInput);
    assert_eq!(e.path(), Some(&*path));
    expect_err(options().offset(128).opened_npz(&path, "x"), ErrorKind::InvalidInput);
    Ok(())
}

/// The others are read all the same, for the checksum.
#[test]
fn only_the_rows_that_are_asked_for_are_mapped_or_kept() -> Result<()> {
    let rows = 40_000;
    let elements: Vec<u8> = (0..rows * 5_u32).map(|n| (n ^ (n >> 7)) as u8).collect();
    let of = |fortran_order, shape: &str| npy("'|u1'", fortran_order, shape, &elements);
    let (c, f) = (of(false, "(40000, 5)"), of(true, "(5, 40000)"));
    let members = [("c", &c), ("f", &f)].map(|(name, content)| member(name, content));
    let deflated =
        [("c", &c), ("f", &f)].map(|(name, content)| member(&format!("deflated {name}"), content).deflated());
    let mut built = archive(&[members, deflated].concat());
    let (_folder, path) = built.file();
    let options = MmapArray::<u8, Ix2>::options;
    for part in [0..rows as usize, 0..1, 7..9, 100..39_000, 39_999..40_000, 5..5, 0..0, 40_000..40_000] {
        let bytes = &elements[part.start * 5..part.end * 5];
        for (i, name) in ["c", "f"].into_iter().enumerate() {
            let opened = options().rows(part.clone()).opened_npz(&path, name)?;
            let loaded = options().rows(part.clone()).load_npz(&path, name)?;
            let inflated = options().rows(part.clone()).load_npz(&path, &format!("deflated {name}"))?;
            for array in [&opened, &loaded, &inflated] {
                assert!(array.as_slice_memory_order() == Some(bytes), "{part:?} of {name}");
                let (rows, row) = if i == 0 { array.dim() } else { (array.dim().1, array.dim().0) };
                assert_eq!((rows, row), (part.len(), 5));
            }
            let start = built.data[i] + 128 + part.start * 5;
            assert_eq!((opened.offset(), loaded.offset()), (start as u64, start as u64));
            assert_eq!(inflated.offset(), built.data[i + 2] as u64);
        }
    }
    for name in ["c", "f", "deflated c"] {
        expect_err(options().rows(0..40_001).load_npz(&path, name), ErrorKind::InvalidInput);
        #[allow(clippy::reversed_empty_ranges, reason = "that is what is refused")]
        let reversed = options().rows(2..1);
        expect_err(reversed.load_npz(&path, name), ErrorKind::InvalidInput);
    }
    expect_err(options().rows(0..40_001).opened_npz(&path, "c"), ErrorKind::InvalidInput);

    let last = built.data[0] + 128 + elements.len() - 1;
    built.bytes[last] ^= 1;
    fs::write(&path, &built.bytes).unwrap();
    expect_err(options().rows(0..1).load_npz(&path, "c"), ErrorKind::Io);
    Ok(())
}

// Windows locks what others read, too.
#[cfg(unix)]
#[test]
fn the_archive_is_locked_as_other_files_are() -> Result<()> {
    use crate::support::arrays::OpenExt;
    use ndarray_mmap::{Lock, MmapArrayMut};
    let (_folder, path) = archive(&[member("x.npy", &floats(3))]).file();
    let writer = MmapArrayMut::<u8>::options().opened(&path)?;
    expect_err(MmapArray::<f64>::load_npz(&path, "x"), ErrorKind::Locked);
    expect_err(MmapArray::<u8>::options().opened_npz(&path, "x"), ErrorKind::Locked);
    assert_eq!(MmapArray::<f64>::options().lock(Lock::None).load_npz(&path, "x")?.len(), 3);
    assert_eq!(Archive::open(&path)?.header("x")?.shape(), [3]);
    drop(writer);

    let padding = (4..12).find(|&padding| {
        let built = archive(&[Member { padding, ..member("x.npy", &floats(3)) }]);
        fs::write(&path, &built.bytes).unwrap();
        MmapArray::<f64>::options().opened_npz(&path, "x").is_ok()
    });
    assert!(padding.is_some());
    let reader = MmapArray::<f64>::options().lock(Lock::Required).opened_npz(&path, "x")?;
    assert_eq!(MmapArray::<f64>::load_npz(&path, "x")?.sum(), reader.sum());
    expect_err(MmapArrayMut::<u8>::options().opened(&path), ErrorKind::Locked);
    Ok(())
}

#[test]
fn a_hundred_thousand_members_are_found() -> Result<()> {
    let content = floats(1);
    let members: Vec<_> = (0..100_000).map(|i| member(&format!("array_{i}.npy"), &content)).collect();
    let (_folder, path) = archive_as(&members, &Form { long: true, ..Form::default() }).file();
    let archive = Archive::open(&path)?;
    assert_eq!(archive.names().len(), 100_000);
    assert_eq!(archive.names().nth(70_000), Some("array_70000"));
    for i in (0..100_000).step_by(997) {
        assert_eq!(archive.header(&format!("array_{i}"))?.shape(), [1]);
        assert_eq!(archive.load::<f64, Ix1>(&format!("array_{i}"))?.sum(), 0.0);
    }
    assert_eq!(MmapArray::<f64>::load_npz(&path, "array_99999")?.len(), 1);
    let e = expect_err(archive.header("array_100000"), ErrorKind::InvalidInput);
    assert!(e.to_string().ends_with("`array_2`, `array_3`, `array_4` and 99995 more"), "{e}");
    Ok(())
}
