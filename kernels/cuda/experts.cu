/* The gradient of the experts' hidden activations. */
#include "kernels/cuda/experts.h"
#include "kernels/cuda/run.cuh"

enum { WARPS = 4 /* slots of a block of threads */ };

typedef struct mask_args {
    void *dhidden;
    float *dot;
    const void *dy, *hidden, *bo;
    int64_t rows, rows_of_expert, C, F;
} mask_args;

/* One warp for a slot. */
template <typename T, int W> static __global__ void mask_slots(mask_args a) {
    const int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP;
    const int64_t first = threadIdx.x % WARP * W, step = WARP * W;
    if (row >= a.rows)
        return;
    T *const dhidden = (T *)a.dhidden + row * a.F;
    const T *const hidden = (const T *)a.hidden + row * a.F;
    float dot = 0, d[W], x[W];
    for (int64_t i = first; i < a.F; i += step) {
        load_run(d, dhidden + i);
        load_run(x, hidden + i);
        for (int j = 0; j < W; j++) {
            d[j] = x[j] <= 0.0f ? 0.0f : d[j];
            dot += d[j] * x[j];
        }
        store_run(dhidden + i, d);
    }
    if (a.bo != NULL) {
        const T *const dy = (const T *)a.dy + row * a.C;
        const T *const bo = (const T *)a.bo + row / a.rows_of_expert * a.C;
        for (int64_t i = first; i < a.C; i += step) {
            load_run(d, dy + i);
            load_run(x, bo + i);
            for (int j = 0; j < W; j++)
                dot += d[j] * x[j];
        }
    }
    dot = warp_sum(dot);
    if (first == 0)
        a.dot[row] = dot;
}

template <typename T, int W> static swt_status mask_wide(const swt_ctx *c, const mask_args *a) {
    const auto kernel = mask_slots<T, W>;
    return SWT_LAUNCH(kernel, blocks_of(a->rows, WARPS), WARPS * WARP, 0, swt_cuda_stream(c), *a);
}

template <typename T> static swt_status mask(const swt_ctx *c, const mask_args *a) {
    return has_runs<T>(a->C) && has_runs<T>(a->F) ? mask_wide<T, WIDEST<T>>(c, a)
                                                  : mask_wide<T, 1>(c, a);
}

swt_status swt_cuda_expert_mask(const swt_ctx *c, void *dhidden, float *dot, const void *dy,
                                const void *hidden, const void *bo, const swt_moe_dims *dims) {
    const int64_t rows_of_expert = dims->P * dims->K;
    const mask_args a = {dhidden,        dot,     dy,     hidden, bo, dims->El * rows_of_expert,
                         rows_of_expert, dims->C, dims->F};
    if (a.rows == 0)
        return SWT_OK;
    return SWT_BY_TYPE(c, mask, c, &a);
}
