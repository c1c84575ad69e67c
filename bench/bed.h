/* A model to measure in, without a text: a session on random tokens and random activations. */
#ifndef BENCH_BED_H
#define BENCH_BED_H

#include "train/session.h"

/* Collective. Open the model that s->options describe, with V tokens in its vocabulary, initial
 * parameters and small random gradients; the batch's tokens are random and on the device. */
SWT_MUST_CHECK swt_status bed_open(swt_session *s, int64_t V);

/* Values of U(-scale, scale), a function of the seed and the rank, into the device's memory. */
SWT_MUST_CHECK swt_status bed_random(swt_session *s, void *out, int64_t count, double scale,
                                     uint64_t seed);

#endif
