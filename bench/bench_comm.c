/* The communicator against raw MPI, with the columns of nccl-tests.
 *
 *     launch/run -n 2 --program build/cpu/bench/bench_comm -- [--rounds N] [--json]
 *
 * bytes: what every rank gives (broadcast: what the root gives); algbw = bytes / time; busbw =
 * algbw times what the slowest link must carry for a byte: (P - 1) / P for the all-to-all, twice
 * that for the all-reduce, 1 for the broadcast. Both sides run in turn in one loop on the same
 * buffers, and a call's time is that of the slowest rank; medians. Before a size is timed, both
 * results are compared. ratio is the speed of swt_comm by that of MPI. */
#include "base/checked.h"
#include "base/clock.h"
#include "bench/program.h"
#include "bench/rows.h"
#include "kernels/swt_backend.h"

#include <mpi.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "bench_comm [--rounds N] [--json], started by launch/run or mpirun";

enum { LEAST_BYTES = 4 << 10, MOST_BYTES = 16 << 20, STEP = 4, BATCH_BYTES = 1 << 20 };

typedef struct bench {
    swt_comm world;
    swt_device device;
    int64_t rounds;
    bool json;
    int64_t *first;                      /* (size + 1) one block for each rank */
    unsigned char *send, *receive, *raw; /* (MOST_BYTES) */
    double *ours_ms, *mpi_ms, *ratio;    /* (rounds) */
} bench;

/* One call by swt_comm and by MPI, on `bytes` bytes a rank; in-place calls work on the first
 * buffer. */
typedef struct call {
    const char *name;
    swt_status (*ours)(bench *b, void *receive, int64_t bytes);
    int (*mpi)(const bench *b, void *receive, int64_t bytes);
    double (*bus_share)(int size);
} call;

static swt_status ours_all_to_all(bench *b, void *receive, int64_t bytes) {
    const swt_split split = {.first = b->first};
    return swt_comm_all_to_all(&b->world, SWT_TO_OWNERS, receive, b->send, &split,
                               (size_t)(bytes / b->world.size), NULL);
}

static int mpi_all_to_all(const bench *b, void *receive, int64_t bytes) {
    const int part = (int)(bytes / b->world.size);
    return MPI_Alltoall(b->send, part, MPI_BYTE, receive, part, MPI_BYTE, MPI_COMM_WORLD);
}

static double all_to_all_share(int size) {
    return (size - 1.0) / size;
}

static swt_status ours_all_reduce(bench *b, void *receive, int64_t bytes) {
    return swt_comm_all_reduce_i64(&b->world, receive, bytes / (int64_t)sizeof(int64_t), NULL);
}

static int mpi_all_reduce(const bench *b, void *receive, int64_t bytes) {
    (void)b;
    return MPI_Allreduce(MPI_IN_PLACE, receive, (int)(bytes / (int64_t)sizeof(int64_t)),
                         MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
}

static double all_reduce_share(int size) {
    return 2.0 * (size - 1.0) / size;
}

static swt_status ours_broadcast(bench *b, void *receive, int64_t bytes) {
    return swt_comm_broadcast(&b->world, receive, (size_t)bytes, 0, NULL);
}

static int mpi_broadcast(const bench *b, void *receive, int64_t bytes) {
    (void)b;
    return MPI_Bcast(receive, (int)bytes, MPI_BYTE, 0, MPI_COMM_WORLD);
}

static double broadcast_share(int size) {
    (void)size;
    return 1.0;
}

static const call calls[] = {
    {"all_to_all", ours_all_to_all, mpi_all_to_all, all_to_all_share},
    {"all_reduce_i64", ours_all_reduce, mpi_all_reduce, all_reduce_share},
    {"broadcast", ours_broadcast, mpi_broadcast, broadcast_share},
};

static swt_status check_mpi(int code, const char *name) {
    if (code != MPI_SUCCESS)
        return SWT_FAIL(COMM, "MPI's %s failed with code %d; every rank must be alive", name, code);
    return SWT_OK;
}

/* Small numbers, so that no sum is near the end of its range, other ones on every rank. */
static void fill(const bench *b, void *data, int64_t bytes) {
    int64_t *values = data;
    for (int64_t i = 0; i < bytes / (int64_t)sizeof *values; i++)
        values[i] = (i * 7 + b->world.rank) % 1000;
}

static swt_status compare(bench *b, const call *k, int64_t bytes) {
    fill(b, b->send, bytes);
    fill(b, b->receive, bytes);
    fill(b, b->raw, bytes);
    SWT_TRY(k->ours(b, b->receive, bytes));
    SWT_TRY(check_mpi(k->mpi(b, b->raw, bytes), k->name));
    swt_status status = SWT_OK;
    if (memcmp(b->receive, b->raw, (size_t)bytes) != 0)
        status = SWT_FAIL(INTERNAL, "%s of %lld bytes: is not what MPI gives; both must be equal",
                          k->name, (long long)bytes);
    /* sums of zeros stay zeros, however often they are made */
    memset(b->receive, 0, (size_t)bytes);
    return swt_comm_agree(&b->world, status);
}

/* Time `batch` calls of one side; the slowest rank's time of one of them. */
static swt_status time_ours(bench *b, const call *k, int64_t bytes, int64_t batch, double *ms) {
    SWT_TRY(check_mpi(MPI_Barrier(MPI_COMM_WORLD), "barrier"));
    const double start_ms = swt_now_ms();
    for (int64_t i = 0; i < batch; i++)
        SWT_TRY(k->ours(b, b->receive, bytes));
    *ms = (swt_now_ms() - start_ms) / (double)batch;
    return SWT_OK;
}

static swt_status time_mpi(const bench *b, const call *k, int64_t bytes, int64_t batch,
                           double *ms) {
    SWT_TRY(check_mpi(MPI_Barrier(MPI_COMM_WORLD), "barrier"));
    const double start_ms = swt_now_ms();
    for (int64_t i = 0; i < batch; i++)
        SWT_TRY(check_mpi(k->mpi(b, b->receive, bytes), k->name));
    *ms = (swt_now_ms() - start_ms) / (double)batch;
    return SWT_OK;
}

/* Who goes first takes turns, too. */
static swt_status measure(bench *b, const call *k, int64_t bytes) {
    const int64_t batch = swt_max(1, BATCH_BYTES / bytes);
    for (int64_t i = -1; i < b->rounds; i++) { /* -1: warm-up */
        double *ours_ms = &b->ours_ms[swt_max(i, 0)], *mpi_ms = &b->mpi_ms[swt_max(i, 0)];
        if (i % 2 != 0)
            SWT_TRY(time_mpi(b, k, bytes, batch, mpi_ms));
        SWT_TRY(time_ours(b, k, bytes, batch, ours_ms));
        if (i % 2 == 0)
            SWT_TRY(time_mpi(b, k, bytes, batch, mpi_ms));
    }
    SWT_TRY(check_mpi(MPI_Allreduce(MPI_IN_PLACE, b->ours_ms, (int)b->rounds, MPI_DOUBLE, MPI_MAX,
                                    MPI_COMM_WORLD),
                      "all-reduce"));
    return check_mpi(
        MPI_Allreduce(MPI_IN_PLACE, b->mpi_ms, (int)b->rounds, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD),
        "all-reduce");
}

static swt_status run_calls(bench *b) {
    static const column columns[] = {
        {"call", 14, TEXT_COLUMN}, {"ranks", 5, 0},     {"bytes", 9, 0},  {"ms", 9, 4},
        {"algbw_gbs", 9, 3},       {"busbw_gbs", 9, 3}, {"mpi_ms", 9, 4}, {"ratio", 6, 3}};
    const rows r = ROWS(b->world.rank == 0 ? stdout : NULL, b->json, columns);
    const int size = b->world.size;
    rows_head(&r);
    for (size_t c = 0; c < sizeof calls / sizeof *calls; c++)
        for (int64_t most = LEAST_BYTES; most <= MOST_BYTES; most *= STEP) {
            /* whole blocks of whole integers */
            const int64_t unit = size * (int64_t)sizeof(int64_t), bytes = most / unit * unit;
            SWT_TRY(compare(b, &calls[c], bytes));
            SWT_TRY(measure(b, &calls[c], bytes));
            for (int64_t i = 0; i < b->rounds; i++)
                b->ratio[i] = b->mpi_ms[i] / b->ours_ms[i];
            const double ms = rows_timing(b->ours_ms, b->rounds).median,
                         mpi_ms = rows_timing(b->mpi_ms, b->rounds).median,
                         gbs = (double)bytes / ms * 1e-6;
            rows_add(&r, (cell[]){TEXT(calls[c].name), NUMBER(size), NUMBER(bytes), NUMBER(ms),
                                  NUMBER(gbs), NUMBER(gbs * calls[c].bus_share(size)),
                                  NUMBER(mpi_ms), NUMBER(rows_timing(b->ratio, b->rounds).median)});
        }
    return SWT_OK;
}

static swt_status prepare(bench *b, int argc, char **argv) {
    const flag flags[] = {{.name = "--rounds", .count = &b->rounds, .least = 1},
                          {.name = "--json", .on = &b->json}};
    SWT_TRY(program_flags(flags, 2, &argc, argv));
    SWT_TRY(program_no_more(argc, argv, usage));
    SWT_TRY(swt_cpu_backend.open(&b->device, 0, 1));
    SWT_TRY(swt_device_alloc(&b->device, (void **)&b->send, MOST_BYTES));
    SWT_TRY(swt_device_alloc(&b->device, (void **)&b->receive, MOST_BYTES));
    SWT_TRY(swt_device_alloc(&b->device, (void **)&b->raw, MOST_BYTES));
    b->first = calloc((size_t)b->world.size + 1, sizeof *b->first);
    b->ours_ms = calloc((size_t)b->rounds, sizeof *b->ours_ms);
    b->mpi_ms = calloc((size_t)b->rounds, sizeof *b->mpi_ms);
    b->ratio = calloc((size_t)b->rounds, sizeof *b->ratio);
    if (b->first == NULL || b->ours_ms == NULL || b->mpi_ms == NULL || b->ratio == NULL)
        return SWT_FAIL(MEMORY, "--rounds: no room for %lld; use fewer", (long long)b->rounds);
    for (int p = 0; p <= b->world.size; p++)
        b->first[p] = p;
    return SWT_OK;
}

int main(int argc, char **argv) {
    bench b = {.rounds = 41};
    swt_status status = SWT_OK;
    swt_comm_open_self(&b.world);
    if (!swt_comm_launched_by_mpi())
        status = SWT_FAIL(USAGE, "no MPI launcher: it measures ranks; usage: %s", usage);
    if (status == SWT_OK)
        status = swt_comm_open_mpi(&b.world);
    if (status == SWT_OK)
        status = swt_comm_agree(&b.world, prepare(&b, argc, argv));
    if (status == SWT_OK)
        status = run_calls(&b);
    free(b.first);
    free(b.ours_ms);
    free(b.mpi_ms);
    free(b.ratio);
    swt_device_release(&b.device, b.send);
    swt_device_release(&b.device, b.receive);
    swt_device_release(&b.device, b.raw);
    swt_device_close(&b.device);
    return program_close(&b.world, "bench_comm", status);
}
