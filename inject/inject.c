/* Loaded before libc, and makes one of its calls fail as a disk, a network file system or a kernel does.
 *
 * Loaded by LD_PRELOAD. Nothing is changed before `inject_arm`, nor after `inject_disarm`. In between, the calls of every
 * thread of the process are counted by name, and one of them goes wrong. The library allocates nothing, and calls the
 * functions that it replaces only by the address of the original. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The calls that are distinguished. A function with two names here has two uses. */
#define CALLS(X)                                                                                                       \
    X(open) X(open_new) X(open_unnamed) X(stat) X(readlink) X(access) X(read) X(pread) X(write) X(pwrite) X(lseek)     \
    X(lengthen) X(cut) X(fallocate) X(mmap) X(mremap) X(msync) X(madvise) X(mincore) X(flock) X(unlock) X(fsync)       \
    X(fsync_folder) X(fdatasync) X(syncfs) X(sync_file_range) X(fadvise) X(fsetxattr) X(fgetxattr) X(fremovexattr)     \
    X(linkat) X(rename) X(renameat2) X(unlink) X(fchmod) X(fchown) X(dup) X(getfl) X(seals) X(sigaction)               \
    X(pthread_create)

#define ENUM(name) CALL_##name,
enum call { CALLS(ENUM) CALL_COUNT };
#define TEXT(name) #name,
static const char *const names[] = {CALLS(TEXT)};

/* How the chosen call goes wrong. */
enum kind {
    FAIL,  /* It is not made, and returns the error. */
    AFTER, /* It is made, and returns the error. */
    HALF,  /* It does half of its work: a write returns the count and the next one fails, an allocation returns the error. */
    SHORT, /* It does half of its work and returns the count, as it may at any time. */
    FROM,  /* It and all later ones of its name are not made, and return the error. */
    KILL,  /* It is not made: the process is killed instead. */
};

static atomic_int armed, hit;
/* How often each was called since `inject_arm`: in memory that a child process shares, so that its parent can read it. */
static atomic_int *seen;
static int target, nth, error, denied[CALL_COUNT], syncs_pretended;
static enum kind kind;

const char *inject_name(int call) { return call >= 0 && call < CALL_COUNT ? names[call] : NULL; }

__attribute__((constructor)) static void start(void) {
    /* Not by `mmap`, which is one of the replaced functions. */
    seen = (atomic_int *)syscall(SYS_mmap, NULL, sizeof(atomic_int) * CALL_COUNT, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (seen == MAP_FAILED) abort();
}

/* Makes this call fail whenever it is made while armed, as on a file system that lacks it. 0 ends that. */
void inject_deny(int call, int with) { denied[call] = with; }

/* Makes calls that wait for the disk succeed at once: there is no power cut in these tests. */
void inject_pretend_syncs(int pretend) { syncs_pretended = pretend; }

/* Starts counting, and arms the fault. With a negative `call` it only counts. */
void inject_arm(int call, int which, int with, int how) {
    for (int i = 0; i < CALL_COUNT; i++) atomic_store(&seen[i], 0);
    target = call, nth = which, error = with, kind = (enum kind)how;
    atomic_store(&hit, 0);
    atomic_store(&armed, 1);
}

/* Stops counting. Returns whether the chosen call was made. */
int inject_disarm(void) {
    atomic_store(&armed, 0);
    return atomic_load(&hit);
}

int inject_seen(int call) { return atomic_load(&seen[call]); }

enum verdict { GO_ON, REFUSE, UNDONE, HALVE, CURTAIL };

/* Decides what happens to a call. Sets `errno` if the call must fail without being made. */
static enum verdict ask(enum call call) {
    if (!atomic_load_explicit(&armed, memory_order_acquire)) return GO_ON;
    int n = atomic_fetch_add(&seen[call], 1) + 1;
    if (denied[call]) {
        errno = denied[call];
        return REFUSE;
    }
    if ((int)call != target || n < nth) return GO_ON;
    /* HALF: the write after the short one fails. */
    int again = n == nth + 1 && kind == HALF && (call == CALL_pwrite || call == CALL_write);
    if (n > nth && kind != FROM && !again) return GO_ON;
    atomic_store(&hit, 1);
    errno = error;
    if (again) return REFUSE;
    switch (kind) {
    case KILL: raise(SIGKILL); return REFUSE;
    case AFTER: return UNDONE;
    case HALF: return HALVE;
    case SHORT: return CURTAIL;
    default: return REFUSE;
    }
}

static int fail(void) {
    errno = error;
    return -1;
}

/* The original of the function with this name. */
#define ORIGINAL(name)                                                                                                 \
    static __typeof__(&name) original;                                                                                 \
    if (!original) *(void **)&original = dlsym(RTLD_NEXT, #name)

/* A call that is made or not, and returns 0 or -1. */
#define DONE_OR_NOT(call, made)                                                                                        \
    switch (ask(call)) {                                                                                               \
    case REFUSE: return -1;                                                                                            \
    case UNDONE: (void)made; return fail();                                                                            \
    default: return made;                                                                                              \
    }

#define PLAIN(call, name, parameters, arguments)                                                                       \
    int name parameters {                                                                                              \
        ORIGINAL(name);                                                                                                \
        DONE_OR_NOT(CALL_##call, original arguments)                                                                   \
    }

/* Opening. A call that made a descriptor never returns an error, which would leak the descriptor. */

static enum call opening(int flags) {
    if ((flags & O_TMPFILE) == O_TMPFILE) return CALL_open_unnamed;
    return flags & O_CREAT ? CALL_open_new : CALL_open;
}

#define MODE_OF(flags, mode)                                                                                           \
    mode_t mode = 0;                                                                                                   \
    if (flags & (O_CREAT | O_TMPFILE)) {                                                                               \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode = va_arg(rest, mode_t);                                                                                   \
        va_end(rest);                                                                                                  \
    }

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        ORIGINAL(name);                                                                                                \
        MODE_OF(flags, mode)                                                                                           \
        return ask(opening(flags)) == GO_ON ? original(path, flags, mode) : -1;                                        \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                                   \
    int name(int folder, const char *path, int flags, ...) {                                                           \
        ORIGINAL(name);                                                                                                \
        MODE_OF(flags, mode)                                                                                           \
        return ask(opening(flags)) == GO_ON ? original(folder, path, flags, mode) : -1;                                \
    }
OPENAT(openat)
OPENAT(openat64)

/* Reading metadata. */

PLAIN(stat, statx, (int fd, const char *path, int flags, unsigned mask, struct statx *to), (fd, path, flags, mask, to))
PLAIN(stat, fstat64, (int fd, struct stat64 *to), (fd, to))
PLAIN(stat, lstat64, (const char *path, struct stat64 *to), (path, to))
PLAIN(stat, stat64, (const char *path, struct stat64 *to), (path, to))
PLAIN(stat, fstatat64, (int fd, const char *path, struct stat64 *to, int flags), (fd, path, to, flags))
PLAIN(access, access, (const char *path, int mode), (path, mode))
PLAIN(access, faccessat, (int fd, const char *path, int mode, int flags), (fd, path, mode, flags))
PLAIN(mincore, mincore, (void *at, size_t len, unsigned char *to), (at, len, to))

ssize_t readlink(const char *path, char *to, size_t len) {
    ORIGINAL(readlink);
    return ask(CALL_readlink) == GO_ON ? original(path, to, len) : -1;
}

/* Reading and writing. The standard streams are not counted. */

static size_t half(size_t len) { return len > 1 ? len / 2 : len; }

#define TRANSFER(call, name, buffer, ...)                                                                              \
    switch (fd <= STDERR_FILENO ? GO_ON : ask(call)) {                                                                 \
    case REFUSE: return -1;                                                                                            \
    case UNDONE: (void)original(fd, buffer, len, ##__VA_ARGS__); return fail();                                        \
    case HALVE: return len > 1 ? original(fd, buffer, len / 2, ##__VA_ARGS__) : fail();                                \
    case CURTAIL: return original(fd, buffer, half(len), ##__VA_ARGS__);                                               \
    default: return original(fd, buffer, len, ##__VA_ARGS__);                                                          \
    }

ssize_t read(int fd, void *to, size_t len) {
    ORIGINAL(read);
    TRANSFER(CALL_read, read, to)
}
ssize_t write(int fd, const void *from, size_t len) {
    ORIGINAL(write);
    TRANSFER(CALL_write, write, from)
}
ssize_t pread64(int fd, void *to, size_t len, off64_t at) {
    ORIGINAL(pread64);
    TRANSFER(CALL_pread, pread64, to, at)
}
ssize_t pwrite64(int fd, const void *from, size_t len, off64_t at) {
    ORIGINAL(pwrite64);
    TRANSFER(CALL_pwrite, pwrite64, from, at)
}
off64_t lseek64(int fd, off64_t at, int from) {
    ORIGINAL(lseek64);
    return ask(CALL_lseek) == GO_ON ? original(fd, at, from) : -1;
}

/* Lengths and blocks. */

/* Setting the present length releases the space that was set aside beyond it: that counts as a cut, too. */
static enum call setting_length(int fd, off64_t len) {
    struct stat is;
    return fstat(fd, &is) == 0 && len <= is.st_size ? CALL_cut : CALL_lengthen;
}

#define TRUNCATE(name)                                                                                                 \
    int name(int fd, off64_t len) {                                                                                    \
        ORIGINAL(name);                                                                                                \
        DONE_OR_NOT(setting_length(fd, len), original(fd, len))                                                        \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

int fallocate64(int fd, int mode, off64_t at, off64_t len) {
    ORIGINAL(fallocate64);
    switch (ask(CALL_fallocate)) {
    case REFUSE: return -1;
    case UNDONE: (void)original(fd, mode, at, len); return fail();
    case HALVE:
    case CURTAIL: (void)original(fd, mode, at, (off64_t)half((size_t)len)); return fail();
    default: return original(fd, mode, at, len);
    }
}

/* Memory. Only mappings of files: no program survives if a thread gets no stack. `munmap` of a whole mapping does not
 * fail. */

#define MAP(name)                                                                                                      \
    void *name(void *at, size_t len, int protection, int flags, int fd, off_t offset) {                                \
        ORIGINAL(name);                                                                                                \
        return fd < 0 || ask(CALL_mmap) == GO_ON ? original(at, len, protection, flags, fd, offset) : MAP_FAILED;      \
    }
MAP(mmap)
MAP(mmap64)

void *mremap(void *at, size_t old, size_t len, int flags, ...) {
    ORIGINAL(mremap);
    return ask(CALL_mremap) == GO_ON ? original(at, old, len, flags) : MAP_FAILED;
}

PLAIN(madvise, madvise, (void *at, size_t len, int advice), (at, len, advice))

int msync(void *at, size_t len, int flags) {
    ORIGINAL(msync);
    DONE_OR_NOT(CALL_msync, (syncs_pretended ? 0 : original(at, len, flags)))
}

/* Locks. */

int flock(int fd, int operation) {
    ORIGINAL(flock);
    DONE_OR_NOT(operation & LOCK_UN ? CALL_unlock : CALL_flock, original(fd, operation))
}

/* Syncing to the disk. */

int fsync(int fd) {
    ORIGINAL(fsync);
    struct stat is;
    int folder = fstat(fd, &is) == 0 && S_ISDIR(is.st_mode);
    DONE_OR_NOT(folder ? CALL_fsync_folder : CALL_fsync, (syncs_pretended ? 0 : original(fd)))
}
int fdatasync(int fd) {
    ORIGINAL(fdatasync);
    DONE_OR_NOT(CALL_fdatasync, (syncs_pretended ? 0 : original(fd)))
}
int syncfs(int fd) {
    ORIGINAL(syncfs);
    DONE_OR_NOT(CALL_syncfs, (syncs_pretended ? 0 : original(fd)))
}
PLAIN(sync_file_range, sync_file_range, (int fd, off64_t at, off64_t len, unsigned flags), (fd, at, len, flags))

/* Returns the error number, instead of setting `errno`. */
int posix_fadvise64(int fd, off64_t at, off64_t len, int advice) {
    ORIGINAL(posix_fadvise64);
    return ask(CALL_fadvise) == GO_ON ? original(fd, at, len, advice) : error;
}

/* Attributes. */

PLAIN(fsetxattr, fsetxattr, (int fd, const char *name, const void *from, size_t len, int flags),
      (fd, name, from, len, flags))
PLAIN(fremovexattr, fremovexattr, (int fd, const char *name), (fd, name))
ssize_t fgetxattr(int fd, const char *name, void *to, size_t len) {
    ORIGINAL(fgetxattr);
    return ask(CALL_fgetxattr) == GO_ON ? original(fd, name, to, len) : -1;
}
PLAIN(fchmod, fchmod, (int fd, mode_t mode), (fd, mode))
PLAIN(fchown, fchown, (int fd, uid_t user, gid_t group), (fd, user, group))

/* Names. */

PLAIN(linkat, linkat, (int from, const char *old, int to, const char *new, int flags), (from, old, to, new, flags))
PLAIN(linkat, link, (const char *old, const char *new), (old, new))
PLAIN(rename, rename, (const char *old, const char *new), (old, new))
PLAIN(renameat2, renameat2, (int from, const char *old, int to, const char *new, unsigned flags),
      (from, old, to, new, flags))
PLAIN(unlink, unlink, (const char *path), (path))

/* Descriptors. */

static int descriptor(int (*original)(int, int, ...), int fd, int command, void *argument) {
    switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC: return ask(CALL_dup) == GO_ON ? original(fd, command, argument) : -1;
    case F_GETFL: return ask(CALL_getfl) == GO_ON ? original(fd, command, argument) : -1;
    case F_GET_SEALS: return ask(CALL_seals) == GO_ON ? original(fd, command, argument) : -1;
    default: return original(fd, command, argument);
    }
}

#define FCNTL(name)                                                                                                    \
    int name(int fd, int command, ...) {                                                                               \
        ORIGINAL(name);                                                                                                \
        va_list rest;                                                                                                  \
        va_start(rest, command);                                                                                       \
        void *argument = va_arg(rest, void *);                                                                         \
        va_end(rest);                                                                                                  \
        return descriptor(original, fd, command, argument);                                                            \
    }
FCNTL(fcntl)
FCNTL(fcntl64)

/* Signals and threads. */

PLAIN(sigaction, sigaction, (int signal, const struct sigaction *new, struct sigaction *old), (signal, new, old))

/* Returns the error number, too. */

int pthread_create(pthread_t *to, const pthread_attr_t *how, void *(*start)(void *), void *with) {
    ORIGINAL(pthread_create);
    return ask(CALL_pthread_create) == GO_ON ? original(to, how, start, with) : error;
}
