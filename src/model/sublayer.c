#include "model/sublayer.h"

static const swt_kind *const kinds[SWT_SUBLAYER_KINDS] = {
    [SWT_SELF_ATTENTION] = &swt_attention_kind,
    [SWT_CROSS_ATTENTION] = &swt_cross_kind,
    [SWT_DENSE] = &swt_dense_kind,
    [SWT_SWITCH] = &swt_switch_kind,
};

const swt_kind *swt_kind_of(const swt_sublayer *s) {
    return kinds[s->kind];
}

/* A block: self-attention, in a decoder with an encoder cross-attention, a feed-forward. */
static int64_t per_block(const swt_dims *d, swt_stack stack) {
    return stack == SWT_DECODER && d->encoder_L > 0 ? 3 : 2;
}

int64_t swt_sublayer_first(const swt_dims *d, swt_stack stack) {
    return stack == SWT_ENCODER ? 0 : per_block(d, SWT_ENCODER) * d->encoder_L;
}

int64_t swt_sublayer_count(const swt_dims *d) {
    return swt_sublayer_first(d, SWT_DECODER) + per_block(d, SWT_DECODER) * d->L;
}

/* The feed-forward of the last block of every `every` blocks is sparse. */
swt_sublayer swt_sublayer_at(const swt_dims *d, int64_t i) {
    const swt_stack stack = i < swt_sublayer_first(d, SWT_DECODER) ? SWT_ENCODER : SWT_DECODER;
    const int64_t in_stack = i - swt_sublayer_first(d, stack), of_block = per_block(d, stack);
    const int64_t block = in_stack / of_block, part = in_stack % of_block;
    swt_sublayer s = {.stack = stack, .block = block, .kind = SWT_SELF_ATTENTION};
    if (part == 0)
        return s;
    s.kind = SWT_CROSS_ATTENTION;
    if (part < of_block - 1)
        return s;
    const int64_t before = stack == SWT_DECODER ? swt_sparse_blocks(d, SWT_ENCODER) : 0;
    const bool sparse = d->every > 0 && block % d->every == d->every - 1;
    s.kind = sparse ? SWT_SWITCH : SWT_DENSE;
    s.sparse = sparse ? before + block / d->every : 0;
    return s;
}
