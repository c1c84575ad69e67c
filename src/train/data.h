/* Text, tokenizer, and the windows that training and evaluation read. Host only, no communication.
 */
#ifndef SWT_TRAIN_DATA_H
#define SWT_TRAIN_DATA_H

#include "base/status.h"
#include "train/options.h"

#include <stddef.h>
#include <stdint.h>

/* A vocabulary. char: one token per distinct Unicode code point of the text, in code-point order,
 * ids from 0; byte: the 256 byte values. */
typedef struct swt_tokenizer {
    swt_tokenizer_kind kind;
    int64_t vocab;         /* number of tokens */
    uint32_t *code_points; /* (vocab), owned; char only */
} swt_tokenizer;

/* The vocabulary of a whole text. Errors: FILE where a char tokenizer meets bytes that are no UTF-8
 * (names the byte offset, suggests data.tokenizer byte); `path` is for messages. */
SWT_MUST_CHECK swt_status swt_tokenizer_init(swt_tokenizer *out, swt_tokenizer_kind kind,
                                             const char *text, size_t bytes, const char *path);
void swt_tokenizer_fini(swt_tokenizer *t);

/* Token ids of a text; characters outside the vocabulary are skipped (labml). *count = ids written,
 * at most `bytes`. */
SWT_MUST_CHECK swt_status swt_tokenizer_encode(const swt_tokenizer *t, const char *text,
                                               size_t bytes, int32_t *ids, int64_t *count);

/* The bytes of one token as a string of at most 4 bytes and a terminating 0. Returns its length. */
int swt_tokenizer_decode(const swt_tokenizer *t, int32_t id, char out[5]);

/* tokenizer.json of a checkpoint folder: {"kind": "char", "tokens": ["\n", " ", ...]}.
 * Errors of reading: CHECKPOINT; of writing: FILE. */
SWT_MUST_CHECK swt_status swt_tokenizer_write(const swt_tokenizer *t, const char *path);
SWT_MUST_CHECK swt_status swt_tokenizer_read(swt_tokenizer *out, const char *path);

/* A text as token ids, cut into training and validation part. */
typedef struct swt_data {
    int32_t *ids;        /* (count), owned */
    int64_t count;       /* tokens in all */
    int64_t train_count; /* the first (1 - valid_fraction) * count, truncated; the rest validates */
    int64_t T;           /* window length */
    int64_t train_windows, valid_windows; /* floor((part - 1) / T) */
    uint64_t seed;
    int64_t order_epoch; /* the epoch whose permutation is in `order`; -1 = none yet */
    int32_t *order;      /* (train_windows), owned */
} swt_data;

/* Where the text is: options.data_path, else $SWT_DATA, else the newest *.txt under ./data or under
 * the data/ folder beside the program's project. Errors: FILE, saying to run launch/dataset. */
SWT_MUST_CHECK swt_status swt_data_find(char *path, size_t path_bytes, const swt_options *o);

/* Read a whole file into memory that the caller frees (a 0 byte follows the text).
 * Errors: `status` (FILE or CHECKPOINT), naming the path: missing, a folder, empty, unreadable. */
SWT_MUST_CHECK swt_status swt_read_file(char **out, size_t *bytes, const char *path,
                                        swt_status status);

/* Encode a text and cut it. Errors: FILE where a part has no window of T + 1 tokens (says how many
 * tokens there are and how many are needed). */
SWT_MUST_CHECK swt_status swt_data_init(swt_data *out, const swt_tokenizer *t, const char *text,
                                        size_t bytes, const char *path, const swt_options *o);
void swt_data_fini(swt_data *d);

/* Training window number w (0, 1, 2, ... over the whole run), as labml orders them: epoch w /
 * train_windows visits every window once in a random permutation; window j starts at j T plus a
 * fresh uniform offset in [0, min(T - 1, train_count - (j T + T + 1))]. A function of (seed, w)
 * alone. tokens[i] = ids[start + i], targets[i] = ids[start + i + 1].  Shapes: tokens, targets (T).
 */
SWT_MUST_CHECK swt_status swt_data_train_window(swt_data *d, int64_t w, int32_t *tokens,
                                                int32_t *targets);

/* Validation window j at offset 0, 0 <= j < valid_windows. */
void swt_data_valid_window(const swt_data *d, int64_t j, int32_t *tokens, int32_t *targets);

#endif
