/* Checks and fixtures of tests on several ranks. A rank that finds a mistake ends all ranks,
 * because the others wait for it. */
#ifndef SWT_TESTS_SUPPORT_WORLD_H
#define SWT_TESTS_SUPPORT_WORLD_H

#include "comm/swt_comm.h"

/* Unless it holds: say who found what where, and end all ranks. */
void swt_world_check(swt_comm *comm, bool holds, const char *what, int line);

#define check(comm, condition) swt_world_check(comm, condition, #condition, __LINE__)
#define succeeds(comm, call)   swt_world_check(comm, (call) == SWT_OK, #call, __LINE__)

/* A group's set-up and its end: *state is the communicator of all ranks. */
int swt_world_open(void **state);
int swt_world_close(void **state);

#endif
