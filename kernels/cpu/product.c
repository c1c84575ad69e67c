#include "kernels/cpu/product.h"

#include "base/checked.h"

/* The product over steps first ... of k, b being that block of rows; sums of a longer k wait in
 * `partial` (SWT_ROWS, SWT_COLUMNS). */
static void run_steps(const swt_vec *vec, const swt_vec_product *whole, float *partial,
                      int64_t first, const float *b, int64_t b_step) {
    swt_vec_product p = *whole;
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
    vec->product(&p);
}

void swt_cpu_block_nn(const swt_vec *vec, const swt_vec_product *p) {
    _Alignas(64) float partial[SWT_ROWS * SWT_COLUMNS];
    int64_t first = 0;
    do {
        run_steps(vec, p, partial, first, p->b + first * p->b_step, p->b_step);
        first += SWT_STEPS;
    } while (first < p->k);
}

void swt_cpu_block_nt(const swt_vec *vec, const swt_vec_product *p) {
    _Alignas(64) float partial[SWT_ROWS * SWT_COLUMNS];
    _Alignas(64) float transposed[SWT_STEPS * SWT_COLUMNS];
    int64_t first = 0;
    do {
        vec->transpose(transposed, SWT_COLUMNS, p->b + first, p->b_step, p->columns,
                       swt_min(SWT_STEPS, p->k - first));
        run_steps(vec, p, partial, first, transposed, SWT_COLUMNS);
        first += SWT_STEPS;
    } while (first < p->k);
}

/* ------------------------------------------------------------------ the layers' products */

typedef struct products_args {
    const swt_vec *vec;
    swt_cpu_groups groups;
    float *out, *dbias;
    const float *x, *dy, *w, *bias, *residual, *mask;
    int64_t in_width, out_width, source;
    bool relu, add;
} products_args;

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

static const float *at(const float *base, int64_t offset) {
    return base != NULL ? base + offset : NULL;
}

static void nt_part(const void *args, int64_t part) {
    const products_args *a = args;
    const int64_t in = a->in_width, out = a->out_width;
    const block b = block_of(&a->groups, out, part);
    if (b.rows <= 0)
        return;
    const int64_t to = b.first * out + b.column;
    const swt_vec_product p = {.c = a->out + to,
                               .a = a->x + b.first * in,
                               .b = a->w + (b.weight * out + b.column) * in,
                               .bias = at(a->bias, b.weight * out + b.column),
                               .residual = at(a->residual, to),
                               .relu = a->relu,
                               .rows = b.rows,
                               .columns = b.columns,
                               .k = in,
                               .c_stride = out,
                               .a_row = in,
                               .a_step = 1,
                               .b_step = in};
    swt_cpu_block_nt(a->vec, &p);
}

void swt_cpu_products_nt(const swt_ctx *c, const swt_cpu_groups *g, float *y, const float *x,
                         const float *w, const float *bias, const float *residual, bool relu,
                         int64_t in, int64_t out) {
    const products_args a = {.vec = swt_cpu_vec(c),
                             .groups = *g,
                             .out = y,
                             .x = x,
                             .w = w,
                             .bias = bias,
                             .residual = residual,
                             .relu = relu,
                             .in_width = in,
                             .out_width = out};
    swt_cpu_run_parts(c, row_parts(g, out), nt_part, &a);
}

static void nn_part(const void *args, int64_t part) {
    const products_args *a = args;
    const int64_t in = a->in_width, out = a->out_width;
    const block b = block_of(&a->groups, in, part);
    if (b.rows <= 0)
        return;
    const int64_t to = b.first * in + b.column;
    const swt_vec_product p = {.c = a->out + to,
                               .a = a->dy + b.first * out,
                               .b = a->w + b.weight * out * in + b.column,
                               .mask = at(a->mask, to),
                               .rows = b.rows,
                               .columns = b.columns,
                               .k = out,
                               .c_stride = in,
                               .a_row = out,
                               .a_step = 1,
                               .b_step = in};
    swt_cpu_block_nn(a->vec, &p);
}

void swt_cpu_products_nn(const swt_ctx *c, const swt_cpu_groups *g, float *dx, const float *dy,
                         const float *w, const float *mask, int64_t in, int64_t out) {
    const products_args a = {.vec = swt_cpu_vec(c),
                             .groups = *g,
                             .out = dx,
                             .dy = dy,
                             .w = w,
                             .mask = mask,
                             .in_width = in,
                             .out_width = out};
    swt_cpu_run_parts(c, row_parts(g, in), nn_part, &a);
}

/* A block of dw: SWT_COLUMNS outputs by SWT_COLUMNS inputs, all rows. */
static void tn_part(const void *args, int64_t part) {
    const products_args *a = args;
    const swt_cpu_groups *g = &a->groups;
    const int64_t in = a->in_width, out = a->out_width;
    const int64_t strips = swt_ceil_div(in, SWT_COLUMNS), tall = swt_ceil_div(out, SWT_COLUMNS);
    const int64_t weight = part / strips / tall, pair = weight * g->sources + a->source;
    const int64_t o = part / strips % tall * SWT_COLUMNS, i = part % strips * SWT_COLUMNS;
    const int64_t outs = swt_min(SWT_COLUMNS, out - o), n = occupied(g, pair);
    const float *dy = a->dy + pair * g->capacity * out + o;
    float *dw = a->out + (weight * out + o) * in + i;
    int64_t first = 0;
    do {
        const bool add = a->add || first > 0;
        const int64_t rows = swt_min(SWT_SUM_ROWS, n - first);
        const swt_vec_product p = {.c = dw,
                                   .a = dy + first * out,
                                   .b = a->x + (pair * g->capacity + first) * in + i,
                                   .residual = add ? dw : NULL,
                                   .rows = outs,
                                   .columns = swt_min(SWT_COLUMNS, in - i),
                                   .k = rows,
                                   .c_stride = in,
                                   .a_row = 1,
                                   .a_step = out,
                                   .b_step = in};
        a->vec->product(&p);
        if (a->dbias != NULL && i == 0)
            a->vec->column_sum(a->dbias + weight * out + o, p.a, rows, out, outs, add);
        first += SWT_SUM_ROWS;
    } while (first < n);
}

void swt_cpu_products_tn(const swt_ctx *c, const swt_cpu_groups *g, int64_t source, float *dw,
                         float *dbias, const float *dy, const float *x, int64_t in, int64_t out,
                         bool add) {
    const products_args a = {.vec = swt_cpu_vec(c),
                             .groups = *g,
                             .source = source,
                             .out = dw,
                             .dbias = dbias,
                             .dy = dy,
                             .x = x,
                             .in_width = in,
                             .out_width = out,
                             .add = add};
    const int64_t parts = swt_ceil_div(in, SWT_COLUMNS) * swt_ceil_div(out, SWT_COLUMNS);
    swt_cpu_run_parts(c, g->weights * parts, tn_part, &a);
}
