/* In place of bed_cuda.c in builds without CUDA. */
#include "support/bed.h"

void *swt_bed_managed_alloc(size_t bytes) {
    (void)bytes;
    return NULL;
}

void swt_bed_managed_release(void *memory) {
    (void)memory;
}
