//! What an array shows, beside what NumPy's showed; and what an error says.

use std::io;

use ndarray::{ArrayView, IxDyn};
use ndarray_mmap::{Error, ErrorKind, MmapArrayBase, Mode, mode::Writable};
use serde_json::Value;

use super::corpus::{Case, list, sha256};
use super::element::{Element, Number, Visitor, hex};

pub struct Alignment;

impl Visitor for Alignment {
    type Out = usize;

    fn visit<A: Element>(self) -> usize {
        align_of::<A>()
    }
}

pub type Answer = Result<Seen, Error>;

/// What an array showed.
pub struct Seen {
    pub shape: Vec<usize>,
    /// In bytes.
    pub strides: Vec<isize>,
    pub offset: u64,
    pub mode: Mode,
    pub item_size: usize,
    pub c_contiguous: bool,
    pub f_contiguous: bool,
    pub aligned: bool,
    /// Of all elements, in logical order.
    pub bytes: Vec<u8>,
    pub sum: Option<Number>,
    /// Samples that are not NumPy's.
    pub odd_samples: Vec<String>,
}

/// Makes the writes of a case.
pub fn store<A: Element, M: Writable>(case: &Case, array: &mut MmapArrayBase<A, IxDyn, M>) {
    for write in case.writes() {
        match write["fill"].as_str() {
            Some("arange") => {
                let start = write["start"].as_u64().expect("a start is a number");
                array.iter_mut().zip(start..).for_each(|(element, k)| element.store(A::rule(k)));
            }
            Some("value") => array.fill(A::decode(&write["value"])),
            None => array[IxDyn(&index(&write["index"]))].store(A::decode(&write["value"])),
            Some(other) => panic!("{}: no such fill: {other}", case.id()),
        }
    }
}

pub fn see<A: Element, M>(case: &Case, array: &MmapArrayBase<A, IxDyn, M>) -> Seen {
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
        odd_samples: odd_samples(case, array.view()),
    }
}

fn odd_samples<A: Element>(case: &Case, array: ArrayView<'_, A, IxDyn>) -> Vec<String> {
    // Where NumPy failed there is nothing to compare with.
    let (values, bytes) = (list(case.expect("values_sample")), list(case.expect("raw_sample")));
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

fn index(value: &Value) -> Vec<usize> {
    let axis = |n: &Value| n.as_u64().and_then(|n| usize::try_from(n).ok()).expect("an index is a number");
    list(value).iter().map(axis).collect()
}

impl Seen {
    /// Finds what is not as NumPy's array was, but for the mode, which not always must be.
    pub fn compare(&self, case: &Case, mode: &str, report: &mut Report) {
        report.same("mode", &self.mode.to_string().as_str(), &mode);
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
pub struct Report(pub Vec<String>);

impl Report {
    pub fn say(&mut self, what: String) {
        self.0.push(what);
    }

    /// Finds what is not as the file was that NumPy left.
    pub fn file(&mut self, case: &Case, file: &[u8]) {
        self.equal("file length", &file.len(), case.expect("file_len_after"));
        self.equal("file contents (sha256)", &sha256(file), case.expect("file_sha256_after"));
    }

    pub fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, seen: &T, expected: &T) {
        if seen != expected {
            self.say(format!("{what} is {seen:?}, expected {expected:?}"));
        }
    }

    pub fn equal<T: Clone + Into<Value>>(&mut self, what: &str, seen: &T, numpy: &Value) {
        let seen: Value = seen.clone().into();
        if seen != *numpy {
            self.say(format!("{what} is {seen}, NumPy's {numpy}"));
        }
    }
}

/// Whether an error is of a category of the corpus.
pub fn is(error: &Error, category: &str) -> bool {
    let io_kind = error.io_kind();
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
        "bad-descr" => matches!(error.kind(), ErrorKind::InvalidHeader | ErrorKind::DtypeMismatch),
        "other-element" => error.kind() == ErrorKind::DtypeMismatch,
        "bad-magic" | "bad-version" | "bad-header" | "header-too-large" | "truncated-header" | "object-dtype"
        | "bad-fortran-order" | "bad-shape" | "negative-dimension" | "too-many-dims" => {
            error.kind() == ErrorKind::InvalidHeader
        }
        other => panic!("no such category of error: {other}"),
    }
}
