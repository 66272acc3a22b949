//! A mark on a `.npy` file that is growing: by it, what a killed append left behind is told from what somebody else put
//! there.
//!
//! It says how far the growth goes, and from which header on; it is worth nothing beside another header, and for a copy of the
//! file. It is an attribute, so that no byte of the file says more than NumPy would have written.

use std::fs::{File, Metadata};
use std::io;
use std::time::SystemTime;

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
const NAME: &str = "user.ndarray-mmap.growing";

/// What is in the mark, as text: `1 4096 0123456789abcdef`, that is the version of this format, the length in bytes that
/// the file was to reach, and what it grew [`from`](fingerprint). No longer than what ext4 keeps beside an inode.
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

/// What tells a file from all others that there are or were, and from its copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    inode: u64,
    /// In nanoseconds, where the file system says it.
    created: u128,
}

impl Identity {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let created = metadata.created().ok().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        Ok(Self { inode: inode(&metadata), created: created.map_or(0, |since| since.as_nanos()) })
    }
}

/// Of one file with one header. (No other file, and not this one with another header, has the same by accident.)
fn fingerprint(file: Identity, header: &[u8]) -> u64 {
    let parts = [&file.inode.to_le_bytes()[..], &file.created.to_le_bytes(), header];
    // The 64 bits of FNV-1a (Fowler, Noll, Vo): short, and the same in every version of every program.
    parts
        .into_iter()
        .flatten()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(unix)]
fn inode(file: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(file)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}

/// Where there are no attributes, nothing will be told apart.
pub(super) fn mark(file: &File, identity: Identity, header: &[u8], reach: u64) {
    let text = Mark { reach, from: fingerprint(identity, header) }.to_text();
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    let _ = rustix::fs::fsetxattr(file, NAME, text.as_bytes(), rustix::fs::XattrFlags::empty());
    let _ = (file, text);
}

/// Whether it is gone.
pub(super) fn unmark(file: &File) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    return rustix::fs::fremovexattr(file, NAME).is_ok();
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    {
        let _ = file;
        true
    }
}

pub(super) fn is_marked(file: &File) -> bool {
    !matches!(read(file), Ok(None))
}

/// How far a growth was to reach that started from this very file with this header.
pub(super) fn reach(file: &File, header: &[u8]) -> io::Result<Option<u64>> {
    let Some(mark) = read(file)? else { return Ok(None) };
    Ok((mark.from == fingerprint(Identity::of(file)?, header)).then_some(mark.reach))
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn read(file: &File) -> io::Result<Option<Mark>> {
    let mut text = [0_u8; 64];
    match rustix::fs::fgetxattr(file, NAME, &mut text) {
        Ok(len) => Ok(std::str::from_utf8(&text[..len]).ok().and_then(Mark::parse)),
        Err(rustix::io::Errno::IO) => Err(rustix::io::Errno::IO.into()),
        // There is none, or nothing of ours, or none can be had.
        Err(_) => Ok(None),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn read(_: &File) -> io::Result<Option<Mark>> {
    Ok(Mark::parse(""))
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
        assert_eq!(fingerprint(a, b"header"), fingerprint(a, b"header"));
        assert_ne!(fingerprint(a, b"header"), fingerprint(a, b"Header"));
        #[cfg(unix)]
        assert_ne!(fingerprint(a, b"header"), fingerprint(b, b"header"));
        let _ = b;
    }
}
