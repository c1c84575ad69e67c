/* The step state, the exact sums of gradients and the optimisers against their formulas. */
#include "judge/case.h"

#include <math.h>

/* Elements: several parts of the backends where the trial is large, and once more than the threads
 * that a GPU's kernels begin, so that some go round twice. */
static int64_t draw_count(swt_case *k, int least) {
    enum { ONCE_AROUND = 6, THREADS_MOST = 1 << 20 };
    if (k->t->large && k->number == ONCE_AROUND)
        return THREADS_MOST + 1 + swt_trial_choose(k->t, 0, 3000);
    return swt_trial_choose(k->t, least, k->t->large ? 40000 : 1300);
}

/* ---- the step's state */

static double rate(const swt_schedule *s, double t) {
    const double pi = acos(-1), warmup = s->warmup_steps;
    switch (s->kind) {
    case SWT_SCHEDULE_NOAM:
        return s->lr / sqrt(s->width) * fmin(1 / sqrt(t), t * pow(warmup, -1.5));
    case SWT_SCHEDULE_RSQRT:
        return s->lr / sqrt(fmax(t, warmup));
    case SWT_SCHEDULE_COSINE:
        return t <= warmup
                   ? s->lr * t / warmup
                   : s->min_lr + (s->lr - s->min_lr) *
                                     (1 + cos(pi * (t - warmup) / (s->total_steps - warmup))) / 2;
    default:
        return s->lr;
    }
}

/* A bad step's flag goes; of a stopped run the step is that of the bad gradient. */
void swt_draw_state_advance(swt_case *k, void *args) {
    swt_state_advance_args *a = args;
    swt_step_state *s = k->t->state;
    a->schedule = (swt_schedule){.kind = (swt_schedule_kind)(k->number % 4),
                                 .lr = 0.3,
                                 .min_lr = k->number % 8 < 4 ? 0 : 0.05,
                                 .warmup_steps = 100,
                                 .width = 64,
                                 .total_steps = 1000,
                                 .beta1 = 0.9,
                                 .beta2 = 0.999};
    swt_trial_release_state(k->t);
    s->step = k->number % 3 == 0 ? k->number : 89 + swt_trial_choose(k->t, 0, 800);
    s->nonfinite = k->number % 5 == 3 ? SWT_STEP_BAD : k->number % 5 == 4 ? SWT_STEP_STOPPED : 0;
    swt_case_note(k, "schedule", (int64_t)a->schedule.kind);
    swt_case_note(k, "step", s->step);
    swt_case_note(k, "nonfinite", s->nonfinite);
}

void swt_judge_state_advance(swt_case *k, const void *args) {
    const swt_state_advance_args *a = args;
    const swt_step_state *old = swt_case_before(k, k->t->state), *s = k->t->state;
    const bool stopped = old->nonfinite == SWT_STEP_STOPPED;
    const int64_t flag = stopped ? SWT_STEP_STOPPED : 0;
    const double step = (double)(old->step + !stopped);
    swt_trial_number(k->t, "step", (double)s->step, step, 0);
    swt_trial_number(k->t, "lr", s->lr, rate(&a->schedule, step), 1e-15);
    swt_trial_number(k->t, "correction1", s->correction1, 1 - pow(a->schedule.beta1, step), 1e-15);
    swt_trial_number(k->t, "correction2", s->correction2, 1 - pow(a->schedule.beta2, step), 1e-15);
    swt_trial_same(k->t, "seed", &s->seed, &old->seed, 1, SWT_I64);
    swt_trial_same(k->t, "nonfinite", &s->nonfinite, &flag, 1, SWT_I64);
    swt_trial_same(k->t, "skipped", &s->skipped, &old->skipped, 1, SWT_I64);
}

void swt_draw_count_targets(swt_case *k, void *args) {
    swt_count_targets_args *a = args;
    swt_case_dim(k, "n", &a->n, k->number == 0 ? 10000 : draw_count(k, 0));
    a->targets = swt_trial_integers(k->t, a->n, -2, 3);
}

void swt_judge_count_targets(swt_case *k, const void *args) {
    const swt_count_targets_args *a = args;
    double real = 0;
    for (int64_t i = 0; i < a->n; i++)
        real += a->targets[i] >= 0;
    swt_case_number(k, a->count, 0, real, 0);
}

/* Bad steps of each kind, with room in the row of those that are left out, and without. */
void swt_draw_state_clip(swt_case *k, void *args) {
    swt_state_clip_args *a = args;
    swt_step_state *s = k->t->state;
    const bool bad = k->number % 2 == 1;
    swt_trial_release_state(k->t);
    a->skips_most = swt_trial_choose(k->t, 0, 2);
    s->step = 70;
    s->skipped = 5;
    s->skipped_in_row = swt_trial_choose(k->t, 0, (int)a->skips_most);
    s->skipped_step = 60;
    swt_case_dim(k, "n", &a->n, swt_trial_choose(k->t, 1, 40));
    a->max_norm = k->number % 3 == 0 ? 0 : swt_trial_draw(k->t) * 10;
    double *squares = swt_case_uniform(k, a->n, SWT_F64, 0, 1);
    int64_t *ranks = swt_trial_in(k->t, 1, SWT_I64);
    if (bad && k->number % 3 == 0)
        squares[a->n / 2] = NAN;
    else if (bad && k->number % 3 == 1)
        s->nonfinite = SWT_STEP_BAD;
    else
        *ranks = bad;
    a->squares = squares;
    a->nonfinite_ranks = ranks;
    swt_case_note(k, "bad", bad);
    swt_case_note(k, "skips_most", a->skips_most);
    swt_case_note(k, "skipped_in_row", s->skipped_in_row);
}

void swt_judge_state_clip(swt_case *k, const void *args) {
    const swt_state_clip_args *a = args;
    const swt_step_state *old = swt_case_before(k, k->t->state), *s = k->t->state;
    double sum = 0;
    for (int64_t i = 0; i < a->n; i++)
        sum += a->squares[i];
    const bool bad = isnan(sum) || *a->nonfinite_ranks != 0 || old->nonfinite != 0;
    const bool left_out = bad && old->skipped_in_row < a->skips_most;
    const double norm = sqrt(sum), clip = fmin(1, a->max_norm / (norm + 1e-6));
    const double flag = !bad ? 0 : left_out ? SWT_STEP_BAD : SWT_STEP_STOPPED;
    const double in_row = (double)old->skipped_in_row;
    swt_trial_number(k->t, "nonfinite", (double)s->nonfinite, flag, 0);
    swt_trial_number(k->t, "skipped", (double)s->skipped, 5 + left_out, 0);
    swt_trial_number(k->t, "skipped_in_row", (double)s->skipped_in_row,
                     !bad ? 0 : in_row + left_out, 0);
    swt_trial_number(k->t, "skipped_step", (double)s->skipped_step, left_out ? 70 : 60, 0);
    if (bad)
        return;
    swt_trial_number(k->t, "grad_norm", s->grad_norm, norm, 0x1p-51 * norm);
    swt_trial_number(k->t, "clip", s->clip, a->max_norm == 0 ? 1 : clip, 0x1p-51);
}

/* ---- exact sums */

/* Gradients of all sizes, from 2^-60 (which counts as 0) to 2^10. */
static float *draw_gradients(swt_trial *t, int64_t n) {
    float *grad = swt_trial_uniform(t, n, -1, 1);
    for (int64_t i = 0; i < n; i++)
        grad[i] = ldexpf(grad[i], swt_trial_choose(t, -60, 10));
    return grad;
}

/* Every third case has a number that must not be added. */
void swt_draw_grad_add(swt_case *k, void *args) {
    static const float bad[] = {NAN, INFINITY, -INFINITY, 0x1.000002p12f, -3e38f};
    swt_grad_add_args *a = args;
    swt_case_dim(k, "n", &a->n, draw_count(k, 1));
    a->first = swt_case_note(k, "first", k->number % 2);
    a->limit = 0x1p60;
    float *grad = draw_gradients(k->t, a->n);
    if (k->number % 3 == 0) {
        swt_trial_release_state(k->t);
        grad[a->n / 2] = bad[k->number / 3 % 5];
    }
    a->grad = grad;
    a->sum = swt_trial_out(k->t, a->n, SWT_I64);
    for (int64_t i = 0; i < a->n && !a->first; i++)
        a->sum[i] = (int64_t)ldexp(swt_trial_draw(k->t) - 0.5, swt_trial_choose(k->t, 1, 60));
}

void swt_judge_grad_add(swt_case *k, const void *args) {
    const swt_grad_add_args *a = args;
    const int64_t *old = swt_case_before(k, a->sum);
    int64_t *want = swt_trial_in(k->t, a->n, SWT_I64);
    bool bad = false;
    for (int64_t i = 0; i < a->n; i++) {
        const double q = rint((double)a->grad[i] * 0x1p48);
        const bool good = fabs(q) <= a->limit;
        want[i] = (a->first ? 0 : old[i]) + (good ? (int64_t)q : 0);
        bad = bad || !good;
    }
    swt_trial_same(k->t, "sum", a->sum, want, a->n, SWT_I64);
    swt_trial_number(k->t, "nonfinite", k->t->state->nonfinite != 0, bad, 0);
}

void swt_draw_grad_finish(swt_case *k, void *args) {
    swt_grad_finish_args *a = args;
    swt_case_dim(k, "n", &a->n, draw_count(k, 1));
    int64_t *sum = swt_trial_in(k->t, a->n, SWT_I64);
    for (int64_t i = 0; i < a->n; i++)
        sum[i] = (int64_t)ldexp(swt_trial_draw(k->t) - 0.5, swt_trial_choose(k->t, 1, 62));
    a->sum = sum;
}

void swt_judge_grad_finish(swt_case *k, const void *args) {
    const swt_grad_finish_args *a = args;
    for (int64_t i = 0; i < a->n; i++)
        swt_case_number(k, a->grad, i, (double)(float)((double)a->sum[i] * 0x1p-48), 0);
}

/* Tensors of random length, one after the other, their sums written in another order. */
void swt_draw_grad_squares(swt_case *k, void *args) {
    enum { SPANS = 7 };
    swt_grad_squares_args *a = args;
    swt_case_dim(k, "spans", &a->n_spans, SPANS);
    swt_span *spans = swt_trial_in(k->t, SPANS * (int64_t)sizeof *spans, SWT_U8);
    int64_t end = 0;
    for (int s = 0; s < SPANS; s++) {
        spans[s] = (swt_span){end, s == 6 ? 9000 : draw_count(k, 0), (s + 3) % 7};
        end += spans[s].count;
    }
    a->spans = spans;
    a->grad = draw_gradients(k->t, end + 1);
    a->squares = swt_trial_out(k->t, SPANS, SWT_F64);
}

void swt_judge_grad_squares(swt_case *k, const void *args) {
    const swt_grad_squares_args *a = args;
    for (const swt_span *span = a->spans; span < a->spans + a->n_spans; span++) {
        double want = 0;
        for (int64_t i = span->offset; i < span->offset + span->count; i++)
            want += (double)a->grad[i] * (double)a->grad[i];
        /* Positive terms, each exact in double: at most count roundings in either sum. */
        swt_case_number(k, a->squares, span->index, want,
                        want * 2 * (double)(span->count + 1) * 0x1p-53);
    }
}

/* ---- optimisers */

void swt_draw_adam(swt_case *k, void *args) {
    static const swt_adam_hyper hypers[] = {
        {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .eps_uncorrected = true},
        {.beta1 = 0.9, .beta2 = 0.98, .eps = 1e-2, .weight_decay = 0.1},
        {.beta1 = 0, .beta2 = 0, .eps = 1e-3}};
    swt_adam_args *a = args;
    swt_step_state *s = k->t->state;
    swt_case_dim(k, "n", &a->n, draw_count(k, 1));
    a->hyper = hypers[swt_case_note(k, "hyper", k->number % 3)];
    a->m = swt_trial_copy(k->t, swt_trial_uniform(k->t, a->n, -1, 1), a->n, SWT_F32);
    a->v = swt_trial_copy(k->t, swt_trial_uniform(k->t, a->n, 0, 1), a->n, SWT_F32);
    float *grad = swt_trial_uniform(k->t, a->n, -1, 1);
    for (int64_t i = 0; i < a->n; i++) { /* of very different sizes, and zeros as at the start */
        grad[i] *= i % 7 == 3 ? 0 : powf(10, (float)swt_trial_choose(k->t, -6, 3));
        if (i % 5 == 0)
            a->m[i] = a->v[i] = 0;
    }
    a->grad = grad;
    s->lr = 0.01;
    s->correction1 = 1 - pow(a->hyper.beta1, 7);
    s->correction2 = 1 - pow(a->hyper.beta2, 7);
    s->clip = 0.37;
    s->nonfinite = swt_case_note(k, "stopped", k->number % 4 == 3);
}

/* m: two products and a sum, which may cancel, so the error is of the size of its parts. v: the
 * roundings of clip, of g (both squared), of g^2, of 1 - beta2, of their product and of the sum: 8.
 * param: two roundings of itself and some eight of its change, relative to the parts of m. */
void swt_judge_adam(swt_case *k, const void *args) {
    const swt_adam_args *a = args;
    const swt_adam_hyper *h = &a->hyper;
    const swt_step_state *s = k->t->state;
    const double *param = swt_case_wide(k, a->param), *m = swt_case_wide(k, a->m),
                 *v = swt_case_wide(k, a->v);
    for (int64_t i = 0; i < a->n; i++) {
        if (s->nonfinite) {
            swt_case_number(k, a->param, i, param[i], 0);
            swt_case_number(k, a->m, i, m[i], 0);
            swt_case_number(k, a->v, i, v[i], 0);
            continue;
        }
        const double g = s->clip * (double)a->grad[i];
        const double new_m = h->beta1 * m[i] + (1 - h->beta1) * g;
        const double new_v = h->beta2 * v[i] + (1 - h->beta2) * g * g;
        const double kept = param[i] * (1 - s->lr * h->weight_decay);
        const double step =
            h->eps_uncorrected
                ? s->lr * sqrt(s->correction2) / s->correction1 * new_m / (sqrt(new_v) + h->eps)
                : s->lr * (new_m / s->correction1) / (sqrt(new_v / s->correction2) + h->eps);
        const double parts = fabs(m[i]) + fabs((double)a->grad[i]);
        const double change =
            fabs(kept - step - param[i]) + (new_v > 0 ? s->lr * parts / sqrt(new_v) : 0);
        swt_case_number(k, a->m, i, new_m, 3 * SWT_ROUNDING * parts + 1e-44);
        swt_case_number(k, a->v, i, new_v, 8 * SWT_ROUNDING * new_v + 1e-44);
        swt_case_number(k, a->param, i, kept - step,
                        SWT_ROUNDING * (3 * fabs(param[i]) + 8 * change));
    }
}

void swt_draw_sgd(swt_case *k, void *args) {
    swt_sgd_args *a = args;
    swt_case_dim(k, "n", &a->n, draw_count(k, 1));
    a->grad = swt_trial_uniform(k->t, a->n, -3, 3);
    k->t->state->lr = 0.3;
    k->t->state->clip = 0.7;
    k->t->state->nonfinite = swt_case_note(k, "stopped", k->number % 4 == 3);
}

/* One rounding of the result, three of the change. */
void swt_judge_sgd(swt_case *k, const void *args) {
    const swt_sgd_args *a = args;
    const bool stopped = k->t->state->nonfinite != 0;
    const double *param = swt_case_wide(k, a->param);
    for (int64_t i = 0; i < a->n; i++) {
        const double change = stopped ? 0 : 0.3 * 0.7 * (double)a->grad[i];
        const double want = param[i] - change;
        swt_case_number(k, a->param, i, want,
                        stopped ? 0 : SWT_ROUNDING * (fabs(want) + 3 * fabs(change)));
    }
}

/* Rows and columns of zeros, a tensor of zeros, tensors that are small; numbers of very different
 * sizes. Odd columns have no vectors, many rows several blocks. */
void swt_draw_adafactor(swt_case *k, void *args) {
    static const swt_adafactor_hyper hypers[] = {{.clip_update = 1, .scale_parameter = true},
                                                 {.clip_update = 0.01},
                                                 {.clip_update = 1e6, .scale_parameter = true}};
    swt_adafactor_args *a = args;
    swt_step_state *s = k->t->state;
    const int most = k->t->large ? 300 : 70;
    swt_case_dim(k, "n", &a->n, swt_trial_choose(k->t, 1, 3));
    swt_case_dim(k, "rows", &a->rows, swt_trial_choose(k->t, 1, most));
    swt_case_dim(k, "cols", &a->cols,
                 k->number % 2 == 0 ? 4 * swt_trial_choose(k->t, 1, most / 4)
                                    : swt_trial_choose(k->t, 1, 2 * most));
    a->hyper = hypers[swt_case_note(k, "hyper", k->number % 3)];
    const int64_t count = a->n * a->rows * a->cols;
    const double size = k->number % 5 == 2 ? 1e-5 : 1;
    a->param = swt_trial_copy(k->t, swt_trial_uniform(k->t, count, -size, size), count, SWT_F32);
    a->col = swt_trial_copy(k->t, swt_trial_uniform(k->t, a->n * a->cols, 0, 1), a->n * a->cols,
                            SWT_F32);
    if ((k->number & 1) != 0)
        a->row = swt_trial_copy(k->t, swt_trial_uniform(k->t, a->n * a->rows, 0, 1), a->n * a->rows,
                                SWT_F32);
    float *grad = swt_trial_uniform(k->t, count, -1, 1);
    for (int64_t i = 0; i < count; i++) {
        const int64_t column = i % a->cols, row = i / a->cols, tensor = row / a->rows;
        const bool zero = column % 7 == 3 || row % 5 == 3 || (tensor == 1 && k->number % 4 == 2);
        grad[i] *= zero ? 0 : powf(10, (float)swt_trial_choose(k->t, -6, 3));
    }
    a->grad = grad;
    s->step = k->number == 0 ? 1 : swt_trial_choose(k->t, 1, 5000);
    s->lr = 0.01;
    s->clip = 0.37;
    s->nonfinite = swt_case_note(k, "stopped", k->number % 8 == 7);
}

/* The factors of rows or of columns: their sums are in F64, so that what shows is one rounding. */
static void judge_factors(swt_case *k, const swt_adafactor_args *a, const float *factors,
                          bool of_rows) {
    const swt_step_state *s = k->t->state;
    const double *old = swt_case_wide(k, factors), d = 1 - pow((double)s->step, -0.8);
    const int64_t n = of_rows ? a->rows : a->cols, along = of_rows ? a->cols : a->rows;
    for (int64_t i = 0; i < a->n * n && factors != NULL; i++) {
        const float *first = a->grad + i / n * a->rows * a->cols + i % n * (of_rows ? a->cols : 1);
        double mean = 0;
        for (int64_t j = 0; j < along; j++)
            mean += pow(s->clip * (double)first[j * (of_rows ? 1 : a->cols)], 2) / (double)along;
        const double want = d * old[i] + (1 - d) * (mean + 1e-30);
        swt_case_number(k, factors, i, s->nonfinite ? old[i] : want,
                        s->nonfinite ? 0 : 1.01 * SWT_ROUNDING * want);
    }
}

/* Factors as they came out. u has 4 roundings (of each factor's root, and of two products), and so
 * has its RMS; the step, its product with u and the result one each. */
static void judge_tensor(swt_case *k, const swt_adafactor_args *a, int64_t tensor,
                         const double *param) {
    const swt_step_state *s = k->t->state;
    const int64_t count = a->rows * a->cols, begin = tensor * count;
    const float *row = a->row != NULL ? a->row + tensor * a->rows : NULL,
                *col = a->col + tensor * a->cols;
    double *u = swt_trial_doubles(k->t, count), mean_row = 0, u_squares = 0, squares = 0;
    for (int64_t i = 0; i < a->rows && row != NULL; i++)
        mean_row += (double)row[i] / (double)a->rows;
    for (int64_t i = 0; i < count; i++) {
        const double share = row != NULL ? (double)row[i / a->cols] / mean_row : 1;
        u[i] = s->clip * (double)a->grad[begin + i] / sqrt(share * (double)col[i % a->cols]);
        u_squares += u[i] * u[i];
        squares += param[begin + i] * param[begin + i];
    }
    const double size = a->hyper.scale_parameter ? fmax(1e-3, sqrt(squares / (double)count)) : 1;
    const double over = fmax(1, sqrt(u_squares / (double)count) / a->hyper.clip_update);
    for (int64_t i = 0; i < count; i++) {
        const double change = s->nonfinite ? 0 : s->lr * size * u[i] / over;
        const double want = param[begin + i] - change;
        swt_case_number(k, a->param, begin + i, want,
                        s->nonfinite ? 0 : SWT_ROUNDING * (fabs(want) + 10 * fabs(change)));
    }
}

void swt_judge_adafactor(swt_case *k, const void *args) {
    const swt_adafactor_args *a = args;
    const double *param = swt_case_wide(k, a->param);
    judge_factors(k, a, a->row, true);
    judge_factors(k, a, a->col, false);
    for (int64_t i = 0; i < a->n; i++)
        judge_tensor(k, a, i, param);
}

void swt_draw_cast(swt_case *k, void *args) {
    swt_cast_args *a = args;
    swt_case_dim(k, "n", &a->n, draw_count(k, 1));
    float *from = swt_trial_uniform(k->t, a->n, -3, 3);
    from[0] = 1.0f + 0x3p-8f;        /* half way: the even one is above; */
    from[a->n / 2] = 1.0f + 0x1p-8f; /* below */
    a->from = from;
}

/* F32 stays what it is. The nearest BF16 is found by search: no BF16 is closer, and of two that are
 * as close it is the even one. */
void swt_judge_cast(swt_case *k, const void *args) {
    const swt_cast_args *a = args;
    for (int64_t i = 0; i < a->n; i++) {
        if (k->t->ctx.dtype == SWT_F32) {
            swt_case_number(k, a->to, i, (double)a->from[i], 0);
            continue;
        }
        const uint16_t got = ((const uint16_t *)a->to)[i];
        const double x = (double)a->from[i], error = fabs((double)swt_bf16_to_float(got) - x);
        bool best = true;
        for (int step = -1; step <= 1; step += 2) {
            const double other = fabs((double)swt_bf16_to_float((uint16_t)(got + step)) - x);
            best = best && (error < other || (error == other && got % 2 == 0) || isnan(other));
        }
        swt_trial_number(k->t, "nearest BF16", best, true, 0);
    }
}
