//! NumPy's behaviour: its own tests of `memmap`, and what it was seen to do with a corpus of cases.

mod numpy_memmap;

// The corpus was recorded on Linux, in files of mostly little-endian elements, which must be native here. Its element
// types come with features.
#[cfg(all(unix, target_endian = "little", feature = "half", feature = "num-complex", feature = "rend"))]
mod cases;
// The test that needs another user id.
#[path = "../support/mod.rs"]
mod support;
