//! Faults: a page of a mapped file that cannot be had (the file was truncated, the disk failed or is full) is reported by
//! a signal that ends the process. While a guarded call runs, it becomes a flag instead.
//!
//! Guarded calls enter their mapping in a registry of the whole process, so that faults of other threads that work for
//! the call are found too. The handler puts an anonymous page where the missing one was, raises the flag and returns; the
//! instruction is tried again and succeeds. Only if others have made the file shorter than the array, which breaks the
//! promise that its bytes stay, is the whole mapping replaced at once: a long pass over it is then one fault, and not one a
//! page. All other faults go to whoever handled them before.
//!
//! # Safety
//! What keeps this sound:
//! 1. Only memory of ours is replaced: a node's range is that of a mapping whose owner took the node, and gives it back
//!    before the mapping is unmapped or moved, so that no later mapping at the same address meets it.
//! 2. The handler may come at any moment: nodes are never freed, the list only grows, and a range that is being changed
//!    is recognised by its version.
//! 3. The handler does what may be done in the middle of anything: it loads atomics, takes part in an election, and
//!    makes system calls. It does not allocate from the heap, lock, or touch mapped files, and puts `errno` back. It waits
//!    only for an elected thread, which cannot wait for it: no signal handler runs on that thread meanwhile
//!    ([`Election`]), and a fork leaves no election behind, for it names its process.
//! 4. What is put in place has the address, the length and the rights of what was there; and, unless the file was
//!    truncated, the bytes that could still be read.
//! 5. Nothing is replaced unless somebody asked for it, by being in a guarded call of that very mapping; and each page
//!    once only, so that what is stored afterwards stays: [`Node::replaced`] remembers which.
//! 6. The descriptor that the handler looks at is open: whoever is in a guarded call has borrowed the file.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, OnceLock, PoisonError};

/// A mapping's place in the registry, taken at its first guarded call and given back with the value.
#[derive(Debug)]
pub(crate) struct Watch {
    node: OnceLock<&'static Node>,
    writable: bool,
}

/// As long as one lives, a fault in its mapping raises the flag and ends nothing.
#[derive(Debug)]
pub(crate) struct Inside<'a>(&'a Node);

impl Watch {
    pub(crate) fn new(writable: bool) -> Self {
        Self { node: OnceLock::new(), writable }
    }

    /// `start` shows byte `offset` of the file. `truncatable`: others can reach the file, and make it shorter.
    ///
    /// # Errors
    /// If the system does not let the process handle the signal.
    ///
    /// # Safety
    /// `start .. start + len` is a mapping of that part of the file, with the rights that this watch was made for. Until
    /// the watch is dropped, or told to [`forget`](Self::forget) it, it is neither unmapped nor moved, and called with no
    /// other range or file.
    pub(crate) unsafe fn enter<'a>(
        &'a self,
        start: *const u8,
        len: usize,
        file: &'a File,
        offset: u64,
        truncatable: bool,
    ) -> io::Result<Inside<'a>> {
        if !HANDLING.load(Ordering::Acquire) {
            registry().handle_signals()?;
        }
        let node = self.node(start, len);
        // The same for every call. Before `active`, so that the handler finds it.
        node.end.store(offset + len as u64, Ordering::Relaxed);
        node.file.store(file.as_raw_fd(), Ordering::Relaxed);
        node.truncatable.store(truncatable, Ordering::Relaxed);
        // Nothing that the call reads is read before this, nor after the opposite in `drop`.
        node.active.fetch_add(1, Ordering::AcqRel);
        Ok(Inside(node))
    }

    fn node(&self, start: *const u8, len: usize) -> &'static Node {
        self.node.get_or_init(|| registry().take(Range::of(start, len, self.writable)))
    }

    /// Whether pages of the mapping were replaced.
    pub(crate) fn faulted(&self) -> bool {
        self.node.get().is_some_and(|node| node.faulted.load(Ordering::Acquire))
    }

    /// Runs `f` if no page of the mapping was replaced, and lets none be replaced meanwhile. The mapping is the one that
    /// [`enter`](Self::enter) is called with.
    pub(crate) fn unless_faulted<R>(&self, start: *const u8, len: usize, f: impl FnOnce() -> R) -> Option<R> {
        let node = self.node(start, len);
        let _election = Election::win(&node.elected)?;
        let faulted = node.faulted.load(Ordering::Acquire);
        (!faulted).then(f)
    }

    /// To be called before the mapping is moved. Forgets that it faulted, too: one that did is not to be moved.
    pub(crate) fn forget(&mut self) {
        if let Some(node) = self.node.take() {
            registry().give_back(node);
        }
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
    writable: bool,
}

impl Range {
    const NOWHERE: Self = Self { start: 0, end: 0, writable: false };

    fn of(start: *const u8, len: usize, writable: bool) -> Self {
        let page = rustix::param::page_size();
        let end = (start.addr() + len).next_multiple_of(page);
        Self { start: start.addr() / page * page, end, writable }
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
        if self.writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ }
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
    writable: AtomicBool,
    /// Where the mapping ends in its file, in bytes.
    end: AtomicU64,
    file: AtomicI32,
    truncatable: AtomicBool,
    /// How many guarded calls are running.
    active: AtomicUsize,
    /// The process in which a thread is replacing pages, or keeps others from it; else 0.
    elected: AtomicI32,
    faulted: AtomicBool,
    /// A bit for each page that was replaced: memory that the first fault asks the system for. Written to by the elected
    /// thread only.
    replaced: AtomicPtr<AtomicU8>,
    all_replaced: AtomicBool,
}

impl Node {
    fn new(next: Option<&'static Node>) -> Self {
        Self {
            next,
            version: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            end_address: AtomicUsize::new(0),
            writable: AtomicBool::new(false),
            end: AtomicU64::new(0),
            file: AtomicI32::new(-1),
            truncatable: AtomicBool::new(false),
            active: AtomicUsize::new(0),
            elected: AtomicI32::new(0),
            faulted: AtomicBool::new(false),
            replaced: AtomicPtr::new(ptr::null_mut()),
            all_replaced: AtomicBool::new(false),
        }
    }

    /// For the owner, or for the registry while there is none.
    fn set(&self, range: Range) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.start.store(range.start, Ordering::Relaxed);
        self.end_address.store(range.end, Ordering::Relaxed);
        self.writable.store(range.writable, Ordering::Relaxed);
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// `None` while it changes: then nobody is in a guarded call of it.
    fn range(&self) -> Option<Range> {
        let version = self.version.load(Ordering::Acquire);
        let range = Range {
            start: self.start.load(Ordering::Relaxed),
            end: self.end_address.load(Ordering::Relaxed),
            writable: self.writable.load(Ordering::Relaxed),
        };
        fence(Ordering::Acquire);
        let settled = version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version;
        settled.then_some(range)
    }

    /// Whether the instruction at fault is to be tried again.
    fn handle(&self, range: Range, address: usize) -> bool {
        let Some(_election) = Election::win(&self.elected) else { return false };
        let Some(bits) = self.bits(range) else { return false };
        let page = range.page_of(address);
        let (byte, bit) = bit_of(range, page);
        // SAFETY: there is a bit for each page of the range, eight to a byte.
        let byte = unsafe { &*bits.wrapping_add(byte) };
        // By the time a thread gets here, another may have been and gone.
        if self.all_replaced.load(Ordering::Relaxed) || byte.load(Ordering::Relaxed) & bit != 0 {
            return true;
        }
        let truncated = self.is_truncated();
        let replaced = if truncated { put_zeros(range) } else { self.put_copy(range, page) || put_zeros(page) };
        if replaced {
            byte.fetch_or(bit, Ordering::Relaxed);
            self.all_replaced.store(truncated, Ordering::Relaxed);
            self.faulted.store(true, Ordering::Release);
        }
        replaced
    }

    /// By what the system says of the file; if it says nothing, the file is taken to be whole.
    fn is_truncated(&self) -> bool {
        let is_short = |len| len < self.end.load(Ordering::Relaxed);
        self.truncatable.load(Ordering::Relaxed) && file_len(self.file.load(Ordering::Relaxed)).is_some_and(is_short)
    }

    /// The bits that tell which pages were replaced; `None` if there is no memory for them.
    fn bits(&self, range: Range) -> Option<*mut AtomicU8> {
        let known = self.replaced.load(Ordering::Relaxed);
        if !known.is_null() {
            return Some(known);
        }
        let bits = anonymous(bytes_of_bits(range))?.cast();
        self.replaced.store(bits, Ordering::Relaxed);
        Some(bits)
    }

    /// Puts a page of memory in the place of one, with the bytes that can still be read from the file: where it is only
    /// storing that fails, there are. `false` if there are none, or none but zeros.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn put_copy(&self, range: Range, page: Range) -> bool {
        let Some(copy) = anonymous(page.len()) else { return false };
        // Pages of memory and of the file end together.
        let end = self.end.load(Ordering::Relaxed).next_multiple_of(page.len() as u64);
        let offset = end.saturating_sub((range.end - page.start) as u64);
        let got = read_page(self.file.load(Ordering::Relaxed), copy, page.len(), offset);
        // SAFETY: it was mapped readable a moment ago, and nobody else knows it.
        let bytes = unsafe { std::slice::from_raw_parts(copy.cast::<u8>(), page.len()) };
        let put = got && bytes.iter().any(|&b| b != 0) && put_memory(copy, page);
        if !put {
            // SAFETY: as above; the slice is not used any more.
            unsafe { libc::munmap(copy, page.len()) };
        }
        put
    }

    /// Elsewhere there is no way to put a page in place that is filled already.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn put_copy(&self, _: Range, _: Range) -> bool {
        false
    }
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

/// Moves memory to the place of a page, in one step.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn put_memory(memory: *mut c_void, page: Range) -> bool {
    // SAFETY: `memory` is the caller's own, and as long as the page; it was written to before.
    let protected = unsafe { libc::mprotect(memory, page.len(), page.protection()) } == 0;
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: as in `put_zeros`.
    protected && unsafe { libc::mremap(memory, page.len(), page.len(), flags, page.address()) != libc::MAP_FAILED }
}

/// Whether any of it could be read. What follows the end of the file stays as it is.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn read_page(file: c_int, to: *mut c_void, len: usize, offset: u64) -> bool {
    let Ok(offset) = offset.try_into() else { return false };
    // SAFETY: `to` is the caller's own, and as long as that; (6).
    unsafe { libc::pread64(file, to, len, offset) > 0 }
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

/// The right to replace pages of a node, or to keep others from it, until it is dropped. Meanwhile no handler of another
/// signal runs on this thread, which could touch the node's mapping and wait for itself.
struct Election<'a> {
    elected: &'a AtomicI32,
    signals: libc::sigset_t,
}

impl<'a> Election<'a> {
    /// How long others are waited for: longer than a disk takes that is tried again by the system.
    const MOST_WAITS: u32 = 60_000;
    const WAIT: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };

    /// `None` if another thread is elected, and stays so.
    fn win(elected: &'a AtomicI32) -> Option<Self> {
        // SAFETY: it may be called anywhere, and has no demands.
        let process = unsafe { libc::getpid() };
        let signals = block_signals();
        for _ in 0..Self::MOST_WAITS {
            let now = elected.load(Ordering::Relaxed);
            // Another process: it was elected when this one was forked from it, and no thread here is it.
            let free = now == 0 || now != process;
            if free && elected.compare_exchange(now, process, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Some(Self { elected, signals });
            }
            if !free {
                // SAFETY: (3) it may be called anywhere, with a time that is valid.
                unsafe { libc::nanosleep(&Self::WAIT, ptr::null_mut()) };
            }
        }
        unblock_signals(&signals);
        None
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

/// What is never touched by the handler.
static REGISTRY: Mutex<Registry> = Mutex::new(Registry { free: Vec::new() });

/// Whether our handler is installed, and has not taken itself out of the way. Set under the lock of the registry.
static HANDLING: AtomicBool = AtomicBool::new(false);

fn registry() -> std::sync::MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Registry {
    free: Vec<&'static Node>,
}

impl Registry {
    fn take(&mut self, range: Range) -> &'static Node {
        let node = self.free.pop().unwrap_or_else(|| {
            let node = Box::leak(Box::new(Node::new(first())));
            FIRST.store(node, Ordering::Release);
            node
        });
        node.faulted.store(false, Ordering::Relaxed);
        node.set(range);
        node
    }

    fn give_back(&mut self, node: &'static Node) {
        debug_assert_eq!(node.active.load(Ordering::Relaxed), 0);
        let range = node.range();
        node.set(Range::NOWHERE);
        node.all_replaced.store(false, Ordering::Relaxed);
        let bits = node.replaced.swap(ptr::null_mut(), Ordering::Relaxed);
        if let Some(range) = range.filter(|_| !bits.is_null()) {
            // SAFETY: `bits` mapped it, as long as this; the handler, which alone uses it, does not come here any more.
            unsafe { libc::munmap(bits.cast(), bytes_of_bits(range)) };
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

/// The default action, for a handler before ours that has taken itself out of the way. Zeros are valid in this plain C
/// struct: no flags, the default action, no signal blocked.
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
        Cause::MissingPage(address) => handle(address),
        Cause::Instruction | Cause::Message => false,
    };
    if !handled {
        pass_on(signal, info, context, cause);
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
            libc::BUS_ADRERR | libc::BUS_MCEERR_AR => {}
            libc::BUS_MCEERR_AO => return Cause::Message,
            1.. => return Cause::Instruction,
            _ => return Cause::Message,
        }
        // SAFETY: the system sent the signal for an access to memory, so the address is there.
        Cause::MissingPage(unsafe { info.si_addr() }.addr())
    }
}

/// Whether the address is in a mapping of a guarded call, and is good to be tried again.
fn handle(address: usize) -> bool {
    let mut next = first();
    while let Some(node) = next {
        if node.active.load(Ordering::Acquire) > 0
            && let Some(range) = node.range()
            && range.holds(address)
        {
            return node.handle(range, address);
        }
        next = node.next;
    }
    false
}

/// Does what would have been done without us.
fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void, cause: Cause) {
    let previous = SIGNALS.iter().zip(&PREVIOUS).find(|(s, _)| **s == signal).map(|(_, previous)| previous);
    // SAFETY: null, or what `install` or `keep_guarding` put there, which nobody frees or changes.
    let action = previous.and_then(|previous| unsafe { previous.load(Ordering::Acquire).as_ref() }).unwrap_or(&DEFAULT);
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
    if let Some((previous, in_place)) = previous.zip(in_place) {
        keep_guarding(signal, previous, &in_place, cause);
    }
}

/// A handler that was called for what is not its own may have changed what is `in_place`. Rust's own does: it puts the
/// default action there and returns, so that a fault comes again and ends the process.
///
/// What is no fault does not come again. What was in place is put back then, ours or what leads to it, and has the default
/// action to pass on to: the next such signal ends the process, as it would without us.
fn keep_guarding(signal: c_int, previous: &AtomicPtr<libc::sigaction>, in_place: &libc::sigaction, cause: Cause) {
    match installed(signal) {
        Some(now) if now.sa_sigaction == in_place.sa_sigaction => {}
        Some(now) if now.sa_sigaction == libc::SIG_DFL && cause == Cause::Message => {
            previous.store((&raw const DEFAULT).cast_mut(), Ordering::Release);
            // SAFETY: it was in place before, and its handler was not unloaded meanwhile: it may be running.
            unsafe { libc::sigaction(signal, in_place, ptr::null_mut()) };
        }
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
        Range { start, end: start + 4096, writable: true }
    }

    #[test]
    fn a_range_that_is_being_changed_is_not_believed() {
        let node = Node::new(None);
        node.set(range(4096));
        assert!(node.range().is_some_and(|r| r.holds(4096) && !r.holds(8192) && r.writable));
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
        assert_eq!(cause(libc::BUS_MCEERR_AR), Cause::MissingPage(0));
        assert_eq!(cause(libc::BUS_ADRALN), Cause::Instruction);
        assert_eq!([libc::BUS_MCEERR_AO, libc::SI_USER, libc::SI_TKILL].map(cause), [Cause::Message; 3]);
    }

    #[test]
    fn a_range_is_whole_pages() {
        let page = rustix::param::page_size();
        let r = Range::of(ptr::without_provenance(5 * page + 8), page, false);
        assert_eq!((r.start, r.end), (5 * page, 7 * page));
    }

    /// Two pages of a file that is not there, as a guarded call of another thread would have it.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn guarded_pages(pages: usize) -> (&'static Node, Range) {
        let len = pages * rustix::param::page_size();
        let start = anonymous(len).unwrap();
        let node: &'static Node = Box::leak(Box::new(Node::new(None)));
        let range = Range::of(start.cast(), len, true);
        node.set(range);
        node.active.store(1, Ordering::Relaxed);
        (node, range)
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn byte(range: Range, at: usize) -> &'static AtomicU8 {
        // SAFETY: the pages are mapped, or others were put in their place, and nobody unmaps them.
        unsafe { &*ptr::with_exposed_provenance::<AtomicU8>(range.start + at) }
    }

    /// A thread that faulted before another had the page replaced comes to it late.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn a_page_is_replaced_once_and_its_neighbour_never() {
        let (node, range) = guarded_pages(2);
        let page = range.len() / 2;
        byte(range, 0).store(1, Ordering::Relaxed);
        byte(range, page).store(2, Ordering::Relaxed);
        assert!(node.handle(range, range.start + 5));
        assert_eq!([0, page].map(|at| byte(range, at).load(Ordering::Relaxed)), [0, 2]);
        byte(range, 0).store(3, Ordering::Relaxed);
        assert!(node.handle(range, range.start));
        assert_eq!([0, page].map(|at| byte(range, at).load(Ordering::Relaxed)), [3, 2]);
    }

    /// Where it is only storing that fails, the page can still be read.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn what_can_still_be_read_is_what_a_replaced_page_shows() {
        use std::os::fd::AsRawFd;
        let (node, range) = guarded_pages(3);
        let page = range.len() / 3;
        let mut file = tempfile::tempfile().unwrap();
        // The mapping starts in the second page of the file, and ends within the fourth.
        let bytes: Vec<u8> = (0..4 * page - 10).map(|at| (at / page) as u8 + 1).collect();
        std::io::Write::write_all(&mut file, &bytes).unwrap();
        node.file.store(file.as_raw_fd(), Ordering::Relaxed);
        node.end.store(bytes.len() as u64, Ordering::Relaxed);
        node.truncatable.store(true, Ordering::Relaxed);
        for n in 0..3 {
            assert!(node.handle(range, range.start + n * page + 7));
            assert_eq!(usize::from(byte(range, n * page).load(Ordering::Relaxed)), n + 2);
        }
        assert_eq!(byte(range, 3 * page - 11).load(Ordering::Relaxed), 4);
        assert_eq!(byte(range, 3 * page - 10).load(Ordering::Relaxed), 0);

        // And of a file that is shorter than the mapping, nothing is left.
        let (node, range) = guarded_pages(3);
        file.set_len(bytes.len() as u64 - 1).unwrap();
        node.file.store(file.as_raw_fd(), Ordering::Relaxed);
        node.end.store(bytes.len() as u64, Ordering::Relaxed);
        node.truncatable.store(true, Ordering::Relaxed);
        (0..3).for_each(|n| byte(range, n * page).store(9, Ordering::Relaxed));
        assert!(node.handle(range, range.start + page));
        (0..3).for_each(|n| assert_eq!(byte(range, n * page).load(Ordering::Relaxed), 0));
        byte(range, 0).store(1, Ordering::Relaxed);
        assert!(node.handle(range, range.start));
        assert_eq!(byte(range, 0).load(Ordering::Relaxed), 1);
    }

    /// As `fork` leaves it, when another thread of the parent is just replacing a page.
    #[test]
    fn an_election_of_another_process_is_none() {
        let elected = AtomicI32::new(1);
        let election = Election::win(&elected).unwrap();
        assert_eq!(elected.load(Ordering::Relaxed), std::process::id() as i32);
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
        let elected = AtomicI32::new(0);
        let all = [libc::SIGUSR1, libc::SIGPROF, libc::SIGALRM, libc::SIGTERM];
        let election = Election::win(&elected).unwrap();
        assert!(all.into_iter().all(blocked) && !blocked(libc::SIGBUS) && !blocked(libc::SIGSEGV));
        drop(election);
        assert!(!all.into_iter().any(blocked));
    }

    /// What is evicted is not replaced at the same time, nor the other way round.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn nothing_is_replaced_while_pages_are_evicted_nor_evicted_afterwards() {
        let (node, range) = guarded_pages(1);
        let mut watch = Watch::new(true);
        watch.node.set(node).unwrap();
        let start = ptr::with_exposed_provenance(range.start);
        let evicting = AtomicBool::new(false);
        let (ready, handling) = std::sync::mpsc::channel();
        std::thread::scope(|s| {
            let evicting = &evicting;
            let evicted = watch.unless_faulted(start, range.len(), || {
                evicting.store(true, Ordering::SeqCst);
                s.spawn(move || {
                    ready.send(()).unwrap();
                    assert!(node.handle(range, range.start));
                    assert!(!evicting.load(Ordering::SeqCst));
                });
                handling.recv().unwrap();
                (0..10_000).for_each(|_| std::thread::yield_now());
                evicting.store(false, Ordering::SeqCst);
            });
            assert!(evicted.is_some());
        });
        assert!(watch.faulted() && watch.unless_faulted(start, range.len(), || ()).is_none());
        // It is not of the registry.
        watch.node.take();
    }
}
