//! The contract in one place: what the documentation promises compiles and does what it says.

use ndarray::prelude::*;
use ndarray_mmap::{MmapArray, MmapArrayMut};

#[test]
fn smoke() {
    let dir = tempfile::tempdir().unwrap();
    let p = dir.path().join("out.bin");
    let b = Array2::<f32>::ones((3, 4));
    let mut c = unsafe { MmapArrayMut::<f32>::create(&p, (3, 4)).unwrap() };
    c.assign(&b);
    c[[0, 0]] = 7.0;
    *c += 1.0;
    c.swap_axes(0, 1);
    assert_eq!(c.shape(), [3, 4]);
    c.flush().unwrap();
    println!("{c:?} {c} {} {}", c.residency().unwrap(), c.mode());
    c.close().unwrap();
    let a = unsafe { MmapArray::<f32>::open(&p).unwrap() };
    println!("{} {}", a.len(), a.sum());
    let s: ArrayD<f32> = &*a * 2.0 + 1.0;
    println!("{s}");
    for e in [
        MmapArray::<f64, Ix2>::load(&p).err(),
        MmapArray::<f64>::options().shape((3, 4)).load(&p).err(),
        MmapArray::<f64>::options().offset(50).load(&p).err(),
        MmapArray::<f64>::options().offset(3).load(&p).err(),
        MmapArray::<f64>::options().shape((usize::MAX, 4)).load(&p).err(),
        MmapArray::<[u8; 5]>::load(&p).err(),
        MmapArray::<u8>::load(dir.path()).err(),
        MmapArray::<u8>::load("/dev/zero").err(),
        MmapArray::<u8>::load("/nonexist").err(),
        unsafe { MmapArray::<u32>::options().offset(1).shape(3).open(&p).err() },
        unsafe { MmapArrayMut::<u32>::options().create(&p).err() },
        unsafe { MmapArrayMut::<u32>::create("/proc/x", 3).err() },
        unsafe { MmapArrayMut::<u32>::create_new(&p, 3).err() },
        unsafe { MmapArrayMut::<u32>::create(&p, 1usize << 50).err() },
    ] {
        println!("{:?}", e.map(|e| e.to_string()));
    }
    println!("{:?}", std::fs::read_dir(dir.path()).unwrap().collect::<Vec<_>>());
}
