#include "model/sublayer.h"

static const swt_kind *const kinds[SWT_SUBLAYER_KINDS] = {
    [SWT_SELF_ATTENTION] = &swt_attention_kind,
    [SWT_DENSE] = &swt_dense_kind,
    [SWT_SWITCH] = &swt_switch_kind,
};

static const char *const stacks[SWT_STACKS] = {
#define SWT_STACK_NAME(name, text) text,
    SWT_STACK_LIST(SWT_STACK_NAME)
#undef SWT_STACK_NAME
};

const swt_kind *swt_kind_of(const swt_sublayer *s) {
    return kinds[s->kind];
}

const char *swt_stack_name(swt_stack stack) {
    return stacks[stack];
}

/* A block: attention, then a feed-forward. */
enum { PER_BLOCK = 2 };

int64_t swt_sublayer_count(const swt_dims *d) {
    return PER_BLOCK * d->L;
}

/* The feed-forward of the last block of every `every` blocks is sparse. */
swt_sublayer swt_sublayer_at(const swt_dims *d, int64_t i) {
    const int64_t block = i / PER_BLOCK;
    swt_sublayer s = {.stack = SWT_DECODER, .block = block, .kind = SWT_SELF_ATTENTION};
    if (i % PER_BLOCK == 0)
        return s;
    const bool sparse = d->every > 0 && block % d->every == d->every - 1;
    s.kind = sparse ? SWT_SWITCH : SWT_DENSE;
    s.sparse = sparse ? block / d->every : 0;
    return s;
}
