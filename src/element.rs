//! Element types of our own, and what every element must be.
//!
//! # Safety
//! In the files below, `unsafe impl`s of bytemuck's traits only, for transparent wrappers of types that have them: each
//! says why every bit pattern is a value and no byte of a value is ever uninitialised.

mod bool8;
mod datetime;
mod fixed_bytes;
mod numbers;

pub use bool8::Bool8;
pub use datetime::{Datetime64, DatetimeUnit, Timedelta64, time_units};
pub use fixed_bytes::FixedBytes;
pub(crate) use numbers::for_each_number;

/// Size, alignment and name of an element type, so that the arithmetic on it need not be generic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ElementLayout {
    size: usize,
    align: usize,
    name: fn() -> &'static str,
}

impl ElementLayout {
    /// Mappings start on a page, and no supported system has smaller ones.
    pub(crate) const LARGEST_ALIGNMENT: usize = 4096;

    /// Refuses at compile time what cannot be mapped, whatever the file holds.
    pub(crate) const fn of<A>() -> Self {
        const {
            assert!(size_of::<A>() != 0, "zero-sized elements cannot be mapped");
            assert!(
                align_of::<A>() <= Self::LARGEST_ALIGNMENT,
                "elements aligned to more than a page cannot be mapped"
            );
        }
        Self { size: size_of::<A>(), align: align_of::<A>(), name: std::any::type_name::<A> }
    }

    /// In bytes; never zero.
    pub(crate) fn size(self) -> usize {
        self.size
    }

    pub(crate) fn align(self) -> usize {
        self.align
    }

    pub(crate) fn name(self) -> &'static str {
        (self.name)()
    }
}
