//! Every system call, and every difference between systems.

pub(crate) mod memory;
