/* The emulated NCCL's communicators. Making and ending them waits for the peers, while the streams
 * go on. */
#include "tests/emu/emu.h"
#include "tests/emu/emu_nccl.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ABORT_MS = 50 };

static ncclComm_t comms;               /* all there ever were */
static MPI_Comm world = MPI_COMM_NULL; /* ours, of all ranks */
static char last_error[256];

/* ------------------------------------------------------------------ errors and time */

double swt_emu_nccl_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

double swt_emu_nccl_patience_ms(void) {
    const char *seconds = getenv("SWT_EMU_NCCL_TIMEOUT");
    const double value = seconds != NULL ? strtod(seconds, NULL) : 0;
    return value > 0 ? value * 1e3 : 60e3;
}

static void say(const char *result, const char *message) {
    fprintf(stderr, "emulated NCCL: %s (%s)\n", message, result);
}

void swt_emu_nccl_fail(ncclComm_t comm, ncclResult_t error, const char *fmt, ...) {
    if (comm->error != ncclSuccess)
        return; /* the first one counts */
    va_list args;
    va_start(args, fmt);
    vsnprintf(comm->message, sizeof comm->message, fmt, args);
    va_end(args);
    comm->error = error;
    say(ncclGetErrorString(error), comm->message);
}

ncclResult_t swt_emu_nccl_refuse(ncclComm_t comm, ncclResult_t result, const char *fmt, ...) {
    char *message = comm != NULL ? comm->message : last_error;
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof last_error, fmt, args);
    va_end(args);
    say(ncclGetErrorString(result), message);
    return result;
}

const char *ncclGetErrorString(ncclResult_t result) {
    switch (result) {
    case ncclSuccess:
        return "no error";
    case ncclUnhandledCudaError:
        return "unhandled cuda error";
    case ncclSystemError:
        return "unhandled system error";
    case ncclInternalError:
        return "internal error";
    case ncclInvalidArgument:
        return "invalid argument";
    case ncclInvalidUsage:
        return "invalid usage";
    case ncclRemoteError:
        return "remote process exited or there was a network error";
    case ncclInProgress:
        return "NCCL operation in progress";
    default:
        return "unknown result code";
    }
}

static bool known(const struct ncclComm *comm) {
    for (const struct ncclComm *c = comms; c != NULL; c = c->next)
        if (c == comm)
            return !c->closed;
    return false;
}

#define NO_COMM()                                                                                  \
    swt_emu_nccl_refuse(NULL, ncclInvalidArgument,                                                 \
                        "no communicator, or one that has been destroyed or aborted")

const char *ncclGetLastError(ncclComm_t comm) {
    return known(comm) ? comm->message : last_error;
}

/* SWT_EMU_NCCL_VERSION: as if the library were another one than the header's. */
ncclResult_t ncclGetVersion(int *version) {
    const char *const other = getenv("SWT_EMU_NCCL_VERSION");
    if (version == NULL)
        return ncclInvalidArgument;
    *version = other != NULL ? (int)strtol(other, NULL, 10) : NCCL_VERSION_CODE;
    return ncclSuccess;
}

/* The communicator lives, has not failed, and its last call is through. */
ncclResult_t swt_emu_nccl_ready(ncclComm_t comm) {
    if (!known(comm))
        return NO_COMM();
    if (comm->error != ncclSuccess)
        return comm->error;
    if (comm->busy > 0)
        return swt_emu_nccl_refuse(comm, ncclInvalidUsage,
                                   "a call while the communicator is in progress; ask "
                                   "ncclCommGetAsyncError until it is not");
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
    if (!known(comm) || error == NULL)
        return NO_COMM();
    *error = comm->error;
    if (comm->error != ncclSuccess)
        return ncclSuccess;
    if (comm->finalized && comm->done < comm->queued) {
        (void)swt_emu_poll();
        *error = ncclInProgress;
    } else if (comm->busy > 0) {
        comm->busy--;
        *error = ncclInProgress;
    }
    if (comm->busy == 0 && comm->part_out != NULL) { /* the new handle comes last */
        *comm->part_out = comm->part;
        comm->part_out = NULL;
    }
    return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *count) {
    if (!known(comm) || count == NULL)
        return NO_COMM();
    *count = comm->size;
    return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank) {
    if (!known(comm) || rank == NULL)
        return NO_COMM();
    *rank = comm->rank;
    return ncclSuccess;
}

/* ------------------------------------------------------------------ making them */

/* What goes on while somebody waits: MPI, and the peers' processes. */
static void on_wait(void) {
    int flag = 0;
    (void)PMPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, world, &flag, MPI_STATUS_IGNORE);
    nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

/* Wait for a request, but not for ever. */
static bool await(MPI_Request *request) {
    const double until_ms = swt_emu_nccl_now_ms() + swt_emu_nccl_patience_ms();
    int flag = 0;
    while (PMPI_Test(request, &flag, MPI_STATUS_IGNORE) == MPI_SUCCESS && !flag &&
           swt_emu_nccl_now_ms() < until_ms)
        if (!swt_emu_poll())
            (void)sched_yield();
    return flag;
}

static bool all_here(MPI_Comm mpi) {
    MPI_Request request;
    return PMPI_Ibarrier(mpi, &request) == MPI_SUCCESS && await(&request);
}

static ncclResult_t open_world(void) {
    int started = 0;
    MPI_Request request;
    if (PMPI_Initialized(&started) != MPI_SUCCESS || !started)
        return swt_emu_nccl_refuse(NULL, ncclSystemError, "MPI has not been started");
    if (world != MPI_COMM_NULL)
        return ncclSuccess;
    if (PMPI_Comm_idup(MPI_COMM_WORLD, &world, &request) != MPI_SUCCESS || !await(&request))
        return swt_emu_nccl_refuse(NULL, ncclRemoteError, "not all ranks make a communicator");
    (void)PMPI_Comm_set_errhandler(world, MPI_ERRORS_RETURN);
    swt_emu_on_wait(on_wait);
    (void)atexit(swt_emu_nccl_check_aborts);
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    static int number;
    if (id == NULL)
        return ncclInvalidArgument;
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "swt-emu %ld %d %.6f", (long)getpid(), number++,
             swt_emu_nccl_now_ms());
    return ncclSuccess;
}

/* What a rank says when a communicator is made. */
typedef struct greeting {
    ncclUniqueId id;
    char host[64];
    int device, nranks;
} greeting;

/* The experiment of 2.30. */
static bool shares_gpus(void) {
    const char *const wanted = getenv("NCCL_MULTI_RANK_GPU_ENABLE");
    int version = 0;
    return wanted != NULL && strtol(wanted, NULL, 10) != 0 &&
           ncclGetVersion(&version) == ncclSuccess && version >= NCCL_VERSION(2, 30, 0);
}

static ncclResult_t check_greetings(const greeting *all, int size, int rank) {
    for (int i = 0; i < size; i++) {
        if (memcmp(&all[i].id, &all[rank].id, sizeof all[i].id) != 0 ||
            all[i].nranks != all[rank].nranks)
            return swt_emu_nccl_refuse(NULL, ncclInvalidUsage,
                                       "ranks %d and %d have different ids or numbers of ranks",
                                       rank, i);
        if (i != rank && all[i].device == all[rank].device &&
            strcmp(all[i].host, all[rank].host) == 0 && !shares_gpus())
            return swt_emu_nccl_refuse(NULL, ncclInvalidUsage,
                                       "Duplicate GPU detected: ranks %d and %d both have GPU %02x",
                                       rank, i, all[i].device);
    }
    return ncclSuccess;
}

static ncclResult_t greet(ncclComm_t comm, ncclUniqueId id) {
    struct cudaDeviceProp gpu = {0};
    (void)cudaGetDeviceProperties(&gpu, comm->device);
    greeting own = {.id = id, .device = gpu.pciBusID, .nranks = comm->size};
    greeting *all = calloc((size_t)comm->size, sizeof *all);
    MPI_Request request;
    (void)gethostname(own.host, sizeof own.host - 1);
    ncclResult_t result = ncclSystemError;
    if (all != NULL && PMPI_Iallgather(&own, sizeof own, MPI_BYTE, all, sizeof own, MPI_BYTE,
                                       comm->mpi, &request) == MPI_SUCCESS)
        result = await(&request) ? check_greetings(all, comm->size, comm->rank) : ncclRemoteError;
    free(all);
    return result;
}

static ncclComm_t new_comm(MPI_Comm mpi, bool blocking) {
    ncclComm_t comm = calloc(1, sizeof *comm);
    if (comm == NULL)
        swt_emu_stop("nccl: no memory for a communicator");
    comm->mpi = mpi;
    comm->blocking = blocking;
    comm->busy = blocking ? 0 : 2;
    (void)PMPI_Comm_rank(mpi, &comm->rank);
    (void)PMPI_Comm_size(mpi, &comm->size);
    (void)PMPI_Comm_set_errhandler(mpi, MPI_ERRORS_RETURN);
    (void)cudaGetDevice(&comm->device);
    comm->next = comms;
    comms = comm;
    return comm;
}

static ncclResult_t check_config(const ncclConfig_t *config, bool *blocking) {
    if (config == NULL)
        return ncclSuccess;
    if (config->size != sizeof *config || config->magic != 0xcafebeef)
        return swt_emu_nccl_refuse(NULL, ncclInvalidArgument,
                                   "the configuration was not set by NCCL_CONFIG_INITIALIZER");
    if (config->blocking != NCCL_CONFIG_UNDEF_INT)
        *blocking = config->blocking != 0;
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int nranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *config) {
    bool blocking = true;
    int size = 0;
    MPI_Comm mpi = MPI_COMM_NULL;
    if (out == NULL || nranks < 1 || rank < 0 || rank >= nranks)
        return swt_emu_nccl_refuse(NULL, ncclInvalidArgument, "rank %d of %d", rank, nranks);
    *out = NULL;
    if (swt_emu_nccl_in_group())
        return swt_emu_nccl_refuse(NULL, ncclInvalidUsage, "a communicator made inside a group");
    swt_emu_host_call("ncclCommInitRank");
    if (check_config(config, &blocking) != ncclSuccess)
        return ncclInvalidArgument;
    const ncclResult_t opened = open_world();
    if (opened != ncclSuccess)
        return opened;
    (void)PMPI_Comm_size(world, &size);
    if (nranks != size)
        return swt_emu_nccl_refuse(NULL, ncclInvalidUsage,
                                   "%d ranks of %d processes; all are emulated, parts by "
                                   "ncclCommSplit",
                                   nranks, size);
    if (!all_here(world))
        return swt_emu_nccl_refuse(NULL, ncclRemoteError, "rank %d: not all ranks came", rank);
    if (PMPI_Comm_split(world, 0, rank, &mpi) != MPI_SUCCESS)
        return swt_emu_nccl_refuse(NULL, ncclSystemError, "MPI_Comm_split failed");
    ncclComm_t comm = new_comm(mpi, blocking);
    const ncclResult_t result = greet(comm, id);
    if (result != ncclSuccess) {
        comm->closed = true;
        return result;
    }
    *out = comm;
    return blocking ? ncclSuccess : ncclInProgress;
}

ncclResult_t ncclCommInitRank(ncclComm_t *out, int nranks, ncclUniqueId id, int rank) {
    return ncclCommInitRankConfig(out, nranks, id, rank, NULL);
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *out,
                           ncclConfig_t *config) {
    bool blocking = known(comm) && comm->blocking;
    MPI_Comm mpi = MPI_COMM_NULL;
    const ncclResult_t ready = swt_emu_nccl_ready(comm);
    if (ready != ncclSuccess)
        return ready;
    if (out == NULL || color < NCCL_SPLIT_NOCOLOR || swt_emu_nccl_in_group() ||
        check_config(config, &blocking) != ncclSuccess)
        return swt_emu_nccl_refuse(comm, ncclInvalidArgument, "split: color %d%s", color,
                                   swt_emu_nccl_in_group() ? ", inside a group" : "");
    swt_emu_host_call("ncclCommSplit");
    *out = NULL;
    if (!all_here(comm->mpi)) {
        swt_emu_nccl_fail(comm, ncclRemoteError, "rank %d: not all ranks split", comm->rank);
        return comm->error;
    }
    if (PMPI_Comm_split(comm->mpi, color == NCCL_SPLIT_NOCOLOR ? MPI_UNDEFINED : color, key,
                        &mpi) != MPI_SUCCESS)
        return swt_emu_nccl_refuse(comm, ncclSystemError, "MPI_Comm_split failed");
    if (mpi == MPI_COMM_NULL || comm->blocking) {
        if (mpi != MPI_COMM_NULL)
            *out = new_comm(mpi, blocking);
    } else {
        comm->part = new_comm(mpi, blocking);
        comm->part_out = out;
    }
    /* As the library does it: success, though it goes on. */
    comm->busy = comm->blocking ? 0 : 2;
    return ncclSuccess;
}

/* ------------------------------------------------------------------ ending them */

static ncclResult_t flush(ncclComm_t comm) {
    double last_ms = swt_emu_nccl_now_ms();
    uint64_t done = comm->done;
    while (comm->done < comm->queued && comm->error == ncclSuccess) {
        (void)swt_emu_poll();
        on_wait();
        if (comm->done != done) {
            done = comm->done;
            last_ms = swt_emu_nccl_now_ms();
        }
        if (swt_emu_nccl_now_ms() - last_ms > 2 * swt_emu_nccl_patience_ms())
            swt_emu_nccl_fail(comm, ncclRemoteError, "rank %d: queued calls do not run",
                              comm->rank);
    }
    return comm->error;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
    const ncclResult_t ready = swt_emu_nccl_ready(comm);
    if (ready != ncclSuccess)
        return ready;
    if (comm->finalized || swt_emu_nccl_in_group())
        return swt_emu_nccl_refuse(comm, ncclInvalidUsage, "finalized %s",
                                   comm->finalized ? "twice" : "inside a group: it is not ended");
    comm->finalized = true;
    if (comm->blocking)
        return flush(comm);
    comm->busy = 2;
    return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    if (!known(comm))
        return NO_COMM();
    if (swt_emu_nccl_in_group())
        return swt_emu_nccl_refuse(comm, ncclInvalidUsage,
                                   "destroyed inside a group: it is not ended");
    const ncclResult_t result = flush(comm);
    comm->closed = true;
    if (result == ncclSuccess)
        (void)PMPI_Comm_free(&comm->mpi);
    return result;
}

void swt_emu_nccl_check_aborts(void) {
    for (const struct ncclComm *c = comms; c != NULL; c = c->next)
        if (swt_emu_nccl_now_ms() < c->until_ms)
            swt_emu_stop("the process ends while NCCL aborts a communicator: wait until its stream "
                         "is done, but not for ever");
}

/* The real one waits for the communicator's own kernels, which may be queued behind those of
 * another that nobody has aborted: several are aborted as one group. Without blocking it goes on in
 * a thread of its own. MPI's side of what is under way is left as it is: it cannot be called back.
 */
ncclResult_t ncclCommAbort(ncclComm_t comm) {
    if (!known(comm))
        return NO_COMM();
    for (const struct ncclComm *c = comms; c != NULL; c = c->next)
        if (c != comm && !c->closed && c->done < c->queued && !swt_emu_nccl_in_group())
            swt_emu_stop("ncclCommAbort waits for another communicator's work for ever: abort both "
                         "in one group");
    comm->closed = true;
    if (!comm->blocking && comm->done < comm->queued)
        comm->until_ms = swt_emu_nccl_now_ms() + ABORT_MS;
    swt_emu_nccl_drop_group(comm);
    (void)swt_emu_poll();
    return ncclSuccess;
}
