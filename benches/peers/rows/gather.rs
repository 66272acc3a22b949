//! Rows, columns and single elements by their indices.

use ndarray::{ArrayView2, Axis};
use ndarray_mmap::MmapArray;

use crate::files::{Input, map, write_elements};
use crate::limit::Limit;
use crate::rows::Row;
use crate::{Mode, Settings};

pub fn rows(s: &Settings) -> Vec<Row> {
    let row = |length, count, order| row(s, Picked { length, axis: 0, count, order });
    vec![
        row(1, 256, Order::Random),
        row(1, 100_000, Order::Random),
        row(1, 1_000_000, Order::Random),
        row(1, 1_000_000, Order::Sorted),
        row(1, 1_000_000, Order::Repeated),
        row(256, 256, Order::Random),
        row(256, 100_000, Order::Random),
        row(256, 100_000, Order::Sorted),
        row(256, 100_000, Order::Repeated),
        row(16_384, 256, Order::Random),
        row(16_384, 4096, Order::Random),
        self::row(s, Picked { length: 1024, axis: 1, count: 1, order: Order::Random }),
        self::row(s, Picked { length: 1024, axis: 1, count: 64, order: Order::Random }),
    ]
}

pub fn cold_rows(s: &Settings) -> Vec<Row> {
    [(256, 10_000), (16_384, 256)]
        .map(|(length, count)| row(s, Picked { length, axis: 0, count, order: Order::Random }))
        .into()
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    Random,
    Sorted,
    /// Out of order, and each some tens of times.
    Repeated,
}

/// What is taken of a matrix of `f4`.
#[derive(Clone, Copy)]
struct Picked {
    /// Elements of a row.
    length: usize,
    axis: usize,
    count: usize,
    order: Order,
}

impl Picked {
    fn indices(self, len: usize) -> Vec<usize> {
        let below = if self.order == Order::Repeated { (self.count / 32).clamp(1, len) } else { len };
        let mut state = 7_u64;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 20) as usize % below * (len / below)
        };
        let mut indices: Vec<usize> = (0..self.count).map(next).collect();
        if self.order == Order::Sorted {
            indices.sort_unstable();
        }
        indices
    }

    fn name(self) -> String {
        let Self { length, axis, count, order } = self;
        let what = match (axis, length) {
            (1, _) => format!("columns of {length}"),
            (_, 1) => "elements of 4 B".to_owned(),
            _ => format!("rows of {} KiB", length / 256),
        };
        let order = match order {
            Order::Random => "",
            Order::Sorted => ", sorted",
            Order::Repeated => ", repeated",
        };
        format!("gather {count} {what}{order}")
    }
}

fn row(s: &Settings, picked: Picked) -> Row {
    let Picked { length, axis, count, .. } = picked;
    let rows = s.bytes / 4 / length;
    let indices = picked.indices(if axis == 0 { rows } else { length });
    let name = picked.name();
    let file = s.folder.join(format!("{}.i8", name.replace(' ', "-")));
    let stored = indices.clone();
    let input = Input::new(file.clone(), move |path| write_elements(path, stored.iter().map(|&n| n as i64)));
    let before = format!("i = np.fromfile(folder + '/{}', 'i8')", file.file_name().unwrap().display());

    let (path, plain, picks) = (s.path::<f32>("a"), s.path::<f32>("a"), indices.clone());
    let bytes = 4 * count * if axis == 0 { length } else { rows };
    let mut row = Row::new(s, name).reads::<f32>(s, "a").reads_file(input).before_python(before);
    row.bytes = 2 * bytes;
    // Single elements are taken from a one-dimensional array.
    row = if length == 1 {
        let shape = "a = m('a.f4')";
        row.ours(
            move || unsafe { MmapArray::<f32>::options().shape(rows).open(&path).unwrap() },
            move |a, _| a.gather(Axis(0), &indices).unwrap(),
        )
        .python("NumPy take", shape, "return a.take(i)")
        .python("NumPy a[i]", shape, "return a[i]")
        .other(
            "ndarray select",
            move || map(&plain),
            move |map| ndarray::ArrayView1::<f32>::from(bytemuck::cast_slice(map)).select(Axis(0), &picks),
        )
    } else {
        let shape = format!("a = m('a.f4', shape=({rows}, {length}))");
        let index = if axis == 0 { "i" } else { ":, i" };
        row.ours(
            move || unsafe { MmapArray::<f32>::options().shape((rows, length)).open(&path).unwrap() },
            move |a, _| a.gather(Axis(axis), &indices).unwrap(),
        )
        .python("NumPy take", &shape, &format!("return a.take(i, axis={axis})"))
        .python("NumPy a[i]", &shape, &format!("return a[{index}]"))
        .other(
            "ndarray select",
            move || map(&plain),
            move |map| {
                let view = ArrayView2::<f32>::from_shape((rows, length), &bytemuck::cast_slice(map)[..rows * length]);
                view.unwrap().select(Axis(axis), &picks)
            },
        )
    };
    // Where the disk is the limit, it is not one of reading everything.
    if s.mode == Mode::Memory { row.limit(s, Limit::ToMemory(bytes)) } else { row }
}
