/* The dense feed-forward: y = x + wo act(wi norm(x)), act ReLU, GELU or GEGLU, whose wi makes u and
 * v: y = x + wo (gelu(u) v). */
#include "model/dropout.h"
#include "model/memory.h"

static void params(swt_param_walk *w, const swt_dims *d, swt_places *out) {
    out->wi = swt_params_linear(w, swt_params_wi(d), d->F, d->C);
    out->wo = swt_params_linear(w, (const char *const[]){"wo", NULL}, d->C, d->F);
}

static void keep(swt_memory_walk *w, swt_sublayer *s) {
    const swt_dims *d = &w->m->dims;
    const int64_t N = SWT_COUNT(d->B, swt_stack_positions(d, s->stack));
    s->dense.hidden = swt_take_act(w, SWT_COUNT(N, d->F));
    if (d->ffn != SWT_FFN_RELU)
        s->dense.pre = swt_take_act(w, SWT_COUNT(N, swt_wi_width(d->ffn, d->F)));
}

static void share(swt_memory_walk *w) {
    const swt_dims *d = &w->m->dims;
    swt_shared_acts *a = &w->m->acts;
    const int64_t N = SWT_COUNT(d->B, swt_most_positions(d));
    if (!w->m->training)
        return;
    a->dhidden = a->dpre = swt_take_act(w, SWT_COUNT(N, d->F));
    if (d->ffn != SWT_FFN_RELU)
        a->dpre = swt_take_act(w, SWT_COUNT(N, swt_wi_width(d->ffn, d->F)));
}

/* Of all N rows. */
static swt_gelu_dims gelu_dims(const swt_model *m, int64_t N) {
    return (swt_gelu_dims){
        .blocks = 1, .rows = N, .F = m->dims.F, .gated = m->dims.ffn == SWT_FFN_GEGLU};
}

/* hidden = act(wi x); ReLU is part of the product. */
static swt_status forward_hidden(swt_model *m, const swt_sublayer *s, int64_t N) {
    const swt_dense_acts *a = &s->dense;
    if (m->dims.ffn == SWT_FFN_RELU)
        return swt_model_linear(
            m, &s->places->wi, N,
            &(swt_linear_io){.y = a->hidden, .x = m->acts.norm, .epilogue = SWT_EPILOGUE_RELU});
    SWT_TRY(
        swt_model_linear(m, &s->places->wi, N, &(swt_linear_io){.y = a->pre, .x = m->acts.norm}));
    return swt_gelu_forward(
        &m->ctx, &(swt_gelu_forward_args){.y = a->hidden, .x = a->pre, .dims = gelu_dims(m, N)});
}

static swt_status forward(swt_model *m, const swt_pass *pass, swt_sublayer *s, void *y) {
    const int64_t N = swt_pass_tokens(pass, s->stack);
    SWT_TRY(forward_hidden(m, s, N));
    SWT_TRY(swt_model_drop_hidden(m, pass, s, s->dense.hidden));
    return swt_model_output(m, pass, s, &s->places->wo, y, s->dense.hidden);
}

static swt_status backward(swt_model *m, const swt_pass *pass, swt_sublayer *s) {
    const int64_t N = swt_pass_tokens(pass, s->stack);
    const swt_dense_acts *d = &s->dense;
    const bool relu = m->dims.ffn == SWT_FFN_RELU;
    swt_shared_acts *a = &m->acts;
    SWT_TRY(
        swt_model_linear_backward(m, &s->places->wo, N,
                                  &(swt_linear_gradients){.dx = a->dhidden,
                                                          .dy = a->doutput,
                                                          .x = d->hidden,
                                                          .relu_output = relu ? d->hidden : NULL}));
    SWT_TRY(swt_model_drop_hidden(m, pass, s, a->dhidden));
    if (!relu)
        SWT_TRY(swt_gelu_backward(
            &m->ctx, &(swt_gelu_backward_args){
                         .dx = a->dpre, .dy = a->dhidden, .x = d->pre, .dims = gelu_dims(m, N)}));
    return swt_model_linear_backward(
        m, &s->places->wi, N, &(swt_linear_gradients){.dx = a->dnorm, .dy = a->dpre, .x = a->norm});
}

static double flops_per_token(const swt_dims *d, swt_stack stack) {
    (void)stack;
    return 2.0 * (double)d->C * (double)(swt_wi_width(d->ffn, d->F) + d->F);
}

const swt_kind swt_dense_kind = {.name = "ffn",
                                 .norm = "ffn_norm",
                                 .params = params,
                                 .keep = keep,
                                 .share = share,
                                 .forward = forward,
                                 .backward = backward,
                                 .flops_per_token = flops_per_token};
