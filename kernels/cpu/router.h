/* What the router's files share. */
#ifndef SWT_CPU_ROUTER_H
#define SWT_CPU_ROUTER_H

#include "kernels/cpu/cpu.h"

/* Pieces of scratch start at multiples of 64 bytes. */
static inline int64_t swt_cpu_scratch_align(int64_t bytes) {
    return (bytes + 63) / 64 * 64;
}

/* What the CPU's router needs, and of that what swt_cpu_router_assign needs. */
int64_t swt_cpu_router_scratch_bytes(const swt_moe_dims *dims);
int64_t swt_cpu_assign_scratch_bytes(const swt_moe_dims *dims);

#endif
