//! The byte strings of NumPy's files.
#![allow(unsafe_code)] // See `element`.

use std::fmt;

/// NumPy's `S`: a string of up to `N` bytes, filled up with zeros.
///
/// As in NumPy zeros at the end do not count, neither in the value nor when comparing; use `[u8; N]` where they do.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct FixedBytes<const N: usize>([u8; N]);

impl<const N: usize> FixedBytes<N> {
    /// A string of these bytes; `None` if there are more than `N`.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut all = [0; N];
        all.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self(all))
    }

    /// The bytes up to the last that is not zero.
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

// SAFETY: a transparent wrapper of `[u8; N]`, which bytemuck knows for `Zeroable`.
unsafe impl<const N: usize> bytemuck::Zeroable for FixedBytes<N> {}
// SAFETY: a transparent wrapper of `[u8; N]`, which bytemuck knows for `Pod`; `'static` and `Copy` as asked.
unsafe impl<const N: usize> bytemuck::Pod for FixedBytes<N> {}
