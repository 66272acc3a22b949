//! Files opened, read and extended: if opening is refused, they are as they were.

use std::fs;
use std::ops::Range;
use std::os::fd::FromRawFd;
use std::path::Path;

use ndarray::{Array2, Ix2};
use ndarray_mmap::npy::Header;
use ndarray_mmap::{
    CopyOnWrite, ErrorKind, Lock, MmapArray, MmapArrayBase, MmapArrayCow, MmapArrayMut, MmapArrayOptions, ReadOnly,
    ReadWrite, Result,
    mode::{OpenExisting, Supports},
};

use super::Scenario;
use crate::scene::{End, Scene};
use crate::table::{Format, numbers};

const ROWS: usize = 300;

const SOME_ROWS: Range<usize> = 100..250;

pub fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (name, format) in [("raw", Format::RAW), ("npy", Format::NPY), ("npy_f", Format::NPY_F)] {
        opens::<ReadOnly>(&mut all, &format!("r_{name}"), format);
        opens::<ReadWrite>(&mut all, &format!("r+_{name}"), format);
        opens::<CopyOnWrite>(&mut all, &format!("c_{name}"), format);
        all.push(Scenario::new(format!("load_{name}"), move |s| {
            reads(s, format, |path| {
                let options = MmapArray::<f64>::options().shape(format.shape(ROWS));
                if format.npy { options.load_npy(path) } else { options.load(path) }
            });
        }));
    }
    all.push(Scenario::new("load_large", loads_large));
    all.push(Scenario::new("load_c_npy", |s| reads(s, Format::NPY, |path| MmapArrayCow::<f64, Ix2>::load_npy(path))));
    all.push(Scenario::new("header_read", |s| {
        let path = s.put("a", &Format::NPY.bytes(&numbers(0..ROWS)));
        let outcome = s.armed(|| Header::read(&path));
        if let Some(header) = outcome.and_then(|outcome| s.judge(outcome, &[ErrorKind::Io])) {
            s.claim(header.shape() == Format::NPY.axes(ROWS), "another shape");
        }
    }));
    for (name, held, wanted) in [("extend", 3, ROWS), ("extend_nothing", 0, ROWS), ("extend_large", ROWS, 100 * ROWS)] {
        for (how, preallocate) in [("", true), ("_sparse", false)] {
            all.push(Scenario::new(format!("{name}{how}"), move |s| extends(s, held, wanted, preallocate)));
        }
    }
    for (name, format) in [("map", Format::RAW), ("map_npy", Format::NPY)] {
        all.push(Scenario::new(format!("{name}_r"), move |s| maps::<ReadOnly>(s, format, None)));
        all.push(Scenario::new(format!("{name}_r+"), move |s| maps::<ReadWrite>(s, format, None)));
        all.push(Scenario::new(format!("{name}_c"), move |s| maps::<CopyOnWrite>(s, format, None)));
        let lock = Some(Lock::BestEffort);
        all.push(Scenario::new(format!("{name}_r+_locked"), move |s| maps::<ReadWrite>(s, format, lock)));
    }
    all.push(Scenario::new("open_or_create_npy_open", |s| {
        reads(s, Format::NPY, |path| {
            // SAFETY: nobody else knows the file.
            unsafe { MmapArrayMut::<f64>::open_or_create_npy(path, Format::NPY.shape(0)) }
        });
    }));
    all.push(Scenario::new("map_sealed", map_sealed));
    all
}

fn opens<M: OpenExisting + Supports<f64>>(all: &mut Vec<Scenario>, name: &str, format: Format) {
    for (how, lock) in [("", Lock::BestEffort), ("_required", Lock::Required), ("_unlocked", Lock::None)] {
        all.push(Scenario::new(format!("open_{name}{how}"), move |s| {
            let options = MmapArrayBase::<f64, Ix2, M>::options().shape(format.shape(ROWS)).lock(lock);
            open(s, format, options);
        }));
    }
    all.push(Scenario::new(format!("open_{name}_populated"), move |s| {
        let options = MmapArrayBase::<f64, Ix2, M>::options().shape(format.shape(ROWS)).populate(true);
        open(s, format, options);
    }));
    all.push(Scenario::new(format!("open_{name}_some_rows"), move |s| {
        let options = MmapArrayBase::<f64, Ix2, M>::options().shape(format.shape(ROWS)).rows(SOME_ROWS);
        reads_rows(s, format, SOME_ROWS, |path| opened(format, options, path));
    }));
}

fn open<M: OpenExisting + Supports<f64>>(s: &mut Scene<'_>, format: Format, options: MmapArrayOptions<f64, Ix2, M>) {
    reads(s, format, |path| opened(format, options, path));
}

fn opened<M: OpenExisting + Supports<f64>>(
    format: Format,
    options: MmapArrayOptions<f64, Ix2, M>,
    path: &Path,
) -> Result<MmapArrayBase<f64, Ix2, M>> {
    // SAFETY: nobody else knows the file.
    unsafe { if format.npy { options.open_npy(path) } else { options.open(path) } }
}

/// The kinds of error that are allowed, depending on whether the lock failed.
pub(super) fn lock_kinds(s: &Scene<'_>) -> &'static [ErrorKind] {
    if s.met(&["flock"]) || s.lacks("flock") {
        &[ErrorKind::Io, ErrorKind::Locked, ErrorKind::Unsupported]
    } else {
        &[ErrorKind::Io]
    }
}

/// An error that leaves it open whether the file is locked must not be taken for a file system without locks.
pub(super) fn lock_is_sure<T>(s: &mut Scene<'_>, opened: Option<&T>) {
    if opened.is_some() && s.met(&["flock"]) && [libc::EIO, libc::ENOLCK, libc::EWOULDBLOCK].contains(&s.errno()) {
        s.complain("no lock, and nothing said of it");
    }
}

fn reads<M>(s: &mut Scene<'_>, format: Format, open: impl FnOnce(&Path) -> Result<MmapArrayBase<f64, Ix2, M>>) {
    reads_rows(s, format, 0..ROWS, open);
}

fn reads_rows<M>(
    s: &mut Scene<'_>,
    format: Format,
    rows: Range<usize>,
    open: impl FnOnce(&Path) -> Result<MmapArrayBase<f64, Ix2, M>>,
) {
    let path = s.put("a", &format.bytes(&numbers(0..ROWS)));
    let Some(outcome) = s.armed(|| open(&path)) else { return };
    let kinds = lock_kinds(s);
    let opened = s.judge(outcome, kinds);
    lock_is_sure(s, opened.as_ref());
    if let Some(a) = opened {
        s.same("opened", a.view(), &numbers(rows));
        s.claim(a.close().is_ok(), "close");
    }
}

/// More than one call reads, and more than is allocated on the heap.
fn loads_large(s: &mut Scene<'_>) {
    let numbers = numbers(0..40 * ROWS);
    let path = s.put("a", &Format::NPY.bytes(&numbers));
    let Some(outcome) = s.armed(|| MmapArray::<f64, Ix2>::load_npy(&path)) else { return };
    let kinds = lock_kinds(s);
    if let Some(a) = s.judge(outcome, kinds) {
        s.same("loaded", a.view(), &numbers);
    }
}

fn maps<M: OpenExisting + Supports<f64>>(s: &mut Scene<'_>, format: Format, lock: Option<Lock>) {
    let numbers = numbers(0..ROWS);
    let path = s.put("a", &format.bytes(&numbers));
    let file = fs::File::options().read(true).write(true).open(&path).expect("opens");
    let mut options = MmapArrayBase::<f64, Ix2, M>::options().shape(format.shape(ROWS));
    if let Some(lock) = lock {
        options = options.lock(lock);
    }
    // SAFETY: nobody else knows the file.
    let map = || unsafe { if format.npy { options.map_npy(&file) } else { options.map(&file) } };
    let Some(outcome) = s.armed(map) else { return };
    let kinds = lock_kinds(s);
    let opened = s.judge(outcome, kinds);
    lock_is_sure(s, opened.as_ref());
    if let Some(a) = opened {
        s.same("mapped", a.view(), &numbers);
    }
}

fn map_sealed(s: &mut Scene<'_>) {
    let numbers = numbers(0..ROWS);
    let bytes = Format::RAW.bytes(&numbers);
    // SAFETY: a new descriptor, which nobody else has.
    let file = unsafe { fs::File::from_raw_fd(libc::memfd_create(c"sealed".as_ptr(), libc::MFD_ALLOW_SEALING)) };
    std::io::Write::write_all(&mut &file, &bytes).expect("memory");
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: it restricts what can be done with the descriptor's file, and touches no memory.
    let sealed = unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&file), libc::F_ADD_SEALS, seals) };
    assert_eq!(sealed, 0, "a new memfd can be sealed");
    let options = MmapArray::<f64>::options().shape(Format::RAW.shape(ROWS));
    let Some(outcome) = s.armed(|| options.map_sealed(&file)) else { return };
    if let Some(a) = s.judge(outcome, &[ErrorKind::Io, ErrorKind::Unsupported]) {
        s.same("sealed", a.view(), &numbers);
    }
}

fn extends(s: &mut Scene<'_>, held: usize, wanted: usize, preallocate: bool) {
    let mut numbers = numbers(0..held);
    let path = s.put("a", &Format::RAW.bytes(&numbers));
    let options = MmapArrayMut::<f64>::options().shape(Format::RAW.shape(wanted)).extend(true).preallocate(preallocate);
    // SAFETY: nobody else knows the file.
    let Some(outcome) = s.armed(|| unsafe { options.open(&path) }) else { return };
    let kinds = lock_kinds(s);
    let opened = s.judge(outcome, kinds);
    if opened.is_none() && s.lacks("cut") {
        // A file that cannot be truncated stays longer, but what was in it is there.
        numbers.truncate(held * 4);
        let mut longer = numbers.clone();
        longer.resize(wanted * 4, 0.0);
        s.ends(&path, End::BeforeOr(Format::RAW.bytes(&longer)));
    }
    if let Some(a) = opened {
        numbers.resize(wanted * 4, 0.0);
        s.same("extended", a.view(), &numbers);
        s.claim(a.close().is_ok(), "close");
        s.ends(&path, End::Bytes(Format::RAW.bytes(&numbers)));
        let again: Result<Array2<f64>> =
            MmapArray::<f64>::options().shape(Format::RAW.shape(wanted)).load(&path).map(|a| a.to_owned());
        s.claim(again.is_ok(), "cannot be opened anew");
    }
}
