/* The step's state: tiny, so one thread writes it. */
#include "kernels/cuda/block.cuh"

enum { COUNT_THREADS = 256, CLIP_THREADS = 512 };

static __device__ double learning_rate(const swt_schedule &s, double t) {
    const double pi = 3.14159265358979323846;
    switch (s.kind) {
    case SWT_SCHEDULE_NOAM:
        return s.lr / sqrt(s.width) * fmin(1.0 / sqrt(t), t * pow(s.warmup_steps, -1.5));
    case SWT_SCHEDULE_RSQRT:
        return s.lr / sqrt(fmax(t, s.warmup_steps));
    case SWT_SCHEDULE_CONSTANT:
        return s.lr;
    case SWT_SCHEDULE_COSINE:
        if (t <= s.warmup_steps)
            return s.lr * t / s.warmup_steps;
        /* fmin also where total == warmup, a quotient by 0 */
        return s.min_lr +
               (s.lr - s.min_lr) *
                   (1.0 +
                    cos(pi * fmin((t - s.warmup_steps) / (s.total_steps - s.warmup_steps), 1.0))) /
                   2.0;
    }
    return 0.0;
}

static __global__ void state_advance_kernel(swt_step_state *state, swt_schedule schedule) {
    if (state->nonfinite == SWT_STEP_BAD)
        state->nonfinite = 0;
    state->step += state->nonfinite == 0;
    const double t = (double)state->step;
    state->lr = learning_rate(schedule, t);
    state->correction1 = 1.0 - pow(schedule.beta1, t);
    state->correction2 = 1.0 - pow(schedule.beta2, t);
}

swt_status swt_cuda_state_advance(const swt_ctx *c, const swt_state_advance_args *a) {
    return SWT_LAUNCH(state_advance_kernel, 1, 1, 0, swt_cuda_stream(c), c->state, a->schedule);
}

static __global__ void count_targets_kernel(swt_count_targets_args a) {
    __shared__ int64_t shared[COUNT_THREADS / WARP];
    int64_t real = 0;
    for (int64_t i = threadIdx.x; i < a.n; i += COUNT_THREADS)
        real += a.targets[i] >= 0;
    real = block_sum(real, shared);
    if (threadIdx.x == 0)
        a.count[0] = real;
}

swt_status swt_cuda_count_targets(const swt_ctx *c, const swt_count_targets_args *a) {
    return SWT_LAUNCH(count_targets_kernel, 1, COUNT_THREADS, 0, swt_cuda_stream(c), *a);
}

/* One block: thread t adds squares t, t + CLIP_THREADS, ..., and the threads' sums meet in a tree:
 * an order that n alone decides. 200,000 tensors (2,048 experts in 24 layers) are 400 loads a
 * thread, which do not wait for each other: about 40 us, of which one thread alone would make 10
 * ms. */
static __global__ void state_clip_kernel(swt_step_state *state, swt_state_clip_args a) {
    __shared__ double shared[CLIP_THREADS / WARP];
    double sum = 0.0;
#pragma unroll 8
    for (int64_t i = threadIdx.x; i < a.n; i += CLIP_THREADS)
        sum += a.squares[i];
    const double norm = sqrt(block_sum(sum, shared));
    if (threadIdx.x != 0)
        return;
    state->grad_norm = norm;
    state->clip = a.max_norm == 0.0 ? 1.0 : fmin(1.0, a.max_norm / (norm + 1e-6));
    swt_step_judge(state, !isfinite(norm) || state->nonfinite != 0 || a.nonfinite_ranks[0] != 0,
                   a.skips_most);
}

swt_status swt_cuda_state_clip(const swt_ctx *c, const swt_state_clip_args *a) {
    return SWT_LAUNCH(state_clip_kernel, 1, CLIP_THREADS, 0, swt_cuda_stream(c), c->state, *a);
}
