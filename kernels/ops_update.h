/* Operations on gradients and the step's state: exact sums, the clip norm, the optimisers. The
 * conventions stand in swt_ops.h, which includes this. */
#ifndef SWT_OPS_UPDATE_H
#define SWT_OPS_UPDATE_H

#include "kernels/swt_ctx.h"

typedef enum swt_schedule_kind {
    SWT_SCHEDULE_NOAM,
    SWT_SCHEDULE_RSQRT,
    SWT_SCHEDULE_CONSTANT,
    SWT_SCHEDULE_COSINE
} swt_schedule_kind;

typedef struct swt_schedule {
    swt_schedule_kind kind;
    double lr, warmup_steps, width, total_steps, beta1, beta2;
    double min_lr; /* of cosine: at the last step */
} swt_schedule;

/* Begin update t = ++state.step, without the SWT_STEP_BAD that the step before may have left. Once
 * state.nonfinite is SWT_STEP_STOPPED it stays so, and the step that of the gradient that did it.
 * Then  correction1 = 1 - beta1^t, correction2 = 1 - beta2^t, and
 * noam: lr width^-0.5 min(t^-0.5, t warmup^-1.5);  rsqrt: lr max(t, warmup)^-0.5;  constant: lr;
 * cosine: lr t / warmup up to warmup, then min_lr + (lr - min_lr) (1 + cos(pi (t - warmup) / (total
 * - warmup))) / 2. */
typedef struct swt_state_advance_args {
    swt_schedule schedule;
} swt_state_advance_args;

/* count[0] = number of targets >= 0. */
typedef struct swt_count_targets_args {
    int64_t *count;         /* (1) */
    const int32_t *targets; /* (n) */
    int64_t n;
} swt_count_targets_args;

/* sum = q for the first micro-batch of a step, else sum += q, with q = rint((double)grad * 2^48):
 * the exact sum of micro-batches in any order. A gradient that is not finite or whose |q| > limit
 * sets state.nonfinite to SWT_STEP_BAD and counts as 0. */
typedef struct swt_grad_add_args {
    int64_t *sum;      /* (n) */
    const float *grad; /* (n) */
    int64_t n;
    double limit; /* 2^62 / M */
    bool first;
} swt_grad_add_args;

/* grad = (float)((double)sum * 2^-48). */
typedef struct swt_grad_finish_args {
    float *grad;        /* (n) */
    const int64_t *sum; /* (n) */
    int64_t n;
} swt_grad_finish_args;

/* A named tensor inside a flat gradient array, and where its sum of squares goes. */
typedef struct swt_span {
    int64_t offset, count, index;
} swt_span;

/* squares[span.index] = sum of grad[i]^2 over the span, in F64, over fixed blocks of the span. What
 * the spans cover is known to the caller alone: squares and grad are checked for presence. */
typedef struct swt_grad_squares_args {
    double *squares;       /* at every span's index */
    const float *grad;     /* all spans */
    const swt_span *spans; /* (n_spans) in backend memory */
    int64_t n_spans;
} swt_grad_squares_args;

/* state.grad_norm = sqrt(sum of squares[i], in an order that n alone decides); state.clip = min(1,
 * max_norm / (norm + 1e-6)), 1 if max_norm is 0.
 *
 * The step is bad where the norm is not finite, state.nonfinite is set, or nonfinite_ranks[0] != 0
 * (the flags summed over all ranks). It is left out as long as fewer than skips_most steps before
 * it were, in a row: SWT_STEP_BAD, and skipped, skipped_in_row and skipped_step count it. Else
 * SWT_STEP_STOPPED. A step that is not bad ends the row: skipped_in_row = 0. */
typedef struct swt_state_clip_args {
    const double *squares;          /* (n) */
    const int64_t *nonfinite_ranks; /* (1) */
    int64_t n;
    double max_norm;
    int64_t skips_most; /* 0: the first bad step stops the run */
} swt_state_clip_args;

/* What a bad step becomes, for both backends: left out, while no more than skips_most in a row are,
 * else the end of the run. A good one ends the row. */
static inline SWT_ON_ANY void swt_step_judge(swt_step_state *state, bool bad, int64_t skips_most) {
    if (!bad) {
        state->skipped_in_row = 0;
    } else if (state->skipped_in_row < skips_most) {
        state->nonfinite = SWT_STEP_BAD;
        state->skipped++;
        state->skipped_in_row++;
        state->skipped_step = state->step;
    } else {
        state->nonfinite = SWT_STEP_STOPPED;
    }
}

typedef struct swt_adam_hyper {
    double beta1, beta2, eps, weight_decay;
    bool eps_uncorrected;
} swt_adam_hyper;

/* With g = clip grad:  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;
 * param *= 1 - lr weight_decay;
 * eps_uncorrected (labml): param -= lr sqrt(correction2) / correction1 m / (sqrt(v) + eps);
 * else:                    param -= lr (m / correction1) / (sqrt(v / correction2) + eps).
 * Nothing changes once state.nonfinite is set. An element's result does not depend on its place in
 * the array. Source: Kingma, Ba 2015; decoupled decay: Loshchilov, Hutter 2019. */
typedef struct swt_adam_args {
    float *param, *m, *v; /* (n), updated */
    const float *grad;    /* (n) */
    int64_t n;
    swt_adam_hyper hyper;
} swt_adam_args;

/* param -= lr clip grad. Nothing changes once state.nonfinite is set. */
typedef struct swt_sgd_args {
    float *param;      /* (n), updated */
    const float *grad; /* (n) */
    int64_t n;
} swt_sgd_args;

typedef struct swt_adafactor_hyper {
    double clip_update;   /* the largest RMS of u */
    bool scale_parameter; /* lr is relative to the RMS of the parameter */
} swt_adafactor_hyper;

/* n tensors of one shape, side by side, each updated for itself. With g = clip grad, t = state.step
 * and d = 1 - t^-0.8:
 *   row[i] = d row[i] + (1 - d) (mean over j of g[i, j]^2 + 1e-30);   col[j] likewise over i;
 *   u[i, j] = g[i, j] / sqrt(row[i] / mean(row) col[j]);   without row: u[i, j] = g[i, j] /
 * sqrt(col[j]); u /= max(1, RMS(u) / clip_update); param -= lr max(1e-3, RMS(param)) u;   without
 * scale_parameter: param -= lr u. A vector is one row without row: col is its whole second moment.
 * What would not fit F32 becomes its largest number. Nothing changes once state.nonfinite is set. A
 * tensor's result does not depend on n and on its place among the n. Source: Shazeer, Stern 2018,
 * algorithms 4 and 5, without a first moment, as T5 has it. */
typedef struct swt_adafactor_args {
    float *param;      /* (n, rows, cols), updated */
    float *row;        /* (n, rows), updated, or NULL */
    float *col;        /* (n, cols), updated */
    const float *grad; /* (n, rows, cols) */
    void *scratch;     /* swt_adafactor_scratch_bytes(n, rows, cols) */
    int64_t n, rows, cols;
    swt_adafactor_hyper hyper;
} swt_adafactor_args;

/* -1 where it would wrap. */
int64_t swt_adafactor_scratch_bytes(int64_t n, int64_t rows, int64_t cols);

/* to = from in the activation type, to nearest, halves to even: what gemms read of the F32
 * parameters. */
typedef struct swt_cast_args {
    void *to;          /* (n) */
    const float *from; /* (n) */
    int64_t n;
} swt_cast_args;

#endif
