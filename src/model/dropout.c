#include "model/dropout.h"

uint32_t swt_block_number(const swt_dims *d, swt_stack stack, int64_t block) {
    return (uint32_t)(block + (stack == SWT_ENCODER ? d->L : 0));
}

/* Rows are counted from row micro_batch * rows on, `rows` being those of a full micro-batch. */
static swt_dropout_mask place_mask(const swt_model *m, const swt_pass *pass,
                                   swt_dropout_place place, uint32_t block, int64_t rows) {
    return swt_dropout_mask_of(pass->training ? m->dims.dropout : 0.0, place, block,
                               pass->micro_batch * rows);
}

/* y = residual + dropout(x). */
static swt_status drop_rows(swt_model *m, const swt_pass *pass, swt_stack stack,
                            const swt_dropout_mask *mask, swt_dropout_args a) {
    a.dims = (swt_dropout_dims){
        .blocks = 1, .rows = swt_pass_tokens(pass, stack), .C = a.dims.C, .sources = 1};
    a.mask = *mask;
    return swt_dropout(&m->ctx, &a);
}

static swt_dropout_mask tokens_mask(const swt_model *m, const swt_pass *pass, swt_stack stack,
                                    swt_dropout_place place, int64_t block) {
    const swt_dims *d = &m->dims;
    return place_mask(m, pass, place, swt_block_number(d, stack, block),
                      d->B * swt_stack_positions(d, stack));
}

/* x = dropout(x), (N, width), of the tokens of a stack. */
static swt_status drop_in_place(swt_model *m, const swt_pass *pass, swt_stack stack,
                                swt_dropout_place place, int64_t block, void *x, int64_t width) {
    const swt_dropout_mask mask = tokens_mask(m, pass, stack, place, block);
    if (mask.limit == 0)
        return SWT_OK;
    return drop_rows(m, pass, stack, &mask, (swt_dropout_args){.y = x, .x = x, .dims.C = width});
}

static swt_dropout_mask output_mask(const swt_model *m, const swt_pass *pass,
                                    const swt_sublayer *s) {
    static const swt_dropout_place places[SWT_SUBLAYER_KINDS] = {
        [SWT_SELF_ATTENTION] = SWT_DROPOUT_ATTENTION,
        [SWT_CROSS_ATTENTION] = SWT_DROPOUT_CROSS,
        [SWT_DENSE] = SWT_DROPOUT_FFN,
        [SWT_SWITCH] = SWT_DROPOUT_FFN,
    };
    return tokens_mask(m, pass, s->stack, places[s->kind], s->block);
}

const void *swt_model_residual(const swt_model *m, const swt_pass *pass, const swt_sublayer *s) {
    return output_mask(m, pass, s).limit > 0 ? NULL : s->x;
}

swt_status swt_model_add(swt_model *m, const swt_pass *pass, const swt_sublayer *s, void *y) {
    const swt_dropout_mask mask = output_mask(m, pass, s);
    if (mask.limit == 0)
        return SWT_OK;
    return drop_rows(m, pass, s->stack, &mask,
                     (swt_dropout_args){.y = y, .x = y, .residual = s->x, .dims.C = m->dims.C});
}

swt_status swt_model_output(swt_model *m, const swt_pass *pass, const swt_sublayer *s,
                            const swt_place *p, void *y, const void *x) {
    SWT_TRY(swt_model_linear(
        m, p, swt_pass_tokens(pass, s->stack),
        &(swt_linear_io){.y = y, .x = x, .residual = swt_model_residual(m, pass, s)}));
    return swt_model_add(m, pass, s, y);
}

swt_status swt_model_output_gradient(swt_model *m, const swt_pass *pass, const swt_sublayer *s) {
    const swt_dropout_mask mask = output_mask(m, pass, s);
    if (m->acts.doutput == m->acts.dstream)
        return SWT_OK;
    return drop_rows(
        m, pass, s->stack, &mask,
        (swt_dropout_args){.y = m->acts.doutput, .x = m->acts.dstream, .dims.C = m->dims.C});
}

swt_status swt_model_drop_end(swt_model *m, const swt_pass *pass, swt_stack stack,
                              swt_dropout_place place, void *x) {
    return drop_in_place(m, pass, stack, place, 0, x, m->dims.C);
}

/* The sources are the ranks of the group in turn, and so are their micro-batches' numbers. */
swt_dropout_mask swt_model_expert_mask(const swt_model *m, const swt_pass *pass,
                                       const swt_sublayer *s) {
    const swt_dims *d = &m->dims;
    const int64_t micro_batch = pass->turn * m->dist->size + (int64_t)m->dist->replica * m->dist->P;
    const int64_t row =
        (micro_batch * d->E + m->dist->first_own) * swt_sent_slots(d, s->stack, true);
    return swt_dropout_mask_of(pass->training ? d->expert_dropout : 0.0, SWT_DROPOUT_EXPERTS,
                               swt_block_number(d, s->stack, s->block), row);
}

swt_dropout_mask swt_model_weights_mask(const swt_model *m, const swt_pass *pass,
                                        const swt_sublayer *s) {
    const swt_dims *d = &m->dims;
    return place_mask(
        m, pass, s->kind == SWT_CROSS_ATTENTION ? SWT_DROPOUT_CROSS_WEIGHTS : SWT_DROPOUT_WEIGHTS,
        swt_block_number(d, s->stack, s->block), d->B * d->H);
}

swt_status swt_model_drop_hidden(swt_model *m, const swt_pass *pass, const swt_sublayer *s,
                                 void *hidden) {
    return drop_in_place(m, pass, s->stack, SWT_DROPOUT_HIDDEN, s->block, hidden, m->dims.F);
}
