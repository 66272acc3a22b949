//! Maps a page of an uncompressed TIFF file in place, and copies it: `cargo run --example tiff -- scan.tif page0.npy 0`
use std::{env, error::Error, iter::zip};

use ndarray_mmap::npy::{Dtype, Real};
use ndarray_mmap::{MmapArray, npy_dispatch, save_npy};

fn main() -> Result<(), Box<dyn Error>> {
    let (input, output) = env::args().nth(1).zip(env::args().nth(2)).ok_or("usage: tiff IN.tif OUT.npy [PAGE]")?;
    let n: usize = env::args().nth(3).map_or(Ok(0), |n| n.parse())?;
    // SAFETY: nobody else writes to this file while this program runs.
    let file = unsafe { MmapArray::<u8, ndarray::Ix1>::open(&input)? };
    let big = [b"II*\0", b"MM\0*"].iter().position(|m| file.iter().take(4).eq(*m)).ok_or("not TIFF, or BigTIFF")? == 1;
    let int = |at: usize, size: usize| {
        let place = |i| if big { at + i } else { at + size - 1 - i };
        (0..size).try_fold(0, |n, i| Some(n << 8 | usize::from(*file.get(place(i))?))).ok_or("no such page, or cut")
    };
    // A page has a list of tags (of 12 bytes: number, type, count, and the value or the place of more), and a link.
    let page = (0..n).try_fold(int(4, 4)?, |at, _| if at == 0 { Ok(0) } else { int(at + 2 + 12 * int(at, 2)?, 4) })?;
    let tag = |number, default| {
        let mut places = (0..int(page, 2)?).map(|i| page + 2 + 12 * i);
        let Some(at) = places.find(|at| int(*at, 2) == Ok(number)) else { return Ok(vec![default]) };
        let (size, count) = (if int(at + 2, 2)? == 3 { 2 } else { 4 }, int(at + 4, 4)?.max(1));
        let at = if size * count <= 4 { at + 8 } else { int(at + 8, 4)? };
        (0..count).map(|i| int(at + i * size, size)).collect::<Result<Vec<_>, &str>>()
    };
    let (width, height, channels, bits) = (tag(256, 0)?[0], tag(257, 0)?[0], tag(277, 1)?[0], tag(258, 1)?[0]);
    let strips = tag(273, 0)?;
    let apart = zip(zip(&strips, tag(279, 0)?), &strips[1..]).any(|((at, length), next)| at + length != *next);
    let mapped = tag(259, 1)?[0] == 1 && bits % 8 == 0 && !apart && strips[0] > 0 && page > 0;
    let offset = mapped.then_some(strips[0]).ok_or("compressed, tiled, in strips apart, or no such page")?;
    let kind = ["u", "u", "i", "f"].get(tag(339, 1)?[0]).ok_or("not of real numbers")?;
    let dtype: Dtype = format!("{}{kind}{}", if big { '>' } else { '<' }, bits / 8).parse()?;
    let shape = if tag(284, 1)?[0] == 2 { [channels, height, width] } else { [height, width, channels] };
    npy_dispatch!(&dtype, unaligned A => {
        let a = file.view_as::<A, _>(offset, shape)?;
        save_npy(&output, &a)?;
        println!("{:?} {dtype}, mean {}", a.shape(), a.fold(0.0, |sum, x| sum + x.to_f64()) / a.len() as f64);
        Ok(())
    })
}
