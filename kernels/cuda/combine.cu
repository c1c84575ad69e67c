/* The experts' outputs back to their tokens, and the way back: one warp for a token. */
#include "kernels/cuda/wide.cuh"

/* Whether the output of a token with this slot and expert is its gated input. */
static __device__ inline bool takes_input(const swt_moe_dims &d, int32_t slot, int32_t expert) {
    return slot < 0 && expert >= 0 && d.dropped_output == SWT_DROPPED_GATED_INPUT;
}

/* y may be residual. */
template <typename T, int W> static __global__ void collect_outputs(swt_combine_forward_args a) {
    const int64_t n = row_of_warp(), C = a.dims.C, K = a.dims.K;
    if (n >= a.dims.N)
        return;
    const int64_t slot = a.slot[n] - a.first_slot;
    const bool in_round = a.slot[n] >= 0 && slot >= 0 && slot < K;
    const T *o = NULL; /* 0 by definition, or of another round */
    if (in_round)
        o = (const T *)a.recv + (a.expert[n] * K + slot) * C;
    else if (takes_input(a.dims, a.slot[n], a.expert[n]))
        o = (const T *)a.h + n * C;
    if (a.first_slot > 0 && !in_round)
        return;
    const float s = a.dims.gate == SWT_GATE_UNIT ? 1.0f : a.gate[n];
    T *const y = (T *)a.y + n * C;
    const T *const residual = (const T *)a.residual + n * C;
    for (int64_t i = threadIdx.x % WARP * W; i < C; i += WARP * W) {
        float sum[W] = {}, out[W];
        if (a.residual != NULL)
            load_wide(sum, residual + i);
        if (o != NULL) {
            load_wide(out, o + i);
            for (int j = 0; j < W; j++)
                sum[j] += s * out[j];
        }
        store_wide(y + i, sum);
    }
}

template <typename T, int W> static __global__ void send_gradients(swt_combine_backward_args a) {
    const int64_t n = row_of_warp(), C = a.dims.C;
    if (n >= a.dims.N)
        return;
    const bool kept = a.slot[n] >= 0, input = takes_input(a.dims, a.slot[n], a.expert[n]);
    const bool unit = a.dims.gate == SWT_GATE_UNIT;
    const float s = unit ? 1.0f : a.gate[n];
    const T *const dy = (const T *)a.dy + n * C, *const h = (const T *)a.h + n * C;
    T *const dh = (T *)a.dh + n * C;
    T *const drecv = (T *)a.drecv + (kept ? (a.expert[n] * a.dims.K + a.slot[n]) * C : 0);
    float dot = 0;
    for (int64_t i = threadIdx.x % WARP * W; i < C; i += WARP * W) {
        float d[W], o[W];
        load_wide(d, dy + i);
        if (input) {
            load_wide(o, h + i);
            for (int j = 0; j < W; j++)
                dot += d[j] * o[j];
        }
        for (int j = 0; j < W; j++)
            d[j] *= s;
        if (kept)
            store_wide(drecv + i, d);
        for (int j = 0; j < W; j++)
            d[j] = input ? d[j] : 0.0f;
        store_wide(dh + i, d);
    }
    dot = warp_sum(dot);
    if (threadIdx.x % WARP == 0 && !kept)
        a.dgate[n] = !input ? 0.0f : unit ? dot / a.gate[n] : dot;
}

swt_status swt_cuda_combine_forward(const swt_ctx *c, const swt_combine_forward_args *a) {
    if (a->dims.N == 0)
        return SWT_OK;
    return by_width(c, a->dims.C, [&](auto as) {
        const auto kernel = collect_outputs<typename decltype(as)::type, decltype(as)::width>;
        return SWT_LAUNCH(kernel, row_blocks(a->dims.N), ROW_THREADS, 0, swt_cuda_stream(c), *a);
    });
}

/* The slots are set to zeros before tokens write theirs: who is kept is not known slot by slot. */
swt_status swt_cuda_combine_backward(const swt_ctx *c, const swt_combine_backward_args *a) {
    const swt_moe_dims *d = &a->dims;
    const size_t bytes = (size_t)(d->E * d->K * d->C) * swt_dtype_bytes(c->dtype);
    if (bytes > 0)
        SWT_TRY(SWT_CUDA(cudaMemsetAsync(a->drecv, 0, bytes, swt_cuda_stream(c))));
    if (d->N == 0)
        return SWT_OK;
    return by_width(c, d->C, [&](auto as) {
        const auto kernel = send_gradients<typename decltype(as)::type, decltype(as)::width>;
        return SWT_LAUNCH(kernel, row_blocks(d->N), ROW_THREADS, 0, swt_cuda_stream(c), *a);
    });
}
