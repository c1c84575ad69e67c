/* The dense feed-forward: y = x + wo ReLU(wi norm(x)). */
#include "model/memory.h"

static void params(swt_param_walk *w, const swt_dims *d, swt_places *out) {
    out->wi = swt_params_linear(w, (const char *const[]){"wi", NULL}, d->F, d->C);
    out->wo = swt_params_linear(w, (const char *const[]){"wo", NULL}, d->C, d->F);
}

static void keep(swt_memory_walk *w, swt_sublayer *s) {
    const swt_dims *d = &w->m->dims;
    s->dense.hidden = swt_take_act(w, SWT_COUNT(d->B, d->T, d->F));
}

static void share(swt_memory_walk *w) {
    const swt_dims *d = &w->m->dims;
    if (w->m->training)
        w->m->acts.dhidden = swt_take_act(w, SWT_COUNT(d->B, d->T, d->F));
}

static swt_status forward(swt_model *m, const swt_pass *pass, swt_sublayer *s, void *y) {
    const int64_t N = swt_pass_tokens(pass, s->stack);
    void *hidden = s->dense.hidden;
    SWT_TRY(swt_model_linear(
        m, &s->places->wi, N,
        &(swt_linear_io){.y = hidden, .x = m->acts.norm, .epilogue = SWT_EPILOGUE_RELU}));
    return swt_model_linear(m, &s->places->wo, N,
                            &(swt_linear_io){.y = y, .x = hidden, .residual = s->x});
}

static swt_status backward(swt_model *m, const swt_pass *pass, swt_sublayer *s) {
    const int64_t N = swt_pass_tokens(pass, s->stack);
    const void *hidden = s->dense.hidden;
    swt_shared_acts *a = &m->acts;
    SWT_TRY(swt_model_linear_backward(
        m, &s->places->wo, N,
        &(swt_linear_gradients){
            .dx = a->dhidden, .dy = a->dstream, .x = hidden, .relu_output = hidden}));
    return swt_model_linear_backward(
        m, &s->places->wi, N,
        &(swt_linear_gradients){.dx = a->dnorm, .dy = a->dhidden, .x = a->norm});
}

static double flops_per_token(const swt_dims *d) {
    return 4.0 * (double)d->C * (double)d->F;
}

const swt_kind swt_dense_kind = {.name = "ffn",
                                 .norm = "ffn_norm",
                                 .params = params,
                                 .keep = keep,
                                 .share = share,
                                 .forward = forward,
                                 .backward = backward,
                                 .flops_per_token = flops_per_token};
