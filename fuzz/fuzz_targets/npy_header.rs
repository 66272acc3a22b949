//! Any bytes are parsed or refused as a header, and a header that is written and read again is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ndarray_mmap::npy::{Dtype, Header};

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = Header::from_bytes(bytes) else { return };
    assert!(header.data_offset() <= bytes.len() as u64);
    assert!(header.shape().len() <= 64);

    let written = header.to_bytes().expect("what was read can be written");
    assert_eq!(written.len() % 64, 0);
    // The padding may make a header that was just short enough longer than the limit of 10,000 bytes.
    if written.len() > 10_000 {
        return;
    }
    let again = Header::from_bytes(&written).expect("what was written can be read");
    assert_eq!(again.dtype(), header.dtype());
    assert_eq!(again.shape(), header.shape());
    assert_eq!(again.fortran_order(), header.fortran_order());
    assert_eq!(again.data_offset(), written.len() as u64);
    assert_eq!(again.to_bytes().expect("it was written before"), written);

    let dtype: Dtype = header.dtype().to_string().parse().expect("a descr reads what it prints");
    assert_eq!(&dtype, header.dtype());
    let _ = (header.to_string(), header.nbytes(), dtype.rust_type(), dtype.rust_type_unaligned());
});
