/* Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011) from Random123.
 *
 * The same function on every device, rank and thread: key = the run's seed, counter = what the
 * number is for. Nothing keeps generator state, so no layout can change what is drawn. */
#ifndef SWT_BASE_RNG_H
#define SWT_BASE_RNG_H

#include "base/on_any.h"

#include <math.h>
#include <Random123/philox.h>
#include <stdint.h>

/* What a number is drawn for. The values are part of the run's definition: never renumber them. */
typedef enum swt_rng_purpose {
    SWT_RNG_INIT = 1,        /* element of a parameter */
    SWT_RNG_PERMUTATION = 2, /* order of the training windows in an epoch */
    SWT_RNG_OFFSET = 3,      /* offset of a training window */
    SWT_RNG_JITTER = 4,      /* router input, training only */
    SWT_RNG_DROP = 5,        /* which tokens of an overfull expert are dropped, training */
    SWT_RNG_DROP_EVAL = 6,   /* the same in an evaluation */
    SWT_RNG_SAMPLE = 7,      /* token drawn by generate */
    SWT_RNG_AUDIT = 8,       /* which lines of a ledger audit compares; of no run */
    SWT_RNG_DROPOUT = 9      /* and on to 17: swt_dropout_place (kernels/dropout.h) */
} swt_rng_purpose;

typedef struct swt_rng_u32x4 {
    uint32_t v[4];
} swt_rng_u32x4;

/* Four independent 32-bit numbers for (seed; element, a, b, purpose, block). In a step a is the
 * micro-batch's number in the step and b is the step; block < 65536. */
static inline SWT_ON_ANY swt_rng_u32x4 swt_rng(uint64_t seed, uint32_t element, uint32_t a,
                                               uint32_t b, swt_rng_purpose purpose,
                                               uint32_t block) {
    philox4x32_key_t key = {{(uint32_t)seed, (uint32_t)(seed >> 32)}};
    philox4x32_ctr_t counter = {{element, a, b, (uint32_t)purpose * 65536u + block}};
    philox4x32_ctr_t r = philox4x32(counter, key);
    swt_rng_u32x4 out = {{r.v[0], r.v[1], r.v[2], r.v[3]}};
    return out;
}

/* Uniform in [0, 1) with 24 bits, exact in single precision. */
static inline SWT_ON_ANY float swt_rng_uniform(uint32_t bits) {
    return (float)(bits >> 8) * 0x1p-24f;
}

/* Standard normal from two words, by Box and Muller; never infinite (the logarithm's argument is
 * at least 2^-33). */
static inline double swt_rng_normal(uint32_t bits0, uint32_t bits1) {
    const double u = ((double)bits0 + 0.5) * 0x1p-32, v = ((double)bits1 + 0.5) * 0x1p-32;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586476925 * v);
}

/* Uniform integer in [0, n), n >= 1, from two words: the 64-bit number's multiple-and-shift; its
 * bias is below n / 2^64. */
static inline uint64_t swt_rng_below(uint32_t bits0, uint32_t bits1, uint64_t n) {
    const uint64_t x = ((uint64_t)bits0 << 32) | bits1;
    __extension__ typedef unsigned __int128 u128;
    return (uint64_t)(((u128)x * n) >> 64);
}

#endif
