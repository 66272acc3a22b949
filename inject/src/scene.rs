//! One run of one scenario: its files, what goes wrong, and what is complained of afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use ndarray::{ArrayView, Dimension};
use ndarray_mmap::{Error, ErrorKind, Result};

use crate::faults::{World, is_harmless};
use crate::library::{Fault, Kind, Library};
use crate::numpy::Samples;
use crate::photo::{self, File};

/// A case that takes longer hangs: no fault makes anything wait.
pub const MOST_SECONDS: u32 = 60;

pub struct Scene<'a> {
    pub library: Library,
    pub world: &'a World,
    /// Empty at first, and to hold nothing but the watched files at the end.
    pub folder: PathBuf,
    fault: Option<Fault>,
    hit: bool,
    /// Whether an error needs no other reason than the world.
    pub may_be_refused: bool,
    pub refused: bool,
    /// What a kill may leave behind is to be gone again.
    pub tidy: bool,
    watched: BTreeMap<PathBuf, Watched>,
    samples: &'a Samples,
    pub complaints: Vec<String>,
}

struct Watched {
    before: Option<File>,
    end: End,
}

/// What has to be at a path in the end.
pub enum End {
    AsBefore,
    Bytes(Vec<u8>),
    /// Any of these; the file as it was has to be among them, where it may be.
    AnyOf(Vec<Vec<u8>>),
    /// The scenario has looked for itself.
    Whatever,
    /// As before, or these bytes.
    BeforeOr(Vec<u8>),
}

impl<'a> Scene<'a> {
    pub fn new(
        library: Library,
        world: &'a World,
        folder: PathBuf,
        fault: Option<Fault>,
        samples: &'a Samples,
    ) -> Self {
        let (watched, complaints) = Default::default();
        Self {
            library,
            world,
            folder,
            fault,
            hit: false,
            may_be_refused: false,
            refused: false,
            tidy: false,
            watched,
            samples,
            complaints,
        }
    }

    pub fn complain(&mut self, what: impl Into<String>) {
        self.complaints.push(what.into().replace(&*self.folder.to_string_lossy(), ""));
    }

    pub fn claim(&mut self, holds: bool, what: &str) {
        if !holds {
            self.complain(what);
        }
    }

    /// A file that the scenario begins with, and that is watched from now on.
    pub fn put(&mut self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, bytes).expect("the scenario's own file");
        self.watch(&path);
        path
    }

    /// A path at which nothing is yet.
    pub fn absent(&mut self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        self.watch(&path);
        path
    }

    /// What is at the path now is what it was before.
    pub fn watch(&mut self, path: &Path) {
        let before = File::at(path);
        self.watched.insert(path.to_path_buf(), Watched { before, end: End::AsBefore });
    }

    pub fn ends(&mut self, path: &Path, end: End) {
        self.watched.get_mut(path).expect("it is watched").end = end;
    }

    /// Runs the operation that is to go wrong. `None` if it panicked.
    pub fn armed<T>(&mut self, operation: impl FnOnce() -> T) -> Option<T> {
        self.deny(true);
        self.library.arm(self.fault);
        let outcome = catch_unwind(AssertUnwindSafe(operation));
        self.hit = self.library.disarm();
        self.deny(false);
        outcome.map_err(|_| self.complain("panicked")).ok()
    }

    /// Runs an operation in a process of its own, which is killed in place of the call that is to go wrong. The operation
    /// itself says from where on that counts.
    pub fn in_child(&mut self, operation: impl FnOnce(&dyn Fn())) {
        let fault = self.fault;
        self.hit = self.fork(|scene| {
            operation(&|| {
                scene.deny(true);
                scene.library.arm(fault);
            })
        });
    }

    /// The same for one call, as what a scenario begins with.
    pub fn killed(&mut self, call: &str, nth: i32, operation: impl FnOnce()) {
        let fault = Fault { call: self.library.call(call), nth, errno: 0, kind: Kind::Kill };
        let killed = self.fork(|scene| {
            scene.library.arm(Some(fault));
            operation();
        });
        self.claim(killed, "the scenario expects to be killed, and is not");
    }

    /// Whether the child was killed.
    fn fork(&mut self, operation: impl FnOnce(&Self)) -> bool {
        // SAFETY: this process has no other threads, so the child may do what it may.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: a child has no clock of its parent's. It only sets one, which ends the process.
            unsafe { libc::alarm(MOST_SECONDS) };
            let outcome = catch_unwind(AssertUnwindSafe(|| operation(self)));
            // SAFETY: nothing of the driver's runs in the child any more.
            unsafe { libc::_exit(outcome.is_err().into()) }
        }
        let mut status = 0;
        // SAFETY: it waits for the child, and says in `status` what became of it.
        let waited = unsafe { libc::waitpid(child, &mut status, 0) };
        assert_eq!(waited, child, "there is one child");
        let killed = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL;
        self.claim(killed || status == 0, "the child panicked, or was ended by another signal");
        killed
    }

    fn deny(&self, deny: bool) {
        for &(call, errno) in self.world.denied {
            self.library.deny(self.library.call(call), if deny { errno } else { 0 });
        }
    }

    /// Whether this went wrong.
    pub fn met(&self, calls: &[&str]) -> bool {
        self.hit && self.fault.is_some_and(|fault| calls.contains(&self.library.name(fault.call)))
    }

    /// Whether this is to go wrong.
    pub fn refuses(&self, call: &str) -> bool {
        self.fault.is_some_and(|fault| self.library.name(fault.call) == call)
    }

    /// Whether it was more than an interruption.
    pub fn met_badly(&self, calls: &[&str]) -> bool {
        self.met(calls) && self.fault.is_some_and(|fault| !is_harmless(fault))
    }

    pub fn errno(&self) -> i32 {
        self.fault.map_or(0, |fault| fault.errno)
    }

    pub fn lacks(&self, call: &str) -> bool {
        self.world.denied.iter().any(|(denied, _)| *denied == call)
    }

    /// An error must be of one of these kinds, and name what went wrong; and there must have been a reason for one.
    pub fn judge<T>(&mut self, outcome: Result<T>, kinds: &[ErrorKind]) -> Option<T> {
        match outcome {
            Ok(answer) => Some(answer),
            Err(e) => {
                self.judge_error(e, kinds);
                None
            }
        }
    }

    fn judge_error(&mut self, e: Error, kinds: &[ErrorKind]) {
        let (kind, said) = (e.kind(), e.to_string());
        if !kinds.contains(&kind) {
            self.complain(format!("is {kind:?}, which is not documented for it ({said})"));
        }
        self.refused = true;
        if !self.may_be_refused && (!self.hit || self.fault.is_none_or(is_harmless)) {
            self.complain(format!("failed without a reason, or for an interruption ({said})"));
        }
        if kind == ErrorKind::Io {
            let told = io::Error::from(e).kind();
            let meant = |errno| io::Error::from_raw_os_error(errno).kind() == told;
            let reasons = self.world.denied.iter().map(|&(_, errno)| errno).chain(self.fault.map(|f| f.errno));
            // A handle that does not say what it is open for is refused as one that is not, whatever the system said.
            if !reasons.into_iter().any(meant) && !self.met(&["getfl"]) {
                self.complain(format!("says {told:?}, which is not what the system said ({said})"));
            }
        }
    }

    /// The elements, in memory order.
    pub fn same<D: Dimension>(&mut self, what: &str, view: ArrayView<'_, f64, D>, expected: &[f64]) {
        let elements = view.to_slice_memory_order().expect("arrays are contiguous");
        if elements != expected {
            let at = elements.iter().zip(expected).position(|(a, b)| a != b);
            self.complain(format!("{what}: {} elements for {}, first other at {at:?}", elements.len(), expected.len()));
        }
    }

    /// NumPy is to read this in the end.
    pub fn sample(&self, path: &Path, shape: &[usize], sum: f64) {
        if let Ok(bytes) = fs::read(path) {
            self.samples.keep(&bytes, shape, sum);
        }
    }

    /// The last look, when every array is gone.
    pub fn look(&mut self) {
        let litter: Vec<_> = photo::names(&self.folder).into_iter().filter(|p| !self.watched.contains_key(p)).collect();
        // Who may not remove a name leaves it, or is killed before.
        let killed = self.hit && self.fault.is_some_and(|fault| fault.kind == Kind::Kill);
        let excused = self.met(&["unlink"]) || killed && litter.len() == 1 && !self.tidy;
        if !litter.is_empty() && !excused {
            self.complain(format!("litter: {litter:?}"));
        }
        for (path, Watched { before, end }) in std::mem::take(&mut self.watched) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let now = File::at(&path);
            if let Some(complaint) = end.complaint(before.as_ref(), now.as_ref()) {
                self.complain(format!("{name}: {complaint}"));
            }
            if let Some(now) = &now {
                let allowed = before.as_ref().map_or(photo::NEW_FILE_MODE, |before| before.mode);
                if now.mode & !allowed != 0 {
                    self.complain(format!("{name}: mode {:o}, more open than {allowed:o}", now.mode));
                }
            }
        }
    }
}

impl End {
    fn complaint(&self, before: Option<&File>, now: Option<&File>) -> Option<String> {
        let is = |bytes: &Vec<u8>| now.is_some_and(|now| now.bytes == *bytes);
        let as_before = || match (before, now) {
            (None, None) => None,
            (Some(before), Some(now)) => before.difference(now),
            (None, Some(now)) => Some(format!("{} bytes where nothing was", now.bytes.len())),
            (Some(_), None) => Some("is gone".into()),
        };
        match self {
            Self::Whatever => None,
            Self::AsBefore => as_before(),
            Self::BeforeOr(bytes) if is(bytes) => None,
            Self::BeforeOr(_) => as_before(),
            Self::Bytes(bytes) if is(bytes) => now.and_then(File::too_many_blocks),
            Self::AnyOf(all) if all.iter().any(is) => None,
            Self::Bytes(_) | Self::AnyOf(_) => {
                Some(now.map_or("is gone".into(), |now| format!("other contents ({} bytes)", now.bytes.len())))
            }
        }
    }
}
