/* Reading a checkpoint folder into a model, at any number of ranks. */
#ifndef SWT_STATE_LOAD_H
#define SWT_STATE_LOAD_H

#include "base/words.h"
#include "state/weights.h"

/* A checkpoint folder that is read. */
typedef struct swt_checkpoint {
    char folder[SWT_PATH_BYTES];
    bool listed; /* it has a manifest; without one weights.safetensors is all of its tensors */
    swt_manifest manifest;
} swt_checkpoint;

/* Local: read the manifest, if there is one. Errors: CHECKPOINT, as all below. */
SWT_MUST_CHECK swt_status swt_checkpoint_open(swt_checkpoint *out, const char *folder);
void swt_checkpoint_close(swt_checkpoint *c);

/* Local: the weights are those of a model of these dimensions (swt_weights_check). */
SWT_MUST_CHECK swt_status swt_checkpoint_check(const swt_checkpoint *c, const swt_dims *d);

/* Collective: read the weights. Warns, on rank 0, of a file that is not as the manifest says, and
 * of a tensor: people change them on purpose. */
SWT_MUST_CHECK swt_status swt_checkpoint_load_weights(const swt_checkpoint *c, swt_model *m,
                                                      swt_warnings *warnings);

/* Collective: weights, moments and the count of updates, from which training goes on as if it had
 * never ended: all else is a function of the step. What is not as the manifest says is an error. */
SWT_MUST_CHECK swt_status swt_checkpoint_restore(const swt_checkpoint *c, swt_model *m,
                                                 uint64_t seed);

#endif
