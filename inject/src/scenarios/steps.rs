//! Steps that add, remove and store rows, and what the array must hold after each.

use ndarray::{Axis, Ix2};
use ndarray_mmap::{
    MmapArrayBase, Result,
    mode::{Persistent, Supports},
};

use crate::table::{Format, ROW, numbers};

/// Rows that a step adds start at this number, so that they differ from all rows that were there.
const ADDED: usize = 1 << 20;

#[derive(Clone, Copy, Debug)]
pub enum Step {
    Append(usize),
    Push,
    Resize(usize),
    /// The first row, and the number of rows.
    Write(usize, usize),
}

impl Step {
    pub fn take<M: Persistent + Supports<f64>>(self, format: Format, a: &mut MmapArrayBase<f64, Ix2, M>) -> Result<()> {
        match self {
            Self::Append(rows) => a.append(&format.array(&numbers(ADDED..ADDED + rows))),
            Self::Push => {
                let row = format.array(&numbers(ADDED..ADDED + 1));
                a.push(&row.index_axis(Axis(usize::from(format.fortran)), 0))
            }
            Self::Resize(rows) => a.resize(rows),
            Self::Write(start, rows) => a.write_rows(start, &format.array(&numbers(ADDED..ADDED + rows))),
        }
    }

    /// What the array holds afterwards.
    pub fn model(self, before: &[f64]) -> Vec<f64> {
        let mut after = before.to_vec();
        match self {
            Self::Append(rows) => after.extend(numbers(ADDED..ADDED + rows)),
            Self::Push => after.extend(numbers(ADDED..ADDED + 1)),
            Self::Resize(rows) => after.resize(rows * ROW, 0.0),
            Self::Write(start, rows) => {
                after[start * ROW..(start + rows) * ROW].copy_from_slice(&numbers(ADDED..ADDED + rows));
            }
        }
        after
    }
}
