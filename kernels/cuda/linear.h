/* The parts of linear layers that are no plain gemm (linear.cu), and sums over rows, which
 * others need, too. */
#ifndef SWT_CUDA_LINEAR_H
#define SWT_CUDA_LINEAR_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* x[i] = 0 wherever relu_output[i] <= 0.  Shapes: (n) activations. */
SWT_MUST_CHECK swt_status swt_cuda_relu_mask(const swt_ctx *c, void *x, const void *relu_output,
                                             int64_t n);

/* Sums over rows of matrices of the same width: sum b is over the rows b stride ... of x, `rows` of
 * them, or row_counts[b row_counts_stride] where row_counts is given (rows at most). */
typedef struct swt_cuda_columns {
    int64_t batch, rows, stride, columns;
    swt_dtype type;            /* of x: F32 or BF16 */
    const int32_t *row_counts; /* backend memory, or NULL */
    int64_t row_counts_stride;
    bool add; /* to what out holds */
} swt_cuda_columns;

/* out[b] = the sums.  Shapes: out (batch, columns) F32, x (.., columns).  Blocks of rows are summed
 * first, then the blocks in order, which rows and columns alone decide. Overwrites c->workspace. */
SWT_MUST_CHECK swt_status swt_cuda_column_sums(const swt_ctx *c, float *out, const void *x,
                                               const swt_cuda_columns *sums);

#ifdef __cplusplus
}
#endif

#endif
