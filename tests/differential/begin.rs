//! The ways an array begins: in a file that somebody wrote, in one that is created, or in one without a name.

use std::fs::{self, File};
use std::io::Write;

use ndarray::{ArrayD, IxDyn, ShapeBuilder};
use ndarray_mmap::{ErrorKind, MmapArray, MmapArrayMut, Result, Staged};

use crate::axes::{Axes, dim};
use crate::element::Element;
use crate::file::{Contents, Header, any_shape};
use crate::random::Random;
use crate::session::{Handle, KEPT, Place, Session};
use crate::support::arrays::CreateExt;

impl<A: Element, D: Axes> Session<'_, A, D> {
    /// Any array, in any file, in place of the one there was. `false` if there was no room for it.
    pub fn begin(&mut self, random: &mut Random) -> bool {
        self.leave();
        let shape = any_shape::<D>(random);
        self.begin_with(&shape, random.coin());
        let order = if self.fortran_order { "F" } else { "C" };
        match random.below(10) {
            0..4 => {
                self.note(format!("begin: a file of {shape:?} in {order} order"));
                self.write_file(random) && self.open(random)
            }
            4..7 => self.create(random, &shape),
            7 => self.scratch(&shape),
            8 => self.stage(random, &shape),
            _ => self.sealed(random),
        }
    }

    fn begin_with(&mut self, shape: &[usize], fortran_order: bool) {
        // One axis has one order.
        self.fortran_order = fortran_order && shape.len() > 1;
        self.values = ArrayD::from_shape_simple_fn(IxDyn(shape), A::zeroed);
        self.private = false;
        self.strange_header = false;
        self.cut_behind = false;
    }

    /// Gives the array up; a file without a name is gone.
    pub fn leave(&mut self) {
        self.array = None;
        match std::mem::replace(&mut self.place, Place::Nameless) {
            Place::Path => self.at_path = Some(fs::read(&self.path).unwrap()),
            Place::Replaced(there) => {
                fs::remove_file(self.folder.join(KEPT)).unwrap();
                self.at_path = Some(there);
            }
            Place::Nameless | Place::Sealed(_) => {}
        }
    }

    /// Foreign bytes before an array that starts at a multiple of its alignment, if it will be mapped.
    fn any_before(random: &mut Random) -> Vec<u8> {
        let align = align_of::<A>();
        let len = match random.below(8) {
            0..3 => 0,
            3..5 => random.up_to(40) * align,
            5 => random.up_to(9000) / align * align,
            6 => 4096,
            _ => random.up_to(50),
        };
        random.bytes(len)
    }

    /// By somebody else: with bytes before and behind, and a header or none. `false` if there was no room for it.
    fn write_file(&mut self, random: &mut Random) -> bool {
        let shape = self.values.shape().to_vec();
        let header = (random.coin() && (A::INNER.is_empty() || !self.fortran_order)).then(|| {
            if random.coin() {
                Header::numpys::<A>(&shape, self.fortran_order)
            } else {
                Header::any::<A>(random, &shape, self.fortran_order)
            }
        });
        let foreign = random.one_in(2);
        self.file = Contents {
            before: if header.is_none() || random.one_in(8) { Self::any_before(random) } else { vec![] },
            header,
            values: Self::any_values(random, &shape),
            behind: if foreign {
                let n = random.pick(&[1, size_of::<A>(), 100, 5000]);
                random.bytes(n)
            } else {
                vec![]
            },
        };
        self.note(format!("{} bytes before, {} behind", self.file.before.len(), self.file.behind.len()));
        self.rewrite()
    }

    /// Puts a file of the model's at the path. `false` if there was no room for it.
    pub fn rewrite(&mut self) -> bool {
        let bytes = self.file.bytes(self.fortran_order);
        let new = self.folder.join("new");
        if fs::write(&new, bytes).and_then(|()| File::open(&new)?.sync_all()).is_err() {
            assert!(self.full);
            fs::remove_file(new).unwrap();
            return false;
        }
        fs::rename(new, &self.path).unwrap();
        self.is_at_path();
        true
    }

    fn create(&mut self, random: &mut Random, shape: &[usize]) -> bool {
        let npy = random.coin();
        let before = Self::any_before(random);
        let offset = if npy && random.coin() { 0 } else { before.len() };
        let new = random.one_in(4) && self.at_path.is_none();
        let options = MmapArrayMut::<A, D>::options().offset(offset as u64);
        let f = self.fortran_order;
        let options = options.shape(dim::<D>(shape).set_f(f));
        self.note(format!("begin: create {shape:?}, F {f}, npy {npy}, new {new}, offset {offset}"));
        let made = match (npy, new) {
            (false, false) => options.created(&self.path),
            (false, true) => options.created_new(&self.path),
            (true, false) => options.created_npy(&self.path),
            (true, true) => options.created_new_npy(&self.path),
        };
        let header = npy.then(|| Header::numpys::<A>(shape, f));
        self.file = Contents { before: vec![0; offset], header, values: self.values.clone(), behind: vec![] };
        let refused = if npy && f && !A::INNER.is_empty() {
            Some(ErrorKind::Unsupported)
        } else if !self.is_aligned() {
            Some(ErrorKind::Misaligned)
        } else {
            None
        };
        let made = self.made(made, refused);
        self.began(made.map(Handle::Write), Place::Path, "create")
    }

    fn scratch(&mut self, shape: &[usize]) -> bool {
        self.note(format!("begin: scratch {shape:?}, F {}", self.fortran_order));
        let f = self.fortran_order;
        self.file = Contents { before: vec![], header: None, values: self.values.clone(), behind: vec![] };
        let made = MmapArrayMut::<A, D>::scratch(dim::<D>(shape).set_f(f));
        let made = self.made(made, None);
        self.began(made.map(Handle::Write), Place::Nameless, "scratch")
    }

    fn stage(&mut self, random: &mut Random, shape: &[usize]) -> bool {
        let f = self.fortran_order;
        let npy = random.coin();
        self.note(format!("begin: stage {shape:?}, F {f}, npy {npy}"));
        let header = npy.then(|| Header::numpys::<A>(shape, f));
        self.file = Contents { before: vec![], header, values: self.values.clone(), behind: vec![] };
        let shape = dim::<D>(shape).set_f(f);
        let refused = (npy && f && !A::INNER.is_empty()).then_some(ErrorKind::Unsupported);
        let path = &self.path;
        let made = if npy { Staged::<A, D>::stage_npy(path, shape) } else { Staged::<A, D>::stage(path, shape) };
        let made = self.made(made, refused);
        self.began(made.map(Handle::Staged), Place::Nameless, "stage")
    }

    fn sealed(&mut self, random: &mut Random) -> bool {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
        self.note("begin: sealed");
        let shape = self.values.shape().to_vec();
        let before = random.up_to(30) * align_of::<A>();
        let values = Self::any_values(random, &shape);
        self.file = Contents { before: random.bytes(before), header: None, values, behind: random.bytes(10) };
        self.values = self.file.values.clone();
        let mut file = File::from(memfd_create("sealed", MemfdFlags::ALLOW_SEALING).unwrap());
        file.write_all(&self.file.bytes(self.fortran_order)).unwrap();
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK).unwrap();
        let options = MmapArray::<A, D>::options().offset(self.file.offset() as u64);
        let array = options.shape(dim::<D>(&shape).set_f(self.fortran_order)).map_sealed(&file).unwrap();
        self.began(Some(Handle::Read(array)), Place::Sealed(file), "map_sealed")
    }

    /// What came of making a file: an error, of this kind if it must be one.
    fn made<T>(&mut self, made: Result<T>, refused: Option<ErrorKind>) -> Option<T> {
        match (made, refused) {
            (Ok(made), None) => Some(made),
            (Ok(_), Some(kind)) => panic!("made, but {kind:?} was expected"),
            (Err(e), Some(kind)) => {
                assert_eq!(e.kind(), kind, "{e}");
                self.counts.add("errors", format!("{kind:?} (making)"));
                None
            }
            (Err(e), None) => {
                self.is_full(e);
                None
            }
        }
    }

    fn began(&mut self, array: Option<Handle<A, D>>, place: Place, how: &str) -> bool {
        let Some(array) = array else {
            self.check_names();
            self.check_path();
            return false;
        };
        self.counts.add("begun", how);
        self.array = Some(array);
        if matches!(place, Place::Path) {
            self.is_at_path();
        }
        self.place = place;
        self.check();
        true
    }
}
