//! A log of readings that grows while another process reads it.
//!
//! ```sh
//! cargo run --example logger -- write readings.npy 100000 &
//! cargo run --example logger -- read readings.npy
//! ```
//!
//! Any program that reads `.npy` files can take the reader's place: `numpy.load("readings.npy", mmap_mode="r")`.
//! Kill the writer whenever you like, also with `kill -9`: when it is started again, it goes on where it stopped.

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
        // A reader that opens the file sees the log without these rows, or with all of them.
        log.append(&readings)?;
        // A power cut may lose what was appended since the last flush. A killed process never loses what it appended.
        if batch % 1000 == 999 {
            log.flush()?;
        }
    }
    log.flush()?;
    println!("{} readings are there now", log.nrows());
    Ok(log.close()?)
}

fn open_or_create(path: &Path) -> ndarray_mmap::Result<MmapArrayMut<f64, Ix2>> {
    // SAFETY: readers do not write, and the lock excludes a second writer. Rows are only added, behind those that readers
    // have mapped.
    let new = unsafe { MmapArrayMut::<f64>::create_new_npy(path, (0, COLUMNS)) };
    match new {
        Err(e) if path.exists() && e.kind() == ErrorKind::Io => {
            // SAFETY: as above.
            unsafe { MmapArrayMut::open_npy(path) }
        }
        new => new,
    }
}

/// A made-up reading: the time, and two waves.
fn reading(i: usize, column: usize) -> f64 {
    let seconds = i as f64 / 1000.0;
    [seconds, seconds.sin(), (3.0 * seconds).cos()][column]
}

/// Draws the newest readings, until there have been no new ones for a second.
fn read(path: &Path) -> Result<(), Box<dyn Error>> {
    let (mut seen, mut waited) = (0, 0);
    while waited < 10 {
        // Open the file again each time, which takes some microseconds: an array that is open keeps its length.
        // Take no lock, because the writer holds it.
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
