//! Stands in for `fault` on systems that do not report missing pages by signals: guarded calls are plain calls.
//!
//! # Safety
//! Nothing here is unsafe: the one `unsafe fn` has the demands of that of `fault`, and needs none of them.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use crate::mode::FileAccess;

#[derive(Debug)]
pub(crate) struct FaultHandle;

#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "the fields are for systems with such signals")]
pub(crate) struct MappedFile<'a> {
    pub(crate) file: &'a File,
    pub(crate) offset: u64,
    pub(crate) truncatable: bool,
}

impl FaultHandle {
    pub(crate) fn new(_: FileAccess) -> Self {
        Self
    }

    pub(crate) unsafe fn enter(&self, _: *const u8, _: usize, _: MappedFile<'_>) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn faulted(&self) -> bool {
        false
    }

    pub(crate) fn unless_faulted<R>(&self, _: *const u8, _: usize, f: impl FnOnce() -> R) -> Option<R> {
        Some(f())
    }

    pub(crate) fn reset(&mut self) {}
}
