/* What the experts do beside their products (experts.cu). */
#ifndef SWT_CUDA_EXPERTS_H
#define SWT_CUDA_EXPERTS_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* dhidden = dhidden [hidden > 0] and dot = dhidden . hidden + dy . bo[j], over all slots. */
SWT_MUST_CHECK swt_status swt_cuda_expert_mask(const swt_ctx *c,
                                               const swt_experts_backward_input_args *a);

#ifdef __cplusplus
}
#endif

#endif
