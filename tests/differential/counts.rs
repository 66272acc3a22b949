//! How often each thing was done.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

#[derive(Default)]
pub struct Counts(RefCell<BTreeMap<(&'static str, String), u64>>);

impl Counts {
    pub fn add(&self, table: &'static str, row: impl Into<String>) {
        *self.0.borrow_mut().entry((table, row.into())).or_default() += 1;
    }

    pub fn of(&self, table: &str) -> u64 {
        self.0.borrow().iter().filter(|((of, _), _)| *of == table).map(|(_, n)| n).sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = "";
        for ((table, row), n) in self.0.borrow().iter() {
            if *table != last {
                writeln!(f, "{table}: {}", self.of(table))?;
                last = table;
            }
            writeln!(f, "{n:>10}  {row}")?;
        }
        Ok(())
    }
}
