#include "base/checked.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/product.h"

#include <string.h>

enum {
    ROWS = 128,  /* rows of a part that computes activations */
    OUTPUTS = 64 /* outputs in a part of a weight's gradient, and in a tile below */
};

typedef struct linear_args {
    const swt_vec *vec;
    float *y;
    const float *x, *w, *bias, *residual;
    int64_t N, in, out;
    bool relu;
} linear_args;

/* ReLU before a residual, which y may hold: the product goes through a tile of its own. */
static swt_status forward_relu_residual(const linear_args *a, int64_t first, int64_t rows) {
    _Alignas(64) float tile[ROWS * OUTPUTS];
    for (int64_t o = 0; o < a->out; o += OUTPUTS) {
        const int64_t outputs = swt_min(OUTPUTS, a->out - o);
        SWT_TRY(swt_cpu_product_nt(tile, a->x + first * a->in, a->w + o * a->in, rows, a->in,
                                   outputs, false));
        for (int64_t r = 0; r < rows; r++) {
            const int64_t at = (first + r) * a->out + o;
            a->vec->epilogue(tile + r * outputs, a->bias != NULL ? a->bias + o : NULL,
                             a->residual + at, true, outputs);
            memcpy(a->y + at, tile + r * outputs, (size_t)outputs * sizeof *tile);
        }
    }
    return SWT_OK;
}

static swt_status forward_part(const void *args, int64_t part) {
    const linear_args *a = args;
    const int64_t first = part * ROWS, rows = swt_min(ROWS, a->N - first);
    if (a->residual != NULL && a->relu)
        return forward_relu_residual(a, first, rows);
    float *y = a->y + first * a->out;
    const bool add = a->residual != NULL;
    if (add && a->y != a->residual)
        memcpy(y, a->residual + first * a->out, (size_t)(rows * a->out) * sizeof *y);
    SWT_TRY(swt_cpu_product_nt(y, a->x + first * a->in, a->w, rows, a->in, a->out, add));
    for (int64_t r = 0; (a->bias != NULL || a->relu) && r < rows; r++)
        a->vec->epilogue(y + r * a->out, a->bias, NULL, a->relu, a->out);
    return SWT_OK;
}

swt_status swt_cpu_linear_forward(const swt_ctx *c, void *y, const void *x, const void *w,
                                  const void *bias, const void *residual, int64_t N, int64_t in,
                                  int64_t out, swt_epilogue epilogue) {
    const linear_args a = {.vec = swt_cpu_vec(c),
                           .y = y,
                           .x = x,
                           .w = w,
                           .bias = bias,
                           .residual = residual,
                           .N = N,
                           .in = in,
                           .out = out,
                           .relu = epilogue == SWT_EPILOGUE_RELU};
    return swt_cpu_run_parts(c, swt_ceil_div(N, ROWS), forward_part, &a);
}

typedef struct input_args {
    const swt_vec *vec;
    float *dx;
    const float *dy, *w, *relu_output;
    int64_t N, in, out;
} input_args;

static swt_status backward_input_part(const void *args, int64_t part) {
    const input_args *a = args;
    const int64_t first = part * ROWS, rows = swt_min(ROWS, a->N - first);
    float *dx = a->dx + first * a->in;
    SWT_TRY(swt_cpu_product_nn(dx, a->dy + first * a->out, a->w, rows, a->in, a->out, false));
    if (a->relu_output != NULL)
        a->vec->relu_mask(dx, a->relu_output + first * a->in, rows * a->in);
    return SWT_OK;
}

swt_status swt_cpu_linear_backward_input(const swt_ctx *c, void *dx, const void *dy, const void *w,
                                         const void *relu_output, int64_t N, int64_t in,
                                         int64_t out) {
    const input_args a = {.vec = swt_cpu_vec(c),
                          .dx = dx,
                          .dy = dy,
                          .w = w,
                          .relu_output = relu_output,
                          .N = N,
                          .in = in,
                          .out = out};
    return swt_cpu_run_parts(c, swt_ceil_div(N, ROWS), backward_input_part, &a);
}

typedef struct weight_args {
    const swt_vec *vec;
    float *dw, *dbias;
    const float *dy, *x;
    int64_t N, in, out;
    bool add;
} weight_args;

static swt_status backward_weight_part(const void *args, int64_t part) {
    const weight_args *a = args;
    const int64_t first = part * OUTPUTS, rows = swt_min(OUTPUTS, a->out - first);
    const float *dy = a->dy + first;
    if (a->dbias != NULL)
        a->vec->column_sum(a->dbias + first, dy, a->N, a->out, rows, a->add);
    return swt_cpu_product_tn(a->dw + first * a->in, dy, a->out, a->x, a->N, a->in, rows, a->add);
}

swt_status swt_cpu_linear_backward_weight(const swt_ctx *c, float *dw, float *dbias, const void *dy,
                                          const void *x, int64_t N, int64_t in, int64_t out,
                                          int add) {
    const weight_args a = {.vec = swt_cpu_vec(c),
                           .dw = dw,
                           .dbias = dbias,
                           .dy = dy,
                           .x = x,
                           .N = N,
                           .in = in,
                           .out = out,
                           .add = add != 0};
    return swt_cpu_run_parts(c, swt_ceil_div(out, OUTPUTS), backward_weight_part, &a);
}
