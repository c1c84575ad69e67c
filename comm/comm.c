/* Checks, dispatch and accounting, once for all communicators. */
#include "comm/same_call.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Before every call of a table: where this rank is now, and when that began. */
static double begin(swt_comm *comm, swt_call call) {
    swt_progress_enter(comm->progress, call,
                       (swt_members){comm->world_first, comm->world_stride, comm->size});
    return swt_now_ms();
}

/* And behind it. */
static swt_status finish(swt_comm *comm, double start_ms, int64_t sent_bytes, swt_status status) {
    swt_progress_leave(comm->progress);
    if (!comm->table->queues)
        comm->busy_ms += swt_now_ms() - start_ms;
    if (status == SWT_OK)
        comm->sent_bytes += sent_bytes;
    return status;
}

static swt_status check_comm(const swt_comm *comm, const char *where) {
    if (!comm || !comm->table)
        return SWT_FAIL(SHAPE, "%s: the communicator is not open; open it before the call", where);
    return SWT_OK;
}

static swt_status check_buffer(const void *data, int64_t bytes, const char *where) {
    if (!data && bytes > 0)
        return SWT_FAIL(SHAPE, "%s: a buffer of %lld bytes is NULL; it must be memory", where,
                        (long long)bytes);
    return SWT_OK;
}

static swt_status check_apart(const void *a, int64_t a_bytes, const void *b, int64_t b_bytes,
                              const char *where) {
    const uintptr_t a_from = (uintptr_t)a, b_from = (uintptr_t)b;
    if (a_bytes > 0 && b_bytes > 0 && a_from < b_from + (uintptr_t)b_bytes &&
        b_from < a_from + (uintptr_t)a_bytes)
        return SWT_FAIL(SHAPE, "%s: receive and send overlap; they must be apart", where);
    return SWT_OK;
}

/* *out = a count of things of size_bytes each. */
static swt_status size_of(int64_t count, size_t size_bytes, int64_t *out, const char *where) {
    if (count < 0)
        return SWT_FAIL(SHAPE, "%s: the count is %lld; it must be >= 0", where, (long long)count);
    if (size_bytes > INT64_MAX || !swt_checked_mul(count, (int64_t)size_bytes, out))
        return SWT_FAIL(SHAPE, "%s: %lld times %zu bytes are too many; below 2^63 is possible",
                        where, (long long)count, size_bytes);
    return SWT_OK;
}

static swt_status check_split(const swt_comm *comm, const swt_split *split, const char *where) {
    if (!split || !split->first || split->first[0] != 0)
        return SWT_FAIL(SHAPE, "%s: the split does not begin; first[0] must be 0", where);
    for (int p = 0; p < comm->size; p++)
        if (split->first[p + 1] < split->first[p])
            return SWT_FAIL(SHAPE, "%s: rank %d owns blocks %lld to %lld; first must not fall",
                            where, p, (long long)split->first[p], (long long)split->first[p + 1]);
    return SWT_OK;
}

/* All that can be wrong with an exchange, and how much of it leaves this rank. */
static swt_status check_exchange(const swt_comm *comm, swt_direction direction, const void *receive,
                                 const void *send, const swt_split *split, size_t block_bytes,
                                 int64_t *sent_bytes) {
    const char *where = "swt_comm_all_to_all";
    SWT_TRY(check_comm(comm, where));
    SWT_TRY(check_split(comm, split, where));
    if (direction != SWT_TO_OWNERS && direction != SWT_TO_SOURCES)
        return SWT_FAIL(SHAPE, "%s: direction %d; to owners or to sources is possible", where,
                        (int)direction);
    const int64_t total = split->first[comm->size];
    const int64_t own = split->first[comm->rank + 1] - split->first[comm->rank];
    int64_t owned = 0, source_bytes = 0, owned_bytes = 0;
    SWT_TRY(size_of(own, (size_t)comm->size, &owned, where));
    SWT_TRY(size_of(total, block_bytes, &source_bytes, where));
    SWT_TRY(size_of(owned, block_bytes, &owned_bytes, where));

    const bool out = direction == SWT_TO_OWNERS;
    const int64_t receive_bytes = out ? owned_bytes : source_bytes;
    const int64_t send_bytes = out ? source_bytes : owned_bytes;
    SWT_TRY(check_buffer(receive, receive_bytes, where));
    SWT_TRY(check_buffer(send, send_bytes, where));
    SWT_TRY(check_apart(receive, receive_bytes, send, send_bytes, where));
    *sent_bytes = send_bytes - own * (int64_t)block_bytes; /* own blocks stay here */
    return SWT_OK;
}

swt_status swt_comm_all_to_all(swt_comm *comm, swt_direction direction, void *receive,
                               const void *send, const swt_split *split, size_t block_bytes,
                               swt_stream *stream) {
    int64_t sent_bytes = 0;
    SWT_TRY(check_exchange(comm, direction, receive, send, split, block_bytes, &sent_bytes));
    const swt_claim claim = {SWT_CALL_ALL_TO_ALL, (int)direction, split->first[comm->size],
                             (int64_t)block_bytes, swt_claim_split(split, comm->size)};
    SWT_TRY(swt_comm_same_call(comm, &claim));
    const double start_ms = begin(comm, SWT_CALL_ALL_TO_ALL);
    return finish(
        comm, start_ms, sent_bytes,
        comm->table->all_to_all(comm, direction, receive, send, split, block_bytes, stream));
}

/* A sum's data is counted once: how often its parts travel is the transport's choice. */
static swt_status check_reduce(const swt_comm *comm, const void *data, int64_t count,
                               size_t element_bytes, const char *where, int64_t *sent_bytes) {
    int64_t bytes = 0;
    SWT_TRY(check_comm(comm, where));
    SWT_TRY(size_of(count, element_bytes, &bytes, where));
    SWT_TRY(check_buffer(data, bytes, where));
    *sent_bytes = bytes * swt_min(1, comm->size - 1);
    return SWT_OK;
}

swt_status swt_comm_all_reduce_i64(swt_comm *comm, int64_t *data, int64_t count,
                                   swt_stream *stream) {
    int64_t sent_bytes = 0;
    SWT_TRY(check_reduce(comm, data, count, sizeof *data, __func__, &sent_bytes));
    SWT_TRY(swt_comm_same_call(comm, &(swt_claim){SWT_CALL_ALL_REDUCE, 0, count, sizeof *data, 0}));
    const double start_ms = begin(comm, SWT_CALL_ALL_REDUCE);
    return finish(comm, start_ms, sent_bytes,
                  comm->table->all_reduce_i64(comm, data, count, stream));
}

swt_status swt_comm_share_f64(swt_comm *comm, double *data, int64_t count, swt_stream *stream) {
    return swt_comm_all_reduce_i64(comm, (int64_t *)(void *)data, count, stream);
}

swt_status swt_comm_all_gather(swt_comm *comm, void *receive, const void *send, size_t bytes,
                               swt_stream *stream) {
    int64_t receive_bytes = 0;
    SWT_TRY(check_comm(comm, __func__));
    SWT_TRY(size_of(comm->size, bytes, &receive_bytes, __func__));
    SWT_TRY(check_buffer(receive, receive_bytes, __func__));
    SWT_TRY(check_buffer(send, (int64_t)bytes, __func__));
    SWT_TRY(check_apart(receive, receive_bytes, send, (int64_t)bytes, __func__));
    SWT_TRY(swt_comm_same_call(comm, &(swt_claim){SWT_CALL_ALL_GATHER, 0, 1, (int64_t)bytes, 0}));
    const double start_ms = begin(comm, SWT_CALL_ALL_GATHER);
    return finish(comm, start_ms, receive_bytes - (int64_t)bytes,
                  comm->table->all_gather(comm, receive, send, bytes, stream));
}

swt_status swt_comm_broadcast(swt_comm *comm, void *data, size_t bytes, int root,
                              swt_stream *stream) {
    int64_t all_bytes = 0;
    SWT_TRY(check_comm(comm, __func__));
    if (root < 0 || root >= comm->size)
        return SWT_FAIL(SHAPE, "%s: the root is rank %d; 0 to %d is possible", __func__, root,
                        comm->size - 1);
    SWT_TRY(size_of(comm->size, bytes, &all_bytes, __func__));
    SWT_TRY(check_buffer(data, (int64_t)bytes, __func__));
    const int64_t sent_bytes = comm->rank == root ? all_bytes - (int64_t)bytes : 0;
    SWT_TRY(swt_comm_same_call(comm, &(swt_claim){SWT_CALL_BROADCAST, root, 1, (int64_t)bytes, 0}));
    const double start_ms = begin(comm, SWT_CALL_BROADCAST);
    return finish(comm, start_ms, sent_bytes,
                  comm->table->broadcast(comm, data, bytes, root, stream));
}

swt_status swt_comm_wait(swt_comm *comm, swt_stream *stream) {
    SWT_TRY(check_comm(comm, __func__));
    (void)begin(comm, SWT_CALL_WAIT);
    const swt_status status = comm->table->wait(comm, stream);
    swt_progress_leave(comm->progress);
    return status;
}

swt_status swt_comm_split(swt_comm *comm, int color, int key, swt_comm *out) {
    SWT_TRY(check_comm(comm, __func__));
    if (color < 0 || !out || out == comm)
        return SWT_FAIL(SHAPE, "%s: color %d; a color >= 0 and another communicator are needed",
                        __func__, color);
    SWT_TRY(swt_comm_same_call(comm, &(swt_claim){.call = SWT_CALL_SPLIT}));
    const double start_ms = begin(comm, SWT_CALL_SPLIT);
    const swt_status status = comm->table->split(comm, color, key, out);
    if (status == SWT_OK) {
        out->progress = comm->progress;
        out->world_first = 0;
        out->world_stride = 1;
    }
    return finish(comm, start_ms, 0, status);
}

swt_status swt_comm_node(swt_comm *comm, int *local_rank, int *local_size) {
    SWT_TRY(check_comm(comm, __func__));
    SWT_TRY(swt_comm_same_call(comm, &(swt_claim){.call = SWT_CALL_NODE}));
    const double start_ms = begin(comm, SWT_CALL_NODE);
    return finish(comm, start_ms, 0, comm->table->node(comm, local_rank, local_size));
}

void swt_comm_abort(swt_comm *comm, int exit_code) {
    if (comm && comm->table)
        comm->table->abort(comm, exit_code);
}

void swt_comm_close(swt_comm *comm) {
    if (!comm || !comm->table)
        return;
    comm->table->close(comm);
    *comm = (swt_comm){.table = NULL};
}

enum { WINDOW = 64 };

/* The numbers of ranks base .. base + WINDOW - 1 (0 beyond the last rank), on every rank. A sum
 * over one slot per rank, a window of ranks at a time, needs no memory of a size that is unknown
 * here, so that telling the others of a failure cannot fail for lack of it. */
static swt_status gather_window(swt_comm *comm, int64_t mine, int base, int64_t *window) {
    memset(window, 0, WINDOW * sizeof *window);
    if (comm->rank >= base && comm->rank - base < WINDOW)
        window[comm->rank - base] = mine;
    return swt_comm_all_reduce_i64(comm, window, WINDOW, NULL);
}

swt_status swt_comm_max(swt_comm *comm, int64_t value, int64_t *most) {
    SWT_TRY(check_comm(comm, __func__));
    *most = value;
    for (int base = 0; base < comm->size; base += WINDOW) {
        int64_t window[WINDOW];
        SWT_TRY(gather_window(comm, value, base, window));
        for (int i = 0; i < WINDOW && base + i < comm->size; i++)
            *most = swt_max(*most, window[i]);
    }
    return SWT_OK;
}

swt_status swt_comm_differ(swt_comm *comm, const uint64_t *own, int count, int *first) {
    SWT_TRY(check_comm(comm, __func__));
    *first = -1;
    for (int base = 0; base < count; base += WINDOW) {
        uint64_t theirs[WINDOW];
        const int n = (int)swt_min(WINDOW, count - base);
        memcpy(theirs, own + base, (size_t)n * sizeof *theirs);
        SWT_TRY(swt_comm_broadcast(comm, theirs, (size_t)n * sizeof *theirs, 0, NULL));
        for (int i = 0; i < n && *first < 0; i++)
            if (theirs[i] != own[base + i])
                *first = base + i;
    }
    return SWT_OK;
}

/* What a rank says of itself in swt_comm_agree: its status, plus SPOKEN_FOR if an earlier agreement
 * (perhaps of a part of the ranks) has given the message to another rank. */
enum { SPOKEN_FOR = 1000 };

/* Find the rank that reports: the lowest failing rank with a message, else the lowest failing rank;
 * -1 if none failed. */
static swt_status find_reporter(swt_comm *comm, int64_t mine, int *reporter, int64_t *said) {
    *reporter = -1;
    for (int base = 0; base < comm->size; base += WINDOW) {
        int64_t window[WINDOW];
        SWT_TRY(gather_window(comm, mine, base, window));
        for (int i = 0; i < WINDOW; i++) {
            const bool speaks = window[i] > 0 && window[i] < SPOKEN_FOR;
            if (speaks || (window[i] > 0 && *reporter < 0)) {
                *reporter = base + i;
                *said = window[i];
            }
            if (speaks)
                return SWT_OK;
        }
    }
    return SWT_OK;
}

static void prefix_rank(swt_error *error, int rank) {
    char prefix[32];
    const int length = snprintf(prefix, sizeof prefix, "rank %d: ", rank);
    const size_t n = (size_t)length, room = sizeof error->message - 1 - n;
    const bool cut = strlen(error->message) > room;
    memmove(error->message + n, error->message, room);
    memcpy(error->message, prefix, n);
    error->message[sizeof error->message - 1] = '\0';
    swt_utf8_clean(error->message, cut); /* a character that was cut goes as a whole */
}

swt_status swt_comm_agree(swt_comm *comm, swt_status status) {
    SWT_TRY(check_comm(comm, __func__));
    swt_error *error = swt_last_error();
    const swt_error saved = *error;
    int reporter = -1;
    int64_t said = 0;
    const bool spoken_for = status != SWT_OK && saved.silent;
    const swt_status transport =
        find_reporter(comm, (int64_t)status + (spoken_for ? SPOKEN_FOR : 0), &reporter, &said);
    if (transport != SWT_OK && status != SWT_OK) {
        *error = saved; /* the cause is worth more than its consequence */
        return status;
    }
    SWT_TRY(transport);
    if (reporter < 0)
        return SWT_OK;
    if (comm->rank == reporter) {
        if (reporter != 0 && !error->agreed)
            prefix_rank(error, reporter);
        error->agreed = true;
    }
    const swt_error reported = *error;
    char message[sizeof error->message];
    memcpy(message, reported.message, sizeof message);
    const swt_status shared = swt_comm_broadcast(comm, message, sizeof message, reporter, NULL);
    if (comm->rank == reporter) {
        *error = reported;
        return status;
    }
    message[sizeof message - 1] = '\0';
    if (shared != SWT_OK)
        snprintf(message, sizeof message, "rank %d: failed; its own message says why", reporter);
    const swt_status agreed = (swt_status)(said % SPOKEN_FOR);
    const swt_status recorded = SWT_FAIL_AS(agreed, "%s", message);
    error->agreed = true;
    error->silent = true;
    return recorded;
}
