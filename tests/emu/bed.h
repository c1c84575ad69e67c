/* What the tests of the emulated platform share: CUDA C++ with checks, and faults that must be
 * found. Include it in one source of a program. */
#ifndef SWT_EMU_BED_H
#define SWT_EMU_BED_H

#include "kernels/cuda/cuda.h"
#include "tests/emu/emu.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include <cmocka.h> /* after what C++ has: it defines fail() */
}

#define OK(call) assert_int_equal((call), cudaSuccess)

/* The backend's own is not linked here. */
extern "C" SWT_MUST_CHECK swt_status swt_cuda_launched(const char *kernel, const char *file,
                                                       int line) {
    (void)file, (void)line;
    const cudaError_t error = cudaGetLastError();
    if (error == cudaSuccess)
        return SWT_OK;
    print_message("%s: %s\n", kernel, cudaGetErrorString(error));
    return SWT_INTERNAL;
}

/* n managed elements, which start as 0xFF bytes. */
template <typename T> static inline T *managed(size_t n) {
    T *out = nullptr;
    OK(cudaMallocManaged(reinterpret_cast<void **>(&out), n * sizeof(T), cudaMemAttachGlobal));
    return out;
}

template <typename T> static inline T *on_gpu(size_t n) {
    T *out = nullptr;
    OK(cudaMalloc(reinterpret_cast<void **>(&out), n * sizeof(T)));
    return out;
}

/* Run a fault in a process of its own, in the order of a seed. Its standard error is kept in
 * text; the result is its exit code, or minus the number of the signal that ended it. */
static inline int child(void (*fault)(void), uint64_t order, char *text, size_t bytes) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(stdout);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL); /* cmocka's handlers go on with the next test */
        signal(SIGABRT, SIG_DFL);
        dup2(ends[1], 2);
        close(ends[0]);
        swt_emu_set_order(order);
        fault();
#ifdef __SANITIZE_THREAD__
        exit(0); /* its exit code tells of reports */
#endif
        _exit(0);
    }
    close(ends[1]);
    size_t used = 0;
    for (ssize_t n; used + 1 < bytes && (n = read(ends[0], text + used, bytes - used - 1)) > 0;)
        used += static_cast<size_t>(n);
    text[used] = '\0';
    char rest[4096];
    while (read(ends[0], rest, sizeof rest) > 0)
        ;
    close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* The fault must end its process, not with success, and say `report`. */
static inline void must_report(void (*fault)(void), const char *report) {
    char text[16384];
    const int result = child(fault, 0, text, sizeof text);
    if (result == 0 || strstr(text, report) == nullptr)
        fail_msg("the fault ended with %d and does not say \"%s\": %s", result, report, text);
}

/* The fault returns normally from its process and says nothing of the kind. */
static inline void must_pass(void (*fault)(void), uint64_t order) {
    char text[16384];
    const int result = child(fault, order, text, sizeof text);
    if (result != 0)
        fail_msg("order %d: ended with %d: %s", static_cast<int>(order), result, text);
}

#endif
