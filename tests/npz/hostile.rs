//! Damaged archives, and such as are made to mislead: each is an error of its kind, and nothing else of the archive suffers.

use std::fs::{self, File};
use std::io;

use bytemuck::AnyBitPattern;
use ndarray_mmap::npy::NpyElement;
use ndarray_mmap::npz::Archive;
use ndarray_mmap::{Error, ErrorKind, MmapArray, Result};

use crate::support::arrays::{expect_err, expect_io_err};
use crate::writer::{Built, DEFLATED, F8, Form, Member, OpenNpz, archive, archive_as, deflate, floats, member, npy};

/// A stored and a deflated one.
fn pair() -> Built {
    archive(&[member("stored.npy", &floats(9)), member("deflated.npy", &floats(9)).deflated()])
}

fn load(built: &Built, name: &str) -> Result<Vec<f64>> {
    let (_folder, path) = built.file();
    MmapArray::<f64>::load_npz(&path, name).map(|a| a.iter().copied().collect())
}

/// The error of a member, whose message must name it, from every call that meets it.
#[track_caller]
fn refused<A: NpyElement + AnyBitPattern>(built: &Built, name: &str, kind: ErrorKind) -> Error {
    let (_folder, path) = built.file();
    let e = expect_err(MmapArray::<A>::load_npz(&path, name), kind);
    assert!(e.to_string().contains(&format!("a.npz: member `{name}")), "{e}");
    e
}

#[test]
fn what_is_cut_short_anywhere_is_refused() {
    for form in [Form::default(), Form { long: true, ..Form::default() }] {
        let built = archive_as(&[member("x.npy", &floats(3)), member("y.npy", &floats(3)).deflated()], &form);
        let (_folder, path) = built.file();
        for len in (0..built.bytes.len() as u64).rev() {
            File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
            let e = expect_err(Archive::open(&path), ErrorKind::InvalidHeader);
            assert_eq!(e.path(), Some(&*path));
            assert!(len < 4 || e.to_string().contains("zip archive"), "{e}");
            expect_err(MmapArray::<f64>::load_npz(&path, "x"), ErrorKind::InvalidHeader);
            expect_err(MmapArray::<u8>::options().opened_npz(&path, "x"), ErrorKind::InvalidHeader);
        }
    }
}

#[test]
fn a_damaged_byte_is_an_error_or_does_not_matter() {
    for (form, long, descriptor) in [
        (Form::default(), false, false),
        (Form { long: true, ..Form::default() }, true, false),
        (Form { comment: b"comment".to_vec(), prefix: 3, ..Form::default() }, false, true),
    ] {
        let of = |name: &str| Member { long, descriptor, ..member(name, &floats(3)) };
        let built = archive_as(&[of("x.npy"), of("y.npy").deflated()], &form);
        let (_folder, path) = built.file();
        let mut bytes = built.bytes.clone();
        for at in 0..bytes.len() {
            for mask in [0x01, 0xff, bytes[at]] {
                bytes[at] ^= mask;
                fs::write(&path, &bytes).unwrap();
                let Ok(archive) = Archive::open(&path) else {
                    bytes[at] ^= mask;
                    continue;
                };
                for name in archive.names() {
                    let _ = (archive.header(name), archive.is_stored(name));
                    let _ = MmapArray::<[u8; 8]>::options().opened_npz(&path, name);
                    if let Ok(loaded) = MmapArray::<f64>::load_npz(&path, name) {
                        assert_eq!(loaded.as_slice(), Some(&[0.0, 1.0, 2.0][..]), "byte {at} ^ {mask}");
                    }
                }
                bytes[at] ^= mask;
            }
        }
    }
}

#[test]
fn a_damaged_array_is_told_by_its_checksum() {
    let mut built = pair();
    let at = built.data[0] + 130;
    built.bytes[at] ^= 1;
    let (_folder, path) = built.file();
    let e = expect_io_err(MmapArray::<f64>::load_npz(&path, "stored"), io::ErrorKind::InvalidData);
    assert!(e.to_string().contains("member `stored.npy`: its checksum is "), "{e}");
    // Its header can be read, and its bytes mapped.
    assert_eq!(Archive::open(&path).unwrap().header("stored").unwrap().shape(), [9]);
    assert_eq!(load(&built, "deflated").unwrap().len(), 9);

    // A checksum that is wrong in both places.
    let mut built = pair();
    for at in [built.locals[1] + 14, built.records[1] + 16] {
        built.put32(at, 12345);
    }
    let (_folder, path) = built.file();
    let e = expect_io_err(MmapArray::<f64>::load_npz(&path, "deflated"), io::ErrorKind::InvalidData);
    assert!(e.to_string().contains("should be 00003039"), "{e}");
}

#[test]
fn compressed_data_that_do_not_become_what_they_claim_are_refused() {
    let content = floats(2000);
    let good = deflate(&content);
    let (_folder, path) = archive(&[]).file();
    for (packed, part) in [
        (good[..good.len() - 40].to_vec(), "its compressed data are cut short"),
        (good[..20].to_vec(), "its compressed data are cut short"),
        (deflate(&content[..content.len() - 1]), "its compressed data end after 16127 of 16128 bytes"),
        (deflate(&[&content[..], b"m"].concat()), "its compressed data become more than the 16128 bytes it claims"),
        (vec![7; good.len()], "its compressed data are damaged"),
        ([&good[..], b"more"].concat(), "its compressed data end 4 bytes before the member does"),
        ([&good[..], &[0; 100_000]].concat(), "its compressed data end 100000 bytes before the member does"),
    ] {
        let built = archive(&[Member { packed: Some(packed), ..member("x.npy", &content).deflated() }]);
        fs::write(&path, &built.bytes).unwrap();
        let e = expect_io_err(MmapArray::<f64>::load_npz(&path, "x"), io::ErrorKind::InvalidData);
        assert!(e.to_string().contains(&format!("member `x.npy`: {part}")), "{e}");
    }
}

#[test]
fn an_array_is_as_long_as_its_member() {
    for deflated in [false, true] {
        let of = |content: &[u8]| {
            let member = member("x.npy", content);
            archive(&[if deflated { member.deflated() } else { member }])
        };
        let e = refused::<f64>(&of(&npy(F8, false, "(7,)", &[0.0; 6])), "x", ErrorKind::TooShort);
        assert!(
            e.to_string().contains("it is 176 bytes, but its array (") && e.to_string().ends_with("needs 184"),
            "{e}"
        );
        refused::<f64>(&of(&npy(F8, false, "(100000000000,)", &[0.0; 6])), "x", ErrorKind::TooShort);
        refused::<f64>(&of(&npy(F8, false, "(5,)", &[0.0; 6])), "x", ErrorKind::InvalidHeader);
        refused::<f64>(&of(&npy(F8, false, "(9000000000000000000,)", &[0.0; 6])), "x", ErrorKind::Overflow);
        refused::<f64>(&of(&npy("'|O'", false, "(6,)", &[0.0; 6])), "x", ErrorKind::InvalidHeader);
        refused::<f64>(&of(&floats(6)[..100]), "x", ErrorKind::InvalidHeader);
        refused::<f64>(&of(b""), "x", ErrorKind::InvalidHeader);
        refused::<f64>(&of(b"<html>"), "x", ErrorKind::InvalidHeader);
    }
}

/// Nothing is allocated for a claim that cannot be true; and of one that can, only what arrives is touched.
#[test]
fn a_claimed_size_is_believed_only_as_far_as_it_can_be_true() {
    let claims = |size: u32, shape: u32| {
        let content = npy::<f64>("'|u1'", false, &format!("({shape},)"), &[]);
        let mut built = archive(&[member("x.npy", &content).deflated()]);
        built.put32(built.locals[0] + 22, size);
        built.put32(built.records[0] + 24, size);
        built
    };
    let e = refused::<u8>(&claims(u32::MAX - 1, u32::MAX - 129), "x", ErrorKind::InvalidHeader);
    assert!(e.to_string().contains("more than 1032 times as many"), "{e}");
    let possible = 50_000;
    let (_folder, path) = claims(possible, possible - 128).file();
    expect_io_err(MmapArray::<u8>::load_npz(&path, "x"), io::ErrorKind::InvalidData);

    // The densest that there is: about 1030 to 1.
    let content = npy("'|u1'", false, "(10000000,)", &vec![0_u8; 10_000_000]);
    let built = archive(&[member("x.npy", &content).deflated()]);
    assert!(built.bytes.len() < 12_000);
    let (_folder, path) = built.file();
    assert_eq!(MmapArray::<u8>::load_npz(&path, "x").unwrap().len(), 10_000_000);
}

#[test]
fn members_that_share_bytes_are_refused() {
    let three = || archive(&[member("a.npy", &floats(3)), member("b.npy", &floats(3)), member("c.npy", &floats(3))]);
    // Two records of one member.
    let mut built = three();
    built.put32(built.records[1] + 42, built.locals[0] as u32);
    let overlap = "do not end before byte";
    for name in ["a", "b"] {
        let e = refused::<f64>(&built, name, ErrorKind::InvalidHeader);
        assert!(e.to_string().contains(overlap), "{e}");
    }
    assert_eq!(load(&built, "c").unwrap().len(), 3);

    // One that contains the next one.
    let inner = archive(&[member("b.npy", &floats(3))]);
    let content = npy("'|u1'", false, &format!("({},)", inner.records[0]), &inner.bytes[..inner.records[0]]);
    let mut built = archive(&[member("a.npy", &content), member("b.npy", &floats(3))]);
    built.put32(built.records[1] + 42, (built.data[0] + 128) as u32);
    refused::<u8>(&built, "a", ErrorKind::InvalidHeader);
    assert_eq!(load(&built, "b").unwrap().len(), 3);

    // One that reaches into the directory.
    let mut built = three();
    let size = floats(3).len() as u32 + 1;
    for at in [built.locals[2] + 18, built.locals[2] + 22, built.records[2] + 20, built.records[2] + 24] {
        built.put32(at, size);
    }
    let e = refused::<f64>(&built, "c", ErrorKind::InvalidHeader);
    assert!(e.to_string().contains(overlap), "{e}");

    // Beyond the end of the file, and of the members.
    for offset in [three().bytes.len() as u32, u32::MAX - 1, three().records[0] as u32, three().end as u32] {
        let mut built = three();
        built.put32(built.records[1] + 42, offset);
        refused::<f64>(&built, "b", ErrorKind::InvalidHeader);
        assert_eq!(load(&built, "c").unwrap().len(), 3);
    }
}

#[test]
fn what_the_two_headers_of_a_member_say_differently_is_refused() {
    for (local, bytes, part) in [
        (0, &b"PK\x03\x05"[..], "no member starts at byte 0"),
        (6, &[1, 0], "its word of flags is 1 in its own header, but 0"),
        (8, &[8, 0], "its compression method is 8 in its own header, but 0"),
        (14, b"crc!", "its checksum is "),
        (18, &[1, 0, 0, 0], "its compressed size is 1 in its own header"),
        (22, &[1, 0, 0, 0], "its size is 1 in its own header"),
        (30, b"y", "its name is ytored.npy in its own header, but stored.npy"),
        (26, &[9], "its name is "),
        (28, &[200], "do not end before byte"),
    ] {
        let mut built = pair();
        built.put(local, bytes);
        let e = refused::<f64>(&built, "stored", ErrorKind::InvalidHeader);
        assert!(e.to_string().contains(part), "{e}");
        assert_eq!(load(&built, "deflated").unwrap().len(), 9);
    }
    // A writer that puts sizes behind the data may leave them out in front, but not get them wrong.
    let mut built = archive(&[Member { descriptor: true, ..member("x.npy", &floats(3)) }]);
    assert_eq!(load(&built, "x").unwrap().len(), 3);
    built.put32(18, 1);
    refused::<f64>(&built, "x", ErrorKind::InvalidHeader);
}

#[test]
fn what_cannot_be_read_is_unsupported_and_named() {
    for (method, name) in
        [(12, "bzip2"), (14, "lzma"), (93, "zstd"), (95, "xz"), (9, "deflate64"), (99, "AES"), (77, "77")]
    {
        let built = archive(&[member("good.npy", &floats(3)), Member { method, ..member("x.npy", &floats(3)) }]);
        let e = refused::<f64>(&built, "x", ErrorKind::Unsupported);
        assert!(e.to_string().contains(name), "{e}");
        assert_eq!(load(&built, "good").unwrap().len(), 3);
        let (_folder, path) = built.file();
        expect_err(MmapArray::<u8>::options().opened_npz(&path, "x"), ErrorKind::Unsupported);
        let archive = Archive::open(&path).unwrap();
        assert!(!archive.is_stored("x").unwrap());
        expect_err(archive.header("x"), ErrorKind::Unsupported);
    }
    for (flags, part) in [(1, "encrypted"), (1 << 6, "encrypted"), (1 << 13, "encrypted"), (1 << 5, "a patch")] {
        let built = archive(&[Member { flags, ..member("x.npy", &floats(3)) }]);
        let e = refused::<f64>(&built, "x", ErrorKind::Unsupported);
        assert!(e.to_string().contains(part), "{e}");
    }
    let stored_but_longer = Member { packed: Some(vec![0; 10]), ..member("x.npy", &floats(3)) };
    refused::<f64>(&archive(&[stored_but_longer]), "x", ErrorKind::InvalidHeader);
}

#[test]
fn a_part_of_an_archive_in_several_is_unsupported() {
    for at in [4, 6, 8] {
        let mut built = pair();
        built.put16(built.end + at, 1);
        let (_folder, path) = built.file();
        expect_err(Archive::open(&path), ErrorKind::Unsupported);
    }
    for at in [16, 20, 24, 56 + 4, 56 + 16] {
        let mut built = archive_as(&[member("x.npy", &floats(3))], &Form { long: true, ..Form::default() });
        let at = built.end - 76 + at;
        built.bytes[at] += 1;
        let (_folder, path) = built.file();
        let e = Archive::open(&path).unwrap_err();
        assert!([ErrorKind::Unsupported, ErrorKind::InvalidHeader].contains(&e.kind()), "{e}");
    }
}

#[test]
fn a_directory_that_is_not_what_the_end_says_is_refused() {
    // Fewer and more members, another size, another place.
    for (at, by) in [(10, 1_u8), (10, 0xff), (12, 1), (12, 0xff), (16, 1)] {
        let mut built = pair();
        let at = built.end + at;
        built.bytes[at] = built.bytes[at].wrapping_add(by);
        if at == built.end + 10 {
            built.bytes[at - 2] = built.bytes[at];
        }
        let (_folder, path) = built.file();
        expect_err(Archive::open(&path), ErrorKind::InvalidHeader);
    }
    // 64-bit sizes that are announced, and missing.
    let mut built = pair();
    for at in [built.locals[0] + 18, built.locals[0] + 22, built.records[0] + 20, built.records[0] + 24] {
        built.put32(at, u32::MAX);
    }
    refused::<f64>(&built, "stored", ErrorKind::InvalidHeader);
    // The end record of another archive in the comment: Python finds the last one, too.
    let other = archive(&[member("x.npy", &floats(3))]);
    let comment = other.bytes[other.end..].to_vec();
    let built = archive_as(&[member("x.npy", &floats(3))], &Form { comment, ..Form::default() });
    let (_folder, path) = built.file();
    expect_err(Archive::open(&path), ErrorKind::InvalidHeader);
}

#[test]
fn a_file_that_is_no_archive_is_refused() {
    let (_folder, path) = archive(&[]).file();
    for bytes in [&b""[..], b"x", &floats(9), &[0; 100_000], b"PK\x05\x06", b"PK\x05\x06PK\x05\x06"] {
        fs::write(&path, bytes).unwrap();
        let e = expect_err(Archive::open(&path), ErrorKind::InvalidHeader);
        assert_eq!(e.path(), Some(&*path));
        expect_err(MmapArray::<f64>::load_npz(&path, "x"), ErrorKind::InvalidHeader);
    }
    #[cfg(unix)]
    expect_err(Archive::open(path.parent().unwrap()), ErrorKind::NotRegularFile);
    expect_io_err(Archive::open(path.with_extension("not")), io::ErrorKind::NotFound);
    expect_io_err(MmapArray::<f64>::load_npz(path.with_extension("not"), "x"), io::ErrorKind::NotFound);
}

#[test]
fn an_archive_that_changes_after_it_was_opened_is_an_error() {
    let (_folder, path) = pair().file();
    let archive = Archive::open(&path).unwrap();
    fs::write(&path, vec![7; pair().bytes.len()]).unwrap();
    for name in ["stored", "deflated"] {
        expect_err(archive.header(name), ErrorKind::InvalidHeader);
        expect_err(archive.load::<f64, ndarray::Ix1>(name), ErrorKind::InvalidHeader);
        // SAFETY: the file is this test's own.
        expect_err(unsafe { archive.map::<f64, ndarray::Ix1>(name) }, ErrorKind::InvalidHeader);
    }
    fs::write(&path, &pair().bytes[..40]).unwrap();
    expect_err(archive.header("stored"), ErrorKind::TooShort);
    expect_err(archive.header("deflated"), ErrorKind::TooShort);
    fs::write(&path, b"").unwrap();
    expect_err(archive.header("stored"), ErrorKind::TooShort);
    assert!(archive.is_stored("stored").unwrap());
}

#[test]
fn other_methods_do_not_pass_for_deflate() {
    let built = archive(&[Member { method: DEFLATED, packed: Some(floats(3)), ..member("x.npy", &floats(3)) }]);
    let (_folder, path) = built.file();
    expect_io_err(MmapArray::<f64>::load_npz(&path, "x"), io::ErrorKind::InvalidData);
}
