/* Which rank writes which tensor of a checkpoint: a function of the layout alone. */
#ifndef SWT_MODEL_SHARDS_H
#define SWT_MODEL_SHARDS_H

#include "model/optim.h"

typedef struct swt_shards {
    int size;          /* ranks */
    int writers;       /* ranks that have something to write */
    int *owner;        /* (params.count) the rank that writes the tensor and what the optimiser
                          keeps of it, owned */
    int64_t *elements; /* (size) of weights that each rank writes, owned */
    int64_t *kept;     /* (size) elements of the optimiser's that each rank writes, owned */
    int64_t *own;      /* (own_count) the tensors that this rank writes, by their places in its flat
                          array; owned */
    int64_t own_count;
} swt_shards;

/* Walk the parameter table: of the ranks that hold a tensor the one writes it that has the fewest
 * elements so far, of equal ones the lowest. Every rank computes the same; no communication.
 * Errors: MEMORY. */
SWT_MUST_CHECK swt_status swt_shards_init(swt_shards *out, const swt_params *params,
                                          swt_optim_keeps keeps, const swt_dist *dist);
void swt_shards_fini(swt_shards *s);

#endif
