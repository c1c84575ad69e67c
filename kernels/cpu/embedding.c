#include "base/checked.h"
#include "kernels/cpu/cpu.h"

#include <string.h>

enum {
    TOKENS = 128, /* of a part, forward */
    COLUMNS = 32  /* of a part, backward: whole cache lines, so that parts share none */
};

typedef struct embedding_args {
    const swt_vec *vec;
    float *x, *dtable;
    const float *table, *dx;
    const int32_t *tokens;
    int64_t N, C, V;
    bool add;
} embedding_args;

static void forward_part(const void *args, int64_t part) {
    const embedding_args *a = args;
    const int64_t end = swt_min((part + 1) * TOKENS, a->N);
    for (int64_t n = part * TOKENS; n < end; n++)
        memcpy(a->x + n * a->C, a->table + a->tokens[n] * a->C, (size_t)a->C * sizeof *a->x);
}

swt_status swt_cpu_embedding_forward(const swt_ctx *c, void *x, const void *table,
                                     const int32_t *tokens, int64_t N, int64_t C, int64_t V) {
    const embedding_args a = {.x = x, .table = table, .tokens = tokens, .N = N, .C = C, .V = V};
    swt_cpu_run_parts(c, swt_ceil_div(N, TOKENS), forward_part, &a);
    return SWT_OK;
}

static void backward_part(const void *args, int64_t part) {
    const embedding_args *a = args;
    const int64_t first = part * COLUMNS, columns = swt_min(COLUMNS, a->C - first);
    for (int64_t v = 0; v < a->V && !a->add; v++)
        memset(a->dtable + v * a->C + first, 0, (size_t)columns * sizeof *a->dtable);
    for (int64_t n = 0; n < a->N; n++)
        a->vec->axpy(a->dtable + a->tokens[n] * a->C + first, a->dx + n * a->C + first, 1.0f,
                     columns);
}

swt_status swt_cpu_embedding_backward(const swt_ctx *c, float *dtable, const void *dx,
                                      const int32_t *tokens, int64_t N, int64_t C, int64_t V,
                                      int add) {
    const embedding_args a = {.vec = swt_cpu_vec(c),
                              .dtable = dtable,
                              .dx = dx,
                              .tokens = tokens,
                              .N = N,
                              .C = C,
                              .V = V,
                              .add = add != 0};
    swt_cpu_run_parts(c, swt_ceil_div(C, COLUMNS), backward_part, &a);
    return SWT_OK;
}
