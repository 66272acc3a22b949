//! How an array comes to be: the options, and the constructors that are shortcuts to them.

mod constructors;
mod npy;
mod options;

pub use options::MmapArrayOptions;
