/* Whether all ranks read the same: started apart, by different command lines or beside
 * different files, they would train in silence on a mixture, or wait for each other for ever. All
 * are collective, and an error that one rank finds ends all of them with its message. */
#ifndef SWT_TRAIN_AGREE_H
#define SWT_TRAIN_AGREE_H

#include "comm/swt_comm.h"
#include "options/options.h"
#include "train/session.h"

/* The tokenizer and the text, where there is one, whose hashes the session gets. Errors: FILE;
 * CHECKPOINT for a tokenizer of `checkpoint`, a folder or NULL. */
SWT_MUST_CHECK swt_status swt_agree_on_text(swt_session *s, const char *checkpoint);

/* The weights of all parameters that every rank has. `path` is where they are from, NULL for drawn
 * ones. Errors: `code`. */
SWT_MUST_CHECK swt_status swt_agree_on_weights(swt_session *s, const char *path, swt_status code);

/* A rank's `bytes` of something read from `path`. Errors: FILE. */
SWT_MUST_CHECK swt_status swt_agree_on_bytes(swt_comm *world, const void *data, size_t bytes,
                                             const char *path);

#endif
