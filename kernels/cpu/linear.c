#include "kernels/cpu/gemm.h"

swt_status swt_cpu_linear_forward(const swt_ctx *c, const swt_linear_forward_args *a) {
    swt_cpu_gemms_nt(c, &(swt_cpu_gemms_nt_args){.y = a->y,
                                                 .x = a->x,
                                                 .w = a->w,
                                                 .bias = a->bias,
                                                 .residual = a->residual,
                                                 .groups = swt_cpu_one_group(a->N),
                                                 .in = a->in,
                                                 .out = a->out,
                                                 .relu = a->epilogue == SWT_EPILOGUE_RELU});
    return SWT_OK;
}

swt_status swt_cpu_linear_backward_input(const swt_ctx *c,
                                         const swt_linear_backward_input_args *a) {
    swt_cpu_gemms_nn(c, &(swt_cpu_gemms_nn_args){.dx = a->dx,
                                                 .dy = a->dy,
                                                 .w = a->w,
                                                 .mask = a->relu_output,
                                                 .residual = a->dresidual,
                                                 .groups = swt_cpu_one_group(a->N),
                                                 .in = a->in,
                                                 .out = a->out});
    return SWT_OK;
}

swt_status swt_cpu_linear_backward_weight(const swt_ctx *c,
                                          const swt_linear_backward_weight_args *a) {
    swt_cpu_gemms_tn(c, &(swt_cpu_gemms_tn_args){.dw = a->dw,
                                                 .dbias = a->dbias,
                                                 .dy = a->dy,
                                                 .x = a->x,
                                                 .groups = swt_cpu_one_group(a->N),
                                                 .in = a->in,
                                                 .out = a->out,
                                                 .add = a->add});
    return SWT_OK;
}
