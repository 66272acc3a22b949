//! Arrays whose file has no blocks yet, on a disk that has none left: what fails is said, the array is poisoned, and what
//! anybody has seen of it stays as it was.

use std::cell::RefCell;
use std::fs;

use bytemuck::Pod;
use ndarray::prelude::*;
use ndarray_mmap::{Error, ErrorKind, MmapArrayMut};

use crate::Case;
use crate::counts::Counts;
use crate::element::Element;
use crate::random::Random;
use crate::support::arrays::CreateExt;

struct Sparse<A: 'static> {
    array: MmapArrayMut<A, Ix1>,
    /// What was seen, or stored; where both is possible, what it may be.
    may_be: Vec<Vec<A>>,
}

fn same<A: Pod>(x: &A, y: &A) -> bool {
    bytemuck::bytes_of(x) == bytemuck::bytes_of(y)
}

impl<A: Element> Sparse<A> {
    /// As after a pass over these elements, which stored all or, if it failed, some.
    fn stored(&mut self, at: usize, new: &[A], all: bool) {
        for (may_be, &x) in self.may_be[at..].iter_mut().zip(new) {
            if all {
                may_be.clear();
            }
            may_be.push(x);
        }
    }

    /// What is looked at is one of the things it may be, and from then on that.
    fn look(&mut self, at: std::ops::Range<usize>) -> Result<(), Error> {
        let may_be = &self.may_be;
        let seen = self.array.guarded(|view| view.slice(s![at.clone()]).to_vec())?;
        for (i, x) in at.clone().zip(&seen) {
            assert!(may_be[i].iter().any(|y| same(x, y)), "element {i} is {x:?}, not one of {:?}", may_be[i]);
        }
        for (i, x) in at.zip(seen) {
            self.may_be[i] = vec![x];
        }
        Ok(())
    }

    /// One step, and what came of it. A fault, or a failure to write, is the end of the array.
    fn step(&mut self, random: &mut Random) -> (&'static str, Result<(), Error>) {
        let len = self.array.len();
        let at = random.range(len);
        let new: Vec<A> = (0..at.len()).map(|_| A::of(random)).collect();
        match random.below(8) {
            0..3 => {
                let may_be = &self.may_be;
                let stored = self.array.guarded_mut(|mut view| {
                    for (i, &x) in at.clone().zip(&new) {
                        view[i] = x;
                    }
                    for (i, &x) in at.clone().zip(&new) {
                        assert!(same(&view[i], &x), "element {i} is {:?}, not {x:?}, which was stored", view[i]);
                    }
                    // What was seen before is seen again, also beside what could not be stored.
                    for i in (0..len).filter(|i| !at.contains(i) && may_be[*i].len() == 1) {
                        assert!(same(&view[i], &may_be[i][0]), "element {i} was {:?}, is {:?}", may_be[i], view[i]);
                    }
                });
                self.stored(at.start, &new, true);
                ("guarded_mut", stored)
            }
            3 => {
                let written = self.array.write_rows(at.start, &ArrayView1::from(&new));
                self.stored(at.start, &new, written.is_ok());
                ("write_rows", written)
            }
            4 => {
                let appended = self.array.append(&ArrayView1::from(&new));
                if appended.is_ok() {
                    self.may_be.extend(new.into_iter().map(|x| vec![x]));
                }
                ("append", appended)
            }
            5 => {
                let n = random.up_to(2 * len + 10);
                let resized = self.array.resize(n);
                if resized.is_ok() {
                    self.may_be.resize(n, vec![A::zeroed()]);
                }
                ("resize", resized)
            }
            6 => {
                let new: Vec<A> = (0..len).map(|_| A::of(random)).collect();
                let assigned = self.array.assign_tiled(&ArrayView1::from(&new));
                self.stored(0, &new, assigned.is_ok());
                ("assign_tiled", assigned)
            }
            _ => ("guarded", self.look(at)),
        }
    }
}

pub fn run<A: Element>(case: &Case<'_>, counts: &Counts, log: &RefCell<Vec<String>>) {
    let mut random = Random::part(case.seed, u64::MAX - 2);
    let len = random.up_to(200_000 / size_of::<A>());
    let npy = random.coin();
    let path = case.folder.join("sparse");
    let options = MmapArrayMut::<A>::options().shape(len).preallocate(false);
    let made = if npy { options.created_npy(&path) } else { options.created(&path) };
    log.borrow_mut().push(format!("{len} elements, npy {npy}"));
    let array = match made {
        Ok(array) => array,
        Err(e) => {
            let message = e.to_string();
            assert_eq!(std::io::Error::from(e).kind(), std::io::ErrorKind::StorageFull, "{message}");
            assert!(!path.exists());
            counts.add("sparse", "create: Io (no room)");
            return;
        }
    };
    let mut sparse = Sparse { array, may_be: vec![vec![A::zeroed()]; len] };
    for &step in case.steps {
        let (what, done) = sparse.step(&mut Random::part(case.seed, step as u64));
        log.borrow_mut().push(format!("{what} of {}: {done:?}", sparse.array.len()));
        let Err(e) = done else {
            counts.add("sparse", what);
            continue;
        };
        let message = e.to_string();
        counts.add("sparse", format!("{what}: {:?}", e.kind()));
        match e.kind() {
            ErrorKind::Io => {
                assert_eq!(std::io::Error::from(e).kind(), std::io::ErrorKind::StorageFull, "{message}");
                assert_eq!(sparse.array.len(), sparse.may_be.len());
            }
            ErrorKind::Fault => {
                for poisoned in [
                    sparse.array.flush(),
                    sparse.array.guarded(|_| ()),
                    sparse.array.append(&ArrayView1::from(&[])),
                    sparse.array.write_rows(0, &ArrayView1::from(&[])),
                ] {
                    assert_eq!(poisoned.unwrap_err().kind(), ErrorKind::Poisoned);
                }
                assert_eq!(sparse.array.close().unwrap_err().kind(), ErrorKind::Poisoned);
                let offset = if npy { 128 } else { 0 };
                let len = fs::metadata(&path).unwrap().len();
                assert_eq!(len, (offset + sparse.may_be.len() * size_of::<A>()) as u64);
                return;
            }
            kind => panic!("{what}: {kind:?}: {message}"),
        }
    }
}
