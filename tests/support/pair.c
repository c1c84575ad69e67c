#include "support/pair.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int end_of(const swt_comm *comm) {
    return *(const int *)comm->own;
}

/* Give bytes and take bytes, both at once; asks meanwhile, as comm_mpi does. */
static swt_status swap(swt_comm *comm, const void *out, size_t out_bytes, void *in,
                       size_t in_bytes) {
    size_t sent = 0, received = 0;
    while (sent < out_bytes || received < in_bytes) {
        ssize_t gave = 0, got = 0;
        if (sent < out_bytes)
            gave = send(end_of(comm), (const char *)out + sent, out_bytes - sent,
                        MSG_DONTWAIT | MSG_NOSIGNAL);
        const bool lost = gave < 0 && errno != EAGAIN;
        if (received < in_bytes)
            got = recv(end_of(comm), (char *)in + received, in_bytes - received, MSG_DONTWAIT);
        if (lost || (received < in_bytes && (got == 0 || (got < 0 && errno != EAGAIN))))
            return SWT_FAIL(COMM, "rank %d: the other process has gone", comm->rank);
        sent += gave > 0 ? (size_t)gave : 0;
        received += got > 0 ? (size_t)got : 0;
        if (gave > 0 || got > 0)
            continue;
        if (comm->ask != NULL)
            SWT_TRY(comm->ask(comm->asked));
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    return SWT_OK;
}

static swt_status pair_all_to_all(swt_comm *comm, swt_direction direction, void *receive,
                                  const void *send, const swt_split *split, size_t block_bytes,
                                  swt_stream *stream) {
    (void)comm, (void)direction, (void)receive, (void)send, (void)split, (void)block_bytes;
    (void)stream;
    return SWT_FAIL(INTERNAL, "a pair exchanges no blocks on host memory");
}

static swt_status pair_all_reduce_i64(swt_comm *comm, int64_t *data, int64_t count,
                                      swt_stream *stream) {
    const size_t bytes = (size_t)count * sizeof *data;
    int64_t *const other = malloc(bytes + 1);
    (void)stream;
    if (other == NULL)
        return SWT_FAIL(MEMORY, "rank %d: no memory for %zu bytes", comm->rank, bytes);
    const swt_status status = swap(comm, data, bytes, other, bytes);
    for (int64_t i = 0; i < count && status == SWT_OK; i++)
        data[i] += other[i];
    free(other);
    return status;
}

static swt_status pair_all_gather(swt_comm *comm, void *receive, const void *send, size_t bytes,
                                  swt_stream *stream) {
    char *const all = receive;
    (void)stream;
    if (bytes == 0)
        return SWT_OK;
    memcpy(all + (size_t)comm->rank * bytes, send, bytes);
    return swap(comm, send, bytes, all + (size_t)(1 - comm->rank) * bytes, bytes);
}

static swt_status pair_broadcast(swt_comm *comm, void *data, size_t bytes, int root,
                                 swt_stream *stream) {
    (void)stream;
    return root == comm->rank ? swap(comm, data, bytes, NULL, 0) : swap(comm, NULL, 0, data, bytes);
}

static swt_status pair_wait(swt_comm *comm, swt_stream *stream) {
    (void)comm, (void)stream;
    return SWT_OK;
}

static swt_status pair_split(swt_comm *comm, int color, int key, swt_comm *out) {
    const int own[2] = {color, key};
    int other[2] = {0};
    SWT_TRY(swap(comm, own, sizeof own, other, sizeof other));
    if (other[0] != color) {
        swt_comm_open_self(out);
        return SWT_OK;
    }
    int *const end = malloc(sizeof *end);
    if (end == NULL)
        return SWT_FAIL(MEMORY, "rank %d: no memory for a communicator", comm->rank);
    *end = dup(end_of(comm)); /* calls come in one order on both, so one socket is enough */
    swt_test_pair_open(out, comm->rank == 0 ? key > other[1] : key >= other[1], end);
    return SWT_OK;
}

static swt_status pair_node(swt_comm *comm, int *local_rank, int *local_size) {
    *local_rank = comm->rank;
    *local_size = comm->size;
    return SWT_OK;
}

static void pair_abort(swt_comm *comm, int exit_code) {
    (void)comm;
    _exit(exit_code); /* the other one finds the socket closed */
}

static void pair_close(swt_comm *comm) {
    (void)close(end_of(comm));
    free(comm->own);
}

void swt_test_pair_open(swt_comm *out, int rank, int *end) {
    static const swt_comm_table table = {
        .name = "pair",
        .all_to_all = pair_all_to_all,
        .all_reduce_i64 = pair_all_reduce_i64,
        .all_gather = pair_all_gather,
        .broadcast = pair_broadcast,
        .wait = pair_wait,
        .split = pair_split,
        .node = pair_node,
        .abort = pair_abort,
        .close = pair_close,
    };
    *out = (swt_comm){.table = &table, .rank = rank, .size = 2, .own = end};
}
