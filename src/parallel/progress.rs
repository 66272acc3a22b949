//! Telling the caller how far long work has come.

use std::fmt;
use std::sync::Mutex;

use crate::parallel::lock;

/// The caller's function: told the bytes that are done, and all of them.
pub(crate) type OnProgress<'a> = Box<dyn FnMut(u64, u64) + Send + 'a>;

/// Counts, from any number of threads, and tells: one call at a time, and never back.
pub(crate) struct Progress<'a>(Mutex<Told<'a>>);

struct Told<'a> {
    done: u64,
    total: u64,
    /// Away while it is called.
    tell: Option<OnProgress<'a>>,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(total: u64, tell: Option<OnProgress<'a>>) -> Self {
        Self(Mutex::new(Told { done: 0, total, tell }))
    }

    /// Not called under the lock: the caller's function may take its time, or have more work done by this very thread.
    pub(crate) fn advance(&self, bytes: usize) {
        let mut told = lock(&self.0);
        told.done += bytes as u64;
        // A second panic would end the process.
        if std::thread::panicking() {
            return;
        }
        while let Some(mut tell) = told.tell.take() {
            let (done, total) = (told.done, told.total);
            drop(told);
            tell(done, total);
            told = lock(&self.0);
            told.tell = Some(tell);
            if told.done == done {
                return;
            }
        }
    }
}

impl fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = lock(&self.0);
        write!(f, "{} of {} bytes", told.done, told.total)
    }
}
