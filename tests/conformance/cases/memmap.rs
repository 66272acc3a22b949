//! Calls of `numpy.memmap`: the constructors that mean the same in Rust, and what they must return.
//!
//! NumPy's answer is the right one, but for what the corpus marks: growth that nobody asked for, files that are changed
//! by a call that fails, elements that are not aligned, the one byte of an empty array.

use ndarray::{IxDyn, ShapeBuilder};
use ndarray_mmap::{
    CopyOnWrite, Error, ErrorKind, MmapArrayBase, MmapArrayOptions, Mode, ReadOnly, ReadWrite,
    mode::{Loadable, OpenExisting, Supports, Writable},
};
use serde_json::Value;

use super::corpus::{Case, Shape};
use super::element::{Element, Visitor, natural, unaligned};
use super::scene::{Entry, Scene, contents, lengths};
use super::seen::{Alignment, Answer, Report, Seen, is, see, store};

/// Why a case cannot be written in Rust, if it cannot.
pub fn inexpressible(case: &Case) -> Option<&'static str> {
    if case.description() == "|O" {
        return Some("there is no element type for pointers to Python objects");
    }
    if !matches!(case.call("order").as_str(), Some("C" | "F" | "f") | None) {
        return Some("an order is C or Fortran");
    }
    if case.offset().is_none() {
        return Some("an offset is a `u64`");
    }
    case.shape().is_none().then_some("an axis is a `usize`")
}

/// Makes the call in every way that Rust has for it: the number of calls, or what was wrong with them.
pub fn check(case: &Case) -> Result<usize, String> {
    let mode = match case.call("mode") {
        Value::Null => Mode::ReadWrite,
        text => match text.as_str().unwrap_or_default().parse() {
            Ok(mode) => mode,
            Err(e) if case.error_kinds() == ["bad-mode"] => {
                assert_eq!(Error::kind(&e), ErrorKind::InvalidInput);
                return Ok(1);
            }
            Err(e) => return Err(format!("{}: {e}", case.id())),
        },
    };
    let (offset, shape) = (case.offset().expect("expressible"), case.shape().expect("expressible"));
    let description = case.description();
    let mut failures = Vec::new();
    let mut calls = 0;
    for (way, expected) in ways(case, mode, &shape) {
        for aligned in [true, false] {
            let scene = Scene::new(case);
            let call = Call { case, way, mode, offset, shape: &shape, scene: &scene };
            let alignment = natural(&description, Alignment);
            let Some(alignment) = alignment else { return Err(format!("no element type stands for {description}")) };
            let before = scene.files();
            scene.restrict(case);
            let answer = match aligned {
                true => natural(&description, &call),
                false => unaligned(&description, &call),
            };
            let Some(answer) = answer else { continue };
            calls += 1;
            let expected = match way {
                Way::Mapped | Way::Extended if aligned && offset % alignment as u64 != 0 => expected.misaligned(),
                _ => expected.clone(),
            };
            let after = scene.files();
            let mut wrong = expected.differences(&call, &answer, &before, &after);
            if scene.position() != scene.position_before {
                wrong.push("the file handle was moved".to_owned());
            }
            let element = if aligned { "" } else { ", alignment 1" };
            failures.extend(wrong.into_iter().map(|what| format!("{} ({way:?}{element}): {what}", case.id())));
        }
    }
    if failures.is_empty() { Ok(calls) } else { Err(failures.join("\n")) }
}

/// How to ask.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// `open`, `map` or `create`.
    Mapped,
    /// The same, `.extend(true)`.
    Extended,
    /// `load`.
    Loaded,
}

/// What the answer must be.
#[derive(Clone, Debug)]
enum Expected {
    /// All that NumPy's was.
    Numpy,
    /// An array without elements, in a file of that length.
    Empty { file_len: u64 },
    /// An array in a file that grew by zeros to that length.
    Grown { file_len: u64 },
    /// An error of one of these categories, every file as it was.
    Refused(Vec<String>),
}

const TOO_SHORT: &str = "file-too-short";

fn ways(case: &Case, mode: Mode, shape: &Shape) -> Vec<(Way, Expected)> {
    let refused = |kinds: &[&str]| Expected::Refused(kinds.iter().map(|&kind| kind.to_owned()).collect());
    let kinds = case.error_kinds();
    let numpy = if case.succeeded() { Expected::Numpy } else { refused(&kinds) };
    let by_handle = case.call("file_open").as_str();
    let by_path = by_handle.is_none();
    let offset = case.offset().expect("expressible");
    let file_len = case.initial_file().map_or(0, |file| file.len() as u64);
    let without_elements = match shape {
        Shape::Inferred => offset == file_len,
        Shape::Given { axes, .. } => axes.contains(&0),
    };

    // What mmap(2) cannot do, an array without elements does not need, as long as it lies in the file.
    if case.has("empty-ro") || case.has("zero-size-1byte") {
        let empty = match mode {
            Mode::Create => Expected::Empty { file_len: offset },
            _ if offset > file_len => refused(&[TOO_SHORT]),
            _ => Expected::Empty { file_len },
        };
        let loaded = (mode == Mode::ReadOnly || mode == Mode::CopyOnWrite).then(|| (Way::Loaded, empty.clone()));
        return [(Way::Mapped, empty)].into_iter().chain(loaded).collect();
    }
    match mode {
        // NumPy appends its growth byte to a file opened for appending; here such a file grows as any other.
        Mode::ReadWrite if by_handle == Some("a+b") => {
            let file_len = 40;
            vec![(Way::Mapped, refused(&[TOO_SHORT])), (Way::Extended, Expected::Grown { file_len })]
        }
        Mode::ReadWrite if case.has("silent-extend") => {
            let extended = if without_elements { refused(&[TOO_SHORT]) } else { numpy };
            vec![(Way::Mapped, refused(&[TOO_SHORT])), (Way::Extended, extended)]
        }
        Mode::ReadWrite if matches!(shape, Shape::Given { .. }) => {
            let mapped = if case.succeeded() { numpy.clone() } else { refused(&[&kinds[..], &[TOO_SHORT]].concat()) };
            vec![(Way::Mapped, mapped), (Way::Extended, numpy)]
        }
        Mode::ReadWrite => vec![(Way::Mapped, numpy)],
        Mode::Create if by_path => vec![(Way::Mapped, numpy)],
        Mode::Create => vec![(Way::Extended, numpy)],
        // Two things are wrong with a file that was just cut and cannot be read: NumPy names the first.
        _ if by_handle == Some("wb") => vec![(Way::Mapped, refused(&[&kinds[..], &["permission"]].concat()))],
        _ if by_path => vec![(Way::Mapped, numpy.clone()), (Way::Loaded, numpy)],
        _ => vec![(Way::Mapped, numpy)],
    }
}

/// One call, in one way.
struct Call<'a> {
    case: &'a Case,
    way: Way,
    mode: Mode,
    offset: u64,
    shape: &'a Shape,
    scene: &'a Scene,
}

impl Visitor for &Call<'_> {
    type Out = Answer;

    fn visit<A: Element>(self) -> Answer {
        match (self.mode, self.way) {
            (Mode::ReadOnly, Way::Loaded) => self.load::<A, ReadOnly>().map(|array| see(self.case, &array)),
            (Mode::ReadOnly, _) => self.map(self.options::<A, ReadOnly>()).map(|array| see(self.case, &array)),
            (Mode::CopyOnWrite, Way::Loaded) => self.load::<A, CopyOnWrite>().and_then(|array| self.write(array)),
            (Mode::CopyOnWrite, _) => self.map(self.options::<A, CopyOnWrite>()).and_then(|array| self.write(array)),
            (Mode::ReadWrite, _) | (Mode::Create, Way::Extended) => {
                let options = self.options::<A, ReadWrite>().extend(self.way == Way::Extended);
                self.map(options).and_then(|array| self.write_and_flush(array))
            }
            (Mode::Create, _) => self.create::<A>().and_then(|array| self.write_and_flush(array)),
        }
    }
}

impl Call<'_> {
    fn options<A: Element, M: Supports<A> + OpenExisting>(&self) -> MmapArrayOptions<A, IxDyn, M> {
        let options = MmapArrayBase::<A, IxDyn, M>::options().offset(self.offset);
        match self.shape.clone() {
            Shape::Inferred => options,
            Shape::Given { axes, fortran } => options.shape(axes.set_f(fortran)),
        }
    }

    fn map<A: Element, M: Supports<A> + OpenExisting>(
        &self,
        options: MmapArrayOptions<A, IxDyn, M>,
    ) -> Result<MmapArrayBase<A, IxDyn, M>, Error> {
        match &self.scene.handle {
            // SAFETY: only this call knows of the file.
            Some(file) => unsafe { options.map(file) },
            // SAFETY: as above.
            None => unsafe { options.open(&self.scene.path) },
        }
    }

    fn load<A: Element, M: Supports<A> + Loadable>(&self) -> Result<MmapArrayBase<A, IxDyn, M>, Error> {
        self.options::<A, M>().load(&self.scene.path)
    }

    fn create<A: Element>(&self) -> Result<MmapArrayBase<A, IxDyn, ReadWrite>, Error> {
        // SAFETY: only this call knows of the file.
        unsafe { self.options::<A, ReadWrite>().create(&self.scene.path) }
    }

    fn write<A: Element, M: Writable + OpenExisting + Supports<A>>(
        &self,
        mut array: MmapArrayBase<A, IxDyn, M>,
    ) -> Result<Seen, Error> {
        store(self.case, &mut array);
        let seen = see(self.case, &array);
        array.close()?;
        Ok(seen)
    }

    fn write_and_flush<A: Element>(&self, mut array: MmapArrayBase<A, IxDyn, ReadWrite>) -> Result<Seen, Error> {
        store(self.case, &mut array);
        array.flush()?;
        let seen = see(self.case, &array);
        array.close()?;
        Ok(seen)
    }
}

impl Expected {
    /// For the element's own type, where the offset does not suit it. Of two things that are wrong either may be said.
    fn misaligned(&self) -> Self {
        let mut kinds = match self {
            Self::Refused(kinds) => kinds.clone(),
            // Nothing to be misaligned.
            Self::Empty { .. } => return self.clone(),
            Self::Numpy | Self::Grown { .. } => Vec::new(),
        };
        kinds.push("unaligned".to_owned());
        Self::Refused(kinds)
    }

    fn differences(&self, call: &Call<'_>, answer: &Answer, before: &[Entry], after: &[Entry]) -> Vec<String> {
        let mut report = Report::default();
        match (self, answer) {
            (Self::Refused(kinds), Err(e)) => {
                if !kinds.iter().any(|kind| is(e, kind)) {
                    report.say(format!("refused as {:?} ({e}), not as {}", e.kind(), kinds.join(" or ")));
                }
                if before != after {
                    report.say(format!("refused, but the files changed: {} -> {}", lengths(before), lengths(after)));
                }
            }
            (Self::Refused(kinds), Ok(_)) => report.say(format!("not refused as {}", kinds.join(" or "))),
            (_, Err(e)) => report.say(format!("refused as {:?}: {e}", e.kind())),
            (Self::Numpy, Ok(seen)) => {
                let case = call.case;
                // A file that is handed over was not created.
                let given = call.scene.handle.is_some() && call.mode == Mode::Create;
                let mode = if given { "r+" } else { case.expect("mode").as_str().unwrap_or_default() };
                seen.compare(case, mode, &mut report);
                report.file(case, contents(after));
            }
            (Self::Empty { file_len }, Ok(seen)) => {
                let shape = match call.shape {
                    Shape::Inferred => vec![0],
                    Shape::Given { axes, .. } => axes.clone(),
                };
                report.same("shape", &seen.shape, &shape);
                report.same("offset", &seen.offset, &call.offset);
                report.same("mode", &seen.mode, &call.mode);
                report.same("file length", &(contents(after).len() as u64), file_len);
            }
            (Self::Grown { file_len }, Ok(seen)) => {
                let mut grown = contents(before).to_vec();
                grown.resize(*file_len as usize, 0);
                report.same("array", &seen.bytes, &grown);
                report.same("file contents", &contents(after), &grown.as_slice());
            }
        }
        if after.len() > 1 {
            report.say(format!("litter: {}", lengths(after)));
        }
        report.0
    }
}
