//! The crate's own element types, and what every element type must have: size, alignment and a name.
//!
//! # Safety
//! The files below contain `unsafe impl`s of bytemuck's traits, and nothing else that is `unsafe`. Each is for a struct of one
//! field, transparent or packed, whose type has these traits, and says why
//! 1. every bit pattern is a value, and
//! 2. no byte of a value is uninitialised.

mod bool8;
mod by_value;
mod byte_order;
mod datetime;
mod fixed_bytes;
mod numbers;
mod str;
mod unaligned;

pub use bool8::Bool8;
pub use byte_order::{BigEndian, ByteOrdered, LittleEndian};
pub use datetime::{Datetime64, DatetimeUnit, Timedelta64, time_units};
pub use fixed_bytes::FixedBytes;
pub(crate) use numbers::for_each_number;
pub use str::Str;
pub use unaligned::Unaligned;

/// Size, alignment and name of an element type, so that code that needs no more is not generic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ElementLayout {
    size: usize,
    align: usize,
    name: fn() -> &'static str,
}

impl ElementLayout {
    /// Mappings start on a page, and no supported system has pages smaller than this.
    pub(crate) const LARGEST_ALIGNMENT: usize = 4096;

    /// Does not compile for types that no file can hold: zero-sized ones, and those aligned to more than a page.
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
