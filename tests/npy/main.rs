//! `.npy` files: their constructors, their element types, and what is said of a file that cannot be read.

#[path = "../support/mod.rs"]
mod support;

// The element types of NumPy's that the standard library lacks come with features.
#[cfg(all(feature = "half", feature = "num-complex", feature = "rend"))]
mod elements;
mod files;
mod messages;
#[cfg(all(feature = "half", feature = "rend"))]
mod real;
mod save;
