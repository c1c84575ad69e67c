#include "kernels/cpu/gemm.h"

swt_status swt_cpu_linear_forward(const swt_ctx *c, const swt_linear_forward_args *a) {
    const swt_cpu_groups g = swt_cpu_one_group(a->N);
    swt_cpu_gemms_nt(c, &g, a->y, a->x, a->w, a->bias, a->residual,
                     a->epilogue == SWT_EPILOGUE_RELU, a->in, a->out);
    return SWT_OK;
}

swt_status swt_cpu_linear_backward_input(const swt_ctx *c,
                                         const swt_linear_backward_input_args *a) {
    const swt_cpu_groups g = swt_cpu_one_group(a->N);
    swt_cpu_gemms_nn(c, &g, a->dx, a->dy, a->w, a->relu_output, a->in, a->out);
    return SWT_OK;
}

swt_status swt_cpu_linear_backward_weight(const swt_ctx *c,
                                          const swt_linear_backward_weight_args *a) {
    const swt_cpu_groups g = swt_cpu_one_group(a->N);
    swt_cpu_gemms_tn(c, &g, a->dw, a->dbias, a->dy, a->x, a->in, a->out, a->add);
    return SWT_OK;
}
