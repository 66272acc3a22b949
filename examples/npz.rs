//! Copies the arrays of a `.npz` archive to `.npy` files in a folder. It maps those that are stored as they are
//! (`np.savez`) in place, and loads those that are compressed (`np.savez_compressed`):
//! `cargo run --features npz --example npz -- data.npz folder`
use std::{env, error::Error, fs, path::Path};

use ndarray_mmap::{MmapArray, MmapArrayMut, npy_dispatch};
use ndarray_mmap::{npy::Real, npz::Archive};

fn main() -> Result<(), Box<dyn Error>> {
    let (input, folder) = env::args().nth(1).zip(env::args().nth(2)).ok_or("usage: npz IN.npz FOLDER")?;
    fs::create_dir_all(&folder)?;
    let archive = Archive::open(&input)?;
    for name in archive.names() {
        copy(&input, &archive, name, folder.as_ref()).unwrap_or_else(|e| println!("{name}: not copied: {e}"));
    }
    Ok(())
}

fn copy(input: &str, archive: &Archive, name: &str, folder: &Path) -> Result<(), Box<dyn Error>> {
    // Whoever made the archive chose the names. None may lead out of the folder.
    let output = folder.join(format!("{}.npy", name.replace(['/', '\\', ':'], "_")));
    let (header, stored) = (archive.header(name)?, archive.is_stored(name)?);
    // SAFETY: nobody else writes to these files while this program runs.
    npy_dispatch!(header.dtype(), unaligned A => unsafe {
        let a = if stored { MmapArray::<A>::open_npz(input, name)? } else { MmapArray::<A>::load_npz(input, name)? };
        MmapArrayMut::<A>::create_npy(output, a.raw_dim())?.assign(&a);
        let (how, sum) = (if stored { "mapped" } else { "loaded" }, a.fold(0.0, |sum, x| sum + x.to_f64()));
        println!("{name}: {how}, {:?} {}, mean {}", a.shape(), header.dtype(), sum / a.len() as f64);
        Ok(())
    })
}
