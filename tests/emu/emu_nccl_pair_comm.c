/* The emulated NCCL of two processes: its communicators. Rank 0 listens under a name that the
 * unique id tells, rank 1 connects; a part that is split off has a socket of its own. */
#include "tests/emu/emu.h"
#include "tests/emu/emu_nccl_pair.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_S = 60 };

ncclResult_t swt_emu_pair_refuse(ncclResult_t result, const char *why) {
    fprintf(stderr, "emulated NCCL: %s\n", why);
    return result;
}

const char *ncclGetErrorString(ncclResult_t result) {
    return result == ncclSuccess         ? "no error"
           : result == ncclInvalidUsage  ? "invalid usage"
           : result == ncclRemoteError   ? "remote process exited"
           : result == ncclInternalError ? "internal error"
                                         : "error";
}

const char *ncclGetLastError(ncclComm_t comm) {
    (void)comm;
    return "";
}

/* SWT_EMU_NCCL_VERSION: as if the library were another one than the header's. */
ncclResult_t ncclGetVersion(int *version) {
    const char *const other = getenv("SWT_EMU_NCCL_VERSION");
    *version = other != NULL ? (int)strtol(other, NULL, 10) : NCCL_VERSION_CODE;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    static int number;
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "swt-emu-%ld-%d", (long)getpid(), number++);
    return ncclSuccess;
}

static void on_wait(void) {
    nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

/* ------------------------------------------------------------------ making them */

/* A socket to the other rank, under this name; -1. */
static int meet(const char *name, int rank) {
    struct sockaddr_un at = {.sun_family = AF_UNIX}; /* sun_path[0] = 0: a name, and no file */
    memcpy(at.sun_path + 1, name, strlen(name));
    const socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
    const struct timeval patience = {.tv_sec = PATIENCE_S};
    const int own = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(own, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (rank == 0) {
        int end = -1;
        if (bind(own, (const struct sockaddr *)&at, bytes) == 0 && listen(own, 1) == 0)
            end = accept(own, NULL, NULL);
        (void)close(own);
        return end;
    }
    for (int tries = 0; tries < PATIENCE_S * 1000; tries++) {
        if (connect(own, (const struct sockaddr *)&at, bytes) == 0)
            return own;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    (void)close(own);
    return -1;
}

/* What a rank says when a communicator is made or split. */
typedef struct greeting {
    int device, color, key;
} greeting;

static bool greet(int end, const greeting *own, greeting *peer) {
    return end >= 0 && send(end, own, sizeof *own, MSG_NOSIGNAL) == (ssize_t)sizeof *own &&
           recv(end, peer, sizeof *peer, MSG_WAITALL) == (ssize_t)sizeof *peer;
}

static ncclComm_t new_comm(int end, int rank, int size, const char *name) {
    ncclComm_t comm = calloc(1, sizeof *comm); /* never freed: queued work may know it */
    if (comm == NULL)
        swt_emu_stop("nccl: no memory for a communicator");
    *comm = (struct ncclComm){.end = end, .rank = rank, .size = size, .busy = 2};
    snprintf(comm->name, sizeof comm->name, "%s", name);
    swt_emu_on_wait(on_wait);
    return comm;
}

/* The experiment of 2.30, without which ranks share no GPU. */
static bool shares_gpus(void) {
    const char *const wanted = getenv("NCCL_MULTI_RANK_GPU_ENABLE");
    int version = 0;
    (void)ncclGetVersion(&version);
    return wanted != NULL && strtol(wanted, NULL, 10) != 0 && version >= NCCL_VERSION(2, 30, 0);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int nranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *config) {
    struct cudaDeviceProp gpu = {0};
    greeting own = {0}, peer = {0};
    int device = 0;
    if (nranks < 1 || nranks > 2 || rank < 0 || rank >= nranks || config == NULL ||
        config->blocking != 0)
        return swt_emu_pair_refuse(ncclInvalidArgument,
                                   "one or two ranks without blocking are emulated without MPI");
    (void)cudaGetDevice(&device);
    (void)cudaGetDeviceProperties(&gpu, device);
    own.device = gpu.pciBusID;
    id.internal[sizeof((ncclComm_t)NULL)->name - 1] = '\0';
    const int end = nranks > 1 ? meet(id.internal, rank) : -1;
    if (nranks > 1 && !greet(end, &own, &peer))
        return swt_emu_pair_refuse(ncclRemoteError, "the other rank has not come");
    if (nranks > 1 && own.device == peer.device && !shares_gpus())
        return swt_emu_pair_refuse(ncclInvalidUsage, "Duplicate GPU detected");
    *out = new_comm(end, rank, nranks, id.internal);
    return ncclInProgress;
}

/* As the library does it: success, though it goes on. */
ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *out,
                           ncclConfig_t *config) {
    const greeting own = {.color = color, .key = key};
    greeting peer = {0};
    char name[sizeof comm->name];
    (void)config;
    if (comm->busy > 0 || comm->error != ncclSuccess || comm->size != 2)
        return swt_emu_pair_refuse(ncclInvalidUsage, "a split while the communicator is busy");
    snprintf(name, sizeof name, "%.40s/%d", comm->name, comm->splits++);
    const int end = meet(name, comm->rank);
    if (!greet(end, &own, &peer))
        return swt_emu_pair_refuse(ncclRemoteError, "the other rank does not split");
    const bool together = color == peer.color && color != NCCL_SPLIT_NOCOLOR;
    const bool second = comm->rank == 0 ? key > peer.key : key >= peer.key;
    const int rank = together && second;
    *out = NULL;
    if (!together)
        (void)close(end);
    if (color != NCCL_SPLIT_NOCOLOR) {
        comm->part = new_comm(together ? end : -1, rank, together ? 2 : 1, name);
        comm->part_out = out;
    }
    comm->busy = 2;
    return ncclSuccess;
}

/* ------------------------------------------------------------------ asking and ending them */

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error) {
    (void)swt_emu_poll(); /* the GPU goes on by itself */
    *error = comm->error;
    if (comm->error != ncclSuccess)
        return ncclSuccess;
    if (comm->busy > 0 || (comm->finalized && comm->done < comm->queued))
        *error = ncclInProgress;
    comm->busy -= comm->busy > 0;
    if (comm->busy == 0 && comm->part_out != NULL) { /* the new handle comes last */
        *comm->part_out = comm->part;
        comm->part_out = NULL;
    }
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
    comm->finalized = true;
    return ncclInProgress;
}

static ncclResult_t close_comm(ncclComm_t comm) {
    comm->closed = true;
    if (comm->end >= 0)
        (void)close(comm->end);
    comm->end = -1;
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    if (comm->done < comm->queued)
        return swt_emu_pair_refuse(ncclInvalidUsage, "destroyed before it was finalized");
    return close_comm(comm);
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
    return close_comm(comm);
}
