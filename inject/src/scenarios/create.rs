//! Files created and replaced: afterwards the whole new file is at the path, or what was there before.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use ndarray::Ix2;
use ndarray_mmap::{ErrorKind, MmapArray, MmapArrayMut, Result};

use super::Scenario;
use crate::scene::{End, Scene};
use crate::table::{Format, numbers};

const ROWS: usize = 300;

#[derive(Clone, Copy, PartialEq, Eq)]
enum There {
    Nothing,
    File,
    /// A link to a file in the same folder.
    Link,
    DanglingLink,
}

pub fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (name, format) in [("raw", Format::RAW), ("npy", Format::NPY), ("npy_f", Format::NPY_F)] {
        let there = [
            ("", There::Nothing),
            ("_over", There::File),
            ("_through_link", There::Link),
            ("_through_dangling_link", There::DanglingLink),
        ];
        for (what, there) in there {
            all.push(Scenario::new(format!("create_{name}{what}"), move |s| {
                creates(s, format, there, |path| create(format, path, true));
            }));
        }
        all.push(Scenario::new(format!("create_new_{name}"), move |s| {
            creates(s, format, There::Nothing, |path| {
                let options = MmapArrayMut::<f64>::options().shape(format.shape(ROWS));
                // SAFETY: nobody else knows the file.
                unsafe { if format.npy { options.create_new_npy(path) } else { options.create_new(path) } }
            });
        }));
    }
    all.push(Scenario::new("create_by_open_or_create_npy", |s| {
        creates(s, Format::NPY, There::Nothing, |path| {
            // SAFETY: nobody else knows the file.
            unsafe { MmapArrayMut::<f64>::open_or_create_npy(path, Format::NPY.shape(ROWS)) }
        });
    }));
    all.push(Scenario::new("create_sparse", |s| {
        creates(s, Format::RAW, There::File, |path| create(Format::RAW, path, false));
    }));
    all.push(Scenario::new("create_of_no_rows", |s| {
        let path = s.put("a", b"old");
        let create = || unsafe { MmapArrayMut::<f64>::options().shape((0, 4)).create_npy(&path) };
        if let Some(outcome) = s.armed(create)
            && s.judge(outcome, kinds(s)).is_some()
        {
            s.ends(&path, End::Bytes(Format::NPY.bytes(&[])));
        }
    }));
    all.push(Scenario::new("create_new_of_what_is_there", |s| {
        let path = s.put("a", b"old");
        // SAFETY: nobody else knows the file.
        if let Some(outcome) = s.armed(|| unsafe { MmapArrayMut::<f64>::create_new(&path, 3) }) {
            s.claim(outcome.is_err_and(|e| e.kind() == ErrorKind::Io), "it is replaced");
        }
    }));
    all.push(Scenario::new("scratch", |s| {
        let Some(outcome) = s.armed(|| MmapArrayMut::<f64>::scratch((ROWS, 4))) else { return };
        let kinds: &[ErrorKind] = if s.met(&["open_unnamed"]) || s.lacks("open_unnamed") {
            &[ErrorKind::Io, ErrorKind::Unsupported]
        } else {
            kinds(s)
        };
        if let Some(mut a) = s.judge(outcome, kinds) {
            s.same("new", a.view(), &vec![0.0; ROWS * 4]);
            a.fill(1.0);
            s.claim(a.close().is_ok(), "close");
        }
    }));
    all
}

/// A conflict over the new file's lock, which nobody else can have, is reported like any other.
fn kinds(s: &Scene<'_>) -> &'static [ErrorKind] {
    if s.met(&["flock"]) { &[ErrorKind::Io, ErrorKind::Locked, ErrorKind::Unsupported] } else { &[ErrorKind::Io] }
}

fn create(format: Format, path: &Path, preallocate: bool) -> Result<MmapArrayMut<f64, Ix2>> {
    let options = MmapArrayMut::<f64>::options().shape(format.shape(ROWS)).preallocate(preallocate);
    // SAFETY: nobody else knows the file.
    unsafe { if format.npy { options.create_npy(path) } else { options.create(path) } }
}

fn creates(
    s: &mut Scene<'_>,
    format: Format,
    there: There,
    create: impl FnOnce(&Path) -> Result<MmapArrayMut<f64, Ix2>>,
) {
    const PRIVATE: u32 = 0o600;
    let old = b"the old file".to_vec();
    let target = s.folder.join("target");
    let path = match there {
        There::Nothing => s.absent("target"),
        There::File | There::Link => {
            s.put("target", &old);
            fs::set_permissions(&target, fs::Permissions::from_mode(PRIVATE)).expect("the scenario's own file");
            s.watch(&target);
            fs::hard_link(&target, s.folder.join("kept")).expect("links");
            s.watch(&s.folder.join("kept"));
            target.clone()
        }
        There::DanglingLink => s.absent("target"),
    };
    let path = if matches!(there, There::Link | There::DanglingLink) {
        let link = s.folder.join("link");
        symlink("target", &link).expect("links");
        s.watch(&link);
        link
    } else {
        path
    };
    let Some(outcome) = s.armed(|| create(&path)) else { return };
    let kinds = kinds(s);
    let created = s.judge(outcome, kinds);
    if created.is_none() && s.met(&["linkat"]) && s.errno() == libc::EPERM {
        s.complain("names are refused to unnamed files, and there is no other way");
    }
    super::open::lock_is_sure(s, created.as_ref());
    let Some(mut a) = created else { return };
    let mut expected = vec![0.0; ROWS * 4];
    s.same("new", a.view(), &expected);
    a.assign(&format.array(&numbers(0..ROWS)));
    expected.copy_from_slice(&numbers(0..ROWS));
    s.claim(a.flush().is_ok(), "flush");
    s.claim(a.close().is_ok(), "close");
    s.ends(&target, End::Bytes(format.bytes(&expected)));
    let again = MmapArray::<f64>::options().shape(format.shape(ROWS));
    match if format.npy { again.load_npy(&target) } else { again.load(&target) } {
        Ok(again) => s.same("opened anew", again.view(), &expected),
        Err(e) => s.complain(format!("opened anew: {e}")),
    }
    if format.npy {
        s.sample(&target, &format.axes(ROWS), expected.iter().sum());
    }
}
