//! Copies whole files to another layout, in three lines each: a big-endian raster of the world, transposed and in Fortran
//! order. Also picks one meridian of it.
//!
//! ```sh
//! cargo run --release --features rayon --example transpose [-- RASTER.gtx [OUTPUT-FOLDER]]
//! ```

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ndarray::prelude::*;
use ndarray_mmap::{MmapArray, MmapArrayMut, Staged};
use rend::{f32_be, f64_be, i32_be};

fn main() -> ExitCode {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let raster = arguments.next().unwrap_or_else(|| here.join("examples/data/egm96_15.gtx"));
    let folder = arguments.next().unwrap_or_else(|| here.join("target/transpose"));
    match run(&raster, &folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("transpose: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(raster: &Path, folder: &Path) -> Result<(), Box<dyn Error>> {
    // The header: four doubles (the raster's southern and western edges, and the steps between its points), and its shape.
    // SAFETY: no other process or handle changes these bytes of the file while the array lives: nobody edits this data.
    let place = unsafe { MmapArray::<f64_be>::options().shape(4).open(raster)? }.mapv(f64_be::to_native);
    // SAFETY: as above.
    let shape = unsafe { MmapArray::<i32_be>::options().offset(32).shape(2).open(raster)? };
    let (rows, columns) = (usize::try_from(shape[0].to_native())?, usize::try_from(shape[1].to_native())?);
    // SAFETY: as above.
    let raster = unsafe { MmapArray::<f32_be>::options().offset(40).shape((rows, columns)).open(raster)? };
    println!("raster      {rows} x {columns}, big-endian, from {} degrees east on", place[1]);

    // Transpose it, in this machine's byte order: a row for each meridian.
    fs::create_dir_all(folder)?;
    let meridians = folder.join("meridians.npy");
    // SAFETY: no other process or handle changes these bytes of the file while the array lives: it is this program's output.
    let mut transposed = unsafe { MmapArrayMut::<f32>::create_npy(&meridians, (columns, rows))? };
    transposed.assign_tiled_with(&raster.t(), |x| x.to_native())?;
    transposed.flush()?;

    // Copy it to Fortran order and twice the precision, in a file that appears atomically.
    let mut fortran = Staged::<f64>::stage_npy(folder.join("fortran.npy"), (rows, columns).f())?;
    fortran.assign_tiled_with(&raster, |x| f64::from(x.to_native()))?;
    fortran.publish()?;

    // One meridian is a column of the raster, and a row of the transposed file.
    let greenwich = (-place[1] / place[3]).round() as usize;
    let column = raster.gather(Axis(1), &[greenwich])?.mapv(f32_be::to_native);
    let row = transposed.gather(Axis(0), &[greenwich])?;
    println!("meridian    {:.2} m at the south pole, {:.2} m at the north pole", row[[0, 0]], row[[0, rows - 1]]);

    let fortran = MmapArray::<f64, Ix2>::load_npy(folder.join("fortran.npy"))?;
    let alike = column == row.t()
        && raster.indexed_iter().all(|((i, j), x)| {
            let x = x.to_native();
            transposed[[j, i]] == x && fortran[[i, j]] == f64::from(x)
        });
    if !alike {
        return Err("a copy differs from the raster".into());
    }
    println!("compared    every element of both copies as in the raster");
    println!("written     {} and fortran.npy", meridians.display());
    Ok(())
}
