/* What the experts' and the router's files share: kernels beside the products (experts.cu). */
#ifndef SWT_CUDA_EXPERTS_H
#define SWT_CUDA_EXPERTS_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Sums over rows of matrices of the same width: sum b is over the rows b stride ... of x (total,
 * columns), of which it has counts[b counts_stride], or `rows` where counts is NULL. */
typedef struct swt_cuda_columns {
    int64_t batch, rows, stride, total, columns;
    swt_dtype type;        /* of x: F32 or BF16 */
    const int32_t *counts; /* backend memory */
    int64_t counts_stride;
    bool add; /* to what out holds */
} swt_cuda_columns;

/* out[b] = the sums.  Shapes: out (batch, columns), x (total, columns).  The order of a sum depends
 * on columns and its number of rows alone. */
SWT_MUST_CHECK swt_status swt_cuda_column_sums(const swt_ctx *c, float *out, const void *x,
                                               const swt_cuda_columns *sums);

/* dhidden = dhidden [hidden > 0] and dot = dhidden . hidden + dy . bo[j], over all slots; shapes as
 * in swt_experts_backward_input. */
SWT_MUST_CHECK swt_status swt_cuda_expert_mask(const swt_ctx *c, void *dhidden, float *dot,
                                               const void *dy, const void *hidden, const void *bo,
                                               const swt_moe_dims *dims);

#ifdef __cplusplus
}
#endif

#endif
