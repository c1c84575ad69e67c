/* Dispatch and combine together: the gate's gradient in its two parts, rounds, and the oracle
 * against finite differences. Each operation against the oracle: src/judge/cases_exchange.c.
 * Whole layers and fixtures: test_exchange_layer.c. */
#include "judge/oracle.h"
#include "support/judge.h"

#include <math.h>
#include <string.h>

typedef struct exchange_case {
    int64_t N, C, E, capacity;
    swt_dropped_output dropped_output;
    swt_gate gate;
} exchange_case;

/* A layer with experts, gates and slots already given; some tokens are not routed, some dropped. */
typedef struct exchange_tensors {
    swt_moe_dims dims;
    float *h, *gate, *residual, *recv, *dot, *dy;
    int32_t *expert, *slot, *kept, *counts;
} exchange_tensors;

static const int64_t shapes[][4] = {{1, 1, 1, 1},       {6, 7, 2, 2},    {65, 5, 4, 10},
                                    {130, 64, 16, 130}, {64, 40, 5, 0},  {0, 8, 3, 2},
                                    {200, 32, 1, 9},    {33, 128, 2, 3}, {300, 65, 8, 20},
                                    {17, 1, 3, 4},      {128, 17, 4, 50}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static exchange_case option_case(int64_t shape, int options) {
    const int64_t *s = shapes[shape];
    return (exchange_case){.N = s[0],
                           .C = s[1],
                           .E = s[2],
                           .capacity = s[3],
                           .dropped_output =
                               options & 1 ? SWT_DROPPED_GATED_INPUT : SWT_DROPPED_ZERO,
                           .gate = options & 2 ? SWT_GATE_UNIT : SWT_GATE_SCALE};
}

static exchange_tensors inputs(swt_bed *bed, const exchange_case *c) {
    swt_bed_begin(bed, "exchange N=%lld C=%lld E=%lld capacity=%lld gated_input=%d unit=%d",
                  (long long)c->N, (long long)c->C, (long long)c->E, (long long)c->capacity,
                  c->dropped_output, c->gate);
    exchange_tensors t = {.dims = swt_oracle_moe_dims(c->N, c->C, c->E)};
    t.dims.group_capacity = t.dims.K = c->capacity;
    t.dims.dropped_output = c->dropped_output;
    t.dims.gate = c->gate;
    t.h = swt_bed_uniform(bed, c->N * c->C, -1, 1);
    t.gate = swt_bed_uniform(bed, c->N, 0.1, 1);
    t.expert = swt_bed_integers(bed, c->N, -1, (int)c->E - 1);
    t.slot = swt_bed_in(bed, c->N, SWT_I32);
    t.kept = swt_bed_in(bed, c->E, SWT_I32);
    t.counts = swt_bed_in(bed, c->E, SWT_I32);
    for (int64_t n = 0; n < c->N; n++)
        t.gate[n] *= t.expert[n] < 0 ? 0 : 1;
    swt_oracle_router_assign(t.slot, t.kept, t.counts, t.expert, t.gate, &t.dims, 0, 0);
    t.residual = swt_bed_uniform(bed, c->N * c->C, -1, 1);
    t.recv = swt_bed_uniform(bed, c->E * c->capacity * c->C, -1, 1);
    t.dot = swt_bed_uniform(bed, c->E * c->capacity, -1, 1);
    t.dy = swt_bed_uniform(bed, c->N * c->C, -1, 1);
    return t;
}

/* Is slot k of expert e in use? */
static bool occupied(const exchange_tensors *t, int64_t e, int64_t k) {
    return k < t->kept[e];
}

static void expect_untouched(const swt_bed *bed, const char *what, const float *row, int64_t C) {
    for (int64_t i = 0; i < C; i++) {
        uint32_t bits = 0;
        memcpy(&bits, &row[i], sizeof bits);
        if (bits != UINT32_MAX)
            fail_msg("%s: %s wrote what it must leave alone", bed->label, what);
    }
}

/* A slot that no token has: left alone, or zeros for experts that take all slots. */
static void expect_empty_slot(const swt_bed *bed, const char *what, const float *row, int64_t C) {
    if (!bed->ctx.ops->all_slots) {
        expect_untouched(bed, what, row, C);
        return;
    }
    for (int64_t i = 0; i < C; i++)
        if (row[i] != 0)
            fail_msg("%s: %s left %g in an empty slot, where zeros must be", bed->label, what,
                     (double)row[i]);
}

static void combine_backward(swt_bed *bed, const exchange_tensors *t, float **drecv, float **dgate,
                             float **dh) {
    const swt_moe_dims *d = &t->dims;
    *drecv = swt_bed_out(bed, d->E * d->K * d->C, SWT_F32);
    *dgate = swt_bed_out(bed, d->N, SWT_F32);
    *dh = swt_bed_out(bed, d->N * d->C, SWT_F32);
    SWT_BED_RUN(bed,
                swt_combine_backward(&bed->ctx, &(swt_combine_backward_args){.drecv = *drecv,
                                                                             .dgate = *dgate,
                                                                             .dh = *dh,
                                                                             .dy = t->dy,
                                                                             .h = t->h,
                                                                             .expert = t->expert,
                                                                             .gate = t->gate,
                                                                             .slot = t->slot,
                                                                             .dims = *d}));
}

static void combine_backward_check(swt_bed *bed, const exchange_case *c) {
    const exchange_tensors t = inputs(bed, c);
    const int64_t NC = c->N * c->C, slots = c->E * c->capacity;
    float *drecv = NULL, *dgate = NULL, *dh = NULL;
    for (int64_t i = 0; i < slots; i++)
        if (!occupied(&t, i / c->capacity, i % c->capacity))
            t.recv[i * c->C] = NAN;
    combine_backward(bed, &t, &drecv, &dgate, &dh);
    double *want_drecv = swt_bed_doubles(bed, slots * c->C),
           *want_dgate = swt_bed_doubles(bed, c->N), *want_dh = swt_bed_doubles(bed, NC);
    swt_oracle_combine_backward(want_drecv, want_dgate, want_dh, swt_bed_widen(bed, t.dy, NC),
                                swt_bed_widen(bed, t.recv, slots * c->C),
                                swt_bed_widen(bed, t.h, NC), t.expert,
                                swt_bed_widen(bed, t.gate, c->N), t.slot, &t.dims);
    /* drecv, dh: one product. */
    swt_expect_close(bed, "dh", dh, want_dh, NC, SWT_UNIT, 1);
    for (int64_t i = 0; i < slots; i++)
        if (occupied(&t, i / c->capacity, i % c->capacity))
            swt_expect_close(bed, "drecv", drecv + i * c->C, want_drecv + i * c->C, c->C, SWT_UNIT,
                             1);
        else
            expect_empty_slot(bed, "combine backward", drecv + i * c->C, c->C);
    for (int64_t n = 0; n < c->N; n++) {
        if (t.slot[n] >= 0)
            expect_untouched(bed, "combine backward", &dgate[n], 1);
        if (t.expert[n] < 0 || (t.slot[n] < 0 && c->dropped_output == SWT_DROPPED_ZERO)) {
            assert_true(dgate[n] == 0);
            for (int64_t i = 0; i < c->C; i++)
                assert_true(dh[n * c->C + i] == 0);
        }
    }
    /* With the experts' part. dgate: a dot product of C terms of size 1/3, over a gate of 0.1 or
     * more. */
    swt_oracle_dot(t.dot, drecv, t.recv, slots, c->C);
    SWT_BED_RUN(bed,
                swt_dispatch_backward(&bed->ctx, &(swt_dispatch_backward_args){.dh = dh,
                                                                               .dgate = dgate,
                                                                               .dsend = t.recv,
                                                                               .dot = t.dot,
                                                                               .expert = t.expert,
                                                                               .gate = t.gate,
                                                                               .slot = t.slot,
                                                                               .dims = t.dims}));
    const double dot = sqrt((double)c->C) / 3;
    swt_expect_close(bed, "dgate", dgate, want_dgate, c->N, 4 * sqrt((double)c->C) * SWT_UNIT,
                     c->gate == SWT_GATE_UNIT ? 3 * dot : dot);
}

static void test_combine_backward(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (int s = 0; s < SHAPES; s++)
        for (int options = 0; options < 4; options++) {
            const exchange_case c = option_case(s, options);
            combine_backward_check(&bed, &c);
        }
    swt_bed_close(&bed);
}

/* One round of combine on the tensors of t. */
static void combine_round(swt_bed *bed, const exchange_tensors *t, const swt_moe_dims *dims,
                          float *y, const float *recv, int64_t first_slot) {
    SWT_BED_RUN(
        bed, swt_combine_forward(&bed->ctx, &(swt_combine_forward_args){.y = y,
                                                                        .residual = t->residual,
                                                                        .recv = recv,
                                                                        .h = t->h,
                                                                        .expert = t->expert,
                                                                        .gate = t->gate,
                                                                        .slot = t->slot,
                                                                        .dims = *dims,
                                                                        .first_slot = first_slot}));
}

/* A dropless exchange in rounds of 1, 2, 7 and all slots gives the bits of the exchange in one
 * round. */
static void test_rounds(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    const int64_t rounds[] = {1, 2, 7, 64};
    for (size_t r = 0; r < sizeof rounds / sizeof rounds[0]; r++) {
        const exchange_case c = {.N = 64, .C = 9, .E = 3, .capacity = 64};
        const exchange_tensors t = inputs(&bed, &c);
        const int64_t K = rounds[r];
        swt_moe_dims d = t.dims;
        d.K = K;
        float *y = swt_bed_out(&bed, c.N * c.C, SWT_F32);
        for (int64_t first = 0; first < c.capacity; first += K) {
            const swt_bed_mark mark = swt_bed_set_mark(&bed);
            float *send = swt_bed_out(&bed, c.E * K * c.C, SWT_F32);
            int32_t *send_counts = swt_bed_out(&bed, c.E, SWT_I32);
            SWT_BED_RUN(&bed, swt_dispatch_forward(
                                  &bed.ctx, &(swt_dispatch_forward_args){.send = send,
                                                                         .send_counts = send_counts,
                                                                         .h = t.h,
                                                                         .expert = t.expert,
                                                                         .slot = t.slot,
                                                                         .kept = t.kept,
                                                                         .dims = d,
                                                                         .first_slot = first}));
            for (int64_t e = 0; e < c.E; e++) {
                const int64_t left = t.kept[e] - first;
                assert_int_equal(send_counts[e], left < 0 ? 0 : left < K ? left : K);
                for (int64_t k = send_counts[e]; k < K; k++)
                    expect_empty_slot(&bed, "a round", send + (e * K + k) * c.C, c.C);
            }
            for (int64_t i = 0; i < c.E * K * c.C; i++)
                send[i] = 2 * send[i]; /* the experts */
            float *before = swt_bed_copy(&bed, y, c.N * c.C, SWT_F32);
            combine_round(&bed, &t, &d, y, send, first);
            for (int64_t n = 0; first > 0 && n < c.N; n++)
                if (t.slot[n] < first || t.slot[n] >= first + K)
                    swt_expect_bytes(&bed, "y outside the round", y + n * c.C, before + n * c.C,
                                     c.C, SWT_F32);
            swt_bed_back_to(&bed, mark);
        }
        float *all = swt_bed_out(&bed, c.E * c.capacity * c.C, SWT_F32);
        for (int64_t n = 0; n < c.N; n++)
            for (int64_t i = 0; t.slot[n] >= 0 && i < c.C; i++)
                all[(t.expert[n] * c.capacity + t.slot[n]) * c.C + i] = 2 * t.h[n * c.C + i];
        float *want = swt_bed_out(&bed, c.N * c.C, SWT_F32);
        combine_round(&bed, &t, &t.dims, want, all, 0);
        swt_expect_bytes(&bed, "y", y, want, c.N * c.C, SWT_F32);
    }
    swt_bed_close(&bed);
}

typedef struct oracle_combine {
    const exchange_tensors *t;
    double *y, *residual, *recv, *h, *gate, *frozen_gate, *dy;
} oracle_combine;

/* With unit gates y is multiplied by gate / (the gate as a constant), which is 1. */
static double combine_loss(const void *context) {
    const oracle_combine *o = context;
    const swt_moe_dims *d = &o->t->dims;
    swt_oracle_combine_forward(o->y, o->residual, o->recv, o->h, o->t->expert, o->gate, o->t->slot,
                               d, 0);
    double loss = 0;
    for (int64_t i = 0; i < d->N * d->C; i++) {
        const int64_t n = i / d->C;
        const double out = o->y[i] - o->residual[i];
        const double ratio =
            d->gate == SWT_GATE_UNIT && o->frozen_gate[n] > 0 ? o->gate[n] / o->frozen_gate[n] : 1;
        loss += o->dy[i] * ratio * out;
    }
    return loss;
}

static void test_oracle_gradient(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 1);
    for (int options = 0; options < 4; options++) {
        exchange_case c = option_case(1, options);
        c.N = 14;
        const exchange_tensors t = inputs(&bed, &c);
        const int64_t NC = c.N * c.C, slots = c.E * c.capacity * c.C;
        const oracle_combine o = {.t = &t,
                                  .y = swt_bed_doubles(&bed, NC),
                                  .residual = swt_bed_widen(&bed, t.residual, NC),
                                  .recv = swt_bed_widen(&bed, t.recv, slots),
                                  .h = swt_bed_widen(&bed, t.h, NC),
                                  .gate = swt_bed_widen(&bed, t.gate, c.N),
                                  .frozen_gate = swt_bed_widen(&bed, t.gate, c.N),
                                  .dy = swt_bed_widen(&bed, t.dy, NC)};
        double *drecv = swt_bed_doubles(&bed, slots), *dgate = swt_bed_doubles(&bed, c.N),
               *dh = swt_bed_doubles(&bed, NC);
        swt_oracle_combine_backward(drecv, dgate, dh, o.dy, o.recv, o.h, t.expert, o.gate, t.slot,
                                    &t.dims);
        swt_expect_gradient(&bed, "drecv", combine_loss, &o, o.recv, slots, drecv);
        swt_expect_gradient(&bed, "dgate", combine_loss, &o, o.gate, c.N, dgate);
        swt_expect_gradient(&bed, "dh", combine_loss, &o, o.h, NC, dh);
    }
    swt_bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle_gradient),
        cmocka_unit_test(test_combine_backward),
        cmocka_unit_test(test_rounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
