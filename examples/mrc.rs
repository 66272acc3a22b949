//! Maps the images or the volume in an MRC file (either byte order) in place, and copies them to a `.npy` file. (For
//! half-precision floats add `--features half`.)
//! `cargo run --example mrc -- stack.mrc stack.npy`
use std::{env, error::Error};

use ndarray::prelude::*;
use ndarray_mmap::npy::{Dtype, Real};
use ndarray_mmap::{MmapArray, npy_dispatch, save_npy};

fn main() -> Result<(), Box<dyn Error>> {
    let (input, output) = env::args().nth(1).zip(env::args().nth(2)).ok_or("usage: mrc IN.mrc OUT.npy")?;
    // SAFETY: nobody else writes to this file while this program runs.
    let file = unsafe { MmapArray::<u8, Ix1>::open(&input)? };
    let header = file.view_as::<[u8; 4], _>(0, 256)?; // 1024 bytes, in words of 4
    let order = match (header[52], header[53]) {
        ([b'M', b'A', b'P', _], [0x44, ..]) => '<',
        ([b'M', b'A', b'P', _], [0x11, ..]) => '>',
        _ => return Err("not an MRC file of 2014, or a compressed one".into()),
    };
    let int = if order == '>' { u32::from_be_bytes } else { u32::from_le_bytes };
    let word = |i: usize| int(header[i]) as usize;
    let kind = match word(3) {
        0 => "i1",
        1 => "i2",
        2 => "f4",
        6 => "u2",
        12 => "f2",
        mode => return Err(format!("mode {mode} (complex, or half bytes)").into()),
    };
    let dtype: Dtype = format!("{order}{kind}").parse()?;
    let (shape, offset) = ((word(2), word(1), word(0)), 1024 + word(23));
    npy_dispatch!(&dtype, unaligned A => {
        let a = file.view_as::<A, _>(offset, shape)?;
        save_npy(&output, &a)?;
        println!("{:?} {dtype}, mean {}", a.shape(), a.fold(0.0, |sum, x| sum + x.to_f64()) / a.len() as f64);
        Ok(())
    })
}
