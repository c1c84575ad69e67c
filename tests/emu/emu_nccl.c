/* NCCL, emulated over MPI on host memory: its calls and what they refuse. How they run:
 * emu_nccl_run.c. One communicator a process and group of ranks, one thread.
 *
 * Compiled against the real header, so that no signature can drift. MPI has been started before. */
#include "tests/emu/emu_nccl.h"
#include "tests/emu/emu.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_OPS = 1 << 16, MAX_DEPTH = 64 };

#define REFUSE(...) swt_emu_nccl_refuse(__VA_ARGS__)

#define TRY(call)                                                                                  \
    do {                                                                                           \
        const ncclResult_t try_result_ = (call);                                                   \
        if (try_result_ != ncclSuccess)                                                            \
            return try_result_;                                                                    \
    } while (0)

/* The header's declarations of these two say nothing of their arguments. */
ncclResult_t ncclGroupStart(void);
ncclResult_t ncclGroupEnd(void);

/* The group that is open: calls of several communicators, on one stream. */
typedef struct queued_op {
    ncclComm_t comm;
    cudaStream_t stream;
    nccl_op op;
} queued_op;

static struct {
    int depth, count, capacity;
    ncclResult_t error; /* of a call in it */
    queued_op *ops;
} group;

/* ------------------------------------------------------------------ one call */

size_t swt_emu_nccl_bytes(ncclDataType_t type) {
    switch (type) {
    case ncclInt8:
    case ncclUint8:
        return 1;
    case ncclFloat16:
    case ncclBfloat16:
        return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
        return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
        return 8;
    default:
        return 0;
    }
}

static bool overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes) {
    const uintptr_t x = (uintptr_t)a, y = (uintptr_t)b;
    return x < y + b_bytes && y < x + a_bytes;
}

static size_t sent_bytes(const queued_op *q) {
    const nccl_op *op = &q->op;
    const bool sends =
        op->kind != NCCL_RECV && (op->kind != NCCL_BROADCAST || op->peer == q->comm->rank);
    return sends ? op->count * swt_emu_nccl_bytes(op->type) : 0;
}

static size_t received_bytes(const queued_op *q) {
    const nccl_op *op = &q->op;
    const size_t bytes = op->count * swt_emu_nccl_bytes(op->type);
    return op->kind == NCCL_SEND         ? 0
           : op->kind == NCCL_ALL_GATHER ? bytes * (size_t)q->comm->size
                                         : bytes;
}

static ncclResult_t check_memory(const queued_op *q) {
    const nccl_op *op = &q->op;
    const size_t out = sent_bytes(q), in = received_bytes(q);
    const size_t place = op->kind == NCCL_ALL_GATHER ? out * (size_t)q->comm->rank : 0;
    if ((out > 0 && !swt_emu_on_gpu(op->send, out, true)) ||
        (in > 0 && !swt_emu_on_gpu(op->recv, in, true)))
        return REFUSE(q->comm, ncclInvalidArgument, "a buffer is not in the memory of a GPU");
    if (out > 0 && in > 0 && (const unsigned char *)op->recv + place != op->send &&
        overlap(op->send, out, op->recv, in))
        return REFUSE(q->comm, ncclInvalidArgument, "the buffers overlap, but are not in place");
    return ncclSuccess;
}

static ncclResult_t check(const queued_op *q) {
    const nccl_op *op = &q->op;
    TRY(swt_emu_nccl_ready(q->comm));
    if (q->comm->finalized)
        return REFUSE(q->comm, ncclInvalidUsage, "the communicator has been finalized");
    if (op->peer < 0 || op->peer >= q->comm->size)
        return REFUSE(q->comm, ncclInvalidArgument, "peer or root %d of %d ranks", op->peer,
                      q->comm->size);
    if (swt_emu_nccl_bytes(op->type) == 0)
        return REFUSE(q->comm, ncclInvalidArgument, "type %d is not emulated", (int)op->type);
    if (op->kind == NCCL_ALL_REDUCE && (op->reduction < ncclSum || op->reduction > ncclMin ||
                                        op->type == ncclFloat16 || op->type == ncclBfloat16))
        return REFUSE(q->comm, ncclInvalidArgument, "reduction %d of type %d is not emulated",
                      (int)op->reduction, (int)op->type);
    return check_memory(q);
}

/* ------------------------------------------------------------------ groups */

/* What one call writes no other of its group may read or write: they run at the same time. */
static ncclResult_t check_together(void) {
    for (int i = 0; i < group.count; i++)
        for (int j = 0; j < group.count; j++) {
            const queued_op *a = &group.ops[i], *b = &group.ops[j];
            if (i != j &&
                (overlap(a->op.recv, received_bytes(a), b->op.send, sent_bytes(b)) ||
                 (i < j && overlap(a->op.recv, received_bytes(a), b->op.recv, received_bytes(b)))))
                return REFUSE(a->comm, ncclInvalidUsage,
                              "in a group, what call %d receives is also used by call %d", i + 1,
                              j + 1);
            if (a->stream != b->stream)
                return REFUSE(a->comm, ncclInvalidUsage, "a group on two streams is not emulated");
        }
    return ncclSuccess;
}

static ncclResult_t queue_launch(ncclComm_t comm) {
    nccl_launch *l = malloc(sizeof *l + (size_t)group.count * sizeof l->ops[0]);
    enum cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    cudaStream_t stream = NULL;
    if (l == NULL)
        return ncclSystemError;
    *l = (nccl_launch){.comm = comm};
    for (int i = 0; i < group.count; i++)
        if (group.ops[i].comm == comm) {
            stream = group.ops[i].stream;
            l->ops[l->count++] = group.ops[i].op;
        }
    const bool asked = cudaStreamIsCapturing(stream, &capture) == cudaSuccess;
    const bool captured = asked && capture != cudaStreamCaptureStatusNone;
    l->ticket = captured ? -1 : (int64_t)comm->queued;
    const size_t bytes = sizeof *l + (size_t)l->count * sizeof l->ops[0];
    const cudaError_t error = swt_emu_enqueue(stream, "nccl", swt_emu_nccl_work, l, bytes);
    free(l);
    if (error != cudaSuccess)
        return REFUSE(comm, ncclUnhandledCudaError, "the stream does not take the work");
    comm->queued += !captured;
    comm->busy = comm->blocking ? 0 : 2;
    return ncclSuccess;
}

static ncclResult_t queue_group(bool *in_progress) {
    TRY(group.error);
    TRY(check_together());
    for (int i = 0; i < group.count; i++) {
        ncclComm_t comm = group.ops[i].comm;
        bool first = true;
        for (int j = 0; j < i; j++)
            first &= group.ops[j].comm != comm;
        if (first)
            TRY(queue_launch(comm));
        *in_progress |= comm->busy > 0;
    }
    return ncclSuccess;
}

ncclResult_t ncclGroupStart(void) {
    if (group.depth >= MAX_DEPTH)
        return REFUSE(NULL, ncclInvalidUsage, "%d groups inside each other; one is not ended",
                      group.depth);
    group.depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void) {
    bool in_progress = false;
    if (group.depth == 0)
        return REFUSE(NULL, ncclInvalidUsage, "the end of a group that was not started");
    if (--group.depth > 0)
        return ncclSuccess;
    const ncclResult_t result = queue_group(&in_progress);
    group.count = 0;
    group.error = ncclSuccess;
    return result == ncclSuccess && in_progress ? ncclInProgress : result;
}

bool swt_emu_nccl_in_group(void) {
    return group.depth > 0;
}

void swt_emu_nccl_drop_group(ncclComm_t comm) {
    int kept = 0;
    for (int i = 0; i < group.count; i++)
        if (group.ops[i].comm != comm)
            group.ops[kept++] = group.ops[i];
    group.count = kept;
}

static ncclResult_t grow_group(void) {
    if (group.count < group.capacity)
        return ncclSuccess;
    const int capacity = 2 * group.capacity + 64;
    queued_op *grown = realloc(group.ops, (size_t)capacity * sizeof *grown);
    if (grown == NULL || capacity > MAX_OPS)
        return REFUSE(NULL, ncclSystemError, "no room for %d calls in a group", capacity);
    group.ops = grown;
    group.capacity = capacity;
    return ncclSuccess;
}

/* Outside of a group a call is a group of its own. */
static ncclResult_t add(ncclComm_t comm, cudaStream_t stream, nccl_op op) {
    const queued_op q = {.comm = comm, .stream = stream, .op = op};
    TRY(ncclGroupStart());
    ncclResult_t result = check(&q);
    if (result == ncclSuccess)
        result = grow_group();
    if (result == ncclSuccess)
        group.ops[group.count++] = q;
    else
        group.error = result;
    const ncclResult_t ended = ncclGroupEnd();
    return result != ncclSuccess ? result : ended;
}

#define ADD(...) add(comm, stream, (nccl_op){.type = type, .count = count, __VA_ARGS__})

ncclResult_t ncclSend(const void *send, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
    return ADD(.kind = NCCL_SEND, .peer = peer, .send = send);
}

ncclResult_t ncclRecv(void *recv, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
    return ADD(.kind = NCCL_RECV, .peer = peer, .recv = recv);
}

ncclResult_t ncclAllReduce(const void *send, void *recv, size_t count, ncclDataType_t type,
                           ncclRedOp_t reduction, ncclComm_t comm, cudaStream_t stream) {
    return ADD(.kind = NCCL_ALL_REDUCE, .reduction = reduction, .send = send, .recv = recv);
}

ncclResult_t ncclAllGather(const void *send, void *recv, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
    return ADD(.kind = NCCL_ALL_GATHER, .send = send, .recv = recv);
}

ncclResult_t ncclBroadcast(const void *send, void *recv, size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream) {
    return ADD(.kind = NCCL_BROADCAST, .peer = root, .send = send, .recv = recv);
}
