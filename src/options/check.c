/* What can be said about the options as a whole, before there is any data: what is not built yet,
 * and what does not fit together. */
#include "base/checked.h"
#include "base/words.h"
#include "kernels/swt_backend.h"
#include "options/table.h"

#include <inttypes.h>
#include <stdio.h>

/* Of a key that the command takes: others do nothing in it. */
static swt_status check_built(const swt_options *o, const swt_option *row) {
    char value[SWT_OPTION_NAME_BYTES], right[SWT_OPTION_RANGE_BYTES] = "";
    if (row->built == NULL || (row->commands & (1u << o->command)) == 0 ||
        swt_option_is_among(o, row, row->built))
        return SWT_OK;
    swt_option_print(o, row, value, sizeof value);
    swt_option_append_built(row, " or ", right, sizeof right);
    return SWT_FAIL(USAGE, "%s: %s is not built yet; use %s", row->key, value, right);
}

/* A size that several keys make together. */
typedef struct product {
    const char *keys;
    int64_t factors[4];
    int64_t most;
} product;

/* Whether the factors' product is at most `most`. One that the row does not need, or that is not
 * known yet, is 0. */
static bool fits(const product *p) {
    int64_t size = 1;
    for (int i = 0; i < 4; i++) {
        const int64_t factor = p->factors[i] == 0 ? 1 : p->factors[i];
        if (!swt_checked_mul(size, factor, &size) || size > p->most)
            return false;
    }
    return true;
}

static swt_status check_sizes(const swt_options *o) {
    /* A random number's counter holds the element of a tensor in 32 bits; a token's number is I32.
     * What is larger than 2^48 elements fits no machine; with this bound, sums over layers and
     * bytes stay inside int64. */
    const int64_t element_most = INT64_C(1) << 32, token_most = INT32_MAX,
                  size_most = INT64_C(1) << 48, run_most = INT64_C(1) << 62;
    const swt_dims *d = &o->dims;
    const int64_t B = d->B, T = d->T, Tt = o->batch_target_len, M = d->M, C = d->C, H = d->H,
                  F = d->F, V = d->V, E = d->E, L = d->L;
    const int64_t N = B * T, HD = d->D > 0 ? H * d->D : C;
    const int64_t Td = d->dropout > 0.0 ? T : 0, Ttd = d->dropout > 0.0 ? Tt : 0;
    const int64_t weights_most = element_most * 4; /* a draw is for four */
    const int64_t slots = swt_max(d->capacity, d->min_capacity) * swt_groups_per_micro_batch(d, B);
    const product products[] = {
        {"batch.sequences x batch.seq_len", {B, T}, token_most},
        {"batch.sequences x batch.target_len", {B, Tt}, token_most},
        {"batch.sequences x batch.seq_len x model.width", {N, C}, element_most},
        {"batch.sequences x batch.target_len x model.width", {B, Tt, C}, element_most},
        {"batch.sequences x batch.seq_len x model.heads x model.head_width", {N, HD}, element_most},
        {"with model.dropout batch.seq_len^2", {Td, Td}, weights_most},
        {"with model.dropout batch.target_len x batch.seq_len", {Ttd, T}, weights_most},
        {"with model.dropout batch.target_len^2", {Ttd, Ttd}, weights_most},
        {"batch.sequences x batch.seq_len x model.hidden", {N, F}, size_most},
        {"batch.sequences x batch.seq_len x model.vocab", {N, V}, size_most},
        {"train.steps x batch.micro_batches x batch.sequences x batch.target_len",
         {o->train_steps, M, B, Tt},
         run_most},
        {"batch.sequences x model.heads x batch.seq_len^2", {B, H, T, T}, size_most},
        {"train.steps x batch.micro_batches x batch.sequences x batch.seq_len",
         {o->train_steps, M, N},
         run_most},
        {"model.vocab x model.width", {V, C}, element_most},
        {"model.width x model.heads x model.head_width", {C, HD}, element_most},
        {"model.width x model.hidden", {C, F}, element_most},
        {"model.layers x moe.experts x model.width x model.hidden", {L, E, C, F}, size_most},
        {"moe.experts x moe.capacity or moe.min_capacity x model.width", {E, slots, C}, size_most},
        {"moe.experts x moe.capacity or moe.min_capacity x model.hidden", {E, slots, F}, size_most},
    };
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++)
        if (!fits(&products[i]))
            return SWT_FAIL(USAGE, "%s: together more than %" PRId64 "; make one of them smaller",
                            products[i].keys, products[i].most);
    return SWT_OK;
}

swt_status swt_options_check(const swt_options *o) {
    for (int i = 0; i < swt_option_count; i++)
        SWT_TRY(check_built(o, &swt_option_table[i]));
    if (o->run_device == SWT_DEVICE_CUDA && swt_cuda_backend.ops == NULL)
        return SWT_FAIL(USAGE,
                        "run.device: this build has no CUDA backend; use --device cpu or auto, or "
                        "build it with cmake --preset cuda");
    if (o->command == SWT_COMMAND_TRAIN && o->run_resume == SWT_RESUME_AUTO &&
        o->run_out[0] == '\0')
        return SWT_FAIL(USAGE, "run.resume: auto needs the run to go on with; add --out DIR");
    const swt_dims *d = &o->dims;
    if (d->D == 0 && d->C % d->H != 0)
        return SWT_FAIL(USAGE,
                        "model.width: %" PRId64 " does not divide by model.heads %" PRId64
                        "; choose a multiple, or set model.head_width",
                        d->C, d->H);
    const int64_t D = d->D > 0 ? d->D : d->C / d->H;
    if (D > SWT_HEAD_WIDTH_MAX)
        return SWT_FAIL(USAGE,
                        "model.head_width: heads of %" PRId64
                        " features are too wide; use more model.heads or a width up to %d",
                        D, SWT_HEAD_WIDTH_MAX);
    if (d->V > 0 && d->pad_id >= d->V)
        return SWT_FAIL(USAGE,
                        "model.pad_id: %" PRId64 " is no token of a vocabulary of %" PRId64
                        "; choose one below, or -1 for none",
                        d->pad_id, d->V);
    if (o->schedule.kind == SWT_SCHEDULE_COSINE && o->schedule.min_lr > o->schedule.lr)
        return SWT_FAIL(USAGE,
                        "optim.min_lr: %g is above optim.lr %g, from which the rate falls to it; "
                        "use at most that",
                        o->schedule.min_lr, o->schedule.lr);
    const bool trains = o->command == SWT_COMMAND_TRAIN || o->command == SWT_COMMAND_PLAN;
    if (trains && o->data_valid_fraction == 1.0 && o->data_valid[0] == '\0')
        return SWT_FAIL(USAGE, "data.valid_fraction: 1 leaves nothing to train on; use a smaller "
                               "share, or give data.valid a text of its own");
    if (o->dist_expert_ranks > d->E)
        return SWT_FAIL(USAGE,
                        "dist.expert_ranks: %" PRId64 " ranks cannot share %" PRId64
                        " expert%s; use at most as many ranks as moe.experts, or 0",
                        o->dist_expert_ranks, d->E, swt_plural(d->E));
    return check_sizes(o);
}
