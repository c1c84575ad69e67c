/* What every operation needs beside its arguments. */
#ifndef SWT_CTX_H
#define SWT_CTX_H

#include "base/dtype.h"
#include "base/rng.h"
#include "base/status.h"
#include "kernels/swt_device.h"

#include <stdint.h>

/* What a gradient that is not finite, or too large, makes of its step: swt_step_state.nonfinite. */
enum {
    SWT_STEP_BAD = 1, /* there is no update; the next step begins without the flag */
    SWT_STEP_STOPPED  /* nor is there one in any later step */
};

/* What changes from step to step. It lives in backend memory and is advanced by swt_state_advance,
 * so that a step needs no host. */
typedef struct swt_step_state {
    uint64_t seed;          /* key of every random number */
    int64_t step;           /* t of the update under way: 1 in the first */
    int64_t targets;        /* real targets of the global batch (over all ranks) */
    int64_t nonfinite;      /* 0, SWT_STEP_BAD or SWT_STEP_STOPPED */
    int64_t skipped;        /* steps so far that were left out: their gradients were bad */
    int64_t skipped_in_row; /* the last of them, without another step between or behind */
    int64_t skipped_step;   /* t of the last one; 0: there was none */
    double lr;              /* learning rate of this update */
    double correction1;     /* 1 - beta1^t */
    double correction2;     /* 1 - beta2^t */
    double grad_norm;       /* global norm before clipping */
    double clip;            /* factor that the optimiser applies to gradients */
} swt_step_state;

typedef struct swt_ops swt_ops;

/* The caller owns all of it. */
typedef struct swt_ctx {
    const swt_ops *ops;
    swt_device *device;
    swt_stream *stream;
    swt_dtype dtype;       /* of activations and of the weights that gemms read: F32 or BF16 */
    swt_step_state *state; /* backend memory */
    void *workspace;       /* ops->workspace_bytes of backend memory, for the backend alone */
} swt_ctx;

#endif
