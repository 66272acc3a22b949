//! Normalises one file into another, both of which may be larger than memory: mean 0, standard deviation 1.
//!
//! `cargo run --release --features rayon --example normalise -- in.f32 out.f32`. The files contain native 32-bit floats and
//! nothing else. Without arguments it makes a file, and puts the result beside it.

use std::path::Path;

use ndarray_mmap::{MmapArray, MmapArrayMut, Result, Staged};

fn normalise(from: &Path, to: &Path) -> Result<()> {
    // SAFETY: no other process or handle changes these bytes of the file while the array lives.
    let a = unsafe { MmapArray::<f32>::open(from)? };
    let pass = || {
        let blocks = a.blocks();
        #[cfg(feature = "rayon")]
        let blocks = blocks.parallel(true);
        blocks
    };
    let (Some(mean), Some(std)) = (pass().mean(), pass().std(0)) else {
        println!("{}: nothing to normalise", from.display());
        return Ok(());
    };
    println!("mean {mean:.6}, standard deviation {std:.6}");

    // The result appears at its path atomically, once it is complete and on the disk.
    let mut out = Staged::<f32>::stage(to, a.raw_dim())?;
    pass().map_into(&mut out, |x| ((f64::from(x) - mean) / std) as f32)?;
    println!("now {:.6} and {:.6}", out.blocks().mean().unwrap_or_default(), out.blocks().std(0).unwrap_or_default());
    out.publish()?;
    a.close()
}

/// Fills a file with values from 1000 to 1016.
fn make_up(path: &Path) -> Result<()> {
    // SAFETY: a new file of this program's own, in the folder for temporary files.
    let mut a = unsafe { MmapArrayMut::<f32>::create(path, 1 << 24)? };
    for mut block in a.blocks_mut() {
        block.iter_mut().enumerate().for_each(|(n, x)| *x = 1000.0 + (n % 17) as f32);
    }
    a.close()
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match &arguments[..] {
        [from, to] => normalise(from.as_ref(), to.as_ref())?,
        _ => {
            let [from, to] =
                ["raw", "normal"].map(|name| std::env::temp_dir().join(format!("ndarray-mmap-{name}.f32")));
            make_up(&from)?;
            normalise(&from, &to)?;
            std::fs::remove_file(from)?;
            std::fs::remove_file(to)?;
        }
    }
    Ok(())
}
