#include "kernels/cuda/device.h"

#include <string.h>

#define SLOT(op) .op = swt_cuda_##op,
static const swt_ops cuda_ops = {.name = "cuda",
                                 .bf16 = true,
                                 .expert_sums = true,
                                 .all_slots = true,
                                 .workspace_bytes = SWT_CUDA_WORKSPACE_BYTES,
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
