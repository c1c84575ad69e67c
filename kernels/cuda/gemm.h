/* Gemms (products of matrices) on the GPU, by cuBLASLt: the one place that calls it. Row-major,
 * rows contiguous. What cuBLASLt has no algorithm for (odd widths in BF16, say) a kernel of our own
 * does, slowly.
 *
 * Bits: a gemm's algorithm depends on its own shape and types alone, never on how many gemms
 * stand beside it in a batch, so that it does not matter which rank computes it with which others.
 * F32 operands are multiplied in F32 (no TF32); sums are F32 always. */
#ifndef SWT_CUDA_GEMM_H
#define SWT_CUDA_GEMM_H

#include "kernels/cuda/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One operand of a gemm or of a batch of them. */
typedef struct swt_cuda_matrix {
    const void *data;
    swt_dtype type;  /* F32 or BF16 */
    bool transposed; /* memory holds the transpose: for a (cols of a, rows of a) */
    int64_t stride;  /* elements from one gemm's to the next one's; 0: all use the same */
} swt_cuda_matrix;

/* out = f(a b + bias) + add with f = ReLU or identity.
 * Shapes: out, add (rows, cols), a (rows, inner), b (inner, cols), bias (cols), each `batch` times.
 * Types: a and b the same; out, add and bias of out_type, which is that of a or F32.
 * Where batch > 1, out_stride >= rows cols. add may be out itself, which overlaps nothing else. */
typedef struct swt_cuda_gemm {
    int64_t rows, cols, inner;
    int64_t batch; /* >= 1 */
    swt_cuda_matrix a, b;
    void *out;
    swt_dtype out_type;
    int64_t out_stride; /* elements; of add, too */
    const void *add;    /* or NULL */
    const void *bias;   /* or NULL */
    int64_t bias_stride;
    bool relu;
} swt_cuda_gemm;

/* Queue it on c->stream. rows, cols or batch 0: nothing to do; inner 0: a b is zero. Not relu
 * together with add. A shape for which there is no algorithm is noted in c->device->warnings. With
 * the variable SWT_CUDA_GEMMS, the name of a file, closing the device appends a line of JSON for
 * each gemm: its shape, who does it (whole: cuBLASLt; bare: cuBLASLt without bias and ReLU; plain:
 * our own kernel), which algorithm with how much workspace. Effect: overwrites out and
 * c->workspace. What cuBLASLt needs is made at a shape's first use and kept in the device. Local.
 * Errors: INTERNAL, naming the gemm. */
SWT_MUST_CHECK swt_status swt_cuda_multiply(const swt_ctx *c, const swt_cuda_gemm *p);

/* The same by our own kernel (gemm.cu): any gemm that the structure describes, of tensors
 * that are aligned to their elements, without a workspace. Slow. Each sum is one chain over inner.
 */
SWT_MUST_CHECK swt_status swt_cuda_multiply_plain(const swt_ctx *c, const swt_cuda_gemm *p);

/* What goes before and after a gemm of cuBLASLt that has no epilogue: out = bias (+ add), to which
 * the product is added and rounded once; out = ReLU(out). */
SWT_MUST_CHECK swt_status swt_cuda_gemm_bias(const swt_ctx *c, const swt_cuda_gemm *p);
SWT_MUST_CHECK swt_status swt_cuda_gemm_relu(const swt_ctx *c, const swt_cuda_gemm *p);

#ifdef __cplusplus
}
#endif

#endif
