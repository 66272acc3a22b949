//! How arrays are opened and created: the options, the calls that end them, and the constructors that forward to them.

mod constructors;
mod npy;
mod options;
mod placed;
mod raw;
mod read_header;
mod wanted;

pub use options::MmapArrayOptions;
