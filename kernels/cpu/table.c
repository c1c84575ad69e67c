#include "kernels/cpu/cpu.h"
#include "kernels/swt_backend.h"

#define SLOT(op) .op = swt_cpu_##op,
static const swt_ops cpu_ops = {.name = "cpu",
                                .router_forward = swt_cpu_router_forward,
                                .router_assign = swt_cpu_router_assign,
                                .router_losses = swt_cpu_router_losses,
                                .router_backward = swt_cpu_router_backward,
                                .dispatch_forward = swt_cpu_dispatch_forward,
                                .dispatch_backward = swt_cpu_dispatch_backward,
                                .experts_forward = swt_cpu_experts_forward,
                                .experts_backward_input = swt_cpu_experts_backward_input,
                                .experts_backward_weight = swt_cpu_experts_backward_weight,
                                .combine_forward = swt_cpu_combine_forward,
                                .combine_backward = swt_cpu_combine_backward,
                                SWT_OPS(SLOT)};

static swt_status cpu_count(int *count) {
    *count = 1;
    return SWT_OK;
}

const swt_backend swt_cpu_backend = {
    .name = "cpu",
    .ops = &cpu_ops,
    .count = cpu_count,
    .open = swt_cpu_open,
};
