/* The gradient of the experts' hidden activations. */
#include "kernels/cuda/experts.h"
#include "kernels/cuda/wide.cuh"

/* One warp for a slot: its dot, and of ReLU the mask. */
template <typename T, int W>
static __global__ void hidden_gradients(swt_experts_backward_input_args a) {
    const int64_t C = a.dims.C, F = a.dims.F, rows_of_expert = a.dims.P * a.dims.K;
    const int64_t row = row_of_warp();
    const int64_t first = threadIdx.x % WARP * W, step = WARP * W;
    const float bend = a.dims.ffn == SWT_FFN_RELU ? 0.0f : -INFINITY; /* else nothing is masked */
    if (row >= a.dims.El * rows_of_expert)
        return;
    T *const dhidden = (T *)a.dhidden + row * F;
    const T *const hidden = (const T *)a.hidden + row * F;
    float dot = 0, d[W], x[W];
    for (int64_t i = first; i < F; i += step) {
        load_wide(d, dhidden + i);
        load_wide(x, hidden + i);
        for (int j = 0; j < W; j++) {
            d[j] = x[j] <= bend ? 0.0f : d[j];
            dot += d[j] * x[j];
        }
        store_wide(dhidden + i, d);
    }
    if (a.bo != NULL) {
        const T *const dy = (const T *)a.dy + row * C;
        const T *const bo = (const T *)a.bo + row / rows_of_expert * C;
        for (int64_t i = first; i < C; i += step) {
            load_wide(d, dy + i);
            load_wide(x, bo + i);
            for (int j = 0; j < W; j++)
                dot += d[j] * x[j];
        }
    }
    dot = warp_sum(dot);
    if (first == 0)
        a.dot[row] = dot;
}

swt_status swt_cuda_hidden_gradient(const swt_ctx *c, const swt_experts_backward_input_args *a) {
    const swt_moe_dims *d = &a->dims;
    const int64_t rows = d->El * d->P * d->K;
    if (rows == 0)
        return SWT_OK;
    /* A vector's width is a power of two: it divides both widths where it divides C | F. */
    return by_width(c, d->C | d->F, [&](auto as) {
        const auto kernel = hidden_gradients<typename decltype(as)::type, decltype(as)::width>;
        return SWT_LAUNCH(kernel, row_blocks(rows), ROW_THREADS, 0, swt_cuda_stream(c), *a);
    });
}
