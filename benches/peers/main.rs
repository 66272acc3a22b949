//! Every operation of this crate, beside what a user would take in its place: NumPy, numexpr, npy-append-array, ndarray on a
//! mapped file, memmap2 by hand, reading into a `Vec`; and beside the limit, plain code that reads or copies the same bytes.
//!
//! ```sh
//! cargo bench --all-features --bench peers -- [--memory] [--cold] [--beyond] [--rows WORD] [--rounds N] [--mib N] [--write]
//! ```
//!
//! - `--memory` (the default): files in memory, of `--mib` (512) each. *Fresh* is opening them and the first pass, in a new
//!   process; *again* is the median of more passes.
//! - `--cold`: files that are not in memory.
//! - `--beyond`: arrays larger than memory, or than a limit: `--limit MIB` makes a control group of so much, which needs root.
//! - `--rows` selects the rows whose name contains the word; `--write` puts the tables into `BENCHMARKS.md` and README.md.
//! - `TMPDIR` is the disk, `PYTHON` the interpreter that has NumPy, numexpr and npy-append-array. Without it they are left out.
//!
//! Each contestant runs in a process of its own, which is started anew in each round; the contestants of a row take turns. All
//! must have the same result.

#![allow(clippy::undocumented_unsafe_blocks)] // Every file here is the bench's own, in a temporary folder.

mod chart;
mod files;
mod group;
mod limit;
mod measure;
mod report;
mod rows;
mod value;

use std::path::PathBuf;
use std::{env, fs, thread};

use files::{MIB, chill, warm};
use group::Group;
use report::{Outcome, Report};
use rows::{Row, Side, Work, rows};
use value::Element;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    Memory,
    Cold,
    Beyond,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Memory, Self::Cold, Self::Beyond];

    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cold => "cold",
            Self::Beyond => "beyond",
        }
    }

    fn rounds(self) -> usize {
        if self == Self::Beyond { 1 } else { 5 }
    }
}

/// What a table of rows depends on.
pub struct Settings {
    pub mode: Mode,
    /// Of each file.
    pub bytes: usize,
    pub folder: PathBuf,
    /// The largest number of threads.
    pub threads: usize,
}

impl Settings {
    /// A file of elements. The ending of its name is the element type, as peers.py expects it.
    pub fn path<A: Element>(&self, stem: &str) -> PathBuf {
        self.folder.join(format!("{stem}.{}", A::DTYPE))
    }

    /// The arguments by which another process gets the same.
    pub fn arguments(&self) -> [String; 7] {
        let (mode, folder) = (format!("--{}", self.mode.name()), self.folder.display().to_string());
        let (mib, threads) = (self.bytes / MIB, self.threads);
        [mode, "--mib".into(), mib.to_string(), "--folder".into(), folder, "--threads".into(), threads.to_string()]
    }
}

#[derive(Default)]
struct Arguments {
    modes: Vec<Mode>,
    pattern: Option<String>,
    rounds: Option<usize>,
    mib: Option<usize>,
    limit: Option<usize>,
    write: bool,
    folder: Option<PathBuf>,
    threads: Option<usize>,
    measure: Option<[String; 3]>,
}

impl Arguments {
    fn parse() -> Self {
        let (mut parsed, mut words) = (Self::default(), env::args().skip(1));
        while let Some(word) = words.next() {
            let mut next = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
            let number = |text: String| text.parse().unwrap_or_else(|_| panic!("{text} is not a number"));
            match &*word {
                "--rows" => parsed.pattern = Some(next()),
                "--rounds" => parsed.rounds = Some(number(next())),
                "--mib" => parsed.mib = Some(number(next())),
                "--limit" => parsed.limit = Some(number(next()) * MIB),
                "--threads" => parsed.threads = Some(number(next())),
                "--write" => parsed.write = true,
                "--folder" => parsed.folder = Some(next().into()),
                "--measure" => parsed.measure = Some([next(), next(), next()]),
                "--bench" => {} // from Cargo
                word => {
                    let mode = Mode::ALL.into_iter().find(|mode| word.strip_prefix("--") == Some(mode.name()));
                    parsed
                        .modes
                        .push(mode.unwrap_or_else(|| panic!("unknown argument {word}; see benches/peers/main.rs")));
                }
            }
        }
        if parsed.modes.is_empty() {
            parsed.modes.push(Mode::Memory);
        }
        assert!(!(parsed.write && parsed.pattern.is_some()), "`--write` takes whole tables: leave out `--rows`");
        parsed
    }

    fn settings(&self, mode: Mode, folder: PathBuf) -> Settings {
        let mut mib = self.mib.unwrap_or(512);
        if mode == Mode::Beyond && self.mib.is_none() {
            // Two files, and some of the disk is left to others.
            let disk = rustix::fs::statvfs(&folder).unwrap();
            let most = (disk.f_bavail * disk.f_frsize) as usize / MIB / 10 * 9 / 2;
            let wanted = self.limit.map_or(report::memory_mib() / 4 * 5, |limit| 4 * limit / MIB);
            mib = wanted.min(most);
            println!("arrays of {mib} MiB{}", if mib < wanted { ", for want of disk space" } else { "" });
        }
        let threads = self.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, |n| n.get()));
        // Whole pieces, for what goes past the page cache.
        Settings { mode, bytes: mib.next_multiple_of(4) * MIB, folder, threads }
    }
}

fn main() {
    let arguments = Arguments::parse();
    if let Some([row, contestant, threads]) = &arguments.measure {
        let settings = arguments.settings(arguments.modes[0], arguments.folder.clone().unwrap());
        let rows = rows(&settings).into_iter().flat_map(|(_, rows)| rows);
        let row = rows.into_iter().find(|found| found.name == *row).expect("the parent has the same table");
        return measure::child(&row, contestant, threads.parse().unwrap(), settings.mode == Mode::Memory);
    }
    let python = measure::python_versions();
    match &python {
        Some(versions) => println!("{versions}"),
        None => println!("{} lacks a package: Python does not take part (see PYTHON)", measure::python()),
    }
    for &mode in &arguments.modes {
        let folder = tempfile::tempdir().unwrap();
        let settings = arguments.settings(mode, folder.path().to_path_buf());
        let rounds = arguments.rounds.unwrap_or(mode.rounds());
        let group = arguments.limit.filter(|_| mode == Mode::Beyond).map(|limit| Group::new("peers", limit).unwrap());
        let mut report = Report::new(&settings, rounds, arguments.limit, python.clone());
        for (section, rows) in rows(&settings) {
            let wanted = |row: &Row| arguments.pattern.as_ref().is_none_or(|word| row.name.contains(&**word));
            for mut row in rows.into_iter().filter(wanted) {
                row.contestants.retain(|c| python.is_some() || matches!(c.work, Work::Rust(_)));
                report.add(section, compare(&settings, &row, rounds, group.as_ref()));
            }
        }
        report.print_slower();
        if arguments.write {
            report.write();
        }
    }
}

/// Measures all contestants of a row in turn, round by round, and compares their results in the first.
fn compare(settings: &Settings, row: &Row, rounds: usize, group: Option<&Group>) -> Outcome {
    let in_memory = settings.mode == Mode::Memory;
    row.inputs.iter().for_each(|input| input.make());
    let _warm: Vec<_> = row.inputs.iter().filter(|_| in_memory).map(|input| warm(&input.path)).collect();
    let mut outcome = Outcome::new(row);
    let mut expected = None;
    for round in 0..rounds {
        let count = row.contestants.len();
        // Each is the first in some round: it may meet what was done to the files before.
        for n in (0..count).map(|n| (n + round) % count) {
            let contestant = &row.contestants[n];
            if let Some(target) = &row.target {
                target.prepare(round == 0);
            }
            if !in_memory {
                row.inputs.iter().for_each(|input| chill(&input.path));
            }
            let measured = measure::in_process(settings, row, contestant, group);
            if round == 0 && contestant.side != Side::Limit {
                let hash = row.target.as_ref().map(|target| target.hash());
                let &mut (value, same) = expected.get_or_insert((measured.value, hash));
                let agrees = row.agrees(value, measured.value) && same == hash;
                let found = (measured.value, hash);
                assert!(agrees, "{}: {} has {found:?} instead of {:?}", row.name, contestant.name, (value, same));
            }
            outcome.put(n, measured);
        }
    }
    if let Some(target) = &row.target {
        let _ = fs::remove_file(&target.path);
    }
    outcome
}
