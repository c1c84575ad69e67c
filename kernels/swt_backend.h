/* The backends: processors of one kind, with their memory (swt_device.h) and their operations
 * (swt_ops.h). The rest of the program chooses one of these tables and knows nothing else of it. */
#ifndef SWT_BACKEND_H
#define SWT_BACKEND_H

#include "kernels/swt_device.h"
#include "kernels/swt_ops.h"

/* Tells a processor from all others, on every node; never all zeros. */
typedef struct swt_identity {
    char bytes[32];
} swt_identity;

typedef struct swt_backend {
    const char *name;   /* "cpu", "cuda" */
    const swt_ops *ops; /* NULL where this build lacks the backend */

    /* *count = processors that this process can use. Errors: USAGE, saying why there is none. */
    swt_status (*count)(int *count);

    /* *out = who processor `ordinal` is. NULL for the CPU, which ranks share, and in builds that
     * lack the backend. Errors: of the vendor's call. */
    swt_status (*identify)(int ordinal, swt_identity *out);

    /* Open processor `ordinal` of them; `threads` of the CPU serve operations. Owns nothing but
     * *out's contents. Errors: USAGE, MEMORY. */
    swt_status (*open)(swt_device *out, int ordinal, int threads);
} swt_backend;

extern const swt_backend swt_cpu_backend;  /* one CPU, ordinal 0 */
extern const swt_backend swt_cuda_backend; /* NVIDIA GPUs, through CUDA */

#endif
