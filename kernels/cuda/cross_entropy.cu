/* Cross-entropy with its gradient: a block of threads for each row, then the sums over rows. */
#include "kernels/cuda/wide.cuh"

enum { SUM_THREADS = 1024, MOST_WARPS = 32 };

/* What a row gives to the sums; scratch is (N) of these. */
typedef struct row_result {
    float loss, lse;
    int32_t hit;
} row_result;

/* The largest value of a block of whole warps, on every thread. */
static __device__ inline float block_max(float x, float *shared) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    x = warp_max(x);
    if (lane == 0)
        shared[warp] = x;
    __syncthreads();
    x = warp_max(lane < (int)blockDim.x / WARP ? shared[lane] : -INFINITY);
    __syncthreads();
    return x;
}

template <typename T, int W> static __device__ void zero_row(T *dz, int64_t V) {
    const float zeros[W] = {};
    for (int64_t i = threadIdx.x * W; i < V; i += blockDim.x * W)
        store_wide(dz + i, zeros);
}

template <typename T, int W>
static __global__ void rows(const swt_step_state *state, swt_cross_entropy_args a) {
    __shared__ float shared[MOST_WARPS];
    __shared__ int shared_ties[MOST_WARPS];
    const int64_t n = blockIdx.x, V = a.V;
    const T *z = (const T *)a.logits + n * V;
    T *dz = a.dlogits != NULL ? (T *)a.dlogits + n * V : NULL;
    row_result *const result = (row_result *)a.scratch + n;
    const int32_t target = a.targets[n];
    if (target < 0) {
        if (dz != NULL)
            zero_row<T, W>(dz, V);
        if (threadIdx.x == 0)
            *result = row_result{0, 0, 0};
        return;
    }
    const int64_t first = threadIdx.x * W, step = blockDim.x * W;
    const float logit = to_float(z[target]); /* dz may be z: before the barriers of the sums */
    float v[W], max = -INFINITY, sum = 0;
    int ties = 0; /* with the target, before it */
    for (int64_t i = first; i < V; i += step) {
        load_wide(v, z + i);
        for (int j = 0; j < W; j++) {
            max = fmaxf(max, v[j]);
            ties += v[j] == logit && i + j < target;
        }
    }
    max = block_max(max, shared);
    for (int64_t i = first; i < V; i += step) {
        load_wide(v, z + i);
        for (int j = 0; j < W; j++)
            sum += expf(v[j] - max);
    }
    sum = block_sum(sum, shared);
    ties = block_sum(ties, shared_ties);
    const float lse = max + logf(sum);
    if (threadIdx.x == 0)
        *result = row_result{lse - logit, lse, logit >= max && ties == 0};
    if (dz == NULL)
        return;
    const float share = (float)(1.0 / (double)state->targets);
    const float scale = 1.0f / sum * (a.z_coef > 0 ? 1.0f + 2.0f * a.z_coef * lse : 1.0f);
    for (int64_t i = first; i < V; i += step) {
        load_wide(v, z + i);
        for (int j = 0; j < W; j++)
            v[j] = (expf(v[j] - max) * scale - (i + j == target ? 1.0f : 0.0f)) * share;
        store_wide(dz + i, v);
    }
}

/* One block: thread t adds rows t, t + SUM_THREADS, ..., and the threads' sums meet in a tree. */
static __global__ void sum_rows(double *stats, const row_result *results, int64_t N) {
    __shared__ double shared[MOST_WARPS];
    double loss = 0, hits = 0, z = 0;
    for (int64_t n = threadIdx.x; n < N; n += SUM_THREADS) {
        loss += (double)results[n].loss;
        hits += (double)results[n].hit;
        z += (double)results[n].lse * (double)results[n].lse;
    }
    loss = block_sum(loss, shared);
    hits = block_sum(hits, shared);
    z = block_sum(z, shared);
    if (threadIdx.x == 0) {
        stats[SWT_LOSS_SUM] = loss;
        stats[SWT_LOSS_CORRECT] = hits;
        stats[SWT_LOSS_Z] = z;
    }
}

swt_status swt_cuda_cross_entropy(const swt_ctx *c, const swt_cross_entropy_args *a) {
    const int threads = a->V <= 512 ? WARP : a->V <= 4096 ? 4 * WARP : 16 * WARP;
    if (a->N > 0)
        SWT_TRY(by_width(c, a->V, [&](auto as) {
            const auto kernel = rows<typename decltype(as)::type, decltype(as)::width>;
            return SWT_LAUNCH(kernel, (unsigned)a->N, threads, 0, swt_cuda_stream(c), c->state, *a);
        }));
    return SWT_LAUNCH(sum_rows, 1, SUM_THREADS, 0, swt_cuda_stream(c), a->stats,
                      (const row_result *)a->scratch, a->N);
}
