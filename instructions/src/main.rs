//! One pass or many over a small array, by name, for `compare.py` to count the instructions of.
//!
//! ```sh
//! ndarray-mmap-instructions               # the names
//! ndarray-mmap-instructions sum_f8 11     # eleven passes
//! ```
//!
//! What is counted must be the same each time: no clock, no random numbers, one thread. So elements are gathered from arrays
//! that were read into memory, not from files: there `gather` watches a clock.

use std::hint::black_box;
use std::{env, fs, io};

use bytemuck::Pod;
use ndarray::{Array2, Axis, Ix1, Ix2, ShapeBuilder};
use ndarray_mmap::{MmapArray, MmapArrayMut, Result};
use rend::f32_be;
use tempfile::tempdir;

type Kernel = fn(usize) -> io::Result<()>;

const KERNELS: [(&str, Kernel); 16] = [
    ("sum_f8", |passes| repeat(passes, &scratch(1 << 17, |i| i as f64)?, |a| a.blocks().sum())),
    ("sum_i2", |passes| repeat(passes, &scratch(1 << 19, |i| i as i16)?, |a| a.blocks().sum())),
    ("sum_big_endian_f4", |passes| {
        repeat(passes, &scratch(1 << 18, |i| f32_be::from_native(i as f32))?, |a| a.blocks().sum())
    }),
    ("var_f4", |passes| repeat(passes, &scratch(1 << 18, |i| i as f32)?, |a| a.blocks().var(1))),
    ("min_max_u1", |passes| repeat(passes, &scratch(1 << 20, |i| i as u8)?, |a| a.blocks().min_max())),
    ("min_max_i4", |passes| repeat(passes, &scratch(1 << 18, |i| i as i32)?, |a| a.blocks().min_max())),
    ("sum_axis_0_f4", |passes| repeat(passes, &scratch((512, 512), |i| i as f32)?, |a| a.blocks().sum_axis(Axis(0)))),
    ("sum_axis_1_i8", |passes| repeat(passes, &scratch((512, 256), |i| i as i64)?, |a| a.blocks().sum_axis(Axis(1)))),
    ("min_max_axis_0_f8", |passes| {
        repeat(passes, &scratch((512, 256), |i| i as f64)?, |a| a.blocks().min_max_axis(Axis(0)))
    }),
    ("map_into_f8", |passes| {
        let mut arrays = (scratch(1 << 17, |i| i as f64)?, scratch(1 << 17, |_| 0.0)?);
        repeat_mut(passes, &mut arrays, |(a, out)| a.blocks().map_into(out, |x| x * 2.0 + 1.0))
    }),
    ("zip_map_into_f4_i2", |passes| {
        let a = scratch(1 << 18, |i| i as f32)?;
        let mut arrays = (a, scratch(1 << 18, |i| i as i16)?, scratch(1 << 18, |_| 0.0)?);
        repeat_mut(passes, &mut arrays, |(a, b, out)| a.blocks().zip_map_into(b, out, |x, y| x * 0.5 + f32::from(y)))
    }),
    ("gather_rows", |passes| {
        let a: MmapArray<u8, Ix2> = loaded((2000, 1024), |i| i as u8)?;
        let rows: Vec<_> = (0..1000).map(|i| i * 7919 % 2000).collect();
        repeat(passes, &a, |a| a.gather(Axis(0), &rows))
    }),
    ("gather_elements", |passes| {
        let a: MmapArray<f64, Ix1> = loaded(1 << 17, |i| i as f64)?;
        let elements: Vec<_> = (0..10_000).map(|i| i * 7919 % (1 << 17)).collect();
        repeat(passes, &a, |a| a.gather(Axis(0), &elements))
    }),
    ("transpose_f4", |passes| {
        let mut arrays = (scratch((512, 500), |i| i as f32)?, scratch((500, 512), |_| 0.0)?);
        repeat_mut(passes, &mut arrays, |(a, out)| out.assign_tiled(&a.t()))
    }),
    ("append_npy", |passes| {
        let folder = tempdir()?;
        // SAFETY: nobody else knows this file.
        let mut a = unsafe { MmapArrayMut::<f32>::create_npy(folder.path().join("a.npy"), (64, 256))? };
        let rows = Array2::<f32>::ones((64, 256));
        repeat_mut(passes, &mut a, |a| a.append(&rows))
    }),
    ("load_npy", |passes| {
        let folder = tempdir()?;
        let path = folder.path().join("a.npy");
        // SAFETY: nobody else knows this file.
        unsafe { MmapArrayMut::<f64>::create_npy(&path, (64, 32))? }.close()?;
        repeat(passes, &path, |path| MmapArray::<f64, Ix2>::load_npy(path).expect("nobody removed the file"))
    }),
];

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    match (arguments.next(), arguments.next().map(|passes| passes.parse())) {
        (Some(name), Some(Ok(passes))) => {
            let (_, kernel) = KERNELS.iter().find(|(known, _)| *known == name).expect("no such kernel");
            println!("{}", vectors());
            kernel(passes)
        }
        _ => {
            KERNELS.iter().for_each(|(name, _)| println!("{name}"));
            Ok(())
        }
    }
}

/// Which of the crate's kernels run: see `arch/dispatch.rs` there.
#[cfg(target_arch = "x86_64")]
fn vectors() -> &'static str {
    if is_x86_feature_detected!("avx512f") {
        "avx512"
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        "avx2"
    } else {
        "sse2"
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn vectors() -> &'static str {
    env::consts::ARCH
}

fn repeat<A, T>(passes: usize, a: &A, pass: impl Fn(&A) -> T) -> io::Result<()> {
    for _ in 0..passes {
        black_box(pass(black_box(a)));
    }
    Ok(())
}

fn repeat_mut<A>(passes: usize, a: &mut A, pass: impl Fn(&mut A) -> Result<()>) -> io::Result<()> {
    (0..passes).try_for_each(|_| pass(black_box(a)))?;
    Ok(())
}

/// An array in a file, which is in the page cache.
fn scratch<A: Pod, Sh: ShapeBuilder>(shape: Sh, element: impl Fn(usize) -> A) -> Result<MmapArrayMut<A, Sh::Dim>> {
    let mut a = MmapArrayMut::<A>::scratch(shape)?;
    a.iter_mut().enumerate().for_each(|(i, x)| *x = element(i));
    Ok(a)
}

/// An array in memory.
fn loaded<A: Pod, Sh: ShapeBuilder>(shape: Sh, element: impl Fn(usize) -> A) -> io::Result<MmapArray<A, Sh::Dim>> {
    let folder = tempdir()?;
    let path = folder.path().join("a");
    let shape = shape.into_shape_with_order();
    let elements: Vec<A> = (0..shape.size()).map(element).collect();
    fs::write(&path, bytemuck::cast_slice(&elements))?;
    Ok(MmapArray::<A>::options().shape(shape).load(path)?)
}
