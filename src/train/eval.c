#include "train/eval.h"

#include "base/checked.h"
#include "train/stop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The sums of one micro-batch: of every micro-batch of the split one row, filled by the rank that
 * ran it. */
enum { SUM_CE, SUM_TARGETS, SUM_DROPPED, SUM_ROUTED, SUM_COUNT };

/* How many windows of the validation part are evaluated: all, or the first train.eval_windows. */
static int64_t count_windows(const swt_session *s) {
    const int64_t most = s->options->train_eval_windows;
    return most > 0 ? swt_min(most, s->data.valid_windows) : s->data.valid_windows;
}

/* Windows number first .. first + B - 1 into the host's batch of turn 0; what is beyond the split
 * carries no target and takes no slot. */
static int64_t fill_batch(swt_session *s, int64_t first) {
    swt_model *m = &s->model;
    int64_t targets = 0;
    for (int64_t b = 0; b < m->dims.B; b++) {
        const bool there = first + b < count_windows(s);
        const swt_window window = swt_step_row(m, b);
        const int64_t filled = there ? swt_data_valid_window(&s->data, first + b, &window) : 0;
        swt_step_end_row(m, b, filled);
        targets += filled;
    }
    return targets;
}

static swt_status read_stats(swt_model *m, double *stats) {
    return swt_model_read(m, stats, m->acts.stats,
                          (size_t)swt_stats_count(&m->dims) * sizeof *stats);
}

/* One micro-batch of the split, empty where `number` is beyond it (its experts still serve). */
static swt_status run_one(swt_session *s, int64_t number, bool dropless, double *sums,
                          double *stats) {
    swt_model *m = &s->model;
    const swt_dims *d = &m->dims;
    const bool own = number * d->B < count_windows(s);
    SWT_TRY(swt_step_await_batch(m));
    const int64_t targets = own ? fill_batch(s, number * d->B) : 0;
    swt_pass pass = {.B = own ? d->B : 0,
                     .targets = m->acts.targets,
                     .micro_batch = number,
                     .dropless = dropless};
    swt_pass_sequences(m, &pass);
    if (own)
        SWT_TRY(swt_step_upload(m, 1));
    SWT_TRY(swt_model_forward(m, &pass));
    SWT_TRY(swt_model_loss(m, &pass, false));
    if (!own)
        return SWT_OK;
    SWT_TRY(read_stats(m, stats));
    double *row = sums + number * SUM_COUNT;
    row[SUM_CE] = stats[SWT_LOSS_SUM];
    row[SUM_TARGETS] = (double)targets;
    for (int64_t i = 0; i < swt_sparse_layers(d); i++) {
        const double *layer = stats + swt_stats_layer(d, i);
        row[SUM_DROPPED] += layer[SWT_ROUTER_DROPPED];
        for (int64_t e = 0; e < d->E; e++)
            row[SUM_ROUTED] += layer[SWT_ROUTER_LOAD + e];
    }
    return SWT_OK;
}

static int64_t count_batches(const swt_session *s) {
    return swt_ceil_div(count_windows(s), s->model.dims.B);
}

swt_status swt_eval_alloc(const swt_session *s, double **rows) {
    const int64_t count = count_batches(s);
    *rows = calloc((size_t)(count * SUM_COUNT + swt_stats_count(&s->model.dims)), sizeof **rows);
    if (*rows == NULL)
        return SWT_FAIL(MEMORY, "memory: no room for the sums of %lld evaluation batches",
                        (long long)count);
    return SWT_OK;
}

/* All micro-batches, dealt to the ranks like a step's; then the sums in the order of their numbers.
 */
static swt_status run_split(swt_session *s, bool dropless, double *rows, double total[SUM_COUNT],
                            const swt_eval_watch *watch) {
    const int64_t count = count_batches(s), turns = swt_dist_turns(&s->dist, count);
    double *stats = rows + count * SUM_COUNT;
    memset(rows, 0, (size_t)(count * SUM_COUNT) * sizeof *rows);
    swt_pace pace = {0};
    for (int64_t turn = 0; turn < turns; turn++) {
        SWT_TRY(run_one(s, turn * s->dist.size + s->dist.rank, dropless, rows, stats));
        SWT_TRY(swt_stop_look(s, &pace));
        const int64_t done = turn + 1 + (dropless ? turns : 0);
        watch->progress(watch->context, (double)done / (double)(2 * turns));
    }
    SWT_TRY(swt_comm_share_f64(s->world, rows, count * SUM_COUNT, NULL));
    memset(total, 0, SUM_COUNT * sizeof *total);
    for (int64_t i = 0; i < count; i++)
        for (int j = 0; j < SUM_COUNT; j++)
            total[j] += rows[i * SUM_COUNT + j];
    return SWT_OK;
}

swt_status swt_evaluate(swt_session *s, double *rows, swt_eval_result *out,
                        const swt_eval_watch *watch) {
    double total[SUM_COUNT] = {0};
    swt_progress_phase(s->world->progress, SWT_PHASE_EVALUATION);
    SWT_TRY(run_split(s, false, rows, total, watch));
    out->targets = (int64_t)total[SUM_TARGETS];
    out->loss = total[SUM_CE] / total[SUM_TARGETS];
    out->dropped = total[SUM_ROUTED] > 0.0 ? total[SUM_DROPPED] / total[SUM_ROUTED] : 0.0;
    SWT_TRY(run_split(s, true, rows, total, watch));
    out->loss_dropless = total[SUM_CE] / total[SUM_TARGETS];
    return SWT_OK;
}
