/* The CUDA backend's own part of an open device (swt_device.own). */
#ifndef SWT_CUDA_DEVICE_H
#define SWT_CUDA_DEVICE_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Of swt_ctx.workspace: what cuBLASLt's algorithms may use. 32 MiB is the vendor's advice for the
 * largest processors that we name. */
enum { SWT_CUDA_WORKSPACE_BYTES = 32 << 20 };

/* cuBLASLt's handle and what is known of each gemm made so far (gemm_cuda.c). */
typedef struct swt_cuda_gemms swt_cuda_gemms;

struct swt_cuda_device {
    int ordinal;           /* of cudaSetDevice */
    swt_cuda_gemms *gemms; /* of swt_cuda_gemms_open */
};

/* Make *out on the current device; NULL after an error. Errors: MEMORY, INTERNAL. */
SWT_MUST_CHECK swt_status swt_cuda_gemms_open(swt_cuda_gemms **out);

/* NULL is allowed. Work on streams must be done. */
void swt_cuda_gemms_close(swt_cuda_gemms *gemms);

static inline struct swt_cuda_device *swt_cuda_device_of(const swt_ctx *c) {
    return (struct swt_cuda_device *)c->device->own;
}

#ifdef __cplusplus
}
#endif

#endif
