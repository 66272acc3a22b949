//! Mapping files into a file, by whichever constructor they were opened, and in whichever way results get there.
#![allow(clippy::undocumented_unsafe_blocks)] // Every file here is a test's own, in a temporary folder.

use ndarray::prelude::*;
#[cfg(unix)]
use ndarray_mmap::ErrorKind;
use ndarray_mmap::{MmapArray, MmapArrayCow, MmapArrayMut, Result, Staged};

/// More than a processor's cache holds, and no whole number of blocks, nor of the cache's lines.
const MANY: usize = (16 << 20) / 4 + 12_345;

fn numbers(len: usize) -> Vec<u32> {
    (0..len as u32).map(|n| n.wrapping_mul(2_654_435_761)).collect()
}

#[test]
fn results_are_the_same_in_memory_past_the_cache_and_through_the_file() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bin");
    std::fs::write(&path, bytemuck::cast_slice(&numbers(MANY))).unwrap();
    let a = unsafe { MmapArray::<u32, Ix1>::open(&path)? };
    let expected = a.mapv(|x| x / 3);
    for offset in [0, 4, 4096] {
        let options = MmapArrayMut::<u32>::options().shape(MANY).offset(offset);
        let mut out = unsafe { options.create(folder.path().join("out.bin"))? };
        // Nothing of it is in memory yet; then all of it is.
        for turn in [0, 1] {
            a.blocks().map_into(&mut out, |x| x / 3 + turn)?;
            assert!(out.iter().zip(&expected).all(|(&out, &x)| out == x + turn));
        }
        #[cfg(feature = "rayon")]
        {
            a.blocks().parallel(true).zip_map_into(&a, &mut out, |x, y| x ^ !y)?;
            assert!(out.iter().all(|&x| x == u32::MAX));
        }
    }
    Ok(())
}

#[test]
fn arrays_from_every_constructor_are_mapped() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bin");
    std::fs::write(&path, bytemuck::cast_slice(&numbers(5000))).unwrap();
    let expected = Array::from(numbers(5000)).mapv(u64::from) * 2;

    let loaded = MmapArray::<u32, Ix1>::options().load(&path)?;
    let mut copied = unsafe { MmapArrayCow::<u32, Ix1>::open(&path)? };
    let published = folder.path().join("published.bin");
    let mut staged = Staged::<u64, Ix1>::stage(&published, 5000)?;
    loaded.blocks().map_into(&mut staged, |x| u64::from(x) * 2)?;
    assert_eq!(*staged, expected);
    copied[0] = 7;
    copied.blocks().bytes(100).map_into(&mut staged, |x| u64::from(x) * 2)?;
    assert_eq!((staged[0], staged.slice(s![1..])), (14, expected.slice(s![1..])));
    staged.publish()?;
    assert_eq!(MmapArray::<u64>::load(&published)?.sum(), expected.sum() + 14);

    // An array of one element, without axes.
    let mut one = MmapArrayMut::<f32>::scratch(())?;
    let mut out = MmapArrayMut::<f64>::scratch(())?;
    one[()] = 1.5;
    one.blocks().zip_map_into(&one, &mut out, |x, y| f64::from(x + y))?;
    assert_eq!(out[()], 3.0);
    Ok(())
}

#[cfg(unix)]
#[test]
fn a_truncated_source_is_an_error_of_the_guarded_call() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bin");
    std::fs::write(&path, bytemuck::cast_slice(&numbers(100_000))).unwrap();
    let a = unsafe { MmapArray::<u32, Ix1>::open(&path)? };
    let mut out = MmapArrayMut::<u32>::scratch(100_000)?;
    std::fs::File::options().write(true).open(&path).unwrap().set_len(5000).unwrap();
    let mapped = a.guarded(|_| a.blocks().map_into(&mut out, |x| x));
    assert_eq!(mapped.unwrap_err().kind(), ErrorKind::Truncated);
    let mapped = a.guarded(|_| a.blocks().map_into(&mut out, |x| x));
    assert_eq!(mapped.unwrap_err().kind(), ErrorKind::Poisoned);
    // It is not `out` that failed.
    out.flush()
}
