#include "model/dims.h"

#include "base/checked.h"

#include <math.h>

const char *swt_stack_name(swt_stack stack) {
    static const char *const names[SWT_STACKS] = {
#define SWT_STACK_NAME(name, text) text,
        SWT_STACK_LIST(SWT_STACK_NAME)
#undef SWT_STACK_NAME
    };
    return names[stack];
}

int64_t swt_stack_positions(const swt_dims *d, swt_stack stack) {
    return stack == SWT_ENCODER ? d->encoder_T : d->T;
}

int64_t swt_stack_blocks(const swt_dims *d, swt_stack stack) {
    return stack == SWT_ENCODER ? d->encoder_L : d->L;
}

int64_t swt_most_positions(const swt_dims *d) {
    return swt_max(d->T, d->encoder_T);
}

int64_t swt_group_capacity(const swt_dims *d, int64_t tokens, bool training) {
    if (d->capacity > 0)
        return d->capacity;
    const bool own = !training && d->eval_capacity_factor > 0.0;
    const double factor = own ? d->eval_capacity_factor : d->capacity_factor;
    const double slots = factor * (double)tokens / (double)d->E;
    /* Compared as doubles first: a huge factor would not fit an integer. */
    if (slots >= (double)tokens)
        return swt_max(tokens, d->min_capacity);
    int64_t rounded = 0;
    switch (d->capacity_round) {
    case SWT_ROUND_FLOOR:
        rounded = (int64_t)floor(slots);
        break;
    case SWT_ROUND_CEIL:
        rounded = (int64_t)ceil(slots);
        break;
    case SWT_ROUND_ROUND:
        rounded = (int64_t)nearbyint(slots);
        break;
    }
    return swt_max(swt_min(rounded, tokens), d->min_capacity);
}

double swt_norm_eps(const swt_dims *d) {
    return d->norm == SWT_NORM_RMSNORM ? 1e-6 : 1e-5;
}

float swt_head_scale(const swt_dims *d) {
    return d->tied ? (float)(1.0 / sqrt((double)d->C)) : 1.0f;
}

int64_t swt_groups_per_micro_batch(const swt_dims *d, int64_t B) {
    return d->group == SWT_GROUP_SEQUENCE ? swt_max(B, 1) : 1;
}

int64_t swt_group_tokens(const swt_dims *d, swt_stack stack) {
    return d->B * swt_stack_positions(d, stack) / swt_groups_per_micro_batch(d, d->B);
}

int64_t swt_sent_slots(const swt_dims *d, swt_stack stack, bool training) {
    const int64_t G = swt_groups_per_micro_batch(d, d->B), tokens = swt_group_tokens(d, stack);
    /* An expert never holds more than the micro-batch's tokens, whatever min_capacity says. */
    return swt_min(G * swt_group_capacity(d, tokens, training),
                   d->B * swt_stack_positions(d, stack));
}

int64_t swt_message_slots(const swt_dims *d) {
    int64_t most = 1;
    for (int stack = 0; stack < SWT_STACKS; stack++)
        for (int training = 0; training < 2; training++)
            if (swt_stack_blocks(d, (swt_stack)stack) > 0)
                most = swt_max(most, swt_sent_slots(d, (swt_stack)stack, training));
    return most;
}

int64_t swt_sparse_blocks(const swt_dims *d, swt_stack stack) {
    return d->every > 0 ? swt_stack_blocks(d, stack) / d->every : 0;
}

int64_t swt_sparse_layers(const swt_dims *d) {
    return swt_sparse_blocks(d, SWT_ENCODER) + swt_sparse_blocks(d, SWT_DECODER);
}

int64_t swt_step_tokens(const swt_dims *d) {
    return d->M * d->B * (d->encoder_T + d->T);
}

int64_t swt_stats_layer(const swt_dims *d, int64_t sparse) {
    return SWT_LOSS_STATS + sparse * (SWT_ROUTER_LOAD + d->E);
}

int64_t swt_stats_count(const swt_dims *d) {
    return swt_stats_layer(d, swt_sparse_layers(d));
}
