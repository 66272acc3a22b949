//! Any bytes, opened as a `.npy` file, are an array that lies in them or are refused. The file is never longer than its
//! array requires.
#![no_main]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use bytemuck::Pod;
use half::f16;
use libfuzzer_sys::fuzz_target;
use ndarray::{Array, Dimension, Ix2, IxDyn};
use ndarray_mmap::npy::{Header, NpyElement};
use ndarray_mmap::{
    Bool8, Datetime64, ErrorKind, FixedBytes, MmapArray, MmapArrayBase, MmapArrayCow, MmapArrayMut, npy_record,
    time_units,
};
use num_complex::Complex;
use rustix::fs::{MemfdFlags, memfd_create};

#[derive(Clone, Copy, bytemuck::Zeroable)]
#[repr(C)]
struct Record {
    a: u8,
    _pad: [u8; 7],
    b: f64,
}
// SAFETY: `b`, of alignment 8, starts at 8 and ends the record at 16: no byte is left over, and all fields are `Pod`.
unsafe impl Pod for Record {}
npy_record!(Record { a: u8, _pad: [u8; 7] as "", b: f64 });

fuzz_target!(|bytes: &[u8]| {
    thread_local!(static MEMORY: File = memfd_create("npy", MemfdFlags::CLOEXEC).unwrap().into());
    MEMORY.with(|file| {
        let input = Input { bytes, file, path: PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())) };
        input.is_opened_by_the_type_that_its_header_names();
    });
});

struct Input<'a> {
    bytes: &'a [u8],
    file: &'a File,
    path: PathBuf,
}

impl Input<'_> {
    fn is_opened_by_the_type_that_its_header_names(&self) {
        if Header::from_bytes(self.bytes).is_err() {
            // No type can open it: one type stands for all.
            assert!(!self.opened::<f64, IxDyn>());
            return;
        }
        // A caller that asks for two axes gets two, or an error.
        self.opened::<f64, Ix2>();
        let opened = [
            self.opened::<u8, IxDyn>(),
            self.opened::<i8, IxDyn>(),
            self.opened::<Bool8, IxDyn>(),
            self.opened::<u16, IxDyn>(),
            self.opened::<i32, IxDyn>(),
            self.opened::<u64, IxDyn>(),
            self.opened::<f16, IxDyn>(),
            self.opened::<f32, IxDyn>(),
            self.opened::<f64, IxDyn>(),
            self.opened::<rend::f64_be, IxDyn>(),
            self.opened::<rend::unaligned::u32_ube, IxDyn>(),
            self.opened::<Complex<f32>, IxDyn>(),
            self.opened::<FixedBytes<5>, IxDyn>(),
            self.opened::<Datetime64<time_units::Microsecond>, IxDyn>(),
            self.opened::<Record, IxDyn>(),
        ];
        assert!(opened.iter().filter(|&&o| o).count() <= 1, "one file, several types");
        // These types can open the files of others: the same type at any offset, the last axis as part of the element, plain
        // bytes.
        self.opened::<rend::unaligned::f64_ule, IxDyn>();
        self.opened::<[f32; 3], IxDyn>();
        self.opened::<[[f64; 2]; 2], IxDyn>();
        self.opened::<[u8; 5], IxDyn>();
    }

    /// Opens the file by every constructor. Returns whether its elements are `A`s.
    fn opened<A: Pod + NpyElement, D: Dimension>(&self) -> bool {
        self.file.set_len(0).unwrap();
        self.file.write_all_at(self.bytes, 0).unwrap();
        let path = self.path.as_path();
        let loaded = MmapArray::<A, D>::load_npy(path);
        // SAFETY: only this function uses the memory file.
        let opened = unsafe { MmapArray::<A, D>::open_npy(path) };
        let (loaded, opened) = match (loaded, opened) {
            (Ok(loaded), Ok(opened)) => (loaded, Some(opened)),
            (Ok(loaded), Err(e)) => {
                assert_eq!(e.kind(), ErrorKind::Misaligned, "{e}");
                assert_ne!(loaded.offset() % align_of::<A>() as u64, 0);
                (loaded, None)
            }
            (Err(one), Err(other)) => {
                assert_eq!(one.kind(), other.kind(), "{one}, {other}");
                let legal = [
                    ErrorKind::InvalidHeader,
                    ErrorKind::DtypeMismatch,
                    ErrorKind::ShapeMismatch,
                    ErrorKind::TooShort,
                    ErrorKind::Overflow,
                ];
                assert!(legal.contains(&one.kind()), "{one}");
                return one.kind() == ErrorKind::TooShort;
            }
            (Err(e), Ok(_)) => panic!("mapped, but not read: {e}"),
        };
        let header = Header::read(path).expect("it was read");
        assert_eq!(loaded.offset(), header.data_offset());
        assert_eq!(Some(&*bytes_of(&loaded, header.fortran_order())), self.data(&header));
        if let Some(opened) = opened {
            assert_eq!((opened.shape(), opened.offset()), (loaded.shape(), loaded.offset()));
            assert_eq!((first(&opened), last(&opened)), (first(&loaded), last(&loaded)));
            drop(opened);
            self.is_written_through::<A, D>(&header);
        }
        true
    }

    fn is_written_through<A: Pod + NpyElement, D: Dimension>(&self, header: &Header) {
        let path = self.path.as_path();
        let len = || self.file.metadata().unwrap().len();
        // SAFETY: as above.
        let mut copy = unsafe { MmapArrayCow::<A, D>::open_npy(path) }.expect("it was opened to be read");
        copy.fill(A::zeroed());
        assert_eq!(
            MmapArray::<A, D>::load_npy(path).map(|a| bytes_of(&a, header.fortran_order())).ok().as_deref(),
            self.data(header)
        );
        drop(copy);

        // SAFETY: as above.
        let array = unsafe { MmapArrayMut::<A, D>::options().extend(true).open_npy(path) };
        let mut array = array.expect("it was opened to be read");
        assert_eq!(len(), self.bytes.len() as u64);
        if let Some(element) = array.first_mut() {
            let old = *element;
            *element = A::zeroed();
            *element = old;
        }
        let shape = array.shape().to_vec();
        let Some((&rows, row)) = (if header.fortran_order() { shape.split_last() } else { shape.split_first() }) else {
            return;
        };
        const LARGEST_ROW: usize = 1 << 16;
        if row.iter().try_fold(size_of::<A>(), |product, &n| product.checked_mul(n)).is_none_or(|n| n > LARGEST_ROW) {
            return;
        }
        // If the header has room for it, the array grows, and shrinks to what it was.
        if array.resize(rows + 1).is_ok() {
            assert!(last(&array).is_none_or(|last| last.iter().all(|&byte| byte == 0)));
            assert_eq!(
                Header::read(path).expect("it is rewritten whole").nbytes(),
                Some((array.len() * size_of::<A>()) as u64)
            );
            array.resize(rows).expect("it was as long before");
            assert_eq!(len(), header.data_offset() + header.nbytes().unwrap_or_default());
        }
        assert_eq!(array.shape(), shape);
        drop(array);
        let again = MmapArray::<A, D>::load_npy(path).expect("it was opened before");
        assert_eq!(again.shape(), shape);
        assert_eq!(Some(&*bytes_of(&again, header.fortran_order())), self.data(header));
    }

    fn data(&self, header: &Header) -> Option<&[u8]> {
        let start = usize::try_from(header.data_offset()).ok()?;
        self.bytes.get(start..)?.get(..usize::try_from(header.nbytes()?).ok()?)
    }
}

fn first<A: Pod, D: Dimension, M>(array: &MmapArrayBase<A, D, M>) -> Option<Vec<u8>> {
    array.first().map(|element| bytemuck::bytes_of(element).to_vec())
}

fn last<A: Pod, D: Dimension, M>(array: &MmapArrayBase<A, D, M>) -> Option<Vec<u8>> {
    array.last().map(|element| bytemuck::bytes_of(element).to_vec())
}

/// All elements, as they lie in the file.
fn bytes_of<A: Pod, D: Dimension, M>(array: &MmapArrayBase<A, D, M>, fortran_order: bool) -> Vec<u8> {
    let view = if fortran_order { array.t() } else { array.view() };
    let elements: Array<A, D> = view.as_standard_layout().into_owned();
    elements.iter().flat_map(|element| bytemuck::bytes_of(element).to_vec()).collect()
}
