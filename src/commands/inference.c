/* The commands that only read a checkpoint: eval and generate. */
#include "base/clock.h"
#include "base/utf8.h"
#include "commands/commands.h"
#include "io/files.h"
#include "state/load.h"
#include "train/agree.h"
#include "train/eval.h"
#include "train/generate.h"
#include "train/header.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* The model of a checkpoint folder, its weights loaded. Collective. */
static swt_status open_checkpoint(swt_session *s, const char *dir, const swt_dims *d) {
    swt_checkpoint c;
    swt_status status = swt_checkpoint_open(&c, dir);
    /* Before anything of the sizes that the configuration claims is made. */
    if (status == SWT_OK)
        status = swt_checkpoint_check(&c, d);
    SWT_TRY_TO(status, done, swt_comm_agree(s->world, status));
    SWT_TRY_TO(status, done, swt_session_open_model(s, d, false));
    SWT_TRY_TO(status, done, swt_checkpoint_load_weights(&c, &s->model, &s->warnings));
    swt_session_say_warnings(s);
    status = swt_agree_on_weights(s, dir, SWT_CHECKPOINT);
done:
    swt_checkpoint_close(&c);
    return status;
}

/* Which part of the text was evaluated, and what of it was not. */
static void print_part(const swt_session *s) {
    const swt_data *d = &s->data;
    const swt_unknown *unknown =
        d->unknown_valid.characters > 0 ? &d->unknown_valid : &d->unknown_train;
    if (d->train_count == 0)
        fprintf(s->out, "part                 all of it\n");
    else
        fprintf(s->out,
                "part                 the last %lld of its %lld tokens (data.valid_fraction %g; "
                "1 is all)\n",
                (long long)(d->count - d->train_count), (long long)d->count,
                s->options->data_valid_fraction);
    if (d->valid_left > 0)
        fprintf(s->out, "left                 %lld tokens at the end, less than a window of %lld\n",
                (long long)d->valid_left, (long long)d->T);
    if (unknown->count > 0) {
        char what[SWT_UNKNOWN_BYTES];
        swt_unknown_print(unknown, what);
        fprintf(s->out, "unknown              left out %s\n", what);
    }
}

/* Names of files come from anywhere: a line stays one, and leaves the terminal alone. */
static void print_path(FILE *out, const char *what, const char *path) {
    char shown[SWT_PATH_BYTES];
    snprintf(shown, sizeof shown, "%s", path);
    swt_utf8_clean(shown, false);
    fprintf(out, "%-20s %s\n", what, shown);
}

static void print_answer(const swt_session *s, const char *dir, const swt_eval_result *e) {
    print_path(s->out, "checkpoint", dir);
    print_path(s->out, "text", s->data_path);
    print_part(s);
    fprintf(s->out,
            "targets              %lld\n"
            "valid_loss           %.6f nats per token\n"
            "valid_loss_dropless  %.6f\n"
            "valid_dropped        %.4f %%\n",
            (long long)e->targets, e->loss, e->loss_dropless, 100.0 * e->dropped);
}

/* How far an evaluation is: a live line on a terminal, in a pipe a line on standard error where it
 * takes long; standard output gets the answer alone. */
typedef struct watcher {
    swt_run console;
    FILE *err;
    double said_ms;
} watcher;

static void show_evaluation(void *context, double share) {
    watcher *w = context;
    const double now_ms = swt_now_ms();
    if (w->err == NULL || now_ms - w->said_ms < (w->console.terminal ? 100.0 : 10e3))
        return;
    w->said_ms = now_ms;
    if (w->console.terminal)
        swt_run_progress(&w->console, false, "evaluation %3.0f %%", 100.0 * share);
    else
        fprintf(w->err, "swt-dist: evaluation %.0f %%\n", 100.0 * share);
}

swt_status swt_command_eval(swt_session *s) {
    const char *dir = s->options->checkpoint_path;
    swt_dims d;
    swt_status status = swt_session_read_text(s, dir);
    if (status == SWT_OK)
        status = swt_dims_from_options(&d, s->options, s->tokenizer.vocab);
    SWT_TRY(swt_comm_agree(s->world, status));
    SWT_TRY(swt_agree_on_text(s, dir));
    swt_session_say_warnings(s);
    SWT_TRY(open_checkpoint(s, dir, &d));
    if (s->world->rank == 0)
        swt_header_warn(s);
    watcher w = {.console = {.terminal = swt_run_on_terminal()},
                 .err = s->world->rank == 0 ? s->err : NULL,
                 .said_ms = swt_now_ms()};
    const swt_eval_watch watch = {.progress = show_evaluation, .context = &w};
    swt_eval_result e = {0};
    double *rows = NULL;
    status = swt_comm_agree(s->world, swt_eval_alloc(s, &rows));
    if (status == SWT_OK)
        status = swt_evaluate(s, rows, &e, &watch);
    free(rows);
    swt_run_close(&w.console);
    SWT_TRY(status);
    if (!isfinite(e.loss) || !isfinite(e.loss_dropless))
        return swt_comm_agree(s->world, SWT_FAIL(NUMBERS,
                                                 "%s: its loss is not finite; use an earlier "
                                                 "checkpoint",
                                                 dir));
    if (s->world->rank == 0)
        print_answer(s, dir, &e);
    return SWT_OK;
}

/* The checkpoint's vocabulary, and the prompt in it. */
static swt_status read_prompt(swt_session *s, swt_dims *d, int32_t *ids, int64_t *count) {
    const swt_options *o = s->options;
    char path[SWT_PATH_BYTES];
    SWT_TRY(swt_path_join(path, o->checkpoint_path, SWT_TOKENIZER_FILE));
    SWT_TRY(swt_tokenizer_read(&s->tokenizer, path));
    SWT_TRY(swt_dims_from_options(d, o, s->tokenizer.vocab));
    return swt_session_encode_prompt(s, "prompt", o->prompt, ids, count);
}

swt_status swt_command_generate(swt_session *s) {
    const swt_options *o = s->options;
    const char *dir = o->checkpoint_path;
    swt_dims d;
    int32_t prompt[SWT_TEXT_BYTES];
    int64_t prompt_count = 0;
    SWT_TRY(swt_comm_agree(s->world, read_prompt(s, &d, prompt, &prompt_count)));
    SWT_TRY(swt_agree_on_text(s, dir));
    swt_session_say_warnings(s);
    d.B = d.M = 1;
    SWT_TRY(open_checkpoint(s, dir, &d));
    const swt_sampling how = {
        .temperature = o->temperature, .top_k = o->top_k, .seed = (uint64_t)o->train_seed};
    char *text = NULL;
    size_t bytes = 0;
    SWT_TRY(swt_generate(s, prompt, prompt_count, o->tokens, &how, &text, &bytes));
    if (s->world->rank == 0 && fwrite(text, 1, bytes, s->out) == bytes)
        fputc('\n', s->out); /* main sees whether all was written */
    free(text);
    return SWT_OK;
}
