//! Files that other programs made, as they are. Where they come from, and what the packages that know them read in them, is
//! in tests/data/real/README.md. The sums are those packages'.

use std::path::PathBuf;

use crate::support::arrays::{OpenExt, expect_err};
use ndarray::prelude::*;
use ndarray_mmap::{BigEndian, ErrorKind, MmapArray, Unaligned};

fn real(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/data/real", name].iter().collect()
}

#[test]
fn a_brain_in_fortran_order_with_its_high_bytes_first() {
    let path = real("resampled_anat_moved.nii");
    let brain = MmapArray::<BigEndian<f32>>::options().offset(352).shape((17, 21, 3).f()).opened(&path).unwrap();
    assert_eq!(brain[[8, 10, 1]].get(), 10849.904);
    assert_eq!(brain[[0, 10, 1]].get(), 7893.7344);
    assert_eq!(brain[[4, 1, 1]].get(), 13360.962); // the largest
    // NaN is what lies outside the image that this one was resampled from.
    assert_eq!(brain.iter().filter(|x| x.get().is_nan()).count(), 153);
    assert_eq!(brain.blocks().skip_nan(true).sum(), 7749957.09866333);
}

#[test]
fn a_cube_of_integers_with_their_high_bytes_first() {
    let path = real("arange.fits");
    let cube = MmapArray::<BigEndian<i32>>::options().offset(2880).shape((7, 10, 11)).opened(&path).unwrap();
    // It once went through a program that replaces the ends of lines: the bytes 13 are 10 in it.
    let expected = Array1::from_iter((0..770).map(|n| if n % 256 == 13 { n - 3 } else { n }));
    assert_eq!(cube.map(|x| x.get()), expected.into_shape_with_order((7, 10, 11)).unwrap());
    assert_eq!(cube.blocks().sum(), 296056);

    let planes =
        MmapArray::<BigEndian<i32>>::options().offset(2880).shape((7, 10, 11)).rows(2..4).opened(&path).unwrap();
    assert_eq!(planes, cube.slice(s![2..4, .., ..]));
}

#[test]
fn pages_of_a_tiff_that_are_aligned_to_nothing() {
    let path = real("multipage_rgb.tif");
    expect_err(MmapArray::<f64>::options().offset(286).shape((3, 10, 10)).opened(&path), ErrorKind::Misaligned);

    // There are tags between the two pages.
    let file = MmapArray::<Unaligned<f64>>::options().offset(286).ignore_remainder(true).opened(&path).unwrap();
    let pages = file.strided::<Ix4>(0, (2, 3, 10, 10).strides(((2878 - 286) / 8, 100, 10, 1))).unwrap();
    assert_eq!(pages[[0, 0, 0, 0]].get(), 0.12229198755231552);
    assert_eq!(pages[[1, 0, 3, 4]].get(), 0.5745193605195519);
    assert_eq!(pages[[1, 2, 9, 9]].get(), 0.3733614352289092);
    let sum: f64 = pages.iter().map(|x| x.get()).sum();
    assert!((sum - 295.463597788292).abs() < 1e-12, "{sum}");
}

#[cfg(feature = "npz")]
#[test]
fn archives_of_scipy() {
    let path = real("carex_6_data.npz");
    for (name, shape, sum) in [
        ("A", [30, 30], -24197.44155775),
        ("B", [30, 3], 16100.0),
        ("Q", [30, 30], 60689.855389017124),
        ("R", [3, 3], 3.0),
    ] {
        // SAFETY: nobody changes the file.
        let stored = unsafe { MmapArray::<Unaligned<f64>, Ix2>::open_npz(&path, name) }.unwrap();
        assert_eq!(stored.shape(), shape);
        assert!((stored.blocks().sum() - sum).abs() <= 1e-14 * sum.abs(), "{name}");
    }
    let deflated = MmapArray::<f64, Ix2>::load_npz(real("bug-1310.npz"), "data").unwrap();
    assert_eq!(deflated.row(0), array![0.15, 1.5, 4.2039e-4]);
    assert_eq!(deflated.row(230), array![9.6, 2.5, 8.7542e-4]);
    assert!((deflated.blocks().sum() - 1189.78073081).abs() < 1e-12);
}
