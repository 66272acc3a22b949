//! Passes over blocks, compared with a plain map, NumPy, dask, and the upper limits of memory and disk.
//!
//! `BLOCKS_MIB` is the size of each file (default 1,024), `TMPDIR` the disk, `PYTHON` an interpreter with NumPy (and with
//! dask for its contestants). `BLOCKS_ONLY` selects the titles that contain it; `BLOCKS_ROUNDS` is the number of rounds.

#![allow(clippy::undocumented_unsafe_blocks)] // Every file here is the bench's own, in a temporary folder.

mod side_by_side;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use memmap2::{Mmap, MmapMut, MmapOptions};
use ndarray::{ArrayView1, Ix1};
use ndarray_mmap::{MmapArray, MmapArrayMut};
use rayon::prelude::*;
use side_by_side::{Contestant, NumPy, compare};

const MIB: usize = 1 << 20;

fn array(path: &Path) -> MmapArray<f64, Ix1> {
    unsafe { MmapArray::open(path).unwrap() }
}

fn array_mut(path: &Path) -> MmapArrayMut<f64, Ix1> {
    unsafe { MmapArrayMut::open(path).unwrap() }
}

fn plain_map(path: &Path) -> Mmap {
    unsafe { MmapOptions::new().map(&File::open(path).unwrap()).unwrap() }
}

fn plain_view(map: &Mmap) -> ArrayView1<'_, f64> {
    ArrayView1::from(bytemuck::cast_slice(&map[..]))
}

/// The fastest loop over memory: sixteen independent sums.
fn sum(values: &[f64]) -> f64 {
    let mut lanes = [0.0; 16];
    for group in values.as_chunks::<16>().0 {
        lanes.iter_mut().zip(group).for_each(|(lane, x)| *lane += x);
    }
    lanes.iter().sum()
}

fn write_values(path: &Path, bytes: usize) {
    let mut file = File::create(path).unwrap();
    for chunk in 0..bytes.div_ceil(4 * MIB) {
        let count = (bytes - chunk * 4 * MIB).min(4 * MIB) / 8;
        let values: Vec<f64> = (0..count).map(|i| ((chunk * 31 + i) % 1000) as f64 / 8.0).collect();
        file.write_all(bytemuck::cast_slice(&values)).unwrap();
    }
    file.sync_all().unwrap();
}

/// Drops a file from the page cache.
fn chill(path: &Path) {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

/// Reads a file into the page cache. It stays there as long as the returned map lives: some systems may drop, at any time,
/// pages that nobody maps.
fn warm(path: &Path) -> Mmap {
    std::io::copy(&mut File::open(path).unwrap(), &mut std::io::sink()).unwrap();
    let map = plain_map(path);
    std::hint::black_box(map.iter().step_by(4096).map(|&byte| u64::from(byte)).sum::<u64>());
    map
}

/// Reads or writes a file past the page cache (`O_DIRECT`), in pieces of 4 MiB, two at a time.
fn direct(path: &Path, write: bool) {
    use std::os::unix::fs::{FileExt, OpenOptionsExt};
    const PIECE: usize = 4 * MIB;
    let file = File::options().read(!write).write(write).custom_flags(libc::O_DIRECT).open(path).unwrap();
    let pieces = file.metadata().unwrap().len() as usize / PIECE;
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut buffer = MmapMut::map_anon(PIECE).unwrap();
                buffer.fill(1);
                loop {
                    let piece = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if piece >= pieces {
                        break;
                    }
                    let at = (piece * PIECE) as u64;
                    if write {
                        file.write_all_at(&buffer, at).unwrap();
                    } else {
                        file.read_exact_at(&mut buffer, at).unwrap();
                    }
                }
            });
        }
    });
    if write {
        file.sync_data().unwrap();
    }
}

/// The most memory that `work` held in addition to what was held before, in MiB.
fn peak_growth(work: impl FnOnce()) -> f64 {
    let status = |key: &str| -> f64 {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap();
        line.trim_end_matches("kB").trim().parse::<f64>().unwrap() / 1024.0
    };
    // 5 resets the peak, `VmHWM`.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS:");
    work();
    status("VmHWM:") - before
}

fn measure_memory<T>(title: &str, work: impl FnOnce() -> T) {
    let start = Instant::now();
    let peak = peak_growth(|| {
        std::hint::black_box(work());
    });
    println!("  {title:<44} {peak:>8.1} MiB at most, {:.2} s", start.elapsed().as_secs_f64());
}

struct Bench {
    folder: tempfile::TempDir,
    bytes: usize,
    rounds: usize,
    python: [Option<NumPy>; 3],
}

impl Bench {
    fn wanted(title: &str) -> bool {
        std::env::var("BLOCKS_ONLY").is_ok_and(|word| title.contains(&word)) || std::env::var("BLOCKS_ONLY").is_err()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn compare<'a>(
        title: &str,
        rounds: usize,
        mut ours: Vec<Contestant<'a>>,
        python: &'a mut [Option<NumPy>],
        theirs: &[(&str, PathBuf, &'a str)],
        prepare: &'a dyn Fn(),
    ) {
        for (peer, (name, path, work)) in python.iter_mut().zip(theirs) {
            if let Some(peer) = peer {
                ours.push(peer.contestant(name, path.clone(), work));
            }
        }
        compare(title, rounds, 1, ours.into_iter().map(|c| c.after(prepare)).collect());
    }

    fn reductions(&mut self) {
        let path = self.path("a.bin");
        write_values(&path, self.bytes);
        let path = path.as_path();
        let numpy_sum = ("np.memmap(..).sum()", path.to_path_buf(), "np.memmap(path, dtype='f8', mode='r').sum()");
        let dask_sum = (
            "dask.array over np.memmap, .sum()",
            path.to_path_buf(),
            "__import__('dask.array').array.from_array(np.memmap(path, dtype='f8', mode='r'), name=False).sum().compute()",
        );
        let title = "warm sum, all cores";
        if Self::wanted(title) {
            let _warm = warm(path);
            let in_memory: Vec<f64> = array(path).to_vec();
            let ours = vec![
                Contestant::new("blocks().parallel(true).sum()", || array(path).blocks().parallel(true).sum()),
                Contestant::new("  .evict(false)", || array(path).blocks().parallel(true).evict(false).sum()),
                Contestant::new("in-memory parallel read (the limit)", || {
                    in_memory.par_chunks(512 * 1024).map(sum).sum::<f64>()
                }),
            ];
            let theirs = [numpy_sum.clone(), dask_sum.clone()];
            Self::compare(title, self.rounds, ours, &mut self.python, &theirs, &|| ());
        }
        let title = "warm sum, one core";
        if Self::wanted(title) {
            let _warm = warm(path);
            let ours = vec![
                Contestant::new("blocks().sum()", || array(path).blocks().sum()),
                Contestant::new("  .evict(false)", || array(path).blocks().evict(false).sum()),
                Contestant::new("ndarray .sum() on a plain map", || plain_view(&plain_map(path)).sum()),
                Contestant::new("the limit's loop on a plain map", || sum(bytemuck::cast_slice(&plain_map(path)))),
            ];
            Self::compare(title, self.rounds, ours, &mut self.python, &[numpy_sum.clone(), dask_sum.clone()], &|| ());
        }
        let title = "warm var, one core";
        if Self::wanted(title) {
            let _warm = warm(path);
            let ours = vec![
                Contestant::new("blocks().var(0)", || array(path).blocks().var(0)),
                Contestant::new("ndarray .var() on a plain map", || Some(plain_view(&plain_map(path)).var(0.0))),
            ];
            let theirs = [("np.memmap(..).var()", path.to_path_buf(), "np.memmap(path, dtype='f8', mode='r').var()")];
            Self::compare(title, self.rounds.min(5), ours, &mut self.python, &theirs, &|| ());
        }
        let title = "warm min_max and sum_axis, one core";
        if Self::wanted(title) {
            let _warm = warm(path);
            let rows = |path| unsafe { MmapArray::<f64>::options().row_shape(1024).open(path).unwrap() };
            let ours = vec![
                Contestant::new("blocks().min_max()", || array(path).blocks().min_max()),
                Contestant::new("blocks().sum_axis(0)", || rows(path).blocks().sum_axis(ndarray::Axis(0))),
                Contestant::new("blocks().sum_axis(1)", || rows(path).blocks().sum_axis(ndarray::Axis(1))),
            ];
            Self::compare(title, self.rounds, ours, &mut self.python, &[], &|| ());
        }
        let title = "cold sum, cache not kept";
        if Self::wanted(title) {
            let ours = vec![
                Contestant::new("blocks().keep_cached(false).sum()", || array(path).blocks().keep_cached(false).sum()),
                Contestant::new("  .parallel(true)", || array(path).blocks().keep_cached(false).parallel(true).sum()),
                Contestant::new("O_DIRECT, 4 MiB, 2 at a time (the limit)", || {
                    direct(path, false);
                    0.0
                }),
            ];
            Self::compare(title, self.rounds, ours, &mut self.python, &[], &|| chill(path));
        }
        let title = "cold sum, default";
        if Self::wanted(title) {
            let ours = vec![
                Contestant::new("blocks().sum()", || array(path).blocks().sum()),
                Contestant::new("blocks().parallel(true).sum()", || array(path).blocks().parallel(true).sum()),
                Contestant::new("blocks().keep_cached(false).sum()", || array(path).blocks().keep_cached(false).sum()),
            ];
            Self::compare(title, self.rounds, ours, &mut self.python, &[numpy_sum, dask_sum], &|| chill(path));
        }
        if Self::wanted("memory") {
            println!("\nresident memory of a sum over {} MiB", self.bytes / MIB);
            for (name, cold) in [("cold", true), ("warm", false)] {
                let prepare = || if cold { chill(path) } else { drop(warm(path)) };
                prepare();
                measure_memory(&format!("{name}, one thread"), || array(path).blocks().sum());
                prepare();
                measure_memory(&format!("{name}, parallel"), || array(path).blocks().parallel(true).sum());
            }
            chill(path);
            measure_memory("cold, ndarray .sum() on a plain map", || plain_view(&plain_map(path)).sum());
        }
        std::fs::remove_file(path).unwrap();
    }

    /// `out = a * 2 + b`.
    fn maps(&mut self) {
        let titles = ["warm, out new", "warm, out there", "durable on return"].map(|t| format!("out = a * 2 + b, {t}"));
        if !titles.iter().any(|title| Self::wanted(title)) {
            return;
        }
        let bytes = self.bytes / 2;
        let [a, b, out] = ["x.a", "x.b", "x.out"].map(|name| self.path(name));
        write_values(&a, bytes);
        write_values(&b, bytes);
        write_values(&out, bytes);
        let (a, b, out) = (a.as_path(), b.as_path(), out.as_path());
        let prefix = self.path("x");
        let ours = |keep: Option<bool>, parallel| {
            let (a, b, mut out) = (array(a), array(b), array_mut(out));
            let blocks = a.blocks().parallel(parallel);
            let blocks = keep.map_or(a.blocks().parallel(parallel), |keep| blocks.keep_cached(keep));
            blocks.zip_map_into(&b, &mut out, |x, y| x * 2.0 + y).unwrap();
            out
        };
        let whole = "(lambda a, b, o: np.add(np.multiply(a, 2, out=o), b, out=o))(*[np.memmap(path + e, dtype='f8', mode=m) for e, m in [('.a', 'r'), ('.b', 'r'), ('.out', 'r+')]])";
        let blocked = "(lambda a, b, o, k=1 << 15: [np.add(np.multiply(a[i:i+k], 2, out=o[i:i+k]), b[i:i+k], out=o[i:i+k]) for i in range(0, len(a), k)])(*[np.memmap(path + e, dtype='f8', mode=m) for e, m in [('.a', 'r'), ('.b', 'r'), ('.out', 'r+')]])";
        let dask = "(lambda da, a, b, o: da.store(da.from_array(a, name=False) * 2 + da.from_array(b, name=False), o))(__import__('dask.array').array, *[np.memmap(path + e, dtype='f8', mode=m) for e, m in [('.a', 'r'), ('.b', 'r'), ('.out', 'r+')]])";
        let theirs = [
            ("np.multiply(a, 2, out); out += b", prefix.clone(), whole),
            ("the same in blocks of 256 KiB", prefix.clone(), blocked),
            ("dask.array store", prefix.clone(), dask),
        ];
        let fresh = || {
            std::fs::remove_file(out).unwrap();
            let file = File::create(out).unwrap();
            // Allocated as by `create`, for NumPy too.
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes as u64).unwrap();
            warm(a);
            warm(b);
        };
        for (title, prepare) in [
            (&*titles[0], &fresh as &dyn Fn()),
            (&*titles[1], &|| {
                File::open(out).unwrap().sync_all().unwrap();
                warm(a);
                warm(b);
                warm(out);
            }),
        ] {
            if Self::wanted(title) {
                let ours = vec![
                    Contestant::new("zip_map_into, all cores", || drop(ours(None, true))),
                    Contestant::new("zip_map_into, one core", || drop(ours(None, false))),
                ];
                Self::compare(title, self.rounds, ours, &mut self.python, &theirs, prepare);
            }
        }
        let title = &*titles[2];
        if Self::wanted(title) {
            let contestants = vec![
                Contestant::new("keep_cached(false), all cores, flush", || ours(Some(false), true).flush().unwrap()),
                Contestant::new("keep_cached(false), one core, flush", || ours(Some(false), false).flush().unwrap()),
                Contestant::new("all cores, flush", || ours(None, true).flush().unwrap()),
                Contestant::new("O_DIRECT write of out alone (the limit)", || direct(out, true)),
            ];
            Self::compare(title, self.rounds, contestants, &mut self.python, &[], &fresh);
            fresh();
            measure_memory("keep_cached(false), all cores, flush", || ours(Some(false), true).flush().unwrap());
            fresh();
            measure_memory("all cores", || drop(ours(None, true)));
        }
    }
}

fn main() {
    let mib = std::env::var("BLOCKS_MIB").ok().and_then(|n| n.parse().ok()).unwrap_or(1024);
    let rounds = std::env::var("BLOCKS_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(7);
    let python = [(); 3].map(|()| NumPy::start());
    let mut bench = Bench { folder: tempfile::tempdir().unwrap(), bytes: mib * MIB, rounds, python };
    println!("{mib} MiB, {} threads", rayon::current_num_threads());
    bench.reductions();
    bench.maps();
}
