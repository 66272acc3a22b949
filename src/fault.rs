//! Faults: a page of a mapped file that cannot be had (the file was cut, the disk failed or is full) is told by a
//! signal that ends the process. While a guarded call runs, it becomes a flag instead.
//!
//! Guarded calls enter their mapping in a registry of the whole process, so that faults of other threads that work for
//! the call are found too. The handler puts anonymous pages where the mapping was, raises the flag and returns; the
//! instruction is tried again and finds zeros. All other faults go to whoever handled them before.
//!
//! # Safety
//! What keeps this sound:
//! 1. Only memory of ours is replaced: a node's range is that of a mapping whose owner took the node, and gives it back
//!    before the mapping is unmapped or moved, so that no later mapping at the same address meets it.
//! 2. The handler may come at any moment: nodes are never freed, the list only grows, and a range that is being changed
//!    is told by its version.
//! 3. The handler does what may be done in the middle of anything: it loads atomics, takes part in an election, and
//!    makes system calls. It does not allocate, lock, wait, or touch mapped memory, and puts `errno` back.
//! 4. What is put in place has the address, the length and the rights of what was there.
//! 5. Nothing is replaced unless somebody asked for it, by being in a guarded call of that very mapping; and once only,
//!    so that what is stored afterwards stays.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, OnceLock, PoisonError};

/// What a fault replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of the mapping, so that a long walk over a file that was cut is one fault and not one for each page.
    Mapping,
    /// The page that is missing, and no byte that anybody has seen: for arrays that nobody made a promise about.
    Page,
}

/// A mapping's place in the registry, taken at its first guarded call and given back with the value.
#[derive(Debug)]
pub(crate) struct Watch {
    node: OnceLock<&'static Node>,
    writable: bool,
    scope: Scope,
}

/// As long as one lives, a fault in its mapping raises the flag and ends nothing.
#[derive(Debug)]
pub(crate) struct Inside<'a>(&'a Node);

impl Watch {
    pub(crate) fn new(writable: bool, scope: Scope) -> Self {
        Self { node: OnceLock::new(), writable, scope }
    }

    /// Before the first guarded call.
    pub(crate) fn replace_only(&mut self, scope: Scope) {
        self.scope = scope;
    }

    /// # Errors
    /// If the system does not let the process handle the signal.
    ///
    /// # Safety
    /// `start .. start + len` is a mapping with the rights that this watch was made for. Until the watch is dropped, or
    /// told to [`forget`](Self::forget) it, it is neither unmapped nor moved, and called with no other range.
    pub(crate) unsafe fn enter(&self, start: *const u8, len: usize) -> io::Result<Inside<'_>> {
        let node = match self.node.get() {
            Some(node) if HANDLING.load(Ordering::Acquire) => node,
            _ => {
                let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
                registry.handle_signals()?;
                self.node.get_or_init(|| registry.take(Range::of(start, len, self.writable, self.scope)))
            }
        };
        // Nothing that the call reads is read before this, nor after the opposite in `drop`.
        node.active.fetch_add(1, Ordering::AcqRel);
        Ok(Inside(node))
    }

    /// Whether pages of the mapping were replaced.
    pub(crate) fn faulted(&self) -> bool {
        self.node.get().is_some_and(|node| node.faulted.load(Ordering::Acquire))
    }

    /// To be called before the mapping is moved. Forgets that it faulted, too: one that did is not to be moved.
    pub(crate) fn forget(&mut self) {
        if let Some(node) = self.node.take() {
            REGISTRY.lock().unwrap_or_else(PoisonError::into_inner).give_back(node);
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

/// Whole pages, and how to replace them.
#[derive(Clone, Copy, Debug)]
struct Range {
    start: usize,
    end: usize,
    writable: bool,
    scope: Scope,
}

impl Range {
    const NOWHERE: Self = Self { start: 0, end: 0, writable: false, scope: Scope::Mapping };

    fn of(start: *const u8, len: usize, writable: bool, scope: Scope) -> Self {
        let page = rustix::param::page_size();
        let end = (start.addr() + len).next_multiple_of(page);
        Self { start: start.addr() / page * page, end, writable, scope }
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
}

/// One registered mapping; afterwards, the place of a later one.
#[derive(Debug)]
struct Node {
    /// The node that was first before this one.
    next: Option<&'static Node>,
    /// Odd while the range changes.
    version: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    writable: AtomicBool,
    by_page: AtomicBool,
    /// How many guarded calls are running.
    active: AtomicUsize,
    /// Whether a thread is replacing pages.
    elected: AtomicBool,
    faulted: AtomicBool,
}

impl Node {
    fn new(next: Option<&'static Node>) -> Self {
        Self {
            next,
            version: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            writable: AtomicBool::new(false),
            by_page: AtomicBool::new(false),
            active: AtomicUsize::new(0),
            elected: AtomicBool::new(false),
            faulted: AtomicBool::new(false),
        }
    }

    /// For the owner, or for the registry while there is none.
    fn set(&self, range: Range) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.start.store(range.start, Ordering::Relaxed);
        self.end.store(range.end, Ordering::Relaxed);
        self.writable.store(range.writable, Ordering::Relaxed);
        self.by_page.store(range.scope == Scope::Page, Ordering::Relaxed);
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// `None` while it changes: then nobody is in a guarded call of it.
    fn range(&self) -> Option<Range> {
        let version = self.version.load(Ordering::Acquire);
        let range = Range {
            start: self.start.load(Ordering::Relaxed),
            end: self.end.load(Ordering::Relaxed),
            writable: self.writable.load(Ordering::Relaxed),
            scope: if self.by_page.load(Ordering::Relaxed) { Scope::Page } else { Scope::Mapping },
        };
        fence(Ordering::Acquire);
        let settled = version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version;
        settled.then_some(range)
    }

    /// Whether the instruction at fault is to be tried again.
    fn handle(&self, range: Range, address: usize) -> bool {
        if self.elected.swap(true, Ordering::AcqRel) {
            // Another thread is at it. This one faults again, and again, until that has been done.
            return true;
        }
        let handled = match range.scope {
            // By the time a thread gets here, another may have been and gone.
            Scope::Mapping => self.faulted.load(Ordering::Acquire) || self.replace(range),
            Scope::Page => can_be_had(range.page_of(address)) || self.replace(range.page_of(address)),
        };
        self.elected.store(false, Ordering::Release);
        handled
    }

    fn replace(&self, range: Range) -> bool {
        let protection = if range.writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_FIXED | RESERVE_NOTHING;
        // SAFETY: by (1) and (5) it is pages of a mapping that somebody in a guarded call owns, and only the elected
        // thread comes here; (4) by `range`.
        let at = unsafe { libc::mmap(range.address(), range.len(), protection, flags, -1, 0) };
        let replaced = at != libc::MAP_FAILED;
        if replaced {
            self.faulted.store(true, Ordering::Release);
        }
        replaced
    }
}

/// A mapping larger than memory must not be refused for want of memory that nobody will use.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple", target_os = "netbsd"))]
const RESERVE_NOTHING: c_int = libc::MAP_NORESERVE;
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple", target_os = "netbsd")))]
const RESERVE_NOTHING: c_int = 0;

/// Whether a page is there after all: another thread may have replaced it, and stored to it, since this one faulted.
///
/// Where the system cannot tell, the page is taken to be missing.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn can_be_had(page: Range) -> bool {
    let advice = if page.writable { libc::MADV_POPULATE_WRITE } else { libc::MADV_POPULATE_READ };
    // SAFETY: it changes no byte of the page, and where an access would be a fault it fails.
    unsafe { libc::madvise(page.address(), page.len(), advice) == 0 }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn can_be_had(_: Range) -> bool {
    false
}

/// The nodes: what the handler follows. Each is there for good.
static FIRST: AtomicPtr<Node> = AtomicPtr::new(ptr::null_mut());

/// What is never touched by the handler.
static REGISTRY: Mutex<Registry> = Mutex::new(Registry { free: Vec::new() });

/// Whether our handler is installed, and has not taken itself out of the way. Set under the lock of the registry.
static HANDLING: AtomicBool = AtomicBool::new(false);

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
        node.set(Range::NOWHERE);
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

fn install(signal: c_int, previous: &AtomicPtr<libc::sigaction>) -> io::Result<()> {
    let mut old = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: it writes one `sigaction` to where there is room for one.
    let asked = unsafe { libc::sigaction(signal, ptr::null(), old.as_mut_ptr()) };
    if asked != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it wrote it.
    let old = unsafe { old.assume_init() };
    if previous.load(Ordering::Relaxed).is_null() {
        // Before ours is in place, so that it finds whom to pass a fault on to.
        previous.store(Box::into_raw(Box::new(old)), Ordering::Release);
    } else if old.sa_sigaction != libc::SIG_DFL {
        // Ours is still there, or one of somebody else's that may well call it: called by it and calling it, ours would
        // never end.
        return Ok(());
    }

    // SAFETY: a plain C struct, for which zeros are valid: no flags, the default action, no signal blocked.
    let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_signal;
    new.sa_sigaction = handler as libc::sighandler_t;
    // On the alternate stack, for overflows of the normal one come this way; not blocked meanwhile, so that a fault in
    // the handler we pass it on to is not the end of the process.
    new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
    // SAFETY: `on_signal` has the signature that SA_SIGINFO asks for, and does (3) what a handler may.
    let installed = unsafe { libc::sigaction(signal, &new, ptr::null_mut()) };
    if installed != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
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
    let previous = SIGNALS.iter().zip(&PREVIOUS).find(|(s, _)| **s == signal);
    let previous = previous.map_or(ptr::null_mut(), |(_, previous)| previous.load(Ordering::Acquire));
    // SAFETY: null, or what `install` put there, which nobody frees or changes.
    let previous = unsafe { previous.as_ref() };
    let (handler, flags) = previous.map_or((libc::SIG_DFL, 0), |p| (p.sa_sigaction, p.sa_flags));
    match handler {
        // The system lets nobody ignore a fault.
        libc::SIG_IGN if cause == Cause::Message => {}
        libc::SIG_IGN | libc::SIG_DFL => default_action(signal, cause),
        handler if flags & libc::SA_SIGINFO != 0 => {
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
}

/// Ends the process, as the default action does. On return from the handler the instruction faults again, so that a
/// core dump shows it, and not us.
///
/// Should it succeed instead, because the page has come back meanwhile, the process goes on, and the next guarded call
/// installs our handler again. Calls that are running are no longer guarded.
fn default_action(signal: c_int, cause: Cause) {
    // SAFETY: a plain C struct, for which zeros are valid: the default action, with no flags.
    let default: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: it installs no handler.
    unsafe { libc::sigaction(signal, &default, ptr::null_mut()) };
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
        Range { start, end: start + 4096, writable: true, scope: Scope::Page }
    }

    #[test]
    fn a_range_that_is_being_changed_is_not_believed() {
        let node = Node::new(None);
        node.set(range(4096));
        assert!(node.range().is_some_and(|r| r.holds(4096) && !r.holds(8192) && r.writable && r.scope == Scope::Page));
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
        let r = Range::of(ptr::without_provenance(5 * page + 8), page, false, Scope::Mapping);
        assert_eq!((r.start, r.end), (5 * page, 7 * page));
    }
}
