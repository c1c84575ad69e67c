/* libFuzzer's entry: the target that SWT_FUZZ_TARGET names, on one input. */
#include "fuzz/targets.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count) {
    const fuzz_target *target = fuzz_target_find(getenv("SWT_FUZZ_TARGET"));
    if (target == NULL) {
        fprintf(stderr, "SWT_FUZZ_TARGET: name a target of tests/fuzz/targets.c\n");
        exit(2);
    }
    target->run(bytes, count);
    return 0;
}
