#include "model/dims.h"

#include "base/checked.h"

#include <math.h>

int64_t swt_capacity(const swt_dims *d, int64_t tokens, bool training) {
    if (d->capacity > 0)
        return d->capacity;
    const bool own = !training && d->eval_capacity_factor > 0.0;
    const double factor = own ? d->eval_capacity_factor : d->capacity_factor;
    const double slots = factor * (double)tokens / (double)d->E;
    /* Compared as doubles first: a huge factor would not fit an integer. */
    if (slots >= (double)tokens)
        return swt_max(tokens, d->min_capacity);
    int64_t K = 0;
    switch (d->capacity_round) {
    case SWT_ROUND_FLOOR:
        K = (int64_t)floor(slots);
        break;
    case SWT_ROUND_CEIL:
        K = (int64_t)ceil(slots);
        break;
    case SWT_ROUND_ROUND:
        K = (int64_t)nearbyint(slots);
        break;
    }
    return swt_max(swt_min(K, tokens), d->min_capacity);
}

int64_t swt_groups_per_micro_batch(const swt_dims *d, int64_t B) {
    return d->group == SWT_GROUP_SEQUENCE ? swt_max(B, 1) : 1;
}

int64_t swt_message_slots(const swt_dims *d) {
    const int64_t G = swt_groups_per_micro_batch(d, d->B), tokens = d->B * d->T / G;
    const int64_t train = swt_capacity(d, tokens, true), eval = swt_capacity(d, tokens, false);
    /* An expert never holds more than the micro-batch's tokens, whatever min_capacity says. */
    return swt_max(swt_min(G * swt_max(train, eval), d->B * d->T), 1);
}

bool swt_is_sparse(const swt_dims *d, int64_t layer) {
    return d->every > 0 && layer % d->every == d->every - 1;
}

int64_t swt_sparse_layers(const swt_dims *d) {
    return d->every > 0 ? d->L / d->every : 0;
}

int64_t swt_stats_layer(const swt_dims *d, int64_t i) {
    return 2 + i * (SWT_ROUTER_LOAD + d->E);
}

int64_t swt_stats_count(const swt_dims *d) {
    return swt_stats_layer(d, swt_sparse_layers(d));
}
