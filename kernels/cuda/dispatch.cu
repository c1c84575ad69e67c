/* Tokens to their experts' slots and back: one warp for a row. */
#include "kernels/cuda/run.cuh"

enum { WARPS = 4 /* rows of a block of threads */ };

/* The row of this warp; the last block of threads may have too many. */
static __device__ inline int64_t row_of_warp() {
    return (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP;
}

typedef struct forward_args {
    void *send;
    int32_t *send_counts;
    const void *h;
    const int32_t *expert, *slot, *kept;
    int64_t N, C, E, K, first_slot;
} forward_args;

template <typename T, int W>
static __device__ inline void copy_row(T *to, const T *from, int64_t C) {
    for (int64_t i = threadIdx.x % WARP * W; i < C; i += WARP * W)
        *reinterpret_cast<run<T, W> *>(to + i) = *reinterpret_cast<const run<T, W> *>(from + i);
}

template <typename T, int W> static __device__ inline void zero_row(T *to, int64_t C) {
    const float zeros[W] = {0};
    for (int64_t i = threadIdx.x % WARP * W; i < C; i += WARP * W)
        store_run(to + i, zeros);
}

/* A warp's row is a token, which goes to its slot, or behind the tokens a slot, which becomes zeros
 * where it is not occupied. */
template <typename T, int W> static __global__ void fill_slots(forward_args a) {
    const int64_t row = row_of_warp(), thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (thread < a.E)
        a.send_counts[thread] = (int32_t)swt_min(swt_max(a.kept[thread] - a.first_slot, 0), a.K);
    T *const send = (T *)a.send;
    if (row < a.N) {
        const int64_t slot = a.slot[row] - a.first_slot;
        if (a.slot[row] >= 0 && slot >= 0 && slot < a.K)
            copy_row<T, W>(send + (a.expert[row] * a.K + slot) * a.C, (const T *)a.h + row * a.C,
                           a.C);
    } else if (row < a.N + a.E * a.K) {
        const int64_t at = row - a.N;
        if (at % a.K >= a.kept[at / a.K] - a.first_slot)
            zero_row<T, W>(send + at * a.C, a.C);
    }
}

template <typename T, int W>
static swt_status forward_wide(const swt_ctx *c, const forward_args *a) {
    /* A thread for each count at least. */
    const int64_t rows = swt_max(a->N + a->E * a->K, swt_ceil_div(a->E, WARP));
    const auto kernel = fill_slots<T, W>;
    return SWT_LAUNCH(kernel, blocks_of(rows, WARPS), WARPS * WARP, 0, swt_cuda_stream(c), *a);
}

template <typename T> static swt_status forward(const swt_ctx *c, const forward_args *a) {
    return has_runs<T>(a->C) ? forward_wide<T, WIDEST<T>>(c, a) : forward_wide<T, 1>(c, a);
}

swt_status swt_cuda_dispatch_forward(const swt_ctx *c, void *send, int32_t *send_counts,
                                     const void *h, const int32_t *expert, const int32_t *slot,
                                     const int32_t *kept, const swt_moe_dims *dims,
                                     int64_t first_slot) {
    const forward_args a = {send,    send_counts, h,       expert,  slot,      kept,
                            dims->N, dims->C,     dims->E, dims->K, first_slot};
    return SWT_BY_TYPE(c, forward, c, &a);
}

typedef struct backward_args {
    void *dh;
    float *dgate;
    const void *dsend;
    const float *dot;
    const int32_t *expert;
    const float *gate;
    const int32_t *slot;
    int64_t N, C, K;
} backward_args;

template <typename T, int W> static __global__ void collect_gradients(backward_args a) {
    const int64_t n = row_of_warp();
    if (n >= a.N || a.slot[n] < 0)
        return;
    const int64_t at = a.expert[n] * a.K + a.slot[n];
    T *const dh = (T *)a.dh + n * a.C;
    const T *const from = (const T *)a.dsend + at * a.C;
    for (int64_t i = threadIdx.x % WARP * W; i < a.C; i += WARP * W) {
        float sum[W], more[W];
        load_run(sum, dh + i);
        load_run(more, from + i);
        for (int j = 0; j < W; j++)
            sum[j] += more[j];
        store_run(dh + i, sum);
    }
    if (threadIdx.x % WARP == 0)
        a.dgate[n] = a.dot[at] / a.gate[n];
}

template <typename T, int W>
static swt_status backward_wide(const swt_ctx *c, const backward_args *a) {
    const auto kernel = collect_gradients<T, W>;
    return SWT_LAUNCH(kernel, blocks_of(a->N, WARPS), WARPS * WARP, 0, swt_cuda_stream(c), *a);
}

template <typename T> static swt_status backward(const swt_ctx *c, const backward_args *a) {
    return has_runs<T>(a->C) ? backward_wide<T, WIDEST<T>>(c, a) : backward_wide<T, 1>(c, a);
}

swt_status swt_cuda_dispatch_backward(const swt_ctx *c, void *dh, float *dgate, const void *dsend,
                                      const float *dot, const int32_t *expert, const float *gate,
                                      const int32_t *slot, const swt_moe_dims *dims) {
    const backward_args a = {dh, dgate, dsend, dot, expert, gate, slot, dims->N, dims->C, dims->K};
    if (dims->N == 0)
        return SWT_OK;
    return SWT_BY_TYPE(c, backward, c, &a);
}
