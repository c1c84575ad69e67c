/* The train command: steps, and between them rows, evaluations, samples and checkpoints. */
#include "base/checked.h"
#include "base/clock.h"
#include "base/words.h"
#include "io/files.h"
#include "state/resume.h"
#include "train/agree.h"
#include "train/checkpoint.h"
#include "train/eval.h"
#include "train/generate.h"
#include "train/header.h"
#include "train/record.h"
#include "train/report.h"
#include "train/resume.h"
#include "train/stop.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In a pipe, an evaluation that says nothing for so long says how far it is. */
static const double QUIET_MS = 10e3;

/* The state of a run beside the session's. */
typedef struct loop {
    swt_session *s;
    swt_run run;           /* rank 0's; closed elsewhere */
    bool first;            /* rank 0: writes and speaks */
    double *rows;          /* of swt_report_alloc */
    double *eval_rows;     /* of swt_eval_alloc */
    swt_report report;     /* of the last row */
    swt_step_state state;  /* after the last step */
    swt_record record;     /* the ledger's */
    int64_t step;          /* updates done */
    int64_t row_step;      /* at the last row */
    int64_t first_step;    /* updates done when this program began */
    double steps_ms;       /* time of the steps since the last row */
    double comm_ms;        /* of that, communication */
    double shown_ms;       /* when the live line was last drawn */
    double recent_step_ms; /* a step since the last row, or in the row's interval */
    double eval_start_ms;
    double eval_ms;                 /* the last evaluation; 0: there was none yet */
    int64_t saved_step;             /* of the last checkpoint; -1: none */
    int64_t tried_step;             /* of the last one that was begun */
    int64_t evaluated_step;         /* of the last evaluation; -1: none */
    double valid_loss;              /* its result */
    swt_pace turns, steps;          /* when they look for a signal */
    int32_t prompt[SWT_TEXT_BYTES]; /* of samples; read where there are some */
    int64_t prompt_count;
} loop;

static swt_comm *comm_of(swt_session *s, int i) {
    swt_comm *comms[] = {s->dist.devices, &s->dist.expert_group, &s->dist.replica_group};
    return comms[i];
}

static bool every(int64_t interval, int64_t step) {
    return interval > 0 && step % interval == 0;
}

/* Whether the host looks at what step `step` did: after every step where that costs nothing; else
 * only before something is made of it, so that steps queue up on the device meanwhile. */
static bool looks_at(const swt_session *s, int64_t step) {
    const swt_options *o = s->options;
    return !s->device.table->queues || step == o->train_steps || every(o->train_log_every, step) ||
           every(o->train_eval_every, step) || every(o->train_sample_every, step) ||
           every(o->train_checkpoint_every, step) || swt_record_due(s, step);
}

static swt_status look_after_turn(void *context) {
    loop *r = context;
    return swt_stop_look(r->s, &r->turns);
}

static swt_status run_step(loop *r) {
    swt_session *s = r->s;
    const double start_ms = swt_now_ms();
    for (int i = 0; i < 3; i++)
        comm_of(s, i)->busy_ms = 0.0;
    swt_progress_step(s->world->progress, r->step + 1);
    SWT_TRY(swt_session_load_batch(s, r->step + 1));
    SWT_TRY(swt_step(&s->model, &s->update));
    r->step++;
    if (looks_at(s, r->step))
        SWT_TRY(swt_step_state_read(&s->model, &r->state));
    const double ms = swt_now_ms() - start_ms;
    r->steps_ms += ms;
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
static void format_time_left(char *out, size_t bytes, const loop *r, double step_ms) {
    const swt_options *o = r->s->options;
    const int64_t last = o->train_steps, each = o->train_eval_every;
    const int64_t evaluations = 1 + (each > 0 ? (last - 1) / each - (r->step - 1) / each : 0);
    char time[48];
    format_time(time, sizeof time,
                step_ms * (double)(last - r->step) + r->eval_ms * (double)evaluations);
    snprintf(out, bytes, "%s%s", r->eval_ms > 0.0 ? "" : "> ", time);
}

/* Whether the live line may be drawn again: at most ten times a second. */
static bool draws(loop *r) {
    const double now_ms = swt_now_ms();
    if (!r->run.terminal || now_ms - r->shown_ms < 100.0)
        return false;
    r->shown_ms = now_ms;
    return true;
}

/* The live line, or the log interval's line. */
static void show_progress(loop *r, bool due) {
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
                     1e3 * (double)(d->M * d->B * d->T) / step_ms, left);
}

/* A row, if the log is as well as the metrics. */
static swt_status write_row(loop *r, const swt_metric *row, int count) {
    SWT_TRY(swt_run_check_log(&r->run));
    return swt_run_metrics(&r->run, row, count);
}

static swt_status write_training_row(loop *r) {
    const swt_dims *d = &r->s->model.dims;
    const swt_report *p = &r->report;
    const double steps = (double)(r->step - r->row_step),
                 step_tokens = (double)(d->M * d->B * d->T);
    const swt_metric row[] = {
        {"step", (double)r->step, true},
        {"tokens", (double)r->step * step_tokens, true},
        {"loss", p->loss, false},
        {"ce", p->ce, false},
        {"aux", p->aux, false},
        {"z", p->z, false},
        {"lr", r->state.lr, false},
        {"grad_norm", r->state.grad_norm, false},
        {"step_ms", r->steps_ms / steps, false},
        {"tokens_per_s", 1e3 * steps * step_tokens / r->steps_ms, false},
        {"comm_ms", r->comm_ms / steps, false},
        {"dropped", p->dropped, false},
        {"load_max", p->load_max, false},
        {"load_min", p->load_min, false},
        {"load_cv", p->load_cv, false},
        {"accuracy", p->accuracy, false},
        {"flops_useful", p->flops_useful, false},
        {"flops_padded", p->flops_padded, false},
    };
    return write_row(r, row, (int)(sizeof row / sizeof *row));
}

/* A training row at every log interval and at the last step. */
static swt_status report(loop *r) {
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
    loop *r = context;
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

static swt_status evaluate(loop *r) {
    const swt_eval_watch watch = {.progress = show_evaluation, .context = r};
    swt_eval_result e;
    r->eval_start_ms = r->shown_ms = swt_now_ms();
    SWT_TRY(swt_evaluate(r->s, r->eval_rows, &e, &watch));
    r->eval_ms = swt_now_ms() - r->eval_start_ms;
    r->valid_loss = e.loss;
    if (!r->first) {
        r->evaluated_step = r->step;
        return SWT_OK;
    }
    swt_run_say(&r->run, "step %6lld  valid_loss %.4f  dropless %.4f  dropped %.1f %%",
                (long long)r->step, e.loss, e.loss_dropless, 100.0 * e.dropped);
    const swt_metric row[] = {
        {"step", (double)r->step, true},
        {"valid_loss", e.loss, false},
        {"valid_loss_dropless", e.loss_dropless, false},
        {"valid_dropped", e.dropped, false},
    };
    SWT_TRY(write_row(r, row, (int)(sizeof row / sizeof *row)));
    r->evaluated_step = r->step; /* with its row: else a run that goes on evaluates once more */
    return SWT_OK;
}

/* Where ranks differ nobody knows which weights are good: none are kept. */
static swt_status record(loop *r) {
    const swt_record_step step = {.step = r->step,
                                  .report = r->row_step == r->step ? &r->report : NULL,
                                  .rows = r->rows,
                                  .targets = r->state.targets};
    const swt_status status = swt_record_take(&r->record, r->s, &step);
    if (status == SWT_NUMBERS)
        r->tried_step = r->step;
    return status;
}

static swt_status sample(loop *r) {
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

static swt_status save(loop *r, int64_t step) {
    r->tried_step = step;
    const bool evaluated = r->evaluated_step == step && isfinite(r->valid_loss);
    const swt_checkpoint_facts facts = {.step = step,
                                        .valid_loss = evaluated ? &r->valid_loss : NULL,
                                        .ledger = r->record.line.chain};
    SWT_TRY(swt_checkpoint_write(r->s, &r->run, &facts));
    r->saved_step = step;
    return SWT_OK;
}

/* What comes between steps. Failures of rank 0's files and a signal to any rank stop all ranks
 * here; a signal also stops an evaluation or a sample. */
static swt_status between_steps(loop *r, swt_status io) {
    swt_session *s = r->s;
    const swt_options *o = s->options;
    const bool last = r->step == o->train_steps;
    if (r->row_step == r->step || io != SWT_OK)
        SWT_TRY(swt_comm_agree(s->world, io));
    SWT_TRY(record(r));
    SWT_TRY(swt_stop_look(s, &r->steps));
    if (r->evaluated_step != r->step && (last || every(o->train_eval_every, r->step)))
        SWT_TRY(swt_comm_agree(s->world, evaluate(r)));
    SWT_TRY(swt_record_write(&r->record, s, &r->run, r->step));
    if (r->first_step != r->step && every(o->train_sample_every, r->step))
        SWT_TRY(sample(r));
    if (r->saved_step != r->step && (last || every(o->train_checkpoint_every, r->step)))
        SWT_TRY(save(r, r->step));
    return SWT_OK;
}

/* ---- an end before the last step */

/* The step whose weights are worth keeping when a run ends so; -1: none, or they cannot be written.
 * Of other errors nobody knows where each rank stands. A step whose gradient was not finite has
 * changed nothing, and neither have those that a device made after it. */
static int64_t step_to_keep(const loop *r, swt_status why) {
    const bool between = why == SWT_INTERRUPTED || why == SWT_NUMBERS || why == SWT_FILE;
    const int64_t step = r->state.nonfinite != 0 ? r->state.step - 1 : r->step;
    const bool failed = r->tried_step == step && r->saved_step != step;
    return between && swt_last_error()->agreed && !failed ? step : -1;
}

/* The message of the end, and what became of the weights. An interruption that has not written them
 * is the error that kept it from that. */
static swt_status retell(const loop *r, const swt_error *why, int64_t kept,
                         const swt_error *failed) {
    char what[256], weights[512];
    const bool asked = why->status == SWT_INTERRUPTED;
    snprintf(what, sizeof what, "step %lld of %lld: interrupted", (long long)r->step,
             (long long)r->s->options->train_steps);
    if (kept >= 0)
        snprintf(weights, sizeof weights, "the weights of step %lld are in %.200s; %s %.200s",
                 (long long)kept, r->run.path,
                 why->status == SWT_NUMBERS ? "start from them otherwise with --init-from"
                                            : "go on with --run.resume auto --out",
                 r->run.path);
    else
        snprintf(weights, sizeof weights, "no weights written: %.400s", failed->message);
    const swt_status status =
        swt_fail(asked && kept < 0 ? failed->status : why->status, why->file, why->line,
                 "%.480s; %s", asked ? what : why->message, weights);
    swt_last_error()->agreed = why->agreed;
    swt_last_error()->silent = why->silent;
    return status;
}

/* Steps that are queued on a device come first: one of them may have failed. */
static swt_status settle(loop *r, swt_status status) {
    const swt_error why = *swt_last_error();
    if (status != SWT_INTERRUPTED)
        return status;
    SWT_TRY(swt_step_state_read(&r->s->model, &r->state));
    *swt_last_error() = why;
    return status;
}

/* Weights that are good are written, whatever ended the run; the log says why it ended. */
static swt_status end_early(loop *r, swt_status status) {
    status = settle(r, status);
    const swt_error why = *swt_last_error();
    const int64_t step = step_to_keep(r, status);
    if (step >= 0) {
        /* a signal may have come between what a step made and its line in the ledger */
        const bool saved =
            r->saved_step == step || (swt_record_write(&r->record, r->s, &r->run, step) == SWT_OK &&
                                      save(r, step) == SWT_OK);
        const swt_error failed = *swt_last_error();
        if (!saved && !failed.agreed)
            return failed.status;
        status = retell(r, &why, saved ? step : -1, &failed);
    }
    if (r->first)
        swt_run_log(&r->run, "error: %s", swt_last_error()->message);
    else if (!swt_last_error()->agreed)
        swt_run_log_end(&r->run, r->s->world->rank, swt_last_error()->message);
    return status;
}

/* What the user gives: texts, in the vocabulary of the checkpoint to start from (NULL: none), and a
 * prompt, which is better refused now than in the middle of a run. */
static swt_status read_given(loop *r, const char *from, swt_dims *d) {
    swt_session *s = r->s;
    const swt_options *o = s->options;
    SWT_TRY(swt_session_read_text(s, from));
    SWT_TRY(swt_dims_from_options(d, o, s->tokenizer.vocab));
    if (o->train_sample_every == 0)
        return SWT_OK;
    return swt_session_encode_prompt(s, "data.prompt", o->data_prompt, r->prompt, &r->prompt_count);
}

/* Texts and model, and this rank's part of its state. `from`: whose vocabulary and weights. */
static swt_status open_model(loop *r, const swt_checkpoint *resumed, const char *from) {
    swt_session *s = r->s;
    swt_dims d;
    SWT_TRY(swt_comm_agree(s->world, read_given(r, from, &d)));
    SWT_TRY(swt_agree_on_text(s, from));
    if (resumed->listed)
        SWT_TRY(swt_comm_agree(
            s->world, swt_resume_check_text(resumed, s->options, s->train_hash, s->valid_hash)));
    SWT_TRY(swt_session_open_model(s, &d, true));
    SWT_TRY(swt_start_weights(s, resumed, from));
    return swt_agree_on_weights(s, from, from != NULL ? SWT_CHECKPOINT : SWT_USAGE);
}

/* Where the checkpoint's run stood. */
static void go_on(loop *r, const swt_manifest *m) {
    r->step = r->row_step = r->first_step = r->saved_step = r->tried_step = m->step;
    r->evaluated_step = m->evaluated ? m->step : -1;
    r->valid_loss = m->valid_loss;
}

static swt_status prepare(loop *r, swt_checkpoint *resumed) {
    swt_session *s = r->s;
    char *dir = s->options->run_init_from;
    SWT_TRY(swt_resume_open(s, &r->run, resumed));
    if (!resumed->listed)
        SWT_TRY(swt_agree_on_checkpoint(s->world, "run.init_from", dir));
    const char *from = resumed->listed ? resumed->folder : dir[0] != '\0' ? dir : NULL;
    SWT_TRY(open_model(r, resumed, from));
    s->stop = s->catch_signals();
    if (!s->device.table->queues) { /* else turns are done long after they were queued */
        s->update.look = look_after_turn;
        s->update.look_context = r;
    }
    swt_status status = swt_report_alloc(&s->model, &r->rows);
    if (status == SWT_OK)
        status = swt_eval_alloc(s, &r->eval_rows);
    if (status == SWT_OK)
        status = swt_record_init(&r->record, s);
    if (status == SWT_OK && r->first)
        status = swt_resume_run(s, &r->run, resumed);
    SWT_TRY(swt_comm_agree(s->world, status));
    SWT_TRY(swt_comm_broadcast(s->world, r->run.path, sizeof r->run.path, 0, NULL));
    char log[SWT_PATH_BYTES];
    if (swt_path_join(log, r->run.path, SWT_LOG_FILE) == SWT_OK)
        swt_watchdog_log(s->watchdog, log, r->run.terminal);
    if (resumed->listed)
        go_on(r, &resumed->manifest);
    SWT_TRY(swt_record_open(&r->record, s, &r->run, resumed->listed ? &resumed->manifest : NULL));
    if (r->first) {
        swt_header_say(&r->run, s);
        swt_checkpoint_check_room(s, &r->run);
    }
    return SWT_OK;
}

/* The others are done by then. */
static swt_status say_done(loop *r) {
    swt_run_say_warnings(&r->run, &r->s->warnings);
    swt_run_say(&r->run, "done: %lld step%s, %s, ledger's hash %016llx", (long long)r->step,
                swt_plural(r->step), r->run.path, (unsigned long long)r->record.line.chain);
    const swt_status status = swt_run_check_log(&r->run);
    swt_last_error()->agreed = true;
    return status;
}

swt_status swt_command_train(swt_session *s) {
    loop r = {.s = s,
              .first = s->world->rank == 0,
              .saved_step = -1,
              .tried_step = -1,
              .evaluated_step = -1};
    swt_checkpoint resumed;
    swt_status status = prepare(&r, &resumed);
    const bool begun = status == SWT_OK;
    swt_checkpoint_close(&resumed);
    if (begun && (r.step > 0 || s->options->train_steps == 0))
        status = between_steps(&r, SWT_OK);
    while (status == SWT_OK && r.step < s->options->train_steps) {
        status = run_step(&r);
        if (status == SWT_OK)
            status = between_steps(&r, report(&r));
    }
    if (status == SWT_OK && r.first)
        status = say_done(&r);
    if (status != SWT_OK && begun)
        status = end_early(&r, status);
    swt_run_close(&r.run);
    swt_record_fini(&r.record);
    free(r.eval_rows);
    free(r.rows);
    return status;
}
