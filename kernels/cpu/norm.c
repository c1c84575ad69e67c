#include "base/checked.h"
#include "kernels/cpu/cpu.h"

#include <string.h>

enum {
    ROWS = 64,    /* of a part: the blocks of the sums in swt_norm_backward */
    COLUMNS = 512 /* of a part that adds the blocks' sums */
};

static void forward_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_norm_forward_args *a = args;
    swt_cpu_vec(c)->norm_forward(a, part * ROWS, swt_min((part + 1) * ROWS, a->N));
}

swt_status swt_cpu_norm_forward(const swt_ctx *c, const swt_norm_forward_args *a) {
    swt_cpu_run(c, swt_ceil_div(a->N, ROWS), forward_part, a);
    return SWT_OK;
}

/* Of a block of rows: its sums for dweight, then for dbias. scratch is (blocks, 2, C). */
static float *block_sums(const swt_norm_backward_args *a, int64_t block) {
    return (float *)a->scratch + block * 2 * a->C;
}

static void backward_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_norm_backward_args *a = args;
    float *dweight = block_sums(a, part), *dbias = dweight + a->C;
    memset(dweight, 0, (size_t)(2 * a->C) * sizeof *dweight);
    swt_cpu_vec(c)->norm_backward(a, part * ROWS, swt_min((part + 1) * ROWS, a->N), dweight, dbias);
}

static void backward_sum_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_norm_backward_args *a = args;
    const int64_t first = part * COLUMNS, columns = swt_min(COLUMNS, a->C - first);
    const int64_t blocks = swt_ceil_div(a->N, ROWS);
    float *const sums[2] = {a->dweight + first, a->dbias != NULL ? a->dbias + first : NULL};
    for (int64_t i = 0; i < 2 && sums[i] != NULL; i++) {
        if (!a->add)
            memset(sums[i], 0, (size_t)columns * sizeof *sums[i]);
        for (int64_t b = 0; b < blocks; b++)
            swt_cpu_vec(c)->axpy(sums[i], block_sums(a, b) + i * a->C + first, 1.0f, columns);
    }
}

int64_t swt_norm_backward_scratch_bytes(int64_t N, int64_t C) {
    int64_t bytes = 0;
    const int64_t block_bytes = 2 * (int64_t)sizeof(float);
    if (N < 0 || C < 0 || !swt_checked_mul(N / ROWS + 1, block_bytes, &bytes) ||
        !swt_checked_mul(bytes, C, &bytes))
        return -1;
    return bytes;
}

swt_status swt_cpu_norm_backward(const swt_ctx *c, const swt_norm_backward_args *a) {
    swt_cpu_run(c, swt_ceil_div(a->N, ROWS), backward_part, a);
    swt_cpu_run(c, swt_ceil_div(a->C, COLUMNS), backward_sum_part, a);
    return SWT_OK;
}
