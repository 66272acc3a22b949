//! Maps an image of a FITS file in place, unscaled, and copies it: `cargo run --example fits -- sky.fits sky.npy 1`
use std::{env, error::Error, iter::zip, str};

use ndarray_mmap::npy::{Dtype, Real};
use ndarray_mmap::{MmapArray, npy_dispatch, save_npy};

fn main() -> Result<(), Box<dyn Error>> {
    let (input, output) = env::args().nth(1).zip(env::args().nth(2)).ok_or("usage: fits IN.fits OUT.npy [NUMBER]")?;
    let mut skip: usize = env::args().nth(3).map_or(Ok(0), |number| number.parse())?;
    // SAFETY: nobody else writes to this file while this program runs.
    let file = unsafe { MmapArray::<u8, ndarray::Ix1>::open(&input)? };
    let mut offset = 0;
    let (dtype, shape) = loop {
        // A header is cards of 80 bytes, `KEY     = value / comment`, up to `END`, in blocks of 2880 bytes.
        let cards = file.as_slice().and_then(|bytes| bytes.get(offset..)).unwrap_or_default().chunks_exact(80);
        let end = cards.clone().position(|card| card.trim_ascii() == b"END").ok_or("not FITS, or not so many parts")?;
        let value = |key: &str| {
            let card = cards.clone().take(end).find(|card| card[..8].trim_ascii() == key.as_bytes())?;
            Some(str::from_utf8(&card[9..]).ok()?.split('/').next()?.trim_matches([' ', '\'']))
        };
        let int = |key: &str| value(key).and_then(|value| value.parse::<usize>().ok()).ok_or("a number is missing");
        let mut types = zip(["8", "16", "32", "64", "-32", "-64"], ["u1", ">i2", ">i4", ">i8", ">f4", ">f8"]);
        let dtype: Dtype = types.find(|t| value("BITPIX") == Some(t.0)).ok_or("no valid BITPIX")?.1.parse()?;
        let shape: Vec<_> = (1..=int("NAXIS")?).rev().map(|i| int(&format!("NAXIS{i}"))).collect::<Result<_, _>>()?;
        let items = shape.iter().fold(usize::from(!shape.is_empty()), |n, len| n.saturating_mul(*len));
        let bytes = items.saturating_add(int("PCOUNT").unwrap_or(0)).saturating_mul(dtype.itemsize());
        offset += ((end + 1) * 80).next_multiple_of(2880);
        match (skip, value("XTENSION").or(value("SIMPLE")), value("GROUPS"), &shape[..]) {
            (0, Some("IMAGE" | "T"), None | Some("F"), [_, ..]) => break (dtype, shape),
            (0, kind, ..) => return Err(format!("no image, but {kind:?}: a table, compressed, or empty").into()),
            _ => (skip, offset) = (skip - 1, bytes.div_ceil(2880).saturating_mul(2880).saturating_add(offset)),
        }
    };
    npy_dispatch!(&dtype, A => {
        let a = file.view_as::<A, _>(offset, shape)?;
        save_npy(&output, &a)?;
        println!("{:?} {dtype}, mean {}", a.shape(), a.fold(0.0, |sum, x| sum + x.to_f64()) / a.len() as f64);
        Ok(())
    })
}
