//! Runs every operation of the crate with every system call that it makes failing once: refused, done in part, interrupted.
//!
//! Must be started with the library (`inject.c`) before libc, and built with `--cfg rustix_use_libc`, or its calls bypass
//! libc: `scripts/check inject` does both. The program that it built can be started again, in a folder on a disk:
//!
//! ```sh
//! LD_PRELOAD=target/inject/libinject.so target/inject/debug/ndarray-mmap-inject --case 'load_npy disk whole pread 1 EIO fail'
//! ```
//!
//! - without arguments: runs everything, on all processors.
//! - `--list`: lists the batches, each a scenario, a place and a world.
//! - `--batch NAME [--skip N]`: runs one batch. The driver starts itself with this.
//! - `--case 'SCENARIO PLACE WORLD CALL N ERRNO KIND'`: runs one case, by the name that a failure reports.
//! - `--only TEXT`: runs the batches whose name contains TEXT.
//! - `--samples FOLDER`: keeps the `.npy` files that scenarios end with, for NumPy.

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

/// Gives new files the permissions that `photo` expects.
const UMASK: libc::mode_t = 0o022;

#[derive(Default)]
pub struct Arguments {
    list: bool,
    batch: Option<String>,
    skip: usize,
    case: Option<String>,
    samples: Option<PathBuf>,
    /// Only batches whose name contains this.
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
    // SAFETY: it sets a number of this process, which has no other threads yet.
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
