//! Shapes, offsets and files as large as numbers and systems go: an error of every constructor, never a panic or an abort.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::support::arrays::{CreateExt, OpenExt, expect_err, expect_io_err, sparse};
use crate::support::process::in_child;
use crate::support::snapshot::{contents, names, snapshot};
use bytemuck::{AnyBitPattern, NoUninit};
use ndarray::prelude::*;
use ndarray_mmap::{Error, ErrorKind, MmapArray, MmapArrayCow, MmapArrayMut, Result};

const I64_MAX: u64 = i64::MAX as u64;

/// The errors of every constructor for this shape at this offset, of a file of 64 bytes; and that what can be `seen` of it is then
/// as it was.
#[track_caller]
fn every_constructor<A: AnyBitPattern + NoUninit, T: PartialEq + Debug>(
    offset: u64,
    shape: &[usize],
    seen: fn(&Path) -> T,
) -> Vec<Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.bin");
    fs::write(&path, [1; 64]).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let before = seen(folder.path());
    let read = MmapArray::<A>::options().offset(offset).shape(shape);
    let copy = MmapArrayCow::<A>::options().offset(offset).shape(shape);
    let write = MmapArrayMut::<A>::options().offset(offset).shape(shape);
    let results: [Result<()>; 14] = [
        read.clone().opened(&path).map(drop),
        read.clone().mapped(&file).map(drop),
        read.clone().map_sealed(&file).map(drop),
        read.load(&path).map(drop),
        copy.clone().opened(&path).map(drop),
        copy.clone().mapped(&file).map(drop),
        copy.load(&path).map(drop),
        write.clone().opened(&path).map(drop),
        write.clone().mapped(&file).map(drop),
        write.clone().extend(true).opened(&path).map(drop),
        write.clone().extend(true).preallocate(false).mapped(&file).map(drop),
        write.clone().created(&path).map(drop),
        write.clone().preallocate(false).created(&path).map(drop),
        write.created_new(folder.path().join("new")).map(drop),
    ];
    assert_eq!(seen(folder.path()), before);
    results.into_iter().map(Result::unwrap_err).collect()
}

#[track_caller]
fn overflows<A: AnyBitPattern + NoUninit>(offset: u64, shape: &[usize]) {
    for e in every_constructor::<A, _>(offset, shape, snapshot) {
        assert_eq!(e.kind(), ErrorKind::Overflow, "{e}");
        assert_eq!(io::Error::from(e).kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn a_shape_beyond_what_can_be_addressed_overflows_in_every_constructor() {
    const HALF: usize = 1 << 63;
    for shape in [&[usize::MAX][..], &[HALF], &[1 << 32, 1 << 32], &[usize::MAX, usize::MAX, usize::MAX]] {
        overflows::<u8>(0, shape);
        overflows::<u64>(0, shape);
        expect_err(MmapArrayMut::<u8>::scratch(shape), ErrorKind::Overflow);
        expect_err(MmapArrayMut::<u8>::scratch(shape.f()), ErrorKind::Overflow);
    }
    overflows::<u64>(0, &[isize::MAX as usize / 8 + 1]);
    overflows::<f64>(0, &[3_037_000_500, 3_037_000_500]);
    // Products that come out as 0, or small, where they wrap.
    overflows::<u64>(0, &[1 << 61]);
    overflows::<u8>(0, &[1 << 32, 1 << 31, 2]);
    overflows::<u8>(0, &[1 << 32, 1 << 32, 1 << 32]);
    // A zero among huge axes does not make them small.
    overflows::<u8>(0, &[0, usize::MAX, 2]);
    overflows::<u8>(0, &[0, HALF]);
    overflows::<u32>(0, &[1 << 62, 0, 4]);
    overflows::<[u8; 5]>(0, &[0, isize::MAX as usize / 5 + 1]);
}

#[test]
fn an_offset_beyond_the_largest_file_overflows_in_every_constructor() {
    for offset in [u64::MAX, u64::MAX - 7, I64_MAX + 1] {
        overflows::<u8>(offset, &[1]);
        overflows::<u8>(offset, &[0]);
        overflows::<u64>(offset, &[]);
        expect_err(MmapArray::<u8>::options().offset(offset).load("/dev/null"), ErrorKind::Overflow);
        expect_err(MmapArray::<u8>::options().offset(offset).row_shape(3).opened("/dev/null"), ErrorKind::Overflow);
    }
    overflows::<u8>(I64_MAX, &[1]);
    overflows::<u8>(I64_MAX - 1, &[2]);
    overflows::<u64>(I64_MAX - 7, &[1]);
    overflows::<u8>(1, &[isize::MAX as usize]);
    overflows::<u64>(8, &[isize::MAX as usize / 8]);
}

#[test]
fn rows_beyond_what_can_be_addressed_overflow() {
    let path = Path::new("/no/such/file");
    for row in [vec![usize::MAX], vec![1 << 32, 1 << 32], vec![isize::MAX as usize / 8 + 1], vec![0, usize::MAX, 2]] {
        expect_err(MmapArray::<f64>::options().row_shape(row.clone()).opened(path), ErrorKind::Overflow);
        expect_err(
            MmapArrayMut::<f64>::options().extend(true).row_shape(row.clone()).opened(path),
            ErrorKind::Overflow,
        );
        expect_err(MmapArrayCow::<f64>::options().row_shape(row).load(path), ErrorKind::Overflow);
    }
}

#[test]
fn the_largest_arrays_that_there_could_be_are_too_long_for_the_file_or_the_system() {
    for (offset, shape) in [
        (0, [isize::MAX as usize]),
        (I64_MAX - 1, [1]),
        (I64_MAX - 4096, [4096]),
        (I64_MAX - (1 << 40), [1 << 40]),
        (1 << 62, [1 << 61]),
    ] {
        for e in every_constructor::<u8, _>(offset, &shape, contents) {
            assert!(matches!(e.kind(), ErrorKind::TooShort | ErrorKind::Io), "{e}");
        }
    }
    let no_room = expect_err(MmapArrayMut::<u8>::scratch(isize::MAX as usize), ErrorKind::Io);
    assert!(no_room.to_string().contains(&I64_MAX.to_string()), "{no_room}");
}

/// A folder on a tmpfs, where files can be as long as numbers go.
#[cfg(target_os = "linux")]
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_of_any_length_opens_where_it_fits_and_is_refused_where_it_does_not() -> Result<()> {
    use std::os::unix::fs::FileExt;
    const LEN: u64 = 1 << 62;
    let folder = in_memory();
    let path = folder.path().join("huge.bin");
    let file = sparse(&path, LEN);
    file.write_all_at(b"end", LEN - 3).unwrap();
    let before = snapshot(folder.path());

    // All of it is more than the system can map, or copy.
    let no_memory = io::ErrorKind::OutOfMemory;
    let e = expect_io_err(MmapArray::<u8>::options().opened(&path), no_memory);
    assert_eq!(e.path(), Some(path.as_path()));
    expect_io_err(MmapArrayCow::<u8>::options().opened(&path), no_memory);
    expect_io_err(MmapArrayMut::<u64>::options().row_shape(4).opened(&path), no_memory);
    expect_io_err(MmapArray::<u8>::load(&path), no_memory);
    expect_io_err(MmapArrayCow::<u64>::options().shape((1 << 30, 1 << 20)).load(&path), no_memory);
    // A part is as good as any, however far.
    assert_eq!(MmapArray::<u8, Ix1>::options().offset(LEN - 3).opened(&path)?.to_vec(), b"end");
    assert_eq!(MmapArray::<u8, Ix1>::options().offset(LEN - 3).load(&path)?.to_vec(), b"end");
    let tebibyte = MmapArrayCow::<u8>::options().offset(LEN - (1 << 40)).opened(&path)?;
    assert_eq!((tebibyte.len(), tebibyte[(1 << 40) - 3]), (1 << 40, b'e'));
    expect_err(MmapArray::<u64>::options().offset(LEN - 4).opened(&path), ErrorKind::LengthNotMultiple);
    expect_err(MmapArray::<u8>::options().offset(LEN - 4).shape(5).opened(&path), ErrorKind::TooShort);
    assert_eq!(snapshot(folder.path()), before);
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn what_grew_but_cannot_be_mapped_is_truncated_again() {
    let folder = in_memory();
    let path = folder.path().join("data.bin");
    fs::write(&path, b"as it was").unwrap();
    let huge = MmapArrayMut::<u8>::options().shape(1 << 60).preallocate(false);
    expect_io_err(huge.clone().extend(true).opened(&path), io::ErrorKind::OutOfMemory);
    assert_eq!(fs::read(&path).unwrap(), b"as it was");
    expect_io_err(huge.clone().created(&path), io::ErrorKind::OutOfMemory);
    expect_io_err(huge.created_new(folder.path().join("new")), io::ErrorKind::OutOfMemory);
    assert_eq!(fs::read(&path).unwrap(), b"as it was");
    assert_eq!(names(folder.path()), ["data.bin"]);
}

#[cfg(any(target_os = "linux", target_os = "freebsd"))]
mod sealed {
    use super::*;
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

    fn memory(len: u64, seals: SealFlags) -> File {
        let file = File::from(memfd_create("test", MemfdFlags::ALLOW_SEALING).unwrap());
        file.set_len(len).unwrap();
        fcntl_add_seals(&file, seals).unwrap();
        file
    }

    #[test]
    fn only_what_the_kernel_proves_immutable_maps_without_a_promise() -> Result<()> {
        let proven = SealFlags::WRITE | SealFlags::SHRINK;
        let file = memory(48, proven | SealFlags::GROW);
        let a = MmapArray::<u32>::options().offset(8).shape((2, 5).f()).map_sealed(&file)?;
        assert_eq!((a.dim(), a.sum(), a.path(), a.offset()), ((2, 5), 0, None, 8));
        assert_eq!(MmapArray::<u64>::options().row_shape(2).map_sealed(&memory(48, proven))?.dim(), (3, 2));
        let part = MmapArray::<u64>::options().row_shape(2).rows(1..3).map_sealed(&memory(48, proven))?;
        assert_eq!((part.dim(), part.offset()), ((2, 2), 16));
        assert_eq!(MmapArray::<u64>::options().map_sealed(&memory(0, proven))?.len(), 0);
        assert_eq!(MmapArray::<u64>::options().offset(48).map_sealed(&memory(48, proven))?.len(), 0);
        for seals in
            [SealFlags::empty(), SealFlags::WRITE, SealFlags::SHRINK, SealFlags::SHRINK | SealFlags::FUTURE_WRITE]
        {
            let e = expect_err(MmapArray::<u8>::options().map_sealed(&memory(48, seals)), ErrorKind::Unsupported);
            assert_eq!(io::Error::from(e).kind(), io::ErrorKind::Unsupported);
            // Not even where there is nothing to map: the answer does not depend on the length.
            expect_err(MmapArray::<u8>::options().map_sealed(&memory(0, seals)), ErrorKind::Unsupported);
        }
        expect_err(MmapArray::<u32>::options().shape(13).map_sealed(&file), ErrorKind::TooShort);
        expect_err(MmapArray::<u32>::options().offset(2).map_sealed(&file), ErrorKind::LengthNotMultiple);
        expect_err(MmapArray::<u32>::options().offset(2).shape(1).map_sealed(&file), ErrorKind::Misaligned);
        Ok(())
    }

    #[test]
    fn a_sealed_file_larger_than_the_address_space_is_refused() {
        let file = memory(1 << 60, SealFlags::WRITE | SealFlags::SHRINK);
        expect_io_err(MmapArray::<u8>::options().map_sealed(&file), io::ErrorKind::OutOfMemory);
    }
}

#[test]
fn a_limit_on_file_sizes_is_an_error_and_no_signal() {
    in_child!(|| {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current.unwrap() as usize;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.bin");
        fs::write(&path, b"as it was").unwrap();
        let before = snapshot(folder.path());
        for preallocate in [true, false] {
            let too_long = MmapArrayMut::<u8>::options().shape(limit + 1).preallocate(preallocate);
            let e = expect_io_err(too_long.clone().created(&path), io::ErrorKind::FileTooLarge);
            assert!(e.to_string().contains(&limit.to_string()) && e.to_string().contains("RLIMIT_FSIZE"), "{e}");
            expect_io_err(too_long.clone().created_new(folder.path().join("new")), io::ErrorKind::FileTooLarge);
            expect_io_err(too_long.extend(true).opened(&path), io::ErrorKind::FileTooLarge);
            assert_eq!(snapshot(folder.path()), before);
        }
        expect_io_err(MmapArrayMut::<u8>::scratch(limit + 1), io::ErrorKind::FileTooLarge);

        let just_fits = MmapArrayMut::<u8>::options().shape(limit).extend(true);
        assert_eq!(just_fits.clone().opened(&path).unwrap()[8], b's');
        assert_eq!(just_fits.created(&path).unwrap()[8], 0);
        MmapArrayMut::<u8>::scratch(limit).unwrap();
    })
    .after("ulimit -f 128")
    .run()
    .succeeded();
}

/// The system refuses memory.
#[cfg(target_os = "linux")]
mod refusals {
    use super::*;
    use ndarray_mmap::npy::Header;

    /// About 2 GB of addresses: enough for a process with its threads.
    const MEMORY: &str = "ulimit -v 2000000";

    /// Of a file that is as long, so that the claim alone is no reason to refuse it.
    #[test]
    fn a_header_too_long_for_memory_is_an_error_and_no_abort() {
        in_child!(|| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("long.npy");
            fs::write(&path, [b"\x93NUMPY\x02\x00\xff\xff\xff\xff", &[b' '; 200][..]].concat()).unwrap();
            File::options().write(true).open(&path).unwrap().set_len(5 << 30).unwrap();
            expect_io_err(Header::read_with_limit(&path, usize::MAX), io::ErrorKind::OutOfMemory);
            let options = MmapArray::<f64>::options().max_header_size(usize::MAX);
            expect_io_err(options.clone().opened_npy(&path), io::ErrorKind::OutOfMemory);
            expect_io_err(options.load_npy(&path), io::ErrorKind::OutOfMemory);
            expect_err(Header::read(&path), ErrorKind::InvalidHeader);
        })
        .after(MEMORY)
        .run()
        .succeeded();
    }

    /// A file of 128 bytes, whose header claims that shape, of bytes.
    fn header_alone(folder: &Path, shape: &[usize], f_order: bool) -> MmapArray<u8> {
        let path = folder.join(format!("{shape:?}{f_order}.npy"));
        let text = format!("({},)", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", "));
        fs::write(&path, crate::support::arrays::npy_header("'|u1'", f_order, &text, 128)).unwrap();
        MmapArray::<u8>::options().opened_npy(&path).unwrap()
    }

    /// What a panic says.
    fn panics<T>(f: impl FnOnce() -> T) -> String {
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).err().expect("a panic");
        *panic.downcast::<String>().expect("a message with numbers")
    }

    /// Shapes without elements, the axis without length, and the shape of the sums along it.
    fn of_nothing() -> impl Iterator<Item = (Vec<usize>, usize, Vec<usize>)> {
        let (large, larger) = (1 << 40, 1 << 62);
        [vec![0, large], vec![large, 0], vec![0, larger], vec![1 << 20, 0, 1 << 20], vec![1 << 20, 1 << 20, 0]]
            .into_iter()
            .map(|shape| {
                let axis = shape.iter().position(|&n| n == 0).unwrap();
                let mut sums = shape.clone();
                sums.remove(axis);
                (shape, axis, sums)
            })
    }

    #[test]
    fn a_result_too_large_for_memory_is_a_panic_with_its_numbers_and_no_abort() {
        in_child!(|| {
            let folder = tempfile::tempdir().unwrap();
            for (shape, axis, sums) in of_nothing() {
                for f_order in [false, true] {
                    let a = header_alone(folder.path(), &shape, f_order);
                    let message = panics(|| a.blocks().sum_axis(Axis(axis)));
                    let bytes = sums.iter().product::<usize>() as u128 * 16;
                    assert!(message.contains(&format!("{sums:?}, which takes {bytes} bytes")), "{message}");
                    #[cfg(feature = "rayon")]
                    assert_eq!(panics(|| a.blocks().parallel(true).sum_axis(Axis(axis))), message);
                    assert_eq!(a.blocks().mean_axis(Axis(axis)), None);
                    // Along any other there is nothing of anything.
                    let other = if axis == 0 { 1 } else { 0 };
                    assert_eq!(a.blocks().sum_axis(Axis(other)).len(), 0);
                    assert_eq!(a.blocks().mean_axis(Axis(other)).unwrap().len(), 0);
                }
            }

            // The result alone would fit, and what it is computed from does not: on the way of each thread.
            let path = folder.path().join("wide.bin");
            crate::support::arrays::sparse(&path, 70_000_000);
            let a = MmapArray::<u8>::options().shape((1, 70_000_000)).opened(&path).unwrap();
            let message = panics(|| a.blocks().sum_axis(Axis(0)));
            assert!(message.contains("[70000000], which takes 1120000000 bytes"), "{message}");
            #[cfg(feature = "rayon")]
            assert_eq!(panics(|| a.blocks().parallel(true).sum_axis(Axis(0))), message);
        })
        .after(MEMORY)
        .run()
        .succeeded();
    }

    #[test]
    fn what_holds_nothing_takes_no_memory_whatever_its_shape() {
        in_child!(|| {
            let folder = tempfile::tempdir().unwrap();
            for (shape, axis, _) in of_nothing() {
                for f_order in [false, true] {
                    let a = header_alone(folder.path(), &shape, f_order);
                    let pass = || a.blocks().rows(3);
                    assert_eq!((pass().into_iter().len(), a.blocks().bytes(0).into_iter().count()), (0, 0));
                    assert_eq!((pass().sum(), pass().mean(), pass().var(0), pass().std(0)), (0, None, None, None));
                    assert_eq!((pass().min_max(), pass().fold(7, |n, _| n + 1)), (None, 7));
                    pass().for_each(|_| unreachable!());

                    let gathered = a.gather(Axis(1 - axis.min(1)), &[5, 5]).unwrap();
                    assert_eq!((gathered.len(), gathered.ndim()), (0, shape.len()));
                    assert_eq!(a.gather(Axis(axis), &[]).unwrap().shape(), shape);
                    expect_err(a.gather(Axis(axis), &[0]), ErrorKind::InvalidInput);

                    for order in [false, true] {
                        let mut out = MmapArrayMut::<u8>::scratch(IxDyn(&shape).set_f(order)).unwrap();
                        pass().map_into(&mut out, |_| unreachable!()).unwrap();
                        pass().zip_map_into(&a, &mut out, |_, _| unreachable!()).unwrap();
                        out.assign_tiled(&a).unwrap();
                        out.tiled().progress(|_, _| ()).assign_with(&a, |&x| x).unwrap();
                        out.blocks_mut().for_each(|_| unreachable!()).unwrap();
                        assert_eq!(out.blocks_mut().into_iter().len(), 0);
                    }
                    assert!(format!("{a}").len() < 200 && format!("{a:?} {:?}", a.blocks()).len() < 500);
                    assert_eq!(MmapArray::<u8>::load_npy(a.path().unwrap()).unwrap().shape(), shape);
                }
            }
        })
        .after(MEMORY)
        .run()
        .succeeded();
    }

    #[test]
    fn a_block_too_large_for_memory_is_an_error_and_no_abort() {
        in_child!(|| {
            let folder = tempfile::tempdir().unwrap();
            let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
            crate::support::arrays::sparse(&from, 800_000_000);
            crate::support::arrays::sparse(&to, 800_000_000);
            let a = MmapArray::<u8>::options().opened(&from).unwrap();
            let mut out = MmapArrayMut::<u8>::options().opened(&to).unwrap();
            let e = expect_io_err(a.blocks().rows(usize::MAX).map_into(&mut out, |x| x), io::ErrorKind::OutOfMemory);
            assert_eq!(e.path(), Some(to.as_path()));
        })
        .after(MEMORY)
        .run()
        .succeeded();
    }
}
