//! Reads a header that a writer may be changing at the same time.

use std::io;
use std::path::Path;

use crate::error::{Error, Result, error};
use crate::file::{ArrayFile, Lock};
use crate::layout::check_offset;
use crate::mode::FileAccess;
use crate::npy::{EncodedHeader, HEADER_CAP, Header, Preamble};

/// Most headers are no longer, so that one read is enough.
const COMMON_HEADER_LEN: usize = 128;

/// How often a header is read that is never the same twice. Beside appends at full speed a few readings are enough, because
/// two readings take less time than one append. So this many differ only if something else keeps rewriting the header.
pub(super) const MOST_READS: usize = 1000;

impl Header {
    /// Reads the header of a `.npy` file, for files whose element type or shape is not known in advance. Maps nothing, and
    /// takes no lock.
    ///
    /// # Errors
    /// - [`ErrorKind::InvalidHeader`](crate::ErrorKind::InvalidHeader), also for a header longer than 10,000 bytes (for
    ///   longer ones there is [`read_with_limit`](Self::read_with_limit)).
    /// - [`ErrorKind::Io`](crate::ErrorKind::Io), [`ErrorKind::NotRegularFile`](crate::ErrorKind::NotRegularFile).
    ///
    /// ```
    /// use ndarray_mmap::{MmapArrayMut, npy::Header};
    ///
    /// # let path = std::env::temp_dir().join(format!("ndarray-mmap-header-{}.npy", std::process::id()));
    /// // SAFETY: nobody else knows this file.
    /// drop(unsafe { MmapArrayMut::<f32>::create_npy(&path, (3, 4))? });
    /// let header = Header::read(&path)?;
    /// assert_eq!((header.shape(), header.data_offset()), (&[3, 4][..], 128));
    /// assert_eq!(header.dtype().itemsize(), 4);
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read<P: AsRef<Path>>(path: P) -> Result<Self> {
        Self::read_with_limit(path, HEADER_CAP)
    }

    /// Like [`read`](Self::read), for headers of up to `max_header_size` bytes. (For arrays there is
    /// [`MmapArrayOptions::max_header_size`](crate::MmapArrayOptions::max_header_size).)
    ///
    /// # Errors
    /// Those of [`read`](Self::read); [`ErrorKind::Io`](crate::ErrorKind::Io) also if memory is exhausted.
    pub fn read_with_limit<P: AsRef<Path>>(path: P, max_header_size: usize) -> Result<Self> {
        Self::read_from(path.as_ref(), 0, max_header_size)
    }

    /// Like [`read`](Self::read), for a header that starts `offset` bytes into its file: one array after another in one
    /// file, or inside of another format. [`data_offset`](Self::data_offset) counts from the start of the header.
    ///
    /// # Errors
    /// Those of [`read`](Self::read); [`ErrorKind::TooShort`](crate::ErrorKind::TooShort) if the offset is past the end of the
    /// file.
    ///
    /// # Example: all arrays of a file, as several `np.save` to one open file write it
    /// ```
    /// use ndarray_mmap::{MmapArray, npy::{Header, NpyElement}};
    ///
    /// # let path = std::env::temp_dir().join(format!("ndarray-mmap-one-after-another-{}.npy", std::process::id()));
    /// let mut bytes = Vec::new();
    /// for n in [3, 5] {
    ///     bytes.extend(Header::builder().dtype(u8::dtype()).shape([n]).build()?.to_bytes()?);
    ///     bytes.extend(vec![n as u8; n]);
    /// }
    /// std::fs::write(&path, &bytes)?;
    ///
    /// let (mut at, mut sums) = (0, vec![]);
    /// while at < std::fs::metadata(&path)?.len() {
    ///     let header = Header::read_at(&path, at)?;
    ///     sums.push(MmapArray::<u8>::options().offset(at).load_npy(&path)?.sum());
    ///     at += header.data_offset() + header.nbytes().expect("it was loaded");
    /// }
    /// assert_eq!(sums, [9, 25]);
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read_at<P: AsRef<Path>>(path: P, offset: u64) -> Result<Self> {
        Self::read_from(path.as_ref(), offset, HEADER_CAP)
    }

    fn read_from(path: &Path, offset: u64, cap: usize) -> Result<Self> {
        check_offset(offset)
            .and_then(|()| ArrayFile::open(path, FileAccess::Read, Lock::None))
            .and_then(|mut file| Ok(read_header(&mut file, offset, cap)?.0))
            .map_err(|e| e.with_path(path))
    }
}

/// Reads the header at `offset`.
///
/// A writer may be replacing it by that of a longer array, or may have been stopped in the middle of the replacement, so
/// that two readings show the same mixture. Therefore, if the file was changed recently, the header counts only when two
/// readings agree, with any write that was going on finished in between.
pub(super) fn read_header(file: &mut ArrayFile, offset: u64, cap: usize) -> Result<(Header, EncodedHeader)> {
    if offset > file.len() {
        return Err(error!(TooShort, "file is {} bytes, but the header starts at offset {offset}", file.len()));
    }
    let first = header_bytes(file, offset, cap);
    let bytes = if file.is_quiescent()? {
        first?
    } else {
        read_until_stable(first, || {
            file.wait_for_write();
            header_bytes(file, offset, cap)
        })?
    };
    let (header, encoded) = EncodedHeader::parse(bytes, cap)?;
    Ok((header, encoded.at(offset)))
}

/// Reads until two consecutive readings agree. Two that fail agree, too.
fn read_until_stable(first: Result<Vec<u8>>, mut again: impl FnMut() -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let mut last = first;
    for _ in 0..MOST_READS {
        let next = again();
        match (&last, &next) {
            (Ok(last), Ok(next)) if last == next => {}
            (Err(_), Err(_)) => {}
            _ => {
                last = next;
                continue;
            }
        }
        return next;
    }
    Err(error!(InvalidHeader, "the header was another each of the {MOST_READS} times it was read"))
}

/// The bytes of the header: as many as its preamble says, if the file has them.
fn header_bytes(file: &ArrayFile, offset: u64, cap: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; COMMON_HEADER_LEN];
    let got = file.read_at(&mut bytes, offset)?;
    bytes.truncate(got);
    let preamble = Preamble::parse(&bytes, cap)?;
    // Allocates no more than the file has, whatever length the header claims.
    let rest = usize::try_from(file.len().saturating_sub(offset)).unwrap_or(usize::MAX);
    let end = preamble.text.end.min(rest.max(got));
    if end > got && got == COMMON_HEADER_LEN {
        let out_of_memory = |_| Error::io("cannot allocate memory for the header", io::ErrorKind::OutOfMemory.into());
        bytes.try_reserve_exact(end - bytes.len()).map_err(out_of_memory)?;
        bytes.resize(end, 0);
        // Reads the first bytes again, so that all are from one moment.
        let got = file.read_at(&mut bytes, offset)?;
        bytes.truncate(got);
    }
    bytes.truncate(end);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_header_counts_once_two_readings_agree() {
        let bytes = |state: &str| match state {
            "none" => Err(Error::new(ErrorKind::InvalidHeader, "torn")),
            state => Ok(state.as_bytes().to_vec()),
        };
        let read = |states: &[&str]| {
            let mut rest = states[1..].iter();
            let stable = read_until_stable(bytes(states[0]), || bytes(rest.next().expect("read too often")));
            assert_eq!(rest.len(), 0, "read too seldom");
            stable
        };
        assert_eq!(read(&["old", "old"]).unwrap(), b"old");
        assert_eq!(read(&["old", "nld", "new", "new"]).unwrap(), b"new");
        assert_eq!(read(&["old", "new", "old", "new", "newer", "newer"]).unwrap(), b"newer");
        assert_eq!(read(&["none", "old", "none", "new", "new"]).unwrap(), b"new");
        assert_eq!(read(&["none", "none"]).unwrap_err().to_string(), "torn");
        let mut n = 0_u64;
        let counting = read_until_stable(bytes("0"), || {
            n += 1;
            Ok(n.to_ne_bytes().to_vec())
        });
        assert_eq!(counting.unwrap_err().kind(), ErrorKind::InvalidHeader);
    }
}
