/* Writing a checkpoint's files: every rank its own, then the manifest of all. */
#ifndef SWT_STATE_SAVE_H
#define SWT_STATE_SAVE_H

#include "io/data.h"
#include "model/model.h"
#include "options/options.h"
#include "state/shards.h"

/* What a checkpoint is of. */
typedef struct swt_saving {
    swt_model *model;
    const swt_options *options;
    const swt_tokenizer *tokenizer;
    uint64_t train_hash, valid_hash; /* of the token ids */
    uint64_t ledger;                 /* chain of the ledger's last line */
    int64_t step;                    /* updates done */
    int64_t skipped;                 /* of those, left out */
    bool evaluated;
    double valid_loss; /* of this step, where it was evaluated */
} swt_saving;

/* Collective: write all files into a folder that rank 0 has made (its path is read there alone),
 * the manifest last, each brought to disk. *weights_hash is a chain of XXH3 over the hashes of all
 * weights in the order of the parameter table: the same weights have the same, in any layout.
 * *disk_full = some rank's file could not be written for want of room. Errors: FILE; NUMBERS where
 * a weight is not finite, from which nothing can start; the same on all ranks. What was written
 * stays, for the caller to remove. */
SWT_MUST_CHECK swt_status swt_save(const swt_saving *s, const char *folder, uint64_t *weights_hash,
                                   bool *disk_full);

/* At least the bytes of all files of a checkpoint, and hardly more; of the largest of them. Local.
 */
SWT_MUST_CHECK swt_status swt_save_bytes(const swt_saving *s, int64_t *all, int64_t *largest);

#endif
