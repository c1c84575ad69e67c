/* What the experts do beside their gemms (experts.cu). */
#ifndef SWT_CUDA_EXPERTS_H
#define SWT_CUDA_EXPERTS_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* dot = dhidden . hidden + dy . bo[j], and of ReLU dhidden = dhidden [hidden > 0], over all slots.
 */
SWT_MUST_CHECK swt_status swt_cuda_hidden_gradient(const swt_ctx *c,
                                                   const swt_experts_backward_input_args *a);

/* Dropout of experts' hidden values, or of their gradient (dropout.cu). */
SWT_MUST_CHECK swt_status swt_cuda_drop_hidden(const swt_ctx *c, void *x, const swt_moe_dims *d);

#ifdef __cplusplus
}
#endif

#endif
