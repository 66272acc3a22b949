//! The tables: on the terminal, in `BENCHMARKS.md` and in README.md.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::measure::{Measured, median};
use crate::rows::{Row, Side, Work};
use crate::{Mode, Settings, chart};

/// The rows of README.md and of the chart.
const HEADLINES: [&str; 5] =
    ["sum f8", "var f8", "a*2 + b, f8, into a file", "gather 100000 rows of 1 KiB", "transpose f8, into a file"];

/// A ratio below this is marked.
const SLOWER: f64 = 0.95;

/// What was measured of a row.
pub struct Outcome {
    pub name: String,
    pub bytes: usize,
    entries: Vec<Entry>,
}

struct Entry {
    name: &'static str,
    side: Side,
    python: bool,
    threads: usize,
    rounds: Vec<Measured>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    Fresh,
    Again,
}

impl Pass {
    fn of(self, measured: &Measured) -> f64 {
        if self == Self::Fresh { measured.fresh } else { measured.again }
    }
}

impl Entry {
    fn time(&self, pass: Pass) -> f64 {
        median(self.rounds.iter().map(|measured| pass.of(measured)).collect())
    }

    fn peak(&self) -> f64 {
        median(self.rounds.iter().map(|measured| measured.peak).collect())
    }
}

/// This crate on some threads, and the best other way on as many or fewer.
pub struct Duel {
    pub ours: f64,
    pub peak: f64,
    pub other: Option<Other>,
    /// The best of those in Python.
    pub python: Option<Other>,
    pub limit: Option<f64>,
}

pub struct Other {
    pub name: &'static str,
    pub time: f64,
    peak: f64,
    /// How many times as fast this crate is.
    pub ratio: f64,
}

impl Outcome {
    pub fn new(row: &Row) -> Self {
        let entries = row.contestants.iter().map(|c| {
            let python = matches!(c.work, Work::Python { .. });
            Entry { name: c.name, side: c.side, python, threads: c.threads, rounds: Vec::new() }
        });
        Self { name: row.name.clone(), bytes: row.bytes, entries: entries.collect() }
    }

    pub fn put(&mut self, contestant: usize, measured: Measured) {
        self.entries[contestant].rounds.push(measured);
    }

    /// `None` if this operation has no use for so many threads.
    pub fn duel(&self, pass: Pass, threads: usize) -> Option<Duel> {
        let find = |side| self.entries.iter().find(|e| e.side == side && e.threads == threads);
        let ours = find(Side::Ours)?;
        let others = self.entries.iter().filter(|e| e.side == Side::Other && e.threads <= threads);
        let best = |others: &mut dyn Iterator<Item = &Entry>| {
            let best = others.min_by(|a, b| a.time(pass).total_cmp(&b.time(pass)))?;
            // The median of the rounds' ratios, not the ratio of the medians: a disturbance slows all times of a round.
            let ratios = best.rounds.iter().zip(&ours.rounds).map(|(b, o)| pass.of(b) / pass.of(o)).collect();
            Some(Other { name: best.name, time: best.time(pass), peak: best.peak(), ratio: median(ratios) })
        };
        let other = best(&mut others.clone());
        let python = best(&mut others.filter(|e| e.python));
        let limit = find(Side::Limit).map(|limit| limit.time(pass));
        Some(Duel { ours: ours.time(pass), peak: ours.peak(), other, python, limit })
    }
}

impl Duel {
    /// The best other way, and the best in Python if that is another.
    fn others(&self, peak: impl Fn(f64) -> String) -> String {
        let cell = |other: &Other| format!("{}{}: {}", human(other.time), peak(other.peak), other.name);
        let Some(best) = &self.other else { return "-".to_owned() };
        match &self.python {
            Some(python) if python.name != best.name => format!("{}; {}", cell(best), cell(python)),
            _ => cell(best),
        }
    }
}

/// One mode's table.
pub struct Report {
    mode: Mode,
    threads: Vec<usize>,
    about: String,
    command: String,
    sections: Vec<(&'static str, Vec<Outcome>)>,
}

impl Report {
    pub fn new(settings: &Settings, rounds: usize, limit: Option<usize>, python: Option<String>) -> Self {
        let Settings { mode, bytes, threads, .. } = settings;
        let mib = bytes >> 20;
        let limit = limit.map(|limit| format!(" --limit {}", limit >> 20)).unwrap_or_default();
        let command =
            format!("cargo bench --all-features --bench peers -- --{} --mib {mib}{limit} --write", mode.name());
        let rounds = if rounds == 1 { "1 round".to_owned() } else { format!("medians of {rounds} rounds") };
        let about = format!(
            "{}. {}, {}. Files of {mib} MiB, {rounds}.",
            machine(&settings.folder),
            concat!("ndarray-mmap ", env!("CARGO_PKG_VERSION")),
            python.unwrap_or_else(|| "without Python".to_owned())
        );
        println!("{about}");
        let threads = if *threads > 1 { vec![1, *threads] } else { vec![1] };
        Self { mode: *mode, threads, about, command, sections: Vec::new() }
    }

    pub fn add(&mut self, section: &'static str, outcome: Outcome) {
        if self.sections.last().is_none_or(|(last, _)| *last != section) {
            println!("\n{section}\n{}", self.heading());
            self.sections.push((section, Vec::new()));
        }
        print!("{}", self.lines(&outcome));
        self.sections.last_mut().expect("one was added").1.push(outcome);
    }

    fn passes(&self) -> &'static [Pass] {
        if self.mode == Mode::Memory { &[Pass::Fresh, Pass::Again] } else { &[Pass::Fresh] }
    }

    fn heading(&self) -> String {
        let (mut names, mut rule) = ("| operation | pass |".to_owned(), "|---|---|".to_owned());
        for threads in &self.threads {
            let threads = if *threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
            let _ = write!(names, " {threads}: this crate | best other | times as fast | limit |");
            rule.push_str("--:|---|--:|--:|");
        }
        format!("{names}\n{rule}")
    }

    /// The lines of a row: for each pass a line.
    fn lines(&self, outcome: &Outcome) -> String {
        let mut lines = String::new();
        for &pass in self.passes() {
            let name = if pass == Pass::Fresh { outcome.name.replace('*', "\\*") } else { String::new() };
            let _ = write!(lines, "| {name} | {} |", if pass == Pass::Fresh { "fresh" } else { "again" });
            for &threads in &self.threads {
                lines.push_str(&outcome.duel(pass, threads).map_or(" | | | |".to_owned(), |duel| self.cells(&duel)));
            }
            lines.push('\n');
        }
        lines
    }

    fn cells(&self, duel: &Duel) -> String {
        let peak = |mib: f64| if self.mode == Mode::Memory { String::new() } else { format!(", {mib:.0} MiB") };
        let ratio = duel.other.as_ref().map_or("-".to_owned(), |other| {
            let mark = if other.ratio < SLOWER { "**" } else { "" };
            format!("{mark}{:.2}{mark}", other.ratio)
        });
        let limit = duel.limit.map_or("-".to_owned(), human);
        format!(" {}{} | {} | {ratio} | {limit} |", human(duel.ours), peak(duel.peak), duel.others(peak))
    }

    /// Names what another way does faster.
    pub fn print_slower(&self) {
        println!("\nOf {} lines, these are below {SLOWER}:", self.outcomes().count() * self.passes().len());
        for outcome in self.outcomes() {
            for (&pass, &threads) in self.passes().iter().flat_map(|pass| self.threads.iter().map(move |n| (pass, n))) {
                let other = outcome.duel(pass, threads).and_then(|duel| duel.other);
                if let Some(other) = other.filter(|other| other.ratio < SLOWER) {
                    let pass = if pass == Pass::Fresh { "fresh" } else { "again" };
                    println!("  {:.2}  {}, {pass}, {threads} thread(s): {}", other.ratio, outcome.name, other.name);
                }
            }
        }
    }

    fn outcomes(&self) -> impl Iterator<Item = &Outcome> {
        self.sections.iter().flat_map(|(_, outcomes)| outcomes)
    }

    /// Writes the mode's part of `BENCHMARKS.md`, and for files in memory README's table and the chart.
    pub fn write(&self) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut text = format!("{}\n\n```sh\n{}\n```\n", self.about, self.command);
        for (section, outcomes) in &self.sections {
            let lines: String = outcomes.iter().map(|outcome| self.lines(outcome)).collect();
            let _ = write!(text, "\n### {section}\n\n{}\n{lines}", self.heading());
        }
        replace(&root.join("BENCHMARKS.md"), self.mode.name(), &text);
        if self.mode == Mode::Memory {
            let headlines =
                || HEADLINES.iter().filter_map(|name| self.outcomes().find(|outcome| outcome.name == *name));
            replace(&root.join("README.md"), "headlines", &self.headlines(headlines()));
            let all = self.threads.last().copied().unwrap_or(1);
            chart::draw(&root.join("BENCHMARKS.svg"), &headlines().collect::<Vec<_>>(), all);
        }
    }

    /// README's table: of repeated passes, which is the harder comparison.
    fn headlines<'a>(&self, outcomes: impl Iterator<Item = &'a Outcome>) -> String {
        let all = self.threads.last().copied().unwrap_or(1);
        let mut text =
            format!("| operation | this crate, 1 thread | {all} threads | best other | limit, {all} threads |\n");
        text.push_str("|---|--:|--:|---|--:|\n");
        for outcome in outcomes {
            let (Some(one), Some(many)) = (outcome.duel(Pass::Again, 1), outcome.duel(Pass::Again, all)) else {
                continue;
            };
            let (name, limit) = (outcome.name.replace('*', "\\*"), many.limit.map_or("-".to_owned(), human));
            let other = many.others(|_| String::new());
            let _ = writeln!(text, "| {name} | {} | {} | {other} | {limit} |", human(one.ours), human(many.ours));
        }
        let _ = write!(text, "\n{}\n", self.about);
        text
    }
}

/// Replaces what is between two comments of a Markdown file.
fn replace(path: &Path, part: &str, with: &str) {
    let text = fs::read_to_string(path).unwrap();
    let [start, end] = [format!("<!-- peers: {part} -->\n"), format!("<!-- end of peers: {part} -->")];
    let (before, rest) = text.split_once(&*start).unwrap_or_else(|| panic!("{} has no {start}", path.display()));
    let (_, after) = rest.split_once(&*end).unwrap_or_else(|| panic!("{} has no {end}", path.display()));
    fs::write(path, format!("{before}{start}{with}{end}{after}")).unwrap();
}

pub fn human(seconds: f64) -> String {
    match seconds {
        s if s < 1e-6 => format!("{:.0} ns", s * 1e9),
        s if s < 1e-3 => format!("{:.1} µs", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

pub fn memory_mib() -> usize {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    kib.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
}

/// The machine and the date.
fn machine(folder: &Path) -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.split('-').next().unwrap_or_default().trim();
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        line.split(' ').skip(1).collect::<Vec<_>>().get(..2).map(|m| (m[0].to_owned(), m[1].to_owned()))
    });
    let disk = mounts.filter(|(at, _)| folder.starts_with(at)).max_by_key(|(at, _)| at.len());
    let date =
        Command::new("date").args(["-u", "+%F"]).output().map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    format!(
        "{}: {}, {cores} cores, {} GiB, Linux {kernel}, {}",
        date.unwrap_or_default(),
        model.trim_start_matches(['\t', ' ', ':']),
        memory_mib().div_ceil(1024),
        disk.map_or("unknown file system".to_owned(), |(_, kind)| kind)
    )
}
