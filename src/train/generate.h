/* Text written by the model, one token after the other. */
#ifndef SWT_TRAIN_GENERATE_H
#define SWT_TRAIN_GENERATE_H

#include "train/session.h"

/* How the next token is chosen. */
typedef struct swt_sampling {
    double temperature; /* 0: the most likely token */
    int64_t top_k;      /* choose among the k most likely and ties with the last; 0 = all */
    uint64_t seed;
} swt_sampling;

/* Collective. The prompt's ids, at least one (swt_session_encode_prompt), then `tokens` more
 * tokens, each from the model's logits after the last T tokens (no token is dropped, whatever the
 * capacity). *out is a string of every rank, out_bytes long, that the caller frees. */
SWT_MUST_CHECK swt_status swt_generate(swt_session *s, const int32_t *prompt, int64_t prompt_count,
                                       int64_t tokens, const swt_sampling *how, char **out,
                                       size_t *out_bytes);

#endif
