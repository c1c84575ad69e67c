/* LayerNorm and RMS norm. Rows: one warp each. Sums over rows: blocks of ROWS rows into scratch,
 * then the blocks in order. */
#include "kernels/cuda/wide.cuh"

enum {
    ROWS = 64, /* summed at a time: swt_norm_backward's blocks */
    PARTS = 8, /* of such a block, one warp each; their sums are added in order */
    FINISH = 128
};

template <typename T, int W> static __global__ void forward_rows(swt_norm_forward_args a) {
    const int64_t n = row_of_warp(), first = threadIdx.x % WARP * W, step = WARP * W;
    if (n >= a.N)
        return;
    const T *x = (const T *)a.x + n * a.C;
    T *y = (T *)a.y + n * a.C;
    float v[W], w[W], b[W] = {}, sum = 0, squares = 0;
    for (int64_t i = first; i < a.C && a.mean != NULL; i += step) {
        load_wide(v, x + i);
        for (int j = 0; j < W; j++)
            sum += v[j];
    }
    const float m = warp_sum(sum) / (float)a.C; /* 0 without a mean */
    for (int64_t i = first; i < a.C; i += step) {
        load_wide(v, x + i);
        for (int j = 0; j < W; j++)
            squares += (v[j] - m) * (v[j] - m);
    }
    const float variance = warp_sum(squares) / (float)a.C;
    const float rstd = (float)(1.0 / sqrt((double)variance + a.eps));
    for (int64_t i = first; i < a.C; i += step) {
        load_wide(v, x + i);
        load_wide(w, a.weight + i);
        if (a.bias != NULL)
            load_wide(b, a.bias + i);
        for (int j = 0; j < W; j++)
            v[j] = ((v[j] - m) * rstd * w[j] + b[j]) * a.scale;
        store_wide(y + i, v);
    }
    if (first == 0) {
        if (a.mean != NULL)
            a.mean[n] = m;
        a.rstd[n] = rstd;
    }
}

swt_status swt_cuda_norm_forward(const swt_ctx *c, const swt_norm_forward_args *a) {
    if (a->N == 0)
        return SWT_OK;
    return by_width(c, a->C, [&](auto as) {
        const auto kernel = forward_rows<typename decltype(as)::type, decltype(as)::width>;
        return SWT_LAUNCH(kernel, row_blocks(a->N), ROW_THREADS, 0, swt_cuda_stream(c), *a);
    });
}

template <typename T, int W> static __global__ void backward_rows(swt_norm_backward_args a) {
    const int64_t n = row_of_warp(), first = threadIdx.x % WARP * W, step = WARP * W;
    if (n >= a.N)
        return;
    const T *dy = (const T *)a.dy + n * a.C, *x = (const T *)a.x + n * a.C;
    const T *dresidual = a.dresidual != NULL ? (const T *)a.dresidual + n * a.C : NULL;
    T *dx = (T *)a.dx + n * a.C;
    const float m = a.mean != NULL ? a.mean[n] : 0, rstd = a.rstd[n];
    float d[W], v[W], w[W], sum_g = 0, sum_gx = 0;
    for (int64_t i = first; i < a.C; i += step) {
        load_wide(d, dy + i);
        load_wide(v, x + i);
        load_wide(w, a.weight + i);
        for (int j = 0; j < W; j++) {
            const float g = d[j] * a.scale * w[j];
            sum_g += g;
            sum_gx += g * ((v[j] - m) * rstd);
        }
    }
    const float all_g = warp_sum(sum_g) / (float)a.C, mean_gx = warp_sum(sum_gx) / (float)a.C;
    const float mean_g = a.mean != NULL ? all_g : 0;
    for (int64_t i = first; i < a.C; i += step) {
        float r[W] = {};
        load_wide(d, dy + i);
        load_wide(v, x + i);
        load_wide(w, a.weight + i);
        if (dresidual != NULL)
            load_wide(r, dresidual + i);
        for (int j = 0; j < W; j++)
            d[j] = rstd * (d[j] * a.scale * w[j] - mean_g - (v[j] - m) * rstd * mean_gx) + r[j];
        store_wide(dx + i, d);
    }
}

/* Block (b, i) of PARTS warps: rows b ROWS ..., columns i WARP W ...; their sums for dweight and
 * dbias go to scratch, (blocks, 2, C). */
template <typename T, int W> static __global__ void backward_blocks(swt_norm_backward_args a) {
    __shared__ float parts[2][PARTS][WARP * W];
    float *const partial = (float *)a.scratch;
    const int lane = threadIdx.x % WARP, part = threadIdx.x / WARP;
    const int64_t first = (int64_t)blockIdx.y * WARP * W, column = first + lane * W;
    const int64_t row = (int64_t)blockIdx.x * ROWS;
    float dweight[W] = {}, dbias[W] = {}, d[W], v[W];
    for (int r = part; r < ROWS && row + r < a.N && column < a.C; r += PARTS) {
        const int64_t n = row + r;
        const float m = a.mean != NULL ? a.mean[n] : 0, rstd = a.rstd[n];
        load_wide(d, (const T *)a.dy + n * a.C + column);
        load_wide(v, (const T *)a.x + n * a.C + column);
        for (int j = 0; j < W; j++) {
            dweight[j] += d[j] * a.scale * ((v[j] - m) * rstd);
            dbias[j] += d[j] * a.scale;
        }
    }
    for (int j = 0; j < W; j++) {
        parts[0][part][lane * W + j] = dweight[j];
        parts[1][part][lane * W + j] = dbias[j];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 2 * WARP * W; i += PARTS * WARP) {
        const int which = i / (WARP * W), at = i % (WARP * W);
        float sum = 0;
        for (int p = 0; p < PARTS; p++)
            sum += parts[which][p][at];
        if (first + at < a.C)
            partial[((int64_t)blockIdx.x * 2 + which) * a.C + first + at] = sum;
    }
}

/* A thread for each of dweight's and dbias's elements: the blocks' sums in order. */
static __global__ void backward_finish(swt_norm_backward_args a) {
    const int64_t i = (int64_t)blockIdx.x * FINISH + threadIdx.x, blocks = (a.N + ROWS - 1) / ROWS;
    if (i >= 2 * a.C || (i >= a.C && a.dbias == NULL))
        return;
    float *out = i < a.C ? a.dweight + i : a.dbias + i - a.C;
    const float *const partial = (const float *)a.scratch;
    float sum = a.add ? *out : 0;
    for (int64_t b = 0; b < blocks; b++)
        sum += partial[b * 2 * a.C + i];
    *out = sum;
}

swt_status swt_cuda_norm_backward(const swt_ctx *c, const swt_norm_backward_args *a) {
    if (a->C == 0)
        return SWT_OK;
    const auto rows_and_blocks = [&](auto as) {
        typedef typename decltype(as)::type T;
        enum { W = decltype(as)::width };
        const auto rows = backward_rows<T, W>, blocks = backward_blocks<T, W>;
        SWT_TRY(SWT_LAUNCH(rows, row_blocks(a->N), ROW_THREADS, 0, swt_cuda_stream(c), *a));
        const dim3 grid(blocks_of(a->N, ROWS), blocks_of(a->C, WARP * W));
        return SWT_LAUNCH(blocks, grid, PARTS * WARP, 0, swt_cuda_stream(c), *a);
    };
    if (a->N > 0)
        SWT_TRY(by_width(c, a->C, rows_and_blocks));
    return SWT_LAUNCH(backward_finish, blocks_of(2 * a->C, FINISH), FINISH, 0, swt_cuda_stream(c),
                      *a);
}
