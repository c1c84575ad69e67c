/* The threads of a process before it has any: what OpenMP's library reads when it is loaded. */
#ifndef SWT_THREADS_H
#define SWT_THREADS_H

#include <stdbool.h>
#include <stdint.h>

/* Decide how this process's threads wait and where they run. OpenMP's library has read the
 * environment before main, so where something is to be changed the program is started once more
 * with the environment changed; else, or where that is impossible, this returns.
 *
 * How: a thread that has nothing to do looks for work some 0.1 ms long and then sleeps, unless the
 * user has said how (OMP_WAIT_POLICY, GOMP_SPINCOUNT). Where: anywhere on the cores that a user
 * names by OMP_PROC_BIND, OMP_PLACES or GOMP_CPU_AFFINITY. Bound by these, the threads of all ranks
 * of a machine would share the first few of them.
 *
 * Call it first thing in main; `argv` is main's. */
void swt_threads_settle(char *const *argv);

/* How many of so many threads the user's environment leaves: no more than OMP_THREAD_LIMIT, and,
 * where the number was not asked for, OMP_NUM_THREADS. *name = which of them left fewer, or NULL.
 */
int64_t swt_threads_limit(int64_t threads, bool asked, const char **name);

#endif
