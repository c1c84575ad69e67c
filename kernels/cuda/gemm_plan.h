/* How one gemm is done: cuBLASLt's descriptors and the algorithm chosen for its shape. */
#ifndef SWT_CUDA_GEMM_PLAN_H
#define SWT_CUDA_GEMM_PLAN_H

#include "kernels/cuda/gemm.h"

#include <cublasLt.h>

/* What tells one plan from another: all of a gemm but its addresses. */
typedef struct swt_gemm_key {
    int64_t rows, cols, inner, batch;
    int64_t a_stride, b_stride, out_stride, bias_stride;
    int32_t type, out_type;
    int32_t a_transposed, b_transposed, bias, relu;
} swt_gemm_key;

/* Who does a gemm. WHOLE: one call of cuBLASLt. BARE: no algorithm takes bias and ReLU with the
 * product, so passes of our own do. PLAIN: there is no algorithm at all, and our own
 * kernel is slow. */
typedef enum swt_gemm_way {
    SWT_GEMM_WHOLE,
    SWT_GEMM_BARE,
    SWT_GEMM_PLAIN,
    SWT_GEMM_WAYS
} swt_gemm_way;

/* cuBLASLt is column-major: what is row-major here is its transpose there, out^T = b^T a^T. So its
 * first matrix is our b, its second our a, and its m is our cols. */
typedef struct swt_gemm_plan {
    swt_gemm_key key;
    cublasLtMatmulDescOpaque_t desc;
    cublasLtMatrixLayoutOpaque_t first, second, out;
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace_bytes; /* that the algorithm takes */
    swt_gemm_way way;
} swt_gemm_plan;

/* Pass on a failure of cuBLASLt: SWT_TRY(SWT_CUBLAS(cublasLtCreate(&handle))); */
#define SWT_CUBLAS(call) swt_cublas_check((call), #call, __FILE__, __LINE__)
SWT_MUST_CHECK swt_status swt_cublas_check(cublasStatus_t status, const char *call,
                                           const char *file, int line);

/* True if memory has the alignment that a plan for so many elements a matrix relies on. */
bool swt_gemm_aligned(const void *memory, int64_t elements, swt_dtype type);

/* How much of the context's workspace a gemm may use. One that stands in batches has none: its
 * algorithm is chosen for a pair, and would want more of it the larger the batch. */
static inline size_t swt_gemm_workspace_bytes(const swt_cuda_gemm *p) {
    return p->out_stride != 0 ? 0 : SWT_CUDA_WORKSPACE_BYTES;
}

/* What a plan's call of cuBLASLt computes: all of p, or what is left of it between
 * swt_cuda_gemm_bias and swt_cuda_gemm_relu. */
swt_cuda_gemm swt_gemm_of_library(const swt_cuda_gemm *p, swt_gemm_way way);

/* Fill in all of *n but its key. A slow one (PLAIN) is noted in c->device->warnings. Errors:
 * INTERNAL. */
SWT_MUST_CHECK swt_status swt_gemm_plan_make(const swt_ctx *c, cublasLtHandle_t handle,
                                             const swt_cuda_gemm *p, swt_gemm_plan *n);

#endif
