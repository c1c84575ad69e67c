/* Causal self-attention on the columns of one tensor, which is how the model calls it: the
 * operation and the oracle. */
#ifndef SWT_TESTS_SUPPORT_PACKED_H
#define SWT_TESTS_SUPPORT_PACKED_H

#include "judge/oracle.h"
#include "kernels/swt_ops.h"

#include <string.h>

/* Causal self-attention of qkv (B, T, 3 H D): columns q, then k, then v. */
typedef struct packed_dims {
    int64_t B, T, H, D;
    float scale;
} packed_dims;

/* Elements of so many parts of a row. */
static inline int64_t packed_row(const packed_dims *d, int64_t parts) {
    return d->H * d->D * parts;
}

static inline swt_attention_dims packed_of(const packed_dims *d) {
    return (swt_attention_dims){.B = d->B,
                                .H = d->H,
                                .D = d->D,
                                .Tq = d->T,
                                .Tk = d->T,
                                .q_stride = packed_row(d, 3),
                                .kv_stride = packed_row(d, 3),
                                .mask = SWT_MASK_CAUSAL,
                                .scale = d->scale};
}

/* Part 0, 1 or 2 of qkv: q, k or v. */
static inline void *packed_part(const swt_ctx *c, const void *qkv, const packed_dims *d, int part) {
    return (unsigned char *)(uintptr_t)qkv +
           (size_t)packed_row(d, part) * swt_dtype_bytes(c->dtype);
}

SWT_MUST_CHECK static inline swt_status packed_forward(const swt_ctx *c, void *y, float *lse,
                                                       const void *qkv, const packed_dims *d) {
    return swt_attention_forward(c, &(swt_attention_forward_args){.y = y,
                                                                  .lse = lse,
                                                                  .q = packed_part(c, qkv, d, 0),
                                                                  .k = packed_part(c, qkv, d, 1),
                                                                  .v = packed_part(c, qkv, d, 2),
                                                                  .dims = packed_of(d)});
}

SWT_MUST_CHECK static inline swt_status packed_backward(const swt_ctx *c, void *dqkv,
                                                        const void *dy, const void *y,
                                                        const float *lse, const void *qkv,
                                                        const packed_dims *d) {
    return swt_attention_backward(c,
                                  &(swt_attention_backward_args){.dq = packed_part(c, dqkv, d, 0),
                                                                 .dk = packed_part(c, dqkv, d, 1),
                                                                 .dv = packed_part(c, dqkv, d, 2),
                                                                 .dy = dy,
                                                                 .q = packed_part(c, qkv, d, 0),
                                                                 .k = packed_part(c, qkv, d, 1),
                                                                 .v = packed_part(c, qkv, d, 2),
                                                                 .y = y,
                                                                 .lse = lse,
                                                                 .dims = packed_of(d)});
}

/* The oracle's; dqkv is overwritten. */
static inline void packed_oracle_forward(double *y, double *lse, const double *qkv,
                                         const packed_dims *d) {
    const swt_attention_dims dims = packed_of(d);
    const int64_t HD = d->H * d->D;
    swt_oracle_attention_forward(y, lse, qkv, qkv + HD, qkv + 2 * HD, NULL, &dims);
}

static inline void packed_oracle_backward(double *dqkv, const double *dy, const double *y,
                                          const double *lse, const double *qkv,
                                          const packed_dims *d) {
    const swt_attention_dims dims = packed_of(d);
    const int64_t HD = d->H * d->D;
    memset(dqkv, 0, (size_t)(d->B * d->T * 3 * HD) * sizeof *dqkv);
    swt_oracle_attention_backward(dqkv, dqkv + HD, dqkv + 2 * HD, dy, y, lse, qkv, qkv + HD,
                                  qkv + 2 * HD, NULL, &dims);
}

#endif
