/* The watchdog: a thread of each rank that tells the others over TCP that it is there and where
 * its main thread is, and ends the process where a rank is lost. It makes no call of MPI, so it
 * does so also where the main thread waits in one for ever.
 *
 * Lost is a rank that is not heard of for run.hang_seconds (stopped, its machine or its network
 * gone), whose connection closes without a goodbye (killed, crashed), or that makes no progress for
 * run.stall_seconds. Then one rank says so in one line, and all end with exit code 6. */
#ifndef SWT_STATE_WATCHDOG_H
#define SWT_STATE_WATCHDOG_H

#include "base/words.h"
#include "comm/swt_comm.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct swt_watchdog swt_watchdog;

/* Collective over the whole world: the ranks' threads find each other and begin. From here on
 * world->progress says where this rank is, also for what is split from it. *out stays NULL, with no
 * thread anywhere, on one rank, where hang_seconds is 0, and where the ranks cannot reach each
 * other over TCP, of which *warnings tells. Errors: COMM where the exchange of addresses fails,
 * MEMORY. */
SWT_MUST_CHECK swt_status swt_watchdog_open(swt_watchdog **out, swt_comm *world,
                                            int64_t hang_seconds, int64_t stall_seconds,
                                            swt_warnings *warnings);

/* All below take NULL. */

/* From now on the line of a lost rank goes to this file, too (it is copied). `terminal`: a live
 * line may stand unfinished there. */
void swt_watchdog_log(swt_watchdog *w, const char *path, bool terminal);

/* This rank ends, and the others must not miss it: in order, or `failed` for a reason that it has
 * told itself, which ends them, silently. The thread still watches those who have not ended. */
void swt_watchdog_farewell(swt_watchdog *w, bool failed);

/* An exchange has failed: wait as long as the thread may take to find that a rank is lost, which
 * ends this process and says more than the failure does. Returns where none is. */
void swt_watchdog_consider(swt_watchdog *w);

/* End the thread, after farewell and the last collective call. */
void swt_watchdog_close(swt_watchdog *w);

#endif
