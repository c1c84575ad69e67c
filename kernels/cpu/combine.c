#include "base/checked.h"
#include "kernels/cpu/cpu.h"

#include <string.h>

enum { TOKENS = 64 }; /* of a part */

/* The output of an item that is not kept, for this expert: NULL where it is 0 by definition. */
static const float *dropped_output(const swt_moe_dims *d, const float *h, int32_t expert,
                                   int64_t item) {
    const bool gated = expert >= 0 && d->dropped_output == SWT_DROPPED_GATED_INPUT;
    return gated ? h + item / d->k * d->C : NULL;
}

static float scale_of(const swt_moe_dims *d, float gate) {
    return d->gate == SWT_GATE_SCALE ? gate : 1.0f;
}

/* Where the output of this item is: NULL where it is 0 by definition or comes in another round. */
static const float *output_of(const swt_combine_forward_args *a, int64_t item) {
    const swt_moe_dims *d = &a->dims;
    const float *recv = a->recv;
    if (a->slot[item] < 0)
        return dropped_output(d, a->h, a->expert[item], item);
    const int64_t slot = a->slot[item] - a->first_slot;
    return slot >= 0 && slot < d->K ? recv + (a->expert[item] * d->K + slot) * d->C : NULL;
}

static void forward_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_combine_forward_args *a = args;
    const swt_vec *vec = swt_cpu_vec(c);
    const float *residual = a->residual;
    const int64_t C = a->dims.C, k = a->dims.k, end = swt_min((part + 1) * TOKENS, a->dims.N);
    for (int64_t n = part * TOKENS; n < end; n++) {
        float *y = (float *)a->y + n * C;
        const float *sum = residual != NULL ? residual + n * C : NULL; /* 0 so far */
        for (int64_t item = n * k; item < (n + 1) * k; item++) {
            const float *o = output_of(a, item);
            if (!o || (a->first_slot > 0 && a->slot[item] < 0))
                continue;
            vec->scale_add(y, sum, o, scale_of(&a->dims, a->gate[item]), C);
            sum = y;
        }
        if (a->first_slot == 0 && sum == NULL)
            memset(y, 0, (size_t)C * sizeof *y);
        else if (a->first_slot == 0 && sum != y)
            memcpy(y, sum, (size_t)C * sizeof *y);
    }
}

swt_status swt_cpu_combine_forward(const swt_ctx *c, const swt_combine_forward_args *a) {
    swt_cpu_run(c, swt_ceil_div(a->dims.N, TOKENS), forward_part, a);
    return SWT_OK;
}

static void backward_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_combine_backward_args *a = args;
    const swt_moe_dims *d = &a->dims;
    const swt_vec *vec = swt_cpu_vec(c);
    const int64_t C = d->C, K = d->K, k = d->k;
    const int64_t first = part * TOKENS, end = swt_min(first + TOKENS, d->N);
    float *drecv = a->drecv, *dh = a->dh;
    memset(dh + first * C, 0, (size_t)((end - first) * C) * sizeof *dh);
    for (int64_t item = first * k; item < end * k; item++) {
        const float *dy = (const float *)a->dy + item / k * C, s = scale_of(d, a->gate[item]);
        if (a->slot[item] >= 0) {
            vec->scale(drecv + (a->expert[item] * K + a->slot[item]) * C, dy, s, C);
            continue;
        }
        const float *o = dropped_output(d, a->h, a->expert[item], item);
        a->dgate[item] = 0.0f;
        if (!o)
            continue;
        const float dot = vec->dot(dy, o, C);
        a->dgate[item] = d->gate == SWT_GATE_SCALE ? dot : dot / a->gate[item];
        vec->axpy(dh + item / k * C, dy, s, C);
    }
}

swt_status swt_cpu_combine_backward(const swt_ctx *c, const swt_combine_backward_args *a) {
    swt_cpu_run(c, swt_ceil_div(a->dims.N, TOKENS), backward_part, a);
    return SWT_OK;
}
