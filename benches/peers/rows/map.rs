//! Results computed element by element from files into a file.

use std::rc::Rc;

use bytemuck::cast_slice;
use memmap2::{Mmap, MmapMut};
use ndarray::{ArrayView1, ArrayViewMut1, Ix1, Zip};
use ndarray_mmap::{MmapArray, MmapArrayMut};

use crate::files::{Before, map, map_mut, map_new};
use crate::limit::Limit;
use crate::rows::Row;
use crate::value::Element;
use crate::{Mode, Settings};

pub fn rows(s: &Settings) -> Vec<Row> {
    let rows = |new| [zip_map(s, new), halves(s, new), unary_f4(s, new)];
    [rows(false), rows(true)].into_iter().flatten().collect()
}

pub fn cold_rows(s: &Settings) -> Vec<Row> {
    vec![zip_map(s, true), halves(s, true)]
}

/// Brought to the disk by all contestants.
pub fn flushed(s: &Settings) -> Row {
    let python = ["np.multiply(a, 2, out=o); np.add(o, 1, out=o)", "a*2 + 1"];
    unary::<f64, f64>(s, "a*2 + 1", true, |x| x * 2.0 + 1.0, python)
}

fn unary_f4(s: &Settings, new: bool) -> Row {
    let python = ["np.multiply(a, 2, out=o); np.add(o, 1, out=o)", "a*2 + 1"];
    unary::<f32, f32>(s, "a*2 + 1", new, |x| x * 2.0 + 1.0, python)
}

fn halves(s: &Settings, new: bool) -> Row {
    unary::<i16, f32>(s, "a*0.5", new, |x| f32::from(x) * 0.5, ["np.multiply(a, np.float32(0.5), out=o)", "a*0.5"])
}

fn unary<A: Element, B: Element>(
    s: &Settings,
    what: &str,
    new: bool,
    f: impl Fn(A) -> B + Copy + Send + Sync + 'static,
    python: [&str; 2],
) -> Row {
    let ours = move |a: &[MmapArray<A, Ix1>], out: &mut _, parallel| a[0].blocks().parallel(parallel).map_into(out, f);
    let ndarray = move |a: &[Mmap], out: &mut [B], parallel| {
        let (a, mut out) = (ArrayView1::from(cast_slice(&a[0])), ArrayViewMut1::from(out));
        let zip = Zip::from(&mut out).and(&a);
        if parallel { zip.par_for_each(|to, &x| *to = f(x)) } else { zip.for_each(|to, &x| *to = f(x)) }
    };
    row(s, &format!("{what}, {} to {}", A::DTYPE, B::DTYPE), new, &["a"], ours, ndarray, python)
}

fn zip_map(s: &Settings, new: bool) -> Row {
    let f = |x: f64, y: f64| x * 2.0 + y;
    let ours = move |a: &[MmapArray<f64, Ix1>], out: &mut _, parallel| {
        a[0].blocks().parallel(parallel).zip_map_into(&a[1], out, f)
    };
    let ndarray = move |a: &[Mmap], out: &mut [f64], parallel| {
        let (b, mut out) = (ArrayView1::from(cast_slice(&a[1])), ArrayViewMut1::from(out));
        let a = ArrayView1::from(cast_slice(&a[0]));
        let zip = Zip::from(&mut out).and(&a).and(&b);
        if parallel { zip.par_for_each(|to, &x, &y| *to = f(x, y)) } else { zip.for_each(|to, &x, &y| *to = f(x, y)) }
    };
    let python = ["np.multiply(a, 2, out=o); np.add(o, b, out=o)", "a*2 + b"];
    row(s, "a*2 + b, f8", new, &["a", "b"], ours, ndarray, python)
}

/// A row for a file that is there and stays open, or for a new one in each pass. The first statement in Python computes `o`
/// by NumPy; the second is an expression for numexpr.
fn row<A: Element, B: Element>(
    s: &Settings,
    what: &str,
    new: bool,
    stems: &[&str],
    ours: impl Fn(&[MmapArray<A, Ix1>], &mut MmapArrayMut<B, Ix1>, bool) -> ndarray_mmap::Result<()> + 'static,
    ndarray: impl Fn(&[Mmap], &mut [B], bool) + 'static,
    [numpy, numexpr]: [&str; 2],
) -> Row {
    let (count, flush) = (s.bytes / size_of::<A>(), s.mode == Mode::Beyond);
    let bytes = count * size_of::<B>();
    let (file, before) = if new { ("a new file", Before::Nothing) } else { ("a file", Before::Zeros(bytes)) };
    let mut row = Row::new(s, format!("{what}, into {file}")).writes(s.path::<B>("t"), bytes, before);
    for stem in stems {
        row = row.reads::<A>(s, stem);
    }

    let paths: Rc<[_]> = stems.iter().map(|stem| s.path::<A>(stem)).collect();
    let target = s.path::<B>("t");
    let (plain, out) = (Rc::clone(&paths), target.clone());
    let arrays = move || paths.iter().map(|path| unsafe { MmapArray::open(path).unwrap() }).collect::<Vec<_>>();
    let maps = move || plain.iter().map(|path| map(path)).collect::<Vec<_>>();
    let open = move || unsafe {
        if new { MmapArrayMut::<B>::create(&target, count).unwrap() } else { MmapArrayMut::open(&target).unwrap() }
    };
    let open_plain = move || if new { map_new(&out, bytes) } else { map_mut(&out) };

    // A file that is there is opened once; a new one is made by each pass, and closed.
    let (open, open_plain) = (Rc::new(open), Rc::new(open_plain));
    let (first, first_plain) = (Rc::clone(&open), Rc::clone(&open_plain));
    let ours_pass = move |(a, out): &mut (Vec<_>, Option<MmapArrayMut<B, Ix1>>), parallel| {
        let mut made = None;
        let out = out.as_mut().unwrap_or_else(|| made.insert(open()));
        ours(a, out, parallel).unwrap();
        if flush {
            out.flush().unwrap();
        }
    };
    let plain_pass = Rc::new(move |(a, out): &mut (Vec<Mmap>, Option<MmapMut>), parallel| {
        let mut made = None;
        let out = out.as_mut().unwrap_or_else(|| made.insert(open_plain()));
        ndarray(a, bytemuck::cast_slice_mut(out), parallel);
        if flush {
            out.flush().unwrap();
        }
    });
    let plain_open = Rc::new(move || (maps(), (!new).then(|| first_plain())));
    let (parallel_open, parallel_pass) = (Rc::clone(&plain_open), Rc::clone(&plain_pass));
    row = row
        .ours(move || (arrays(), (!new).then(|| first())), ours_pass)
        .other("ndarray", move || plain_open(), move |state| plain_pass(state, false))
        .other_parallel("ndarray + rayon", move || parallel_open(), move |state| parallel_pass(state, true));

    let mode = if new { "w+" } else { "r+" };
    let make = format!("o = m('t.{}', '{mode}', a.shape)", B::DTYPE);
    let sources: String = stems.iter().map(|stem| format!("{stem} = m('{stem}.{}'); ", A::DTYPE)).collect();
    let (open, make) = if new { (sources, format!("{make}\n")) } else { (sources + &make, String::new()) };
    let (names, flush) = (stems.join(", "), if flush { "\no.flush()" } else { "" });
    let blocked = format!("{make}def work({names}, o):\n    {numpy}\nblocked(work, {names}, o){flush}");
    row.python("NumPy", &open, &format!("{make}{numpy}{flush}"))
        .python("NumPy, blocked", &open, &blocked)
        .numexpr(&open, &format!("{make}ne.evaluate('{numexpr}', out=o, casting='unsafe'){flush}"))
        .limit(s, if new { Limit::CopyToNew } else { Limit::Copy })
}
