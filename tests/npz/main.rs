//! `.npz` archives: what is mapped and read of good ones, and what is refused of others.

#[path = "../support/mod.rs"]
mod support;

mod archives;
mod hostile;
mod names;
mod writer;
