/* The run directory: config.yaml, metrics.jsonl, ledger.jsonl, log.txt, checkpoints/
 * (io/checkpoint_dir.h). Rank 0 alone calls what writes. */
#ifndef SWT_TRAIN_RUNDIR_H
#define SWT_TRAIN_RUNDIR_H

#include "base/status.h"
#include "io/checkpoint_dir.h"
#include "options/options.h"

#include <stdint.h>
#include <stdio.h>

/* Its files beside config.yaml and checkpoints/. */
#define SWT_METRICS_FILE "metrics.jsonl"
#define SWT_LOG_FILE     "log.txt"

enum { SWT_ROW_BYTES = 4096 };

typedef struct swt_run {
    char path[SWT_PATH_BYTES];
    swt_checkpoints checkpoints;
    /* descriptors; 0, which is standard input's, where there is no file */
    int metrics, ledger, log, lock;
    bool terminal;       /* standard output is a terminal: one live line */
    bool live_line_open; /* a live line stands unfinished on the terminal */
    bool untidy_said;    /* checkpoints.untidy was said */
    uint64_t
        metrics_hash; /* XXH3 of each row of metrics.jsonl, seeded with that of the rows before */
    int log_failed;   /* errno of the last line that log.txt did not take; 0 = none */
    char row[SWT_ROW_BYTES]; /* that metrics.jsonl has not taken yet; "": none */
} swt_run;

/* Create the directory (default runs/<date-time>-<pid> where o->run_out is empty), config.yaml, and
 * open metrics and log. Errors: USAGE where the directory already holds a run; FILE where it cannot
 * be written. Nothing is left behind on an error that was not there before. */
SWT_MUST_CHECK swt_status swt_run_create(swt_run *out, const swt_options *o);
void swt_run_close(swt_run *run);

/* The folder's name, and what follows from it, into a run of zeros; nothing is made. */
SWT_MUST_CHECK swt_status swt_run_name(swt_run *run, const swt_options *o);

/* Lock the folder, which is there, with the hidden file .lock, until the run is closed or its
 * process ends. Errors: USAGE where another run has it. */
SWT_MUST_CHECK swt_status swt_run_lock(swt_run *run);
void swt_run_unlock(swt_run *run);

/* Open the locked folder of a run to go on after a step: rows of metrics.jsonl behind it are cut,
 * log.txt and metrics.jsonl are written on, config.yaml is that of the options. Errors: FILE. */
SWT_MUST_CHECK swt_status swt_run_reopen(swt_run *run, const swt_options *o, int64_t step);

/* config.yaml, at once. */
SWT_MUST_CHECK swt_status swt_run_write_config(const swt_run *run, const swt_options *o);

/* One row of metrics.jsonl: a flat JSON object, numbers printed so that they read back exactly
 * (integers without a point; a double in the fewest digits that do); step comes first. Errors:
 * FILE, also where log.txt has not taken its lines; the row is kept then, and no part of it in the
 * file: swt_run_write_row tries it again. */
typedef struct swt_metric {
    const char *name;
    double value;
    bool integer;
} swt_metric;
SWT_MUST_CHECK swt_status swt_run_metrics(swt_run *run, const swt_metric *row, int count);

/* The row that metrics.jsonl has not taken yet, if there is one. Errors: FILE. */
SWT_MUST_CHECK swt_status swt_run_write_row(swt_run *run);

/* A line of ledger.jsonl (state/ledger.h), or nothing of it. Errors: FILE. */
SWT_MUST_CHECK swt_status swt_run_ledger(swt_run *run, const char *line);

/* Bring metrics.jsonl and ledger.jsonl to the disk. Errors: FILE. */
SWT_MUST_CHECK swt_status swt_run_sync(const swt_run *run);

/* A line to the terminal (after the live line, if one is open) and to log.txt. */
void swt_run_say(swt_run *run, const char *fmt, ...) SWT_PRINTF(2, 3);

/* Each as a line "warning: ..."; none is left. */
void swt_run_say_warnings(swt_run *run, swt_warnings *w);

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

#endif
