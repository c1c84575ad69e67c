/* A library to be preloaded: from the start of main on it numbers what a process asks of the
 * system, and lets one of the requests fail. tests/faults/faults.py sets it up and judges what the
 * program makes of it.
 *
 *   SWT_FAULT         call | alloc | kill: system calls that have to do with files, allocations,
 * or, for the third, the same calls, at one of which the process is killed SWT_FAULT_AT      the
 * number that fails, from 1; 0: none SWT_FAULT_ERROR   what the call fails with, a value of errno;
 * 0: read and write do half of what is asked; -1: write alters a byte on its way to the disk
 * SWT_FAULT_REPORT  an open descriptor that gets a line for what fails; with SWT_FAULT_AT 0 for
 * everything
 *
 * Calls are caught by a seccomp filter that turns them into SIGSYS: libc's own, which no wrapper of
 * a function sees, are among them. Those of one address here pass, and the handler makes them from
 * there. Allocations are caught by functions in the place of libc's, whose own requests (a FILE,
 * its buffer) come by them, too. For Linux on x86-64 with glibc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { LINE_BYTES = 512, LEAST_RESULT = -4095 };

/* The calls that are numbered; `path`: which argument is the name of a file, -1 for none. */
static const struct call {
    const char *name;
    int number, path;
} calls[] = {
    {"read", SYS_read, -1},
    {"write", SYS_write, -1},
    {"pread64", SYS_pread64, -1},
    {"pwrite64", SYS_pwrite64, -1},
    {"readv", SYS_readv, -1},
    {"writev", SYS_writev, -1},
    {"open", SYS_open, 0},
    {"openat", SYS_openat, 1},
    {"close", SYS_close, -1},
    {"stat", SYS_stat, 0},
    {"lstat", SYS_lstat, 0},
    {"fstat", SYS_fstat, -1},
    {"newfstatat", SYS_newfstatat, 1},
    {"statx", SYS_statx, 1},
    {"statfs", SYS_statfs, 0},
    {"fstatfs", SYS_fstatfs, -1},
    {"lseek", SYS_lseek, -1},
    {"getdents64", SYS_getdents64, -1},
    {"fsync", SYS_fsync, -1},
    {"fdatasync", SYS_fdatasync, -1},
    {"ftruncate", SYS_ftruncate, -1},
    {"fallocate", SYS_fallocate, -1},
    {"rename", SYS_rename, 0},
    {"renameat", SYS_renameat, 1},
    {"renameat2", SYS_renameat2, 1},
    {"mkdir", SYS_mkdir, 0},
    {"mkdirat", SYS_mkdirat, 1},
    {"unlink", SYS_unlink, 0},
    {"unlinkat", SYS_unlinkat, 1},
    {"rmdir", SYS_rmdir, 0},
    {"link", SYS_link, 0},
    {"linkat", SYS_linkat, 1},
    {"readlink", SYS_readlink, 0},
    {"readlinkat", SYS_readlinkat, 1},
    {"access", SYS_access, 0},
    {"faccessat", SYS_faccessat, 1},
    {"faccessat2", SYS_faccessat2, 1},
    {"fcntl", SYS_fcntl, -1},
    {"ioctl", SYS_ioctl, -1},
    {"dup", SYS_dup, -1},
    {"getcwd", SYS_getcwd, -1},
};
enum { CALLS = sizeof calls / sizeof *calls };

typedef int main_function(int argc, char **argv, char **environment);

static struct {
    main_function *main;
    atomic_long count;
    long at, error, report;
    bool on_calls, on_allocations, kills;
} fault;

/* glibc's own allocation functions. */
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *memory, size_t bytes);
extern void *__libc_memalign(size_t align, size_t bytes);

/* A system call from the one address that the filter lets pass. */
extern long inject_call(long number, long a, long b, long c, long d, long e, long f);
extern const char inject_passes[];
__asm__(".text\n"
        ".globl inject_call\n"
        ".type inject_call, @function\n"
        "inject_call:\n"
        "    mov %rdi, %rax\n"
        "    mov %rsi, %rdi\n"
        "    mov %rdx, %rsi\n"
        "    mov %rcx, %rdx\n"
        "    mov %r8, %r10\n"
        "    mov %r9, %r8\n"
        "    mov 8(%rsp), %r9\n"
        "    syscall\n"
        ".globl inject_passes\n"
        "inject_passes:\n"
        "    ret\n");

static void report(const char *name, const char *what, long value) {
    char line[LINE_BYTES];
    const int n = snprintf(line, sizeof line, "%s %.400s %ld\n", name, what, value);
    if (fault.report >= 0)
        inject_call(SYS_write, fault.report, (long)line, n, 0, 0, 0);
}

/* Whether this request is the one. */
static bool due(void) {
    return atomic_fetch_add(&fault.count, 1) + 1 == fault.at;
}

/* ---- system calls */

/* A byte in the middle of what was just written becomes another. */
static void alter(long fd, const char *written, long bytes) {
    const char other = (char)(written[bytes / 2] ^ 1);
    const long end = inject_call(SYS_lseek, fd, 0, SEEK_CUR, 0, 0, 0);
    inject_call(SYS_pwrite64, fd, (long)&other, 1, end - bytes + bytes / 2, 0, 0);
}

static long caught(const struct call *call, const long a[6]) {
    const bool mine = a[0] == fault.report && call->path < 0, now = !mine && due();
    const char *what = call->path >= 0 ? (const char *)a[call->path] : "-";
    long third = a[2];
    if (now)
        report(call->name, what, a[0]);
    if (now && fault.kills)
        inject_call(SYS_kill, inject_call(SYS_getpid, 0, 0, 0, 0, 0, 0), SIGKILL, 0, 0, 0, 0);
    if (now && fault.error > 0)
        return -fault.error;
    if (now && fault.error == 0 && (call->number == SYS_read || call->number == SYS_write))
        third = third > 1 ? third / 2 : third;
    const long result = inject_call(call->number, a[0], a[1], third, a[3], a[4], a[5]);
    if (now && fault.error < 0 && call->number == SYS_write && result > 0)
        alter(a[0], (const char *)a[1], result);
    if (!mine && fault.at == 0) /* a descriptor, which for openat is its answer */
        report(call->name, what, call->number == SYS_openat ? result : a[0]);
    return result;
}

static void on_call(int number, siginfo_t *info, void *context) {
    (void)number;
    const int before = errno;
    ucontext_t *c = context;
    greg_t *r = c->uc_mcontext.gregs;
    const long a[6] = {r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], r[REG_R8], r[REG_R9]};
    for (int i = 0; i < CALLS; i++)
        if (calls[i].number == info->si_syscall)
            r[REG_RAX] = caught(&calls[i], a);
    errno = before;
}

static void catch_calls(void) {
    struct sigaction action = {.sa_sigaction = on_call, .sa_flags = SA_SIGINFO | SA_NODEFER};
    struct sock_filter code[2 * CALLS + 16];
    const uintptr_t passes = (uintptr_t)inject_passes;
    unsigned short n = 0;
    const uint32_t at = offsetof(struct seccomp_data, instruction_pointer);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at);
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)passes, 0, 3);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at + 4);
    code[n++] =
        (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(passes >> 32), 0, 1);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[n++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < CALLS; i++) {
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                                                 (uint32_t)calls[i].number, 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    const struct sock_fprog program = {.len = n, .filter = code};
    sigaction(SIGSYS, &action, NULL);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        report("none", "no filter of system calls", errno);
        _exit(77);
    }
}

/* ---- allocations */

/* Whether this one fails; `from` is where its caller goes on. */
static bool refuses(const char *name, const void *from, size_t bytes) {
    if (!fault.on_allocations)
        return false;
    const bool now = due();
    if (now || fault.at == 0) {
        char what[64];
        const int before = errno;
        snprintf(what, sizeof what, "%p", from);
        report(name, what, (long)bytes);
        errno = before;
    }
    if (now)
        errno = ENOMEM;
    return now;
}

#define FROM __builtin_return_address(0)

void *malloc(size_t bytes) {
    return refuses("malloc", FROM, bytes) ? NULL : __libc_malloc(bytes);
}

void *calloc(size_t n, size_t bytes) {
    return refuses("calloc", FROM, n * bytes) ? NULL : __libc_calloc(n, bytes);
}

void *realloc(void *memory, size_t bytes) {
    return refuses("realloc", FROM, bytes) ? NULL : __libc_realloc(memory, bytes);
}

void *reallocarray(void *memory, size_t n, size_t bytes) {
    size_t all = 0;
    if (__builtin_mul_overflow(n, bytes, &all)) {
        errno = ENOMEM;
        return NULL;
    }
    return refuses("reallocarray", FROM, all) ? NULL : __libc_realloc(memory, all);
}

void *memalign(size_t align, size_t bytes) {
    return refuses("memalign", FROM, bytes) ? NULL : __libc_memalign(align, bytes);
}

void *aligned_alloc(size_t align, size_t bytes) {
    return refuses("aligned_alloc", FROM, bytes) ? NULL : __libc_memalign(align, bytes);
}

int posix_memalign(void **out, size_t align, size_t bytes) {
    void *memory = refuses("posix_memalign", FROM, bytes) ? NULL : __libc_memalign(align, bytes);
    if (memory == NULL)
        return ENOMEM;
    *out = memory;
    return 0;
}

void *mmap(void *where, size_t bytes, int rights, int flags, int fd, off_t offset) {
    if (refuses("mmap", FROM, bytes))
        return MAP_FAILED;
    const long got = inject_call(SYS_mmap, (long)where, (long)bytes, rights, flags, fd, offset);
    if (got >= 0 || got < LEAST_RESULT)
        return (void *)got;
    errno = (int)-got;
    return MAP_FAILED;
}

/* ---- the start */

static long setting(const char *name, long absent) {
    const char *text = getenv(name);
    return text != NULL ? strtol(text, NULL, 10) : absent;
}

static int numbered_main(int argc, char **argv, char **environment) {
    const char *kind = getenv("SWT_FAULT");
    fault.at = setting("SWT_FAULT_AT", 0);
    fault.error = setting("SWT_FAULT_ERROR", 0);
    fault.report = setting("SWT_FAULT_REPORT", -1);
    fault.kills = kind != NULL && strcmp(kind, "kill") == 0;
    fault.on_allocations = kind != NULL && strcmp(kind, "alloc") == 0;
    if (kind != NULL && !fault.on_allocations)
        catch_calls();
    return fault.main(argc, argv, environment);
}

/* libc's first function: the program's main goes through the one above. */
int __libc_start_main(main_function *main, int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*rtld_fini)(void), void *stack_end);
int __libc_start_main(main_function *main, int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*rtld_fini)(void), void *stack_end) {
    typedef int start(main_function *, int, char **, void (*)(void), void (*)(void), void (*)(void),
                      void *);
    start *libc = NULL;
    *(void **)&libc = dlsym(RTLD_NEXT, "__libc_start_main");
    fault.main = main;
    return libc(numbered_main, argc, argv, init, fini, rtld_fini, stack_end);
}
