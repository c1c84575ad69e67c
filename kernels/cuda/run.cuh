/* Runs of neighbouring elements, moved in one access and computed with as floats. */
#ifndef SWT_CUDA_RUN_CUH
#define SWT_CUDA_RUN_CUH

#include "kernels/cuda/block.cuh"

/* W elements; W sizeof(T) is a power of two. */
template <typename T, int W> struct alignas(sizeof(T) * W < 16 ? sizeof(T) * W : 16) run {
    T v[W];
};

/* The longest run that one access moves: 16 bytes. */
template <typename T> constexpr int WIDEST = 16 / (int)sizeof(T);

/* Whether rows of C elements can be cut into the longest runs. Tensors are aligned anyway. */
template <typename T> static inline bool has_runs(int64_t C) {
    return C % WIDEST<T> == 0;
}

template <int W, typename T> static __device__ inline void load_run(float (&to)[W], const T *from) {
    const run<T, W> r = *reinterpret_cast<const run<T, W> *>(from);
    for (int i = 0; i < W; i++)
        to[i] = to_float(r.v[i]);
}

template <int W, typename T>
static __device__ inline void store_run(T *to, const float (&from)[W]) {
    run<T, W> r;
    for (int i = 0; i < W; i++)
        r.v[i] = from_float<T>(from[i]);
    *reinterpret_cast<run<T, W> *>(to) = r;
}

/* Call launch(kernel_kind) for the type `dtype`, with the longest run wherever rows of C elements
 * can be cut into such, else one element at a time. */
template <typename F>
SWT_MUST_CHECK static inline swt_status by_run_of(swt_dtype dtype, int64_t C, F launch) {
    typedef __nv_bfloat16 bf16;
    if (dtype == SWT_BF16)
        return has_runs<bf16>(C) ? launch(kernel_kind<bf16, WIDEST<bf16>>())
                                 : launch(kernel_kind<bf16, 1>());
    return has_runs<float>(C) ? launch(kernel_kind<float, WIDEST<float>>())
                              : launch(kernel_kind<float, 1>());
}

/* The same for the context's type of activations. */
template <typename F>
SWT_MUST_CHECK static inline swt_status by_run(const swt_ctx *c, int64_t C, F launch) {
    return by_run_of(c->dtype, C, launch);
}

#endif
