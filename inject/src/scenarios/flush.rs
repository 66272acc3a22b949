//! Stores flushed to the disk, and arrays closed and dropped: an error is reported once as it is, then as poison, and never
//! lost.

use std::path::PathBuf;

use ndarray::Ix2;
use ndarray_mmap::{Error, ErrorKind, MmapArrayMut, Result};

use super::Scenario;
use crate::photo::is_marked;
use crate::scene::{End, Scene};
use crate::table::{Format, numbers};

type Array = MmapArrayMut<f64, Ix2>;

const ROWS: usize = 300;
const MORE: usize = 7;

/// If one of these fails, it is unknown what is on the disk.
const TO_THE_DISK: &[&str] = &["msync", "fsync", "fdatasync", "fsync_folder", "syncfs", "sync_file_range"];

/// Where the array comes from, which determines what must reach the disk.
#[derive(Clone, Copy)]
enum Origin {
    Opened,
    Created,
    Grown,
    CreatedAndGrown,
}

pub fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    let origins = [
        ("opened", Origin::Opened),
        ("created", Origin::Created),
        ("grown", Origin::Grown),
        ("created_and_grown", Origin::CreatedAndGrown),
    ];
    for (origin_name, origin) in origins {
        for (format_name, format) in [("raw", Format::RAW), ("npy", Format::NPY)] {
            let mut add = |name: &str, run: fn(&mut Scene<'_>, Array, PathBuf, Vec<f64>, Format)| {
                all.push(Scenario::new(format!("{name}_{origin_name}_{format_name}"), move |s| {
                    let (a, path, numbers) = array(s, origin, format);
                    run(s, a, path, numbers, format);
                }));
            };
            add("flush", |s, a, path, numbers, format| flushes(s, a, path, numbers, format, Array::flush));
            add("flush_rows", |s, a, path, numbers, format| {
                flushes(s, a, path, numbers, format, |a| a.flush_rows(2..9));
            });
            add("flush_async", |s, a, path, numbers, format| {
                flushes(s, a, path, numbers, format, Array::flush_async);
            });
            add("close", closes);
            add("drop", drops);
        }
    }
    all
}

fn array(s: &mut Scene<'_>, origin: Origin, format: Format) -> (Array, PathBuf, Vec<f64>) {
    let shape = format.shape(ROWS);
    let created = matches!(origin, Origin::Created | Origin::CreatedAndGrown);
    let path = if created { s.absent("a") } else { s.put("a", &format.bytes(&numbers(0..ROWS))) };
    let options = MmapArrayMut::<f64>::options().shape(shape);
    // SAFETY: nobody else knows the file.
    let opened = unsafe {
        match (created, format.npy) {
            (false, false) => options.open(&path),
            (false, true) => options.open_npy(&path),
            (true, false) => options.create(&path),
            (true, true) => options.create_npy(&path),
        }
    };
    let mut a = opened.expect("opens");
    let mut rows = ROWS;
    if matches!(origin, Origin::Grown | Origin::CreatedAndGrown) {
        rows += MORE;
        a.append(&format.array(&numbers(ROWS..rows))).expect("there is room");
    }
    let mut numbers = numbers(0..rows);
    numbers.iter_mut().for_each(|x| *x *= 2.0);
    a.assign(&format.array(&numbers));
    s.ends(&path, End::AnyOf(vec![format.bytes(&numbers)]));
    (a, path, numbers)
}

fn flushes(
    s: &mut Scene<'_>,
    a: Array,
    path: PathBuf,
    numbers: Vec<f64>,
    format: Format,
    flush: impl Fn(&Array) -> Result<()>,
) {
    let Some(outcome) = s.armed(|| flush(&a)) else { return };
    let failed = s.judge(outcome, &[ErrorKind::Io]).is_none();
    let folder = s.met(&["fsync_folder"]) && s.errno() == libc::EINVAL;
    s.claim(failed || folder || !s.met_badly(TO_THE_DISK), "the disk failed, and nothing is said of it");
    s.claim(!failed || !folder, "a folder that cannot be synced stops the flush");
    s.same("after a flush", a.view(), &numbers);
    let again = a.flush().map_err(|e: Error| e.kind());
    if failed && s.met(TO_THE_DISK) {
        s.claim(again == Err(ErrorKind::Poisoned), "after a failed flush, the next says otherwise");
        s.claim(a.guarded(|_| ()).is_err(), "after a failed flush, a guarded call says Ok");
        s.claim(a.close().is_err(), "after a failed flush, close says Ok");
        return;
    }
    if !failed {
        s.claim(again.is_ok(), "a second flush fails");
        s.claim(a.close().is_ok(), "close");
        s.claim(!is_marked(&path), "the mark is left");
        s.ends(&path, End::Bytes(format.bytes(&numbers)));
        if format.npy {
            s.sample(&path, &format.axes(numbers.len() / 4), numbers.iter().sum());
        }
    }
}

fn closes(s: &mut Scene<'_>, a: Array, path: PathBuf, numbers: Vec<f64>, format: Format) {
    let Some(outcome) = s.armed(|| a.close()) else { return };
    if s.judge(outcome, &[ErrorKind::Io]).is_some() {
        s.claim(!is_marked(&path) || s.met(&["fremovexattr"]) || s.lacks("fremovexattr"), "the mark is left");
        s.ends(&path, End::Bytes(format.bytes(&numbers)));
    }
}

fn drops(s: &mut Scene<'_>, a: Array, path: PathBuf, _: Vec<f64>, _: Format) {
    s.armed(|| drop(a));
    s.claim(!is_marked(&path) || s.met(&["fremovexattr"]) || s.lacks("fremovexattr"), "the mark is left");
}
