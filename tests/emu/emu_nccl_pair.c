/* The emulated NCCL of two processes: its calls. What one group has for a communicator travels as
 * one message each way: a header, which says what the sender gives and what it expects, and the
 * bytes. */
#include "tests/emu/emu_nccl_pair.h"
#include "tests/emu/emu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { MAX_OPS = 4096 };

typedef enum op_kind { SEND, RECV, SUM, GATHER, BROADCAST } op_kind;

/* One call; root only of a broadcast. Every call moves bytes of one kind: bytes are counted. */
typedef struct pair_op {
    op_kind kind;
    int root;
    const unsigned char *send;
    unsigned char *recv;
    size_t bytes;
} pair_op;

/* What two launches must agree on: each one's way out is the other's way in. */
typedef struct header {
    uint64_t out_bytes, in_bytes, out_calls, in_calls;
} header;

typedef struct launch {
    ncclComm_t comm;
    uint64_t ticket;
    unsigned char *out, *in; /* header and bytes; NULL until it starts */
    size_t out_bytes, in_bytes, sent, received;
    int count;
    pair_op ops[];
} launch;

static struct {
    int depth, count;
    ncclResult_t error;
    struct {
        ncclComm_t comm;
        cudaStream_t stream;
        pair_op op;
    } calls[MAX_OPS];
} group;

/* The header's declarations of these two say nothing of their arguments. */
ncclResult_t ncclGroupStart(void);
ncclResult_t ncclGroupEnd(void);

/* ------------------------------------------------------------------ a launch */

static bool goes_out(const ncclComm_t comm, const pair_op *op) {
    return op->kind != RECV && (op->kind != BROADCAST || op->root == comm->rank);
}

static bool comes_in(const ncclComm_t comm, const pair_op *op) {
    return op->kind != SEND && (op->kind != BROADCAST || op->root != comm->rank);
}

/* A number for the calls of one direction, in their order. */
static uint64_t with_call(uint64_t calls, const pair_op *op) {
    const uint64_t kind = op->kind == RECV ? SEND : (uint64_t)op->kind;
    return ((calls ^ kind) * 1099511628211u ^ (uint64_t)op->bytes) * 1099511628211u;
}

static void start(launch *l) {
    header h = {0};
    for (int i = 0; i < l->count; i++) {
        const pair_op *const op = &l->ops[i];
        if (goes_out(l->comm, op))
            h.out_bytes += op->bytes, h.out_calls = with_call(h.out_calls, op);
        if (comes_in(l->comm, op))
            h.in_bytes += op->bytes, h.in_calls = with_call(h.in_calls, op);
    }
    l->out_bytes = sizeof h + h.out_bytes;
    l->in_bytes = sizeof h + h.in_bytes;
    l->out = malloc(l->out_bytes);
    l->in = malloc(l->in_bytes);
    if (l->out == NULL || l->in == NULL)
        swt_emu_stop("nccl: no memory for a launch");
    memcpy(l->out, &h, sizeof h);
    size_t at = sizeof h;
    for (int i = 0; i < l->count; i++) {
        const pair_op *const op = &l->ops[i];
        if (!goes_out(l->comm, op) || op->bytes == 0)
            continue;
        memcpy(l->out + at, op->send, op->bytes);
        at += op->bytes;
    }
}

/* The peer's header is there: does it say what this one's says? */
static bool fits(const launch *l) {
    header own, peer;
    memcpy(&own, l->out, sizeof own);
    memcpy(&peer, l->in, sizeof peer);
    return own.out_bytes == peer.in_bytes && own.in_bytes == peer.out_bytes &&
           own.out_calls == peer.in_calls && own.in_calls == peer.out_calls;
}

/* As much as the socket takes and has. */
static ncclResult_t travel(launch *l) {
    const ssize_t sent =
        send(l->comm->end, l->out + l->sent, l->out_bytes - l->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN)
        return swt_emu_pair_refuse(ncclRemoteError, "the peer has gone");
    l->sent += sent > 0 ? (size_t)sent : 0;
    if (l->received == l->in_bytes)
        return ncclSuccess;
    const bool begins = l->received < sizeof(header);
    const size_t until = begins ? sizeof(header) : l->in_bytes;
    const ssize_t got = recv(l->comm->end, l->in + l->received, until - l->received, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN))
        return swt_emu_pair_refuse(ncclRemoteError, "the peer has gone");
    l->received += got > 0 ? (size_t)got : 0;
    if (begins && l->received == sizeof(header) && !fits(l))
        return swt_emu_pair_refuse(ncclInternalError, "the two ranks' calls do not fit");
    return ncclSuccess;
}

static void add_integers(unsigned char *to, const unsigned char *from, size_t bytes) {
    for (size_t i = 0; i < bytes; i += sizeof(int64_t)) {
        int64_t a = 0, b = 0;
        memcpy(&a, to + i, sizeof a);
        memcpy(&b, from + i, sizeof b);
        a += b;
        memcpy(to + i, &a, sizeof a);
    }
}

/* All is here: into the GPU's memory. */
static void settle(const launch *l) {
    size_t at = sizeof(header);
    for (int i = 0; i < l->count; i++) {
        const pair_op *const op = &l->ops[i];
        const int rank = l->comm->rank;
        if (op->kind == GATHER && op->bytes > 0)
            memmove(op->recv + (size_t)rank * op->bytes, op->send, op->bytes);
        if (op->kind == SUM && op->bytes > 0)
            memmove(op->recv, op->send, op->bytes);
        if (!comes_in(l->comm, op) || op->bytes == 0)
            continue;
        if (op->kind == SUM)
            add_integers(op->recv, l->in + at, op->bytes);
        else
            memcpy(op->recv + (op->kind == GATHER ? (size_t)(1 - rank) * op->bytes : 0), l->in + at,
                   op->bytes);
        at += op->bytes;
    }
}

static bool work(void *data) {
    launch *l = data;
    ncclComm_t comm = l->comm;
    if (!comm->closed && (comm->error != ncclSuccess || l->ticket != comm->done))
        return false;
    if (!comm->closed) {
        if (l->out == NULL)
            start(l);
        comm->error = travel(l);
        if (comm->error != ncclSuccess || l->sent < l->out_bytes || l->received < l->in_bytes)
            return false;
        settle(l);
    }
    free(l->out);
    free(l->in);
    comm->done++;
    return true;
}

/* ------------------------------------------------------------------ calls and groups */

static ncclResult_t queue_launch(ncclComm_t comm) {
    launch *l = calloc(1, sizeof *l + (size_t)group.count * sizeof l->ops[0]);
    cudaStream_t stream = NULL;
    if (l == NULL)
        return ncclSystemError;
    *l = (launch){.comm = comm, .ticket = comm->queued};
    for (int i = 0; i < group.count; i++)
        if (group.calls[i].comm == comm) {
            stream = group.calls[i].stream;
            l->ops[l->count++] = group.calls[i].op;
            group.calls[i].comm = NULL;
        }
    const cudaError_t error =
        swt_emu_enqueue(stream, "nccl", work, l, sizeof *l + (size_t)l->count * sizeof l->ops[0]);
    free(l);
    if (error != cudaSuccess)
        return swt_emu_pair_refuse(ncclUnhandledCudaError, "the stream does not take the work");
    comm->queued++;
    comm->busy = 2;
    return ncclInProgress;
}

ncclResult_t ncclGroupStart(void) {
    group.depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void) {
    if (group.depth == 0)
        return swt_emu_pair_refuse(ncclInvalidUsage, "the end of a group that was not started");
    if (--group.depth > 0)
        return ncclSuccess;
    ncclResult_t result = group.error;
    for (int i = 0; i < group.count && (result == ncclSuccess || result == ncclInProgress); i++)
        if (group.calls[i].comm != NULL)
            result = queue_launch(group.calls[i].comm);
    group.count = 0;
    group.error = ncclSuccess;
    return result;
}

/* Outside of a group a call is a group of its own. */
static ncclResult_t add(ncclComm_t comm, cudaStream_t stream, int peer, size_t elements,
                        size_t element_bytes, pair_op op) {
    op.bytes = elements * element_bytes;
    ncclResult_t result = comm->error;
    (void)ncclGroupStart();
    if (result == ncclSuccess &&
        (comm->busy > 0 || comm->size != 2 || peer < 0 || peer > 1 || group.count == MAX_OPS ||
         ((op.kind == SEND || op.kind == RECV) && peer == comm->rank)))
        result = swt_emu_pair_refuse(ncclInvalidUsage, "a call that is not emulated for two ranks");
    if (result == ncclSuccess &&
        ((op.send != NULL && op.bytes > 0 && !swt_emu_on_gpu(op.send, op.bytes, true)) ||
         (op.recv != NULL && op.bytes > 0 && !swt_emu_on_gpu(op.recv, op.bytes, true))))
        result = swt_emu_pair_refuse(ncclInvalidArgument, "a buffer is not in the memory of a GPU");
    if (result == ncclSuccess) {
        group.calls[group.count].comm = comm;
        group.calls[group.count].stream = stream;
        group.calls[group.count++].op = op;
    } else {
        group.error = result;
    }
    const ncclResult_t ended = ncclGroupEnd();
    return result != ncclSuccess ? result : ended;
}

/* The program sends bytes and adds 64-bit integers, nothing else. */
static size_t element_bytes(ncclDataType_t type) {
    if (type != ncclUint8 && type != ncclInt64)
        swt_emu_stop("nccl: type %d is not emulated without MPI", (int)type);
    return type == ncclInt64 ? sizeof(int64_t) : 1;
}

ncclResult_t ncclSend(const void *send, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
    return add(comm, stream, peer, count, element_bytes(type),
               (pair_op){.kind = SEND, .send = send});
}

ncclResult_t ncclRecv(void *recv, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
    return add(comm, stream, peer, count, element_bytes(type),
               (pair_op){.kind = RECV, .recv = recv});
}

ncclResult_t ncclAllReduce(const void *send, void *recv, size_t count, ncclDataType_t type,
                           ncclRedOp_t reduction, ncclComm_t comm, cudaStream_t stream) {
    if (type != ncclInt64 || reduction != ncclSum)
        swt_emu_stop("nccl: reduction %d of type %d is not emulated without MPI", (int)reduction,
                     (int)type);
    return add(comm, stream, 0, count, element_bytes(type),
               (pair_op){.kind = SUM, .send = send, .recv = recv});
}

ncclResult_t ncclAllGather(const void *send, void *recv, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
    return add(comm, stream, 0, count, element_bytes(type),
               (pair_op){.kind = GATHER, .send = send, .recv = recv});
}

ncclResult_t ncclBroadcast(const void *send, void *recv, size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream) {
    return add(comm, stream, root, count, element_bytes(type),
               (pair_op){.kind = BROADCAST, .root = root, .send = send, .recv = recv});
}
