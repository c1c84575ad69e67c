#include "kernels/adafactor_scratch.h"
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <string.h>

enum {
    ROWS = SWT_ADAFACTOR_ROWS, /* of a part */
    COLUMNS = 512              /* of a part that adds the blocks' sums */
};

/* The operation, and where its scratch is. */
typedef struct work {
    const swt_adafactor_args *a;
    int64_t blocks, tiles; /* of a tensor: of rows, of columns */
    double *columns, *param_squares, *u_squares;
    float *row_scale, *col_scale, *step;
} work;

static work work_of(const swt_adafactor_args *a) {
    const swt_adafactor_scratch s = swt_adafactor_scratch_of(a->n, a->rows, a->cols);
    unsigned char *const scratch = a->scratch;
    return (work){.a = a,
                  .blocks = s.blocks,
                  .tiles = swt_ceil_div(a->cols, COLUMNS),
                  .columns = (double *)(void *)(scratch + s.columns),
                  .param_squares = (double *)(void *)(scratch + s.param_squares),
                  .u_squares = (double *)(void *)(scratch + s.u_squares),
                  .row_scale = (float *)(void *)(scratch + s.row_scale),
                  .col_scale = (float *)(void *)(scratch + s.col_scale),
                  .step = (float *)(void *)(scratch + s.step)};
}

/* The rows of a part, counted over all tensors. */
typedef struct some_rows {
    int64_t tensor, first, end;
} some_rows;

static some_rows rows_of(const work *w, int64_t part) {
    const int64_t tensor = part / w->blocks, first = part % w->blocks * ROWS, rows = w->a->rows;
    return (some_rows){tensor, tensor * rows + first, tensor * rows + swt_min(first + ROWS, rows)};
}

/* Sums of squares: of each row, which becomes its new factor, and of a block's columns. */
static void sums_part(const swt_ctx *c, const void *args, int64_t part) {
    const work *w = args;
    const swt_adafactor_args *a = w->a;
    const double keep = swt_adafactor_keep(c->state), clip = c->state->clip;
    const some_rows r = rows_of(w, part);
    double *columns = w->columns + part * a->cols;
    memset(columns, 0, (size_t)a->cols * sizeof *columns);
    for (int64_t i = r.first; i < r.end; i++) {
        const double sum = swt_cpu_vec(c)->factor_squares(columns, a->grad + i * a->cols, a->cols);
        w->param_squares[i] = swt_cpu_vec(c)->sum_squares(a->param + i * a->cols, a->cols);
        if (a->row != NULL)
            a->row[i] = swt_adafactor_factor(keep, a->row[i], clip * clip * sum / (double)a->cols);
    }
}

static void columns_part(const swt_ctx *c, const void *args, int64_t part) {
    const work *w = args;
    const swt_adafactor_args *a = w->a;
    const double keep = swt_adafactor_keep(c->state), clip = c->state->clip;
    const int64_t tensor = part / w->tiles, first = part % w->tiles * COLUMNS;
    const int64_t end = swt_min(first + COLUMNS, a->cols);
    const double *sums = w->columns + tensor * w->blocks * a->cols;
    for (int64_t j = first; j < end; j++) {
        const int64_t at = tensor * a->cols + j;
        double sum = 0.0;
        for (int64_t b = 0; b < w->blocks; b++)
            sum += sums[b * a->cols + j];
        a->col[at] = swt_adafactor_factor(keep, a->col[at], clip * clip * sum / (double)a->rows);
        w->col_scale[at] = (float)(1.0 / sqrt((double)a->col[at]));
    }
}

static void row_scales_part(const swt_ctx *c, const void *args, int64_t tensor) {
    const work *w = args;
    const swt_adafactor_args *a = w->a;
    const int64_t first = tensor * a->rows, end = first + a->rows;
    double sum = 0.0;
    for (int64_t i = first; i < end && a->row != NULL; i++)
        sum += (double)a->row[i];
    const double mean = sum / (double)a->rows;
    for (int64_t i = first; i < end; i++)
        w->row_scale[i] = (float)(a->row != NULL ? c->state->clip / sqrt((double)a->row[i] / mean)
                                                 : c->state->clip);
}

static void u_part(const swt_ctx *c, const void *args, int64_t part) {
    const work *w = args;
    const swt_adafactor_args *a = w->a;
    const some_rows r = rows_of(w, part);
    for (int64_t i = r.first; i < r.end; i++)
        w->u_squares[i] = swt_cpu_vec(c)->factored_squares(
            a->grad + i * a->cols, w->row_scale[i], w->col_scale + r.tensor * a->cols, a->cols);
}

static void step_part(const swt_ctx *c, const void *args, int64_t tensor) {
    const work *w = args;
    const swt_adafactor_args *a = w->a;
    const double count = (double)a->rows * (double)a->cols;
    double u = 0.0, param = 0.0;
    for (int64_t i = tensor * a->rows; i < (tensor + 1) * a->rows; i++) {
        u += w->u_squares[i];
        param += w->param_squares[i];
    }
    w->step[tensor] = swt_adafactor_step(c->state, &a->hyper, u / count, param / count);
}

static void update_part(const swt_ctx *c, const void *args, int64_t part) {
    const work *w = args;
    const swt_adafactor_args *a = w->a;
    const some_rows r = rows_of(w, part);
    for (int64_t i = r.first; i < r.end; i++)
        swt_cpu_vec(c)->factored_update(a->param + i * a->cols, a->grad + i * a->cols,
                                        w->row_scale[i], w->col_scale + r.tensor * a->cols,
                                        w->step[r.tensor], a->cols);
}

swt_status swt_cpu_adafactor(const swt_ctx *c, const swt_adafactor_args *a) {
    if (c->state->nonfinite || a->rows == 0 || a->cols == 0)
        return SWT_OK;
    const work w = work_of(a);
    const int64_t parts = a->n * w.blocks;
    swt_cpu_run(c, parts, sums_part, &w);
    swt_cpu_run(c, a->n * w.tiles, columns_part, &w);
    swt_cpu_run(c, a->n, row_scales_part, &w);
    swt_cpu_run(c, parts, u_part, &w);
    swt_cpu_run(c, a->n, step_part, &w);
    swt_cpu_run(c, parts, update_part, &w);
    return SWT_OK;
}
