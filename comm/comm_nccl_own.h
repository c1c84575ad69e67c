/* Inside comm_nccl: a communicator's own part, its errors, and its waits. */
#ifndef SWT_COMM_NCCL_OWN_H
#define SWT_COMM_NCCL_OWN_H

#include "comm/comm_nccl_clock.h"
#include "comm/swt_comm.h"

#include <nccl.h>

/* The first whose aborts may be one group. */
enum { SWT_NCCL_MIN = NCCL_VERSION(2, 22, 0) };
/* The first that can let ranks share a GPU. */
enum { SWT_NCCL_SHARES_GPUS = NCCL_VERSION(2, 30, 0) };
_Static_assert(NCCL_VERSION_CODE >= SWT_NCCL_MIN, "NCCL 2.22 or newer is needed: install it");

typedef struct nccl_own nccl_own;

/* A communicator and all that were split from it. One communication stream serves them, so that
 * their calls come in one order on every rank. */
typedef struct nccl_family {
    int rank; /* among all, for messages */
    cudaStream_t stream;
    cudaEvent_t ready; /* the caller's stream has come to the call */
    cudaEvent_t done;  /* the communication stream has done it */
    nccl_own *members;
    bool connected, failed; /* there are peers that can be lost; given up */
} nccl_family;

struct nccl_own {
    swt_comm *comm;     /* whose own this is */
    ncclComm_t nccl;    /* NULL for a rank alone, which sends nothing */
    swt_comm *host;     /* the same ranks on host memory */
    swt_comm host_part; /* of a part: the host's part */
    nccl_family *family;
    nccl_own *next;
    nccl_clock clock; /* of the calls not yet counted in comm->busy_ms */
    bool timed;       /* the call under way is one of them */
    const char *call; /* the newest */
};

static inline nccl_own *own_of(const swt_comm *comm) {
    return comm->own;
}

/* Pass on a failure of the CUDA runtime. */
#define SWT_CUDART(family, call) SWT_TRY(nccl_cuda_check((family), (call), #call, __LINE__))
SWT_MUST_CHECK swt_status nccl_cuda_check(const nccl_family *f, cudaError_t code, const char *call,
                                          int line);

/* Say what went wrong in NCCL, and give up. */
SWT_MUST_CHECK swt_status nccl_failed(nccl_own *own, ncclResult_t code, const char *call, int line);

/* Abort all communicators of the family, and with them what is queued on the GPU, here and so on
 * the peers. Returns when that has ended, after 5 s at most. */
void nccl_give_up(nccl_family *f);

/* The library that runs may be another than the header's. Errors: USAGE where it is too old. */
SWT_MUST_CHECK swt_status nccl_check_version(nccl_own *own);

/* Errors: COMM once the family was given up. */
SWT_MUST_CHECK swt_status nccl_check_alive(const nccl_family *f);

/* What NCCL says of a communicator between its calls. */
ncclResult_t nccl_state(const nccl_own *own);

/* Wait until NCCL has done on the host what it was told by a call that returned `code`. Errors:
 * COMM. */
SWT_MUST_CHECK swt_status nccl_settle(nccl_own *own, ncclResult_t code, const char *call);

/* Whether a communicator of the family has failed meanwhile. Errors: COMM. */
SWT_MUST_CHECK swt_status nccl_ask(void *family);

/* Wait until a stream's work is done, and hear of lost peers meanwhile. Errors: COMM. */
SWT_MUST_CHECK swt_status nccl_drain(nccl_family *f, cudaStream_t stream);

/* Some microseconds for other threads and processes. */
void nccl_let_others_run(void);

#endif
