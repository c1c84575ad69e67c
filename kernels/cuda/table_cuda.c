#include "kernels/cuda/device.h"

#include <string.h>

#define SLOT(op) .op = swt_cuda_##op,
static const swt_ops cuda_ops = {.name = "cuda",
                                 .bf16 = true,
                                 .expert_sums = true,
                                 .all_slots = true,
                                 .workspace_bytes = SWT_CUDA_WORKSPACE_BYTES,
                                 .router_forward = swt_cuda_router_forward,
                                 .router_assign = swt_cuda_router_assign,
                                 .router_losses = swt_cuda_router_losses,
                                 .router_backward = swt_cuda_router_backward,
                                 .dispatch_forward = swt_cuda_dispatch_forward,
                                 .dispatch_backward = swt_cuda_dispatch_backward,
                                 .experts_forward = swt_cuda_experts_forward,
                                 .experts_backward_input = swt_cuda_experts_backward_input,
                                 .experts_backward_weight = swt_cuda_experts_backward_weight,
                                 .combine_forward = swt_cuda_combine_forward,
                                 .combine_backward = swt_cuda_combine_backward,
                                 SWT_OPS(SLOT)};

/* Its UUID, and its place in the machine where one is not given out. */
static swt_status identify(int ordinal, swt_identity *out) {
    struct cudaDeviceProp p;
    SWT_TRY(SWT_CUDA(cudaGetDeviceProperties(&p, ordinal)));
    const int place[] = {p.pciDomainID, p.pciBusID, p.pciDeviceID, 1};
    _Static_assert(sizeof p.uuid + sizeof place == sizeof out->bytes, "an identity is these");
    memcpy(out->bytes, &p.uuid, sizeof p.uuid);
    memcpy(out->bytes + sizeof p.uuid, place, sizeof place);
    return SWT_OK;
}

const swt_backend swt_cuda_backend = {
    .name = "cuda",
    .ops = &cuda_ops,
    .count = swt_cuda_count,
    .identify = identify,
    .open = swt_cuda_open,
};
