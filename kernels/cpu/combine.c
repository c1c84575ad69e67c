#include "base/checked.h"
#include "kernels/cpu/cpu.h"

#include <string.h>

enum { TOKENS = 64 }; /* of a part */

typedef struct combine_args {
    const swt_ctx *c;
    const swt_moe_dims *d;
    float *y;             /* forward */
    float *drecv, *dgate; /* backward */
    float *dh;
    const float *residual; /* forward */
    const float *dy;       /* backward */
    const float *recv;     /* forward */
    const float *h;
    const int32_t *expert;
    const float *gate;
    const int32_t *slot;
    int64_t first_slot;
} combine_args;

/* The output of an item that is not kept: NULL where it is 0 by definition. */
static const float *dropped_output_of(const combine_args *a, int64_t item) {
    const swt_moe_dims *d = a->d;
    const bool gated = a->expert[item] >= 0 && d->dropped_output == SWT_DROPPED_GATED_INPUT;
    return gated ? a->h + item / d->k * d->C : NULL;
}

/* Where the output of this item is: NULL where it is 0 by definition or comes in another round. */
static const float *output_of(const combine_args *a, int64_t item) {
    const swt_moe_dims *d = a->d;
    if (a->slot[item] < 0)
        return dropped_output_of(a, item);
    const int64_t slot = a->slot[item] - a->first_slot;
    return slot >= 0 && slot < d->K ? a->recv + (a->expert[item] * d->K + slot) * d->C : NULL;
}

static float scale_of(const combine_args *a, int64_t item) {
    return a->d->gate == SWT_GATE_SCALE ? a->gate[item] : 1.0f;
}

static void forward_part(const void *args, int64_t part) {
    const combine_args *a = args;
    const swt_vec *vec = swt_cpu_vec(a->c);
    const int64_t C = a->d->C, k = a->d->k, end = swt_min((part + 1) * TOKENS, a->d->N);
    for (int64_t n = part * TOKENS; n < end; n++) {
        float *y = a->y + n * C;
        const float *sum = a->residual + n * C;
        for (int64_t item = n * k; item < (n + 1) * k; item++) {
            const float *o = output_of(a, item);
            if (!o || (a->first_slot > 0 && a->slot[item] < 0))
                continue;
            vec->scale_add(y, sum, o, scale_of(a, item), C);
            sum = y;
        }
        if (a->first_slot == 0 && sum != y)
            memcpy(y, sum, (size_t)C * sizeof *y);
    }
}

swt_status swt_cpu_combine_forward(const swt_ctx *c, void *y, const void *residual,
                                   const void *recv, const void *h, const int32_t *expert,
                                   const float *gate, const int32_t *slot, const swt_moe_dims *dims,
                                   int64_t first_slot) {
    const combine_args a = {.c = c,
                            .d = dims,
                            .y = y,
                            .residual = residual,
                            .recv = recv,
                            .h = h,
                            .expert = expert,
                            .gate = gate,
                            .slot = slot,
                            .first_slot = first_slot};
    swt_cpu_run_parts(c, swt_ceil_div(dims->N, TOKENS), forward_part, &a);
    return SWT_OK;
}

static void backward_part(const void *args, int64_t part) {
    const combine_args *a = args;
    const swt_vec *vec = swt_cpu_vec(a->c);
    const int64_t C = a->d->C, K = a->d->K, k = a->d->k;
    const int64_t first = part * TOKENS, end = swt_min(first + TOKENS, a->d->N);
    memset(a->dh + first * C, 0, (size_t)((end - first) * C) * sizeof(float));
    for (int64_t item = first * k; item < end * k; item++) {
        const float *dy = a->dy + item / k * C, s = scale_of(a, item);
        if (a->slot[item] >= 0) {
            vec->scale(a->drecv + (a->expert[item] * K + a->slot[item]) * C, dy, s, C);
            continue;
        }
        const float *o = dropped_output_of(a, item);
        a->dgate[item] = 0.0f;
        if (!o)
            continue;
        const float dot = vec->dot(dy, o, C);
        a->dgate[item] = a->d->gate == SWT_GATE_SCALE ? dot : dot / a->gate[item];
        vec->axpy(a->dh + item / k * C, dy, s, C);
    }
}

swt_status swt_cpu_combine_backward(const swt_ctx *c, void *drecv, float *dgate, void *dh,
                                    const void *dy, const void *h, const int32_t *expert,
                                    const float *gate, const int32_t *slot,
                                    const swt_moe_dims *dims) {
    const combine_args a = {.c = c,
                            .d = dims,
                            .drecv = drecv,
                            .dgate = dgate,
                            .dh = dh,
                            .dy = dy,
                            .h = h,
                            .expert = expert,
                            .gate = gate,
                            .slot = slot};
    swt_cpu_run_parts(c, swt_ceil_div(dims->N, TOKENS), backward_part, &a);
    return SWT_OK;
}
