//! One scenario in one place and one world, with every fault that can happen there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::faults::{self, World, errno_name};
use crate::library::{Fault, Library};
use crate::numpy::Samples;
use crate::photo::Holdings;
use crate::scenarios::Scenario;
use crate::scene::{MOST_SECONDS, Scene};

/// The environment of a batch.
pub struct Setting<'a> {
    pub library: Library,
    pub world: &'static World,
    /// The folder in which the scenario's folder is made.
    pub place: &'a Path,
    pub samples: &'a Samples,
    /// The file that holds the name of the running case, in case that it ends the process.
    pub running: &'a Path,
}

#[derive(Default)]
pub struct Outcome {
    pub passed: usize,
    /// The name of the case, and the complaints.
    pub failed: Vec<(String, Vec<String>)>,
    /// The names of the calls that the scenario makes if nothing fails.
    pub seen: BTreeSet<String>,
}

/// The result of one case.
struct Seen {
    complaints: Vec<String>,
    /// Whether the operation returned an error.
    refused: bool,
}

impl Setting<'_> {
    /// Runs all cases from the `first` on.
    pub fn run(&self, scenario: &Scenario, first: usize) -> Outcome {
        let mut outcome = Outcome::default();
        // Run it once before: calls that the program makes only the first time are not the scenario's.
        let may_be_refused = self.world.stops(&scenario.name);
        self.case(scenario, None, may_be_refused);
        let plain = self.case(scenario, None, may_be_refused);
        let lacks = |(call, _): &(&str, i32)| self.library.seen(self.library.call(call)) > 0;
        if !self.world.denied.is_empty() && !self.world.denied.iter().any(lacks) {
            // It makes no call that this world lacks, so the whole world has shown everything.
            return outcome;
        }
        outcome.seen = faults::seen(self.library).map(String::from).collect();
        let faults = self.faults(scenario);
        // An error that this world causes by itself is reported once.
        let may_be_refused = may_be_refused || plain.refused;
        if first == 0 {
            self.note(&mut outcome, "-".into(), plain);
        }
        for (n, &fault) in faults.iter().enumerate().skip(first.saturating_sub(1)) {
            fs::write(self.running, format!("{} {}", n + 1, self.name(fault))).expect("the driver's own file");
            let seen = self.case(scenario, Some(fault), may_be_refused);
            self.note(&mut outcome, self.name(fault), seen);
        }
        outcome
    }

    /// Runs only the case of this name.
    pub fn run_one(&self, scenario: &Scenario, name: &str) -> Outcome {
        let mut outcome = Outcome::default();
        let may_be_refused = self.world.stops(&scenario.name);
        self.case(scenario, None, may_be_refused);
        let plain = self.case(scenario, None, may_be_refused);
        let fault = self.faults(scenario).into_iter().find(|&fault| self.name(fault) == name);
        let may_be_refused = may_be_refused || plain.refused;
        let seen = fault.map_or(plain, |fault| self.case(scenario, Some(fault), may_be_refused));
        self.note(&mut outcome, name.into(), seen);
        outcome
    }

    fn faults(&self, scenario: &Scenario) -> Vec<Fault> {
        if scenario.is_killed { faults::kills(self.library, self.world) } else { faults::all(self.library, self.world) }
    }

    fn note(&self, outcome: &mut Outcome, name: String, seen: Seen) {
        if seen.complaints.is_empty() {
            outcome.passed += 1;
        } else {
            outcome.failed.push((name, seen.complaints));
        }
    }

    fn case(&self, scenario: &Scenario, fault: Option<Fault>, may_be_refused: bool) -> Seen {
        // SAFETY: it only sets an alarm, which ends the process.
        unsafe { libc::alarm(MOST_SECONDS) };
        let folder = self.place.join("case");
        fs::create_dir(&folder).expect("the place is the driver's own");
        let before = Holdings::now(&folder);
        let mut scene = Scene::new(self.library, self.world, folder.clone(), fault, self.samples);
        scene.may_be_refused = may_be_refused;
        (scenario.run)(&mut scene);
        scene.look();
        let after = Holdings::now(&folder);
        if after != before {
            scene.complain(format!("still held: {after:?}, before {before:?}"));
        }
        fs::remove_dir_all(&folder).expect("the place is the driver's own");
        Seen { complaints: scene.complaints, refused: scene.refused }
    }

    fn name(&self, fault: Fault) -> String {
        format!("{} {} {} {}", self.library.name(fault.call), fault.nth, errno_name(fault.errno), fault.kind.name())
    }
}

/// Folders to work in, which are removed when this is dropped.
pub struct Places {
    folders: Vec<(&'static str, tempfile::TempDir)>,
}

impl Places {
    /// Makes a folder in the working directory, which is usually on a disk, and one in memory.
    pub fn new() -> Self {
        let at = |path: &str| tempfile::Builder::new().prefix("inject-").tempdir_in(path).expect("a folder of its own");
        let here = std::env::current_dir().expect("there is one");
        let mut folders = vec![("disk", at(here.to_str().expect("the path is a text")))];
        if Path::new(MEMORY).is_dir() {
            folders.push(("memory", at(MEMORY)));
        }
        Self { folders }
    }

    pub fn get(&self, name: &str) -> Option<PathBuf> {
        self.folders.iter().find(|(n, _)| *n == name).map(|(_, folder)| folder.path().to_path_buf())
    }
}

const MEMORY: &str = "/dev/shm";

pub const PLACES: [&str; 2] = ["disk", "memory"];
