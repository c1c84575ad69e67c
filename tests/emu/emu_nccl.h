/* Inside the emulated NCCL: communicators, and what a group queues. */
#ifndef SWT_EMU_NCCL_H
#define SWT_EMU_NCCL_H

#include <mpi.h>
#include <nccl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum nccl_kind {
    NCCL_SEND,
    NCCL_RECV,
    NCCL_ALL_REDUCE,
    NCCL_ALL_GATHER,
    NCCL_BROADCAST
} nccl_kind;

struct ncclComm {
    struct ncclComm *next; /* communicators are never freed: queued work may still know them */
    MPI_Comm mpi;
    int rank, size, device;
    bool blocking;
    bool closed;     /* destroyed or aborted */
    double until_ms; /* closed: its work is held up so long, because an abort takes its time */
    int busy;        /* how often it still says that it is in progress */
    bool finalized;  /* asked to */
    ncclComm_t part; /* split off, to be stored at part_out when it is no longer busy */
    ncclComm_t *part_out;
    uint64_t queued, done; /* launches of this communicator, without a graph's */
    int running;           /* launches that run: 0 or 1 */
    ncclResult_t error;    /* asynchronous */
    char message[256];
};

/* One call. Of a collective, peer is the root. */
typedef struct nccl_op {
    nccl_kind kind;
    ncclDataType_t type;
    ncclRedOp_t reduction;
    int peer;
    const void *send;
    void *recv;
    size_t count;
} nccl_op;

/* The calls of one group on one communicator: they run together. The bytes are copied when they are
 * queued, so the calls are behind the structure. */
typedef struct nccl_run nccl_run;
typedef struct nccl_launch {
    ncclComm_t comm;
    int64_t ticket; /* its number among the communicator's; -1: a graph's */
    nccl_run *run;  /* NULL until it starts */
    int count;
    nccl_op ops[];
} nccl_launch;

/* The work of a launch (swt_emu_work). */
bool swt_emu_nccl_work(void *launch);

size_t swt_emu_nccl_bytes(ncclDataType_t type); /* 0: not emulated */

/* Fails the communicator: what it runs stays unfinished until it is aborted. One line on standard
 * error. */
void swt_emu_nccl_fail(ncclComm_t comm, ncclResult_t error, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* A call is refused: its result, after one line on standard error. comm may be NULL. */
ncclResult_t swt_emu_nccl_refuse(ncclComm_t comm, ncclResult_t result, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* ncclSuccess if the communicator lives, has not failed, and its last call is through. */
ncclResult_t swt_emu_nccl_ready(ncclComm_t comm);

bool swt_emu_nccl_in_group(void);

/* End the process with a message if an abort is still under way. */
void swt_emu_nccl_check_aborts(void);

/* Forget the group's calls on this communicator. */
void swt_emu_nccl_drop_group(ncclComm_t comm);

/* So long nothing may happen before a peer is taken for lost: SWT_EMU_NCCL_TIMEOUT (seconds). */
double swt_emu_nccl_patience_ms(void);

double swt_emu_nccl_now_ms(void);

#endif
