#include "state/shards.h"

#include <stdio.h>
#include <string.h>

static const char *const kind_names[SWT_SHARD_KINDS] = {"weights", "optim"}, *const ending =
                                                                                 ".safetensors";

void swt_shard_name(char out[SWT_FILE_NAME_BYTES], const swt_shards *s, swt_shard_kind kind,
                    int rank) {
    if (s->writers == 1)
        snprintf(out, SWT_FILE_NAME_BYTES, "%s%s", kind_names[kind], ending);
    else
        snprintf(out, SWT_FILE_NAME_BYTES, "%s-%05d-of-%05d%s", kind_names[kind], rank + 1, s->size,
                 ending);
}

bool swt_shard_is(const char *name, swt_shard_kind kind) {
    const size_t n = strlen(name), begin = strlen(kind_names[kind]), end = strlen(ending);
    return n >= begin + end && strncmp(name, kind_names[kind], begin) == 0 &&
           strcmp(name + n - end, ending) == 0;
}

void swt_saved_name(char out[SWT_TENSOR_NAME_BYTES], swt_saved_tensor which, const char *param) {
    static const char *const before[SWT_SAVED_TENSORS] = {"", "optim.m.", "optim.v.", "optim.row.",
                                                          "optim.col."};
    snprintf(out, SWT_TENSOR_NAME_BYTES, "%s%s", before[which], param);
}
