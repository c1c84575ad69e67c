/* What is read from outside, each reader as a function of some bytes. A target ends the process
 * where a promise of the reader is broken; the sanitizers see the rest. libFuzzer drives them
 * (libfuzzer.c), and a test replays the corpus. */
#ifndef SWT_TESTS_FUZZ_TARGETS_H
#define SWT_TESTS_FUZZ_TARGETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fuzz_target {
    const char *name; /* also that of its folder in tests/fuzz/corpus */
    void (*run)(const uint8_t *bytes, size_t count);
    bool damaged; /* the corpus is tried damaged, too */
} fuzz_target;

/* The end has no name. */
extern const fuzz_target fuzz_targets[];

/* NULL where none has that name. */
const fuzz_target *fuzz_target_find(const char *name);

#endif
