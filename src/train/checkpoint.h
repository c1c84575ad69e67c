/* Checkpoints: weights between the ranks' shards and safetensors files, and the files beside them.
 */
#ifndef SWT_TRAIN_CHECKPOINT_H
#define SWT_TRAIN_CHECKPOINT_H

#include "io/safetensors.h"
#include "model/model.h"
#include "train/rundir.h"
#include "train/session.h"

/* ---- reading: local; errors: `status` (FILE or CHECKPOINT), naming file and tensor */

/* Whether the file holds exactly the tensors of a model of these dimensions. For a command that has
 * not made the model yet: dimensions from a file may claim any size. */
SWT_MUST_CHECK swt_status swt_weights_check(const char *path, const swt_dims *d, swt_status status);

/* Read every tensor this rank holds. The file must hold exactly the model's tensors. */
SWT_MUST_CHECK swt_status swt_weights_load(swt_model *m, const char *path, swt_status status);

/* The vocabulary that a weights file is for: rows of embed.weight. */
SWT_MUST_CHECK swt_status swt_weights_vocab(const char *path, swt_status status, int64_t *vocab);

/* ---- writing */

/* Declare a tensor for each parameter, its name behind `prefix`. */
SWT_MUST_CHECK swt_status swt_weights_declare(swt_tensor_writer *w, const char *prefix,
                                              const swt_params *params);

/* Collective: tensor i of a flat array (model.param or model.grad), from the rank that holds it
 * into model.staging of every rank. */
SWT_MUST_CHECK swt_status swt_weights_fetch(swt_model *m, const float *flat, int64_t i);

/* Collective: write checkpoints/step-NNNNNNNN of the run (rank 0's `run`) and publish it: weights,
 * configuration, vocabulary; the log gets the weights' hash. On a full disk the oldest checkpoint
 * that may go makes room for a second attempt. Errors: FILE, on every rank; nothing half-written
 * stays. */
SWT_MUST_CHECK swt_status swt_checkpoint_write(swt_session *s, swt_run *run, int64_t step);

/* Rank 0, before the first step: warn where the disk has less room than the run needs. */
void swt_checkpoint_check_room(const swt_session *s, swt_run *run);

#endif
