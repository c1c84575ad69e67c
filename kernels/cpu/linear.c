#include "kernels/cpu/product.h"

swt_status swt_cpu_linear_forward(const swt_ctx *c, void *y, const void *x, const void *w,
                                  const void *bias, const void *residual, int64_t N, int64_t in,
                                  int64_t out, swt_epilogue epilogue) {
    const swt_cpu_groups g = swt_cpu_one_group(N);
    swt_cpu_products_nt(c, &g, y, x, w, bias, residual, epilogue == SWT_EPILOGUE_RELU, in, out);
    return SWT_OK;
}

swt_status swt_cpu_linear_backward_input(const swt_ctx *c, void *dx, const void *dy, const void *w,
                                         const void *relu_output, int64_t N, int64_t in,
                                         int64_t out) {
    const swt_cpu_groups g = swt_cpu_one_group(N);
    swt_cpu_products_nn(c, &g, dx, dy, w, relu_output, in, out);
    return SWT_OK;
}

swt_status swt_cpu_linear_backward_weight(const swt_ctx *c, float *dw, float *dbias, const void *dy,
                                          const void *x, int64_t N, int64_t in, int64_t out,
                                          int add) {
    const swt_cpu_groups g = swt_cpu_one_group(N);
    swt_cpu_products_tn(c, &g, dw, dbias, dy, x, in, out, add != 0);
    return SWT_OK;
}
