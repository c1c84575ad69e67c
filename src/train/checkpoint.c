#include "train/checkpoint.h"

#include "base/checked.h"
#include "base/words.h"
#include "io/files.h"
#include "state/save.h"

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

/* Rank 0, once all files are there. Older ones go when the new one can be read where it is. */
static swt_status publish(swt_session *s, swt_run *run, int64_t step, uint64_t hash) {
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
    swt_checkpoints_prune(&run->checkpoints, s->options->train_keep_checkpoints);
    say_untidy(run);
    swt_run_say(run, "step %6lld  checkpoint written, weights' hash %016llx", (long long)step,
                (unsigned long long)hash);
    return SWT_OK;
}

/* One attempt; nothing of it stays where it fails. */
static swt_status write_once(swt_session *s, swt_run *run, const swt_saving *what,
                             bool *disk_full) {
    const bool first = s->world->rank == 0;
    char dir[SWT_PATH_BYTES] = "";
    uint64_t hash = 0;
    swt_status status = first ? swt_run_sync(run) : SWT_OK;
    if (first && status == SWT_OK)
        status = swt_checkpoints_begin(&run->checkpoints, what->step, dir);
    *disk_full = status == SWT_FILE && swt_last_error()->disk_full;
    status = swt_comm_agree(s->world, status);
    if (status == SWT_OK)
        status = swt_save(what, dir, &hash, disk_full);
    if (status == SWT_OK) {
        status = first ? publish(s, run, what->step, hash) : SWT_OK;
        *disk_full = status == SWT_FILE && swt_last_error()->disk_full;
        status = swt_comm_agree(s->world, status);
    }
    if (first && status != SWT_OK) {
        const swt_error why = *swt_last_error();
        swt_checkpoints_discard(&run->checkpoints, what->step);
        *swt_last_error() = why;
        say_untidy(run);
    }
    return status;
}

/* The error of a full disk, which stands in the record already, with how much is missing. */
static void say_missing(swt_session *s, const swt_run *run) {
    swt_error *error = swt_last_error();
    const swt_error why = *error;
    const swt_saving what = saving_of(s);
    int64_t free_bytes = 0, bytes = 0, largest = 0;
    swt_status known = swt_folder_room(run->path, &free_bytes);
    if (known == SWT_OK)
        known = swt_save_bytes(&what, &bytes, &largest);
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

swt_status swt_checkpoint_write(swt_session *s, swt_run *run, const swt_checkpoint_facts *facts) {
    const bool first = s->world->rank == 0;
    bool full = false;
    swt_saving what = saving_of(s);
    what.step = facts->step;
    what.skipped = facts->skipped;
    what.ledger = facts->ledger;
    what.evaluated = facts->valid_loss != NULL;
    what.valid_loss = what.evaluated ? *facts->valid_loss : 0.0;
    swt_progress_phase(s->world->progress, SWT_PHASE_CHECKPOINT);
    swt_status status = write_once(s, run, &what, &full);
    if (status != SWT_FILE) /* the same on all ranks, or one that ends them by force */
        return status;
    int64_t again = first && full && make_room(s, run);
    SWT_TRY(swt_comm_broadcast(s->world, &again, sizeof again, 0, NULL));
    if (again)
        status = write_once(s, run, &what, &full);
    if (status == SWT_FILE && full)
        say_missing(s, run);
    return status;
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
    if (swt_save_bytes(&what, &all, &largest) != SWT_OK)
        return;
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
