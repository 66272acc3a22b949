//! How arrays are opened and created: the options, the calls that end them, and the constructors that forward to them.

mod constructors;
mod placed;
mod read_header;
mod wanted;

// The page of the options lists methods in the order of these modules.
mod options;

mod raw;

mod npy;

#[cfg(feature = "npz")]
mod npz;

pub use options::MmapArrayOptions;
