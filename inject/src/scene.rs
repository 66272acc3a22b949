//! One run of one scenario: its files, its fault, and the complaints afterwards.

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

/// In seconds. A case that takes longer hangs, because no fault makes anything wait.
pub const MOST_SECONDS: u32 = 60;

pub struct Scene<'a> {
    pub library: Library,
    pub world: &'a World,
    /// Empty at first. At the end it must hold only the watched files.
    pub folder: PathBuf,
    fault: Option<Fault>,
    hit: bool,
    /// Whether the world alone is reason enough for an error.
    pub may_be_refused: bool,
    pub refused: bool,
    /// Whether the file that a kill may leave behind must be gone at the end.
    pub tidy: bool,
    watched: BTreeMap<PathBuf, Watched>,
    samples: &'a Samples,
    pub complaints: Vec<String>,
}

struct Watched {
    before: Option<File>,
    end: End,
}

/// What must be at a path in the end.
pub enum End {
    AsBefore,
    Bytes(Vec<u8>),
    /// Any of these. (If the file may be as it was, that must be one of them.)
    AnyOf(Vec<Vec<u8>>),
    /// Anything: the scenario has checked the file itself.
    Whatever,
    /// The file as before, or these bytes.
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

    /// Makes a file that the scenario starts with. It is watched from now on.
    pub fn put(&mut self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, bytes).expect("the scenario's own file");
        self.watch(&path);
        path
    }

    /// Watches a path at which nothing is yet.
    pub fn absent(&mut self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        self.watch(&path);
        path
    }

    /// Watches a path. The file that is there now counts as the one before the operation.
    pub fn watch(&mut self, path: &Path) {
        let before = File::at(path);
        self.watched.insert(path.to_path_buf(), Watched { before, end: End::AsBefore });
    }

    pub fn ends(&mut self, path: &Path, end: End) {
        self.watched.get_mut(path).expect("it is watched").end = end;
    }

    /// Runs the operation with the fault armed. `None` if it panicked.
    pub fn armed<T>(&mut self, operation: impl FnOnce() -> T) -> Option<T> {
        self.deny(true);
        self.library.arm(self.fault);
        let outcome = catch_unwind(AssertUnwindSafe(operation));
        self.hit = self.library.disarm();
        self.deny(false);
        outcome.map_err(|_| self.complain("panicked")).ok()
    }

    /// Runs an operation in a child process, which is killed in place of the call that must fail. The operation calls its
    /// argument when calls start to count.
    pub fn in_child(&mut self, operation: impl FnOnce(&dyn Fn())) {
        let fault = self.fault;
        self.hit = self.fork(|scene| {
            operation(&|| {
                scene.deny(true);
                scene.library.arm(fault);
            })
        });
    }

    /// Runs an operation that is killed at one given call, as the start of a scenario.
    pub fn killed(&mut self, call: &str, nth: i32, operation: impl FnOnce()) {
        let fault = Fault { call: self.library.call(call), nth, errno: 0, kind: Kind::Kill };
        let killed = self.fork(|scene| {
            scene.library.arm(Some(fault));
            operation();
        });
        self.claim(killed, "the scenario expects to be killed, and is not");
    }

    /// Runs an operation in a child process. Returns whether the child was killed.
    fn fork(&mut self, operation: impl FnOnce(&Self)) -> bool {
        // SAFETY: this process has no other threads, so the child may do everything that it may.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: it only sets an alarm, which ends the process. (A child does not inherit its parent's.)
            unsafe { libc::alarm(MOST_SECONDS) };
            let outcome = catch_unwind(AssertUnwindSafe(|| operation(self)));
            // SAFETY: no code of the driver runs in the child after this.
            unsafe { libc::_exit(outcome.is_err().into()) }
        }
        let mut status = 0;
        // SAFETY: it waits for the child, and stores its exit status in `status`.
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

    /// Whether the fault happened, in one of these calls.
    pub fn met(&self, calls: &[&str]) -> bool {
        self.hit && self.fault.is_some_and(|fault| calls.contains(&self.library.name(fault.call)))
    }

    /// Whether the fault is in this call.
    pub fn refuses(&self, call: &str) -> bool {
        self.fault.is_some_and(|fault| self.library.name(fault.call) == call)
    }

    /// Whether the fault happened in one of these calls, and was not harmless.
    pub fn met_badly(&self, calls: &[&str]) -> bool {
        self.met(calls) && self.fault.is_some_and(|fault| !is_harmless(fault))
    }

    pub fn errno(&self) -> i32 {
        self.fault.map_or(0, |fault| fault.errno)
    }

    pub fn lacks(&self, call: &str) -> bool {
        self.world.denied.iter().any(|(denied, _)| *denied == call)
    }

    /// Checks that an error is of one of these kinds, reports what the system returned, and had a reason.
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
        let (kind, message) = (e.kind(), e.to_string());
        if !kinds.contains(&kind) {
            self.complain(format!("is {kind:?}, which is not documented for it ({message})"));
        }
        self.refused = true;
        if !self.may_be_refused && (!self.hit || self.fault.is_none_or(is_harmless)) {
            self.complain(format!("failed without a reason, or for an interruption ({message})"));
        }
        if kind == ErrorKind::Io {
            let reported = io::Error::from(e).kind();
            let is_reported = |errno| io::Error::from_raw_os_error(errno).kind() == reported;
            let reasons = self.world.denied.iter().map(|&(_, errno)| errno).chain(self.fault.map(|f| f.errno));
            // If a handle's flags cannot be read, it is refused as one that lacks the access, whatever the errno.
            if !reasons.into_iter().any(is_reported) && !self.met(&["getfl"]) {
                self.complain(format!("reports {reported:?}, which is not what the system returned ({message})"));
            }
        }
    }

    /// Checks the elements, in memory order.
    pub fn same<D: Dimension>(&mut self, what: &str, view: ArrayView<'_, f64, D>, expected: &[f64]) {
        let elements = view.to_slice_memory_order().expect("arrays are contiguous");
        if elements != expected {
            let at = elements.iter().zip(expected).position(|(a, b)| a != b);
            self.complain(format!("{what}: {} elements for {}, first other at {at:?}", elements.len(), expected.len()));
        }
    }

    /// Keeps this file for NumPy to read in the end.
    pub fn sample(&self, path: &Path, shape: &[usize], sum: f64) {
        if let Ok(bytes) = fs::read(path) {
            self.samples.keep(&bytes, shape, sum);
        }
    }

    /// Checks the folder and the watched files, after every array was dropped.
    pub fn look(&mut self) {
        let litter: Vec<_> = photo::names(&self.folder).into_iter().filter(|p| !self.watched.contains_key(p)).collect();
        // A temporary name stays if it cannot be removed, or if the process is killed before it removes it.
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
