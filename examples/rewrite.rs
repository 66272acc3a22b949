//! Rewrites a result file safely: readers see the old file or the new one, whole, and so does whoever comes after a
//! crash, a kill or a power cut in the middle.
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
    // SAFETY: this program is the only one to write the file, and never writes into it: it puts another in its place. This
    // one stays what it is for those who have it mapped.
    match unsafe { MmapArray::<f64, Ix2>::open_npy(path) } {
        Ok(old) => rewrite(path, &old),
        Err(e) if e.kind() == ErrorKind::Io && !path.exists() => rewrite(path, &Array2::from_elem((1000, 1000), 0.5)),
        Err(e) => Err(e.into()),
    }
}

fn rewrite(path: &Path, old: &ArrayRef<f64, Ix2>) -> Result<(), Box<dyn Error>> {
    // The new file has no name yet. If anything goes wrong from here on, it is gone, and the old one is untouched.
    let mut new = Staged::<f64>::stage_npy(path, old.raw_dim())?;
    // Larger than memory, if need be: both are files.
    ndarray::Zip::from(&mut *new).and(old).for_each(|new, &old| *new = 2.0 * old);
    if let Some(bad) = new.iter().find(|value| !value.is_finite()) {
        return Err(format!("{bad} is no result: the old file stays").into());
    }
    println!("{} is now {} on average", path.display(), new.mean().unwrap_or(f64::NAN));
    // To the disk, and to its path in one step.
    Ok(new.publish()?)
}
