#include "commands/redo.h"

#include "base/words.h"
#include "io/checkpoint_dir.h"
#include "io/files.h"
#include "state/load.h"
#include "train/agree.h"
#include "train/report.h"
#include "train/resume.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the run's files */

static swt_status read_files(swt_redo *r, const char *run) {
    char path[SWT_PATH_BYTES];
    SWT_TRY(swt_path_join(path, run, SWT_LEDGER_FILE));
    SWT_TRY(swt_ledger_read(&r->ledger, path));
    SWT_TRY(swt_path_join(path, run, SWT_METRICS_FILE));
    return swt_ledger_check_rows(&r->ledger, path);
}

/* ---- opening */

static swt_status check_identity(const swt_redo *r) {
    const swt_session *s = r->s;
    const swt_ledger_line *first = &r->ledger.lines[0];
    const char *run = s->options->folder_path;
    if (first->run != swt_options_identity(s->options))
        return SWT_FAIL(CHECKPOINT,
                        "%s: the configuration is not that of the ledger's first line; give no key "
                        "that decides over the numbers, and put the run's config.yaml back",
                        run);
    if (first->data != s->train_hash)
        return SWT_FAIL(CHECKPOINT,
                        "%s: the run was not trained on the tokens of %s; give its text as --data",
                        run, swt_path_tail(s->data_path));
    if (swt_ledger_marks(s->model.params.count) != r->ledger.marks)
        return SWT_FAIL(CHECKPOINT, "%s: the ledger is that of another model", run);
    return SWT_OK;
}

static swt_status alloc(swt_redo *r) {
    SWT_TRY(swt_digest_init(&r->digest, &r->s->model));
    r->marks = calloc((size_t)r->ledger.marks, sizeof *r->marks);
    if (r->marks == NULL)
        return SWT_FAIL(MEMORY, "memory: no room for a line of the ledger");
    return swt_report_alloc(&r->s->model, &r->rows);
}

/* Whose weights and vocabulary the run began with, NULL: its own. */
static const char *began_with(const swt_session *s) {
    return s->options->run_init_from[0] != '\0' ? s->options->run_init_from : NULL;
}

swt_status swt_redo_open(swt_redo *out, swt_session *s) {
    swt_dims d;
    *out = (swt_redo){.s = s, .step = -1};
    SWT_TRY(swt_comm_agree(s->world, read_files(out, s->options->folder_path)));
    SWT_TRY(swt_agree_on_bytes(s->world, &out->ledger.lines[out->ledger.count - 1].chain,
                               sizeof out->ledger.lines->chain, s->options->folder_path));
    SWT_TRY(swt_agree_on_checkpoint(s->world, "run.init_from", s->options->run_init_from));
    swt_status status = swt_session_read_text(s, began_with(s));
    if (status == SWT_OK)
        status = swt_dims_from_options(&d, s->options, s->tokenizer.vocab);
    SWT_TRY(swt_comm_agree(s->world, status));
    SWT_TRY(swt_agree_on_text(s, began_with(s)));
    swt_session_say_warnings(s);
    SWT_TRY(swt_session_open_model(s, &d, true));
    s->update.skips_most = INT64_MAX; /* what the run went on from is gone on from here */
    SWT_TRY(swt_comm_agree(s->world, check_identity(out)));
    return swt_comm_agree(s->world, alloc(out));
}

void swt_redo_close(swt_redo *r) {
    swt_ledger_fini(&r->ledger);
    swt_digest_fini(&r->digest);
    free(r->marks);
    free(r->rows);
}

/* ---- comparing */

/* The line of a step, NULL where the ledger has none. */
static const swt_ledger_line *line_of(const swt_redo *r, int64_t step) {
    for (int64_t i = 0; i < r->ledger.count; i++)
        if (r->ledger.lines[i].step == step)
            return &r->ledger.lines[i];
    return NULL;
}

/* The first tensors of the table whose marks differ, as words. */
static void name_tensor(const swt_redo *r, const swt_ledger_line *line, char *out,
                        size_t out_bytes) {
    const swt_params *p = &r->s->model.params;
    for (int64_t i = 0; i < r->ledger.marks; i++) {
        int64_t first, end;
        if (r->marks[i] == line->marks[i])
            continue;
        swt_ledger_marked(p->count, i, &first, &end);
        snprintf(out, out_bytes, end - first > 1 ? "one of the tensors from %s to %s" : "%s",
                 p->table[first].name, p->table[end - 1].name);
        return;
    }
    snprintf(out, out_bytes, "a tensor that its %d digits do not tell", 4);
}

static swt_status compare(const swt_redo *r, const swt_ledger_line *line,
                          const swt_ledger_line *again) {
    char what[2 * SWT_TENSOR_NAME_BYTES + 64];
    const char *run = r->s->options->folder_path;
    if (line->batch != again->batch)
        return SWT_FAIL(DIFFERENT, "%s: step %" PRId64 " read another batch than the ledger says",
                        run, line->step);
    if (!swt_same_bits(line->loss, again->loss))
        return SWT_FAIL(DIFFERENT,
                        "%s: step %" PRId64 " has the loss %.17g, and %.17g in the ledger; what "
                        "came before is equal as far as it was compared",
                        run, line->step, again->loss, line->loss);
    if (line->weights == again->weights)
        return SWT_OK;
    name_tensor(r, line, what, sizeof what);
    return SWT_FAIL(DIFFERENT,
                    "%s: after step %" PRId64 " the first tensor that is not the ledger's is %s",
                    run, line->step, what);
}

/* Compare where the model is with the ledger, if that has a line of it. `stepped`: the step was
 * just done, so that batch and loss are known. */
static swt_status check(swt_redo *r, bool stepped, const swt_step_state *state) {
    const swt_ledger_line *line = line_of(r, r->step);
    swt_session *s = r->s;
    swt_report report = {0};
    if (line == NULL)
        return SWT_OK;
    if (strcmp(line->by, s->device.arithmetic) != 0)
        return swt_comm_agree(
            s->world,
            SWT_FAIL(USAGE,
                     "%s: step %" PRId64 " was made by %s, and here is %s, whose bits may be "
                     "others; use such a processor (--device; of a CPU SWT_ISA=plain, avx2 or "
                     "avx512)",
                     s->options->folder_path, line->step, line->by, s->device.arithmetic));
    swt_ledger_line again = *line;
    again.marks = r->marks;
    if (stepped)
        SWT_TRY(swt_report_gather(&s->model, r->rows, state->targets, &report));
    SWT_TRY(swt_digest_take(&r->digest, &s->model, r->step, stepped));
    swt_ledger_hash(&again, &r->digest);
    if (stepped)
        again.loss = report.loss;
    else
        again.batch = line->batch;
    r->lines++;
    return swt_comm_agree(s->world, compare(r, line, &again));
}

/* ---- getting there */

/* Rank 0: the newest checkpoint above `above` and up to `most` that verifies; "" where none is. */
static swt_status find_start(const swt_redo *r, int64_t above, int64_t most,
                             char folder[SWT_PATH_BYTES]) {
    swt_checkpoints all;
    int64_t at = most + 1;
    SWT_TRY(swt_checkpoints_init(&all, r->s->options->folder_path, 0));
    for (;;) {
        SWT_TRY(swt_checkpoints_newest(&all, at, &at, folder));
        if (at <= above)
            break;
        swt_manifest m;
        const swt_status status = swt_manifest_verify(&m, folder, NULL, NULL);
        swt_manifest_fini(&m);
        if (status != SWT_CHECKPOINT)
            return status;
    }
    folder[0] = '\0';
    return SWT_OK;
}

static swt_status start_at(swt_redo *r, const char *folder) {
    swt_session *s = r->s;
    swt_checkpoint c = {.listed = false};
    swt_status status = SWT_OK;
    if (folder[0] != '\0')
        status = swt_comm_agree(s->world, swt_checkpoint_open(&c, folder));
    if (status == SWT_OK)
        status = swt_start_weights(s, &c, began_with(s));
    r->step = c.listed ? c.manifest.step : 0;
    swt_checkpoint_close(&c);
    SWT_TRY(status);
    return check(r, false, NULL);
}

static swt_status step_once(swt_redo *r) {
    swt_session *s = r->s;
    swt_step_state state;
    SWT_TRY(swt_session_load_batch(s, r->step + 1));
    SWT_TRY(swt_step(&s->model, &s->update));
    SWT_TRY(swt_step_state_read(&s->model, &state));
    r->step++;
    r->steps++;
    return check(r, true, &state);
}

swt_status swt_redo_to(swt_redo *r, int64_t step, int64_t start_most) {
    swt_session *s = r->s;
    char folder[SWT_PATH_BYTES] = "";
    swt_status status = SWT_OK;
    if (r->step > step)
        r->step = -1;
    if (s->world->rank == 0 && start_most > r->step)
        status = find_start(r, r->step, start_most, folder);
    SWT_TRY(swt_comm_agree(s->world, status));
    SWT_TRY(swt_comm_broadcast(s->world, folder, sizeof folder, 0, NULL));
    if (folder[0] != '\0' || r->step < 0)
        SWT_TRY(start_at(r, folder));
    while (r->step < step)
        SWT_TRY(step_once(r));
    return SWT_OK;
}
