/* The memory of GPUs over NCCL, one GPU a rank. Only comm_nccl*.[ch] know NCCL.
 *
 * Communicators are non-blocking (config.blocking = 0): a call of NCCL may return before it has
 * queued its work, so nccl_settle asks until it has, and hears of lost peers meanwhile. Nothing
 * else waits but nccl_drain, which asks, too: a stream alone would wait for a lost peer for ever,
 * and so would an abort of one communicator whose work is queued behind another's. A rank alone, or
 * alone in its part, needs no NCCL: it copies. */
#include "base/clock.h"
#include "comm/comm_nccl_own.h"
#include "comm/exchange.h"

#include <stdlib.h>
#include <string.h>

enum { CLOSING_MS = 10000 };

/* ------------------------------------------------------------------ order and time */

/* Calls of a captured stream become parts of a graph: they have no time of their own. */
static swt_status is_timed(const nccl_family *f, cudaStream_t caller, bool *timed) {
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    SWT_CUDART(f, cudaStreamIsCapturing(caller, &status));
    *timed = status == cudaStreamCaptureStatusNone;
    return SWT_OK;
}

/* Before a call's work: it comes after all that is queued on the caller's stream. The stream NULL
 * is the host itself (swt_device.h): after all streams. */
static swt_status begin(nccl_own *own, swt_stream *stream) {
    nccl_family *f = own->family;
    const cudaStream_t caller = (cudaStream_t)(void *)stream;
    SWT_TRY(nccl_check_alive(f));
    if (stream == NULL) {
        own->timed = true;
        SWT_TRY(nccl_drain(f, f->stream)); /* what other streams may wait for */
        SWT_CUDART(f, cudaDeviceSynchronize());
    } else {
        SWT_TRY(is_timed(f, caller, &own->timed));
        SWT_CUDART(f, cudaEventRecord(f->ready, caller));
        SWT_CUDART(f, cudaStreamWaitEvent(f->stream, f->ready, 0));
    }
    if (!own->timed)
        return SWT_OK;
    own->comm->busy_ms += nccl_clock_count(&own->clock);
    SWT_CUDART(f, nccl_clock_begin(&own->clock, f->stream));
    return SWT_OK;
}

static swt_status nccl_wait(swt_comm *comm, swt_stream *stream);

/* After a call's work, which NCCL was told with the result `code`: what is queued on the caller's
 * stream from now on comes after it; for the host it is done. */
static swt_status end(nccl_own *own, swt_stream *stream, ncclResult_t code, const char *call) {
    nccl_family *f = own->family;
    own->call = call;
    SWT_TRY(nccl_settle(own, code, call));
    if (own->timed)
        SWT_CUDART(f, nccl_clock_end(&own->clock, f->stream));
    if (stream == NULL)
        return nccl_wait(own->comm, NULL);
    SWT_CUDART(f, cudaEventRecord(f->done, f->stream));
    SWT_CUDART(f, cudaStreamWaitEvent((cudaStream_t)(void *)stream, f->done, 0));
    return SWT_OK;
}

/* The caller's stream waits for the calls that it was given to: it is enough to ask for it. */
static swt_status nccl_wait(swt_comm *comm, swt_stream *stream) {
    nccl_family *f = own_of(comm)->family;
    SWT_TRY(nccl_check_alive(f));
    SWT_TRY(nccl_drain(f, stream != NULL ? (cudaStream_t)(void *)stream : f->stream));
    for (nccl_own *m = f->members; m != NULL; m = m->next)
        m->comm->busy_ms += nccl_clock_count(&m->clock);
    return SWT_OK;
}

/* ------------------------------------------------------------------ the calls */

static swt_status copy_own_blocks(const swt_exchange *x, unsigned char *receive,
                                  const unsigned char *send) {
    const nccl_family *f = own_of(x->comm)->family;
    const swt_blocks from = swt_blocks_sent(x, x->comm->rank);
    const swt_blocks to = swt_blocks_received(x, x->comm->rank);
    for (int64_t i = 0; i < from.count; i++)
        SWT_CUDART(f, cudaMemcpyAsync(receive + swt_block_place(x, to, i),
                                      send + swt_block_place(x, from, i), x->block_bytes,
                                      cudaMemcpyDeviceToDevice, f->stream));
    return SWT_OK;
}

/* The first failure of several calls stays. */
static void keep(ncclResult_t *first, ncclResult_t code) {
    if (*first == ncclSuccess || *first == ncclInProgress)
        *first = code != ncclSuccess ? code : *first;
}

/* All messages of an exchange as one group, each block straight to its place. Between two ranks
 * messages match in the order of the calls, and both walk the blocks in the same order. Nothing
 * returns between the group's start and its end. */
static ncclResult_t exchange_group(const swt_exchange *x, unsigned char *receive,
                                   const unsigned char *send) {
    const nccl_own *own = own_of(x->comm);
    const cudaStream_t stream = own->family->stream;
    ncclResult_t first = own->nccl != NULL ? ncclGroupStart() : ncclSuccess;
    if (first != ncclSuccess || own->nccl == NULL)
        return first;
    for (int peer = 0; peer < x->comm->size; peer++) {
        if (peer == x->comm->rank)
            continue;
        const swt_blocks out = swt_blocks_sent(x, peer), in = swt_blocks_received(x, peer);
        for (int64_t i = 0; i < out.count; i++)
            keep(&first, ncclSend(send + swt_block_place(x, out, i), x->block_bytes, ncclUint8,
                                  peer, own->nccl, stream));
        for (int64_t i = 0; i < in.count; i++)
            keep(&first, ncclRecv(receive + swt_block_place(x, in, i), x->block_bytes, ncclUint8,
                                  peer, own->nccl, stream));
    }
    keep(&first, ncclGroupEnd());
    return first;
}

static swt_status nccl_all_to_all(swt_comm *comm, swt_direction direction, void *receive,
                                  const void *send, const swt_split *split, size_t block_bytes,
                                  swt_stream *stream) {
    nccl_own *own = own_of(comm);
    const swt_exchange x = {comm, split, direction, block_bytes};
    if (block_bytes == 0)
        return SWT_OK;
    SWT_TRY(begin(own, stream));
    SWT_TRY(copy_own_blocks(&x, receive, send));
    return end(own, stream, exchange_group(&x, receive, send), "ncclSend and ncclRecv");
}

static swt_status nccl_all_reduce_i64(swt_comm *comm, int64_t *data, int64_t count,
                                      swt_stream *stream) {
    nccl_own *own = own_of(comm);
    if (count == 0 || comm->size == 1)
        return SWT_OK;
    SWT_TRY(begin(own, stream));
    return end(own, stream,
               ncclAllReduce(data, data, (size_t)count, ncclInt64, ncclSum, own->nccl,
                             own->family->stream),
               "ncclAllReduce");
}

static swt_status nccl_all_gather(swt_comm *comm, void *receive, const void *send, size_t bytes,
                                  swt_stream *stream) {
    nccl_own *own = own_of(comm);
    if (bytes == 0)
        return SWT_OK;
    ncclResult_t code = ncclSuccess;
    SWT_TRY(begin(own, stream));
    if (own->nccl != NULL)
        code = ncclAllGather(send, receive, bytes, ncclUint8, own->nccl, own->family->stream);
    else
        SWT_CUDART(own->family, cudaMemcpyAsync(receive, send, bytes, cudaMemcpyDeviceToDevice,
                                                own->family->stream));
    return end(own, stream, code, "ncclAllGather");
}

static swt_status nccl_broadcast(swt_comm *comm, void *data, size_t bytes, int root,
                                 swt_stream *stream) {
    nccl_own *own = own_of(comm);
    if (bytes == 0 || comm->size == 1)
        return SWT_OK;
    SWT_TRY(begin(own, stream));
    return end(own, stream,
               ncclBroadcast(data, data, bytes, ncclUint8, root, own->nccl, own->family->stream),
               "ncclBroadcast");
}

static swt_status nccl_node(swt_comm *comm, int *local_rank, int *local_size) {
    return swt_comm_node(own_of(comm)->host, local_rank, local_size);
}

static void nccl_abort(swt_comm *comm, int exit_code) {
    nccl_give_up(own_of(comm)->family);
    swt_comm_abort(own_of(comm)->host, exit_code);
}

/* ------------------------------------------------------------------ making and ending them */

/* In order where all is well; peers that never come are not waited for. */
static void end_nccl(nccl_own *own) {
    if (own->nccl == NULL)
        return;
    const double until_ms = swt_now_ms() + CLOSING_MS;
    ncclResult_t code = ncclCommFinalize(own->nccl);
    while (code == ncclInProgress && swt_now_ms() < until_ms) {
        nccl_let_others_run();
        code = nccl_state(own);
    }
    if (code != ncclSuccess) {
        nccl_give_up(own->family);
        return;
    }
    (void)ncclCommDestroy(own->nccl);
    own->nccl = NULL;
}

static void free_family(nccl_family *f) {
    if (f->done != NULL)
        (void)cudaEventDestroy(f->done);
    if (f->ready != NULL)
        (void)cudaEventDestroy(f->ready);
    if (f->stream != NULL)
        (void)cudaStreamDestroy(f->stream);
    free(f);
}

static void nccl_close(swt_comm *comm) {
    nccl_own *own = own_of(comm);
    nccl_family *f = own->family;
    if (own->host != NULL)
        own->host->ask = NULL;
    end_nccl(own);
    nccl_own **link = &f->members;
    while (*link != own)
        link = &(*link)->next;
    *link = own->next;
    if (f->members == NULL)
        free_family(f);
    swt_comm_close(&own->host_part);
    nccl_clock_fini(&own->clock);
    free(own);
}

static swt_status nccl_split(swt_comm *comm, int color, int key, swt_comm *out);

static const swt_comm_table nccl_table = {
    .name = "nccl",
    .queues = true,
    .all_to_all = nccl_all_to_all,
    .all_reduce_i64 = nccl_all_reduce_i64,
    .all_gather = nccl_all_gather,
    .broadcast = nccl_broadcast,
    .wait = nccl_wait,
    .split = nccl_split,
    .node = nccl_node,
    .abort = nccl_abort,
    .close = nccl_close,
};

/* *out = a member of the family without its NCCL communicator. From here on swt_comm_close(out)
 * gives everything back. */
static swt_status join(nccl_family *f, swt_comm *out) {
    nccl_own *own = calloc(1, sizeof *own);
    if (own == NULL)
        return SWT_FAIL(MEMORY, "nccl on rank %d: no memory for a communicator; free some",
                        f->rank);
    own->comm = out;
    own->family = f;
    own->next = f->members;
    f->members = own;
    *out = (swt_comm){.table = &nccl_table, .own = own};
    return SWT_OK;
}

static void take_ranks(swt_comm *out, swt_comm *host) {
    own_of(out)->host = host;
    host->ask = nccl_ask;
    host->asked = own_of(out)->family;
    out->rank = host->rank;
    out->size = host->size;
    out->progress = host->progress;
    out->world_stride = 1;
    out->compares = host->compares;
    out->host = host;
}

static swt_status split_into(swt_comm *out, nccl_own *parent, int color, int key) {
    nccl_own *own = own_of(out);
    SWT_TRY(swt_comm_split(parent->host, color, key, &own->host_part));
    take_ranks(out, &own->host_part);
    const bool alone = out->size == 1;
    if (parent->nccl == NULL)
        return SWT_OK;
    /* The parent is busy first; the part's handle is there when it is done. */
    const ncclResult_t code =
        ncclCommSplit(parent->nccl, alone ? NCCL_SPLIT_NOCOLOR : color, key, &own->nccl, NULL);
    SWT_TRY(nccl_settle(parent, code, "ncclCommSplit"));
    if (!alone && own->nccl == NULL)
        return nccl_failed(parent, ncclInternalError, "ncclCommSplit", __LINE__);
    return nccl_settle(own, ncclSuccess, "ncclCommSplit");
}

static swt_status nccl_split(swt_comm *comm, int color, int key, swt_comm *out) {
    SWT_TRY(join(own_of(comm)->family, out));
    const swt_status status = split_into(out, own_of(comm), color, key);
    if (status != SWT_OK)
        swt_comm_close(out);
    return status;
}

static swt_status init(nccl_family *f, nccl_own *own, swt_comm *host) {
    ncclUniqueId id = {{0}};
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    SWT_CUDART(f, cudaStreamCreateWithFlags(&f->stream, cudaStreamNonBlocking));
    SWT_CUDART(f, cudaEventCreateWithFlags(&f->ready, cudaEventDisableTiming));
    SWT_CUDART(f, cudaEventCreateWithFlags(&f->done, cudaEventDisableTiming));
    f->connected = host->size > 1;
    if (!f->connected)
        return SWT_OK;
    SWT_TRY(swt_comm_agree(host, nccl_check_version(own)));
    ncclResult_t begun = host->rank == 0 ? ncclGetUniqueId(&id) : ncclSuccess;
    const swt_status known =
        begun == ncclSuccess ? SWT_OK : nccl_failed(own, begun, "ncclGetUniqueId", __LINE__);
    SWT_TRY(swt_comm_agree(host, known));
    SWT_TRY(swt_comm_broadcast(host, &id, sizeof id, 0, NULL));
    const ncclResult_t code =
        ncclCommInitRankConfig(&own->nccl, host->size, id, host->rank, &config);
    return nccl_settle(own, code, "ncclCommInitRankConfig");
}

/* The device has made its GPU the one of this thread. */
swt_status swt_comm_open_nccl(swt_comm *out, swt_comm *host, swt_device *device) {
    (void)device;
    nccl_family *f = calloc(1, sizeof *f);
    if (f == NULL)
        return SWT_FAIL(MEMORY, "nccl on rank %d: no memory for a communicator; free some",
                        host->rank);
    f->rank = host->rank;
    swt_status status = join(f, out);
    if (status != SWT_OK) {
        free_family(f);
        return status;
    }
    take_ranks(out, host);
    status = init(f, own_of(out), host);
    if (status != SWT_OK)
        swt_comm_close(out);
    return status;
}
