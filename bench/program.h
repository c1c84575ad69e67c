/* What the measuring programs have in common: their own flags, the ranks, repetitions, the end. */
#ifndef BENCH_PROGRAM_H
#define BENCH_PROGRAM_H

#include "base/standard.h"
#include "base/status.h"
#include "comm/swt_comm.h"
#include "kernels/swt_threads.h"

#include <stdbool.h>
#include <stdint.h>

/* A flag of the program. Exactly one of the places is given; a switch takes no value. */
typedef struct flag {
    const char *name; /* "--steps" */
    bool *on;
    int64_t *count; /* least ... */
    double *real;   /* > 0 */
    const char **text;
    int64_t least;
} flag;

/* Take the program's flags out of the command line; what is left stays in argv[1] ... . Errors:
 * USAGE. */
SWT_MUST_CHECK swt_status program_flags(const flag *flags, int n, int *argc, char **argv);

/* Is --help (or -h) on the command line? Then prints `usage`, on the first rank alone. */
bool program_help(int argc, char *const *argv, const char *usage);

/* Nothing may be left in the command line. Errors: USAGE. */
SWT_MUST_CHECK swt_status program_no_more(int argc, char *const *argv, const char *usage);

/* *choice = the swt_device_choice of this name, as --device of swt-dist. Errors: USAGE. */
SWT_MUST_CHECK swt_status program_device(const char *name, int *choice);

/* How many repetitions are timed as one: where work is queued `most`, with one wait behind them, so
 * that it is launched while the device works; where a call's end is its work's end, 1. */
static inline int64_t program_batch(const swt_device *d, double most) {
    return d->table->queues && most > 1.0 ? (int64_t)most : 1;
}

/* All ranks if an MPI launcher started us, else one alone. */
SWT_MUST_CHECK swt_status program_open(swt_comm *world);

/* Print the error, end all ranks, give the exit code. */
int program_close(swt_comm *world, const char *name, swt_status status);

#endif
