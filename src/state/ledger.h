/* The ledger of a run, ledger.jsonl: what every step that it lists has made, in hashes, so that
 * anybody can re-execute any part of the run, in any layout, and compare.
 *
 *     {"step": 20, "by": "cpu-avx512", "loss": "400a63a1f8000000", "batch": "...", "weights":
 * "...", "tensors": "...", "chain": "...", "metrics": "..."}
 *
 *   by        whose arithmetic made it (swt_device): the bits of another may be others
 *   loss      the row's, as the bits of a double
 *   batch     over the hashes of the micro-batches (swt_digest)
 *   weights   over the hashes of all tensors after the step; a checkpoint's log line has the same
 *   tensors   4 digits of each tensor's hash, in the order of the parameter table, which say where
 *             to look first where weights differs; of models with more than SWT_LEDGER_MARKS
 *             tensors, of so many equal parts of the table
 *   chain     over the line before's chain and this line up to here, without the comma: nothing
 *             before it can be altered without all that follows
 *   metrics   over the rows of metrics.jsonl up to and with this step's, each seeded with the hash
 *             of those before; they have times, so it is outside of the chain, which is the same in
 *             any layout
 *
 * The first line is of step 0: no loss and no batch, but "run", over the keys of the configuration
 * that decide over the numbers, and "data", of the tokens that training reads.
 * All hashes are XXH3 (64 bits), 16 digits. */
#ifndef SWT_STATE_LEDGER_H
#define SWT_STATE_LEDGER_H

#include "state/digest.h"

#include <stddef.h>
#include <string.h>

enum { SWT_LEDGER_MARKS = 1024 };

#define SWT_LEDGER_FILE "ledger.jsonl"

/* A line. */
typedef struct swt_ledger_line {
    int64_t step;
    char by[SWT_ARITHMETIC_BYTES];
    double loss;
    uint64_t run, data; /* of the first */
    uint64_t batch, weights, chain, metrics;
    uint16_t *marks; /* (marks) the tensors' */
} swt_ledger_line;

/* Whether two losses are one, to the bit. */
static inline bool swt_same_bits(double a, double b) {
    uint64_t x, y;
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    return x == y;
}

/* A whole ledger. */
typedef struct swt_ledger {
    int64_t count, marks;
    swt_ledger_line *lines; /* (count), owned */
    uint16_t *all_marks;    /* (count, marks) theirs, owned */
} swt_ledger;

/* The hash of the rows of metrics.jsonl up to and with this one, of so many bytes, from that of the
 * rows before (0 before the first). */
uint64_t swt_ledger_row_hash(const char *row, size_t bytes, uint64_t before);

/* The step of a row of metrics.jsonl or a line of the ledger; false where it is none. */
bool swt_ledger_row_step(const char *row, int64_t *step);

/* How many marks a line of a model with so many tensors has. */
int64_t swt_ledger_marks(int64_t tensors);

/* Fill in weights and marks from a digest, and batch but for step 0. line->marks has room. */
void swt_ledger_hash(swt_ledger_line *line, const swt_digest *d);

/* The tensors that mark i stands for: first <= tensor < end. */
void swt_ledger_marked(int64_t tensors, int64_t mark, int64_t *first, int64_t *end);

/* Room for a line's text, with its end. */
size_t swt_ledger_line_bytes(int64_t marks);

/* The line as text into so much room, with its chain, behind that of the line before (0 before the
 * first), filled in. Allocates nothing. */
void swt_ledger_print(swt_ledger_line *line, int64_t marks, uint64_t before, char *text);

/* The bytes of the whole rows up to a step at the beginning of a metrics.jsonl or a ledger; they
 * stand in the order of their steps. */
size_t swt_ledger_rows_up_to(const char *text, size_t bytes, int64_t step);

/* Read and check a ledger: every line's form, rising steps, the chain. Errors: CHECKPOINT, naming
 * file and line. */
SWT_MUST_CHECK swt_status swt_ledger_read(swt_ledger *out, const char *path);

/* The same with its lines up to a step, whatever comes behind them. */
SWT_MUST_CHECK swt_status swt_ledger_read_up_to(swt_ledger *out, const char *path, int64_t step);
void swt_ledger_fini(swt_ledger *l);

/* Each line fits the rows of the metrics.jsonl under this path, up to its step: the hash, and the
 * loss of the step's row. Errors: CHECKPOINT, naming path and step. */
SWT_MUST_CHECK swt_status swt_ledger_check_rows(const swt_ledger *l, const char *path);

#endif
