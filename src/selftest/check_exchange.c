/* Dispatch, combine and the experts against the oracle. Slots that are not occupied hold zeros
 * where an operation reads them, and are not looked at where it writes: they mean nothing. */
#include "kernels/swt_positional.h"
#include "selftest/checks.h"
#include "selftest/routing.h"

#include <math.h>
#include <string.h>

enum { CASES = 12, WIDTH = 130 };

/* A layer whose experts, gates and slots are given; some tokens are not routed, some dropped. */
static swt_routing draw_layer(swt_trial *t, int number) {
    const int64_t N = swt_trial_size(t, WIDTH), E = swt_trial_size(t, 16);
    swt_routing r = {.dims = swt_oracle_moe_dims(N, swt_trial_size(t, WIDTH), E)};
    swt_moe_dims *d = &r.dims;
    d->group_capacity = d->K = swt_trial_choose(t, 0, (int)(2 * N / E + 1));
    d->dropped_output = number & 1 ? SWT_DROPPED_GATED_INPUT : SWT_DROPPED_ZERO;
    d->gate = number & 2 ? SWT_GATE_UNIT : SWT_GATE_SCALE;
    swt_trial_begin(t, "N=%lld C=%lld E=%lld K=%lld gated_input=%d unit=%d", (long long)N,
                    (long long)d->C, (long long)E, (long long)d->K, d->dropped_output, d->gate);
    r.h = swt_trial_uniform(t, N * d->C, -1, 1);
    r.gate = swt_trial_uniform(t, N, 0.1, 1);
    r.expert = swt_trial_integers(t, N, -1, (int)E - 1);
    for (int64_t n = 0; n < N; n++)
        r.gate[n] *= r.expert[n] < 0 ? 0 : 1;
    swt_routing_assigned(t, &r);
    return r;
}

/* Random numbers in the occupied slots (E, K, width), zeros in the others. */
static float *draw_slots(swt_trial *t, const swt_routing *r, int64_t width) {
    const swt_moe_dims *d = &r->dims;
    float *x = swt_trial_uniform(t, d->E * d->K * width, -1, 1);
    for (int64_t i = 0; i < d->E * d->K * width; i++)
        if (i / width % d->K >= r->kept[i / width / d->K])
            x[i] = 0;
    return x;
}

static int64_t slot_of(const swt_routing *r, int64_t n) {
    return r->expert[n] * r->dims.K + r->slot[n];
}

/* The round of slots first_slot ... of a dispatch. */
static swt_status dispatch_round(swt_trial *t, const swt_routing *r, int64_t first_slot) {
    const swt_moe_dims *d = &r->dims;
    const int64_t K = d->K, C = d->C;
    float *send = swt_trial_out(t, d->E * K * C, SWT_F32);
    int32_t *counts = swt_trial_out(t, d->E, SWT_I32);
    SWT_TRIAL_RUN(t, pos_dispatch_forward(&t->ctx, TWIN(send), TWIN(counts), TWIN(r->h),
                                          TWIN(r->expert), TWIN(r->slot), TWIN(r->kept), d,
                                          first_slot));
    for (int64_t e = 0; e < d->E; e++) {
        const int64_t left = r->kept[e] - first_slot;
        swt_trial_number(t, "send_counts", counts[e],
                         (double)(left < 0   ? 0
                                  : left < K ? left
                                             : K),
                         0);
    }
    for (int64_t n = 0; n < d->N; n++)
        if (r->slot[n] >= first_slot && r->slot[n] < first_slot + K)
            swt_trial_same(t, "send", send + (slot_of(r, n) - first_slot) * C, r->h + n * C, C,
                           SWT_F32);
    return SWT_OK;
}

swt_status swt_selftest_dispatch_forward(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        swt_routing r = draw_layer(t, i);
        SWT_TRY(dispatch_round(t, &r, 0));
        if (r.dims.K < 2)
            continue;
        r.dims.K = r.dims.K / 2; /* in rounds, as in a dropless evaluation */
        for (int64_t first = 0; first < r.dims.group_capacity; first += r.dims.K)
            SWT_TRY(dispatch_round(t, &r, first));
    }
    return SWT_OK;
}

swt_status swt_selftest_dispatch_backward(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        const swt_routing r = draw_layer(t, i);
        const swt_moe_dims *d = &r.dims;
        const float *dsend = draw_slots(t, &r, d->C), *dot = draw_slots(t, &r, 1);
        const float *old = swt_trial_uniform(t, d->N * d->C, -1, 1);
        float *dh = swt_trial_copy(t, old, d->N * d->C, SWT_F32);
        float *dgate = swt_trial_copy(t, old, d->N, SWT_F32);
        SWT_TRIAL_RUN(t,
                      pos_dispatch_backward(&t->ctx, TWIN(dh), TWIN(dgate), TWIN(dsend), TWIN(dot),
                                            TWIN(r.expert), TWIN(r.gate), TWIN(r.slot), d));
        double *want = swt_trial_widen(t, old, d->N * d->C),
               *want_gate = swt_trial_widen(t, old, d->N);
        for (int64_t n = 0; n < d->N; n++) {
            if (r.slot[n] < 0)
                continue;
            want_gate[n] = (double)dot[slot_of(&r, n)] / (double)r.gate[n];
            for (int64_t k = 0; k < d->C; k++)
                want[n * d->C + k] += (double)dsend[slot_of(&r, n) * d->C + k];
        }
        /* One rounding of a sum of two, and of a quotient of at most 10. */
        for (int64_t k = 0; k < d->N * d->C; k++)
            swt_trial_number(t, "dh", (double)dh[k], want[k], 2 * SWT_ROUNDING);
        for (int64_t n = 0; n < d->N; n++)
            swt_trial_number(t, "dgate", (double)dgate[n], want_gate[n],
                             3 * SWT_ROUNDING * (0.1 + fabs(want_gate[n])));
    }
    return SWT_OK;
}

static swt_status combine_round(swt_trial *t, const swt_routing *r, float *y, double *want,
                                const float *residual, const float *recv, int64_t first_slot) {
    const swt_moe_dims *d = &r->dims;
    const int64_t NC = d->N * d->C;
    SWT_TRIAL_RUN(t, pos_combine_forward(&t->ctx, TWIN(y), TWIN(residual), TWIN(recv), TWIN(r->h),
                                         TWIN(r->expert), TWIN(r->gate), TWIN(r->slot), d,
                                         first_slot));
    swt_oracle_combine_forward(want, swt_trial_widen(t, residual, NC),
                               swt_trial_widen(t, recv, d->E * d->K * d->C),
                               swt_trial_widen(t, r->h, NC), r->expert,
                               swt_trial_widen(t, r->gate, d->N), r->slot, d, first_slot);
    return SWT_OK;
}

/* In place, or in two rounds. */
static swt_status combine_case(swt_trial *t, swt_routing *r, bool in_place) {
    swt_moe_dims *d = &r->dims;
    const int64_t NC = d->N * d->C;
    const float *original = swt_trial_uniform(t, NC, -1, 1);
    float *y = in_place ? swt_trial_copy(t, original, NC, SWT_F32) : swt_trial_out(t, NC, SWT_F32);
    double *want = swt_trial_doubles(t, NC);
    if (in_place || d->K < 2) {
        const float *recv = draw_slots(t, r, d->C);
        SWT_TRY(combine_round(t, r, y, want, original, recv, 0));
    } else {
        d->K = (d->K + 1) / 2;
        for (int64_t first = 0; first < d->group_capacity; first += d->K) {
            const float *recv = swt_trial_uniform(t, d->E * d->K * d->C, -1, 1);
            SWT_TRY(combine_round(t, r, y, want, original, recv, first));
        }
    }
    /* A product and a sum of numbers below 1: two roundings at most. */
    for (int64_t i = 0; i < NC; i++)
        swt_trial_number(t, "y", (double)y[i], want[i], 3 * SWT_ROUNDING);
    for (int64_t n = 0; n < d->N; n++)
        if (r->expert[n] < 0 || (r->slot[n] < 0 && d->dropped_output == SWT_DROPPED_ZERO))
            swt_trial_same(t, "y without an output", y + n * d->C, original + n * d->C, d->C,
                           SWT_F32);
    return SWT_OK;
}

swt_status swt_selftest_combine_forward(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        swt_routing r = draw_layer(t, i);
        SWT_TRY(combine_case(t, &r, i / 4 % 2));
    }
    return SWT_OK;
}

static swt_status combine_backward_case(swt_trial *t, const swt_routing *r) {
    const swt_moe_dims *d = &r->dims;
    const int64_t NC = d->N * d->C, slots = d->E * d->K;
    const float *dy = swt_trial_uniform(t, NC, -1, 1), *recv = draw_slots(t, r, d->C);
    float *drecv = swt_trial_out(t, slots * d->C, SWT_F32),
          *dgate = swt_trial_out(t, d->N, SWT_F32), *dh = swt_trial_out(t, NC, SWT_F32);
    SWT_TRIAL_RUN(t, pos_combine_backward(&t->ctx, TWIN(drecv), TWIN(dgate), TWIN(dh), TWIN(dy),
                                          TWIN(r->h), TWIN(r->expert), TWIN(r->gate), TWIN(r->slot),
                                          d));
    double *want = swt_trial_doubles(t, slots * d->C), *want_gate = swt_trial_doubles(t, d->N),
           *want_dh = swt_trial_doubles(t, NC);
    swt_oracle_combine_backward(want, want_gate, want_dh, swt_trial_widen(t, dy, NC),
                                swt_trial_widen(t, recv, slots * d->C),
                                swt_trial_widen(t, r->h, NC), r->expert,
                                swt_trial_widen(t, r->gate, d->N), r->slot, d);
    swt_trial_close(t, "dh", dh, want_dh, NC, SWT_ROUNDING, 1); /* one product */
    /* dgate of a dropped token: a dot product of C terms of size 1/3, over a gate of 0.1 or more;
     * that of a kept one is the expert's to make. */
    const double dot = 4 * sqrt((double)d->C) * SWT_ROUNDING * (1 + swt_sum_size(d->C));
    for (int64_t n = 0; n < d->N; n++)
        if (r->slot[n] < 0)
            swt_trial_number(t, "dgate", (double)dgate[n], want_gate[n],
                             8 * dot * (d->gate == SWT_GATE_UNIT ? 10 : 1));
        else
            for (int64_t k = 0; k < d->C; k++)
                swt_trial_number(t, "drecv", (double)drecv[slot_of(r, n) * d->C + k],
                                 want[slot_of(r, n) * d->C + k], SWT_ROUNDING);
    return SWT_OK;
}

swt_status swt_selftest_combine_backward(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        const swt_routing r = draw_layer(t, i);
        SWT_TRY(combine_backward_case(t, &r));
    }
    return SWT_OK;
}
