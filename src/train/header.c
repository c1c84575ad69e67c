#include "train/header.h"

#include "base/checked.h"
#include "base/words.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- paths */

/* The path from one folder, which ends in a slash, to another place, both without detours: a ".."
 * for each folder that the first has beyond what they share. */
static void from_folder(char *out, size_t out_bytes, const char *folder, const char *path) {
    size_t shared = 0;
    for (size_t i = 0; folder[i] == path[i] && path[i] != '\0'; i++)
        if (path[i] == '/')
            shared = i + 1;
    out[0] = '\0';
    for (const char *c = folder + shared; *c != '\0'; c++)
        if (*c == '/')
            swt_append(out, out_bytes, "../");
    swt_append(out, out_bytes, "%s", path + shared);
}

/* The path without detours, from the current folder where that is shorter. One that does not exist
 * stays as it is. */
static void shorten(char *out, size_t out_bytes, const char *path) {
    char full[PATH_MAX], here[PATH_MAX], relative[PATH_MAX];
    snprintf(out, out_bytes, "%s", path);
    if (realpath(path, full) == NULL)
        return;
    snprintf(out, out_bytes, "%s", full);
    if (getcwd(here, sizeof here) == NULL || strcmp(here, full) == 0)
        return;
    if (strcmp(here, "/") != 0)
        swt_append(here, sizeof here, "/");
    from_folder(relative, sizeof relative, here, full);
    if (strlen(relative) < strlen(full))
        snprintf(out, out_bytes, "%s", relative);
}

/* ---- rates */

/* The rate of update t: what the update itself computes. */
static double rate_at(const swt_schedule *schedule, double t) {
    swt_step_state state = {.step = (int64_t)t - 1};
    const swt_ctx ctx = {.state = &state};
    return swt_cpu_backend.ops->state_advance(
               &ctx, &(swt_state_advance_args){.schedule = *schedule}) == SWT_OK
               ? state.lr
               : 0.0;
}

static bool rises(const swt_schedule *s) {
    return (s->kind == SWT_SCHEDULE_NOAM || s->kind == SWT_SCHEDULE_COSINE) && s->warmup_steps > 1;
}

static bool is_factor(const swt_schedule *s) {
    return s->kind == SWT_SCHEDULE_NOAM || s->kind == SWT_SCHEDULE_RSQRT;
}

/* Where the rate is highest, were the run long enough. */
static double peak_step(const swt_schedule *s) {
    return rises(s) ? rint(s->warmup_steps) : 1.0;
}

static void say_rates(swt_run *run, const swt_options *o, const swt_schedule *s) {
    char warmup[64] = "";
    const double last = (double)o->train_steps, peak = peak_step(s);
    if (s->kind != SWT_SCHEDULE_CONSTANT)
        snprintf(warmup, sizeof warmup, ", warm-up of %.6g step%s", s->warmup_steps,
                 s->warmup_steps == 1 ? "" : "s");
    swt_run_say(run, "optimiser: %s; schedule %s, lr %.6g%s%s",
                swt_options_choice_name("optim.name", o->optim_name),
                swt_options_choice_name("optim.schedule", o->schedule.kind), s->lr,
                is_factor(s) ? " as a factor" : "", warmup);
    if (last < 1 || s->kind == SWT_SCHEDULE_CONSTANT)
        return;
    swt_run_say(run, "rate: peak %.3g at step %.0f; %.3g at step %.0f, the last", rate_at(s, peak),
                peak, rate_at(s, last), last);
}

/* ---- what is likely not meant */

void swt_header_warn_of_no_room(swt_warnings *w, const swt_dims *d, bool training) {
    const int64_t tokens = swt_group_tokens(d, SWT_DECODER);
    if (swt_sparse_layers(d) > 0 && swt_group_capacity(d, tokens, training) == 0)
        swt_warn(w,
                 "%lld expert%s for %lld tokens: 0 slots each, so that every token is dropped in "
                 "%s; raise moe.capacity_factor, moe.min_capacity or the tokens of a micro-batch",
                 (long long)d->E, swt_plural(d->E), (long long)tokens,
                 training ? "training" : "evaluation");
}

static void warn_of_threads(swt_warnings *w, const swt_session *s) {
    const int threads = s->device.threads, cores = s->cores;
    if (threads > cores)
        swt_warn(w, "%d threads on %d core%s%s: they wait for each other; use at most --threads %d",
                 threads, cores, swt_plural(cores), s->world->size > 1 ? " a rank" : "", cores);
}

/* labml's own preset has such a warm-up by design: there the rate's line says it. */
static void warn_of_warm_up(swt_warnings *w, const swt_session *s) {
    const swt_options *o = s->options;
    const swt_schedule *schedule = &s->update.schedule;
    const double last = (double)o->train_steps;
    const bool by_design =
        swt_options_is_default(o, "train.steps") && swt_options_is_default(o, "optim.warmup_steps");
    if (rises(schedule) && last > 0 && schedule->warmup_steps >= last && !by_design)
        swt_warn(w, "the last step, %.0f, is in the warm-up of %.6g; lower optim.warmup_steps",
                 last, schedule->warmup_steps);
}

static void warn_of_rate(swt_warnings *w, const swt_session *s) {
    const swt_schedule *schedule = &s->update.schedule;
    const double lr = schedule->lr;
    const char *name = swt_options_choice_name("optim.schedule", s->options->schedule.kind);
    if (is_factor(schedule) && lr > 0 && lr <= 0.03)
        swt_warn(
            w,
            "optim.lr %.6g is a factor under %s, so that the rate is at most %.3g; give about 1, "
            "or optim.schedule constant",
            lr, name, rate_at(schedule, peak_step(schedule)));
    if (!is_factor(schedule) && lr >= 0.1 && s->options->optim_name == SWT_OPTIM_ADAM)
        swt_warn(w,
                 "optim.lr %.6g is the rate itself under %s and large for adam; give about 0.001",
                 lr, name);
}

static void warn_of_training(swt_warnings *w, const swt_session *s) {
    const int64_t M = s->model.dims.M;
    if (s->world->size > M)
        swt_warn(w,
                 "%d ranks for %lld micro-batch%s: some ranks only serve their experts; raise "
                 "batch.micro_batches",
                 s->world->size, (long long)M, swt_plural_es(M));
    swt_header_warn_of_no_room(w, &s->model.dims, true);
    swt_header_warn_of_no_room(w, &s->model.dims, false);
    warn_of_threads(w, s);
    warn_of_warm_up(w, s);
    warn_of_rate(w, s);
}

void swt_header_warn(const swt_session *s) {
    swt_warnings found = {.count = 0};
    swt_header_warn_of_no_room(&found, &s->model.dims, false);
    warn_of_threads(&found, s);
    swt_warnings_print(&found, s->err);
}

/* ---- the lines */

static void say_place(swt_run *run, const swt_session *s) {
    char path[SWT_PATH_BYTES];
    swt_run_say(run, "swt-dist %s: %d rank%s of %d thread%s (%s, %s)", SWT_VERSION, s->world->size,
                swt_plural(s->world->size), s->device.threads, swt_plural(s->device.threads),
                s->device.table->name, s->devices->table->name);
    shorten(path, sizeof path, run->path);
    swt_run_say(run, "run directory %s", path);
    if (s->no_gpu[0] != '\0')
        swt_run_say(run, "no GPU: %s", s->no_gpu);
    shorten(path, sizeof path, s->data_path);
    swt_run_say(run, "text %s", path);
}

/* What is trained and validated on, and what of the text is in neither. */
static void say_windows(swt_run *run, const swt_session *s) {
    const swt_data *data = &s->data;
    const int64_t last = data->valid_targets % data->T;
    char path[SWT_PATH_BYTES];
    if (s->options->data_valid[0] != '\0') {
        shorten(path, sizeof path, s->options->data_valid);
        swt_run_say(run, "validation text %s", path);
    }
    char encoder[64] = "";
    if (data->S > 0)
        snprintf(encoder, sizeof encoder, " after %lld of the encoder", (long long)data->S);
    swt_run_say(run, "windows of %lld tokens%s: %lld for training, %lld for validation",
                (long long)data->T, encoder, (long long)data->train_windows,
                (long long)data->valid_windows);
    if (last > 0)
        swt_run_say(run, "the last window has %lld tokens; none of that text is left out",
                    (long long)last);
    if (data->valid_left > 0)
        swt_run_say(run, "not evaluated: the last %lld token%s, less than a window",
                    (long long)data->valid_left, swt_plural(data->valid_left));
}

static void say_model(swt_run *run, const swt_session *s) {
    const swt_dims *d = &s->model.dims;
    const int64_t sparse = swt_sparse_layers(d), groups = swt_groups_per_micro_batch(d, d->B);
    swt_run_say(run, "model: %lld parameters, %lld active per token; vocabulary %lld",
                (long long)s->model.params.total, (long long)s->model.params.active,
                (long long)d->V);
    if (sparse == 0)
        return;
    swt_run_say(run, "experts: %lld in each of %lld layer%s, %lld on rank 0; groups of %d rank%s",
                (long long)d->E, (long long)sparse, swt_plural(sparse), (long long)s->dist.El,
                s->dist.P, swt_plural(s->dist.P));
    for (int stack = SWT_STACKS - 1; stack >= 0; stack--) {
        const int64_t tokens = swt_group_tokens(d, (swt_stack)stack);
        const char *group = groups > 1 ? "sequence" : "micro-batch";
        if (swt_sparse_blocks(d, (swt_stack)stack) == 0)
            continue;
        swt_run_say(run, "slots of an expert and %s%s%s: %lld in training, %lld in evaluation",
                    group, d->encoder_L > 0 ? " of the " : "",
                    d->encoder_L > 0 ? swt_stack_name((swt_stack)stack) : "",
                    (long long)swt_group_capacity(d, tokens, true),
                    (long long)swt_group_capacity(d, tokens, false));
    }
}

void swt_header_say(swt_run *run, swt_session *s) {
    const swt_dims *d = &s->model.dims;
    swt_warnings found = {.count = 0};
    size_t bytes = 0;
    for (int i = 0; i < SWT_ARENA_COUNT; i++)
        bytes += s->model.arenas[i].planned_bytes;
    say_place(run, s);
    say_windows(run, s);
    say_model(run, s);
    char encoder[32] = "";
    if (d->encoder_T > 0)
        snprintf(encoder, sizeof encoder, "(%lld + ", (long long)d->encoder_T);
    swt_run_say(run,
                "step: %lld micro-batch%s of %lld x %s%lld%s tokens; memory of rank 0: %.1f MiB",
                (long long)d->M, swt_plural_es(d->M), (long long)d->B, encoder, (long long)d->T,
                d->encoder_T > 0 ? ")" : "", swt_mib((double)bytes));
    say_rates(run, s->options, &s->update.schedule);
    swt_run_say_warnings(run, &s->options->notes);
    warn_of_training(&found, s);
    swt_run_say_warnings(run, &found);
    swt_run_say_warnings(run, &s->warnings);
}
