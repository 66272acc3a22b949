//! Copies: into another layout, and from a file into memory.

use std::fs::File;
use std::io::Read;
use std::rc::Rc;

use ndarray::{Array1, ArrayView2, ArrayViewMut2, ShapeBuilder};
use ndarray_mmap::{MmapArray, MmapArrayMut};

use crate::Settings;
use crate::files::{Before, Input, map, map_mut, map_new, write_npy};
use crate::limit::Limit;
use crate::rows::Row;

pub fn rows(s: &Settings) -> Vec<Row> {
    vec![transpose(s, false), transpose(s, true), to_fortran(s), load(s), load_npy(s)]
}

/// The side of the largest square matrix that the file has.
fn side<A>(s: &Settings) -> usize {
    (s.bytes / size_of::<A>()).isqrt() / 64 * 64
}

fn transpose(s: &Settings, new: bool) -> Row {
    let side = side::<f64>(s);
    let bytes = side * side * 8;
    let (file, before) = if new { ("a new file", Before::Nothing) } else { ("a file", Before::Zeros(bytes)) };
    let [a, b, plain_a, plain_b] = ["a", "t", "a", "t"].map(|stem| s.path::<f64>(stem));
    let open = Rc::new(move || unsafe {
        if new {
            MmapArrayMut::<f64>::create(&b, (side, side)).unwrap()
        } else {
            MmapArrayMut::<f64>::options().shape((side, side)).open(&b).unwrap()
        }
    });
    let open_plain = Rc::new(move || if new { map_new(&plain_b, bytes) } else { map_mut(&plain_b) });
    // A file that is there is opened once; a new one is made by each pass, and closed.
    let (first, first_plain) = (Rc::clone(&open), Rc::clone(&open_plain));
    let array = move || unsafe { MmapArray::<f64>::options().shape((side, side)).open(&a).unwrap() };
    let target = format!("b = m('t.f8', '{}', shape=({side}, {side}))", if new { "w+" } else { "r+" });
    let source = format!("a = m('a.f8', shape=({side}, {side}))");
    let (open_numpy, pass_numpy) = if new {
        (source, format!("{target}\nb[...] = a.T"))
    } else {
        (format!("{source}; {target}"), "b[...] = a.T".to_owned())
    };
    Row::new(s, format!("transpose f8, into {file}"))
        .reads::<f64>(s, "a")
        .writes(s.path::<f64>("t"), bytes, before)
        .ours(
            move || (array(), (!new).then(|| first())),
            move |(a, b), _| {
                let mut made = None;
                let b = b.as_mut().unwrap_or_else(|| made.insert(open()));
                b.assign_tiled(&a.t()).unwrap();
            },
        )
        .other(
            "ndarray",
            move || (map(&plain_a), (!new).then(|| first_plain())),
            move |(a, b)| {
                let mut made = None;
                let b = b.as_mut().unwrap_or_else(|| made.insert(open_plain()));
                let a = ArrayView2::<f64>::from_shape((side, side), &bytemuck::cast_slice(a)[..side * side]).unwrap();
                ArrayViewMut2::from_shape((side, side), bytemuck::cast_slice_mut(b)).unwrap().assign(&a.t());
            },
        )
        .python("NumPy", &open_numpy, &pass_numpy)
        .limit(s, if new { Limit::CopyToNew } else { Limit::Copy })
}

fn to_fortran(s: &Settings) -> Row {
    let side = side::<f32>(s);
    let bytes = side * side * 4;
    let (a, b, plain_a, plain_b) = (s.path::<f32>("a"), s.path::<f32>("t"), s.path::<f32>("a"), s.path::<f32>("t"));
    let open = move || unsafe {
        let b = MmapArrayMut::<f32>::options().shape((side, side).f()).open(&b).unwrap();
        (MmapArray::<f32>::options().shape((side, side)).open(&a).unwrap(), b)
    };
    let arrays =
        format!("a = m('a.f4', shape=({side}, {side})); b = m('t.f4', 'r+', shape=({side}, {side}), order='F')");
    Row::new(s, "order C to F, f4")
        .reads::<f32>(s, "a")
        .writes(s.path::<f32>("t"), bytes, Before::Zeros(bytes))
        .ours(open, |(a, b), _| b.assign_tiled(a).unwrap())
        .other(
            "ndarray",
            move || (map(&plain_a), map_mut(&plain_b)),
            move |(a, b)| {
                let a = ArrayView2::<f32>::from_shape((side, side), &bytemuck::cast_slice(a)[..side * side]).unwrap();
                ArrayViewMut2::from_shape((side, side).f(), bytemuck::cast_slice_mut(b)).unwrap().assign(&a);
            },
        )
        .python("NumPy", &arrays, "b[...] = a")
        .limit(s, Limit::Copy)
}

fn load(s: &Settings) -> Row {
    let (path, plain, count) = (s.path::<f64>("a"), s.path::<f64>("a"), s.bytes / 8);
    Row::new(s, "load f8")
        .reads::<f64>(s, "a")
        .ours(|| (), move |(), _| MmapArray::<f64>::load(&path).unwrap())
        .other(
            "read to Vec",
            || (),
            move |()| {
                let mut values = vec![0.0_f64; count];
                File::open(&plain).unwrap().read_exact(bytemuck::cast_slice_mut(&mut values)).unwrap();
                values
            },
        )
        .python("np.fromfile", "", "return np.fromfile(folder + '/a.f8')")
        .limit(s, Limit::ToMemory(s.bytes))
        .moves(s.bytes)
}

fn load_npy(s: &Settings) -> Row {
    let (path, bytes) = (s.folder.join("a.npy"), s.bytes);
    let (ours, other) = (path.clone(), path.clone());
    Row::new(s, "load .npy f8")
        .reads_file(Input::new(path, move |path| write_npy(path, bytes)))
        .ours(|| (), move |(), _| MmapArray::<f64>::load_npy(&ours).unwrap())
        .other("ndarray-npy", || (), move |()| ndarray_npy::read_npy::<_, Array1<f64>>(&other).unwrap())
        .python("np.load", "", "return np.load(folder + '/a.npy')")
        .limit(s, Limit::ToMemory(s.bytes))
        .moves(2 * s.bytes)
}
