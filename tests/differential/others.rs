//! What others do to the file in the meantime, as far as the promise allows, or the consequence is documented; and constructors
//! that must stay shut.

use std::fs::{self, File};
use std::io::ErrorKind as Io;
use std::os::unix::fs::FileExt;

use ndarray::{Ix5, IxDyn};
use ndarray_mmap::{ErrorKind, Lock, MmapArray, MmapArrayMut};

use crate::axes::{Axes, dim};
use crate::element::Element;
use crate::random::Random;
use crate::session::{Handle, KEPT, Place, Session};
use crate::support::arrays::{CreateExt, OpenExt};
use crate::{each, stored};

impl<A: Element, D: Axes> Session<'_, A, D> {
    fn own_file(&self) -> Option<File> {
        self.own_path().map(|path| File::options().write(true).open(path).unwrap())
    }

    pub fn others_append(&mut self, random: &mut Random) -> bool {
        let Some(file) = self.own_file() else { return false };
        let n = match random.below(4) {
            0 => 1,
            1 => size_of::<A>(),
            2 => random.up_to(200) + 1,
            _ => 5000,
        };
        let more = random.bytes(n);
        let end = self.file.end() + self.file.behind.len();
        if file.write_all_at(&more, end as u64).is_err() {
            assert!(self.full);
            file.set_len(end as u64).unwrap();
            return true;
        }
        self.file.behind.extend(more);
        self.did("others append", n)
    }

    pub fn others_cut_what_is_behind(&mut self, random: &mut Random) -> bool {
        let Some(file) = self.own_file().filter(|_| !self.file.behind.is_empty()) else { return false };
        let left = if random.coin() { 0 } else { random.below(self.file.behind.len()) };
        file.set_len((self.file.end() + left) as u64).unwrap();
        self.file.behind.truncate(left);
        self.cut_behind = true;
        self.did("others cut what is behind", left)
    }

    pub fn others_write_beside(&mut self, random: &mut Random) -> bool {
        let Some(file) = self.own_file() else { return false };
        let end = self.file.end();
        let (bytes, start, what) = if random.coin() {
            (&mut self.file.before, 0, "others write before")
        } else {
            (&mut self.file.behind, end, "others write behind")
        };
        let range = random.range(bytes.len());
        if range.is_empty() {
            return false;
        }
        let new = random.bytes(range.len());
        file.write_all_at(&new, (start + range.start) as u64).unwrap();
        bytes[range.clone()].copy_from_slice(&new);
        self.did(what, format!("{range:?}"))
    }

    pub fn others_rewrite_the_header(&mut self, random: &mut Random) -> bool {
        let (Some(file), Some(header)) = (self.own_file(), &self.file.header) else { return false };
        // What the array shows may have more rows than the file in no mode.
        let Some(anew) = header.anew::<A>(random, self.file.values.shape(), self.fortran_order) else { return false };
        file.write_all_at(&anew.bytes, self.file.before.len() as u64).unwrap();
        self.file.header = Some(anew);
        self.strange_header = true;
        self.did("others rewrite the header", "")
    }

    pub fn others_replace_the_path(&mut self, random: &mut Random) -> bool {
        if !matches!(self.place, Place::Path) {
            return false;
        }
        fs::hard_link(&self.path, self.folder.join(KEPT)).unwrap();
        let how = random.below(2);
        let there = random.bytes(100);
        if how == 0 {
            let made = MmapArrayMut::<u8>::options().shape(there.len()).created(&self.path);
            let Ok(mut made) = made else {
                self.is_full(made.unwrap_err());
                fs::remove_file(self.folder.join(KEPT)).unwrap();
                return true;
            };
            made.assign(&ndarray::ArrayView1::from(&there));
            made.close().unwrap();
        } else {
            let new = self.folder.join("new");
            if fs::write(&new, &there).is_err() {
                assert!(self.full);
                fs::remove_file(&new).unwrap();
                fs::remove_file(self.folder.join(KEPT)).unwrap();
                return true;
            }
            fs::rename(new, &self.path).unwrap();
        }
        self.place = Place::Replaced(there);
        self.did("others replace the path", how)
    }

    /// The first that looks at the file says so, nothing makes it longer again, and from then on the array is poisoned.
    pub fn others_truncate(&mut self, random: &mut Random) -> bool {
        let Some(file) = self.own_file().filter(|_| !self.values.is_empty() && !self.private) else { return false };
        let cut = random.below(self.file.end());
        file.set_len(cut as u64).unwrap();
        let here = self.file.bytes(self.fortran_order)[..cut].to_vec();
        let own = self.own_path().unwrap();
        let how = random.below(7);
        let rows = crate::file::outermost(self.values.ndim(), self.fortran_order).map(|axis| {
            let mut shape = self.values.shape().to_vec();
            shape[axis.0] = 1;
            ndarray::Array::from_shape_simple_fn(dim::<D>(&shape), A::zeroed)
        });
        let array = self.array.as_mut().unwrap();
        let writes = matches!(array, Handle::Write(_));
        let first = match (how, &rows) {
            (0, _) => stored!(array, a => a.flush()),
            (1, _) => stored!(array, a => a.flush_rows(0..0)),
            (2, Some(row)) => stored!(array, a => a.append(row)),
            (3, Some(_)) => stored!(array, a => a.resize(random.up_to(3))),
            (4, Some(row)) => stored!(array, a => a.write_rows(0, row)),
            (5, _) => Some(each!(array, a => a.guarded(|_| ()))),
            _ => None,
        };
        // Without room in the header nothing need be looked at.
        let unsupported = first.as_ref().is_some_and(|e| e.as_ref().is_err_and(|e| e.kind() == ErrorKind::Unsupported));
        let names = ["flush", "flush_rows", "append", "resize", "write_rows", "guarded", "close"];
        let closed = match first {
            Some(first) if !unsupported => {
                self.is_refused(first, &[ErrorKind::Truncated], names[how]);
                let array = self.array.as_mut().unwrap();
                let second = each!(array, a => a.guarded(|_| ()));
                self.is_refused(second, &[ErrorKind::Poisoned], "guarded");
                if let Some(third) = stored!(self.array.as_mut().unwrap(), a => a.flush()) {
                    self.is_refused(third, &[ErrorKind::Poisoned], "flush");
                }
                let array = self.array.take().unwrap();
                let closed = each!(array, a => a.close());
                self.is_refused(closed, &[ErrorKind::Poisoned], "close");
                names[how]
            }
            _ => {
                let array = self.array.take().unwrap();
                let closed = each!(array, a => a.close());
                if writes {
                    self.is_refused(closed, &[ErrorKind::Truncated], "close");
                } else {
                    closed.unwrap();
                }
                "close"
            }
        };
        crate::session::same_bytes(&fs::read(&own).unwrap(), &here, self.file.offset());
        self.did("others truncate", format!("{cut}, then {closed}"));
        // Somebody mends it.
        if file.write_all_at(&self.file.bytes(self.fortran_order), 0).is_err() {
            assert!(self.full);
            self.file.behind.clear();
            self.file.header = None;
            self.file.before = here;
            file.set_len(cut as u64).unwrap();
            self.file.values = ndarray::ArrayD::from_shape_simple_fn(IxDyn(&vec![0; self.values.ndim()]), A::zeroed);
            self.leave();
            return true;
        }
        self.values = self.file.values.clone();
        self.open(random);
        true
    }

    /// Another array of the same file, and in it what is in the file.
    pub fn others_look(&mut self, _random: &mut Random) -> bool {
        let (Some(path), true) = (self.own_path(), self.is_aligned()) else { return false };
        let options = MmapArray::<A, D>::options().lock(Lock::None).offset(self.file.before.len() as u64);
        let seen = if self.file.header.is_some() {
            options.opened_npy(path).unwrap()
        } else {
            let shape = ndarray::ShapeBuilder::set_f(dim::<D>(self.file.values.shape()), self.fortran_order);
            options.shape(shape).opened(path).unwrap()
        };
        let seen = seen.to_owned().into_dyn();
        assert_eq!(seen.shape(), self.file.values.shape());
        assert!(crate::file::bytes_of(&seen, false) == crate::file::bytes_of(&self.file.values, false), "others see");
        self.did("others look", "")
    }

    pub fn refusing_constructors(&mut self, random: &mut Random) -> bool {
        let Some(path) = self.own_path() else { return false };
        let options = || MmapArray::<A, D>::options().lock(Lock::None);
        let writing = || MmapArrayMut::<A, D>::options().lock(Lock::None);
        let len = fs::metadata(&path).unwrap().len() as usize;
        let (size, align) = (size_of::<A>(), align_of::<A>());
        let npy = self.file.header.is_some();
        let write = random.coin();
        let (what, result, kind) = match random.below(12) {
            0 => {
                let past = (len + 1).next_multiple_of(align) as u64;
                let opened = match write {
                    true => writing().offset(past).shape(IxDyn(&[0])).opened(&path).map(drop),
                    false => options().offset(past).shape(IxDyn(&[0])).opened(&path).map(drop),
                };
                ("an offset past the end", opened, ErrorKind::TooShort)
            }
            1 => {
                let shape = IxDyn(&[len / size + 1, 1]);
                let opened = match write {
                    true => writing().shape(shape).opened(&path).map(drop),
                    false => options().shape(shape).opened(&path).map(drop),
                };
                ("more than there is", opened, ErrorKind::TooShort)
            }
            2 if !len.is_multiple_of(size) => (
                "a broken element",
                MmapArray::<A>::options().lock(Lock::None).opened(&path).map(drop),
                ErrorKind::LengthNotMultiple,
            ),
            3 if align > 1 && len > size + align => {
                let opened = options().offset(1).shape(IxDyn(&[1])).opened(&path).map(drop);
                ("a misaligned offset", opened, ErrorKind::Misaligned)
            }
            4 => {
                let opened = options().shape(IxDyn(&[usize::MAX / 2, 4, 0])).opened(&path).map(drop);
                ("a shape beyond all", opened, ErrorKind::Overflow)
            }
            5 => {
                let opened = MmapArray::<A, Ix5>::options().lock(Lock::None);
                let opened = if npy {
                    opened.offset(self.file.before.len() as u64).opened_npy(&path)
                } else {
                    opened.opened(&path)
                };
                ("another number of axes", opened.map(drop), ErrorKind::ShapeMismatch)
            }
            6 if npy => {
                let opened = MmapArray::<i8>::options().lock(Lock::None).offset(self.file.before.len() as u64);
                ("another element", opened.opened_npy(&path).map(drop), ErrorKind::DtypeMismatch)
            }
            7 if npy => {
                let mut shape = self.file.values.shape().to_vec();
                shape.push(1);
                let opened = options().shape(IxDyn(&shape)).offset(self.file.before.len() as u64);
                ("another shape", opened.opened_npy(&path).map(drop), ErrorKind::ShapeMismatch)
            }
            8 if !npy => ("no header", options().opened_npy(&path).map(drop), ErrorKind::InvalidHeader),
            9 => {
                let made = if npy {
                    writing().shape(IxDyn(&[1])).created_new_npy(&path)
                } else {
                    writing().shape(IxDyn(&[1])).created_new(&path)
                };
                self.is_io(made.map(drop), Io::AlreadyExists);
                return self.did("refused: a path that is taken", "");
            }
            10 => {
                let missing = self.folder.join("missing");
                let opened = if npy {
                    options().opened_npy(missing).map(drop)
                } else {
                    writing().shape(IxDyn(&[2])).opened(missing).map(drop)
                };
                self.is_io(opened, Io::NotFound);
                return self.did("refused: no file", "");
            }
            11 => ("no shape", writing().created(&path).map(drop), ErrorKind::ShapeRequired),
            _ => return false,
        };
        // A whole header that was read as a raw array by somebody is one still.
        if kind == ErrorKind::InvalidHeader && result.is_ok() {
            return false;
        }
        let kinds: &[ErrorKind] = match kind {
            // Here it is the header of an array of something else, or of one that is cut.
            ErrorKind::InvalidHeader => &[kind, ErrorKind::TooShort, ErrorKind::ShapeMismatch, ErrorKind::Misaligned],
            _ => &[kind],
        };
        self.is_refused(result, kinds, what);
        self.did(&format!("refused: {what}"), "")
    }

    #[track_caller]
    fn is_io(&self, result: ndarray_mmap::Result<()>, kind: Io) {
        let e = result.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Io, "{e}");
        let found = std::io::Error::from(e).kind();
        assert_eq!(found, kind);
        self.counts.add("errors", format!("Io, {kind:?}"));
    }
}
