//! Sums, means, variances and extremes of one-dimensional arrays.

use half::f16;
use memmap2::Mmap;
use ndarray::{ArrayView1, Axis, Ix1};
use ndarray_mmap::MmapArray;
use num_complex::Complex;
use rayon::prelude::*;
use rend::f64_be;

use crate::Settings;
use crate::files::map;
use crate::limit::Limit;
use crate::rows::Row;
use crate::value::Element;

pub fn rows(s: &Settings) -> Vec<Row> {
    vec![
        sum::<f64>(s),
        sum::<f32>(s),
        sum::<i64>(s),
        sum::<i32>(s),
        sum::<i16>(s),
        sum::<u8>(s),
        sum::<f64_be>(s),
        sum::<Complex<f64>>(s),
        mean::<f64>(s),
        mean::<f32>(s),
        mean::<f16>(s),
        var_f8(s),
        var::<f32>(s),
        var::<i16>(s),
        min_max::<f64>(s),
        min_max::<f32>(s),
        min_max::<i64>(s),
        min_max::<i32>(s),
        min_max::<i16>(s),
        min_max::<u8>(s),
    ]
}

/// Elements that ndarray's threads take at a time.
const CHUNK: usize = 1 << 16;

/// How this crate opens the file of an element type.
fn ours<A: Element>(s: &Settings) -> impl Fn() -> MmapArray<A, Ix1> + use<A> {
    let path = s.path::<A>("a");
    move || unsafe { MmapArray::open(&path).unwrap() }
}

/// How a user of memmap2 does.
fn plain<A: Element>(s: &Settings) -> impl Fn() -> Mmap + use<A> {
    let path = s.path::<A>("a");
    move || map(&path)
}

fn view<A: Element>(map: &Mmap) -> ArrayView1<'_, A> {
    ArrayView1::from(bytemuck::cast_slice(map))
}

/// A row with the file, the limit, and NumPy.
fn row<A: Element>(s: &Settings, operation: &str, numpy: &str) -> Row {
    let row = Row::new(s, format!("{operation} {}", A::DTYPE)).reads::<A>(s, "a").tolerance(A::TOLERANCE);
    row.python("NumPy", &format!("a = m('a.{}')", A::DTYPE), numpy).limit(s, Limit::Read)
}

pub fn sum<A: Element>(s: &Settings) -> Row {
    row::<A>(s, "sum", "return a.sum()")
        .ours(ours::<A>(s), |a, parallel| a.blocks().parallel(parallel).sum())
        .other("ndarray", plain::<A>(s), |map| A::sum_by_ndarray(view(map)))
        .other_parallel("ndarray + rayon", plain::<A>(s), |map| parallel_sum::<A>(map))
}

fn parallel_sum<A: Element>(map: &Mmap) -> f64 {
    view::<A>(map).axis_chunks_iter(Axis(0), CHUNK).into_par_iter().map(A::sum_by_ndarray).sum()
}

fn mean<A: Element<Sum = f64>>(s: &Settings) -> Row {
    let count = (s.bytes / size_of::<A>()) as f64;
    row::<A>(s, "mean", "return a.mean()")
        .ours(ours::<A>(s), |a, parallel| a.blocks().parallel(parallel).mean())
        .other("ndarray", plain::<A>(s), move |map| A::sum_by_ndarray(view(map)) / count)
        .other_parallel("ndarray + rayon", plain::<A>(s), move |map| parallel_sum::<A>(map) / count)
}

fn var<A: Element>(s: &Settings) -> Row {
    row::<A>(s, "var", "return a.var()").ours(ours::<A>(s), |a, parallel| a.blocks().parallel(parallel).var(0))
}

/// Only this type beside ndarray, which has no variance of integers, and whose variance of so many `f32` is wrong by some
/// percent.
pub fn var_f8(s: &Settings) -> Row {
    var::<f64>(s).other("ndarray", plain::<f64>(s), |map| view::<f64>(map).var(0.0))
}

fn min_max<A: Element + PartialOrd>(s: &Settings) -> Row {
    row::<A>(s, "min_max", "return a.min(), a.max()")
        .ours(ours::<A>(s), |a, parallel| a.blocks().parallel(parallel).min_max())
        .other("ndarray", plain::<A>(s), |map| fold_min_max::<A>(view(map)))
        .other_parallel("ndarray + rayon", plain::<A>(s), |map| {
            let view = view::<A>(map);
            let chunks = view.axis_chunks_iter(Axis(0), CHUNK).into_par_iter();
            chunks.map(fold_min_max).reduce_with(|a, b| (smaller(a.0, b.0), larger(a.1, b.1)))
        })
}

fn fold_min_max<A: Element + PartialOrd>(view: ArrayView1<'_, A>) -> (A, A) {
    view.fold((view[0], view[0]), |(least, most), &x| (smaller(least, x), larger(most, x)))
}

fn smaller<A: PartialOrd>(a: A, b: A) -> A {
    if b < a { b } else { a }
}

fn larger<A: PartialOrd>(a: A, b: A) -> A {
    if b > a { b } else { a }
}
