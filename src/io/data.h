/* Text, tokenizer, and the windows that training and evaluation read. Host only, no communication.
 */
#ifndef SWT_IO_DATA_H
#define SWT_IO_DATA_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { SWT_TOKENIZER_CHAR, SWT_TOKENIZER_BYTE } swt_tokenizer_kind;

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

/* A text in memory, and what messages call it: its path, or the flag that it was given by. */
typedef struct swt_text {
    const char *at; /* NULL: there is none */
    size_t bytes;
    const char *path;
} swt_text;

/* What a vocabulary has not of a text. */
enum { SWT_UNKNOWN_NAMED = 4, SWT_UNKNOWN_BYTES = 320 };
typedef struct swt_unknown {
    int64_t count;                           /* characters left out */
    int64_t characters;                      /* of the text, those left out too */
    uint32_t code_points[SWT_UNKNOWN_NAMED]; /* the first ones that differ, in the text's order */
    int named;                               /* how many of them there are */
    bool more;                               /* still others */
    bool carriage_return;                    /* U+000D is one of them */
    size_t first_byte;                       /* where the first one stands; lines count from 1 */
    int64_t first_line;
} swt_unknown;

/* Token ids of a text, at most one for each byte. Characters outside the vocabulary are left out
 * and counted in *unknown; what follows from them is the caller's to decide, and never nothing.
 * Errors: FILE where a char tokenizer meets bytes that are no UTF-8, with their offset. */
SWT_MUST_CHECK swt_status swt_tokenizer_encode(const swt_tokenizer *t, const swt_text *text,
                                               int32_t *ids, int64_t *count, swt_unknown *unknown);

/* One more character that was left out. */
void swt_unknown_add(swt_unknown *u, uint32_t code_point, size_t byte, int64_t line);

/* "3 of 120 characters (2.5 %): U+000D (carriage return), U+00E9 'é' and others, the first at byte
 * 7 in line 1", for a message. */
void swt_unknown_print(const swt_unknown *u, char out[SWT_UNKNOWN_BYTES]);

/* The bytes of one token as a string of at most 4 bytes and a terminating 0. Returns its length. */
int swt_tokenizer_decode(const swt_tokenizer *t, int32_t id, char out[5]);

/* tokenizer.json of a checkpoint folder: {"kind": "char", "tokens": ["\n", " ", ...]}.
 * Errors of reading: CHECKPOINT; of writing: FILE. */
SWT_MUST_CHECK swt_status swt_tokenizer_write(const swt_tokenizer *t, const char *path);
SWT_MUST_CHECK swt_status swt_tokenizer_read(swt_tokenizer *out, const char *path);

/* A text as token ids: the training part, then the validation part. */
typedef struct swt_data {
    int32_t *ids;          /* (count), owned */
    int64_t count;         /* tokens in all */
    int64_t train_count;   /* the first ones; the rest validates */
    int64_t T;             /* targets of a window */
    int64_t S;             /* inputs of a window, of an encoder; 0: none */
    int64_t before;        /* tokens of a window before its first target: max(S, 1) */
    int64_t train_windows; /* floor((part - before) / T) */
    int64_t valid_windows; /* the same, and where the last tokens count a shorter one more */
    int64_t valid_targets; /* of those windows */
    int64_t valid_left;    /* tokens at the end that are in none of them */
    swt_unknown unknown_train, unknown_valid; /* what was left out of the two texts */
    uint64_t seed;
    int64_t order_epoch; /* the epoch whose permutation is in `order`; -1 = none yet */
    int32_t *order;      /* (train_windows), owned */
} swt_data;

/* Where the text is: `given` (data.path) if it is not empty, else $SWT_DATA, else the newest *.txt
 * under ./data or under the data/ folder beside the program's project. *candidates: the texts of
 * that folder, 0 where none was looked at. Errors: FILE, saying to run launch/dataset. */
SWT_MUST_CHECK swt_status swt_data_find(char *path, size_t path_bytes, int64_t *candidates,
                                        const char *given);

/* What is encoded. */
typedef struct swt_texts {
    swt_text train; /* data.path; none where only `valid` is evaluated */
    swt_text valid; /* data.valid; none: the last data.valid_fraction of `train` validates */
    const char *vocabulary; /* whose the vocabulary is, for messages: a text or a checkpoint */
} swt_texts;

/* How they are encoded and cut. */
typedef struct swt_cut {
    int64_t T;             /* targets of a window */
    int64_t S;             /* tokens that an encoder reads before them; 0: there is none */
    double valid_fraction; /* of `train`, where there is no `valid` */
    uint64_t seed;         /* of the order of the training windows */
    bool skip_unknown;     /* characters outside the vocabulary are left out, not refused */
    bool evaluates;        /* in eval: there need be no training part */
} swt_cut;

/* Encode and cut. A part of a text validates in whole windows, whose loss is comparable from run to
 * run; a text that validates as a whole, and in eval a part of less than a window, counts to its
 * end, in a last window that is shorter.
 * Errors: FILE where characters are unknown and not skipped (or nothing else is left), or where a
 * part is too short (says how many tokens there are and how many are needed). */
SWT_MUST_CHECK swt_status swt_data_init(swt_data *out, const swt_tokenizer *t,
                                        const swt_texts *texts, const swt_cut *cut);
void swt_data_fini(swt_data *d);

/* Where a window goes. With first the place of its first target,
 *
 *     targets[i] = ids[first + i], tokens[i] = ids[first + i - 1], inputs[i] = ids[first - S + i]:
 *
 * an encoder reads the text before the first target, and the decoder, which begins with the last
 * token of that, goes on with it. */
typedef struct swt_window {
    int32_t *tokens, *targets; /* (T) */
    int32_t *inputs;           /* (S); not used where S = 0 */
} swt_window;

/* Training window number w (0, 1, 2, ... over the whole run), as labml orders them: epoch w /
 * train_windows visits every window once in a random permutation; window j starts at j T plus a
 * fresh uniform offset in [0, min(T - 1, train_count - (j T + T + before))], and its first target
 * is `before` tokens later. A function of (seed, w) alone. */
SWT_MUST_CHECK swt_status swt_data_train_window(swt_data *d, int64_t w, const swt_window *out);

/* Validation window j at offset 0, 0 <= j < valid_windows. Returns how many targets it has, T but
 * for a shorter last one: what is behind them is not written. */
int64_t swt_data_valid_window(const swt_data *d, int64_t j, const swt_window *out);

#endif
