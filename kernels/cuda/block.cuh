/* What kernels share: numbers of either activation type, and sums over a warp or a block in a fixed
 * order. */
#ifndef SWT_CUDA_BLOCK_CUH
#define SWT_CUDA_BLOCK_CUH

#include "kernels/cuda/cuda.h"

#include <cuda_bf16.h>

enum { WARP = 32 };

/* Activations are float or __nv_bfloat16; arithmetic is float. */
static __device__ inline float to_float(float x) {
    return x;
}

static __device__ inline float to_float(__nv_bfloat16 x) {
    return __bfloat162float(x);
}

template <typename T> static __device__ inline T from_float(float x);

template <> __device__ inline float from_float<float>(float x) {
    return x;
}

template <> __device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
    return __float2bfloat16(x);
}

/* The sum over a warp, on every lane; whole warps only. */
template <typename T> static __device__ inline T warp_sum(T x) {
    for (int step = WARP / 2; step > 0; step /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

/* The largest value of a warp, on every lane. */
static __device__ inline float warp_max(float x) {
    for (int step = WARP / 2; step > 0; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

/* The sum over a block of whole warps (at most 32), on every thread. All threads call it. `shared`
 * has room for one T a warp and may be used again at once. */
template <typename T> static __device__ inline T block_sum(T x, T *shared) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int warps = blockDim.x / WARP;
    x = warp_sum(x);
    if (lane == 0)
        shared[warp] = x;
    __syncthreads();
    x = warp_sum(lane < warps ? shared[lane] : T(0));
    __syncthreads();
    return x;
}

/* Blocks of `threads` that cover n elements. */
static inline unsigned blocks_of(int64_t n, int threads) {
    return (unsigned)swt_ceil_div(n, threads);
}

/* Where each row has a warp: threads of a block, blocks that cover all rows, and the row of this
 * warp, which may lie behind the last one. */
enum { ROW_THREADS = 4 * WARP };

static inline unsigned row_blocks(int64_t rows) {
    return blocks_of(rows, ROW_THREADS / WARP);
}

static __device__ inline int64_t row_of_warp() {
    return (int64_t)blockIdx.x * (ROW_THREADS / WARP) + threadIdx.x / WARP;
}

/* What a kernel is made for: the type of activations, and how many of them one access moves. */
template <typename T, int W> struct kernel_kind {
    typedef T type;
    static constexpr int width = W;
};

/* Call launch(kernel_kind) for the context's type of activations:
 *     return by_type(c, [&](auto as) {
 *         const auto kernel = cast_kernel<typename decltype(as)::type>;
 *         return SWT_LAUNCH(kernel, ...);
 *     }); */
template <typename F> SWT_MUST_CHECK static inline swt_status by_type(const swt_ctx *c, F launch) {
    return c->dtype == SWT_BF16 ? launch(kernel_kind<__nv_bfloat16, 1>())
                                : launch(kernel_kind<float, 1>());
}

#endif
