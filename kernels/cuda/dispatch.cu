/* Tokens to their experts' slots and back: one warp for a row. */
#include "kernels/cuda/wide.cuh"

template <typename T, int W>
static __device__ inline void copy_row(T *to, const T *from, int64_t C) {
    for (int64_t i = threadIdx.x % WARP * W; i < C; i += WARP * W)
        *reinterpret_cast<wide<T, W> *>(to + i) = *reinterpret_cast<const wide<T, W> *>(from + i);
}

template <typename T, int W> static __device__ inline void zero_row(T *to, int64_t C) {
    const float zeros[W] = {0};
    for (int64_t i = threadIdx.x % WARP * W; i < C; i += WARP * W)
        store_wide(to + i, zeros);
}

/* A warp's row is a token, which goes to its slot, or behind the tokens a slot, which becomes zeros
 * where it is not occupied. */
template <typename T, int W> static __global__ void fill_slots(swt_dispatch_forward_args a) {
    const int64_t N = a.dims.N, C = a.dims.C, E = a.dims.E, K = a.dims.K;
    const int64_t row = row_of_warp(), thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (thread < E)
        a.send_counts[thread] =
            (int32_t)swt_min(swt_max(a.kept_counts[thread] - a.first_slot, 0), K);
    T *const send = (T *)a.send;
    if (row < N) {
        const int64_t slot = a.slot[row] - a.first_slot;
        if (a.slot[row] >= 0 && slot >= 0 && slot < K)
            copy_row<T, W>(send + (a.expert[row] * K + slot) * C, (const T *)a.h + row * C, C);
    } else if (row < N + E * K) {
        const int64_t slot = row - N; /* of all experts */
        if (slot % K >= a.kept_counts[slot / K] - a.first_slot)
            zero_row<T, W>(send + slot * C, C);
    }
}

swt_status swt_cuda_dispatch_forward(const swt_ctx *c, const swt_dispatch_forward_args *a) {
    const swt_moe_dims *d = &a->dims;
    /* A thread for each count at least. */
    const int64_t rows = swt_max(d->N + d->E * d->K, swt_ceil_div(d->E, WARP));
    return by_width(c, d->C, [&](auto as) {
        const auto kernel = fill_slots<typename decltype(as)::type, decltype(as)::width>;
        return SWT_LAUNCH(kernel, row_blocks(rows), ROW_THREADS, 0, swt_cuda_stream(c), *a);
    });
}

template <typename T, int W>
static __global__ void collect_gradients(swt_dispatch_backward_args a) {
    const int64_t n = row_of_warp(), C = a.dims.C;
    if (n >= a.dims.N || a.slot[n] < 0)
        return;
    const int64_t row = a.expert[n] * a.dims.K + a.slot[n];
    T *const dh = (T *)a.dh + n * C;
    const T *const from = (const T *)a.dsend + row * C;
    for (int64_t i = threadIdx.x % WARP * W; i < C; i += WARP * W) {
        float sum[W], more[W];
        load_wide(sum, dh + i);
        load_wide(more, from + i);
        for (int j = 0; j < W; j++)
            sum[j] += more[j];
        store_wide(dh + i, sum);
    }
    if (threadIdx.x % WARP == 0)
        a.dgate[n] = a.dot[row] / a.gate[n];
}

swt_status swt_cuda_dispatch_backward(const swt_ctx *c, const swt_dispatch_backward_args *a) {
    if (a->dims.N == 0)
        return SWT_OK;
    return by_width(c, a->dims.C, [&](auto as) {
        const auto kernel = collect_gradients<typename decltype(as)::type, decltype(as)::width>;
        return SWT_LAUNCH(kernel, row_blocks(a->dims.N), ROW_THREADS, 0, swt_cuda_stream(c), *a);
    });
}
