//! Every system call of some kinds that a thread makes, stopped before it is done: to look at what is there at that very
//! moment, and to answer it otherwise. By a seccomp filter that asks this process: needs no rights.

use std::ffi::{c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc;

/// What becomes of a call.
pub enum Answer {
    Done,
    Refused(i32),
}

/// Runs `f` on a thread of its own; `look` is asked before each of these calls of that thread, in order.
pub fn at_each<T: Send>(calls: &[c_long], mut look: impl FnMut(c_long) -> Answer, f: impl FnOnce() -> T + Send) -> T {
    let filter = asking_for(calls);
    std::thread::scope(|scope| {
        let (tell, listener) = mpsc::channel();
        let thread = scope.spawn(move || {
            tell.send(install(filter)).unwrap();
            f()
        });
        let listener = listener.recv().unwrap();
        while let Some((id, call)) = next(&listener) {
            let answer = look(call);
            respond(&listener, id, answer);
        }
        match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The same before one of these calls only: the first is number 1.
pub fn at_call<T: Send>(
    number: usize,
    calls: &[c_long],
    mut look: impl FnMut() -> Answer,
    f: impl FnOnce() -> T + Send,
) -> T {
    let mut seen = 0;
    let count = |_| {
        seen += 1;
        if seen == number { look() } else { Answer::Done }
    };
    at_each(calls, count, f)
}

fn asking_for(calls: &[c_long]) -> Vec<libc::sock_filter> {
    let statement = |code: u32, jf, k| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let mut filter = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for &call in calls {
        filter.push(statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, call as u32));
        filter.push(statement(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_USER_NOTIF));
    }
    filter.push(statement(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW));
    filter
}

/// For this thread alone. The descriptor is closed when it and its filter are.
fn install(mut filter: Vec<libc::sock_filter>) -> OwnedFd {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: a setting of this thread alone, touching no memory.
    succeeded(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) });
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    // SAFETY: as above; the kernel copies the program, which lives until the call returns.
    let fd = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the kernel has just made it, for us.
    unsafe { OwnedFd::from_raw_fd(fd as c_int) }
}

/// Its number and what was called; `None` once the thread is gone.
fn next(listener: &OwnedFd) -> Option<(u64, c_long)> {
    loop {
        let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one such record, which lives until the call returns.
        if unsafe { libc::poll(&raw mut poll, 1, -1) } < 0 {
            assert_eq!(io::Error::last_os_error().kind(), io::ErrorKind::Interrupted);
            continue;
        }
        if poll.revents & libc::POLLIN == 0 {
            return None;
        }
        // SAFETY: integers only.
        let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel fills the record, which lives until the call returns.
        if unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) } == 0 {
            return Some((call.id, call.data.nr.into()));
        }
        // The thread may have been interrupted meanwhile.
    }
}

fn respond(listener: &OwnedFd, id: u64, answer: Answer) {
    let (error, flags) = match answer {
        Answer::Done => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        Answer::Refused(errno) => (-errno, 0),
    };
    let mut response = libc::seccomp_notif_resp { id, val: 0, error, flags };
    // SAFETY: the kernel reads the record, which lives until the call returns.
    succeeded(unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) });
}

#[track_caller]
fn succeeded(answer: c_int) {
    assert_eq!(answer, 0, "{}", io::Error::last_os_error());
}
