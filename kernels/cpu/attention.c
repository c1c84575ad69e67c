#include "kernels/cpu/cpu.h"

typedef struct attention_args {
    const swt_ctx *c;
    const swt_attention_dims *dims;
    float *y_out, *lse_out; /* forward */
    float *dqkv;            /* backward */
    const float *qkv, *y, *dy, *lse;
} attention_args;

/* A part is one head of one sequence: columns `head * D ..` of the rows from `row` on. */
typedef struct place {
    int64_t row, column, lse;
} place;

static place place_of(const swt_attention_dims *d, int64_t part) {
    return (place){.row = part / d->H * d->T, .column = part % d->H * d->D, .lse = part * d->T};
}

/* The threads take parts in turn, so a thread's next one is `threads` further, or close to it. */
static swt_vec_head head_of(const attention_args *a, int64_t part) {
    const swt_attention_dims *d = a->dims;
    const int64_t C = d->H * d->D, next = part + a->c->device->threads;
    const place from = place_of(d, part), to = place_of(d, next < d->B * d->H ? next : part);
    const float *q = a->qkv + from.row * 3 * C + from.column;
    return (swt_vec_head){.q = q,
                          .k = q + C,
                          .v = q + 2 * C,
                          .qkv_stride = 3 * C,
                          .y_stride = C,
                          .T = d->T,
                          .D = d->D,
                          .scale = d->scale,
                          .next_qkv = (to.row - from.row) * 3 * C + to.column - from.column,
                          .next_y = (to.row - from.row) * C + to.column - from.column};
}

static void forward_part(const void *args, int64_t part) {
    const attention_args *a = args;
    const place p = place_of(a->dims, part);
    const swt_vec_head head = head_of(a, part);
    swt_cpu_vec(a->c)->attention_forward(a->y_out + p.row * head.y_stride + p.column,
                                         a->lse_out + p.lse, &head, swt_cpu_scratch(a->c));
}

swt_status swt_cpu_attention_forward(const swt_ctx *c, void *y, float *lse, const void *qkv,
                                     const swt_attention_dims *dims) {
    const attention_args a = {.c = c, .dims = dims, .y_out = y, .lse_out = lse, .qkv = qkv};
    swt_cpu_run_parts(c, dims->B * dims->H, forward_part, &a);
    return SWT_OK;
}

static void backward_part(const void *args, int64_t part) {
    const attention_args *a = args;
    const place p = place_of(a->dims, part);
    const swt_vec_head head = head_of(a, part);
    const int64_t y_at = p.row * head.y_stride + p.column;
    float *dq = a->dqkv + p.row * head.qkv_stride + p.column;
    swt_cpu_vec(a->c)->attention_backward(dq, dq + head.y_stride, dq + 2 * head.y_stride,
                                          a->dy + y_at, a->y + y_at, a->lse + p.lse, &head,
                                          swt_cpu_scratch(a->c));
}

swt_status swt_cpu_attention_backward(const swt_ctx *c, void *dqkv, const void *dy, const void *y,
                                      const float *lse, const void *qkv,
                                      const swt_attention_dims *dims) {
    const attention_args a = {
        .c = c, .dims = dims, .dqkv = dqkv, .qkv = qkv, .y = y, .dy = dy, .lse = lse};
    swt_cpu_run_parts(c, dims->B * dims->H, backward_part, &a);
    return SWT_OK;
}
