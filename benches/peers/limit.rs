//! The limits: the same bytes, read or copied by plain code on as many threads.

use std::fs::File;
use std::hint::black_box;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use memmap2::{Advice, Mmap, MmapMut};

use crate::files::{MIB, map, map_mut};
use crate::rows::Row;
use crate::{Mode, Settings};

#[derive(Clone, Copy)]
pub enum Limit {
    /// Reads all inputs.
    Read,
    /// Copies the inputs over the target.
    Copy,
    /// Writes as many bytes over the target.
    Fill,
    /// The same two to a new file.
    CopyToNew,
    FillNew,
    /// Copies so many bytes of the first input to new memory.
    ToMemory(usize),
}

impl Row {
    /// Adds the limit. Where the files are not in memory, that is the disk's.
    pub fn limit(self, settings: &Settings, limit: Limit) -> Self {
        let inputs: Vec<PathBuf> = self.inputs.iter().map(|input| input.path.clone()).collect();
        let (target, bytes) = self.target.as_ref().map(|t| (t.path.clone(), t.bytes)).unwrap_or_default();
        let maps = move || inputs.iter().map(|path| map(path)).collect::<Vec<_>>();
        if settings.mode != Mode::Memory {
            let inputs: Vec<PathBuf> = self.inputs.iter().map(|input| input.path.clone()).collect();
            let writes = settings.mode == Mode::Beyond && bytes > 0;
            return self.limit_of(
                || (),
                move |(), _| {
                    inputs.iter().for_each(|path| direct(path, None));
                    if writes {
                        direct(&target, Some(bytes));
                    }
                },
            );
        }
        match limit {
            Limit::Read => self.limit_of(maps, |maps, threads| maps.iter().for_each(|map| read(map, threads))),
            Limit::Copy => {
                self.limit_of(move || (maps(), map_mut(&target)), |(from, to), threads| copy(from, to, threads))
            }
            Limit::Fill => self.limit_of(move || map_mut(&target), |to, threads| copy(&[], to, threads)),
            Limit::CopyToNew => self.limit_of(maps, move |from, threads| write(from, &target, bytes, threads)),
            Limit::FillNew => self.limit_of(|| (), move |(), threads| write(&[], &target, bytes, threads)),
            Limit::ToMemory(bytes) => self.limit_of(maps, move |from, threads| to_memory(&from[0], bytes, threads)),
        }
    }
}

/// The pieces of `len` bytes, in one contiguous part for each thread: interleaved, they would slow each other.
fn pieces(len: usize, threads: usize, work: impl Fn(Range<usize>) + Sync) {
    const PIECE: usize = 256 * 1024;
    let threads = threads.min(len.div_ceil(PIECE)).max(1);
    let part = len.div_ceil(threads).next_multiple_of(PIECE);
    let serve = |thread: usize| {
        let end = len.min((thread + 1) * part);
        (thread * part..end).step_by(PIECE).for_each(|at| work(at..end.min(at + PIECE)));
    };
    thread::scope(|scope| {
        (1..threads).for_each(|thread| drop(scope.spawn(move || serve(thread))));
        serve(0);
    });
}

fn read(from: &[u8], threads: usize) {
    pieces(from.len(), threads, |piece| read_piece(&from[piece]));
}

/// The fastest loop over memory: sums that do not wait for each other.
fn read_piece(bytes: &[u8]) {
    let mut lanes = [0_u64; 32];
    for group in bytes.as_chunks::<256>().0 {
        for (lane, word) in lanes.iter_mut().zip(group.as_chunks::<8>().0) {
            *lane = lane.wrapping_add(u64::from_ne_bytes(*word));
        }
    }
    black_box(lanes);
}

/// Passes each piece of the first input, as long as one of the target, to `to`; and reads the others'. What is to be written
/// may be longer than what is read, or shorter.
fn copy_pieces(from: &[Mmap], len: usize, threads: usize, to: impl Fn(usize, &[u8]) + Sync) {
    static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];
    pieces(len, threads, |piece| {
        let share = |from: &Mmap| {
            let scaled = |at: usize| (at as u128 * from.len() as u128 / len as u128) as usize;
            scaled(piece.start)..scaled(piece.end)
        };
        from.iter().skip(1).for_each(|from| read_piece(&from[share(from)]));
        let first = from.first().map_or(&ZEROS[..piece.len()], |from| &from[share(from)]);
        if first.len() > piece.len() {
            read_piece(&first[piece.len()..]);
        }
        let mut at = piece.start;
        while at < piece.end {
            let some = &first[..first.len().min(piece.end - at)];
            to(at, some);
            at += some.len();
        }
    });
}

fn copy(from: &[Mmap], to: &mut MmapMut, threads: usize) {
    let to = Shared(to.as_mut_ptr(), to.len());
    copy_pieces(from, to.1, threads, |at, bytes| to.store(at, bytes));
}

fn write(from: &[Mmap], path: &Path, bytes: usize, threads: usize) {
    // Not emptied, which would make file systems write the new contents to the disk when the file is closed.
    let _ = std::fs::remove_file(path);
    let to = File::create(path).unwrap();
    copy_pieces(from, bytes, threads, |at, bytes| to.write_all_at(bytes, at as u64).unwrap());
}

fn to_memory(from: &Mmap, bytes: usize, threads: usize) {
    let (mut small, mut large);
    let to: &mut [u8] = if bytes < MIB {
        small = vec![0; bytes];
        &mut small
    } else {
        large = MmapMut::map_anon(bytes).unwrap();
        // Where the system has no huge pages, the limit is lower.
        let _ = large.advise(Advice::HugePage);
        &mut large
    };
    let shared = Shared(to.as_mut_ptr(), bytes);
    pieces(bytes, threads, |piece| {
        // More than there is when rows are taken several times.
        let at = piece.start % (from.len() - piece.len() + 1);
        shared.store(piece.start, &from[at..at + piece.len()]);
    });
    black_box(to);
}

/// Memory of which each thread writes its own part.
struct Shared(*mut u8, usize);

unsafe impl Sync for Shared {}

impl Shared {
    fn store(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.1);
        unsafe { self.0.add(at).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }
}

/// Reads a file past the page cache, in pieces of 4 MiB; or writes a new one of so many bytes. That takes next to no time of
/// the processor, so it does not matter how many threads the contestants have.
fn direct(path: &Path, write: Option<usize>) {
    const PIECE: usize = 4 * MIB;
    const REQUESTS: usize = 4;
    let mut options = File::options();
    options.read(write.is_none()).write(write.is_some()).create(write.is_some()).custom_flags(libc::O_DIRECT);
    let file = options.open(path).unwrap();
    let pieces = write.unwrap_or(file.metadata().unwrap().len() as usize) / PIECE;
    let next = AtomicUsize::new(0);
    let serve = || {
        // In huge pages: a request of many small ones is a slow one.
        let mut memory = MmapMut::map_anon(2 * PIECE).unwrap();
        let _ = memory.advise(Advice::HugePage);
        let start = memory.as_ptr().align_offset(PIECE);
        let buffer = &mut memory[start..start + PIECE];
        buffer.fill(1);
        loop {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= pieces {
                break;
            }
            let at = (piece * PIECE) as u64;
            if write.is_some() {
                file.write_all_at(buffer, at).unwrap();
            } else {
                file.read_exact_at(buffer, at).unwrap();
            }
        }
    };
    thread::scope(|scope| (0..REQUESTS).for_each(|_| drop(scope.spawn(serve))));
    if write.is_some() {
        file.sync_data().unwrap();
    }
}
