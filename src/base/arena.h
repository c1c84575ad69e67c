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
#ifndef SWT_BASE_ARENA_H
#define SWT_BASE_ARENA_H

#include "base/dtype.h"
#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

/* X(name, what it holds) */
#define SWT_ARENA_LIST(X)                                                                          \
    X(PARAM, "parameters")                                                                         \
    X(GRAD, "gradients and their integer sums")                                                    \
    X(OPT, "optimiser moments")                                                                    \
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

/* Where an arena's memory comes from: device memory or host memory, behind the same four calls. */
typedef struct swt_memory {
    void *context;
    swt_status (*alloc)(void *context, void **out, size_t bytes);
    void (*release)(void *context, void *memory);
    swt_status (*fill)(void *context, void *memory, int byte, size_t bytes);
    swt_status (*read)(void *context, void *host, const void *memory, size_t bytes);
} swt_memory;

/* Plain host memory (aligned to 64 bytes). */
extern const swt_memory swt_host_memory;

typedef struct swt_arena {
    const char *name;
    const swt_memory *memory;
    unsigned char *base;    /* NULL while planning */
    size_t planned_bytes;   /* after the planning pass: what commit allocates */
    size_t used_bytes;      /* position of the pass under way */
    size_t allocated_bytes; /* what commit asked the memory for */
} swt_arena;

const char *swt_arena_category_name(swt_arena_category category);

void swt_arena_init(swt_arena *arena, const char *name, const swt_memory *memory);

/* The next tensor: count elements of dtype, aligned to 64 bytes. Gives NULL while planning.
 * Errors: MEMORY if the size overflows or, in the using pass, if the plan is exceeded. */
SWT_MUST_CHECK swt_status swt_arena_take(swt_arena *arena, void **out, int64_t count,
                                         swt_dtype dtype);

/* Allocate what was planned and start the using pass. An empty plan allocates nothing. */
SWT_MUST_CHECK swt_status swt_arena_commit(swt_arena *arena);

/* After the using pass: it must have taken exactly what was planned (INTERNAL otherwise), and no
 * sentinel may be overwritten (INTERNAL, names the arena and the position). */
SWT_MUST_CHECK swt_status swt_arena_check(const swt_arena *arena);

void swt_arena_fini(swt_arena *arena);

#endif
