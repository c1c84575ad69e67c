/* The switch layer put together from its operations: the fixture on which implementations of the
 * field were compared, what a dropped token gives and gets, and the order of tokens through the
 * exchange. */
#include "judge/oracle.h"
#include "ops/router_bed.h"
#include "support/judge.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { T = 6, E = 2, C = 2, CAPACITY = 3 };

/* Logits, inputs h_t = (t + 1, -(t + 1) / 2), and experts E0(v) = 2 v + 1, E1(v) = -v. The expected
 * numbers were computed from the formulas with independent programs; they are quoted to seven
 * decimals. */
static const float logits[T * E] = {0, 2, 0, 1, 0, 0.5F, 1, 0, 0, 3, 0.2F, 0};
static const double gates[T] = {.8807971, .7310586, .6224593, .7310586, .9525741, .5498340};
static const int32_t experts[T] = {1, 1, 1, 0, 1, 0};
static const int32_t drop_4[T] = {0, 1, 2, 0, -1, 1};
static const int32_t drop_2[T] = {0, 1, -1, 0, 2, 1};
static const int32_t drop_0[T] = {-1, 0, 1, 0, 2, 1};

typedef struct fixture {
    const char *name;
    const int32_t *slot; /* as the policy gives, or imposed where it is random */
    bool by_policy;
    swt_drop drop;
    swt_dropped_output dropped_output;
    swt_gate gate;
    double y[T * C];
    double loss;  /* sum of y + 0.01 aux; 0: not known */
    double dz[T]; /* of that loss with respect to the logits of expert 1; of expert 0: minus it */
} fixture;

static const fixture fixtures[] = {
    {"in order, zero",
     drop_4,
     true,
     SWT_DROP_POSITION,
     SWT_DROPPED_ZERO,
     SWT_GATE_SCALE,
     {-.8807971, .4403985, -1.4621172, .7310586, -1.8673780, .9336890, 6.5795272, -2.1931757, 0, 0,
      7.1478420, -2.7491700},
     0,
     {0}},
    {"drop 4, gated input",
     drop_4,
     true,
     SWT_DROP_POSITION,
     SWT_DROPPED_GATED_INPUT,
     SWT_GATE_SCALE,
     {-.8807971, .4403985, -1.4621172, .7310586, -1.8673780, .9336890, 6.5795272, -2.1931757,
      4.7628706, -2.3814353, 7.1478420, -2.7491700},
     9.0723193,
     {-.0523801, -.1963935, -.3522445, -1.1794531, .1129918, -1.9798576}},
    {"drop 0, gated input",
     drop_0,
     false,
     SWT_DROP_RANDOM,
     SWT_DROPPED_GATED_INPUT,
     SWT_GATE_SCALE,
     {.8807971, -.4403985, -1.4621172, .7310586, -1.8673780, .9336890, 6.5795272, -2.1931757,
      -4.7628706, 2.3814353, 7.1478420, -2.7491700},
     0,
     {0}},
    {"drop 4, gated input, unit",
     drop_4,
     true,
     SWT_DROP_POSITION,
     SWT_DROPPED_GATED_INPUT,
     SWT_GATE_UNIT,
     {-1, .5, -2, 1, -3, 1.5, 9, -3, 5, -2.5, 13, -5},
     13.5110067,
     {-.0594848, -.2687230, -.5660499, -1.6134301, .1186149, -3.6010531}},
    {"priority, zero",
     drop_2,
     true,
     SWT_DROP_PRIORITY,
     SWT_DROPPED_ZERO,
     SWT_GATE_SCALE,
     {-.8807971, .4403985, -1.4621172, .7310586, 0, 0, 6.5795272, -2.1931757, -4.7628706, 2.3814353,
      7.1478420, -2.7491700},
     0,
     {0}},
};

/* Half a unit of the seventh decimal, and some roundings to float. */
static void expect_quoted(const swt_bed *bed, const char *what, double got, double want) {
    swt_expect_number(bed, what, got, want, 5.1e-8 + 6 * SWT_UNIT * (0.1 + fabs(want)));
}

/* Route the fixture: the router's input is the logits and its weight the identity. */
static swt_router_tensors route(swt_bed *bed, const fixture *f) {
    const swt_router_case c = {.N = T, .C = C, .E = E, .G = 1, .all_routed = true};
    swt_router_tensors t = swt_router_bed_inputs(bed, &c);
    memcpy(t.h, logits, sizeof logits);
    memcpy(t.w, (const float[]){1, 0, 0, 1}, 4 * sizeof(float));
    t.dims.group_capacity = t.dims.K = CAPACITY;
    t.dims.drop = f->drop;
    t.dims.dropped_output = f->dropped_output;
    t.dims.gate = f->gate;
    swt_router_bed_forward(bed, &t);
    swt_router_bed_assign(bed, &t);
    swt_router_bed_losses(bed, &t);
    return t;
}

/* dz: with the identity as weight, the router adds it to dh. want: of expert 0, then of expert 1.
 */
static void expect_dz(swt_bed *bed, const swt_router_tensors *t, const float *dgate,
                      const double want[E][T]) {
    float *dh = swt_bed_copy(bed, swt_bed_in(bed, T * C, SWT_F32), T * C, SWT_F32);
    float *dw = swt_bed_out(bed, E * C, SWT_F32);
    void *scratch = swt_bed_scratch(bed, swt_router_scratch_bytes(&t->dims));
    SWT_BED_RUN(bed, swt_router_backward(&bed->ctx, &(swt_router_backward_args){.dh = dh,
                                                                                .dw = dw,
                                                                                .dgate = dgate,
                                                                                .h = t->h,
                                                                                .w = t->w,
                                                                                .probs = t->probs,
                                                                                .lse = t->lse,
                                                                                .expert = t->expert,
                                                                                .gate = t->gate,
                                                                                .counts = t->counts,
                                                                                .scratch = scratch,
                                                                                .dims = t->dims}));
    for (int n = 0; n < T; n++)
        for (int e = 0; e < E; e++)
            expect_quoted(bed, "dz", (double)dh[n * C + e], want[e][n]);
}

/* The operations that bring outputs back and take gradients to the experts, on the tensors of t. */
static void combine(swt_bed *bed, const swt_router_tensors *t, float *y, const float *residual,
                    const float *recv, const float *h) {
    SWT_BED_RUN(bed,
                swt_combine_forward(&bed->ctx, &(swt_combine_forward_args){.y = y,
                                                                           .residual = residual,
                                                                           .recv = recv,
                                                                           .h = h,
                                                                           .expert = t->expert,
                                                                           .gate = t->gate,
                                                                           .slot = t->slot,
                                                                           .dims = t->dims}));
}

/* dot is made of drecv and the experts' outputs, recv, in between. */
static void combine_back(swt_bed *bed, const swt_router_tensors *t, float *dgate, float *dh,
                         const float *dy, const float *recv, const float *h) {
    const int64_t slots = t->dims.E * t->dims.K;
    float *drecv = swt_bed_out(bed, slots * C, SWT_F32), *dot = swt_bed_in(bed, slots, SWT_F32);
    SWT_BED_RUN(bed,
                swt_combine_backward(&bed->ctx, &(swt_combine_backward_args){.drecv = drecv,
                                                                             .dgate = dgate,
                                                                             .dh = dh,
                                                                             .dy = dy,
                                                                             .h = h,
                                                                             .expert = t->expert,
                                                                             .gate = t->gate,
                                                                             .slot = t->slot,
                                                                             .dims = t->dims}));
    swt_oracle_dot(dot, drecv, recv, slots, C);
    SWT_BED_RUN(bed,
                swt_dispatch_backward(&bed->ctx, &(swt_dispatch_backward_args){.dh = dh,
                                                                               .dgate = dgate,
                                                                               .dsend = drecv,
                                                                               .dot = dot,
                                                                               .expert = t->expert,
                                                                               .gate = t->gate,
                                                                               .slot = t->slot,
                                                                               .dims = t->dims}));
}

static void fixture_check(swt_bed *bed, const fixture *f) {
    swt_router_tensors t = route(bed, f);
    snprintf(bed->label, sizeof bed->label, "fixture '%s'", f->name);
    swt_expect_i32(bed, "expert", t.expert, experts, T);
    for (int n = 0; n < T; n++)
        expect_quoted(bed, "gate", (double)t.gate[n], gates[n]);
    expect_quoted(bed, "aux", t.stats[0], 1.1006663);
    expect_quoted(bed, "z", t.stats[1], 3.1421453);
    assert_true(t.stats[2] == 1 && t.stats[3] == 2 && t.stats[4] == 4);
    if (f->by_policy)
        swt_expect_i32(bed, "slot", t.slot, f->slot, T);
    else
        memcpy(t.slot, f->slot, sizeof drop_0);
    float *h = swt_bed_in(bed, T * C, SWT_F32), *residual = swt_bed_in(bed, T * C, SWT_F32),
          *dy = swt_bed_uniform(bed, T * C, 1, 1);
    for (int n = 0; n < T; n++) {
        h[n * C] = (float)(n + 1);
        h[n * C + 1] = -(float)(n + 1) / 2;
    }
    float *buffer = swt_bed_out(bed, E * CAPACITY * C, SWT_F32);
    int32_t *counts = swt_bed_out(bed, E, SWT_I32);
    SWT_BED_RUN(bed,
                swt_dispatch_forward(&bed->ctx, &(swt_dispatch_forward_args){.send = buffer,
                                                                             .send_counts = counts,
                                                                             .h = h,
                                                                             .expert = t.expert,
                                                                             .slot = t.slot,
                                                                             .kept = t.kept,
                                                                             .dims = t.dims,
                                                                             .first_slot = 0}));
    for (int i = 0; i < E * CAPACITY * C; i++)
        buffer[i] = i < CAPACITY * C ? 2 * buffer[i] + 1 : -buffer[i];
    float *y = swt_bed_out(bed, T * C, SWT_F32);
    combine(bed, &t, y, residual, buffer, h);
    double sum = 0;
    for (int i = 0; i < T * C; i++) {
        expect_quoted(bed, "y", (double)y[i], f->y[i]);
        sum += (double)y[i];
    }
    if (f->loss == 0)
        return;
    expect_quoted(bed, "loss", sum + 0.01 * t.stats[0], f->loss);
    float *dgate = swt_bed_out(bed, T, SWT_F32), *dh = swt_bed_out(bed, T * C, SWT_F32);
    combine_back(bed, &t, dgate, dh, dy, buffer, h);
    t.dims.aux_scale = 0.01;
    double dz[E][T];
    for (int n = 0; n < T; n++) {
        dz[0][n] = -f->dz[n];
        dz[1][n] = f->dz[n];
    }
    expect_dz(bed, &t, dgate, (const double(*)[T])dz);
}

static void test_fixture(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (size_t i = 0; i < sizeof fixtures / sizeof fixtures[0]; i++)
        fixture_check(&bed, &fixtures[i]);
    swt_bed_close(&bed);
}

static void test_fixture_z_gradient(void **state) {
    (void)state;
    static const double want[E][T] = {{.0845120, .1177302, .1225846, .3200237, .0481940, .1462813},
                                      {.6244640, .3200237, .2021078, .1177302, .9680018, .1197650}};
    swt_bed bed;
    swt_bed_open(&bed, 2);
    swt_router_tensors t = route(&bed, &fixtures[0]);
    t.dims.z_scale = 1;
    expect_dz(&bed, &t, swt_bed_in(&bed, T, SWT_F32), want);
    swt_bed_close(&bed);
}

/* All tokens to one expert with three slots: positions 0, 1, 2 are kept. A dropped token's output
 * is 0, so its residual comes out bit by bit; no gradient goes through it; it is booked where it
 * wanted to go and nowhere else. */
static void trap_4_dropped_tokens(void **state) {
    (void)state;
    enum { N = 8 };
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (int target = 0; target < 2; target++) {
        const swt_router_case c = {.N = N, .C = C, .E = E, .G = 1, .all_routed = true};
        swt_router_tensors t = swt_router_bed_inputs(&bed, &c);
        t.dims.group_capacity = t.dims.K = 3;
        for (int i = 0; i < N * C; i++)
            t.h[i] = i % C == target ? 2.0F : 0.0F;
        memcpy(t.w, (const float[]){1, 0, 0, 1}, 4 * sizeof(float));
        swt_router_bed_forward(&bed, &t);
        swt_router_bed_assign(&bed, &t);
        swt_router_bed_losses(&bed, &t);
        swt_expect_i32(&bed, "slot", t.slot, (const int32_t[]){0, 1, 2, -1, -1, -1, -1, -1}, N);
        assert_true(t.kept[target] == 3 && t.kept[1 - target] == 0);
        assert_true(t.stats[2] == 5 && t.stats[3 + target] == N && t.stats[4 - target] == 0);
        const float *residual = swt_bed_uniform(&bed, N * C, -1, 1),
                    *recv = swt_bed_uniform(&bed, E * 3 * C, 1, 2),
                    *dy = swt_bed_uniform(&bed, N * C, 1, 2);
        float *y = swt_bed_out(&bed, N * C, SWT_F32), *dgate = swt_bed_out(&bed, N, SWT_F32),
              *dh = swt_bed_out(&bed, N * C, SWT_F32);
        combine(&bed, &t, y, residual, recv, t.h);
        combine_back(&bed, &t, dgate, dh, dy, recv, t.h);
        for (int n = 0; n < N; n++) {
            const bool same = memcmp(y + n * C, residual + n * C, C * sizeof(float)) == 0;
            assert_true(same == (n >= 3));
            assert_true((dgate[n] == 0) == (n >= 3));
            for (int i = 0; i < C; i++)
                assert_true((dh[n * C + i] == 0) == (n >= 3));
        }
    }
    swt_bed_close(&bed);
}

enum { RANKS = 3, TOKENS = 20, WIDTH = 3, HIDDEN = 2 * WIDTH };

/* One rank's tokens and what it sends. */
typedef struct sender {
    swt_router_tensors t;
    float *send, *recv, *y;
    int32_t *send_counts;
} sender;

/* Feature 0 is the token's number in the whole batch, feature 1 says which rank, feature 2 is 0. */
static sender make_sender(swt_bed *bed, int rank, int64_t El, int64_t P, int routing) {
    sender s = {.t = {.dims = swt_oracle_moe_dims(TOKENS, WIDTH, El * P)}};
    swt_moe_dims *d = &s.t.dims;
    d->El = El;
    d->P = P;
    d->F = HIDDEN;
    d->gate = SWT_GATE_UNIT;
    const int last = (int)d->E - 1;
    s.t.expert = swt_bed_integers(bed, TOKENS, routing == 0 ? 0 : -1, routing == 3 ? -1 : last);
    for (int n = 0; n < TOKENS; n++) {
        if (routing == 1) /* all to one expert, another for each rank */
            s.t.expert[n] = (int32_t)((rank + 1) % d->E);
        if (routing == 2) /* a single token */
            s.t.expert[n] = n == 7 ? last : -1;
    }
    s.t.gate = swt_bed_uniform(bed, TOKENS, 1, 1);
    s.t.h = swt_bed_in(bed, TOKENS * WIDTH, SWT_F32);
    for (int n = 0; n < TOKENS; n++) {
        s.t.h[n * WIDTH] = (float)(rank * TOKENS + n);
        s.t.h[n * WIDTH + 1] = -(float)rank;
    }
    swt_router_bed_assign(bed, &s.t);
    s.send = swt_bed_out(bed, d->E * d->K * WIDTH, SWT_F32);
    s.recv = swt_bed_out(bed, d->E * d->K * WIDTH, SWT_F32);
    s.send_counts = swt_bed_out(bed, d->E, SWT_I32);
    SWT_BED_RUN(bed, swt_dispatch_forward(&bed->ctx,
                                          &(swt_dispatch_forward_args){.send = s.send,
                                                                       .send_counts = s.send_counts,
                                                                       .h = s.t.h,
                                                                       .expert = s.t.expert,
                                                                       .slot = s.t.slot,
                                                                       .kept = s.t.kept,
                                                                       .dims = *d,
                                                                       .first_slot = 0}));
    return s;
}

/* The experts of one rank: expert e adds e, as wo ReLU([x; -x]) + e with wo = [I, -I]. The exchange
 * that a communicator does is written out: block (j, p) is what rank p sent to expert first + j. */
static void serve(swt_bed *bed, sender *senders, int64_t rank) {
    const swt_moe_dims *d = &senders[0].t.dims;
    const int64_t El = d->El, P = d->P, block = d->K * WIDTH;
    float *wi = swt_bed_in(bed, El * HIDDEN * WIDTH, SWT_F32),
          *wo = swt_bed_in(bed, El * WIDTH * HIDDEN, SWT_F32),
          *bo = swt_bed_in(bed, El * WIDTH, SWT_F32), *x = swt_bed_in(bed, El * P * block, SWT_F32),
          *y = swt_bed_out(bed, El * P * block, SWT_F32),
          *hidden = swt_bed_out(bed, El * P * d->K * HIDDEN, SWT_F32);
    int32_t *counts = swt_bed_in(bed, El * P, SWT_I32);
    for (int64_t j = 0; j < El; j++) {
        const int64_t e = rank * El + j;
        for (int64_t f = 0; f < HIDDEN; f++) {
            wi[(j * HIDDEN + f) * WIDTH + f % WIDTH] = f < WIDTH ? 1 : -1;
            wo[(j * WIDTH + f % WIDTH) * HIDDEN + f] = f < WIDTH ? 1 : -1;
        }
        for (int64_t i = 0; i < WIDTH; i++)
            bo[j * WIDTH + i] = (float)e;
        for (int64_t p = 0; p < P; p++) {
            memcpy(x + (j * P + p) * block, senders[p].send + e * block, (size_t)block * sizeof *x);
            counts[j * P + p] = senders[p].send_counts[e];
        }
    }
    SWT_BED_RUN(bed, swt_experts_forward(&bed->ctx, &(swt_experts_forward_args){.y = y,
                                                                                .hidden = hidden,
                                                                                .x = x,
                                                                                .wi = wi,
                                                                                .wo = wo,
                                                                                .bo = bo,
                                                                                .counts = counts,
                                                                                .dims = *d}));
    for (int64_t i = 0; i < El * P; i++)
        memcpy(senders[i % P].recv + (rank * El + i / P) * block, y + i * block,
               (size_t)block * sizeof *y);
}

static void permutation_check(swt_bed *bed, int64_t El, int64_t P, int routing) {
    swt_bed_begin(bed, "permutation El=%lld P=%lld routing=%d", (long long)El, (long long)P,
                  routing);
    sender senders[RANKS];
    for (int p = 0; p < P; p++)
        senders[p] = make_sender(bed, p, El, P, routing);
    for (int64_t rank = 0; rank < P; rank++) {
        const swt_bed_mark mark = swt_bed_set_mark(bed);
        serve(bed, senders, rank);
        swt_bed_back_to(bed, mark);
    }
    for (int p = 0; p < P; p++) {
        const swt_router_tensors *t = &senders[p].t;
        const float *residual = swt_bed_in(bed, TOKENS * WIDTH, SWT_F32);
        float *y = swt_bed_out(bed, TOKENS * WIDTH, SWT_F32);
        SWT_BED_RUN(
            bed, swt_combine_forward(&bed->ctx, &(swt_combine_forward_args){.y = y,
                                                                            .residual = residual,
                                                                            .recv = senders[p].recv,
                                                                            .h = t->h,
                                                                            .expert = t->expert,
                                                                            .gate = t->gate,
                                                                            .slot = t->slot,
                                                                            .dims = t->dims,
                                                                            .first_slot = 0}));
        for (int n = 0; n < TOKENS; n++) {
            const int32_t e = t->expert[n];
            swt_expect_number(bed, "token", (double)y[n * WIDTH], e < 0 ? 0 : p * TOKENS + n + e,
                              0);
            swt_expect_number(bed, "rank", (double)y[n * WIDTH + 1], e < 0 ? 0 : e - p, 0);
            swt_expect_number(bed, "expert", (double)y[n * WIDTH + 2], e < 0 ? 0 : e, 0);
        }
    }
}

/* Each token must come back to its own place with its own expert's value, whatever the counts. */
static void trap_5_permutation_order(void **state) {
    (void)state;
    swt_bed bed;
    swt_bed_open(&bed, 2);
    for (int64_t El = 1; El <= 8; El++)
        for (int64_t P = 1; P <= RANKS; P++)
            for (int routing = 0; routing < 4; routing++)
                permutation_check(&bed, El, P, routing);
    swt_bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixture),
        cmocka_unit_test(test_fixture_z_gradient),
        cmocka_unit_test(trap_4_dropped_tokens),
        cmocka_unit_test(trap_5_permutation_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
