#include "kernels/cuda/gemm.h"
#include "kernels/cuda/linear.h"

swt_status swt_cuda_linear_forward(const swt_ctx *c, const swt_linear_forward_args *a) {
    const swt_cuda_gemm p = {.rows = a->N,
                             .cols = a->out,
                             .inner = a->in,
                             .batch = 1,
                             .a = {.data = a->x, .type = c->dtype},
                             .b = {.data = a->w, .type = c->dtype, .transposed = true},
                             .out = a->y,
                             .out_type = c->dtype,
                             .add = a->residual,
                             .bias = a->bias,
                             .relu = a->epilogue == SWT_EPILOGUE_RELU};
    /* No layer of the model has both, and no epilogue of cuBLASLt. */
    return p.relu && p.add != NULL ? swt_cuda_multiply_plain(c, &p) : swt_cuda_multiply(c, &p);
}

swt_status swt_cuda_linear_backward_input(const swt_ctx *c,
                                          const swt_linear_backward_input_args *a) {
    const swt_cuda_gemm p = {.rows = a->N,
                             .cols = a->in,
                             .inner = a->out,
                             .batch = 1,
                             .a = {.data = a->dy, .type = c->dtype},
                             .b = {.data = a->w, .type = c->dtype},
                             .out = a->dx,
                             .out_type = c->dtype,
                             .add = a->dresidual};
    SWT_TRY(swt_cuda_multiply(c, &p));
    return a->relu_output != NULL ? swt_cuda_relu_mask(c, a->dx, a->relu_output, a->N * a->in)
                                  : SWT_OK;
}

swt_status swt_cuda_linear_backward_weight(const swt_ctx *c,
                                           const swt_linear_backward_weight_args *a) {
    const swt_cuda_gemm p = {.rows = a->out,
                             .cols = a->in,
                             .inner = a->N,
                             .batch = 1,
                             .a = {.data = a->dy, .type = c->dtype, .transposed = true},
                             .b = {.data = a->x, .type = c->dtype},
                             .out = a->dw,
                             .out_type = SWT_F32,
                             .add = a->add ? a->dw : NULL};
    if (a->N > 0 || !a->add)
        SWT_TRY(swt_cuda_multiply(c, &p));
    const swt_cuda_columns sum = {
        .batch = 1, .rows = a->N, .columns = a->out, .type = c->dtype, .add = a->add};
    return a->dbias != NULL ? swt_cuda_column_sums(c, a->dbias, a->dy, &sum) : SWT_OK;
}
