//! Runs every operation of the crate with every system call it makes failing once: refused, half done, interrupted.
//!
//! To be started with the library (`inject.c`) before libc, and built with `--cfg rustix_use_libc`, or its calls go past
//! libc: `scripts/check inject` does both. What it built can be started again, in a folder on a disk:
//!
//! ```sh
//! LD_PRELOAD=target/inject/libinject.so target/inject/debug/ndarray-mmap-inject --case 'load_npy disk whole pread 1 EIO fail'
//! ```
//!
//! - without arguments: all of it, on all processors.
//! - `--list`: the batches, each a scenario, a place and a world.
//! - `--batch NAME [--skip N]`: one of them; what the driver starts itself for.
//! - `--case 'SCENARIO PLACE WORLD CALL N ERRNO KIND'`: one case, as failures are named.
//! - `--only TEXT`: the batches with that in their name.
//! - `--samples FOLDER`: keeps what `.npy` files there are in the end, for NumPy.

mod batch;
mod driver;
mod faults;
mod library;
mod numpy;
mod photo;
mod scenarios;
mod scene;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use library::Library;

/// So that new files get the permissions that `photo` expects.
const UMASK: libc::mode_t = 0o022;

#[derive(Default)]
pub struct Arguments {
    list: bool,
    batch: Option<String>,
    skip: usize,
    case: Option<String>,
    samples: Option<PathBuf>,
    /// Only batches whose name has this in it.
    only: Option<String>,
}

fn arguments() -> Option<Arguments> {
    let mut arguments = Arguments::default();
    let mut rest = std::env::args().skip(1);
    while let Some(name) = rest.next() {
        match name.as_str() {
            "--list" => arguments.list = true,
            "--batch" => arguments.batch = Some(rest.next()?),
            "--skip" => arguments.skip = rest.next()?.parse().ok()?,
            "--case" => arguments.case = Some(rest.next()?),
            "--samples" => arguments.samples = Some(rest.next()?.into()),
            "--only" => arguments.only = Some(rest.next()?),
            _ => return None,
        }
    }
    Some(arguments)
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("unknown arguments: see the head of inject/src/main.rs");
        return ExitCode::from(2);
    };
    let Some(library) = Library::find() else {
        eprintln!("the library is not loaded, so nothing would fail: start this by `scripts/check inject`");
        return ExitCode::from(2);
    };
    // SAFETY: it sets a number of this process, in which no other thread runs yet.
    unsafe { libc::umask(UMASK) };
    library.pretend_syncs(true);
    match (&arguments.batch, &arguments.case) {
        (Some(batch), _) => driver::run_batch(library, batch, &arguments),
        (_, Some(case)) => driver::run_case(library, case, &arguments),
        _ if arguments.list => {
            driver::batches(&arguments).iter().for_each(|batch| println!("{batch}"));
            ExitCode::SUCCESS
        }
        _ => driver::run_all(&arguments),
    }
}
