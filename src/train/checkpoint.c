#include "train/checkpoint.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/words.h"
#include "io/files.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/* Tidying up is told once, and ends nothing. */
static void say_untidy(swt_run *run) {
    if (run->checkpoints.untidy.status != SWT_OK && !run->untidy_said)
        swt_run_say(run, "warning: %s", run->checkpoints.untidy.message);
    run->untidy_said = run->checkpoints.untidy.status != SWT_OK;
}

/* What a checkpoint of this session is of. */
static swt_saving saving_of(swt_session *s) {
    return (swt_saving){.model = &s->model,
                        .options = s->options,
                        .tokenizer = &s->tokenizer,
                        .train_hash = s->train_hash,
                        .valid_hash = s->valid_hash};
}

/* Rank 0: what was published may be the best, which is not removed for being old. */
static swt_status note_best(swt_session *s, swt_run *run, swt_saver *saver) {
    const swt_saving *what = &saver->save.what;
    const bool better = saver->best_step < 0 || what->valid_loss < saver->best_loss;
    if (!s->options->train_keep_best)
        return SWT_OK;
    if (what->evaluated && better) {
        SWT_TRY(swt_best_mark(run, what->step));
        saver->best_step = what->step;
        saver->best_loss = what->valid_loss;
    }
    run->checkpoints.spared = saver->best_step;
    return SWT_OK;
}

/* Rank 0, once all files are there. Older ones go when the new one can be read where it is. */
static swt_status publish(swt_session *s, swt_run *run, swt_saver *saver, uint64_t hash) {
    const int64_t step = saver->save.what.step;
    char folder[SWT_PATH_BYTES], path[SWT_PATH_BYTES];
    swt_manifest m;
    SWT_TRY(swt_checkpoints_publish(&run->checkpoints, step, folder));
    SWT_TRY(swt_path_join(path, folder, SWT_MANIFEST_FILE));
    swt_status status = swt_manifest_read(&m, path);
    if (status == SWT_OK)
        status = swt_manifest_check_files(&m, folder);
    swt_manifest_fini(&m);
    if (status == SWT_CHECKPOINT) /* the disk gives back what was not written */
        status = swt_last_error()->status = SWT_FILE;
    SWT_TRY(status);
    SWT_TRY(note_best(s, run, saver));
    swt_checkpoints_prune(&run->checkpoints, s->options->train_keep_checkpoints);
    say_untidy(run);
    swt_run_say(run, "step %6lld  checkpoint written, weights' hash %016llx", (long long)step,
                (unsigned long long)hash);
    return SWT_OK;
}

/* Rank 0: nothing of an attempt that failed stays. */
static void discard(swt_run *run, int64_t step) {
    const swt_error why = *swt_last_error();
    swt_checkpoints_discard(&run->checkpoints, step);
    *swt_last_error() = why;
    say_untidy(run);
}

/* Collective: the files are written, or their writing has failed; the rest of an attempt. */
static swt_status end_once(swt_session *s, swt_run *run, swt_saver *saver, bool *disk_full) {
    swt_save *save = &saver->save;
    const bool first = s->world->rank == 0;
    uint64_t hash = 0;
    swt_status status = swt_save_end(save, &hash, disk_full);
    if (status == SWT_OK) {
        status = first ? publish(s, run, saver, hash) : SWT_OK;
        *disk_full = status == SWT_FILE && swt_last_error()->disk_full;
        status = swt_comm_agree(s->world, status);
    }
    if (first && status != SWT_OK)
        discard(run, save->what.step);
    return status;
}

/* The error of a full disk, which stands in the record already, with how much is missing. */
static void say_missing(swt_session *s, const swt_run *run) {
    swt_error *error = swt_last_error();
    const swt_error why = *error;
    const swt_saving what = saving_of(s);
    int64_t free_bytes = 0, bytes = 0, largest = 0;
    const swt_status known = swt_folder_room(run->path, &free_bytes);
    swt_save_bytes(&what, &bytes, &largest);
    *error = why;
    if (known != SWT_OK)
        return;
    const double needed = swt_mib((double)bytes), room = swt_mib((double)free_bytes);
    char advice[128] =
        "raise the quota or choose another --out"; /* there is room, but not for us */
    if (bytes > free_bytes)
        snprintf(advice, sizeof advice, "free %.1f MiB more or choose another --out",
                 needed - room);
    snprintf(error->message, sizeof error->message,
             "%.*s: a checkpoint has %.1f MiB, and %.1f MiB are free; %s",
             (int)strcspn(why.message, ";"), why.message, needed, room, advice);
}

/* Rank 0, on a full disk: whether the oldest checkpoint made room, where only so many are kept. */
static bool make_room(const swt_session *s, swt_run *run) {
    const swt_error why = *swt_last_error();
    const int64_t dropped =
        swt_checkpoints_drop(&run->checkpoints, s->options->train_keep_checkpoints);
    *swt_last_error() = why;
    if (dropped >= 0)
        swt_run_say(run,
                    "warning: the disk is full, so the checkpoint of step %" PRId64
                    " was removed; free space",
                    dropped);
    say_untidy(run);
    return dropped >= 0;
}

/* Collective, after a full disk: the same once more, where the oldest checkpoint made room. */
static swt_status try_again(swt_session *s, swt_run *run, swt_saver *saver, bool *full) {
    swt_save *save = &saver->save;
    const bool first = s->world->rank == 0;
    const swt_error why = *swt_last_error();
    char dir[SWT_PATH_BYTES];
    int64_t again = first && *full && make_room(s, run);
    SWT_TRY(swt_comm_broadcast(s->world, &again, sizeof again, 0, NULL));
    *swt_last_error() = why;
    if (!again)
        return why.status;
    SWT_TRY(swt_comm_agree(
        s->world, first ? swt_checkpoints_begin(&run->checkpoints, save->what.step, dir) : SWT_OK));
    swt_save_again(save);
    return end_once(s, run, saver, full);
}

static swt_status end(swt_session *s, swt_run *run, swt_saver *saver) {
    bool full = false;
    swt_progress_phase(s->world->progress, SWT_PHASE_CHECKPOINT);
    swt_status status = end_once(s, run, saver, &full);
    if (status == SWT_FILE) /* the same on all ranks; others may end them by force */
        status = try_again(s, run, saver, &full);
    if (status == SWT_FILE && full)
        say_missing(s, run);
    const swt_error why = *swt_last_error();
    swt_save_fini(&saver->save);
    *swt_last_error() = why;
    return status;
}

swt_status swt_checkpoint_end(swt_session *s, swt_run *run, swt_saver *saver) {
    if (!saver->under_way)
        return SWT_OK;
    saver->under_way = false;
    const swt_status status = end(s, run, saver);
    saver->failed = status != SWT_OK;
    if (status == SWT_OK) {
        saver->saved_step = saver->save.what.step;
        saver->took_ms = swt_now_ms() - saver->begin_ms;
    }
    return status;
}

swt_status swt_checkpoint_look(swt_session *s, swt_run *run, swt_saver *saver) {
    bool done = false;
    if (!saver->under_way)
        return SWT_OK;
    SWT_TRY(swt_save_look(&saver->save, &done));
    return done ? swt_checkpoint_end(s, run, saver) : SWT_OK;
}

/* There is one snapshot: the next checkpoint waits for the last, which is said once. */
static swt_status await_last(swt_session *s, swt_run *run, swt_saver *saver, int64_t step) {
    SWT_TRY(swt_checkpoint_look(s, run, saver));
    if (saver->under_way && !saver->slow_said && s->world->rank == 0)
        swt_run_say(run,
                    "warning: the checkpoint of step %" PRId64 " is still being written, and that "
                    "of step %" PRId64 " waits; raise train.checkpoint_every, or give a faster "
                    "disk",
                    saver->save.what.step, step);
    saver->slow_said = saver->slow_said || saver->under_way;
    return swt_checkpoint_end(s, run, saver);
}

static swt_status begin(swt_session *s, swt_run *run, swt_save *save,
                        const swt_checkpoint_facts *facts) {
    const bool first = s->world->rank == 0;
    char dir[SWT_PATH_BYTES] = "";
    swt_saving what = saving_of(s);
    what.step = facts->step;
    what.skipped = facts->skipped;
    what.ledger = facts->ledger;
    what.evaluated = facts->valid_loss != NULL;
    what.valid_loss = what.evaluated ? *facts->valid_loss : 0.0;
    swt_progress_phase(s->world->progress, SWT_PHASE_CHECKPOINT);
    swt_status status = first ? swt_run_sync(run) : SWT_OK;
    if (first && status == SWT_OK)
        status = swt_checkpoints_begin(&run->checkpoints, facts->step, dir);
    status = swt_comm_agree(s->world, status);
    if (status == SWT_OK)
        status = swt_save_begin(save, &what, dir, s->options->train_async_checkpoints);
    if (status != SWT_OK)
        swt_save_fini(save);
    if (first && status != SWT_OK)
        discard(run, facts->step);
    return status;
}

swt_status swt_checkpoint_write(swt_session *s, swt_run *run, swt_saver *saver,
                                const swt_checkpoint_facts *facts, bool whole) {
    SWT_TRY(await_last(s, run, saver, facts->step));
    saver->begin_ms = swt_now_ms();
    const swt_status status = begin(s, run, &saver->save, facts);
    saver->under_way = status == SWT_OK;
    saver->failed = status != SWT_OK;
    SWT_TRY(status);
    return whole || !s->options->train_async_checkpoints ? swt_checkpoint_end(s, run, saver)
                                                         : SWT_OK;
}

/* ---- known before step 1 */

/* Checkpoints that are there at once, at most. */
static int64_t most_checkpoints(const swt_options *o) {
    const int64_t every = o->train_checkpoint_every, keep = o->train_keep_checkpoints;
    const int64_t written = every > 0 ? swt_ceil_div(swt_max(o->train_steps, 1), every) : 1;
    return keep > 0 ? swt_min(written, keep + 1) : written; /* one is being written beside them */
}

/* Of metrics.jsonl and log.txt, about. */
static double row_bytes(const swt_options *o) {
    enum { TRAINING_BYTES = 560, EVALUATION_BYTES = 240, SAMPLE_BYTES = 80 };
    const double steps = (double)o->train_steps;
    double bytes = TRAINING_BYTES * (steps / (double)o->train_log_every + 1.0) + EVALUATION_BYTES;
    if (o->train_eval_every > 0)
        bytes += EVALUATION_BYTES * steps / (double)o->train_eval_every;
    if (o->train_sample_every > 0)
        bytes += SAMPLE_BYTES * steps / (double)o->train_sample_every;
    return bytes;
}

void swt_checkpoint_check_room(swt_session *s, swt_run *run) {
    const swt_options *o = s->options;
    const swt_saving what = saving_of(s);
    int64_t all = 0, largest = 0;
    swt_save_bytes(&what, &all, &largest);
    const double one = (double)all, rows = row_bytes(o);
    const int64_t most = most_checkpoints(o);
    const double needed = one * (double)most + rows;
    int64_t free_bytes = 0;
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        (double)limit.rlim_cur < (double)largest)
        swt_run_say(
            run,
            "warning: a file may have %.1f MiB here (ulimit -f), and a checkpoint's largest has "
            "%.1f; raise the limit",
            swt_mib((double)limit.rlim_cur), swt_mib((double)largest));
    const swt_status known = swt_folder_room(run->path, &free_bytes);
    if (known != SWT_OK)
        swt_run_say(run, "warning: %s", swt_last_error()->message);
    else if (needed > (double)free_bytes)
        swt_run_say(
            run,
            "warning: this run needs up to %.1f MiB (%lld checkpoint%s of %.1f, rows %.1f), "
            "and %s has %.1f MiB free; free space, or keep fewer checkpoints",
            swt_mib(needed), (long long)most, swt_plural(most), swt_mib(one), swt_mib(rows),
            run->path, swt_mib((double)free_bytes));
}
