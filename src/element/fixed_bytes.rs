//! `FixedBytes`: NumPy's byte strings.
#![allow(unsafe_code)] // See `element`.

use std::fmt;

/// A string of up to `N` bytes, padded with zeros: NumPy's `S`.
///
/// As in NumPy, zeros at the end are not part of the value and do not matter in comparisons. Use `[u8; N]` if they must.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct FixedBytes<const N: usize>([u8; N]);

impl<const N: usize> FixedBytes<N> {
    /// The string with these bytes; `None` if there are more than `N`.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut all = [0; N];
        all.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self(all))
    }

    /// The bytes up to the last one that is not zero.
    pub fn as_bytes(&self) -> &[u8] {
        let len = self.0.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        &self.0[..len]
    }
}

impl<const N: usize> PartialEq for FixedBytes<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl<const N: usize> Eq for FixedBytes<N> {}

impl<const N: usize> fmt::Debug for FixedBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.as_bytes().escape_ascii())
    }
}

impl<const N: usize> From<[u8; N]> for FixedBytes<N> {
    fn from(bytes: [u8; N]) -> Self {
        Self(bytes)
    }
}

// SAFETY: (1) a transparent wrapper of `[u8; N]`, which is `Zeroable`.
unsafe impl<const N: usize> bytemuck::Zeroable for FixedBytes<N> {}
// SAFETY: (1, 2) a transparent wrapper of `[u8; N]`, which is `Pod`; it is `'static` and `Copy`.
unsafe impl<const N: usize> bytemuck::Pod for FixedBytes<N> {}
