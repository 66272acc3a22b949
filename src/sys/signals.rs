//! Signals of a unix process: how they are handled, blocked and decoded.
//!
//! Every function here is async-signal-safe: it makes system calls, does not allocate, and takes no lock. The caller in a
//! signal handler must preserve [`errno`].
//!
//! # Safety
//! 1. What is passed to the system is valid for it: one initialised struct to read, or room for one to write.
//! 2. A struct is taken as initialised only if the call that writes it cannot fail, or succeeded.
//! 3. What can run any code at a signal ([`Action::install`], [`Action::call`]) is an `unsafe fn`.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_long, c_void};
use std::mem::MaybeUninit;
use std::ptr;

/// What the system reports about a signal.
pub(crate) type Info = libc::siginfo_t;

/// A handler, called with the signal, what the system reports about it, and the state of the interrupted thread.
pub(crate) type Handler = extern "C" fn(c_int, *mut Info, *mut c_void);

/// The signals that report missing pages. Linux uses only `SIGBUS`; other systems use either.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) const MISSING_PAGE: [c_int; 1] = [libc::SIGBUS];
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) const MISSING_PAGE: [c_int; 2] = [libc::SIGBUS, libc::SIGSEGV];

/// What happens at a signal.
#[derive(Clone, Copy)]
pub(crate) struct Action(libc::sigaction);

impl Action {
    // SAFETY: zeros are valid in this plain C struct: no flags, the default action, no signal blocked.
    pub(crate) const DEFAULT: Self = Self(unsafe { std::mem::zeroed() });

    /// Runs `handler` on the alternate stack, for stack overflows raise the same signals. The signal is not blocked
    /// meanwhile, so that a fault in a handler that `handler` calls does not end the process.
    pub(crate) fn of(handler: Handler) -> Self {
        let mut action = Self::DEFAULT;
        action.0.sa_sigaction = handler as libc::sighandler_t;
        action.0.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        action
    }

    /// What happens at `signal` now; `None` after an error.
    pub(crate) fn installed(signal: c_int) -> Option<Self> {
        let mut now = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: (1) room for one struct; null changes nothing.
        let failed = unsafe { libc::sigaction(signal, ptr::null(), now.as_mut_ptr()) } != 0;
        if failed {
            return None;
        }
        // SAFETY: (2) the call succeeded.
        Some(Self(unsafe { now.assume_init() }))
    }

    /// Returns whether the system accepted it.
    ///
    /// # Safety
    /// The handler, if it is one, exists as long as it is installed, has the signature that the flags say, and does only
    /// what a signal handler may do.
    pub(crate) unsafe fn install(&self, signal: c_int) -> bool {
        // SAFETY: (1), (3) by the caller.
        unsafe { libc::sigaction(signal, &self.0, ptr::null_mut()) == 0 }
    }

    pub(crate) fn is_default(&self) -> bool {
        self.0.sa_sigaction == libc::SIG_DFL
    }

    pub(crate) fn is_ignored(&self) -> bool {
        self.0.sa_sigaction == libc::SIG_IGN
    }

    pub(crate) fn has_handler_of(&self, other: &Self) -> bool {
        self.0.sa_sigaction == other.0.sa_sigaction
    }

    /// Calls its handler, with those of the arguments that its signature takes.
    ///
    /// # Safety
    /// It was installed in this process, and is neither ignored nor the default action. The arguments are those of the
    /// signal that is being handled.
    pub(crate) unsafe fn call(&self, signal: c_int, info: *mut Info, context: *mut c_void) {
        if self.0.sa_flags & libc::SA_SIGINFO != 0 {
            // SAFETY: (3) a handler that was installed with SA_SIGINFO has this signature.
            let handler: Handler = unsafe { std::mem::transmute(self.0.sa_sigaction) };
            handler(signal, info, context);
        } else {
            // SAFETY: (3) a handler that was installed without SA_SIGINFO has this signature.
            let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(self.0.sa_sigaction) };
            handler(signal);
        }
    }
}

/// Why a signal of [`MISSING_PAGE`] was raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), expect(dead_code))]
pub(crate) enum Cause {
    /// An access to this address, where a page may be missing.
    MissingPage(usize),
    /// An access to this address, where the memory itself is broken.
    BrokenPage(usize),
    /// Another instruction that faults again if nothing is done.
    Instruction,
    /// It does not come again: a process sent it, by `kill` or the like, or the system reports broken memory that nobody
    /// has used yet.
    Message,
}

impl Cause {
    /// Outside Linux the code says little that is reliable: all are taken to be missing pages.
    pub(crate) fn of(info: &Info) -> Self {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        match info.si_code {
            libc::BUS_ADRERR => {}
            // SAFETY: the system sent the signal for an access to memory, so the address is there.
            libc::BUS_MCEERR_AR => return Cause::BrokenPage(unsafe { info.si_addr() }.addr()),
            libc::BUS_MCEERR_AO => return Cause::Message,
            1.. => return Cause::Instruction,
            _ => return Cause::Message,
        }
        // SAFETY: as above.
        Cause::MissingPage(unsafe { info.si_addr() }.addr())
    }
}

/// Sends a signal to the calling thread.
pub(crate) fn raise(signal: c_int) {
    // SAFETY: no demands.
    unsafe { libc::raise(signal) };
}

/// As long as one lives, no handler runs on this thread but those of faults of its own: blocking these would end the
/// process. Must be dropped on the same thread.
pub(crate) struct BlockedSignals {
    before: libc::sigset_t,
}

impl BlockedSignals {
    pub(crate) fn all_but_faults() -> Self {
        let mut signals = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: (1) room for one set.
        unsafe { libc::sigfillset(signals.as_mut_ptr()) };
        for fault in [libc::SIGBUS, libc::SIGSEGV, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP] {
            // SAFETY: (1) the set was filled.
            unsafe { libc::sigdelset(signals.as_mut_ptr(), fault) };
        }
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: (1) one set to read, and room for one.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, signals.as_ptr(), before.as_mut_ptr()) };
        // SAFETY: (2) with this first argument the call cannot fail.
        Self { before: unsafe { before.assume_init() } }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: (1) one set to read.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}

/// Sleeps for less than a second, or until a signal is handled.
pub(crate) fn sleep(nanoseconds: c_long) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: nanoseconds };
    // SAFETY: (1) one time to read.
    unsafe { libc::nanosleep(&time, ptr::null_mut()) };
}

/// The calling thread's error number.
pub(crate) fn errno() -> c_int {
    // SAFETY: the calling thread's own, and valid as long as the thread.
    unsafe { *errno_location() }
}

pub(crate) fn set_errno(value: c_int) {
    // SAFETY: as above.
    unsafe { *errno_location() = value };
}

fn errno_location() -> *mut c_int {
    #[cfg(any(target_os = "illumos", target_os = "solaris"))]
    use libc::___errno as location;
    #[cfg(any(target_os = "android", target_os = "netbsd", target_os = "openbsd"))]
    use libc::__errno as location;
    #[cfg(any(target_os = "linux", target_os = "dragonfly"))]
    use libc::__errno_location as location;
    #[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
    use libc::__error as location;
    // SAFETY: no demands.
    unsafe { location() }
}

/// Signals that are no faults.
#[cfg(test)]
pub(crate) const OTHERS: [c_int; 4] = [libc::SIGUSR1, libc::SIGPROF, libc::SIGALRM, libc::SIGTERM];

#[cfg(test)]
pub(crate) fn is_blocked(signal: c_int) -> bool {
    let mut now = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: (1) room for one set.
    assert_eq!(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), now.as_mut_ptr()) }, 0);
    // SAFETY: (2) the call succeeded.
    unsafe { libc::sigismember(now.as_ptr(), signal) == 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn what_will_not_come_again_is_told_from_what_will() {
        let cause = |code| {
            // SAFETY: a plain C struct, for which zeros are valid.
            let mut info: Info = unsafe { std::mem::zeroed() };
            info.si_code = code;
            Cause::of(&info)
        };
        assert_eq!(cause(libc::BUS_ADRERR), Cause::MissingPage(0));
        assert_eq!(cause(libc::BUS_MCEERR_AR), Cause::BrokenPage(0));
        assert_eq!(cause(libc::BUS_ADRALN), Cause::Instruction);
        assert_eq!([libc::BUS_MCEERR_AO, libc::SI_USER, libc::SI_TKILL].map(cause), [Cause::Message; 3]);
    }

    #[test]
    fn all_signals_are_blocked_but_those_of_faults() {
        let blocked = BlockedSignals::all_but_faults();
        assert!(OTHERS.into_iter().all(is_blocked) && !is_blocked(libc::SIGBUS) && !is_blocked(libc::SIGSEGV));
        drop(blocked);
        assert!(!OTHERS.into_iter().any(is_blocked));
    }
}
