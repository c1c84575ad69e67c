#include "base/checked.h"
#include "kernels/cpu/cpu.h"

#include <string.h>

enum { ROWS = 64 }; /* of a part */

/* What a row gives to the sums; scratch is (N) of these. */
typedef struct row_result {
    float loss, lse;
    int32_t hit;
} row_result;

/* Whether z[target] is the largest, and the first such. */
static bool is_argmax(const swt_vec *vec, const float *z, int64_t V, int32_t target) {
    if (!(z[target] >= vec->max(z, V)))
        return false;
    for (int32_t v = 0; v < target; v++)
        if (z[v] == z[target])
            return false;
    return true;
}

static void row(const swt_ctx *c, const swt_cross_entropy_args *a, int64_t n) {
    const swt_vec *vec = swt_cpu_vec(c);
    const float *z = (const float *)a->logits + n * a->V;
    float *dz = a->dlogits != NULL ? (float *)a->dlogits + n * a->V : NULL;
    row_result *result = (row_result *)a->scratch + n;
    const int32_t target = a->targets[n];
    if (target < 0) {
        *result = (row_result){0};
        if (dz != NULL)
            memset(dz, 0, (size_t)a->V * sizeof *dz);
        return;
    }
    const float logit = z[target]; /* dz may be z */
    const bool hit = is_argmax(vec, z, a->V, target);
    const float lse = vec->softmax(dz, z, a->V);
    *result = (row_result){.loss = lse - logit, .lse = lse, .hit = hit};
    if (dz != NULL) {
        if (a->z_coef > 0.0f)
            vec->scale(dz, dz, 1.0f + 2.0f * a->z_coef * lse, a->V);
        dz[target] -= 1.0f;
        vec->scale(dz, dz, (float)(1.0 / (double)c->state->targets), a->V);
    }
}

static void rows_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_cross_entropy_args *a = args;
    const int64_t end = swt_min((part + 1) * ROWS, a->N);
    for (int64_t n = part * ROWS; n < end; n++)
        row(c, a, n);
}

int64_t swt_cross_entropy_scratch_bytes(int64_t N) {
    int64_t bytes = 0;
    return N >= 0 && swt_checked_mul(N, (int64_t)sizeof(row_result), &bytes) ? bytes : -1;
}

swt_status swt_cpu_cross_entropy(const swt_ctx *c, const swt_cross_entropy_args *a) {
    const row_result *results = a->scratch;
    double loss = 0.0, z = 0.0;
    int64_t hits = 0;
    swt_cpu_run(c, swt_ceil_div(a->N, ROWS), rows_part, a);
    for (int64_t n = 0; n < a->N; n++) {
        loss += (double)results[n].loss;
        z += (double)results[n].lse * (double)results[n].lse;
        hits += results[n].hit;
    }
    a->stats[SWT_LOSS_SUM] = loss;
    a->stats[SWT_LOSS_CORRECT] = (double)hits;
    a->stats[SWT_LOSS_Z] = z;
    return SWT_OK;
}
