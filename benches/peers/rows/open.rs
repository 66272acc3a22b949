//! Files that are opened for a few elements.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use memmap2::MmapOptions;
use ndarray::{ArrayView1, Ix1};
use ndarray_mmap::MmapArray;
use ndarray_npy::ViewNpyExt;

use crate::Settings;
use crate::files::{Input, MIB, map, write_npy, write_numbered};
use crate::rows::Row;

pub fn rows(s: &Settings) -> Vec<Row> {
    vec![open_npy(s), open_raw(s, MIB), open_raw(s, 4096 * MIB), scattered(s)]
}

fn open_npy(s: &Settings) -> Row {
    let path = s.folder.join("small.npy");
    let [ours, by_hand, view] = [(); 3].map(|()| path.clone());
    Row::new(s, "open .npy of 1 MiB, first element")
        .on_one_thread()
        .reads_file(Input::new(path, |path| write_npy(path, MIB)))
        .ours(|| (), move |(), _| unsafe { MmapArray::<f64, Ix1>::open_npy(&ours).unwrap() }[0])
        .other("memmap2, offset known", || (), move |()| first(&by_hand, 128))
        .other("memmap2 + ndarray-npy", || (), move |()| ArrayView1::<f64>::view_npy(&map(&view)).unwrap()[0])
        .python("np.load, mmap_mode", "", "return np.load(folder + '/small.npy', mmap_mode='r')[0]")
}

/// Only the first MiB of the file is on the disk. The rest is a hole, which makes no difference to opening it.
fn open_raw(s: &Settings, bytes: usize) -> Row {
    let path = s.folder.join(format!("{}.f8", bytes / MIB));
    let python = format!("return m('{}.f8')[0]", bytes / MIB);
    let (ours, by_hand) = (path.clone(), path.clone());
    let write = move |path: &Path| {
        write_numbered::<f64>(path, MIB);
        File::options().write(true).open(path).unwrap().set_len(bytes as u64).unwrap();
    };
    Row::new(s, format!("open raw file of {} MiB, first element", bytes / MIB))
        .on_one_thread()
        .reads_file(Input::new(path, write))
        .ours(|| (), move |(), _| unsafe { MmapArray::<f64, Ix1>::open(&ours).unwrap() }[0])
        .other("memmap2", || (), move |()| first(&by_hand, 0))
        .python("np.memmap", "", &python)
}

fn first(path: &Path, offset: u64) -> f64 {
    let file = File::open(path).unwrap();
    let map = unsafe { MmapOptions::new().offset(offset).map(&file).unwrap() };
    ArrayView1::<f64>::from(bytemuck::cast_slice(&map))[0]
}

/// Each pass opens the file: for few elements it need not be read.
fn scattered(s: &Settings) -> Row {
    let [ours, by_hand, read] = [(); 3].map(|()| s.path::<f64>("a"));
    let count = s.bytes / 8;
    // An order that repeats none: the factor is a prime.
    let places: Vec<usize> = (0..1000).map(|n| n * 1_000_003 % count).collect();
    let (here, there) = (places.clone(), places.clone());
    Row::new(s, "open, 1000 scattered elements f8")
        .on_one_thread()
        .reads::<f64>(s, "a")
        .ours(
            || (),
            move |(), _| {
                let a = unsafe { MmapArray::<f64, Ix1>::open(&ours).unwrap() };
                places.iter().map(|&n| a[n]).sum::<f64>()
            },
        )
        .other(
            "memmap2",
            || (),
            move |()| {
                let map = map(&by_hand);
                let a = ArrayView1::<f64>::from(bytemuck::cast_slice(&map));
                here.iter().map(|&n| a[n]).sum::<f64>()
            },
        )
        .other(
            "read to Vec",
            || (),
            move |()| {
                let mut a = vec![0.0_f64; count];
                File::open(&read).unwrap().read_exact(bytemuck::cast_slice_mut(&mut a)).unwrap();
                there.iter().map(|&n| a[n]).sum::<f64>()
            },
        )
        .python("np.memmap", "", &format!("return m('a.f8')[np.arange(1000) * 1_000_003 % {count}].sum()"))
}
