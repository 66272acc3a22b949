//! Steps that pass over blocks, and copy by tiles.

use bytemuck::Pod;
use ndarray::{Array, ArrayD, IxDyn, ShapeBuilder};
use ndarray_mmap::{Blocks, ErrorKind, MmapArrayMut};

use crate::axes::{Axes, dim};
use crate::element::Element;
use crate::file::{bytes_of, in_memory_order};
use crate::random::Random;
use crate::session::Session;
use crate::source::Source;
use crate::sums::{Told, Walked, Ways};
use crate::{each, stored, writable};

/// A number of another type for each element, that depends on all of its bytes.
fn digest<A: Element>(x: A) -> u64 {
    bytemuck::bytes_of(&x).iter().fold(7, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn mixed<A: Element>(x: A, y: u64) -> u64 {
    digest(x).rotate_left(9) ^ y
}

impl<A: Element, D: Axes> Session<'_, A, D> {
    fn blocks(&self) -> Blocks<'_, A, D> {
        each!(self.array.as_ref().unwrap(), a => a.blocks())
    }

    pub fn reduce(&mut self, random: &mut Random) -> bool {
        let ways = Ways::any(random);
        let start = || self.blocks();
        let walked = Walked { start: &start, values: &self.values, ways };
        let Some(what) = A::reduce(&walked, random) else { return false };
        self.did(what, format!("{ways:?}"))
    }

    /// From both ends.
    pub fn iterate_over_blocks(&mut self, random: &mut Random) -> bool {
        let ways = Ways::any(random);
        let reported = Told::default();
        let mut blocks = ways.of(self.blocks()).progress(reported.tell()).into_iter();
        let (mut front, mut back) = (vec![], vec![]);
        let mut left = blocks.len();
        loop {
            let forwards = random.coin();
            let Some(block) = (if forwards { blocks.next() } else { blocks.next_back() }) else { break };
            left -= 1;
            assert_eq!(blocks.len(), left);
            assert_eq!(block.ndim(), self.values.ndim());
            let block = in_memory_order(&block.to_owned().into_dyn(), self.fortran_order);
            if forwards {
                front.extend(block);
            } else {
                back.push(block);
            }
        }
        assert_eq!(left, 0);
        assert!(blocks.next().is_none() && blocks.next_back().is_none());
        drop(blocks);
        back.into_iter().rev().for_each(|block| front.extend(block));
        assert!(bytemuck::cast_slice::<A, u8>(&front) == bytes_of(&self.values, self.fortran_order), "blocks");
        reported.check(size_of_val(&front[..]));
        self.did("iterate over blocks", format!("{ways:?}"))
    }

    pub fn write_blocks(&mut self, random: &mut Random) -> bool {
        let ways = Ways::any(random);
        let reported = Told::default();
        let how = random.below(2);
        let backwards = random.coin();
        let result = writable!(self.array.as_mut().unwrap(), a => {
            let blocks = ways.of(a.blocks_mut()).progress(reported.tell());
            if how == 0 {
                blocks.for_each(|mut block| block.mapv_inplace(A::flipped))
            } else {
                let flip = |mut block: ndarray::ArrayViewMut<'_, A, D>| block.mapv_inplace(A::flipped);
                if backwards { blocks.into_iter().rev().for_each(flip) } else { blocks.into_iter().for_each(flip) }
                Ok(())
            }
        });
        let Some(result) = result else { return false };
        result.unwrap();
        reported.check(self.values.len() * size_of::<A>());
        self.values.mapv_inplace(A::flipped);
        self.is_stored();
        self.did(["blocks_mut, for_each", "blocks_mut, iterate"][how], format!("{ways:?}"))
    }

    /// A new array of the same shape, or another one, in any order, where nobody else is.
    fn any_scratch<B: Pod + Send + Sync>(&self, random: &mut Random, same: bool) -> MmapArrayMut<B, D> {
        let mut shape = self.values.shape().to_vec();
        if !same {
            let axis = random.below(shape.len());
            shape[axis] += 1;
        }
        MmapArrayMut::<B, D>::scratch(dim::<D>(&shape).set_f(random.coin())).unwrap()
    }

    pub fn map_from(&mut self, random: &mut Random) -> bool {
        let ways = Ways::any(random);
        let zip = random.coin();
        let same = self.values.ndim() == 0 || !random.one_in(6);
        let mut out = self.any_scratch::<u64>(random, same);
        let mut other = self.any_scratch::<u64>(random, true);
        let mut n = 0;
        other.map_inplace(|x| {
            n += 3;
            *x = n;
        });
        let reported = Told::default();
        let blocks = ways.of(self.blocks()).progress(reported.tell());
        let mapped = if zip { blocks.zip_map_into(&other, &mut out, mixed) } else { blocks.map_into(&mut out, digest) };
        let what = if zip { "zip_map_into" } else { "map_into" };
        if !same {
            self.is_refused(mapped, &[ErrorKind::ShapeMismatch], what);
            assert!(out.iter().all(|&x| x == 0));
            return self.did(what, "another shape");
        }
        mapped.unwrap();
        reported.check(self.values.len() * size_of::<A>());
        let other = other.to_owned().into_dyn();
        let zipped = ndarray::Zip::from(&self.values).and(&other).map_collect(|&x, &y| mixed(x, y));
        let expected = if zip { zipped } else { self.values.mapv(digest) };
        assert!(out.to_owned().into_dyn() == expected, "{what}");
        self.did(what, format!("{ways:?}"))
    }

    /// The array itself is written.
    pub fn map_to(&mut self, random: &mut Random) -> bool {
        let ways = Ways::any(random);
        let mut source = self.any_scratch::<A>(random, true);
        let values = Self::any_values(random, self.values.shape());
        source.view_mut().into_dyn().assign(&values);
        let reported = Told::default();
        let mapped = stored!(self.array.as_mut().unwrap(), a => {
            ways.of(source.blocks()).progress(reported.tell()).map_into(a, A::flipped)
        });
        let Some(mapped) = mapped else { return false };
        mapped.unwrap();
        reported.check(self.values.len() * size_of::<A>());
        self.values = values.mapv(A::flipped);
        self.is_stored();
        self.did("map_into the array", format!("{ways:?}"))
    }

    pub fn assign_tiled(&mut self, random: &mut Random) -> bool {
        let values = Self::any_values(random, self.values.shape());
        let convert = random.coin();
        let reported = Told::default();
        let bytes = self.values.len() * size_of::<A>();
        let assigned = if convert {
            let numbers = Self::any_numbers(random, values.shape());
            let source = Source::<u32, D>::of(&numbers, random);
            let table: Vec<A> = (0..7).map(|_| A::of(random)).collect();
            let of = |&n: &u32| table[n as usize % 7];
            let assigned = stored!(self.array.as_mut().unwrap(), a => a.assign_tiled_with(&source.view(), of));
            if assigned.is_some() {
                self.values = numbers.map(of);
            }
            assigned
        } else {
            let source = Source::<A, D>::of(&values, random);
            let assigned =
                stored!(self.array.as_mut().unwrap(), a => a.tiled().progress(reported.tell()).assign(&source.view()));
            if assigned.is_some() {
                self.values = values;
                reported.check(bytes);
            }
            assigned
        };
        let Some(assigned) = assigned else { return false };
        assigned.unwrap();
        self.is_stored();
        self.did(if convert { "assign_tiled_with" } else { "assign_tiled" }, "")
    }

    fn any_numbers(random: &mut Random, shape: &[usize]) -> ArrayD<u32> {
        let first = random.up_to(6) as u32;
        let mut n = first;
        ArrayD::from_shape_simple_fn(IxDyn(shape), || {
            n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            n >> 8
        })
    }

    pub fn assign_tiled_another_shape(&mut self, random: &mut Random) -> bool {
        let mut shape = self.values.shape().to_vec();
        if shape.is_empty() {
            return false;
        }
        let axis = random.below(shape.len());
        shape[axis] = if random.coin() { 1 } else { shape[axis] + 1 };
        if shape == self.values.shape() {
            return false;
        }
        let source: Array<A, D> = Array::from_elem(dim::<D>(&shape), A::zeroed());
        let Some(assigned) = stored!(self.array.as_mut().unwrap(), a => a.assign_tiled(&source)) else { return false };
        self.is_refused(assigned, &[ErrorKind::ShapeMismatch], "assign_tiled");
        self.did("assign_tiled, another shape", format!("{:?}", source.raw_dim().slice()))
    }
}
