/* Streams: queues of work that runs when somebody waits for it. */
#include "tests/emu/emu_stream.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { STACK_BYTES = 4 * 1024 * 1024, DEVICES_MAX = 64 };

static struct CUstream_st *streams; /* all, the legacy ones too */
static struct CUstream_st *legacy[DEVICES_MAX];
static unsigned stream_count;
static void (*progress_of_others)(void);

/* -- running ---------------------------------------------------------------------------------- */

static struct CUstream_st *serving;
static emu_fiber *driver;

/* The life of a stream's fiber: piece after piece, and back. */
static void serve(void) {
    for (;;) {
        struct CUstream_st *const s = serving;
        emu_op *const op = s->head;
        tsan_acquire(op);
        s->moved = op->work(op->data);
        if (s->moved)
            tsan_release(&s->finished);
        emu_fiber_switch(driver);
    }
}

/* Run the head of a queue: true if it is done now. */
static bool step(struct CUstream_st *s) {
    emu_op *const op = s->head;
    if (op == NULL)
        return false;
    if (s->fiber == NULL)
        s->fiber = emu_fiber_create(STACK_BYTES, serve, NULL);
    serving = s;
    emu_pool = s->pool;
    emu_fiber_switch(s->fiber);
    if (!s->moved)
        return false;
    s->head = op->next;
    if (s->head == NULL)
        s->tail = NULL;
    s->finished++;
    tsan_ignore_begin();
    free(op);
    tsan_ignore_end();
    return true;
}

/* One piece of any stream. */
static bool step_any(void) {
    unsigned skip = emu_seed() != 0 && stream_count > 0 ? emu_random(stream_count) : 0;
    struct CUstream_st *first = streams;
    while (skip-- > 0 && first != NULL)
        first = first->next;
    for (struct CUstream_st *s = first; s != NULL; s = s->next)
        if (step(s))
            return true;
    for (struct CUstream_st *s = streams; s != first; s = s->next)
        if (step(s))
            return true;
    return false;
}

/* One piece that brings s on: its next, or one of the stream that this waits for, and so on. */
static bool step_for(struct CUstream_st *s) {
    for (unsigned hops = 0; s != NULL && hops <= stream_count; hops++) {
        if (step(s))
            return true;
        s = s->head != NULL ? s->head->blocker : NULL;
    }
    return step_any();
}

static void enter(void) {
    if (driver != NULL)
        swt_emu_stop("a call of the CUDA runtime from inside the work of a stream");
    driver = emu_fiber_self();
    emu_memory_open();
}

static void leave(void) {
    emu_memory_close();
    driver = NULL;
}

void emu_run_until(bool (*reached)(const void *what), const void *what,
                   struct CUstream_st *wanted) {
    if (reached(what))
        return;
    enter();
    while (!reached(what)) {
        if (emu_seed() == 0 && wanted != NULL ? step_for(wanted) : step_any())
            continue;
        if (progress_of_others == NULL)
            swt_emu_stop("deadlock: every stream waits, and the host for them");
        progress_of_others();
        (void)sched_yield();
    }
    leave();
}

void emu_run_some(int most) {
    enter();
    for (int i = 0; i < most && step_any(); i++)
        continue;
    leave();
}

bool swt_emu_poll(void) {
    bool any = false;
    if (driver != NULL)
        return false;
    enter();
    while (step_any())
        any = true;
    leave();
    return any;
}

void swt_emu_on_wait(void (*progress)(void)) {
    progress_of_others = progress;
}

static bool stream_empty(const void *what) {
    return ((const struct CUstream_st *)what)->head == NULL;
}

static bool all_empty(const void *what) {
    (void)what;
    for (const struct CUstream_st *s = streams; s != NULL; s = s->next)
        if (s->head != NULL)
            return false;
    return true;
}

void emu_drain(void) {
    emu_run_until(all_empty, NULL, NULL);
    for (struct CUstream_st **at = &streams; *at != NULL;) {
        struct CUstream_st *const s = *at;
        tsan_acquire(&s->finished);
        if (!s->destroyed) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        stream_count--;
        if (s->fiber != NULL)
            emu_fiber_destroy(s->fiber);
        free(s);
    }
}

/* -- queueing --------------------------------------------------------------------------------- */

bool emu_stream_legacy(const struct CUstream_st *s) {
    return s == legacy[s->device];
}

/* Fibers are dear to ThreadSanitizer, but two streams that share them look ordered. */
static int free_pool(void) {
    bool taken[EMU_POOLS] = {false};
    for (const struct CUstream_st *s = streams; s != NULL; s = s->next)
        if (!s->destroyed)
            taken[s->pool] = true;
    for (int i = 0; i < EMU_POOLS; i++)
        if (!taken[i])
            return i;
    return (int)(stream_count % EMU_POOLS);
}

struct CUstream_st *emu_stream_new(unsigned flags) {
    struct CUstream_st *const s = calloc(1, sizeof *s);
    if (s == NULL)
        swt_emu_stop("no memory for a stream");
    s->flags = flags;
    s->pool = free_pool();
    s->device = emu_device();
    s->next = streams;
    streams = s;
    stream_count++;
    return s;
}

struct CUstream_st *emu_stream_find(cudaStream_t handle) {
    if (handle == cudaStreamPerThread)
        swt_emu_stop("cudaStreamPerThread is not emulated");
    if (handle == NULL || handle == cudaStreamLegacy) {
        struct CUstream_st **const s = &legacy[emu_device()];
        if (*s == NULL)
            *s = emu_stream_new(0);
        return *s;
    }
    for (struct CUstream_st *s = streams; s != NULL; s = s->next)
        if (s == handle && !s->destroyed)
            return s;
    return NULL;
}

static void push(struct CUstream_st *s, const char *name, swt_emu_work work, const void *data,
                 size_t bytes, struct CUstream_st *blocker) {
    emu_op *const op = malloc(sizeof *op + bytes);
    if (op == NULL)
        swt_emu_stop("no memory for queued work");
    *op = (emu_op){.name = name, .work = work, .blocker = blocker};
    memcpy(op->data, data, bytes);
    tsan_release(op);
    if (s->tail != NULL)
        s->tail->next = op;
    else
        s->head = op;
    s->tail = op;
    s->queued++;
}

typedef struct ticket {
    struct CUstream_st *stream;
    uint64_t number;
} ticket;

static bool ticket_reached(void *data) {
    const ticket *const t = data;
    if (t->stream->finished < t->number)
        return false;
    tsan_acquire(&t->stream->finished);
    return true;
}

void emu_push_wait(struct CUstream_st *s, struct CUstream_st *t, uint64_t number) {
    const ticket data = {t, number};
    push(s, "wait", ticket_reached, &data, sizeof data, t);
}

/* The legacy stream waits for all that was queued on blocking streams before, and they for it. */
void emu_push(struct CUstream_st *s, const char *name, swt_emu_work work, const void *data,
              size_t bytes, struct CUstream_st *blocker) {
    if (emu_stream_legacy(s)) {
        for (struct CUstream_st *t = streams; t != NULL; t = t->next)
            if (t != s && t->device == s->device && t->head != NULL &&
                (t->flags & cudaStreamNonBlocking) == 0)
                emu_push_wait(s, t, t->queued);
    } else if ((s->flags & cudaStreamNonBlocking) == 0) {
        struct CUstream_st *const old = legacy[s->device];
        if (old != NULL && old->head != NULL)
            emu_push_wait(s, old, old->queued);
    }
    push(s, name, work, data, bytes, blocker);
}

cudaError_t swt_emu_enqueue(cudaStream_t stream, const char *name, swt_emu_work work,
                            const void *data, size_t bytes) {
    struct CUstream_st *const s = emu_stream_find(stream);
    if (s == NULL)
        return cudaErrorInvalidResourceHandle;
    if (driver != NULL)
        swt_emu_stop("%s: queued from inside the work of a stream", name);
    const cudaError_t error = emu_capture_allows(s);
    if (error != cudaSuccess)
        return error;
    if (s->captured)
        emu_capture_add(s, name, work, data, bytes);
    else
        emu_push(s, name, work, data, bytes, NULL);
    return cudaSuccess;
}

/* -- the runtime's calls ---------------------------------------------------------------------- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    if (stream == NULL || (flags & ~(unsigned)cudaStreamNonBlocking) != 0)
        return emu_error(cudaErrorInvalidValue);
    swt_emu_host_call("cudaStreamCreate");
    *stream = emu_stream_new(flags);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream) {
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    struct CUstream_st *const s = emu_stream_find(stream);
    if (s == NULL || emu_stream_legacy(s))
        return emu_error(cudaErrorInvalidResourceHandle);
    s->destroyed = true; /* freed when its work is done */
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    swt_emu_host_call("cudaStreamSynchronize");
    struct CUstream_st *const s = emu_stream_find(stream);
    if (s == NULL)
        return emu_error(cudaErrorInvalidResourceHandle);
    const cudaError_t error = emu_capture_refuses_stream(s);
    if (error != cudaSuccess)
        return emu_error(error);
    emu_run_until(stream_empty, s, s);
    tsan_acquire(&s->finished);
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    struct CUstream_st *const s = emu_stream_find(stream);
    if (s == NULL)
        return emu_error(cudaErrorInvalidResourceHandle);
    const cudaError_t error = emu_capture_refuses_stream(s);
    if (error != cudaSuccess)
        return emu_error(error);
    if (s->head == NULL) {
        tsan_acquire(&s->finished);
        return cudaSuccess;
    }
    emu_run_some(64);
    return emu_error(cudaErrorNotReady);
}

cudaError_t cudaDeviceSynchronize(void) {
    swt_emu_host_call("cudaDeviceSynchronize");
    const cudaError_t error = emu_capture_refuses();
    if (error != cudaSuccess)
        return emu_error(error);
    emu_drain();
    return cudaSuccess;
}
