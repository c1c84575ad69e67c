/* The emulated NCCL on any number of ranks: integers in, exact integers out; and wrong use, which
 * must end with an error that says what is wrong. Memory is a GPU's: closed to the host. */
#include "support/world.h"
#include "tests/support/test.h"

#include <cuda_runtime_api.h>
#include <nccl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { N = 1000, MOST = 8 };

/* One rank's end: buffers of MOST N numbers, and a host's copy. */
typedef struct end {
    swt_comm *world;
    ncclComm_t nccl;
    cudaStream_t stream;
    int64_t *out, *in;
    int64_t host[MOST * N];
} end;

#define CUDA(e, call) check((e)->world, (call) == cudaSuccess)
#define NCCL(e, call) check((e)->world, done((e), (call)) == ncclSuccess)

/* The result of a call, waited for if the communicator does not block. */
static ncclResult_t done(end *e, ncclResult_t result) {
    while (result == ncclInProgress)
        check(e->world, ncclCommGetAsyncError(e->nccl, &result) == ncclSuccess);
    return result;
}

static end *open_end(swt_comm *world, int blocking) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId id = {{0}};
    end *e = calloc(1, sizeof *e);
    check(world, e != NULL);
    e->world = world;
    config.blocking = blocking;
    CUDA(e, cudaSetDevice(world->rank));
    if (world->rank == 0)
        NCCL(e, ncclGetUniqueId(&id));
    succeeds(world, swt_comm_broadcast(world, &id, sizeof id, 0, NULL));
    NCCL(e, ncclCommInitRankConfig(&e->nccl, world->size, id, world->rank, &config));
    CUDA(e, cudaStreamCreateWithFlags(&e->stream, cudaStreamNonBlocking));
    void *memory = NULL;
    CUDA(e, cudaMalloc(&memory, sizeof e->host));
    e->out = memory;
    CUDA(e, cudaMalloc(&memory, sizeof e->host));
    e->in = memory;
    return e;
}

static void close_memory(end *e) {
    CUDA(e, cudaFree(e->out));
    CUDA(e, cudaFree(e->in));
    CUDA(e, cudaStreamDestroy(e->stream));
    free(e);
}

static void close_end(end *e) {
    NCCL(e, ncclCommFinalize(e->nccl));
    NCCL(e, ncclCommDestroy(e->nccl));
    close_memory(e);
}

static void give_up(end *e) {
    check(e->world, ncclCommAbort(e->nccl) == ncclSuccess);
    CUDA(e, cudaStreamSynchronize(e->stream)); /* an aborted communicator holds nothing up */
    close_memory(e);
}

/* The number i of the block that `from` has for `to`. */
static int64_t number(int from, int to, int i) {
    return (from * 100 + to) * 10000 + i;
}

static void fill(end *e, int blocks) {
    for (int to = 0; to < blocks; to++)
        for (int i = 0; i < N; i++)
            e->host[to * N + i] = number(e->world->rank, to, i);
    CUDA(e, cudaMemcpyAsync(e->out, e->host, sizeof e->host, cudaMemcpyHostToDevice, e->stream));
    CUDA(e, cudaMemsetAsync(e->in, 0xff, sizeof e->host, e->stream));
}

static void fetch(end *e, const int64_t *from) {
    CUDA(e, cudaMemcpyAsync(e->host, from, sizeof e->host, cudaMemcpyDeviceToHost, e->stream));
    CUDA(e, cudaStreamSynchronize(e->stream));
}

/* ------------------------------------------------------------------ right use */

static void exchange(end *e) {
    const int size = e->world->size;
    fill(e, size);
    check(e->world, ncclGroupStart() == ncclSuccess);
    for (int peer = 0; peer < size; peer++) {
        /* Two messages to each peer, of unlike lengths: they must not be mixed up. */
        int64_t *out = e->out + peer * N, *in = e->in + peer * N;
        check(e->world, ncclSend(out, 10, ncclInt64, peer, e->nccl, e->stream) == ncclSuccess);
        check(e->world,
              ncclSend(out + 10, N - 10, ncclInt64, peer, e->nccl, e->stream) == ncclSuccess);
        check(e->world, ncclRecv(in, 10, ncclInt64, peer, e->nccl, e->stream) == ncclSuccess);
        check(e->world,
              ncclRecv(in + 10, N - 10, ncclInt64, peer, e->nccl, e->stream) == ncclSuccess);
    }
    NCCL(e, ncclGroupEnd());
    fetch(e, e->in);
    for (int from = 0; from < size; from++)
        for (int i = 0; i < N; i++)
            check(e->world, e->host[from * N + i] == number(from, e->world->rank, i));
}

static void messages(void **state) {
    for (int blocking = 0; blocking < 2; blocking++) {
        end *e = open_end(*state, blocking);
        for (int i = 0; i < 3; i++)
            exchange(e);
        close_end(e);
    }
}

/* Several collective calls in a row, and some as one group, without a wait in between. */
static void collectives(void **state) {
    end *e = open_end(*state, 0);
    const int size = e->world->size, rank = e->world->rank;
    fill(e, 1);
    NCCL(e, ncclAllReduce(e->out, e->in, N, ncclInt64, ncclSum, e->nccl, e->stream));
    NCCL(e, ncclAllReduce(e->in, e->in, N, ncclInt64, ncclMax, e->nccl, e->stream));
    check(e->world, ncclGroupStart() == ncclSuccess);
    check(e->world,
          ncclAllGather(e->out, e->in + N, N, ncclInt64, e->nccl, e->stream) == ncclSuccess);
    check(e->world, ncclBroadcast(e->out, e->in + 6 * N, N, ncclInt64, size - 1, e->nccl,
                                  e->stream) == ncclSuccess);
    NCCL(e, ncclGroupEnd());
    fetch(e, e->in);
    for (int i = 0; i < N; i++) {
        int64_t sum = 0;
        for (int r = 0; r < size; r++) {
            sum += number(r, 0, i);
            check(e->world, e->host[(1 + r) * N + i] == number(r, 0, i));
        }
        check(e->world, e->host[i] == sum);
        check(e->world, e->host[6 * N + i] == number(size - 1, 0, i));
    }
    /* In place, as floats. */
    float *floats = (float *)(void *)e->host;
    for (int i = 0; i < N; i++)
        floats[i] = (float)(rank + i);
    CUDA(e, cudaMemcpyAsync(e->out, floats, N * sizeof(float), cudaMemcpyHostToDevice, e->stream));
    NCCL(e, ncclAllReduce(e->out, e->out, N, ncclFloat32, ncclSum, e->nccl, e->stream));
    fetch(e, e->out);
    for (int i = 0; i < N; i++)
        check(e->world, floats[i] == (float)(size * i + size * (size - 1) / 2));
    close_end(e);
}

/* A split says success at once and goes on: the whole is busy, and no part is there yet. */
static ncclComm_t split(end *e, int color, int key) {
    ncclComm_t part = NULL;
    check(e->world, ncclCommSplit(e->nccl, color, key, &part, NULL) == ncclSuccess);
    check(e->world, part == NULL);
    check(e->world, ncclAllReduce(e->out, e->in, 1, ncclInt64, ncclSum, e->nccl, e->stream) ==
                        ncclInvalidUsage);
    NCCL(e, ncclInProgress);
    return part;
}

/* Odd and even ranks by themselves, in reverse order; and one rank in no part. */
static void parts(void **state) {
    end *e = open_end(*state, 0);
    ncclComm_t whole = e->nccl;
    const int size = e->world->size, rank = e->world->rank;
    int of = -1, count = -1;
    const ncclComm_t part = split(e, rank % 2, -rank);
    e->nccl = part;
    NCCL(e, ncclInProgress);
    NCCL(e, ncclCommUserRank(part, &of));
    NCCL(e, ncclCommCount(part, &count));
    check(e->world, count == (size + (rank % 2 == 0)) / 2);
    check(e->world, of == count - 1 - rank / 2);
    fill(e, 1);
    NCCL(e, ncclAllReduce(e->out, e->in, 1, ncclInt64, ncclSum, part, e->stream));
    fetch(e, e->in);
    int64_t sum = 0;
    for (int r = rank % 2; r < size; r += 2)
        sum += number(r, 0, 0);
    check(e->world, e->host[0] == sum);
    NCCL(e, ncclCommFinalize(part));
    NCCL(e, ncclCommDestroy(part));
    e->nccl = whole;
    const ncclComm_t none = split(e, rank == 0 ? NCCL_SPLIT_NOCOLOR : 5, rank);
    check(e->world, (none == NULL) == (rank == 0));
    if (none != NULL) {
        e->nccl = none;
        NCCL(e, ncclInProgress);
        NCCL(e, ncclCommDestroy(none));
        e->nccl = whole;
    }
    close_end(e);
}

/* A rank that waits in MPI does not hold up what a peer waits for on its stream. */
static void host_waits_hold_nobody_up(void **state) {
    end *e = open_end(*state, 0);
    fill(e, 1);
    NCCL(e, ncclAllReduce(e->out, e->in, N, ncclInt64, ncclSum, e->nccl, e->stream));
    if (e->world->rank == 0)
        fetch(e, e->in);
    succeeds(e->world, swt_comm_agree(e->world, SWT_OK));
    fetch(e, e->in);
    close_end(e);
}

/* ------------------------------------------------------------------ wrong use */

/* Wait for the stream as a careful program does: the error that came, or success. */
static ncclResult_t outcome(end *e) {
    ncclResult_t error = ncclSuccess;
    while (cudaStreamQuery(e->stream) == cudaErrorNotReady) {
        (void)cudaGetLastError();
        check(e->world, ncclCommGetAsyncError(e->nccl, &error) == ncclSuccess);
        if (error != ncclSuccess && error != ncclInProgress)
            return error;
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    return ncclSuccess;
}

static void be_impatient(const char *seconds) {
    assert_int_equal(setenv("SWT_EMU_NCCL_TIMEOUT", seconds, 1), 0);
}

/* Counts and types that differ are found by the receiver. */
static void mismatched_messages(void **state) {
    const size_t counts[] = {5, 5};
    const ncclDataType_t types[] = {ncclInt64, ncclInt32};
    for (int i = 0; i < 2; i++) {
        end *e = open_end(*state, 0);
        const int rank = e->world->rank, size = e->world->size;
        const int next = (rank + 1) % size, before = (rank + size - 1) % size;
        fill(e, 1);
        check(e->world, ncclGroupStart() == ncclSuccess);
        check(e->world, ncclSend(e->out, counts[i] + (i == 0), types[i], next, e->nccl,
                                 e->stream) == ncclSuccess);
        check(e->world, ncclRecv(e->in, 5, ncclInt64, before, e->nccl, e->stream) == ncclSuccess);
        NCCL(e, ncclGroupEnd());
        check(e->world, outcome(e) == ncclInternalError);
        check(e->world, strstr(ncclGetLastError(e->nccl), "expects 5 int64") != NULL);
        give_up(e);
        succeeds(*state, swt_comm_agree(*state, SWT_OK));
    }
}

static void mismatched_collectives(void **state) {
    end *e = open_end(*state, 0);
    const size_t count = e->world->rank == 0 ? 6 : 5;
    fill(e, 1);
    NCCL(e, ncclAllReduce(e->out, e->in, count, ncclInt64, ncclSum, e->nccl, e->stream));
    check(e->world, outcome(e) == (e->world->size > 1 ? ncclInternalError : ncclSuccess));
    give_up(e);
    succeeds(*state, swt_comm_agree(*state, SWT_OK));
}

/* Nobody receives; and what is queued behind it does not run either. */
static void send_without_receive(void **state) {
    be_impatient("0.5");
    end *e = open_end(*state, 0);
    const int next = (e->world->rank + 1) % e->world->size;
    fill(e, 1);
    NCCL(e, ncclSend(e->out, 5, ncclInt64, next, e->nccl, e->stream));
    check(e->world, outcome(e) == ncclRemoteError);
    check(e->world, strstr(ncclGetLastError(e->nccl), "ncclSend of 5 int64") != NULL);
    check(e->world, ncclSend(e->out, 5, ncclInt64, next, e->nccl, e->stream) == ncclRemoteError);
    give_up(e);
    be_impatient("60");
    succeeds(*state, swt_comm_agree(*state, SWT_OK));
}

/* A peer that is not there any more, or calls something else. */
static void receive_without_send(void **state) {
    be_impatient("0.5");
    end *e = open_end(*state, 1);
    const int before = (e->world->rank + e->world->size - 1) % e->world->size;
    NCCL(e, ncclRecv(e->in, 5, ncclInt64, before, e->nccl, e->stream));
    check(e->world, outcome(e) == ncclRemoteError);
    give_up(e);
    be_impatient("60");
    succeeds(*state, swt_comm_agree(*state, SWT_OK));
}

static void wrong_groups(void **state) {
    end *e = open_end(*state, 1);
    check(e->world, ncclGroupEnd() == ncclInvalidUsage);
    check(e->world, ncclGroupStart() == ncclSuccess);
    check(e->world, ncclCommFinalize(e->nccl) == ncclInvalidUsage);
    check(e->world, ncclCommDestroy(e->nccl) == ncclInvalidUsage);
    /* An error in a group is the group's, and nothing of it runs. */
    check(e->world, ncclSend(e->out, 5, ncclInt64, 99, e->nccl, e->stream) == ncclInvalidArgument);
    check(e->world, ncclSend(e->out, 5, ncclInt64, 0, e->nccl, e->stream) == ncclSuccess);
    check(e->world, ncclGroupEnd() == ncclInvalidArgument);
    CUDA(e, cudaStreamSynchronize(e->stream));
    /* Two receives into the same memory. */
    check(e->world, ncclGroupStart() == ncclSuccess);
    check(e->world, ncclRecv(e->in, 5, ncclInt64, 0, e->nccl, e->stream) == ncclSuccess);
    check(e->world, ncclRecv(e->in + 4, 5, ncclInt64, 0, e->nccl, e->stream) == ncclSuccess);
    check(e->world, ncclGroupEnd() == ncclInvalidUsage);
    close_end(e);
}

static void wrong_arguments(void **state) {
    end *e = open_end(*state, 1);
    int64_t mine[5] = {0};
    check(e->world, ncclSend(mine, 5, ncclInt64, 0, e->nccl, e->stream) == ncclInvalidArgument);
    check(e->world, ncclAllReduce(e->out, e->out + 1, 5, ncclInt64, ncclSum, e->nccl, e->stream) ==
                        ncclInvalidArgument);
    check(e->world, ncclAllReduce(e->out, e->in, MOST * N + 1, ncclInt64, ncclSum, e->nccl,
                                  e->stream) == ncclInvalidArgument);
    ncclComm_t gone = e->nccl;
    close_end(e);
    e = open_end(*state, 0);
    check(e->world, ncclAllReduce(e->out, e->in, 5, ncclInt64, ncclSum, gone, e->stream) ==
                        ncclInvalidArgument);
    /* A call before the last one is through. */
    check(e->world, ncclAllReduce(e->out, e->in, 5, ncclInt64, ncclSum, e->nccl, e->stream) ==
                        ncclInProgress);
    check(e->world, ncclAllReduce(e->out, e->in, 5, ncclInt64, ncclSum, e->nccl, e->stream) ==
                        ncclInvalidUsage);
    NCCL(e, ncclInProgress);
    close_end(e);
}

/* Ranks of one node with the same GPU. */
static void shared_gpu(void **state) {
    swt_comm *world = *state;
    ncclUniqueId id = {{0}};
    ncclComm_t comm = NULL;
    check(world, cudaSetDevice(0) == cudaSuccess);
    const ncclResult_t result = ncclCommInitRank(&comm, world->size, id, world->rank);
    check(world, result == (world->size > 1 ? ncclInvalidUsage : ncclSuccess));
    if (comm != NULL)
        check(world, ncclCommDestroy(comm) == ncclSuccess);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages),
        cmocka_unit_test(collectives),
        cmocka_unit_test(parts),
        cmocka_unit_test(host_waits_hold_nobody_up),
        cmocka_unit_test(mismatched_messages),
        cmocka_unit_test(mismatched_collectives),
        cmocka_unit_test(send_without_receive),
        cmocka_unit_test(receive_without_send),
        cmocka_unit_test(wrong_groups),
        cmocka_unit_test(wrong_arguments),
        cmocka_unit_test(shared_gpu),
    };
    return cmocka_run_group_tests(tests, swt_world_open, swt_world_close);
}
