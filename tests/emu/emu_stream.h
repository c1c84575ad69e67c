/* Streams, events and captures, inside the platform. */
#ifndef SWT_EMU_STREAM_H
#define SWT_EMU_STREAM_H

#include "tests/emu/emu_core.h"
#include "tests/emu/emu_fiber.h"

enum { EMU_BRANCHES = 8 }; /* streams that one capture can take in */

/* A piece of work in a queue. */
typedef struct emu_op {
    struct emu_op *next;
    const char *name;
    swt_emu_work work;
    struct CUstream_st *blocker; /* whom it waits for, if it does; NULL */
    max_align_t data[];
} emu_op;

/* A piece of work in a graph: what its run needs, and the nodes of other branches before it. */
typedef struct emu_node {
    struct emu_node *next;
    const char *name;
    swt_emu_work work; /* NULL: it only waits */
    size_t bytes;
    int branch;
    struct emu_node *after[EMU_BRANCHES]; /* NULL: none of that branch */
    uint64_t ticket;                      /* its number in the queue of the launch being made */
    max_align_t data[];
} emu_node;

struct CUstream_st {
    struct CUstream_st *next;
    unsigned flags;
    int device, pool; /* pool: emu_pool's */
    bool destroyed, moved;
    emu_op *head, *tail;
    uint64_t queued, finished; /* pieces of work, ever */
    emu_fiber *fiber;          /* its work runs here */
    bool captured;             /* into emu_capture */
    int branch;
    emu_node *known[EMU_BRANCHES]; /* the last node of each branch that comes before what is next */
};

struct CUevent_st {
    unsigned flags;
    bool destroyed;
    int pending; /* pieces of work that know it */
    struct CUstream_st *stream;
    uint64_t recorded, done; /* numbers of records */
    double ms;
    uint64_t capture; /* number of the capture it was recorded in; 0 */
    emu_node *known[EMU_BRANCHES];
};

/* The stream of a handle (NULL: the device's legacy stream); NULL if there is no such stream. */
struct CUstream_st *emu_stream_find(cudaStream_t handle);

struct CUstream_st *emu_stream_new(unsigned flags);

bool emu_stream_legacy(const struct CUstream_st *s);

/* Put work at the end of a queue. */
void emu_push(struct CUstream_st *s, const char *name, swt_emu_work work, const void *data,
              size_t bytes, struct CUstream_st *blocker);

/* What comes next in s waits for the first `ticket` pieces of work of t. */
void emu_push_wait(struct CUstream_st *s, struct CUstream_st *t, uint64_t ticket);

/* Run queues until reached(what); the lazy order runs what `wanted` needs. */
void emu_run_until(bool (*reached)(const void *what), const void *what, struct CUstream_st *wanted);

/* Run so many pieces of work, or as many as can run. */
void emu_run_some(int most);

/* A call that real capture forbids to this stream or event of a capture, or, unless the capture is
 * relaxed, while any goes on (NULL). Such a call ends the capture. */
cudaError_t emu_capture_refuses_stream(const struct CUstream_st *s);

/* May work be queued on s? Then: is it captured (s->captured)? */
cudaError_t emu_capture_allows(const struct CUstream_st *s);

/* Captured work: a node at the end of s's branch. */
void emu_capture_add(struct CUstream_st *s, const char *name, swt_emu_work work, const void *data,
                     size_t bytes);

cudaError_t emu_capture_record(struct CUevent_st *e, const struct CUstream_st *s);
cudaError_t emu_capture_wait(struct CUstream_st *s, const struct CUevent_st *e);

/* True if one of s's or e's uses must be a part of the capture that goes on. */
bool emu_capture_has(const struct CUevent_st *e);

#endif
