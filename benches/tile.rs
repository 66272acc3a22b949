//! Copies that change the layout, scattered rows and a column, compared with NumPy, ndarray, and the upper limits of memory
//! and disk.
//!
//! `TILE_MIB` is the size of a matrix (default 2,048). The matrix that is transposed under a memory limit, and the file
//! that rows are taken from, are four times as large; the limit is a quarter of that matrix. All are reduced to what the
//! disk has room for. `TILE_ROWS` is the number of rows that are taken (default 100,000), `TMPDIR` the disk, `PYTHON` an
//! interpreter with NumPy. `TILE_ONLY` selects the titles that contain it; `TILE_ROUNDS` is the number of rounds.

#![allow(clippy::undocumented_unsafe_blocks)] // Every file here is the bench's own, in a temporary folder.

#[path = "peers/group.rs"]
mod group;
mod side_by_side;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io};

use bytemuck::Pod;
use group::Group;
use memmap2::{Advice, Mmap, MmapMut, MmapOptions};
use ndarray::{ArrayView2, ArrayViewMut2, Axis, Ix1, Ix2, ShapeBuilder};
use ndarray_mmap::{MmapArray, MmapArrayMut};
use rayon::ThreadPool;
use rayon::prelude::*;
use side_by_side::{Contestant, NumPy, compare};

const MIB: usize = 1 << 20;

/// The elements of a row: 4 KiB of `f64`.
const ROW: usize = 512;

/// Where the data of the scattered rows starts: after the header of a usual `.npy` file, and at a page boundary.
const STARTS: [usize; 2] = [128, 4096];

/// Elements whose value shows where they come from.
trait Element: Pod + PartialEq + Send + Sync {
    const DTYPE: &str;

    fn numbered(n: usize) -> Self;
}

impl Element for f64 {
    const DTYPE: &str = "f8";

    fn numbered(n: usize) -> Self {
        n as Self
    }
}

impl Element for f32 {
    const DTYPE: &str = "f4";

    fn numbered(n: usize) -> Self {
        // `f32` represents all whole numbers up to 2^24.
        (n % (1 << 24)) as Self
    }
}

fn array<T: Element>(path: &Path, start: usize, shape: (usize, usize)) -> MmapArray<T, Ix2> {
    unsafe { MmapArray::<T>::options().offset(start as u64).shape(shape).open(path).unwrap() }
}

fn array_mut<T: Element>(path: &Path, shape: impl ShapeBuilder<Dim = Ix2>) -> MmapArrayMut<T, Ix2> {
    unsafe { MmapArrayMut::<T>::options().shape(shape).open(path).unwrap() }
}

fn plain_map(path: &Path) -> Mmap {
    unsafe { MmapOptions::new().map(&File::open(path).unwrap()).unwrap() }
}

fn plain_map_mut(path: &Path) -> MmapMut {
    unsafe { MmapOptions::new().map_mut(&File::options().read(true).write(true).open(path).unwrap()).unwrap() }
}

fn write_numbered<T: Element>(path: &Path, count: usize) {
    let mut file = BufWriter::with_capacity(4 * MIB, File::create(path).unwrap());
    for start in (0..count).step_by(4096) {
        let values: Vec<T> = (start..count.min(start + 4096)).map(T::numbered).collect();
        file.write_all(bytemuck::cast_slice(&values)).unwrap();
    }
    file.into_inner().unwrap().sync_all().unwrap();
}

/// Makes a new file with allocated blocks, as `create` does: for all contestants, so that none is measured allocating.
fn fresh(path: &Path, bytes: usize) {
    let _ = fs::remove_file(path);
    let file = File::create(path).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes as u64).unwrap();
}

fn sync(path: &Path) {
    File::open(path).unwrap().sync_all().unwrap();
}

/// Drops a file from the page cache.
fn chill(path: &Path) {
    sync(path);
    rustix::fs::fadvise(File::open(path).unwrap(), 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let left = unsafe { MmapArray::<u8, Ix1>::open(path).unwrap() }.residency().unwrap();
    if left > 0.01 {
        println!("  not cold: the system keeps {:.0} % of {}", left * 100.0, path.display());
    }
}

/// Reads a file into the page cache. It stays there as long as the returned map lives: some systems may drop, at any time,
/// pages that nobody maps.
fn warm(path: &Path) -> Mmap {
    io::copy(&mut File::open(path).unwrap(), &mut io::sink()).unwrap();
    let map = plain_map(path);
    touch(&map);
    map
}

fn touch(map: &Mmap) {
    std::hint::black_box(map.iter().step_by(4096).map(|&byte| u64::from(byte)).sum::<u64>());
}

/// Pseudo-random numbers below a bound, the same in every run.
fn scattered(below: usize, count: usize) -> impl Iterator<Item = usize> {
    let mut state = 7_u64;
    (0..count).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 20) as usize % below
    })
}

fn human(bytes: usize) -> String {
    format!("{} MiB", bytes / MIB)
}

/// A matrix of numbered elements in the file `a`, and room for as many in `b`.
#[derive(Clone)]
struct Matrix {
    rows: usize,
    columns: usize,
    a: PathBuf,
    b: PathBuf,
}

impl Matrix {
    fn new(folder: &Path, rows: usize, columns: usize) -> Self {
        Self { rows, columns, a: folder.join("matrix.a"), b: folder.join("matrix.b") }
    }

    fn square<T>(folder: &Path, bytes: usize) -> Self {
        // Sides that make the file a whole number of pages, for the copy past the page cache.
        let side = ((bytes / size_of::<T>()).isqrt() / 64 * 64).max(64);
        Self::new(folder, side, side)
    }

    fn tall<T>(folder: &Path, bytes: usize) -> Self {
        Self::new(folder, bytes / size_of::<T>() / 64, 64)
    }

    fn bytes<T>(&self) -> usize {
        self.rows * self.columns * size_of::<T>()
    }

    fn transpose<T: Element>(&self) -> MmapArrayMut<T, Ix2> {
        let a = array::<T>(&self.a, 0, (self.rows, self.columns));
        let mut b = array_mut(&self.b, (self.columns, self.rows));
        b.assign_tiled(&a.t()).unwrap();
        b
    }

    fn to_fortran<T: Element>(&self) {
        let a = array::<T>(&self.a, 0, (self.rows, self.columns));
        array_mut(&self.b, (self.rows, self.columns).f()).assign_tiled(&a).unwrap();
    }

    fn transpose_by_ndarray<T: Element>(&self) {
        let (a, mut b) = (plain_map(&self.a), plain_map_mut(&self.b));
        let a = ArrayView2::<T>::from_shape((self.rows, self.columns), bytemuck::cast_slice(&a)).unwrap();
        let b = ArrayViewMut2::from_shape((self.columns, self.rows), bytemuck::cast_slice_mut(&mut b));
        b.unwrap().assign(&a.t());
    }

    fn to_fortran_by_ndarray<T: Element>(&self) {
        let (a, mut b) = (plain_map(&self.a), plain_map_mut(&self.b));
        let a = ArrayView2::<T>::from_shape((self.rows, self.columns), bytemuck::cast_slice(&a)).unwrap();
        let b = ArrayViewMut2::from_shape((self.rows, self.columns).f(), bytemuck::cast_slice_mut(&mut b));
        b.unwrap().assign(&a);
    }

    /// Copies the bytes in the same order. Each thread writes one contiguous part: interleaved, they would slow each other.
    fn copy(&self, threads: usize) {
        let (a, mut b) = (plain_map(&self.a), plain_map_mut(&self.b));
        let part = a.len().div_ceil(threads);
        b.par_chunks_mut(part).zip(a.par_chunks(part)).for_each(|(to, from)| to.copy_from_slice(from));
    }

    /// Copies the bytes past the page cache (`O_DIRECT`), in pieces of 4 MiB, two at a time.
    fn copy_directly(&self) {
        use std::os::unix::fs::{FileExt, OpenOptionsExt};
        const PIECE: usize = 4 * MIB;
        let open = |path: &Path, write: bool| {
            File::options().read(!write).write(write).custom_flags(libc::O_DIRECT).open(path).unwrap()
        };
        let (a, b) = (open(&self.a, false), open(&self.b, true));
        let bytes = a.metadata().unwrap().len() as usize;
        let next = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut buffer = MmapMut::map_anon(PIECE).unwrap();
                    loop {
                        let at = next.fetch_add(PIECE, std::sync::atomic::Ordering::Relaxed);
                        if at >= bytes {
                            break;
                        }
                        let piece = &mut buffer[..PIECE.min(bytes - at)];
                        a.read_exact_at(piece, at as u64).unwrap();
                        b.write_all_at(piece, at as u64).unwrap();
                    }
                });
            }
        });
        b.sync_all().unwrap();
    }

    /// Overwrites `b`, so that an earlier result cannot pass the check.
    fn spoil(&self) {
        plain_map_mut(&self.b).fill(0xff);
    }

    /// Checks `b`. The transposed matrix in C order and the matrix itself in Fortran order are the same bytes.
    fn check<T: Element>(&self) {
        let map = plain_map(&self.b);
        map.advise(Advice::Random).unwrap();
        let b: &[T] = bytemuck::cast_slice(&map);
        for at in scattered(b.len(), 10_000).chain([0, b.len() - 1]) {
            let (row, column) = (at % self.rows, at / self.rows);
            assert!(b[at] == T::numbered(row * self.columns + column), "row {row}, column {column}");
        }
    }

    /// A Python expression that evaluates `work`, with this matrix as `a` and one of `shape` as `b`.
    fn in_numpy<T: Element>(&self, shape: &str, work: &str) -> String {
        let Self { rows: r, columns: c, .. } = self;
        let map = |end, mode, shape| format!("np.memmap(path + '{end}', dtype='{}', mode='{mode}', {shape})", T::DTYPE);
        let (a, b) = (map(".a", "r", &*format!("shape=({r}, {c})")), map(".b", "r+", shape));
        format!("(lambda a, b, r={r}, c={c}: {work})({a}, {b})")
    }

    /// The path of `a` and `b` without their extensions, for NumPy.
    fn stem(&self) -> PathBuf {
        self.a.with_extension("")
    }
}

struct Bench {
    folder: tempfile::TempDir,
    bytes: usize,
    rounds: usize,
    one_core: ThreadPool,
    python: [Option<NumPy>; 2],
}

impl Bench {
    fn wanted(title: &str) -> bool {
        env::var("TILE_ONLY").map_or(true, |word| title.contains(&word))
    }

    /// Returns `bytes`, or less if the disk has no room for `files` such files.
    fn room(&self, what: &str, bytes: usize, files: usize) -> usize {
        let disk = rustix::fs::statvfs(self.folder.path()).unwrap();
        // 90 %, because others use the disk too.
        let most = (disk.f_bavail * disk.f_frsize) as usize / 10 * 9 / files;
        if most < bytes {
            println!("\n{what}: the disk has room for {} instead of {}", human(most), human(bytes));
        }
        most.min(bytes)
    }

    fn compare<'a>(
        title: &str,
        rounds: usize,
        mut contestants: Vec<Contestant<'a>>,
        python: &'a mut [Option<NumPy>],
        path: &Path,
        theirs: &'a [(&str, String)],
        prepare: &'a dyn Fn(),
    ) {
        for (peer, (name, work)) in python.iter_mut().zip(theirs) {
            if let Some(peer) = peer {
                contestants.push(peer.contestant(name, path.to_path_buf(), work));
            }
        }
        compare(title, rounds, 1, contestants.into_iter().map(|c| c.after(prepare)).collect());
    }

    fn warm_copies(&mut self) {
        let bytes = self.room("warm", self.bytes, 2);
        let folder = self.folder.path().to_path_buf();
        self.warm_copies_of::<f64>(&Matrix::square::<f64>(&folder, bytes), true);
        self.warm_copies_of::<f64>(&Matrix::tall::<f64>(&folder, bytes), false);
        self.warm_copies_of::<f32>(&Matrix::square::<f32>(&folder, bytes), false);
        self.warm_copies_of::<f32>(&Matrix::tall::<f32>(&folder, bytes), false);
    }

    fn warm_copies_of<T: Element>(&mut self, m: &Matrix, all: bool) {
        let what = format!("{}, {} x {}", T::DTYPE, m.rows, m.columns);
        let titles =
            ["warm transpose", "warm C to F", "warm transpose into a new file"].map(|t| format!("{t}, {what}"));
        let wanted = [0, 1, 2].map(|n| Self::wanted(&titles[n]) && (n == 0 || all));
        if !wanted.contains(&true) {
            return;
        }
        write_numbered::<T>(&m.a, m.rows * m.columns);
        let a = warm(&m.a);
        let one_core = &self.one_core;
        let cores = rayon::current_num_threads();

        let transpose = || drop(m.transpose::<T>());
        let to_fortran = || m.to_fortran::<T>();
        let transpose_by_ndarray = || m.transpose_by_ndarray::<T>();
        let to_fortran_by_ndarray = || m.to_fortran_by_ndarray::<T>();
        let transposed = format!("shape=({}, {})", m.columns, m.rows);
        let fortran = format!("shape=({}, {}), order='F'", m.rows, m.columns);
        let assign_t = ("NumPy b[...] = a.T", m.in_numpy::<T>(&transposed, "b.__setitem__(..., a.T)"));
        let assign = ("NumPy b[...] = a", m.in_numpy::<T>(&fortran, "b.__setitem__(..., a)"));

        for (n, call, ours, by_ndarray, by_numpy) in [
            (
                0,
                "assign_tiled(&a.t())",
                &transpose as &(dyn Fn() + Sync),
                &transpose_by_ndarray as &dyn Fn(),
                &assign_t,
            ),
            (1, "assign_tiled(&a)", &to_fortran, &to_fortran_by_ndarray, &assign),
            (2, "assign_tiled(&a.t())", &transpose, &transpose_by_ndarray, &assign_t),
        ] {
            if !wanted[n] {
                continue;
            }
            let new = n == 2;
            fresh(&m.b, m.bytes::<T>());
            let check = |run: &dyn Fn()| {
                if new {
                    fresh(&m.b, m.bytes::<T>());
                } else {
                    m.spoil();
                }
                run();
                m.check::<T>();
            };
            check(&|| one_core.install(ours));
            check(&ours);
            let b = (!new).then(|| warm(&m.b));
            let prepare = || {
                if let Some(b) = &b {
                    sync(&m.b);
                    touch(b);
                } else {
                    fresh(&m.b, m.bytes::<T>());
                }
                touch(&a);
            };
            let contestants = vec![
                Contestant::new(&format!("{call}, one core"), || one_core.install(ours)),
                Contestant::new(&format!("{call}, all cores"), ours),
                Contestant::new("ndarray assign, plain maps", by_ndarray),
                Contestant::new("copy of the same bytes, one core", || m.copy(1)),
                Contestant::new(&format!("copy of the same bytes, {cores} cores"), || m.copy(cores)),
            ];
            let theirs = std::slice::from_ref(by_numpy);
            Self::compare(&titles[n], self.rounds, contestants, &mut self.python, &m.stem(), theirs, &prepare);
        }
        fs::remove_file(&m.a).unwrap();
        fs::remove_file(&m.b).unwrap();
    }

    fn column(&mut self) {
        let m = Matrix::square::<f64>(self.folder.path(), self.room("column", self.bytes, 1));
        let title = format!("cold, one column, f8, {} x {}", m.rows, m.columns);
        if !Self::wanted(&title) {
            return;
        }
        write_numbered::<f64>(&m.a, m.rows * m.columns);
        let j = m.columns / 3;
        let gather = || array::<f64>(&m.a, 0, (m.rows, m.columns)).gather(Axis(1), &[j]).unwrap();
        let prepare = || chill(&m.a);
        prepare();
        let column = gather();
        assert_eq!(column.dim(), (m.rows, 1));
        assert!(column.indexed_iter().all(|((i, _), &x)| x == f64::numbered(i * m.columns + j)));

        let a = format!("np.memmap(path, dtype='f8', mode='r', shape=({}, {}))", m.rows, m.columns);
        let theirs = [
            ("NumPy a[:, j].copy()", format!("{a}[:, {j}].copy()")),
            ("  with MADV_RANDOM", format!("(lambda a: ({}, a[:, {j}].copy()))({a})", RANDOM)),
        ];
        let contestants = vec![Contestant::new("gather(Axis(1), &[j])", gather)];
        Self::compare(&title, self.rounds, contestants, &mut self.python, &m.a, &theirs, &prepare);
        fs::remove_file(&m.a).unwrap();
    }

    fn rows(&mut self) {
        let count = env::var("TILE_ROWS").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
        let title = |start| format!("cold, {count} random rows of 4 KiB, from byte {start} of the file on");
        if !STARTS.iter().any(|&start| Self::wanted(&title(start))) {
            return;
        }
        let bytes = self.room("rows", self.bytes * 4, 1);
        let path = self.folder.path().join("rows");
        // One file for both starts: the elements before the rows are numbered too.
        let rows = bytes / 4096 - 1;
        write_numbered::<f64>(&path, STARTS[1] / 8 + rows * ROW);
        let indices: Vec<usize> = scattered(rows, count).collect();
        fs::write(path.with_extension("indices"), bytemuck::cast_slice(&indices)).unwrap();
        for start in STARTS {
            let title = format!("{}, {}", title(start), human(bytes));
            if !Self::wanted(&title) {
                continue;
            }
            let gather = || array::<f64>(&path, start, (rows, ROW)).gather(Axis(0), &indices).unwrap();
            let prepare = || chill(&path);
            prepare();
            let gathered = gather();
            assert_eq!(gathered.dim(), (count, ROW));
            for (row, &index) in gathered.rows().into_iter().zip(&indices) {
                assert!((start / 8 + index * ROW..).zip(row).all(|(n, &x)| x == f64::numbered(n)));
            }
            drop(gathered);

            let a = format!("np.memmap(path, dtype='f8', mode='r', offset={start}, shape=({rows}, {ROW}))");
            let indices = "kept.setdefault('indices', np.fromfile(path + '.indices', dtype='i8'))";
            let theirs = [("NumPy a[rows], MADV_RANDOM", format!("(lambda a: ({RANDOM}, a[{indices}]))({a})"))];
            let contestants = vec![Contestant::new("gather(Axis(0), &rows)", gather)];
            Self::compare(&title, self.rounds, contestants, &mut self.python, &path, &theirs, &prepare);
        }
        fs::remove_file(&path).unwrap();
    }

    fn under_a_limit(&mut self) {
        // With less, the memory of an idle Python would be measured.
        const LEAST: usize = 160 * MIB;
        let title = "cold transpose under a memory limit, durable on return";
        if !Self::wanted(title) {
            return;
        }
        let bytes = self.room("under a limit", self.bytes * 4, 2);
        let limit = (bytes / 4).max(LEAST);
        // One group for each, so that what one holds, or left in the page cache, does not count for another.
        let groups = ["ours", "direct", "numpy"].map(|name| Group::new(name, limit));
        let [Ok(ours), Ok(direct), Ok(numpy)] = &groups else {
            let why = groups.iter().find_map(|group| group.as_ref().err()).unwrap();
            println!("\n{title}: left out, no control group can be made ({why})");
            return;
        };
        let m = Matrix::square::<f64>(self.folder.path(), bytes);
        let title =
            format!("{title}, f8, {} x {}: {} under {}", m.rows, m.columns, human(m.bytes::<f64>()), human(limit));
        write_numbered::<f64>(&m.a, m.rows * m.columns);

        let run = |name: &str, group: &Group| {
            let mut command = Command::new(env::current_exe().unwrap());
            command.env("TILE_CHILD", name).env("TILE_FOLDER", self.folder.path()).env("TILE_BYTES", bytes.to_string());
            group.take(&mut command);
            let output = command.stderr(Stdio::inherit()).output().unwrap();
            assert!(output.status.success(), "{name} within {}: {}", human(limit), output.status);
            Duration::from_secs_f64(String::from_utf8(output.stdout).unwrap().trim().parse().unwrap())
        };
        let contestants = vec![
            Contestant::timed("assign_tiled(&a.t()), flush", || {
                let time = run("ours", ours);
                m.check::<f64>();
                time
            }),
            Contestant::timed("O_DIRECT copy, 2 at a time (the limit)", || run("direct", direct)),
        ];
        let k = 1024;
        let blocked = format!(
            "([b.__setitem__((slice(j, j+{k}), slice(i, i+{k})), a[i:i+{k}, j:j+{k}].T) \
             for i in range(0, r, {k}) for j in range(0, c, {k})], b.flush())"
        );
        let blocked = m.in_numpy::<f64>(&format!("shape=({}, {})", m.columns, m.rows), &blocked);
        let theirs = [("NumPy, blocks of 1,024 x 1,024, flush", blocked)];
        let mut python = [NumPy::start_with(|command| numpy.take(command))];
        let prepare = || {
            fresh(&m.b, m.bytes::<f64>());
            chill(&m.b);
            chill(&m.a);
        };
        Self::compare(&title, self.rounds.min(3), contestants, &mut python, &m.stem(), &theirs, &prepare);
        fs::remove_file(&m.a).unwrap();
        fs::remove_file(&m.b).unwrap();
    }
}

/// In Python: makes the system read no more of the file of `a` than what is accessed.
const RANDOM: &str = "a._mmap.madvise(__import__('mmap').MADV_RANDOM)";

/// Runs a contestant in this process, which was started so that its memory can be limited. Prints the seconds.
fn child(name: &str) {
    let folder = PathBuf::from(env::var_os("TILE_FOLDER").unwrap());
    let m = Matrix::square::<f64>(&folder, env::var("TILE_BYTES").unwrap().parse().unwrap());
    let start = Instant::now();
    match name {
        "ours" => m.transpose::<f64>().flush().unwrap(),
        "direct" => m.copy_directly(),
        _ => panic!("no contestant is called {name}"),
    }
    println!("{}", start.elapsed().as_secs_f64());
}

fn main() {
    if let Ok(name) = env::var("TILE_CHILD") {
        return child(&name);
    }
    let number = |name: &str, default| env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (mib, rounds) = (number("TILE_MIB", 2048), number("TILE_ROUNDS", 5));
    let python = [(); 2].map(|()| NumPy::start());
    let one_core = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let mut bench = Bench { folder: tempfile::tempdir().unwrap(), bytes: mib * MIB, rounds, one_core, python };
    println!("{mib} MiB, {} threads", rayon::current_num_threads());
    bench.warm_copies();
    bench.column();
    bench.rows();
    bench.under_a_limit();
}
