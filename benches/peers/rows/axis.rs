//! Sums and means along an axis.

use std::ops::Div;

use ndarray::{ArrayView, Axis, Dimension, Ix2, Ix3, RemoveAxis, ShapeBuilder};
use ndarray_mmap::{Blocks, MmapArray};
use num_traits::{FromPrimitive, Zero};

use crate::Settings;
use crate::files::map;
use crate::limit::Limit;
use crate::rows::Row;
use crate::value::{Element, Value};

pub fn rows(s: &Settings) -> Vec<Row> {
    let f8 = |columns, axis| Shape::rows::<f64>(s, columns, axis);
    let f4 = |columns, axis| Shape::rows::<f32>(s, columns, axis);
    let i2 = |columns, axis| Shape::rows::<i16>(s, columns, axis);
    let means_f8 = [f8(1024, 0), f8(1024, 1), f8(1024, 0).in_fortran_order(), f8(1024, 1).in_fortran_order(), f8(4, 0)];
    let means_f4 = [f4(1024, 0), f4(1024, 1), f4(3, 0), f4(3, 1)];
    let sums_i2 = [i2(1024, 0), i2(1024, 1), i2(4, 0)];
    let mut rows = Vec::new();
    rows.extend(means_f8.map(|shape| mean_axis::<f64, Ix2>(s, shape)));
    rows.extend(means_f4.map(|shape| mean_axis::<f32, Ix2>(s, shape)));
    rows.push(mean_axis::<f32, Ix3>(s, Shape::middle::<f32>(s)));
    rows.extend(sums_i2.map(|shape| sum_axis(s, shape)));
    rows.extend([f8(1024, 0), f8(1024, 1), f8(4, 0), f8(1024, 0).in_fortran_order()].map(|shape| var_axis(s, shape)));
    rows.push(std_axis(s, f8(1024, 0)));
    rows.extend([f4(1024, 0), f4(1024, 1)].map(|shape| var_axis_of_f4(s, shape)));
    rows.extend([f8(1024, 0), f8(1024, 1), f8(4, 0)].map(|shape| min_max_axis::<f64>(s, shape)));
    rows.extend([f4(1024, 0), f4(3, 1)].map(|shape| min_max_axis::<f32>(s, shape)));
    rows.extend([i2(1024, 0), i2(1024, 1)].map(|shape| min_max_axis::<i16>(s, shape)));
    rows
}

/// A shape, and one of its axes.
#[derive(Clone, Copy)]
struct Shape<D> {
    dim: D,
    fortran: bool,
    axis: Axis,
}

impl Shape<Ix2> {
    fn rows<A>(s: &Settings, columns: usize, axis: usize) -> Self {
        Self { dim: Ix2(s.bytes / size_of::<A>() / columns, columns), fortran: false, axis: Axis(axis) }
    }
}

impl Shape<Ix3> {
    fn middle<A>(s: &Settings) -> Self {
        Self { dim: Ix3(s.bytes / size_of::<A>() / 64 / 256, 64, 256), fortran: false, axis: Axis(1) }
    }
}

impl<D: Dimension> Shape<D> {
    fn in_fortran_order(self) -> Self {
        Self { fortran: true, ..self }
    }

    /// The lengths but that of the first axis, which depends on the size of the file.
    fn name(&self) -> String {
        let lengths = self.dim.slice()[1..].iter().map(|len| format!(" x {len}")).collect::<String>();
        format!("n{lengths}{}", if self.fortran { ", order F" } else { "" })
    }

    fn numpy<A: Element>(&self) -> String {
        let (lengths, order) = (self.dim.slice(), if self.fortran { "F" } else { "C" });
        format!("a = m('a.{}', shape=tuple({lengths:?}), order='{order}')", A::DTYPE)
    }
}

fn mean_axis<A, D>(s: &Settings, shape: Shape<D>) -> Row
where
    A: Element<Sum = f64> + FromPrimitive + Zero + Div<Output = A>,
    D: Dimension + RemoveAxis + Copy + 'static,
{
    let ours = |blocks: Blocks<'_, A, D>, axis| blocks.mean_axis(axis);
    let row = row(s, "mean_axis", shape, ours, "return a.mean(AXIS)");
    by_ndarray(row, s, shape, |view: ArrayView<'_, A, D>, axis| view.mean_axis(axis))
}

fn sum_axis(s: &Settings, shape: Shape<Ix2>) -> Row {
    let ours = |blocks: Blocks<'_, i16, Ix2>, axis| blocks.sum_axis(axis);
    let row = row(s, "sum_axis", shape, ours, "return a.sum(AXIS)");
    // ndarray's own `sum_axis` would overflow.
    by_ndarray(row, s, shape, |view, axis| view.fold_axis(axis, 0, |sum: &i64, &x: &i16| sum + i64::from(x)))
}

fn var_axis(s: &Settings, shape: Shape<Ix2>) -> Row {
    let ours = |blocks: Blocks<'_, f64, Ix2>, axis| blocks.var_axis(axis, 0.0);
    let row = row(s, "var_axis", shape, ours, "return a.var(AXIS)");
    by_ndarray(row, s, shape, |view: ArrayView<'_, f64, Ix2>, axis| view.var_axis(axis, 0.0))
}

fn std_axis(s: &Settings, shape: Shape<Ix2>) -> Row {
    let ours = |blocks: Blocks<'_, f64, Ix2>, axis| blocks.std_axis(axis, 0.0);
    let row = row(s, "std_axis", shape, ours, "return a.std(AXIS)");
    by_ndarray(row, s, shape, |view: ArrayView<'_, f64, Ix2>, axis| view.std_axis(axis, 0.0))
}

/// Not beside ndarray, which computes it in `f32`: of so many elements it is wrong.
fn var_axis_of_f4(s: &Settings, shape: Shape<Ix2>) -> Row {
    row(s, "var_axis", shape, |blocks: Blocks<'_, f32, Ix2>, axis| blocks.var_axis(axis, 0.0), "return a.var(AXIS)")
}

fn min_max_axis<A: Element + PartialOrd>(s: &Settings, shape: Shape<Ix2>) -> Row {
    let ours = |blocks: Blocks<'_, A, Ix2>, axis| blocks.min_max_axis(axis);
    let row = row(s, "min_max_axis", shape, ours, "return a.min(AXIS), a.max(AXIS)");
    by_ndarray(row, s, shape, |view: ArrayView<'_, A, Ix2>, axis| {
        let both = if view.stride_of(axis) == 1 {
            view.map_axis(axis, |lane| lane.fold((lane[0], lane[0]), extremes))
        } else {
            let mut both = view.index_axis(axis, 0).mapv(|x| (x, x));
            view.axis_iter(axis).for_each(|row| both.zip_mut_with(&row, |b, x| *b = extremes(*b, x)));
            both
        };
        (both.mapv(|(least, _)| least), both.mapv(|(_, most)| most))
    })
}

fn extremes<A: PartialOrd + Copy>((least, most): (A, A), &x: &A) -> (A, A) {
    (if x < least { x } else { least }, if x > most { x } else { most })
}

/// A row with the file, this crate, the limit, and NumPy: a statement with `AXIS` in place of the axis.
fn row<A, D, R>(
    s: &Settings,
    operation: &str,
    shape: Shape<D>,
    ours: impl Fn(Blocks<'_, A, D>, Axis) -> R + 'static,
    numpy: &str,
) -> Row
where
    A: Element,
    D: Dimension + Copy + 'static,
    R: Value + 'static,
{
    let Shape { dim, fortran, axis } = shape;
    let path = s.path::<A>("a");
    Row::new(s, format!("{operation}({}) {}, {}", axis.0, A::DTYPE, shape.name()))
        .reads::<A>(s, "a")
        .tolerance(A::TOLERANCE)
        .ours(
            move || unsafe { MmapArray::<A>::options().shape(dim.set_f(fortran)).open(&path).unwrap() },
            move |a, parallel| ours(a.blocks().parallel(parallel), axis),
        )
        .python("NumPy", &shape.numpy::<A>(), &numpy.replace("AXIS", &axis.0.to_string()))
        .limit(s, Limit::Read)
}

fn by_ndarray<A, D, R>(
    row: Row,
    s: &Settings,
    shape: Shape<D>,
    pass: impl Fn(ArrayView<'_, A, D>, Axis) -> R + 'static,
) -> Row
where
    A: Element,
    D: Dimension + Copy + 'static,
    R: Value + 'static,
{
    let Shape { dim, fortran, axis } = shape;
    let path = s.path::<A>("a");
    row.other(
        "ndarray",
        move || map(&path),
        move |map| {
            let elements = &bytemuck::cast_slice(map)[..dim.size()];
            pass(ArrayView::from_shape(dim.set_f(fortran), elements).unwrap(), axis)
        },
    )
}
