//! Copies the arrays of a `.npz` archive to `.npy` files in a folder. It maps those that are stored as they are
//! (`np.savez`) in place, and loads those that are compressed (`np.savez_compressed`):
//! `cargo run --features npz --example npz -- data.npz folder`
use std::{env, error::Error, fs, path::Path};

use ndarray::IxDyn;
use ndarray_mmap::{npy::Real, npy_dispatch, npz::Archive, save_npy};

fn main() -> Result<(), Box<dyn Error>> {
    let (input, folder) = env::args().nth(1).zip(env::args().nth(2)).ok_or("usage: npz IN.npz FOLDER")?;
    fs::create_dir_all(&folder)?;
    let archive = Archive::open(&input)?;
    for name in archive.names() {
        copy(&archive, name, folder.as_ref()).unwrap_or_else(|e| println!("{name}: not copied: {e}"));
    }
    Ok(())
}

fn copy(archive: &Archive, name: &str, folder: &Path) -> Result<(), Box<dyn Error>> {
    // Whoever made the archive chose the names. None may lead out of the folder.
    let output = folder.join(format!("{}.npy", name.replace(['/', '\\', ':'], "_")));
    let (header, stored) = (archive.header(name)?, archive.is_stored(name)?);
    npy_dispatch!(header.dtype(), unaligned A => {
        // SAFETY: nobody else writes to this file while this program runs.
        let a = if stored { unsafe { archive.map::<A, IxDyn>(name)? } } else { archive.load(name)? };
        save_npy(output, &a)?;
        let (how, sum) = (if stored { "mapped" } else { "loaded" }, a.fold(0.0, |sum, x| sum + x.to_f64()));
        println!("{name}: {how}, {:?} {}, mean {}", a.shape(), header.dtype(), sum / a.len() as f64);
        Ok(())
    })
}
