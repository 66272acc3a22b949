//! A log of readings that grows while another process looks at it.
//!
//! ```sh
//! cargo run --example logger -- write readings.npy 100000 &
//! cargo run --example logger -- read readings.npy
//! ```
//!
//! Instead of the reader here, any program that reads `.npy` files will do: `numpy.load("readings.npy", mmap_mode="r")`.
//! Kill the writer when you like, with `kill -9` too: started again, it goes on where it was.

use std::error::Error;
use std::path::Path;
use std::time::Duration;
use std::{env, process, thread};

use ndarray::prelude::*;
use ndarray_mmap::{ErrorKind, Lock, MmapArray, MmapArrayMut};

/// Time in seconds, and two sensors.
const COLUMNS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["write", path, count] => write(path.as_ref(), count.parse()?),
        ["read", path] => read(path.as_ref()),
        _ => {
            eprintln!("usage: logger write FILE.npy COUNT\n       logger read FILE.npy");
            process::exit(2);
        }
    }
}

/// Takes `count` readings, ten at a time.
fn write(path: &Path, count: usize) -> Result<(), Box<dyn Error>> {
    let mut log = open_or_create(path)?;
    println!("{} readings are there", log.nrows());
    for batch in 0..count / 10 {
        let first = log.nrows();
        let readings = Array2::from_shape_fn((10, COLUMNS), |(i, column)| reading(first + i, column));
        // Whoever opens the file sees the log without these rows, or with all of them.
        log.append(&readings)?;
        // So much may be lost in a power cut. What a killed process appended is never lost.
        if batch % 1000 == 999 {
            log.flush()?;
        }
    }
    log.flush()?;
    println!("{} readings are there now", log.nrows());
    Ok(log.close()?)
}

fn open_or_create(path: &Path) -> ndarray_mmap::Result<MmapArrayMut<f64, Ix2>> {
    // SAFETY: readers do not write, and a second writer is kept out by the lock. Rows only come to be, behind those that
    // readers have mapped.
    let new = unsafe { MmapArrayMut::<f64>::create_new_npy(path, (0, COLUMNS)) };
    match new {
        Err(e) if path.exists() && e.kind() == ErrorKind::Io => {
            // SAFETY: as above.
            unsafe { MmapArrayMut::open_npy(path) }
        }
        new => new,
    }
}

/// What a sensor says: two waves.
fn reading(i: usize, column: usize) -> f64 {
    let seconds = i as f64 / 1000.0;
    [seconds, seconds.sin(), (3.0 * seconds).cos()][column]
}

/// Draws the newest readings, until for a second there have been no others.
fn read(path: &Path) -> Result<(), Box<dyn Error>> {
    let (mut seen, mut waited) = (0, 0);
    while waited < 10 {
        // Opened anew for each look, which takes some microseconds: an array that is open stays as long as it was.
        // Without a lock, as the writer has one.
        // SAFETY: the writer only adds rows.
        let log = unsafe { MmapArray::<f64, Ix2>::options().lock(Lock::None).open_npy(path)? };
        waited = if log.nrows() > seen { 0 } else { waited + 1 };
        seen = log.nrows();
        let newest = log.slice(s![seen.saturating_sub(5000).., 1]);
        let plot: String =
            newest.axis_chunks_iter(Axis(0), 125).map(|piece| bar(piece.mean().unwrap_or(0.0))).collect();
        println!("{seen:>9} {plot}");
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// A value of -1 to 1 as a character.
fn bar(value: f64) -> char {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    BARS[((value + 1.0) * 4.0).clamp(0.0, 7.0) as usize]
}
