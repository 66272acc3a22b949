//! The files that contestants read and write: made before they are measured, and the state they are in when that begins.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use bytemuck::NoUninit;
use memmap2::{Mmap, MmapMut};

use crate::value::Element;

pub const MIB: usize = 1 << 20;

/// A file that contestants read, and how it is made.
pub struct Input {
    pub path: PathBuf,
    write: Box<dyn Fn(&Path)>,
}

impl Input {
    pub fn new(path: PathBuf, write: impl Fn(&Path) + 'static) -> Self {
        Self { path, write: Box::new(write) }
    }

    /// Makes the file unless it is there.
    pub fn make(&self) {
        if !self.path.exists() {
            (self.write)(&self.path);
            File::open(&self.path).unwrap().sync_all().unwrap();
        }
    }
}

/// Writes the elements with the numbers from 0 on.
pub fn write_numbered<A: Element>(path: &Path, bytes: usize) {
    write_elements(path, (0..bytes / size_of::<A>()).map(A::numbered));
}

/// The same as a `.npy` file, of `f8`.
pub fn write_npy(path: &Path, bytes: usize) {
    let dict = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({},), }}", bytes / 8);
    let header = format!("{dict:117}\n");
    let header = [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes()].concat();
    write_after(&header, path, (0..bytes / 8).map(f64::numbered));
}

pub fn write_elements<A: NoUninit>(path: &Path, elements: impl Iterator<Item = A>) {
    write_after(&[], path, elements);
}

/// In large pieces, so that the page cache has large ones, too.
fn write_after<A: NoUninit>(header: &[u8], path: &Path, elements: impl Iterator<Item = A>) {
    let mut file = BufWriter::with_capacity(4 * MIB, File::create(path).unwrap());
    file.write_all(header).unwrap();
    elements.for_each(|x| file.write_all(bytemuck::bytes_of(&x)).unwrap());
    file.into_inner().unwrap();
}

/// What contestants find in place of the file that they write.
pub enum Before {
    Nothing,
    /// A file of the same length, in memory and on the disk.
    Zeros(usize),
    CopyOf(PathBuf),
}

/// A file that contestants write.
pub struct Target {
    pub path: PathBuf,
    pub before: Before,
    /// What one pass writes, but for the header of a `.npy` file.
    pub bytes: usize,
}

impl Target {
    /// Puts the file in the state that it has before each contestant. If the file is to be compared, no result of an
    /// earlier contestant remains.
    pub fn prepare(&self, compare: bool) {
        let len = fs::metadata(&self.path).map(|file| file.len() as usize).ok();
        match &self.before {
            Before::Nothing => {
                let _ = fs::remove_file(&self.path);
            }
            Before::Zeros(bytes) if compare || len != Some(*bytes) => {
                let mut file = File::create(&self.path).unwrap();
                let zeros = vec![0; 4 * MIB];
                (0..*bytes).step_by(zeros.len()).for_each(|at| {
                    file.write_all(&zeros[..zeros.len().min(bytes - at)]).unwrap();
                });
            }
            Before::Zeros(_) => {}
            Before::CopyOf(path) => {
                // By bytes: a file system might share those of a clone.
                let (mut from, mut to) = (File::open(path).unwrap(), File::create(&self.path).unwrap());
                copy_by_bytes(&mut from, &mut to);
            }
        }
        // What earlier contestants wrote is not written back while others are measured.
        if let Ok(file) = File::open(&self.path) {
            file.sync_all().unwrap();
        }
    }

    /// A number that stands for what was written.
    pub fn hash(&self) -> u64 {
        let file = map(&self.path);
        let npy = file.starts_with(b"\x93NUMPY");
        let start = if npy { 10 + usize::from(u16::from_le_bytes([file[8], file[9]])) } else { 0 };
        // Of a file that is larger than memory, not all.
        let bytes = &file[start..start + self.bytes.min(1024 * MIB)];
        bytes.chunks(8).fold(bytes.len() as u64, |hash, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        })
    }
}

fn copy_by_bytes(from: &mut File, to: &mut File) {
    let mut buffer = vec![0; 4 * MIB];
    while let len @ 1.. = from.read(&mut buffer).unwrap() {
        to.write_all(&buffer[..len]).unwrap();
    }
}

/// Reads a file into the page cache. It stays there as long as the returned map lives: some systems may drop, at any time,
/// pages that nobody maps.
pub fn warm(path: &Path) -> Mmap {
    use std::os::unix::fs::MetadataExt;
    let file = File::open(path).unwrap();
    // Without the hole of a sparse file, which is at its end.
    let stored = file.metadata().unwrap().blocks() * 512;
    std::io::copy(&mut file.take(stored), &mut std::io::sink()).unwrap();
    let map = map(path);
    let pages = map.iter().take(stored as usize).step_by(4096);
    std::hint::black_box(pages.map(|&byte| u64::from(byte)).sum::<u64>());
    map
}

/// Drops a file from the page cache.
pub fn chill(path: &Path) {
    if let Ok(file) = File::open(path) {
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
}

/// A file as a user of memmap2 maps it.
pub fn map(path: &Path) -> Mmap {
    unsafe { Mmap::map(&File::open(path).unwrap()).unwrap() }
}

pub fn map_mut(path: &Path) -> MmapMut {
    unsafe { MmapMut::map_mut(&File::options().read(true).write(true).open(path).unwrap()).unwrap() }
}

/// A new file of zeros, as a user of memmap2 makes it.
pub fn map_new(path: &Path, bytes: usize) -> MmapMut {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    file.set_len(bytes as u64).unwrap();
    unsafe { MmapMut::map_mut(&file).unwrap() }
}
