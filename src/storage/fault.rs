//! Faults: a page of a mapped file that cannot be had (the file was truncated, the disk failed or is full) is reported by
//! a signal that ends the process. While a guarded call runs, it becomes a flag instead.
//!
//! Guarded calls enter their mapping in a registry of the whole process, so that faults of other threads that work for
//! the call are found too. The handler changes what is mapped, raises the flag and returns; the instruction is tried again
//! and succeeds. All other faults go to whoever handled them before.
//!
//! What it changes is no byte that can still be read, unless others have truncated the file, which breaks the promise that
//! its bytes stay:
//! - Of a file that is shorter than the array, the whole mapping becomes zeros at once: a long pass over it is then one
//!   fault, and not one a page.
//! - Where storing may have failed (the disk is full), the file is mapped again, privately: it shows the same bytes, and what
//!   is stored from then on stays in memory.
//! - A page that cannot be read becomes zeros.
//!
//! # Safety
//! What keeps this sound:
//! 1. Only memory of ours is replaced: a node's range is that of a mapping whose owner took the node, and gives it back
//!    before the mapping is unmapped or moved, so that no later mapping at the same address meets it.
//! 2. The handler may come at any moment: nodes are never freed, the list only grows, and a range that is being changed
//!    is recognised by its version.
//! 3. The handler does what may be done in the middle of anything: it loads atomics, takes part in an election, and
//!    makes system calls. It does not allocate from the heap, lock, or touch mapped files, and puts `errno` back. It waits
//!    only for an elected thread, which never waits for it: that one is in a system call, for no signal handler runs on it
//!    meanwhile ([`Election`]).
//! 4. What is put in place has the address, the length and the rights of what was there.
//! 5. Nothing is replaced unless somebody asked for it, by being in a guarded call of that very mapping; and what was
//!    replaced is not replaced again, so that what is stored afterwards stays: [`Node::replaced`] remembers which pages.
//! 6. The descriptor that the handler looks at is open: whoever is in a guarded call has borrowed the file.
//! 7. A forked child has the nodes of its parent, but not the threads: they count for nothing there ([`FORKS`]).
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A mapping's place in the registry, taken at its first guarded call and given back with the value.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Null, or (2) a node that is never freed.
    node: AtomicPtr<Node>,
    kind: Kind,
}

/// What a mapping is to the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    ReadOnly,
    /// What is stored reaches the file.
    Shared,
    /// What is stored stays in memory: copies of pages that no file has.
    CopyOnWrite,
}

/// The file below a mapping, as the handler sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MappedFile<'a> {
    pub(crate) file: &'a File,
    /// Where in the file the mapping starts, in bytes.
    pub(crate) offset: u64,
    /// Others can reach the file, and make it shorter.
    pub(crate) truncatable: bool,
}

/// As long as one lives, a fault in its mapping raises the flag and ends nothing.
#[derive(Debug)]
pub(crate) struct Inside<'a>(&'a Node);

impl Watch {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { node: AtomicPtr::new(ptr::null_mut()), kind }
    }

    /// # Errors
    /// If the system does not let the process handle the signal.
    ///
    /// # Safety
    /// `start .. start + len` is a mapping of that part of the file, of the kind that this watch was made for. Until
    /// the watch is dropped, or told to [`forget`](Self::forget) it, it is neither unmapped nor moved, and called with no
    /// other range or file.
    pub(crate) unsafe fn enter<'a>(
        &'a self,
        start: *const u8,
        len: usize,
        file: MappedFile<'a>,
    ) -> io::Result<Inside<'a>> {
        if !HANDLING.load(Ordering::Acquire) {
            registry().handle_signals()?;
        }
        let node = self.node_of(start, len);
        // The same for every call. Before `active`, so that the handler finds it.
        node.end.store(file.offset + len as u64, Ordering::Relaxed);
        node.file.store(file.file.as_raw_fd(), Ordering::Relaxed);
        node.truncatable.store(file.truncatable, Ordering::Relaxed);
        // Nothing that the call reads is read before this, nor after the opposite in `drop`.
        node.active.fetch_add(1, Ordering::AcqRel);
        Ok(Inside(node))
    }

    /// This process's own; (7) one that was taken before a fork is left to the parent, and counts for nothing here.
    fn node(&self) -> Option<&'static Node> {
        // SAFETY: null, or (2) a node that is never freed nor borrowed uniquely.
        let node = unsafe { self.node.load(Ordering::Acquire).as_ref() };
        node.filter(|node| node.is_of_this_process())
    }

    fn node_of(&self, start: *const u8, len: usize) -> &'static Node {
        if let Some(node) = self.node() {
            return node;
        }
        let mut registry = registry();
        // Another thread may have been faster.
        self.node().unwrap_or_else(|| {
            let node = registry.take(Range::of(start, len, self.kind));
            self.node.store(ptr::from_ref(node).cast_mut(), Ordering::Release);
            node
        })
    }

    /// Whether pages of the mapping were replaced.
    pub(crate) fn faulted(&self) -> bool {
        // SAFETY: as in `node`. What was replaced before a fork is, in both.
        let node = unsafe { self.node.load(Ordering::Acquire).as_ref() };
        node.is_some_and(|node| node.faulted.load(Ordering::Acquire))
    }

    /// Runs `f` if no page of the mapping was replaced, and lets none be replaced meanwhile. The mapping is the one that
    /// [`enter`](Self::enter) is called with.
    pub(crate) fn unless_faulted<R>(&self, start: *const u8, len: usize, f: impl FnOnce() -> R) -> Option<R> {
        if self.faulted() {
            return None;
        }
        let node = self.node_of(start, len);
        let _election = Election::win(&node.elected);
        let faulted = node.faulted.load(Ordering::Acquire);
        (!faulted).then(f)
    }

    /// To be called before the mapping is moved. Forgets that it faulted, too: one that did is not to be moved.
    pub(crate) fn forget(&mut self) {
        if let Some(node) = self.node() {
            registry().give_back(node);
        }
        *self.node.get_mut() = ptr::null_mut();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.forget();
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whole pages.
#[derive(Clone, Copy, Debug)]
struct Range {
    start: usize,
    end: usize,
    kind: Kind,
}

impl Range {
    const NOWHERE: Self = Self { start: 0, end: 0, kind: Kind::ReadOnly };

    fn of(start: *const u8, len: usize, kind: Kind) -> Self {
        let page = rustix::param::page_size();
        let end = (start.addr() + len).next_multiple_of(page);
        Self { start: start.addr() / page * page, end, kind }
    }

    fn holds(self, address: usize) -> bool {
        (self.start..self.end).contains(&address)
    }

    /// In the handler: the page size is known since `of`.
    fn page_of(self, address: usize) -> Self {
        let page = rustix::param::page_size();
        let start = address / page * page;
        Self { start, end: start + page, ..self }
    }

    fn address(self) -> *mut c_void {
        ptr::without_provenance_mut(self.start)
    }

    fn len(self) -> usize {
        self.end - self.start
    }

    fn pages(self) -> usize {
        self.len() / rustix::param::page_size()
    }

    fn protection(self) -> c_int {
        if self.kind == Kind::ReadOnly { libc::PROT_READ } else { libc::PROT_READ | libc::PROT_WRITE }
    }
}

/// One registered mapping; afterwards, the place of a later one.
#[derive(Debug)]
struct Node {
    /// The node that was first before this one.
    next: Option<&'static Node>,
    /// Odd while the range changes.
    version: AtomicUsize,
    start: AtomicUsize,
    end_address: AtomicUsize,
    kind: AtomicU8,
    /// Where the mapping ends in its file, in bytes.
    end: AtomicU64,
    file: AtomicI32,
    truncatable: AtomicBool,
    /// [`FORKS`], when it was taken.
    forks: AtomicUsize,
    /// How many guarded calls are running.
    active: AtomicUsize,
    /// 0, or how often the process had been forked (and 1) when a thread began to replace pages, or to keep others from it.
    elected: AtomicUsize,
    faulted: AtomicBool,
    /// A bit for each page that became zeros: memory that the first such fault asks the system for. Written to by the
    /// elected thread only.
    replaced: AtomicPtr<AtomicU8>,
    /// As much memory as the range, where pages are copied to before they are moved; asked for when it is needed.
    copies: AtomicPtr<c_void>,
    all_replaced: AtomicBool,
    /// The file was mapped again, privately.
    private: AtomicBool,
}

impl Node {
    fn new(next: Option<&'static Node>) -> Self {
        Self {
            next,
            version: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            end_address: AtomicUsize::new(0),
            kind: AtomicU8::new(0),
            end: AtomicU64::new(0),
            file: AtomicI32::new(-1),
            truncatable: AtomicBool::new(false),
            forks: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            elected: AtomicUsize::new(0),
            faulted: AtomicBool::new(false),
            replaced: AtomicPtr::new(ptr::null_mut()),
            copies: AtomicPtr::new(ptr::null_mut()),
            all_replaced: AtomicBool::new(false),
            private: AtomicBool::new(false),
        }
    }

    const KINDS: [Kind; 3] = [Kind::ReadOnly, Kind::Shared, Kind::CopyOnWrite];

    fn is_of_this_process(&self) -> bool {
        self.forks.load(Ordering::Relaxed) == FORKS.load(Ordering::Relaxed)
    }

    /// For the owner, or for the registry while there is none.
    fn set(&self, range: Range) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.start.store(range.start, Ordering::Relaxed);
        self.end_address.store(range.end, Ordering::Relaxed);
        self.kind.store(range.kind as u8, Ordering::Relaxed);
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// `None` while it changes: then nobody is in a guarded call of it.
    fn range(&self) -> Option<Range> {
        let version = self.version.load(Ordering::Acquire);
        let range = Range {
            start: self.start.load(Ordering::Relaxed),
            end: self.end_address.load(Ordering::Relaxed),
            kind: Self::KINDS[usize::from(self.kind.load(Ordering::Relaxed)) % Self::KINDS.len()],
        };
        fence(Ordering::Acquire);
        let settled = version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version;
        settled.then_some(range)
    }

    /// Whether the instruction at fault is to be tried again. `broken`: the memory itself is, and what was in it is lost.
    fn handle(&self, range: Range, address: usize, broken: bool) -> bool {
        let _election = Election::win(&self.elected);
        let page = range.page_of(address);
        if self.all_replaced.load(Ordering::Relaxed) {
            return !broken || put_zeros(page);
        }
        let replaced = if self.is_truncated() {
            put_zeros(range) && set(&self.all_replaced)
        } else if range.kind == Kind::Shared && !self.private.load(Ordering::Relaxed) && self.put_private(range) {
            set(&self.private)
        } else {
            self.replace_page(range, page, broken)
        };
        if replaced {
            self.faulted.store(true, Ordering::Release);
        }
        replaced
    }

    /// By what the system says of the file; if it says nothing, the file is taken to be whole.
    fn is_truncated(&self) -> bool {
        let is_short = |len| len < self.end.load(Ordering::Relaxed);
        self.truncatable.load(Ordering::Relaxed) && file_len(self.file.load(Ordering::Relaxed)).is_some_and(is_short)
    }

    /// Maps the file in the place of itself, so that what can be read is as it was, and can be stored to.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn put_private(&self, range: Range) -> bool {
        // Pages of memory and of the file end together.
        let end = self.end.load(Ordering::Relaxed).next_multiple_of(rustix::param::page_size() as u64);
        let Some(Ok(offset)) = end.checked_sub(range.len() as u64).map(TryInto::try_into) else { return false };
        let flags = libc::MAP_PRIVATE | RESERVE_NOTHING;
        let file = self.file.load(Ordering::Relaxed);
        // Elsewhere first: refused in place, it would leave nothing there.
        // SAFETY: (6) it asks for memory where there is none yet.
        let new = unsafe { libc::mmap64(ptr::null_mut(), range.len(), range.protection(), flags, file, offset) };
        // The bytes are those that were there, for the mapping was shared.
        new != libc::MAP_FAILED && put_memory(new, range)
    }

    /// Elsewhere there is no way to do that in one step.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn put_private(&self, _: Range) -> bool {
        false
    }

    fn replace_page(&self, range: Range, page: Range, broken: bool) -> bool {
        let Some(bits) = self.bits(range) else { return false };
        let (byte, bit) = bit_of(range, page);
        // SAFETY: there is a bit for each page of the range, eight to a byte.
        let byte = unsafe { &*bits.wrapping_add(byte) };
        // By the time a thread gets here, another may have been and gone.
        let done = byte.load(Ordering::Relaxed) & bit != 0;
        if done && !broken {
            return true;
        }
        // Between this look and what follows, there may be room again for the page, and another thread may store to it: such a
        // store is lost, in an array that is poisoned. No system call replaces a page only if it still cannot be had.
        let put = match readable(page) {
            // Nor can it be stored to, unless it was made private.
            Some(true) if range.kind == Kind::Shared && !self.private.load(Ordering::Relaxed) => {
                self.put_copy(range, page)
            }
            // It was another thread that made it readable, or the disk has come back.
            Some(true) => return true,
            _ => put_zeros(page),
        };
        if put {
            byte.fetch_or(bit, Ordering::Relaxed);
        }
        put
    }

    /// Puts memory with the same bytes in the place of a page that can be read but not stored to: for file systems that do
    /// not let a file be mapped again when they have failed. Nobody else stores to it meanwhile, for nobody can.
    ///
    /// Copies next to each other come from next to each other, so that they are one mapping for the system, which has so many
    /// and no more.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn put_copy(&self, range: Range, page: Range) -> bool {
        if let Some(copies) = lazily(&self.copies, range.len()) {
            let copy = copies.wrapping_byte_add(page.start - range.start).cast();
            let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
            let len = page.len();
            // SAFETY: as in `put_zeros`; the kind is writable, as the copy is, in whose place nothing is left but room for
            // another.
            if copied(page, copy) && unsafe { libc::mremap(copy, len, len, flags, page.address()) } != libc::MAP_FAILED
            {
                return true;
            }
        }
        // There is no room for so many, or this kernel has no such call: each is a mapping more.
        let Some(copy) = anonymous(page.len()) else { return false };
        if copied(page, copy) {
            return put_memory(copy, page);
        }
        // SAFETY: nobody else knows it.
        unsafe { libc::munmap(copy, page.len()) };
        false
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn put_copy(&self, _: Range, _: Range) -> bool {
        false
    }

    /// The bits that say which pages were replaced; `None` if there is no memory for them.
    fn bits(&self, range: Range) -> Option<*mut AtomicU8> {
        lazily(&self.replaced, bytes_of_bits(range))
    }
}

/// Memory that is asked for when it is first needed; by the elected thread only.
fn lazily<T>(place: &AtomicPtr<T>, len: usize) -> Option<*mut T> {
    let known = place.load(Ordering::Relaxed);
    if !known.is_null() {
        return Some(known);
    }
    let new = anonymous(len)?.cast();
    place.store(new, Ordering::Relaxed);
    Some(new)
}

fn set(flag: &AtomicBool) -> bool {
    flag.store(true, Ordering::Relaxed);
    true
}

/// The byte in which a page has its bit, and which bit of it.
fn bit_of(range: Range, page: Range) -> (usize, u8) {
    let number = (page.start - range.start) / page.len();
    (number / 8, 1 << (number % 8))
}

fn bytes_of_bits(range: Range) -> usize {
    range.pages().div_ceil(8)
}

/// New memory of whole pages, all zero; takes up nothing until it is used.
fn anonymous(len: usize) -> Option<*mut c_void> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANON | RESERVE_NOTHING;
    // SAFETY: it asks for memory where there is none yet.
    let at = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    (at != libc::MAP_FAILED).then_some(at)
}

/// Puts zeros in the place of pages. Next to each other, they stay one mapping for the system.
fn put_zeros(pages: Range) -> bool {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_FIXED | RESERVE_NOTHING;
    // SAFETY: by (1) and (5) it is pages of a mapping that somebody in a guarded call owns, and only the elected
    // thread comes here; (4) by `pages`.
    unsafe { libc::mmap(pages.address(), pages.len(), pages.protection(), flags, -1, 0) != libc::MAP_FAILED }
}

/// Whether a page can be read; `None` where the system cannot be asked.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn readable(page: Range) -> Option<bool> {
    /// The only size of a set of signals that the kernel takes, in bytes.
    const SIGNAL_SET: usize = if cfg!(any(target_arch = "mips", target_arch = "mips64")) { 16 } else { 8 };
    // It reads a set from there, and then finds that it cannot be asked to do such a thing with it.
    // SAFETY: it fails, whatever is there, and changes nothing.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, -1, page.address(), ptr::null_mut::<c_void>(), SIGNAL_SET) };
    // SAFETY: the calling thread's own, and valid as long as the thread.
    match unsafe { *errno() } {
        libc::EINVAL => Some(true),
        libc::EFAULT => Some(false),
        _ => None,
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn readable(_: Range) -> Option<bool> {
    None
}

/// Copies a page, which may be gone the next moment, to as much memory of the caller's own. Whether it was there.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn copied(page: Range, copy: *mut c_void) -> bool {
    let to = libc::iovec { iov_base: copy, iov_len: page.len() };
    let from = libc::iovec { iov_base: page.address(), iov_len: page.len() };
    // SAFETY: it may be called anywhere, and has no demands.
    let here = unsafe { libc::getpid() };
    // SAFETY: (3) a system call; it writes to memory that only the caller uses.
    unsafe { libc::process_vm_readv(here, &to, 1, &from, 1, 0) == page.len() as isize }
}

/// Moves memory of the caller's own to the place of pages, in one step.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn put_memory(memory: *mut c_void, pages: Range) -> bool {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: as in `put_zeros`; what is moved is as long as the pages, and has their rights.
    let put = unsafe { libc::mremap(memory, pages.len(), pages.len(), flags, pages.address()) } != libc::MAP_FAILED;
    if !put {
        // SAFETY: nobody else knows it.
        unsafe { libc::munmap(memory, pages.len()) };
    }
    put
}

/// `None` if the system does not say.
fn file_len(file: c_int) -> Option<u64> {
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    use libc::{fstat, stat};
    #[cfg(any(target_os = "linux", target_os = "android"))]
    use libc::{fstat64 as fstat, stat64 as stat};
    let mut found = MaybeUninit::<stat>::uninit();
    // SAFETY: (6), and it writes one `stat` to where there is room for one.
    let asked = unsafe { fstat(file, found.as_mut_ptr()) };
    if asked != 0 {
        return None;
    }
    // SAFETY: the call succeeded, so it wrote it.
    u64::try_from(unsafe { found.assume_init() }.st_size).ok()
}

/// How often this process, and those it was forked from, were forked since the registry was first used.
static FORKS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn after_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// The right to replace pages of a node, or to keep others from it, until it is dropped. Meanwhile no handler of another
/// signal runs on this thread, which could touch the node's mapping and wait for itself.
struct Election<'a> {
    elected: &'a AtomicUsize,
    signals: libc::sigset_t,
}

impl<'a> Election<'a> {
    /// In nanoseconds: others are mostly done sooner, and a disk that fails takes much longer.
    const WAIT: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 100_000 };

    /// Waits for another thread that was elected: it is in a system call, and comes back from it.
    fn win(elected: &'a AtomicUsize) -> Self {
        let signals = block_signals();
        loop {
            let (now, here) = (elected.load(Ordering::Relaxed), FORKS.load(Ordering::Relaxed).wrapping_add(1));
            // (7) Of another process: no thread here is it.
            let free = now != here;
            if free && elected.compare_exchange(now, here, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Self { elected, signals };
            }
            if !free {
                // SAFETY: (3) it may be called anywhere, with a time that is valid.
                unsafe { libc::nanosleep(&Self::WAIT, ptr::null_mut()) };
            }
        }
    }
}

impl Drop for Election<'_> {
    fn drop(&mut self) {
        self.elected.store(0, Ordering::Release);
        unblock_signals(&self.signals);
    }
}

/// All but those that a fault of the thread itself raises, for which to be blocked is to be ended; what was blocked before.
fn block_signals() -> libc::sigset_t {
    let mut signals = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: it writes one set to where there is room for one.
    unsafe { libc::sigfillset(signals.as_mut_ptr()) };
    for own in [libc::SIGBUS, libc::SIGSEGV, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP] {
        // SAFETY: the set was filled.
        unsafe { libc::sigdelset(signals.as_mut_ptr(), own) };
    }
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: it reads one set, and writes one to where there is room for one; it cannot fail with this first argument.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, signals.as_ptr(), before.as_mut_ptr()) };
    // SAFETY: the call wrote it.
    unsafe { before.assume_init() }
}

fn unblock_signals(before: &libc::sigset_t) {
    // SAFETY: it reads one set.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, ptr::null_mut()) };
}

/// A mapping larger than memory must not be refused for want of memory that nobody will use.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple", target_os = "netbsd"))]
const RESERVE_NOTHING: c_int = libc::MAP_NORESERVE;
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple", target_os = "netbsd")))]
const RESERVE_NOTHING: c_int = 0;

/// The nodes: what the handler follows. Each is there for good.
static FIRST: AtomicPtr<Node> = AtomicPtr::new(ptr::null_mut());

/// What is never touched by the handler: null, or never freed.
static REGISTRY: AtomicPtr<ProcessRegistry> = AtomicPtr::new(ptr::null_mut());

/// Whether our handler is installed, and has not taken itself out of the way. Set under the lock of the registry.
static HANDLING: AtomicBool = AtomicBool::new(false);

struct ProcessRegistry {
    /// [`FORKS`], when it was made.
    forks: usize,
    registry: Mutex<Registry>,
}

struct Registry {
    free: Vec<&'static Node>,
}

/// (7) A child gets one of its own: the parent's may have been locked when it was forked, and would stay so.
fn registry() -> MutexGuard<'static, Registry> {
    count_forks();
    loop {
        let (known, forks) = (REGISTRY.load(Ordering::Acquire), FORKS.load(Ordering::Relaxed));
        // SAFETY: null, or never freed nor borrowed uniquely.
        if let Some(known) = unsafe { known.as_ref() }.filter(|known| known.forks == forks) {
            return known.registry.lock().unwrap_or_else(PoisonError::into_inner);
        }
        let registry = Mutex::new(Registry { free: Vec::new() });
        let new = Box::into_raw(Box::new(ProcessRegistry { forks, registry }));
        if REGISTRY.compare_exchange(known, new, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // SAFETY: it was made just now, and nobody else knows it.
            drop(unsafe { Box::from_raw(new) });
        }
    }
}

/// From the first call on.
fn count_forks() {
    static COUNTS: AtomicBool = AtomicBool::new(false);
    if !COUNTS.swap(true, Ordering::Relaxed) {
        #[cfg(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd"))]
        // SAFETY: `after_fork` adds to an atomic, which a child may do. If there is no memory for it, forks go unnoticed.
        unsafe {
            libc::pthread_atfork(None, None, Some(after_fork))
        };
        #[cfg(not(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd")))]
        let _ = after_fork;
    }
}

impl Registry {
    fn take(&mut self, range: Range) -> &'static Node {
        let node = self.free.pop().unwrap_or_else(|| {
            let node = Box::leak(Box::new(Node::new(first())));
            FIRST.store(node, Ordering::Release);
            node
        });
        for flag in [&node.faulted, &node.all_replaced, &node.private, &node.truncatable] {
            flag.store(false, Ordering::Relaxed);
        }
        node.file.store(-1, Ordering::Relaxed);
        node.forks.store(FORKS.load(Ordering::Relaxed), Ordering::Relaxed);
        node.set(range);
        node
    }

    fn give_back(&mut self, node: &'static Node) {
        debug_assert_eq!(node.active.load(Ordering::Relaxed), 0);
        let range = node.range();
        node.set(Range::NOWHERE);
        let bits = node.replaced.swap(ptr::null_mut(), Ordering::Relaxed).cast();
        let copies = node.copies.swap(ptr::null_mut(), Ordering::Relaxed);
        for (memory, len) in range.iter().flat_map(|&range| [(bits, bytes_of_bits(range)), (copies, range.len())]) {
            if !memory.is_null() {
                // SAFETY: `lazily` mapped it, as long as this; the handler, which alone uses it, does not come here any more.
                unsafe { libc::munmap(memory, len) };
            }
        }
        self.free.push(node);
    }

    /// Once for the process, and again after the [default action](default_action) ended nothing. Whoever installs a
    /// handler later has the last word, and ours is for them to call.
    fn handle_signals(&mut self) -> io::Result<()> {
        if !HANDLING.load(Ordering::Acquire) {
            for (&signal, previous) in SIGNALS.iter().zip(&PREVIOUS) {
                install(signal, previous)?;
            }
            HANDLING.store(true, Ordering::Release);
        }
        Ok(())
    }
}

fn first() -> Option<&'static Node> {
    // SAFETY: null, or (2) a node that is never freed nor borrowed uniquely.
    unsafe { FIRST.load(Ordering::Acquire).as_ref() }
}

/// Linux tells of missing pages by `SIGBUS`; the others by one or the other.
#[cfg(any(target_os = "linux", target_os = "android"))]
const SIGNALS: [c_int; 1] = [libc::SIGBUS];
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const SIGNALS: [c_int; 2] = [libc::SIGBUS, libc::SIGSEGV];

/// What was to happen at each of the signals before. Never freed.
static PREVIOUS: [AtomicPtr<libc::sigaction>; SIGNALS.len()] =
    [const { AtomicPtr::new(ptr::null_mut()) }; SIGNALS.len()];

/// Whether it has taken itself out of the way, and left the default action behind.
static GONE: [AtomicBool; SIGNALS.len()] = [const { AtomicBool::new(false) }; SIGNALS.len()];

/// The default action. Zeros are valid in this plain C struct: no flags, the default action, no signal blocked.
// SAFETY: see above.
static DEFAULT: libc::sigaction = unsafe { std::mem::zeroed() };

fn install(signal: c_int, previous: &AtomicPtr<libc::sigaction>) -> io::Result<()> {
    let old = installed(signal).ok_or_else(io::Error::last_os_error)?;
    if previous.load(Ordering::Relaxed).is_null() {
        // Before ours is in place, so that it finds whom to pass a fault on to.
        previous.store(Box::into_raw(Box::new(old)), Ordering::Release);
    } else if old.sa_sigaction != libc::SIG_DFL {
        // Ours is still there, or one of somebody else's that may well call it: called by it and calling it, ours would
        // never end.
        return Ok(());
    }
    if put_ours(signal) { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What happens at a signal now; `None` after an error.
fn installed(signal: c_int) -> Option<libc::sigaction> {
    let mut now = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: it writes one `sigaction` to where there is room for one.
    let asked = unsafe { libc::sigaction(signal, ptr::null(), now.as_mut_ptr()) };
    if asked != 0 {
        return None;
    }
    // SAFETY: the call succeeded, so it wrote it.
    Some(unsafe { now.assume_init() })
}

fn put_ours(signal: c_int) -> bool {
    let mut new = DEFAULT;
    new.sa_sigaction = our_handler();
    // On the alternate stack, for overflows of the normal one come this way; not blocked meanwhile, so that a fault in
    // the handler we pass it on to is not the end of the process. (What must not be interrupted: see `Election`.)
    new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
    // SAFETY: `on_signal` has the signature that SA_SIGINFO asks for, and does (3) what a handler may.
    unsafe { libc::sigaction(signal, &new, ptr::null_mut()) == 0 }
}

fn our_handler() -> libc::sighandler_t {
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_signal;
    handler as libc::sighandler_t
}

extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let errno = errno();
    // SAFETY: the calling thread's own, and valid as long as the thread.
    let before = unsafe { *errno };
    // SAFETY: with SA_SIGINFO the system hands over one `siginfo_t`, for the duration of the call.
    let cause = Cause::of(unsafe { &*info });
    let handled = match cause {
        Cause::MissingPage(address) => handle(address, false),
        Cause::BrokenPage(address) => handle(address, true),
        Cause::Instruction | Cause::Message => false,
    };
    if !handled {
        chain_previous(signal, info, context, cause);
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}

/// Who or what sent the signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), expect(dead_code))]
enum Cause {
    /// An access to this address; it may be of use to have the page.
    MissingPage(usize),
    /// An access to this address, at which the memory is broken.
    BrokenPage(usize),
    /// Something else that happens again if nothing is done.
    Instruction,
    /// Somebody, by `kill` or the like, or the system, which tells of broken memory that nobody has used yet: it will not
    /// come again.
    Message,
}

impl Cause {
    /// Elsewhere than on Linux the code says little that can be relied on.
    fn of(info: &libc::siginfo_t) -> Self {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        match info.si_code {
            libc::BUS_ADRERR => {}
            // SAFETY: the system sent the signal for an access to memory, so the address is there.
            libc::BUS_MCEERR_AR => return Cause::BrokenPage(unsafe { info.si_addr() }.addr()),
            libc::BUS_MCEERR_AO => return Cause::Message,
            1.. => return Cause::Instruction,
            _ => return Cause::Message,
        }
        // SAFETY: the system sent the signal for an access to memory, so the address is there.
        Cause::MissingPage(unsafe { info.si_addr() }.addr())
    }
}

/// Whether the address is in a mapping of a guarded call, and is good to be tried again.
fn handle(address: usize, broken: bool) -> bool {
    let mut next = first();
    while let Some(node) = next {
        if node.active.load(Ordering::Acquire) > 0
            && node.is_of_this_process()
            && let Some(range) = node.range()
            && range.holds(address)
        {
            return node.handle(range, address, broken);
        }
        next = node.next;
    }
    false
}

/// Does what would have been done without us.
fn chain_previous(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void, cause: Cause) {
    let place = SIGNALS.iter().position(|&s| s == signal);
    let previous = place.filter(|&place| !GONE[place].load(Ordering::Acquire));
    // SAFETY: null, or what `install` put there, which nobody frees or changes.
    let previous = previous.and_then(|place| unsafe { PREVIOUS[place].load(Ordering::Acquire).as_ref() });
    let action = previous.unwrap_or(&DEFAULT);
    let in_place = installed(signal);
    match action.sa_sigaction {
        // The system lets nobody ignore a fault.
        libc::SIG_IGN if cause == Cause::Message => return,
        libc::SIG_IGN | libc::SIG_DFL => return default_action(signal, cause),
        handler if action.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: it was installed with SA_SIGINFO as a handler, so that is its signature.
            let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: it was installed without SA_SIGINFO as a handler, so that is its signature.
            let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
    }
    if let Some((place, in_place)) = place.zip(in_place) {
        keep_guarding(signal, &GONE[place], &in_place, cause);
    }
}

/// A handler that was called for what is not its own may have changed what is `in_place`. Rust's own does: it puts the
/// default action there and returns, so that a fault comes again and ends the process.
///
/// What is no fault does not come again. What was in place is put back then, ours or what leads to it, and has the default
/// action to pass on to: the next such signal ends the process, as it would without us.
fn keep_guarding(signal: c_int, gone: &AtomicBool, in_place: &libc::sigaction, cause: Cause) {
    match installed(signal) {
        Some(now) if now.sa_sigaction == libc::SIG_DFL && cause == Cause::Message => {
            gone.store(true, Ordering::Release);
            if in_place.sa_sigaction == libc::SIG_DFL {
                // Another thread is just here too.
                put_ours(signal);
            } else {
                // SAFETY: it was in place before, and its handler was not unloaded meanwhile: it may be running.
                unsafe { libc::sigaction(signal, in_place, ptr::null_mut()) };
            }
        }
        Some(now) if now.sa_sigaction == in_place.sa_sigaction && now.sa_sigaction != libc::SIG_DFL => {}
        // As after the default action: should the process go on, the next guarded call installs ours again.
        _ => HANDLING.store(false, Ordering::Release),
    }
}

/// Ends the process, as the default action does. On return from the handler the instruction faults again, so that a
/// core dump shows it, and not us.
///
/// Should it succeed instead, because the page has come back meanwhile, the process goes on, and the next guarded call
/// installs our handler again. Calls that are running are no longer guarded.
fn default_action(signal: c_int, cause: Cause) {
    // SAFETY: it installs no handler.
    unsafe { libc::sigaction(signal, &DEFAULT, ptr::null_mut()) };
    // Afterwards, so that nobody takes what is still there for what will be.
    HANDLING.store(false, Ordering::Release);
    if cause == Cause::Message {
        // SAFETY: (3) it may be called anywhere.
        unsafe { libc::raise(signal) };
    }
}

fn errno() -> *mut c_int {
    #[cfg(any(target_os = "illumos", target_os = "solaris"))]
    use libc::___errno as location;
    #[cfg(any(target_os = "android", target_os = "netbsd", target_os = "openbsd"))]
    use libc::__errno as location;
    #[cfg(any(target_os = "linux", target_os = "dragonfly"))]
    use libc::__errno_location as location;
    #[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
    use libc::__error as location;
    // SAFETY: it may be called anywhere, and has no demands.
    unsafe { location() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: usize) -> Range {
        Range { start, end: start + 4096, kind: Kind::Shared }
    }

    #[test]
    fn a_range_that_is_being_changed_is_not_believed() {
        let node = Node::new(None);
        node.set(range(4096));
        assert!(node.range().is_some_and(|r| r.holds(4096) && !r.holds(8192) && r.kind == Kind::Shared));
        node.version.fetch_add(1, Ordering::Relaxed);
        assert!(node.range().is_none());
    }

    #[test]
    fn readers_of_a_changing_range_see_one_or_the_other() {
        const ROUNDS: usize = 200_000;
        let node = Node::new(None);
        std::thread::scope(|s| {
            s.spawn(|| (0..ROUNDS).for_each(|i| node.set(range(i * 4096))));
            for _ in 0..ROUNDS {
                if let Some(r) = node.range() {
                    assert!(r.end == 0 || r.len() == 4096, "{r:?}");
                }
            }
        });
    }

    #[test]
    fn a_given_back_node_covers_nothing_and_is_taken_again() {
        let mut registry = Registry { free: Vec::new() };
        let node = registry.take(range(4096));
        node.faulted.store(true, Ordering::Relaxed);
        registry.give_back(node);
        assert!(node.range().is_some_and(|r| !r.holds(4096)));
        let again = registry.take(range(8192));
        assert!(ptr::eq(node, again) && !again.faulted.load(Ordering::Relaxed));
        again.set(Range::NOWHERE);
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn what_will_not_come_again_is_told_from_what_will() {
        let cause = |code| {
            // SAFETY: a plain C struct, for which zeros are valid.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            info.si_code = code;
            Cause::of(&info)
        };
        assert_eq!(cause(libc::BUS_ADRERR), Cause::MissingPage(0));
        assert_eq!(cause(libc::BUS_MCEERR_AR), Cause::BrokenPage(0));
        assert_eq!(cause(libc::BUS_ADRALN), Cause::Instruction);
        assert_eq!([libc::BUS_MCEERR_AO, libc::SI_USER, libc::SI_TKILL].map(cause), [Cause::Message; 3]);
    }

    #[test]
    fn a_range_is_whole_pages() {
        let page = rustix::param::page_size();
        let r = Range::of(ptr::without_provenance(5 * page + 8), page, Kind::ReadOnly);
        assert_eq!((r.start, r.end), (5 * page, 7 * page));
    }

    /// A mapping of a file, as a guarded call of another thread would have it. Like the handler, whoever uses it knows that
    /// pages may be missing.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    struct Guarded {
        node: &'static Node,
        range: Range,
        file: std::fs::File,
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    impl Guarded {
        /// It starts in the second page of the file, and ends within the last.
        fn new(pages: usize, kind: Kind) -> Self {
            let page = rustix::param::page_size();
            let mut file = tempfile::tempfile().unwrap();
            let bytes: Vec<u8> = (0..(pages + 1) * page - 10).map(|at| (at / page) as u8 + 1).collect();
            std::io::Write::write_all(&mut file, &bytes).unwrap();
            let flags = if kind == Kind::CopyOnWrite { libc::MAP_PRIVATE } else { libc::MAP_SHARED };
            let protection = Range { kind, ..Range::NOWHERE }.protection();
            let (len, fd) = (pages * page - 10, file.as_raw_fd());
            // SAFETY: a new mapping.
            let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, page as libc::off_t) };
            assert_ne!(start, libc::MAP_FAILED);
            let range = Range::of(start.cast(), len, kind);
            let node = registry().take(range);
            node.file.store(fd, Ordering::Relaxed);
            node.end.store(bytes.len() as u64, Ordering::Relaxed);
            node.truncatable.store(true, Ordering::Relaxed);
            node.active.store(1, Ordering::Relaxed);
            Self { node, range, file }
        }

        fn fault(&self, at: usize) -> bool {
            self.node.handle(self.range, self.range.start + at, false)
        }

        /// The first of each page.
        fn bytes(&self) -> Vec<u8> {
            let step = rustix::param::page_size();
            (0..self.range.len()).step_by(step).map(|at| self.at(at).load(Ordering::Relaxed)).collect()
        }

        fn at(&self, at: usize) -> &'static AtomicU8 {
            // SAFETY: the pages are mapped, or others were put in their place, and nobody unmaps them.
            unsafe { &*ptr::with_exposed_provenance::<AtomicU8>(self.range.start + at) }
        }

        /// Takes a page away, as if neither disk nor memory had it.
        fn lose(&self, n: usize) {
            let page = rustix::param::page_size();
            let at = self.range.page_of(self.range.start + n * page).address();
            // SAFETY: a page of this mapping.
            assert_eq!(unsafe { libc::mprotect(at, page, libc::PROT_NONE) }, 0);
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    impl Drop for Guarded {
        fn drop(&mut self) {
            self.node.active.store(0, Ordering::Relaxed);
            registry().give_back(self.node);
        }
    }

    /// What is stored afterwards stays in memory, and what was there before is there.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn where_storing_fails_all_that_can_be_read_stays() {
        let a = Guarded::new(3, Kind::Shared);
        a.at(5).store(9, Ordering::Relaxed);
        assert!(a.fault(7));
        assert_eq!((a.bytes(), a.at(5).load(Ordering::Relaxed)), (vec![2, 3, 4], 9));
        a.at(0).store(70, Ordering::Relaxed);
        // Another thread that faulted before comes late, on this page or another.
        assert!(a.fault(7) && a.fault(rustix::param::page_size()));
        assert_eq!(a.bytes(), [70, 3, 4]);
        let mut file = [0];
        std::os::unix::fs::FileExt::read_exact_at(&a.file, &mut file, rustix::param::page_size() as u64).unwrap();
        assert_eq!(file, [2]);
        assert!(a.node.faulted.load(Ordering::Relaxed));
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn a_page_that_cannot_be_read_becomes_zeros_once_and_no_other_does() {
        for kind in [Kind::ReadOnly, Kind::Shared, Kind::CopyOnWrite] {
            let a = Guarded::new(3, kind);
            let page = rustix::param::page_size();
            a.lose(1);
            if kind == Kind::Shared {
                // First the file is mapped again; and then it is missing there as well.
                assert!(a.fault(page + 5));
                a.lose(1);
            }
            assert!(a.fault(page + 5));
            assert_eq!(a.bytes(), [2, 0, 4]);
            if kind != Kind::ReadOnly {
                a.at(page).store(7, Ordering::Relaxed);
            }
            assert!(a.fault(page + 5) && a.fault(page));
            assert_eq!(a.bytes(), [2, if kind == Kind::ReadOnly { 0 } else { 7 }, 4]);
            // Unless the memory itself is broken.
            assert!(a.node.handle(a.range, a.range.start + page, true));
        }
    }

    /// For file systems that do not let a file be mapped again.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn what_can_be_read_and_not_stored_to_is_copied_if_nothing_else_works() {
        let a = Guarded::new(2, Kind::Shared);
        assert!(a.node.put_copy(a.range, a.range.page_of(a.range.start)));
        assert_eq!(a.bytes(), [2, 3]);
        a.at(0).store(8, Ordering::Relaxed);
        a.lose(1);
        assert!(!a.node.put_copy(a.range, a.range.page_of(a.range.start + rustix::param::page_size())));
        a.node.file.store(-1, Ordering::Relaxed);
        assert!(a.fault(rustix::param::page_size()));
        assert_eq!(a.bytes(), [8, 0]);
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn of_a_file_that_others_truncated_nothing_is_left() {
        let page = rustix::param::page_size();
        for truncatable in [true, false] {
            let a = Guarded::new(3, Kind::Shared);
            a.node.truncatable.store(truncatable, Ordering::Relaxed);
            a.file.set_len((page + page) as u64).unwrap();
            while !a.node.all_replaced.load(Ordering::Relaxed)
                && readable(a.range.page_of(a.range.start + page)) != Some(true)
            {
                assert!(a.fault(page));
            }
            assert!(a.node.all_replaced.load(Ordering::Relaxed) == truncatable);
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

    /// As `fork` leaves it, when another thread of the parent is just replacing a page.
    #[test]
    fn an_election_of_another_process_is_none() {
        let elected = AtomicUsize::new(FORKS.load(Ordering::Relaxed).wrapping_add(7));
        let election = Election::win(&elected);
        assert_eq!(elected.load(Ordering::Relaxed), FORKS.load(Ordering::Relaxed).wrapping_add(1));
        drop(election);
        assert_eq!(elected.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn no_handler_of_another_signal_runs_in_an_election() {
        fn blocked(signal: c_int) -> bool {
            let mut now = MaybeUninit::<libc::sigset_t>::uninit();
            // SAFETY: it writes one set to where there is room for one.
            assert_eq!(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), now.as_mut_ptr()) }, 0);
            // SAFETY: the call wrote it.
            unsafe { libc::sigismember(now.as_ptr(), signal) == 1 }
        }
        let elected = AtomicUsize::new(0);
        let all = [libc::SIGUSR1, libc::SIGPROF, libc::SIGALRM, libc::SIGTERM];
        let election = Election::win(&elected);
        assert!(all.into_iter().all(blocked) && !blocked(libc::SIGBUS) && !blocked(libc::SIGSEGV));
        drop(election);
        assert!(!all.into_iter().any(blocked));
    }

    /// What is evicted is not replaced at the same time, nor the other way round.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn nothing_is_replaced_while_pages_are_evicted_nor_evicted_afterwards() {
        let guarded = Guarded::new(1, Kind::Shared);
        let (node, range) = (guarded.node, guarded.range);
        let watch = Watch::new(Kind::Shared);
        watch.node.store(ptr::from_ref(node).cast_mut(), Ordering::Relaxed);
        let start = ptr::with_exposed_provenance(range.start);
        let evicting = AtomicBool::new(false);
        let (ready, handling) = std::sync::mpsc::channel();
        std::thread::scope(|s| {
            let evicting = &evicting;
            let evicted = watch.unless_faulted(start, range.len(), || {
                evicting.store(true, Ordering::SeqCst);
                s.spawn(move || {
                    ready.send(()).unwrap();
                    assert!(node.handle(range, range.start, false));
                    assert!(!evicting.load(Ordering::SeqCst));
                });
                handling.recv().unwrap();
                (0..10_000).for_each(|_| std::thread::yield_now());
                evicting.store(false, Ordering::SeqCst);
            });
            assert!(evicted.is_some());
        });
        assert!(watch.faulted() && watch.unless_faulted(start, range.len(), || ()).is_none());
        // It is `guarded` that gives the node back.
        watch.node.store(ptr::null_mut(), Ordering::Relaxed);
    }
}
