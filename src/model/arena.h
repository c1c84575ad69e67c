/* Arenas: all the memory of one category in one allocation, planned before anything is allocated.
 *
 * The life of an arena: init -> take, take, ... (plan: counts bytes, gives NULL) -> commit
 * (allocates exactly the planned bytes) -> take, take, ... the same calls again (use: gives the
 * addresses) -> check -> fini. One function that walks the tensors serves both passes, so the plan
 * is the allocation.
 *
 * Debug builds (SWT_ARENA_GUARD) fill the memory with 0xFF bytes (NaN as a float) and put a
 * sentinel of 64 bytes behind each tensor; swt_arena_check finds the tensor whose sentinel was
 * overwritten.    */
#ifndef SWT_MODEL_ARENA_H
#define SWT_MODEL_ARENA_H

#include "base/dtype.h"
#include "base/status.h"
#include "kernels/swt_device.h"

#include <stddef.h>
#include <stdint.h>

/* X(name, what it holds) */
#define SWT_ARENA_LIST(X)                                                                          \
    X(PARAM, "parameters")                                                                         \
    X(GRAD, "gradients and their integer sums")                                                    \
    X(OPT, "what the optimiser keeps")                                                             \
    X(ACT, "activations")                                                                          \
    X(SCRATCH, "scratch of the operations")                                                        \
    X(COMM, "message buffers")                                                                     \
    X(HOST, "host buffers")

typedef enum swt_arena_category {
#define SWT_ARENA_ENUM(name, what) SWT_ARENA_##name,
    SWT_ARENA_LIST(SWT_ARENA_ENUM)
#undef SWT_ARENA_ENUM
        SWT_ARENA_COUNT
} swt_arena_category;

typedef struct swt_arena {
    const char *name;
    bool on_host;           /* host memory for the device's copies, else the device's own */
    swt_device *device;     /* NULL while planning */
    unsigned char *base;    /* NULL while planning */
    size_t planned_bytes;   /* after the planning pass: what commit allocates */
    size_t used_bytes;      /* position of the pass under way */
    size_t allocated_bytes; /* what commit asked the device for */
} swt_arena;

const char *swt_arena_category_name(swt_arena_category category);

void swt_arena_init(swt_arena *arena, const char *name, bool on_host);

/* The next tensor: count elements of dtype, aligned to 64 bytes. Gives NULL while planning.
 * Errors: MEMORY if the size overflows or, in the using pass, if the plan is exceeded. */
SWT_MUST_CHECK swt_status swt_arena_take(swt_arena *arena, void **out, int64_t count,
                                         swt_dtype dtype);

/* Allocate what was planned and start the using pass. An empty plan allocates nothing. The device
 * outlives the arena. */
SWT_MUST_CHECK swt_status swt_arena_commit(swt_arena *arena, swt_device *device);

/* After the using pass: it must have taken exactly what was planned (INTERNAL otherwise), and no
 * sentinel may be overwritten (INTERNAL, names the arena and the position). */
SWT_MUST_CHECK swt_status swt_arena_check(const swt_arena *arena);

void swt_arena_fini(swt_arena *arena);

#endif
