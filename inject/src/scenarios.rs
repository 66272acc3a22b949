//! All operations, each as a scenario that runs it once.

mod archive;
mod create;
mod flush;
mod grow;
mod killed;
mod open;
mod publish;
mod steps;
mod walk;

use crate::scene::Scene;

pub struct Scenario {
    pub name: String,
    pub run: Box<dyn Fn(&mut Scene<'_>)>,
    /// Whether the process is killed in place of a call, instead of the call failing.
    pub is_killed: bool,
}

impl Scenario {
    fn new(name: impl Into<String>, run: impl Fn(&mut Scene<'_>) + 'static) -> Self {
        Self { name: name.into(), run: Box::new(run), is_killed: false }
    }

    fn killed(name: impl Into<String>, run: impl Fn(&mut Scene<'_>) + 'static) -> Self {
        Self { is_killed: true, ..Self::new(name, run) }
    }
}

pub fn all() -> Vec<Scenario> {
    [open::all(), archive::all(), create::all(), publish::all(), grow::all(), flush::all(), walk::all(), killed::all()]
        .into_iter()
        .flatten()
        .collect()
}
