/* The switch layer put together from its operations: the fixture on which implementations of the
 * field were compared, what a dropped token gives and gets, rounds of an exchange, and the order of
 * tokens through it. */
#include "judge/oracle.h"
#include "ops/route.h"

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
static void expect_quoted(swt_trial *t, const char *what, double got, double want) {
    swt_trial_number(t, what, got, want, 5.1e-8 + 6 * SWT_ROUNDING * (0.1 + fabs(want)));
}

/* Experts 0 and 1 by the sign of a difference: the router's weight is the identity. */
static swt_route route_of_two(swt_trial *t, int64_t N, const float *inputs) {
    const swt_route_case c = {.N = N, .C = C, .E = E, .G = 1, .all_routed = true};
    swt_route r = swt_route_inputs(t, &c);
    memcpy(r.h, inputs, (size_t)(N * C) * sizeof *inputs);
    memcpy(r.w, (const float[]){1, 0, 0, 1}, 4 * sizeof(float));
    r.dims.group_capacity = r.dims.K = CAPACITY;
    return r;
}

static void route(swt_trial *t, swt_route *r) {
    swt_route_forward(t, r);
    swt_route_assign(t, r);
    swt_route_losses(t, r);
}

static swt_route route_fixture(swt_trial *t, const fixture *f) {
    swt_route r = route_of_two(t, T, logits);
    r.dims.drop = f->drop;
    r.dims.dropped_output = f->dropped_output;
    r.dims.gate = f->gate;
    route(t, &r);
    return r;
}

/* dz: with the identity as weight, the router adds it to dh. want: of expert 0, then of expert 1.
 */
static void expect_dz(swt_trial *t, const swt_route *r, const float *dgate,
                      const double want[E][T]) {
    float *dh = swt_test_zeros(t, T * C, SWT_F32);
    SWT_RUN(t, router_backward, .dh = dh, .dgate = dgate, .h = r->h, .w = r->w, .probs = r->probs,
            .lse = r->lse, .expert = r->expert, .gate = r->gate, .group_counts = r->group_counts,
            .dims = r->dims);
    for (int n = 0; n < T; n++)
        for (int e = 0; e < E; e++)
            expect_quoted(t, "dz", (double)dh[n * C + e], want[e][n]);
}

/* ---- the exchange on the tensors of a route */

/* send and send_counts are its outputs. */
static swt_dispatch_forward_args dispatch(swt_trial *t, const swt_route *r, const float *h,
                                          int64_t first_slot) {
    return SWT_MADE(t, dispatch_forward, .h = h, .expert = r->expert, .slot = r->slot,
                    .kept_counts = r->kept_counts, .dims = r->dims, .first_slot = first_slot);
}

static void combine(swt_trial *t, const swt_route *r, float *y, const float *residual,
                    const float *recv, const float *h, int64_t first_slot) {
    SWT_RUN(t, combine_forward, .y = y, .residual = residual, .recv = recv, .h = h,
            .expert = r->expert, .gate = r->gate, .slot = r->slot, .dims = r->dims,
            .first_slot = first_slot);
}

/* dot is made of drecv and the experts' outputs, recv, in between. */
static void combine_back(swt_trial *t, const swt_route *r, float *dgate, float *dh, const float *dy,
                         const float *recv, const float *h) {
    const int64_t slots = r->dims.E * r->dims.K;
    const float *drecv =
        SWT_MADE(t, combine_backward, .dgate = dgate, .dh = dh, .dy = dy, .h = h,
                 .expert = r->expert, .gate = r->gate, .slot = r->slot, .dims = r->dims)
            .drecv;
    float *dot = swt_trial_in(t, slots, SWT_F32);
    for (int64_t i = 0; i < slots; i++) {
        double sum = 0;
        for (int64_t j = i * C; j < (i + 1) * C; j++)
            sum += (double)drecv[j] * (double)recv[j];
        dot[i] = (float)sum;
    }
    SWT_RUN(t, dispatch_backward, .dh = dh, .dgate = dgate, .dsend = drecv, .dot = dot,
            .expert = r->expert, .gate = r->gate, .slot = r->slot, .dims = r->dims);
}

/* ---- the fixture */

static void fixture_check(swt_trial *t, const fixture *f) {
    swt_route r = route_fixture(t, f);
    snprintf(t->label, sizeof t->label, "fixture '%s'", f->name);
    swt_trial_same(t, "expert", r.expert, experts, T, SWT_I32);
    for (int n = 0; n < T; n++)
        expect_quoted(t, "gate", (double)r.gate[n], gates[n]);
    expect_quoted(t, "aux", r.stats[SWT_ROUTER_AUX], 1.1006663);
    expect_quoted(t, "z", r.stats[SWT_ROUTER_Z], 3.1421453);
    assert_true(r.stats[SWT_ROUTER_DROPPED] == 1);
    assert_true(r.stats[SWT_ROUTER_LOAD] == 2 && r.stats[SWT_ROUTER_LOAD + 1] == 4);
    if (f->by_policy)
        swt_trial_same(t, "slot", r.slot, f->slot, T, SWT_I32);
    else
        memcpy(r.slot, f->slot, sizeof drop_0);
    float *h = swt_trial_in(t, T * C, SWT_F32), *y = swt_trial_out(t, T * C, SWT_F32);
    for (int n = 0; n < T; n++) {
        h[n * C] = (float)(n + 1);
        h[n * C + 1] = -(float)(n + 1) / 2;
    }
    float *buffer = dispatch(t, &r, h, 0).send;
    for (int i = 0; i < E * CAPACITY * C; i++)
        buffer[i] = i < CAPACITY * C ? 2 * buffer[i] + 1 : -buffer[i];
    combine(t, &r, y, swt_trial_in(t, T * C, SWT_F32), buffer, h, 0);
    double sum = 0;
    for (int i = 0; i < T * C; i++) {
        expect_quoted(t, "y", (double)y[i], f->y[i]);
        sum += (double)y[i];
    }
    if (f->loss == 0)
        return;
    expect_quoted(t, "loss", sum + 0.01 * r.stats[SWT_ROUTER_AUX], f->loss);
    float *dgate = swt_trial_out(t, T, SWT_F32), *dh = swt_trial_out(t, T * C, SWT_F32);
    combine_back(t, &r, dgate, dh, swt_trial_uniform(t, T * C, 1, 1), buffer, h);
    r.dims.aux_scale = 0.01;
    double dz[E][T];
    for (int n = 0; n < T; n++) {
        dz[0][n] = -f->dz[n];
        dz[1][n] = f->dz[n];
    }
    expect_dz(t, &r, dgate, (const double(*)[T])dz);
}

static void test_fixture(void **state) {
    swt_trial *t = swt_test_trial(state);
    for (size_t i = 0; i < sizeof fixtures / sizeof fixtures[0]; i++)
        fixture_check(t, &fixtures[i]);
}

static void test_fixture_z_gradient(void **state) {
    static const double want[E][T] = {{.0845120, .1177302, .1225846, .3200237, .0481940, .1462813},
                                      {.6244640, .3200237, .2021078, .1177302, .9680018, .1197650}};
    swt_trial *t = swt_test_trial(state);
    swt_route r = route_fixture(t, &fixtures[0]);
    r.dims.z_scale = 1;
    expect_dz(t, &r, swt_trial_in(t, T, SWT_F32), want);
}

/* ---- dropped tokens */

/* All tokens to one expert with three slots: positions 0, 1, 2 are kept. A dropped token's output
 * is 0, so its residual comes out bit by bit; no gradient goes through it; it is booked where it
 * wanted to go and nowhere else. */
static void trap_4_dropped_tokens(void **state) {
    enum { N = 8 };
    static const int32_t slots[N] = {0, 1, 2, -1, -1, -1, -1, -1};
    swt_trial *t = swt_test_trial(state);
    for (int target = 0; target < 2; target++) {
        float inputs[N * C];
        for (int i = 0; i < N * C; i++)
            inputs[i] = i % C == target ? 2.0F : 0.0F;
        swt_route r = route_of_two(t, N, inputs);
        route(t, &r);
        swt_trial_same(t, "slot", r.slot, slots, N, SWT_I32);
        assert_true(r.kept_counts[target] == 3 && r.kept_counts[1 - target] == 0);
        const double *load = r.stats + SWT_ROUTER_LOAD;
        assert_true(r.stats[SWT_ROUTER_DROPPED] == 5 && load[target] == N && load[1 - target] == 0);
        const float *residual = swt_trial_uniform(t, N * C, -1, 1),
                    *recv = swt_trial_uniform(t, E * 3 * C, 1, 2),
                    *dy = swt_trial_uniform(t, N * C, 1, 2);
        float *y = swt_trial_out(t, N * C, SWT_F32), *dgate = swt_trial_out(t, N, SWT_F32),
              *dh = swt_trial_out(t, N * C, SWT_F32);
        combine(t, &r, y, residual, recv, r.h, 0);
        combine_back(t, &r, dgate, dh, dy, recv, r.h);
        for (int n = 0; n < N; n++) {
            const bool same = memcmp(y + n * C, residual + n * C, C * sizeof(float)) == 0;
            assert_true(same == (n >= 3));
            assert_true((dgate[n] == 0) == (n >= 3));
            for (int i = 0; i < C; i++)
                assert_true((dh[n * C + i] == 0) == (n >= 3));
        }
    }
}

/* ---- rounds */

/* One round of an exchange whose experts double; y outside the round stays. */
static void exchange_round(swt_trial *t, const swt_route *r, float *y, const float *residual,
                           int64_t first) {
    const swt_moe_dims *d = &r->dims;
    const swt_test_mark mark = swt_test_set_mark(t);
    float *send = dispatch(t, r, r->h, first).send;
    for (int64_t i = 0; i < d->E * d->K * d->C; i++)
        send[i] = 2 * send[i];
    const float *before = swt_trial_copy(t, y, d->N * d->C, SWT_F32);
    combine(t, r, y, residual, send, r->h, first);
    for (int64_t n = 0; first > 0 && n < d->N; n++)
        if (r->slot[n] < first || r->slot[n] >= first + d->K)
            swt_trial_same(t, "y outside the round", y + n * d->C, before + n * d->C, d->C,
                           SWT_F32);
    swt_test_back_to(t, mark);
}

/* A dropless exchange in rounds of 1, 2 and 7 slots gives the bits of the exchange in one round. */
static void test_rounds(void **state) {
    enum { N = 64, WIDE = 9 };
    static const int64_t rounds[] = {N, 1, 2, 7};
    const swt_route_case c = {.N = N, .C = WIDE, .E = 3, .G = 1};
    swt_trial *t = swt_test_trial(state);
    swt_route r = swt_route_inputs(t, &c);
    swt_route_forward(t, &r);
    swt_route_assign(t, &r);
    const float *residual = swt_trial_uniform(t, N * WIDE, -1, 1), *whole = NULL;
    for (size_t i = 0; i < sizeof rounds / sizeof rounds[0]; i++) {
        float *y = swt_trial_out(t, N * WIDE, SWT_F32);
        r.dims.K = rounds[i];
        for (int64_t first = 0; first < N; first += rounds[i])
            exchange_round(t, &r, y, residual, first);
        whole = whole == NULL ? y : whole;
        swt_trial_same(t, "y", y, whole, N * WIDE, SWT_F32);
    }
}

/* ---- the order of tokens over ranks */

enum { RANKS = 3, TOKENS = 20, WIDTH = 3, HIDDEN = 2 * WIDTH };

/* One rank's tokens and what it sends. */
typedef struct sender {
    swt_route r;
    float *send, *recv;
    int32_t *send_counts;
} sender;

/* Feature 0 is the token's number in the whole batch, feature 1 says which rank, feature 2 is 0. */
static sender make_sender(swt_trial *t, int rank, int64_t El, int64_t P, int routing) {
    sender s = {.r = {.dims = swt_oracle_moe_dims(TOKENS, WIDTH, El * P)}};
    swt_moe_dims *d = &s.r.dims;
    d->El = El;
    d->P = P;
    d->F = HIDDEN;
    d->gate = SWT_GATE_UNIT;
    const int last = (int)d->E - 1;
    s.r.expert = swt_trial_integers(t, TOKENS, routing == 0 ? 0 : -1, routing == 3 ? -1 : last);
    for (int n = 0; n < TOKENS; n++) {
        if (routing == 1) /* all to one expert, another for each rank */
            s.r.expert[n] = (int32_t)((rank + 1) % d->E);
        if (routing == 2) /* a single token */
            s.r.expert[n] = n == 7 ? last : -1;
    }
    s.r.gate = swt_trial_uniform(t, TOKENS, 1, 1);
    s.r.h = swt_trial_in(t, TOKENS * WIDTH, SWT_F32);
    for (int n = 0; n < TOKENS; n++) {
        s.r.h[n * WIDTH] = (float)(rank * TOKENS + n);
        s.r.h[n * WIDTH + 1] = -(float)rank;
    }
    swt_route_assign(t, &s.r);
    const swt_dispatch_forward_args sent = dispatch(t, &s.r, s.r.h, 0);
    s.send = sent.send;
    s.send_counts = sent.send_counts;
    s.recv = swt_trial_out(t, d->E * d->K * WIDTH, SWT_F32);
    return s;
}

/* The experts of one rank: expert e adds e, as wo ReLU([x; -x]) + e with wo = [I, -I]. The exchange
 * that a communicator does is written out: block (j, p) is what rank p sent to expert first + j. */
static void serve(swt_trial *t, sender *senders, int64_t rank) {
    const swt_moe_dims *d = &senders[0].r.dims;
    const swt_test_mark mark = swt_test_set_mark(t);
    const int64_t El = d->El, P = d->P, block = d->K * WIDTH;
    float *wi = swt_trial_in(t, El * HIDDEN * WIDTH, SWT_F32),
          *wo = swt_trial_in(t, El * WIDTH * HIDDEN, SWT_F32),
          *bo = swt_trial_in(t, El * WIDTH, SWT_F32), *x = swt_trial_in(t, El * P * block, SWT_F32);
    int32_t *counts = swt_trial_in(t, El * P, SWT_I32);
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
    const float *y = SWT_MADE(t, experts_forward, .x = x, .wi = wi, .wo = wo, .bo = bo,
                              .slot_counts = counts, .dims = *d)
                         .y;
    for (int64_t i = 0; i < El * P; i++)
        memcpy(senders[i % P].recv + (rank * El + i / P) * block, y + i * block,
               (size_t)block * sizeof *y);
    swt_test_back_to(t, mark);
}

static void permutation_check(swt_trial *t, int64_t El, int64_t P, int routing) {
    swt_trial_begin(t, "permutation El=%lld P=%lld routing=%d", (long long)El, (long long)P,
                    routing);
    sender senders[RANKS];
    for (int p = 0; p < P; p++)
        senders[p] = make_sender(t, p, El, P, routing);
    for (int64_t rank = 0; rank < P; rank++)
        serve(t, senders, rank);
    for (int p = 0; p < P; p++) {
        const swt_route *r = &senders[p].r;
        const float *residual = swt_trial_in(t, TOKENS * WIDTH, SWT_F32);
        float *y = swt_trial_out(t, TOKENS * WIDTH, SWT_F32);
        combine(t, r, y, residual, senders[p].recv, r->h, 0);
        for (int n = 0; n < TOKENS; n++) {
            const int32_t e = r->expert[n];
            const double want[] = {e < 0 ? 0 : p * TOKENS + n + e, e < 0 ? 0 : e - p,
                                   e < 0 ? 0 : e};
            for (int i = 0; i < WIDTH; i++)
                swt_trial_number(t, "y", (double)y[n * WIDTH + i], want[i], 0);
        }
    }
}

/* Each token must come back to its own place with its own expert's value, whatever the counts. */
static void trap_5_permutation_order(void **state) {
    swt_trial *t = swt_test_trial(state);
    for (int64_t El = 1; El <= 8; El += swt_test_on_gpu() ? El : 1) /* of a GPU 1, 2, 4 and 8 */
        for (int64_t P = 1; P <= RANKS; P++)
            for (int routing = 0; routing < 4; routing++)
                permutation_check(t, El, P, routing);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixture),
        cmocka_unit_test(test_fixture_z_gradient),
        cmocka_unit_test(trap_4_dropped_tokens),
        cmocka_unit_test(test_rounds),
        cmocka_unit_test(trap_5_permutation_order),
    };
    return cmocka_run_group_tests(tests, swt_test_setup, swt_test_teardown);
}
