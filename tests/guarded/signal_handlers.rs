//! The handler of faults gets along with those of others: what is not ours is theirs, whoever came first.

use std::ffi::{c_int, c_void};
use std::fs::{self, OpenOptions};
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::process::in_child;
use ndarray::prelude::*;
use ndarray_mmap::{ErrorKind, MmapArray};

const LEN: usize = 1 << 16;

/// What the handlers of these tests exit with.
const THEIRS: i32 = 77;

fn open(path: &Path) -> MmapArray<u8, Ix1> {
    fs::write(path, vec![1u8; LEN]).unwrap();
    // SAFETY: only this test knows the file, and does not read what it truncates, unless the process is meant to die.
    unsafe { MmapArray::<u8>::options().shape(LEN).open(path).unwrap() }
}

fn truncate(path: &Path) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
}

#[track_caller]
fn catches_a_truncation(dir: &tempfile::TempDir) {
    let path = dir.path().join("guarded.bin");
    let a = open(&path);
    let err = a.guarded(|view| {
        truncate(&path);
        view[LEN - 1]
    });
    assert_eq!(err.unwrap_err().kind(), ErrorKind::Truncated);
}

/// A fault outside of guarded calls.
fn fault(dir: &tempfile::TempDir) {
    let path = dir.path().join("unguarded.bin");
    let a = open(&path);
    truncate(&path);
    assert_eq!(a[LEN - 1], 0);
}

/// Installs an action for `SIGBUS` and returns the one that was there.
fn install(action: libc::sighandler_t, flags: c_int) -> libc::sigaction {
    let mut old = MaybeUninit::uninit();
    // SAFETY: a plain C struct, for which zeros are valid.
    let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
    (new.sa_sigaction, new.sa_flags) = (action, flags);
    // SAFETY: the handlers of this file have the signatures that their flags ask for, and do nothing a handler may not.
    assert_eq!(unsafe { libc::sigaction(libc::SIGBUS, &new, old.as_mut_ptr()) }, 0);
    // SAFETY: the call succeeded, so it wrote it.
    unsafe { old.assume_init() }
}

extern "C" fn exits(_: c_int) {
    // SAFETY: a handler may exit so.
    unsafe { libc::_exit(THEIRS) }
}

/// Exits if the address of the fault was passed to it.
extern "C" fn exits_informed(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the system, or the handler that passes it on, hands over a valid one.
    let address = unsafe { (*info).si_addr() };
    if signal == libc::SIGBUS && !address.is_null() && !context.is_null() {
        exits(signal);
    }
}

static SEEN: AtomicUsize = AtomicUsize::new(0);
static OURS: AtomicUsize = AtomicUsize::new(0);

/// As a program's own handler does that came after ours: takes note, and calls the one before it.
extern "C" fn counts_and_calls_ours(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    SEEN.fetch_add(1, Ordering::Relaxed);
    let ours = OURS.load(Ordering::Relaxed);
    // SAFETY: what the crate installed, with SA_SIGINFO.
    let ours: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = unsafe { std::mem::transmute(ours) };
    ours(signal, info, context);
}

#[test]
fn a_plain_handler_installed_before_gets_foreign_faults() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        install(exits as extern "C" fn(c_int) as usize, 0);
        catches_a_truncation(&dir);
        fault(&dir);
    })
    .run()
    .exited_with(THEIRS);
}

#[test]
fn an_informed_handler_installed_before_gets_foreign_faults_with_their_address() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        install(exits_informed as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize, libc::SA_SIGINFO);
        catches_a_truncation(&dir);
        fault(&dir);
    })
    .run()
    .exited_with(THEIRS);
}

#[test]
fn a_handler_installed_after_sees_all_and_ours_still_works_through_it() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        catches_a_truncation(&dir);
        let theirs: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = counts_and_calls_ours;
        let ours = install(theirs as usize, libc::SA_SIGINFO | libc::SA_NODEFER);
        OURS.store(ours.sa_sigaction, Ordering::Relaxed);
        catches_a_truncation(&dir);
        assert_eq!(SEEN.load(Ordering::Relaxed), 1, "one fault for the whole mapping");
        fault(&dir);
    })
    .run()
    .killed_by(libc::SIGBUS);
}

#[test]
fn without_another_handler_a_foreign_fault_ends_the_process_by_its_signal() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        install(libc::SIG_DFL, 0);
        catches_a_truncation(&dir);
        fault(&dir);
    })
    .run()
    .killed_by(libc::SIGBUS);
}

#[test]
fn a_fault_cannot_be_ignored() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        install(libc::SIG_IGN, 0);
        catches_a_truncation(&dir);
        fault(&dir);
    })
    .run()
    .killed_by(libc::SIGBUS);
}

/// Unlike a fault, a signal that somebody sends does not come again when nothing is done about it.
#[cfg(target_os = "linux")]
#[test]
fn a_sent_signal_still_ends_the_process() {
    in_child!(|| {
        install(libc::SIG_DFL, 0);
        catches_a_truncation(&tempfile::tempdir().unwrap());
        raise();
    })
    .run()
    .killed_by(libc::SIGBUS);
}

#[cfg(target_os = "linux")]
#[test]
fn an_ignored_sent_signal_stays_ignored() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        install(libc::SIG_IGN, 0);
        catches_a_truncation(&dir);
        raise();
        catches_a_truncation(&dir);
    })
    .run()
    .succeeded();
}

#[cfg(target_os = "linux")]
fn raise() {
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { libc::raise(libc::SIGBUS) }, 0);
}

/// Rust's own handler, which was there first, puts the default action in the place of ours when it is called for what is
/// not its own.
#[cfg(target_os = "linux")]
#[test]
fn a_stray_signal_does_not_end_guarding() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        catches_a_truncation(&dir);
        raise();
        catches_a_truncation(&dir);
    })
    .run()
    .succeeded();
}

#[cfg(target_os = "linux")]
#[test]
fn a_stray_signal_does_not_end_a_guarded_call_that_is_running() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("running.bin");
        let a = open(&path);
        let err = a.guarded(|view| {
            raise();
            truncate(&path);
            view[LEN - 1]
        });
        assert_eq!(err.unwrap_err().kind(), ErrorKind::Truncated);
    })
    .run()
    .succeeded();
}

/// As it would without us: Rust's handler lets the first one pass, and with it goes.
#[cfg(target_os = "linux")]
#[test]
fn a_second_stray_signal_ends_the_process() {
    in_child!(|| {
        catches_a_truncation(&tempfile::tempdir().unwrap());
        raise();
        raise();
    })
    .run()
    .killed_by(libc::SIGBUS);
}

/// Whoever came after us, and passes on what is not theirs.
#[cfg(target_os = "linux")]
#[test]
fn a_stray_signal_leaves_the_handler_that_calls_ours_in_place() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        catches_a_truncation(&dir);
        let theirs: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = counts_and_calls_ours;
        let ours = install(theirs as usize, libc::SA_SIGINFO | libc::SA_NODEFER);
        OURS.store(ours.sa_sigaction, Ordering::Relaxed);
        raise();
        catches_a_truncation(&dir);
        assert_eq!(SEEN.load(Ordering::Relaxed), 2);
    })
    .run()
    .succeeded();
}

/// And a fault that is nobody's still ends the process, once Rust's handler has had its say.
#[cfg(target_os = "linux")]
#[test]
fn after_a_stray_signal_a_foreign_fault_ends_the_process() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        catches_a_truncation(&dir);
        raise();
        fault(&dir);
    })
    .run()
    .killed_by(libc::SIGBUS);
}

/// As the system would, but for no access: what is tried again afterwards succeeds.
#[cfg(target_os = "linux")]
fn signal_with_code(code: c_int) {
    // SAFETY: a plain C struct, for which zeros are valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    info.si_code = code;
    // SAFETY: no memory is involved.
    let thread = unsafe { libc::syscall(libc::SYS_gettid) };
    let process = std::process::id() as libc::c_long;
    let info = &raw const info;
    // SAFETY: the call reads one `siginfo_t`, and the handlers of this file take it for no access to memory.
    let sent = unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, libc::SIGBUS, info) };
    assert_eq!(sent, 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_foreign_fault_that_ends_nothing_does_not_end_guarding() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        install(libc::SIG_DFL, 0);
        let path = dir.path().join("before.bin");
        let before = open(&path);
        assert_eq!(before.guarded(|view| view[0]).unwrap(), 1);
        for _ in 0..3 {
            signal_with_code(libc::BUS_ADRERR);
            catches_a_truncation(&dir);
        }
        signal_with_code(libc::BUS_ADRALN);
        // An array that was guarded before is, again.
        let err = before.guarded(|view| {
            truncate(&path);
            view[LEN - 1]
        });
        assert_eq!(err.unwrap_err().kind(), ErrorKind::Truncated);
    })
    .run()
    .succeeded();
}

/// A program puts back its own handler, which calls ours, as `sigaction` returned it.
#[cfg(target_os = "linux")]
#[test]
fn a_handler_put_back_after_such_a_fault_keeps_the_last_word() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        install(libc::SIG_DFL, 0);
        catches_a_truncation(&dir);
        let theirs: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = counts_and_calls_ours;
        let flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        OURS.store(install(theirs as usize, flags).sa_sigaction, Ordering::Relaxed);
        signal_with_code(libc::BUS_ADRERR);
        install(theirs as usize, flags);
        catches_a_truncation(&dir);
        assert_eq!(SEEN.load(Ordering::Relaxed), 2);
    })
    .run()
    .succeeded();
}

/// Memory was found to be broken that nobody has used: nothing faults again.
#[cfg(target_os = "linux")]
#[test]
fn a_report_of_broken_memory_ends_the_process() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        install(libc::SIG_DFL, 0);
        catches_a_truncation(&dir);
        signal_with_code(libc::BUS_MCEERR_AO);
    })
    .run()
    .killed_by(libc::SIGBUS);
}

#[cfg(target_os = "linux")]
#[test]
fn an_ignored_report_of_broken_memory_stays_ignored() {
    in_child!(|| {
        let dir = tempfile::tempdir().unwrap();
        install(libc::SIG_IGN, 0);
        catches_a_truncation(&dir);
        signal_with_code(libc::BUS_MCEERR_AO);
        catches_a_truncation(&dir);
    })
    .run()
    .succeeded();
}

/// A handler may come between a failing call and the look at `errno`.
#[cfg(target_os = "linux")]
#[test]
fn a_fault_leaves_errno_alone() {
    in_child!(|| {
        let mut a = ndarray_mmap::MmapArrayMut::<u8, Ix1>::scratch(LEN).unwrap();
        // The one way to reach the file, and outside of Rust's guarantees: it plays the failing disk. Of a scratch array,
        // for there the handler makes a system call that fails.
        let fds = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
        let file = fds.filter(|fd| fs::metadata(fd).is_ok_and(|m| m.len() == LEN as u64)).last().unwrap();
        let err = a.guarded_mut(|view| {
            truncate(&file);
            // SAFETY: the thread's own, as long as it lives.
            let errno = unsafe { &mut *libc::__errno_location() };
            *errno = 12345;
            let zero = std::hint::black_box(view[LEN - 1]);
            assert_eq!((zero, *std::hint::black_box(errno)), (0, 12345));
        });
        assert_eq!(err.unwrap_err().kind(), ErrorKind::Truncated);
    })
    .run()
    .succeeded();
}
