//! Maps the image in a NIfTI file (version 1 or 2, either byte order) in place, and copies it to a `.npy` file.
//!
//! ```sh
//! cargo run --example nifti -- brain.nii brain.npy
//! ```
use std::{env, error::Error};

use ndarray::prelude::*;
use ndarray_mmap::npy::{Dtype, Real};
use ndarray_mmap::{MmapArray, npy_dispatch, save_npy};

fn main() -> Result<(), Box<dyn Error>> {
    let (input, output) = env::args().nth(1).zip(env::args().nth(2)).ok_or("usage: nifti IN.nii OUT.npy")?;
    // SAFETY: nobody else writes to this file while this program runs.
    let file = unsafe { MmapArray::<u8, Ix1>::open(&input)? };
    let bytes = file.as_slice().unwrap_or_default();
    let big = bytes.first() == Some(&0); // of the header's length, 348 or 540
    let int = |at: usize, size: usize| {
        let field = bytes.get(at..at + size).ok_or("the file ends within its header")?;
        let digit = |n, byte: &u8| n << 8 | usize::from(*byte);
        Ok::<_, &str>(if big { field.iter().fold(0, digit) } else { field.iter().rev().fold(0, digit) })
    };
    let (dim, size, code, offset) = match (int(0, 4)?, bytes.get(4..8), bytes.get(344..348)) {
        (348, _, Some(b"n+1\0")) => (40, 2, int(70, 2)?, f32::from_bits(int(108, 4)? as u32) as usize),
        (540, Some(b"n+2\0"), _) => (16, 8, int(12, 2)?, int(168, 8)?),
        (348 | 540, ..) => return Err("the image is in a file of its own (.img): map that".into()),
        _ => return Err("not a NIfTI file, or compressed (.nii.gz): decompress it first".into()),
    };
    let mut types = "u1 i2 i4 f4 f8 i1 u2 u4 i8 u8".split(' ').zip([2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280]);
    let (kind, _) = types.find(|t| t.1 == code).ok_or(format!("type {code}, which is not one of real numbers"))?;
    let dtype: Dtype = format!("{}{kind}", if big { '>' } else { '<' }).parse()?;
    let shape: Vec<_> = (1..=int(dim, size)?).map(|i| int(dim + i * size, size)).collect::<Result<_, _>>()?;
    npy_dispatch!(&dtype, unaligned A => {
        let a = file.view_as::<A, _>(offset, shape.f())?;
        save_npy(&output, &a)?;
        println!("{:?} {dtype}, mean {}", a.shape(), a.fold(0.0, |sum, x| sum + x.to_f64()) / a.len() as f64);
        Ok(())
    })
}
