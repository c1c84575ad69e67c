/* Dropout against the oracle: all rows of one block, and occupied rows of several. */
#include "judge/case.h"
#include "judge/oracle.h"

#include <math.h>

/* Shapes of a large trial: blocks, rows, C. */
enum { SHAPES = 8 };
static const int64_t shapes[SHAPES][3] = {
    {1, 300, 200}, {3, 70, 5},   {1, 0, 16},   {2, 7, 1000},
    {1, 65, 64},   {6, 33, 130}, {1, 2000, 1}, {4, 20, 63},
};

void swt_draw_dropout(swt_case *k, void *args) {
    swt_dropout_args *a = args;
    swt_dropout_dims *d = &a->dims;
    const int64_t *shape = shapes[k->number % SHAPES];
    const bool large = k->t->large;
    swt_case_dim(k, "blocks", &d->blocks, large ? shape[0] : swt_trial_choose(k->t, 1, 6));
    swt_case_dim(k, "rows", &d->rows, large ? shape[1] : swt_trial_size(k->t, 33));
    swt_case_dim(k, "C", &d->C, large ? shape[2] : swt_trial_size(k->t, 130));
    d->sources = swt_case_note(k, "sources", swt_trial_choose(k->t, 1, 3));
    d->expert_step = swt_case_note(k, "expert_step", swt_trial_choose(k->t, 0, 1000));
    d->source_step = swt_case_note(k, "source_step", swt_trial_choose(k->t, 0, 1000));
    /* Row numbers wrap in every second case. */
    a->mask = swt_dropout_mask_of(0.1 + 0.2 * (k->number % 4), SWT_DROPOUT_HIDDEN, 5,
                                  k->number & 1 ? UINT32_MAX : 12);
    k->choices &= 3; /* x is y; residual; counts are drawn here */
    if (k->number & 4)
        a->row_counts = swt_trial_integers(k->t, d->blocks, 0, (int)d->rows);
}

/* A product and a sum, of which a processor may make one rounding. What is dropped is exact. */
void swt_judge_dropout(swt_case *k, const void *args) {
    const swt_dropout_args *a = args;
    const swt_dropout_dims *d = &a->dims;
    const double *x = swt_case_wide(k, a->x), *residual = swt_case_wide(k, a->residual);
    const swt_step_state *state = k->t->state;
    for (int64_t row = 0; row < d->blocks * d->rows; row++) {
        const int64_t block = row / d->rows, r = row % d->rows;
        const int64_t number =
            block / d->sources * d->expert_step + block % d->sources * d->source_step + r;
        if (a->row_counts != NULL && r >= a->row_counts[block])
            continue;
        for (int64_t i = row * d->C; i < (row + 1) * d->C; i++) {
            const double m =
                swt_oracle_dropout(&a->mask, state->seed, state->step, number, i - row * d->C, 0);
            const double want = m * x[i] + (residual != NULL ? residual[i] : 0);
            const double limit = 2 * SWT_ROUNDING * (fabs(m * x[i]) + fabs(want));
            if (m == 0)
                swt_case_number(k, a->y, i, want, 0);
            else
                swt_case_near(k, a->y, i, want, limit);
        }
    }
    if (a->row_counts != NULL && !k->t->ctx.ops->all_slots)
        swt_case_empty_slots(k, a->y, a->row_counts, d->blocks, d->rows, d->C, false);
}
