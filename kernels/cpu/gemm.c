#include "kernels/cpu/gemm.h"

#include "base/checked.h"

#include <string.h>

/* The gemm over steps first ... of k, b being that block of rows; sums of a longer k wait in
 * `partial` (SWT_ROWS, SWT_COLUMNS). */
static void run_steps(const swt_vec *vec, const swt_vec_gemm *whole, float *partial, int64_t first,
                      const float *b, int64_t b_step) {
    swt_vec_gemm p = *whole;
    p.a += first * p.a_step;
    p.b = b;
    p.b_step = b_step;
    p.k = swt_min(SWT_STEPS, whole->k - first);
    if (first > 0) {
        p.start = partial;
        p.start_stride = SWT_COLUMNS;
    }
    if (first + p.k < whole->k) {
        p.c = partial;
        p.c_stride = SWT_COLUMNS;
        p.bias = p.mask = p.residual = NULL;
        p.relu = false;
    }
    vec->gemm(&p);
}

/* The scratch of a block. */
typedef struct block_scratch {
    float partial[SWT_ROWS * SWT_COLUMNS], transposed[SWT_STEPS * SWT_COLUMNS];
} block_scratch;
_Static_assert(sizeof(block_scratch) <= SWT_SCRATCH_BYTES, "a thread's scratch");

void swt_cpu_block_nn(const swt_ctx *c, const swt_vec_gemm *p) {
    block_scratch *own = swt_cpu_scratch(c);
    int64_t first = 0;
    do {
        run_steps(swt_cpu_vec(c), p, own->partial, first, p->b + first * p->b_step, p->b_step);
        first += SWT_STEPS;
    } while (first < p->k);
}

void swt_cpu_block_nt(const swt_ctx *c, const swt_vec_gemm *p) {
    const swt_vec *vec = swt_cpu_vec(c);
    block_scratch *own = swt_cpu_scratch(c);
    int64_t first = 0;
    do {
        vec->transpose(own->transposed, SWT_COLUMNS, p->b + first, p->b_step, p->columns,
                       swt_min(SWT_STEPS, p->k - first));
        run_steps(vec, p, own->partial, first, own->transposed, SWT_COLUMNS);
        first += SWT_STEPS;
    } while (first < p->k);
}

/* ------------------------------------------------------------------ the layers' gemms */

typedef struct gemms_args {
    const swt_vec *vec;
    swt_cpu_groups groups;
    float *out, *dbias;
    const float *x, *dy, *w, *bias, *residual, *mask;
    swt_cpu_sums sums; /* tn_sums */
    int64_t in_width, out_width;
    bool relu, add;
} gemms_args;

/* Rows first ... of the buffers and columns column ... of the output. */
typedef struct block {
    int64_t weight, first, rows, column, columns;
} block;

static int64_t row_blocks(const swt_cpu_groups *g) {
    return swt_ceil_div(g->capacity, SWT_ROWS);
}

static int64_t row_parts(const swt_cpu_groups *g, int64_t width) {
    return g->weights * g->sources * row_blocks(g) * swt_ceil_div(width, SWT_COLUMNS);
}

static int64_t weight_parts(const swt_cpu_groups *g, int64_t in, int64_t out) {
    return g->weights * swt_ceil_div(in, SWT_COLUMNS) * swt_ceil_div(out, SWT_COLUMNS);
}

static int64_t occupied(const swt_cpu_groups *g, int64_t pair) {
    return g->rows != NULL ? g->rows[pair] : g->capacity;
}

/* Which block of an output of `width` columns a part is: the rows that are occupied are cut evenly.
 * Columns vary fastest, because they share rows. */
static block block_of(const swt_cpu_groups *g, int64_t width, int64_t part) {
    const int64_t strips = swt_ceil_div(width, SWT_COLUMNS), strip = part % strips;
    const int64_t pair = part / strips / row_blocks(g), begin = part / strips % row_blocks(g);
    const int64_t n = occupied(g, pair);
    const int64_t each = n > 0 ? swt_ceil_div(n, swt_ceil_div(n, SWT_ROWS)) : 0;
    return (block){.weight = pair / g->sources,
                   .first = pair * g->capacity + begin * each,
                   .rows = swt_min(each, n - begin * each),
                   .column = strip * SWT_COLUMNS,
                   .columns = swt_min(SWT_COLUMNS, width - strip * SWT_COLUMNS)};
}

static const float *slice(const float *base, int64_t offset) {
    return base != NULL ? base + offset : NULL;
}

static void nt_part(const swt_ctx *c, const void *args, int64_t part) {
    const gemms_args *a = args;
    const int64_t in = a->in_width, out = a->out_width;
    const block b = block_of(&a->groups, out, part);
    if (b.rows <= 0)
        return;
    const int64_t to = b.first * out + b.column;
    const swt_vec_gemm p = {.c = a->out + to,
                            .a = a->x + b.first * in,
                            .b = a->w + (b.weight * out + b.column) * in,
                            .bias = slice(a->bias, b.weight * out + b.column),
                            .residual = slice(a->residual, to),
                            .relu = a->relu,
                            .rows = b.rows,
                            .columns = b.columns,
                            .k = in,
                            .c_stride = out,
                            .a_row = in,
                            .a_step = 1,
                            .b_step = in};
    swt_cpu_block_nt(c, &p);
}

void swt_cpu_gemms_nt(const swt_ctx *c, const swt_cpu_groups *g, float *y, const float *x,
                      const float *w, const float *bias, const float *residual, bool relu,
                      int64_t in, int64_t out) {
    const gemms_args a = {.vec = swt_cpu_vec(c),
                          .groups = *g,
                          .out = y,
                          .x = x,
                          .w = w,
                          .bias = bias,
                          .residual = residual,
                          .relu = relu,
                          .in_width = in,
                          .out_width = out};
    swt_cpu_run(c, row_parts(g, out), nt_part, &a);
}

static void nn_part(const swt_ctx *c, const void *args, int64_t part) {
    const gemms_args *a = args;
    const int64_t in = a->in_width, out = a->out_width;
    const block b = block_of(&a->groups, in, part);
    if (b.rows <= 0)
        return;
    const int64_t to = b.first * in + b.column;
    const swt_vec_gemm p = {.c = a->out + to,
                            .a = a->dy + b.first * out,
                            .b = a->w + b.weight * out * in + b.column,
                            .mask = slice(a->mask, to),
                            .rows = b.rows,
                            .columns = b.columns,
                            .k = out,
                            .c_stride = in,
                            .a_row = out,
                            .a_step = 1,
                            .b_step = in};
    swt_cpu_block_nn(c, &p);
}

void swt_cpu_gemms_nn(const swt_ctx *c, const swt_cpu_groups *g, float *dx, const float *dy,
                      const float *w, const float *mask, int64_t in, int64_t out) {
    const gemms_args a = {.vec = swt_cpu_vec(c),
                          .groups = *g,
                          .out = dx,
                          .dy = dy,
                          .w = w,
                          .mask = mask,
                          .in_width = in,
                          .out_width = out};
    swt_cpu_run(c, row_parts(g, in), nn_part, &a);
}

/* A block of weights' gradients: rows o ... and columns i ... of dw[weight]. */
typedef struct weight_block {
    int64_t weight, o, outs, i, ins;
} weight_block;

static weight_block weight_block_of(int64_t in, int64_t out, int64_t part) {
    const int64_t strips = swt_ceil_div(in, SWT_COLUMNS), tall = swt_ceil_div(out, SWT_COLUMNS);
    const int64_t o = part / strips % tall * SWT_COLUMNS, i = part % strips * SWT_COLUMNS;
    return (weight_block){.weight = part / strips / tall,
                          .o = o,
                          .outs = swt_min(SWT_COLUMNS, out - o),
                          .i = i,
                          .ins = swt_min(SWT_COLUMNS, in - i)};
}

/* The gradients of one source in the block at dw, whose rows are `stride` apart, and of its biases
 * (dbias may be NULL); add: added to what is there. */
static void tn_source(const gemms_args *a, const weight_block *b, int64_t pair, float *dw,
                      int64_t stride, float *dbias, bool add) {
    const int64_t in = a->in_width, out = a->out_width, n = occupied(&a->groups, pair);
    const int64_t row = pair * a->groups.capacity;
    int64_t first = 0;
    do {
        const bool more = add || first > 0;
        const int64_t rows = swt_min(SWT_SUM_ROWS, n - first);
        const swt_vec_gemm p = {.c = dw,
                                .a = a->dy + (row + first) * out + b->o,
                                .b = a->x + (row + first) * in + b->i,
                                .residual = more ? dw : NULL,
                                .rows = b->outs,
                                .columns = b->ins,
                                .k = rows,
                                .c_stride = stride,
                                .a_row = 1,
                                .a_step = out,
                                .b_step = in};
        a->vec->gemm(&p);
        if (dbias != NULL)
            a->vec->column_sum(dbias, p.a, rows, out, b->outs, more);
        first += SWT_SUM_ROWS;
    } while (first < n);
}

/* All sources in order; zeros where there is nothing to add. */
static void tn_part(const swt_ctx *c, const void *args, int64_t part) {
    const gemms_args *a = args;
    const int64_t in = a->in_width, out = a->out_width, sources = a->groups.sources;
    const weight_block b = weight_block_of(in, out, part);
    float *dw = a->out + (b.weight * out + b.o) * in + b.i;
    float *dbias = a->dbias != NULL && b.i == 0 ? a->dbias + b.weight * out + b.o : NULL;
    bool add = a->add;
    (void)c;
    for (int64_t s = 0; s < sources; s++) {
        const bool last = s == sources - 1;
        if (occupied(&a->groups, b.weight * sources + s) == 0 && (add || !last))
            continue;
        tn_source(a, &b, b.weight * sources + s, dw, in, dbias, add);
        add = true;
    }
}

void swt_cpu_gemms_tn(const swt_ctx *c, const swt_cpu_groups *g, float *dw, float *dbias,
                      const float *dy, const float *x, int64_t in, int64_t out, bool add) {
    const gemms_args a = {.vec = swt_cpu_vec(c),
                          .groups = *g,
                          .out = dw,
                          .dbias = dbias,
                          .dy = dy,
                          .x = x,
                          .in_width = in,
                          .out_width = out,
                          .add = add};
    swt_cpu_run(c, weight_parts(g, in, out), tn_part, &a);
}

/* Into the second-level cache while the gemms run: rows this far apart the processor does not
 * foresee. */
static void prefetch_rows(const int64_t *from, int64_t stride, int64_t rows, int64_t columns) {
    enum { LINE = 64 / sizeof *from };
    for (int64_t row = 0; row < rows; row++)
        for (int64_t column = 0; column < columns; column += LINE)
            __builtin_prefetch(from + row * stride + column, 0, 2);
}

/* The sums of one block of a weight's gradient, or of its bias. */
typedef struct sum_block {
    int64_t *sum; /* rows `stride` apart; this call's own where it is the first and the last */
    int64_t stride, rows, columns;
} sum_block;

static void add_block(const swt_ctx *c, const gemms_args *a, const sum_block *b, const float *from,
                      bool first) {
    for (int64_t row = 0; row < b->rows; row++)
        swt_cpu_add_sums(c, b->sum + row * b->stride, from + row * SWT_COLUMNS, b->columns,
                         a->sums.limit, first);
}

static void finish_block(const gemms_args *a, const sum_block *b, float *to, int64_t stride) {
    for (int64_t row = 0; row < b->rows; row++)
        a->vec->grad_finish(to + row * stride, b->sum + row * b->stride, b->columns);
}

static void clear_block(const sum_block *b) {
    for (int64_t row = 0; row < b->rows; row++)
        memset(b->sum + row * b->stride, 0, (size_t)b->columns * sizeof *b->sum);
}

/* The scratch of a block of sums. */
typedef struct sums_scratch {
    _Alignas(64) int64_t own[SWT_COLUMNS * SWT_COLUMNS];
    int64_t own_bias[SWT_COLUMNS];
    float dw[SWT_COLUMNS * SWT_COLUMNS], dbias[SWT_COLUMNS];
} sums_scratch;
_Static_assert(sizeof(sums_scratch) <= SWT_SCRATCH_BYTES, "a thread's scratch");

/* The sums stay in the cache from one source to the next, and where this call makes them and
 * finishes them they never leave it. */
static void tn_sums_part(const swt_ctx *c, const void *args, int64_t part) {
    const gemms_args *a = args;
    const swt_cpu_sums *sums = &a->sums;
    const int64_t in = a->in_width, out = a->out_width, sources = a->groups.sources;
    const weight_block b = weight_block_of(in, out, part);
    const int64_t at = (b.weight * out + b.o) * in + b.i, bias_at = b.weight * out + b.o;
    const bool local = sums->first && sums->last, bias = a->dbias != NULL && b.i == 0;
    sums_scratch *scratch = swt_cpu_scratch(c);
    float *dw = scratch->dw, *dbias = scratch->dbias;
    const sum_block weights = local ? (sum_block){scratch->own, SWT_COLUMNS, b.outs, b.ins}
                                    : (sum_block){sums->sum + at, in, b.outs, b.ins};
    const sum_block biases = {local || !bias ? scratch->own_bias : sums->bias_sum + bias_at, 0, 1,
                              b.outs};
    bool first = sums->first;
    if (!first)
        prefetch_rows(weights.sum, in, b.outs, b.ins);
    for (int64_t s = 0; s < sources; s++) {
        const int64_t pair = b.weight * sources + s;
        if (occupied(&a->groups, pair) == 0)
            continue;
        tn_source(a, &b, pair, dw, SWT_COLUMNS, bias ? dbias : NULL, false);
        add_block(c, a, &weights, dw, first);
        if (bias)
            add_block(c, a, &biases, dbias, first);
        first = false;
    }
    if (first) {
        clear_block(&weights);
        clear_block(&biases);
    }
    if (sums->last)
        finish_block(a, &weights, a->out + at, in);
    if (sums->last && bias)
        finish_block(a, &biases, a->dbias + bias_at, 0);
}

void swt_cpu_gemms_tn_sums(const swt_ctx *c, const swt_cpu_groups *g, const swt_cpu_sums *sums,
                           float *dw, float *dbias, const float *dy, const float *x, int64_t in,
                           int64_t out) {
    const gemms_args a = {.vec = swt_cpu_vec(c),
                          .groups = *g,
                          .sums = *sums,
                          .out = dw,
                          .dbias = dbias,
                          .dy = dy,
                          .x = x,
                          .in_width = in,
                          .out_width = out};
    swt_cpu_run(c, weight_parts(g, in, out), tn_sums_part, &a);
}
