//! The public interface: every name with its signature, the element types, the modes, and the README.

#[path = "../support/mod.rs"]
mod support;

mod arithmetic;
mod contract;
mod elements;
mod modes;
mod readme;
