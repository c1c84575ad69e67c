/* Weights and what the optimiser keeps, between the ranks' parts of a model and files. */
#ifndef SWT_STATE_WEIGHTS_H
#define SWT_STATE_WEIGHTS_H

#include "model/model.h"
#include "state/source.h"

/* ---- reading: local; errors: those of the source, naming file and tensor */

/* Whether the source holds exactly the tensors of a model of these dimensions. For a command that
 * has not made the model yet: dimensions from a file may claim any size. */
SWT_MUST_CHECK swt_status swt_weights_check(swt_source *s, const swt_dims *d);

/* Read every tensor this rank holds. The source must hold exactly the model's tensors. *altered =
 * the number in the parameter table of the first whose hash is not the manifest's; -1: none. */
SWT_MUST_CHECK swt_status swt_weights_load(swt_model *m, swt_source *s, int64_t *altered);

/* The same of what the optimiser keeps. */
SWT_MUST_CHECK swt_status swt_kept_load(swt_model *m, swt_source *s, int64_t *altered);

/* The vocabulary that weights are for: rows of embed.weight. */
SWT_MUST_CHECK swt_status swt_weights_vocab(const swt_source *s, int64_t *vocab);

/* ---- writing */

/* Declare a tensor for each parameter, its name behind `prefix`. */
SWT_MUST_CHECK swt_status swt_weights_declare(swt_tensor_writer *w, const char *prefix,
                                              const swt_params *params);

/* Collective: tensor i of a flat array (model.param or model.grad), from the rank that holds it
 * into model.staging of every rank. */
SWT_MUST_CHECK swt_status swt_weights_fetch(swt_model *m, const float *flat, int64_t i);

#endif
