#include "kernels/cuda/linear.h"
#include "kernels/cuda/wide.cuh"

enum {
    THREADS = 256, /* elementwise */
    PARTS = 8,     /* of a block of rows, one warp each; their sums are added in order */
    ROWS = 256,    /* summed at a time, at least */
    FINISH = 128,
    GRID_Z = 65535
};

/* One of the widest vectors for each thread; the last may be cut short. */
template <typename T> static __global__ void mask(T *x, const T *relu_output, int64_t n) {
    enum { W = WIDEST<T> };
    const int64_t first = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * W;
    if (first + W > n) {
        for (int64_t i = first; i < n; i++)
            if (to_float(relu_output[i]) <= 0)
                x[i] = from_float<T>(0);
        return;
    }
    float v[W], r[W];
    load_wide(v, x + first);
    load_wide(r, relu_output + first);
    for (int j = 0; j < W; j++)
        v[j] = r[j] <= 0 ? 0 : v[j];
    store_wide(x + first, v);
}

swt_status swt_cuda_relu_mask(const swt_ctx *c, void *x, const void *relu_output, int64_t n) {
    if (n == 0)
        return SWT_OK;
    return by_type(c, [&](auto as) {
        typedef typename decltype(as)::type T;
        const auto kernel = mask<T>;
        return SWT_LAUNCH(kernel, blocks_of(n, THREADS * WIDEST<T>), THREADS, 0, swt_cuda_stream(c),
                          (T *)x, (const T *)relu_output, n);
    });
}

/* ------------------------------------------------------------------ sums over rows */

/* Block (r, i, b) of PARTS warps: rows r `rows` ... of sum b, columns i WARP W ...; their sum is
 * row r of sums[b], or the whole sum where there is one such block. */
template <typename T, int W>
static __global__ void sum_blocks(float *sums, const T *x, swt_cuda_columns s, int64_t rows) {
    __shared__ float parts[PARTS][WARP * W];
    const int lane = threadIdx.x % WARP, part = threadIdx.x / WARP;
    const int64_t b = blockIdx.z, first = (int64_t)blockIdx.y * WARP * W, column = first + lane * W;
    const int64_t count =
        s.row_counts != NULL ? (int64_t)s.row_counts[b * s.row_counts_stride] : s.rows;
    const int64_t row = blockIdx.x * rows, end = row + rows < count ? row + rows : count;
    const T *const from = x + b * s.stride * s.columns + column;
    float sum[W] = {}, v[W];
    for (int64_t n = row + part; n < end && column < s.columns; n += PARTS) {
        load_wide(v, from + n * s.columns);
        for (int j = 0; j < W; j++)
            sum[j] += v[j];
    }
    for (int j = 0; j < W; j++)
        parts[part][lane * W + j] = sum[j];
    __syncthreads();
    for (int i = threadIdx.x; i < WARP * W && first + i < s.columns; i += PARTS * WARP) {
        float *to = sums + (b * gridDim.x + blockIdx.x) * s.columns + first + i;
        float total = 0;
        for (int p = 0; p < PARTS; p++)
            total += parts[p][i];
        *to = s.add ? *to + total : total;
    }
}

/* A thread for each column of each sum: the blocks in order. */
static __global__ void sum_finish(float *out, const float *sums, swt_cuda_columns s,
                                  int64_t blocks) {
    const int64_t i = (int64_t)blockIdx.x * FINISH + threadIdx.x;
    if (i >= s.batch * s.columns)
        return;
    const float *const from = sums + (i / s.columns * blocks) * s.columns + i % s.columns;
    float total = 0;
    for (int64_t b = 0; b < blocks; b++)
        total += from[b * s.columns];
    out[i] = s.add ? out[i] + total : total;
}

/* Some of the sums, whose blocks' sums fit the workspace. */
static swt_status sum_some(const swt_ctx *c, float *out, const void *x, const swt_cuda_columns *s,
                           int64_t rows) {
    const int64_t blocks = swt_ceil_div(s->rows, rows);
    float *const sums = blocks > 1 ? (float *)c->workspace : out;
    swt_cuda_columns parts = *s;
    parts.add = s->add && blocks == 1;
    SWT_TRY(by_width_of(s->type, s->columns, [&](auto as) {
        typedef typename decltype(as)::type T;
        const auto kernel = sum_blocks<T, decltype(as)::width>;
        const dim3 grid((unsigned)blocks, blocks_of(s->columns, WARP * decltype(as)::width),
                        (unsigned)s->batch);
        return SWT_LAUNCH(kernel, grid, PARTS * WARP, 0, swt_cuda_stream(c), sums, (const T *)x,
                          parts, rows);
    }));
    if (blocks == 1)
        return SWT_OK;
    return SWT_LAUNCH(sum_finish, blocks_of(s->batch * s->columns, FINISH), FINISH, 0,
                      swt_cuda_stream(c), out, (const float *)c->workspace, *s, blocks);
}

/* How a sum is cut into blocks of rows depends on its own shape alone, never on the batch. */
swt_status swt_cuda_column_sums(const swt_ctx *c, float *out, const void *x,
                                const swt_cuda_columns *s) {
    const int64_t outputs = s->batch * s->columns;
    const size_t sum_bytes = (size_t)(s->stride * s->columns) * swt_dtype_bytes(s->type);
    if (outputs == 0 || (s->rows == 0 && s->add))
        return SWT_OK;
    if (s->rows == 0)
        return SWT_CUDA(cudaMemsetAsync(out, 0, (size_t)outputs * sizeof *out, swt_cuda_stream(c)));
    const int64_t room = c->ops->workspace_bytes / (int64_t)sizeof(float);
    int64_t rows = ROWS;
    while (rows < s->rows && swt_ceil_div(s->rows, rows) * s->columns > room)
        rows *= 2;
    const int64_t at_once =
        swt_min(swt_max(room / (swt_ceil_div(s->rows, rows) * s->columns), 1), GRID_Z);
    for (int64_t b = 0; b < s->batch; b += at_once) {
        swt_cuda_columns some = *s;
        some.batch = swt_min(at_once, s->batch - b);
        some.row_counts = s->row_counts != NULL ? s->row_counts + b * s->row_counts_stride : NULL;
        SWT_TRY(sum_some(c, out + b * s->columns, (const unsigned char *)x + (size_t)b * sum_bytes,
                         &some, rows));
    }
    return SWT_OK;
}
