//! The one loop that runs jobs on several threads: until none is left, one fails, or one panics.

mod progress;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::Result;

pub(crate) use progress::{OnProgress, Progress};

/// The threads that run jobs. The calling thread is one of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Threads {
    /// Threads of the current rayon pool, for jobs that compute.
    Pool(usize),
    /// Threads started for these jobs, for jobs that wait for a disk: of those there may be more than processors.
    /// If the system refuses to start some of them, the others do their work.
    Own { count: usize, name: &'static str },
}

/// Calls `work` for each job that `next` returns. Each thread has a state of its own; returns those of all threads.
///
/// # Errors
/// That of the first job to fail. The other threads finish their current jobs and take no more.
///
/// # Panics
/// If a job panics, likewise.
pub(crate) fn run_jobs<J, S: Send>(
    threads: Threads,
    state: impl Fn() -> S + Sync,
    next: impl Fn() -> Option<J> + Sync,
    work: impl Fn(&mut S, J) -> Result<()> + Sync,
) -> Result<Vec<S>> {
    let stop = AtomicBool::new(false);
    let (states, failed) = (Mutex::new(Vec::new()), Mutex::new(None));
    let serve = || {
        // However this thread ends, the others need take no further job: none is left, or one failed or panicked.
        let _stop = SetOnDrop(&stop);
        let mut state = state();
        while !stop.load(Ordering::Relaxed)
            && let Some(job) = next()
        {
            if let Err(e) = work(&mut state, job) {
                lock(&failed).get_or_insert(e);
                return;
            }
        }
        lock(&states).push(state);
    };
    match threads {
        #[cfg(feature = "rayon")]
        Threads::Pool(count) if count > 1 => rayon::scope(|scope| (0..count).for_each(|_| scope.spawn(|_| serve()))),
        Threads::Pool(count) => {
            debug_assert!(count <= 1);
            serve();
        }
        Threads::Own { count, name } => thread::scope(|scope| {
            let start = || thread::Builder::new().name(name.into()).spawn_scoped(scope, serve).ok();
            let others: Vec<_> = (1..count).map_while(|_| start()).collect();
            serve();
            for other in others {
                // The scope itself would panic with a message of its own in place of the job's.
                other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
        }),
    }
    let failed = lock(&failed).take();
    failed.map_or_else(|| Ok(std::mem::take(&mut *lock(&states))), Err)
}

struct SetOnDrop<'s>(&'s AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The number of threads that computations are shared out to.
pub(crate) fn computing_threads() -> usize {
    #[cfg(feature = "rayon")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "rayon"))]
    1
}

/// Locks a mutex of this crate. Their contents are valid also after a panic of the thread that held the lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
