#include "base/checked.h"
#include "kernels/cpu/cpu.h"

#include <string.h>

enum {
    TOKENS = 128, /* of a part, forward */
    COLUMNS = 32  /* of a part, backward: whole cache lines, so that parts share none */
};

static void forward_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_embedding_forward_args *a = args;
    float *x = a->x;
    const float *table = a->table;
    const int64_t end = swt_min((part + 1) * TOKENS, a->N);
    (void)c;
    for (int64_t n = part * TOKENS; n < end; n++)
        memcpy(x + n * a->C, table + a->tokens[n] * a->C, (size_t)a->C * sizeof *x);
}

swt_status swt_cpu_embedding_forward(const swt_ctx *c, const swt_embedding_forward_args *a) {
    swt_cpu_run(c, swt_ceil_div(a->N, TOKENS), forward_part, a);
    return SWT_OK;
}

static void backward_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_embedding_backward_args *a = args;
    const int64_t first = part * COLUMNS, columns = swt_min(COLUMNS, a->C - first);
    const float *dx = a->dx;
    for (int64_t v = 0; v < a->V && !a->add; v++)
        memset(a->dtable + v * a->C + first, 0, (size_t)columns * sizeof *a->dtable);
    for (int64_t n = 0; n < a->N; n++)
        swt_cpu_vec(c)->axpy(a->dtable + a->tokens[n] * a->C + first, dx + n * a->C + first, 1.0f,
                             columns);
}

swt_status swt_cpu_embedding_backward(const swt_ctx *c, const swt_embedding_backward_args *a) {
    swt_cpu_run(c, swt_ceil_div(a->C, COLUMNS), backward_part, a);
    return SWT_OK;
}
