/* Dispatch and combine against the oracle. Slots that are not occupied hold NaN where an operation
 * reads slots: nobody may look at them. Where it writes slots, it leaves them alone, or writes the
 * zeros that a backend's experts need. */
#include "judge/case.h"
#include "judge/oracle.h"

#include <math.h>

enum { WIDTH = 130 };

/* Shapes of a large trial: N, C, E, capacity. */
enum { SHAPES = 11 };
static const int64_t shapes[SHAPES][4] = {
    {4000, 100, 7, 500}, {1, 1, 1, 1},     {130, 64, 16, 130}, {64, 40, 5, 0},
    {0, 8, 3, 2},        {200, 32, 1, 9},  {33, 128, 2, 3},    {300, 65, 8, 20},
    {17, 1, 3, 4},       {128, 17, 4, 50}, {90, 136, 2, 90},
};

/* A layer whose experts, gates and slots are given; some tokens are not routed, some dropped. */
typedef struct layer {
    const int32_t *expert, *slot, *kept_counts;
    const float *gate;
} layer;

/* K is the capacity; in rounds of an exchange it is half of it. */
static layer draw_layer(swt_case *k, swt_moe_dims *d, bool rounds) {
    const int64_t *large = shapes[k->number % SHAPES];
    const bool is_large = k->t->large;
    *d = swt_oracle_moe_dims(1, 1, 1);
    swt_case_dim(k, "N", &d->N, is_large ? large[0] : swt_trial_size(k->t, WIDTH));
    swt_case_dim(k, "C", &d->C, is_large ? large[1] : swt_trial_size(k->t, WIDTH));
    swt_case_dim(k, "E", &d->E, is_large ? large[2] : swt_trial_size(k->t, 16));
    d->group_capacity = is_large ? large[3] : swt_trial_choose(k->t, 0, (int)(2 * d->N / d->E + 1));
    swt_case_dim(k, "K", &d->K, rounds ? (d->group_capacity + 1) / 2 : d->group_capacity);
    d->dropped_output = (swt_dropped_output)swt_case_note(k, "gated_input", k->number & 1);
    d->gate = (swt_gate)swt_case_note(k, "unit", k->number >> 1 & 1);
    int32_t *expert = swt_trial_integers(k->t, d->N, -1, (int)d->E - 1),
            *slot = swt_trial_in(k->t, d->N, SWT_I32),
            *kept_counts = swt_trial_in(k->t, d->E, SWT_I32),
            *group_counts = swt_trial_in(k->t, d->E, SWT_I32);
    float *gate = swt_trial_uniform(k->t, d->N, 0.1, 1);
    for (int64_t n = 0; n < d->N; n++)
        gate[n] *= expert[n] < 0 ? 0 : 1;
    swt_oracle_router_assign(slot, kept_counts, group_counts, expert, gate, d, k->t->state->seed,
                             k->t->state->step);
    return (layer){.expert = expert, .slot = slot, .kept_counts = kept_counts, .gate = gate};
}

/* By turns the whole exchange, the first and the second of two rounds. */
enum { WHOLE, FIRST_ROUND, SECOND_ROUND, WHOLE_IN_PLACE, TURNS };

static int turn_of(const swt_case *k) {
    return k->number / 4 % TURNS;
}

static bool in_rounds(const swt_case *k) {
    return turn_of(k) == FIRST_ROUND || turn_of(k) == SECOND_ROUND;
}

static int64_t draw_first_slot(swt_case *k, const swt_moe_dims *d) {
    return swt_case_note(k, "first_slot", turn_of(k) == SECOND_ROUND ? d->K : 0);
}

/* The occupied slots of the round that begins with first_slot, of each expert. */
static int32_t *counts_of_round(swt_case *k, const swt_moe_dims *d, const int32_t *kept_counts,
                                int64_t first_slot) {
    int32_t *send_counts = swt_trial_in(k->t, d->E, SWT_I32);
    for (int64_t e = 0; e < d->E; e++) {
        const int64_t left = kept_counts[e] - first_slot;
        send_counts[e] = (int32_t)(left < 0 ? 0 : left < d->K ? left : d->K);
    }
    return send_counts;
}

void swt_draw_dispatch_forward(swt_case *k, void *args) {
    swt_dispatch_forward_args *a = args;
    const layer l = draw_layer(k, &a->dims, in_rounds(k));
    a->first_slot = draw_first_slot(k, &a->dims);
    a->expert = l.expert;
    a->slot = l.slot;
    a->kept_counts = l.kept_counts;
}

void swt_judge_dispatch_forward(swt_case *k, const void *args) {
    const swt_dispatch_forward_args *a = args;
    const swt_moe_dims *d = &a->dims;
    const swt_dtype dtype = k->t->ctx.dtype;
    const int64_t row_bytes = d->C * (int64_t)swt_dtype_bytes(dtype);
    const int32_t *send_counts = counts_of_round(k, d, a->kept_counts, a->first_slot);
    swt_trial_same(k->t, "send_counts", a->send_counts, send_counts, d->E, SWT_I32);
    for (int64_t n = 0; n < d->N; n++) {
        const int64_t slot = a->slot[n] - a->first_slot;
        if (a->slot[n] >= 0 && slot >= 0 && slot < d->K)
            swt_trial_same(k->t, "send",
                           (const char *)a->send + (a->expert[n] * d->K + slot) * row_bytes,
                           (const char *)a->h + n * row_bytes, d->C, dtype);
    }
    swt_case_empty_slots(k, a->send, send_counts, d->E, d->K, d->C, k->t->ctx.ops->all_slots);
}

void swt_draw_dispatch_backward(swt_case *k, void *args) {
    swt_dispatch_backward_args *a = args;
    const swt_moe_dims *d = &a->dims;
    const layer l = draw_layer(k, &a->dims, false);
    a->expert = l.expert;
    a->gate = l.gate;
    a->slot = l.slot;
    a->dsend = swt_case_slots(k, l.kept_counts, d->E, d->K, d->C, k->t->ctx.dtype, -1, NAN);
    a->dot = swt_case_slots(k, l.kept_counts, d->E, d->K, 1, SWT_F32, -1, NAN);
}

/* A sum of two, as an activation. */
static double sum_of(const swt_case *k, double x, double y) {
    const float sum = (float)x + (float)y;
    return (double)(k->t->ctx.dtype == SWT_BF16 ? swt_bf16_to_float(swt_bf16_from_float(sum))
                                                : sum);
}

/* One rounding of a sum, and of a quotient: exact. */
void swt_judge_dispatch_backward(swt_case *k, const void *args) {
    const swt_dispatch_backward_args *a = args;
    const int64_t K = a->dims.K, C = a->dims.C;
    const double *dsend = swt_case_wide(k, a->dsend), *dh = swt_case_want(k, a->dh),
                 *dgate = swt_case_want(k, a->dgate);
    for (int64_t n = 0; n < a->dims.N; n++) {
        const bool kept = a->slot[n] >= 0;
        const int64_t slot = kept ? a->expert[n] * K + a->slot[n] : 0;
        const double quotient = kept ? (double)(a->dot[slot] / a->gate[n]) : dgate[n];
        swt_case_number(k, a->dgate, n, quotient, 0);
        for (int64_t i = n * C; i < (n + 1) * C; i++)
            swt_case_number(k, a->dh, i, kept ? sum_of(k, dh[i], dsend[slot * C + i % C]) : dh[i],
                            0);
    }
}

void swt_draw_combine_forward(swt_case *k, void *args) {
    swt_combine_forward_args *a = args;
    const swt_moe_dims *d = &a->dims;
    const layer l = draw_layer(k, &a->dims, in_rounds(k));
    /* A residual, or none; which is y itself. */
    k->choices = turn_of(k) == WHOLE_IN_PLACE ? 3 : k->number < 12;
    a->first_slot = draw_first_slot(k, d);
    a->expert = l.expert;
    a->gate = l.gate;
    a->slot = l.slot;
    a->recv = swt_case_slots(k, counts_of_round(k, d, l.kept_counts, a->first_slot), d->E, d->K,
                             d->C, k->t->ctx.dtype, -1, NAN);
}

/* A product and a sum of numbers below 1: two roundings at most. What the first round writes for
 * tokens of later ones means nothing. */
void swt_judge_combine_forward(swt_case *k, const void *args) {
    const swt_combine_forward_args *a = args;
    const swt_moe_dims *d = &a->dims;
    double *y = swt_case_want(k, a->y);
    swt_oracle_combine_forward(y, swt_case_wide(k, a->residual), swt_case_wide(k, a->recv),
                               swt_case_wide(k, a->h), a->expert, swt_case_wide(k, a->gate),
                               a->slot, d, a->first_slot);
    for (int64_t n = 0; n < d->N; n++) {
        const int64_t slot = a->slot[n] - a->first_slot;
        const bool kept = a->slot[n] >= 0, in_round = kept && slot >= 0 && slot < d->K;
        if (a->first_slot == 0 && kept && !in_round)
            continue;
        const bool gets_input = a->first_slot == 0 && !kept && a->expert[n] >= 0 &&
                                d->dropped_output == SWT_DROPPED_GATED_INPUT;
        for (int64_t i = n * d->C; i < (n + 1) * d->C; i++)
            if (in_round || gets_input)
                swt_case_near(k, a->y, i, y[i], 3 * SWT_ROUNDING);
            else
                swt_case_number(k, a->y, i, y[i], 0);
    }
}

void swt_draw_combine_backward(swt_case *k, void *args) {
    swt_combine_backward_args *a = args;
    const layer l = draw_layer(k, &a->dims, false);
    a->expert = l.expert;
    a->gate = l.gate;
    a->slot = l.slot;
}

/* How many slots of each expert are occupied: they are dense. */
static int32_t *count_slots(swt_case *k, const swt_moe_dims *d, const int32_t *expert,
                            const int32_t *slot) {
    int32_t *kept = swt_trial_in(k->t, d->E, SWT_I32);
    for (int64_t n = 0; n < d->N; n++)
        if (slot[n] >= 0)
            kept[expert[n]]++;
    return kept;
}

/* dh and drecv: one product. dgate of a dropped token: a dot product of C terms of size 1/3, over a
 * gate of 0.1 or more; that of a kept one, for which the oracle needs recv, is not made here. */
void swt_judge_combine_backward(swt_case *k, const void *args) {
    const swt_combine_backward_args *a = args;
    const swt_moe_dims *d = &a->dims;
    const int64_t K = d->K, C = d->C;
    double *drecv = swt_case_want(k, a->drecv), *dh = swt_case_want(k, a->dh),
           *dgate = swt_trial_doubles(k->t, d->N);
    const double *old_dgate = swt_case_want(k, a->dgate);
    swt_oracle_combine_backward(drecv, dgate, dh, swt_case_wide(k, a->dy),
                                swt_trial_doubles(k->t, d->E * K * C), swt_case_wide(k, a->h),
                                a->expert, swt_case_wide(k, a->gate), a->slot, d);
    swt_case_close(k, a->dh, dh, SWT_ROUNDING, 1);
    const double dot = 4 * sqrt((double)C) * SWT_ROUNDING * (1 + swt_sum_size(C));
    const double limit = 8 * dot * (d->gate == SWT_GATE_UNIT ? 10 : 1);
    for (int64_t n = 0; n < d->N; n++) {
        const bool kept = a->slot[n] >= 0;
        const int64_t first = kept ? (a->expert[n] * K + a->slot[n]) * C : 0;
        swt_case_number(k, a->dgate, n, kept ? old_dgate[n] : dgate[n], kept ? 0 : limit);
        for (int64_t i = first; kept && i < first + C; i++)
            swt_case_near(k, a->drecv, i, drecv[i], SWT_ROUNDING);
    }
    swt_case_empty_slots(k, a->drecv, count_slots(k, d, a->expert, a->slot), d->E, K, C,
                         k->t->ctx.ops->all_slots);
}
