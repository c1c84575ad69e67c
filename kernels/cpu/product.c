#include "kernels/cpu/product.h"

#include <dnnl.h>
#include <string.h>

/* c (m, n) = a (m, k) b (k, n), each operand possibly transposed. */
static swt_status product(float *c, char transpose_a, const float *a, int64_t a_stride,
                          char transpose_b, const float *b, int64_t b_stride, int64_t m, int64_t n,
                          int64_t k, bool accumulate) {
    if (m == 0 || n == 0)
        return SWT_OK;
    if (k == 0) {
        if (!accumulate)
            memset(c, 0, (size_t)m * (size_t)n * sizeof *c);
        return SWT_OK;
    }
    const dnnl_status_t status = dnnl_sgemm(transpose_a, transpose_b, m, n, k, 1.0f, a, a_stride, b,
                                            b_stride, accumulate ? 1.0f : 0.0f, c, n);
    if (status == dnnl_out_of_memory)
        return SWT_FAIL(MEMORY, "matrix product: no memory; use smaller batches or more ranks");
    if (status != dnnl_success)
        return SWT_FAIL(INTERNAL, "matrix product: dnnl_sgemm returned status %d", (int)status);
    return SWT_OK;
}

swt_status swt_cpu_product_nt(float *y, const float *x, const float *w, int64_t n, int64_t in,
                              int64_t out, bool accumulate) {
    return product(y, 'N', x, in, 'T', w, in, n, out, in, accumulate);
}

swt_status swt_cpu_product_nn(float *dx, const float *dy, const float *w, int64_t n, int64_t in,
                              int64_t out, bool accumulate) {
    return product(dx, 'N', dy, out, 'N', w, in, n, in, out, accumulate);
}

swt_status swt_cpu_product_tn(float *dw, const float *dy, int64_t dy_stride, const float *x,
                              int64_t n, int64_t in, int64_t rows, bool accumulate) {
    return product(dw, 'T', dy, dy_stride, 'N', x, in, rows, in, n, accumulate);
}
