/* Which processor a rank works on: the CPU, or a GPU that it has for itself. Ranks of a node take
 * its GPUs in order, or what the job's launcher shows to each. All ranks do the same: one without a
 * GPU would hold up the others. */
#include "train/session.h"

#include "base/checked.h"
#include "base/cores.h"
#include "base/words.h"
#include "kernels/swt_threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Collective: *ordinal = this rank's GPU among those it sees: the one of its number on the node, or
 * the one that was given to it alone. Errors: USAGE where it has none, or shares it with a rank
 * though NCCL is not told to allow it. */
static swt_status choose_gpu(swt_session *s, int *ordinal) {
    const int size = s->world->size, rank = s->world->rank;
    int local_rank = 0, local_size = 1, gpus = 0, other = -1;
    SWT_TRY(swt_comm_node(s->world, &local_rank, &local_size));
    swt_identity own = {{0}}, *all = calloc((size_t)size, sizeof *all);
    if (all == NULL)
        return SWT_FAIL(MEMORY, "memory: no room for a list of %d rank%s", size, swt_plural(size));
    swt_status status = swt_cuda_backend.count(&gpus);
    if (status == SWT_OK) {
        *ordinal = local_rank % gpus;
        status = swt_cuda_backend.identify(*ordinal, &own);
    }
    const swt_status gathered = swt_comm_all_gather(s->world, all, &own, sizeof own, NULL);
    for (int r = 0; r < size && status == SWT_OK && gathered == SWT_OK; r++)
        if (r != rank && memcmp(&all[r], &own, sizeof own) == 0)
            other = r;
    free(all);
    SWT_TRY(gathered);
    SWT_TRY(status);
    if (other >= 0 && swt_comm_nccl_shares_gpus())
        swt_warn(&s->warnings,
                 "%d ranks share %d GPU%s, because NCCL_MULTI_RANK_GPU_ENABLE is set: for tests "
                 "alone; unset it",
                 local_size, gpus, swt_plural(gpus));
    else if (other >= 0)
        return SWT_FAIL(USAGE,
                        "--device cuda: %d ranks on a node with %d GPU%s, and rank %d has the GPU "
                        "of rank %d; start at most one rank for each GPU of a node, or use "
                        "--device cpu",
                        local_size, gpus, swt_plural(gpus), other, rank);
    return SWT_OK;
}

/* s->no_gpu of all ranks = why the lowest rank without a GPU has none; "" if all have one. */
static swt_status share_reason(swt_session *s, swt_status own) {
    const int size = s->world->size, rank = s->world->rank;
    int64_t distance = 0; /* of that rank from the end */
    SWT_TRY(swt_comm_max(s->world, own == SWT_OK ? 0 : size - rank, &distance));
    if (distance == 0)
        return SWT_OK;
    const int root = size - (int)distance;
    if (rank == root) {
        static const char asked[] = "--device cuda: ";
        const char *why = swt_last_error()->message; /* without its beginning and its advice */
        if (strncmp(why, asked, sizeof asked - 1) == 0)
            why += sizeof asked - 1;
        char prefix[32] = "";
        if (rank > 0)
            snprintf(prefix, sizeof prefix, "rank %d: ", rank);
        snprintf(s->no_gpu, sizeof s->no_gpu, "%s%.*s", prefix, (int)strcspn(why, ";"), why);
    }
    return swt_comm_broadcast(s->world, s->no_gpu, sizeof s->no_gpu, root, NULL);
}

/* Collective: every rank has opened a GPU and s->backend says so, or none has and s->no_gpu says
 * why. Errors: of --device cuda, USAGE and MEMORY. */
static swt_status try_gpus(swt_session *s, int threads) {
    int ordinal = 0;
    swt_status own = choose_gpu(s, &ordinal);
    if (own == SWT_OK)
        own = swt_cuda_backend.open(&s->device, ordinal, threads);
    if (s->options->run_device == SWT_DEVICE_CUDA)
        SWT_TRY(swt_comm_agree(s->world, own));
    else
        SWT_TRY(share_reason(s, own));
    if (s->no_gpu[0] != '\0')
        swt_device_close(&s->device);
    else
        s->backend = &swt_cuda_backend;
    return SWT_OK;
}

/* The cores that this rank may use, divided among the ranks that share them. */
static swt_status count_cores(swt_session *s) {
    swt_cores own;
    const int size = s->world->size;
    (void)swt_cores_allowed(&own);
    swt_cores *all = calloc((size_t)size, sizeof *all);
    if (all == NULL)
        return SWT_FAIL(MEMORY, "memory: no room for a list of %d rank%s", size, swt_plural(size));
    swt_status status = swt_comm_all_gather(s->world, all, &own, sizeof own, NULL);
    s->cores = swt_cores_share(&own, all, size);
    free(all);
    return status;
}

/* run.threads, or as many as this rank has cores; OpenMP's own limits hold in any case. */
static swt_status count_threads(swt_session *s, int *threads) {
    const char *limit = NULL;
    SWT_TRY(count_cores(s));
    const int64_t wanted = s->options->run_threads != 0 ? s->options->run_threads : s->cores;
    *threads = (int)swt_threads_limit(wanted, s->options->run_threads != 0, &limit);
    if (limit != NULL)
        swt_warn(&s->warnings, "%d thread%s, because %s says so, where %lld %s; unset it", *threads,
                 swt_plural(*threads), limit, (long long)wanted,
                 s->options->run_threads != 0 ? "were asked for" : "cores are free");
    return SWT_OK;
}

/* Ranks whose bits are not each other's: the layout decides over the numbers then. */
static swt_status compare_arithmetic(swt_session *s) {
    char own[SWT_ARITHMETIC_BYTES] = "";
    memcpy(own, s->device.arithmetic, sizeof own);
    const int size = s->world->size;
    char(*all)[SWT_ARITHMETIC_BYTES] = calloc((size_t)size, sizeof *all);
    if (all == NULL)
        return SWT_FAIL(MEMORY, "memory: no room for a list of %d rank%s", size, swt_plural(size));
    const swt_status status = swt_comm_all_gather(s->world, all, own, sizeof own, NULL);
    int other = 0;
    while (status == SWT_OK && other < size && strcmp(all[other], own) == 0)
        other++;
    if (status == SWT_OK && other < size)
        swt_warn(&s->warnings,
                 "rank %d works as %s and rank %d as %s, so the numbers depend on which rank does "
                 "what; set SWT_ISA=avx2, say, for all",
                 s->world->rank, own, other, all[other]);
    free(all);
    return status;
}

swt_status swt_session_open_device(swt_session *s) {
    const int choice = s->options->run_device;
    int threads = 1;
    s->backend = &swt_cpu_backend;
    s->devices = s->world;
    SWT_TRY(count_threads(s, &threads));
    if (choice == SWT_DEVICE_CUDA || (choice == SWT_DEVICE_AUTO && swt_cuda_backend.ops != NULL))
        SWT_TRY(try_gpus(s, threads));
    swt_status status = SWT_OK;
    if (s->backend == &swt_cpu_backend)
        status = swt_cpu_backend.open(&s->device, 0, threads);
    if (status == SWT_OK)
        status = swt_stream_create(&s->device, &s->stream);
    SWT_TRY(swt_comm_agree(s->world, status));
    s->device.warnings = &s->warnings;
    SWT_TRY(compare_arithmetic(s));
    if (s->backend == &swt_cpu_backend)
        return SWT_OK;
    s->devices = &s->gpu_world;
    return swt_comm_open_nccl(&s->gpu_world, s->world, &s->device);
}
