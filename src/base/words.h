/* Words around numbers, texts made of pieces, and warnings. */
#ifndef SWT_BASE_WORDS_H
#define SWT_BASE_WORDS_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The ending of a noun that n things have: "%lld rank%s". */
static inline const char *swt_plural(int64_t n) {
    return n == 1 ? "" : "s";
}

/* The same after a hiss: "%lld micro-batch%s". */
static inline const char *swt_plural_es(int64_t n) {
    return n == 1 ? "" : "es";
}

/* Bytes in MiB, for people. */
static inline double swt_mib(double bytes) {
    return bytes / 1048576.0;
}

/* Print behind what a text holds already. What does not fit into its text_bytes is left out. */
void swt_append(char *text, size_t text_bytes, const char *fmt, ...) SWT_PRINTF(3, 4);

/* What is likely not meant, kept until there is someone to say it: "WHAT; WHAT WOULD BE RIGHT".
 * Starts as zeros; what has no room is left out. */
enum { SWT_WARNINGS = 8, SWT_WARNING_BYTES = 768 };
typedef struct swt_warnings {
    char lines[SWT_WARNINGS][SWT_WARNING_BYTES];
    int count;
} swt_warnings;
void swt_warn(swt_warnings *w, const char *fmt, ...) SWT_PRINTF(2, 3);

/* A line for each, "swt-dist: warning: ...". */
void swt_warnings_print(const swt_warnings *w, FILE *err);

#endif
