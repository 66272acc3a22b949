//! Tests in a process of their own: of what ends a process, changes it for good, or is counted for all of it.
//!
//! The test runs itself again: [`in_child!`] runs its body in the new process, and starts that process everywhere else.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{self, ChildStderr, Command, ExitStatus, Stdio};

use tempfile::TempDir;

/// The test that the process is a child for. `scripts/kill_readers.py` knows it too.
const VARIABLE: &str = "NDARRAY_MMAP_CHILD";

/// A program that runs this one, such as an emulator, and its arguments, as in cargo's `runner`.
const RUNNER: &str = "NDARRAY_MMAP_RUNNER";

/// No test ends like this by accident: neither one that was not found, nor one that panicked.
const COMPLETED: i32 = 42;

/// The name of the test function that this stands in (or in a closure of it), as the test harness knows it.
macro_rules! this_test {
    () => {{
        fn here() {}
        $crate::support::process::test_around(here)
    }};
}
pub(crate) use this_test;

/// A process that runs this body alone: `in_child!(|| ...).run().succeeded()`. Must stand in the test function itself, and
/// what stands before it there runs in both processes.
macro_rules! in_child {
    ($body:expr) => {
        $crate::support::process::Child::new($crate::support::process::this_test!(), $body)
    };
}
pub(crate) use in_child;

/// The test that a function is nested in, from its path: `binary::module::test::{{closure}}::here`.
pub fn test_around<F>(_: F) -> String {
    let path = std::any::type_name::<F>().strip_suffix("::here").expect("the function of `this_test`");
    let (_binary, path) = path.split_once("::").expect("a path begins with the crate");
    path.trim_end_matches("::{{closure}}").to_owned()
}

/// A child process, to be started as often as wanted.
#[must_use]
pub struct Child {
    test: String,
    /// Of the shell that becomes the child.
    prelude: Option<String>,
    variables: Vec<(&'static str, OsString)>,
}

impl Child {
    /// See [`in_child!`]. In the child this does not return.
    pub fn new(test: String, body: impl FnOnce()) -> Self {
        if env::var(VARIABLE).is_ok_and(|name| name == test) {
            body();
            process::exit(COMPLETED);
        }
        Self { test, prelude: None, variables: vec![] }
    }

    /// With this variable in its environment.
    pub fn with(mut self, variable: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((variable, value.as_ref().to_owned()));
        self
    }

    /// After these commands of a shell.
    #[cfg(unix)]
    pub fn after(mut self, commands: &str) -> Self {
        self.prelude = Some(commands.to_owned());
        self
    }

    /// Runs the child to its end.
    #[track_caller]
    pub fn run(&self) -> ExitReport {
        self.run_in_folder().0
    }

    /// The same, with the folder that it ran in, for what it left there.
    #[track_caller]
    pub fn run_in_folder(&self) -> (ExitReport, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let child = self.command(&folder).stdin(Stdio::null()).output().unwrap();
        let output = [child.stdout, child.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(!output.contains("running 0 tests"), "there is no test {}", self.test);
        (ExitReport { status: child.status, output }, folder)
    }

    /// Starts the child, to be talked to and killed.
    #[track_caller]
    pub fn start(&self) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let mut command = self.command(&folder);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        Running { process, lines, _folder: folder }
    }

    fn command(&self, folder: &TempDir) -> Command {
        let program = env::current_exe().unwrap();
        let runner = env::var(RUNNER).unwrap_or_default();
        let mut words: Vec<OsString> = runner.split_whitespace().map(OsString::from).collect();
        words.push(program.into());
        if let Some(commands) = &self.prelude {
            let shell = ["sh".into(), "-c".into(), format!("{commands}\nexec \"$0\" \"$@\"").into()];
            words.splice(0..0, shell);
        }
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args([&*self.test, "--exact", "--nocapture", "--include-ignored", "--test-threads=1"])
            .current_dir(folder.path())
            .env(VARIABLE, &self.test)
            // The address sanitizer would end the process in another way than the one that is tested for.
            .env("ASAN_OPTIONS", [&*env::var("ASAN_OPTIONS").unwrap_or_default(), "handle_sigbus=0"].join(":"))
            .envs(self.variables.iter().map(|(variable, value)| (variable, value)));
        // The child's own temporary folders go with this one: it may not live long enough to remove them.
        command.envs(["TMPDIR", "TMP", "TEMP"].map(|variable| (variable, folder.path())));
        command
    }
}

/// How a child ended.
#[must_use]
pub struct ExitReport {
    status: ExitStatus,
    pub output: String,
}

impl ExitReport {
    /// The body ran to its end.
    #[track_caller]
    pub fn succeeded(&self) {
        self.exited_with(COMPLETED);
    }

    /// The body called `exit` with this code.
    #[track_caller]
    pub fn exited_with(&self, code: i32) {
        assert_eq!(self.status.code(), Some(code), "{}\n{}", self.status, self.output);
    }

    /// The system ended the process.
    #[cfg(unix)]
    #[track_caller]
    pub fn killed_by(&self, signal: i32) {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(self.status.signal(), Some(signal), "{}\n{}", self.status, self.output);
    }
}

/// A child that runs. It is killed with the value.
pub struct Running {
    process: process::Child,
    lines: Lines<BufReader<ChildStderr>>,
    _folder: TempDir,
}

impl Running {
    /// The next line that the child writes to standard error, by [`tell_parent`]; waits for it.
    pub fn line(&mut self) -> Option<String> {
        self.lines.next().map(Result::unwrap)
    }

    /// Kills the child, and returns the lines that it had still written.
    pub fn kill(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.lines.by_ref().map_while(Result::ok).collect()
    }

    /// Ends the wait of [`wait_for_parent`], and waits until the body has run to its end.
    #[track_caller]
    pub fn finish(mut self) {
        self.process.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert_eq!(self.process.wait().unwrap().code(), Some(COMPLETED));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends a line to the parent of a child that was started.
pub fn tell_parent(line: &str) {
    // In one piece, and not to standard output, which the test harness writes to.
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Waits in a child until its parent calls [`Running::finish`].
pub fn wait_for_parent() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// Runs `f` in a forked child, whose exit code it returns, and returns the status that `waitpid` reports. Only for a child
/// process of a test's own: `f` cannot use locks that other threads are holding. A fork that hangs is ended.
#[cfg(unix)]
pub fn forked(f: impl FnOnce() -> i32) -> i32 {
    /// Rust's exit code after a panic.
    const PANICKED: i32 = 101;
    // SAFETY: only this thread goes on in the child, and `f` needs no other, as demanded above.
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
