#include "judge/oracle.h"

#include <math.h>

swt_moe_dims swt_oracle_moe_dims(int64_t N, int64_t C, int64_t E) {
    return (swt_moe_dims){.N = N,
                          .C = C,
                          .F = 2 * C,
                          .E = E,
                          .k = 1,
                          .G = 1,
                          .group_capacity = N,
                          .K = N,
                          .El = E,
                          .P = 1,
                          .training = true,
                          .block = 3,
                          .micro_batch = 5};
}

void swt_oracle_jitter(double *factor, const swt_moe_dims *dims, uint64_t seed, int64_t step) {
    for (int64_t i = 0; i < dims->N * dims->C; i++) {
        const swt_rng_u32x4 r = swt_rng(seed, (uint32_t)i, dims->micro_batch, (uint32_t)step,
                                        SWT_RNG_JITTER, dims->block);
        const double u = (double)swt_rng_uniform(r.v[0]);
        factor[i] = dims->training ? 1 + (double)dims->jitter * (2 * u - 1) : 1;
    }
}

void swt_oracle_router_forward(double *z, double *probs, double *lse, const double *h,
                               const double *factor, const double *w, const double *bias,
                               const swt_moe_dims *dims) {
    const int64_t C = dims->C, E = dims->E;
    for (int64_t n = 0; n < dims->N; n++) {
        for (int64_t e = 0; e < E; e++) {
            z[n * E + e] = bias != NULL ? bias[e] : 0;
            for (int64_t i = 0; i < C; i++)
                z[n * E + e] += h[n * C + i] * factor[n * C + i] * w[e * C + i];
        }
        lse[n] = swt_oracle_logsumexp(z + n * E, E);
        for (int64_t e = 0; e < E; e++)
            probs[n * E + e] = exp(z[n * E + e] - lse[n]);
    }
}

/* Does token a come before token b in the order in which an expert keeps tokens? */
static bool goes_first(int64_t a, int64_t b, const float *gate, const swt_moe_dims *dims,
                       uint64_t seed, int64_t step) {
    if (dims->drop == SWT_DROP_PRIORITY && gate[a] != gate[b])
        return gate[a] > gate[b];
    if (dims->drop == SWT_DROP_RANDOM) {
        const swt_rng_purpose purpose = dims->training ? SWT_RNG_DROP : SWT_RNG_DROP_EVAL;
        const uint32_t t = dims->training ? (uint32_t)step : 0;
        const uint32_t key_a =
            swt_rng(seed, (uint32_t)a, dims->micro_batch, t, purpose, dims->block).v[0];
        const uint32_t key_b =
            swt_rng(seed, (uint32_t)b, dims->micro_batch, t, purpose, dims->block).v[0];
        if (key_a != key_b)
            return key_a < key_b;
    }
    return a < b;
}

void swt_oracle_router_assign(int32_t *slot, int32_t *kept_counts, int32_t *group_counts,
                              const int32_t *expert, const float *gate, const swt_moe_dims *dims,
                              uint64_t seed, int64_t step) {
    const int64_t group_tokens = dims->N / dims->G;
    for (int64_t e = 0; e < dims->E; e++)
        kept_counts[e] = 0;
    for (int64_t i = 0; i < dims->G * dims->E; i++)
        group_counts[i] = 0;
    for (int64_t n = 0; n < dims->N; n++) {
        slot[n] = -1;
        if (expert[n] < 0)
            continue;
        /* A token is kept if fewer than group_capacity of its rivals go first. */
        const int64_t g = n / group_tokens;
        int64_t ahead = 0;
        for (int64_t m = g * group_tokens; m < (g + 1) * group_tokens; m++)
            if (m != n && expert[m] == expert[n] && goes_first(m, n, gate, dims, seed, step))
                ahead++;
        group_counts[g * dims->E + expert[n]]++;
        if (ahead < dims->group_capacity)
            slot[n] = kept_counts[expert[n]]++;
    }
}

void swt_oracle_router_losses(double *stats, const double *probs, const double *lse,
                              const int32_t *expert, const int32_t *kept_counts,
                              const int32_t *group_counts, const swt_moe_dims *dims) {
    const int64_t E = dims->E, group_tokens = dims->N / dims->G;
    for (int64_t i = 0; i < SWT_ROUTER_LOAD + E; i++)
        stats[i] = 0;
    for (int64_t g = 0; g < dims->G; g++) {
        double R = 0, aux = 0, z = 0;
        for (int64_t e = 0; e < E; e++) {
            R += group_counts[g * E + e];
            stats[SWT_ROUTER_DROPPED] += group_counts[g * E + e];
            stats[SWT_ROUTER_LOAD + e] += group_counts[g * E + e];
        }
        if (R == 0)
            continue;
        for (int64_t n = g * group_tokens; n < (g + 1) * group_tokens; n++) {
            if (expert[n] < 0)
                continue;
            for (int64_t e = 0; e < E; e++)
                aux += (double)E * (group_counts[g * E + e] / R) * (probs[n * E + e] / R);
            z += lse[n] * lse[n] / R;
        }
        stats[SWT_ROUTER_AUX] += aux / (double)dims->G;
        stats[SWT_ROUTER_Z] += z / (double)dims->G;
    }
    for (int64_t e = 0; e < E; e++)
        stats[SWT_ROUTER_DROPPED] -= kept_counts[e];
}

/* dz of one routed token n of a group with counts count[e]. */
static void router_dz(double *dz, double dgate, double gate, const double *p, double lse,
                      int32_t expert, const int32_t *count, const swt_moe_dims *dims) {
    const int64_t E = dims->E;
    double R = 0, fp = 0;
    for (int64_t e = 0; e < E; e++)
        R += count[e];
    for (int64_t e = 0; e < E; e++)
        fp += count[e] / R * p[e];
    for (int64_t j = 0; j < E; j++)
        dz[j] = dgate * gate * ((j == expert ? 1 : 0) - p[j]) +
                dims->aux_scale * (double)E * p[j] * (count[j] / R - fp) / R +
                dims->z_scale * 2 * lse * p[j] / R;
}

void swt_oracle_router_backward(double *dz, double *dh, double *dw, double *dbias,
                                const double *dgate, const double *h, const double *factor,
                                const double *w, const double *probs, const double *lse,
                                const int32_t *expert, const double *gate,
                                const int32_t *group_counts, const swt_moe_dims *dims) {
    const int64_t C = dims->C, E = dims->E;
    for (int64_t i = 0; i < E * C; i++)
        dw[i] = 0;
    for (int64_t e = 0; dbias != NULL && e < E; e++)
        dbias[e] = 0;
    for (int64_t n = 0; n < dims->N; n++) {
        const int64_t g = n / (dims->N / dims->G);
        for (int64_t e = 0; e < E; e++)
            dz[n * E + e] = 0;
        if (expert[n] >= 0)
            router_dz(dz + n * E, dgate[n], gate[n], probs + n * E, lse[n], expert[n],
                      group_counts + g * E, dims);
        for (int64_t e = 0; e < E; e++) {
            if (dbias != NULL)
                dbias[e] += dz[n * E + e];
            for (int64_t i = 0; i < C; i++) {
                dw[e * C + i] += dz[n * E + e] * h[n * C + i] * factor[n * C + i];
                dh[n * C + i] += dz[n * E + e] * w[e * C + i] * factor[n * C + i];
            }
        }
    }
}

/* o[n], or NULL where it is 0 by definition. */
static const double *combined(int64_t n, const double *recv, const double *h, const int32_t *expert,
                              const int32_t *slot, const swt_moe_dims *dims, int64_t first_slot) {
    if (expert[n] >= 0 && slot[n] >= 0)
        return recv + (expert[n] * dims->K + slot[n] - first_slot) * dims->C;
    if (expert[n] >= 0 && dims->dropped_output == SWT_DROPPED_GATED_INPUT)
        return h + n * dims->C;
    return NULL;
}

void swt_oracle_combine_forward(double *y, const double *residual, const double *recv,
                                const double *h, const int32_t *expert, const double *gate,
                                const int32_t *slot, const swt_moe_dims *dims, int64_t first_slot) {
    const int64_t C = dims->C;
    for (int64_t n = 0; n < dims->N; n++) {
        const bool in_round = slot[n] >= first_slot && slot[n] < first_slot + dims->K;
        const bool no_round = slot[n] < 0 && first_slot == 0;
        if (!in_round && !no_round)
            continue;
        const double *o = combined(n, recv, h, expert, slot, dims, first_slot);
        const double s = dims->gate == SWT_GATE_SCALE ? gate[n] : 1;
        for (int64_t i = 0; i < C; i++)
            y[n * C + i] =
                (residual != NULL ? residual[n * C + i] : 0) + (o != NULL ? s * o[i] : 0);
    }
}

void swt_oracle_combine_backward(double *drecv, double *dgate, double *dh, const double *dy,
                                 const double *recv, const double *h, const int32_t *expert,
                                 const double *gate, const int32_t *slot,
                                 const swt_moe_dims *dims) {
    const int64_t C = dims->C;
    for (int64_t n = 0; n < dims->N; n++) {
        const double *o = combined(n, recv, h, expert, slot, dims, 0);
        const double s = dims->gate == SWT_GATE_SCALE ? gate[n] : 1;
        const bool kept = expert[n] >= 0 && slot[n] >= 0;
        dgate[n] = 0;
        for (int64_t i = 0; i < C; i++) {
            const double dyi = dy[n * C + i];
            dh[n * C + i] = o != NULL && !kept ? s * dyi : 0;
            if (kept)
                drecv[(expert[n] * dims->K + slot[n]) * C + i] = s * dyi;
            if (o != NULL)
                dgate[n] += dims->gate == SWT_GATE_SCALE ? dyi * o[i] : dyi * o[i] / gate[n];
        }
    }
}
