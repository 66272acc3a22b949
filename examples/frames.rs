//! Maps frames with something between them (a header before each, say) in place, and copies them to a `.npy` file. Here
//! they have 480 rows of 640 numbers, the first starts at byte 4100, and one starts every 614528 bytes:
//! `cargo run --example frames -- film.raw film.npy '<u2' 480 640 4100 614528`
use std::{env, error::Error};

use ndarray::prelude::*;
use ndarray_mmap::npy::{Dtype, Real};
use ndarray_mmap::{MmapArray, npy_dispatch, save_npy};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [input, output, dtype, height, width, first, every] = &args[..] else {
        return Err("usage: frames IN OUT.npy TYPE HEIGHT WIDTH FIRST-BYTE BYTES-FROM-FRAME-TO-FRAME".into());
    };
    let (dtype, height, width): (Dtype, usize, usize) = (dtype.parse()?, height.parse()?, width.parse()?);
    let (first, every): (u64, usize) = (first.parse()?, every.parse()?);
    let frame = height.checked_mul(width).ok_or("frames larger than memory")?;
    let step = every / dtype.itemsize();
    if every % dtype.itemsize() != 0 || step < frame.max(1) {
        return Err(format!("frames of {frame} {dtype} cannot start every {every} bytes").into());
    }
    npy_dispatch!(&dtype, unaligned A => {
        // Everything from the first frame on. Nothing needs to follow the last one; a part of another is left out.
        let all = MmapArray::<A, Ix1>::options().offset(first).ignore_remainder(true);
        // SAFETY: nobody else writes to this file while this program runs.
        let file = unsafe { all.open(input)? };
        let count = (file.len() + (step - frame)) / step;
        let a = file.strided(0, (count, height, width).strides((step, width, 1)))?;
        save_npy(output, &a)?;
        println!("{:?} {dtype}, mean {}", a.shape(), a.fold(0.0, |sum, x| sum + x.to_f64()) / a.len() as f64);
        Ok(())
    })
}
