#include "train/header.h"

#include "base/checked.h"
#include "base/words.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- paths */

/* The path from one folder to another place, both without detours: a ".." for each folder that the
 * first has beyond what they share. */
static void from_folder(char *out, size_t out_bytes, const char *folder, const char *path) {
    size_t shared = 0;
    for (size_t i = 0; folder[i] == path[i] && path[i] != '\0'; i++)
        if (path[i] == '/')
            shared = i + 1;
    const size_t n = strlen(folder);
    if (strncmp(folder, path, n) == 0 && path[n] == '/') {
        snprintf(out, out_bytes, "%s", path + n + 1);
        return;
    }
    size_t used = 0;
    for (const char *rest = folder + shared; rest != NULL && *rest != '\0';) {
        used += (size_t)snprintf(out + used, out_bytes - used, "../");
        rest = strchr(rest, '/');
        rest = rest != NULL ? rest + 1 : NULL;
        if (used >= out_bytes)
            return;
    }
    snprintf(out + used, out_bytes - used, "%s", path + shared);
}

void swt_path_short(char *out, size_t out_bytes, const char *path) {
    char full[PATH_MAX], here[PATH_MAX], relative[PATH_MAX];
    snprintf(out, out_bytes, "%s", path);
    if (realpath(path, full) == NULL)
        return;
    snprintf(out, out_bytes, "%s", full);
    if (getcwd(here, sizeof here) == NULL || strcmp(here, full) == 0)
        return;
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

/* ---- what is likely not meant; each writes the line, or returns false */

typedef bool (*warning)(const swt_session *s, char *out, size_t out_bytes);

static bool idle_ranks(const swt_session *s, char *out, size_t out_bytes) {
    const int64_t M = s->model.dims.M;
    snprintf(out, out_bytes,
             "%d ranks for %lld micro-batch%s: some ranks only serve their experts; raise "
             "batch.micro_batches",
             s->world->size, (long long)M, swt_plural_es(M));
    return s->world->size > M;
}

bool swt_header_no_room(const swt_dims *d, bool training, char *out, size_t out_bytes) {
    const int64_t tokens = d->B * d->T / swt_groups_per_micro_batch(d, d->B);
    const bool none = swt_sparse_layers(d) > 0 && swt_capacity(d, tokens, training) == 0;
    snprintf(
        out, out_bytes,
        "%lld expert%s for %lld tokens: 0 slots each, so that every token is dropped in %s; raise "
        "moe.capacity_factor, moe.min_capacity or the tokens of a micro-batch",
        (long long)d->E, swt_plural(d->E), (long long)tokens, training ? "training" : "evaluation");
    return none;
}

static bool no_room_in_training(const swt_session *s, char *out, size_t out_bytes) {
    return swt_header_no_room(&s->model.dims, true, out, out_bytes);
}

static bool no_room_in_evaluation(const swt_session *s, char *out, size_t out_bytes) {
    return swt_header_no_room(&s->model.dims, false, out, out_bytes);
}

static bool more_threads_than_cores(const swt_session *s, char *out, size_t out_bytes) {
    const int threads = s->device.threads;
    snprintf(out, out_bytes,
             "%d threads on %d core%s%s: they wait for each other; use at most --threads %d",
             threads, s->cores, swt_plural(s->cores), s->world->size > 1 ? " a rank" : "",
             s->cores);
    return threads > s->cores;
}

/* labml's own preset is so by design: there the rate's line says it. */
static bool warm_up_outlasts_run(const swt_session *s, char *out, size_t out_bytes) {
    const swt_schedule *schedule = &s->update.schedule;
    const double last = (double)s->options->train_steps;
    swt_options preset;
    swt_options_defaults(&preset, (swt_preset)s->options->model_preset);
    const bool by_design = s->options->train_steps == preset.train_steps &&
                           s->options->schedule.warmup_steps == preset.schedule.warmup_steps;
    snprintf(out, out_bytes,
             "the last step, %.0f, is in the warm-up of %.6g; lower optim.warmup_steps", last,
             schedule->warmup_steps);
    return rises(schedule) && last > 0 && schedule->warmup_steps >= last && !by_design;
}

static bool odd_rate(const swt_session *s, char *out, size_t out_bytes) {
    const swt_schedule *schedule = &s->update.schedule;
    const bool factor = is_factor(schedule);
    const char *name = swt_options_choice_name("optim.schedule", s->options->schedule.kind);
    if (factor)
        snprintf(out, out_bytes,
                 "optim.lr %.6g is a factor under %s, so that the rate is at most %.3g; give about "
                 "1, or optim.schedule constant",
                 schedule->lr, name, rate_at(schedule, peak_step(schedule)));
    else
        snprintf(out, out_bytes,
                 "optim.lr %.6g is the rate itself under %s and large for adam; give about 0.001",
                 schedule->lr, name);
    return factor ? schedule->lr > 0 && schedule->lr <= 0.03
                  : schedule->lr >= 0.1 && s->options->optim_name == SWT_OPTIM_ADAM;
}

static const warning of_training[] = {idle_ranks,
                                      no_room_in_training,
                                      no_room_in_evaluation,
                                      more_threads_than_cores,
                                      warm_up_outlasts_run,
                                      odd_rate};
static const warning of_reading[] = {no_room_in_evaluation, more_threads_than_cores};

void swt_header_warn(const swt_session *s) {
    char line[256];
    for (size_t i = 0; i < sizeof of_reading / sizeof of_reading[0]; i++)
        if (of_reading[i](s, line, sizeof line))
            fprintf(s->err, "swt-dist: warning: %s\n", line);
}

/* ---- the lines */

static void say_place(swt_run *run, const swt_session *s) {
    char path[SWT_PATH_BYTES];
    swt_run_say(run, "swt-dist %s: %d rank%s of %d thread%s (%s, %s)", SWT_VERSION, s->world->size,
                swt_plural(s->world->size), s->device.threads, swt_plural(s->device.threads),
                s->device.table->name, s->devices->table->name);
    swt_path_short(path, sizeof path, run->path);
    swt_run_say(run, "run directory %s", path);
    if (s->no_gpu[0] != '\0')
        swt_run_say(run, "no GPU: %s", s->no_gpu);
    swt_path_short(path, sizeof path, s->data_path);
    swt_run_say(run, "text %s", path);
}

/* What is trained and validated on, and what of the text is in neither. */
static void say_windows(swt_run *run, const swt_session *s) {
    const swt_data *data = &s->data;
    const int64_t last = data->valid_targets % data->T;
    char path[SWT_PATH_BYTES];
    if (s->options->data_valid[0] != '\0') {
        swt_path_short(path, sizeof path, s->options->data_valid);
        swt_run_say(run, "validation text %s", path);
    }
    swt_run_say(run, "windows of %lld tokens: %lld for training, %lld for validation",
                (long long)data->T, (long long)data->train_windows, (long long)data->valid_windows);
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
    const int64_t training = swt_capacity(d, d->B * d->T / groups, true),
                  evaluation = swt_capacity(d, d->B * d->T / groups, false);
    swt_run_say(run, "experts: %lld in each of %lld layer%s, %lld on rank 0; groups of %d rank%s",
                (long long)d->E, (long long)sparse, swt_plural(sparse), (long long)s->dist.El,
                s->dist.P, swt_plural(s->dist.P));
    swt_run_say(run, "slots of an expert and %s: %lld in training, %lld in evaluation",
                groups > 1 ? "sequence" : "micro-batch", (long long)training,
                (long long)evaluation);
}

void swt_header_say(swt_run *run, const swt_session *s) {
    const swt_dims *d = &s->model.dims;
    size_t bytes = 0;
    for (int i = 0; i < SWT_ARENA_COUNT; i++)
        bytes += s->model.arenas[i].planned_bytes;
    say_place(run, s);
    say_windows(run, s);
    say_model(run, s);
    swt_run_say(run, "step: %lld micro-batch%s of %lld x %lld tokens; memory of rank 0: %.1f MiB",
                (long long)d->M, swt_plural_es(d->M), (long long)d->B, (long long)d->T,
                (double)bytes / 1048576.0);
    say_rates(run, s->options, &s->update.schedule);
    for (const char *at = s->options->notes; *at != '\0'; at += strcspn(at, "\n") + 1)
        swt_run_say(run, "warning: %.*s", (int)strcspn(at, "\n"), at);
    char line[256];
    for (size_t i = 0; i < sizeof of_training / sizeof of_training[0]; i++)
        if (of_training[i](s, line, sizeof line))
            swt_run_say(run, "warning: %s", line);
    for (int i = 0; i < s->warning_count; i++)
        swt_run_say(run, "warning: %s", s->warnings[i]);
}
