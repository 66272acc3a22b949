//! Operations killed at each of their calls: the next process finds what was there, or the complete result, and can go on.
//! (The other scenarios check whether the operation may be refused instead.)

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::Ix2;
use ndarray_mmap::{ErrorKind, MmapArray, MmapArrayMut, Result, Staged};

use super::Scenario;
use super::steps::Step::{self, Append, Resize};
use crate::photo::{is_marked, takes_marks};
use crate::scene::{End, Scene};
use crate::table::{Format, ROW, numbers};

const OLD: &[u8] = b"the old file";

/// More rows than fit in a page.
const MANY: usize = 3000;

pub fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    let grows: [(&str, usize, Step); 7] = [
        ("append", 3, Append(2)),
        ("append_large", 3, Append(MANY)),
        ("append_to_nothing", 0, Append(2)),
        ("resize_up", 3, Resize(MANY)),
        ("resize_down", MANY, Resize(3)),
        ("resize_down_a_little", 3, Resize(2)),
        ("resize_to_nothing", 300, Resize(0)),
    ];
    for (name, rows, step) in grows {
        all.push(Scenario::killed(format!("killed_{name}_npy"), move |s| grows_npy(s, Format::NPY, rows, step)));
        all.push(Scenario::killed(format!("killed_{name}_npy_f"), move |s| grows_npy(s, Format::NPY_F, rows, step)));
        all.push(Scenario::killed(format!("killed_{name}_raw"), move |s| grows_raw(s, rows, step)));
    }
    for there in [true, false] {
        let over = if there { "_over" } else { "" };
        all.push(Scenario::killed(format!("killed_create{over}"), move |s| creates(s, there)));
        all.push(Scenario::killed(format!("killed_publish{over}"), move |s| publishes(s, there)));
    }
    all
}

fn open_npy(path: &Path) -> Result<MmapArrayMut<f64, Ix2>> {
    // SAFETY: nobody else knows the file.
    unsafe { MmapArrayMut::<f64, Ix2>::open_npy(path) }
}

fn grows_npy(s: &mut Scene<'_>, format: Format, rows: usize, step: Step) {
    let old = numbers(0..rows);
    let new = step.model(&old);
    let path = s.put("a", &format.bytes(&old));
    s.in_child(|arm| {
        let mut a = open_npy(&path).expect("opens");
        arm();
        drop(step.take(format, &mut a));
    });
    s.ends(&path, End::Whatever);
    let found = match MmapArray::<f64, Ix2>::load_npy(&path) {
        Ok(a) => a.view().to_slice_memory_order().expect("contiguous").to_vec(),
        Err(e) => return s.complain(format!("cannot be opened: {e}")),
    };
    s.claim(found == old || found == new, "holds something else than the old rows or the new ones");
    s.sample(&path, &format.axes(found.len() / ROW), found.iter().sum());
    // The next process can go on.
    let step = Append(1);
    let mut a = open_npy(&path).expect("it was loaded");
    match step.take(format, &mut a) {
        Ok(()) => {}
        // Without the mark it is unknown whose the rows behind the array are.
        Err(e) if e.kind() == ErrorKind::InvalidInput && (s.lacks("fsetxattr") || !takes_marks(&path)) => return,
        Err(e) => return s.complain(format!("does not grow any more: {e}")),
    }
    s.same("grown again", a.view(), &step.model(&found));
    s.claim(a.close().is_ok(), "close");
    s.claim(!is_marked(&path), "the mark is left");
    s.ends(&path, End::Bytes(format.bytes(&step.model(&found))));
}

/// Nothing in a raw file states how many rows it has: checks that the rows that the operation leaves unchanged are there.
fn grows_raw(s: &mut Scene<'_>, rows: usize, step: Step) {
    let format = Format::RAW;
    let old = numbers(0..rows);
    let new = step.model(&old);
    let path = s.put("a", &format.bytes(&old));
    s.in_child(|arm| {
        // SAFETY: nobody else knows the file.
        let a = unsafe { MmapArrayMut::<f64>::options().shape(format.shape(rows)).open(&path) };
        let mut a = a.expect("opens");
        arm();
        drop(step.take(format, &mut a));
    });
    s.ends(&path, End::Whatever);
    let both = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let kept = format.bytes(&old[..both]);
    s.claim(fs::read(&path).is_ok_and(|bytes| bytes.starts_with(&kept)), "rows are gone");
}

fn place(s: &mut Scene<'_>, there: bool) -> PathBuf {
    if there { s.put("a", OLD) } else { s.absent("a") }
}

fn creates(s: &mut Scene<'_>, there: bool) {
    const ROWS: usize = 300;
    let path = place(s, there);
    s.in_child(|arm| {
        arm();
        // SAFETY: nobody else knows the file.
        let created = unsafe { MmapArrayMut::<f64>::create_npy(&path, Format::NPY.shape(ROWS)) };
        drop(created);
    });
    s.ends(&path, End::BeforeOr(Format::NPY.bytes(&vec![0.0; ROWS * ROW])));
}

fn publishes(s: &mut Scene<'_>, there: bool) {
    const ROWS: usize = 300;
    let path = place(s, there);
    let format = Format::NPY;
    let staged = |numbers: &[f64]| {
        let mut staged = Staged::<f64>::stage_npy(&path, format.shape(ROWS)).expect("stages");
        staged.assign(&format.array(numbers));
        staged
    };
    s.in_child(|arm| {
        let staged = staged(&numbers(0..ROWS));
        arm();
        drop(staged.publish());
    });
    let found = fs::read(&path).unwrap_or_default();
    let old = if there { OLD.to_vec() } else { Vec::new() };
    s.claim(found == old || found == format.bytes(&numbers(0..ROWS)), "neither the old file nor the new one");
    // The next process that publishes there removes the file left behind, unless it is a copy, which is made if an
    // unnamed file can get no name.
    let next = numbers(ROWS..2 * ROWS);
    s.claim(staged(&next).publish().is_ok(), "cannot be published over");
    s.ends(&path, End::Bytes(format.bytes(&next)));
    s.tidy = s.world.name != "no-link";
}
