//! Threads that read ahead of a walk, window by window.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::segments::Segments;
use crate::parallel::lock;
use crate::storage::PrefetchSource;

/// Two keep a disk busy while one of them is being told of the next window.
const READERS: usize = 2;

/// They own what they read by, and end with this.
#[derive(Debug)]
pub(super) struct Prefetcher {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    source: PrefetchSource,
    units: Arc<Segments>,
    queue: Mutex<Queue>,
    asked: Condvar,
    fetched: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Windows.
    wanted: VecDeque<usize>,
    being_fetched: Vec<usize>,
    closed: bool,
}

impl Prefetcher {
    /// `None` where no thread can be had: then the walk reads for itself.
    pub(super) fn start(source: PrefetchSource, units: &Arc<Segments>) -> Option<Self> {
        let units = Arc::clone(units);
        let (queue, asked, fetched) = Default::default();
        let shared = Arc::new(Shared { source, units, queue, asked, fetched });
        let threads: Vec<_> = (0..READERS)
            .map_while(|_| {
                let shared = Arc::clone(&shared);
                thread::Builder::new().name("read-ahead".into()).spawn(move || shared.serve()).ok()
            })
            .collect();
        (!threads.is_empty()).then_some(Self { shared, threads })
    }

    /// Asks for a window, and returns.
    pub(super) fn ask_for(&self, window: usize) {
        lock(&self.shared.queue).wanted.push_back(window);
        self.shared.asked.notify_one();
    }

    /// Returns once a window that was asked for is there. (Reading it twice at a time would take longer than waiting.)
    pub(super) fn wait_for(&self, window: usize) {
        let mut queue = lock(&self.shared.queue);
        if let Some(place) = queue.wanted.iter().position(|&wanted| wanted == window) {
            queue.wanted.remove(place);
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
            match queue.wanted.pop_front() {
                Some(window) => {
                    queue.being_fetched.push(window);
                    drop(queue);
                    self.fetch(window);
                    queue = lock(&self.queue);
                }
                None => queue = self.asked.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// What the walk is done with already is not read again.
    fn fetch(&self, window: usize) {
        let units = self.units.of_window(window);
        if let Some(first) = units.clone().find(|&n| !self.units.is_finished(n)) {
            self.source.fetch(self.units.bytes(first..units.end));
        }
        lock(&self.queue).being_fetched.retain(|&fetched| fetched != window);
        self.fetched.notify_all();
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.asked.notify_all();
        for thread in self.threads.drain(..) {
            // A reader runs no code of the caller's: there is no panic to pass on.
            let _ = thread.join();
        }
    }
}
