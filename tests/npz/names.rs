//! The names of arrays: NumPy's, in the archive's order.

use ndarray_mmap::npz::Archive;
use ndarray_mmap::{ErrorKind, MmapArray, Result};

use crate::support::arrays::expect_err;
use crate::writer::{Form, Member, archive, archive_as, floats, member};

#[test]
fn names_are_numpys() -> Result<()> {
    let text = |name: &str| member(name, b"some text");
    let members = [
        member("z.npy", &floats(1)),
        member("folder/inner.npy", &floats(2)),
        member("no suffix", &floats(3)),
        member("twice.npy.npy", &floats(4)),
        text("readme.txt"),
        member("folder/", b""),
        Member { flags: 1 << 11, ..member("größe.npy", &floats(5)) },
        Member { name: b"caf\x82.npy".to_vec(), ..member("", &floats(6)) },
        member("a.npy", &floats(7)),
    ];
    let (_folder, path) = archive(&members).file();
    let archive = Archive::open(&path)?;
    let names: Vec<_> = archive.names().collect();
    let numpys = ["z", "folder/inner", "no suffix", "twice.npy", "readme.txt", "folder/", "größe", "café", "a"];
    assert_eq!(names, numpys);
    for (name, n) in [("z", 1), ("folder/inner", 2), ("no suffix", 3), ("twice.npy", 4), ("größe", 5), ("café", 6)] {
        assert_eq!(archive.header(name)?.shape(), [n]);
        assert_eq!(MmapArray::<f64>::load_npz(&path, name)?.len(), n);
    }
    assert_eq!(archive.header("folder/inner.npy")?.shape(), [2]);
    for name in ["readme.txt", "folder/"] {
        let e = expect_err(archive.header(name), ErrorKind::InvalidHeader);
        assert!(e.to_string().contains(&format!("a.npz: member `{name}`: ")), "{e}");
        expect_err(MmapArray::<f64>::load_npz(&path, name), ErrorKind::InvalidHeader);
    }
    assert_eq!(format!("{archive:?}"), format!("Archive {{ path: {path:?}, members: 9, .. }}"));
    Ok(())
}

#[test]
fn an_archive_crosses_threads() {
    fn crosses<T: Send + Sync + 'static>() {}
    crosses::<Archive>();
}

#[test]
fn the_exact_name_comes_first() -> Result<()> {
    let (_folder, path) = archive(&[member("a.npy", &floats(1)), member("a", &floats(2))]).file();
    let archive = Archive::open(&path)?;
    assert_eq!((archive.header("a")?.shape(), archive.header("a.npy")?.shape()), (&[2][..], &[1][..]));
    Ok(())
}

#[test]
fn an_unknown_name_is_refused_with_those_that_there_are() {
    let unknown = |names: &[&str], name: &str| {
        let members: Vec<_> = names.iter().map(|name| member(name, &floats(1))).collect();
        let (_folder, path) = archive(&members).file();
        let e = expect_err(Archive::open(&path).unwrap().header(name), ErrorKind::InvalidInput);
        assert_eq!(e.path(), Some(&*path));
        assert_eq!(
            expect_err(Archive::open(&path).unwrap().is_stored(name), ErrorKind::InvalidInput).to_string(),
            e.to_string()
        );
        assert_eq!(
            expect_err(MmapArray::<f64>::load_npz(&path, name), ErrorKind::InvalidInput).to_string(),
            e.to_string()
        );
        e.to_string().split_once("a.npz: ").unwrap().1.to_owned()
    };
    assert_eq!(unknown(&[], "x"), "the archive has no array `x`; it has nothing");
    assert_eq!(unknown(&["a.npy", "b/c.npy"], "c"), "the archive has no array `c`; it has `a`, `b/c`");
    let many = ["a.npy", "b.npy", "c.npy", "d.npy", "e.npy", "f.npy", "g.npy"];
    assert_eq!(unknown(&many, ""), "the archive has no array ``; it has `a`, `b`, `c`, `d`, `e` and 2 more");
    let long = "x".repeat(1000);
    assert!(unknown(&[&long], &long[1..]).len() < 200);
}

#[test]
fn a_name_that_an_archive_has_twice_is_refused_and_others_are_not() -> Result<()> {
    let members = [member("x.npy", &floats(1)), member("y.npy", &floats(2)), member("x.npy", &floats(3))];
    let (_folder, path) = archive(&members).file();
    let archive = Archive::open(&path)?;
    assert_eq!(archive.names().collect::<Vec<_>>(), ["x", "y", "x"]);
    expect_err(archive.is_stored("x"), ErrorKind::InvalidHeader);
    let e = expect_err(archive.header("x"), ErrorKind::InvalidHeader);
    assert!(e.to_string().contains("more than one member `x.npy`"), "{e}");
    expect_err(MmapArray::<f64>::load_npz(&path, "x"), ErrorKind::InvalidHeader);
    assert_eq!(MmapArray::<f64>::load_npz(&path, "y")?.len(), 2);
    Ok(())
}

#[test]
fn an_empty_archive_has_no_names() -> Result<()> {
    for long in [false, true] {
        for prefix in [0, 5] {
            let (_folder, path) = archive_as(&[], &Form { long, prefix, ..Form::default() }).file();
            // The place of 64-bit records is told from the start of the file.
            match Archive::open(&path) {
                Ok(archive) => assert_eq!(archive.names().len(), 0),
                Err(e) => assert_eq!((e.kind(), long, prefix), (ErrorKind::InvalidHeader, true, 5)),
            }
        }
    }
    Ok(())
}

#[test]
fn a_name_that_is_not_the_text_it_says_it_is_is_refused() {
    let (_folder, path) = archive(&[Member { name: b"\xff.npy".to_vec(), flags: 1 << 11, ..member("", b"") }]).file();
    expect_err(Archive::open(&path), ErrorKind::InvalidHeader);
}
