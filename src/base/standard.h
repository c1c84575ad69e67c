/* The three descriptors that every process is given, or should be, and writing to descriptors. */
#ifndef SWT_BASE_STANDARD_H
#define SWT_BASE_STANDARD_H

#include "base/status.h"

#include <stddef.h>
#include <stdio.h>

/* The first thing a program does: what it was started without (`>&-`, some daemons and job
 * managers) leads to /dev/null. Otherwise the next file opened would get the number, and what is
 * said would land in it. */
void swt_standard_open(void);

/* Write all bytes, whatever interrupts or shortens a write(2). Returns 0, or errno. */
int swt_write_all(int fd, const void *bytes, size_t count);

/* A stream on standard output that writes like swt_write_all; stdout itself where there is no
 * memory for one. For what the user asked for. */
FILE *swt_standard_stream(void);

/* The last thing done with it: bring everything out. Errors: FILE where any write has failed. */
SWT_MUST_CHECK swt_status swt_standard_finish(FILE *out);

#endif
