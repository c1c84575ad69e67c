/* The communicator: what ranks say to each other, over MPI, NCCL, or with oneself.
 *
 * Every call but swt_comm_abort is collective over the communicator's ranks: all call it, in the
 * same order, with the same counts. Buffers are backend memory of the communicator's backend (for
 * comm_self and comm_mpi: host memory). A device communicator queues the call on the stream and
 * returns; the others ignore the stream and return when the call is done. Errors: COMM, naming the
 * call and the rank, where a peer or the transport fails; of a queued call by swt_comm_wait. SHAPE
 * where an argument is impossible (checked in comm.c for all implementations). */
#ifndef SWT_COMM_H
#define SWT_COMM_H

#include "base/progress.h"
#include "base/status.h"
#include "kernels/swt_device.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct swt_comm swt_comm;

/* Who owns the blocks (experts) 0 .. total-1: rank p owns first[p] .. first[p + 1] - 1. */
typedef struct swt_split {
    const int64_t *first; /* (size + 1), first[0] = 0, first[size] = total */
} swt_split;

typedef enum swt_direction {
    SWT_TO_OWNERS, /* send (total, block) -> receive (own, size, block) */
    SWT_TO_SOURCES /* send (own, size, block) -> receive (total, block): the way back */
} swt_direction;

/* One implementation. Every slot is mandatory. */
typedef struct swt_comm_table {
    const char *name; /* "self", "mpi", "nccl" */
    bool queues;      /* the calls return before they are done; busy_ms is counted by the table */
    swt_status (*all_to_all)(swt_comm *comm, swt_direction direction, void *receive,
                             const void *send, const swt_split *split, size_t block_bytes,
                             swt_stream *stream);
    swt_status (*all_reduce_i64)(swt_comm *comm, int64_t *data, int64_t count, swt_stream *stream);
    swt_status (*all_gather)(swt_comm *comm, void *receive, const void *send, size_t bytes,
                             swt_stream *stream);
    swt_status (*broadcast)(swt_comm *comm, void *data, size_t bytes, int root, swt_stream *stream);
    swt_status (*wait)(swt_comm *comm, swt_stream *stream);
    swt_status (*split)(swt_comm *comm, int color, int key, swt_comm *out);
    swt_status (*node)(swt_comm *comm, int *local_rank, int *local_size);
    void (*abort)(swt_comm *comm, int exit_code);
    void (*close)(swt_comm *comm);
} swt_comm_table;

struct swt_comm {
    const swt_comm_table *table;
    int rank, size;
    void *own;      /* the implementation's */
    double busy_ms; /* time spent in the calls below, of a device communicator on the device and
                       counted when it is seen to be done, at the latest by swt_comm_wait: the
                       caller may reset it */
    /* Payload given to other ranks; an all-reduce counts its data once. The caller may reset it. */
    int64_t sent_bytes;
    /* Asked over and over while a call on host memory waits for the other ranks, because what it
     * fails of may be why they do not come: the device communicator made of this one. Or NULL. */
    swt_status (*ask)(void *asked);
    void *asked;
    /* Where this rank is is written there, for its watchdog; parts that are split from this one
     * have it, too. NULL: nobody reads. */
    swt_progress *progress;
    /* The ranks' numbers in the whole world, for messages. Of a part whoever splits it says them.
     */
    int world_first, world_stride;
    /* Each call is compared over the ranks first (same_call.h), on host memory: by `host`, of the
     * same ranks, or by this one where that is NULL. comparing: one is, right now. */
    bool compares, comparing;
    swt_comm *host;
};

/* Whether communicators of this build compare their calls. */
#ifdef SWT_COMPARE_CALLS
#define SWT_COMM_COMPARES true
#else
#define SWT_COMM_COMPARES false
#endif

/* One rank alone. Cannot fail. */
void swt_comm_open_self(swt_comm *out);

/* All processes that mpirun started. Starts MPI with the thread level FUNNELED (one thread of a
 * rank speaks) and checks that it got it. At most one at a time; swt_comm_close ends MPI. */
SWT_MUST_CHECK swt_status swt_comm_open_mpi(swt_comm *out);

/* Collective over host: the same ranks with an NCCL communicator for the memory of their GPUs, one
 * GPU a rank. Its calls, and those of the parts split from it, run on a stream of their own, joined
 * by events with the stream that they are given. `host` and `device` must outlive it; *out must
 * stay where it is, a part's, too. Errors: USAGE in builds without CUDA; COMM. */
SWT_MUST_CHECK swt_status swt_comm_open_nccl(swt_comm *out, swt_comm *host, swt_device *device);

/* Whether ranks may share a GPU, for tests: NCCL's experiment NCCL_MULTI_RANK_GPU_ENABLE=1, in 2.30
 * and newer. False in builds without CUDA. Local. */
bool swt_comm_nccl_shares_gpus(void);

/* True if this process was started by an MPI launcher (mpirun, srun --mpi). */
bool swt_comm_launched_by_mpi(void);

/* The value of an environment variable, NULL where it is not set: getenv. */
typedef char *(*swt_variable)(const char *name);

/* The variable that says that a launcher started several processes, of which this is *rank, where
 * MPI has a world of only one; NULL where nothing says so. */
const char *swt_comm_split_apart(swt_variable variable, int world_size, int *rank);

/* Local. Errors: USAGE where processes were started together that do not know of each other; the
 * message is the first one's. */
SWT_MUST_CHECK swt_status swt_comm_check_alone(const swt_comm *world);

void swt_comm_close(swt_comm *comm);

/* The exchange of the switch layer, with counts known on the host. A block is block_bytes long (an
 * expert's slots from one source). TO_OWNERS: send block e goes to e's owner, which finds the block
 * of its local expert j from source p at receive + (j size + p) block_bytes. TO_SOURCES is its
 * inverse. receive and send must not overlap. block_bytes = 0 is allowed and sends nothing. */
SWT_MUST_CHECK swt_status swt_comm_all_to_all(swt_comm *comm, swt_direction direction,
                                              void *receive, const void *send,
                                              const swt_split *split, size_t block_bytes,
                                              swt_stream *stream);

/* data[i] = sum over ranks, in place. Integers, so that the sum is exact in any order. */
SWT_MUST_CHECK swt_status swt_comm_all_reduce_i64(swt_comm *comm, int64_t *data, int64_t count,
                                                  swt_stream *stream);

/* Give every rank numbers of which each is zero on all ranks but one (+0, all bits zero): their
 * bits are added as integers, an exact copy. In place. */
SWT_MUST_CHECK swt_status swt_comm_share_f64(swt_comm *comm, double *data, int64_t count,
                                             swt_stream *stream);

/* receive[r] = send of rank r.  Shapes: receive (size, bytes), send (bytes). */
SWT_MUST_CHECK swt_status swt_comm_all_gather(swt_comm *comm, void *receive, const void *send,
                                              size_t bytes, swt_stream *stream);

/* data of rank root to all. */
SWT_MUST_CHECK swt_status swt_comm_broadcast(swt_comm *comm, void *data, size_t bytes, int root,
                                             swt_stream *stream);

/* Local: wait on the host until the work of the stream is done, with the calls on it of this
 * communicator and of all split from it. Waiting for the stream alone would wait for a lost peer
 * for ever; here that is an error, and what is queued is given up. Nothing to wait for on host
 * memory. Errors: COMM. */
SWT_MUST_CHECK swt_status swt_comm_wait(swt_comm *comm, swt_stream *stream);

/* Ranks with the same color form a new communicator, ordered by key. Close it before its parent. */
SWT_MUST_CHECK swt_status swt_comm_split(swt_comm *comm, int color, int key, swt_comm *out);

/* End all ranks now. Not collective. Does not return for MPI; for self it returns. */
void swt_comm_abort(swt_comm *comm, int exit_code);

/* Collective on host memory: if any rank's status is not OK, every rank gets the status of the
 * lowest failing rank, the record of that rank stays as it is and is marked agreed, the others'
 * records get its message and are marked agreed and silent. Unless that rank is 0, its message is
 * prefixed "rank R: ". So an error that some ranks meet ends all of them with one message. A rank
 * that an earlier agreement has silenced is the reporter of a later one only if nobody else can be.
 */
SWT_MUST_CHECK swt_status swt_comm_agree(swt_comm *comm, swt_status status);

/* Collective on host memory: *first = the first of own[0..count) that is another number on rank 0,
 * -1 if all are the same. Every rank gives the same count. */
SWT_MUST_CHECK swt_status swt_comm_differ(swt_comm *comm, const uint64_t *own, int count,
                                          int *first);

/* Collective on host memory: *most = the largest value of any rank. */
SWT_MUST_CHECK swt_status swt_comm_max(swt_comm *comm, int64_t value, int64_t *most);

/* Node-local facts, host: how many ranks run on this node, and this rank's number among them. */
SWT_MUST_CHECK swt_status swt_comm_node(swt_comm *comm, int *local_rank, int *local_size);

#endif
