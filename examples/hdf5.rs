//! Maps a contiguous dataset of an HDF5 file in place, and copies it to a `.npy` file. h5py knows what it asks for:
//! `print(ds.id.get_offset(), ds.dtype.str, *ds.shape)`, for example `2048 <f8 3 4`. Then, in a shell:
//! `cargo run --example hdf5 -- run.h5 run.npy 2048 '<f8' 3 4`
use std::{env, error::Error};

use ndarray_mmap::npy::{Dtype, Real};
use ndarray_mmap::{MmapArray, npy_dispatch, save_npy};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [input, output, offset, dtype, shape @ ..] = &args[..] else {
        return Err("usage: hdf5 IN.h5 OUT.npy OFFSET TYPE [LENGTH ...]".into());
    };
    if offset == "None" {
        return Err("no offset: the dataset is chunked, compressed, external, or was never written to".into());
    }
    let (offset, dtype): (u64, Dtype) = (offset.parse()?, dtype.parse()?);
    let shape: Vec<usize> = shape.iter().map(|length| length.parse()).collect::<Result<_, _>>()?;
    npy_dispatch!(&dtype, unaligned A => {
        // SAFETY: nobody else writes to this file while this program runs.
        let a = unsafe { MmapArray::<A>::options().offset(offset).shape(shape).open(input)? };
        save_npy(output, &a)?;
        println!("{:?} {dtype}, mean {}", a.shape(), a.fold(0.0, |sum, x| sum + x.to_f64()) / a.len() as f64);
        Ok(())
    })
}
