/* The communicator on backend memory, with whole numbers that say where they come from: exactly.
 * All ranks draw the same random numbers and so make the same calls. */
#include "judge/checks.h"

#include <stdlib.h>

enum { MOST_OWNED = 3 };

/* Call a collective on twins. */
#define RUN(t, name, ...)                                                                          \
    do {                                                                                           \
        SWT_TRY(swt_trial_upload(t));                                                              \
        SWT_TRY(swt_comm_##name((t)->world, __VA_ARGS__, (t)->ctx.stream));                        \
        SWT_TRY(swt_trial_download(t, #name));                                                     \
    } while (0)

/* What element i of block e from rank p holds: of the way there, or back. */
static int32_t payload(int64_t p, int64_t e, int64_t i, bool back) {
    return (int32_t)((p * 1000 + e) * 100 + i % 100 + (back ? 1000000000 : 0));
}

/* There and back with `count` integers a block; rank p owns first[p] .. first[p + 1] - 1. */
static swt_status exchange(swt_trial *t, const int64_t *first, int64_t count) {
    const swt_split split = {.first = first};
    const int64_t size = t->world->size, rank = t->world->rank, total = first[size],
                  own = first[rank + 1] - first[rank];
    const size_t bytes = (size_t)count * sizeof(int32_t);
    int32_t *send = swt_trial_in(t, total * count, SWT_I32),
            *arrived = swt_trial_out(t, own * size * count, SWT_I32),
            *answer = swt_trial_in(t, own * size * count, SWT_I32),
            *returned = swt_trial_out(t, total * count, SWT_I32);
    for (int64_t i = 0; i < total * count; i++)
        send[i] = payload(rank, i / count, i % count, false);
    for (int64_t i = 0; i < own * size * count; i++) /* block j size + p */
        answer[i] = payload(i / count % size, first[rank] + i / count / size, i % count, true);
    RUN(t, all_to_all, SWT_TO_OWNERS, swt_trial_twin(t, arrived), swt_trial_twin(t, send), &split,
        bytes);
    RUN(t, all_to_all, SWT_TO_SOURCES, swt_trial_twin(t, returned), swt_trial_twin(t, answer),
        &split, bytes);
    for (int64_t i = 0; i < own * size * count; i++)
        swt_trial_number(
            t, "at the owner", arrived[i],
            payload(i / count % size, first[rank] + i / count / size, i % count, false), 0);
    for (int64_t i = 0; i < total * count; i++)
        swt_trial_number(t, "at the source", returned[i], payload(rank, i / count, i % count, true),
                         0);
    return SWT_OK;
}

/* Splits at random, also with ranks that own nothing, and blocks from nothing to kilobytes. */
swt_status swt_check_comm_all_to_all(swt_trial *t) {
    static const int64_t counts[] = {1, 5, 64, 0, 130, 1000};
    const int size = t->world->size;
    int64_t *first = calloc((size_t)size + 1, sizeof *first);
    if (first == NULL)
        return SWT_FAIL(MEMORY, "memory: no room for a list of %d ranks", size);
    swt_status status = SWT_OK;
    for (int i = 0; i < 6 && status == SWT_OK; i++) {
        for (int p = 0; p < size; p++)
            first[p + 1] = first[p] + swt_trial_choose(t, i == 0 || p == 0, MOST_OWNED);
        swt_trial_begin(t, "%lld blocks of %lld integers", (long long)first[size],
                        (long long)counts[i]);
        status = exchange(t, first, counts[i]);
    }
    free(first);
    return status;
}

/* Integers beyond 2^53, and numbers that one rank alone has. */
swt_status swt_check_comm_all_reduce(swt_trial *t) {
    static const int64_t counts[] = {1, 7, 1000, 0, 4096};
    const int64_t size = t->world->size, rank = t->world->rank, pairs = size * (size - 1) / 2;
    for (int i = 0; i < 5; i++) {
        const int64_t n = counts[i];
        swt_trial_begin(t, "%lld numbers", (long long)n);
        int64_t *sum = swt_trial_out(t, n, SWT_I64), *want = swt_trial_in(t, n, SWT_I64);
        double *shared = swt_trial_out(t, n, SWT_F64);
        for (int64_t k = 0; k < n; k++) {
            sum[k] = (INT64_C(1) << 54) + rank + k;
            want[k] = size * ((INT64_C(1) << 54) + k) + pairs;
            shared[k] = k % size == rank ? 0.1 * (double)k - 3 : 0;
        }
        RUN(t, all_reduce_i64, swt_trial_twin(t, sum), n);
        RUN(t, share_f64, swt_trial_twin(t, shared), n);
        swt_trial_same(t, "sum of integers", sum, want, n, SWT_I64);
        for (int64_t k = 0; k < n; k++)
            swt_trial_number(t, "shared number", shared[k], 0.1 * (double)k - 3, 0);
    }
    return SWT_OK;
}

swt_status swt_check_comm_all_gather(swt_trial *t) {
    static const int64_t counts[] = {1, 3, 500, 0};
    const int size = t->world->size, rank = t->world->rank;
    for (int i = 0; i < 4; i++) {
        const int64_t n = counts[i];
        swt_trial_begin(t, "%lld integers from each rank", (long long)n);
        int32_t *send = swt_trial_in(t, n, SWT_I32), *all = swt_trial_out(t, size * n, SWT_I32);
        for (int64_t k = 0; k < n; k++)
            send[k] = payload(rank, 1, k, false);
        RUN(t, all_gather, swt_trial_twin(t, all), swt_trial_twin(t, send),
            (size_t)n * sizeof *send);
        for (int64_t k = 0; k < size * n; k++)
            swt_trial_number(t, "gathered", all[k], payload(k / n, 1, k % n, false), 0);
    }
    return SWT_OK;
}

/* From every rank in turn. */
swt_status swt_check_comm_broadcast(swt_trial *t) {
    for (int root = 0; root < t->world->size; root++) {
        const int64_t n = swt_trial_choose(t, 1, 2000);
        swt_trial_begin(t, "%lld integers of rank %d", (long long)n, root);
        int32_t *data = swt_trial_out(t, n, SWT_I32);
        for (int64_t k = 0; k < n; k++)
            data[k] = payload(t->world->rank, 2, k, false);
        RUN(t, broadcast, swt_trial_twin(t, data), (size_t)n * sizeof *data, root);
        for (int64_t k = 0; k < n; k++)
            swt_trial_number(t, "from the root", data[k], payload(root, 2, k, false), 0);
    }
    return SWT_OK;
}
