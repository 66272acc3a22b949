//! Work shared out between threads.

mod progress;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

pub(crate) use progress::{OnProgress, Progress};

/// Runs `work` on so many threads of the current rayon pool at once, this one included; at least once.
pub(crate) fn run_on_pool<S: Send>(threads: usize, work: impl Fn() -> S + Sync) -> Vec<S> {
    #[cfg(feature = "rayon")]
    if threads > 1 {
        let states = Mutex::new(Vec::new());
        rayon::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|_| {
                    let state = work();
                    lock(&states).push(state);
                });
            }
        });
        return std::mem::take(&mut *lock(&states));
    }
    debug_assert!(threads <= 1);
    vec![work()]
}

/// Runs `work` on so many threads of its own at once, if they can be had, this one among them: for threads that wait for
/// a disk rather than compute, of which there may be more than processors.
pub(crate) fn on_waiting_threads(threads: usize, name: &str, work: &(impl Fn() + Sync)) {
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map_while(|_| thread::Builder::new().name(name.into()).spawn_scoped(scope, work).ok())
            .collect();
        work();
        for other in others {
            if let Err(panic) = other.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

/// How many threads have a processor each.
pub(crate) fn computing_threads() -> usize {
    #[cfg(feature = "rayon")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "rayon"))]
    1
}

/// What the threads of one piece of work look at, to stop when one of them fails.
#[derive(Debug, Default)]
pub(crate) struct CancelFlag(AtomicBool);

impl CancelFlag {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Runs `work`; a panic in it stops the others.
    pub(crate) fn on_panic<R>(&self, work: impl FnOnce() -> R) -> R {
        let unwinding = SetOnDrop(self);
        let answer = work();
        std::mem::forget(unwinding);
        answer
    }
}

struct SetOnDrop<'s>(&'s CancelFlag);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// What a panic leaves behind in the locks of this crate is no worse for it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
