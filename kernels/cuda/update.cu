/* Integer sums of gradients, their norm, and the optimisers.
 *
 * What treats each element for itself runs on a grid of bounded size, whose threads go through the
 * array in strides of the grid. An element's bits must not depend on its place, so its arithmetic
 * is written with fmaf where a sum takes a product: nothing is left for the compiler to contract
 * one way here and another way there. */
#include "kernels/cuda/block.cuh"

enum { THREADS = 256, GRID_MAX = 4096 };

/* The blocks for n elements, and a thread's first element and stride. */
static unsigned grid_of(int64_t n) {
    return (unsigned)swt_min(swt_ceil_div(n, THREADS), GRID_MAX);
}

static __device__ inline int64_t first_element() {
    return (int64_t)blockIdx.x * THREADS + threadIdx.x;
}

static __device__ inline int64_t element_stride() {
    return (int64_t)gridDim.x * THREADS;
}

/* ------------------------------------------------------------------ integer sums */

static __global__ void grad_add_kernel(swt_step_state *state, swt_grad_add_args a) {
    bool bad = false;
    for (int64_t i = first_element(); i < a.n; i += element_stride()) {
        const double q = rint((double)a.grad[i] * 0x1p48);
        const bool ok = fabs(q) <= a.limit; /* false for NaN */
        const int64_t add = ok ? (int64_t)q : 0;
        a.sum[i] = a.first ? add : a.sum[i] + add;
        bad = bad || !ok;
    }
    if (bad)
        atomicExch((unsigned long long *)&state->nonfinite, (unsigned long long)SWT_STEP_BAD);
}

swt_status swt_cuda_grad_add(const swt_ctx *c, const swt_grad_add_args *a) {
    if (a->n == 0)
        return SWT_OK;
    return SWT_LAUNCH(grad_add_kernel, grid_of(a->n), THREADS, 0, swt_cuda_stream(c), c->state, *a);
}

static __global__ void grad_finish_kernel(swt_grad_finish_args a) {
    for (int64_t i = first_element(); i < a.n; i += element_stride())
        a.grad[i] = (float)((double)a.sum[i] * 0x1p-48);
}

swt_status swt_cuda_grad_finish(const swt_ctx *c, const swt_grad_finish_args *a) {
    if (a->n == 0)
        return SWT_OK;
    return SWT_LAUNCH(grad_finish_kernel, grid_of(a->n), THREADS, 0, swt_cuda_stream(c), *a);
}

/* ------------------------------------------------------------------ sums of squares */

/* A span is cut into PARTS pieces of one size, PIECE_MIN elements at least; the last ones may be
 * empty. A block sums one piece, then one warp sums the pieces of a span. */
enum { PARTS = 32, PIECE_MIN = 4096 };

static __global__ void square_parts_kernel(double *parts, const float *grad,
                                           const swt_span *spans) {
    __shared__ double shared[THREADS / WARP];
    const swt_span span = spans[blockIdx.y];
    const int64_t piece = swt_max(swt_ceil_div(span.count, PARTS), PIECE_MIN);
    const int64_t first = piece * blockIdx.x, end = swt_min(first + piece, span.count);
    double *const part = &parts[(int64_t)blockIdx.y * PARTS + blockIdx.x];
    if (first >= end) { /* the whole block */
        if (threadIdx.x == 0)
            *part = 0.0;
        return;
    }
    double sum = 0.0;
    for (int64_t i = first + threadIdx.x; i < end; i += THREADS) {
        const double x = (double)grad[span.offset + i];
        sum += x * x; /* exact, so contracting it changes nothing */
    }
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0)
        *part = sum;
}

static __global__ void square_sum_kernel(double *squares, const double *parts,
                                         const swt_span *spans) {
    static_assert((int)PARTS == (int)WARP, "a lane for each piece");
    const double sum = warp_sum(parts[(int64_t)blockIdx.x * PARTS + threadIdx.x]);
    if (threadIdx.x == 0)
        squares[spans[blockIdx.x].index] = sum;
}

/* The pieces' sums lie in the context's workspace, for so many spans at a time. */
swt_status swt_cuda_grad_squares(const swt_ctx *c, const swt_grad_squares_args *a) {
    enum { SPANS = 32768 }; /* below the largest grid in y; 8 MiB */
    double *const parts = (double *)c->workspace;
    if (parts == NULL)
        return SWT_FAIL(INTERNAL, "grad_squares: no workspace; the context must have one");
    for (int64_t i = 0; i < a->n_spans; i += SPANS) {
        const unsigned n = (unsigned)swt_min(SPANS, a->n_spans - i);
        const swt_span *spans = a->spans + i;
        SWT_TRY(SWT_LAUNCH(square_parts_kernel, dim3(PARTS, n), THREADS, 0, swt_cuda_stream(c),
                           parts, a->grad, spans));
        SWT_TRY(SWT_LAUNCH(square_sum_kernel, n, WARP, 0, swt_cuda_stream(c), a->squares, parts,
                           spans));
    }
    return SWT_OK;
}

/* ------------------------------------------------------------------ optimisers */

/* What an element needs, once per block. */
typedef struct adam_factors {
    float clip, beta1, one_minus_beta1, beta2, one_minus_beta2, keep, rate, v_scale, eps;
} adam_factors;

static __device__ adam_factors factors_of(const swt_step_state *s, const swt_adam_hyper &h) {
    const double uncorrected = h.eps_uncorrected ? sqrt(s->correction2) : 1.0;
    adam_factors f;
    f.clip = (float)s->clip;
    f.beta1 = (float)h.beta1;
    f.one_minus_beta1 = (float)(1.0 - h.beta1);
    f.beta2 = (float)h.beta2;
    f.one_minus_beta2 = (float)(1.0 - h.beta2);
    f.keep = (float)(1.0 - s->lr * h.weight_decay);
    f.rate = (float)(s->lr * uncorrected / s->correction1);
    f.v_scale = h.eps_uncorrected ? 1.0f : (float)(1.0 / s->correction2);
    f.eps = (float)h.eps;
    return f;
}

static __global__ void adam_kernel(const swt_step_state *state, swt_adam_args a) {
    __shared__ adam_factors shared;
    if (state->nonfinite != 0)
        return; /* the whole grid */
    if (threadIdx.x == 0)
        shared = factors_of(state, a.hyper);
    __syncthreads();
    const adam_factors f = shared;
    for (int64_t i = first_element(); i < a.n; i += element_stride()) {
        const float g = f.clip * a.grad[i];
        const float m = fmaf(f.beta1, a.m[i], f.one_minus_beta1 * g);
        const float v = fmaf(f.beta2, a.v[i], f.one_minus_beta2 * (g * g));
        const float step = f.rate * m / (sqrtf(v * f.v_scale) + f.eps);
        a.param[i] = fmaf(a.param[i], f.keep, -step);
        a.m[i] = m;
        a.v[i] = v;
    }
}

swt_status swt_cuda_adam(const swt_ctx *c, const swt_adam_args *a) {
    if (a->n == 0)
        return SWT_OK;
    return SWT_LAUNCH(adam_kernel, grid_of(a->n), THREADS, 0, swt_cuda_stream(c), c->state, *a);
}

static __global__ void sgd_kernel(const swt_step_state *state, swt_sgd_args a) {
    if (state->nonfinite != 0)
        return;
    const float step = (float)(-state->lr * state->clip);
    for (int64_t i = first_element(); i < a.n; i += element_stride())
        a.param[i] = fmaf(step, a.grad[i], a.param[i]);
}

swt_status swt_cuda_sgd(const swt_ctx *c, const swt_sgd_args *a) {
    if (a->n == 0)
        return SWT_OK;
    return SWT_LAUNCH(sgd_kernel, grid_of(a->n), THREADS, 0, swt_cuda_stream(c), c->state, *a);
}

/* ------------------------------------------------------------------ what gemms read */

template <typename T> static __global__ void cast_kernel(swt_cast_args a) {
    for (int64_t i = first_element(); i < a.n; i += element_stride())
        ((T *)a.to)[i] = from_float<T>(a.from[i]);
}

swt_status swt_cuda_cast(const swt_ctx *c, const swt_cast_args *a) {
    if (a->n == 0)
        return SWT_OK;
    return by_type(c, [&](auto as) {
        const auto kernel = cast_kernel<typename decltype(as)::type>;
        return SWT_LAUNCH(kernel, grid_of(a->n), THREADS, 0, swt_cuda_stream(c), *a);
    });
}
