/* The run directory: config.yaml, metrics.jsonl, log.txt, checkpoints/step-NNNNNNNN/. Rank 0 alone
 * calls what writes. What is not yet published has a name that starts with a dot. */
#ifndef SWT_TRAIN_RUNDIR_H
#define SWT_TRAIN_RUNDIR_H

#include "base/status.h"
#include "train/options.h"

#include <stdint.h>
#include <stdio.h>

typedef struct swt_run {
    char path[SWT_PATH_BYTES];
    FILE *metrics, *log;
    bool terminal;       /* standard output is a terminal: one live line */
    bool live_line_open; /* a live line stands unfinished on the terminal */
    bool untidy;         /* that something old could not be removed was said */
    int log_failed;      /* errno of the last line that log.txt did not take; 0 = none */
} swt_run;

/* Create the directory (default runs/<date-time>-<pid> where o->run_out is empty), config.yaml, and
 * open metrics and log. Errors: USAGE where the directory already holds a run; FILE where it cannot
 * be written. Nothing is left behind on an error that was not there before. */
SWT_MUST_CHECK swt_status swt_run_create(swt_run *out, const swt_options *o);
void swt_run_close(swt_run *run);

/* One row of metrics.jsonl: a flat JSON object, numbers printed so that they read back exactly
 * (integers without a point; a double in the fewest digits that do). The row is flushed. `names`
 * and `values` have `count` entries; step comes first. */
typedef struct swt_metric {
    const char *name;
    double value;
    bool integer;
} swt_metric;
SWT_MUST_CHECK swt_status swt_run_metrics(swt_run *run, const swt_metric *row, int count);

/* A line to the terminal (after the live line, if one is open) and to log.txt. */
void swt_run_say(swt_run *run, const char *fmt, ...) SWT_PRINTF(2, 3);

/* Whether standard output is the user's terminal. Under MPI launch/run says so (SWT_TERMINAL);
 * without its word there is no live line. */
bool swt_run_on_terminal(void);

/* A line to log.txt alone. */
void swt_run_log(swt_run *run, const char *fmt, ...) SWT_PRINTF(2, 3);

/* Errors: FILE where log.txt did not take a line. */
SWT_MUST_CHECK swt_status swt_run_check_log(const swt_run *run);

/* A rank that has but the run's path, and ends all others by force, says why in log.txt. */
void swt_run_log_end(const swt_run *run, int rank, const char *why);

/* Progress: on a terminal redraws the one live line; in a pipe prints a line where `due` (a log
 * interval's end). log.txt gets the line where due. */
void swt_run_progress(swt_run *run, bool due, const char *fmt, ...) SWT_PRINTF(3, 4);

/* ---- atomic publication of a checkpoint folder. Tidying up never ends a run: what cannot be
 * removed is warned of, once. checkpoints/ itself may be a link, say to a larger disk; nothing in
 * it is followed that is created or removed. */

/* Whether the longest path of a run in this folder is one that the system takes. Errors: FILE. */
SWT_MUST_CHECK swt_status swt_run_check_path(const char *run_path, int64_t last_step);

/* Make the hidden folder checkpoints/.step-NNNNNNNN (removing what an interrupted write left
 * there). */
SWT_MUST_CHECK swt_status swt_run_checkpoint_begin(swt_run *run, int64_t step, char *dir,
                                                   size_t dir_bytes);
/* fsync the files and the folder, rename it to step-NNNNNNNN, fsync the parent; then remove the
 * oldest ones beyond `keep` (0 keeps all). */
SWT_MUST_CHECK swt_status swt_run_checkpoint_publish(swt_run *run, int64_t step, int64_t keep);

/* Remove the hidden folder of a checkpoint that cannot be published. */
void swt_run_checkpoint_discard(swt_run *run, int64_t step);

/* The disk is full: remove the oldest published checkpoint of at least two, where only so many are
 * kept. Returns whether one went; with keep 0 all were asked for, and none goes. */
bool swt_run_checkpoint_drop(swt_run *run, int64_t keep);

/* The checkpoint that a DIR argument means: itself if it holds weights.safetensors, else the newest
 * published one of its checkpoints/. Errors: CHECKPOINT. */
SWT_MUST_CHECK swt_status swt_checkpoint_find(char *out, size_t out_bytes, const char *dir);

#endif
