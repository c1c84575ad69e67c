/* The CPU backend, inside: its operations, how they use threads, and where its vector code is.
 *
 * An operation cuts its work into parts, by the shapes alone; swt_cpu_run hands the parts to
 * the threads. A part runs on one thread, so neither the number of threads nor their order can
 * change a bit of the result. Gemms: gemm.h; everything else: the vector table
 * (vec/vec.h). */
#ifndef SWT_CPU_H
#define SWT_CPU_H

#include "kernels/cpu/vec/vec.h"
#include "kernels/swt_ops.h"

/* The vector code that swt_device_open_cpu chose for this processor: the widest of plain, avx2 and
 * avx512 that it can run, or the one that the environment variable SWT_ISA names. */
typedef struct swt_cpu_own {
    const swt_vec *vec;
    unsigned char *scratch; /* (threads, SWT_SCRATCH_BYTES) */
} swt_cpu_own;

static inline const swt_vec *swt_cpu_vec(const swt_ctx *c) {
    return ((const swt_cpu_own *)c->device->own)->vec;
}

/* Run one part of an operation, on one thread. args is the operation's structure of arguments. */
typedef void (*swt_cpu_part_fn)(const swt_ctx *c, const void *args, int64_t part);

/* Run parts 0 .. parts - 1 on c->device->threads threads, each part once, in any order, and wait
 * for them. A part cannot fail: what can be wrong has been checked before (ops_*.c). */
void swt_cpu_run(const swt_ctx *c, int64_t parts, swt_cpu_part_fn run, const void *args);

/* Inside a part: SWT_SCRATCH_BYTES of its thread's, aligned to 64, to be used until the part ends.
 */
void *swt_cpu_scratch(const swt_ctx *c);

/* swt_backend.open */
SWT_MUST_CHECK swt_status swt_cpu_open(swt_device *out, int ordinal, int threads);

/* swt_grad_add on the calling thread. */
void swt_cpu_add_sums(const swt_ctx *c, int64_t *sum, const float *grad, int64_t n, double limit,
                      bool first);

/* The slots, documented in ops_*.h. */
#define SWT_CPU_OP(op) swt_status swt_cpu_##op(const swt_ctx *c, const swt_##op##_args *args);
SWT_OPS(SWT_CPU_OP)
#undef SWT_CPU_OP

#endif
