/* Vectors of the instruction set that this translation unit is compiled for, and the functions on
 * them that C's operators lack. Included by vec.c alone. */
#ifndef SWT_CPU_LANES_H
#define SWT_CPU_LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* LANE_XOR(s): the lane numbers, each with bit s flipped. */
#define LANE_XOR_4(s) 0 ^ (s), 1 ^ (s), 2 ^ (s), 3 ^ (s)
#define LANE_XOR_8(s) LANE_XOR_4(s), 4 ^ (s), 5 ^ (s), 6 ^ (s), 7 ^ (s)
#if defined(__AVX512F__)
#define ISA_NAME "avx512"
#define LANES    16
#define LANE_XOR(s)                                                                                \
    LANE_XOR_8(s), 8 ^ (s), 9 ^ (s), 10 ^ (s), 11 ^ (s), 12 ^ (s), 13 ^ (s), 14 ^ (s), 15 ^ (s)
#elif defined(__AVX2__)
#define ISA_NAME "avx2"
#define LANES    8
#define LANE_XOR LANE_XOR_8
#else
#define ISA_NAME "plain"
#define LANES    4
#define LANE_XOR LANE_XOR_4
#endif

typedef float vf __attribute__((vector_size(LANES * 4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4)));

/* Where the compiler finds no single instruction by itself. */
#if defined(__AVX512F__)
#include <immintrin.h>
#define LOAD_FIRST(p, n)     _mm512_maskz_loadu_ps((__mmask16)((1u << (n)) - 1), p)
#define STORE_FIRST(p, v, n) _mm512_mask_storeu_ps(p, (__mmask16)((1u << (n)) - 1), v)
#define MAX_OF(a, b)         _mm512_max_ps(a, b)
#define SQRT_OF(a)           _mm512_sqrt_ps(a)
#elif defined(__AVX2__)
#include <immintrin.h>
#define FIRST_MASK(n)        (__m256i)((vi){LANE_XOR(0)} < (int32_t)(n))
#define LOAD_FIRST(p, n)     _mm256_maskload_ps(p, FIRST_MASK(n))
#define STORE_FIRST(p, v, n) _mm256_maskstore_ps(p, FIRST_MASK(n), v)
#define MAX_OF(a, b)         _mm256_max_ps(a, b)
#define SQRT_OF(a)           _mm256_sqrt_ps(a)
#endif

static inline vf splat(float s) {
    return s - (vf){0};
}

/* The first min(n, LANES) floats at p; zero in the other lanes. */
static inline vf load(const float *p, int64_t n) {
    vf v = {0};
    if (n >= LANES) {
        memcpy(&v, p, sizeof v);
        return v;
    }
#ifdef LOAD_FIRST
    return LOAD_FIRST(p, n);
#else
    memcpy(&v, p, (size_t)n * sizeof *p);
    return v;
#endif
}

static inline void store(float *p, vf v, int64_t n) {
    if (n >= LANES) {
        memcpy(p, &v, sizeof v);
        return;
    }
#ifdef STORE_FIRST
    STORE_FIRST(p, v, n);
#else
    memcpy(p, &v, (size_t)n * sizeof *p);
#endif
}

/* mask is a comparison's result: all bits or none in each lane. */
static inline vf blend(vi mask, vf yes, vf no) {
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}

static inline vi lane_numbers(void) {
    return (vi){LANE_XOR(0)};
}

/* v in the lanes below n, `other` in the rest. */
static inline vf first_lanes(vf v, int64_t n, vf other) {
    return blend(lane_numbers() < (int32_t)(n < LANES ? n : LANES), v, other);
}

/* The larger; b where one is NaN, so that a NaN in b goes through. */
static inline vf max_of(vf a, vf b) {
#ifdef MAX_OF
    return MAX_OF(a, b);
#else
    return blend(a > b, a, b);
#endif
}

static inline vf sqrt_of(vf a) {
#ifdef SQRT_OF
    return SQRT_OF(a);
#else
    vf r;
    for (int i = 0; i < LANES; i++)
        r[i] = sqrtf(a[i]);
    return r;
#endif
}

#define LANES_SWAPPED(v, s) __builtin_shufflevector(v, v, LANE_XOR(s))

static inline float sum_of_lanes(vf v) {
#if LANES > 8
    v += LANES_SWAPPED(v, 8);
#endif
#if LANES > 4
    v += LANES_SWAPPED(v, 4);
#endif
    v += LANES_SWAPPED(v, 2);
    v += LANES_SWAPPED(v, 1);
    return v[0];
}

static inline float max_of_lanes(vf v) {
#if LANES > 8
    v = max_of(v, LANES_SWAPPED(v, 8));
#endif
#if LANES > 4
    v = max_of(v, LANES_SWAPPED(v, 4));
#endif
    v = max_of(v, LANES_SWAPPED(v, 2));
    v = max_of(v, LANES_SWAPPED(v, 1));
    return v[0];
}

/* e^x for x <= 88, within 2 ulp; 0 where the result would be below 2^-126, so that no slow denormal
 * numbers come up; NaN stays NaN. With x = n ln 2 + r, |r| <= ln 2 / 2: e^x = 2^n e^r, e^r by its
 * series (the first term left out, r^8 / 8!, is 5e-9). ln 2 is split so that n times its upper part
 * is exact. */
static inline vf exp_of(vf x) {
    const float lowest = -87.33654f; /* ln 2^-126 */
    const float rounder = 0x1.8p23f; /* adding it rounds to an integer, kept in the low bits */
    const vf clamped = max_of(splat(lowest), x);
    const vf shifted = clamped * 0x1.715476p+0f + rounder;
    const vf n = shifted - rounder;
    const vf r = (clamped - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
    vf series = splat(1.0f / 5040);
    series = series * r + 1.0f / 720;
    series = series * r + 1.0f / 120;
    series = series * r + 1.0f / 24;
    series = series * r + 1.0f / 6;
    series = series * r + 0.5f;
    const vf e = (series * r) * r + r + 1.0f;
    const vi exponent = (vi)shifted - (vi)splat(rounder);
    return blend(x < lowest, (vf){0}, e * (vf)((exponent + 127) << 23));
}

/* 2^x for x < 127.5, within 2 ulp; 0 for x < -126.5; NaN stays NaN. With x = n + r, |r| <= 1/2:
 * 2^x = 2^n 2^r, 2^r by the polynomial of degree 6 whose relative error is least among those that
 * are 1 at 0 (1.6e-8). */
static inline vf exp2_of(vf x) {
    const float rounder = 0x1.8p23f + 127; /* leaves n + 127, an exponent's bits, in the low bits */
    const vf clamped = max_of(splat(-127), x);
    const vf shifted = clamped + rounder;
    const vf r = clamped - (shifted - rounder);
    vf e = splat(0x1.41fbbcp-13f);
    e = e * r + 0x1.5f3e52p-10f;
    e = e * r + 0x1.3b2d4cp-7f;
    e = e * r + 0x1.c6aee8p-5f;
    e = e * r + 0x1.ebfbdcp-3f;
    e = e * r + 0x1.62e430p-1f;
    e = e * r + 1.0f;
    return e * (vf)((vi)shifted << 23);
}

/* ln x for x >= 2^-126, within 2 ulp; NaN for infinity and NaN. With x = 2^n m, 2/3 <= m < 4/3, and
 * s = (m - 1) / (m + 1): ln x = n ln 2 + 2 artanh s, by its series (s^11 / 11 is left out). */
static inline vf log_of(vf x) {
    const vi n = ((vi)x - (vi)splat(2.0f / 3)) >> 23;
    const vf m = (vf)((vi)x - (n << 23));
    const vf s = (m - 1.0f) / (m + 1.0f), square = s * s;
    vf series = splat(2.0f / 9);
    series = series * square + 2.0f / 7;
    series = series * square + 2.0f / 5;
    series = series * square + 2.0f / 3;
    series = series * square * s + 2.0f * s;
    return __builtin_convertvector(n, vf) * 0x1.62e430p-1f + series + (x - x);
}

#endif
