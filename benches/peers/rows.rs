//! The table: its rows, and what takes part in each.

mod axis;
mod create;
mod gather;
mod layout;
mod map;
mod open;
mod reduce;

use std::path::PathBuf;
use std::rc::Rc;

use crate::files::{Before, Input, Target, write_numbered};
use crate::measure::{Measured, measure};
use crate::value::{Element, Value};
use crate::{Mode, Settings};

/// The rows of a mode, in sections.
pub fn rows(settings: &Settings) -> Vec<(&'static str, Vec<Row>)> {
    match settings.mode {
        Mode::Memory => vec![
            ("Reductions", reduce::rows(settings)),
            ("Along an axis", axis::rows(settings)),
            ("From files into a file", map::rows(settings)),
            ("Rows, columns and elements by index", gather::rows(settings)),
            ("Transposing and loading", layout::rows(settings)),
            ("Opening for a few elements", open::rows(settings)),
            ("Creating, filling and appending", create::rows(settings)),
        ],
        Mode::Cold => vec![
            ("Reductions", vec![reduce::sum::<f64>(settings), reduce::var_f8(settings)]),
            ("From files into a file", map::cold_rows(settings)),
            ("Rows by index", gather::cold_rows(settings)),
        ],
        Mode::Beyond => vec![(
            "Larger than memory",
            vec![reduce::sum::<f64>(settings), map::flushed(settings), create::flushed(settings)],
        )],
    }
}

/// An operation, and those that do it.
pub struct Row {
    pub name: String,
    pub inputs: Vec<Input>,
    pub target: Option<Target>,
    /// What the operation reads and writes, if that is what takes the time.
    pub bytes: usize,
    pub contestants: Vec<Contestant>,
    /// Python statements before the clock starts.
    pub before_python: String,
    tolerance: f64,
    /// The numbers of threads that are measured: one, and all.
    threads: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Ours,
    Other,
    /// Reads or copies the same bytes, and computes nothing.
    Limit,
}

pub struct Contestant {
    pub name: &'static str,
    pub side: Side,
    pub threads: usize,
    pub work: Work,
}

pub enum Work {
    /// Measures in this process; with `true` more than one pass.
    Rust(Box<dyn Fn(bool) -> Measured>),
    /// Statements for peers.py.
    Python { open: String, pass: String },
}

impl Row {
    pub fn new(settings: &Settings, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            inputs: Vec::new(),
            target: None,
            bytes: 0,
            contestants: Vec::new(),
            before_python: String::new(),
            tolerance: 1e-9,
            threads: if settings.threads > 1 { vec![1, settings.threads] } else { vec![1] },
        }
    }

    /// Adds a file that is read, of numbered elements.
    pub fn reads<A: Element>(self, settings: &Settings, stem: &str) -> Self {
        let bytes = settings.bytes;
        self.reads_file(Input::new(settings.path::<A>(stem), move |path| write_numbered::<A>(path, bytes))).moves(bytes)
    }

    pub fn reads_file(mut self, input: Input) -> Self {
        self.inputs.push(input);
        self
    }

    /// Sets the file that is written.
    pub fn writes(mut self, path: PathBuf, bytes: usize, before: Before) -> Self {
        self.target = Some(Target { path, before, bytes });
        self.moves(bytes)
    }

    /// Adds to the bytes that are read and written.
    pub fn moves(mut self, bytes: usize) -> Self {
        self.bytes += bytes;
        self
    }

    /// Measures this crate on one thread only: it uses no more for this operation.
    pub fn on_one_thread(mut self) -> Self {
        self.threads.truncate(1);
        self
    }

    /// Sets how far results may differ, relatively (and those below 1 absolutely).
    pub fn tolerance(mut self, relative: f64) -> Self {
        self.tolerance = relative;
        self
    }

    pub fn before_python(mut self, statements: impl Into<String>) -> Self {
        self.before_python = statements.into();
        self
    }

    pub fn agrees(&self, a: f64, b: f64) -> bool {
        (a - b).abs() <= self.tolerance * a.abs().max(b.abs()).max(1.0)
    }

    /// Adds this crate, on one thread and on all. `pass` is told whether it shall use several.
    pub fn ours<S: 'static, R: Value + 'static>(
        self,
        open: impl Fn() -> S + 'static,
        pass: impl Fn(&mut S, bool) -> R + 'static,
    ) -> Self {
        self.scaling("this crate", Side::Ours, open, pass)
    }

    /// Adds another way in Rust, which has one thread.
    pub fn other<S: 'static, R: Value + 'static>(
        self,
        name: &'static str,
        open: impl Fn() -> S + 'static,
        pass: impl Fn(&mut S) -> R + 'static,
    ) -> Self {
        self.contestant(name, Side::Other, 1, move |again| measure(&open, &pass, again))
    }

    /// Adds another way in Rust, which has all threads.
    pub fn other_parallel<S: 'static, R: Value + 'static>(
        self,
        name: &'static str,
        open: impl Fn() -> S + 'static,
        pass: impl Fn(&mut S) -> R + 'static,
    ) -> Self {
        match self.threads[..] {
            [_, threads] => self.contestant(name, Side::Other, threads, move |again| measure(&open, &pass, again)),
            _ => self,
        }
    }

    /// Adds the limit, on one thread and on all.
    pub fn limit_of<S: 'static>(self, open: impl Fn() -> S + 'static, pass: impl Fn(&mut S, usize) + 'static) -> Self {
        let all = self.threads.last().copied().unwrap_or(1);
        self.scaling("limit", Side::Limit, open, move |s, parallel| pass(s, if parallel { all } else { 1 }))
    }

    fn scaling<S: 'static, R: Value + 'static>(
        mut self,
        name: &'static str,
        side: Side,
        open: impl Fn() -> S + 'static,
        pass: impl Fn(&mut S, bool) -> R + 'static,
    ) -> Self {
        let (open, pass) = (Rc::new(open), Rc::new(pass));
        for threads in self.threads.clone() {
            let (open, pass) = (Rc::clone(&open), Rc::clone(&pass));
            let measure = move |again| measure(&*open, &|s: &mut S| pass(s, threads > 1), again);
            self = self.contestant(name, side, threads, measure);
        }
        self
    }

    fn contestant(
        mut self,
        name: &'static str,
        side: Side,
        threads: usize,
        measure: impl Fn(bool) -> Measured + 'static,
    ) -> Self {
        self.contestants.push(Contestant { name, side, threads, work: Work::Rust(Box::new(measure)) });
        self
    }

    /// Adds Python statements: those that open the files, and the body of a function that does the work.
    pub fn python(mut self, name: &'static str, open: &str, pass: &str) -> Self {
        let work = Work::Python { open: open.to_owned(), pass: pass.to_owned() };
        self.contestants.push(Contestant { name, side: Side::Other, threads: 1, work });
        self
    }

    /// The same for numexpr, which has as many threads as it is told.
    pub fn numexpr(mut self, open: &str, pass: &str) -> Self {
        for threads in self.threads.clone() {
            self = self.python("numexpr", open, pass);
            self.contestants.last_mut().expect("just added").threads = threads;
        }
        self
    }
}
