/* Inside a kernel: which CUDA thread runs, and how threads wait for each other. Used by cuda_emu.h
 * alone. C and C++. */
#ifndef SWT_EMU_SCHED_H
#define SWT_EMU_SCHED_H

#include "tests/emu/emu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Blocks run one after another, each thread of a block on a fiber. */
typedef struct swt_emu_thread {
    uint3 index;
    int lane; /* in its warp */
} swt_emu_thread;

/* A thread's function sees no change of these, so that they are constants where it is compiled. */
#ifdef __cplusplus
#define SWT_EMU_FIXED const
#else
#define SWT_EMU_FIXED
#endif
extern SWT_EMU_FIXED swt_emu_thread swt_emu_self;
extern SWT_EMU_FIXED uint3 swt_emu_block;
extern SWT_EMU_FIXED dim3 swt_emu_block_dim, swt_emu_grid_dim;
/* Exactly the bytes of the launch, filled with 0xFF. */
extern void *SWT_EMU_FIXED swt_emu_dynamic_shared;

/* A launch, and what follows it in memory: the kernel's arguments, which call() gives to it. */
typedef struct swt_emu_kernel {
    const char *name;
    void (*call)(const void *arguments);
    dim3 grid, block;
    size_t shared_bytes;
} swt_emu_kernel;

/* Queue the kernel. Errors are cudaGetLastError's. */
void swt_emu_launch(const swt_emu_kernel *kernel, const void *arguments, size_t bytes,
                    cudaStream_t stream);

/* __syncthreads: returns the number of threads whose predicate is not 0. */
int swt_emu_sync_block(int predicate, const char *file, int line);

/* A warp operation: the values that the 32 lanes gave. Valid until this thread's next one.
 * `orders`: it orders memory (__syncwarp does; shuffles and votes do not). */
const uint64_t *swt_emu_sync_warp(const char *operation, unsigned mask, uint64_t value, bool orders,
                                  const char *file, int line);

#ifdef __cplusplus
}
#endif

#endif
