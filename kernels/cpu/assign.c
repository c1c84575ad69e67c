/* Slots for tokens. Groups choose their kept tokens independently, one part each; a last pass in
 * token order numbers them. */
#include "kernels/cpu/router.h"

#include <string.h>

typedef struct assign_args {
    const swt_moe_dims *dims;
    const swt_step_state *state;
    const int32_t *expert; /* (N, k) */
    const float *gate;     /* (N, k) */
    int32_t *slot;         /* (N, k): until the last pass 0 = kept, -1 = not */
    int32_t *counts;       /* (G, E) */
    uint64_t *keys;        /* (N, k): the group's overfull experts' tokens, expert by expert */
    int32_t *ends;         /* (G, E): where an expert's keys end in its group's part of keys */
} assign_args;

/* The upper half of a sort key: what comes first is kept. */
static uint32_t rank_word(const assign_args *a, int64_t item) {
    const swt_moe_dims *d = a->dims;
    switch (d->drop) {
    case SWT_DROP_POSITION:
        return 0;
    case SWT_DROP_PRIORITY: {
        const float gate = a->gate[item] + 0.0f; /* -0 becomes +0 */
        uint32_t bits;
        memcpy(&bits, &gate, sizeof bits);
        if (gate != gate)
            return UINT32_MAX;
        return bits >> 31 ? bits : bits ^ 0x7fffffffu; /* the order of -gate */
    }
    case SWT_DROP_RANDOM:
        return d->training ? swt_rng(a->state->seed, (uint32_t)item, d->micro_batch,
                                     (uint32_t)a->state->step, SWT_RNG_DROP, d->layer)
                                 .v[0]
                           : swt_rng(a->state->seed, (uint32_t)item, d->micro_batch, 0,
                                     SWT_RNG_DROP_EVAL, d->layer)
                                 .v[0];
    }
    return 0;
}

/* A bound below which lie exactly `want` of the n distinct keys, want < n: found byte by byte from
 * the top, no further than it takes. */
static uint64_t key_bound(const uint64_t *keys, int64_t n, int64_t want) {
    uint64_t prefix = 0, known = 0;
    if (want == 0)
        return 0;
    for (int shift = 56; shift >= 0; shift -= 8) {
        int64_t histogram[256] = {0};
        for (int64_t i = 0; i < n; i++)
            if ((keys[i] & known) == prefix)
                histogram[keys[i] >> shift & 255]++;
        uint64_t byte = 0;
        while (want > histogram[byte])
            want -= histogram[byte++];
        prefix |= byte << shift;
        known |= UINT64_C(255) << shift;
        if (want == histogram[byte])
            break;
    }
    return (prefix | ~known) + 1;
}

/* Collect the keys of the group's overfull experts, and drop what is beyond each one's bound. */
static void drop_excess(const assign_args *a, int64_t g, int64_t first, int64_t items) {
    const swt_moe_dims *d = a->dims;
    const int32_t *counts = a->counts + g * d->E;
    int32_t *ends = a->ends + g * d->E;
    uint64_t *keys = a->keys + first;
    int32_t start = 0;
    for (int64_t e = 0; e < d->E; e++) {
        ends[e] = start;
        start += counts[e] > d->group_capacity ? counts[e] : 0;
    }
    for (int64_t item = first; item < first + items; item++) {
        const int32_t e = a->expert[item];
        if (e >= 0 && counts[e] > d->group_capacity)
            keys[ends[e]++] = (uint64_t)rank_word(a, item) << 32 | (uint64_t)item;
    }
    for (int64_t e = 0; e < d->E; e++) {
        if (counts[e] <= d->group_capacity)
            continue;
        const uint64_t *own = keys + ends[e] - counts[e];
        const uint64_t bound = key_bound(own, counts[e], d->group_capacity);
        for (int64_t i = 0; i < counts[e]; i++)
            if (own[i] >= bound)
                a->slot[own[i] & UINT32_MAX] = -1;
    }
}

static void assign_group(const void *args, int64_t g) {
    const assign_args *a = args;
    const swt_moe_dims *d = a->dims;
    const int64_t items = d->N / d->G * d->k, first = g * items;
    int32_t *counts = a->counts + g * d->E;
    memset(counts, 0, (size_t)d->E * sizeof *counts);
    for (int64_t item = first; item < first + items; item++) {
        const int32_t e = a->expert[item];
        a->slot[item] = e >= 0 ? 0 : -1;
        if (e >= 0)
            counts[e]++;
    }
    drop_excess(a, g, first, items);
}

int64_t swt_cpu_assign_scratch_bytes(const swt_moe_dims *dims) {
    return swt_cpu_scratch_align(dims->N * dims->k * (int64_t)sizeof(uint64_t)) +
           dims->G * dims->E * (int64_t)sizeof(int32_t);
}

swt_status swt_cpu_router_assign(const swt_ctx *c, int32_t *slot, int32_t *kept, int32_t *counts,
                                 const int32_t *expert, const float *gate, void *scratch,
                                 const swt_moe_dims *dims) {
    char *memory = scratch;
    const int64_t items = dims->N * dims->k;
    const assign_args a = {
        .dims = dims,
        .state = c->state,
        .expert = expert,
        .gate = gate,
        .slot = slot,
        .counts = counts,
        .keys = scratch,
        .ends = (void *)(memory + swt_cpu_scratch_align(items * (int64_t)sizeof(uint64_t)))};
    swt_cpu_run_parts(c, dims->G, assign_group, &a);
    memset(kept, 0, (size_t)dims->E * sizeof *kept);
    for (int64_t item = 0; item < items; item++)
        if (slot[item] == 0)
            slot[item] = kept[expert[item]]++;
    return SWT_OK;
}
