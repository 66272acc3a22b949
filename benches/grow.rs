//! The cost of appending rows, of replacing a whole file, and of changing a few rows of many.

#![allow(clippy::undocumented_unsafe_blocks)] // Every file here is the bench's own, in a temporary folder.

mod side_by_side;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytemuck::cast_slice;
use criterion::{Criterion, criterion_group, criterion_main};
use ndarray::prelude::*;
use ndarray_mmap::{MmapArrayMut, Staged};
use side_by_side::{Contestant, NumPy, compare};

const COLUMNS: usize = 8;
const MIB: usize = 1 << 20;

fn npy(path: PathBuf) -> MmapArrayMut<f64, Ix2> {
    unsafe { MmapArrayMut::<f64>::create_npy(path, (0, COLUMNS)).unwrap() }
}

/// Each contestant's file grows over all rounds. Those that rewrite the file each time start from 10,000 rows.
fn append(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut numpy = NumPy::start();
    let append_array = numpy.is_some() && has("npy_append_array");
    for (count, rounds, repeat) in [(1, 21, 1000), (1000, 21, 100)] {
        let rows = Array2::from_elem((count, COLUMNS), 1.5);
        let bytes: &[u8] = cast_slice(rows.as_slice().unwrap());
        let mut group = c.benchmark_group(format!("append {count} rows"));
        let mut log = npy(at("criterion.npy"));
        group.bench_function(".npy", |b| b.iter(|| log.append(&rows).unwrap()));
        group.finish();
        log.close().unwrap();

        let work = format!(
            "(kept.get(path) or kept.setdefault(path, __import__('npy_append_array').NpyAppendArray(path)))\
             .append(np.full(({count}, {COLUMNS}), 1.5))"
        );
        let anew = format!("np.save(path, np.concatenate([np.load(path), np.full(({count}, {COLUMNS}), 1.5)]))");
        let (mut log, mut other_log) = (npy(at("ours.npy")), npy(at("others.npy")));
        let mut raw = unsafe { MmapArrayMut::<f64>::create(at("raw.bin"), (0, COLUMNS)).unwrap() };
        let mut plain = File::options().append(true).create(true).open(at("plain.bin")).unwrap();
        let mut contestants = vec![
            Contestant::new("append, .npy", || log.append(&rows).unwrap()),
            Contestant::new("append, raw", || raw.append(&rows).unwrap()),
            Contestant::new("File::write_all: no array, no header", || plain.write_all(bytes).unwrap()),
        ];
        if let Some(numpy) = &mut numpy {
            let path = at(&format!("theirs-{count}.npy"));
            if append_array {
                contestants.push(numpy.contestant("npy_append_array (Python)", path, &work));
            }
        }
        compare(&format!("append {count} rows of {COLUMNS} f64"), rounds, repeat, contestants);

        if let Some(numpy) = &mut numpy {
            let path = at("anew.npy");
            let mut start = npy(path.clone());
            start.resize(10_000).unwrap();
            start.close().unwrap();
            let contestants = vec![
                Contestant::new("append, .npy", || other_log.append(&rows).unwrap()),
                numpy.contestant("np.save of all, from 10,000 rows on", path, &anew),
            ];
            compare(&format!("append {count} rows of {COLUMNS} f64, or write all anew"), 11, 20, contestants);
        }
    }
}

fn has(module: &str) -> bool {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let found =
        Command::new(&python).args(["-c", &format!("import {module}")]).output().is_ok_and(|o| o.status.success());
    if !found {
        println!("{python} has no {module}: it does not take part");
    }
    found
}

fn whole_files(_: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result.bin");
    for (name, bytes, rounds) in [("1 MiB", MIB, 21), ("64 MiB", 64 * MIB, 9)] {
        let values = Array1::from_elem(bytes / 8, 1.5);
        let as_bytes: &[u8] = cast_slice(values.as_slice().unwrap());
        fs::write(&path, as_bytes).unwrap();
        compare(
            &format!("a whole file of {name}, in place of the old one, not waiting for the disk"),
            rounds,
            1,
            vec![
                Contestant::new("create, assign", || unsafe {
                    MmapArrayMut::<f64>::create(&path, values.len()).unwrap().assign(&values);
                }),
                Contestant::new("std::fs::write (in place: a reader sees half)", || {
                    fs::write(&path, as_bytes).unwrap()
                }),
            ],
        );
        compare(
            &format!("a whole file of {name}, in place of the old one, on the disk"),
            rounds,
            1,
            vec![
                Contestant::new("stage, assign, publish", || {
                    let mut staged = Staged::<f64>::stage(&path, values.len()).unwrap();
                    staged.assign(&values);
                    staged.publish().unwrap();
                }),
                Contestant::new("stage, write_rows, publish", || {
                    let mut staged = Staged::<f64>::stage(&path, values.len()).unwrap();
                    staged.write_rows(0, &values).unwrap();
                    staged.publish().unwrap();
                }),
                Contestant::new("std::fs::write, sync, rename, sync folder", || {
                    let other = path.with_extension("tmp");
                    fs::write(&other, as_bytes).unwrap();
                    File::open(&other).unwrap().sync_all().unwrap();
                    fs::rename(&other, &path).unwrap();
                    File::open(folder.path()).unwrap().sync_all().unwrap();
                }),
                Contestant::new("std::fs::write", || fs::write(&path, as_bytes).unwrap()),
            ],
        );
    }
}

/// Counts the bytes that reach the disk when a few rows are changed and flushed: the fewest of several rounds, because other
/// processes write to the same disk. The file was written in pieces of 4 MiB, so Linux caches it in folios of up to 2 MiB.
fn sparse_updates(_: &mut Criterion) {
    const ROWS: usize = MIB;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse.bin");
    let Some(disk) = Disk::of(folder.path()) else {
        println!("\nthe disk of {} keeps no count of what is written to it", folder.path().display());
        return;
    };
    let mut file = File::create(&path).unwrap();
    for _ in 0..ROWS * COLUMNS * 8 / (4 * MIB) {
        file.write_all(&vec![1; 4 * MIB]).unwrap();
    }
    file.sync_all().unwrap();
    let open = || unsafe { MmapArrayMut::<f64>::options().row_shape(COLUMNS).open(&path).unwrap() };
    let mut numpy = NumPy::start();
    println!("\nchange k rows of 64 bytes, of 64 MiB, and flush: KiB to the disk for each row");
    for k in [1, 16, 64, 256] {
        // Scattered rows, others in each round.
        let rows = move |round: usize| (0..k).map(move |i| (i * (ROWS / k) + round * 4099 + i * 577) % ROWS);
        let row = Array2::from_elem((1, COLUMNS), 2.5);
        let mut a = open();
        let by_write_rows = disk.fewest_bytes(|round| {
            rows(round).for_each(|i| a.write_rows(i, &row).unwrap());
            a.flush().unwrap();
        });
        let by_store = disk.fewest_bytes(|round| {
            rows(round).for_each(|i| a.row_mut(i).fill(3.5));
            a.flush().unwrap();
        });
        a.close().unwrap();
        let by_numpy = numpy.as_mut().map(|numpy| {
            disk.fewest_bytes(|round| {
                let rows: Vec<_> = rows(round).collect();
                let work = format!(
                    "(lambda m: (m.__setitem__({rows:?}, 4.5), m.flush()))\
                     (np.memmap(path, 'f8', 'r+').reshape(-1, {COLUMNS}))"
                );
                numpy.contestant("", path.clone(), &work).once();
            })
        });
        let per_row = |bytes: u64| bytes as f64 / 1024.0 / k as f64;
        print!("  k = {k:<4} write_rows {:>8.1}   mapped store {:>8.1}", per_row(by_write_rows), per_row(by_store));
        println!("{}", by_numpy.map_or(String::new(), |bytes| format!("   numpy.memmap {:>8.1}", per_row(bytes))));
    }
}

/// Linux's counter of the sectors that were written to a disk.
struct Disk(PathBuf);

impl Disk {
    fn of(folder: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let device = fs::metadata(folder).ok()?.dev();
        let stat = PathBuf::from(format!("/sys/dev/block/{}:{}/stat", libc::major(device), libc::minor(device)));
        stat.exists().then_some(Self(stat))
    }

    fn written(&self) -> u64 {
        const SECTORS_WRITTEN: usize = 6;
        let stat = fs::read_to_string(&self.0).unwrap();
        512 * stat.split_whitespace().nth(SECTORS_WRITTEN).unwrap().parse::<u64>().unwrap()
    }

    fn fewest_bytes(&self, mut work: impl FnMut(usize)) -> u64 {
        let bytes = (0..15).map(|round| {
            let before = self.written();
            work(round);
            self.written() - before
        });
        bytes.min().unwrap_or_default()
    }
}

criterion_group!(benches, append, whole_files, sparse_updates);
criterion_main!(benches);
