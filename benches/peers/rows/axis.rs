//! Sums and means along an axis.

use ndarray::{ArrayView, Axis, Dimension, Ix2, Ix3, RemoveAxis, ShapeBuilder};
use ndarray_mmap::{Blocks, MmapArray};

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
    A: Element<Sum = f64> + num_traits::FromPrimitive + num_traits::Zero + std::ops::Div<Output = A>,
    D: Dimension + RemoveAxis + Copy + 'static,
{
    row(
        s,
        "mean_axis",
        shape,
        |blocks: Blocks<'_, A, D>, axis| blocks.mean_axis(axis),
        |view, axis| view.mean_axis(axis),
        "a.mean",
    )
}

fn sum_axis(s: &Settings, shape: Shape<Ix2>) -> Row {
    row(
        s,
        "sum_axis",
        shape,
        |blocks: Blocks<'_, i16, Ix2>, axis| blocks.sum_axis(axis),
        // Its own `sum_axis` would overflow.
        |view, axis| view.fold_axis(axis, 0_i64, |sum, &x| sum + i64::from(x)),
        "a.sum",
    )
}

fn row<A, D, R, P>(
    s: &Settings,
    operation: &str,
    shape: Shape<D>,
    ours: impl Fn(Blocks<'_, A, D>, Axis) -> R + 'static,
    ndarray: impl Fn(ArrayView<'_, A, D>, Axis) -> P + 'static,
    numpy: &str,
) -> Row
where
    A: Element,
    D: Dimension + Copy + 'static,
    R: Value + 'static,
    P: Value + 'static,
{
    let Shape { dim, fortran, axis } = shape;
    let path = s.path::<A>("a");
    let plain = {
        let path = path.clone();
        move || map(&path)
    };
    Row::new(s, format!("{operation}({}) {}, {}", axis.0, A::DTYPE, shape.name()))
        .reads::<A>(s, "a")
        .tolerance(A::TOLERANCE)
        .ours(
            move || unsafe { MmapArray::<A>::options().shape(dim.set_f(fortran)).open(&path).unwrap() },
            move |a, parallel| ours(a.blocks().parallel(parallel), axis),
        )
        .other("ndarray", plain, move |map| {
            let elements = &bytemuck::cast_slice(map)[..dim.size()];
            ndarray(ArrayView::from_shape(dim.set_f(fortran), elements).unwrap(), axis)
        })
        .python("NumPy", &shape.numpy::<A>(), &format!("return {numpy}({})", axis.0))
        .limit(s, Limit::Read)
}
