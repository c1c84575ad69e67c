/* Dropout: Philox4x32-10 of base/rng.h in lanes, a draw in each. Included by vec.c alone. */
#ifndef SWT_CPU_VEC_DROPOUT_H
#define SWT_CPU_VEC_DROPOUT_H

#include "kernels/cpu/vec/lanes.h"
#include "kernels/cpu/vec/vec.h"

/* 32-bit words, and the same as numbers of 64 bits: in the lower half of each a word of an even
 * lane (the lanes of these processors begin with the lowest bits). */
typedef uint32_t vu __attribute__((vector_size(LANES * 4)));
typedef uint64_t vd __attribute__((vector_size(LANES * 4)));

/* The products of the lower halves. */
#if defined(__AVX512F__)
#define LOWER_PRODUCTS(a, b) ((vd)_mm512_mul_epu32((__m512i)(a), (__m512i)(b)))
#elif defined(__AVX2__)
#define LOWER_PRODUCTS(a, b) ((vd)_mm256_mul_epu32((__m256i)(a), (__m256i)(b)))
#else
#define LOWER_PRODUCTS(a, b) (((a)&UINT32_MAX) * ((b)&UINT32_MAX))
#endif

/* Both halves of the 64-bit products of x and factor. */
static inline vu multiply_words(vu x, uint32_t factor, vu *high) {
    const vd zero = {0}, factors = zero + factor, low_half = zero + UINT32_MAX;
    const vd even = LOWER_PRODUCTS((vd)x, factors), odd = LOWER_PRODUCTS((vd)x >> 32, factors);
    *high = (vu)((even >> 32) | (odd & ~low_half));
    return (vu)((even & low_half) | (odd << 32));
}

/* The four words of each lane's draw (kernels/dropout.h). */
static inline void draw_words(vu words[4], vu draw, const swt_vec_dropout *d) {
    const vu zero = {0};
    vu c0 = draw, c1 = zero + d->row, c2 = zero + d->step, c3 = zero + d->purpose;
    uint32_t k0 = d->key[0], k1 = d->key[1];
    for (int round = 0; round < 10; round++) {
        vu high0, high2;
        const vu low0 = multiply_words(c0, PHILOX_M4x32_0, &high0);
        const vu low2 = multiply_words(c2, PHILOX_M4x32_1, &high2);
        c0 = high2 ^ c1 ^ k0;
        c1 = low2;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += PHILOX_W32_0;
        k1 += PHILOX_W32_1;
    }
    words[0] = c0;
    words[1] = c1;
    words[2] = c2;
    words[3] = c3;
}

/* `yes` where the word's number is kept, else 0, whatever `yes` is. */
static inline vf where_kept(vu word, vf yes, const swt_vec_dropout *d) {
    return blend(word >= d->limit, yes, (vf){0});
}

static void row_dropout(float *y, const float *residual, const float *x, int64_t n,
                        const swt_vec_dropout *d) {
    for (int64_t group = 0; group < n; group += SWT_DROPOUT_GROUP)
        for (int64_t lane = 0; lane < swt_min(SWT_DROPOUT_DRAWS, n - group); lane += LANES) {
            vu words[4];
            draw_words(words, (vu)lane_numbers() + (uint32_t)(group / 4 + lane), d);
            for (int64_t w = 0; w < 4; w++) {
                const int64_t i = group + w * SWT_DROPOUT_DRAWS + lane, left = n - i;
                if (left <= 0)
                    break;
                vf v = where_kept(words[w], load(x + i, left) * d->scale, d);
                if (residual != NULL)
                    v += load(residual + i, left);
                store(y + i, v, left);
            }
        }
}

#endif
