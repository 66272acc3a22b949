//! Rewrites a result file atomically: readers see the whole old file or the whole new one, even after a crash, a kill or a
//! power cut in the middle.
//!
//! ```sh
//! cargo run --example rewrite -- result.npy      # the first time it writes a matrix of ones
//! cargo run --example rewrite -- result.npy      # then it doubles what is there
//! ```

use std::error::Error;
use std::path::Path;
use std::{env, process};

use ndarray::prelude::*;
use ndarray_mmap::{ErrorKind, MmapArray, Staged};

fn main() -> Result<(), Box<dyn Error>> {
    let Some(path) = env::args_os().nth(1) else {
        eprintln!("usage: rewrite FILE.npy");
        process::exit(2);
    };
    let path = Path::new(&path);
    // SAFETY: only this program writes the file, and it never writes into it but puts another in its place. The old file
    // does not change for those who have it mapped.
    match unsafe { MmapArray::<f64, Ix2>::open_npy(path) } {
        Ok(old) => rewrite(path, &old),
        Err(e) if e.kind() == ErrorKind::Io && !path.exists() => rewrite(path, &Array2::from_elem((1000, 1000), 0.5)),
        Err(e) => Err(e.into()),
    }
}

fn rewrite(path: &Path, old: &ArrayRef<f64, Ix2>) -> Result<(), Box<dyn Error>> {
    // The new file has no name yet. If anything goes wrong from here on, it is deleted, and the old one is unchanged.
    let mut new = Staged::<f64>::stage_npy(path, old.raw_dim())?;
    // Both are files, and may be larger than memory.
    ndarray::Zip::from(&mut *new).and(old).for_each(|new, &old| *new = 2.0 * old);
    if let Some(bad) = new.iter().find(|value| !value.is_finite()) {
        return Err(format!("{bad} is no result: the old file stays").into());
    }
    println!("{} is now {} on average", path.display(), new.mean().unwrap_or(f64::NAN));
    // Brings the file to the disk, and then puts it at its path atomically.
    Ok(new.publish()?)
}
