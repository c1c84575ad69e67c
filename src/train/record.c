#include "train/record.h"

#include <stdlib.h>
#include <string.h>

swt_status swt_record_init(swt_record *out, const swt_session *s) {
    *out = (swt_record){0};
    memcpy(out->line.by, s->device.arithmetic, sizeof out->line.by);
    SWT_TRY(swt_digest_init(&out->digest, &s->model));
    const int64_t marks = swt_ledger_marks(out->digest.tensor_count);
    out->line.marks = calloc((size_t)marks, sizeof *out->line.marks);
    out->text = malloc(swt_ledger_line_bytes(marks));
    if (out->line.marks == NULL || out->text == NULL)
        return SWT_FAIL(MEMORY, "memory: no room for a line of the ledger");
    return SWT_OK;
}

void swt_record_fini(swt_record *r) {
    swt_digest_fini(&r->digest);
    free(r->line.marks);
    free(r->text);
}

static bool is_listed(const swt_options *o, int64_t step) {
    const int64_t interval = o->train_ledger_every > 0 ? o->train_ledger_every : o->train_log_every;
    return step > 0 && (step == o->train_steps || swt_comes_every(interval, step));
}

bool swt_record_due(const swt_session *s, int64_t step) {
    const swt_options *o = s->options;
    return is_listed(o, step) ||
           (s->world->size > 1 && swt_comes_every(o->train_check_every, step));
}

swt_status swt_record_take(swt_record *r, swt_session *s, const swt_record_step *step) {
    const bool listed = is_listed(s->options, step->step);
    swt_report report;
    if (!swt_record_due(s, step->step) || r->line.step == step->step)
        return SWT_OK;
    if (step->report != NULL)
        report = *step->report;
    else if (listed)
        SWT_TRY(swt_report_gather(&s->model, step->rows, step->targets, &report));
    SWT_TRY(swt_digest_take(&r->digest, &s->model, step->step, listed));
    if (!listed)
        return SWT_OK;
    r->line.step = step->step;
    r->line.loss = report.loss;
    swt_ledger_hash(&r->line, &r->digest);
    return SWT_OK;
}

/* The chain goes on where the line is written. */
static swt_status write_line(swt_record *r, swt_run *run) {
    const uint64_t before = r->line.chain;
    r->line.metrics = run->metrics_hash;
    swt_ledger_print(&r->line, swt_ledger_marks(r->digest.tensor_count), before, r->text);
    const swt_status status = swt_run_ledger(run, r->text);
    if (status != SWT_OK)
        r->line.chain = before;
    return status;
}

swt_status swt_record_write(swt_record *r, swt_session *s, swt_run *run, int64_t step) {
    if (!is_listed(s->options, step) || r->line.step != step || r->written_step == step)
        return SWT_OK;
    SWT_TRY(swt_comm_agree(s->world, s->world->rank == 0 ? write_line(r, run) : SWT_OK));
    r->written_step = step;
    return SWT_OK;
}

swt_status swt_record_open(swt_record *r, swt_session *s, swt_run *run,
                           const swt_manifest *resumed) {
    if (resumed != NULL) {
        r->line.step = r->written_step = resumed->step;
        r->line.chain = resumed->ledger; /* which the file has, too (swt_resume_run) */
        return SWT_OK;
    }
    SWT_TRY(swt_digest_take(&r->digest, &s->model, 0, false));
    r->line.run = swt_options_identity(s->options);
    r->line.data = s->train_hash;
    swt_ledger_hash(&r->line, &r->digest);
    return swt_comm_agree(s->world, s->world->rank == 0 ? write_line(r, run) : SWT_OK);
}
