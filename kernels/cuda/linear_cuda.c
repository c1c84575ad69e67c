#include "kernels/cuda/linear.h"
#include "kernels/cuda/product.h"

swt_status swt_cuda_linear_forward(const swt_ctx *c, void *y, const void *x, const void *w,
                                   const void *bias, const void *residual, int64_t N, int64_t in,
                                   int64_t out, swt_epilogue epilogue) {
    const swt_cuda_product p = {.rows = N,
                                .cols = out,
                                .inner = in,
                                .batch = 1,
                                .a = {.data = x, .type = c->dtype},
                                .b = {.data = w, .type = c->dtype, .transposed = true},
                                .out = y,
                                .out_type = c->dtype,
                                .add = residual,
                                .bias = bias,
                                .relu = epilogue == SWT_EPILOGUE_RELU};
    /* No layer of the model has both, and no epilogue of cuBLASLt. */
    return p.relu && residual != NULL ? swt_cuda_multiply_plain(c, &p) : swt_cuda_multiply(c, &p);
}

swt_status swt_cuda_linear_backward_input(const swt_ctx *c, void *dx, const void *dy, const void *w,
                                          const void *relu_output, int64_t N, int64_t in,
                                          int64_t out) {
    const swt_cuda_product p = {.rows = N,
                                .cols = in,
                                .inner = out,
                                .batch = 1,
                                .a = {.data = dy, .type = c->dtype},
                                .b = {.data = w, .type = c->dtype},
                                .out = dx,
                                .out_type = c->dtype};
    SWT_TRY(swt_cuda_multiply(c, &p));
    return relu_output != NULL ? swt_cuda_relu_mask(c, dx, relu_output, N * in) : SWT_OK;
}

swt_status swt_cuda_linear_backward_weight(const swt_ctx *c, float *dw, float *dbias,
                                           const void *dy, const void *x, int64_t N, int64_t in,
                                           int64_t out, int add) {
    const swt_cuda_product p = {.rows = out,
                                .cols = in,
                                .inner = N,
                                .batch = 1,
                                .a = {.data = dy, .type = c->dtype, .transposed = true},
                                .b = {.data = x, .type = c->dtype},
                                .out = dw,
                                .out_type = SWT_F32,
                                .add = add != 0 ? dw : NULL};
    if (N > 0 || add == 0)
        SWT_TRY(swt_cuda_multiply(c, &p));
    const swt_cuda_columns sum = {
        .batch = 1, .rows = N, .columns = out, .type = c->dtype, .add = add != 0};
    return dbias != NULL ? swt_cuda_column_sums(c, dbias, dy, &sum) : SWT_OK;
}
