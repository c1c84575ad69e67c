/* Where a rank is: what its main thread writes as it goes, and another thread reads (the watchdog,
 * state/watchdog.h).
 *
 * Each field is written by one thread and read by another, so each is atomic and none is a lock.
 * They are not written together: a reader may see the new step beside the old phase, for as long as
 * the writer is between the two. Every function here takes NULL, where nobody reads. */
#ifndef SWT_BASE_PROGRESS_H
#define SWT_BASE_PROGRESS_H

#include <stdatomic.h>
#include <stdint.h>

/* X(NAME, what messages call it). */
#define SWT_PHASE_LIST(X)                                                                          \
    X(START, "start")                                                                              \
    X(BATCH, "batch")                                                                              \
    X(FORWARD, "forward")                                                                          \
    X(BACKWARD, "backward")                                                                        \
    X(REDUCE, "reduction of gradients")                                                            \
    X(UPDATE, "update")                                                                            \
    X(ROW, "row of the metrics")                                                                   \
    X(EVALUATION, "evaluation")                                                                    \
    X(SAMPLE, "sample")                                                                            \
    X(CHECKPOINT, "checkpoint")                                                                    \
    X(END, "end")

typedef enum swt_phase {
#define SWT_PHASE_ENUM(name, text) SWT_PHASE_##name,
    SWT_PHASE_LIST(SWT_PHASE_ENUM)
#undef SWT_PHASE_ENUM
        SWT_PHASES
} swt_phase;

/* X(NAME, the function of swt_comm.h): what a rank can wait for others in. */
#define SWT_CALL_LIST(X)                                                                           \
    X(NONE, "")                                                                                    \
    X(ALL_TO_ALL, "swt_comm_all_to_all")                                                           \
    X(ALL_REDUCE, "swt_comm_all_reduce_i64")                                                       \
    X(ALL_GATHER, "swt_comm_all_gather")                                                           \
    X(BROADCAST, "swt_comm_broadcast")                                                             \
    X(WAIT, "swt_comm_wait")                                                                       \
    X(SPLIT, "swt_comm_split")                                                                     \
    X(NODE, "swt_comm_node")

typedef enum swt_call {
#define SWT_CALL_ENUM(name, text) SWT_CALL_##name,
    SWT_CALL_LIST(SWT_CALL_ENUM)
#undef SWT_CALL_ENUM
        SWT_CALLS
} swt_call;

/* The ranks of a communicator, by their numbers in the whole world: first, first + stride, ... */
typedef struct swt_members {
    int first, stride, size;
} swt_members;

typedef struct swt_progress {
    _Atomic int64_t step;                /* the update under way, or the last one; 0: none yet */
    _Atomic int32_t phase, layer, kind;  /* swt_phase; block and kind of a sub-layer, -1: none */
    _Atomic int32_t call;                /* swt_call that it is in */
    _Atomic int32_t first, stride, size; /* of that call's communicator */
    _Atomic int64_t calls;               /* begun so far */
    _Atomic int64_t changes;             /* of any of these; what stands still has none */
} swt_progress;

/* The one writer needs no read-modify-write. */
#define SWT_PROGRESS_SET(field, value)                                                             \
    atomic_store_explicit(&(field), (value), memory_order_relaxed)
#define SWT_PROGRESS_GET(field) atomic_load_explicit(&(field), memory_order_relaxed)

static inline void swt_progress_changed(swt_progress *p) {
    SWT_PROGRESS_SET(p->changes, SWT_PROGRESS_GET(p->changes) + 1);
}

static inline void swt_progress_step(swt_progress *p, int64_t step) {
    if (!p)
        return;
    SWT_PROGRESS_SET(p->step, step);
    swt_progress_changed(p);
}

static inline void swt_progress_layer(swt_progress *p, int64_t layer, int kind) {
    if (!p)
        return;
    SWT_PROGRESS_SET(p->layer, (int32_t)layer);
    SWT_PROGRESS_SET(p->kind, (int32_t)kind);
    swt_progress_changed(p);
}

static inline void swt_progress_phase(swt_progress *p, swt_phase phase) {
    if (!p)
        return;
    SWT_PROGRESS_SET(p->phase, (int32_t)phase);
    swt_progress_layer(p, -1, -1);
}

static inline void swt_progress_enter(swt_progress *p, swt_call call, swt_members of) {
    if (!p)
        return;
    SWT_PROGRESS_SET(p->first, of.first);
    SWT_PROGRESS_SET(p->stride, of.stride);
    SWT_PROGRESS_SET(p->size, of.size);
    SWT_PROGRESS_SET(p->calls, SWT_PROGRESS_GET(p->calls) + 1);
    SWT_PROGRESS_SET(p->call, (int32_t)call);
    swt_progress_changed(p);
}

static inline void swt_progress_leave(swt_progress *p) {
    if (!p)
        return;
    SWT_PROGRESS_SET(p->call, (int32_t)SWT_CALL_NONE);
    swt_progress_changed(p);
}

#endif
