//! Faults: a page of a mapped file may be missing when it is accessed, because the file was truncated, or its disk failed or
//! is full. The system reports that by a signal, which ends the process. While a guarded call runs, a flag is set instead.
//!
//! A guarded call enters its mapping in a registry of the whole process, so that faults of all threads that work for the call
//! are found. The handler replaces what is mapped, sets the flag and returns; the instruction is executed again and
//! succeeds. All other faults go to the handler that was installed before.
//!
//! The handler changes no byte that can still be read, unless others have truncated the file, which breaks the promise that
//! its bytes stay:
//! - If the file is shorter than the array, the whole mapping becomes zeros at once: a long pass over it then has one
//!   fault, rather than one a page.
//! - Where a store may have failed (the disk is full), the file is mapped again, privately: the mapping shows the same bytes,
//!   and what is stored from then on stays in memory.
//! - A page that cannot be read becomes zeros.
//!
//! # Safety
//! What keeps this sound; the comments of the files below refer to these numbers:
//! 1. Only the crate's own memory is replaced: the range of a slot is that of a mapping whose owner took the slot, and
//!    gives it back before the mapping is unmapped or moved, so that the slot never covers a later mapping at the same
//!    address.
//! 2. The handler may run at any moment: slots are never freed, the list of them only grows, and a range that is being
//!    changed is recognised by its version.
//! 3. The handler does only what is async-signal-safe: it loads atomics, takes part in choosing which thread replaces pages
//!    ([`replacing`]), and makes system calls. It does not allocate from the heap, lock, or access mapped files, and it restores
//!    `errno`. It waits only for a thread that is replacing pages, which never waits for it: that thread is in a system call,
//!    and no other signal's handler runs on it meanwhile.
//! 4. What is put in place has the address, the length and the access of what was there.
//! 5. Pages are replaced only while a guarded call of that very mapping runs; and what was replaced is not replaced again, so
//!    that what is stored afterwards stays: `Slot::replaced` remembers which pages.
//! 6. The descriptor that the handler uses is open: a guarded call borrows the file.
//! 7. A forked child has the slots of its parent, but not its threads: they count for nothing there
//!    ([`forks`](crate::sys::forks)).

mod atomic_ref;
mod handle;
mod registry;
mod replace;
mod replacing;
mod signal;
mod slot;

pub(crate) use handle::{FaultHandle, MappedFile};
