#include "base/checked.h"
#include "kernels/cpu/cpu.h"

#include <string.h>

enum { ROWS = 64 }; /* of a part */

/* What a row gives to the sums; scratch is (N) of these. */
typedef struct row_result {
    float loss;
    int32_t hit;
} row_result;

typedef struct cross_entropy_args {
    const swt_vec *vec;
    float *dlogits;
    const float *logits;
    const int32_t *targets;
    row_result *results;
    int64_t N, V;
    float share; /* 1 / the global batch's targets */
} cross_entropy_args;

/* Whether z[target] is the largest, and the first such. */
static bool is_argmax(const swt_vec *vec, const float *z, int64_t V, int32_t target) {
    if (!(z[target] >= vec->max(z, V)))
        return false;
    for (int32_t v = 0; v < target; v++)
        if (z[v] == z[target])
            return false;
    return true;
}

static void row(const cross_entropy_args *a, int64_t n) {
    const float *z = a->logits + n * a->V;
    float *dz = a->dlogits != NULL ? a->dlogits + n * a->V : NULL;
    const int32_t target = a->targets[n];
    if (target < 0) {
        a->results[n] = (row_result){0};
        if (dz != NULL)
            memset(dz, 0, (size_t)a->V * sizeof *dz);
        return;
    }
    const float logit = z[target]; /* dz may be z */
    const bool hit = is_argmax(a->vec, z, a->V, target);
    const float lse = a->vec->softmax(dz, z, a->V);
    a->results[n] = (row_result){.loss = lse - logit, .hit = hit};
    if (dz != NULL) {
        dz[target] -= 1.0f;
        a->vec->scale(dz, dz, a->share, a->V);
    }
}

static void rows_part(const void *args, int64_t part) {
    const cross_entropy_args *a = args;
    const int64_t end = swt_min((part + 1) * ROWS, a->N);
    for (int64_t n = part * ROWS; n < end; n++)
        row(a, n);
}

int64_t swt_cross_entropy_scratch_bytes(int64_t N) {
    int64_t bytes = 0;
    return N >= 0 && swt_checked_mul(N, (int64_t)sizeof(row_result), &bytes) ? bytes : -1;
}

swt_status swt_cpu_cross_entropy(const swt_ctx *c, void *dlogits, double *stats, const void *logits,
                                 const int32_t *targets, void *scratch, int64_t N, int64_t V) {
    const cross_entropy_args a = {.vec = swt_cpu_vec(c),
                                  .dlogits = dlogits,
                                  .logits = logits,
                                  .targets = targets,
                                  .results = scratch,
                                  .N = N,
                                  .V = V,
                                  .share = (float)(1.0 / (double)c->state->targets)};
    swt_cpu_run_parts(c, swt_ceil_div(N, ROWS), rows_part, &a);
    double loss = 0.0;
    int64_t hits = 0;
    for (int64_t n = 0; n < N; n++) {
        loss += (double)a.results[n].loss;
        hits += a.results[n].hit;
    }
    stats[0] = loss;
    stats[1] = (double)hits;
    return SWT_OK;
}
