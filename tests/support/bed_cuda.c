/* Managed memory, in builds with CUDA. */
#include "support/bed.h"

#include <cuda_runtime_api.h>

/* The host reads and writes beside streams that are in use, which some systems (WSL, say) do not
 * allow. "no usable GPU" is what CTest knows a skipped test by. */
static void expect_shared_access(void) {
    int device = 0, concurrent = 0;
    assert_int_equal(cudaGetDevice(&device), cudaSuccess);
    assert_int_equal(
        cudaDeviceGetAttribute(&concurrent, cudaDevAttrConcurrentManagedAccess, device),
        cudaSuccess);
    if (concurrent == 0)
        fail_msg("no usable GPU: GPU %d and the host cannot use managed memory at the same time",
                 device);
}

void *swt_bed_managed_alloc(size_t bytes) {
    void *memory = NULL;
    expect_shared_access();
    return cudaMallocManaged(&memory, bytes, cudaMemAttachGlobal) == cudaSuccess ? memory : NULL;
}

void swt_bed_managed_release(void *memory) {
    (void)cudaFree(memory);
}
