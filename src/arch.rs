//! What is written for one kind of processor, each behind a function that every kind has.

pub(crate) mod dispatch;
pub(crate) mod nontemporal;
