/* The CUDA backend, inside: its operations, its device, and how kernels are launched.
 *
 * Kernels and their launchers are in .cu files, one for each group of operations, with the names of
 * kernels/cpu; what only calls cuBLASLt or the runtime is C (*_cuda.c). A launcher never allocates
 * and never waits.
 *
 * Every kernel also compiles as C++ for the emulated platform (tests/emu), so it keeps to a subset:
 * launches by SWT_LAUNCH, dynamic shared memory by SWT_DYNAMIC_SHARED, warp operations of whole
 * warps with the full mask, no inline PTX, no cooperative groups, no device library.
 *
 * Bits: no float atomics, and no result depends on the grid: the order of every sum is fixed by
 * shapes alone. */
#ifndef SWT_CUDA_H
#define SWT_CUDA_H

/* These have C++ parts, which must not be seen with C linkage: they come first. */
#include <cuda_runtime_api.h>
#include <math.h>
#include <Random123/philox.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "base/checked.h"
#include "kernels/swt_backend.h"

/* Pass on a failure of the CUDA runtime: SWT_TRY(SWT_CUDA(cudaMemsetAsync(...))); */
#define SWT_CUDA(call) swt_cuda_check((call), #call, __FILE__, __LINE__)
SWT_MUST_CHECK swt_status swt_cuda_check(cudaError_t error, const char *call, const char *file,
                                         int line);

/* What the launch just made says of itself. */
SWT_MUST_CHECK swt_status swt_cuda_launched(const char *kernel, const char *file, int line);

/* swt_backend.open and count */
SWT_MUST_CHECK swt_status swt_cuda_open(swt_device *out, int ordinal, int threads);
SWT_MUST_CHECK swt_status swt_cuda_count(int *count);

static inline cudaStream_t swt_cuda_stream(const swt_ctx *c) {
    return (cudaStream_t)(void *)c->stream;
}

/* The slots, documented in ops_*.h. */
#define SWT_CUDA_OP(op) swt_status swt_cuda_##op(const swt_ctx *c, const swt_##op##_args *args);
SWT_OPS(SWT_CUDA_OP)
#undef SWT_CUDA_OP

#ifdef __cplusplus
}

/* Queue kernel(arguments...) on a stream: an expression of type swt_status. The grid must not be
 * empty.
 *
 * A launch tells of its failure through the runtime's last error alone, so what a library left
 * there is cleared first. That hides nothing: our own calls are judged by what they return, NCCL's
 * and cuBLASLt's by their status, and an error that ends the GPU's work cannot be cleared. */
#ifndef SWT_LAUNCH
#define SWT_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                 \
    ((void)cudaGetLastError(), kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__), \
     swt_cuda_launched(#kernel, __FILE__, __LINE__))
#endif

/* `type *name`: the block's dynamic shared memory. */
#ifndef SWT_DYNAMIC_SHARED
#define SWT_DYNAMIC_SHARED(type, name)                                                             \
    extern __shared__ __align__(16) unsigned char swt_dynamic_shared[];                            \
    type *const name = reinterpret_cast<type *>(swt_dynamic_shared)
#endif
#endif

#endif
