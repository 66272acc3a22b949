//! The ways a file is opened: in any mode, by path or handle, with a shape or without.

use std::fs::{self, File};

use ndarray::{Dimension, IxDyn, ShapeBuilder, Slice};
use ndarray_mmap::{
    ErrorKind, Lock, MmapArray, MmapArrayBase, MmapArrayCow, MmapArrayMut, MmapArrayOptions, Result,
    mode::{Loadable, OpenExisting, Supports},
};

use crate::axes::{Axes, dim};
use crate::element::Element;
use crate::file::{bytes_of, outermost};
use crate::random::Random;
use crate::session::{Handle, KEPT, Place, Session, grown};
use crate::support::arrays::OpenExt;

impl<A: Element, D: Axes> Session<'_, A, D> {
    /// OpenExisting the file at the path in any mode. `true` if something is open then.
    pub fn open(&mut self, random: &mut Random) -> bool {
        self.array = None;
        if let Place::Replaced(_) = self.place {
            fs::rename(self.folder.join(KEPT), &self.path).unwrap();
        }
        self.is_at_path();
        self.strange_header = false;
        self.cut_behind = false;
        let aligned = self.is_aligned();
        self.private = random.one_in(if aligned { 5 } else { 1 });
        let refused = (!aligned && random.one_in(4)).then_some(ErrorKind::Misaligned);
        let f = self.fortran_order;
        if refused.is_some() {
            self.private = false;
        }
        // The header need not be asked: its bytes are foreign then, and the array does not grow with it.
        if self.file.header.is_some() && random.one_in(8) {
            let header = self.file.header.take().unwrap();
            self.file.before.extend(header.bytes);
        }
        if random.one_in(4) {
            self.some_rows_are_those_of_the_file(random);
        }
        // Or somebody comes, and opens a longer array, or a shorter one.
        let mode = random.below(if self.private { 2 } else { 4 });
        let opened = match mode {
            0 => self.opened_privately::<_>(random, MmapArray::<A, D>::options()).map(Handle::Read),
            1 => self.cow(random).map(Handle::Cow),
            _ => self.writing(random).map(Handle::Write),
        };
        let name = ["r", "c", "r+", "r+"][mode];
        self.note(format!("open {name}, private {}, F {f}", self.private));
        self.values = self.file.values.clone();
        match (opened, refused) {
            (Err(e), Some(kind)) => {
                assert_eq!(e.kind(), kind, "{e}");
                self.counts.add("errors", "Misaligned (opening)");
                self.check();
                false
            }
            (opened, None) => {
                self.array = Some(opened.unwrap_or_else(|e| panic!("cannot open: {e}")));
                self.counts.add("begun", format!("open {}{name}", if self.private { "a copy, " } else { "" }));
                self.check();
                true
            }
            (Ok(_), Some(kind)) => panic!("opened, but {kind:?} was expected"),
        }
    }

    fn some_rows_are_those_of_the_file(&mut self, random: &mut Random) {
        let Some(axis) = outermost(self.file.values.ndim(), self.fortran_order) else { return };
        let rows = random.range(self.file.values.len_of(axis));
        let wanted = self.file.values.slice_axis(axis, Slice::from(rows.clone())).to_owned();
        let options = MmapArray::<A, D>::options().offset(self.file.before.len() as u64).rows(rows);
        let in_place = self.is_aligned() && random.coin();
        let part = match (self.file.header.is_some(), in_place) {
            (true, true) => options.opened_npy(&self.path),
            (true, false) => options.load_npy(&self.path),
            (false, true) => options.shape(self.shape()).opened(&self.path),
            (false, false) => options.shape(self.shape()).load(&self.path),
        };
        let part = part.unwrap_or_else(|e| panic!("cannot open some rows: {e}")).to_owned().into_dyn();
        assert_eq!(part.shape(), wanted.shape());
        assert!(bytes_of(&part, self.fortran_order) == bytes_of(&wanted, self.fortran_order));
        self.counts.add("begun", "open some rows");
    }

    /// No element lies at an offset that does not suit it, perhaps because there is none.
    pub fn is_aligned(&self) -> bool {
        self.file.values.is_empty() || self.file.offset().is_multiple_of(align_of::<A>())
    }

    fn cow(&self, random: &mut Random) -> Result<MmapArrayCow<A, D>> {
        self.opened_privately(random, MmapArrayCow::<A, D>::options())
    }

    fn opened_privately<M>(
        &self,
        random: &mut Random,
        options: MmapArrayOptions<A, D, M>,
    ) -> Result<MmapArrayBase<A, D, M>>
    where
        M: OpenExisting + Supports<A> + Loadable,
    {
        if !self.private {
            return self.opened(random, options, false);
        }
        let options = options.offset(self.file.before.len() as u64);
        if self.file.header.is_some() {
            return options.load_npy(&self.path);
        }
        if self.rows_can_be_inferred() && random.coin() {
            return options.row_shape(self.row_shape()).load(&self.path)?.into_dimensionality();
        }
        options.shape(self.shape()).load(&self.path)
    }

    fn shape(&self) -> ndarray::Shape<D> {
        dim::<D>(self.file.values.shape()).set_f(self.fortran_order)
    }

    fn rows_can_be_inferred(&self) -> bool {
        self.file.header.is_none()
            && self.file.behind.is_empty()
            && self.file.values.ndim() > 0
            && self.row_shape().raw_dim().slice().iter().all(|&n| n > 0)
    }

    fn row_shape(&self) -> ndarray::Shape<IxDyn> {
        let mut row = self.file.values.shape().to_vec();
        if let Some(axis) = outermost(row.len(), self.fortran_order) {
            row.remove(axis.0);
        }
        IxDyn(&row).set_f(self.fortran_order)
    }

    fn opened<M: OpenExisting + Supports<A>>(
        &self,
        random: &mut Random,
        options: MmapArrayOptions<A, D, M>,
        write: bool,
    ) -> Result<MmapArrayBase<A, D, M>> {
        let options =
            options.populate(random.one_in(6)).lock(random.pick(&[Lock::BestEffort, Lock::Required, Lock::None]));
        let options = options.offset(self.file.before.len() as u64);
        let append = random.one_in(2);
        let handle = random.one_in(3).then(|| {
            let mut how = File::options();
            how.read(true);
            if append && write {
                how.append(true)
            } else {
                how.write(write)
            };
            how.open(&self.path).unwrap()
        });
        if self.file.header.is_some() {
            let options = if random.coin() { options.shape(self.shape()) } else { options };
            return match handle {
                Some(handle) => options.mapped_npy(&handle),
                None => options.opened_npy(&self.path),
            };
        }
        if self.rows_can_be_inferred() && random.coin() {
            let row = self.row_shape();
            if row.raw_dim().ndim() == 0 && random.coin() && D::NDIM.is_none_or(|n| n == 1) {
                return match handle {
                    Some(handle) => options.mapped(&handle),
                    None => options.opened(&self.path),
                };
            }
            let options = options.row_shape(row);
            let array = match handle {
                Some(handle) => options.mapped(&handle),
                None => options.opened(&self.path),
            };
            return array?.into_dimensionality();
        }
        let options = options.shape(self.shape());
        match handle {
            Some(handle) => options.mapped(&handle),
            None => options.opened(&self.path),
        }
    }

    fn writing(&mut self, random: &mut Random) -> Result<MmapArrayMut<A, D>> {
        let mut options = MmapArrayMut::<A, D>::options();
        // Longer than it is: the file grows, unless something follows the array.
        let shape = self.file.values.shape().to_vec();
        if self.file.header.is_none()
            && self.file.behind.is_empty()
            && random.one_in(6)
            && self.file.offset().is_multiple_of(align_of::<A>())
        {
            let longer = outermost(shape.len(), self.fortran_order).map(|axis| {
                let mut longer = shape.clone();
                longer[axis.0] += random.up_to(5);
                longer
            });
            if let Some(longer) = longer.filter(|longer| longer.iter().product::<usize>() > 0) {
                options = options.extend(true).offset(self.file.before.len() as u64);
                let shape = dim::<D>(&longer).set_f(self.fortran_order);
                match options.shape(shape).opened(&self.path) {
                    Ok(array) => {
                        let values = &self.file.values;
                        self.file.values = grown(values, &longer);
                        self.counts.add("begun", "open r+, extended");
                        return Ok(array);
                    }
                    Err(e) => {
                        self.is_full(e);
                        assert_eq!(fs::read(&self.path).unwrap(), self.file.bytes(self.fortran_order));
                        return self.opened(random, MmapArrayMut::<A, D>::options(), true);
                    }
                }
            }
        }
        let options = options.extend(random.one_in(6)).preallocate(!random.one_in(6) || self.full);
        self.opened(random, options, true)
    }
}
