/* The router's operations against the oracle. */
#include "judge/case.h"
#include "judge/oracle.h"

#include <math.h>

/* Sizes of a trial that is not large: the most. */
enum { WIDTH = 130, EXPERTS = 17 };

/* Shapes of a large trial: N, C, E and G. The fifth takes its input in two pieces on a GPU; the
 * first, fifth and last have tokens to drop in each of the ways. */
enum { SHAPES = 12 };
static const int64_t shapes[SHAPES][4] = {
    {2200, 140, 7, 1}, {6, 7, 2, 2},   {0, 8, 4, 1},     {130, 64, 16, 130},
    {5000, 3, 4, 1},   {34, 5, 16, 2}, {300, 65, 8, 3},  {2, 700, 3, 2},
    {128, 1, 5, 1},    {70, 33, 1, 2}, {512, 16, 64, 4}, {1200, 32, 5, 2},
};

static int64_t size(const swt_case *k, int which, int64_t most) {
    return k->t->large ? shapes[k->number % SHAPES][which] : swt_trial_size(k->t, most);
}

/* What is special about a case, by turns: a NaN among the logits, all tokens to the last expert, no
 * token in the first group, no room and room for one token. */
enum { NAN_LOGITS = 2, ALL_TO_ONE = 4, EMPTY_GROUP, NO_ROOM, ROOM_FOR_ONE, TURNS };

static bool is_special(const swt_case *k, int what) {
    return k->number % TURNS == what;
}

/* Tokens in one or two groups, experts with too little room for some of them. */
static void draw_dims(swt_case *k, swt_moe_dims *d) {
    const int64_t N = k->t->large ? size(k, 0, 0) : 2 * swt_trial_size(k->t, WIDTH / 2);
    *d = swt_oracle_moe_dims(1, 1, 1);
    swt_case_dim(k, "N", &d->N, N);
    swt_case_dim(k, "C", &d->C, size(k, 1, WIDTH));
    swt_case_dim(k, "E", &d->E, size(k, 2, EXPERTS));
    swt_case_dim(k, "G", &d->G, k->t->large ? size(k, 3, 0) : 1 + k->number % 2);
    d->group_capacity = is_special(k, NO_ROOM)        ? 0
                        : is_special(k, ROOM_FOR_ONE) ? 1
                                                      : 1 + N / d->G / d->E;
    d->K = d->G * d->group_capacity;
    d->drop = (swt_drop)swt_case_note(k, "drop", k->number % 3);
}

static void draw_jitter(swt_case *k, swt_moe_dims *d) {
    d->jitter = swt_case_note(k, "jitter", k->number >> 2 & 1) ? 0.2F : 0;
    d->training = swt_case_note(k, "training", !(k->number >> 3 & 1));
}

/* The logits are wrong by some roundings of the sum of |h w|; so is the relative error of a
 * probability, to which exp, log and the division add a few. */
static double tolerance_of(const swt_moe_dims *d) {
    return (12 + 2 * sqrt((double)d->E) + 3 * (double)d->C) * SWT_ROUNDING;
}

/* Of whole numbers logits are exact, and ties are common. */
static bool whole_numbers(const swt_case *k) {
    return k->number >> 1 & 1;
}

/* One token in five is not routed; in some cases all are. */
void swt_draw_router_forward(swt_case *k, void *args) {
    swt_router_forward_args *a = args;
    const swt_moe_dims *d = &a->dims;
    draw_dims(k, &a->dims);
    draw_jitter(k, &a->dims);
    if (whole_numbers(k)) {
        a->h = swt_case_whole(k, d->N * d->C, k->t->ctx.dtype, -1, 1);
        float *w = swt_case_whole(k, d->E * d->C, SWT_F32, -1, 1);
        if (is_special(k, NAN_LOGITS))
            w[0] = NAN;
        a->w = w;
        if (k->choices & 1)
            a->bias = swt_case_whole(k, d->E, SWT_F32, -1, 1);
        k->choices = 0;
    }
    const bool all = swt_case_note(k, "all_routed", k->number % 5 == 4);
    int32_t *routed = swt_trial_integers(k->t, d->N, 0, 4);
    for (int64_t n = 0; n < d->N; n++)
        routed[n] = all || routed[n] > 0;
    a->routed = routed;
}

/* Exact logits: the very expert, and NaN wins only where nothing else is. Else logits within their
 * error may change places. */
static void judge_choice(swt_case *k, const swt_router_forward_args *a, int64_t n, const double *z,
                         bool exact) {
    const int64_t E = a->dims.E;
    const int32_t best = swt_oracle_argmax(z, E), expert = a->expert[n];
    if (a->routed[n] == 0) {
        swt_case_number(k, a->expert, n, -1, 0);
        swt_case_number(k, a->gate, n, 0, 0);
        return;
    }
    if (expert < 0 || expert >= E) {
        swt_trial_miss(k->t, "expert[%lld] is %d", (long long)n, expert);
        return;
    }
    if (exact)
        swt_case_number(k, a->expert, n, best, 0);
    else
        swt_trial_number(k->t, "logit of the expert", z[expert], z[best],
                         8 * tolerance_of(&a->dims));
    swt_trial_same(k->t, "gate", &a->gate[n], &a->probs[n * E + expert], 1, SWT_F32);
}

void swt_judge_router_forward(swt_case *k, const void *args) {
    const swt_router_forward_args *a = args;
    const swt_moe_dims *d = &a->dims;
    double *factor = swt_trial_doubles(k->t, d->N * d->C),
           *z = swt_trial_doubles(k->t, d->N * d->E);
    double *probs = swt_case_want(k, a->probs), *lse = swt_case_want(k, a->lse);
    swt_oracle_jitter(factor, d, k->t->state->seed, k->t->state->step);
    swt_oracle_router_forward(z, probs, lse, swt_case_wide(k, a->h), factor, swt_case_wide(k, a->w),
                              swt_case_wide(k, a->bias), d);
    if (!is_special(k, NAN_LOGITS)) {
        swt_case_close(k, a->probs, probs, tolerance_of(d), 0);
        swt_case_close(k, a->lse, lse, tolerance_of(d), 1);
    }
    const bool exact = whole_numbers(k) && (d->jitter == 0 || !d->training);
    for (int64_t n = 0; n < d->N; n++)
        judge_choice(k, a, n, z + n * d->E, exact);
}

/* Experts at random, and gates of few values, so that some are equal. */
static int32_t *draw_choices(swt_case *k, const swt_moe_dims *d, const float **gate) {
    int32_t *expert = swt_trial_integers(k->t, d->N, -1, (int)d->E - 1);
    float *given = swt_trial_whole(k->t, d->N, 1, 8);
    for (int64_t n = 0; n < d->N; n++) {
        if (is_special(k, ALL_TO_ONE))
            expert[n] = (int32_t)d->E - 1;
        if (is_special(k, EMPTY_GROUP) && n < d->N / d->G)
            expert[n] = -1;
        given[n] = expert[n] < 0 ? 0 : given[n] / 8;
    }
    *gate = given;
    return expert;
}

void swt_draw_router_assign(swt_case *k, void *args) {
    swt_router_assign_args *a = args;
    draw_dims(k, &a->dims);
    a->dims.training = swt_case_note(k, "training", k->number % 4 != 3);
    a->expert = draw_choices(k, &a->dims, &a->gate);
}

void swt_judge_router_assign(swt_case *k, const void *args) {
    const swt_router_assign_args *a = args;
    const swt_moe_dims *d = &a->dims;
    int32_t *slot = swt_trial_in(k->t, d->N, SWT_I32),
            *kept_counts = swt_trial_in(k->t, d->E, SWT_I32),
            *group_counts = swt_trial_in(k->t, d->G * d->E, SWT_I32);
    swt_oracle_router_assign(slot, kept_counts, group_counts, a->expert, a->gate, d,
                             k->t->state->seed, k->t->state->step);
    swt_trial_same(k->t, "slot", a->slot, slot, d->N, SWT_I32);
    swt_trial_same(k->t, "kept_counts", a->kept_counts, kept_counts, d->E, SWT_I32);
    swt_trial_same(k->t, "group_counts", a->group_counts, group_counts, d->G * d->E, SWT_I32);
}

/* What stands in the row of a token that is not routed is ignored. */
void swt_draw_router_losses(swt_case *k, void *args) {
    swt_router_losses_args *a = args;
    const swt_moe_dims *d = &a->dims;
    const float *gate = NULL;
    draw_dims(k, &a->dims);
    int32_t *slot = swt_trial_in(k->t, d->N, SWT_I32),
            *kept_counts = swt_trial_in(k->t, d->E, SWT_I32),
            *group_counts = swt_trial_in(k->t, d->G * d->E, SWT_I32);
    a->expert = draw_choices(k, d, &gate);
    swt_oracle_router_assign(slot, kept_counts, group_counts, a->expert, gate, d, k->t->state->seed,
                             k->t->state->step);
    float *probs = swt_trial_uniform(k->t, d->N * d->E, 0, 2.0 / (double)d->E);
    float *lse = swt_trial_uniform(k->t, d->N, -2, 4);
    for (int64_t n = 0; n < d->N; n++)
        for (int64_t e = 0; e < d->E && a->expert[n] < 0; e++)
            probs[n * d->E + e] = lse[n] = 1e9F;
    a->kept_counts = kept_counts;
    a->group_counts = group_counts;
    a->probs = probs;
    a->lse = lse;
}

/* Double sums of N E positive terms of given floats: N E roundings at most. The rest are counts. */
void swt_judge_router_losses(swt_case *k, const void *args) {
    const swt_router_losses_args *a = args;
    const swt_moe_dims *d = &a->dims;
    double *stats = swt_case_want(k, a->stats);
    swt_oracle_router_losses(stats, swt_case_wide(k, a->probs), swt_case_wide(k, a->lse), a->expert,
                             a->kept_counts, a->group_counts, d);
    const double limit = (8 + (double)(d->N * d->E)) * 0x1p-53;
    swt_case_number(k, a->stats, SWT_ROUTER_AUX, stats[SWT_ROUTER_AUX], limit * (double)d->E);
    swt_case_number(k, a->stats, SWT_ROUTER_Z, stats[SWT_ROUTER_Z],
                    limit * (1 + stats[SWT_ROUTER_Z]));
    for (int64_t i = SWT_ROUTER_DROPPED; i < SWT_ROUTER_LOAD + d->E; i++)
        swt_case_number(k, a->stats, i, stats[i], 0);
}

/* A token's probabilities, from logits at random, and its choice. */
static void draw_token(swt_case *k, const swt_moe_dims *d, float *probs, float *lse,
                       int32_t *expert, float *gate) {
    double *z = swt_trial_doubles(k->t, d->E);
    for (int64_t e = 0; e < d->E; e++)
        z[e] = 8 * swt_trial_draw(k->t) - 4;
    const double sum = swt_oracle_logsumexp(z, d->E);
    for (int64_t e = 0; e < d->E; e++)
        probs[e] = (float)exp(z[e] - sum);
    *lse = (float)sum;
    *expert = swt_trial_choose(k->t, 0, 4) > 0 ? swt_oracle_argmax(z, d->E) : -1;
    *gate = *expert >= 0 ? probs[*expert] : 0;
}

/* The formula holds for any logits, those of h and w or not. The loss scales give all three terms
 * of dz the same order of size. */
void swt_draw_router_backward(swt_case *k, void *args) {
    swt_router_backward_args *a = args;
    swt_moe_dims *d = &a->dims;
    draw_dims(k, d);
    draw_jitter(k, d);
    d->aux_scale = 0.2 * (double)d->N;
    d->z_scale = 0.1 * (double)d->N;
    float *probs = swt_trial_in(k->t, d->N * d->E, SWT_F32);
    float *lse = swt_trial_in(k->t, d->N, SWT_F32), *gate = swt_trial_in(k->t, d->N, SWT_F32);
    int32_t *expert = swt_trial_in(k->t, d->N, SWT_I32),
            *group_counts = swt_trial_in(k->t, d->G * d->E, SWT_I32);
    for (int64_t n = 0; n < d->N; n++) {
        draw_token(k, d, probs + n * d->E, lse + n, expert + n, gate + n);
        if (expert[n] >= 0)
            group_counts[n / (d->N / d->G) * d->E + expert[n]]++;
    }
    a->probs = probs;
    a->lse = lse;
    a->expert = expert;
    a->gate = gate;
    a->group_counts = group_counts;
}

/* dz: a dozen roundings of numbers around its own size, and the sum over E of f p, whose error is
 * multiplied by E: of the scale of 1. dw, dbias: sums over N of dz; dh: over E, on top of numbers
 * below 1. */
void swt_judge_router_backward(swt_case *k, const void *args) {
    const swt_router_backward_args *a = args;
    const swt_moe_dims *d = &a->dims;
    double *factor = swt_trial_doubles(k->t, d->N * d->C),
           *dz = swt_trial_doubles(k->t, d->N * d->E), *dh = swt_case_want(k, a->dh),
           *dw = swt_case_want(k, a->dw), *dbias = swt_case_want(k, a->dbias), largest = 0.1;
    swt_oracle_jitter(factor, d, k->t->state->seed, k->t->state->step);
    swt_oracle_router_backward(dz, dh, dw, dbias, swt_case_wide(k, a->dgate),
                               swt_case_wide(k, a->h), factor, swt_case_wide(k, a->w),
                               swt_case_wide(k, a->probs), swt_case_wide(k, a->lse), a->expert,
                               swt_case_wide(k, a->gate), a->group_counts, d);
    for (int64_t i = 0; i < d->N * d->E; i++)
        largest = fmax(largest, fabs(dz[i]));
    const double rows = sqrt(1 + (double)d->N), experts = sqrt((double)d->E);
    const double dz_error = 8 * largest * SWT_ROUNDING;
    swt_case_close(k, a->dh, dh, dz_error * experts * (1 + experts), 1);
    swt_case_close(k, a->dw, dw, dz_error * rows, rows);
    swt_case_close(k, a->dbias, dbias, dz_error * rows, rows);
}
