/* How a launch of the emulated NCCL runs: a machine of states that never blocks. The GPU's memory
 * is open during a call alone, so what travels is copied to memory of its own.
 *
 * A message begins with a header that says what its sender called; a collective begins with all
 * ranks' headers. So calls that do not fit are found, and what never comes is after a while. */
#include "tests/emu/emu.h"
#include "tests/emu/emu_nccl.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE_TAG = 0 };

/* What each end says of a call. */
typedef struct header {
    int32_t kind, type, reduction, root;
    uint64_t count;
} header;

typedef enum step_state { WAITS, HEADERS, TRAVELS, DONE } step_state;

/* One call under way. */
typedef struct step {
    step_state state;
    MPI_Request request;
    unsigned char *memory; /* what travels, headers first */
    int bytes;
} step;

struct nccl_run {
    struct nccl_run *next; /* of the abandoned */
    double last_ms, waited_ms;
    step steps[];
};

/* Runs that ended in the middle of a message: MPI may still know their memory. */
static nccl_run *abandoned;

static const char *const kind_names[] = {"ncclSend", "ncclRecv", "ncclAllReduce", "ncclAllGather",
                                         "ncclBroadcast"};

static const char *const type_names[ncclNumTypes] = {
    "int8", "uint8",   "int32",   "uint32",   "int64",      "uint64",
    "half", "float32", "float64", "bfloat16", "float8e4m3", "float8e5m2"};

static bool collective(const nccl_op *op) {
    return op->kind != NCCL_SEND && op->kind != NCCL_RECV;
}

static header header_of(const nccl_op *op) {
    const bool reduces = op->kind == NCCL_ALL_REDUCE, rooted = op->kind == NCCL_BROADCAST;
    return (header){.kind = (int32_t)op->kind,
                    .type = (int32_t)op->type,
                    .reduction = reduces ? (int32_t)op->reduction : 0,
                    .root = rooted ? op->peer : 0,
                    .count = op->count};
}

static size_t bytes_of(const nccl_op *op) {
    return op->count * swt_emu_nccl_bytes(op->type);
}

/* True if MPI is content; else the communicator has failed. */
static bool content(ncclComm_t comm, int code, const char *call) {
    if (code != MPI_SUCCESS)
        swt_emu_nccl_fail(comm, ncclSystemError, "%s: MPI's error %d", call, code);
    return code == MPI_SUCCESS;
}

static bool take(ncclComm_t comm, step *s, size_t bytes) {
    s->memory = bytes <= INT_MAX ? malloc(bytes + 1) : NULL;
    s->bytes = bytes <= INT_MAX ? (int)bytes : 0;
    if (s->memory == NULL)
        swt_emu_nccl_fail(comm, ncclSystemError, "no memory for a message of %zu bytes", bytes);
    return s->memory != NULL;
}

/* True once the message under way has arrived. */
static bool arrived(ncclComm_t comm, step *s) {
    int flag = 0;
    return content(comm, PMPI_Test(&s->request, &flag, MPI_STATUS_IGNORE), "MPI_Test") && flag;
}

/* ------------------------------------------------------------------ messages */

/* Synchronous: it is done when its receive has taken it, as a send is that has no room of its own.
 */
static bool start_send(ncclComm_t comm, const nccl_op *op, step *s) {
    const header h = header_of(op);
    if (!take(comm, s, sizeof h + bytes_of(op)))
        return false;
    memcpy(s->memory, &h, sizeof h);
    memcpy(s->memory + sizeof h, op->send, bytes_of(op));
    s->state = TRAVELS;
    return content(
        comm,
        PMPI_Issend(s->memory, s->bytes, MPI_BYTE, op->peer, MESSAGE_TAG, comm->mpi, &s->request),
        "MPI_Issend");
}

/* Whatever the peer has sent next. */
static bool start_recv(ncclComm_t comm, const nccl_op *op, step *s) {
    MPI_Message message;
    MPI_Status status;
    int flag = 0, bytes = 0;
    if (!content(comm, PMPI_Improbe(op->peer, MESSAGE_TAG, comm->mpi, &flag, &message, &status),
                 "MPI_Improbe") ||
        !flag || !content(comm, PMPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count") ||
        !take(comm, s, (size_t)bytes))
        return false;
    s->state = TRAVELS;
    return content(comm, PMPI_Imrecv(s->memory, bytes, MPI_BYTE, &message, &s->request),
                   "MPI_Imrecv");
}

static void settle_recv(ncclComm_t comm, const nccl_op *op, const step *s) {
    header h;
    memcpy(&h, s->memory, sizeof h);
    if (h.count != op->count || h.type != (int32_t)op->type)
        swt_emu_nccl_fail(comm, ncclInternalError,
                          "rank %d sends %llu %s, its receiver, rank %d, expects %zu %s", op->peer,
                          (unsigned long long)h.count, type_names[h.type], comm->rank, op->count,
                          type_names[op->type]);
    else
        memcpy(op->recv, s->memory + sizeof h, bytes_of(op));
}

/* ------------------------------------------------------------------ collectives */

static bool start_headers(ncclComm_t comm, const nccl_op *op, step *s) {
    const header h = header_of(op);
    if (!take(comm, s, sizeof h * ((size_t)comm->size + 1)))
        return false;
    memcpy(s->memory, &h, sizeof h);
    s->state = HEADERS;
    return content(comm,
                   PMPI_Iallgather(s->memory, sizeof h, MPI_BYTE, s->memory + sizeof h, sizeof h,
                                   MPI_BYTE, comm->mpi, &s->request),
                   "MPI_Iallgather");
}

static bool all_call_the_same(ncclComm_t comm, const nccl_op *op, const step *s) {
    const header own = header_of(op);
    for (int rank = 0; rank < comm->size; rank++) {
        header h;
        memcpy(&h, s->memory + sizeof h * ((size_t)rank + 1), sizeof h);
        if (memcmp(&h, &own, sizeof h) != 0) {
            swt_emu_nccl_fail(comm, ncclInternalError,
                              "rank %d calls %s of %llu %s (root %d, reduction %d), rank %d %s of "
                              "%zu %s (root %d, reduction %d)",
                              rank, kind_names[h.kind], (unsigned long long)h.count,
                              type_names[h.type], h.root, h.reduction, comm->rank,
                              kind_names[op->kind], op->count, type_names[op->type], own.root,
                              own.reduction);
            return false;
        }
    }
    return true;
}

static MPI_Datatype mpi_type(ncclDataType_t type) {
    switch (type) {
    case ncclInt8:
        return MPI_INT8_T;
    case ncclUint8:
        return MPI_UINT8_T;
    case ncclInt32:
        return MPI_INT32_T;
    case ncclUint32:
        return MPI_UINT32_T;
    case ncclInt64:
        return MPI_INT64_T;
    case ncclUint64:
        return MPI_UINT64_T;
    case ncclFloat32:
        return MPI_FLOAT;
    case ncclFloat64:
        return MPI_DOUBLE;
    default:
        return MPI_DATATYPE_NULL;
    }
}

static MPI_Op mpi_reduction(ncclRedOp_t op) {
    switch (op) {
    case ncclSum:
        return MPI_SUM;
    case ncclProd:
        return MPI_PROD;
    case ncclMax:
        return MPI_MAX;
    case ncclMin:
        return MPI_MIN;
    default:
        return MPI_OP_NULL;
    }
}

/* All ranks have said the same: now what they have to say. */
static bool start_payload(ncclComm_t comm, const nccl_op *op, step *s) {
    const size_t bytes = bytes_of(op);
    const bool gathers = op->kind == NCCL_ALL_GATHER;
    const size_t own = gathers ? bytes * (size_t)comm->rank : 0;
    free(s->memory);
    if (!take(comm, s, gathers ? bytes * (size_t)comm->size : bytes))
        return false;
    if (op->kind != NCCL_BROADCAST || op->peer == comm->rank)
        memcpy(s->memory + own, op->send, bytes);
    s->state = TRAVELS;
    if (gathers)
        return content(comm,
                       PMPI_Iallgather(MPI_IN_PLACE, 0, MPI_BYTE, s->memory, (int)bytes, MPI_BYTE,
                                       comm->mpi, &s->request),
                       "MPI_Iallgather");
    if (op->kind == NCCL_BROADCAST)
        return content(
            comm, PMPI_Ibcast(s->memory, (int)bytes, MPI_BYTE, op->peer, comm->mpi, &s->request),
            "MPI_Ibcast");
    return content(comm,
                   PMPI_Iallreduce(MPI_IN_PLACE, s->memory, (int)op->count, mpi_type(op->type),
                                   mpi_reduction(op->reduction), comm->mpi, &s->request),
                   "MPI_Iallreduce");
}

/* ------------------------------------------------------------------ a launch */

/* Messages from one peer are taken in the order of the calls, collectives run one by one. */
static bool turn_of(const nccl_launch *l, int i) {
    const nccl_op *op = &l->ops[i];
    if (op->kind == NCCL_SEND)
        return true;
    for (int j = 0; j < i; j++) {
        const nccl_op *other = &l->ops[j];
        if (op->kind == NCCL_RECV ? other->kind == NCCL_RECV && other->peer == op->peer &&
                                        l->run->steps[j].state == WAITS
                                  : collective(other) && l->run->steps[j].state != DONE)
            return false;
    }
    return true;
}

/* Go on with one call as far as it does. */
static void advance(nccl_launch *l, int i) {
    const nccl_op *op = &l->ops[i];
    ncclComm_t comm = l->comm;
    step *s = &l->run->steps[i];
    if (s->state == WAITS && turn_of(l, i))
        (void)(op->kind == NCCL_SEND   ? start_send(comm, op, s)
               : op->kind == NCCL_RECV ? start_recv(comm, op, s)
                                       : start_headers(comm, op, s));
    if (s->state == HEADERS && arrived(comm, s) && all_call_the_same(comm, op, s))
        (void)start_payload(comm, op, s);
    if (s->state != TRAVELS || comm->error != ncclSuccess || !arrived(comm, s))
        return;
    if (op->kind == NCCL_RECV)
        settle_recv(comm, op, s);
    else if (op->kind != NCCL_SEND)
        memcpy(op->recv, s->memory, (size_t)s->bytes);
    if (comm->error != ncclSuccess)
        return;
    free(s->memory);
    s->memory = NULL;
    s->state = DONE;
}

/* SWT_EMU_NCCL_STOP=N: rank 0 stands still when it comes to its launch N, as if it hung there. */
static void stand_still(const nccl_launch *l) {
    static long left = -1;
    const char *const number = getenv("SWT_EMU_NCCL_STOP");
    if (number == NULL || l->comm->rank != 0)
        return;
    left = (left < 0 ? strtol(number, NULL, 10) : left) - 1;
    if (left == 0)
        (void)raise(SIGSTOP);
}

static bool start(nccl_launch *l) {
    ncclComm_t comm = l->comm;
    if (comm->running > 0 || (l->ticket >= 0 && (uint64_t)l->ticket != comm->done))
        return false;
    l->run = calloc(1, sizeof *l->run + (size_t)l->count * sizeof l->run->steps[0]);
    if (l->run == NULL)
        swt_emu_stop("nccl: no memory for a launch");
    l->run->last_ms = swt_emu_nccl_now_ms();
    comm->running++;
    stand_still(l);
    return true;
}

static bool end(nccl_launch *l) {
    ncclComm_t comm = l->comm;
    comm->done += l->ticket >= 0;
    comm->running -= l->run != NULL;
    if (comm->error == ncclSuccess && !comm->closed) {
        free(l->run);
    } else if (l->run != NULL) {
        l->run->next = abandoned;
        abandoned = l->run;
    }
    l->run = NULL;
    return true;
}

/* Time counts in which this rank asked, not in which it had other work. */
static void count_time(nccl_launch *l, bool moved) {
    enum { LONGEST_MS = 50 };
    nccl_run *run = l->run;
    const double now_ms = swt_emu_nccl_now_ms(), passed_ms = now_ms - run->last_ms;
    run->waited_ms = moved ? 0 : run->waited_ms + (passed_ms < LONGEST_MS ? passed_ms : LONGEST_MS);
    run->last_ms = now_ms;
    if (run->waited_ms < swt_emu_nccl_patience_ms())
        return;
    run->waited_ms = 0;
    if (l->comm->error != ncclSuccess)
        swt_emu_stop("nccl on rank %d: a communicator has failed (%s) and still somebody waits for "
                     "its stream; look at ncclCommGetAsyncError and abort it",
                     l->comm->rank, l->comm->message);
    for (int i = 0; i < l->count; i++)
        if (run->steps[i].state != DONE) {
            const nccl_op *op = &l->ops[i];
            swt_emu_nccl_fail(l->comm, ncclRemoteError,
                              "rank %d: %s of %zu %s, call %d of %d in its group, peer or root %d: "
                              "nothing came for %.1f s",
                              l->comm->rank, kind_names[op->kind], op->count, type_names[op->type],
                              i + 1, l->count, op->peer, swt_emu_nccl_patience_ms() / 1000);
            return;
        }
}

bool swt_emu_nccl_work(void *data) {
    nccl_launch *l = data;
    bool moved = false, done = true;
    if (l->comm->closed)
        return swt_emu_nccl_now_ms() >= l->comm->until_ms && end(l);
    if (l->run == NULL && !start(l))
        return false;
    for (int i = 0; i < l->count; i++) {
        step *s = &l->run->steps[i];
        const step_state before = s->state;
        if (before != DONE && l->comm->error == ncclSuccess)
            advance(l, i);
        moved |= s->state != before;
        done &= s->state == DONE;
    }
    if (done)
        return end(l);
    count_time(l, moved);
    return false;
}
