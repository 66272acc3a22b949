//! Elements: every type that may lie in a file reads and writes its bytes as they are.

use std::fs;

use crate::support::arrays::{CreateExt, OpenExt, expect_err, file};
use crate::support::snapshot::snapshot;
use bytemuck::{AnyBitPattern, NoUninit, Pod, Zeroable};
use ndarray::prelude::*;
use ndarray_mmap::{Bool8, ErrorKind, MmapArray, MmapArrayCow, MmapArrayMut, Result};

/// Every pattern of a byte, at every place of an element, is read as it is and written as it was read.
#[track_caller]
fn keeps_every_byte<A: AnyBitPattern + NoUninit>() {
    let size = size_of::<A>();
    let bytes: Vec<u8> = (0..256 * size).map(|i| (i * 37 + i / 256) as u8).collect();
    let (folder, path) = file(&bytes);
    let shape = (64, 4).f();
    let raw = |array: ArrayView<A, Ix2>| bytemuck::cast_slice::<A, u8>(array.as_slice_memory_order().unwrap()).to_vec();

    let r = MmapArray::<A>::options().shape(shape).opened(&path).unwrap();
    assert_eq!(raw(r.view()), bytes);
    let l = MmapArrayCow::<A>::options().shape(shape).load(&path).unwrap();
    assert_eq!(raw(l.view()), bytes);
    let mut c = MmapArrayCow::<A>::options().shape(shape).opened(&path).unwrap();
    c.assign(&r);
    assert_eq!(raw(c.view()), bytes);
    c[[63, 3]] = r[[0, 0]];
    assert_eq!(raw(c.view())[255 * size..], bytes[..size]);

    let out = folder.path().join("out.bin");
    let mut w = MmapArrayMut::<A>::options().shape(shape).created(&out).unwrap();
    w.assign(&r);
    for (to, from) in w.iter_mut().zip(&r) {
        *to = *from;
    }
    drop(w);
    assert_eq!(fs::read(&out).unwrap(), bytes);
    // The element's own width is what counts.
    let cut = MmapArray::<A>::options().shape(257).opened(&path);
    expect_err(cut, ErrorKind::TooShort);
}

#[test]
fn integers_and_floats_keep_every_byte() {
    keeps_every_byte::<u8>();
    keeps_every_byte::<i8>();
    keeps_every_byte::<u16>();
    keeps_every_byte::<i16>();
    keeps_every_byte::<u32>();
    keeps_every_byte::<i32>();
    keeps_every_byte::<u64>();
    keeps_every_byte::<i64>();
    keeps_every_byte::<u128>();
    keeps_every_byte::<i128>();
    keeps_every_byte::<usize>();
    keeps_every_byte::<f32>();
    keeps_every_byte::<f64>();
}

#[test]
fn arrays_of_any_length_are_elements() {
    keeps_every_byte::<[u8; 1]>();
    keeps_every_byte::<[u8; 3]>();
    keeps_every_byte::<[u8; 13]>();
    keeps_every_byte::<[f32; 3]>();
    keeps_every_byte::<[[i16; 3]; 5]>();
    keeps_every_byte::<[u64; 37]>();
}

#[test]
fn booleans_keep_every_byte_and_are_true_but_for_zero() -> Result<()> {
    keeps_every_byte::<Bool8>();
    let bytes: Vec<u8> = (0..=255).collect();
    let (_folder, path) = file(&bytes);
    let mut w = MmapArrayMut::<Bool8>::options().shape((16, 16)).opened(&path)?;
    assert_eq!(w.iter().filter(|b| b.get()).count(), 255);
    let copy: Array2<Bool8> = w.to_owned();
    w.assign(&copy);
    assert_eq!(fs::read(&path).unwrap(), bytes);
    w.mapv_inplace(|b| !b);
    let mut expected = [0; 256];
    expected[0] = 1;
    assert_eq!(fs::read(&path).unwrap(), expected);
    Ok(())
}

#[test]
fn what_a_float_holds_beside_its_value_is_kept() -> Result<()> {
    let bits = [0x7ff8_0000_dead_beef_u64, 0xfff0_0000_0000_0001, 0x8000_0000_0000_0000, 1, 0x7ff0_0000_0000_0000];
    let (_folder, path) = file(&bits);
    let mut w = MmapArrayMut::<f64, Ix1>::options().opened(&path)?;
    assert_eq!(w.mapv(f64::to_bits).to_vec(), bits);
    assert!(w[0].is_nan() && w[1].is_nan() && w[2] == 0.0 && w[2].is_sign_negative());
    w.map_inplace(|x| *x = std::convert::identity(*x));
    let reversed = w.slice(s![..;-1]).to_owned();
    w.assign(&reversed);
    drop(w);
    let kept = MmapArray::<u64, Ix1>::load(&path)?;
    assert!(kept.iter().eq(bits.iter().rev()));
    Ok(())
}

/// As a C program writes it: no padding, as all fields have one width.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
struct Even {
    id: u32,
    value: f32,
    flags: [Bool8; 4],
}
// SAFETY: all fields are.
unsafe impl Zeroable for Even {}
// SAFETY: all fields are, and there is nothing between them.
unsafe impl Pod for Even {}

/// As an instrument writes it: fields at odd places.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Packed {
    tag: u8,
    value: f64,
}
// SAFETY: all fields are.
unsafe impl Zeroable for Packed {}
// SAFETY: all fields are, and packed.
unsafe impl Pod for Packed {}

/// As a C program writes it: seven bytes of padding after the tag, which nobody may rely on.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Padded {
    tag: u8,
    value: f64,
}
// SAFETY: all fields are.
unsafe impl Zeroable for Padded {}
// SAFETY: every pattern is a value: padding may hold anything.
unsafe impl AnyBitPattern for Padded {}

#[test]
fn records_are_elements() -> Result<()> {
    keeps_every_byte::<Even>();
    keeps_every_byte::<Packed>();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.bin");
    let record = Even { id: 7, value: 0.5, flags: [Bool8::TRUE; 4] };
    MmapArrayMut::<Even>::options().shape((2, 2)).created(&path)?[[1, 0]] = record;
    let r = MmapArray::<Even>::options().shape((2, 2)).opened(&path)?;
    assert_eq!(r[[1, 0]], record);
    assert_eq!(r.map(|r| r.value).sum(), 0.5);
    Ok(())
}

#[test]
fn records_with_padding_are_read_where_they_lie() -> Result<()> {
    let mut bytes = vec![0xee_u8; 48];
    for (i, record) in bytes.chunks_mut(16).enumerate() {
        record[0] = i as u8;
        record[8..].copy_from_slice(&(i as f64 / 2.0).to_ne_bytes());
    }
    let (folder, path) = file(&bytes);
    let before = snapshot(folder.path());
    let r = MmapArray::<Padded>::options().opened(&path)?;
    assert_eq!((r.len(), r[2].tag, r[2].value), (3, 2, 1.0));
    assert_eq!(MmapArray::<Padded>::load(&path)?.map(|r| r.value).sum(), 1.5);
    expect_err(MmapArray::<Padded>::options().offset(8).shape(3).opened(&path), ErrorKind::TooShort);
    expect_err(MmapArray::<Padded>::options().offset(1).shape(1).opened(&path), ErrorKind::Misaligned);
    assert_eq!(snapshot(folder.path()), before);
    // Fields at odd places need no alignment at all.
    let p = MmapArray::<Packed>::options().offset(3).opened(&path)?;
    assert_eq!((p.len(), { p[0].tag }), (5, 0xee));
    Ok(())
}

#[cfg(feature = "num-complex")]
#[test]
fn complex_numbers_are_elements() -> Result<()> {
    use num_complex::Complex;
    keeps_every_byte::<Complex<f32>>();
    keeps_every_byte::<Complex<f64>>();
    let (_folder, path) = file(&[1.0_f64, 2.0, 3.0, -4.0]);
    let a = MmapArray::<Complex<f64>>::options().opened(&path)?;
    assert_eq!(a.sum(), Complex::new(4.0, -2.0));
    assert_eq!((&*a * Complex::i())[0], Complex::new(-2.0, 1.0));
    Ok(())
}

#[cfg(feature = "half")]
#[test]
fn half_precision_floats_are_elements() -> Result<()> {
    use half::{bf16, f16};
    keeps_every_byte::<f16>();
    keeps_every_byte::<bf16>();
    let (_folder, path) = file(&[0x3c00_u16, 0xc000, 0x7bff]);
    let a = MmapArray::<f16, Ix1>::load(&path)?;
    assert_eq!(a.mapv(f32::from), array![1.0, -2.0, 65504.0]);
    Ok(())
}

#[cfg(feature = "rend")]
#[test]
fn elements_of_either_byte_order_and_at_any_place_are_elements() -> Result<()> {
    use rend::{f32_be, f64_be, f64_le, i16_be, u32_le, u64_be, unaligned};
    keeps_every_byte::<i16_be>();
    keeps_every_byte::<u32_le>();
    keeps_every_byte::<u64_be>();
    keeps_every_byte::<f32_be>();
    keeps_every_byte::<f64_be>();
    keeps_every_byte::<f64_le>();
    keeps_every_byte::<unaligned::i16_ube>();
    keeps_every_byte::<unaligned::u64_ule>();
    keeps_every_byte::<unaligned::f64_ube>();

    let mut bytes = vec![9_u8];
    for x in [1.5_f64, -2.0, f64::MIN_POSITIVE] {
        bytes.extend(x.to_be_bytes());
    }
    let (_folder, path) = file(&bytes);
    expect_err(MmapArray::<f64_be>::options().offset(1).opened(&path), ErrorKind::Misaligned);
    let a = MmapArray::<unaligned::f64_ube, Ix1>::options().offset(1).opened(&path)?;
    assert_eq!(a.mapv(f64::from), array![1.5, -2.0, f64::MIN_POSITIVE]);
    drop(a);
    let mut w = MmapArrayMut::<unaligned::f64_ube>::options().offset(1).opened(&path)?;
    w[1] = 0.25.into();
    drop(w);
    assert_eq!(fs::read(&path).unwrap()[9..17], 0.25_f64.to_be_bytes());
    assert_eq!(MmapArray::<f64_be>::options().offset(1).load(&path)?[1], 0.25);
    Ok(())
}
