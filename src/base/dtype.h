/* Element types of tensors and files. The names are safetensors'. */
#ifndef SWT_BASE_DTYPE_H
#define SWT_BASE_DTYPE_H

#include <stddef.h>

/* X(name, bytes) */
#define SWT_DTYPE_LIST(X)                                                                          \
    X(F32, 4)                                                                                      \
    X(BF16, 2)                                                                                     \
    X(F64, 8)                                                                                      \
    X(I32, 4)                                                                                      \
    X(I64, 8)                                                                                      \
    X(U8, 1)

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

#endif
