/* Hashes of what a step has made, the same in any layout of ranks: XXH3 (64 bits) of every tensor
 * of the weights, and of every micro-batch's tokens. Two runs are the same where these are. */
#ifndef SWT_STATE_DIGEST_H
#define SWT_STATE_DIGEST_H

#include "model/model.h"

typedef struct swt_digest {
    int64_t tensor_count, batch_count; /* tensors of the model, micro-batches */
    uint64_t *tensors;                 /* (tensor_count), in the order of the parameter table */
    uint64_t *batches; /* (batch_count), behind them: of tokens, then targets, then an encoder's
                          inputs, I32 */
    uint64_t *own;     /* (tensor_count), behind them: those that this rank holds */
} swt_digest;

/* Room for a model's. Errors: MEMORY. */
SWT_MUST_CHECK swt_status swt_digest_init(swt_digest *out, const swt_model *m);
void swt_digest_fini(swt_digest *d);

/* Collective: hash the weights and, `with_batch`, the batch that was loaded last (zeros without),
 * the same on every rank. Waits for the device. Ranks that hold the same tensor are compared on the
 * way. Errors: NUMBERS, naming tensor and rank, where one holds other numbers than the first that
 * has it: by construction they are equal, so memory, a processor or the program failed. `step` is
 * for the message. */
SWT_MUST_CHECK swt_status swt_digest_take(swt_digest *d, swt_model *m, int64_t step,
                                          bool with_batch);

/* One hash of many: each in turn, XXH3 seeded with that of those before it (0 before the first). Of
 * all weights', in the order of the parameter table, it is the weights' hash. */
uint64_t swt_digest_add(uint64_t before, uint64_t hash);
uint64_t swt_digest_of(const uint64_t *hashes, int64_t count);

#endif
