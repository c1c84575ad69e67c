/* What the experts do beside their products (experts.cu). */
#ifndef SWT_CUDA_EXPERTS_H
#define SWT_CUDA_EXPERTS_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* dhidden = dhidden [hidden > 0] and dot = dhidden . hidden + dy . bo[j], over all slots; shapes as
 * in swt_experts_backward_input. */
SWT_MUST_CHECK swt_status swt_cuda_expert_mask(const swt_ctx *c, void *dhidden, float *dot,
                                               const void *dy, const void *hidden, const void *bo,
                                               const swt_moe_dims *dims);

#ifdef __cplusplus
}
#endif

#endif
