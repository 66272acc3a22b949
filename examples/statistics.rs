//! Statistics of a file that may be larger than memory, with a progress bar.
//!
//! `cargo run --release --features rayon --example statistics -- data.f64`. The file contains native 64-bit floats and
//! nothing else. Without an argument it makes a file of 256 MiB.

use std::io::{Write, stderr};
use std::path::{Path, PathBuf};

use ndarray_mmap::{MmapArray, MmapArrayMut, Result};

fn bar(done: u64, total: u64) {
    const WIDTH: usize = 40;
    let full = (u128::from(done) * WIDTH as u128 / u128::from(total.max(1))) as usize;
    eprint!("\r[{:<WIDTH$}] {} of {} MiB", "#".repeat(full), done >> 20, total >> 20);
    if done == total {
        eprintln!();
    }
    // Go on if the progress bar cannot be shown.
    let _ = stderr().flush();
}

/// Fills a file with waves that rise slowly.
fn make(path: &Path) -> Result<()> {
    // SAFETY: a new file of this program's own, in the folder for temporary files.
    let mut a = unsafe { MmapArrayMut::<f64>::create(path, 32 << 20)? };
    let mut n = 0u32;
    for mut block in a.blocks_mut() {
        block.iter_mut().for_each(|x| {
            *x = (f64::from(n) * 1e-3).sin() + f64::from(n) * 1e-8;
            n += 1;
        });
    }
    a.close()
}

fn main() -> Result<()> {
    let given = std::env::args_os().nth(1).map(PathBuf::from);
    let path = given.clone().unwrap_or_else(|| std::env::temp_dir().join("ndarray-mmap-statistics.f64"));
    if given.is_none() {
        make(&path)?;
    }
    // SAFETY: no other process or handle changes these bytes of the file while the array lives.
    let a = unsafe { MmapArray::<f64>::open(&path)? };
    let pass = || {
        let blocks = a.blocks().progress(bar);
        #[cfg(feature = "rayon")]
        let blocks = blocks.parallel(true);
        blocks
    };
    println!("{} elements", a.len());
    if let (Some(mean), Some(std), Some((least, most))) = (pass().mean(), pass().std(1), pass().min_max()) {
        println!("mean {mean:.6}, standard deviation {std:.6}, from {least:.6} to {most:.6}");
    }
    // Other statistics are computed block by block.
    let positive = pass().fold(0, |count, block| count + block.iter().filter(|&&x| x > 0.0).count());
    println!("{positive} above zero");
    a.close()?;
    if given.is_none() {
        // Removes only the example's own file.
        let _ = std::fs::remove_file(&path);
    }
    Ok(())
}
