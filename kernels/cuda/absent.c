/* What stands in the CUDA backend's place in builds without it (SWT_CUDA=OFF). */
#include "kernels/swt_backend.h"

static swt_status no_cuda(void) {
    return SWT_FAIL(USAGE, "--device cuda: this program was built without CUDA; build it with "
                           "cmake --preset cuda, or use --device cpu");
}

static swt_status count(int *out) {
    *out = 0;
    return no_cuda();
}

static swt_status open_none(swt_device *out, int ordinal, int threads) {
    (void)out, (void)ordinal, (void)threads;
    return no_cuda();
}

const swt_backend swt_cuda_backend = {.name = "cuda", .count = count, .open = open_none};
