/* Writing a checkpoint's files: every rank its own, beside training, then the manifest of all. */
#ifndef SWT_STATE_SAVE_H
#define SWT_STATE_SAVE_H

#include "io/data.h"
#include "model/model.h"
#include "options/options.h"
#include "state/shards.h"

#include <pthread.h>
#include <stdatomic.h>

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

/* A checkpoint under way on one rank. What stands below `world` belongs to whoever writes, the
 * thread as long as it runs. */
typedef struct swt_save {
    swt_saving what;
    char folder[SWT_PATH_BYTES];
    swt_comm *world;
    const float *at; /* in the snapshot */
    /* What the manifest says of tensors and files, zero on all ranks but the writer until it is
     * shared: (SWT_SAVED_TENSORS, params, 2) place and hash; then (kinds, size, 2) bytes and hash
     * of each file; owned */
    int64_t *facts;
    int64_t fact_count;
    swt_status status; /* of the writing */
    swt_error error;
    atomic_bool done, given_up;
    pthread_t thread;
    bool running; /* there is a thread that was not joined yet */
} swt_save;

/* Collective: copy all that is written into the model's snapshot, so that training may go on, and
 * begin to write it into a folder that rank 0 has made (its path is read there alone): in a thread
 * of its own where `beside` says so, else at once. One at a time: there is one snapshot. How the
 * writing went is for swt_save_end to say. *v stays where it is until swt_save_fini.
 * Errors: MEMORY, CUDA, the same on all ranks. */
SWT_MUST_CHECK swt_status swt_save_begin(swt_save *v, const swt_saving *what, const char *folder,
                                         bool beside);

/* Collective: *done = no rank writes any more. */
SWT_MUST_CHECK swt_status swt_save_look(swt_save *v, bool *done);

/* Collective: wait for the writing of all ranks, then rank 0 writes the manifest; all files are on
 * disk then. *weights_hash is a chain of XXH3 over the hashes of all weights in the order of the
 * parameter table: the same weights have the same, in any layout. *disk_full = some rank's file
 * could not be written for want of room. Errors, the same on all ranks: FILE, also where the disk
 * gives back other bytes than were written; NUMBERS where a weight is not finite, from which
 * nothing can start. What was written stays, for the caller to remove. */
SWT_MUST_CHECK swt_status swt_save_end(swt_save *v, uint64_t *weights_hash, bool *disk_full);

/* Local, after an end that failed: write the same snapshot into the same folder, which is empty
 * again. */
void swt_save_again(swt_save *v);

/* Gives up what is still being written, and waits for the thread. Safe on zeros. */
void swt_save_fini(swt_save *v);

/* At least the bytes of all files of a checkpoint, and hardly more; of the largest of them. Local.
 */
void swt_save_bytes(const swt_saving *s, int64_t *all, int64_t *largest);

#endif
