/* The step's state: tiny, so everything here runs on the calling thread. */
#include "kernels/cpu/cpu.h"

#include <math.h>

static double learning_rate(const swt_schedule *s, double t) {
    static const double pi = 3.14159265358979323846;
    switch (s->kind) {
    case SWT_SCHEDULE_NOAM:
        return s->lr / sqrt(s->width) * fmin(1.0 / sqrt(t), t * pow(s->warmup_steps, -1.5));
    case SWT_SCHEDULE_RSQRT:
        return s->lr / sqrt(fmax(t, s->warmup_steps));
    case SWT_SCHEDULE_CONSTANT:
        return s->lr;
    case SWT_SCHEDULE_COSINE:
        if (t <= s->warmup_steps)
            return s->lr * t / s->warmup_steps;
        /* fmin also where total == warmup, a quotient by 0 */
        return s->min_lr +
               (s->lr - s->min_lr) *
                   (1.0 + cos(pi * fmin((t - s->warmup_steps) / (s->total_steps - s->warmup_steps),
                                        1.0))) /
                   2.0;
    }
    return 0.0;
}

swt_status swt_cpu_state_advance(const swt_ctx *c, const swt_state_advance_args *a) {
    const swt_schedule *schedule = &a->schedule;
    swt_step_state *state = c->state;
    if (state->nonfinite == SWT_STEP_BAD)
        state->nonfinite = 0;
    state->step += state->nonfinite == 0;
    const double t = (double)state->step;
    state->lr = learning_rate(schedule, t);
    state->correction1 = 1.0 - pow(schedule->beta1, t);
    state->correction2 = 1.0 - pow(schedule->beta2, t);
    return SWT_OK;
}

swt_status swt_cpu_count_targets(const swt_ctx *c, const swt_count_targets_args *a) {
    (void)c;
    int64_t real = 0;
    for (int64_t i = 0; i < a->n; i++)
        real += a->targets[i] >= 0;
    a->count[0] = real;
    return SWT_OK;
}

swt_status swt_cpu_state_clip(const swt_ctx *c, const swt_state_clip_args *a) {
    double sum = 0.0;
    for (int64_t i = 0; i < a->n; i++)
        sum += a->squares[i];
    swt_step_state *state = c->state;
    state->grad_norm = sqrt(sum);
    state->clip = a->max_norm == 0.0 ? 1.0 : fmin(1.0, a->max_norm / (state->grad_norm + 1e-6));
    swt_step_judge(
        state, !isfinite(state->grad_norm) || state->nonfinite != 0 || a->nonfinite_ranks[0] != 0,
        a->skips_most);
    return SWT_OK;
}
