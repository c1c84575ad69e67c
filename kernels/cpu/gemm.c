#include "kernels/cpu/gemm.h"

#include "base/checked.h"

#include <string.h>

/* The gemm over steps first ... of k, b being that block of rows; sums of a longer k wait in
 * `partial` (SWT_ROWS, SWT_COLUMNS). */
static void run_steps(const swt_vec *vec, const swt_vec_gemm *whole, float *partial, int64_t first,
                      const float *b, int64_t b_row) {
    swt_vec_gemm p = *whole;
    p.a += first * p.a_col;
    p.b = b;
    p.b_row = b_row;
    p.k = swt_min(SWT_STEPS, whole->k - first);
    if (first > 0) {
        p.start = partial;
        p.start_row = SWT_COLUMNS;
    }
    if (first + p.k < whole->k) {
        p.out = partial;
        p.out_row = SWT_COLUMNS;
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
        run_steps(swt_cpu_vec(c), p, own->partial, first, p->b + first * p->b_row, p->b_row);
        first += SWT_STEPS;
    } while (first < p->k);
}

void swt_cpu_block_nt(const swt_ctx *c, const swt_vec_gemm *p) {
    const swt_vec *vec = swt_cpu_vec(c);
    block_scratch *own = swt_cpu_scratch(c);
    int64_t first = 0;
    do {
        vec->transpose(own->transposed, SWT_COLUMNS, p->b + first, p->b_row, p->columns,
                       swt_min(SWT_STEPS, p->k - first));
        run_steps(vec, p, own->partial, first, own->transposed, SWT_COLUMNS);
        first += SWT_STEPS;
    } while (first < p->k);
}

/* ------------------------------------------------------------------ the layers' gemms */

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
    return g->row_counts != NULL ? g->row_counts[pair] : g->capacity;
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
    const swt_cpu_gemms_nt_args *a = args;
    const int64_t in = a->in, out = a->out;
    const block b = block_of(&a->groups, out, part);
    if (b.rows <= 0)
        return;
    const int64_t to = b.first * out + b.column;
    const swt_vec_gemm p = {.out = a->y + to,
                            .a = a->x + b.first * in,
                            .b = a->w + (b.weight * out + b.column) * in,
                            .bias = slice(a->bias, b.weight * out + b.column),
                            .residual = slice(a->residual, to),
                            .relu = a->relu,
                            .rows = b.rows,
                            .columns = b.columns,
                            .k = in,
                            .out_row = out,
                            .a_row = in,
                            .a_col = 1,
                            .b_row = in};
    swt_cpu_block_nt(c, &p);
}

void swt_cpu_gemms_nt(const swt_ctx *c, const swt_cpu_gemms_nt_args *a) {
    swt_cpu_run(c, row_parts(&a->groups, a->out), nt_part, a);
}

static void nn_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_cpu_gemms_nn_args *a = args;
    const int64_t in = a->in, out = a->out;
    const block b = block_of(&a->groups, in, part);
    if (b.rows <= 0)
        return;
    const int64_t to = b.first * in + b.column;
    const swt_vec_gemm p = {.out = a->dx + to,
                            .a = a->dy + b.first * out,
                            .b = a->w + b.weight * out * in + b.column,
                            .mask = slice(a->mask, to),
                            .residual = slice(a->residual, to),
                            .rows = b.rows,
                            .columns = b.columns,
                            .k = out,
                            .out_row = in,
                            .a_row = out,
                            .a_col = 1,
                            .b_row = in};
    swt_cpu_block_nn(c, &p);
}

void swt_cpu_gemms_nn(const swt_ctx *c, const swt_cpu_gemms_nn_args *a) {
    swt_cpu_run(c, row_parts(&a->groups, a->in), nn_part, a);
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

/* Where a block's gradients are made. */
typedef struct gradients {
    float *dw;
    int64_t dw_row; /* floats from a row to the next */
    float *dbias;   /* NULL: of this block there are none */
} gradients;

/* The gradients of one source in the block; add: added to what is there. */
static void tn_source(const swt_ctx *c, const swt_cpu_gemms_tn_args *a, const weight_block *b,
                      int64_t pair, const gradients *to, bool add) {
    const swt_vec *vec = swt_cpu_vec(c);
    const int64_t in = a->in, out = a->out, n = occupied(&a->groups, pair);
    const int64_t row = pair * a->groups.capacity;
    int64_t first = 0;
    do {
        const bool more = add || first > 0;
        const int64_t rows = swt_min(SWT_SUM_ROWS, n - first);
        const swt_vec_gemm p = {.out = to->dw,
                                .a = a->dy + (row + first) * out + b->o,
                                .b = a->x + (row + first) * in + b->i,
                                .residual = more ? to->dw : NULL,
                                .rows = b->outs,
                                .columns = b->ins,
                                .k = rows,
                                .out_row = to->dw_row,
                                .a_row = 1,
                                .a_col = out,
                                .b_row = in};
        vec->gemm(&p);
        if (to->dbias != NULL)
            vec->column_sum(to->dbias, p.a, rows, out, b->outs, more);
        first += SWT_SUM_ROWS;
    } while (first < n);
}

/* All sources in order; zeros where there is nothing to add. */
static void tn_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_cpu_gemms_tn_args *a = args;
    const int64_t in = a->in, out = a->out, sources = a->groups.sources;
    const weight_block b = weight_block_of(in, out, part);
    const int64_t o = b.weight * out + b.o;
    const gradients to = {.dw = a->dw + o * in + b.i,
                          .dw_row = in,
                          .dbias = a->dbias != NULL && b.i == 0 ? a->dbias + o : NULL};
    bool add = a->add;
    for (int64_t s = 0; s < sources; s++) {
        const bool last = s == sources - 1;
        if (occupied(&a->groups, b.weight * sources + s) == 0 && (add || !last))
            continue;
        tn_source(c, a, &b, b.weight * sources + s, &to, add);
        add = true;
    }
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

static void add_block(const swt_ctx *c, const swt_cpu_gemms_tn_args *a, const sum_block *b,
                      const float *from, bool first) {
    for (int64_t row = 0; row < b->rows; row++)
        swt_cpu_add_sums(c, b->sum + row * b->stride, from + row * SWT_COLUMNS, b->columns,
                         a->sums.limit, first);
}

static void finish_block(const swt_ctx *c, const sum_block *b, float *to, int64_t stride) {
    for (int64_t row = 0; row < b->rows; row++)
        swt_cpu_vec(c)->grad_finish(to + row * stride, b->sum + row * b->stride, b->columns);
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
    const swt_cpu_gemms_tn_args *a = args;
    const swt_cpu_sums *sums = &a->sums;
    const int64_t in = a->in, out = a->out, sources = a->groups.sources;
    const weight_block b = weight_block_of(in, out, part);
    const int64_t o = b.weight * out + b.o, at = o * in + b.i;
    const bool local = sums->first && sums->last, bias = a->dbias != NULL && b.i == 0;
    sums_scratch *scratch = swt_cpu_scratch(c);
    const gradients made = {
        .dw = scratch->dw, .dw_row = SWT_COLUMNS, .dbias = bias ? scratch->dbias : NULL};
    const sum_block weights = {.sum = local ? scratch->own : sums->weight + at,
                               .stride = local ? SWT_COLUMNS : in,
                               .rows = b.outs,
                               .columns = b.ins};
    const sum_block biases = {
        .sum = local || !bias ? scratch->own_bias : sums->bias + o, .rows = 1, .columns = b.outs};
    bool first = sums->first;
    if (!first)
        prefetch_rows(weights.sum, in, b.outs, b.ins);
    for (int64_t s = 0; s < sources; s++) {
        const int64_t pair = b.weight * sources + s;
        if (occupied(&a->groups, pair) == 0)
            continue;
        tn_source(c, a, &b, pair, &made, false);
        add_block(c, a, &weights, made.dw, first);
        if (bias)
            add_block(c, a, &biases, made.dbias, first);
        first = false;
    }
    if (first) {
        clear_block(&weights);
        clear_block(&biases);
    }
    if (sums->last)
        finish_block(c, &weights, a->dw + at, in);
    if (sums->last && bias)
        finish_block(c, &biases, a->dbias + o, 0);
}

void swt_cpu_gemms_tn(const swt_ctx *c, const swt_cpu_gemms_tn_args *a) {
    const int64_t parts =
        a->groups.weights * swt_ceil_div(a->in, SWT_COLUMNS) * swt_ceil_div(a->out, SWT_COLUMNS);
    swt_cpu_run(c, parts, a->sums.exact ? tn_sums_part : tn_part, a);
}
