#include "model/shards.h"

#include <stdlib.h>

/* Shared tensors are on every rank, an expert's on one of each expert group. */
static int choose_owner(const swt_shards *s, const swt_param *p, const swt_dist *dist) {
    const int first = swt_param_holder(p, dist);
    const int stride = p->expert >= 0 ? dist->P : 1;
    int owner = first;
    for (int rank = first; rank < s->size; rank += stride)
        if (s->elements[rank] < s->elements[owner])
            owner = rank;
    return owner;
}

/* Shared tensors stand before all experts'. */
static void list_own(swt_shards *s, const swt_params *params, int rank) {
    for (int experts = 0; experts < 2; experts++)
        for (int64_t i = 0; i < params->count; i++)
            if (s->owner[i] == rank && (params->table[i].expert >= 0) == experts)
                s->own[s->own_count++] = i;
}

swt_status swt_shards_init(swt_shards *out, const swt_params *params, swt_optim_keeps keeps,
                           const swt_dist *dist) {
    *out = (swt_shards){.size = dist->size};
    out->owner = calloc((size_t)params->count + 1, sizeof *out->owner);
    out->elements = calloc((size_t)dist->size, sizeof *out->elements);
    out->kept = calloc((size_t)dist->size, sizeof *out->kept);
    out->own = calloc((size_t)params->count + 1, sizeof *out->own);
    if (out->owner == NULL || out->elements == NULL || out->kept == NULL || out->own == NULL) {
        swt_shards_fini(out);
        return SWT_FAIL(MEMORY, "memory: no room for a list of %lld tensors",
                        (long long)params->count);
    }
    for (int64_t i = 0; i < params->count; i++) {
        out->owner[i] = choose_owner(out, &params->table[i], dist);
        out->elements[out->owner[i]] += params->table[i].count;
        out->kept[out->owner[i]] += swt_optim_count(&params->table[i], keeps);
    }
    for (int rank = 0; rank < out->size; rank++)
        out->writers += out->elements[rank] > 0;
    list_own(out, params, dist->rank);
    return SWT_OK;
}

void swt_shards_fini(swt_shards *s) {
    free(s->owner);
    free(s->elements);
    free(s->kept);
    free(s->own);
    *s = (swt_shards){0};
}
