#include "base/checked.h"
#include "kernels/cpu/cpu.h"

#include <string.h>

enum {
    ROWS = 64,    /* of a part: the blocks of the sums in swt_norm_backward */
    COLUMNS = 512 /* of a part that adds the blocks' sums */
};

typedef struct norm_args {
    const swt_vec *vec;
    float *y, *mean_out, *rstd_out; /* forward */
    float *dx, *dweight, *dbias;    /* backward */
    float *partial;                 /* (blocks, 2, C): sums for dweight, dbias */
    const float *dy, *dresidual, *x, *mean, *rstd, *weight, *bias;
    int64_t N, C;
    double eps;
    bool add;
} norm_args;

static void forward_part(const void *args, int64_t part) {
    const norm_args *a = args;
    const int64_t end = swt_min((part + 1) * ROWS, a->N);
    for (int64_t n = part * ROWS; n < end; n++)
        a->vec->norm_forward(a->y + n * a->C, &a->mean_out[n], &a->rstd_out[n], a->x + n * a->C,
                             a->weight, a->bias, a->C, a->eps);
}

swt_status swt_cpu_norm_forward(const swt_ctx *c, void *y, float *mean, float *rstd, const void *x,
                                const float *weight, const float *bias, int64_t N, int64_t C,
                                double eps) {
    const norm_args a = {.vec = swt_cpu_vec(c),
                         .y = y,
                         .mean_out = mean,
                         .rstd_out = rstd,
                         .x = x,
                         .weight = weight,
                         .bias = bias,
                         .N = N,
                         .C = C,
                         .eps = eps};
    swt_cpu_run_parts(c, swt_ceil_div(N, ROWS), forward_part, &a);
    return SWT_OK;
}

static void backward_part(const void *args, int64_t part) {
    const norm_args *a = args;
    const int64_t end = swt_min((part + 1) * ROWS, a->N), C = a->C;
    float *dweight = a->partial + part * 2 * C, *dbias = dweight + C;
    memset(dweight, 0, (size_t)(2 * C) * sizeof *dweight);
    for (int64_t n = part * ROWS; n < end; n++)
        a->vec->norm_backward(a->dx + n * C, dweight, dbias, a->dy + n * C,
                              a->dresidual != NULL ? a->dresidual + n * C : NULL, a->x + n * C,
                              a->weight, a->mean[n], a->rstd[n], C);
}

static void backward_sum_part(const void *args, int64_t part) {
    const norm_args *a = args;
    const int64_t first = part * COLUMNS, columns = swt_min(COLUMNS, a->C - first);
    const int64_t blocks = swt_ceil_div(a->N, ROWS);
    float *const sums[2] = {a->dweight + first, a->dbias + first};
    for (int64_t i = 0; i < 2; i++) {
        if (!a->add)
            memset(sums[i], 0, (size_t)columns * sizeof *sums[i]);
        for (int64_t b = 0; b < blocks; b++)
            a->vec->axpy(sums[i], a->partial + (b * 2 + i) * a->C + first, 1.0f, columns);
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

swt_status swt_cpu_norm_backward(const swt_ctx *c, void *dx, float *dweight, float *dbias,
                                 const void *dy, const void *dresidual, const void *x,
                                 const float *mean, const float *rstd, const float *weight,
                                 void *scratch, int64_t N, int64_t C, int add) {
    const norm_args a = {.vec = swt_cpu_vec(c),
                         .dx = dx,
                         .dweight = dweight,
                         .dbias = dbias,
                         .partial = scratch,
                         .dy = dy,
                         .dresidual = dresidual,
                         .x = x,
                         .mean = mean,
                         .rstd = rstd,
                         .weight = weight,
                         .N = N,
                         .C = C,
                         .add = add != 0};
    swt_cpu_run_parts(c, swt_ceil_div(N, ROWS), backward_part, &a);
    swt_cpu_run_parts(c, swt_ceil_div(C, COLUMNS), backward_sum_part, &a);
    return SWT_OK;
}
