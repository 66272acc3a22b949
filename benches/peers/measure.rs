//! One contestant in a process of its own: what that process does, and how it is started.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use std::{env, fs};

use crate::group::Group;
use crate::rows::{Contestant, Row, Work};
use crate::value::Value;
use crate::{Mode, Settings};

/// What one process measured. Seconds and MiB.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Opening the files, and the first pass.
    pub fresh: f64,
    /// The median of more passes over what is open; NaN if there were none.
    pub again: f64,
    /// The memory that was resident at most until the first pass was done, beyond what was before.
    pub peak: f64,
    /// What stands for the result of the first pass.
    pub value: f64,
}

/// A pass that takes less is repeated until it takes as much: the clock is not exact enough for one.
const SHORTEST: f64 = 2e-3;

/// Measures in this process. A result is dropped after the clock has stopped, except within a batch of short passes.
pub fn measure<S, R: Value>(open: &dyn Fn() -> S, pass: &dyn Fn(&mut S) -> R, again: bool) -> Measured {
    // 5 resets the peak, `VmHWM`.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let resident = memory("VmRSS:");
    let start = Instant::now();
    let mut state = open();
    let result = pass(&mut state);
    let fresh = start.elapsed().as_secs_f64();
    let peak = memory("VmHWM:") - resident;
    let value = result.value();
    drop(result);
    let batch = (SHORTEST / fresh).clamp(1.0, 1000.0) as usize;
    let samples = match (again, batch) {
        (false, _) => 0,
        (true, 1) => 3,
        (true, _) => 15,
    };
    let times = (0..samples).map(|_| {
        let start = Instant::now();
        for _ in 1..batch {
            pass(&mut state);
        }
        let last = pass(&mut state);
        let time = start.elapsed().as_secs_f64() / batch as f64;
        drop(last);
        time
    });
    Measured { fresh, again: median(times.collect()), peak, value }
}

/// NaN for none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// An entry of this process's status, in MiB.
fn memory(key: &str) -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_end_matches("kB").trim().parse::<f64>().unwrap() / 1024.0
}

/// What `--measure` does.
pub fn child(row: &Row, contestant: &str, threads: usize, again: bool) {
    let mut all = row.contestants.iter();
    let found = all.find_map(|c| match &c.work {
        Work::Rust(measure) if c.name == contestant && c.threads == threads => Some(measure(again)),
        _ => None,
    });
    let Measured { fresh, again, peak, value } = found.expect("the parent has the same table");
    println!("{fresh} {again} {peak} {value}");
}

/// Starts a process for a contestant of a row, and waits for what it measured.
pub fn in_process(settings: &Settings, row: &Row, contestant: &Contestant, group: Option<&Group>) -> Measured {
    let again = settings.mode == Mode::Memory;
    let mut command = match &contestant.work {
        Work::Rust(_) => {
            let mut command = Command::new(env::current_exe().unwrap());
            command.args(["--measure", &row.name, contestant.name, &contestant.threads.to_string()]);
            command.args(settings.arguments());
            command
        }
        Work::Python { open, pass } => {
            let mut command = Command::new(python());
            command.arg(script()).arg(&settings.folder).args([&row.before_python, open, pass]);
            command.arg(if again { "again" } else { "once" });
            command
        }
    };
    let threads = contestant.threads.to_string();
    for variable in ["RAYON_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMEXPR_MAX_THREADS", "OMP_NUM_THREADS"] {
        command.env(variable, &threads);
    }
    if let Some(group) = group {
        group.take(&mut command);
    }
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [fresh, again, peak, value] = numbers[..] else {
        panic!("{}, {}: {} {text}", row.name, contestant.name, output.status);
    };
    Measured { fresh, again, peak, value }
}

/// The versions of Python and of its packages, or `None` if there is no Python with all of them.
pub fn python_versions() -> Option<String> {
    let output = Command::new(python()).arg(script()).arg("--versions").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

pub fn python() -> String {
    env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/peers.py")
}
