#include "base/checked.h"
#include "kernels/cpu/cpu.h"

enum { ROWS = 64 /* of a part */ };

static int64_t parts_of(const swt_gelu_dims *d) {
    return swt_ceil_div(d->blocks * d->rows, ROWS);
}

static int64_t end_of_part(const swt_gelu_dims *d, int64_t part) {
    return swt_min((part + 1) * ROWS, d->blocks * d->rows);
}

static bool is_occupied(const swt_gelu_dims *d, const int32_t *row_counts, int64_t row) {
    return row_counts == NULL || row % d->rows < row_counts[row / d->rows];
}

static void forward_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_gelu_forward_args *a = args;
    const int64_t F = a->dims.F;
    for (int64_t row = part * ROWS; row < end_of_part(&a->dims, part); row++) {
        const float *u = (const float *)a->x + row * swt_gelu_width(&a->dims);
        if (is_occupied(&a->dims, a->row_counts, row))
            swt_cpu_vec(c)->gelu_forward((float *)a->y + row * F, u, a->dims.gated ? u + F : NULL,
                                         F);
    }
}

swt_status swt_cpu_gelu_forward(const swt_ctx *c, const swt_gelu_forward_args *a) {
    swt_cpu_run(c, parts_of(&a->dims), forward_part, a);
    return SWT_OK;
}

static void backward_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_gelu_backward_args *a = args;
    const int64_t F = a->dims.F;
    for (int64_t row = part * ROWS; row < end_of_part(&a->dims, part); row++) {
        const float *u = (const float *)a->x + row * swt_gelu_width(&a->dims);
        const float *dy = (const float *)a->dy + row * F;
        float *du = (float *)a->dx + row * swt_gelu_width(&a->dims);
        if (!is_occupied(&a->dims, a->row_counts, row))
            continue;
        if (a->dims.gated)
            swt_cpu_vec(c)->gelu_backward(du, du + F, dy, u, u + F, F);
        else
            swt_cpu_vec(c)->gelu_backward(du, NULL, dy, u, NULL, F);
    }
}

swt_status swt_cpu_gelu_backward(const swt_ctx *c, const swt_gelu_backward_args *a) {
    swt_cpu_run(c, parts_of(&a->dims), backward_part, a);
    return SWT_OK;
}
