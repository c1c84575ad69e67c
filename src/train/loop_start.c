/* The beginning of a run, new or going on. */
#include "train/loop.h"

#include "state/resume.h"
#include "train/agree.h"
#include "train/checkpoint.h"
#include "train/eval.h"
#include "train/header.h"
#include "train/resume.h"

static swt_status look_after_turn(void *context) {
    swt_loop *r = context;
    return swt_stop_look(r->s, &r->turns);
}

/* What the user gives: texts, in the vocabulary of the checkpoint to start from (NULL: none), and a
 * prompt, which is better refused now than in the middle of a run. */
static swt_status read_given(swt_loop *r, const char *from, swt_dims *d) {
    swt_session *s = r->s;
    const swt_options *o = s->options;
    SWT_TRY(swt_session_read_text(s, from));
    SWT_TRY(swt_dims_from_options(d, o, s->tokenizer.vocab));
    if (o->train_sample_every == 0)
        return SWT_OK;
    return swt_session_encode_prompt(s, "data.prompt", o->data_prompt, r->prompt, &r->prompt_count);
}

/* Texts and model, and this rank's part of its state. `from`: whose vocabulary and weights. */
static swt_status open_model(swt_loop *r, const swt_checkpoint *resumed, const char *from) {
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
static swt_status go_on(swt_loop *r, const swt_manifest *m) {
    r->step = r->row_step = r->first_step = r->saver.saved_step = m->step;
    r->first_skipped = m->skipped;
    r->evaluated_step = m->evaluated ? m->step : -1;
    r->valid_loss = m->valid_loss;
    const swt_status status = r->first ? swt_best_find(&r->run, r->s->options, &r->saver) : SWT_OK;
    return swt_comm_agree(r->s->world, status);
}

swt_status swt_loop_start(swt_loop *r, swt_checkpoint *resumed) {
    swt_session *s = r->s;
    char *dir = s->options->run_init_from;
    SWT_TRY(swt_resume_open(s, &r->run, resumed));
    if (!resumed->listed)
        SWT_TRY(swt_agree_on_checkpoint(s->world, "run.init_from", dir));
    const char *from = resumed->listed ? resumed->folder : dir[0] != '\0' ? dir : NULL;
    SWT_TRY(open_model(r, resumed, from));
    swt_limit_open(&r->limit, s);
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
        SWT_TRY(go_on(r, &resumed->manifest));
    SWT_TRY(swt_record_open(&r->record, s, &r->run, resumed->listed ? &resumed->manifest : NULL));
    if (r->first) {
        swt_header_say(&r->run, s);
        swt_checkpoint_check_room(s, &r->run);
    }
    return SWT_OK;
}
