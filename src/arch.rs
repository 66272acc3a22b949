//! Code for some kinds of processors, behind functions that all kinds have.

pub(crate) mod dispatch;
pub(crate) mod nontemporal;
