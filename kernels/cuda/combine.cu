/* The experts' outputs back to their tokens, and the way back: one warp for a token. */
#include "kernels/cuda/run.cuh"

enum { WARPS = 4 /* tokens of a block of threads */ };

/* Forward and backward; what one does not have is NULL. */
typedef struct combine_args {
    void *to; /* forward: y; backward: drecv */
    void *dh;
    float *dgate;
    const void *residual, *recv, *dy, *h;
    const int32_t *expert;
    const float *gate;
    const int32_t *slot;
    int64_t N, C, K, first_slot;
    bool backward, gated_input, unit;
} combine_args;

static __device__ inline int64_t token_of_warp() {
    return (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP;
}

static __device__ inline bool takes_input(const combine_args &a, int64_t n) {
    return a.slot[n] < 0 && a.expert[n] >= 0 && a.gated_input;
}

/* y may be residual. */
template <typename T, int W> static __global__ void collect_outputs(combine_args a) {
    const int64_t n = token_of_warp(), C = a.C;
    if (n >= a.N)
        return;
    const int64_t slot = a.slot[n] - a.first_slot;
    const bool in_round = a.slot[n] >= 0 && slot >= 0 && slot < a.K;
    const T *o = NULL; /* 0 by definition, or of another round */
    if (in_round)
        o = (const T *)a.recv + (a.expert[n] * a.K + slot) * C;
    else if (takes_input(a, n))
        o = (const T *)a.h + n * C;
    if (a.first_slot > 0 && !in_round)
        return;
    const float s = a.unit ? 1.0f : a.gate[n];
    T *const y = (T *)a.to + n * C;
    const T *const residual = (const T *)a.residual + n * C;
    for (int64_t i = threadIdx.x % WARP * W; i < C; i += WARP * W) {
        float sum[W], out[W];
        load_run(sum, residual + i);
        if (o != NULL) {
            load_run(out, o + i);
            for (int j = 0; j < W; j++)
                sum[j] += s * out[j];
        }
        store_run(y + i, sum);
    }
}

template <typename T, int W> static __global__ void send_gradients(combine_args a) {
    const int64_t n = token_of_warp(), C = a.C;
    if (n >= a.N)
        return;
    const bool kept = a.slot[n] >= 0, input = takes_input(a, n);
    const float s = a.unit ? 1.0f : a.gate[n];
    const T *const dy = (const T *)a.dy + n * C, *const h = (const T *)a.h + n * C;
    T *const dh = (T *)a.dh + n * C;
    T *const drecv = (T *)a.to + (kept ? (a.expert[n] * a.K + a.slot[n]) * C : 0);
    float dot = 0;
    for (int64_t i = threadIdx.x % WARP * W; i < C; i += WARP * W) {
        float d[W], o[W];
        load_run(d, dy + i);
        if (input) {
            load_run(o, h + i);
            for (int j = 0; j < W; j++)
                dot += d[j] * o[j];
        }
        for (int j = 0; j < W; j++)
            d[j] *= s;
        if (kept)
            store_run(drecv + i, d);
        for (int j = 0; j < W; j++)
            d[j] = input ? d[j] : 0.0f;
        store_run(dh + i, d);
    }
    dot = warp_sum(dot);
    if (threadIdx.x % WARP == 0 && !kept)
        a.dgate[n] = !input ? 0.0f : a.unit ? dot / a.gate[n] : dot;
}

template <typename T, int W> static swt_status run_wide(const swt_ctx *c, const combine_args *a) {
    const auto kernel = a->backward ? send_gradients<T, W> : collect_outputs<T, W>;
    return SWT_LAUNCH(kernel, blocks_of(a->N, WARPS), WARPS * WARP, 0, swt_cuda_stream(c), *a);
}

template <typename T> static swt_status combine(const swt_ctx *c, const combine_args *a) {
    return has_runs<T>(a->C) ? run_wide<T, WIDEST<T>>(c, a) : run_wide<T, 1>(c, a);
}

static combine_args shared_args(const swt_moe_dims *d, const void *h, const int32_t *expert,
                                const float *gate, const int32_t *slot) {
    combine_args a = {};
    a.h = h;
    a.expert = expert;
    a.gate = gate;
    a.slot = slot;
    a.N = d->N;
    a.C = d->C;
    a.K = d->K;
    a.gated_input = d->dropped_output == SWT_DROPPED_GATED_INPUT;
    a.unit = d->gate == SWT_GATE_UNIT;
    return a;
}

swt_status swt_cuda_combine_forward(const swt_ctx *c, void *y, const void *residual,
                                    const void *recv, const void *h, const int32_t *expert,
                                    const float *gate, const int32_t *slot,
                                    const swt_moe_dims *dims, int64_t first_slot) {
    combine_args a = shared_args(dims, h, expert, gate, slot);
    a.to = y;
    a.residual = residual;
    a.recv = recv;
    a.first_slot = first_slot;
    if (dims->N == 0)
        return SWT_OK;
    return SWT_BY_TYPE(c, combine, c, &a);
}

/* The slots are set to zeros before tokens write theirs: who is kept is not known slot by slot. */
swt_status swt_cuda_combine_backward(const swt_ctx *c, void *drecv, float *dgate, void *dh,
                                     const void *dy, const void *h, const int32_t *expert,
                                     const float *gate, const int32_t *slot,
                                     const swt_moe_dims *dims) {
    combine_args a = shared_args(dims, h, expert, gate, slot);
    a.to = drecv;
    a.dgate = dgate;
    a.dh = dh;
    a.dy = dy;
    a.backward = true;
    const size_t bytes = (size_t)(dims->E * dims->K * dims->C) * swt_dtype_bytes(c->dtype);
    if (bytes > 0)
        SWT_TRY(SWT_CUDA(cudaMemsetAsync(drecv, 0, bytes, swt_cuda_stream(c))));
    if (dims->N == 0)
        return SWT_OK;
    return SWT_BY_TYPE(c, combine, c, &a);
}
