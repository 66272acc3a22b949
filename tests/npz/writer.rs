//! Writes archives, in every form that a reader must know, and keeps where each part is, to be damaged.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use bytemuck::NoUninit;
use flate2::{Compression, Crc, write::DeflateEncoder};
use ndarray::Dimension;
use ndarray_mmap::npy::NpyElement;
use ndarray_mmap::{
    MmapArrayBase, MmapArrayOptions, Result,
    mode::{Loadable, Supports},
};
use tempfile::TempDir;

use crate::support::arrays::npy_header;

pub const STORED: u16 = 0;
pub const DEFLATED: u16 = 8;

/// The constructor that maps, with its promise given once: each test maps files of its own, in a folder of its own.
pub trait OpenNpz<A: 'static, D, M> {
    fn opened_npz(self, path: impl AsRef<Path>, name: &str) -> Result<MmapArrayBase<A, D, M>>;
}

impl<A: NpyElement + bytemuck::AnyBitPattern, D: Dimension, M: Supports<A> + Loadable> OpenNpz<A, D, M>
    for MmapArrayOptions<A, D, M>
{
    fn opened_npz(self, path: impl AsRef<Path>, name: &str) -> Result<MmapArrayBase<A, D, M>> {
        // SAFETY: see the trait.
        unsafe { self.open_npz(path, name) }
    }
}

/// A member that is to be written.
#[derive(Clone)]
pub struct Member {
    pub name: Vec<u8>,
    pub content: Vec<u8>,
    /// Instead of what the method makes of the content.
    pub packed: Option<Vec<u8>>,
    pub method: u16,
    pub flags: u16,
    /// Sizes and offset in 64 bits.
    pub long: bool,
    /// Sizes and checksum behind the data.
    pub descriptor: bool,
    /// Bytes of an unknown extra field of the local header: they move the data.
    pub padding: usize,
}

/// A stored member.
pub fn member(name: &str, content: &[u8]) -> Member {
    Member {
        name: name.into(),
        content: content.to_vec(),
        packed: None,
        method: STORED,
        flags: 0,
        long: false,
        descriptor: false,
        padding: 4,
    }
}

impl Member {
    pub fn deflated(self) -> Self {
        Self { method: DEFLATED, ..self }
    }

    fn packed(&self) -> Vec<u8> {
        match &self.packed {
            Some(packed) => packed.clone(),
            None if self.method == DEFLATED => deflate(&self.content),
            None => self.content.clone(),
        }
    }
}

pub fn deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// A `.npy` file.
pub fn npy<A: NoUninit>(descr: &str, fortran_order: bool, shape: &str, elements: &[A]) -> Vec<u8> {
    [&npy_header(descr, fortran_order, shape, 64)[..], bytemuck::cast_slice(elements)].concat()
}

/// The file of `0.0, 1.0, 2.0 ..`
pub fn floats(n: usize) -> Vec<u8> {
    let elements: Vec<f64> = (0..n).map(|i| i as f64).collect();
    npy(F8, false, &format!("({n},)"), &elements)
}

/// In NumPy's words, for this machine.
pub const F8: &str = if cfg!(target_endian = "big") { "'>f8'" } else { "'<f8'" };

/// An archive, and where its parts are.
#[derive(Clone)]
pub struct Built {
    pub bytes: Vec<u8>,
    /// The local headers.
    pub locals: Vec<usize>,
    /// The data of the members.
    pub data: Vec<usize>,
    /// The records of the directory.
    pub records: Vec<usize>,
    /// The last record.
    pub end: usize,
}

impl Built {
    pub fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub fn put16(&mut self, at: usize, number: u16) -> &mut Self {
        self.put(at, &number.to_le_bytes())
    }

    pub fn put32(&mut self, at: usize, number: u32) -> &mut Self {
        self.put(at, &number.to_le_bytes())
    }

    /// As a file in a folder of its own.
    pub fn file(&self) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        fs::write(&path, &self.bytes).unwrap();
        (folder, path)
    }
}

/// How the archive around the members is to be.
#[derive(Clone, Default)]
pub struct Form {
    pub prefix: usize,
    /// Whether the offsets count the bytes before the archive.
    pub counts_prefix: bool,
    pub comment: Vec<u8>,
    /// 64-bit records at the end.
    pub long: bool,
}

pub fn archive(members: &[Member]) -> Built {
    archive_as(members, &Form::default())
}

pub fn archive_as(members: &[Member], form: &Form) -> Built {
    let mut bytes = vec![b'#'; form.prefix];
    let base = if form.counts_prefix { 0 } else { form.prefix };
    let (mut locals, mut data, mut records, mut directory) = (vec![], vec![], vec![], vec![]);
    for member in members {
        let packed = member.packed();
        let mut crc = Crc::new();
        crc.update(&member.content);
        let flags = member.flags | if member.descriptor { 8 } else { 0 };
        let start = bytes.len();
        locals.push(start);
        let known = (crc.sum(), packed.len() as u64, member.content.len() as u64);
        let own = if member.descriptor { (0, 0, 0) } else { known };
        let version = if member.long { 45_u16 } else { 20 };
        let common = |(crc, packed, size): (u32, u64, u64), extra: usize| {
            let short = |size: u64| if member.long { u32::MAX } else { size as u32 };
            [
                &version.to_le_bytes()[..],
                &flags.to_le_bytes(),
                &member.method.to_le_bytes(),
                &[0, 0, 0x21, 0],
                &crc.to_le_bytes(),
                &short(packed).to_le_bytes(),
                &short(size).to_le_bytes(),
                &(member.name.len() as u16).to_le_bytes(),
                &(extra as u16).to_le_bytes(),
            ]
            .concat()
        };
        let mut extra = vec![];
        if member.long {
            extra = [&[1, 0, 16, 0], &own.2.to_le_bytes()[..], &own.1.to_le_bytes()].concat();
        }
        if member.padding > 0 {
            extra.extend([&b"nm"[..], &((member.padding - 4) as u16).to_le_bytes()].concat());
            extra.resize(extra.len() + member.padding - 4, 0);
        }
        bytes.extend([&b"PK\x03\x04"[..], &common(own, extra.len()), &member.name, &extra].concat());
        data.push(bytes.len());
        bytes.extend(&packed);
        if member.descriptor {
            bytes.extend([&b"PK\x07\x08"[..], &known.0.to_le_bytes()].concat());
            for size in [known.1, known.2] {
                let size = size.to_le_bytes();
                bytes.extend(if member.long { &size[..] } else { &size[..4] });
            }
        }

        records.push(directory.len());
        let offset = (start - base) as u64;
        let mut extra = vec![];
        if member.long {
            extra =
                [&[1, 0, 24, 0], &known.2.to_le_bytes()[..], &known.1.to_le_bytes(), &offset.to_le_bytes()].concat();
        }
        let offset = if member.long { u32::MAX } else { offset as u32 };
        let comment = b"a comment";
        directory.extend([&b"PK\x01\x02"[..], &version.to_le_bytes(), &common(known, extra.len())].concat());
        directory.extend([&(comment.len() as u16).to_le_bytes()[..], &[0; 8], &offset.to_le_bytes()].concat());
        directory.extend([&member.name[..], &extra, comment].concat());
    }
    let start = bytes.len();
    bytes.extend(&directory);
    let (offset, size, count) = ((start - base) as u64, directory.len() as u64, members.len() as u64);
    if form.long {
        let at = bytes.len() as u64;
        let numbers = [count, count, size, offset].map(u64::to_le_bytes).concat();
        bytes.extend([&b"PK\x06\x06"[..], &44_u64.to_le_bytes(), &[45, 0, 45, 0], &[0; 8], &numbers].concat());
        bytes.extend([&b"PK\x06\x07"[..], &[0; 4], &at.to_le_bytes(), &[1, 0, 0, 0]].concat());
    }
    let end = bytes.len();
    let (count, size, offset) =
        if form.long { (0xffff, u32::MAX, u32::MAX) } else { (count as u16, size as u32, offset as u32) };
    let count = count.to_le_bytes();
    bytes.extend([&b"PK\x05\x06"[..], &[0; 4], &count, &count, &size.to_le_bytes(), &offset.to_le_bytes()].concat());
    bytes.extend([&(form.comment.len() as u16).to_le_bytes()[..], &form.comment].concat());
    let records = records.into_iter().map(|at| start + at).collect();
    Built { bytes, locals, data, records, end }
}
