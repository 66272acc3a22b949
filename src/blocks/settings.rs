//! The settings of a pass over blocks.

use ndarray::Dimension;

use super::partition::BlockSize;
use super::{Blocks, BlocksBase};

impl<A, D: Dimension> Blocks<'_, A, D> {
    /// Whether NaN is left out: by [`sum`](Self::sum), [`mean`](Self::mean), [`var`](Self::var), [`std`](Self::std),
    /// [`min_max`](Self::min_max), and these along an axis. They are then NumPy's `nansum`, `nanmean` and so on. Default: no.
    ///
    /// Where there are no numbers the sum is 0; the mean, the variance, the smallest and the largest are `None`, and along an
    /// axis NaN. A complex number is left out if one of its parts is NaN. [`NAT`](crate::Datetime64::NAT) is not: it is a value like any
    /// other here. Has no effect on other operations.
    ///
    /// ```
    /// use ndarray::{Axis, arr1, array};
    /// use ndarray_mmap::MmapArrayMut;
    ///
    /// let mut a = MmapArrayMut::<f32>::scratch((2, 2))?;
    /// a.assign(&array![[1.0, f32::NAN], [3.0, 8.0]]);
    /// assert_eq!(a.blocks().skip_nan(true).mean(), Some(4.0));
    /// assert_eq!(a.blocks().skip_nan(true).min_max(), Some((1.0, 8.0)));
    /// assert_eq!(a.blocks().skip_nan(true).mean_axis(Axis(0)), Some(arr1(&[2.0, 8.0])));
    /// assert!(a.blocks().mean().unwrap().is_nan());
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn skip_nan(mut self, skip: bool) -> Self {
        self.skip_nan = skip;
        self
    }
}

impl<'a, D: Dimension, E> BlocksBase<'a, D, E> {
    /// The largest size of a block in bytes. A block has at least one element, also if that is larger. Replaces
    /// [`rows`](Self::rows). Default: 4 MiB.
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.size = Some(BlockSize::Bytes(bytes));
        self
    }

    /// The number of rows of a block (0 counts as 1), however large; the last block has the rest. Replaces
    /// [`bytes`](Self::bytes).
    ///
    /// Arrays of the same shape and order have the same blocks if they are given the same rows, whatever their
    /// elements: so they can be zipped.
    ///
    /// ```
    /// use ndarray_mmap::MmapArrayMut;
    ///
    /// let prices = MmapArrayMut::<f64>::scratch((1000, 4))?;
    /// let mut flags = MmapArrayMut::<u8>::scratch((1000, 4))?;
    /// for (price, mut flag) in prices.blocks().rows(64).into_iter().zip(flags.blocks_mut().rows(64)) {
    ///     flag.zip_mut_with(&price, |f, &p| *f = (p == 0.0).into());
    /// }
    /// assert_eq!(flags.blocks().sum(), 4000);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn rows(mut self, rows: usize) -> Self {
        self.size = Some(BlockSize::Rows(rows));
        self
    }

    /// Whether pages behind the pass are evicted from this process, so that its resident set stays small. Nothing is
    /// lost: what was stored is on the disk before, and a page that is needed again comes back from the page cache, or
    /// from the file. Has no effect on copy-on-write arrays and in-memory copies, where it would lose what was stored.
    ///
    /// Default: no if all arrays of the pass together fit in half of the free memory, as the system estimates it;
    /// otherwise, and with [`keep_cached(false)`](Self::keep_cached), yes.
    pub fn evict(mut self, evict: bool) -> Self {
        self.options.evict = Some(evict);
        self
    }

    /// Whether what the pass reads or writes stays in the page cache, so that the next pass finds it there. `false`
    /// needs [`evict`](Self::evict). Three things are never dropped from the cache: what was in it before; anything if
    /// the system does not report what was in it (Linux does not for files that the process neither owns nor may write
    /// to); and what is written through a file handle of the caller's ([`map`](crate::MmapArrayOptions::map)).
    ///
    /// Default: yes if all arrays of the pass together fit in half of the free memory. Otherwise no: the end of the
    /// array would push its own beginning out of the cache, and everything else with it.
    pub fn keep_cached(mut self, keep: bool) -> Self {
        self.options.keep_cached = Some(keep);
        self
    }

    /// Calls `progress(done, total)`, in bytes, whenever a block is done. Calls never overlap, even with several threads,
    /// and `done` never decreases. (Call iterator adaptors named `progress`, such as indicatif's, after
    /// `into_iter()`.)
    pub fn progress(mut self, progress: impl FnMut(u64, u64) + Send + 'a) -> Self {
        self.options.progress = Some(Box::new(progress));
        self
    }

    /// Whether the operation uses all threads of the current rayon pool. Blocks may then be used out of order; the result is
    /// the same, to the last bit (but see [along an axis](#along-an-axis)).
    /// [`fold`](Self::fold) is always in order; to iterate in parallel, call `into_par_iter`.
    /// Default: no.
    ///
    /// Needs the feature `rayon`.
    #[cfg(feature = "rayon")]
    pub fn parallel(mut self, parallel: bool) -> Self {
        self.parallel = parallel;
        self
    }
}
