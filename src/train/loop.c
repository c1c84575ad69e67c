/* The train command: steps, and between them rows, evaluations, samples and checkpoints. */
#include "train/loop.h"

#include "base/clock.h"
#include "base/words.h"
#include "train/checkpoint.h"
#include "train/eval.h"
#include "train/generate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* In a pipe, an evaluation that says nothing for so long says how far it is. */
static const double QUIET_MS = 10e3;

static swt_comm *comm_of(swt_session *s, int i) {
    swt_comm *comms[] = {s->dist.devices, &s->dist.expert_group, &s->dist.replica_group};
    return comms[i];
}

/* Whether the host looks at what step `step` did: after every step where that costs nothing; else
 * only before something is made of it, so that steps queue up on the device meanwhile. */
static bool looks_at(const swt_session *s, int64_t step) {
    const swt_options *o = s->options;
    return !s->device.table->queues || step == o->train_steps ||
           swt_comes_every(o->train_log_every, step) ||
           swt_comes_every(o->train_eval_every, step) ||
           swt_comes_every(o->train_sample_every, step) ||
           swt_comes_every(o->train_checkpoint_every, step) || swt_record_due(s, step);
}

/* The log tells what was left out since it was told last. */
static void tell_skipped(swt_loop *r) {
    const swt_step_state *state = &r->state;
    const int64_t count = state->skipped - r->told_skipped;
    r->told_skipped = state->skipped;
    if (!r->first || count == 0)
        return;
    if (count == 1)
        swt_run_say(&r->run,
                    "warning: step %lld: a gradient is not finite or too large, so there was no "
                    "update",
                    (long long)state->skipped_step);
    else
        swt_run_say(&r->run,
                    "warning: %lld steps, the last of them step %lld: a gradient is not finite or "
                    "too large, so there was no update",
                    (long long)count, (long long)state->skipped_step);
}

swt_status swt_loop_look(swt_loop *r) {
    SWT_TRY(swt_step_state_read(&r->s->model, &r->state));
    tell_skipped(r);
    return SWT_OK;
}

static swt_status run_step(swt_loop *r) {
    swt_session *s = r->s;
    const double start_ms = swt_now_ms();
    for (int i = 0; i < 3; i++)
        comm_of(s, i)->busy_ms = 0.0;
    swt_progress_step(s->world->progress, r->step + 1);
    SWT_TRY(swt_session_load_batch(s, r->step + 1));
    SWT_TRY(swt_step(&s->model, &s->update));
    r->step++;
    if (looks_at(s, r->step))
        SWT_TRY(swt_loop_look(r));
    const double ms = swt_now_ms() - start_ms;
    r->steps_ms += ms;
    swt_limit_note(&r->limit.step_ms, ms);
    for (int i = 0; i < 3; i++)
        r->comm_ms += comm_of(s, i)->busy_ms;
    return SWT_OK;
}

static void format_time(char *out, size_t bytes, double ms) {
    const int64_t seconds = (int64_t)(ms / 1e3 + 0.5);
    if (seconds >= 3600)
        snprintf(out, bytes, "%lld h %02lld min", (long long)(seconds / 3600),
                 (long long)(seconds / 60 % 60));
    else if (seconds >= 60)
        snprintf(out, bytes, "%lld min %02lld s", (long long)(seconds / 60),
                 (long long)(seconds % 60));
    else
        snprintf(out, bytes, "%lld s", (long long)seconds);
}

/* Steps at the recent rate, and evaluations as long as the last one. Before the first, what one
 * takes is not known: more than the steps' time is left. */
static void format_time_left(char *out, size_t bytes, const swt_loop *r, double step_ms) {
    const swt_options *o = r->s->options;
    const int64_t last = o->train_steps, each = o->train_eval_every;
    const int64_t evaluations = 1 + (each > 0 ? (last - 1) / each - (r->step - 1) / each : 0);
    char time[48];
    format_time(time, sizeof time,
                step_ms * (double)(last - r->step) + r->eval_ms * (double)evaluations);
    snprintf(out, bytes, "%s%s", r->eval_ms > 0.0 ? "" : "> ", time);
}

/* Whether the live line may be drawn again: at most ten times a second. */
static bool draws(swt_loop *r) {
    const double now_ms = swt_now_ms();
    if (!r->run.terminal || now_ms - r->shown_ms < 100.0)
        return false;
    r->shown_ms = now_ms;
    return true;
}

/* The live line, or the log interval's line. */
static void show_progress(swt_loop *r, bool due) {
    if (!r->first || (!due && !draws(r)))
        return;
    const swt_options *o = r->s->options;
    const swt_dims *d = &r->s->model.dims;
    const int64_t steps = r->step - r->row_step;
    const double step_ms = steps > 0 ? r->steps_ms / (double)steps : r->recent_step_ms;
    char left[64], last_row[64] = "";
    format_time_left(left, sizeof left, r, step_ms);
    if (r->row_step > r->first_step)
        snprintf(last_row, sizeof last_row, "  loss %7.4f  dropped %4.1f %%", r->report.loss,
                 100.0 * r->report.dropped);
    swt_run_progress(&r->run, due, "step %6lld/%lld%s  %6.0f tokens/s  left %s", (long long)r->step,
                     (long long)o->train_steps, last_row,
                     1e3 * (double)swt_step_tokens(d) / step_ms, left);
}

/* Of a step that was left out there is no gradient norm, and the rest of what its pass gave may be
 * no number either: its row ends before the loss. */
static swt_status write_training_row(swt_loop *r) {
    const swt_dims *d = &r->s->model.dims;
    const swt_report *p = &r->report;
    const double steps = (double)(r->step - r->row_step), step_tokens = (double)swt_step_tokens(d);
    const swt_metric row[] = {
        {"step", (double)r->step, true},
        {"tokens", (double)r->step * step_tokens, true},
        {"skipped", (double)(r->first_skipped + r->state.skipped), true},
        {"lr", r->state.lr, false},
        {"step_ms", r->steps_ms / steps, false},
        {"tokens_per_s", 1e3 * steps * step_tokens / r->steps_ms, false},
        {"comm_ms", r->comm_ms / steps, false},
        {"loss", p->loss, false},
        {"ce", p->ce, false},
        {"aux", p->aux, false},
        {"z", p->z, false},
        {"output_z", p->output_z, false},
        {"grad_norm", r->state.grad_norm, false},
        {"dropped", p->dropped, false},
        {"load_max", p->load_max, false},
        {"load_min", p->load_min, false},
        {"load_cv", p->load_cv, false},
        {"accuracy", p->accuracy, false},
        {"flops_useful", p->flops_useful, false},
        {"flops_padded", p->flops_padded, false},
    };
    enum { ALL = sizeof row / sizeof *row, BEFORE_LOSS = 7 };
    return swt_run_metrics(&r->run, row, r->state.nonfinite == 0 ? ALL : BEFORE_LOSS);
}

/* A training row at every log interval and at the last step. */
static swt_status report(swt_loop *r) {
    const swt_options *o = r->s->options;
    const bool due = r->step % o->train_log_every == 0 || r->step == o->train_steps;
    swt_status status = SWT_OK;
    if (due) {
        SWT_TRY(swt_report_gather(&r->s->model, r->rows, r->state.targets, &r->report));
        if (r->first) {
            swt_run_say_warnings(&r->run, &r->s->warnings); /* of the backend, by now */
            status = write_training_row(r);
        }
        r->recent_step_ms = r->steps_ms / (double)(r->step - r->row_step);
        r->row_step = r->step;
        r->steps_ms = r->comm_ms = 0.0;
    }
    if (status == SWT_OK)
        show_progress(r, due);
    return status;
}

/* On a terminal the live line; in a pipe a line where an evaluation takes long. */
static void show_evaluation(void *context, double share) {
    swt_loop *r = context;
    const double now_ms = swt_now_ms();
    const bool due = !r->run.terminal && now_ms - r->shown_ms >= QUIET_MS;
    char left[48];
    if (!r->first || (!due && !draws(r)))
        return;
    r->shown_ms = now_ms;
    format_time(left, sizeof left, (now_ms - r->eval_start_ms) * (1.0 - share) / share);
    swt_run_progress(&r->run, due, "step %6lld  evaluation %3.0f %%  left %s", (long long)r->step,
                     100.0 * share, left);
}

static swt_status evaluate(swt_loop *r) {
    const swt_eval_watch watch = {.progress = show_evaluation, .context = r};
    swt_eval_result e;
    r->eval_start_ms = r->shown_ms = swt_now_ms();
    SWT_TRY(swt_evaluate(r->s, r->eval_rows, &e, &watch));
    r->eval_ms = swt_now_ms() - r->eval_start_ms;
    swt_limit_note(&r->limit.eval_ms, r->eval_ms);
    r->valid_loss = e.loss;
    r->evaluated_step = r->step;
    if (!r->first)
        return SWT_OK;
    swt_run_say(&r->run, "step %6lld  valid_loss %.4f  dropless %.4f  dropped %.1f %%",
                (long long)r->step, e.loss, e.loss_dropless, 100.0 * e.dropped);
    const swt_metric row[] = {
        {"step", (double)r->step, true},
        {"valid_loss", e.loss, false},
        {"valid_loss_dropless", e.loss_dropless, false},
        {"valid_dropped", e.dropped, false},
    };
    return swt_run_metrics(&r->run, row, (int)(sizeof row / sizeof *row));
}

swt_status swt_loop_record(swt_loop *r) {
    const swt_record_step step = {.step = r->step,
                                  .report = r->row_step == r->step ? &r->report : NULL,
                                  .rows = r->rows,
                                  .targets = r->state.targets};
    const swt_status status = swt_record_take(&r->record, r->s, &step);
    r->untrusted = r->untrusted || status == SWT_NUMBERS;
    return status;
}

static swt_status sample(swt_loop *r) {
    const swt_sampling greedy = {.temperature = 0.0};
    char *text = NULL;
    size_t bytes = 0;
    SWT_TRY(swt_generate(r->s, r->prompt, r->prompt_count, 25, &greedy, &text, &bytes));
    for (size_t i = 0; i < bytes; i++) /* one line, whatever the tokens are */
        if ((unsigned char)text[i] < ' ')
            text[i] = ' ';
    if (r->first)
        swt_run_say(&r->run, "step %6lld  sample: %s", (long long)r->step, text);
    free(text);
    return SWT_OK;
}

swt_status swt_loop_save(swt_loop *r, int64_t step, bool whole) {
    /* With its row: else a run that goes on evaluates once more. */
    const bool evaluated =
        r->evaluated_step == step && isfinite(r->valid_loss) && r->run.row[0] == '\0';
    const swt_checkpoint_facts facts = {.step = step,
                                        .valid_loss = evaluated ? &r->valid_loss : NULL,
                                        .skipped = r->first_skipped + r->state.skipped,
                                        .ledger = r->record.line.chain};
    return swt_checkpoint_write(r->s, &r->run, &r->saver, &facts, whole);
}

/* What comes between steps. Failures of rank 0's files and a signal to any rank stop all ranks
 * here; a signal also stops an evaluation or a sample. */
static swt_status between_steps(swt_loop *r, swt_status io) {
    swt_session *s = r->s;
    const swt_options *o = s->options;
    const bool last = r->step == o->train_steps;
    if (r->row_step == r->step || io != SWT_OK)
        SWT_TRY(swt_comm_agree(s->world, io));
    SWT_TRY(swt_loop_record(r));
    if (r->step > r->first_step) /* a step at least, or runs in pieces might never end */
        r->steps.until_ms = swt_limit_until(&r->limit, o, r->step, &r->saver);
    SWT_TRY(swt_stop_look(s, &r->steps));
    if (r->steps.looked)
        SWT_TRY(swt_checkpoint_look(s, &r->run, &r->saver));
    if (r->evaluated_step != r->step && (last || swt_comes_every(o->train_eval_every, r->step)))
        SWT_TRY(swt_comm_agree(s->world, evaluate(r)));
    SWT_TRY(swt_record_write(&r->record, s, &r->run, r->step));
    if (r->first_step != r->step && swt_comes_every(o->train_sample_every, r->step))
        SWT_TRY(sample(r));
    const bool ends = last || r->steps.late;
    if (r->saver.saved_step != r->step &&
        (ends || swt_comes_every(o->train_checkpoint_every, r->step)))
        SWT_TRY(swt_loop_save(r, r->step, ends));
    return SWT_OK;
}

/* The others are done by then. */
static swt_status say_done(swt_loop *r) {
    swt_run_say_warnings(&r->run, &r->s->warnings);
    if (r->step < r->s->options->train_steps)
        swt_run_say(&r->run,
                    "stopped in time (run.max_seconds): %lld of %lld steps; the same command with "
                    "--out %s --run.resume auto goes on",
                    (long long)r->step, (long long)r->s->options->train_steps, r->run.path);
    else
        swt_run_say(&r->run, "done: %lld step%s, %s, ledger's hash %016llx", (long long)r->step,
                    swt_plural(r->step), r->run.path, (unsigned long long)r->record.line.chain);
    const swt_status status = swt_run_check_log(&r->run);
    swt_last_error()->agreed = true;
    return status;
}

swt_status swt_command_train(swt_session *s) {
    swt_loop r = {.s = s,
                  .first = s->world->rank == 0,
                  .saver = {.saved_step = -1, .best_step = -1},
                  .evaluated_step = -1};
    swt_checkpoint resumed;
    swt_status status = swt_loop_start(&r, &resumed);
    const bool begun = status == SWT_OK;
    swt_checkpoint_close(&resumed);
    if (begun && (r.step > 0 || s->options->train_steps == 0))
        status = between_steps(&r, SWT_OK);
    while (status == SWT_OK && r.step < s->options->train_steps && !r.steps.late) {
        status = run_step(&r);
        if (status == SWT_OK)
            status = between_steps(&r, report(&r));
    }
    if (status == SWT_OK && r.first)
        status = say_done(&r);
    if (status != SWT_OK && begun)
        status = swt_loop_end_early(&r, status);
    swt_save_fini(&r.saver.save);
    swt_run_close(&r.run);
    swt_record_fini(&r.record);
    free(r.eval_rows);
    free(r.rows);
    return status;
}
