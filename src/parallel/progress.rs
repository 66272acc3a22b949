//! Reporting progress to the caller.

use std::fmt;
use std::sync::Mutex;

use crate::parallel::lock;

/// The caller's function: it is passed the bytes that are done, and the total.
pub(crate) type OnProgress<'a> = Box<dyn FnMut(u64, u64) + Send + 'a>;

/// Counts bytes on any number of threads, and reports them: one call at a time, with numbers that never decrease.
pub(crate) struct Progress<'a>(Mutex<State<'a>>);

struct State<'a> {
    done: u64,
    total: u64,
    /// `None` while it is being called.
    report: Option<OnProgress<'a>>,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(total: u64, report: Option<OnProgress<'a>>) -> Self {
        Self(Mutex::new(State { done: 0, total, report }))
    }

    /// The caller's function is not called under the lock: it may be slow, or advance this very progress from its own
    /// thread.
    pub(crate) fn advance(&self, bytes: usize) {
        let mut state = lock(&self.0);
        state.done += bytes as u64;
        // A panic of the caller's function during a panic would abort the process.
        if std::thread::panicking() {
            return;
        }
        while let Some(mut report) = state.report.take() {
            let (done, total) = (state.done, state.total);
            drop(state);
            report(done, total);
            state = lock(&self.0);
            state.report = Some(report);
            if state.done == done {
                return;
            }
        }
    }
}

impl fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.0);
        write!(f, "{} of {} bytes", state.done, state.total)
    }
}
