#include "state/shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[SWT_SHARD_KINDS] = {"weights", "optim"}, *const ending =
                                                                                 ".safetensors";

/* Shared tensors are on every rank, an expert's on one of each expert group. */
static int choose_owner(const swt_shards *s, const swt_param *p, const swt_dist *dist) {
    const int first = swt_param_holder(p, dist);
    const int stride = p->expert >= 0 ? dist->P : 1;
    int owner = first;
    for (int rank = first; rank < s->size; rank += stride)
        if (s->bytes[rank] < s->bytes[owner])
            owner = rank;
    return owner;
}

swt_status swt_shards_init(swt_shards *out, const swt_params *params, const swt_dist *dist) {
    *out = (swt_shards){.size = dist->size};
    out->owner = calloc((size_t)params->count + 1, sizeof *out->owner);
    out->bytes = calloc((size_t)dist->size, sizeof *out->bytes);
    if (out->owner == NULL || out->bytes == NULL) {
        swt_shards_fini(out);
        return SWT_FAIL(MEMORY, "checkpoint: no memory for a list of %lld tensors",
                        (long long)params->count);
    }
    for (int64_t i = 0; i < params->count; i++) {
        const swt_param *p = &params->table[i];
        out->owner[i] = choose_owner(out, p, dist);
        out->bytes[out->owner[i]] += p->count * (int64_t)sizeof(float);
    }
    for (int rank = 0; rank < out->size; rank++)
        out->writers += out->bytes[rank] > 0;
    return SWT_OK;
}

void swt_shards_fini(swt_shards *s) {
    free(s->owner);
    free(s->bytes);
    *s = (swt_shards){0};
}

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
    static const char *const before[SWT_SAVED_TENSORS] = {"", "optim.m.", "optim.v."};
    snprintf(out, SWT_TENSOR_NAME_BYTES, "%s%s", before[which], param);
}
