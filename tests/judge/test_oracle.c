/* The oracle's gradients against finite differences of its own forward formulas. */
#include "judge/oracle.h"
#include "support/trial.h"

#include <math.h>

/* Numbers uniform in [low, high). */
static double *uniform(swt_trial *t, int64_t n, double low, double high) {
    double *x = swt_trial_doubles(t, n);
    for (int64_t i = 0; i < n; i++)
        x[i] = low + (high - low) * swt_trial_draw(t);
    return x;
}

static double *numbers(swt_trial *t, int64_t n) {
    return uniform(t, n, -1, 1);
}

/* The loss whose gradient with respect to b is a. */
static double inner(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* dx is the gradient of f with respect to x (n), which f reads: central differences. */
static void expect_gradient(swt_trial *t, const char *what, double (*f)(const void *context),
                            const void *context, double *x, int64_t n, const double *dx) {
    /* The difference is wrong by about h^2 from the curvature and by 2^-53 |f| / h from rounding,
     * both 1e-10 for values around 1 to 10; 1e-7 leaves room for the steeper functions and is still
     * far below any mistake. */
    const double h = 1e-5, limit = 1e-7;
    for (int64_t i = 0; i < n; i++) {
        const double kept = x[i];
        x[i] = kept + h;
        const double above = f(context);
        x[i] = kept - h;
        const double below = f(context);
        x[i] = kept;
        const double slope = (above - below) / (2 * h);
        swt_trial_number(t, what, dx[i], slope, limit * (1 + fabs(slope)));
    }
}

/* ---- dense layers */

typedef struct linear {
    int64_t n, C, F;
    double *x, *wi, *bi, *wo, *bo, *hidden, *y, *dy;
} linear;

static double linear_loss(const void *context) {
    const linear *o = context;
    swt_oracle_linear_forward(o->hidden, o->x, o->wi, o->bi, NULL, o->n, o->C, o->F, true);
    swt_oracle_linear_forward(o->y, o->hidden, o->wo, o->bo, NULL, o->n, o->F, o->C, false);
    return inner(o->dy, o->y, o->n * o->C);
}

/* Two linear layers with a ReLU between them: the chain that the experts' cases are made of, too.
 */
static void test_linear(void **state) {
    enum { N = 4, C = 3, F = 5 };
    swt_trial *t = swt_test_trial(state);
    swt_trial_begin(t, "linear");
    const linear o = {.n = N,
                      .C = C,
                      .F = F,
                      .x = numbers(t, N * C),
                      .wi = numbers(t, F * C),
                      .bi = numbers(t, F),
                      .wo = numbers(t, F * C),
                      .bo = numbers(t, C),
                      .hidden = swt_trial_doubles(t, N * F),
                      .y = swt_trial_doubles(t, N * C),
                      .dy = numbers(t, N * C)};
    double *dhidden = swt_trial_doubles(t, N * F), *dx = swt_trial_doubles(t, N * C),
           *dwi = swt_trial_doubles(t, F * C), *dwo = swt_trial_doubles(t, F * C),
           *dbi = swt_trial_doubles(t, F), *dbo = swt_trial_doubles(t, C);
    (void)linear_loss(&o);
    swt_oracle_linear_backward_input(dhidden, o.dy, o.wo, o.hidden, N, F, C);
    swt_oracle_linear_backward_input(dx, dhidden, o.wi, NULL, N, C, F);
    swt_oracle_linear_backward_weight(dwi, dbi, dhidden, o.x, N, C, F);
    swt_oracle_linear_backward_weight(dwo, dbo, o.dy, o.hidden, N, F, C);
    expect_gradient(t, "dx", linear_loss, &o, o.x, N * C, dx);
    expect_gradient(t, "dwi", linear_loss, &o, o.wi, F * C, dwi);
    expect_gradient(t, "dbi", linear_loss, &o, o.bi, F, dbi);
    expect_gradient(t, "dwo", linear_loss, &o, o.wo, F * C, dwo);
    expect_gradient(t, "dbo", linear_loss, &o, o.bo, C, dbo);
}

/* The forward pass is linear in the table: <dx, forward(table)> = <backward(dx), table>. */
static void test_embedding(void **state) {
    enum { N = 50, C = 7, V = 9 };
    swt_trial *t = swt_test_trial(state);
    swt_trial_begin(t, "embedding");
    const double *table = numbers(t, V * C), *dx = numbers(t, N * C);
    const int32_t *tokens = swt_trial_integers(t, N, 0, V - 1);
    double *x = swt_trial_doubles(t, N * C), *dtable = swt_trial_doubles(t, V * C);
    for (int64_t i = 0; i < N * C; i++)
        x[i] = table[tokens[i / C] * C + i % C];
    swt_oracle_embedding_backward(dtable, dx, tokens, N, C);
    /* Both sides are sums of 350 products below 1 in double. */
    swt_trial_number(t, "<dx, x>", inner(dx, x, N * C), inner(dtable, table, V * C), 350 * 0x1p-52);
}

typedef struct norm {
    int64_t N, C;
    double *x, *weight, *bias, *y, *mean, *rstd, *dy;
} norm;

static double norm_loss(const void *context) {
    const norm *o = context;
    swt_oracle_norm_forward(o->y, o->mean, o->rstd, o->x, o->weight, o->bias, o->N, o->C, 1e-5,
                            0.3);
    return inner(o->dy, o->y, o->N * o->C);
}

/* With a mean and a bias, and the RMS norm, which has neither. */
static void test_norm(void **state) {
    enum { N = 4, C = 6 };
    swt_trial *t = swt_test_trial(state);
    for (int rms = 0; rms < 2; rms++) {
        swt_trial_begin(t, "norm, rms %d", rms);
        const norm o = {.N = N,
                        .C = C,
                        .x = numbers(t, N * C),
                        .weight = numbers(t, C),
                        .bias = rms ? NULL : numbers(t, C),
                        .y = swt_trial_doubles(t, N * C),
                        .mean = rms ? NULL : swt_trial_doubles(t, N),
                        .rstd = swt_trial_doubles(t, N),
                        .dy = numbers(t, N * C)};
        double *dx = swt_trial_doubles(t, N * C), *dweight = swt_trial_doubles(t, C),
               *dbias = rms ? NULL : swt_trial_doubles(t, C);
        (void)norm_loss(&o);
        swt_oracle_norm_backward(dx, dweight, dbias, o.dy, NULL, o.x, o.mean, o.rstd, o.weight, N,
                                 C, 0.3);
        expect_gradient(t, "dx", norm_loss, &o, o.x, N * C, dx);
        expect_gradient(t, "dweight", norm_loss, &o, o.weight, C, dweight);
        if (!rms)
            expect_gradient(t, "dbias", norm_loss, &o, o.bias, C, dbias);
    }
}

typedef struct gelu {
    int64_t N, F;
    bool gated;
    double *x, *y, *dy;
} gelu;

static double gelu_loss(const void *context) {
    const gelu *o = context;
    swt_oracle_gelu_forward(o->y, o->x, o->N, o->F, o->gated);
    return inner(o->dy, o->y, o->N * o->F);
}

static void test_gelu(void **state) {
    enum { N = 4, F = 5 };
    swt_trial *t = swt_test_trial(state);
    for (int gated = 0; gated < 2; gated++) {
        swt_trial_begin(t, "gelu, gated %d", gated);
        const int64_t n = N * F * (gated ? 2 : 1);
        const gelu o = {.N = N,
                        .F = F,
                        .gated = gated,
                        .x = uniform(t, n, -3, 3),
                        .y = swt_trial_doubles(t, N * F),
                        .dy = numbers(t, N * F)};
        double *dx = swt_trial_doubles(t, n);
        swt_oracle_gelu_backward(dx, o.dy, o.x, N, F, gated);
        expect_gradient(t, "dx", gelu_loss, &o, o.x, n, dx);
    }
}

typedef struct attention {
    swt_attention_dims d;
    const int32_t *lengths;
    double *q, *k, *v, *bias, *y, *lse, *dy;
} attention;

static swt_oracle_attention inputs_of(const attention *o) {
    return (swt_oracle_attention){.seed = 3,
                                  .step = 4,
                                  .q = o->q,
                                  .k = o->k,
                                  .v = o->v,
                                  .bias = o->bias,
                                  .key_lengths = o->lengths,
                                  .d = &o->d};
}

static double attention_loss(const void *context) {
    const attention *o = context;
    const swt_oracle_attention a = inputs_of(o);
    swt_oracle_attention_forward(o->y, o->lse, &a);
    return inner(o->dy, o->y, o->d.B * o->d.Tq * o->d.H * o->d.D);
}

/* With numbers between the rows, which have no gradient; no mask, causal, and whole sequences; the
 * second and the third with dropout. */
static void test_attention(void **state) {
    enum {
        B = 2,
        H = 2,
        D = 3,
        TQ = 4,
        TK = 5,
        Q = B * TQ * 7,
        KV = B * TK * 6,
        Y = B * TQ * H * D
    };
    static const int32_t lengths[B] = {3, 5};
    swt_trial *t = swt_test_trial(state);
    for (int i = 0; i < 3; i++) {
        swt_trial_begin(t, "attention %d", i);
        const attention o = {
            .d = {.B = B,
                  .H = H,
                  .D = D,
                  .Tq = TQ,
                  .Tk = TK,
                  .q_stride = 7,
                  .kv_stride = 6,
                  .mask = i == 0 ? SWT_MASK_NONE : SWT_MASK_CAUSAL,
                  .scale = 0.7F,
                  .dropout = swt_dropout_mask_of(i == 0 ? 0 : 0.4, SWT_DROPOUT_WEIGHTS, 1, 9)},
            .lengths = i == 2 ? NULL : lengths,
            .q = numbers(t, Q),
            .k = numbers(t, KV),
            .v = numbers(t, KV),
            .bias = i == 0 ? NULL : numbers(t, H * SWT_BIAS_DISTANCES),
            .y = swt_trial_doubles(t, Y),
            .lse = swt_trial_doubles(t, Y),
            .dy = numbers(t, Y)};
        double *dq = swt_trial_doubles(t, Q), *dk = swt_trial_doubles(t, KV),
               *dv = swt_trial_doubles(t, KV);
        double *dbias = i == 0 ? NULL : swt_trial_doubles(t, H * SWT_BIAS_DISTANCES);
        const swt_oracle_attention a = inputs_of(&o);
        (void)attention_loss(&o);
        swt_oracle_attention_backward(
            &(swt_oracle_attention_gradients){.dq = dq, .dk = dk, .dv = dv, .dbias = dbias}, o.dy,
            o.y, o.lse, &a);
        expect_gradient(t, "dq", attention_loss, &o, o.q, Q, dq);
        expect_gradient(t, "dk", attention_loss, &o, o.k, KV, dk);
        expect_gradient(t, "dv", attention_loss, &o, o.v, KV, dv);
        if (dbias != NULL)
            expect_gradient(t, "dbias", attention_loss, &o, o.bias, H * SWT_BIAS_DISTANCES, dbias);
    }
}

typedef struct entropy {
    double *logits;
    const int32_t *targets;
    int64_t N, V;
    double z_coef;
} entropy;

/* The sums over the real targets, over their number in the batch (5). */
static double entropy_loss(const void *context) {
    const entropy *o = context;
    double stats[SWT_LOSS_STATS];
    swt_oracle_cross_entropy(NULL, stats, o->logits, o->targets, 5, o->N, o->V, 0);
    return (stats[SWT_LOSS_SUM] + o->z_coef * stats[SWT_LOSS_Z]) / 5;
}

static void test_cross_entropy(void **state) {
    enum { N = 8, V = 6 };
    swt_trial *t = swt_test_trial(state);
    swt_trial_begin(t, "cross-entropy");
    entropy o = {.logits = uniform(t, N * V, -2, 2),
                 .targets = swt_trial_integers(t, N, -1, V - 1),
                 .N = N,
                 .V = V};
    double *dlogits = swt_trial_doubles(t, N * V), stats[SWT_LOSS_STATS];
    for (int z = 0; z < 2; z++) {
        o.z_coef = 0.3 * z;
        swt_oracle_cross_entropy(dlogits, stats, o.logits, o.targets, 5, N, V, o.z_coef);
        expect_gradient(t, "dlogits", entropy_loss, &o, o.logits, N * V, dlogits);
    }
}

/* ---- the switch layer */

/* Experts, slots and counts are constants of every loss here. */
typedef struct routing {
    swt_moe_dims d;
    int32_t *expert, *slot, *kept_counts, *group_counts;
} routing;

/* Experts at random, some tokens not routed; too little room for some of the others. */
static routing route(swt_trial *t, int64_t N, int64_t C, int64_t E, int64_t G) {
    routing r = {.d = swt_oracle_moe_dims(N, C, E),
                 .expert = swt_trial_integers(t, N, -1, (int)E - 1),
                 .slot = swt_trial_in(t, N, SWT_I32),
                 .kept_counts = swt_trial_in(t, E, SWT_I32),
                 .group_counts = swt_trial_in(t, G * E, SWT_I32)};
    r.d.G = G;
    r.d.group_capacity = 2;
    r.d.K = 2 * G;
    swt_oracle_router_assign(r.slot, r.kept_counts, r.group_counts, r.expert, NULL, &r.d, 0, 0);
    return r;
}

typedef struct router {
    routing r;
    double *h, *factor, *w, *bias, *z, *probs, *lse, *dgate;
} router;

/* The gates weighed by dgate, and both losses of every group, which are not divided by G. */
static double router_loss(const void *context) {
    const router *o = context;
    const swt_moe_dims *d = &o->r.d;
    double stats[3 + 16], loss = 0;
    swt_oracle_router_forward(o->z, o->probs, o->lse, o->h, o->factor, o->w, o->bias, d);
    swt_oracle_router_losses(stats, o->probs, o->lse, o->r.expert, o->r.kept_counts,
                             o->r.group_counts, d);
    for (int64_t n = 0; n < d->N; n++)
        if (o->r.expert[n] >= 0)
            loss += o->dgate[n] * o->probs[n * d->E + o->r.expert[n]];
    return loss +
           (double)d->G * (d->aux_scale * stats[SWT_ROUTER_AUX] + d->z_scale * stats[SWT_ROUTER_Z]);
}

static void test_router(void **state) {
    enum { N = 12, C = 4, E = 3, G = 2 };
    swt_trial *t = swt_test_trial(state);
    swt_trial_begin(t, "router");
    router o = {.r = route(t, N, C, E, G),
                .h = numbers(t, N * C),
                .factor = swt_trial_doubles(t, N * C),
                .w = numbers(t, E * C),
                .bias = numbers(t, E),
                .z = swt_trial_doubles(t, N * E),
                .probs = swt_trial_doubles(t, N * E),
                .lse = swt_trial_doubles(t, N),
                .dgate = numbers(t, N)};
    swt_moe_dims *d = &o.r.d;
    d->jitter = 0.3F;
    d->aux_scale = 3;
    d->z_scale = 2;
    swt_oracle_jitter(o.factor, d, 42, 7);
    (void)router_loss(&o);
    double *gate = swt_trial_doubles(t, N), *dz = swt_trial_doubles(t, N * E),
           *dh = swt_trial_doubles(t, N * C), *dw = swt_trial_doubles(t, E * C),
           *dbias = swt_trial_doubles(t, E);
    for (int64_t n = 0; n < N; n++)
        gate[n] = o.r.expert[n] >= 0 ? o.probs[n * E + o.r.expert[n]] : 0;
    swt_oracle_router_backward(dz, dh, dw, dbias, o.dgate, o.h, o.factor, o.w, o.probs, o.lse,
                               o.r.expert, gate, o.r.group_counts, d);
    expect_gradient(t, "dh", router_loss, &o, o.h, N * C, dh);
    expect_gradient(t, "dw", router_loss, &o, o.w, E * C, dw);
    expect_gradient(t, "dbias", router_loss, &o, o.bias, E, dbias);
}

typedef struct exchange {
    routing r;
    double *y, *residual, *recv, *h, *gate, *first_gate, *dy;
} exchange;

/* With unit gates y is multiplied by gate / (the gate as a constant), which is 1. */
static double combine_loss(const void *context) {
    const exchange *o = context;
    const swt_moe_dims *d = &o->r.d;
    swt_oracle_combine_forward(o->y, o->residual, o->recv, o->h, o->r.expert, o->gate, o->r.slot, d,
                               0);
    double loss = 0;
    for (int64_t i = 0; i < d->N * d->C; i++) {
        const int64_t n = i / d->C;
        const double ratio =
            d->gate == SWT_GATE_UNIT && o->first_gate[n] > 0 ? o->gate[n] / o->first_gate[n] : 1;
        loss += o->dy[i] * ratio * (o->y[i] - o->residual[i]);
    }
    return loss;
}

static void test_combine(void **state) {
    enum { N = 14, C = 7, E = 2, SLOTS = E * 2 * C };
    swt_trial *t = swt_test_trial(state);
    for (int options = 0; options < 4; options++) {
        swt_trial_begin(t, "combine, options %d", options);
        exchange o = {.r = route(t, N, C, E, 1),
                      .y = swt_trial_doubles(t, N * C),
                      .residual = numbers(t, N * C),
                      .recv = numbers(t, SLOTS),
                      .h = numbers(t, N * C),
                      .gate = uniform(t, N, 0.1, 1),
                      .first_gate = swt_trial_doubles(t, N),
                      .dy = numbers(t, N * C)};
        o.r.d.dropped_output = options & 1 ? SWT_DROPPED_GATED_INPUT : SWT_DROPPED_ZERO;
        o.r.d.gate = options & 2 ? SWT_GATE_UNIT : SWT_GATE_SCALE;
        for (int n = 0; n < N; n++)
            o.first_gate[n] = o.gate[n] *= o.r.expert[n] < 0 ? 0 : 1;
        double *drecv = swt_trial_doubles(t, SLOTS), *dgate = swt_trial_doubles(t, N),
               *dh = swt_trial_doubles(t, N * C);
        swt_oracle_combine_backward(drecv, dgate, dh, o.dy, o.recv, o.h, o.r.expert, o.gate,
                                    o.r.slot, &o.r.d);
        expect_gradient(t, "drecv", combine_loss, &o, o.recv, SLOTS, drecv);
        expect_gradient(t, "dgate", combine_loss, &o, o.gate, N, dgate);
        expect_gradient(t, "dh", combine_loss, &o, o.h, N * C, dh);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),    cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_norm),      cmocka_unit_test(test_gelu),
        cmocka_unit_test(test_attention), cmocka_unit_test(test_cross_entropy),
        cmocka_unit_test(test_router),    cmocka_unit_test(test_combine),
    };
    return cmocka_run_group_tests(tests, swt_test_setup, swt_test_teardown);
}
