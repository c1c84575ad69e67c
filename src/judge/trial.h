/* A trial: one check of the self-test under way, with its memory, its random numbers and what it
 * has found.
 *
 * Tensors live twice: in host memory, where inputs are made and results are judged, and in backend
 * memory, which only operations and copies touch. The two blocks have the same layout, with gaps
 * between the tensors. swt_trial_call copies the whole block to the device, calls an operation on
 * the twins, copies it back, and sees whether anything but the outputs has changed.
 *
 *     swt_trial_begin(t, "N=%lld", N);                  forget the last case, name the new one
 *     float *x = swt_trial_uniform(t, N, -1, 1);        inputs
 *     void *y = swt_trial_out(t, N, SWT_F32);           outputs, NaN so far
 *     SWT_TRY(swt_trial_call(t, SWT_OP_cast, &(swt_any_args){.cast = {.to = y, ...}}));
 *     swt_trial_close(t, "y", y, want, ...);
 *
 * A result that is wrong is noted and the check goes on, so that all ranks make the same calls; an
 * operation that fails ends the check. With AddressSanitizer the device's memory between tensors is
 * out of bounds while an operation runs, so that reading it is found, too. */
#ifndef SWT_JUDGE_TRIAL_H
#define SWT_JUDGE_TRIAL_H

#include "comm/swt_comm.h"
#include "kernels/swt_backend.h"
#include "kernels/swt_op_table.h"

/* The largest relative error of one rounding to float. A sum of n products rounded one by one with
 * independent errors is wrong by about sqrt(n) * SWT_ROUNDING of its typical size: tolerances are
 * small multiples of that. */
#define SWT_ROUNDING 0x1p-24

typedef enum swt_trial_kind {
    SWT_TRIAL_IN,     /* no operation may change it */
    SWT_TRIAL_OUT,    /* an operation's output */
    SWT_TRIAL_SCRATCH /* an operation's scratch */
} swt_trial_kind;

typedef struct swt_trial_tensor {
    size_t first_byte, bytes; /* in the trial's memory */
    swt_trial_kind kind;
} swt_trial_tensor;

enum { SWT_TRIAL_TENSORS = 96, SWT_TRIAL_TEXT_BYTES = 200 };

/* What a check found on this rank; bytes that ranks tell each other. */
typedef struct swt_finding {
    int64_t cases;
    double worst;                       /* largest error as a share of what is allowed */
    double ms;                          /* time taken */
    bool measured;                      /* some comparison had a tolerance; else all were exact */
    bool failed;                        /* something was wrong */
    char message[SWT_TRIAL_TEXT_BYTES]; /* of the first that was */
} swt_finding;

typedef struct swt_trial {
    swt_ctx ctx;       /* the backend that is tested, on a stream of its own */
    int threads;       /* its CPU threads */
    bool large;        /* cases of the sizes that tests use: several parts and blocks */
    swt_comm *host;    /* all ranks, on host memory */
    swt_comm *world;   /* all ranks, on backend memory; on the CPU the same */
    uint64_t seed;     /* of all random numbers */
    uint32_t check;    /* number of the check, for random numbers */
    uint32_t drawn;    /* of them, in this check */
    swt_finding found; /* so far */
    void (*on_miss)(const char *message); /* called where something is wrong; NULL: noted alone */
    swt_step_state *state;                /* host: the step state, first tensor of every case */
    char label[SWT_TRIAL_TEXT_BYTES];

    unsigned char *memory, *twin, *before; /* host; backend; host's state before an operation */
    double *numbers;                       /* host: the oracle's */
    size_t memory_bytes, used_bytes, numbers_room, numbers_used;
    swt_trial_tensor tensors[SWT_TRIAL_TENSORS];
    int n_tensors;
} swt_trial;

/* What the trial works with; the caller owns it and closes it after the trial. */
typedef struct swt_trial_setup {
    const swt_ops *ops;
    swt_device *device;
    swt_stream *stream;
    swt_comm *host, *world;
    uint64_t seed;
    bool large; /* more memory, larger cases */
    void (*on_miss)(const char *message);
} swt_trial_setup;

/* Local. Errors: MEMORY. On errors *out is to be closed, too. */
SWT_MUST_CHECK swt_status swt_trial_open(swt_trial *out, const swt_trial_setup *setup);
void swt_trial_close_all(swt_trial *t);

/* A new check: nothing found yet, random numbers of its own. */
void swt_trial_start(swt_trial *t, int check);

/* A new case: no tensors but the step state (the seed, step 7, targets 1, clip 1, all else 0). */
void swt_trial_begin(swt_trial *t, const char *fmt, ...) SWT_PRINTF(2, 3);

/* Host memory of count elements with a twin on the device. in: zeros; out and scratch: bytes 0xFF
 * (NaN); copy: an output that starts as `from`. */
void *swt_trial_in(swt_trial *t, int64_t count, swt_dtype dtype);
void *swt_trial_out(swt_trial *t, int64_t count, swt_dtype dtype);
void *swt_trial_scratch(swt_trial *t, int64_t bytes);
void *swt_trial_copy(swt_trial *t, const void *from, int64_t count, swt_dtype dtype);

/* Inputs of random numbers: uniform in [low, high), and whole numbers from low to high. */
float *swt_trial_uniform(swt_trial *t, int64_t count, double low, double high);
float *swt_trial_whole(swt_trial *t, int64_t count, int low, int high);
int32_t *swt_trial_integers(swt_trial *t, int64_t count, int low, int high);

/* Numbers of the oracle, host only: zeros, and a copy of floats (NULL of NULL). */
double *swt_trial_doubles(swt_trial *t, int64_t count);
double *swt_trial_widen(swt_trial *t, const float *from, int64_t count);

/* One random number: in [0, 1); a whole one from low to high; a size up to `most` of those where
 * tiles, warps and blocks begin and end. */
double swt_trial_draw(swt_trial *t);
int swt_trial_choose(swt_trial *t, int low, int high);
int64_t swt_trial_size(swt_trial *t, int64_t most);

/* The operations of this case may change the step state. */
void swt_trial_release_state(swt_trial *t);

/* Call an operation, SWT_OP_..., with the twins of the tensors in its arguments. Its status; on
 * errors nothing is known of the tensors. */
SWT_MUST_CHECK swt_status swt_trial_call(swt_trial *t, int op, const swt_any_args *args);

/* The same in steps, for calls that are no operation's: all tensors to the device; the device's
 * twin of a tensor, NULL of NULL; back, and what has changed that is not of the outputs is a miss.
 */
SWT_MUST_CHECK swt_status swt_trial_upload(swt_trial *t);
void *swt_trial_twin(const swt_trial *t, const void *tensor);
SWT_MUST_CHECK swt_status swt_trial_download(swt_trial *t, const char *name);

/* ---- judging (verdict.c) */

/* Something is wrong; the first message of a check is kept. */
void swt_trial_miss(swt_trial *t, const char *fmt, ...) SWT_PRINTF(2, 3);

/* got is want within tolerance: the root mean square of the error is at most tolerance times that
 * of want, and no error is more than 8 times as large. Where want may happen to be small (few
 * elements, sums that cancel) scale is its typical size, and the larger of the two counts. NaN
 * never passes, and an infinity only where it should be. */
void swt_trial_close(swt_trial *t, const char *what, const float *got, const double *want,
                     int64_t n, double tolerance, double scale);

/* What a sum of n products of numbers uniform in [-1, 1) may be out by, relative to its size: in
 * plain order it is wrong by about sqrt(n / 3) roundings of it; 4 leaves room for the bias, the
 * residual and small n. */
double swt_sum_tolerance(int64_t n);

/* The size of such a sum: a product has a standard deviation of 1/3. */
double swt_sum_size(int64_t n);

/* An element of a tensor as a number. */
double swt_trial_element(const void *tensor, int64_t i, swt_dtype dtype);

/* |got - want| <= limit. */
void swt_trial_number(swt_trial *t, const char *what, double got, double want, double limit);

/* The same bytes. */
void swt_trial_same(swt_trial *t, const char *what, const void *got, const void *want,
                    int64_t count, swt_dtype dtype);

#endif
