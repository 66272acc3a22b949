//! Calls of `numpy.memmap`: the doors that say the same in Rust, and what has to come of it.
//!
//! NumPy's answer is the right one, but for what the corpus marks: growth that nobody asked for, files that are changed
//! by a call that fails, elements that are not aligned, the one byte of an empty array.

use std::error::Error as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use ndarray::{ArrayView, IxDyn, ShapeBuilder};
use ndarray_mmap::{
    Admits, CopyOnWrite, Error, ErrorKind, MmapArrayBase, MmapArrayOptions, Mode, Opens, Private, ReadOnly, ReadWrite,
    Writable,
};
use serde_json::Value;
use tempfile::TempDir;

use super::corpus::{Case, Shape, list, sha256};
use super::element::{Element, Number, Visitor, hex, natural, unaligned};

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

/// What the answer has to be.
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

/// The folder of one call, and the file in it.
struct Scene {
    folder: TempDir,
    path: PathBuf,
    /// For calls that hand an open file over.
    handle: Option<File>,
    position_before: u64,
}

impl Scene {
    fn new(case: &Case) -> Self {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let path = folder.path().join(case.call("path").as_str().unwrap_or("data.bin"));
        if let Some(bytes) = case.initial_file() {
            fs::write(&path, bytes).expect("the file can be written");
        }
        let handle = case.call("file_open").as_str().map(|mode| {
            let mut options = OpenOptions::new();
            match mode {
                "rb" => options.read(true),
                "r+b" => options.read(true).write(true),
                "w+b" => options.read(true).write(true).truncate(true),
                "wb" => options.write(true).truncate(true),
                "a+b" => options.read(true).append(true),
                other => panic!("no way to open a file {other:?}"),
            };
            options.open(&path).expect("the file can be opened")
        });
        let mut scene = Self { folder, path, handle, position_before: 0 };
        if let (Some(mut handle), Some(position)) = (scene.handle.as_ref(), case.call("file_seek").as_u64()) {
            handle.seek(SeekFrom::Start(position)).expect("a regular file");
        }
        scene.position_before = scene.position();
        scene
    }

    fn position(&self) -> u64 {
        self.handle.as_ref().map_or(0, |mut handle| handle.stream_position().expect("a regular file"))
    }

    /// Sets the permissions that the case is about.
    fn restrict(&self, case: &Case) {
        if let Some(permissions) = case.permissions() {
            fs::set_permissions(&self.path, fs::Permissions::from_mode(permissions)).expect("the file is ours");
        }
    }

    /// Everything in the folder.
    fn files(&self) -> Vec<Entry> {
        let entry = |path: PathBuf| {
            let inode = fs::metadata(&path).expect("it was listed").ino();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("the file is ours");
            let bytes = fs::read(&path).expect("a readable file");
            Entry { path, inode, bytes }
        };
        let entries = fs::read_dir(&self.folder).expect("the folder is there");
        entries.map(|e| entry(e.expect("the folder can be listed").path())).collect()
    }
}

#[derive(PartialEq)]
struct Entry {
    path: PathBuf,
    inode: u64,
    bytes: Vec<u8>,
}

struct Alignment;

impl Visitor for Alignment {
    type Out = usize;

    fn visit<A: Element>(self) -> usize {
        align_of::<A>()
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

type Answer = Result<Seen, Error>;

/// What an array showed.
struct Seen {
    shape: Vec<usize>,
    /// In bytes.
    strides: Vec<isize>,
    offset: u64,
    mode: Mode,
    item_size: usize,
    c_contiguous: bool,
    f_contiguous: bool,
    aligned: bool,
    /// Of all elements, in logical order.
    bytes: Vec<u8>,
    sum: Option<Number>,
    /// Samples that are not NumPy's.
    odd_samples: Vec<String>,
}

impl Visitor for &Call<'_> {
    type Out = Answer;

    fn visit<A: Element>(self) -> Answer {
        match (self.mode, self.way) {
            (Mode::ReadOnly, Way::Loaded) => self.load::<A, ReadOnly>().map(|array| self.see(&array)),
            (Mode::ReadOnly, _) => self.map(self.options::<A, ReadOnly>()).map(|array| self.see(&array)),
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
    fn options<A: Element, M: Admits<A> + Opens>(&self) -> MmapArrayOptions<A, IxDyn, M> {
        let options = MmapArrayBase::<A, IxDyn, M>::options().offset(self.offset);
        match self.shape.clone() {
            Shape::Inferred => options,
            Shape::Given { axes, fortran } => options.shape(axes.set_f(fortran)),
        }
    }

    fn map<A: Element, M: Admits<A> + Opens>(
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

    fn load<A: Element, M: Admits<A> + Private>(&self) -> Result<MmapArrayBase<A, IxDyn, M>, Error> {
        self.options::<A, M>().load(&self.scene.path)
    }

    fn create<A: Element>(&self) -> Result<MmapArrayBase<A, IxDyn, ReadWrite>, Error> {
        // SAFETY: only this call knows of the file.
        unsafe { self.options::<A, ReadWrite>().create(&self.scene.path) }
    }

    fn write<A: Element, M: Writable + Opens + Admits<A>>(
        &self,
        mut array: MmapArrayBase<A, IxDyn, M>,
    ) -> Result<Seen, Error> {
        self.store(&mut array);
        let seen = self.see(&array);
        array.close()?;
        Ok(seen)
    }

    fn write_and_flush<A: Element>(&self, mut array: MmapArrayBase<A, IxDyn, ReadWrite>) -> Result<Seen, Error> {
        self.store(&mut array);
        array.flush()?;
        let seen = self.see(&array);
        array.close()?;
        Ok(seen)
    }

    fn store<A: Element, M: Writable>(&self, array: &mut MmapArrayBase<A, IxDyn, M>) {
        for write in self.case.writes() {
            match write["fill"].as_str() {
                Some("arange") => {
                    let start = write["start"].as_u64().expect("a start is a number");
                    array.iter_mut().zip(start..).for_each(|(element, k)| element.store(A::rule(k)));
                }
                Some("value") => array.fill(A::decode(&write["value"])),
                None => array[IxDyn(&index(&write["index"]))].store(A::decode(&write["value"])),
                Some(other) => panic!("{}: no such fill: {other}", self.case.id()),
            }
        }
    }

    fn see<A: Element, M>(&self, array: &MmapArrayBase<A, IxDyn, M>) -> Seen {
        let item_size = size_of::<A>();
        Seen {
            shape: array.shape().to_vec(),
            strides: array.strides().iter().map(|&s| s * item_size as isize).collect(),
            offset: array.offset(),
            mode: array.mode(),
            item_size,
            c_contiguous: array.is_standard_layout(),
            f_contiguous: array.t().is_standard_layout(),
            aligned: array.as_ptr().is_aligned(),
            bytes: array.iter().flat_map(|element| bytemuck::bytes_of(element).to_vec()).collect(),
            sum: Number::sum(array),
            odd_samples: self.odd_samples(array.view()),
        }
    }

    fn odd_samples<A: Element>(&self, array: ArrayView<'_, A, IxDyn>) -> Vec<String> {
        // Where NumPy failed there is nothing to compare with.
        let (values, bytes) = (list(self.case.expect("values_sample")), list(self.case.expect("raw_sample")));
        let fits = |sample: &&Value| array.get(IxDyn(&index(&sample[0]))).is_some();
        let missing = values.iter().chain(bytes).filter(|s| !fits(s)).map(|s| format!("no element at {}", s[0]));
        let value = values.iter().filter(fits).filter_map(|sample| {
            let (seen, numpy) = (array[IxDyn(&index(&sample[0]))], A::decode(&sample[1]));
            let odd = seen.encode() != numpy.encode();
            odd.then(|| format!("element {} is {}, NumPy's {}", sample[0], seen.encode(), sample[1]))
        });
        let byte = bytes.iter().filter(fits).filter_map(|sample| {
            let seen = hex(bytemuck::bytes_of(&array[IxDyn(&index(&sample[0]))]));
            (sample[1] != seen).then(|| format!("bytes of element {} are {seen}, NumPy's {}", sample[0], sample[1]))
        });
        missing.chain(value).chain(byte).collect()
    }
}

fn index(value: &Value) -> Vec<usize> {
    let axis = |n: &Value| n.as_u64().and_then(|n| usize::try_from(n).ok()).expect("an index is a number");
    list(value).iter().map(axis).collect()
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
                seen.compare(call, &mut report);
                let file = contents(after);
                report.equal("file length", &file.len(), case.expect("file_len_after"));
                report.equal("file contents (sha256)", &sha256(file), case.expect("file_sha256_after"));
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

/// The one file of a scene; nothing where there is none.
fn contents(files: &[Entry]) -> &[u8] {
    files.first().map_or(&[], |file| &file.bytes)
}

fn lengths(files: &[Entry]) -> String {
    let length = |file: &Entry| format!("{} ({} bytes, inode {})", file.path.display(), file.bytes.len(), file.inode);
    files.iter().map(length).collect::<Vec<_>>().join(", ")
}

impl Seen {
    fn compare(&self, call: &Call<'_>, report: &mut Report) {
        let case = call.case;
        // A file that is handed over was not created.
        let given = call.scene.handle.is_some() && call.mode == Mode::Create;
        let mode = if given { Value::from("r+") } else { case.expect("mode").clone() };
        report.equal("mode", &self.mode.to_string(), &mode);
        report.equal("shape", &self.shape, case.expect("shape"));
        report.equal("offset", &self.offset, case.expect("offset"));
        report.equal("size of an element", &self.item_size, case.expect("itemsize"));
        report.equal("C-contiguous", &self.c_contiguous, case.expect("c_contiguous"));
        report.equal("Fortran-contiguous", &self.f_contiguous, case.expect("f_contiguous"));
        report.same("aligned", &self.aligned, &true);
        // A stride that no index is multiplied with means nothing.
        let strides = list(case.expect("strides"));
        if !self.shape.contains(&0) {
            let used = self.shape.iter().zip(&self.strides).zip(strides).filter(|((n, _), _)| **n != 1);
            used.for_each(|((_, seen), numpy)| report.equal("stride", seen, numpy));
        }
        report.0.extend_from_slice(&self.odd_samples);
        report.equal("elements (sha256)", &sha256(&self.bytes), case.expect("elems_sha256"));
        if let Some(sum) = case.expect("sum").as_str() {
            report.same("sum", &self.sum, &Some(Number::parse(sum)));
        }
    }
}

#[derive(Default)]
struct Report(Vec<String>);

impl Report {
    fn say(&mut self, what: String) {
        self.0.push(what);
    }

    fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, seen: &T, expected: &T) {
        if seen != expected {
            self.say(format!("{what} is {seen:?}, expected {expected:?}"));
        }
    }

    fn equal<T: Clone + Into<Value>>(&mut self, what: &str, seen: &T, numpy: &Value) {
        let seen: Value = seen.clone().into();
        if seen != *numpy {
            self.say(format!("{what} is {seen}, NumPy's {numpy}"));
        }
    }
}

/// Whether an error is of a category of the corpus.
fn is(error: &Error, category: &str) -> bool {
    let source = error.source().and_then(|e| e.downcast_ref::<io::Error>());
    let io_kind = source.map(io::Error::kind);
    match category {
        "not-found" => error.kind() == ErrorKind::Io && io_kind == Some(io::ErrorKind::NotFound),
        "permission" => error.kind() == ErrorKind::Io && io_kind == Some(io::ErrorKind::PermissionDenied),
        "is-a-directory" => match error.kind() {
            ErrorKind::Io => io_kind == Some(io::ErrorKind::IsADirectory),
            kind => kind == ErrorKind::NotRegularFile,
        },
        "io-error" | "file-too-large" => error.kind() == ErrorKind::Io,
        "offset-beyond-eof" | "file-too-short" | "empty-file" => error.kind() == ErrorKind::TooShort,
        "size-not-multiple" => error.kind() == ErrorKind::LengthNotMultiple,
        "overflow" => error.kind() == ErrorKind::Overflow,
        "shape-required" => error.kind() == ErrorKind::ShapeRequired,
        "unaligned" => error.kind() == ErrorKind::Misaligned,
        other => panic!("no such category of error: {other}"),
    }
}
