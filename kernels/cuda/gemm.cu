#include "kernels/cuda/block.cuh"
#include "kernels/cuda/gemm.h"

enum {
    TILE = 16, /* rows, columns and steps of a block */
    GRID_Y = 65535
};

/* to[i][j] = element (first + i, k + j) of a matrix (count, inner) that memory holds as it is
 * (straight) or transposed; zeros outside. Neighbouring threads read neighbouring elements. */
template <typename T>
static __device__ inline void load_tile(float (&to)[TILE][TILE + 1], const T *from, bool straight,
                                        int64_t first, int64_t count, int64_t k, int64_t inner) {
    const int slow = threadIdx.x / TILE, fast = threadIdx.x % TILE;
    const int i = straight ? slow : fast, j = straight ? fast : slow;
    const int64_t row = first + i, step = k + j;
    const bool inside = row < count && step < inner;
    to[i][j] = inside ? to_float(from[straight ? row * inner + step : step * count + row]) : 0;
}

/* out = f(sum + bias) + add */
template <typename O>
static __device__ inline void finish(const swt_cuda_gemm &p, int64_t n, int64_t i, int64_t j,
                                     float sum) {
    const int64_t at = n * p.out_stride + i * p.cols + j;
    if (p.bias != NULL)
        sum += to_float(static_cast<const O *>(p.bias)[n * p.bias_stride + j]);
    if (p.relu && sum <= 0)
        sum = 0;
    if (p.add != NULL)
        sum += to_float(static_cast<const O *>(p.add)[at]);
    static_cast<O *>(p.out)[at] = from_float<O>(sum);
}

/* Block (tile, n): a tile of gemm n, n + gridDim.y ...; each sum is one chain over k. */
template <typename T, typename O> static __global__ void plain(swt_cuda_gemm p) {
    __shared__ float a[TILE][TILE + 1], b[TILE][TILE + 1];
    const int row = threadIdx.x / TILE, column = threadIdx.x % TILE;
    const int64_t tiles = (p.cols + TILE - 1) / TILE;
    const int64_t rows = blockIdx.x / tiles * TILE, columns = blockIdx.x % tiles * TILE;
    for (int64_t n = blockIdx.y; n < p.batch; n += gridDim.y) {
        const T *const a_n = static_cast<const T *>(p.a.data) + n * p.a.stride;
        const T *const b_n = static_cast<const T *>(p.b.data) + n * p.b.stride;
        float sum = 0;
        for (int64_t k = 0; k < p.inner; k += TILE) {
            load_tile(a, a_n, !p.a.transposed, rows, p.rows, k, p.inner);
            load_tile(b, b_n, p.b.transposed, columns, p.cols, k, p.inner);
            __syncthreads();
            for (int i = 0; i < TILE; i++)
                sum += a[row][i] * b[column][i];
            __syncthreads();
        }
        if (rows + row < p.rows && columns + column < p.cols)
            finish<O>(p, n, rows + row, columns + column, sum);
    }
}

swt_status swt_cuda_multiply_plain(const swt_ctx *c, const swt_cuda_gemm *p) {
    const auto plain_gemm = p->a.type == SWT_F32      ? plain<float, float>
                            : p->out_type == SWT_BF16 ? plain<__nv_bfloat16, __nv_bfloat16>
                                                      : plain<__nv_bfloat16, float>;
    if (p->rows == 0 || p->cols == 0 || p->batch == 0)
        return SWT_OK;
    const dim3 grid(blocks_of(p->rows, TILE) * blocks_of(p->cols, TILE),
                    (unsigned)swt_min(p->batch, GRID_Y));
    return SWT_LAUNCH(plain_gemm, grid, TILE * TILE, 0, swt_cuda_stream(c), *p);
}

enum { EDGE_THREADS = 256, GRID_X = 1 << 20 };

/* For each element of the batch, one a thread: out = f(out, n, i) of element i of gemm n. */
template <typename O, typename F>
static __device__ inline void for_each(const swt_cuda_gemm &p, F f) {
    const int64_t size = p.rows * p.cols;
    for (int64_t n = blockIdx.y; n < p.batch; n += gridDim.y)
        for (int64_t i = (int64_t)blockIdx.x * EDGE_THREADS + threadIdx.x; i < size;
             i += (int64_t)gridDim.x * EDGE_THREADS) {
            O *const out = static_cast<O *>(p.out) + n * p.out_stride + i;
            *out = from_float<O>(f(to_float(*out), n, i));
        }
}

template <typename O> static __global__ void put_bias(swt_cuda_gemm p) {
    for_each<O>(p, [&](float, int64_t n, int64_t i) {
        const float bias = to_float(static_cast<const O *>(p.bias)[n * p.bias_stride + i % p.cols]);
        return p.add == NULL ? bias
                             : bias + to_float(static_cast<const O *>(p.add)[n * p.out_stride + i]);
    });
}

template <typename O> static __global__ void put_relu(swt_cuda_gemm p) {
    for_each<O>(p, [](float x, int64_t, int64_t) { return x > 0 ? x : 0.0f; });
}

static dim3 edge_grid(const swt_cuda_gemm *p) {
    const int64_t blocks = swt_ceil_div(p->rows * p->cols, EDGE_THREADS);
    return dim3((unsigned)swt_min(blocks, GRID_X), (unsigned)swt_min(p->batch, GRID_Y));
}

swt_status swt_cuda_gemm_bias(const swt_ctx *c, const swt_cuda_gemm *p) {
    const auto kernel = p->out_type == SWT_BF16 ? put_bias<__nv_bfloat16> : put_bias<float>;
    return SWT_LAUNCH(kernel, edge_grid(p), EDGE_THREADS, 0, swt_cuda_stream(c), *p);
}

swt_status swt_cuda_gemm_relu(const swt_ctx *c, const swt_cuda_gemm *p) {
    const auto kernel = p->out_type == SWT_BF16 ? put_relu<__nv_bfloat16> : put_relu<float>;
    return SWT_LAUNCH(kernel, edge_grid(p), EDGE_THREADS, 0, swt_cuda_stream(c), *p);
}
