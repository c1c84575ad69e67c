/* Words around numbers. */
#ifndef SWT_BASE_WORDS_H
#define SWT_BASE_WORDS_H

#include <stdint.h>

/* The ending of a noun that n things have: "%lld rank%s". */
static inline const char *swt_plural(int64_t n) {
    return n == 1 ? "" : "s";
}

/* The same after a hiss: "%lld micro-batch%s". */
static inline const char *swt_plural_es(int64_t n) {
    return n == 1 ? "" : "es";
}

#endif
