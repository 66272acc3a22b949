//! All operations, each as it is run once.

mod create;
mod flush;
mod grow;
mod open;
mod publish;
mod steps;
mod walk;

use crate::scene::Scene;

pub struct Scenario {
    pub name: String,
    pub run: Box<dyn Fn(&mut Scene<'_>)>,
}

impl Scenario {
    fn new(name: impl Into<String>, run: impl Fn(&mut Scene<'_>) + 'static) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

pub fn all() -> Vec<Scenario> {
    [open::all(), create::all(), publish::all(), grow::all(), flush::all(), walk::all()].into_iter().flatten().collect()
}
