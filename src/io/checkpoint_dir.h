/* The folder checkpoints/ of a run: which checkpoints there are, and how one is published at once.
 * What is not yet published, or no longer, has a name that starts with a dot. checkpoints/ itself
 * may be a link, say to a larger disk; nothing in it is followed that is created or removed. */
#ifndef SWT_IO_CHECKPOINT_DIR_H
#define SWT_IO_CHECKPOINT_DIR_H

#include "base/status.h"
#include "io/files.h"

#include <stdbool.h>
#include <stdint.h>

/* The files of a checkpoint; its tensors may also be in several files (state/shards.h). */
#define SWT_WEIGHTS_FILE   "weights.safetensors"
#define SWT_MANIFEST_FILE  "manifest.json"
#define SWT_TOKENIZER_FILE "tokenizer.json"
#define SWT_CONFIG_FILE    "config.yaml"

/* Of a run that is written. Tidying up never ends a run: why something old could not be removed is
 * kept here, for the run to say. */
typedef struct swt_checkpoints {
    char path[SWT_PATH_BYTES];
    swt_error untidy; /* the first time; its status is OK where all could */
    int64_t spared;   /* a step whose checkpoint is not removed for being old; -1: none */
} swt_checkpoints;

/* Those of a run's folder, which need not be there. Errors: FILE where the longest path in them, up
 * to this step, is none that the system takes. */
SWT_MUST_CHECK swt_status swt_checkpoints_init(swt_checkpoints *out, const char *run_path,
                                               int64_t last_step);

/* Make the hidden folder .step-NNNNNNNN, whose path is `folder`, and checkpoints/ where there is
 * none. What an interrupted write left there is removed. */
SWT_MUST_CHECK swt_status swt_checkpoints_begin(swt_checkpoints *c, int64_t step,
                                                char folder[SWT_PATH_BYTES]);

/* fsync the files and the folder, rename it to step-NNNNNNNN, whose path is `folder`, fsync the
 * parent. */
SWT_MUST_CHECK swt_status swt_checkpoints_publish(swt_checkpoints *c, int64_t step,
                                                  char folder[SWT_PATH_BYTES]);

/* Remove the oldest ones beyond `keep` (0 keeps all), but the spared one. */
void swt_checkpoints_prune(swt_checkpoints *c, int64_t keep);

/* The newest published checkpoint whose step is below `below`: its step, -1 where there is none,
 * and its folder. Errors: FILE. */
SWT_MUST_CHECK swt_status swt_checkpoints_newest(const swt_checkpoints *c, int64_t below,
                                                 int64_t *step, char folder[SWT_PATH_BYTES]);

/* Remove the hidden folder of a checkpoint that cannot be published. */
void swt_checkpoints_discard(swt_checkpoints *c, int64_t step);

/* The disk is full: remove the oldest published checkpoint of at least two, not counting the spared
 * one where it is older, if only so many are kept. Returns its step, -1 where none went; with keep
 * 0 all were asked for, and none goes. */
int64_t swt_checkpoints_drop(swt_checkpoints *c, int64_t keep);

/* The checkpoint that a DIR argument means: itself if it holds weights (a manifest or
 * weights.safetensors), else the newest published one of its checkpoints/. Errors: CHECKPOINT. */
SWT_MUST_CHECK swt_status swt_checkpoint_find(char out[SWT_PATH_BYTES], const char *dir);

#endif
