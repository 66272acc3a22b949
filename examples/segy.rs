//! Maps the samples of a SEG-Y file (traces of one length, either byte order) in place, and copies them to `.npy`:
//! `cargo run --example segy -- shot.sgy shot.npy`
use std::{env, error::Error, iter::zip};

use ndarray::prelude::*;
use ndarray_mmap::npy::{Dtype, Real};
use ndarray_mmap::{MmapArray, npy_dispatch, save_npy};

fn main() -> Result<(), Box<dyn Error>> {
    let (input, output) = env::args().nth(1).zip(env::args().nth(2)).ok_or("usage: segy IN.sgy OUT.npy")?;
    // SAFETY, here and below: nobody else writes to this file while this program runs.
    let file = unsafe { MmapArray::<u8, Ix1>::open(&input)? };
    // A text of 3200 bytes, a header of 400, more texts, and traces: a header of 240 bytes and the samples.
    let field = |at| file.read_field::<[u8; 2]>(at).map(Array0::into_scalar);
    let big = field(3224)?[0] == 0; // the type of the samples, from 1 to 16
    let int = |at| field(at).map(if big { u16::from_be_bytes } else { u16::from_le_bytes });
    let (length, samples, code) = (field(3220)?, usize::from(int(3220)?), int(3224)?);
    let offset = 3600 + 3200 * u64::from(int(3504)?);
    let mut types = zip([2, 3, 5, 6, 8, 9, 10, 11, 12, 16], "i4 i2 f4 f8 i1 i8 u4 u2 u8 u1".split(' '));
    let (_, kind) = types.find(|t| t.0 == code).ok_or(format!("samples of type {code} (1: IBM) cannot be mapped"))?;
    let dtype: Dtype = format!("{}{kind}", if big { '>' } else { '<' }).parse()?;
    let (header, trace) = (240 / dtype.itemsize(), 240 / dtype.itemsize() + samples);
    // Each trace says its length in its own header, too, or leaves it 0.
    let traces = unsafe { MmapArray::<u8>::options().offset(offset).row_shape(trace * dtype.itemsize()).open(&input)? };
    if traces.read_field::<[u8; 2]>(114)?.iter().any(|len| ![length, [0; 2]].contains(len)) {
        return Err("traces of different lengths".into());
    }
    npy_dispatch!(&dtype, A => {
        let traces = unsafe { MmapArray::<A>::options().offset(offset).row_shape(trace).open(&input)? };
        let a = traces.slice(s![.., header..]);
        save_npy(&output, &a)?;
        println!("{:?} {dtype}, mean {}", a.shape(), a.fold(0.0, |sum, x| sum + x.to_f64()) / a.len() as f64);
        Ok(())
    })
}
