/* The communicator against raw MPI, with the columns of nccl-tests.
 *
 *     launch/run -n 2 --program build/cpu/bench/bench_comm -- [--device auto|cpu|cuda] [--rounds N]
 *                                                             [--json]
 *
 * bytes: what every rank gives (broadcast: what the root gives); algbw = bytes / time; busbw =
 * algbw times what the slowest link must carry for a byte: (P - 1) / P for the all-to-all, twice
 * that for the all-reduce, 1 for the broadcast. Both sides run in turn in one loop on the same
 * buffers, and a call's time is that of the slowest rank; medians. Before a size is timed, both
 * results are compared. ratio is the speed of swt_comm by that of MPI.
 *
 * On GPUs, each rank's own, swt_comm is NCCL and results are compared with MPI's on host memory;
 * the other side of the times is then the GPU's copy of as many bytes, to itself: copy_ms. */
#include "base/checked.h"
#include "base/clock.h"
#include "bench/program.h"
#include "bench/rows.h"
#include "train/session.h"

#include <mpi.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "bench_comm [--device auto|cpu|cuda] [--rounds N] [--json], started by "
                            "launch/run or mpirun";

enum { LEAST_BYTES = 4 << 10, MOST_BYTES = 16 << 20, STEP = 4, BATCH_BYTES = 1 << 20 };

typedef struct bench bench;
typedef struct call call;

/* Who makes a call; in-place calls work on what they receive. */
typedef struct side {
    const char *column; /* of its time */
    swt_status (*make)(bench *b, const call *k, int64_t bytes);
    double *ms; /* (rounds) */
} side;

struct bench {
    swt_session s;
    const char *device;
    int64_t rounds;
    bool json;
    int64_t *first;                        /* (size + 1) one block for each rank */
    unsigned char *send, *receive;         /* (MOST_BYTES) the device's */
    unsigned char *host_send, *host, *raw; /* (MOST_BYTES) what is sent, came by us, came by MPI */
    side ours, other;
    double *ratio; /* (rounds) */
};

/* One call by swt_comm on the device's memory and by MPI on the host's, on `bytes` bytes a rank. */
struct call {
    const char *name;
    swt_status (*ours)(bench *b, int64_t bytes);
    int (*mpi)(int size, const void *send, void *receive, int64_t bytes);
    double (*bus_share)(int size);
};

static swt_status ours_all_to_all(bench *b, int64_t bytes) {
    const swt_split split = {.first = b->first};
    return swt_comm_all_to_all(b->s.devices, SWT_TO_OWNERS, b->receive, b->send, &split,
                               (size_t)(bytes / b->s.world->size), b->s.stream);
}

static int mpi_all_to_all(int size, const void *send, void *receive, int64_t bytes) {
    const int part = (int)(bytes / size);
    return MPI_Alltoall(send, part, MPI_BYTE, receive, part, MPI_BYTE, MPI_COMM_WORLD);
}

static double all_to_all_share(int size) {
    return (size - 1.0) / size;
}

static swt_status ours_all_reduce(bench *b, int64_t bytes) {
    return swt_comm_all_reduce_i64(b->s.devices, (int64_t *)(void *)b->receive,
                                   bytes / (int64_t)sizeof(int64_t), b->s.stream);
}

static int mpi_all_reduce(int size, const void *send, void *receive, int64_t bytes) {
    (void)size, (void)send;
    return MPI_Allreduce(MPI_IN_PLACE, receive, (int)(bytes / (int64_t)sizeof(int64_t)),
                         MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
}

static double all_reduce_share(int size) {
    return 2.0 * (size - 1.0) / size;
}

static swt_status ours_broadcast(bench *b, int64_t bytes) {
    return swt_comm_broadcast(b->s.devices, b->receive, (size_t)bytes, 0, b->s.stream);
}

static int mpi_broadcast(int size, const void *send, void *receive, int64_t bytes) {
    (void)size, (void)send;
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

/* ---- the sides */

static swt_status make_ours(bench *b, const call *k, int64_t bytes) {
    return k->ours(b, bytes);
}

static swt_status make_mpi(bench *b, const call *k, int64_t bytes) {
    return check_mpi(k->mpi(b->s.world->size, b->send, b->receive, bytes), k->name);
}

static swt_status make_copy(bench *b, const call *k, int64_t bytes) {
    (void)k;
    return swt_device_copy(&b->s.device, b->s.stream, SWT_ON_DEVICE, b->receive, b->send,
                           (size_t)bytes);
}

/* ---- measuring */

/* Small numbers, so that no sum is near the end of its range, other ones on every rank. */
static void fill(const bench *b, void *data, int64_t bytes) {
    int64_t *values = data;
    for (int64_t i = 0; i < bytes / (int64_t)sizeof *values; i++)
        values[i] = (i * 7 + b->s.world->rank) % 1000;
}

static swt_status compare(bench *b, const call *k, int64_t bytes) {
    swt_device *d = &b->s.device;
    const size_t n = (size_t)bytes;
    fill(b, b->host_send, bytes);
    fill(b, b->raw, bytes);
    SWT_TRY(swt_device_copy(d, NULL, SWT_TO_DEVICE, b->send, b->host_send, n));
    SWT_TRY(swt_device_copy(d, NULL, SWT_TO_DEVICE, b->receive, b->raw, n));
    SWT_TRY(k->ours(b, bytes));
    SWT_TRY(swt_comm_wait(b->s.devices, b->s.stream));
    SWT_TRY(swt_device_copy(d, NULL, SWT_TO_HOST, b->host, b->receive, n));
    SWT_TRY(check_mpi(k->mpi(b->s.world->size, b->host_send, b->raw, bytes), k->name));
    swt_status status = SWT_OK;
    if (memcmp(b->host, b->raw, n) != 0)
        status = SWT_FAIL(INTERNAL, "%s of %lld bytes: is not what MPI gives; both must be equal",
                          k->name, (long long)bytes);
    /* sums of zeros stay zeros, however often they are made */
    SWT_TRY(swt_device_set(d, NULL, b->receive, 0, n));
    return swt_comm_agree(b->s.world, status);
}

/* One of `batch` calls of one side. */
static swt_status time_side(bench *b, const side *who, const call *k, int64_t bytes, int64_t batch,
                            double *ms) {
    SWT_TRY(check_mpi(MPI_Barrier(MPI_COMM_WORLD), "barrier"));
    const double start_ms = swt_now_ms();
    for (int64_t i = 0; i < batch; i++)
        SWT_TRY(who->make(b, k, bytes));
    SWT_TRY(swt_comm_wait(b->s.devices, b->s.stream));
    *ms = (swt_now_ms() - start_ms) / (double)batch;
    return SWT_OK;
}

static swt_status slowest(double *ms, int64_t n) {
    return check_mpi(MPI_Allreduce(MPI_IN_PLACE, ms, (int)n, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD),
                     "all-reduce");
}

/* Times of the slowest rank. Who goes first takes turns, too. */
static swt_status measure(bench *b, const call *k, int64_t bytes) {
    const int64_t batch = swt_max(1, BATCH_BYTES / bytes);
    for (int64_t i = -1; i < b->rounds; i++) { /* -1: warm-up */
        const side *order[] = {i % 2 != 0 ? &b->other : &b->ours,
                               i % 2 != 0 ? &b->ours : &b->other};
        for (int n = 0; n < 2; n++)
            SWT_TRY(time_side(b, order[n], k, bytes, batch, &order[n]->ms[swt_max(i, 0)]));
    }
    SWT_TRY(slowest(b->ours.ms, b->rounds));
    return slowest(b->other.ms, b->rounds);
}

static swt_status run_calls(bench *b) {
    const column columns[] = {
        {"call", 14, TEXT_COLUMN}, {"ranks", 5, 0},     {"bytes", 9, 0},         {"ms", 9, 4},
        {"algbw_gbs", 9, 3},       {"busbw_gbs", 9, 3}, {b->other.column, 9, 4}, {"ratio", 6, 3}};
    const rows r = ROWS(b->s.world->rank == 0 ? stdout : NULL, b->json, columns);
    const int size = b->s.world->size > 0 ? b->s.world->size : 1;
    rows_head(&r);
    for (size_t c = 0; c < sizeof calls / sizeof *calls; c++)
        for (int64_t most = LEAST_BYTES; most <= MOST_BYTES; most *= STEP) {
            /* whole blocks of whole integers */
            const int64_t unit = size * (int64_t)sizeof(int64_t), bytes = most / unit * unit;
            SWT_TRY(compare(b, &calls[c], bytes));
            SWT_TRY(measure(b, &calls[c], bytes));
            for (int64_t i = 0; i < b->rounds; i++)
                b->ratio[i] = b->other.ms[i] / b->ours.ms[i];
            const double ms = rows_timing(b->ours.ms, b->rounds).median,
                         other_ms = rows_timing(b->other.ms, b->rounds).median,
                         gbs = (double)bytes / ms * 1e-6;
            rows_add(&r,
                     (cell[]){TEXT(calls[c].name), NUMBER(size), NUMBER(bytes), NUMBER(ms),
                              NUMBER(gbs), NUMBER(gbs * calls[c].bus_share(size)), NUMBER(other_ms),
                              NUMBER(rows_timing(b->ratio, b->rounds).median)});
        }
    return SWT_OK;
}

/* ---- the program */

static swt_status read_flags(bench *b, int argc, char **argv) {
    const flag flags[] = {{.name = "--device", .text = &b->device},
                          {.name = "--rounds", .count = &b->rounds, .least = 1},
                          {.name = "--json", .on = &b->json}};
    SWT_TRY(program_flags(flags, 3, &argc, argv));
    SWT_TRY(program_no_more(argc, argv, usage));
    b->s.options->run_threads = 1;
    return program_device(b->device, &b->s.options->run_device);
}

static swt_status prepare(bench *b) {
    unsigned char **const device[] = {&b->send, &b->receive},
                          **const host[] = {&b->host_send, &b->host, &b->raw};
    double **const times[] = {&b->ours.ms, &b->other.ms, &b->ratio};
    b->ours = (side){.make = make_ours};
    b->other = b->s.devices->table->queues ? (side){.column = "copy_ms", .make = make_copy}
                                           : (side){.column = "mpi_ms", .make = make_mpi};
    for (int i = 0; i < 2; i++)
        SWT_TRY(swt_device_alloc(&b->s.device, (void **)device[i], MOST_BYTES));
    for (int i = 0; i < 3; i++)
        SWT_TRY(swt_device_host_alloc(&b->s.device, (void **)host[i], MOST_BYTES));
    b->first = calloc((size_t)b->s.world->size + 1, sizeof *b->first);
    for (int i = 0; i < 3; i++)
        if (b->first == NULL || (*times[i] = calloc((size_t)b->rounds, sizeof(double))) == NULL)
            return SWT_FAIL(MEMORY, "--rounds: no room for %lld; use fewer", (long long)b->rounds);
    for (int p = 0; p <= b->s.world->size; p++)
        b->first[p] = p;
    return SWT_OK;
}

static void release(bench *b) {
    free(b->first);
    free(b->ours.ms);
    free(b->other.ms);
    free(b->ratio);
    swt_device_release(&b->s.device, b->send);
    swt_device_release(&b->s.device, b->receive);
    swt_device_host_release(&b->s.device, b->host_send);
    swt_device_host_release(&b->s.device, b->host);
    swt_device_host_release(&b->s.device, b->raw);
}

static swt_status run(bench *b, int argc, char **argv) {
    swt_comm *world = b->s.world;
    if (!swt_comm_launched_by_mpi())
        return SWT_FAIL(USAGE, "no MPI launcher: it measures ranks; usage: %s", usage);
    SWT_TRY(swt_comm_open_mpi(world));
    SWT_TRY(swt_comm_agree(world, read_flags(b, argc, argv)));
    SWT_TRY(swt_session_open_device(&b->s));
    SWT_TRY(swt_comm_agree(world, prepare(b)));
    return run_calls(b);
}

int main(int argc, char **argv) {
    swt_standard_open();
    if (program_help(argc, argv, usage))
        return 0;
    swt_threads_settle(argv);
    static swt_options options;
    static bench b = {.device = "auto", .rounds = 41};
    swt_comm world;
    b.s.options = &options;
    b.s.world = &world;
    swt_comm_open_self(&world);
    const swt_status status = run(&b, argc, argv);
    release(&b);
    swt_session_close(&b.s);
    return program_close(&world, "bench_comm", status);
}
