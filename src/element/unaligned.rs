//! `Unaligned`: any element at any offset.
#![allow(unsafe_code)] // See `element`.

use bytemuck::{Pod, Zeroable};

use super::by_value::by_value;

/// A value that may lie at any offset of a file: a `T` of alignment 1.
///
/// Use it where the data of a file begin at an odd offset, and for the fields of packed records, as NumPy has them (see
/// [`npy_record!`](crate::npy_record)). The bytes are those of `T`. It is compared, ordered, hashed and shown as the value
/// in it. [`BigEndian`](crate::BigEndian) may be inside: `Unaligned<BigEndian<f64>>`.
///
/// ```
/// use ndarray::prelude::*;
/// use ndarray_mmap::{MmapArray, Unaligned};
///
/// # let path = std::env::temp_dir().join(format!("ndarray-mmap-unaligned-{}.bin", std::process::id()));
/// std::fs::write(&path, [&[7][..], &1.5_f64.to_ne_bytes(), &2.0_f64.to_ne_bytes()].concat())?;
/// // SAFETY: while `a` lives, no other process or handle changes its bytes or truncates the file.
/// let a = unsafe { MmapArray::<Unaligned<f64>, Ix1>::options().offset(1).open(&path)? };
/// assert_eq!(a[0].get(), 1.5);
/// assert_eq!(a.blocks().sum(), 3.5);
/// assert_eq!(a.mapv(Unaligned::get), array![1.5, 2.0]);
/// # drop(a);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[repr(C, packed)]
pub struct Unaligned<T: Pod>(T);

impl<T: Pod> Unaligned<T> {
    /// This value.
    #[inline(always)]
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value.
    #[inline(always)]
    pub const fn get(self) -> T {
        self.0
    }
}

by_value!(Unaligned<T: Pod>);

// SAFETY: (1) the one field is `Zeroable`.
unsafe impl<T: Pod> Zeroable for Unaligned<T> {}
// SAFETY: (1) the one field is `Pod`, and (2) in a packed struct there is nothing before or after it. It is `Copy` and
// `'static`, as `T` is.
unsafe impl<T: Pod> Pod for Unaligned<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn has_the_bytes_of_its_value_and_no_alignment() {
        assert_eq!((size_of::<Unaligned<u64>>(), align_of::<Unaligned<u64>>()), (8, 1));
        assert_eq!(bytemuck::bytes_of(&Unaligned::new(258_u16)), 258_u16.to_ne_bytes());
        assert_eq!((size_of::<Unaligned<[u64; 3]>>(), align_of::<Unaligned<[u64; 3]>>()), (24, 1));
    }

    #[test]
    fn is_compared_and_shown_as_its_value() {
        let nan = Unaligned::new(f64::NAN);
        assert!(nan != nan && nan.partial_cmp(&nan).is_none() && Unaligned::new(0.0) == Unaligned::new(-0.0));
        assert_eq!([nan < nan, nan <= nan, nan > nan, nan >= nan], [false; 4]);
        assert!(Unaligned::new(-1.0) < Unaligned::new(0.5) && Unaligned::new(2.0) >= Unaligned::new(2.0));
        assert!(Unaligned::new(1.5) == 1.5 && Unaligned::from(1.5).get() == 1.5);
        assert_eq!(Unaligned::new(-1_i32).cmp(&Unaligned::new(1)), std::cmp::Ordering::Less);
        assert_eq!([1_u16, 1, 2].map(Unaligned::new).into_iter().collect::<HashSet<_>>().len(), 2);
        assert_eq!(format!("{:?} {:.2}", Unaligned::new(1.5), Unaligned::new(1.5)), "1.5 1.50");
        assert_eq!(Unaligned::<u32>::default(), 0);
    }
}
