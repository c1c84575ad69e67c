/* Slots for tokens. Groups choose their kept tokens independently, one part each; a last pass in
 * token order numbers them. */
#include "kernels/cpu/cpu.h"
#include "kernels/router_scratch.h"

#include <string.h>

/* (N, k), in scratch: the group's overfull experts' tokens, expert by expert. */
static uint64_t *keys_of(const swt_router_assign_args *a) {
    return (void *)((char *)a->scratch + swt_router_scratch_of(&a->dims).cpu.keys);
}

/* (G, E), in scratch: where an expert's keys end in its group's part of keys. */
static int32_t *ends_of(const swt_router_assign_args *a) {
    return (void *)((char *)a->scratch + swt_router_scratch_of(&a->dims).cpu.ends);
}

/* The upper half of a sort key: what comes first is kept. */
static uint32_t rank_word(const swt_step_state *state, const swt_router_assign_args *a,
                          int64_t item) {
    const swt_moe_dims *d = &a->dims;
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
        return d->training ? swt_rng(state->seed, (uint32_t)item, d->micro_batch,
                                     (uint32_t)state->step, SWT_RNG_DROP, d->block)
                                 .v[0]
                           : swt_rng(state->seed, (uint32_t)item, d->micro_batch, 0,
                                     SWT_RNG_DROP_EVAL, d->block)
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
static void drop_excess(const swt_step_state *state, const swt_router_assign_args *a, int64_t g,
                        int64_t first, int64_t items) {
    const swt_moe_dims *d = &a->dims;
    const int32_t *counts = a->group_counts + g * d->E;
    int32_t *ends = ends_of(a) + g * d->E;
    uint64_t *keys = keys_of(a) + first;
    int32_t start = 0;
    for (int64_t e = 0; e < d->E; e++) {
        ends[e] = start;
        start += counts[e] > d->group_capacity ? counts[e] : 0;
    }
    for (int64_t item = first; item < first + items; item++) {
        const int32_t e = a->expert[item];
        if (e >= 0 && counts[e] > d->group_capacity)
            keys[ends[e]++] = (uint64_t)rank_word(state, a, item) << 32 | (uint64_t)item;
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

/* Until all groups are done slot is 0 for a token that is kept, else -1. */
static void assign_group(const swt_ctx *c, const void *args, int64_t g) {
    const swt_router_assign_args *a = args;
    const swt_moe_dims *d = &a->dims;
    const int64_t items = d->N / d->G * d->k, first = g * items;
    int32_t *counts = a->group_counts + g * d->E;
    memset(counts, 0, (size_t)d->E * sizeof *counts);
    for (int64_t item = first; item < first + items; item++) {
        const int32_t e = a->expert[item];
        a->slot[item] = e >= 0 ? 0 : -1;
        if (e >= 0)
            counts[e]++;
    }
    drop_excess(c->state, a, g, first, items);
}

swt_status swt_cpu_router_assign(const swt_ctx *c, const swt_router_assign_args *a) {
    swt_cpu_run(c, a->dims.G, assign_group, a);
    memset(a->kept_counts, 0, (size_t)a->dims.E * sizeof *a->kept_counts);
    for (int64_t item = 0; item < a->dims.N * a->dims.k; item++)
        if (a->slot[item] == 0)
            a->slot[item] = a->kept_counts[a->expert[item]]++;
    return SWT_OK;
}
