#include "model/dist.h"

#include "base/checked.h"
#include "base/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "1, 2, 4": the group sizes that `size` ranks and E experts allow. */
static void list_choices(char *out, size_t bytes, int size, int64_t E) {
    size_t used = 0;
    out[0] = '\0';
    for (int p = 1; p <= size && p <= E && used + 16 < bytes; p++)
        if (size % p == 0)
            used += (size_t)snprintf(out + used, bytes - used, used == 0 ? "%d" : ", %d", p);
}

static swt_status choose_group_size(int *out, int size, int64_t E, int64_t expert_ranks) {
    if (expert_ranks == 0) {
        int P = (int)swt_min(size, E);
        while (size % P != 0)
            P--;
        *out = P;
        return SWT_OK;
    }
    if (expert_ranks > E || expert_ranks > size || size % (int)expert_ranks != 0) {
        char choices[256];
        list_choices(choices, sizeof choices, size, E);
        return SWT_FAIL(
            USAGE,
            "dist.expert_ranks: %lld does not divide %d rank%s or exceeds %lld expert%s; "
            "use one of %s (0 = the largest)",
            (long long)expert_ranks, size, swt_plural(size), (long long)E, swt_plural(E), choices);
    }
    *out = (int)expert_ranks;
    return SWT_OK;
}

swt_status swt_dist_init(swt_dist *out, int size, int rank, int64_t E, int64_t expert_ranks) {
    *out = (swt_dist){.size = size, .rank = rank, .E = E};
    SWT_TRY(choose_group_size(&out->P, size, E, expert_ranks));
    out->replica = rank / out->P;
    out->position = rank % out->P;
    out->first = calloc((size_t)out->P + 1, sizeof *out->first);
    if (out->first == NULL)
        return SWT_FAIL(MEMORY, "memory: no room for the list of %d rank%s; use fewer", out->P,
                        swt_plural(out->P));
    const int64_t each = E / out->P, more = E % out->P;
    for (int p = 0; p < out->P; p++)
        out->first[p + 1] = out->first[p] + each + (p < more ? 1 : 0);
    out->first_own = out->first[out->position];
    out->El = out->first[out->position + 1] - out->first_own;
    return SWT_OK;
}

swt_status swt_dist_connect(swt_dist *d, swt_comm *host, swt_comm *devices) {
    SWT_TRY(swt_comm_split(devices, d->replica, d->position, &d->expert_group));
    SWT_TRY(swt_comm_split(devices, d->position, d->replica, &d->replica_group));
    d->expert_group.world_first = d->replica * d->P;
    d->replica_group.world_first = d->position;
    d->replica_group.world_stride = d->P;
    d->host = host;
    d->devices = devices;
    return SWT_OK;
}

void swt_dist_fini(swt_dist *d) {
    swt_comm_close(&d->replica_group);
    swt_comm_close(&d->expert_group);
    free(d->first);
    *d = (swt_dist){0};
}

int swt_dist_owner(const swt_dist *d, int64_t e) {
    int p = 0;
    while (d->first[p + 1] <= e)
        p++;
    return p;
}

int64_t swt_dist_turns(const swt_dist *d, int64_t M) {
    return swt_ceil_div(M, d->size);
}

int64_t swt_dist_micro_batch(const swt_dist *d, int64_t M, int64_t turn, int rank) {
    const int64_t m = turn * d->size + rank;
    return m < M ? m : -1;
}
