#include "model/optim.h"

#include "base/checked.h"

#include <stdlib.h>

/* Blocks begin at multiples of 64 bytes, as operations ask. */
enum { ALIGN_ELEMENTS = 16 };

int swt_saved_shape(const swt_param *p, swt_optim_keeps keeps, swt_saved_tensor which,
                    int64_t shape[2]) {
    const bool factored = keeps == SWT_KEEPS_FACTORS && p->dims == 2;
    const bool moments = keeps == SWT_KEEPS_MOMENTS;
    shape[0] = shape[1] = 0;
    switch (which) {
    case SWT_SAVED_ROW:
    case SWT_SAVED_COL:
        shape[0] = factored ? p->shape[which == SWT_SAVED_COL] : 0;
        return factored ? 1 : 0;
    case SWT_SAVED_M:
    case SWT_SAVED_V:
        if (!moments && (which == SWT_SAVED_M || keeps != SWT_KEEPS_FACTORS || factored))
            return 0;
        break;
    default:
        break;
    }
    shape[0] = p->shape[0];
    shape[1] = p->shape[1];
    return p->dims;
}

int64_t swt_saved_count(const swt_param *p, swt_optim_keeps keeps, swt_saved_tensor which) {
    int64_t shape[2];
    const int dims = swt_saved_shape(p, keeps, which, shape);
    return dims == 0 ? 0 : dims == 1 ? shape[0] : shape[0] * shape[1];
}

int64_t swt_optim_count(const swt_param *p, swt_optim_keeps keeps) {
    int64_t count = 0;
    for (int which = SWT_SAVED_WEIGHT + 1; which < SWT_SAVED_TENSORS; which++)
        count += swt_saved_count(p, keeps, (swt_saved_tensor)which);
    return count;
}

/* ---- places of factors */

/* A tensor of this rank: its place in the flat array, its number in the table. */
typedef struct own_tensor {
    int64_t offset, number;
} own_tensor;

static int by_offset(const void *a, const void *b) {
    const own_tensor *x = a, *y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* The tensors that follow `first`, each where the one before it ends, in the same shape. */
static int64_t group_end(const swt_params *params, const own_tensor *own, int64_t first,
                         int64_t count) {
    const swt_param *p = &params->table[own[first].number];
    int64_t k = first + 1;
    while (k < count) {
        const swt_param *next = &params->table[own[k].number];
        if (next->dims != p->dims || next->shape[0] != p->shape[0] ||
            next->shape[1] != p->shape[1] || next->offset != own[k - 1].offset + p->count)
            break;
        k++;
    }
    return k;
}

static int64_t take(swt_factors *f, int64_t elements) {
    const int64_t at = f->end;
    f->end += swt_ceil_div(elements, ALIGN_ELEMENTS) * ALIGN_ELEMENTS;
    return at;
}

static void add_group(swt_factors *f, const swt_params *params, const own_tensor *own, int64_t n) {
    const swt_param *p = &params->table[own->number];
    const bool matrix = p->dims == 2;
    swt_factor_group g = {.n = n,
                          .rows = matrix ? p->shape[0] : 1,
                          .cols = matrix ? p->shape[1] : p->shape[0],
                          .offset = own->offset,
                          .row = -1};
    if (matrix)
        g.row = take(f, n * g.rows);
    g.col = take(f, n * g.cols);
    for (int64_t k = 0; k < n; k++) {
        f->row[own[k].number] = matrix ? g.row + k * g.rows : -1;
        f->col[own[k].number] = g.col + k * g.cols;
    }
    f->groups[f->n_groups++] = g;
}

swt_status swt_factors_init(swt_factors *out, const swt_params *params) {
    const size_t count = (size_t)params->count;
    own_tensor *own = calloc(count + 1, sizeof *own);
    *out = (swt_factors){.row = calloc(count + 1, sizeof *out->row),
                         .col = calloc(count + 1, sizeof *out->col),
                         .groups = calloc(count + 1, sizeof *out->groups)};
    if (own == NULL || out->row == NULL || out->col == NULL || out->groups == NULL) {
        free(own);
        swt_factors_fini(out);
        return SWT_FAIL(MEMORY, "memory: no room for a list of %zu tensors", count);
    }
    int64_t held = 0;
    for (int64_t i = 0; i < params->count; i++) {
        out->row[i] = out->col[i] = -1;
        if (params->table[i].offset >= 0)
            own[held++] = (own_tensor){params->table[i].offset, i};
    }
    qsort(own, (size_t)held, sizeof *own, by_offset);
    for (int64_t k = 0, next; k < held; k = next) {
        next = group_end(params, own, k, held);
        add_group(out, params, &own[k], next - k);
    }
    free(own);
    return SWT_OK;
}

void swt_factors_fini(swt_factors *f) {
    free(f->row);
    free(f->col);
    free(f->groups);
    *f = (swt_factors){0};
}
