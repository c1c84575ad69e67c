/* Element types of tensors and files. The names are safetensors'. */
#ifndef SWT_BASE_DTYPE_H
#define SWT_BASE_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* X(name, bytes) */
#define SWT_DTYPE_LIST(X)                                                                          \
    X(F32, 4)                                                                                      \
    X(BF16, 2)                                                                                     \
    X(F64, 8)                                                                                      \
    X(I32, 4)                                                                                      \
    X(I64, 8)                                                                                      \
    X(U8, 1)                                                                                       \
    X(F16, 2)

typedef enum swt_dtype {
#define SWT_DTYPE_ENUM(name, bytes) SWT_##name,
    SWT_DTYPE_LIST(SWT_DTYPE_ENUM)
#undef SWT_DTYPE_ENUM
        SWT_DTYPE_COUNT
} swt_dtype;

static inline size_t swt_dtype_bytes(swt_dtype dtype) {
    static const size_t bytes[SWT_DTYPE_COUNT] = {
#define SWT_DTYPE_BYTES(name, n) (n),
        SWT_DTYPE_LIST(SWT_DTYPE_BYTES)
#undef SWT_DTYPE_BYTES
    };
    return bytes[dtype];
}

static inline const char *swt_dtype_name(swt_dtype dtype) {
    static const char *const names[SWT_DTYPE_COUNT] = {
#define SWT_DTYPE_NAME(name, n) #name,
        SWT_DTYPE_LIST(SWT_DTYPE_NAME)
#undef SWT_DTYPE_NAME
    };
    return names[dtype];
}

/* BF16 is the upper half of F32's bits: into F32 exactly. */
static inline float swt_bf16_to_float(uint16_t x) {
    const uint32_t bits = (uint32_t)x << 16;
    float y = 0.0f;
    memcpy(&y, &bits, sizeof y);
    return y;
}

/* F16 (IEEE 754 binary16) into F32, exactly; NaNs keep their bits. */
static inline float swt_f16_to_float(uint16_t x) {
    const uint32_t sign = (uint32_t)(x & 0x8000) << 16, fraction = x & 0x3FF;
    const uint32_t exponent = x >> 10 & 0x1F;
    if (exponent == 0) { /* zero and what is below the smallest normal number: fraction * 2^-24 */
        const float y = (float)fraction * 0x1p-24f;
        return sign != 0 ? -y : y;
    }
    const uint32_t bits =
        sign | (exponent == 0x1F ? 0xFF : exponent + 127 - 15) << 23 | fraction << 13;
    float y = 0.0f;
    memcpy(&y, &bits, sizeof y);
    return y;
}

/* BF16 back to nearest, halves to even. NaNs become one NaN, as on GPUs. */
static inline uint16_t swt_bf16_from_float(float x) {
    uint32_t bits = 0;
    memcpy(&bits, &x, sizeof bits);
    if (x != x)
        return 0x7FFF;
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

#endif
