//! What can be done with an array: each step does it to the array and to the model.

use ndarray::{Axis, IxDyn, Slice};
use ndarray_mmap::{Advice, ErrorKind, Result};

use crate::axes::{Axes, dim};
use crate::element::Element;
use crate::file::outermost;
use crate::random::Random;
use crate::session::{Handle, Place, Session};
use crate::{each, stored, writable};

pub type Step<'c, A, D> = (u32, fn(&mut Session<'c, A, D>, &mut Random) -> bool);

impl<'c, A: Element, D: Axes> Session<'c, A, D> {
    /// One step of any kind; a beginning, where nothing is open.
    pub fn step(&mut self, random: &mut Random) {
        if self.array.is_none() {
            self.begin(random);
            return;
        }
        let steps: &[Step<'c, A, D>] = &[
            (4, Self::store_an_element),
            (3, Self::assign_a_slice),
            (1, Self::fill_all),
            (1, Self::add_a_number),
            (6, Self::append),
            (2, Self::append_another_shape),
            (5, Self::resize),
            (1, Self::resize_beyond_all),
            (4, Self::write_rows),
            (2, Self::flush),
            (2, Self::let_go),
            (1, Self::guard),
            (1, Self::guard_and_write),
            (1, Self::change_dimensionality),
            (1, Self::swap_axes_of_a_reference),
            (3, Self::iterate_over_blocks),
            (3, Self::write_blocks),
            (6, Self::reduce),
            (3, Self::map_from),
            (2, Self::map_to),
            (3, Self::assign_tiled),
            (1, Self::assign_tiled_another_shape),
            (4, Self::gather),
            (2, Self::others_append),
            (1, Self::others_cut_what_is_behind),
            (2, Self::others_write_beside),
            (1, Self::others_rewrite_the_header),
            (1, Self::others_replace_the_path),
            (1, Self::others_truncate),
            (1, Self::others_look),
            (2, Self::refusing_constructors),
            (2, Self::publish),
            (4, Self::reopen),
            (1, Self::begin_anew),
        ];
        let total: u32 = steps.iter().map(|step| step.0).sum();
        // Not every step suits every array.
        for _ in 0..100 {
            let mut at = random.below(total as usize) as u32;
            let (_, step) = steps
                .iter()
                .find(|(weight, _)| {
                    at < *weight || {
                        at -= weight;
                        false
                    }
                })
                .unwrap();
            if step(self, random) {
                self.check();
                return;
            }
        }
        panic!("no step suits this array");
    }

    fn begin_anew(&mut self, random: &mut Random) -> bool {
        self.begin(random);
        true
    }

    /// A step was done.
    pub fn did(&mut self, what: &str, how: impl std::fmt::Display) -> bool {
        self.counts.add("steps", what);
        self.note(format!("{what}: {how}"));
        true
    }

    /// The error is of one of these kinds.
    #[track_caller]
    pub fn is_refused<T>(&self, result: Result<T>, kinds: &[ErrorKind], what: &str) {
        match result {
            Ok(_) => panic!("{what} succeeded, but {kinds:?} was expected"),
            Err(e) => {
                assert!(kinds.contains(&e.kind()), "{what}: {:?}, not {kinds:?}: {e}", e.kind());
                self.counts.add("errors", format!("{:?} ({what})", e.kind()));
            }
        }
    }

    /// An array that must be open.
    fn array(&mut self) -> &mut Handle<A, D> {
        self.array.as_mut().unwrap()
    }

    fn any_index(&self, random: &mut Random) -> Option<IxDyn> {
        (!self.values.is_empty())
            .then(|| IxDyn(&self.values.shape().iter().map(|&n| random.below(n)).collect::<Vec<_>>()))
    }

    fn store_an_element(&mut self, random: &mut Random) -> bool {
        let Some(index) = self.any_index(random) else { return false };
        let x = A::of(random);
        let at: D = dim(ndarray::Dimension::slice(&index));
        if writable!(self.array(), a => a[at.clone()] = x).is_none() {
            return false;
        }
        self.values[index.clone()] = x;
        self.is_stored();
        self.did("store an element", format!("{index:?} = {x:?}"))
    }

    fn assign_a_slice(&mut self, random: &mut Random) -> bool {
        let slices: Vec<_> = self
            .values
            .shape()
            .iter()
            .map(|&n| {
                let range = random.range(n);
                Slice::new(range.start as isize, Some(range.end as isize), random.pick(&[1, 1, 2, -1, -3]))
            })
            .collect();
        let mut part = self.values.view();
        part.slice_each_axis_inplace(|axis| slices[axis.axis.index()]);
        let new = Self::any_values(random, part.shape());
        let fill = random.one_in(3).then(|| A::of(random));
        let store = |mut view: ndarray::ArrayViewMut<'_, A, IxDyn>| {
            view.slice_each_axis_inplace(|axis| slices[axis.axis.index()]);
            match fill {
                Some(x) => view.fill(x),
                None => view.assign(&new),
            }
        };
        if writable!(self.array(), a => store(a.view_mut().into_dyn())).is_none() {
            return false;
        }
        store(self.values.view_mut());
        self.is_stored();
        self.did("assign or fill a slice", format!("{slices:?}"))
    }

    fn fill_all(&mut self, random: &mut Random) -> bool {
        let x = A::of(random);
        if writable!(self.array(), a => a.fill(x)).is_none() {
            return false;
        }
        self.values.fill(x);
        self.is_stored();
        self.did("fill", format!("{x:?}"))
    }

    fn add_a_number(&mut self, random: &mut Random) -> bool {
        let Self { array, values, .. } = self;
        let added =
            writable!(array.as_mut().unwrap(), a => A::add([a.view_mut().into_dyn(), values.view_mut()], random));
        if added != Some(true) {
            return false;
        }
        self.is_stored();
        self.did("add a number", "")
    }

    fn flush(&mut self, random: &mut Random) -> bool {
        let rows = self.axis().map_or(1, |axis| self.values.len_of(axis));
        let range = random.range(rows);
        let beyond = random.one_in(4);
        let how = random.below(3);
        let flushed = stored!(self.array(), a => match how {
            0 => a.flush(),
            1 => a.flush_async(),
            _ if beyond => a.flush_rows(range.start..rows + 1),
            _ => a.flush_rows(range.clone()),
        });
        let Some(flushed) = flushed else { return false };
        if how == 2 && beyond {
            self.is_refused(flushed, &[ErrorKind::InvalidInput], "flush_rows");
        } else {
            flushed.unwrap();
        }
        self.did(["flush", "flush_async", "flush_rows"][how], "")
    }

    fn let_go(&mut self, random: &mut Random) -> bool {
        let how = random.below(3);
        let advice = random.pick(&[Advice::Normal, Advice::Sequential, Advice::Random, Advice::WillNeed]);
        each!(self.array(), a => match how {
            0 => a.evict().unwrap(),
            1 => a.advise(advice).unwrap(),
            _ => {
                let residency = a.residency().unwrap();
                assert!((0.0..=1.0).contains(&residency), "{residency}");
            }
        });
        self.did(["evict", "advise", "residency"][how], "")
    }

    fn guard(&mut self, _random: &mut Random) -> bool {
        let seen = each!(self.array(), a => a.guarded(|view| view.to_owned().into_dyn()).unwrap());
        assert!(crate::file::bytes_of(&seen, false) == crate::file::bytes_of(&self.values, false));
        self.did("guarded", "")
    }

    fn guard_and_write(&mut self, random: &mut Random) -> bool {
        let Some(index) = self.any_index(random) else { return false };
        let x = A::of(random);
        let at: D = dim(ndarray::Dimension::slice(&index));
        let Some(old) =
            writable!(self.array(), a => a.guarded_mut(|mut view| std::mem::replace(&mut view[at.clone()], x)))
        else {
            return false;
        };
        assert_eq!(bytemuck::bytes_of(&old.unwrap()), bytemuck::bytes_of(&self.values[index.clone()]));
        self.values[index] = x;
        self.is_stored();
        self.did("guarded_mut", "")
    }

    fn change_dimensionality(&mut self, random: &mut Random) -> bool {
        let array = self.array.take().unwrap();
        if random.one_in(6) && matches!(self.place, Place::Path | Place::Replaced(_)) {
            let refused = each!(array, a => a.into_dimensionality::<ndarray::Ix5>().map(drop));
            self.is_refused(refused, &[ErrorKind::ShapeMismatch], "into_dimensionality");
            self.did("into_dimensionality", "of another number of axes");
            self.open(random);
            return true;
        }
        fn there_and_back<A, D, M>(
            array: ndarray_mmap::MmapArrayBase<A, D, M>,
        ) -> Result<ndarray_mmap::MmapArrayBase<A, D, M>>
        where
            A: Element,
            D: Axes,
        {
            array.into_dimensionality::<IxDyn>()?.into_dimensionality::<D>()
        }
        self.array = Some(match array {
            Handle::Read(a) => Handle::Read(there_and_back(a).unwrap()),
            Handle::Write(a) => Handle::Write(there_and_back(a).unwrap()),
            Handle::Cow(a) => Handle::Cow(there_and_back(a).unwrap()),
            Handle::Staged(a) => Handle::Staged(there_and_back(a).unwrap()),
        });
        self.did("into_dimensionality", "and back")
    }

    /// What is done to the axes of the reference ends with it.
    fn swap_axes_of_a_reference(&mut self, random: &mut Random) -> bool {
        let ndim = self.values.ndim();
        if ndim == 0 {
            return false;
        }
        let (a_axis, b_axis) = (random.below(ndim), random.below(ndim));
        let done = writable!(self.array(), a => {
            let array: &mut ndarray::ArrayRef<A, D> = &mut *a;
            array.swap_axes(a_axis, b_axis);
            array.invert_axis(Axis(a_axis));
        });
        done.is_some() && self.did("swap and invert axes of a reference", format!("{a_axis} {b_axis}"))
    }

    fn gather(&mut self, random: &mut Random) -> bool {
        let ndim = self.values.ndim();
        let axis = if ndim == 0 || random.one_in(12) { ndim } else { random.below(ndim) };
        let length = self.values.shape().get(axis).copied().unwrap_or(1);
        let beyond = length == 0 || random.one_in(8);
        let count = random.pick(&[0, 1, 1, 2, 5, 30]);
        let mut indices: Vec<_> = (0..count).map(|_| random.below(length.max(1)).min(length)).collect();
        if random.one_in(4) {
            indices.sort();
        }
        if beyond && count > 0 {
            indices[random.below(count)] = length + random.up_to(2);
        }
        let gathered = each!(self.array(), a => a.gather(Axis(axis), &indices));
        let message = format!("{axis} {indices:?}");
        if axis >= ndim || beyond && count > 0 {
            self.is_refused(gathered, &[ErrorKind::InvalidInput], "gather");
        } else {
            let expected = self.values.select(Axis(axis), &indices);
            let gathered = gathered.unwrap();
            if gathered.len() > 1 {
                let strides = gathered.strides();
                let first = outermost(ndim, !self.fortran_order).unwrap();
                assert!(gathered.len_of(first) < 2 || strides[first.0] == 1, "the order of the array: {strides:?}");
            }
            let gathered = gathered.into_dyn();
            assert_eq!(gathered.shape(), expected.shape());
            assert!(crate::file::bytes_of(&gathered, false) == crate::file::bytes_of(&expected, false), "gathered");
        }
        self.did("gather", message)
    }

    fn publish(&mut self, random: &mut Random) -> bool {
        let new = random.one_in(3);
        let Some(Handle::Staged(array)) = self.array.take_if(|array| matches!(array, Handle::Staged(_))) else {
            return false;
        };
        let published = if new { array.publish_new() } else { array.publish() };
        match published {
            Ok(()) => {
                assert!(!new || self.at_path.is_none(), "published over what was there");
                self.is_at_path();
            }
            Err(e) if new && self.at_path.is_some() => {
                assert_eq!(std::io::Error::from(e).kind(), std::io::ErrorKind::AlreadyExists);
                self.counts.add("errors", "Io, already exists (publish_new)");
                self.file.values = self.values.clone();
            }
            Err(e) => self.is_full(e),
        }
        self.did(if new { "publish_new" } else { "publish" }, "");
        self.check();
        if matches!(self.place, Place::Path) {
            self.open(random);
        }
        true
    }

    /// Gives the array up, by `close` or drop, and opens the file in another mode.
    fn reopen(&mut self, random: &mut Random) -> bool {
        if !matches!(self.place, Place::Path | Place::Replaced(_)) {
            return false;
        }
        let array = self.array.take().unwrap();
        if random.coin() {
            self.did("close", "");
            each!(array, a => a.close()).unwrap();
        } else {
            self.did("drop", "");
            drop(array);
        }
        self.values = self.file.values.clone();
        self.check();
        self.open(random);
        true
    }
}
