//! One member of an archive: where its bytes are, by its local header, and whether they can be read.

use rawzip::extra_fields::{ExtraFieldId, ExtraFields};

use super::directory::{Directory, Member, UTF8};
use super::end::{u16_at, u32_at, u64_at};
use super::name;
use super::reader::MemberReader;
use crate::error::{Error, Result, error, shorten};
use crate::file::ArrayFile;
use crate::npy::Header;

const LOCAL_HEADER: usize = 30;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

const ENCRYPTED: u16 = 1;
/// Sizes and checksum follow the data, so that the local header need not have them.
const DESCRIPTOR: u16 = 1 << 3;
const PATCH: u16 = 1 << 5;
const STRONG_ENCRYPTION: u16 = 1 << 6;
const MASKED: u16 = 1 << 13;
const ANY_ENCRYPTION: u16 = ENCRYPTED | STRONG_ENCRYPTION | MASKED;
const UNREADABLE: u16 = ANY_ENCRYPTION | PATCH;

/// No byte of deflated data becomes more: two bits can repeat 258 bytes.
const MOST_INFLATED: u64 = 1032;

/// A member whose local header says what the directory says.
#[derive(Debug)]
pub(crate) struct Located {
    name: String,
    /// Where its bytes start in the file, behind the local header.
    pub(super) start: u64,
    /// How many bytes it takes in the file.
    pub(super) packed: u64,
    /// Uncompressed, as it claims. Not more than `packed` can become.
    pub(super) size: u64,
    pub(super) crc: u32,
    is_stored: bool,
}

impl Member {
    /// Whether its bytes are in the file as they are.
    pub(super) fn is_stored(&self) -> bool {
        self.method == STORED && self.flags & ANY_ENCRYPTION == 0
    }

    /// Refuses what the directory alone shows to be unreadable.
    fn check(&self) -> Result<()> {
        if self.flags & ANY_ENCRYPTION != 0 {
            return Err(error!(Unsupported, "it is encrypted: extract it first"));
        }
        if self.flags & PATCH != 0 {
            return Err(error!(Unsupported, "it is a patch of another file"));
        }
        let (packed, size) = (self.packed, self.size);
        match self.method {
            STORED if packed != size => {
                Err(error!(InvalidHeader, "it is stored without compression, but {packed} bytes are to become {size}"))
            }
            DEFLATED if size > packed.saturating_mul(MOST_INFLATED) => Err(error!(
                InvalidHeader,
                "it claims that {packed} compressed bytes become {size}, more than {MOST_INFLATED} times as many"
            )),
            STORED | DEFLATED => Ok(()),
            method => {
                let named = match method {
                    9 => "deflate64",
                    12 => "bzip2",
                    14 => "lzma",
                    20 | 93 => "zstd",
                    95 => "xz",
                    99 => "AES encryption",
                    _ => {
                        return Err(error!(
                            Unsupported,
                            "its compression method {method} is unknown: extract it first"
                        ));
                    }
                };
                Err(error!(
                    Unsupported,
                    "its compression method is {method} ({named}), but only stored and deflated members can be read: extract \
                     it first"
                ))
            }
        }
    }

    /// Reads the local header, and returns where the data start.
    fn read_local_header(&self, file: &ArrayFile, name: &str) -> Result<u64> {
        let too_long = || {
            error!(
                InvalidHeader,
                "its header at byte {} and its {} bytes of data do not end before byte {}, where the next member or the \
                 directory starts",
                self.start,
                self.packed,
                self.limit
            )
        };
        let room = self.limit.checked_sub(self.start).ok_or_else(too_long)?;
        let mut fixed = [0; LOCAL_HEADER];
        if room < LOCAL_HEADER as u64 {
            return Err(too_long());
        }
        file.read_into(&mut fixed, self.start)?;
        if !fixed.starts_with(b"PK\x03\x04") {
            return Err(error!(InvalidHeader, "no member starts at byte {}, where the directory has it", self.start));
        }
        let [name_len, extra_len] = [26, 28].map(|at| usize::from(u16_at(&fixed, at)));
        let header_len = (LOCAL_HEADER + name_len + extra_len) as u64;
        if room.checked_sub(header_len).is_none_or(|room| room < self.packed) {
            return Err(too_long());
        }
        let mut rest = vec![0; name_len + extra_len];
        file.read_into(&mut rest, self.start + LOCAL_HEADER as u64)?;
        let (local_name, extra) = rest.split_at(name_len);
        self.compare(&fixed, local_name, extra, name)?;
        Ok(self.start + header_len)
    }

    /// Refuses a local header that says something else than the directory.
    fn compare(&self, fixed: &[u8; LOCAL_HEADER], local_name: &[u8], extra: &[u8], name: &str) -> Result<()> {
        let differ = |what: &str, here: &dyn std::fmt::Display, there: &dyn std::fmt::Display| {
            error!(InvalidHeader, "its {what} is {here} in its own header, but {there} in the archive's directory")
        };
        let [flags, method] = [6, 8].map(|at| u16_at(fixed, at));
        let local_name = name::decode(local_name, flags & UTF8 != 0)?;
        if local_name != name {
            return Err(differ("name", &shorten(&local_name), &shorten(name)));
        }
        if method != self.method {
            return Err(differ("compression method", &method, &self.method));
        }
        let (own, listed) = (flags & UNREADABLE, self.flags & UNREADABLE);
        if own != listed {
            return Err(differ("word of flags", &own, &listed));
        }
        let (packed, size) = sizes(fixed, extra);
        let crc = u32_at(fixed, 14);
        // A writer that could not go back has written zeros here.
        let is_unknown = |number: u64| flags & DESCRIPTOR != 0 && number == 0;
        for (what, own, listed) in [
            ("checksum", u64::from(crc), u64::from(self.crc)),
            ("compressed size", packed, self.packed),
            ("size", size, self.size),
        ] {
            if own != listed && !is_unknown(own) {
                return Err(differ(what, &own, &listed));
            }
        }
        Ok(())
    }
}

/// The compressed and the uncompressed size of a local header.
fn sizes(fixed: &[u8; LOCAL_HEADER], extra: &[u8]) -> (u64, u64) {
    let [packed, size] = [18, 22].map(|at| u32_at(fixed, at));
    let long = ExtraFields::new(extra).find(|(id, _)| *id == ExtraFieldId::ZIP64).map_or(&[][..], |(_, data)| data);
    let (size, used) = if size == u32::MAX { (u64_at(long, 0), 8) } else { (size.into(), 0) };
    let packed = if packed == u32::MAX { u64_at(long, used) } else { packed.into() };
    (packed, size)
}

impl Directory {
    /// Finds a member by the name of its array, or its own.
    ///
    /// # Errors
    /// `InvalidInput` for an unknown name; `Unsupported`, `InvalidHeader`, `Io`, of which the message names the member.
    pub(crate) fn locate(&self, file: &ArrayFile, name: &str) -> Result<Located> {
        let member = self.find(name)?;
        let name = self.name(member);
        let located = member.check().and_then(|()| {
            let start = member.read_local_header(file, name)?;
            let Member { packed, size, crc, .. } = *member;
            Ok(Located { name: name.to_owned(), start, packed, size, crc, is_stored: member.is_stored() })
        });
        located.map_err(|e| e.of_member(name))
    }
}

impl Located {
    /// Refuses a member whose bytes are not in the file as they are.
    ///
    /// # Errors
    /// `Unsupported`.
    pub(crate) fn check_stored(&self) -> Result<()> {
        if !self.is_stored {
            return Err(error!(Unsupported, "it is compressed, and cannot be mapped: use `load_npz` for a copy"));
        }
        Ok(())
    }

    pub(crate) fn is_stored(&self) -> bool {
        self.is_stored
    }

    /// Where its bytes, or the compressed ones, start in the file.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Refuses a member that is not as long as the array in it.
    ///
    /// # Errors
    /// `TooShort`, `InvalidHeader`.
    pub(crate) fn check_array(&self, header: &Header, bytes: usize) -> Result<()> {
        let (size, end) = (self.size, header.data_offset().saturating_add(bytes as u64));
        if size < end {
            return Err(error!(TooShort, "it is {size} bytes, but its array ({header}) needs {end}"));
        }
        if size > end {
            return Err(error!(InvalidHeader, "it is {size} bytes, but its array ({header}) ends at byte {end}"));
        }
        Ok(())
    }

    pub(crate) fn reader<'a>(&'a self, file: &'a ArrayFile) -> Result<MemberReader<'a>> {
        MemberReader::new(file, self)
    }

    /// Names the member in an error.
    pub(crate) fn named(&self, error: Error) -> Error {
        error.of_member(&self.name)
    }
}
