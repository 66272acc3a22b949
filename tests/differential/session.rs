//! One array and its model: how they begin, are opened again, and compared.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn, ShapeBuilder};
use ndarray_mmap::{
    Admits, Error, ErrorKind, Lock, MmapArray, MmapArrayBase, MmapArrayCow, MmapArrayMut, MmapArrayOptions, Mode,
    Opens, Result, Staged,
};

use crate::Known;
use crate::axes::{Axes, dim};
use crate::common::{Creates, Doors, names};
use crate::counts::Counts;
use crate::element::Element;
use crate::file::{Contents, Header, any_shape};
use crate::random::Random;

/// An array in any mode.
pub enum Handle<A: 'static, D> {
    Read(MmapArray<A, D>),
    Write(MmapArrayMut<A, D>),
    Cow(MmapArrayCow<A, D>),
    Staged(Staged<A, D>),
}

/// In any mode.
#[macro_export]
macro_rules! each {
    ($handle:expr, $array:ident => $what:expr) => {
        match $handle {
            $crate::session::Handle::Read($array) => $what,
            $crate::session::Handle::Write($array) => $what,
            $crate::session::Handle::Cow($array) => $what,
            $crate::session::Handle::Staged($array) => $what,
        }
    };
}

/// In the modes that write.
#[macro_export]
macro_rules! writable {
    ($handle:expr, $array:ident => $what:expr) => {
        match $handle {
            $crate::session::Handle::Read(_) => None,
            $crate::session::Handle::Write($array) => Some($what),
            $crate::session::Handle::Cow($array) => Some($what),
            $crate::session::Handle::Staged($array) => Some($what),
        }
    };
}

/// In the modes that write to a file.
#[macro_export]
macro_rules! stored {
    ($handle:expr, $array:ident => $what:expr) => {
        match $handle {
            $crate::session::Handle::Write($array) => Some($what),
            $crate::session::Handle::Staged($array) => Some($what),
            _ => None,
        }
    };
}

/// Where the array's file is.
pub enum Place {
    /// At the path.
    Path,
    /// At the path of what it was linked to before it was replaced; what is at its own path now.
    Replaced(Vec<u8>),
    /// Nowhere: a scratch array, or one that is staged.
    Nameless,
    /// Nowhere, but open.
    Sealed(File),
}

pub struct Session<'c, A: 'static, D> {
    pub folder: PathBuf,
    pub path: PathBuf,
    /// What is at the path when it is not the array's file.
    pub at_path: Option<Vec<u8>>,
    pub place: Place,
    pub file: Contents<A>,
    pub fortran_order: bool,
    /// What the array shows: what is in the file, but for copy-on-write and private arrays.
    pub values: ArrayD<A>,
    pub array: Option<Handle<A, D>>,
    /// It is a copy in memory.
    pub private: bool,
    /// Somebody else has spelled the header anew since this array read it.
    pub strange_header: bool,
    /// Somebody else has cut what followed the array since it was opened.
    pub cut_behind: bool,
    /// The disk may have no room.
    pub full: bool,
    pub log: &'c RefCell<Vec<String>>,
    pub counts: &'c Counts,
}

pub const KEPT: &str = "kept";
const NAME: &str = "data.npy";

impl<'c, A: Element, D: Axes> Session<'c, A, D> {
    pub fn new(folder: &Path, full: bool, counts: &'c Counts, log: &'c RefCell<Vec<String>>) -> Self {
        let nothing = || ArrayD::from_shape_simple_fn(IxDyn(&[0]), A::zeroed);
        Self {
            folder: folder.to_path_buf(),
            path: folder.join(NAME),
            at_path: None,
            place: Place::Nameless,
            file: Contents { before: vec![], header: None, values: nothing(), behind: vec![] },
            fortran_order: false,
            values: nothing(),
            array: None,
            private: false,
            strange_header: false,
            cut_behind: false,
            full,
            log,
            counts,
        }
    }

    pub fn note(&self, what: impl Into<String>) {
        self.log.borrow_mut().push(what.into());
    }

    pub fn known(&self, known: Known) {
        self.counts.add("known disagreements", format!("{known:?}"));
    }

    /// Random elements of a shape.
    pub fn any_values(random: &mut Random, shape: &[usize]) -> ArrayD<A> {
        let mut few = [A::zeroed(); 61].map(|_| A::of(random));
        let mut n = 0;
        ArrayD::from_shape_simple_fn(IxDyn(shape), || {
            n += 1;
            if n % 61 == 0 {
                few[n / 61 % 61] = A::of(random);
            }
            few[n * 7 % 61]
        })
    }

    fn begin_with(&mut self, shape: &[usize], fortran_order: bool) {
        // One axis has one order.
        self.fortran_order = fortran_order && shape.len() > 1;
        self.values = ArrayD::from_shape_simple_fn(IxDyn(shape), A::zeroed);
        self.private = false;
        self.strange_header = false;
        self.cut_behind = false;
    }

    /// The model is what is in the file, and it is at the path.
    pub fn is_at_path(&mut self) {
        self.values = self.file.values.clone();
        self.place = Place::Path;
        self.at_path = None;
    }

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

    /// Foreign bytes before an array that starts at a multiple of its alignment, if it is to be mapped.
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

    /// The error must be that of a full disk, and the disk may be full.
    #[track_caller]
    pub fn is_full(&self, e: Error) {
        let (kind, said) = (e.kind(), e.to_string());
        let io = io::Error::from(e).kind();
        assert!(self.full && kind == ErrorKind::Io && io == io::ErrorKind::StorageFull, "{kind:?}: {said}");
        self.counts.add("errors", "Io (no room)");
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

    /// Opens the file at the path in any mode. `true` if something is open then.
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
        M: Opens + Admits<A> + ndarray_mmap::Private,
    {
        if !self.private {
            return self.opened(random, options, false);
        }
        let options = options.offset(self.file.before.len() as u64);
        if self.file.header.is_some() {
            return options.load_npy(&self.path);
        }
        if self.rows_can_be_inferred() && random.coin() {
            let row = IxDyn(&self.file.values.shape()[1..]);
            return options.row_shape(row).load(&self.path)?.into_dimensionality();
        }
        options.shape(self.shape()).load(&self.path)
    }

    fn shape(&self) -> ndarray::Shape<D> {
        dim::<D>(self.file.values.shape()).set_f(self.fortran_order)
    }

    fn rows_can_be_inferred(&self) -> bool {
        let shape = self.file.values.shape();
        self.file.header.is_none()
            && self.file.behind.is_empty()
            && !self.fortran_order
            && !shape.is_empty()
            && shape[1..].iter().all(|&n| n > 0)
    }

    fn opened<M: Opens + Admits<A>>(
        &self,
        random: &mut Random,
        options: MmapArrayOptions<A, D, M>,
        write: bool,
    ) -> Result<MmapArrayBase<A, D, M>> {
        let options =
            options.populate(random.one_in(6)).lock(random.pick(&[Lock::BestEffort, Lock::Required, Lock::None]));
        let options = options.offset(self.file.before.len() as u64);
        if self.file.header.is_some() {
            if random.coin() {
                return options.shape(self.shape()).opened_npy(&self.path);
            }
            return options.opened_npy(&self.path);
        }
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
        if self.rows_can_be_inferred() && random.coin() {
            let row = &self.file.values.shape()[1..];
            if row.is_empty() && random.coin() && D::NDIM.is_none_or(|n| n == 1) {
                return match handle {
                    Some(handle) => options.mapped(&handle),
                    None => options.opened(&self.path),
                };
            }
            let options = options.row_shape(IxDyn(row));
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
            let longer = crate::file::outermost(shape.len(), self.fortran_order).map(|axis| {
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

    /// The path that leads to the array's file, if any does.
    pub fn own_path(&self) -> Option<PathBuf> {
        match self.place {
            Place::Path => Some(self.path.clone()),
            Place::Replaced(_) => Some(self.folder.join(KEPT)),
            Place::Nameless | Place::Sealed(_) => None,
        }
    }

    /// The array is the model, and so is the file, and so is all that lies beside it.
    #[track_caller]
    pub fn check(&self) {
        if let Some(array) = &self.array {
            let (view, offset, mode) = each!(array, a => (a.view().into_dyn(), a.offset(), a.mode()));
            assert_eq!(view.shape(), self.values.shape(), "the array's shape");
            let same = view.iter().zip(&self.values).all(|(x, y)| bytemuck::bytes_of(x) == bytemuck::bytes_of(y));
            if !same {
                let mut at = view.indexed_iter().zip(&self.values);
                let at = at.find(|((_, x), y)| bytemuck::bytes_of(*x) != bytemuck::bytes_of(*y)).unwrap();
                panic!("the array has {:?} at {:?}, not {:?}", at.0.1, at.0.0, at.1);
            }
            assert_eq!(offset, self.file.offset() as u64, "the array's offset");
            assert_eq!(mode == Mode::ReadOnly, matches!(array, Handle::Read(_)));
            assert_eq!(mode == Mode::CopyOnWrite, matches!(array, Handle::Cow(_)));
        }
        self.check_path();
        self.check_names();
    }

    #[track_caller]
    fn check_path(&self) {
        let expected = self.file.bytes(self.fortran_order);
        match &self.place {
            Place::Path => same_bytes(&fs::read(&self.path).unwrap(), &expected, self.file.offset()),
            Place::Replaced(there) => {
                same_bytes(&fs::read(self.folder.join(KEPT)).unwrap(), &expected, self.file.offset());
                same_bytes(&fs::read(&self.path).unwrap(), there, 0);
            }
            Place::Nameless => assert!(fs::read(&self.path).ok() == self.at_path, "what is at the path has changed"),
            Place::Sealed(file) => {
                let mut bytes = vec![0; expected.len()];
                file.read_exact_at(&mut bytes, 0).unwrap();
                same_bytes(&bytes, &expected, self.file.offset());
            }
        }
    }

    #[track_caller]
    fn check_names(&self) {
        let found = names(&self.folder);
        let mut expected = vec![];
        if self.at_path.is_some() || matches!(self.place, Place::Path | Place::Replaced(_)) {
            expected.push(NAME);
        }
        if matches!(self.place, Place::Replaced(_)) {
            expected.push(KEPT);
        }
        assert_eq!(found, expected, "the names in the folder");
    }

    /// Stores what the array has become in the model of its file.
    pub fn is_stored(&mut self) {
        if matches!(self.array, Some(Handle::Write(_) | Handle::Staged(_))) {
            self.file.values = self.values.clone();
        }
    }
}

/// The same values with other rows at the end: zeros, or none.
pub fn grown<A: Element>(values: &ArrayD<A>, shape: &[usize]) -> ArrayD<A> {
    ArrayD::from_shape_fn(IxDyn(shape), |i| values.get(i).copied().unwrap_or_else(A::zeroed))
}

#[track_caller]
pub fn same_bytes(found: &[u8], expected: &[u8], offset: usize) {
    if found != expected {
        let at = found.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(found.len().min(expected.len()));
        panic!(
            "the file has {} bytes, not {}, or other ones from {at} on, where elements begin at {offset}: {:?} for {:?}",
            found.len(),
            expected.len(),
            &found[at..found.len().min(at + 16)],
            &expected[at..expected.len().min(at + 16)],
        );
    }
}
