//! The directory of an archive: which members it has, and where each is said to be.

use std::cell::Cell;
use std::io;
use std::ops::Range;

use rawzip::{MAX_CENTRAL_DIRECTORY_RECORD_SIZE, ReaderAt, ZipFileHeaderRecord, ZipLocator};

use super::end::{End, LEN as END_LEN};
use super::name;
use crate::error::{Error, Result, error, shorten};
use crate::file::ArrayFile;
use crate::sys::memory::vec_with_room;

/// A comment may follow the last record.
const LONGEST_COMMENT: u64 = u16::MAX as u64;

/// The shortest record of a member.
const SHORTEST_RECORD: u64 = 46;

/// More than the library asks for.
const SMALLEST_BUFFER: usize = 1024;

/// The flag of a name in UTF-8.
pub(super) const UTF8: u16 = 1 << 11;

/// Takes memory in proportion to the directory in the file.
#[derive(Debug)]
pub(crate) struct Directory {
    /// One after the other.
    names: String,
    /// In the archive's order.
    members: Vec<Member>,
    /// Indices of members, by name.
    by_name: Vec<usize>,
}

/// What the directory says of one member.
#[derive(Clone, Debug)]
pub(super) struct Member {
    name: Range<usize>,
    /// Where its local header starts.
    pub(super) start: u64,
    /// Where the next member starts, or the directory: header and data must end before that.
    pub(super) limit: u64,
    /// In the archive.
    pub(super) packed: u64,
    /// Uncompressed.
    pub(super) size: u64,
    pub(super) crc: u32,
    pub(super) method: u16,
    pub(super) flags: u16,
}

impl Directory {
    /// # Errors
    /// `InvalidHeader` for a file that is no zip archive, or whose directory is damaged; `Unsupported` for one of several
    /// parts; `Io`.
    pub(crate) fn read(file: &ArrayFile) -> Result<Self> {
        let source = Source { file, failed: Cell::new(None) };
        let directory = Self::read_from(&source);
        // The library takes a failed read for an archive of another form, or for a damaged one.
        source.failed.take().map_or(directory, Err)
    }

    fn read_from(source: &Source<'_>) -> Result<Self> {
        let file = source.file;
        // Has room for any record, or for all of the file.
        let most = MAX_CENTRAL_DIRECTORY_RECORD_SIZE;
        let room = usize::try_from(file.len()).unwrap_or(most).clamp(SMALLEST_BUFFER, most);
        let mut buffer = vec_with_room(room).map_err(out_of_memory)?;
        buffer.resize(room, 0);
        let archive = ZipLocator::new()
            .max_search_space(END_LEN as u64 + LONGEST_COMMENT)
            .locate_in_reader(source, &mut buffer, file.len())
            .map_err(|(_, e)| no_archive(file, e))?;
        let start = archive.directory_offset();
        let end = End::read(file, archive.eocd_offset())?;
        let mut directory = Self { names: String::new(), members: Vec::new(), by_name: Vec::new() };
        if end.is_of_nothing() {
            return Ok(directory);
        }
        end.confirm(start)?;
        if end.members <= (end.start - start) / SHORTEST_RECORD {
            let count = usize::try_from(end.members).unwrap_or(usize::MAX);
            directory.members.try_reserve_exact(count).map_err(out_of_memory)?;
        }
        let mut records = archive.entries(&mut buffer);
        let mut records_end = start;
        while let Some(record) = records.next_entry().map_err(|e| damaged(&e))? {
            records_end = directory.add(&record)?;
        }
        let found = directory.members.len();
        if records_end != end.start || found as u64 != end.members {
            return Err(error!(
                InvalidHeader,
                "the zip archive's directory ends at byte {} and should have {} members, but {found} were found, up to byte \
                 {records_end}",
                end.start,
                end.members
            ));
        }
        directory.index(start)?;
        Ok(directory)
    }

    /// Returns where the record ends in the file.
    fn add(&mut self, record: &ZipFileHeaderRecord<'_>) -> Result<u64> {
        let (flags, path) = (record.flags().bits(), record.file_path());
        let (in_file, extra) = (path.as_bytes(), record.extra_fields().remaining_bytes());
        let text = name::decode(in_file, flags & UTF8 != 0)?;
        self.names.try_reserve(text.len()).map_err(out_of_memory)?;
        self.members.try_reserve(1).map_err(out_of_memory)?;
        let start = self.names.len();
        self.names.push_str(&text);
        self.members.push(Member {
            name: start..self.names.len(),
            start: record.local_header_offset(),
            limit: 0,
            packed: record.compressed_size_hint(),
            size: record.uncompressed_size_hint(),
            crc: record.crc32(),
            method: record.compression_method().as_u16(),
            flags,
        });
        let parts = in_file.len() + extra.len() + record.comment().as_bytes().len();
        Ok(record.central_directory_offset() + SHORTEST_RECORD + parts as u64)
    }

    /// Sorts the names, and finds where each member must end.
    fn index(&mut self, directory_start: u64) -> Result<()> {
        let order = || -> Result<Vec<usize>> {
            let mut order = vec_with_room(self.members.len()).map_err(out_of_memory)?;
            order.extend(0..self.members.len());
            Ok(order)
        };
        let (mut by_name, mut by_start) = (order()?, order()?);
        by_name.sort_unstable_by_key(|&i| self.name(&self.members[i]));
        by_start.sort_unstable_by_key(|&i| self.members[i].start);
        self.by_name = by_name;
        let mut limit = directory_start;
        for &i in by_start.iter().rev() {
            let member = &mut self.members[i];
            member.limit = limit;
            limit = limit.min(member.start);
        }
        // Of two that start together, neither is what the other says.
        for pair in by_start.windows(2) {
            if self.members[pair[0]].start == self.members[pair[1]].start {
                self.members[pair[1]].limit = self.members[pair[0]].limit;
            }
        }
        Ok(())
    }

    pub(super) fn name(&self, member: &Member) -> &str {
        &self.names[member.name.clone()]
    }

    /// In the archive's order.
    pub(super) fn member_names(&self) -> impl ExactSizeIterator<Item = &str> + DoubleEndedIterator + Clone {
        self.members.iter().map(|member| self.name(member))
    }

    /// The member of this name, or else the one of this name and `.npy`, as in NumPy.
    ///
    /// # Errors
    /// `InvalidInput` for a name that the archive does not have, `InvalidHeader` for one that it has twice.
    pub(super) fn find(&self, name: &str) -> Result<&Member> {
        if let Some(member) = self.find_member(name)? {
            return Ok(member);
        }
        self.find_member(&format!("{name}{}", name::SUFFIX))?.ok_or_else(|| self.unknown(name))
    }

    fn find_member(&self, name: &str) -> Result<Option<&Member>> {
        let named = |i: usize| self.name(&self.members[i]);
        let first = self.by_name.partition_point(|&i| named(i) < name);
        let alike = self.by_name[first..].iter().take_while(|&&i| named(i) == name).take(2).count();
        match alike {
            0 => Ok(None),
            1 => Ok(Some(&self.members[self.by_name[first]])),
            _ => Err(error!(InvalidHeader, "the archive has more than one member `{}`", shorten(name))),
        }
    }

    fn unknown(&self, name: &str) -> Error {
        /// Enough to see what the names are like.
        const SHOWN: usize = 5;
        let mut names = self.member_names();
        let shown: Vec<_> =
            names.by_ref().take(SHOWN).map(|name| format!("`{}`", shorten(name::of_array(name)))).collect();
        let more = match names.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let has = if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") + &more };
        error!(InvalidInput, "the archive has no array `{}`; it has {has}", shorten(name))
    }
}

/// The file, for the library to read from.
struct Source<'a> {
    file: &'a ArrayFile,
    failed: Cell<Option<Error>>,
}

impl ReaderAt for Source<'_> {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        // A damaged archive may name any offset, and the system refuses some of them.
        if offset >= self.file.len() {
            return Ok(0);
        }
        self.file.read_at(bytes, offset).map_err(|e| {
            self.failed.set(Some(e));
            io::ErrorKind::Other.into()
        })
    }
}

pub(super) fn out_of_memory<E>(_: E) -> Error {
    Error::io("cannot allocate memory to read the zip archive", io::ErrorKind::OutOfMemory.into())
}

/// Of a file without a directory.
fn no_archive(file: &ArrayFile, e: rawzip::Error) -> Error {
    if !matches!(e.kind(), rawzip::ErrorKind::MissingEndOfCentralDirectory) {
        return damaged(&e);
    }
    let mut first = [0; 4];
    match file.read_at(&mut first, 0) {
        Err(e) => e,
        Ok(_) if first == *b"PK\x03\x04" => error!(
            InvalidHeader,
            "the zip archive has no directory at its end: it was cut short, or is still being written (file is {} bytes)",
            file.len()
        ),
        Ok(_) => {
            error!(
                InvalidHeader,
                "expected a zip archive, as a `.npz` file is one, but the file has no directory at its end"
            )
        }
    }
}

fn damaged(e: &rawzip::Error) -> Error {
    error!(InvalidHeader, "the zip archive's directory is damaged: {}", e.to_string().to_lowercase())
}
