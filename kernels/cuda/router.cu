/* The router: its gemms by cuBLASLt in F32 whatever the activations are, the rest here, a warp
 * for a token. Where the input is jittered or not F32 it is made in scratch, some tokens at a time.
 */
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/wide.cuh"
#include "kernels/router_scratch.h"

#include "base/rng.h"

enum {
    THREADS = 256, /* of a block that runs over elements */
    LOSSES = 512   /* of a block that sums over tokens, a power of two */
};

/* Whether the gemms read h itself. */
static bool reads_h(const swt_ctx *c, const swt_moe_dims *d) {
    return c->dtype == SWT_F32 && !swt_moe_jitters(d);
}

/* Tokens at a time. */
static int64_t step_of(const swt_ctx *c, const swt_moe_dims *d) {
    return reads_h(c, d) ? swt_max(d->N, 1) : (int64_t)SWT_CUDA_ROUTER_INPUTS;
}

/* The factor of element i of (N, C). */
static __device__ inline float factor_of(int64_t i, const swt_step_state *state,
                                         const swt_moe_dims &d) {
    if (!swt_moe_jitters(&d))
        return 1.0f;
    const uint32_t bits = swt_rng(state->seed, (uint32_t)i, d.micro_batch, (uint32_t)state->step,
                                  SWT_RNG_JITTER, d.block)
                              .v[0];
    return 1.0f + d.jitter * (2.0f * swt_rng_uniform(bits) - 1.0f);
}

/* input[i] = the router's input of elements first ... first + n - 1 of (N, C). Where dh is given,
 * input holds the gradient of that input before, which is added to dh. */
template <typename T>
static __global__ void make_input(float *input, T *dh, const T *h, int64_t first, int64_t n,
                                  const swt_step_state *state, swt_moe_dims d) {
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    const float factor = factor_of(first + i, state, d);
    if (dh != NULL)
        dh[first + i] = from_float<T>(to_float(dh[first + i]) + input[i] * factor);
    input[i] = to_float(h[first + i]) * factor;
}

static swt_status queue_input(const swt_ctx *c, float *input, void *dh, const void *h,
                              int64_t first, int64_t tokens, const swt_moe_dims *d) {
    const int64_t n = tokens * d->C;
    if (n == 0)
        return SWT_OK;
    return by_type(c, [&](auto as) {
        typedef typename decltype(as)::type T;
        const auto kernel = make_input<T>;
        return SWT_LAUNCH(kernel, blocks_of(n, THREADS), THREADS, 0, swt_cuda_stream(c), input,
                          (T *)dh, (const T *)h, first * d->C, n, c->state, *d);
    });
}

/* out = a b + bias + add, all F32: shapes (rows, cols), (rows, inner), (inner, cols). */
static swt_cuda_gemm gemm_of(int64_t rows, int64_t cols, int64_t inner, float *out, const float *a,
                             const float *b) {
    swt_cuda_gemm p = {};
    p.rows = rows;
    p.cols = cols;
    p.inner = inner;
    p.batch = 1;
    p.a.data = a;
    p.b.data = b;
    p.a.type = p.b.type = p.out_type = SWT_F32;
    p.out = out;
    return p;
}

/* ------------------------------------------------------------------ forward */

/* The index of a warp's largest number, lowest on ties; NaN is no larger than anything. *largest
 * becomes the number. All lanes get both. */
static __device__ inline int32_t argmax_of_warp(const float *z, int64_t E, float *largest) {
    float most = -INFINITY;
    int32_t at = INT32_MAX;
    for (int64_t e = threadIdx.x % WARP; e < E; e += WARP)
        if (z[e] > most) {
            most = z[e];
            at = (int32_t)e;
        }
    for (int step = WARP / 2; step > 0; step /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, most, step);
        const int32_t where = __shfl_xor_sync(0xffffffffu, at, step);
        if (other > most || (other == most && where < at)) {
            most = other;
            at = where;
        }
    }
    *largest = most;
    return at == INT32_MAX ? 0 : at;
}

/* probs holds the logits. */
static __global__ void choose_experts(swt_router_forward_args a) {
    const int64_t n = row_of_warp(), E = a.dims.E;
    if (n >= a.dims.N)
        return;
    float *const p = a.probs + n * E;
    float largest, sum = 0;
    const int32_t best = argmax_of_warp(p, E, &largest);
    for (int64_t e = threadIdx.x % WARP; e < E; e += WARP) {
        p[e] = expf(p[e] - largest);
        sum += p[e];
    }
    sum = warp_sum(sum);
    const float scale = 1.0f / sum;
    for (int64_t e = threadIdx.x % WARP; e < E; e += WARP) {
        p[e] *= scale;
        if (e == best)
            a.gate[n] = a.routed[n] ? p[e] : 0.0f;
    }
    if (threadIdx.x % WARP == 0) {
        a.lse[n] = largest + logf(sum);
        a.expert[n] = a.routed[n] ? best : -1;
    }
}

swt_status swt_cuda_router_forward(const swt_ctx *c, const swt_router_forward_args *a) {
    const swt_moe_dims *d = &a->dims;
    const int64_t N = d->N, step = step_of(c, d);
    float *const made = (float *)((char *)a->scratch + swt_router_scratch_of(d).cuda.input);
    for (int64_t first = 0; first < N; first += step) {
        const int64_t tokens = swt_min(step, N - first);
        const float *input = made;
        if (reads_h(c, d))
            input = (const float *)a->h;
        else
            SWT_TRY(queue_input(c, made, NULL, a->h, first, tokens, d));
        swt_cuda_gemm p = gemm_of(tokens, d->E, d->C, a->probs + first * d->E, input, a->w);
        p.b.transposed = true;
        p.bias = a->bias;
        SWT_TRY(swt_cuda_multiply(c, &p));
    }
    if (N == 0)
        return SWT_OK;
    return SWT_LAUNCH(choose_experts, row_blocks(N), ROW_THREADS, 0, swt_cuda_stream(c), *a);
}

/* ------------------------------------------------------------------ losses */

/* stats[LOAD + e] = sum over groups of f[e] P[e]. A block has `width` experts, a power of two; its
 * threads sum every (LOSSES / width)th token, and those sums are added in pairs. */
static __global__ void balance_experts(swt_router_losses_args a, int width) {
    __shared__ double part[LOSSES];
    __shared__ int32_t routed_part[WARP];
    const int column = threadIdx.x % width, row = threadIdx.x / width, rows = LOSSES / width;
    const int64_t E = a.dims.E, tokens = a.dims.N / a.dims.G;
    const int64_t e = (int64_t)blockIdx.x * width + column;
    double balance = 0;
    for (int64_t g = 0; g < a.dims.G; g++) {
        double sum = 0;
        int32_t routed = 0;
        for (int64_t n = g * tokens + row; n < (g + 1) * tokens; n += rows)
            if (a.expert[n] >= 0) {
                sum += e < E ? (double)a.probs[n * E + e] : 0.0;
                routed += column == 0;
            }
        part[threadIdx.x] = sum;
        const double R = block_sum(routed, routed_part);
        for (int apart = rows / 2; apart > 0; apart /= 2) {
            if (row < apart)
                part[threadIdx.x] += part[threadIdx.x + apart * width];
            __syncthreads();
        }
        if (row == 0 && e < E && R > 0)
            balance += a.group_counts[g * E + e] / R * (part[column] / R); /* its own part */
    }
    if (row == 0 && e < E)
        a.stats[SWT_ROUTER_LOAD + e] = balance;
}

/* All the rest, in one block. */
static __global__ void finish_losses(swt_router_losses_args a) {
    __shared__ double part[WARP];
    const int64_t E = a.dims.E, G = a.dims.G, tokens = a.dims.N / G;
    double balance = 0, dropped = 0, z = 0;
    for (int64_t e = threadIdx.x; e < E; e += blockDim.x) {
        int64_t load = 0;
        for (int64_t g = 0; g < G; g++)
            load += a.group_counts[g * E + e];
        balance += a.stats[SWT_ROUTER_LOAD + e];
        dropped += (double)(load - a.kept_counts[e]);
        a.stats[SWT_ROUTER_LOAD + e] = (double)load;
    }
    for (int64_t g = 0; g < G; g++) {
        double sum = 0, routed = 0;
        for (int64_t n = g * tokens + threadIdx.x; n < (g + 1) * tokens; n += blockDim.x)
            if (a.expert[n] >= 0) {
                sum += (double)a.lse[n] * (double)a.lse[n];
                routed += 1;
            }
        sum = block_sum(sum, part);
        routed = block_sum(routed, part);
        z += routed > 0 ? sum / routed : 0.0;
    }
    balance = block_sum(balance, part);
    dropped = block_sum(dropped, part);
    if (threadIdx.x == 0) {
        a.stats[SWT_ROUTER_AUX] = (double)E * balance / (double)G;
        a.stats[SWT_ROUTER_Z] = z / (double)G;
        a.stats[SWT_ROUTER_DROPPED] = dropped;
    }
}

swt_status swt_cuda_router_losses(const swt_ctx *c, const swt_router_losses_args *a) {
    int width = 1;
    while (width < WARP && width < a->dims.E)
        width *= 2;
    SWT_TRY(SWT_LAUNCH(balance_experts, blocks_of(a->dims.E, width), LOSSES, 0, swt_cuda_stream(c),
                       *a, width));
    return SWT_LAUNCH(finish_losses, 1, LOSSES, 0, swt_cuda_stream(c), *a);
}

/* ------------------------------------------------------------------ backward */

/* aux_scale E f[e] / R, of an expert with so many tokens. */
static __device__ inline float pull_of(const swt_moe_dims &d, int32_t count, double share) {
    return (float)(d.aux_scale * (double)d.E * count * share * share);
}

/* rows: dz (N, E). */
static __global__ void logit_gradients(float *rows, swt_router_backward_args a) {
    const swt_moe_dims &d = a.dims;
    const int64_t n = row_of_warp(), lane = threadIdx.x % WARP, E = d.E;
    if (n >= d.N)
        return;
    float *const dz = rows + n * E;
    const float *const p = a.probs + n * E;
    const int32_t *const counts = a.group_counts + n / (d.N / d.G) * E;
    const int32_t expert = a.expert[n];
    int32_t routed = 0;
    for (int64_t e = lane; e < E; e += WARP)
        routed += counts[e];
    routed = warp_sum(routed);
    const double share = routed > 0 ? 1.0 / routed : 0.0;
    float mean = 0;
    for (int64_t e = lane; e < E; e += WARP)
        mean += pull_of(d, counts[e], share) * p[e];
    mean = warp_sum(mean);
    const float through_gate = expert < 0 ? 0.0f : a.dgate[n] * a.gate[n];
    const float common = (float)(2.0 * d.z_scale * share) * a.lse[n] - through_gate;
    for (int64_t e = lane; e < E; e += WARP) {
        const float straight = e == expert ? through_gate : 0.0f;
        /* What is equal is subtracted first: of a single expert nothing is left, to the bit. */
        const float pull = pull_of(d, counts[e], share) - mean;
        dz[e] = expert < 0 ? 0.0f : p[e] * (pull + common) + straight;
    }
}

/* dh += (dz w) factors and dw = dz^T input, some tokens at a time where the input is made. */
static swt_status input_and_weight(const swt_ctx *c, const swt_router_backward_args *a,
                                   const float *dz) {
    const swt_moe_dims *d = &a->dims;
    const int64_t N = d->N, C = d->C, E = d->E, step = step_of(c, d);
    float *const made = (float *)((char *)a->scratch + swt_router_scratch_of(d).cuda.input);
    int64_t first = 0;
    do { /* once at least: no token gives a dw of zeros */
        const int64_t tokens = swt_min(step, N - first);
        const float *input = made;
        swt_cuda_gemm p = gemm_of(tokens, C, E, made, dz + first * E, a->w);
        if (reads_h(c, d)) {
            input = (const float *)a->h;
            p.out = a->dh;
            p.add = a->dh;
        }
        SWT_TRY(swt_cuda_multiply(c, &p));
        if (!reads_h(c, d))
            SWT_TRY(queue_input(c, made, a->dh, a->h, first, tokens, d));
        swt_cuda_gemm q = gemm_of(E, C, tokens, a->dw, dz + first * E, input);
        q.a.transposed = true;
        q.add = first > 0 ? a->dw : NULL;
        SWT_TRY(swt_cuda_multiply(c, &q));
        first += step;
    } while (first < N);
    return SWT_OK;
}

swt_status swt_cuda_router_backward(const swt_ctx *c, const swt_router_backward_args *a) {
    const int64_t N = a->dims.N, E = a->dims.E;
    float *const dz = (float *)((char *)a->scratch + swt_router_scratch_of(&a->dims).cuda.dz);
    if (N > 0)
        SWT_TRY(
            SWT_LAUNCH(logit_gradients, row_blocks(N), ROW_THREADS, 0, swt_cuda_stream(c), dz, *a));
    SWT_TRY(input_and_weight(c, a, dz));
    swt_cuda_columns sum = {};
    sum.batch = 1;
    sum.rows = N;
    sum.columns = E;
    sum.type = SWT_F32;
    return a->dbias != NULL ? swt_cuda_column_sums(c, a->dbias, dz, &sum) : SWT_OK;
}
