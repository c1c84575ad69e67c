/* The program with a fault at one place: src/main.c and the libraries as they are, linked with this
 * file, which stands before the calls of the communicator (the linker's --wrap) and between them
 * and MPI (MPI's profiling names).
 *
 *   SWT_FAULT="RANK PHASE CALL WHERE STEP ACTION"
 *     PHASE   number of the swt_phase that the rank is in; -1: any phase of any step
 *     CALL    all_to_all, all_reduce, broadcast, all_gather: the first of them there
 *     WHERE   before, inside (MPI has been called, nothing has been sent by it), after
 *     STEP    of the run, from this one on
 *     ACTION  kill, stop, exit, or sleep=MS
 *
 *   SWT_FAULT_MARK   a file that is made when it happens; where it is there, nothing happens
 *
 * Before a rank dies it stands there for 300 ms, so that its last beat tells of that place. */
#include "comm/swt_comm.h"

#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
    bool planned, done, inside;
    int rank, phase;
    char call[16], where[16], action[16];
    long step;
} fault;

__attribute__((constructor)) static void read_plan(void) {
    const char *text = getenv("SWT_FAULT");
    fault.planned =
        text != NULL && sscanf(text, "%d %d %15s %15s %ld %15s", &fault.rank, &fault.phase,
                               fault.call, fault.where, &fault.step, fault.action) == 6;
    if (text != NULL && !fault.planned)
        abort();
    const char *mark = getenv("SWT_FAULT_MARK");
    fault.done = mark != NULL && access(mark, F_OK) == 0;
}

static void sleep_ms(long ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0)
        continue;
}

static void leave_mark(void) {
    const char *path = getenv("SWT_FAULT_MARK");
    FILE *mark = path != NULL ? fopen(path, "w") : NULL;
    if (mark == NULL || fclose(mark) != 0)
        abort();
}

static void strike(void) {
    const bool sleeps = strncmp(fault.action, "sleep=", 6) == 0;
    fault.done = true;
    fault.inside = false;
    if (!sleeps)
        sleep_ms(300);
    leave_mark();
    if (sleeps) {
        sleep_ms(strtol(fault.action + 6, NULL, 10));
        return;
    }
    if (strcmp(fault.action, "exit") == 0)
        exit(7);
    raise(strcmp(fault.action, "stop") == 0 ? SIGSTOP : SIGKILL);
}

/* Whether the fault is in this call; `rank` is that in the world, which each part was told. */
static bool is_here(const swt_comm *comm, const char *call) {
    const swt_progress *p = comm->progress;
    if (!fault.planned || fault.done || strcmp(call, fault.call) != 0)
        return false;
    const int rank = comm->world_first + comm->rank * comm->world_stride;
    if (rank != fault.rank || fault.phase < 0)
        return rank == fault.rank;
    return p != NULL && SWT_PROGRESS_GET(p->step) >= fault.step &&
           SWT_PROGRESS_GET(p->phase) == fault.phase;
}

static bool strikes(bool here, const char *where) {
    return here && !fault.done && strcmp(fault.where, where) == 0;
}

static bool begin(const swt_comm *comm, const char *call) {
    const bool here = is_here(comm, call);
    if (strikes(here, "before"))
        strike();
    fault.inside = strikes(here, "inside");
    return here;
}

static swt_status end(bool here, swt_status status) {
    fault.inside = false;
    if (strikes(here, "after"))
        strike();
    return status;
}

/* ---- the communicator's calls */

#define WRAPPED(name, call, parameters, arguments)                                                 \
    swt_status __real_##name parameters;                                                           \
    swt_status __wrap_##name parameters;                                                           \
    swt_status __wrap_##name parameters {                                                          \
        const bool here = begin(comm, call);                                                       \
        return end(here, __real_##name arguments);                                                 \
    }

WRAPPED(swt_comm_all_to_all, "all_to_all",
        (swt_comm * comm, swt_direction direction, void *receive, const void *send,
         const swt_split *split, size_t block_bytes, swt_stream *stream),
        (comm, direction, receive, send, split, block_bytes, stream))
WRAPPED(swt_comm_all_reduce_i64, "all_reduce",
        (swt_comm * comm, int64_t *data, int64_t count, swt_stream *stream),
        (comm, data, count, stream))
WRAPPED(swt_comm_share_f64, "all_reduce",
        (swt_comm * comm, double *data, int64_t count, swt_stream *stream),
        (comm, data, count, stream))
WRAPPED(swt_comm_all_gather, "all_gather",
        (swt_comm * comm, void *receive, const void *send, size_t bytes, swt_stream *stream),
        (comm, receive, send, bytes, stream))
WRAPPED(swt_comm_broadcast, "broadcast",
        (swt_comm * comm, void *data, size_t bytes, int root, swt_stream *stream),
        (comm, data, bytes, root, stream))

/* ---- MPI's */

static void inside(void) {
    if (fault.inside)
        strike();
}

int MPI_Waitall(int count, MPI_Request requests[], MPI_Status statuses[]) {
    inside();
    return PMPI_Waitall(count, requests, statuses);
}

int MPI_Allreduce(const void *send, void *receive, int count, MPI_Datatype type, MPI_Op op,
                  MPI_Comm comm) {
    inside();
    return PMPI_Allreduce(send, receive, count, type, op, comm);
}

int MPI_Allgather(const void *send, int send_count, MPI_Datatype send_type, void *receive,
                  int receive_count, MPI_Datatype receive_type, MPI_Comm comm) {
    inside();
    return PMPI_Allgather(send, send_count, send_type, receive, receive_count, receive_type, comm);
}

int MPI_Bcast(void *data, int count, MPI_Datatype type, int root, MPI_Comm comm) {
    inside();
    return PMPI_Bcast(data, count, type, root, comm);
}
