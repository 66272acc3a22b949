//! Tests in a process of their own: of what ends a process, or changes it for good.
#![allow(dead_code)]

use std::env;
use std::process::{Command, ExitStatus, Stdio};

const VARIABLE: &str = "NDARRAY_MMAP_CHILD";

/// No test ends like this by accident: not one that was never found, nor one that panicked.
const DONE: i32 = 42;

/// How a child ended.
#[must_use]
pub struct Ended {
    status: ExitStatus,
    pub output: String,
}

/// Runs `body` in a process of its own. `test` is the name of the calling test: the new process runs that one alone,
/// and comes here again.
#[track_caller]
pub fn run(test: &str, body: impl FnOnce()) -> Ended {
    run_in(test, body).0
}

/// The same in a new folder, for what the process leaves there.
#[track_caller]
pub fn run_in(test: &str, body: impl FnOnce()) -> (Ended, tempfile::TempDir) {
    if env::var(VARIABLE).is_ok_and(|name| name == test) {
        body();
        std::process::exit(DONE);
    }
    let folder = tempfile::tempdir().unwrap();
    let child = Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--include-ignored", "--test-threads=1"])
        .env(VARIABLE, test)
        .current_dir(folder.path())
        // Where the child's own temporary folders go with this one, for it may not live to remove them.
        .env("TMPDIR", folder.path())
        // The address sanitizer would make another end of the one that is tested for.
        .env("ASAN_OPTIONS", "handle_sigbus=0")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let output = [child.stdout, child.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(!output.contains("running 0 tests"), "there is no test {test}");
    (Ended { status: child.status, output }, folder)
}

impl Ended {
    /// The body ran to its end.
    #[track_caller]
    pub fn well(&self) {
        assert_eq!(self.status.code(), Some(DONE), "{}\n{}", self.status, self.output);
    }

    /// The body called `exit` with this code.
    #[track_caller]
    pub fn with(&self, code: i32) {
        assert_eq!(self.status.code(), Some(code), "{}\n{}", self.status, self.output);
    }

    /// The system ended the process.
    #[cfg(unix)]
    #[track_caller]
    pub fn by_signal(&self, signal: i32) {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(self.status.signal(), Some(signal), "{}\n{}", self.status, self.output);
    }
}

/// Runs `f` in a forked child, of which it is the exit code; how that ended, as `waitpid` says it. For a process of a
/// test's own: what its other threads are holding, `f` has to do without. A child that hangs is ended.
#[cfg(unix)]
pub fn forked(f: impl FnOnce() -> i32) -> i32 {
    /// Of a panic, as Rust has it.
    const PANICKED: i32 = 101;
    // SAFETY: only this thread goes on in the child, and by the demand above it can.
    let child = unsafe { libc::fork() };
    if child == 0 {
        end_after(20);
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_or(PANICKED);
        // SAFETY: no memory is involved.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: it writes one number to where there is room for one.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    status
}

/// Ends this process after so many seconds, so that a hang is a failure.
#[cfg(unix)]
pub fn end_after(seconds: u32) {
    // SAFETY: no memory is involved.
    unsafe { libc::alarm(seconds) };
}
