/* The parts of linear layers that are no plain product (linear.cu). */
#ifndef SWT_CUDA_LINEAR_H
#define SWT_CUDA_LINEAR_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y = f(x w^T + bias) + residual, as swt_linear_forward: for the shapes and epilogues that cuBLASLt
 * does not do, and no layer of the model has (ReLU together with a residual, in = 0). Slow. */
SWT_MUST_CHECK swt_status swt_cuda_linear_plain(const swt_ctx *c, void *y, const void *x,
                                                const void *w, const void *bias,
                                                const void *residual, int64_t N, int64_t in,
                                                int64_t out, bool relu);

/* x[i] = 0 wherever relu_output[i] <= 0.  Shapes: (n) activations. */
SWT_MUST_CHECK swt_status swt_cuda_relu_mask(const swt_ctx *c, void *x, const void *relu_output,
                                             int64_t n);

/* sum[o] = sum_n x[n, o], added to what it holds if add != 0. Blocks of rows are summed first, then
 * the blocks in order. Shapes: sum (out) F32, x (N, out) activations. Overwrites c->workspace. */
SWT_MUST_CHECK swt_status swt_cuda_column_sum(const swt_ctx *c, float *sum, const void *x,
                                              int64_t N, int64_t out, int add);

#ifdef __cplusplus
}
#endif

#endif
