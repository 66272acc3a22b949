//! Runs each batch in a process of its own: so a case that ends its process is a failure, and the others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::Arguments;
use crate::batch::{Outcome, PLACES, Places, Setting};
use crate::faults::{self, WORLDS, World};
use crate::library::Library;
use crate::numpy::Samples;
use crate::scenarios::{self, Scenario};

/// The environment variable that names the file in which a batch notes the running case for its driver.
const RUNNING: &str = "INJECT_RUNNING";

/// The first words of a batch's lines that are not failures.
const SEEN: &str = "seen";
const PASSED: &str = "passed";

/// The name of each batch: `SCENARIO PLACE WORLD`.
pub fn batches(arguments: &Arguments) -> Vec<String> {
    let mut batches = Vec::new();
    for scenario in scenarios::all() {
        for place in PLACES {
            batches.extend(WORLDS.iter().map(|world| format!("{} {place} {}", scenario.name, world.name)));
        }
    }
    batches.retain(|batch| arguments.only.as_ref().is_none_or(|only| batch.contains(only)));
    batches
}

pub fn run_all(arguments: &Arguments) -> ExitCode {
    let batches = batches(arguments);
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(BTreeMap::new());
    let processors = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = in_processes(batch, arguments);
                    outcomes.lock().expect("no panic").insert(batch, outcome);
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().expect("no panic");
    let (mut passed, mut failed) = (0, 0);
    let mut of_scenario = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (batch, outcome) in &outcomes {
        let sums: &mut (usize, usize) = of_scenario.entry(batch.split(' ').next()).or_default();
        (sums.0, sums.1) = (sums.0 + outcome.passed, sums.1 + outcome.failed.len());
        seen.extend(outcome.seen.iter().cloned());
        (passed, failed) = (passed + outcome.passed, failed + outcome.failed.len());
        for (case, complaints) in &outcome.failed {
            println!("FAILED: '{batch} {case}': {}", complaints.join("; "));
        }
    }
    for (scenario, (passed, failed)) in of_scenario {
        println!("{}: {passed} passed, {failed} failed", scenario.unwrap_or_default());
    }
    let never_seen = if arguments.only.is_none() { faults::never_seen(&seen) } else { Vec::new() };
    if !never_seen.is_empty() {
        println!("FAILED: never made, or not by way of libc (built without `--cfg rustix_use_libc`?): {never_seen:?}");
        failed += 1;
    }
    println!("inject: {passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a batch in a process of its own. If a case ends that process, runs the rest of the batch in the next one.
fn in_processes(batch: &str, arguments: &Arguments) -> Outcome {
    let mut outcome = Outcome::default();
    let running = tempfile::NamedTempFile::new().expect("a file of its own");
    let mut skip = 0;
    loop {
        let mut child = Command::new(std::env::current_exe().expect("it has a path"));
        child.args(["--batch", batch, "--skip", &skip.to_string()]).env(RUNNING, running.path());
        if let Some(samples) = &arguments.samples {
            child.arg("--samples").arg(samples);
        }
        let answer = child.stderr(Stdio::null()).output().expect("starts itself");
        let output = String::from_utf8_lossy(&answer.stdout);
        for line in output.lines() {
            match line.split_once('\t') {
                Some((SEEN, names)) => outcome.seen.extend(names.split(' ').map(String::from)),
                Some((PASSED, count)) => outcome.passed += count.parse::<usize>().unwrap_or_default(),
                Some((case, complaints)) => outcome.failed.push((case.into(), vec![complaints.into()])),
                None => {}
            }
        }
        if answer.status.success() {
            return outcome;
        }
        let last = fs::read_to_string(running.path()).unwrap_or_default();
        let (number, case) = last.split_once(' ').unwrap_or(("", "-"));
        outcome.failed.push((case.into(), vec![format!("ended its process: {}", answer.status)]));
        match number.parse::<usize>() {
            Ok(number) if number >= skip => skip = number + 1,
            _ => return outcome,
        }
    }
}

/// Runs a batch as [`in_processes`] starts it. Prints one line for each failure, and one with the number of cases that
/// passed.
pub fn run_batch(library: Library, batch: &str, arguments: &Arguments) -> ExitCode {
    let Some((scenario, place, world, _)) = parse(batch) else {
        eprintln!("no such batch: {batch}");
        return ExitCode::from(2);
    };
    let running = std::env::var_os(RUNNING).map_or_else(|| PathBuf::from("/dev/null"), PathBuf::from);
    let outcome =
        in_setting(library, place, world, &running, arguments, |setting| setting.run(&scenario, arguments.skip));
    for (case, complaints) in &outcome.failed {
        println!("{case}\t{}", complaints.join("; ").replace(['\n', '\t'], " "));
    }
    println!("{SEEN}\t{}", outcome.seen.into_iter().collect::<Vec<_>>().join(" "));
    println!("{PASSED}\t{}", outcome.passed);
    ExitCode::SUCCESS
}

pub fn run_case(library: Library, case: &str, arguments: &Arguments) -> ExitCode {
    let Some((scenario, place, world, fault)) = parse(case) else {
        eprintln!("no such case: {case}");
        return ExitCode::from(2);
    };
    let outcome = in_setting(library, place, world, Path::new("/dev/null"), arguments, |setting| {
        setting.run_one(&scenario, &fault)
    });
    outcome.failed.iter().flat_map(|(_, complaints)| complaints).for_each(|complaint| println!("{complaint}"));
    println!("inject: {} passed, {} failed", outcome.passed, outcome.failed.len());
    if outcome.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn in_setting(
    library: Library,
    place: &str,
    world: &'static World,
    running: &Path,
    arguments: &Arguments,
    run: impl FnOnce(&Setting<'_>) -> Outcome,
) -> Outcome {
    let places = Places::new();
    let Some(place) = places.get(place) else { return Outcome::default() };
    let samples = arguments.samples.clone().unwrap_or_else(|| place.clone());
    run(&Setting { library, world, place: &place, samples: &Samples::new(samples), running })
}

/// Parses `SCENARIO PLACE WORLD`, and returns the rest as it is.
fn parse(name: &str) -> Option<(Scenario, &str, &'static World, String)> {
    let mut words = name.split(' ');
    let (scenario, place, world) = (words.next()?, words.next()?, words.next()?);
    let scenario = scenarios::all().into_iter().find(|s| s.name == scenario)?;
    let world = WORLDS.iter().find(|w| w.name == world)?;
    Some((scenario, place, world, words.collect::<Vec<_>>().join(" ")))
}
