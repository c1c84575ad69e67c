/* Wide accesses: W neighbouring elements, moved at once and computed with as floats. */
#ifndef SWT_CUDA_WIDE_CUH
#define SWT_CUDA_WIDE_CUH

#include "kernels/cuda/block.cuh"

/* W elements; W sizeof(T) is a power of two. */
template <typename T, int W> struct alignas(sizeof(T) * W < 16 ? sizeof(T) * W : 16) wide {
    T v[W];
};

/* The widest that one access moves: 16 bytes. */
template <typename T> constexpr int WIDEST = 16 / (int)sizeof(T);

/* Whether rows of C elements can be cut into the widest vectors. Tensors are aligned anyway. */
template <typename T> static inline bool takes_widest(int64_t C) {
    return C % WIDEST<T> == 0;
}

template <int W, typename T>
static __device__ inline void load_wide(float (&to)[W], const T *from) {
    const wide<T, W> w = *reinterpret_cast<const wide<T, W> *>(from);
    for (int i = 0; i < W; i++)
        to[i] = to_float(w.v[i]);
}

template <int W, typename T>
static __device__ inline void store_wide(T *to, const float (&from)[W]) {
    wide<T, W> w;
    for (int i = 0; i < W; i++)
        w.v[i] = from_float<T>(from[i]);
    *reinterpret_cast<wide<T, W> *>(to) = w;
}

/* Call launch(kernel_kind) for the type `dtype`, with the widest vectors wherever rows of C
 * elements can be cut into such, else one element at a time. */
template <typename F>
SWT_MUST_CHECK static inline swt_status by_width_of(swt_dtype dtype, int64_t C, F launch) {
    typedef __nv_bfloat16 bf16;
    if (dtype == SWT_BF16)
        return takes_widest<bf16>(C) ? launch(kernel_kind<bf16, WIDEST<bf16>>())
                                     : launch(kernel_kind<bf16, 1>());
    return takes_widest<float>(C) ? launch(kernel_kind<float, WIDEST<float>>())
                                  : launch(kernel_kind<float, 1>());
}

/* The same for the context's type of activations. */
template <typename F>
SWT_MUST_CHECK static inline swt_status by_width(const swt_ctx *c, int64_t C, F launch) {
    return by_width_of(c->dtype, C, launch);
}

#endif
