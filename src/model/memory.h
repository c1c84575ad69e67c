/* The walk over all tensors of a model, which runs twice: it plans, and after the arenas are
 * committed it gives addresses. */
#ifndef SWT_MODEL_MEMORY_H
#define SWT_MODEL_MEMORY_H

#include "model/model.h"

struct swt_memory_walk {
    swt_model *m;
    int64_t scratch_bytes; /* the most that an operation of the model needs; -1: too much */
    swt_status status;     /* of the first take that failed; those after it do nothing */
};

/* count elements (SWT_COUNT of its dimensions, which sees what would wrap) of the arena of a
 * category: NULL in the planning pass and after an error. */
void *swt_take(swt_memory_walk *w, swt_arena_category category, swt_dtype dtype, int64_t count);

/* The same of activations, in the activation type. */
void *swt_take_act(swt_memory_walk *w, int64_t count);

/* An operation of the model needs so much scratch. */
void swt_need_scratch(swt_memory_walk *w, int64_t bytes);

/* Walk. Errors: those of swt_arena_take. */
SWT_MUST_CHECK swt_status swt_memory_take_all(swt_model *m);

#endif
