/* One rank alone: every exchange is a copy. */
#include "comm/swt_comm.h"

#include <string.h>

/* memcpy that takes NULL for nothing. */
static void copy(void *to, const void *from, size_t bytes) {
    if (bytes > 0)
        memcpy(to, from, bytes);
}

/* With one rank (total, block) and (own, 1, block) are the same layout. */
static swt_status self_all_to_all(swt_comm *comm, swt_direction direction, void *receive,
                                  const void *send, const swt_split *split, size_t block_bytes,
                                  swt_stream *stream) {
    (void)comm, (void)direction, (void)stream;
    copy(receive, send, (size_t)split->first[1] * block_bytes);
    return SWT_OK;
}

static swt_status self_all_reduce_i64(swt_comm *comm, int64_t *data, int64_t count,
                                      swt_stream *stream) {
    (void)comm, (void)data, (void)count, (void)stream;
    return SWT_OK;
}

static swt_status self_all_gather(swt_comm *comm, void *receive, const void *send, size_t bytes,
                                  swt_stream *stream) {
    (void)comm, (void)stream;
    copy(receive, send, bytes);
    return SWT_OK;
}

static swt_status self_broadcast(swt_comm *comm, void *data, size_t bytes, int root,
                                 swt_stream *stream) {
    (void)comm, (void)data, (void)bytes, (void)root, (void)stream;
    return SWT_OK;
}

static swt_status self_split(swt_comm *comm, int color, int key, swt_comm *out) {
    (void)comm, (void)color, (void)key;
    swt_comm_open_self(out);
    return SWT_OK;
}

static swt_status self_wait(swt_comm *comm, swt_stream *stream) {
    (void)comm, (void)stream;
    return SWT_OK;
}

static swt_status self_node(swt_comm *comm, int *local_rank, int *local_size) {
    (void)comm;
    *local_rank = 0;
    *local_size = 1;
    return SWT_OK;
}

static void self_abort(swt_comm *comm, int exit_code) {
    (void)comm, (void)exit_code;
}

static void self_close(swt_comm *comm) {
    (void)comm;
}

static const swt_comm_table self_table = {
    .name = "self",
    .all_to_all = self_all_to_all,
    .all_reduce_i64 = self_all_reduce_i64,
    .all_gather = self_all_gather,
    .broadcast = self_broadcast,
    .wait = self_wait,
    .split = self_split,
    .node = self_node,
    .abort = self_abort,
    .close = self_close,
};

void swt_comm_open_self(swt_comm *out) {
    *out = (swt_comm){.table = &self_table, .rank = 0, .size = 1, .world_stride = 1};
}
