/* Adafactor: a warp for each row, blocks of rows for the columns' sums, a block for what belongs to
 * a whole tensor. Sums are in F64; grids have a row or a column for each thread that writes. */
#include "kernels/adafactor_scratch.h"
#include "kernels/cuda/wide.cuh"

enum {
    ROWS = SWT_ADAFACTOR_ROWS, /* summed at a time */
    PARTS = 8,                 /* of them, one warp each; their sums are added in order */
    FINISH = 128,
    THREADS = 512, /* for a whole tensor */
    GRID_Z = 65535
};

/* The operation, and where its scratch is. */
typedef struct work {
    swt_adafactor_args a;
    int64_t blocks; /* of a tensor's rows */
    double *columns, *param_squares, *u_squares;
    float *row_scale, *col_scale, *step;
} work;

static work work_of(const swt_adafactor_args *a) {
    const swt_adafactor_scratch s = swt_adafactor_scratch_of(a->n, a->rows, a->cols);
    unsigned char *const scratch = (unsigned char *)a->scratch;
    work w;
    w.a = *a;
    w.blocks = s.blocks;
    w.columns = (double *)(void *)(scratch + s.columns);
    w.param_squares = (double *)(void *)(scratch + s.param_squares);
    w.u_squares = (double *)(void *)(scratch + s.u_squares);
    w.row_scale = (float *)(void *)(scratch + s.row_scale);
    w.col_scale = (float *)(void *)(scratch + s.col_scale);
    w.step = (float *)(void *)(scratch + s.step);
    return w;
}

/* The square, and with it the sum, is exact but for the sum's rounding, contracted or not. */
static __device__ inline double square(float x) {
    return (double)x * (double)x;
}

/* A row's sums of squares; of the gradient's its new factor. */
template <int W> static __global__ void row_sums(const swt_step_state *state, work w) {
    const int64_t i = row_of_warp(), first = threadIdx.x % WARP * W, cols = w.a.cols;
    if (state->nonfinite != 0 || i >= w.a.n * w.a.rows)
        return;
    float g[W], p[W];
    double sum_g = 0, sum_p = 0;
    for (int64_t j = first; j < cols; j += WARP * W) {
        load_wide(g, w.a.grad + i * cols + j);
        load_wide(p, w.a.param + i * cols + j);
        for (int k = 0; k < W; k++) {
            sum_g += square(g[k]);
            sum_p += square(p[k]);
        }
    }
    sum_g = warp_sum(sum_g);
    sum_p = warp_sum(sum_p);
    if (first != 0)
        return;
    w.param_squares[i] = sum_p;
    if (w.a.row != NULL)
        w.a.row[i] = swt_adafactor_factor(swt_adafactor_keep(state), w.a.row[i],
                                          state->clip * state->clip * sum_g / (double)cols);
}

/* Block (r, i, b) of PARTS warps: rows r ROWS ... of tensor `tensor` + b, columns i WARP W ... */
template <int W>
static __global__ void column_blocks(const swt_step_state *state, work w, int64_t tensor) {
    __shared__ double parts[PARTS][WARP * W];
    const int lane = threadIdx.x % WARP, part = threadIdx.x / WARP;
    const int64_t cols = w.a.cols, b = tensor + blockIdx.z;
    const int64_t first = (int64_t)blockIdx.y * WARP * W, column = first + lane * W;
    const int64_t row = (int64_t)blockIdx.x * ROWS;
    if (state->nonfinite != 0)
        return; /* the whole grid */
    float g[W];
    double sum[W] = {};
    for (int r = part; r < ROWS && row + r < w.a.rows && column < cols; r += PARTS) {
        load_wide(g, w.a.grad + (b * w.a.rows + row + r) * cols + column);
        for (int k = 0; k < W; k++)
            sum[k] += square(g[k]);
    }
    for (int k = 0; k < W; k++)
        parts[part][lane * W + k] = sum[k];
    __syncthreads();
    for (int i = threadIdx.x; i < WARP * W && first + i < cols; i += PARTS * WARP) {
        double total = 0;
        for (int p = 0; p < PARTS; p++)
            total += parts[p][i];
        w.columns[(b * w.blocks + blockIdx.x) * cols + first + i] = total;
    }
}

/* A thread for each column of each tensor: the blocks in order. */
static __global__ void column_finish(const swt_step_state *state, work w) {
    const int64_t i = (int64_t)blockIdx.x * FINISH + threadIdx.x, cols = w.a.cols;
    if (state->nonfinite != 0 || i >= w.a.n * cols)
        return;
    const double *const sums = w.columns + i / cols * w.blocks * cols + i % cols;
    double sum = 0;
    for (int64_t b = 0; b < w.blocks; b++)
        sum += sums[b * cols];
    const float col = swt_adafactor_factor(swt_adafactor_keep(state), w.a.col[i],
                                           state->clip * state->clip * sum / (double)w.a.rows);
    w.a.col[i] = col;
    w.col_scale[i] = (float)(1.0 / sqrt((double)col));
}

/* A block for each tensor. */
static __global__ void row_scales(const swt_step_state *state, work w) {
    __shared__ double shared[THREADS / WARP];
    const int64_t first = blockIdx.x * w.a.rows, end = first + w.a.rows;
    const double clip = state->clip;
    if (state->nonfinite != 0)
        return;
    double sum = 0;
    for (int64_t i = first + threadIdx.x; i < end && w.a.row != NULL; i += THREADS)
        sum += (double)w.a.row[i];
    const double mean = block_sum(sum, shared) / (double)w.a.rows;
    for (int64_t i = first + threadIdx.x; i < end; i += THREADS)
        w.row_scale[i] = (float)(w.a.row != NULL ? clip / sqrt((double)w.a.row[i] / mean) : clip);
}

template <int W> static __global__ void u_sums(const swt_step_state *state, work w) {
    const int64_t i = row_of_warp(), first = threadIdx.x % WARP * W, cols = w.a.cols;
    if (state->nonfinite != 0 || i >= w.a.n * w.a.rows)
        return;
    const float *const col_scale = w.col_scale + i / w.a.rows * cols;
    const float row_scale = w.row_scale[i];
    float g[W], s[W];
    double sum = 0;
    for (int64_t j = first; j < cols; j += WARP * W) {
        load_wide(g, w.a.grad + i * cols + j);
        load_wide(s, col_scale + j);
        for (int k = 0; k < W; k++)
            sum += square(g[k] * row_scale * s[k]);
    }
    sum = warp_sum(sum);
    if (first == 0)
        w.u_squares[i] = sum;
}

/* A block for each tensor. */
static __global__ void steps(const swt_step_state *state, work w) {
    __shared__ double shared[THREADS / WARP];
    const int64_t first = blockIdx.x * w.a.rows, end = first + w.a.rows;
    const double count = (double)w.a.rows * (double)w.a.cols;
    if (state->nonfinite != 0)
        return;
    double u = 0, param = 0;
    for (int64_t i = first + threadIdx.x; i < end; i += THREADS) {
        u += w.u_squares[i];
        param += w.param_squares[i];
    }
    u = block_sum(u, shared);
    param = block_sum(param, shared);
    if (threadIdx.x == 0)
        w.step[blockIdx.x] = swt_adafactor_step(state, &w.a.hyper, u / count, param / count);
}

template <int W> static __global__ void update_rows(const swt_step_state *state, work w) {
    const int64_t i = row_of_warp(), first = threadIdx.x % WARP * W, cols = w.a.cols;
    if (state->nonfinite != 0 || i >= w.a.n * w.a.rows)
        return;
    const int64_t tensor = i / w.a.rows;
    const float *const col_scale = w.col_scale + tensor * cols;
    const float row_scale = w.row_scale[i], step = w.step[tensor];
    float g[W], s[W], p[W];
    for (int64_t j = first; j < cols; j += WARP * W) {
        load_wide(g, w.a.grad + i * cols + j);
        load_wide(s, col_scale + j);
        load_wide(p, w.a.param + i * cols + j);
        for (int k = 0; k < W; k++)
            p[k] = fmaf(-step, g[k] * row_scale * s[k], p[k]);
        store_wide(w.a.param + i * cols + j, p);
    }
}

/* Whether a row has vectors of four depends on cols alone, and with it the order of its sums. */
template <int W> static swt_status adafactor(const swt_ctx *c, const swt_adafactor_args *a) {
    const work w = work_of(a);
    const cudaStream_t stream = swt_cuda_stream(c);
    const unsigned rows = row_blocks(a->n * a->rows), n = (unsigned)a->n;
    const auto sums = row_sums<W>, u = u_sums<W>, update = update_rows<W>;
    const auto columns = column_blocks<W>;
    SWT_TRY(SWT_LAUNCH(sums, rows, ROW_THREADS, 0, stream, c->state, w));
    for (int64_t b = 0; b < a->n; b += GRID_Z) {
        const dim3 grid((unsigned)w.blocks, blocks_of(a->cols, WARP * W),
                        (unsigned)swt_min(GRID_Z, a->n - b));
        SWT_TRY(SWT_LAUNCH(columns, grid, PARTS * WARP, 0, stream, c->state, w, b));
    }
    SWT_TRY(SWT_LAUNCH(column_finish, blocks_of(a->n * a->cols, FINISH), FINISH, 0, stream,
                       c->state, w));
    SWT_TRY(SWT_LAUNCH(row_scales, n, THREADS, 0, stream, c->state, w));
    SWT_TRY(SWT_LAUNCH(u, rows, ROW_THREADS, 0, stream, c->state, w));
    SWT_TRY(SWT_LAUNCH(steps, n, THREADS, 0, stream, c->state, w));
    return SWT_LAUNCH(update, rows, ROW_THREADS, 0, stream, c->state, w);
}

swt_status swt_cuda_adafactor(const swt_ctx *c, const swt_adafactor_args *a) {
    if (a->n == 0 || a->rows == 0 || a->cols == 0)
        return SWT_OK;
    return takes_widest<float>(a->cols) ? adafactor<WIDEST<float>>(c, a) : adafactor<1>(c, a);
}
