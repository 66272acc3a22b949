//! The records at the end of an archive, as far as the library leaves them unchecked: they must say of the directory what
//! was found, so that no other reader can find another directory in the same file.

use crate::error::{Result, error};
use crate::file::ArrayFile;

/// Record, then locator, then the record of archives without 64-bit fields. Python, too, finds them in these places only.
const LEN_64: usize = 56;
const LEN_LOCATOR: usize = 20;
pub(super) const LEN: usize = 22;

const SIGNATURE_64: &[u8; 4] = b"PK\x06\x06";
const SIGNATURE_LOCATOR: &[u8; 4] = b"PK\x06\x07";

/// What the last records say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct End {
    /// The number of members.
    pub(super) members: u64,
    /// The size of the directory.
    size: u64,
    /// Where it starts, counted from where the archive starts.
    offset: u64,
    /// Where these records start: the directory ends there.
    pub(super) start: u64,
}

impl End {
    /// Reads the records, of which the last is at byte `at`.
    ///
    /// # Errors
    /// `InvalidHeader`; `Unsupported` for one part of an archive in several.
    pub(super) fn read(file: &ArrayFile, at: u64) -> Result<Self> {
        let before = (LEN_64 + LEN_LOCATOR).min(usize::try_from(at).unwrap_or(usize::MAX));
        let mut bytes = [0; LEN_64 + LEN_LOCATOR + LEN];
        let bytes = &mut bytes[LEN_64 + LEN_LOCATOR - before..];
        let start = at - before as u64;
        if file.read_at(bytes, start)? < bytes.len() {
            return Err(error!(InvalidHeader, "the zip archive ends within the record at its end, at byte {at}"));
        }
        Self::parse(bytes, at)
    }

    /// Parses the last record, which is at byte `at`, and what is before it: as many bytes as the others take, if there are.
    fn parse(bytes: &[u8], at: u64) -> Result<Self> {
        let (before, last) = bytes.split_at(bytes.len() - LEN);
        let locator = before.last_chunk::<LEN_LOCATOR>().filter(|locator| locator.starts_with(SIGNATURE_LOCATOR));
        let Some(locator) = locator else {
            let [disk, directory_disk, here, members] = [4, 6, 8, 10].map(|at| u64::from(u16_at(last, at)));
            one_part(disk == 0 && directory_disk == 0 && here == members)?;
            return Ok(Self { members, size: u32_at(last, 12).into(), offset: u32_at(last, 16).into(), start: at });
        };
        let Some(record) = before
            .first_chunk::<LEN_64>()
            .filter(|record| before.len() == LEN_64 + LEN_LOCATOR && record.starts_with(SIGNATURE_64))
        else {
            return Err(error!(
                InvalidHeader,
                "the zip archive has a locator of 64-bit records before byte {at}, but no such record before that"
            ));
        };
        let [here, members, size, offset] = [24, 32, 40, 48].map(|at| u64_at(record, at));
        let disks = [u32_at(record, 16), u32_at(record, 20), u32_at(locator, 4)];
        one_part(disks == [0; 3] && u32_at(locator, 16) <= 1 && here == members)?;
        Ok(Self { members, size, offset, start: at - (LEN_64 + LEN_LOCATOR) as u64 })
    }

    /// Whether the archive has no members.
    pub(super) fn is_of_nothing(&self) -> bool {
        self.members == 0 && self.size == 0
    }

    /// Refuses a directory that was found at `start` if these records say that it is elsewhere. (It may be further behind
    /// than they say: other bytes then come before the archive.)
    pub(super) fn confirm(&self, start: u64) -> Result<()> {
        if start.checked_add(self.size) != Some(self.start) || self.offset > start {
            return Err(error!(
                InvalidHeader,
                "the zip archive's directory was found from byte {start} to {}, but should be {} bytes from byte {} on",
                self.start,
                self.size,
                self.offset
            ));
        }
        Ok(())
    }
}

fn one_part(is_one: bool) -> Result<()> {
    if !is_one {
        return Err(error!(Unsupported, "the zip archive is one of several parts: join them first"));
    }
    Ok(())
}

/// The number at an offset; 0 past the end.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |&b| u16::from_le_bytes(b))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |&b| u32::from_le_bytes(b))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |&b| u64::from_le_bytes(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// A last record: disk, disk of the directory, members here and in all, size, offset.
    fn last(disks: [u16; 2], members: [u16; 2], size: u32) -> Vec<u8> {
        let numbers = [disks[0], disks[1], members[0], members[1]].map(u16::to_le_bytes).concat();
        [&b"PK\x05\x06"[..], &numbers, &size.to_le_bytes(), &7_u32.to_le_bytes(), &[0; 2]].concat()
    }

    fn long(disks: [u32; 4], members: [u64; 2], size: u64) -> Vec<u8> {
        let record = [&SIGNATURE_64[..], &44_u64.to_le_bytes(), &[45, 0, 45, 0]].concat();
        let disks = disks.map(u32::to_le_bytes);
        let numbers = [members[0], members[1], size, 7].map(u64::to_le_bytes).concat();
        let locator = [&SIGNATURE_LOCATOR[..], &disks[2], &7_u64.to_le_bytes(), &disks[3]].concat();
        [record, disks[0].to_vec(), disks[1].to_vec(), numbers, locator, last([0xffff; 2], [0xffff; 2], u32::MAX)]
            .concat()
    }

    #[test]
    fn the_long_record_counts_where_there_is_one() {
        let short = End { members: 3, size: 200, offset: 7, start: 1000 };
        assert_eq!(End::parse(&last([0; 2], [3; 2], 200), 1000).unwrap(), short);
        assert_eq!(End::parse(&[&[1; 76][..], &last([0; 2], [3; 2], 200)].concat(), 1000).unwrap(), short);
        let end = End::parse(&long([0, 0, 0, 1], [70_000; 2], 1 << 40), 1000).unwrap();
        assert_eq!(end, End { members: 70_000, size: 1 << 40, offset: 7, start: 924 });
        // A locator, and no record before it.
        let e = End::parse(&long([0, 0, 0, 1], [3; 2], 200)[56..], 1000).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidHeader);
    }

    #[test]
    fn one_of_several_parts_is_refused() {
        for bytes in [
            last([1, 0], [3; 2], 200),
            last([0, 1], [3; 2], 200),
            last([0; 2], [2, 3], 200),
            long([1, 0, 0, 1], [3; 2], 200),
            long([0, 1, 0, 1], [3; 2], 200),
            long([0, 0, 1, 1], [3; 2], 200),
            long([0, 0, 0, 2], [3; 2], 200),
            long([0, 0, 0, 1], [2, 3], 200),
        ] {
            assert_eq!(End::parse(&bytes, 1000).unwrap_err().kind(), ErrorKind::Unsupported);
        }
    }

    #[test]
    fn a_directory_elsewhere_is_refused() {
        let end = End { members: 3, size: 200, offset: 790, start: 1000 };
        assert!(end.confirm(800).is_ok());
        assert!(End { offset: 801, ..end }.confirm(800).is_err());
        for start in [0, 799, 801, 1000, u64::MAX] {
            assert_eq!(end.confirm(start).unwrap_err().kind(), ErrorKind::InvalidHeader);
        }
    }
}
