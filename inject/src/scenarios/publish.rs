//! Files that appear atomically.

use std::path::Path;

use ndarray::Ix2;
use ndarray_mmap::{ErrorKind, MmapArray, Result, Staged, save_npy};

use super::Scenario;
use crate::scene::{End, Scene};
use crate::table::{Format, numbers};

const ROWS: usize = 300;

/// Calls that follow once the file is at its path: if one of them fails, the new file is there all the same.
const LAST_STEPS: &[&str] = &["open", "fsync", "fsync_folder", "syncfs"];

pub fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (name, format) in [("raw", Format::RAW), ("npy", Format::NPY), ("npy_f", Format::NPY_F)] {
        for (over, there) in [("", false), ("_over", true)] {
            all.push(Scenario::new(format!("stage_{name}{over}"), move |s| stages(s, format, there)));
            all.push(Scenario::new(format!("publish_{name}{over}"), move |s| {
                publishes(s, format, there, Staged::publish);
            }));
        }
        for (over, there) in [("", false), ("_over", true)] {
            if format.npy {
                all.push(Scenario::new(format!("save_{name}{over}"), move |s| saves(s, format, there)));
            }
        }
        all.push(Scenario::new(format!("publish_new_{name}"), move |s| {
            publishes(s, format, false, Staged::publish_new);
        }));
    }
    all.push(Scenario::new("publish_grown_over", publishes_grown));
    all.push(Scenario::new("publish_new_over", |s| {
        let path = s.put("a", b"the old file");
        let staged = staged(Format::NPY, &path).expect("stages");
        if let Some(outcome) = s.armed(|| staged.publish_new()) {
            s.claim(outcome.is_err_and(|e| e.kind() == ErrorKind::Io), "it is replaced");
        }
    }));
    all
}

fn staged(format: Format, path: &Path) -> Result<Staged<f64, Ix2>> {
    let shape = format.shape(ROWS);
    let mut staged =
        if format.npy { Staged::<f64>::stage_npy(path, shape)? } else { Staged::<f64>::stage(path, shape)? };
    staged.assign(&format.array(&numbers(0..ROWS)));
    Ok(staged)
}

fn place(s: &mut Scene<'_>, there: bool) -> std::path::PathBuf {
    if there { s.put("a", b"the old file") } else { s.absent("a") }
}

fn stages(s: &mut Scene<'_>, format: Format, there: bool) {
    let path = place(s, there);
    let Some(outcome) = s.armed(|| staged(format, &path)) else { return };
    let kinds: &[ErrorKind] = if s.met(&["open_unnamed"]) || s.lacks("open_unnamed") {
        &[ErrorKind::Io, ErrorKind::Unsupported]
    } else if s.met(&["flock"]) {
        &[ErrorKind::Io, ErrorKind::Locked, ErrorKind::Unsupported]
    } else {
        &[ErrorKind::Io]
    };
    if let Some(a) = s.judge(outcome, kinds) {
        s.same("staged", a.view(), &numbers(0..ROWS));
        // It is closed without being published: nothing must be left of it.
        s.claim(a.close().is_ok(), "close");
    }
}

fn publishes(s: &mut Scene<'_>, format: Format, there: bool, publish: impl FnOnce(Staged<f64, Ix2>) -> Result<()>) {
    let path = place(s, there);
    let staged = staged(format, &path).expect("stages");
    let Some(outcome) = s.armed(|| publish(staged)) else { return };
    published(s, format, &path, outcome, numbers(0..ROWS));
}

fn saves(s: &mut Scene<'_>, format: Format, there: bool) {
    let path = place(s, there);
    let array = format.array(&numbers(0..ROWS));
    let Some(outcome) = s.armed(|| save_npy(&path, &array)) else { return };
    if s.met(&["flock"]) && outcome.as_ref().is_err_and(|e| e.kind() != ErrorKind::Io) {
        s.judge(outcome, &[ErrorKind::Locked, ErrorKind::Unsupported]);
        return;
    }
    published(s, format, &path, outcome, numbers(0..ROWS));
}

fn publishes_grown(s: &mut Scene<'_>) {
    const MORE: usize = 7;
    let format = Format::NPY;
    let path = place(s, true);
    let mut staged = staged(format, &path).expect("stages");
    staged.append(&format.array(&numbers(ROWS..ROWS + MORE))).expect("there is room");
    let Some(outcome) = s.armed(|| staged.publish()) else { return };
    published(s, format, &path, outcome, numbers(0..ROWS + MORE));
}

fn published(s: &mut Scene<'_>, format: Format, path: &Path, outcome: Result<()>, numbers: Vec<f64>) {
    let bytes = format.bytes(&numbers);
    let rows = numbers.len() / crate::table::ROW;
    if s.judge(outcome, &[ErrorKind::Io]).is_none() {
        if s.met(LAST_STEPS) || s.lacks("fsync_folder") {
            s.ends(path, End::BeforeOr(bytes));
        }
        return;
    }
    s.claim(!s.met_badly(&["fsync", "fdatasync", "syncfs"]), "the disk failed, and nothing is said of it");
    s.ends(path, End::Bytes(bytes));
    let again = MmapArray::<f64>::options().shape(format.shape(rows));
    match if format.npy { again.load_npy(path) } else { again.load(path) } {
        Ok(again) => s.same("opened anew", again.view(), &numbers),
        Err(e) => s.complain(format!("opened anew: {e}")),
    }
    if format.npy {
        s.sample(path, &format.axes(rows), numbers.iter().sum());
    }
}
