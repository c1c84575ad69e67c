/* The step state, the exact sums of gradients and the optimisers against their formulas. */
#include "kernels/swt_positional.h"
#include "selftest/checks.h"

#include <math.h>
#include <string.h>

enum { CASES = 12, MOST = 1300 };

/* Of a stopped run the step is that of the bad gradient. */
static swt_status advance_case(swt_trial *t, const swt_schedule *s, int64_t step, double lr,
                               bool stopped) {
    swt_trial_begin(t, "schedule %d, step %lld, stopped=%d", (int)s->kind, (long long)step,
                    stopped);
    swt_trial_release_state(t);
    t->state->step = stopped ? step : step - 1;
    t->state->nonfinite = stopped;
    const swt_step_state before = *t->state;
    SWT_TRIAL_RUN(t, pos_state_advance(&t->ctx, s));
    swt_trial_number(t, "step", (double)t->state->step, (double)step, 0);
    swt_trial_number(t, "lr", t->state->lr, lr, 1e-15);
    swt_trial_number(t, "correction1", t->state->correction1, 1 - pow(s->beta1, (double)step),
                     1e-15);
    swt_trial_number(t, "correction2", t->state->correction2, 1 - pow(s->beta2, (double)step),
                     1e-15);
    swt_trial_same(t, "seed", &t->state->seed, &before.seed, 1, SWT_I64);
    swt_trial_same(t, "nonfinite", &t->state->nonfinite, &before.nonfinite, 1, SWT_I64);
    return SWT_OK;
}

swt_status swt_selftest_state_advance(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        const double warmup = 100, total = 1000, width = 64, lr = 0.3;
        const int64_t step = i % 3 == 0 ? 1 + i : 90 + swt_trial_choose(t, 0, 800);
        const double n = (double)step, pi = acos(-1);
        const double rates[] = {
            [SWT_SCHEDULE_NOAM] = lr / sqrt(width) * fmin(1 / sqrt(n), n * pow(warmup, -1.5)),
            [SWT_SCHEDULE_RSQRT] = lr / sqrt(fmax(n, warmup)),
            [SWT_SCHEDULE_CONSTANT] = lr,
            [SWT_SCHEDULE_COSINE] = n <= warmup
                                        ? lr * n / warmup
                                        : lr * (1 + cos(pi * (n - warmup) / (total - warmup))) / 2};
        const swt_schedule s = {.kind = (swt_schedule_kind)(i % 4),
                                .lr = lr,
                                .warmup_steps = warmup,
                                .width = width,
                                .total_steps = total,
                                .beta1 = 0.9,
                                .beta2 = 0.999};
        SWT_TRY(advance_case(t, &s, step, rates[s.kind], i % 5 == 4));
    }
    return SWT_OK;
}

swt_status swt_selftest_count_targets(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        const int64_t n = i == 0 ? 10000 : swt_trial_choose(t, 0, MOST);
        swt_trial_begin(t, "n=%lld", (long long)n);
        const int32_t *targets = swt_trial_integers(t, n, -2, 3);
        int64_t *count = swt_trial_out(t, 1, SWT_I64), want = 0;
        for (int64_t k = 0; k < n; k++)
            want += targets[k] >= 0;
        SWT_TRIAL_RUN(t, pos_count_targets(&t->ctx, TWIN(count), TWIN(targets), n));
        swt_trial_number(t, "count", (double)*count, (double)want, 0);
    }
    return SWT_OK;
}

/* Gradients of all sizes, from 2^-60 (which counts as 0) to 2^10. */
static float *draw_gradients(swt_trial *t, int64_t n) {
    float *grad = swt_trial_uniform(t, n, -1, 1);
    for (int64_t i = 0; i < n; i++)
        grad[i] = ldexpf(grad[i], swt_trial_choose(t, -60, 10));
    return grad;
}

static int64_t quantum(float grad) {
    return (int64_t)rint((double)grad * 0x1p48);
}

/* bad: a number that must not be added, in the second gradient. */
static swt_status grad_add_case(swt_trial *t, int64_t n, const float *bad) {
    const float *a = draw_gradients(t, n);
    float *b = draw_gradients(t, n);
    if (bad != NULL)
        b[n / 2] = *bad;
    int64_t *sum = swt_trial_out(t, n, SWT_I64), *want = swt_trial_in(t, n, SWT_I64);
    SWT_TRIAL_RUN(t, pos_grad_add(&t->ctx, TWIN(sum), TWIN(a), n, 0x1p60, true));
    for (int64_t i = 0; i < n; i++)
        want[i] = quantum(a[i]);
    swt_trial_same(t, "the first sum", sum, want, n, SWT_I64);
    if (bad != NULL)
        swt_trial_release_state(t);
    SWT_TRIAL_RUN(t, pos_grad_add(&t->ctx, TWIN(sum), TWIN(b), n, 0x1p60, false));
    for (int64_t i = 0; i < n; i++)
        want[i] += bad != NULL && i == n / 2 ? 0 : quantum(b[i]);
    swt_trial_same(t, "sum", sum, want, n, SWT_I64);
    swt_trial_number(t, "nonfinite", t->state->nonfinite != 0, bad != NULL, 0);
    return SWT_OK;
}

swt_status swt_selftest_grad_add(swt_trial *t) {
    static const float bad[] = {NAN, INFINITY, -INFINITY, 0x1.000002p12f, -3e38f};
    for (int i = 0; i < CASES; i++) {
        const int64_t n = swt_trial_choose(t, 1, MOST);
        const float *number = i < 5 ? &bad[i] : NULL;
        swt_trial_begin(t, "n=%lld with a number %g", (long long)n, number ? (double)*number : 0);
        SWT_TRY(grad_add_case(t, n, number));
    }
    return SWT_OK;
}

swt_status swt_selftest_grad_finish(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        const int64_t n = swt_trial_choose(t, 1, MOST);
        swt_trial_begin(t, "n=%lld", (long long)n);
        int64_t *sum = swt_trial_in(t, n, SWT_I64);
        float *want = swt_trial_in(t, n, SWT_F32), *grad = swt_trial_out(t, n, SWT_F32);
        for (int64_t k = 0; k < n; k++) {
            sum[k] = (int64_t)ldexp(swt_trial_draw(t) - 0.5, swt_trial_choose(t, 1, 62));
            want[k] = (float)((double)sum[k] * 0x1p-48);
        }
        SWT_TRIAL_RUN(t, pos_grad_finish(&t->ctx, TWIN(grad), TWIN(sum), n));
        swt_trial_same(t, "grad", grad, want, n, SWT_F32);
    }
    return SWT_OK;
}

/* Tensors of random length, one after the other, their sums written in another order. */
swt_status swt_selftest_grad_squares(swt_trial *t) {
    enum { SPANS = 7 };
    for (int i = 0; i < CASES; i++) {
        swt_trial_begin(t, "number %d", i);
        swt_span *spans = swt_trial_in(t, SPANS * (int64_t)sizeof *spans, SWT_U8);
        int64_t end = 0;
        for (int s = 0; s < SPANS; s++) {
            spans[s] = (swt_span){end, swt_trial_choose(t, 0, s == 6 ? 9000 : MOST), (s + 3) % 7};
            end += spans[s].count;
        }
        const float *grad = draw_gradients(t, end + 1);
        double *squares = swt_trial_out(t, SPANS, SWT_F64);
        SWT_TRIAL_RUN(t, pos_grad_squares(&t->ctx, TWIN(squares), TWIN(grad), TWIN(spans), SPANS));
        for (int s = 0; s < SPANS; s++) {
            double want = 0;
            for (int64_t k = spans[s].offset; k < spans[s].offset + spans[s].count; k++)
                want += (double)grad[k] * (double)grad[k];
            /* Positive terms, each exact in double: at most count roundings in either sum. */
            swt_trial_number(t, "squares", squares[spans[s].index], want,
                             want * 2 * (double)(spans[s].count + 1) * 0x1p-53);
        }
    }
    return SWT_OK;
}

swt_status swt_selftest_state_clip(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        const int64_t n = swt_trial_choose(t, 1, 40);
        const double max_norm = i % 3 == 0 ? 0 : swt_trial_draw(t) * 10;
        const bool bad = i % 4 == 3;
        double sum = 0;
        swt_trial_begin(t, "n=%lld max_norm=%g bad=%d", (long long)n, max_norm, bad);
        swt_trial_release_state(t);
        double *squares = swt_trial_in(t, n, SWT_F64);
        int64_t *ranks = swt_trial_in(t, 1, SWT_I64);
        for (int64_t k = 0; k < n; k++)
            sum += squares[k] = swt_trial_draw(t);
        if (bad && i > 6)
            squares[n / 2] = NAN;
        else
            *ranks = bad;
        SWT_TRIAL_RUN(t, pos_state_clip(&t->ctx, TWIN(squares), n, TWIN(ranks), max_norm));
        swt_trial_number(t, "nonfinite", t->state->nonfinite != 0, bad, 0);
        if (bad)
            continue;
        const double norm = sqrt(sum);
        swt_trial_number(t, "grad_norm", t->state->grad_norm, norm, 0x1p-51 * norm);
        swt_trial_number(t, "clip", t->state->clip,
                         max_norm == 0 ? 1 : fmin(1, max_norm / (norm + 1e-6)), 0x1p-51);
    }
    return SWT_OK;
}

/* One element, by the formulas. */
typedef struct element {
    double param, m, v;
} element;

static element adam(const element *old, double grad, const swt_step_state *s,
                    const swt_adam_hyper *h) {
    const double g = s->clip * grad;
    element e = {.m = h->beta1 * old->m + (1 - h->beta1) * g,
                 .v = h->beta2 * old->v + (1 - h->beta2) * g * g};
    e.param = old->param * (1 - s->lr * h->weight_decay);
    if (h->eps_uncorrected)
        e.param -= s->lr * sqrt(s->correction2) / s->correction1 * e.m / (sqrt(e.v) + h->eps);
    else
        e.param -= s->lr * (e.m / s->correction1) / (sqrt(e.v / s->correction2) + h->eps);
    return e;
}

/* m: two products and a sum, which may cancel, so the error is of the size of its parts; v: the
 * same without cancelling; param: two roundings of itself and some eight of its change, relative to
 * the parts of m. */
static void expect_element(swt_trial *t, const element *old, const swt_adam_hyper *h, double grad,
                           const element *got) {
    const element want = adam(old, grad, t->state, h);
    const double parts = fabs(old->m) + fabs(grad);
    const double change =
        fabs(want.param - old->param) + (want.v > 0 ? t->state->lr * parts / sqrt(want.v) : 0);
    swt_trial_number(t, "m", got->m, want.m, 3 * SWT_ROUNDING * parts + 1e-44);
    swt_trial_number(t, "v", got->v, want.v, 5 * SWT_ROUNDING * want.v + 1e-44);
    swt_trial_number(t, "param", got->param, want.param,
                     SWT_ROUNDING * (3 * fabs(old->param) + 8 * change));
}

static swt_status adam_case(swt_trial *t, const swt_adam_hyper *h, int64_t n, bool stopped) {
    const float *start[3] = {swt_trial_uniform(t, n, -2, 2), swt_trial_uniform(t, n, -1, 1),
                             swt_trial_uniform(t, n, 0, 1)};
    const float *grad = swt_trial_uniform(t, n, -3, 3);
    float *now[3];
    for (int i = 0; i < 3; i++)
        now[i] = swt_trial_copy(t, start[i], n, SWT_F32);
    t->state->lr = 0.01;
    t->state->correction1 = 1 - pow(h->beta1, 7);
    t->state->correction2 = 1 - pow(h->beta2, 7);
    t->state->clip = 0.37;
    t->state->nonfinite = stopped;
    SWT_TRIAL_RUN(t, pos_adam(&t->ctx, TWIN(now[0]), TWIN(now[1]), TWIN(now[2]), TWIN(grad), n, h));
    for (int64_t k = 0; k < n && !stopped; k++) {
        const element old = {(double)start[0][k], (double)start[1][k], (double)start[2][k]},
                      got = {(double)now[0][k], (double)now[1][k], (double)now[2][k]};
        expect_element(t, &old, h, (double)grad[k], &got);
    }
    for (int i = 0; i < 3 && stopped; i++)
        swt_trial_same(t, "a stopped run's numbers", now[i], start[i], n, SWT_F32);
    return SWT_OK;
}

swt_status swt_selftest_adam(swt_trial *t) {
    static const swt_adam_hyper hypers[] = {
        {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .eps_uncorrected = true},
        {.beta1 = 0.9, .beta2 = 0.98, .eps = 1e-2, .weight_decay = 0.1},
        {.beta1 = 0, .beta2 = 0, .eps = 1e-3}};
    for (int i = 0; i < CASES; i++) {
        const int64_t n = swt_trial_choose(t, 1, MOST);
        swt_trial_begin(t, "n=%lld hyper %d stopped=%d", (long long)n, i % 3, i % 4 == 3);
        SWT_TRY(adam_case(t, &hypers[i % 3], n, i % 4 == 3));
    }
    return SWT_OK;
}

swt_status swt_selftest_sgd(swt_trial *t) {
    for (int i = 0; i < CASES; i++) {
        const int64_t n = swt_trial_choose(t, 1, MOST);
        const bool stopped = i % 4 == 3;
        swt_trial_begin(t, "n=%lld stopped=%d", (long long)n, stopped);
        t->state->lr = 0.3;
        t->state->clip = 0.7;
        t->state->nonfinite = stopped;
        const float *before = swt_trial_uniform(t, n, -1, 1),
                    *grad = swt_trial_uniform(t, n, -3, 3);
        float *param = swt_trial_copy(t, before, n, SWT_F32);
        SWT_TRIAL_RUN(t, pos_sgd(&t->ctx, TWIN(param), TWIN(grad), n));
        for (int64_t k = 0; k < n; k++) {
            const double change = stopped ? 0 : 0.3 * 0.7 * (double)grad[k],
                         want = (double)before[k] - change;
            /* One rounding of the result, three of the change. */
            swt_trial_number(t, "param", (double)param[k], want,
                             stopped ? 0 : SWT_ROUNDING * (fabs(want) + 3 * fabs(change)));
        }
    }
    return SWT_OK;
}

/* F32 stays what it is. The nearest BF16 is found by search: no BF16 is closer, and of two that are
 * as close it is the even one. */
static void expect_nearest(swt_trial *t, uint16_t got, float from) {
    const double x = (double)from, error = fabs((double)swt_bf16_to_float(got) - x);
    bool best = true;
    for (int step = -1; step <= 1; step += 2) {
        const uint16_t other = (uint16_t)(got + step);
        const double there = fabs((double)swt_bf16_to_float(other) - x);
        best = best && (error < there || (error == there && got % 2 == 0) || isnan(there));
    }
    swt_trial_number(t, "nearest BF16", best, true, 0);
}

static swt_status cast_case(swt_trial *t, int64_t n) {
    swt_trial_begin(t, "n=%lld %s", (long long)n, swt_dtype_name(t->ctx.dtype));
    float *from = swt_trial_uniform(t, n, -3, 3);
    from[0] = 1.0f + 0x3p-8f;     /* half way: the even one is above; */
    from[n / 2] = 1.0f + 0x1p-8f; /* below */
    void *to = swt_trial_out(t, n, t->ctx.dtype);
    SWT_TRIAL_RUN(t, pos_cast(&t->ctx, swt_trial_twin(t, to), TWIN(from), n));
    if (t->ctx.dtype == SWT_F32)
        swt_trial_same(t, "to", to, from, n, SWT_F32);
    for (int64_t k = 0; k < n && t->ctx.dtype == SWT_BF16; k++)
        expect_nearest(t, ((const uint16_t *)to)[k], from[k]);
    return SWT_OK;
}

swt_status swt_selftest_cast(swt_trial *t) {
    const swt_dtype given = t->ctx.dtype, types[] = {SWT_F32, SWT_BF16};
    swt_status status = SWT_OK;
    for (int i = 0; i < CASES && status == SWT_OK; i++) {
        t->ctx.dtype = types[t->ctx.ops->bf16 ? i % 2 : 0];
        status = cast_case(t, swt_trial_choose(t, 1, MOST));
    }
    t->ctx.dtype = given;
    return status;
}
