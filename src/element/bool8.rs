//! `Bool8`: booleans that can be mapped.
#![allow(unsafe_code)] // See `element`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{BitAnd, BitOr, BitXor, Not};

use bytemuck::{Pod, Zeroable};

/// A boolean of one byte: 0 is false, and *every* other byte is true, as in NumPy (`|b1`).
///
/// Rust's own `bool` cannot be mapped, because a byte above 1 would be undefined behaviour. `Bool8` keeps the byte that
/// was read. Comparison, ordering and hashing use the truth value, not the byte.
///
/// ```
/// use ndarray_mmap::Bool8;
///
/// let odd = Bool8::from_byte(255);
/// assert!(odd.get());
/// assert_eq!(odd, Bool8::TRUE);
/// assert_eq!(odd.to_byte(), 255);
/// assert_eq!(!odd, Bool8::from(false));
/// ```
#[repr(transparent)]
#[derive(Clone, Copy, Default)]
pub struct Bool8(u8);

// SAFETY: (1) a transparent wrapper of `u8`, for which zero is a value.
unsafe impl Zeroable for Bool8 {}
// SAFETY: a transparent wrapper of `u8`: (1) any byte is a value, and (2) there is no padding.
unsafe impl Pod for Bool8 {}

impl Bool8 {
    /// The byte 0.
    pub const FALSE: Self = Self(0);
    /// The byte 1.
    pub const TRUE: Self = Self(1);

    /// The truth value.
    pub const fn get(self) -> bool {
        self.0 != 0
    }

    /// The boolean with this byte, which is kept; any byte but 0 is true.
    pub const fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// The byte as it is in the file.
    pub const fn to_byte(self) -> u8 {
        self.0
    }
}

impl From<bool> for Bool8 {
    fn from(value: bool) -> Self {
        Self(value.into())
    }
}

impl From<Bool8> for bool {
    fn from(value: Bool8) -> Self {
        value.get()
    }
}

impl PartialEq for Bool8 {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Bool8 {}

impl PartialEq<bool> for Bool8 {
    fn eq(&self, other: &bool) -> bool {
        self.get() == *other
    }
}

impl PartialOrd for Bool8 {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bool8 {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.get().cmp(&other.get())
    }
}

impl Hash for Bool8 {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.get().hash(state);
    }
}

impl fmt::Debug for Bool8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.get(), f)
    }
}

impl fmt::Display for Bool8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.get(), f)
    }
}

macro_rules! logic {
    ($($operation:ident $method:ident $operator:tt;)*) => {$(
        impl $operation for Bool8 {
            type Output = Self;
            fn $method(self, other: Self) -> Self {
                (self.get() $operator other.get()).into()
            }
        }
    )*};
}

logic! {
    BitAnd bitand &;
    BitOr bitor |;
    BitXor bitxor ^;
}

impl Not for Bool8 {
    type Output = Self;
    fn not(self) -> Self {
        (!self.get()).into()
    }
}

/// Converts to 0 or 1, so that generic numeric code can add booleans up, as NumPy's `sum` does.
impl num_traits::ToPrimitive for Bool8 {
    fn to_i64(&self) -> Option<i64> {
        Some(self.get().into())
    }

    fn to_u64(&self) -> Option<u64> {
        Some(self.get().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_byte_but_zero_is_true_and_kept() {
        for byte in 0..=255u8 {
            let b = Bool8::from_byte(byte);
            assert_eq!(b.get(), byte != 0);
            assert_eq!(b.to_byte(), byte);
            assert_eq!(b == Bool8::TRUE, byte != 0);
        }
    }

    #[test]
    fn equal_truths_hash_alike_and_order_alike() {
        let set: HashSet<_> = (0..=255).map(Bool8::from_byte).collect();
        assert_eq!(set.len(), 2);
        assert!(Bool8::from_byte(0) < Bool8::from_byte(7));
        assert_eq!(Bool8::from_byte(3).cmp(&Bool8::from_byte(7)), std::cmp::Ordering::Equal);
    }

    #[test]
    fn logic_gives_plain_zeros_and_ones() {
        let two = Bool8::from_byte(2);
        let four = Bool8::from_byte(4);
        assert_eq!((two & four).to_byte(), 1);
        assert_eq!((two ^ four).to_byte(), 0);
        assert_eq!((!two).to_byte(), 0);
        assert_eq!((Bool8::FALSE | four).to_byte(), 1);
    }

    #[test]
    fn a_boolean_counts_as_zero_or_one() {
        use num_traits::ToPrimitive;
        assert_eq!(Bool8::from_byte(200).to_f64(), Some(1.0));
        assert_eq!(Bool8::FALSE.to_u8(), Some(0));
    }
}
