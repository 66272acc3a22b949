//! Files that are made, filled, changed in place, and appended to.

use std::fs::File;
use std::path::PathBuf;

use ndarray::{Array2, ArrayViewMut1, Ix1};
use ndarray_mmap::MmapArrayMut;

use crate::files::{Before, map_mut, map_new};
use crate::limit::Limit;
use crate::rows::Row;
use crate::value::Element;
use crate::{Mode, Settings};

pub fn rows(s: &Settings) -> Vec<Row> {
    let mut rows = vec![create(s, Fill::Blocks), create(s, Fill::Plain), fill(s), in_place(s)];
    rows.extend([1, 64, 4096].map(|count| append(s, count)));
    rows
}

/// Brought to the disk by all contestants.
pub fn flushed(s: &Settings) -> Row {
    create(s, Fill::Blocks)
}

#[derive(Clone, Copy, PartialEq)]
enum Fill {
    Blocks,
    Plain,
}

fn create(s: &Settings, how: Fill) -> Row {
    let (path, count, bytes, flush) = (s.folder.join("t.npy"), s.bytes / 8, s.bytes, s.mode == Mode::Beyond);
    let (ours, plain) = (path.clone(), path.clone());
    let name =
        if how == Fill::Blocks { "create .npy f8 and fill it" } else { "create .npy f8 and fill it by ndarray's fill" };
    let after = if flush { "; o.flush()" } else { "" };
    let row = Row::new(s, name)
        .writes(path, bytes, Before::Nothing)
        .ours(
            || (),
            move |(), parallel| {
                let mut a = unsafe { MmapArrayMut::<f64>::create_npy(&ours, count).unwrap() };
                match how {
                    Fill::Blocks => a.blocks_mut().parallel(parallel).for_each(|mut block| block.fill(1.5)).unwrap(),
                    Fill::Plain => a.fill(1.5),
                }
                if flush {
                    a.flush().unwrap();
                }
            },
        )
        .other(
            "memmap2 (raw)",
            || (),
            move |()| {
                let mut map = map_new(&plain, bytes);
                bytemuck::cast_slice_mut(&mut map).fill(1.5_f64);
                if flush {
                    map.flush().unwrap();
                }
            },
        )
        .python(
            "NumPy open_memmap",
            "",
            &format!("o = np.lib.format.open_memmap(folder + '/t.npy', 'w+', 'f8', ({count},)); o[:] = 1.5{after}"),
        );
    let row = if flush {
        row
    } else {
        row.python("np.save of an array", "", &format!("np.save(folder + '/t.npy', np.full({count}, 1.5))"))
    };
    row.limit(s, Limit::FillNew)
}

fn target(s: &Settings) -> [PathBuf; 3] {
    [(); 3].map(|()| s.path::<f64>("t"))
}

fn fill(s: &Settings) -> Row {
    let [path, ours, plain] = target(s);
    Row::new(s, "fill f8")
        .writes(path, s.bytes, Before::Zeros(s.bytes))
        .ours(
            move || unsafe { MmapArrayMut::<f64, Ix1>::open(&ours).unwrap() },
            |a, parallel| a.blocks_mut().parallel(parallel).for_each(|mut block| block.fill(1.5)).unwrap(),
        )
        .other(
            "ndarray",
            move || map_mut(&plain),
            |map| {
                ArrayViewMut1::<f64>::from(bytemuck::cast_slice_mut(map)).fill(1.5);
            },
        )
        .python("NumPy", "a = m('t.f8', 'r+')", "a[:] = 1.5")
        .limit(s, Limit::Fill)
}

/// A function that gives the same again, so that the result does not depend on the number of passes.
fn in_place(s: &Settings) -> Row {
    let [path, ours, plain] = target(s);
    Row::new(s, "mapv_inplace abs, f8")
        .reads::<f64>(s, "a")
        .writes(path, s.bytes, Before::CopyOf(s.path::<f64>("a")))
        .ours(
            move || unsafe { MmapArrayMut::<f64, Ix1>::open(&ours).unwrap() },
            |a, parallel| a.blocks_mut().parallel(parallel).for_each(|mut block| block.mapv_inplace(f64::abs)).unwrap(),
        )
        .other(
            "ndarray",
            move || map_mut(&plain),
            |map| {
                ArrayViewMut1::<f64>::from(bytemuck::cast_slice_mut(map)).mapv_inplace(f64::abs);
            },
        )
        .python("NumPy", "a = m('t.f8', 'r+')", "np.abs(a, out=a)")
        .numexpr("a = m('t.f8', 'r+')", "ne.evaluate('abs(a)', out=a)")
        .limit(s, Limit::Copy)
}

/// Rows of 1 KiB. Their first pass makes the file.
fn append(s: &Settings, count: usize) -> Row {
    let (path, bytes) = (s.folder.join("t.npy"), count * 1024);
    let rows = Array2::from_shape_fn((count, 256), |(row, column)| f32::numbered(row * 256 + column));
    let raw: Vec<u8> = bytemuck::cast_slice(rows.as_slice().unwrap()).to_vec();
    let (ours, plain) = (path.clone(), path.clone());
    let open = "f = NpyAppendArray(folder + '/t.npy')";
    let open_late = "f = NpyAppendArray(folder + '/t.npy', rewrite_header_on_append=False)";
    let mut row = Row::new(s, format!("append {count} rows of 1 KiB to .npy"))
        .on_one_thread()
        .reads::<f32>(s, "a")
        .writes(path, bytes, Before::Nothing)
        .before_python(format!("x = np.fromfile(folder + '/a.f4', 'f4', {count} * 256).reshape({count}, 256)"))
        .ours(
            move || unsafe { MmapArrayMut::<f32>::create_npy(&ours, (0, 256)).unwrap() },
            move |a, _| a.append(&rows).unwrap(),
        )
        .python("npy-append-array", open, "f.append(x)")
        .python("npy-append-array, header at the end", open_late, "f.append(x)")
        .limit_of(
            move || File::options().append(true).create(true).open(&plain).unwrap(),
            move |file, _| std::io::Write::write_all(file, &raw).unwrap(),
        );
    row.bytes = bytes;
    row
}
