/* What the machine can do, to measure operations by. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include "kernels/swt_ops.h"

typedef struct machine {
    char name[48];         /* for people */
    double product_gflops; /* floating-point operations per second, in 1e9 */
    double copy_gbps; /* bytes read and written per second, in 1e9, of a copy of memory far larger
                         than the caches */
} machine;

/* Of the CPU: multiply-adds on registers, and a copy, by all threads of the device at once, in the
 * widest vectors of the processor. Of a device that queues work: a large square gemm of the
 * context's dtype by its own operation, which its vendor's library computes, and its own copy.
 * Errors: MEMORY, and what the device says. */
SWT_MUST_CHECK swt_status machine_measure(const swt_ctx *c, machine *out);

#endif
