//! What a fault replaces, in the signal handler.
//!
//! # Safety
//! Those of [`fault`](super). By demands 1 and 5, the pages of a slot of which a guarded call is running belong to the thread
//! that holds the right to replace them.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::replacing::Replacing;
use super::slot::{Mapped, Slot};
use crate::mode::FileAccess;
use crate::sys::pages::{self, Pages, file_len, is_readable};

impl Slot {
    /// Returns whether the instruction that faulted can be executed again. `mapped` is this slot's. `broken`: the memory
    /// itself is broken, and what was in it is lost.
    pub(super) fn handle(&self, mapped: Mapped, address: usize, broken: bool) -> bool {
        let _replacing = Replacing::acquire(&self.replacing);
        let page = mapped.pages.page_of(address);
        if self.all_replaced.load(Ordering::Relaxed) {
            return !broken || replace_by_zeros(page);
        }
        let replaced = if self.is_truncated() {
            replace_by_zeros(mapped.pages) && set(&self.all_replaced)
        } else if self.stores_reach_file(mapped) && self.map_privately(mapped) {
            set(&self.is_private)
        } else {
            self.replace_page(mapped, page, broken)
        };
        if replaced {
            self.faulted.store(true, Ordering::Release);
        }
        replaced
    }

    /// Whether the file is shorter than the mapping. If the system does not report its length, it is taken to be whole.
    fn is_truncated(&self) -> bool {
        let is_short = |len| len < self.end_in_file.load(Ordering::Relaxed);
        self.truncatable.load(Ordering::Relaxed) && file_len(self.file.load(Ordering::Relaxed)).is_some_and(is_short)
    }

    fn stores_reach_file(&self, mapped: Mapped) -> bool {
        mapped.access == FileAccess::ReadWrite && !self.is_private.load(Ordering::Relaxed)
    }

    fn map_privately(&self, mapped: Mapped) -> bool {
        let (file, end) = (self.file.load(Ordering::Relaxed), self.end_in_file.load(Ordering::Relaxed));
        // SAFETY: (1), (5), (6); (4) and the bytes stay.
        unsafe { pages::replace_by_private_map(mapped.pages, file, end) }
    }

    fn replace_page(&self, mapped: Mapped, page: Pages, broken: bool) -> bool {
        let Some(bits) = self.replaced.get(mapped.pages.count().div_ceil(8)) else { return false };
        let number = (page.start - mapped.pages.start) / page.len();
        let (byte, bit) = (bits.cast::<AtomicU8>().wrapping_add(number / 8), 1 << (number % 8));
        // SAFETY: there is a bit for each page of the mapping, eight to a byte.
        let byte = unsafe { &*byte };
        // Another thread may have replaced it before this one acquired the right.
        let done = byte.load(Ordering::Relaxed) & bit != 0;
        if done && !broken {
            return true;
        }
        // Between this check and what follows, the disk may have room again for the page, and another thread may store to it:
        // that store is lost, in an array that is poisoned. No system call replaces a page only if it is still missing.
        let replaced = match is_readable(page) {
            // It cannot be stored to, unless it was made private.
            Some(true) if self.stores_reach_file(mapped) => self.replace_by_copy(mapped.pages, page),
            // Another thread made it readable, or the disk has come back.
            Some(true) => return true,
            _ => replace_by_zeros(page),
        };
        if replaced {
            byte.fetch_or(bit, Ordering::Relaxed);
        }
        replaced
    }

    /// For file systems that do not let a file be mapped again after a failure: the page can be read but not stored to. No other
    /// thread stores to it meanwhile, since none can.
    fn replace_by_copy(&self, all: Pages, page: Pages) -> bool {
        let room = self.copies.get(all.len()).map(|copies| copies.wrapping_byte_add(page.start - all.start));
        // SAFETY: (1), (5), and of `room` this part belongs to this page; (4) both are writable, and the bytes stay.
        unsafe { pages::replace_by_copy(page, room) }
    }
}

fn replace_by_zeros(pages: Pages) -> bool {
    // SAFETY: (1), (4), (5).
    unsafe { pages::replace_by_zeros(pages) }
}

fn set(flag: &AtomicBool) -> bool {
    flag.store(true, Ordering::Relaxed);
    true
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use std::io::{Read, Seek, SeekFrom, Write};
    use std::ptr;

    use memmap2::{MmapOptions, MmapRaw};

    use super::*;
    use crate::storage::fault::handle::FaultHandle;
    use crate::storage::fault::registry;
    use crate::sys::pages::{descriptor, page_size};

    /// A mapping of a file, as a guarded call of another thread has it. It accounts for missing pages, as the handler does.
    struct Guarded {
        slot: &'static Slot,
        mapped: Mapped,
        file: std::fs::File,
    }

    impl Guarded {
        /// It starts in the second page of the file, and ends within the last.
        fn new(pages: usize, access: FileAccess) -> Self {
            let page = page_size();
            let mut file = tempfile::tempfile().unwrap();
            let bytes: Vec<u8> = (0..(pages + 1) * page - 10).map(|at| (at / page) as u8 + 1).collect();
            file.write_all(&bytes).unwrap();
            let len = pages * page - 10;
            let mut options = MmapOptions::new();
            options.offset(page as u64).len(len);
            let map: MmapRaw = match access {
                FileAccess::Read => options.map_raw_read_only(&file).unwrap(),
                FileAccess::ReadWrite => options.map_raw(&file).unwrap(),
                // SAFETY: no slice is made of it.
                FileAccess::CopyOnWrite => unsafe { options.map_copy(&file).unwrap() }.into(),
            };
            let mapped = Mapped::new(map.as_ptr(), len, access);
            // The test replaces its pages.
            std::mem::forget(map);
            let slot = registry::lock().take(mapped);
            slot.file.store(descriptor(&file), Ordering::Relaxed);
            slot.end_in_file.store(bytes.len() as u64, Ordering::Relaxed);
            slot.truncatable.store(true, Ordering::Relaxed);
            slot.active.store(1, Ordering::Relaxed);
            Self { slot, mapped, file }
        }

        fn fault(&self, at: usize) -> bool {
            self.slot.handle(self.mapped, self.mapped.pages.start + at, false)
        }

        fn page(&self, n: usize) -> Pages {
            self.mapped.pages.page_of(self.mapped.pages.start + n * page_size())
        }

        /// The first byte of each page.
        fn bytes(&self) -> Vec<u8> {
            let firsts = (0..self.mapped.pages.len()).step_by(page_size());
            firsts.map(|at| self.at(at).load(Ordering::Relaxed)).collect()
        }

        fn at(&self, at: usize) -> &'static AtomicU8 {
            // SAFETY: the pages are mapped, or others were put in their place, and nothing unmaps them.
            unsafe { &*ptr::with_exposed_provenance::<AtomicU8>(self.mapped.pages.start + at) }
        }

        /// Takes a page away, as if neither disk nor memory had it.
        fn lose(&self, n: usize) {
            // SAFETY: a page of this mapping.
            unsafe { pages::make_unreadable(self.page(n)) };
        }
    }

    impl Drop for Guarded {
        fn drop(&mut self) {
            self.slot.active.store(0, Ordering::Relaxed);
            registry::lock().give_back(self.slot);
        }
    }

    /// What is stored afterwards stays in memory, and what was there before is there.
    #[test]
    fn where_storing_fails_all_that_can_be_read_stays() {
        let mut a = Guarded::new(3, FileAccess::ReadWrite);
        a.at(5).store(9, Ordering::Relaxed);
        assert!(a.fault(7));
        assert_eq!((a.bytes(), a.at(5).load(Ordering::Relaxed)), (vec![2, 3, 4], 9));
        a.at(0).store(70, Ordering::Relaxed);
        // Another thread that faulted before comes late, on this page or another.
        assert!(a.fault(7) && a.fault(page_size()));
        assert_eq!(a.bytes(), [70, 3, 4]);
        let mut in_file = [0];
        a.file.seek(SeekFrom::Start(page_size() as u64)).unwrap();
        a.file.read_exact(&mut in_file).unwrap();
        assert_eq!(in_file, [2]);
        assert!(a.slot.faulted.load(Ordering::Relaxed));
    }

    #[test]
    fn a_page_that_cannot_be_read_becomes_zeros_once_and_no_other_does() {
        for access in [FileAccess::Read, FileAccess::ReadWrite, FileAccess::CopyOnWrite] {
            let a = Guarded::new(3, access);
            let page = page_size();
            a.lose(1);
            if access == FileAccess::ReadWrite {
                // First the file is mapped again; and then it is missing there as well.
                assert!(a.fault(page + 5));
                a.lose(1);
            }
            assert!(a.fault(page + 5));
            assert_eq!(a.bytes(), [2, 0, 4]);
            if access != FileAccess::Read {
                a.at(page).store(7, Ordering::Relaxed);
            }
            assert!(a.fault(page + 5) && a.fault(page));
            assert_eq!(a.bytes(), [2, if access == FileAccess::Read { 0 } else { 7 }, 4]);
            // Unless the memory itself is broken.
            assert!(a.slot.handle(a.mapped, a.mapped.pages.start + page, true));
        }
    }

    /// For file systems that do not let a file be mapped again.
    #[test]
    fn what_can_be_read_and_not_stored_to_is_copied_if_nothing_else_works() {
        let a = Guarded::new(2, FileAccess::ReadWrite);
        assert!(a.slot.replace_by_copy(a.mapped.pages, a.page(0)));
        assert_eq!(a.bytes(), [2, 3]);
        // Where the copy was made is still mapped, or something else could be there when it is unmapped.
        let room = a.slot.copies.get(a.mapped.pages.len()).unwrap();
        assert_eq!(is_readable(Pages::around(room.cast(), page_size(), true)), Some(true));
        a.at(0).store(8, Ordering::Relaxed);
        a.lose(1);
        assert!(!a.slot.replace_by_copy(a.mapped.pages, a.page(1)));
        a.slot.file.store(-1, Ordering::Relaxed);
        assert!(a.fault(page_size()));
        assert_eq!(a.bytes(), [8, 0]);
    }

    #[test]
    fn of_a_file_that_others_truncated_nothing_is_left() {
        let page = page_size();
        for truncatable in [true, false] {
            let a = Guarded::new(3, FileAccess::ReadWrite);
            a.slot.truncatable.store(truncatable, Ordering::Relaxed);
            a.file.set_len((page + page) as u64).unwrap();
            while !a.slot.all_replaced.load(Ordering::Relaxed) && is_readable(a.page(1)) != Some(true) {
                assert!(a.fault(page));
            }
            assert!(a.slot.all_replaced.load(Ordering::Relaxed) == truncatable);
            if truncatable {
                assert_eq!(a.bytes(), [0, 0, 0]);
                a.at(0).store(1, Ordering::Relaxed);
                assert!(a.fault(0));
                assert_eq!(a.at(0).load(Ordering::Relaxed), 1);
            } else {
                assert_eq!((a.at(0).load(Ordering::Relaxed), a.at(page).load(Ordering::Relaxed)), (2, 0));
            }
        }
    }

    /// What is evicted is not replaced at the same time, nor the other way round.
    #[test]
    fn nothing_is_replaced_while_pages_are_evicted_nor_evicted_afterwards() {
        let guarded = Guarded::new(1, FileAccess::ReadWrite);
        let (slot, mapped) = (guarded.slot, guarded.mapped);
        // It is `guarded` that gives the slot back.
        let handle = std::mem::ManuallyDrop::new(FaultHandle::of_slot(slot));
        let start = ptr::with_exposed_provenance(mapped.pages.start);
        let evicting = AtomicBool::new(false);
        let (ready, handling) = std::sync::mpsc::channel();
        std::thread::scope(|s| {
            let evicting = &evicting;
            let evicted = handle.unless_faulted(start, mapped.pages.len(), || {
                evicting.store(true, Ordering::SeqCst);
                s.spawn(move || {
                    ready.send(()).unwrap();
                    assert!(slot.handle(mapped, mapped.pages.start, false));
                    assert!(!evicting.load(Ordering::SeqCst));
                });
                handling.recv().unwrap();
                (0..10_000).for_each(|_| std::thread::yield_now());
                evicting.store(false, Ordering::SeqCst);
            });
            assert!(evicted.is_some());
        });
        assert!(handle.faulted() && handle.unless_faulted(start, mapped.pages.len(), || ()).is_none());
    }
}
