//! Calls of `numpy.lib.format.open_memmap`: the `.npy` constructors that mean the same in Rust, and what they must return.
//!
//! NumPy's answer is the right one, but for what the corpus marks: data that are cut short and filled with zeros, files
//! that are changed by a call that fails, elements that are not aligned, spellings that nobody writes.
//!
//! Rust must name the element: it is the one that NumPy found, and every other is refused. Where NumPy found none,
//! every element is asked for.

use std::collections::BTreeSet;

use ndarray::{IxDyn, ShapeBuilder};
use ndarray_mmap::{
    CopyOnWrite, Error, ErrorKind, MmapArrayBase, MmapArrayOptions, Mode, ReadOnly, ReadWrite,
    mode::{Loadable, OpenExisting, Supports, Writable},
};
use serde_json::Value;

use super::corpus::{Case, list};
use super::element::{Element, NATURAL, UNALIGNED, Visitor, natural, unaligned};
use super::scene::{Entry, Scene, contents, lengths};
use super::seen::{Answer, Report, Seen, is, see, store};

/// Why a case cannot be written in Rust, if it cannot.
pub fn inexpressible(case: &Case) -> Option<&'static str> {
    let negative = |n: &Value| n.as_i64().is_some_and(|n| n < 0);
    if case.call("mode") == "w+" && case.description() == "|O" {
        return Some("there is no element type for pointers to Python objects");
    }
    if list(case.call("shape")).iter().any(negative) {
        return Some("an axis is a `usize`");
    }
    if *case.call("version") == serde_json::json!([4, 0]) {
        return Some("the version is the first that can say it");
    }
    let found = description(case)?;
    natural(&found, Name).is_none().then_some("no Rust type is that element")
}

/// The element that NumPy made, or found, as text.
fn description(case: &Case) -> Option<String> {
    match case.expect("dtype") {
        Value::Null => None,
        Value::String(name) => Some(name.clone()),
        fields => Some(fields.to_string()),
    }
}

struct Name;

impl Visitor for Name {
    type Out = &'static str;

    fn visit<A: Element>(self) -> &'static str {
        std::any::type_name::<A>()
    }
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
    let calls = Calls { case, mode, failures: Vec::new(), made: 0 };
    match description(case) {
        Some(found) if mode == Mode::Create => calls.create(&found),
        None if mode == Mode::Create => calls.create("<f8"),
        Some(found) => calls.open(&found),
        None => calls.refused(),
    }
}

/// Every element type, and whether it is the one with alignment.
fn elements() -> impl Iterator<Item = (&'static str, bool)> {
    NATURAL.iter().map(|&element| (element, true)).chain(UNALIGNED.iter().map(|&element| (element, false)))
}

/// How to ask.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// `open_npy` or `create_npy`.
    Mapped,
    /// The same, `.extend(true)`.
    Extended,
    /// `load_npy`.
    Loaded,
}

struct Calls<'a> {
    case: &'a Case,
    mode: Mode,
    failures: Vec<String>,
    made: usize,
}

impl Calls<'_> {
    fn ways(&self) -> &'static [Way] {
        match self.mode {
            Mode::ReadOnly | Mode::CopyOnWrite => &[Way::Mapped, Way::Loaded],
            Mode::ReadWrite => &[Way::Mapped, Way::Extended],
            Mode::Create => &[Way::Mapped],
        }
    }

    /// One call, and what was wrong with it.
    fn call(
        &mut self,
        scene: &Scene,
        way: Way,
        (element, aligned): (&str, bool),
        judge: impl FnOnce(&mut Report, &Answer, &[Entry]),
    ) {
        let before = scene.files();
        let call = Call { case: self.case, way, mode: self.mode, scene };
        let answer = if aligned { natural(element, &call) } else { unaligned(element, &call) };
        let Some(answer) = answer else { return };
        self.made += 1;
        let after = scene.files();
        let mut report = Report::default();
        judge(&mut report, &answer, &after);
        if answer.is_err() && before != after {
            report.say(format!("refused, but the files changed: {} -> {}", lengths(&before), lengths(&after)));
        }
        if after.len() > 1 {
            report.say(format!("litter: {}", lengths(&after)));
        }
        let alignment = if aligned { "" } else { ", alignment 1" };
        let called = format!("{} ({way:?} as {element}{alignment})", self.case.id());
        self.failures.extend(report.0.into_iter().map(|what| format!("{called}: {what}")));
    }

    fn done(self) -> Result<usize, String> {
        if self.failures.is_empty() { Ok(self.made) } else { Err(self.failures.join("\n")) }
    }

    fn create(mut self, element: &str) -> Result<usize, String> {
        let case = self.case;
        self.call(&Scene::new(case), Way::Mapped, (element, true), |report, answer, after| match answer {
            _ if !case.succeeded() => report.refusal(answer, &case.error_kinds()),
            Err(e) => report.say(format!("refused as {:?}: {e}", e.kind())),
            Ok(seen) => {
                // NumPy says 'r+' of what it created.
                seen.compare(case, "w+", report);
                let (ours, numpys) = (contents(after), case.file_after().expect("a file was created"));
                let in_c_order = case.call("fortran_order") == true && is_one_layout(&seen.shape);
                // NumPy takes a version; here it is the first that can hold the header, so the padding may differ.
                let reported = !case.call("version").is_null();
                let text = |file: &[u8]| if reported { without_version(file) } else { file.escape_ascii().to_string() };
                if text(ours) != text(&numpys) && !(in_c_order && text(ours) == text(&header_in_c_order(&numpys))) {
                    report.say(format!("the file is\n{}\nand not NumPy's\n{}", text(ours), text(&numpys)));
                }
            }
        });
        self.done()
    }

    fn open(mut self, found: &str) -> Result<usize, String> {
        let case = self.case;
        for &way in self.ways() {
            for aligned in [true, false] {
                let misaligned = aligned && case.expect("aligned") == false && way != Way::Loaded;
                self.call(&Scene::new(case), way, (found, aligned), |report, answer, after| match answer {
                    // NumPy fills them with zeros.
                    _ if case.has("silent-extend") => report.refusal(answer, &["file-too-short"]),
                    _ if misaligned => report.refusal(answer, &["unaligned"]),
                    Err(e) if case.has("npy-lenient") && is(e, "bad-descr") => {}
                    Err(e) => report.say(format!("refused as {:?}: {e}", e.kind())),
                    Ok(seen) => {
                        seen.compare(case, case.expect("mode").as_str().unwrap_or_default(), report);
                        report.file(case, contents(after));
                    }
                });
            }
            let scene = Scene::new(case);
            // A row of bytes is plain bytes too.
            let is_other = |other: &str| other != found && (found, other) != ("|u1", "|V3");
            for element in elements().filter(|(other, _)| is_other(other)) {
                self.call(&scene, way, element, |report, answer, _| report.refusal(answer, &["other-element"]));
            }
        }
        self.done()
    }

    /// No element is the right one. Where a header is good, and what it says of the data is not, those that are not its
    /// own are refused for that.
    fn refused(mut self) -> Result<usize, String> {
        let kinds = self.case.error_kinds();
        let of_the_data = kinds.iter().any(|kind| ["file-too-short", "overflow"].contains(kind));
        let mut as_numpy = BTreeSet::new();
        for &way in self.ways() {
            let scene = Scene::new(self.case);
            for element in elements() {
                self.call(&scene, way, element, |report, answer, _| match answer {
                    Err(e) if of_the_data && e.kind() == ErrorKind::DtypeMismatch => {}
                    _ => {
                        report.refusal(answer, &kinds);
                        as_numpy.insert(format!("{way:?}"));
                    }
                });
            }
        }
        if as_numpy.len() != self.ways().len() {
            self.failures.push(format!("{}: no element was refused as {}", self.case.id(), kinds.join(" or ")));
        }
        self.done()
    }
}

/// Whether C and Fortran order put the elements in one place.
fn is_one_layout(shape: &[usize]) -> bool {
    shape.contains(&0) || shape.iter().filter(|&&n| n > 1).count() <= 1
}

/// The dict of a header, and the data.
fn without_version(file: &[u8]) -> String {
    let text = file.escape_ascii().to_string();
    let dict = text.find('{').map_or("", |at| &text[at..]);
    dict.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A header of NumPy's, with the other word for the same layout: a longer one, which takes the place of a blank.
fn header_in_c_order(file: &[u8]) -> Vec<u8> {
    let (yes, no) = (b"'fortran_order': True, ", b"'fortran_order': False, ");
    let at = file.windows(yes.len()).position(|window| window == yes).expect("it was asked for");
    let end = at + file[at..].iter().position(|&byte| byte == b'\n').expect("a header ends with its line");
    [&file[..at], no, &file[at + yes.len()..end - 1], &file[end..]].concat()
}

impl Report {
    fn refusal(&mut self, answer: &Answer, kinds: &[&str]) {
        match answer {
            Ok(_) => self.say(format!("not refused as {}", kinds.join(" or "))),
            Err(e) if kinds.iter().any(|kind| is(e, kind)) => {}
            Err(e) => self.say(format!("refused as {:?} ({e}), not as {}", e.kind(), kinds.join(" or "))),
        }
    }
}

/// One call, in one way.
struct Call<'a> {
    case: &'a Case,
    way: Way,
    mode: Mode,
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
            (Mode::ReadWrite, way) => {
                let array = self.map(self.options::<A, ReadWrite>().extend(way == Way::Extended))?;
                array.flush()?;
                self.write(array)
            }
            (Mode::Create, _) => self.create::<A>().and_then(|array| self.write(array)),
        }
    }
}

impl Call<'_> {
    fn options<A: Element, M: Supports<A> + OpenExisting>(&self) -> MmapArrayOptions<A, IxDyn, M> {
        let options = MmapArrayBase::<A, IxDyn, M>::options();
        match self.case.call("max_header_size").as_u64() {
            Some(bytes) => options.max_header_size(bytes as usize),
            None => options,
        }
    }

    fn map<A: Element, M: Supports<A> + OpenExisting>(
        &self,
        options: MmapArrayOptions<A, IxDyn, M>,
    ) -> Result<MmapArrayBase<A, IxDyn, M>, Error> {
        // SAFETY: only this call knows of the file.
        unsafe { options.open_npy(&self.scene.path) }
    }

    fn load<A: Element, M: Supports<A> + Loadable>(&self) -> Result<MmapArrayBase<A, IxDyn, M>, Error> {
        self.options::<A, M>().load_npy(&self.scene.path)
    }

    fn create<A: Element>(&self) -> Result<MmapArrayBase<A, IxDyn, ReadWrite>, Error> {
        let options = self.options::<A, ReadWrite>();
        let options = match self.case.call("shape").as_array() {
            None => options,
            Some(axes) => {
                let axes: Vec<_> = axes.iter().map(|n| n.as_u64().expect("expressible") as usize).collect();
                options.shape(axes.set_f(self.case.call("fortran_order") == true))
            }
        };
        // SAFETY: only this call knows of the file.
        unsafe { options.create_npy(&self.scene.path) }
    }

    fn write<A: Element, M: Writable + Supports<A>>(
        &self,
        mut array: MmapArrayBase<A, IxDyn, M>,
    ) -> Result<Seen, Error> {
        store(self.case, &mut array);
        let seen = see(self.case, &array);
        array.close()?;
        Ok(seen)
    }
}
