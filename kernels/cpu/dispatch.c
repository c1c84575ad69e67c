#include "base/checked.h"
#include "kernels/cpu/cpu.h"

#include <string.h>

enum { TOKENS = 64 }; /* of a part */

static void forward_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_dispatch_forward_args *a = args;
    const float *h = a->h;
    float *send = a->send;
    const int64_t C = a->dims.C, K = a->dims.K, k = a->dims.k;
    const int64_t end = swt_min((part + 1) * TOKENS, a->dims.N) * k;
    (void)c;
    for (int64_t item = part * TOKENS * k; item < end; item++) {
        const int64_t slot = a->slot[item] - a->first_slot;
        if (a->slot[item] >= 0 && slot >= 0 && slot < K)
            memcpy(send + (a->expert[item] * K + slot) * C, h + item / k * C,
                   (size_t)C * sizeof *send);
    }
}

swt_status swt_cpu_dispatch_forward(const swt_ctx *c, const swt_dispatch_forward_args *a) {
    for (int64_t e = 0; e < a->dims.E; e++)
        a->send_counts[e] =
            (int32_t)swt_min(swt_max(a->kept_counts[e] - a->first_slot, 0), a->dims.K);
    swt_cpu_run(c, swt_ceil_div(a->dims.N, TOKENS), forward_part, a);
    return SWT_OK;
}

static void backward_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_dispatch_backward_args *a = args;
    const swt_vec *vec = swt_cpu_vec(c);
    const float *dsend = a->dsend;
    float *dh = a->dh;
    const int64_t C = a->dims.C, K = a->dims.K, k = a->dims.k;
    const int64_t end = swt_min((part + 1) * TOKENS, a->dims.N) * k;
    for (int64_t item = part * TOKENS * k; item < end; item++) {
        const int64_t row = a->expert[item] * K + a->slot[item];
        if (a->slot[item] < 0)
            continue;
        vec->axpy(dh + item / k * C, dsend + row * C, 1.0f, C);
        a->dgate[item] = a->dot[row] / a->gate[item];
    }
}

swt_status swt_cpu_dispatch_backward(const swt_ctx *c, const swt_dispatch_backward_args *a) {
    swt_cpu_run(c, swt_ceil_div(a->dims.N, TOKENS), backward_part, a);
    return SWT_OK;
}
