/* Managed memory, in builds with CUDA. */
#include "support/bed.h"

#include <cuda_runtime_api.h>

void *swt_bed_managed_alloc(size_t bytes) {
    void *memory = NULL;
    return cudaMallocManaged(&memory, bytes, cudaMemAttachGlobal) == cudaSuccess ? memory : NULL;
}

void swt_bed_managed_release(void *memory) {
    (void)cudaFree(memory);
}
