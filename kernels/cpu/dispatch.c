#include "base/checked.h"
#include "kernels/cpu/cpu.h"

#include <string.h>

enum { TOKENS = 64 }; /* of a part */

typedef struct dispatch_args {
    const swt_ctx *c;
    const swt_moe_dims *d;
    float *to;
    const float *from;
    float *dgate;            /* backward */
    const float *dot, *gate; /* backward */
    const int32_t *expert, *slot;
    int64_t first_slot;
} dispatch_args;

static void forward_part(const void *args, int64_t part) {
    const dispatch_args *a = args;
    const int64_t C = a->d->C, K = a->d->K, k = a->d->k;
    const int64_t end = swt_min((part + 1) * TOKENS, a->d->N) * k;
    for (int64_t item = part * TOKENS * k; item < end; item++) {
        const int64_t slot = a->slot[item] - a->first_slot;
        if (a->slot[item] >= 0 && slot >= 0 && slot < K)
            memcpy(a->to + (a->expert[item] * K + slot) * C, a->from + item / k * C,
                   (size_t)C * sizeof(float));
    }
}

swt_status swt_cpu_dispatch_forward(const swt_ctx *c, void *send, int32_t *send_counts,
                                    const void *h, const int32_t *expert, const int32_t *slot,
                                    const int32_t *kept, const swt_moe_dims *dims,
                                    int64_t first_slot) {
    for (int64_t e = 0; e < dims->E; e++)
        send_counts[e] = (int32_t)swt_min(swt_max(kept[e] - first_slot, 0), dims->K);
    const dispatch_args a = {.c = c,
                             .d = dims,
                             .to = send,
                             .from = h,
                             .expert = expert,
                             .slot = slot,
                             .first_slot = first_slot};
    swt_cpu_run_parts(c, swt_ceil_div(dims->N, TOKENS), forward_part, &a);
    return SWT_OK;
}

static void backward_part(const void *args, int64_t part) {
    const dispatch_args *a = args;
    const swt_vec *vec = swt_cpu_vec(a->c);
    const int64_t C = a->d->C, K = a->d->K, k = a->d->k;
    const int64_t end = swt_min((part + 1) * TOKENS, a->d->N) * k;
    for (int64_t item = part * TOKENS * k; item < end; item++) {
        const int64_t at = a->expert[item] * K + a->slot[item];
        if (a->slot[item] < 0)
            continue;
        vec->axpy(a->to + item / k * C, a->from + at * C, 1.0f, C);
        a->dgate[item] = a->dot[at] / a->gate[item];
    }
}

swt_status swt_cpu_dispatch_backward(const swt_ctx *c, void *dh, float *dgate, const void *dsend,
                                     const float *dot, const int32_t *expert, const float *gate,
                                     const int32_t *slot, const swt_moe_dims *dims) {
    const dispatch_args a = {.c = c,
                             .d = dims,
                             .to = dh,
                             .from = dsend,
                             .dgate = dgate,
                             .dot = dot,
                             .gate = gate,
                             .expert = expert,
                             .slot = slot};
    swt_cpu_run_parts(c, swt_ceil_div(dims->N, TOKENS), backward_part, &a);
    return SWT_OK;
}
