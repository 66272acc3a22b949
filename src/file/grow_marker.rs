//! A mark on a `.npy` file that is growing. It distinguishes bytes that a killed append left behind from bytes that another
//! process put there.
//!
//! It states how far the growth goes, and from which header on. Beside another header, and on a copy of the file, it means
//! nothing. It is an extended attribute, so that the file contains only bytes that NumPy would have written.

use std::fs::File;
use std::io;
use std::time::SystemTime;

use crate::sys;

const NAME: &str = "user.ndarray-mmap.growing";

/// The mark is a text such as `1 4096 0123456789abcdef`: the version of this format, the length in bytes that the file was
/// to reach, and the [`fingerprint`] of what it grew from. It is short enough for ext4 to store it in the inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    reach: u64,
    from: u64,
}

impl Mark {
    fn to_text(self) -> String {
        format!("1 {} {:016x}", self.reach, self.from)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.strip_prefix("1 ")?.split(' ');
        let (reach, from) = (words.next()?, words.next()?);
        let mark = Self { reach: reach.parse().ok()?, from: u64::from_str_radix(from, 16).ok()? };
        (mark.to_text() == text).then_some(mark)
    }
}

/// Distinguishes a file from all others that exist or existed, and from its copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    inode: u64,
    /// In nanoseconds since 1970; 0 if the file system does not record it.
    created: u128,
}

impl Identity {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let created = metadata.created().ok().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        let inode = sys::file_id(&metadata).map_or(0, |(_, inode)| inode);
        Ok(Self { inode, created: created.map_or(0, |since| since.as_nanos()) })
    }
}

/// Identifies one file with one header. (No other file, and not this one with another header, has the same by accident.)
fn fingerprint(file: Identity, header: &[u8]) -> u64 {
    let parts = [&file.inode.to_le_bytes()[..], &file.created.to_le_bytes(), header];
    // FNV-1a (Fowler, Noll, Vo) of 64 bits: short, and the same in every version of every program. The standard library's
    // hashers may change.
    parts
        .into_iter()
        .flatten()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// Sets the mark. On a file system without attributes there is none, and then the remains of a killed growth cannot be told
/// from what others have added.
pub(super) fn mark(file: &File, identity: Identity, header: &[u8], reach: u64) {
    let text = Mark { reach, from: fingerprint(identity, header) }.to_text();
    let _ = sys::set_attribute(file, NAME, text.as_bytes());
}

/// Returns whether it removed the mark.
pub(super) fn unmark(file: &File) -> bool {
    sys::remove_attribute(file, NAME).is_ok_and(|was_set| was_set)
}

pub(super) fn is_marked(file: &File) -> bool {
    !matches!(read(file), Ok(None))
}

/// Returns how far a growth was to reach that started from this very file with this header.
pub(super) fn reach(file: &File, header: &[u8]) -> io::Result<Option<u64>> {
    let Some(mark) = read(file)? else { return Ok(None) };
    Ok((mark.from == fingerprint(Identity::of(file)?, header)).then_some(mark.reach))
}

/// `None` also for a mark in another format.
fn read(file: &File) -> io::Result<Option<Mark>> {
    match sys::attribute(file, NAME) {
        Ok(text) => Ok(text.and_then(|text| Mark::parse(std::str::from_utf8(&text).ok()?))),
        Err(e) if sys::is_disk_error(&e) => Err(e),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_and_nothing_else_is_one() {
        for mark in
            [Mark { reach: 0, from: 0 }, Mark { reach: u64::MAX, from: u64::MAX }, Mark { reach: 4096, from: 1 }]
        {
            assert_eq!(Mark::parse(&mark.to_text()), Some(mark));
            assert!(mark.to_text().len() <= 48);
        }
        for text in [
            "",
            "1",
            "1 ",
            "1 5",
            "1 5 zz",
            "2 5 0000000000000001",
            "1 5 1",
            "1 +5 0000000000000001",
            "1 5 0000000000000001 ",
        ] {
            assert_eq!(Mark::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_mark_is_worth_nothing_beside_another_header_or_in_a_copy() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        std::fs::write(path("a"), b"x").unwrap();
        std::fs::write(path("b"), b"x").unwrap();
        let [a, b] = ["a", "b"].map(|name| Identity::of(&File::open(path(name)).unwrap()).unwrap());
        let are_different = sys::file_id(&std::fs::metadata(path("a")).unwrap()).is_some();
        assert_eq!(fingerprint(a, b"header"), fingerprint(a, b"header"));
        assert_ne!(fingerprint(a, b"header"), fingerprint(a, b"Header"));
        assert_eq!(fingerprint(a, b"header") == fingerprint(b, b"header"), !are_different);
    }
}
