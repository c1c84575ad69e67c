#include "kernels/cpu/cpu.h"

/* A part is one head of one sequence: columns `head * D ..` of the rows from `row` on. */
typedef struct place {
    int64_t row, column, lse;
} place;

static place place_of(const swt_attention_dims *d, int64_t part) {
    return (place){.row = part / d->H * d->T, .column = part % d->H * d->D, .lse = part * d->T};
}

/* The threads take parts in turn, so a thread's next one is `threads` further, or close to it. */
static swt_vec_head head_of(const swt_ctx *c, const float *qkv, const swt_attention_dims *d,
                            int64_t part) {
    const int64_t C = d->H * d->D, next = part + c->device->threads;
    const place from = place_of(d, part), to = place_of(d, next < d->B * d->H ? next : part);
    const float *q = qkv + from.row * 3 * C + from.column;
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

static void forward_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_attention_forward_args *a = args;
    const place p = place_of(&a->dims, part);
    const swt_vec_head head = head_of(c, a->qkv, &a->dims, part);
    swt_cpu_vec(c)->attention_forward((float *)a->y + p.row * head.y_stride + p.column,
                                      a->lse + p.lse, &head, swt_cpu_scratch(c));
}

swt_status swt_cpu_attention_forward(const swt_ctx *c, const swt_attention_forward_args *a) {
    swt_cpu_run(c, a->dims.B * a->dims.H, forward_part, a);
    return SWT_OK;
}

static void backward_part(const swt_ctx *c, const void *args, int64_t part) {
    const swt_attention_backward_args *a = args;
    const place p = place_of(&a->dims, part);
    const swt_vec_head head = head_of(c, a->qkv, &a->dims, part);
    const int64_t y_at = p.row * head.y_stride + p.column;
    float *dq = (float *)a->dqkv + p.row * head.qkv_stride + p.column;
    swt_cpu_vec(c)->attention_backward(dq, dq + head.y_stride, dq + 2 * head.y_stride,
                                       (const float *)a->dy + y_at, (const float *)a->y + y_at,
                                       a->lse + p.lse, &head, swt_cpu_scratch(c));
}

swt_status swt_cpu_attention_backward(const swt_ctx *c, const swt_attention_backward_args *a) {
    swt_cpu_run(c, a->dims.B * a->dims.H, backward_part, a);
    return SWT_OK;
}
