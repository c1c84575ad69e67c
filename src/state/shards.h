/* What the tensors of a checkpoint and their files are called; who writes which: model/shards.h. */
#ifndef SWT_STATE_SHARDS_H
#define SWT_STATE_SHARDS_H

#include "model/shards.h"
#include "state/manifest.h"

/* The files of tensors, by what is in them. */
typedef enum swt_shard_kind { SWT_SHARD_WEIGHTS, SWT_SHARD_OPTIM, SWT_SHARD_KINDS } swt_shard_kind;

/* weights.safetensors where one rank writes; else weights-00002-of-00003.safetensors for rank 1 of
 * 3; and optim... */
void swt_shard_name(char out[SWT_FILE_NAME_BYTES], const swt_shards *s, swt_shard_kind kind,
                    int rank);

/* Whether that is the name of a file of this kind, of any number of ranks. */
bool swt_shard_is(const char *name, swt_shard_kind kind);

/* NAME, optim.m.NAME, optim.v.NAME, optim.row.NAME, optim.col.NAME */
void swt_saved_name(char out[SWT_TENSOR_NAME_BYTES], swt_saved_tensor which, const char *param);

static inline swt_shard_kind swt_saved_kind(swt_saved_tensor which) {
    return which == SWT_SAVED_WEIGHT ? SWT_SHARD_WEIGHTS : SWT_SHARD_OPTIM;
}

#endif
