/* The self-test: the whole arithmetic of a backend, and all ranks together, on the machine it is to
 * run on, in under a minute. Its judges are the formulas in double precision (oracle.h), finite
 * differences, whole numbers, and the same step on one rank alone.
 *
 * A table goes to rank 0's output: for each check its cases, the largest error as a share of what
 * is allowed, its time and its verdict. */
#ifndef SWT_JUDGE_SELFTEST_H
#define SWT_JUDGE_SELFTEST_H

#include "judge/trial.h"
#include "train/session.h"

/* The command `selftest`: collective; options and world are the session's, all else is zero.
 * Errors: NUMBERS, naming the first check that failed and a rank where it did; those of opening the
 * device; of a failing operation its own. The same on every rank. */
SWT_MUST_CHECK swt_status swt_command_selftest(swt_session *s);

/* Collective: all checks, the table and the verdict, on a device that is open. */
SWT_MUST_CHECK swt_status swt_selftest_all(const swt_trial_setup *setup, FILE *out);

#endif
