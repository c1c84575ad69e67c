/* The switch layer with BF16 activations against the oracle on the same rounded inputs: what is
 * rounded to BF16 once is right to half a unit of its last place, what stays F32 (the router, dot,
 * gradients of parameters) to the bounds of test_router.c and test_experts.c. Backends without BF16
 * skip. */
#include "kernels/swt_positional.h"
#include "selftest/oracle.h"
#include "support/judge.h"

#include <math.h>
#include <string.h>

/* The largest relative error of one rounding to BF16, whose significand has 8 bits. */
#define BF16_UNIT 0x1p-8

/* Inputs, uniform in [-1, 1). */
static uint16_t *uniform(swt_bed *bed, int64_t count) {
    uint16_t *x = swt_bed_in(bed, count, SWT_BF16);
    for (int64_t i = 0; i < count; i++)
        x[i] = swt_bf16_from_float((float)(2 * swt_bed_draw(bed) - 1));
    return x;
}

static double *doubles(swt_bed *bed, const uint16_t *from, int64_t count) {
    double *to = swt_bed_doubles(bed, count);
    for (int64_t i = 0; i < count; i++)
        to[i] = (double)swt_bf16_to_float(from[i]);
    return to;
}

/* got is want rounded once to BF16, after arithmetic whose error is `tolerance` of `scale` (its
 * root mean square; 8 times that at most, as in swt_expect_close). */
static void expect_rounded(const swt_bed *bed, const char *what, const uint16_t *got,
                           const double *want, int64_t n, double tolerance, double scale) {
    for (int64_t i = 0; i < n; i++)
        swt_expect_number(bed, what, (double)swt_bf16_to_float(got[i]), want[i],
                          BF16_UNIT * fabs(want[i]) + 8 * tolerance * scale);
}

/* False, and the test is skipped, where there is no BF16. */
static bool open_bf16(swt_bed *bed) {
    swt_bed_open(bed, 2);
    bed->ctx.dtype = SWT_BF16;
    if (bed->ctx.ops->bf16)
        return true;
    swt_bed_close(bed);
    return false;
}

/* ------------------------------------------------------------------ dispatch and combine */

typedef struct exchange {
    swt_moe_dims dims;
    uint16_t *h, *residual, *dy, *slots;
    float *gate, *dot;
    int32_t *expert, *slot, *kept, *counts;
} exchange;

/* N, C, E, capacity */
static const int64_t exchanges[][4] = {{1, 1, 1, 1},   {65, 7, 4, 10}, {130, 64, 5, 40},
                                       {40, 24, 3, 0}, {0, 8, 2, 3},   {90, 136, 2, 90}};
enum { EXCHANGES = sizeof exchanges / sizeof exchanges[0] };

static exchange exchange_inputs(swt_bed *bed, const int64_t *s, int options) {
    const int64_t N = s[0], C = s[1], E = s[2], K = s[3];
    swt_bed_begin(bed, "bf16 exchange N=%lld C=%lld E=%lld K=%lld options=%d", (long long)N,
                  (long long)C, (long long)E, (long long)K, options);
    exchange t = {.dims = swt_oracle_moe_dims(N, C, E)};
    t.dims.group_capacity = t.dims.K = K;
    t.dims.dropped_output = options & 1 ? SWT_DROPPED_GATED_INPUT : SWT_DROPPED_ZERO;
    t.dims.gate = options & 2 ? SWT_GATE_UNIT : SWT_GATE_SCALE;
    t.h = uniform(bed, N * C);
    t.residual = uniform(bed, N * C);
    t.dy = uniform(bed, N * C);
    t.slots = uniform(bed, E * K * C);
    t.gate = swt_bed_uniform(bed, N, 0.1, 1);
    t.dot = swt_bed_uniform(bed, E * K, -1, 1);
    t.expert = swt_bed_integers(bed, N, -1, (int)E - 1);
    t.slot = swt_bed_in(bed, N, SWT_I32);
    t.kept = swt_bed_in(bed, E, SWT_I32);
    t.counts = swt_bed_in(bed, E, SWT_I32);
    swt_oracle_router_assign(t.slot, t.kept, t.counts, t.expert, t.gate, &t.dims, 0, 0);
    return t;
}

/* Copies and one sum: every bit is known. */
static void dispatch_check(swt_bed *bed, const exchange *t) {
    const int64_t N = t->dims.N, C = t->dims.C, E = t->dims.E, K = t->dims.K;
    uint16_t *send = swt_bed_out(bed, E * K * C, SWT_BF16),
             *want = swt_bed_in(bed, E * K * C, SWT_BF16);
    int32_t *send_counts = swt_bed_out(bed, E, SWT_I32);
    SWT_BED_RUN(bed, pos_dispatch_forward(&bed->ctx, send, send_counts, t->h, t->expert, t->slot,
                                          t->kept, &t->dims, 0));
    for (int64_t n = 0; n < N; n++)
        if (t->slot[n] >= 0)
            memcpy(want + (t->expert[n] * K + t->slot[n]) * C, t->h + n * C,
                   (size_t)C * sizeof *want);
    for (int64_t i = 0; i < E * K; i++)
        if (bed->ctx.ops->all_slots || i % K < t->kept[i / K])
            swt_expect_bytes(bed, "send", send + i * C, want + i * C, C, SWT_BF16);
    swt_expect_i32(bed, "send_counts", send_counts, t->kept, E);
    uint16_t *dh = swt_bed_copy(bed, t->residual, N * C, SWT_BF16);
    float *dgate = swt_bed_out(bed, N, SWT_F32);
    SWT_BED_RUN(bed, pos_dispatch_backward(&bed->ctx, dh, dgate, t->slots, t->dot, t->expert,
                                           t->gate, t->slot, &t->dims));
    for (int64_t i = 0; i < N * C; i++) {
        const int64_t n = i / C, at = t->expert[n] * K + t->slot[n];
        uint16_t sum = t->residual[i];
        if (t->slot[n] >= 0) {
            const float quotient = t->dot[at] / t->gate[n];
            swt_expect_bytes(bed, "dgate", &dgate[n], &quotient, 1, SWT_F32);
            sum = swt_bf16_from_float(swt_bf16_to_float(t->residual[i]) +
                                      swt_bf16_to_float(t->slots[at * C + i % C]));
        }
        swt_expect_bytes(bed, "dh", &dh[i], &sum, 1, SWT_BF16);
    }
}

static void combine_check(swt_bed *bed, const exchange *t) {
    const swt_moe_dims *d = &t->dims;
    const int64_t NC = d->N * d->C, C = d->C, slots = d->E * d->K * C;
    uint16_t *y = swt_bed_out(bed, NC, SWT_BF16), *drecv = swt_bed_out(bed, slots, SWT_BF16),
             *dh = swt_bed_out(bed, NC, SWT_BF16);
    float *dgate = swt_bed_out(bed, d->N, SWT_F32);
    SWT_BED_RUN(bed, pos_combine_forward(&bed->ctx, y, t->residual, t->slots, t->h, t->expert,
                                         t->gate, t->slot, d, 0));
    SWT_BED_RUN(bed, pos_combine_backward(&bed->ctx, drecv, dgate, dh, t->dy, t->h, t->expert,
                                          t->gate, t->slot, d));
    const double *h = doubles(bed, t->h, NC), *recv = doubles(bed, t->slots, slots),
                 *dy = doubles(bed, t->dy, NC), *gate = swt_bed_widen(bed, t->gate, d->N);
    double *want_y = swt_bed_doubles(bed, NC), *want_drecv = swt_bed_doubles(bed, slots),
           *want_dgate = swt_bed_doubles(bed, d->N), *want_dh = swt_bed_doubles(bed, NC);
    swt_oracle_combine_forward(want_y, doubles(bed, t->residual, NC), recv, h, t->expert, gate,
                               t->slot, d, 0);
    swt_oracle_combine_backward(want_drecv, want_dgate, want_dh, dy, recv, h, t->expert, gate,
                                t->slot, d);
    expect_rounded(bed, "y", y, want_y, NC, SWT_UNIT, 1);
    expect_rounded(bed, "dh", dh, want_dh, NC, SWT_UNIT, 1);
    for (int64_t n = 0; n < d->N; n++) {
        const int64_t at = (t->expert[n] * d->K + t->slot[n]) * C;
        if (t->slot[n] >= 0)
            expect_rounded(bed, "drecv", drecv + at, want_drecv + at, C, SWT_UNIT, 1);
        else /* a sum of C products of numbers below 1, over a gate of 0.1 or more */
            swt_expect_number(bed, "dgate", (double)dgate[n], want_dgate[n],
                              40 * sqrt((double)C) * SWT_UNIT * (1 + fabs(want_dgate[n])));
    }
    for (int64_t i = 0; bed->ctx.ops->all_slots && i < slots; i++)
        if (i / C % d->K >= t->kept[i / C / d->K])
            assert_int_equal(drecv[i], 0);
}

static void test_exchange(void **state) {
    (void)state;
    swt_bed bed;
    if (!open_bf16(&bed))
        skip();
    for (int s = 0; s < EXCHANGES; s++)
        for (int options = 0; options < 4; options++) {
            const exchange t = exchange_inputs(&bed, exchanges[s], options);
            dispatch_check(&bed, &t);
            combine_check(&bed, &t);
        }
    swt_bed_close(&bed);
}

/* ------------------------------------------------------------------ experts */

typedef struct experts {
    swt_moe_dims dims;
    int32_t *counts;
    uint16_t *x, *wi, *bi, *wo, *bo, *y, *hidden, *dy, *dx, *dhidden;
    float *dot, *dwi, *dbi, *dwo, *dbo;
} experts;

/* El, P, K, C, F */
static const int64_t feeds[][5] = {
    {1, 1, 1, 1, 1}, {2, 3, 5, 7, 3}, {4, 1, 33, 32, 64}, {1, 3, 20, 24, 40}, {2, 1, 0, 8, 8}};
enum { FEEDS = sizeof feeds / sizeof feeds[0] };

/* Rows of slots, with zeros in those that are not occupied. */
static uint16_t *slots(swt_bed *bed, const experts *t, int64_t width) {
    const int64_t K = t->dims.K, rows = t->dims.El * t->dims.P * K;
    uint16_t *x = uniform(bed, rows * width);
    for (int64_t i = 0; i < rows * width; i++)
        if (i / width % K >= t->counts[i / width / K])
            x[i] = 0;
    return x;
}

static experts run_experts(swt_bed *bed, const int64_t *s, bool bias) {
    const int64_t El = s[0], P = s[1], K = s[2], C = s[3], F = s[4], rows = El * P * K;
    swt_bed_begin(bed, "bf16 experts El=%lld P=%lld K=%lld C=%lld F=%lld bias=%d", (long long)El,
                  (long long)P, (long long)K, (long long)C, (long long)F, bias);
    experts t = {.dims = swt_oracle_moe_dims(K, C, El * P)};
    t.dims.El = El;
    t.dims.P = P;
    t.dims.F = F;
    t.counts = swt_bed_integers(bed, El * P, 0, (int)K);
    t.x = slots(bed, &t, C);
    t.dy = slots(bed, &t, C);
    t.wi = uniform(bed, El * F * C);
    t.wo = uniform(bed, El * F * C);
    t.bi = bias ? uniform(bed, El * F) : NULL;
    t.bo = bias ? uniform(bed, El * C) : NULL;
    t.y = swt_bed_out(bed, rows * C, SWT_BF16);
    t.dx = swt_bed_out(bed, rows * C, SWT_BF16);
    t.hidden = swt_bed_out(bed, rows * F, SWT_BF16);
    t.dhidden = swt_bed_out(bed, rows * F, SWT_BF16);
    t.dot = swt_bed_out(bed, rows, SWT_F32);
    t.dwi = swt_bed_out(bed, El * F * C, SWT_F32);
    t.dwo = swt_bed_out(bed, El * F * C, SWT_F32);
    t.dbi = bias ? swt_bed_out(bed, El * F, SWT_F32) : NULL;
    t.dbo = bias ? swt_bed_out(bed, El * C, SWT_F32) : NULL;
    SWT_BED_RUN(bed, pos_experts_forward(&bed->ctx, t.y, t.hidden, t.x, t.wi, t.bi, t.wo, t.bo,
                                         t.counts, &t.dims));
    SWT_BED_RUN(bed, pos_experts_backward_input(&bed->ctx, t.dx, t.dhidden, t.dot, t.dy, t.hidden,
                                                t.wi, t.wo, t.bo, t.counts, &t.dims));
    SWT_BED_RUN(bed,
                pos_experts_backward_weight(&bed->ctx, t.dwi, t.dbi, t.dwo, t.dbo, t.x, t.hidden,
                                            t.dhidden, t.dy, t.counts, &t.dims, NULL));
    return t;
}

/* Each result from the rounded ones that it is made of, so that one rounding is all there is. */
static void block_check(swt_bed *bed, const experts *t, int64_t j, int64_t p) {
    const int64_t C = t->dims.C, F = t->dims.F, at = (j * t->dims.P + p) * t->dims.K;
    const int64_t n = t->counts[j * t->dims.P + p], FC = F * C;
    const double *wi = doubles(bed, t->wi + j * FC, FC), *wo = doubles(bed, t->wo + j * FC, FC),
                 *bi = t->bi != NULL ? doubles(bed, t->bi + j * F, F) : NULL,
                 *bo = t->bo != NULL ? doubles(bed, t->bo + j * C, C) : NULL,
                 *x = doubles(bed, t->x + at * C, n * C), *dy = doubles(bed, t->dy + at * C, n * C),
                 *hidden = doubles(bed, t->hidden + at * F, n * F),
                 *dhidden = doubles(bed, t->dhidden + at * F, n * F);
    double *want_f = swt_bed_doubles(bed, n * F), *want_c = swt_bed_doubles(bed, n * C),
           *dot = swt_bed_doubles(bed, n), *out = swt_bed_doubles(bed, n);
    swt_oracle_linear_forward(want_f, x, wi, bi, NULL, n, C, F, true);
    expect_rounded(bed, "hidden", t->hidden + at * F, want_f, n * F, swt_sum_error(C),
                   swt_sum_size(C));
    swt_oracle_linear_forward(want_c, hidden, wo, bo, NULL, n, F, C, false);
    expect_rounded(bed, "y", t->y + at * C, want_c, n * C, swt_sum_error(F),
                   swt_sum_size(C) * swt_sum_size(F));
    for (int64_t i = 0; i < n; i++) {
        out[i] = swt_inner(dy + i * C, want_c + i * C, C);
        dot[i] = swt_inner(dhidden + i * F, hidden + i * F, F) +
                 (bo != NULL ? swt_inner(dy + i * C, bo, C) : 0);
    }
    const double dot_size = swt_sum_size(C) * swt_sum_size(C) * swt_sum_size(F);
    swt_expect_close(bed, "dot", t->dot + at, dot, n, swt_sum_error(F) + swt_sum_error(C),
                     dot_size);
    swt_expect_close(bed, "dot as dy . y", t->dot + at, out, n, BF16_UNIT, dot_size);
    swt_oracle_linear_backward_input(want_f, dy, wo, hidden, n, F, C);
    expect_rounded(bed, "dhidden", t->dhidden + at * F, want_f, n * F, swt_sum_error(C),
                   swt_sum_size(C));
    swt_oracle_linear_backward_input(want_c, dhidden, wi, NULL, n, C, F);
    expect_rounded(bed, "dx", t->dx + at * C, want_c, n * C, swt_sum_error(F),
                   swt_sum_size(C) * swt_sum_size(F));
}

/* The sums over the sources stay F32. */
static void weights_check(swt_bed *bed, const experts *t, int64_t j) {
    const int64_t C = t->dims.C, F = t->dims.F, P = t->dims.P, FC = F * C;
    double *dwi = swt_bed_doubles(bed, FC), *dwo = swt_bed_doubles(bed, FC),
           *dbi = swt_bed_doubles(bed, F), *dbo = swt_bed_doubles(bed, C);
    int64_t rows = 0;
    for (int64_t p = 0; p < P; p++) {
        const int64_t at = (j * P + p) * t->dims.K, n = t->counts[j * P + p];
        const double *dy = doubles(bed, t->dy + at * C, n * C),
                     *x = doubles(bed, t->x + at * C, n * C),
                     *hidden = doubles(bed, t->hidden + at * F, n * F),
                     *dhidden = doubles(bed, t->dhidden + at * F, n * F);
        swt_oracle_linear_backward_weight(dwi, dbi, dhidden, x, n, C, F);
        swt_oracle_linear_backward_weight(dwo, dbo, dy, hidden, n, F, C);
        rows += n;
    }
    const double size = swt_sum_size(C) * swt_sum_size(rows);
    swt_expect_close(bed, "dwi", t->dwi + j * FC, dwi, FC, swt_sum_error(rows), size);
    swt_expect_close(bed, "dwo", t->dwo + j * FC, dwo, FC, swt_sum_error(rows), size);
    if (t->dbi != NULL) {
        swt_expect_close(bed, "dbi", t->dbi + j * F, dbi, F, swt_sum_error(rows), size);
        swt_expect_close(bed, "dbo", t->dbo + j * C, dbo, C, swt_sum_error(rows), size);
    }
}

static void test_experts(void **state) {
    (void)state;
    swt_bed bed;
    if (!open_bf16(&bed))
        skip();
    for (int s = 0; s < FEEDS; s++)
        for (int bias = 0; bias < 2; bias++) {
            const experts t = run_experts(&bed, feeds[s], bias);
            for (int64_t j = 0; j < t.dims.El; j++) {
                const swt_bed_mark mark = swt_bed_set_mark(&bed);
                for (int64_t p = 0; p < t.dims.P; p++) {
                    block_check(&bed, &t, j, p);
                    swt_bed_back_to(&bed, mark);
                }
                weights_check(&bed, &t, j);
                swt_bed_back_to(&bed, mark);
            }
        }
    swt_bed_close(&bed);
}

/* ------------------------------------------------------------------ the router */

/* N, C, E; the third takes its input in two pieces on a GPU. */
static const int64_t routers[][3] = {
    {6, 7, 2}, {130, 64, 16}, {5000, 3, 4}, {0, 8, 4}, {33, 16, 70}};
enum { ROUTERS = sizeof routers / sizeof routers[0] };

typedef struct router {
    swt_moe_dims dims;
    uint16_t *h, *old_dh, *dh;
    float *w, *bias, *probs, *lse, *gate, *dgate, *dw, *dbias;
    int32_t *routed, *expert, *slot, *kept, *counts;
} router;

static router run_router(swt_bed *bed, const int64_t *s, float jitter) {
    const int64_t N = s[0], C = s[1], E = s[2];
    swt_bed_begin(bed, "bf16 router N=%lld C=%lld E=%lld jitter=%g", (long long)N, (long long)C,
                  (long long)E, (double)jitter);
    router t = {.dims = swt_oracle_moe_dims(N, C, E)};
    t.dims.jitter = jitter;
    t.dims.aux_scale = 0.2 * (double)N;
    t.dims.z_scale = 0.1 * (double)N;
    t.h = uniform(bed, N * C);
    t.old_dh = uniform(bed, N * C);
    t.dh = swt_bed_copy(bed, t.old_dh, N * C, SWT_BF16);
    t.w = swt_bed_uniform(bed, E * C, -1, 1);
    t.bias = swt_bed_uniform(bed, E, -1, 1);
    t.dgate = swt_bed_uniform(bed, N, -1, 1);
    t.routed = swt_bed_integers(bed, N, 0, 3);
    t.probs = swt_bed_out(bed, N * E, SWT_F32);
    t.lse = swt_bed_out(bed, N, SWT_F32);
    t.gate = swt_bed_out(bed, N, SWT_F32);
    t.dw = swt_bed_out(bed, E * C, SWT_F32);
    t.dbias = swt_bed_out(bed, E, SWT_F32);
    t.expert = swt_bed_out(bed, N, SWT_I32);
    t.slot = swt_bed_out(bed, N, SWT_I32);
    t.kept = swt_bed_out(bed, E, SWT_I32);
    t.counts = swt_bed_out(bed, E, SWT_I32);
    void *scratch = swt_bed_scratch(bed, swt_router_scratch_bytes(&t.dims));
    SWT_BED_RUN(bed, pos_router_forward(&bed->ctx, t.probs, t.lse, t.expert, t.gate, t.h, t.w,
                                        t.bias, t.routed, scratch, &t.dims));
    SWT_BED_RUN(bed, pos_router_assign(&bed->ctx, t.slot, t.kept, t.counts, t.expert, t.gate,
                                       scratch, &t.dims));
    SWT_BED_RUN(bed, pos_router_backward(&bed->ctx, t.dh, t.dw, t.dbias, t.dgate, t.h, t.w, t.probs,
                                         t.lse, t.expert, t.gate, t.counts, scratch, &t.dims));
    return t;
}

/* The bounds are test_router.c's, but for dh, which is rounded to BF16. */
static void router_check(swt_bed *bed, const router *t) {
    const swt_moe_dims *d = &t->dims;
    const int64_t N = d->N, C = d->C, E = d->E;
    const double *h = doubles(bed, t->h, N * C), *w = swt_bed_widen(bed, t->w, E * C),
                 *bias = swt_bed_widen(bed, t->bias, E);
    double *factor = swt_bed_doubles(bed, N * C), *z = swt_bed_doubles(bed, N * E),
           *probs = swt_bed_doubles(bed, N * E), *lse = swt_bed_doubles(bed, N),
           *dw = swt_bed_doubles(bed, E * C), *dbias = swt_bed_doubles(bed, E),
           *dh = doubles(bed, t->old_dh, N * C), *dz = swt_bed_doubles(bed, N * E);
    swt_oracle_jitter(factor, d, bed->ctx.state->seed, bed->ctx.state->step);
    swt_oracle_router_forward(z, probs, lse, h, factor, w, bias, d);
    const double tolerance = (12 + 2 * sqrt((double)E) + 3 * (double)C) * SWT_UNIT;
    swt_expect_close(bed, "probs", t->probs, probs, N * E, tolerance, 0);
    swt_expect_close(bed, "lse", t->lse, lse, N, tolerance, 1);
    for (int64_t n = 0; n < N; n++) {
        const double *logits = z + n * E;
        assert_true((t->expert[n] < 0) == (t->routed[n] == 0));
        if (t->expert[n] >= 0)
            swt_expect_number(bed, "logit of the expert", logits[t->expert[n]],
                              logits[swt_oracle_argmax(logits, E)], 8 * tolerance);
    }
    swt_oracle_router_backward(dz, dh, dw, dbias, swt_bed_widen(bed, t->dgate, N), h, factor, w,
                               swt_bed_widen(bed, t->probs, N * E), swt_bed_widen(bed, t->lse, N),
                               t->expert, swt_bed_widen(bed, t->gate, N), t->counts, d);
    double size = 0.1;
    for (int64_t i = 0; i < N * E; i++)
        size = fmax(size, fabs(dz[i]));
    const double rows = sqrt(1 + (double)N), roots = sqrt((double)E);
    const double dz_error = 8 * size * SWT_UNIT;
    expect_rounded(bed, "dh", t->dh, dh, N * C, dz_error * roots * (1 + roots), 1);
    swt_expect_close(bed, "dw", t->dw, dw, E * C, dz_error * rows, rows);
    swt_expect_close(bed, "dbias", t->dbias, dbias, E, dz_error * rows, rows);
}

static void test_router(void **state) {
    (void)state;
    swt_bed bed;
    if (!open_bf16(&bed))
        skip();
    for (int s = 0; s < ROUTERS; s++)
        for (int jitter = 0; jitter < 2; jitter++) {
            const router t = run_router(&bed, routers[s], jitter ? 0.2F : 0);
            router_check(&bed, &t);
        }
    swt_bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exchange),
        cmocka_unit_test(test_experts),
        cmocka_unit_test(test_router),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
