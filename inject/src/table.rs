//! The arrays of the scenarios: tables of numbers in rows of four, as bytes of a file and as arrays.

use std::ops::Range;

use ndarray::{Array2, Ix2, Shape, ShapeBuilder};

/// Numbers in a row.
pub const ROW: usize = 4;

/// The length of the header that NumPy writes for these arrays.
const HEADER: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub npy: bool,
    pub fortran: bool,
}

impl Format {
    pub const RAW: Self = Self { npy: false, fortran: false };
    pub const NPY: Self = Self { npy: true, fortran: false };
    pub const NPY_F: Self = Self { npy: true, fortran: true };

    /// The shape of an array of `rows` rows. Rows lie along the outermost axis: in Fortran order they are columns.
    pub fn shape(self, rows: usize) -> Shape<Ix2> {
        if self.fortran { (ROW, rows).f() } else { (rows, ROW).set_f(false) }
    }

    pub fn axes(self, rows: usize) -> [usize; 2] {
        if self.fortran { [ROW, rows] } else { [rows, ROW] }
    }

    /// The bytes of the file, as NumPy would write it.
    pub fn bytes(self, numbers: &[f64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.npy {
            let order = if self.fortran { "True" } else { "False" };
            let [a, b] = self.axes(numbers.len() / ROW);
            let text = format!("{{'descr': '<f8', 'fortran_order': {order}, 'shape': ({a}, {b}), }}");
            let room = HEADER - 10;
            bytes.extend_from_slice(b"\x93NUMPY\x01\x00");
            bytes.extend_from_slice(&(room as u16).to_le_bytes());
            bytes.extend_from_slice(format!("{text:width$}\n", width = room - 1).as_bytes());
        }
        bytes.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
        bytes
    }

    pub fn array(self, numbers: &[f64]) -> Array2<f64> {
        Array2::from_shape_vec(self.shape(numbers.len() / ROW), numbers.to_vec()).expect("whole rows")
    }
}

/// Numbers that identify their rows: none is zero, and no two are equal.
pub fn numbers(rows: Range<usize>) -> Vec<f64> {
    (rows.start * ROW..rows.end * ROW).map(|n| n as f64 + 0.5).collect()
}
