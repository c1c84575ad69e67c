#include "comm/comm_nccl_own.h"

#include "base/clock.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { QUICK_ASKS = 200, ABORT_MS = 5000 };

void nccl_let_others_run(void) {
    nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

swt_status nccl_cuda_check(const nccl_family *f, cudaError_t code, const char *call, int line) {
    if (code == cudaSuccess)
        return SWT_OK;
    (void)cudaGetLastError(); /* or the next launch would report it once more */
    return swt_fail(SWT_COMM, __FILE__, line,
                    "%.*s on rank %d: %s; look at the GPU and its driver's log",
                    (int)strcspn(call, "("), call, f->rank, cudaGetErrorString(code));
}

/* An abort goes on in a thread of NCCL's, and must not be cut off by the end of the process: wait
 * until it has ended what was queued, but not for ever. */
static void await_abort(const nccl_family *f) {
    const double until_ms = swt_now_ms() + ABORT_MS;
    while (cudaStreamQuery(f->stream) == cudaErrorNotReady && swt_now_ms() < until_ms)
        nccl_let_others_run();
    (void)cudaGetLastError();
}

/* As one group: all have work on one stream, and each would wait for what the others have queued
 * before it. */
void nccl_give_up(nccl_family *f) {
    if (f->failed)
        return;
    f->failed = true;
    (void)ncclGroupStart();
    for (nccl_own *m = f->members; m != NULL; m = m->next)
        if (m->nccl != NULL)
            (void)ncclCommAbort(m->nccl);
    (void)ncclGroupEnd();
    for (nccl_own *m = f->members; m != NULL; m = m->next)
        m->nccl = NULL;
    await_abort(f);
}

swt_status nccl_failed(nccl_own *own, ncclResult_t code, const char *call, int line) {
    const char *detail = own->nccl != NULL ? ncclGetLastError(own->nccl) : "";
    const swt_status status =
        swt_fail(SWT_COMM, __FILE__, line,
                 "%s on rank %d: %s%s%.*s; every rank must be alive and make the same calls", call,
                 own->family->rank, ncclGetErrorString(code), detail[0] != '\0' ? ": " : "",
                 (int)strcspn(detail, "\n"), detail);
    nccl_give_up(own->family);
    return status;
}

/* Versions are 10000 major + 100 minor + patch. */
swt_status nccl_check_version(nccl_own *own) {
    int version = 0;
    const ncclResult_t code = ncclGetVersion(&version);
    if (code != ncclSuccess)
        return nccl_failed(own, code, "ncclGetVersion", __LINE__);
    if (version >= SWT_NCCL_MIN)
        return SWT_OK;
    return SWT_FAIL(USAGE,
                    "--device cuda: NCCL %d.%d.%d is loaded on rank %d, this program needs 2.22 or "
                    "newer; install one, or use --device cpu",
                    version / 10000, version / 100 % 100, version % 100, own->family->rank);
}

bool swt_comm_nccl_shares_gpus(void) {
    const char *const wanted = getenv("NCCL_MULTI_RANK_GPU_ENABLE");
    int version = 0;
    return wanted != NULL && strcmp(wanted, "1") == 0 && ncclGetVersion(&version) == ncclSuccess &&
           version >= SWT_NCCL_SHARES_GPUS;
}

swt_status nccl_check_alive(const nccl_family *f) {
    if (f->failed)
        return SWT_FAIL(COMM, "nccl on rank %d: an earlier failure has ended it", f->rank);
    return SWT_OK;
}

ncclResult_t nccl_state(const nccl_own *own) {
    ncclResult_t state = ncclSuccess;
    if (own->nccl == NULL)
        return ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(own->nccl, &state);
    return asked != ncclSuccess ? asked : state;
}

/* Most calls take some microseconds. Success is no answer: ncclCommSplit says so while it goes on.
 */
swt_status nccl_settle(nccl_own *own, ncclResult_t code, const char *call) {
    if (code == ncclSuccess)
        code = nccl_state(own);
    for (int asked = 0; code == ncclInProgress; asked++) {
        if (asked < QUICK_ASKS)
            (void)sched_yield();
        else
            nccl_let_others_run();
        code = nccl_state(own);
    }
    return code == ncclSuccess ? SWT_OK : nccl_failed(own, code, call, __LINE__);
}

swt_status nccl_ask(void *family) {
    nccl_family *f = family;
    for (nccl_own *m = f->members; m != NULL; m = m->next) {
        const ncclResult_t state = nccl_state(m);
        if (state != ncclSuccess && state != ncclInProgress)
            return nccl_failed(m, state, m->call != NULL ? m->call : "NCCL", __LINE__);
    }
    return SWT_OK;
}

swt_status nccl_drain(nccl_family *f, cudaStream_t stream) {
    for (;;) {
        const cudaError_t code =
            f->connected ? cudaStreamQuery(stream) : cudaStreamSynchronize(stream);
        if (code != cudaErrorNotReady)
            return nccl_cuda_check(f, code, "waiting for the GPU", __LINE__);
        (void)cudaGetLastError();
        SWT_TRY(nccl_ask(f));
        nccl_let_others_run();
    }
}
