/* A test bed for operations: a backend, a context and one piece of memory in which every tensor
 * lies between sentinels. Around a call the bed checks that nothing but the call's outputs has
 * changed: not a byte between the tensors, not an input, not the step state.
 *
 *     swt_bed_begin(bed, "linear N=%lld", N);         forget the last case, name the new one
 *     float *x = swt_bed_uniform(bed, N * C, -1, 1);  inputs
 *     float *y = swt_bed_out(bed, N * C, SWT_F32);    outputs, NaN so far
 *     SWT_BED_RUN(bed, swt_linear_forward(&bed->ctx, y, x, ...));
 *
 * The environment variable SWT_TEST_DEVICE names the backend: cpu (default) or cuda. The test reads
 * and writes the memory directly, so a GPU's is managed memory. With AddressSanitizer, memory
 * between tensors is out of bounds while an operation runs, so reading it is found, too. */
#ifndef SWT_TESTS_SUPPORT_BED_H
#define SWT_TESTS_SUPPORT_BED_H

#include "kernels/swt_backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

typedef enum swt_bed_kind {
    SWT_BED_IN,      /* no operation may change it */
    SWT_BED_OUT,     /* an operation's output; part of the result */
    SWT_BED_SCRATCH, /* an operation's scratch; not part of the result */
    SWT_BED_HOST     /* the test's own numbers */
} swt_bed_kind;

typedef struct swt_bed_tensor {
    size_t at, bytes;
    swt_bed_kind kind;
} swt_bed_tensor;

enum { SWT_BED_TENSORS = 96 };

typedef struct swt_bed {
    const swt_backend *backend;
    swt_device device;
    swt_ctx ctx;
    unsigned char *memory, *frozen;
    size_t used_bytes;
    swt_bed_tensor tensors[SWT_BED_TENSORS]; /* the first is the step state */
    int n_tensors;
    uint32_t stream; /* which random numbers; the caller's to set, 0 at first */
    uint32_t drawn;  /* of them, used by the case */
    char label[256];
} swt_bed;

/* The backend under test. Fails the test unless a status is OK. */
const swt_backend *swt_bed_backend(void);
void swt_bed_expect(swt_status status, const char *what);

/* Open the backend with so many threads. Fails the test on errors, as everything here does. */
void swt_bed_open(swt_bed *bed, int threads);
void swt_bed_close(swt_bed *bed);

/* The backend is CUDA: for what a backend may decide for itself. */
bool swt_bed_on_gpu(const swt_bed *bed);

/* A new case: no tensors but the step state (seed 42, step 7, targets 1, clip 1, all else 0), and
 * the random numbers start again. The label is printed where a check fails. */
void swt_bed_begin(swt_bed *bed, const char *fmt, ...) SWT_PRINTF(2, 3);

/* Memory of count elements, aligned to 64 bytes, with sentinels on both sides. in: zeros; out and
 * scratch: bytes 0xFF (NaN). */
void *swt_bed_in(swt_bed *bed, int64_t count, swt_dtype dtype);
void *swt_bed_out(swt_bed *bed, int64_t count, swt_dtype dtype);
void *swt_bed_scratch(swt_bed *bed, int64_t bytes);

/* Inputs of random numbers: uniform in [low, high), and integers from low to high. */
float *swt_bed_uniform(swt_bed *bed, int64_t count, double low, double high);
float *swt_bed_whole(swt_bed *bed, int64_t count, int low, int high);
int32_t *swt_bed_integers(swt_bed *bed, int64_t count, int low, int high);

/* An output that starts as a copy of what it will be added to, or of what it must keep. */
void *swt_bed_copy(swt_bed *bed, const void *from, int64_t count, swt_dtype dtype);

/* Doubles for the oracle: zeros, and a copy of floats. */
double *swt_bed_doubles(swt_bed *bed, int64_t count);
double *swt_bed_widen(swt_bed *bed, const float *from, int64_t count);

/* One random number of the case: an integer from low to high; a number in [0, 1). */
int swt_bed_choose(swt_bed *bed, int low, int high);
double swt_bed_draw(swt_bed *bed);

/* Outputs so far are inputs of the operations that follow. */
void swt_bed_keep(swt_bed *bed);

/* Give back all tensors taken since the mark, for loops that would fill the bed. */
typedef struct swt_bed_mark {
    size_t used_bytes;
    int n_tensors;
} swt_bed_mark;
swt_bed_mark swt_bed_set_mark(const swt_bed *bed);
void swt_bed_back_to(swt_bed *bed, swt_bed_mark mark);

/* The operations of this case may change the step state. */
void swt_bed_release_state(swt_bed *bed);

/* Call an operation, which must succeed and change outputs and scratch alone. The tensors are taken
 * before, not inside the call. */
#define SWT_BED_RUN(bed, ...)                                                                      \
    do {                                                                                           \
        swt_bed_freeze(bed);                                                                       \
        swt_bed_settle(bed, (__VA_ARGS__), SWT_OK, #__VA_ARGS__);                                  \
    } while (0)

/* Call an operation, which must refuse with this status and change nothing at all. */
#define SWT_BED_REFUSE(bed, name, ...)                                                             \
    do {                                                                                           \
        swt_bed_freeze(bed);                                                                       \
        swt_bed_settle(bed, (__VA_ARGS__), SWT_##name, #__VA_ARGS__);                              \
    } while (0)

void swt_bed_freeze(swt_bed *bed);
void swt_bed_settle(swt_bed *bed, swt_status status, swt_status expected, const char *call);

/* Run a case with 1, 2 and 3 threads; inputs and outputs must have the same bits. On a GPU: the
 * same three times, on the emulated one with threads, blocks and streams in another order each
 * time. */
void swt_bed_same_bits(void (*run)(swt_bed *bed, const void *what), const void *what);

/* Memory that both the host and a GPU read and write; NULL where this build has no CUDA. */
void *swt_bed_managed_alloc(size_t bytes);
void swt_bed_managed_release(void *memory);

#endif
