/* Words around numbers, and texts made of pieces. */
#ifndef SWT_BASE_WORDS_H
#define SWT_BASE_WORDS_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

/* The ending of a noun that n things have: "%lld rank%s". */
static inline const char *swt_plural(int64_t n) {
    return n == 1 ? "" : "s";
}

/* The same after a hiss: "%lld micro-batch%s". */
static inline const char *swt_plural_es(int64_t n) {
    return n == 1 ? "" : "es";
}

/* Print behind what a text holds already. What does not fit into its text_bytes is left out. */
void swt_append(char *text, size_t text_bytes, const char *fmt, ...) SWT_PRINTF(3, 4);

#endif
