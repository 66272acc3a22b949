//! Steps that add rows, remove them, and store them.

use ndarray::{ArrayD, Axis, Slice, concatenate};
use ndarray_mmap::{ErrorKind, Result};

use crate::axes::Axes;
use crate::element::Element;
use crate::file::{outermost, size};
use crate::random::Random;
use crate::session::{Session, grown};
use crate::source::Source;
use crate::stored;

impl<A: Element, D: Axes> Session<'_, A, D> {
    pub fn axis(&self) -> Option<Axis> {
        outermost(self.values.ndim(), self.fortran_order)
    }

    /// Why the array cannot get this shape.
    fn reasons_not_to_become(&self, shape: &[usize]) -> Vec<ErrorKind> {
        let mut reasons = vec![];
        if let Some(header) = &self.file.header
            && !header.has_room::<A>(self.values.shape(), shape)
        {
            reasons.push(ErrorKind::Unsupported);
        }
        if !shape.contains(&0) && !self.file.offset().is_multiple_of(align_of::<A>()) {
            reasons.push(ErrorKind::Misaligned);
        }
        if self.strange_header {
            // It may be the one that the array knows that has no room.
            reasons.push(ErrorKind::Unsupported);
        }
        if self.strange_header || !self.file.behind.is_empty() {
            reasons.push(ErrorKind::InvalidInput);
        }
        reasons
    }

    /// Takes over what the array has become, or finds that it is as it was.
    fn became(&mut self, changed: Result<()>, values: ArrayD<A>, what: &str) {
        let (old, new) = (self.values.shape().to_vec(), values.shape().to_vec());
        let reasons = self.reasons_not_to_become(&new);
        match changed {
            changed if !reasons.is_empty() => self.is_refused(changed, &reasons, what),
            Err(e) => self.is_full(e),
            Ok(()) => {
                if let Some(header) = &mut self.file.header {
                    *header = header.resized::<A>(&old, &new, self.fortran_order);
                }
                self.values = values;
                self.is_stored();
            }
        }
    }

    pub fn append(&mut self, random: &mut Random) -> bool {
        let Some(axis) = self.axis() else { return false };
        let mut shape = self.values.shape().to_vec();
        shape[axis.0] = random.pick(&[0, 1, 1, 1, 2, 5, 40, 1000]);
        if size(&shape) + size(self.values.shape()) > 30_000 {
            return false;
        }
        let more = Self::any_values(random, &shape);
        let block = Source::<A, D>::of(&more, random);
        let row =
            (shape[axis.0] == 1 && random.coin()).then(|| more.index_axis(axis, 0).into_dimensionality().unwrap());
        let appended = match row {
            // One row is pushed without its axis.
            Some(row) => stored!(self.array.as_mut().unwrap(), a => a.push(&row)),
            None => stored!(self.array.as_mut().unwrap(), a => a.append(&block.view())),
        };
        let Some(appended) = appended else { return false };
        let message = format!("{shape:?}: {appended:?}");
        let values = concatenate(axis, &[self.values.view(), more.view()]).unwrap();
        self.became(appended, values, "append");
        self.did("append", message)
    }

    pub fn append_another_shape(&mut self, random: &mut Random) -> bool {
        let mut shape = self.values.shape().to_vec();
        if let Some(axis) = self.axis() {
            let other = random.below(shape.len());
            if other == axis.0 {
                return false;
            }
            shape[other] += 1;
            shape[axis.0] = random.up_to(2);
        }
        let more = Self::any_values(random, &shape);
        let block = Source::<A, D>::of(&more, random);
        let Some(appended) = stored!(self.array.as_mut().unwrap(), a => a.append(&block.view())) else { return false };
        self.is_refused(appended, &[ErrorKind::ShapeMismatch], "append");
        self.did("append another shape", format!("{shape:?}"))
    }

    pub fn resize(&mut self, random: &mut Random) -> bool {
        let Some(axis) = self.axis() else { return false };
        let mut shape = self.values.shape().to_vec();
        let rows = shape[axis.0];
        shape[axis.0] = match random.below(8) {
            0 => rows,
            1 => 0,
            2..5 => random.up_to(rows),
            5 => rows + 1,
            6 => random.up_to(2 * rows + 3),
            _ => random.up_to(3000),
        };
        if size(&shape) > 30_000 {
            return false;
        }
        let n = shape[axis.0];
        let Some(resized) = stored!(self.array.as_mut().unwrap(), a => a.resize(n)) else { return false };
        let message = format!("{rows} to {n}: {resized:?}");
        let values = grown(&self.values, &shape);
        self.became(resized, values, "resize");
        let what = if n > rows {
            "resize up"
        } else if n < rows {
            "resize down"
        } else {
            "resize to the same"
        };
        self.did(what, message)
    }

    pub fn resize_beyond_all(&mut self, random: &mut Random) -> bool {
        let n = usize::MAX - random.up_to(1);
        let kind = if self.axis().is_some() { ErrorKind::Overflow } else { ErrorKind::InvalidInput };
        let Some(resized) = stored!(self.array.as_mut().unwrap(), a => a.resize(n)) else { return false };
        self.is_refused(resized, &[kind], "resize");
        self.did("resize beyond all", n)
    }

    pub fn write_rows(&mut self, random: &mut Random) -> bool {
        let Some(axis) = self.axis() else { return false };
        let rows = self.values.len_of(axis);
        let range = random.range(rows);
        let mut shape = self.values.shape().to_vec();
        shape[axis.0] = range.len();
        let mut kinds = vec![];
        let mut start = range.start;
        match random.below(8) {
            0 => {
                start = rows - range.len() + 1 + random.up_to(3);
                kinds.push(ErrorKind::InvalidInput);
            }
            1 if shape.len() > 1 => {
                shape[if axis.0 == 0 { 1 } else { 0 }] += 1;
                kinds.push(ErrorKind::ShapeMismatch);
            }
            _ if self.strange_header => kinds.push(ErrorKind::InvalidInput),
            _ => {}
        }
        let new = Self::any_values(random, &shape);
        let block = Source::<A, D>::of(&new, random);
        let Some(written) = stored!(self.array.as_mut().unwrap(), a => a.write_rows(start, &block.view())) else {
            return false;
        };
        let message = format!("{shape:?} at {start}: {written:?}");
        if kinds.is_empty() {
            written.unwrap();
            self.values.slice_axis_mut(axis, Slice::from(start..start + range.len())).assign(&new);
            self.is_stored();
        } else {
            self.is_refused(written, &kinds, "write_rows");
        }
        self.did("write_rows", message)
    }
}
