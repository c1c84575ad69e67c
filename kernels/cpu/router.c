#include "base/checked.h"
#include "kernels/cpu/gemm.h"
#include "kernels/router_scratch.h"

#include <math.h>
#include <string.h>

enum {
    TOKENS = 128,      /* of a part that runs over tokens */
    EXPERTS = 64,      /* of a part that sums over tokens */
    JITTER_CHUNK = 256 /* factors at a time */
};

/* (N, C), in scratch: the jittered input; in backward its gradient first. */
static float *jittered_of(void *scratch, const swt_moe_dims *d) {
    return (void *)((char *)scratch + swt_router_scratch_of(d).cpu.jittered);
}

/* The factors 1 + jitter (2 u - 1) of n elements of (N, C) from `first` on. */
static void jitter_factors(float *factor, int64_t first, int64_t n, const swt_step_state *state,
                           const swt_moe_dims *d) {
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = swt_rng(state->seed, (uint32_t)(first + i), d->micro_batch,
                                      (uint32_t)state->step, SWT_RNG_JITTER, d->block)
                                  .v[0];
        factor[i] = 1.0f + d->jitter * (2.0f * swt_rng_uniform(bits) - 1.0f);
    }
}

/* ------------------------------------------------------------------ forward */

/* Lowest index of the largest; NaN is no larger than anything. */
static int32_t argmax(const float *z, int64_t E) {
    float largest = -INFINITY;
    int32_t best = 0;
    for (int32_t e = 0; e < E; e++)
        if (z[e] > largest) {
            largest = z[e];
            best = e;
        }
    return best;
}

/* The router's input: tokens `first` ... of (N, C). */
static const float *input_rows(const swt_ctx *c, const swt_router_forward_args *a, int64_t first,
                               int64_t tokens) {
    const swt_moe_dims *d = &a->dims;
    const int64_t C = d->C;
    const float *h = a->h;
    if (!swt_moe_jitters(d))
        return h + first * C;
    float factor[JITTER_CHUNK], *jittered = jittered_of(a->scratch, d);
    for (int64_t i = first * C; i < (first + tokens) * C; i += JITTER_CHUNK) {
        const int64_t n = swt_min(JITTER_CHUNK, (first + tokens) * C - i);
        jitter_factors(factor, i, n, c->state, d);
        for (int64_t m = 0; m < n; m++)
            jittered[i + m] = h[i + m] * factor[m];
    }
    return jittered + first * C;
}

static void logits(const swt_ctx *c, const swt_router_forward_args *a, int64_t first,
                   int64_t tokens) {
    const int64_t C = a->dims.C, E = a->dims.E;
    const float *x = input_rows(c, a, first, tokens);
    for (int64_t e = 0; e < E; e += SWT_COLUMNS) {
        const swt_vec_gemm p = {.out = a->probs + first * E + e,
                                .a = x,
                                .b = a->w + e * C,
                                .bias = a->bias != NULL ? a->bias + e : NULL,
                                .rows = tokens,
                                .columns = swt_min(SWT_COLUMNS, E - e),
                                .k = C,
                                .out_row = E,
                                .a_row = C,
                                .a_col = 1,
                                .b_row = C};
        swt_cpu_block_nt(c, &p);
    }
}

static void forward_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_router_forward_args *a = args;
    const swt_vec *vec = swt_cpu_vec(c);
    const int64_t E = a->dims.E, k = a->dims.k, first = part * TOKENS;
    const int64_t tokens = swt_min(TOKENS, a->dims.N - first);
    logits(c, a, first, tokens);
    for (int64_t n = first; n < first + tokens; n++) {
        float *z = a->probs + n * E;
        const int32_t e = argmax(z, E);
        a->lse[n] = vec->softmax(z, z, E);
        a->expert[n * k] = a->routed[n] ? e : -1;
        a->gate[n * k] = a->routed[n] ? z[e] : 0.0f;
    }
}

swt_status swt_cpu_router_forward(const swt_ctx *c, const swt_router_forward_args *a) {
    swt_cpu_run(c, swt_ceil_div(a->dims.N, TOKENS), forward_part, a);
    return SWT_OK;
}

/* ------------------------------------------------------------------ losses */

/* stats[LOAD + e] = sum over groups of f[e] P[e], for a block of experts. */
static void balance_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_router_losses_args *a = args;
    const swt_moe_dims *d = &a->dims;
    const int64_t first = part * EXPERTS, experts = swt_min(EXPERTS, d->E - first);
    const int64_t tokens = d->N / d->G;
    double *balance = a->stats + SWT_ROUTER_LOAD + first;
    (void)c;
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
            balance[e] += a->group_counts[g * d->E + first + e] / routed * (sum[e] / routed);
    }
}

/* Mean over groups of the mean square of lse over routed tokens. */
static double z_loss(const swt_router_losses_args *a) {
    const swt_moe_dims *d = &a->dims;
    const int64_t tokens = d->N / d->G;
    double z = 0.0;
    for (int64_t g = 0; g < d->G; g++) {
        double sum = 0.0, routed = 0.0;
        for (int64_t n = g * tokens; n < (g + 1) * tokens; n++) {
            if (a->expert[n * d->k] < 0)
                continue;
            sum += (double)a->lse[n] * (double)a->lse[n];
            routed += 1.0;
        }
        z += routed > 0.0 ? sum / routed : 0.0;
    }
    return z / (double)d->G;
}

swt_status swt_cpu_router_losses(const swt_ctx *c, const swt_router_losses_args *a) {
    const int64_t E = a->dims.E, G = a->dims.G;
    double *each = a->stats + SWT_ROUTER_LOAD; /* an expert's share of the balance, then its load */
    swt_cpu_run(c, swt_ceil_div(E, EXPERTS), balance_part, a);
    double balance = 0.0, dropped = 0.0;
    for (int64_t e = 0; e < E; e++) {
        balance += each[e];
        int64_t load = 0;
        for (int64_t g = 0; g < G; g++)
            load += a->group_counts[g * E + e];
        each[e] = (double)load;
        dropped += (double)(load - a->kept_counts[e]);
    }
    a->stats[SWT_ROUTER_AUX] = (double)E * balance / (double)G;
    a->stats[SWT_ROUTER_Z] = z_loss(a);
    a->stats[SWT_ROUTER_DROPPED] = dropped;
    return SWT_OK;
}

/* ------------------------------------------------------------------ backward */

/* (N, E), in scratch. */
static float *dz_of(const swt_router_backward_args *a) {
    return (void *)((char *)a->scratch + swt_router_scratch_of(&a->dims).cpu.dz);
}

/* (G, E + 1), in scratch: per expert aux_scale E f / R, then 2 z_scale / R. */
static float *pull_of(const swt_router_backward_args *a) {
    return (void *)((char *)a->scratch + swt_router_scratch_of(&a->dims).cpu.pull);
}

static void fill_pull(const swt_router_backward_args *a) {
    const swt_moe_dims *d = &a->dims;
    const int32_t *counts = a->group_counts;
    float *pull = pull_of(a);
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

/* dz of token n, in whose group `pull` is the experts'. */
static void logit_gradient(const swt_vec *vec, const swt_router_backward_args *a, int64_t n,
                           const float *pull, float *dz) {
    const int64_t E = a->dims.E, item = n * a->dims.k;
    if (a->expert[item] < 0) {
        memset(dz, 0, (size_t)E * sizeof *dz);
        return;
    }
    const float *p = a->probs + n * E;
    const float through_gate = a->dgate[item] * a->gate[item];
    const float mean = vec->dot(pull, p, E), common = pull[E] * a->lse[n] - through_gate;
    /* What is equal is subtracted first: of a single expert nothing is left, to the bit. */
    for (int64_t e = 0; e < E; e++)
        dz[e] = p[e] * ((pull[e] - mean) + common);
    dz[a->expert[item]] += through_gate;
}

/* dh += dz w, or where the input was jittered dz w to its place. */
static void input_gradient(const swt_ctx *c, const swt_router_backward_args *a, int64_t first,
                           int64_t tokens) {
    const int64_t C = a->dims.C, E = a->dims.E;
    const bool jitters = swt_moe_jitters(&a->dims);
    const float *dz = dz_of(a) + first * E;
    float *to = (jitters ? jittered_of(a->scratch, &a->dims) : (float *)a->dh) + first * C;
    for (int64_t i = 0; i < C; i += SWT_COLUMNS) {
        const swt_vec_gemm p = {.out = to + i,
                                .a = dz,
                                .b = a->w + i,
                                .residual = jitters ? NULL : to + i,
                                .rows = tokens,
                                .columns = swt_min(SWT_COLUMNS, C - i),
                                .k = E,
                                .out_row = C,
                                .a_row = E,
                                .a_col = 1,
                                .b_row = C};
        swt_cpu_block_nn(c, &p);
    }
}

static void input_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_router_backward_args *a = args;
    const swt_moe_dims *d = &a->dims;
    const int64_t C = d->C, E = d->E, first = part * TOKENS;
    const int64_t tokens = swt_min(TOKENS, d->N - first), group_tokens = d->N / d->G;
    const float *pull = pull_of(a), *h = a->h;
    float *dz = dz_of(a), *dh = a->dh, *jittered = jittered_of(a->scratch, d);
    for (int64_t n = first; n < first + tokens; n++)
        logit_gradient(swt_cpu_vec(c), a, n, pull + n / group_tokens * (E + 1), dz + n * E);
    input_gradient(c, a, first, tokens);
    if (!swt_moe_jitters(d))
        return;
    float factor[JITTER_CHUNK];
    for (int64_t i = first * C; i < (first + tokens) * C; i += JITTER_CHUNK) {
        const int64_t n = swt_min(JITTER_CHUNK, (first + tokens) * C - i);
        jitter_factors(factor, i, n, c->state, d);
        for (int64_t m = 0; m < n; m++) {
            dh[i + m] += jittered[i + m] * factor[m];
            jittered[i + m] = h[i + m] * factor[m];
        }
    }
}

swt_status swt_cpu_router_backward(const swt_ctx *c, const swt_router_backward_args *a) {
    const swt_moe_dims *d = &a->dims;
    fill_pull(a);
    swt_cpu_run(c, swt_ceil_div(d->N, TOKENS), input_part, a);
    swt_cpu_gemms_tn(
        c, &(swt_cpu_gemms_tn_args){.dw = a->dw,
                                    .dbias = a->dbias,
                                    .dy = dz_of(a),
                                    .x = swt_moe_jitters(d) ? jittered_of(a->scratch, d) : a->h,
                                    .groups = swt_cpu_one_group(d->N),
                                    .in = d->C,
                                    .out = d->E});
    return SWT_OK;
}
