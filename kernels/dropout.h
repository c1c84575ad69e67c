/* Dropout: which numbers become 0, as a function of what they are.
 *
 * A number stands in a row and a column. Rows are numbered over the whole global batch (tokens,
 * heads of sequences, slots of experts), so that a mask is the same wherever its micro-batch runs,
 * on any number of threads and on either backend; it is drawn again in the backward pass, never
 * stored. The four words that one draw gives belong to columns 16 apart: of 64 neighbouring columns
 * a vector of any width, or a thread that holds every 16th, uses all it draws.
 * Source: Hinton et al. 2012; kept numbers are scaled, so that an evaluation changes nothing.
 */
#ifndef SWT_DROPOUT_H
#define SWT_DROPOUT_H

#include "kernels/swt_ctx.h"

/* Purposes of random numbers, as in base/rng.h: of a stack's input and of its final norm's output;
 * of the weights of self-attention and of cross-attention; of what these two and a feed-forward,
 * dense or of experts, add; of a dense feed-forward's hidden values, and of experts'. */
typedef enum swt_dropout_place {
    SWT_DROPOUT_INPUT = SWT_RNG_DROPOUT,
    SWT_DROPOUT_FINAL,
    SWT_DROPOUT_WEIGHTS,
    SWT_DROPOUT_CROSS_WEIGHTS,
    SWT_DROPOUT_ATTENTION,
    SWT_DROPOUT_CROSS,
    SWT_DROPOUT_FFN,
    SWT_DROPOUT_HIDDEN,
    SWT_DROPOUT_EXPERTS
} swt_dropout_place;

typedef struct swt_dropout_mask {
    uint32_t limit; /* numbers whose word is below this become 0; 0: there is no dropout */
    float scale;    /* of the others */
    swt_dropout_place place;
    uint32_t block; /* number of its block, as in swt_moe_dims */
    uint32_t first; /* number of the first row in the global batch, as all rows' modulo 2^32 */
} swt_dropout_mask;

/* A share p of the numbers becomes 0, 0 <= p < 1. */
static inline swt_dropout_mask swt_dropout_mask_of(double p, swt_dropout_place place,
                                                   uint32_t block, int64_t first) {
    const swt_dropout_mask mask = {(uint32_t)(p * 4294967296.0), (float)(1.0 / (1.0 - p)), place,
                                   block, (uint32_t)first};
    return mask;
}

enum { SWT_DROPOUT_GROUP = 64, SWT_DROPOUT_DRAWS = 16 };

/* Draws that n columns need. */
static inline SWT_ON_ANY int64_t swt_dropout_draws(int64_t n) {
    return (n + SWT_DROPOUT_GROUP - 1) / SWT_DROPOUT_GROUP * SWT_DROPOUT_DRAWS;
}

/* Words 0 to 3 of a draw: of columns c, c + 16, c + 32 and c + 48 of their group of 64, where the
 * draw's number is that of the group times 16 plus c; of attention's weights, whose columns are
 * keys, plus swt_dropout_draws(Tk) for each query before. row: first and what is counted from it.
 */
static inline SWT_ON_ANY swt_rng_u32x4 swt_dropout_words(const swt_dropout_mask *m,
                                                         const swt_step_state *state, uint32_t row,
                                                         uint32_t draw) {
    return swt_rng(state->seed, draw, row, (uint32_t)state->step, (swt_rng_purpose)m->place,
                   m->block);
}

/* ---- the operation */

/* Row r of block b has number first + b / sources expert_step + b % sources source_step + r: of a
 * linear layer one block of N tokens; of experts a block for each of them and each source. */
typedef struct swt_dropout_dims {
    int64_t blocks, rows, C;
    int64_t sources; /* at least 1 */
    int64_t expert_step, source_step;
} swt_dropout_dims;

/* y = residual + m x, where m is 0 or mask.scale (dropout.h), and residual is 0 where it is not
 * given. Its backward is the same operation, without a residual. Where row_counts is given,
 * the first row_counts[b] rows of block b are occupied; the others are neither read nor written,
 * but by a backend with ops->all_slots, where they mean nothing. */
typedef struct swt_dropout_args {
    void *y;                   /* (blocks, rows, C) */
    const void *x;             /* (blocks, rows, C), possibly y itself */
    const void *residual;      /* (blocks, rows, C) or NULL */
    const int32_t *row_counts; /* (blocks) or NULL */
    swt_dropout_dims dims;
    swt_dropout_mask mask;
} swt_dropout_args;

#endif
