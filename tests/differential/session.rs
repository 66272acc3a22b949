//! One array and its model, and how they are compared.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn};
use ndarray_mmap::{Error, ErrorKind, MmapArray, MmapArrayCow, MmapArrayMut, Mode, Staged};

use crate::axes::Axes;
use crate::counts::Counts;
use crate::element::Element;
use crate::file::Contents;
use crate::random::Random;
use crate::support::snapshot::names;

/// An array in any mode.
pub enum Handle<A: 'static, D> {
    Read(MmapArray<A, D>),
    Write(MmapArrayMut<A, D>),
    Cow(MmapArrayCow<A, D>),
    Staged(Staged<A, D>),
}

/// In any mode.
#[macro_export]
macro_rules! each {
    ($handle:expr, $array:ident => $what:expr) => {
        match $handle {
            $crate::session::Handle::Read($array) => $what,
            $crate::session::Handle::Write($array) => $what,
            $crate::session::Handle::Cow($array) => $what,
            $crate::session::Handle::Staged($array) => $what,
        }
    };
}

/// In the modes that write.
#[macro_export]
macro_rules! writable {
    ($handle:expr, $array:ident => $what:expr) => {
        match $handle {
            $crate::session::Handle::Read(_) => None,
            $crate::session::Handle::Write($array) => Some($what),
            $crate::session::Handle::Cow($array) => Some($what),
            $crate::session::Handle::Staged($array) => Some($what),
        }
    };
}

/// In the modes that write to a file.
#[macro_export]
macro_rules! stored {
    ($handle:expr, $array:ident => $what:expr) => {
        match $handle {
            $crate::session::Handle::Write($array) => Some($what),
            $crate::session::Handle::Staged($array) => Some($what),
            _ => None,
        }
    };
}

/// Where the array's file is.
pub enum Place {
    /// At the path.
    Path,
    /// At the path of what it was linked to before it was replaced; what is at its own path now.
    Replaced(Vec<u8>),
    /// Nowhere: a scratch array, or one that is staged.
    Nameless,
    /// Nowhere, but open.
    Sealed(File),
}

pub struct Session<'c, A: 'static, D> {
    pub folder: PathBuf,
    pub path: PathBuf,
    /// What is at the path when it is not the array's file.
    pub at_path: Option<Vec<u8>>,
    pub place: Place,
    pub file: Contents<A>,
    pub fortran_order: bool,
    /// What the array shows: what is in the file, but for copy-on-write and private arrays.
    pub values: ArrayD<A>,
    pub array: Option<Handle<A, D>>,
    /// It is a copy in memory.
    pub private: bool,
    /// Somebody else has spelled the header anew since this array read it.
    pub strange_header: bool,
    /// Somebody else has cut what followed the array since it was opened.
    pub cut_behind: bool,
    /// The disk may have no room.
    pub full: bool,
    pub log: &'c RefCell<Vec<String>>,
    pub counts: &'c Counts,
}

pub const KEPT: &str = "kept";
const NAME: &str = "data.npy";

impl<'c, A: Element, D: Axes> Session<'c, A, D> {
    pub fn new(folder: &Path, full: bool, counts: &'c Counts, log: &'c RefCell<Vec<String>>) -> Self {
        let nothing = || ArrayD::from_shape_simple_fn(IxDyn(&[0]), A::zeroed);
        Self {
            folder: folder.to_path_buf(),
            path: folder.join(NAME),
            at_path: None,
            place: Place::Nameless,
            file: Contents { before: vec![], header: None, values: nothing(), behind: vec![] },
            fortran_order: false,
            values: nothing(),
            array: None,
            private: false,
            strange_header: false,
            cut_behind: false,
            full,
            log,
            counts,
        }
    }

    pub fn note(&self, what: impl Into<String>) {
        self.log.borrow_mut().push(what.into());
    }

    /// Random elements of a shape.
    pub fn any_values(random: &mut Random, shape: &[usize]) -> ArrayD<A> {
        let mut few = [A::zeroed(); 61].map(|_| A::of(random));
        let mut n = 0;
        ArrayD::from_shape_simple_fn(IxDyn(shape), || {
            n += 1;
            if n % 61 == 0 {
                few[n / 61 % 61] = A::of(random);
            }
            few[n * 7 % 61]
        })
    }

    /// The model is what is in the file, and it is at the path.
    pub fn is_at_path(&mut self) {
        self.values = self.file.values.clone();
        self.place = Place::Path;
        self.at_path = None;
    }

    /// The error must be that of a full disk, and the disk may be full.
    #[track_caller]
    pub fn is_full(&self, e: Error) {
        let (kind, message) = (e.kind(), e.to_string());
        let io = io::Error::from(e).kind();
        assert!(self.full && kind == ErrorKind::Io && io == io::ErrorKind::StorageFull, "{kind:?}: {message}");
        self.counts.add("errors", "Io (no room)");
    }

    /// The path that leads to the array's file, if any does.
    pub fn own_path(&self) -> Option<PathBuf> {
        match self.place {
            Place::Path => Some(self.path.clone()),
            Place::Replaced(_) => Some(self.folder.join(KEPT)),
            Place::Nameless | Place::Sealed(_) => None,
        }
    }

    /// The array is the model, and so is the file, and so is all that lies beside it.
    #[track_caller]
    pub fn check(&self) {
        if let Some(array) = &self.array {
            let (view, offset, mode) = each!(array, a => (a.view().into_dyn(), a.offset(), a.mode()));
            assert_eq!(view.shape(), self.values.shape(), "the array's shape");
            let same = view.iter().zip(&self.values).all(|(x, y)| bytemuck::bytes_of(x) == bytemuck::bytes_of(y));
            if !same {
                let mut at = view.indexed_iter().zip(&self.values);
                let at = at.find(|((_, x), y)| bytemuck::bytes_of(*x) != bytemuck::bytes_of(*y)).unwrap();
                panic!("the array has {:?} at {:?}, not {:?}", at.0.1, at.0.0, at.1);
            }
            assert_eq!(offset, self.file.offset() as u64, "the array's offset");
            assert_eq!(mode == Mode::ReadOnly, matches!(array, Handle::Read(_)));
            assert_eq!(mode == Mode::CopyOnWrite, matches!(array, Handle::Cow(_)));
        }
        self.check_path();
        self.check_names();
    }

    #[track_caller]
    pub fn check_path(&self) {
        let expected = self.file.bytes(self.fortran_order);
        match &self.place {
            Place::Path => same_bytes(&fs::read(&self.path).unwrap(), &expected, self.file.offset()),
            Place::Replaced(there) => {
                same_bytes(&fs::read(self.folder.join(KEPT)).unwrap(), &expected, self.file.offset());
                same_bytes(&fs::read(&self.path).unwrap(), there, 0);
            }
            Place::Nameless => assert!(fs::read(&self.path).ok() == self.at_path, "what is at the path has changed"),
            Place::Sealed(file) => {
                let mut bytes = vec![0; expected.len()];
                file.read_exact_at(&mut bytes, 0).unwrap();
                same_bytes(&bytes, &expected, self.file.offset());
            }
        }
    }

    #[track_caller]
    pub fn check_names(&self) {
        let found = names(&self.folder);
        let mut expected = vec![];
        if self.at_path.is_some() || matches!(self.place, Place::Path | Place::Replaced(_)) {
            expected.push(NAME);
        }
        if matches!(self.place, Place::Replaced(_)) {
            expected.push(KEPT);
        }
        assert_eq!(found, expected, "the names in the folder");
    }

    /// Stores what the array has become in the model of its file.
    pub fn is_stored(&mut self) {
        if matches!(self.array, Some(Handle::Write(_) | Handle::Staged(_))) {
            self.file.values = self.values.clone();
        }
    }
}

/// The same values with other rows at the end: zeros, or none.
pub fn grown<A: Element>(values: &ArrayD<A>, shape: &[usize]) -> ArrayD<A> {
    ArrayD::from_shape_fn(IxDyn(shape), |i| values.get(i).copied().unwrap_or_else(A::zeroed))
}

#[track_caller]
pub fn same_bytes(found: &[u8], expected: &[u8], offset: usize) {
    if found != expected {
        let at = found.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(found.len().min(expected.len()));
        panic!(
            "the file has {} bytes, not {}, or other ones from {at} on, where elements begin at {offset}: {:?} for {:?}",
            found.len(),
            expected.len(),
            &found[at..found.len().min(at + 16)],
            &expected[at..expected.len().min(at + 16)],
        );
    }
}
