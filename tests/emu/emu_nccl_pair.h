/* NCCL where there is no MPI to carry its emulation (SWT_MPI=OFF): one rank, or two processes of
 * one machine that share a GPU, over a socket. What comm/comm_nccl*.c call, for tests of it without
 * mpirun; emu_nccl*.c emulate any number of ranks, and are stricter about arguments. */
#ifndef SWT_EMU_NCCL_PAIR_H
#define SWT_EMU_NCCL_PAIR_H

#include <nccl.h>
#include <stdbool.h>
#include <stdint.h>

struct ncclComm {
    int end;        /* of the socket */
    int rank, size; /* 1 or 2 */
    int busy;       /* how often it still says that it is in progress */
    int splits;     /* so far */
    bool closed;    /* destroyed or aborted: its work is done at once */
    bool finalized;
    uint64_t queued, done; /* launches */
    ncclComm_t part;       /* split off, to be stored at part_out when it is no longer busy */
    ncclComm_t *part_out;
    ncclResult_t error; /* asynchronous */
    char name[64];      /* of its socket */
};

/* A call is refused: its result, after one line on standard error. */
ncclResult_t swt_emu_pair_refuse(ncclResult_t result, const char *why);

#endif
