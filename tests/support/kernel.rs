//! Threads for which the kernel behaves differently: they lack root's rights, or it refuses some of their system calls.
//! Linux has both for each thread, so that the rest of the process notices nothing.

use std::ffi::c_long;
use std::io;

/// Runs `f` without root's rights.
pub fn as_nobody<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    as_nobody_in(&[], f)
}

/// Runs `f` without root's rights, as a member of these groups if root runs the tests.
pub fn as_nobody_in<T: Send>(groups: &[libc::gid_t], f: impl FnOnce() -> T + Send) -> T {
    const NOBODY: c_long = 65534;
    on_a_thread(|| {
        // SAFETY: a system call on this thread alone, touching no memory.
        if unsafe { libc::geteuid() } == 0 {
            let (count, list) = (groups.len() as c_long, groups.as_ptr());
            // SAFETY: as above, and the list is as long as stated.
            succeeded(unsafe { libc::syscall(libc::SYS_setgroups, count, list) });
            // SAFETY: as above.
            succeeded(unsafe { libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY) });
            // SAFETY: as above.
            succeeded(unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) });
        }
        f()
    })
}

/// A system call that fails.
#[derive(Clone, Copy)]
pub struct Refusal {
    call: c_long,
    /// Only if this argument has some of these bits.
    only: Option<(u32, u32)>,
    errno: i32,
}

/// `call` fails with `errno`.
pub fn no(call: c_long, errno: i32) -> Refusal {
    Refusal { call, only: None, errno }
}

impl Refusal {
    /// `call` fails with `errno` if its argument of this number has some of these bits.
    pub fn with(call: c_long, argument: u32, bits: u32, errno: i32) -> Self {
        Self { call, only: Some((argument, bits)), errno }
    }
}

/// No file can be opened.
pub fn no_files(errno: i32) -> Vec<Refusal> {
    opening(|call, _| no(call, errno))
}

/// Files cannot be opened without a name, as on a file system without `O_TMPFILE`.
pub fn no_unnamed_files() -> Vec<Refusal> {
    // `O_TMPFILE` is this bit and `O_DIRECTORY`.
    let bit = (libc::O_TMPFILE & !libc::O_DIRECTORY) as u32;
    opening(|call, flags| Refusal::with(call, flags, bit, libc::EOPNOTSUPP))
}

/// The calls that open files, and where their flags stand.
fn opening(refusal: impl Fn(c_long, u32) -> Refusal) -> Vec<Refusal> {
    #[cfg(target_arch = "x86_64")]
    let old = [refusal(libc::SYS_open, 1)];
    #[cfg(not(target_arch = "x86_64"))]
    let old = [];
    [refusal(libc::SYS_openat, 2)].into_iter().chain(old).collect()
}

/// No name can be changed.
pub fn no_renaming(errno: i32) -> Vec<Refusal> {
    #[cfg(target_arch = "x86_64")]
    let old = [no(libc::SYS_rename, errno)];
    #[cfg(not(target_arch = "x86_64"))]
    let old = [];
    [no(libc::SYS_renameat, errno), no(libc::SYS_renameat2, errno)].into_iter().chain(old).collect()
}

/// Runs `f` under a kernel that refuses these calls, by a seccomp filter: needs no rights.
pub fn refusing<T: Send>(refusals: &[Refusal], f: impl FnOnce() -> T + Send) -> T {
    let mut filter = Vec::new();
    for refusal in refusals {
        let test_argument = if refusal.only.is_some() { 2 } else { 0 };
        filter.push(statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0));
        filter.push(jump(libc::BPF_JEQ, refusal.call as u32, 1 + test_argument));
        if let Some((argument, bits)) = refusal.only {
            filter.push(statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 16 + 8 * argument));
            filter.push(jump(libc::BPF_JSET, bits, 1));
        }
        let errno = refusal.errno as u32 & libc::SECCOMP_RET_DATA;
        filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno));
    }
    filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    on_a_thread(move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: a setting of this thread alone, touching no memory.
        succeeded(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into());
        // SAFETY: as above; the kernel copies the program, which lives until the call returns.
        succeeded(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) }.into());
        f()
    })
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// Goes on with the next statement if the test holds, and passes over `otherwise` of them if not.
fn jump(test: u32, k: u32, otherwise: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | test | libc::BPF_K) as u16, jt: 0, jf: otherwise, k }
}

#[track_caller]
fn succeeded(answer: c_long) {
    assert_eq!(answer, 0, "{}", io::Error::last_os_error());
}

fn on_a_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(f).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
