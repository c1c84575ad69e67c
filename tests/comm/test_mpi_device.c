/* The communicator on backend memory, of the backend that SWT_TEST_DEVICE names: calls are queued
 * on a stream between copies, several at a time, and only the end is waited for. Integers in, exact
 * integers out. Without a GPU it is comm_mpi, whose memory is the host's. */
#include "support/world.h"

#include "kernels/swt_backend.h"
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { EXPERTS = 5, BLOCK = 300, RANKS_MOST = 4 };

static struct {
    swt_comm host, gpu;
    swt_comm *data; /* on backend memory: host or gpu */
    swt_device device;
    swt_stream *stream;
} rig;

/* ------------------------------------------------------------------ numbers on the device */

static int64_t *on_device(int64_t count) {
    void *memory = NULL;
    succeeds(&rig.host,
             swt_device_alloc(&rig.device, &memory, (size_t)count * sizeof(int64_t) + 1));
    return memory;
}

static int64_t *on_host(int64_t count) {
    int64_t *data = calloc((size_t)count + 1, sizeof *data);
    assert_non_null(data);
    return data;
}

static void put(int64_t *to, const int64_t *host, int64_t count) {
    succeeds(&rig.host, swt_device_copy(&rig.device, rig.stream, SWT_TO_DEVICE, to, host,
                                        (size_t)count * sizeof *to));
}

static void fetch(int64_t *host, const int64_t *from, int64_t count) {
    succeeds(&rig.host, swt_device_copy(&rig.device, rig.stream, SWT_TO_HOST, host, from,
                                        (size_t)count * sizeof *host));
}

static void copy(int64_t *to, const int64_t *from, int64_t count) {
    succeeds(&rig.host, swt_device_copy(&rig.device, rig.stream, SWT_ON_DEVICE, to, from,
                                        (size_t)count * sizeof *to));
}

static void drain(void) {
    succeeds(&rig.host, swt_comm_wait(rig.data, rig.stream));
    succeeds(&rig.host, swt_stream_sync(&rig.device, rig.stream));
}

static int64_t number(int64_t rank, int64_t e, int64_t i) {
    return (rank * 1000 + e) * 1000000 + i;
}

static void split_evenly(int64_t *first, int size) {
    first[0] = 0;
    for (int p = 0; p < size; p++)
        first[p + 1] = first[p] + EXPERTS / size + (p < EXPERTS % size);
}

/* ------------------------------------------------------------------ tests */

/* There, a copy on the device, and back, four times without a wait: every exchange needs what was
 * queued before it, and the buffers are used again at once. */
static void exchanges_follow_the_stream_on(swt_comm *comm) {
    enum { ROUNDS = 4, N = EXPERTS * BLOCK };
    int64_t first[RANKS_MOST + 1];
    split_evenly(first, comm->size);
    const swt_split split = {first};
    const int64_t owned = (first[comm->rank + 1] - first[comm->rank]) * comm->size * BLOCK;
    int64_t *send = on_device(N), *there = on_device(owned), *answer = on_device(owned),
            *back = on_device(N);
    int64_t *numbers = on_host(ROUNDS * N), *arrived = on_host(ROUNDS * owned),
            *home = on_host(ROUNDS * N);
    for (int64_t i = 0; i < ROUNDS * N; i++)
        numbers[i] = number(comm->rank, i % N / BLOCK, i);
    for (int64_t r = 0; r < ROUNDS; r++) {
        put(send, numbers + r * N, N);
        succeeds(comm, swt_comm_all_to_all(comm, SWT_TO_OWNERS, there, send, &split,
                                           BLOCK * sizeof *send, rig.stream));
        copy(answer, there, owned);
        fetch(arrived + r * owned, there, owned);
        succeeds(comm, swt_comm_all_to_all(comm, SWT_TO_SOURCES, back, answer, &split,
                                           BLOCK * sizeof *send, rig.stream));
        fetch(home + r * N, back, N);
    }
    drain();
    for (int64_t i = 0; i < ROUNDS * owned; i++) {
        const int64_t r = i / owned, block = i % owned / BLOCK;
        const int64_t e = first[comm->rank] + block / comm->size, p = block % comm->size;
        check(comm, arrived[i] == number(p, e, r * N + e * BLOCK + i % BLOCK));
    }
    check(comm, memcmp(home, numbers, ROUNDS * N * sizeof *home) == 0);
    free(numbers);
    free(arrived);
    free(home);
    int64_t *const memory[] = {send, there, answer, back};
    for (int i = 0; i < 4; i++)
        swt_device_release(&rig.device, memory[i]);
}

static void exchanges_follow_the_stream(void **state) {
    (void)state;
    exchanges_follow_the_stream_on(rig.data);
}

/* A sum of a sum, a gathering and a broadcast of it, queued at once. */
static void reductions_follow_the_stream(void **state) {
    enum { N = 3001 };
    (void)state;
    swt_comm *comm = rig.data;
    const int64_t size = comm->size, all_ranks = size * (size + 1) / 2;
    int64_t *sum = on_device(N), *all = on_device(N * size), *root = on_device(N);
    int64_t *mine = on_host(N), *sums = on_host(N), *gathered = on_host(N * size),
            *given = on_host(N);
    for (int64_t i = 0; i < N; i++)
        mine[i] = (comm->rank + 1) * i * (INT64_C(1) << 40);
    put(sum, mine, N);
    succeeds(comm, swt_comm_all_reduce_i64(comm, sum, N, rig.stream));
    succeeds(comm, swt_comm_all_reduce_i64(comm, sum, N, rig.stream));
    fetch(sums, sum, N);
    put(sum, mine, N);
    succeeds(comm, swt_comm_all_gather(comm, all, sum, N * sizeof *sum, rig.stream));
    copy(sum, all + (size - 1) * N, N); /* of the last rank */
    fetch(gathered, all, N * size);
    copy(root, all + comm->rank * N, N);
    succeeds(comm, swt_comm_broadcast(comm, root, N * sizeof *root, (int)size - 1, rig.stream));
    fetch(given, root, N);
    succeeds(comm, swt_comm_all_reduce_i64(comm, NULL, 0, rig.stream));
    drain();
    for (int64_t i = 0; i < N; i++) {
        check(comm, sums[i] == size * all_ranks * i * (INT64_C(1) << 40));
        check(comm, given[i] == size * i * (INT64_C(1) << 40));
        for (int64_t p = 0; p < size; p++)
            check(comm, gathered[p * N + i] == (p + 1) * i * (INT64_C(1) << 40));
    }
    int64_t *const host[] = {mine, sums, gathered, given}, *const device[] = {sum, all, root};
    for (int i = 0; i < 4; i++)
        free(host[i]);
    for (int i = 0; i < 3; i++)
        swt_device_release(&rig.device, device[i]);
}

/* Even and odd ranks apart, in reverse order; a group of a group, of one rank. */
static void groups(void **state) {
    (void)state;
    swt_comm *comm = rig.data, half, one;
    const int color = comm->rank % 2;
    succeeds(comm, swt_comm_split(comm, color, -comm->rank, &half));
    check(comm, half.size == (comm->size + 1 - color) / 2);
    check(comm, half.rank == half.size - 1 - comm->rank / 2);
    int64_t *members = on_device(RANKS_MOST), *own = on_device(1);
    int64_t numbers[RANKS_MOST] = {0};
    const int64_t rank = comm->rank;
    put(own, &rank, 1);
    succeeds(comm, swt_comm_all_gather(&half, members, own, sizeof rank, rig.stream));
    fetch(numbers, members, half.size);
    drain();
    for (int p = 0; p < half.size; p++)
        check(comm, numbers[p] == 2 * (half.size - 1 - p) + color);
    exchanges_follow_the_stream_on(&half);
    succeeds(comm, swt_comm_agree(&rig.host, SWT_OK));
    succeeds(comm, swt_comm_split(&half, half.rank, 0, &one));
    check(comm, one.size == 1 && one.rank == 0);
    exchanges_follow_the_stream_on(&one);
    exchanges_follow_the_stream_on(comm); /* the parent works between the parts' calls */
    exchanges_follow_the_stream_on(&half);
    swt_comm_close(&one);
    swt_comm_close(&half);
    succeeds(comm, swt_comm_agree(&rig.host, SWT_OK));
    swt_device_release(&rig.device, members);
    swt_device_release(&rig.device, own);
}

/* The stream NULL is the host itself: what it asks for is done when the call returns. */
static void the_host_waits_itself(void **state) {
    (void)state;
    swt_comm *comm = rig.data;
    int64_t *sum = on_device(1), value = comm->rank + 1;
    put(sum, &value, 1);
    succeeds(comm, swt_comm_all_reduce_i64(comm, sum, 1, NULL));
    value = -1;
    succeeds(comm, swt_device_copy(&rig.device, NULL, SWT_TO_HOST, &value, sum, sizeof value));
    check(comm, value == comm->size * (comm->size + 1) / 2);
    swt_device_release(&rig.device, sum);
}

/* Rank 0 is late: the others' calls wait for it on the device, which is seen after the wait. Every
 * call counts, many under way at once, too. */
static void time_is_counted_when_it_is_over(void **state) {
    enum { CALLS = 100, LATE_MS = 60 };
    (void)state;
    swt_comm *comm = rig.data;
    int64_t *sum = on_device(1), zero = 0;
    put(sum, &zero, 1);
    drain();
    succeeds(comm, swt_comm_agree(&rig.host, SWT_OK));
    comm->busy_ms = 0;
    comm->sent_bytes = 0;
    if (comm->rank == 0)
        nanosleep(&(struct timespec){.tv_nsec = LATE_MS * 1000000L}, NULL);
    for (int i = 0; i < CALLS; i++)
        succeeds(comm, swt_comm_all_reduce_i64(comm, sum, 1, rig.stream));
    drain();
    check(comm, comm->sent_bytes == (comm->size > 1 ? CALLS * 8 : 0));
    check(comm, comm->rank == 0 || comm->busy_ms > LATE_MS / 2.0);
    check(comm, comm->size == 1 || comm->busy_ms > 0);
    const double counted = comm->busy_ms;
    drain();
    check(comm, comm->busy_ms == counted);
    swt_device_release(&rig.device, sum);
}

/* ------------------------------------------------------------------ the group */

static swt_status open_rig(void) {
    const char *name = getenv("SWT_TEST_DEVICE");
    const bool gpu = name != NULL && strcmp(name, "cuda") == 0;
    int rank = 0, size = 1;
    SWT_TRY(swt_comm_open_mpi(&rig.host));
    SWT_TRY(swt_comm_node(&rig.host, &rank, &size));
    SWT_TRY(gpu ? swt_cuda_backend.open(&rig.device, rank, 1)
                : swt_cpu_backend.open(&rig.device, 0, 1));
    rig.data = gpu ? &rig.gpu : &rig.host;
    if (gpu)
        SWT_TRY(swt_comm_open_nccl(&rig.gpu, &rig.host, &rig.device));
    return swt_stream_create(&rig.device, &rig.stream);
}

static int open_group(void **state) {
    (void)state;
    const swt_status status = open_rig();
    if (status != SWT_OK)
        fprintf(stderr, "no usable GPU: %s\n", swt_last_error()->message);
    return status == SWT_OK ? 0 : -1;
}

static int close_group(void **state) {
    (void)state;
    swt_comm_close(&rig.gpu);
    if (rig.stream != NULL)
        swt_stream_destroy(&rig.device, rig.stream);
    swt_device_close(&rig.device);
    swt_comm_close(&rig.host);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exchanges_follow_the_stream),
        cmocka_unit_test(reductions_follow_the_stream),
        cmocka_unit_test(groups),
        cmocka_unit_test(the_host_waits_itself),
        cmocka_unit_test(time_is_counted_when_it_is_over),
    };
    return cmocka_run_group_tests(tests, open_group, close_group);
}
