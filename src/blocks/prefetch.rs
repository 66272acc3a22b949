//! Threads that read ahead of a pass, window by window.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::segments::Segments;
use crate::parallel::lock;
use crate::storage::PrefetchSource;

/// One reads while the other one prepares its next read (bench `blocks`, "cold sum").
const PREFETCH_THREADS: usize = 2;

/// The threads own what they need to read, and end when this is dropped.
#[derive(Debug)]
pub(super) struct Prefetcher {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    source: PrefetchSource,
    segments: Arc<Segments>,
    queue: Mutex<Queue>,
    requested: Condvar,
    fetched: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    requested: VecDeque<usize>,
    being_fetched: Vec<usize>,
    closed: bool,
}

impl Prefetcher {
    /// `None` if no thread can be started: then the pass reads for itself.
    pub(super) fn start(source: PrefetchSource, segments: &Arc<Segments>) -> Option<Self> {
        let segments = Arc::clone(segments);
        let (queue, requested, fetched) = Default::default();
        let shared = Arc::new(Shared { source, segments, queue, requested, fetched });
        let threads: Vec<_> = (0..PREFETCH_THREADS)
            .map_while(|_| {
                let shared = Arc::clone(&shared);
                thread::Builder::new().name("read-ahead".into()).spawn(move || shared.serve()).ok()
            })
            .collect();
        (!threads.is_empty()).then_some(Self { shared, threads })
    }

    /// Requests a window, without waiting for it.
    pub(super) fn request(&self, window: usize) {
        lock(&self.shared.queue).requested.push_back(window);
        self.shared.requested.notify_one();
    }

    /// Returns once a requested window has been fetched. If no thread has begun to, this one fetches it.
    pub(super) fn wait_for(&self, window: usize) {
        let mut queue = lock(&self.shared.queue);
        if let Some(place) = queue.requested.iter().position(|&requested| requested == window) {
            queue.requested.remove(place);
            queue.being_fetched.push(window);
            drop(queue);
            return self.shared.fetch(window);
        }
        while queue.being_fetched.contains(&window) {
            queue = self.shared.fetched.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Shared {
    fn serve(&self) {
        let mut queue = lock(&self.queue);
        while !queue.closed {
            match queue.requested.pop_front() {
                Some(window) => {
                    queue.being_fetched.push(window);
                    drop(queue);
                    self.fetch(window);
                    queue = lock(&self.queue);
                }
                None => queue = self.requested.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn fetch(&self, window: usize) {
        let segments = self.segments.of_window(window);
        // The pass may have overtaken the request: what it is done with must not be read again.
        if let Some(first) = segments.clone().find(|&n| !self.segments.is_finished(n)) {
            self.source.fetch(self.segments.bytes(first..segments.end));
        }
        lock(&self.queue).being_fetched.retain(|&fetched| fetched != window);
        self.fetched.notify_all();
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.requested.notify_all();
        for thread in self.threads.drain(..) {
            // These threads run no code of the caller's, so there is no panic to pass on.
            let _ = thread.join();
        }
    }
}
