//! Rows added, removed and stored. After an error the array and its file are as they were, or the array is poisoned and the
//! rows that were there can be read.

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::Ix2;
use ndarray_mmap::{
    ErrorKind, MmapArray, MmapArrayBase, MmapArrayMut, Staged,
    mode::{Persistent, Supports},
};

use super::Scenario;
use super::steps::Step::{self, Append, Push, Resize, Write};
use crate::photo::{is_marked, takes_marks};
use crate::scene::{End, Scene};
use crate::table::{Format, ROW, numbers};

/// Where the array comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Open,
    /// From a file whose last append was killed when its rows were stored and the header did not count them yet.
    OpenKilled,
    OpenSparse,
    /// By a handle of the caller's.
    Map,
    Create,
    Scratch,
    Stage,
}

/// What follows after the operation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Close,
    /// The same operation again, which must succeed, and then close.
    Again,
    Drop,
}

/// More rows than fit in a page.
const MANY: usize = 3000;

/// The rows of an append that was killed.
const LEFT: usize = 5;

pub fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    for then in [Then::Close, Then::Again] {
        for (name, format) in [("raw", Format::RAW), ("npy", Format::NPY), ("npy_f", Format::NPY_F)] {
            let mut add = |what: &str, origin, rows, steps: &'static [Step]| {
                let growth = Growth { format, origin, rows, steps, then };
                all.push(Scenario::new(format!("{what}_{name}_{then:?}").to_lowercase(), move |s| growth.run(s)));
            };
            add("append_small", Origin::Open, 3, &[Append(2)]);
            add("push", Origin::Open, 3, &[Push, Push]);
            add("append_large", Origin::Open, 3, &[Append(MANY)]);
            add("append_several", Origin::Open, 3, &[Append(2), Append(200), Append(1), Append(1)]);
            add("resize_up", Origin::Open, 3, &[Resize(MANY)]);
            add("resize_down", Origin::Open, MANY, &[Resize(3)]);
            if format == Format::NPY_F {
                continue;
            }
            if format.npy {
                add("append_after_kill", Origin::OpenKilled, 3, &[Append(2)]);
                add("resize_down_after_kill", Origin::OpenKilled, 3, &[Resize(2)]);
            }
            add("append_to_nothing", Origin::Open, 0, &[Append(2)]);
            add("append_mapped_by_handle", Origin::Map, 3, &[Append(2), Append(MANY)]);
            add("append_sparse", Origin::OpenSparse, 3, &[Append(MANY)]);
            add("append_created", Origin::Create, 3, &[Append(2)]);
            add("append_staged", Origin::Stage, 3, &[Append(200)]);
            add("resize_same", Origin::Open, 3, &[Resize(3)]);
            add("resize_to_nothing", Origin::Open, 300, &[Resize(0)]);
            add("resize_down_a_little", Origin::Open, 3, &[Resize(2)]);
            add("resize_both_ways", Origin::Open, 300, &[Append(100), Resize(200), Append(3)]);
            add("write_rows", Origin::Open, 300, &[Write(100, 2)]);
            add("write_many_rows", Origin::Open, MANY, &[Write(100, MANY - 100)]);
        }
        let growth =
            Growth { format: Format::RAW, origin: Origin::Scratch, rows: 3, steps: &[Append(2), Append(MANY)], then };
        all.push(Scenario::new(format!("append_scratch_{then:?}").to_lowercase(), move |s| growth.run(s)));
    }
    for (name, format) in [("raw", Format::RAW), ("npy", Format::NPY)] {
        for (what, steps) in [("append", &[Append(200)]), ("resize_down", &[Resize(2)])] {
            let growth = Growth { format, origin: Origin::Open, rows: 300, steps, then: Then::Drop };
            all.push(Scenario::new(format!("{what}_{name}_drop"), move |s| growth.run(s)));
        }
    }
    all
}

#[derive(Clone, Copy)]
struct Growth {
    format: Format,
    origin: Origin,
    rows: usize,
    steps: &'static [Step],
    then: Then,
}

impl Growth {
    fn run(&self, s: &mut Scene<'_>) {
        let start = numbers(0..self.rows);
        let (format, shape) = (self.format, self.format.shape(self.rows));
        match self.origin {
            Origin::Open | Origin::OpenSparse | Origin::OpenKilled | Origin::Map => {
                let path = s.put("a", &format.bytes(&start));
                let open = || {
                    let options = MmapArrayMut::<f64>::options().preallocate(self.origin != Origin::OpenSparse);
                    let handle = || fs::File::options().read(true).write(true).open(&path).expect("opens");
                    // SAFETY: nobody else knows the file.
                    unsafe {
                        if self.origin == Origin::Map {
                            let options = options.shape(shape);
                            if format.npy { options.map_npy(&handle()) } else { options.map(&handle()) }
                        } else if format.npy {
                            options.open_npy(&path).and_then(MmapArrayBase::into_dimensionality::<Ix2>)
                        } else {
                            options.shape(shape).open(&path)
                        }
                    }
                    .expect("opens")
                };
                if self.origin == Origin::OpenKilled {
                    // The first write stores the rows, the second the header.
                    s.killed("pwrite", 2, || drop(Append(LEFT).take(format, &mut open())));
                    s.watch(&path);
                }
                self.grow(s, open(), Some(path));
            }
            Origin::Create => {
                let path = s.absent("a");
                // SAFETY: nobody else knows the file.
                let mut a = unsafe {
                    if format.npy {
                        MmapArrayMut::<f64>::create_npy(&path, shape)
                    } else {
                        MmapArrayMut::<f64>::create(&path, shape)
                    }
                }
                .expect("creates");
                a.assign(&format.array(&start));
                s.watch(&path);
                self.grow(s, a, Some(path));
            }
            Origin::Stage => {
                let path = s.absent("a");
                let staged = if format.npy {
                    Staged::<f64>::stage_npy(&path, shape)
                } else {
                    Staged::<f64>::stage(&path, shape)
                };
                let mut a = staged.expect("stages");
                a.assign(&format.array(&start));
                self.grow(s, a, None);
            }
            Origin::Scratch => {
                let mut a = MmapArrayMut::<f64>::scratch(shape).expect("there is room");
                a.assign(&format.array(&start));
                self.grow(s, a, None);
            }
        }
    }

    fn grow<M: Persistent + Supports<f64>>(
        &self,
        s: &mut Scene<'_>,
        mut a: MmapArrayBase<f64, Ix2, M>,
        path: Option<PathBuf>,
    ) {
        let mut models = vec![numbers(0..self.rows)];
        self.steps.iter().for_each(|step| models.push(step.model(&models[models.len() - 1])));
        let mut done = 0;
        let outcome = s.armed(|| {
            self.steps.iter().try_for_each(|step| {
                step.take(self.format, &mut a)?;
                done += 1;
                Ok(())
            })
        });
        let Some(outcome) = outcome else {
            path.iter().for_each(|path| s.ends(path, End::Whatever));
            return;
        };
        // Without the mark it is unknown whether the bytes behind the array were left by a kill.
        let markless = |path: &PathBuf| s.met(&["fgetxattr"]) || s.lacks("fgetxattr") || !takes_marks(path);
        let unknown = self.origin == Origin::OpenKilled && path.as_ref().is_some_and(markless);
        let kinds: &[ErrorKind] = if unknown { &[ErrorKind::Io, ErrorKind::InvalidInput] } else { &[ErrorKind::Io] };
        s.may_be_refused |= unknown;
        if s.judge(outcome, kinds).is_some() {
            s.same("after success", a.view(), &models[done]);
            return self.finish(s, a, path, &models[done]);
        }
        let (old, new, step) = (&models[done], &models[done + 1], self.steps[done]);
        if a.guarded(|_| ()).is_err() {
            return self.poisoned(s, a, path, old, new, step);
        }
        let stored_some = |now: &[f64]| {
            // A part of the rows may have been stored.
            matches!(step, Write(..))
                && now.len() == old.len()
                && now.iter().zip(old.iter().zip(new)).all(|(now, (old, new))| now == old || now == new)
        };
        let now = a.view().to_slice_memory_order().expect("contiguous").to_vec();
        if !stored_some(&now) {
            s.same("after an error", a.view(), old);
        }
        if let Some(path) = &path
            && !matches!(step, Write(..))
        {
            let bytes = fs::read(path).unwrap_or_default();
            let expected = self.format.bytes(old);
            s.claim(
                bytes == expected || bytes == self.left_by_kill(old),
                &format!("after an error: {} bytes in the file for {}", bytes.len(), expected.len()),
            );
        }
        if self.then != Then::Again {
            return self.finish(s, a, path, &now);
        }
        match step.take(self.format, &mut a) {
            Ok(()) => {
                s.same("once more", a.view(), new);
                self.finish(s, a, path, new);
            }
            Err(e) => {
                s.complain(format!("once more: {e}"));
                path.iter().for_each(|path| s.ends(path, End::Whatever));
            }
        }
    }

    /// The file as the killed append had left it, with rows that the header does not count.
    fn left_by_kill(&self, numbers: &[f64]) -> Vec<u8> {
        let mut bytes = self.format.bytes(numbers);
        if self.origin == Origin::OpenKilled {
            bytes.extend(Append(LEFT).model(&[]).iter().flat_map(|x| x.to_le_bytes()));
        }
        bytes
    }

    /// Checks an array that is not poisoned: it and its file hold `numbers`.
    fn finish<M: Persistent>(
        &self,
        s: &mut Scene<'_>,
        a: MmapArrayBase<f64, Ix2, M>,
        path: Option<PathBuf>,
        numbers: &[f64],
    ) {
        if self.then == Then::Drop {
            drop(a);
        } else if let Err(e) = a.close() {
            s.complain(format!("close: {e}"));
        }
        let Some(path) = path else { return };
        if self.origin == Origin::OpenKilled && fs::read(&path).is_ok_and(|bytes| bytes == self.left_by_kill(numbers)) {
            s.claim(is_marked(&path), "rows of a killed append are left, and the mark is gone");
            s.ends(&path, End::Whatever);
            return self.reads_as(s, &path, &[numbers]);
        }
        // The mark of a killed append may stay if it could not be established that the rows are gone: it states how far they
        // went.
        s.claim(!is_marked(&path) || self.origin == Origin::OpenKilled && s.refused, "the mark is left");
        // A dropped array keeps the space that was set aside for further rows.
        s.ends(
            &path,
            if self.then == Then::Drop {
                End::AnyOf(vec![self.format.bytes(numbers)])
            } else {
                End::Bytes(self.format.bytes(numbers))
            },
        );
        self.reads_as(s, &path, &[numbers]);
    }

    /// Checks a poisoned array: it reports that, and what was there before can be read.
    fn poisoned<M: Persistent + Supports<f64>>(
        &self,
        s: &mut Scene<'_>,
        mut a: MmapArrayBase<f64, Ix2, M>,
        path: Option<PathBuf>,
        old: &[f64],
        new: &[f64],
        step: Step,
    ) {
        s.claim(a.flush().is_err(), "poisoned, but flush says Ok");
        s.claim(step.take(self.format, &mut a).is_err(), "poisoned, but growing says Ok");
        let rest = old.iter().zip(new).take_while(|(old, new)| old == new).count();
        let Some(path) = path else { return };
        let there = fs::metadata(&path).map_or(0, |is| is.len() as usize);
        // Bytes beyond the end of the file cannot be read.
        let shown = a.len().min(rest).min(there.saturating_sub(a.offset() as usize) / size_of::<f64>());
        let view = a.view();
        let kept = view.to_slice_memory_order().is_some_and(|now| now[..shown] == old[..shown]);
        s.claim(kept, "poisoned: what stays by the operation has changed");
        s.claim(a.close().is_err(), "poisoned, but close says Ok");
        s.ends(&path, End::Whatever);
        // The header may have been written in part, and could not be restored.
        if self.format.npy && s.lacks("cut") && s.met(&["pwrite"]) {
            return;
        }
        if self.format.npy {
            self.reads_as(s, &path, &[old, new]);
            return;
        }
        let bytes = fs::read(&path).unwrap_or_default();
        let kept = self.format.bytes(&old[..rest]);
        s.claim(bytes.starts_with(&kept), "poisoned: rows that stay by the operation are gone from the file");
    }

    /// Checks that opening the file gives one of these.
    fn reads_as(&self, s: &mut Scene<'_>, path: &Path, expected: &[&[f64]]) {
        let rows = |numbers: &[f64]| numbers.len() / ROW;
        let read = if self.format.npy {
            MmapArray::<f64, Ix2>::load_npy(path)
        } else {
            MmapArray::<f64>::options().shape(self.format.shape(rows(expected[0]))).load(path)
        };
        match read {
            Ok(a) => {
                let found = a.view().to_slice_memory_order().expect("contiguous").to_vec();
                s.claim(expected.contains(&&found[..]), "opened anew it holds something else");
                if self.format.npy {
                    s.sample(path, &self.format.axes(rows(&found)), found.iter().sum());
                }
            }
            Err(e) => s.complain(format!("cannot be opened anew: {e}")),
        }
    }
}
