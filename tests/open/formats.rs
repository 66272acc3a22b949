//! How files of common formats lay out their numbers, and the calls that say so. Each file is written number by number, in
//! the format's own order; the views must have each number at its place.

use std::fs;

use crate::support::arrays::OpenExt;
use ndarray::prelude::*;
use ndarray_mmap::{BigEndian, MmapArray, MmapArrayCow, Result, Unaligned};
use tempfile::TempDir;

fn written(bytes: &[u8]) -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// A number that tells where it belongs.
fn at(i: usize, j: usize, k: usize) -> u16 {
    (i * 1000 + j * 100 + k) as u16
}

#[track_caller]
fn has_each_number_at_its_place<A: Copy + Into<f64>>(view: ArrayView3<A>, dim: (usize, usize, usize)) {
    assert_eq!(view.dim(), dim);
    for ((i, j, k), &x) in view.indexed_iter() {
        assert_eq!(x.into(), f64::from(at(i, j, k)), "{i} {j} {k}");
    }
}

/// ENVI's three interleaves of (band, line, sample), one array for each band.
#[test]
fn images_interleaved_by_band_line_and_pixel() -> Result<()> {
    let (bands, lines, samples) = (3, 4, 5);
    let mut bsq = vec![0_u16; bands * lines * samples];
    let (mut bil, mut bip) = (bsq.clone(), bsq.clone());
    for (b, l, s) in itertools(bands, lines, samples) {
        bsq[(b * lines + l) * samples + s] = at(b, l, s);
        bil[(l * bands + b) * samples + s] = at(b, l, s);
        bip[(l * samples + s) * bands + b] = at(b, l, s);
    }
    let shape = || (bands, lines, samples);
    for (numbers, strides) in [
        (&bsq, (lines * samples, samples, 1)),
        (&bil, (samples, bands * samples, 1)),
        (&bip, (1, samples * bands, bands)),
    ] {
        let (_folder, path) = written(bytemuck::cast_slice(numbers));
        let file = MmapArray::<u16>::options().opened(&path)?;
        has_each_number_at_its_place(file.strided(0, shape().strides(strides))?, shape());
        let mut file = MmapArrayCow::<u16>::options().opened(&path)?;
        file.strided_mut::<Ix3>(0, shape().strides(strides))?.index_axis_mut(Axis(0), 1).fill(0);
        assert_eq!(file.iter().filter(|&&x| (1000..2000).contains(&x)).count(), 0);
    }
    Ok(())
}

fn itertools(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a).flat_map(move |i| (0..b).flat_map(move |j| (0..c).map(move |k| (i, j, k))))
}

/// Frames of a detector, each behind rows of metadata and before a frame of another size; the last one ends the file.
#[test]
fn frames_between_metadata_and_frames_of_another_size() -> Result<()> {
    let (frames, height, width, metadata, other) = (4, 3, 6, 2 * 6, 7);
    let mut numbers = vec![9_u16; 5];
    for n in 0..frames {
        numbers.extend(vec![60_000; metadata]);
        numbers.extend((0..height).flat_map(|i| (0..width).map(move |j| at(n, i, j))));
        if n + 1 < frames {
            numbers.extend(vec![61_000; other]);
        }
    }
    let (_folder, path) = written(bytemuck::cast_slice(&numbers));
    let file = MmapArray::<u16>::options().opened(&path)?;
    let frame = metadata + height * width + other;
    let view = file.strided(5 + metadata, (frames, height, width).strides((frame, width, 1)))?;
    has_each_number_at_its_place(view, (frames, height, width));
    Ok(())
}

/// SEG-Y: 3,600 bytes of headers, then traces of big-endian floats, each behind 240 bytes of its own.
#[test]
fn traces_behind_their_headers() -> Result<()> {
    let (traces, samples) = (5, 8);
    let mut bytes = vec![0xee; 3600];
    for t in 0..traces {
        bytes.extend([0xdd; 240]);
        bytes.extend((0..samples).flat_map(|s| f32::from(at(0, t, s)).to_be_bytes()));
    }
    let (_folder, path) = written(&bytes);
    let file = MmapArray::<BigEndian<f32>>::options().offset(3600 + 240).opened(&path)?;
    let view = file.strided::<Ix2>(0, (traces, samples).strides((60 + samples, 1)))?;
    has_each_number_at_its_place(view.mapv(BigEndian::get).insert_axis(Axis(0)).view(), (1, traces, samples));
    // A field of all headers, at a place of the caller's choice.
    let records = MmapArray::<u8>::options().offset(3600).row_shape(240 + 4 * samples).opened(&path)?;
    assert!(records.read_field::<BigEndian<u32>>(236)?.iter().all(|x| x.get() == 0xdddd_dddd));
    assert_eq!(records.read_field::<[BigEndian<f32>; 2]>(240)?[3][1].get(), f32::from(at(0, 3, 1)));
    Ok(())
}

/// NetCDF-3: the records of all variables in turn, each padded to four bytes; the last is often not complete.
#[test]
fn records_of_several_variables_in_turn() -> Result<()> {
    let (records, width) = (6, 3);
    let mut bytes = vec![0; 100];
    for r in 0..records {
        bytes.extend((r as f64 / 2.0).to_be_bytes());
        bytes.extend((0..width).flat_map(|j| (at(0, r, j) as i16).to_be_bytes()));
        bytes.extend([0; 2]);
    }
    bytes.extend([1; 7]);
    let (_folder, path) = written(&bytes);
    let (record, options) = (8 + 8, || MmapArray::<u8>::options().offset(100).ignore_remainder(true));
    let rows = options().row_shape(record).opened(&path)?;
    assert_eq!(
        rows.read_field::<BigEndian<f64>>(0)?.mapv(BigEndian::get),
        Array1::from_iter((0..6).map(|r| f64::from(r) / 2.0))
    );
    let shorts = MmapArray::<BigEndian<i16>>::options().offset(100 + 8).ignore_remainder(true).opened(&path)?;
    let view = shorts.strided::<Ix2>(0, (records, width).strides((record / 2, 1)))?;
    has_each_number_at_its_place(view.mapv(BigEndian::get).insert_axis(Axis(0)).view(), (1, records, width));
    Ok(())
}

/// EDF: a header of 256 bytes and 256 more for each channel, then records with so many samples of each channel in turn.
#[test]
fn channels_of_different_rates() -> Result<()> {
    let (records, rates) = (4, [5, 2, 8]);
    let mut bytes = vec![b' '; 256 * (rates.len() + 1)];
    for r in 0..records {
        for (channel, &rate) in rates.iter().enumerate() {
            bytes.extend((0..rate).flat_map(|s| at(channel, r, s).to_le_bytes()));
        }
    }
    let (_folder, path) = written(&bytes);
    let file = MmapArray::<i16>::options().offset(256 * (rates.len() as u64 + 1)).opened(&path)?;
    let record: usize = rates.iter().sum();
    for (channel, &rate) in rates.iter().enumerate() {
        let start = rates[..channel].iter().sum();
        let samples = file.strided::<Ix2>(start, (records, rate).strides((record, 1)))?;
        assert!(
            samples
                .indexed_iter()
                .all(|((r, s), &x)| x.cast_unsigned() == u16::from_le_bytes(at(channel, r, s).to_le_bytes()))
        );
    }
    Ok(())
}

/// YUV 4:2:0: a plane of brightness, and two of colour in half its width and height, frame after frame.
#[test]
fn planes_of_different_sizes_in_each_frame() -> Result<()> {
    let (frames, height, width) = (3, 4, 6);
    let mut bytes = Vec::new();
    for n in 0..frames {
        bytes.extend((0..height * width).map(|p| (n * 64 + p) as u8));
        bytes.extend((0..height * width / 4).map(|p| (100 + n * 16 + p) as u8));
        bytes.extend((0..height * width / 4).map(|p| (200 + n * 16 + p) as u8));
    }
    let (_folder, path) = written(&bytes);
    let file = MmapArray::<u8>::options().opened(&path)?;
    let (luma, chroma) = (height * width, height * width / 4);
    let frame = luma + 2 * chroma;
    let plane = |start, h: usize, w| file.strided::<Ix3>(start, (frames, h, w).strides((frame, w, 1)));
    let (y, u, v) =
        (plane(0, height, width)?, plane(luma, height / 2, width / 2)?, plane(luma + chroma, height / 2, width / 2)?);
    assert_eq!((y[[2, 3, 5]], u[[2, 1, 2]], v[[1, 0, 1]]), ((2 * 64 + 23) as u8, 100 + 32 + 5, 200 + 16 + 1));
    Ok(())
}

/// FITS: blocks of 2,880 bytes, the last of them padded; big-endian, and the first axis varies fastest.
#[test]
fn tables_padded_to_blocks() -> Result<()> {
    let (rows, width) = (50_u8, 29);
    let mut bytes = vec![b' '; 2880];
    for r in 0..rows {
        bytes.push(r);
        bytes.extend(f64::from(r).to_be_bytes());
        bytes.extend([7; 20]);
    }
    bytes.resize(bytes.len().next_multiple_of(2880), 0);
    let (_folder, path) = written(&bytes);
    let table = MmapArray::<u8>::options().offset(2880).shape((rows as usize, width)).opened(&path)?;
    assert_eq!(
        table.read_field::<BigEndian<f64>>(1)?.mapv(BigEndian::get),
        Array1::from_iter((0..rows).map(f64::from))
    );
    // The same column as elements at any offset, of records of a type.
    let records = MmapArray::<[u8; 29]>::options().offset(2880).ignore_remainder(true).opened(&path)?;
    assert_eq!(records.len(), 2880 / width);
    assert!(records.field::<u8>(0)?.iter().zip(0..rows).all(|(&first, r)| first == r));
    Ok(())
}

/// Samples of 24 bits, and of 16 at odd offsets.
#[test]
fn samples_of_three_bytes_and_at_odd_offsets() -> Result<()> {
    let bytes: Vec<u8> = (0..61).collect();
    let (_folder, path) = written(&bytes);
    let samples = MmapArray::<[u8; 3]>::options().offset(1).row_shape(2).opened(&path)?;
    assert_eq!((samples.dim(), samples[[9, 1]]), ((10, 2), [58, 59, 60]));
    let odd = MmapArray::<Unaligned<u16>>::options().offset(1).opened(&path)?;
    let channel = odd.strided::<Ix1>(1, 15.strides(2))?;
    assert_eq!(channel[14].get(), u16::from_ne_bytes([59, 60]));
    Ok(())
}
