//! Any bytes, opened as a `.npz` archive, are arrays that lie in them or are refused. What is mapped is what is read.
#![no_main]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use bytemuck::Pod;
use libfuzzer_sys::fuzz_target;
use ndarray::IxDyn;
use ndarray_mmap::npy::{Header, NpyElement};
use ndarray_mmap::npz::Archive;
use ndarray_mmap::{ErrorKind, FixedBytes, MmapArray};
use rustix::fs::{MemfdFlags, memfd_create};

/// The archive has no more than the input has, but each of them may be inflated.
const MOST_MEMBERS: usize = 20;

fuzz_target!(|bytes: &[u8]| {
    thread_local!(static MEMORY: File = memfd_create("npz", MemfdFlags::CLOEXEC).unwrap().into());
    MEMORY.with(|file| {
        file.set_len(0).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        let input = Input { bytes, path: PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())) };
        let archive = match Archive::open(&input.path) {
            Ok(archive) => archive,
            Err(e) => {
                assert!([ErrorKind::InvalidHeader, ErrorKind::Unsupported].contains(&e.kind()), "{e}");
                let loaded = MmapArray::<f64>::load_npz(&input.path, "x");
                assert_eq!(loaded.unwrap_err().to_string(), e.to_string());
                return;
            }
        };
        for name in archive.names().take(MOST_MEMBERS) {
            input.is_what_its_header_says(&archive, name);
        }
        assert!(archive.header(&"x".repeat(70_000)).is_err());
    });
});

struct Input<'a> {
    bytes: &'a [u8],
    path: PathBuf,
}

impl Input<'_> {
    fn is_what_its_header_says(&self, archive: &Archive, name: &str) {
        let header = archive.header(name);
        if let Err(e) = &header {
            assert!(LEGAL.contains(&e.kind()), "{e}");
        }
        let stored = archive.is_stored(name).unwrap_or_default();
        let header = header.ok();
        for opened in [
            self.opened::<u8>(name, header.as_ref(), stored),
            self.opened::<i32>(name, header.as_ref(), stored),
            self.opened::<f64>(name, header.as_ref(), stored),
            self.opened::<rend::unaligned::f64_ule>(name, header.as_ref(), stored),
            self.opened::<FixedBytes<5>>(name, header.as_ref(), stored),
        ] {
            assert!(!opened || header.is_some());
        }
    }

    /// Returns whether it could be read.
    fn opened<A: Pod + NpyElement>(&self, name: &str, header: Option<&Header>, stored: bool) -> bool {
        let loaded = MmapArray::<A, IxDyn>::load_npz(&self.path, name);
        // SAFETY: only this function uses the memory file.
        let opened = unsafe { MmapArray::<A, IxDyn>::open_npz(&self.path, name) };
        let is_checksum = |kind| kind == ErrorKind::Io;
        match (&loaded, &opened) {
            (Ok(loaded), Ok(opened)) => {
                let header = header.expect("it was read");
                assert!(stored);
                let start = usize::try_from(opened.offset()).unwrap();
                let bytes = &self.bytes[start..][..size_of::<A>() * opened.len()];
                for array in [loaded, opened] {
                    assert_eq!(array.offset(), opened.offset());
                    assert_eq!(array.shape().len(), header.shape().len());
                    let elements = if header.fortran_order() { array.t() } else { array.view() };
                    let elements: Vec<A> = elements.iter().copied().collect();
                    assert_eq!(bytemuck::cast_slice::<A, u8>(&elements), bytes);
                }
            }
            (Ok(loaded), Err(e)) => match e.kind() {
                ErrorKind::Misaligned => assert_ne!(loaded.offset() % align_of::<A>() as u64, 0),
                ErrorKind::Unsupported => assert!(!stored),
                _ => panic!("read, but not mapped: {e}"),
            },
            (Err(e), Ok(_)) => assert!(is_checksum(e.kind()), "mapped, but not read: {e}"),
            (Err(one), Err(other)) => {
                assert!(LEGAL.contains(&one.kind()), "{one}");
                if one.kind() != other.kind() {
                    // A misaligned array, whose checksum is wrong; a compressed one, whose contents are.
                    let of_open = [ErrorKind::Misaligned, ErrorKind::Unsupported];
                    assert!(of_open.contains(&other.kind()), "{one}, {other}");
                }
            }
        }
        loaded.is_ok()
    }
}

const LEGAL: [ErrorKind; 8] = [
    ErrorKind::InvalidHeader,
    ErrorKind::InvalidInput,
    ErrorKind::Unsupported,
    ErrorKind::DtypeMismatch,
    ErrorKind::ShapeMismatch,
    ErrorKind::TooShort,
    ErrorKind::Overflow,
    ErrorKind::Io,
];
