//! Files that appear at their path atomically, when they are complete: staged arrays, and arrays that are saved.

use std::path::Path;

use bytemuck::NoUninit;
use ndarray::{ArrayRef, Axis, Dimension};

use crate::array::MmapArrayBase;
use crate::element::ElementLayout;
use crate::error::{Error, ErrorKind, Result};
use crate::file::{Destination, Lock, NotPublished, PendingFile, Published};
use crate::layout::{Alignment, Layout, Order};
use crate::mode::Staging;
use crate::npy::{ARRAY_ALIGN, EncodedHeader, NpyElement, checked_dtype};
use crate::pieces::write_pieces;

impl<A, D: Dimension> MmapArrayBase<A, D, Staging> {
    /// Flushes the array, closes it, and puts its file at its path atomically, in place of what is there; then flushes the name
    /// too. A process that opens the path at any moment finds the old file or the new one, whole. One that has the old file
    /// mapped keeps it.
    ///
    /// Symbolic links, permissions, and anything but a regular file are treated as by [`create`](MmapArrayBase::create). Some
    /// file systems make unnamed files but cannot name them; there the array is copied to a file that has a name, which
    /// takes time, and its disk space twice.
    ///
    /// # Errors
    /// Those of [`flush`](Self::flush) and of [`create`](MmapArrayBase::create). After an error
    /// the staged array is gone and the path is unchanged, unless only the final sync of the folder failed.
    pub fn publish(self) -> Result<()> {
        self.publish_by(Destination::replace, PendingFile::publish_shared)
    }

    /// Like [`publish`](Self::publish), at a path where nothing may be.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] (already exists), and those of [`publish`](Self::publish).
    pub fn publish_new(self) -> Result<()> {
        self.publish_by(Destination::vacant, PendingFile::publish_new)
    }

    fn publish_by(
        self,
        resolve: impl FnOnce(&Path) -> Result<Destination>,
        publish: impl Fn(PendingFile, Destination) -> Published,
    ) -> Result<()> {
        self.check_poison()?;
        let (Some(path), Some(mut file)) = self.into_file() else {
            return Err(Error::new(ErrorKind::Unsupported, "the array has no file to publish"));
        };
        let published = resolve(&path).and_then(|destination| {
            file.release_reserve(file.len())?;
            publish_complete(file.into_pending(), destination, publish)
        });
        published.map_err(|e| e.with_path(&path))
    }
}

/// Puts a file that is complete and locked at its path, on the disk.
fn publish_complete(
    pending: PendingFile,
    destination: Destination,
    publish: impl Fn(PendingFile, Destination) -> Published,
) -> Result<()> {
    pending.inherit(&destination)?;
    // The whole file, the header included, is on the disk before the name is.
    pending.sync()?;
    pending.share();
    let published = match publish(pending, destination.clone()) {
        Err(NotPublished::Nameless(pending, _)) => publish(pending.named_copy(&destination)?, destination),
        published => published,
    };
    published?.sync_metadata()
}

/// Writes any array to a `.npy` file, like NumPy's `np.save`, but atomically: a process that opens the path at any moment,
/// also after a kill or a power cut, finds the old file or the new one, whole. When it returns, the file is on the disk.
///
/// The file is in Fortran order if the array is, and otherwise in C order. It is the one that NumPy 2 writes, byte for byte.
/// An existing file is replaced, and its permissions kept, as by [`create`](MmapArrayBase::create); a process that has it
/// mapped keeps it, so that an array can be saved to the file that it is mapped from (not on Windows, where a mapped file
/// cannot be replaced). An array larger than memory takes none: it is read and written piece by piece. The extension `.npy` is
/// not added: the path is used as it is. Elements are those of [`NpyElement`]; convert `bool` by `mapv(Bool8::from)`.
///
/// # Errors
/// - [`ErrorKind::NotRegularFile`] if there is something other than a regular file at `path`.
/// - [`ErrorKind::Io`]: storage full, no permission ...
/// - [`ErrorKind::Unsupported`] and [`ErrorKind::DtypeMismatch`] as for
///   [`create_npy`](crate::MmapArrayOptions::create_npy).
///
/// After an error the path is unchanged, unless only the final sync of the folder failed.
///
/// ```
/// use ndarray::array;
/// use ndarray_mmap::{MmapArray, save_npy};
///
/// # let path = std::env::temp_dir().join(format!("ndarray-mmap-save-{}.npy", std::process::id()));
/// save_npy(&path, &array![[1.0, 2.0], [3.0, 4.0]])?;
/// let a = MmapArray::<f64>::load_npy(&path)?;
/// save_npy(&path, &a.t())?;
/// assert_eq!(MmapArray::<f64>::load_npy(&path)?.into_dimensionality()?, array![[1.0, 3.0], [2.0, 4.0]]);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn save_npy<P, A, D>(path: P, array: &ArrayRef<A, D>) -> Result<()>
where
    P: AsRef<Path>,
    A: NoUninit + NpyElement,
    D: Dimension,
{
    let path = path.as_ref();
    save(path, array).map_err(|e| e.with_path(path))
}

fn save<A: NoUninit + NpyElement, D: Dimension>(path: &Path, array: &ArrayRef<A, D>) -> Result<()> {
    let dtype = checked_dtype::<A>()?;
    // Elements that are arrays have no Fortran order in a `.npy` file.
    let fortran_order = !array.is_standard_layout() && array.t().is_standard_layout() && dtype.shape().is_empty();
    let (order, outermost) = match (fortran_order, array.ndim()) {
        (true, ndim) => (Order::F, ndim - 1),
        (false, _) => (Order::C, 0),
    };
    let header = EncodedHeader::format(&dtype, array.shape(), fortran_order, ARRAY_ALIGN)?;
    let start = header.bytes().len() as u64;
    let layout = Layout::new(array.raw_dim(), order, ElementLayout::of::<A>())?;
    let end = layout.span(start, Alignment::Copied)?.end();
    let destination = Destination::replace(path)?;
    let pending = PendingFile::new(&destination, end, true)?;
    // Or another process could take the file for one that was left behind.
    pending.lock(Lock::BestEffort)?;
    pending.write_at(header.bytes(), 0)?;
    write_pieces(array.view(), Axis(outermost), |bytes, at| pending.write_at(bytes, start + at as u64))?;
    publish_complete(pending, destination, PendingFile::publish_shared)
}
