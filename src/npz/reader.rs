//! The bytes of a member in order, uncompressed and summed up.

use std::io;

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::directory::out_of_memory;
use super::member::Located;
use crate::error::{Error, Result, error};
use crate::file::ArrayFile;
use crate::npy::{Header, Preamble};
use crate::sys::memory::vec_with_room;

/// How much is read of the file at a time, of compressed data.
const BUFFER: usize = 64 * 1024;

/// Most headers are no longer.
const COMMON_HEADER_LEN: u64 = 128;

/// Reads one member from its start to its end.
pub(crate) struct MemberReader<'a> {
    file: &'a ArrayFile,
    member: &'a Located,
    /// Where the next byte of the file is that was not read.
    at: u64,
    /// How many bytes were read, uncompressed.
    read: u64,
    /// The last of them, which were not handed out yet.
    ahead: Vec<u8>,
    inflating: Option<Inflating>,
    crc: Crc,
}

struct Inflating {
    state: Decompress,
    buffer: Vec<u8>,
    /// How many bytes of the buffer were read, and used.
    len: usize,
    used: usize,
    ended: bool,
}

impl<'a> MemberReader<'a> {
    pub(super) fn new(file: &'a ArrayFile, member: &'a Located) -> Result<Self> {
        let inflating = if member.is_stored() { None } else { Some(Inflating::new(member.packed)?) };
        Ok(Self { file, member, at: member.start, read: 0, ahead: Vec::new(), inflating, crc: Crc::new() })
    }

    /// Fills `bytes` with the next ones. Never asks for more than the member claims to have.
    ///
    /// # Errors
    /// `Io` (invalid data) for damaged compressed data, `TooShort` if the file was truncated.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        let (first, rest) = bytes.split_at_mut(self.ahead.len().min(bytes.len()));
        first.copy_from_slice(&self.ahead[..first.len()]);
        self.ahead.drain(..first.len());
        self.read(rest)
    }

    /// Leaves out so many bytes.
    ///
    /// # Errors
    /// Those of [`fill`](Self::fill).
    pub(crate) fn skip(&mut self, mut count: u64) -> Result<()> {
        let mut scratch = Vec::new();
        while count > 0 {
            scratch.resize(usize::try_from(count).unwrap_or(BUFFER).min(BUFFER), 0);
            self.fill(&mut scratch)?;
            count -= scratch.len() as u64;
        }
        Ok(())
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<()> {
        match &mut self.inflating {
            None => {
                self.file.read_into(bytes, self.at)?;
                self.at += bytes.len() as u64;
            }
            Some(inflating) => {
                let end = self.member.start + self.member.packed;
                let got = inflating.inflate(self.file, &mut self.at, end, bytes)?;
                if got < bytes.len() {
                    let (found, size) = (inflating.state.total_out(), self.member.size);
                    return Err(invalid_data(format!("its compressed data end after {found} of {size} bytes")));
                }
            }
        }
        self.crc.update(bytes);
        self.read += bytes.len() as u64;
        Ok(())
    }

    /// The `.npy` header that the member starts with. What is handed out next are the bytes after it.
    ///
    /// # Errors
    /// Those of [`fill`](Self::fill), and `InvalidHeader`, also for a header of more than `cap` bytes.
    pub(crate) fn header(&mut self, cap: usize) -> Result<Header> {
        let mut bytes = vec![0; self.member.size.min(COMMON_HEADER_LEN) as usize];
        self.read(&mut bytes)?;
        let end = Preamble::parse(&bytes, cap)?.text.end;
        let most = usize::try_from(self.member.size).unwrap_or(usize::MAX);
        // By parts: the member may not have what it claims to have.
        while bytes.len() < end.min(most) {
            let start = bytes.len();
            let part = (end.min(most) - start).min(BUFFER);
            bytes.try_reserve(part).map_err(out_of_memory)?;
            bytes.resize(start + part, 0);
            self.read(&mut bytes[start..])?;
        }
        let header = Header::from_bytes_with_limit(&bytes, cap)?;
        self.ahead = bytes.split_off(end);
        Ok(header)
    }

    /// Reads the rest, and checks that the member is as it was written.
    ///
    /// # Errors
    /// Those of [`fill`](Self::fill).
    pub(crate) fn finish(mut self) -> Result<()> {
        self.skip(self.ahead.len() as u64 + (self.member.size - self.read))?;
        if let Some(inflating) = &mut self.inflating {
            let end = self.member.start + self.member.packed;
            if !inflating.ended && inflating.inflate(self.file, &mut self.at, end, &mut [0])? > 0 {
                let size = self.member.size;
                return Err(invalid_data(format!("its compressed data become more than the {size} bytes it claims")));
            }
            let left = end - self.at + (inflating.len - inflating.used) as u64;
            if left > 0 {
                return Err(invalid_data(format!("its compressed data end {left} bytes before the member does")));
            }
        }
        let (found, expected) = (self.crc.sum(), self.member.crc);
        if found != expected {
            return Err(invalid_data(format!(
                "its checksum is {found:08x}, but should be {expected:08x}: the archive is damaged"
            )));
        }
        Ok(())
    }
}

impl Inflating {
    fn new(packed: u64) -> Result<Self> {
        let room = usize::try_from(packed).unwrap_or(BUFFER).min(BUFFER);
        let mut buffer = vec_with_room(room).map_err(out_of_memory)?;
        buffer.resize(room, 0);
        Ok(Self { state: Decompress::new(false), buffer, len: 0, used: 0, ended: false })
    }

    /// Fills `bytes`, or as many of them as there are. Reads the file from `at` to `end`.
    fn inflate(&mut self, file: &ArrayFile, at: &mut u64, end: u64, bytes: &mut [u8]) -> Result<usize> {
        let mut got = 0;
        while got < bytes.len() && !self.ended {
            if self.used == self.len {
                self.len = usize::try_from(end - *at).unwrap_or(usize::MAX).min(self.buffer.len());
                self.used = 0;
                file.read_into(&mut self.buffer[..self.len], *at)?;
                *at += self.len as u64;
            }
            let (read, made) = (self.state.total_in(), self.state.total_out());
            let input = &self.buffer[self.used..self.len];
            let status = self.state.decompress(input, &mut bytes[got..], FlushDecompress::None);
            let status = status.map_err(|_| invalid_data("its compressed data are damaged".to_owned()))?;
            let (read, made) = (self.state.total_in() - read, self.state.total_out() - made);
            self.used += read as usize;
            got += made as usize;
            self.ended = status == Status::StreamEnd;
            if read == 0 && made == 0 && !self.ended {
                return Err(invalid_data("its compressed data are cut short".to_owned()));
            }
        }
        Ok(got)
    }
}

fn invalid_data(message: String) -> Error {
    error!(Io, "{message}").with_source(io::ErrorKind::InvalidData.into())
}
