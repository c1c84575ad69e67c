/* LayerNorm. Rows: one warp each. Sums over rows: blocks of ROWS rows into scratch, then the blocks
 * in order. */
#include "kernels/cuda/run.cuh"

enum {
    WARPS = 4, /* rows of a block of threads */
    ROWS = 64, /* summed at a time: swt_norm_backward's blocks */
    PARTS = 8, /* of such a block, one warp each; their sums are added in order */
    FINISH = 128
};

/* The row of this warp; the last block of threads may have too many. */
static __device__ inline int64_t row_of_warp() {
    return (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP;
}

template <typename T, int W>
static __global__ void forward_rows(T *y, float *mean, float *rstd, const T *x, const float *weight,
                                    const float *bias, int64_t N, int64_t C, double eps) {
    const int64_t n = row_of_warp(), first = threadIdx.x % WARP * W, step = WARP * W;
    if (n >= N)
        return;
    x += n * C;
    y += n * C;
    float v[W], w[W], b[W], sum = 0, squares = 0;
    for (int64_t i = first; i < C; i += step) {
        load_run(v, x + i);
        for (int j = 0; j < W; j++)
            sum += v[j];
    }
    const float m = warp_sum(sum) / (float)C;
    for (int64_t i = first; i < C; i += step) {
        load_run(v, x + i);
        for (int j = 0; j < W; j++)
            squares += (v[j] - m) * (v[j] - m);
    }
    const float variance = warp_sum(squares) / (float)C;
    const float scale = (float)(1.0 / sqrt((double)variance + eps));
    for (int64_t i = first; i < C; i += step) {
        load_run(v, x + i);
        load_run(w, weight + i);
        load_run(b, bias + i);
        for (int j = 0; j < W; j++)
            v[j] = (v[j] - m) * scale * w[j] + b[j];
        store_run(y + i, v);
    }
    if (first == 0) {
        mean[n] = m;
        rstd[n] = scale;
    }
}

template <typename T, int W>
static swt_status forward_wide(const swt_ctx *c, void *y, float *mean, float *rstd, const void *x,
                               const float *weight, const float *bias, int64_t N, int64_t C,
                               double eps) {
    const auto kernel = forward_rows<T, W>;
    return SWT_LAUNCH(kernel, blocks_of(N, WARPS), WARPS * WARP, 0, swt_cuda_stream(c), (T *)y,
                      mean, rstd, (const T *)x, weight, bias, N, C, eps);
}

template <typename T>
static swt_status forward(const swt_ctx *c, void *y, float *mean, float *rstd, const void *x,
                          const float *weight, const float *bias, int64_t N, int64_t C,
                          double eps) {
    return has_runs<T>(C) ? forward_wide<T, WIDEST<T>>(c, y, mean, rstd, x, weight, bias, N, C, eps)
                          : forward_wide<T, 1>(c, y, mean, rstd, x, weight, bias, N, C, eps);
}

swt_status swt_cuda_norm_forward(const swt_ctx *c, void *y, float *mean, float *rstd, const void *x,
                                 const float *weight, const float *bias, int64_t N, int64_t C,
                                 double eps) {
    if (N == 0)
        return SWT_OK;
    return SWT_BY_TYPE(c, forward, c, y, mean, rstd, x, weight, bias, N, C, eps);
}

typedef struct norm_gradients {
    void *dx; /* may be dresidual */
    float *dweight, *dbias;
    float *partial; /* (blocks, 2, C): sums for dweight, dbias */
    const void *dy, *dresidual, *x;
    const float *mean, *rstd, *weight;
    int64_t N, C;
    bool add;
} norm_gradients;

template <typename T, int W> static __global__ void backward_rows(norm_gradients a) {
    const int64_t n = row_of_warp(), first = threadIdx.x % WARP * W, step = WARP * W;
    if (n >= a.N)
        return;
    const T *dy = (const T *)a.dy + n * a.C, *x = (const T *)a.x + n * a.C;
    const T *dresidual = a.dresidual != NULL ? (const T *)a.dresidual + n * a.C : NULL;
    T *dx = (T *)a.dx + n * a.C;
    const float m = a.mean[n], scale = a.rstd[n];
    float d[W], v[W], w[W], sum_g = 0, sum_gx = 0;
    for (int64_t i = first; i < a.C; i += step) {
        load_run(d, dy + i);
        load_run(v, x + i);
        load_run(w, a.weight + i);
        for (int j = 0; j < W; j++) {
            sum_g += d[j] * w[j];
            sum_gx += d[j] * w[j] * ((v[j] - m) * scale);
        }
    }
    const float mean_g = warp_sum(sum_g) / (float)a.C, mean_gx = warp_sum(sum_gx) / (float)a.C;
    for (int64_t i = first; i < a.C; i += step) {
        float r[W] = {};
        load_run(d, dy + i);
        load_run(v, x + i);
        load_run(w, a.weight + i);
        if (dresidual != NULL)
            load_run(r, dresidual + i);
        for (int j = 0; j < W; j++)
            d[j] = scale * (d[j] * w[j] - mean_g - (v[j] - m) * scale * mean_gx) + r[j];
        store_run(dx + i, d);
    }
}

/* Block (b, i) of PARTS warps: rows b ROWS ..., columns i WARP W ... */
template <typename T, int W> static __global__ void backward_blocks(norm_gradients a) {
    __shared__ float parts[2][PARTS][WARP * W];
    const int lane = threadIdx.x % WARP, part = threadIdx.x / WARP;
    const int64_t first = (int64_t)blockIdx.y * WARP * W, column = first + lane * W;
    const int64_t row = (int64_t)blockIdx.x * ROWS;
    float dweight[W] = {}, dbias[W] = {}, d[W], v[W];
    for (int r = part; r < ROWS && row + r < a.N && column < a.C; r += PARTS) {
        const int64_t n = row + r;
        const float m = a.mean[n], scale = a.rstd[n];
        load_run(d, (const T *)a.dy + n * a.C + column);
        load_run(v, (const T *)a.x + n * a.C + column);
        for (int j = 0; j < W; j++) {
            dweight[j] += d[j] * ((v[j] - m) * scale);
            dbias[j] += d[j];
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
            a.partial[((int64_t)blockIdx.x * 2 + which) * a.C + first + at] = sum;
    }
}

/* A thread for each of dweight's and dbias's elements: the blocks' sums in order. */
static __global__ void backward_finish(norm_gradients a) {
    const int64_t i = (int64_t)blockIdx.x * FINISH + threadIdx.x, blocks = (a.N + ROWS - 1) / ROWS;
    if (i >= 2 * a.C)
        return;
    float *out = i < a.C ? a.dweight + i : a.dbias + i - a.C;
    float sum = a.add ? *out : 0;
    for (int64_t b = 0; b < blocks; b++)
        sum += a.partial[b * 2 * a.C + i];
    *out = sum;
}

template <typename T, int W>
static swt_status backward_wide(const swt_ctx *c, const norm_gradients *a) {
    const auto rows = backward_rows<T, W>, blocks = backward_blocks<T, W>;
    SWT_TRY(SWT_LAUNCH(rows, blocks_of(a->N, WARPS), WARPS * WARP, 0, swt_cuda_stream(c), *a));
    const dim3 grid(blocks_of(a->N, ROWS), blocks_of(a->C, WARP * W));
    return SWT_LAUNCH(blocks, grid, PARTS * WARP, 0, swt_cuda_stream(c), *a);
}

template <typename T> static swt_status backward(const swt_ctx *c, const norm_gradients *a) {
    return has_runs<T>(a->C) ? backward_wide<T, WIDEST<T>>(c, a) : backward_wide<T, 1>(c, a);
}

swt_status swt_cuda_norm_backward(const swt_ctx *c, void *dx, float *dweight, float *dbias,
                                  const void *dy, const void *dresidual, const void *x,
                                  const float *mean, const float *rstd, const float *weight,
                                  void *scratch, int64_t N, int64_t C, int add) {
    const norm_gradients a = {
        dx, dweight, dbias, (float *)scratch, dy, dresidual, x, mean, rstd, weight, N, C, add != 0};
    if (C == 0)
        return SWT_OK;
    if (N > 0)
        SWT_TRY(SWT_BY_TYPE(c, backward, c, &a));
    return SWT_LAUNCH(backward_finish, blocks_of(2 * C, FINISH), FINISH, 0, swt_cuda_stream(c), a);
}
