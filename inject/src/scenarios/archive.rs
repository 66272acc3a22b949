//! Arrays of `.npz` archives, mapped and read.

use ndarray::Ix2;
use ndarray_mmap::npz::Archive;
use ndarray_mmap::{ErrorKind, MmapArray, MmapArrayCow};

use super::Scenario;
use super::open::{lock_is_sure, lock_kinds};
use crate::scene::Scene;

/// `grid`, which is stored, has these; the other array is compressed.
const GRID: [f64; 6] = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];

/// NumPy's archive, behind as many bytes as align the data of `grid`.
fn archive() -> Vec<u8> {
    [&[b'#'; 6], &include_bytes!("../../../tests/data/example.npz")[..]].concat()
}

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("open_npz", |s| {
            reads_grid(s, |path| {
                // SAFETY: nobody else knows the file.
                unsafe { MmapArray::<f64, Ix2>::open_npz(path, "grid") }.map(|a| a.iter().copied().collect())
            });
        }),
        Scenario::new("open_c_npz", |s| {
            reads_grid(s, |path| {
                // SAFETY: nobody else knows the file.
                unsafe { MmapArrayCow::<f64, Ix2>::open_npz(path, "grid") }.map(|a| a.iter().copied().collect())
            });
        }),
        Scenario::new("load_npz", |s| {
            reads_grid(s, |path| MmapArray::<f64, Ix2>::load_npz(path, "grid").map(|a| a.iter().copied().collect()));
        }),
        Scenario::new("load_npz_compressed", |s| {
            let path = s.put("a", &archive());
            let Some(outcome) = s.armed(|| MmapArray::<i32>::load_npz(&path, "days/count")) else { return };
            let kinds = lock_kinds(s);
            let loaded = s.judge(outcome, kinds);
            lock_is_sure(s, loaded.as_ref());
            if let Some(a) = loaded {
                s.claim(a.len() == 1000 && a.iter().all(|&n| n == 7), "other elements");
            }
        }),
        Scenario::new("headers_npz", |s| {
            let path = s.put("a", &archive());
            let outcome = s.armed(|| {
                let archive = Archive::open(&path)?;
                archive.names().map(|name| Ok(archive.header(name)?.shape().to_vec())).collect::<Result<Vec<_>, _>>()
            });
            if let Some(shapes) = outcome.and_then(|outcome| s.judge(outcome, &[ErrorKind::Io])) {
                s.claim(shapes == [vec![2, 3], vec![1000]], "other shapes");
            }
        }),
    ]
}

fn reads_grid(s: &mut Scene<'_>, read: impl FnOnce(&std::path::Path) -> ndarray_mmap::Result<Vec<f64>>) {
    let path = s.put("a", &archive());
    let Some(outcome) = s.armed(|| read(&path)) else { return };
    let kinds = lock_kinds(s);
    let found = s.judge(outcome, kinds);
    lock_is_sure(s, found.as_ref());
    if let Some(found) = found {
        s.claim(found == GRID, "other elements");
    }
}
