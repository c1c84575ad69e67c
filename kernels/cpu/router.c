#include "kernels/cpu/router.h"

#include "base/checked.h"
#include "kernels/cpu/product.h"

#include <math.h>
#include <string.h>

enum {
    TOKENS = 128,      /* of a part that runs over tokens */
    EXPERTS = 64,      /* of a part that sums over tokens */
    JITTER_CHUNK = 256 /* factors at a time */
};

static bool jitters(const swt_moe_dims *d) {
    return d->training && d->jitter > 0.0f;
}

/* The factors 1 + jitter (2 u - 1) of n elements of (N, C) from `first` on. */
static void jitter_factors(float *factor, int64_t first, int64_t n, const swt_step_state *state,
                           const swt_moe_dims *d) {
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = swt_rng(state->seed, (uint32_t)(first + i), d->micro_batch,
                                      (uint32_t)state->step, SWT_RNG_JITTER, d->layer)
                                  .v[0];
        factor[i] = 1.0f + d->jitter * (2.0f * swt_rng_uniform(bits) - 1.0f);
    }
}

/* ------------------------------------------------------------------ forward */

typedef struct forward_args {
    const swt_ctx *c;
    const swt_moe_dims *d;
    float *probs, *lse;
    int32_t *expert;
    float *gate;
    const float *h, *w, *bias;
    const int32_t *routed;
    float *jittered; /* (N, C), scratch */
} forward_args;

/* Lowest index of the largest; NaN is no larger than anything. */
static int32_t argmax(const float *z, int64_t E) {
    float largest = -INFINITY;
    int32_t at = 0;
    for (int32_t e = 0; e < E; e++)
        if (z[e] > largest) {
            largest = z[e];
            at = e;
        }
    return at;
}

static const float *jitter_rows(const forward_args *a, int64_t first, int64_t tokens) {
    const int64_t C = a->d->C;
    if (!jitters(a->d))
        return a->h + first * C;
    float factor[JITTER_CHUNK];
    for (int64_t i = first * C; i < (first + tokens) * C; i += JITTER_CHUNK) {
        const int64_t n = swt_min(JITTER_CHUNK, (first + tokens) * C - i);
        jitter_factors(factor, i, n, a->c->state, a->d);
        for (int64_t m = 0; m < n; m++)
            a->jittered[i + m] = a->h[i + m] * factor[m];
    }
    return a->jittered + first * C;
}

static void logits(const forward_args *a, int64_t first, int64_t tokens) {
    const int64_t C = a->d->C, E = a->d->E;
    const float *x = jitter_rows(a, first, tokens);
    for (int64_t e = 0; e < E; e += SWT_COLUMNS) {
        const swt_vec_product p = {.c = a->probs + first * E + e,
                                   .a = x,
                                   .b = a->w + e * C,
                                   .bias = a->bias != NULL ? a->bias + e : NULL,
                                   .rows = tokens,
                                   .columns = swt_min(SWT_COLUMNS, E - e),
                                   .k = C,
                                   .c_stride = E,
                                   .a_row = C,
                                   .a_step = 1,
                                   .b_step = C};
        swt_cpu_block_nt(a->c, &p);
    }
}

static void forward_part(const void *args, int64_t part) {
    const forward_args *a = args;
    const swt_vec *vec = swt_cpu_vec(a->c);
    const int64_t E = a->d->E, k = a->d->k, first = part * TOKENS;
    const int64_t tokens = swt_min(TOKENS, a->d->N - first);
    logits(a, first, tokens);
    for (int64_t n = first; n < first + tokens; n++) {
        float *z = a->probs + n * E;
        const int32_t e = argmax(z, E);
        a->lse[n] = vec->softmax(z, z, E);
        a->expert[n * k] = a->routed[n] ? e : -1;
        a->gate[n * k] = a->routed[n] ? z[e] : 0.0f;
    }
}

swt_status swt_cpu_router_forward(const swt_ctx *c, float *probs, float *lse, int32_t *expert,
                                  float *gate, const void *h, const float *w, const float *bias,
                                  const int32_t *routed, void *scratch, const swt_moe_dims *dims) {
    const forward_args a = {.c = c,
                            .d = dims,
                            .probs = probs,
                            .lse = lse,
                            .expert = expert,
                            .gate = gate,
                            .h = h,
                            .w = w,
                            .bias = bias,
                            .routed = routed,
                            .jittered = scratch};
    swt_cpu_run_parts(c, swt_ceil_div(dims->N, TOKENS), forward_part, &a);
    return SWT_OK;
}

/* ------------------------------------------------------------------ losses */

typedef struct losses_args {
    const swt_moe_dims *d;
    double *stats;
    const float *probs;
    const int32_t *expert, *counts;
} losses_args;

/* stats[3 + e] = sum over groups of f[e] P[e], for a block of experts. */
static void balance_part(const void *args, int64_t part) {
    const losses_args *a = args;
    const swt_moe_dims *d = a->d;
    const int64_t first = part * EXPERTS, experts = swt_min(EXPERTS, d->E - first);
    const int64_t tokens = d->N / d->G;
    double *balance = a->stats + 3 + first;
    memset(balance, 0, (size_t)experts * sizeof *balance);
    for (int64_t g = 0; g < d->G; g++) {
        double sum[EXPERTS] = {0}, routed = 0.0;
        for (int64_t n = g * tokens; n < (g + 1) * tokens; n++) {
            if (a->expert[n * d->k] < 0)
                continue;
            routed += 1.0;
            for (int64_t e = 0; e < experts; e++)
                sum[e] += (double)a->probs[n * d->E + first + e];
        }
        for (int64_t e = 0; e < experts && routed > 0.0; e++)
            balance[e] += a->counts[g * d->E + first + e] / routed * (sum[e] / routed);
    }
}

/* Mean over groups of the mean square of lse over routed tokens. */
static double z_loss(const float *lse, const int32_t *expert, const swt_moe_dims *d) {
    const int64_t tokens = d->N / d->G;
    double z = 0.0;
    for (int64_t g = 0; g < d->G; g++) {
        double sum = 0.0, routed = 0.0;
        for (int64_t n = g * tokens; n < (g + 1) * tokens; n++) {
            if (expert[n * d->k] < 0)
                continue;
            sum += (double)lse[n] * (double)lse[n];
            routed += 1.0;
        }
        z += routed > 0.0 ? sum / routed : 0.0;
    }
    return z / (double)d->G;
}

swt_status swt_cpu_router_losses(const swt_ctx *c, double *stats, const float *probs,
                                 const float *lse, const int32_t *expert, const int32_t *kept,
                                 const int32_t *counts, const swt_moe_dims *dims) {
    const losses_args a = {
        .d = dims, .stats = stats, .probs = probs, .expert = expert, .counts = counts};
    swt_cpu_run_parts(c, swt_ceil_div(dims->E, EXPERTS), balance_part, &a);
    double balance = 0.0, dropped = 0.0;
    for (int64_t e = 0; e < dims->E; e++) {
        balance += stats[3 + e];
        int64_t load = 0;
        for (int64_t g = 0; g < dims->G; g++)
            load += counts[g * dims->E + e];
        stats[3 + e] = (double)load;
        dropped += (double)(load - kept[e]);
    }
    stats[0] = (double)dims->E * balance / (double)dims->G;
    stats[1] = z_loss(lse, expert, dims);
    stats[2] = dropped;
    return SWT_OK;
}

/* ------------------------------------------------------------------ backward */

typedef struct backward_args {
    const swt_ctx *c;
    const swt_moe_dims *d;
    float *dh, *dw, *dbias;
    const float *dgate, *h, *w, *probs, *lse;
    const int32_t *expert;
    const float *gate;
    float *dz;       /* (N, E), scratch */
    float *pull;     /* (G, E + 1), scratch: per expert aux_scale E f / R, then 2 z_scale / R */
    float *jittered; /* (N, C), scratch: dz w, then the jittered input */
} backward_args;

static int64_t dz_bytes(const swt_moe_dims *d) {
    return swt_cpu_scratch_align(d->N * d->E * (int64_t)sizeof(float));
}

static int64_t pull_bytes(const swt_moe_dims *d) {
    return swt_cpu_scratch_align(d->G * (d->E + 1) * (int64_t)sizeof(float));
}

int64_t swt_cpu_router_scratch_bytes(const swt_moe_dims *dims) {
    const int64_t jittered = jitters(dims) ? dims->N * dims->C * (int64_t)sizeof(float) : 0;
    return swt_max(dz_bytes(dims) + pull_bytes(dims) + jittered,
                   swt_cpu_assign_scratch_bytes(dims));
}

static void fill_pull(float *pull, const int32_t *counts, const swt_moe_dims *d) {
    for (int64_t g = 0; g < d->G; g++, counts += d->E, pull += d->E + 1) {
        double routed = 0.0;
        for (int64_t e = 0; e < d->E; e++)
            routed += counts[e];
        const double share = routed > 0.0 ? 1.0 / routed : 0.0;
        for (int64_t e = 0; e < d->E; e++)
            pull[e] = (float)(d->aux_scale * (double)d->E * counts[e] * share * share);
        pull[d->E] = (float)(2.0 * d->z_scale * share);
    }
}

static void logit_gradient(const backward_args *a, int64_t n) {
    const int64_t E = a->d->E, item = n * a->d->k;
    float *dz = a->dz + n * E;
    if (a->expert[item] < 0) {
        memset(dz, 0, (size_t)E * sizeof *dz);
        return;
    }
    const float *p = a->probs + n * E, *pull = a->pull + n / (a->d->N / a->d->G) * (E + 1);
    const float through_gate = a->dgate[item] * a->gate[item];
    const float common = pull[E] * a->lse[n] - swt_cpu_vec(a->c)->dot(pull, p, E) - through_gate;
    for (int64_t e = 0; e < E; e++)
        dz[e] = p[e] * (pull[e] + common);
    dz[a->expert[item]] += through_gate;
}

/* dh += dz w, or where the input was jittered dz w to its place. */
static void input_gradient(const backward_args *a, int64_t first, int64_t tokens) {
    const int64_t C = a->d->C, E = a->d->E;
    float *to = (jitters(a->d) ? a->jittered : a->dh) + first * C;
    for (int64_t i = 0; i < C; i += SWT_COLUMNS) {
        const swt_vec_product p = {.c = to + i,
                                   .a = a->dz + first * E,
                                   .b = a->w + i,
                                   .residual = jitters(a->d) ? NULL : to + i,
                                   .rows = tokens,
                                   .columns = swt_min(SWT_COLUMNS, C - i),
                                   .k = E,
                                   .c_stride = C,
                                   .a_row = E,
                                   .a_step = 1,
                                   .b_step = C};
        swt_cpu_block_nn(a->c, &p);
    }
}

static void input_part(const void *args, int64_t part) {
    const backward_args *a = args;
    const int64_t C = a->d->C, first = part * TOKENS;
    const int64_t tokens = swt_min(TOKENS, a->d->N - first);
    for (int64_t n = first; n < first + tokens; n++)
        logit_gradient(a, n);
    input_gradient(a, first, tokens);
    if (!jitters(a->d))
        return;
    float factor[JITTER_CHUNK];
    for (int64_t i = first * C; i < (first + tokens) * C; i += JITTER_CHUNK) {
        const int64_t n = swt_min(JITTER_CHUNK, (first + tokens) * C - i);
        jitter_factors(factor, i, n, a->c->state, a->d);
        for (int64_t m = 0; m < n; m++) {
            a->dh[i + m] += a->jittered[i + m] * factor[m];
            a->jittered[i + m] = a->h[i + m] * factor[m];
        }
    }
}

swt_status swt_cpu_router_backward(const swt_ctx *c, void *dh, float *dw, float *dbias,
                                   const float *dgate, const void *h, const float *w,
                                   const float *probs, const float *lse, const int32_t *expert,
                                   const float *gate, const int32_t *counts, void *scratch,
                                   const swt_moe_dims *dims) {
    char *memory = scratch;
    const backward_args a = {.c = c,
                             .d = dims,
                             .dh = dh,
                             .dw = dw,
                             .dbias = dbias,
                             .dgate = dgate,
                             .h = h,
                             .w = w,
                             .probs = probs,
                             .lse = lse,
                             .expert = expert,
                             .gate = gate,
                             .dz = scratch,
                             .pull = (void *)(memory + dz_bytes(dims)),
                             .jittered = (void *)(memory + dz_bytes(dims) + pull_bytes(dims))};
    fill_pull(a.pull, counts, dims);
    swt_cpu_run_parts(c, swt_ceil_div(dims->N, TOKENS), input_part, &a);
    const swt_cpu_groups g = swt_cpu_one_group(dims->N);
    swt_cpu_products_tn(c, &g, dw, dbias, a.dz, jitters(dims) ? a.jittered : h, dims->C, dims->E,
                        false);
    return SWT_OK;
}
