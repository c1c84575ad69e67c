/* GELU, alone or times the second half of its row: one warp for a row. */
#include "kernels/cuda/wide.cuh"

/* gelu(u) and its slope, by e^-|w| as in kernels/cpu/vec/rows.h. */
static __device__ inline float gelu_of(float u, float &slope) {
    const float factor = 1.5957691216f, cubic = 0.044715f;
    const float square = u * u, w = factor * u * (1 + cubic * square);
    const float e = expf(-fabsf(w)), r = 1 / (1 + e), s = w < 0 ? e * r : r;
    slope = s + u * (e * r * r) * (factor * (1 + 3 * cubic * square));
    return u * s;
}

template <typename T, int W> static __global__ void forward_rows(swt_gelu_forward_args a) {
    const int64_t row = row_of_warp(), F = a.dims.F, width = swt_gelu_width(&a.dims);
    if (row >= a.dims.blocks * a.dims.rows)
        return;
    const T *const x = (const T *)a.x + row * width;
    T *const y = (T *)a.y + row * F;
    const bool gated = a.dims.gated;
    float u[W], v[W], slope;
    for (int64_t i = threadIdx.x % WARP * W; i < F; i += WARP * W) {
        load_wide(u, x + i);
        if (gated)
            load_wide(v, x + F + i);
        for (int j = 0; j < W; j++)
            u[j] = gelu_of(u[j], slope) * (gated ? v[j] : 1);
        store_wide(y + i, u);
    }
}

template <typename T, int W> static __global__ void backward_rows(swt_gelu_backward_args a) {
    const int64_t row = row_of_warp(), F = a.dims.F, width = swt_gelu_width(&a.dims);
    if (row >= a.dims.blocks * a.dims.rows)
        return;
    const T *const x = (const T *)a.x + row * width, *const dy = (const T *)a.dy + row * F;
    T *const dx = (T *)a.dx + row * width;
    const bool gated = a.dims.gated;
    float u[W], v[W], d[W], slope;
    for (int64_t i = threadIdx.x % WARP * W; i < F; i += WARP * W) {
        load_wide(d, dy + i);
        load_wide(u, x + i);
        if (gated)
            load_wide(v, x + F + i);
        for (int j = 0; j < W; j++) {
            const float g = gelu_of(u[j], slope);
            u[j] = d[j] * (gated ? slope * v[j] : slope);
            v[j] = d[j] * g;
        }
        store_wide(dx + i, u);
        if (gated)
            store_wide(dx + F + i, v);
    }
}

swt_status swt_cuda_gelu_forward(const swt_ctx *c, const swt_gelu_forward_args *a) {
    const int64_t rows = a->dims.blocks * a->dims.rows;
    if (rows == 0)
        return SWT_OK;
    return by_width(c, a->dims.F, [&](auto as) {
        const auto kernel = forward_rows<typename decltype(as)::type, decltype(as)::width>;
        return SWT_LAUNCH(kernel, row_blocks(rows), ROW_THREADS, 0, swt_cuda_stream(c), *a);
    });
}

swt_status swt_cuda_gelu_backward(const swt_ctx *c, const swt_gelu_backward_args *a) {
    const int64_t rows = a->dims.blocks * a->dims.rows;
    if (rows == 0)
        return SWT_OK;
    return by_width(c, a->dims.F, [&](auto as) {
        const auto kernel = backward_rows<typename decltype(as)::type, decltype(as)::width>;
        return SWT_LAUNCH(kernel, row_blocks(rows), ROW_THREADS, 0, swt_cuda_stream(c), *a);
    });
}
