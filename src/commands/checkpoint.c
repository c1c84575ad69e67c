/* The commands on checkpoint folders: list, verify. Rank 0 alone reads and speaks. */
#include "base/words.h"
#include "commands/commands.h"
#include "io/checkpoint_dir.h"
#include "io/files.h"
#include "state/manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What is done with one checkpoint folder of those that a DIR means. */
typedef struct visit {
    FILE *out;
    int broken; /* checkpoints so far that do not verify */
} visit;
typedef swt_status (*visitor)(visit *v, const char *folder);

/* Whether the folder is a checkpoint itself. */
static swt_status is_checkpoint(const char *dir, bool *is) {
    char path[SWT_PATH_BYTES];
    swt_path_kind kind = SWT_PATH_NONE;
    SWT_TRY(swt_path_join(path, dir, SWT_MANIFEST_FILE));
    SWT_TRY(swt_path_look(&kind, path, true));
    *is = kind != SWT_PATH_NONE;
    return SWT_OK;
}

/* Call `look` for the checkpoint, or for all of a run, the newest first. */
static swt_status each(visit *v, const char *dir, visitor look) {
    char folder[SWT_PATH_BYTES];
    swt_checkpoints all;
    bool is = false;
    int64_t step = INT64_MAX, count = 0;
    SWT_TRY(is_checkpoint(dir, &is));
    if (is)
        return look(v, dir);
    SWT_TRY(swt_checkpoints_init(&all, dir, 0));
    for (;;) {
        SWT_TRY(swt_checkpoints_newest(&all, step, &step, folder));
        if (step < 0)
            break;
        SWT_TRY(look(v, folder));
        count++;
    }
    return count > 0 ? SWT_OK
                     : SWT_FAIL(CHECKPOINT,
                                "%s: holds no checkpoint; give a run's folder, or one of its "
                                "checkpoints/",
                                swt_path_tail(dir));
}

/* A folder that is not there is a checkpoint's error, and all ranks end alike. */
static swt_status on_rank_0(swt_session *s, visit *v, visitor look) {
    swt_status status = s->world->rank == 0 ? each(v, s->options->folder_path, look) : SWT_OK;
    if (status == SWT_FILE)
        status = swt_last_error()->status = SWT_CHECKPOINT;
    return swt_comm_agree(s->world, status);
}

/* ---- list */

static int64_t bytes_of(const swt_manifest *m) {
    int64_t bytes = 0;
    for (int64_t i = 0; i < m->file_count; i++)
        bytes += m->files[i].bytes;
    return bytes;
}

static swt_status list_one(visit *v, const char *folder) {
    char path[SWT_PATH_BYTES], loss[32] = "-";
    swt_manifest m;
    SWT_TRY(swt_path_join(path, folder, SWT_MANIFEST_FILE));
    swt_status status = swt_manifest_read(&m, path);
    if (status == SWT_CHECKPOINT) { /* the others are listed all the same */
        fprintf(v->out, "%.*s\n", (int)strcspn(swt_last_error()->message, ";"),
                swt_last_error()->message);
        return SWT_OK;
    }
    SWT_TRY(status);
    if (m.evaluated)
        snprintf(loss, sizeof loss, "%.4f", m.valid_loss);
    fprintf(v->out, "%8" PRId64 "  %10s  %7" PRId64 "  %5" PRId64 "  %9.1f  %016" PRIx64 "  %s\n",
            m.step, loss, m.tensor_count, m.file_count, swt_mib((double)bytes_of(&m)), m.ledger,
            folder);
    swt_manifest_fini(&m);
    return SWT_OK;
}

swt_status swt_command_checkpoint_list(swt_session *s) {
    if (s->world->rank == 0)
        fprintf(s->out, "%8s  %10s  %7s  %5s  %9s  %-16s  %s\n", "step", "valid_loss", "tensors",
                "files", "MiB", "ledger", "folder");
    return on_rank_0(s, &(visit){.out = s->out}, list_one);
}

/* ---- verify */

static void say_defect(void *context, const char *line) {
    FILE *out = context;
    fprintf(out, "%.*s\n", (int)strcspn(line, ";"), line);
}

/* All are looked at; the last defect is the command's error. */
static swt_status verify_one(visit *v, const char *folder) {
    swt_manifest m;
    const swt_status status = swt_manifest_verify(&m, folder, say_defect, v->out);
    if (status == SWT_OK)
        fprintf(v->out,
                "%s: step %" PRId64 ", %" PRId64 " tensors in %" PRId64
                " files, %.1f MiB: every byte is as it was written\n",
                folder, m.step, m.tensor_count, m.file_count, swt_mib((double)bytes_of(&m)));
    swt_manifest_fini(&m);
    if (status != SWT_CHECKPOINT)
        return status;
    v->broken++;
    return SWT_OK;
}

swt_status swt_command_checkpoint_verify(swt_session *s) {
    visit v = {.out = s->out};
    SWT_TRY(on_rank_0(s, &v, verify_one));
    swt_status status = SWT_OK;
    if (v.broken > 0)
        status = SWT_FAIL(CHECKPOINT, "%s: %d checkpoint%s not as it was written; use another one",
                          swt_path_tail(s->options->folder_path), v.broken,
                          v.broken == 1 ? " is" : "s are");
    return swt_comm_agree(s->world, status);
}
