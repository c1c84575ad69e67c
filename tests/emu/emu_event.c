/* Events: marks in streams that other streams and the host wait for. */
#include "tests/emu/emu_stream.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct mark {
    struct CUevent_st *event;
    uint64_t number;
} mark;

static void let_go(struct CUevent_st *e) {
    if (--e->pending == 0 && e->destroyed)
        free(e);
}

static bool record(void *data) {
    const mark *const m = data;
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    m->event->ms = 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
    m->event->done = m->number;
    tsan_release(m->event);
    let_go(m->event);
    return true;
}

static bool wait_mark(void *data) {
    const mark *const m = data;
    if (m->event->done < m->number)
        return false;
    tsan_acquire(m->event);
    let_go(m->event);
    return true;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    if (event == NULL || (flags & ~(unsigned)(cudaEventBlockingSync | cudaEventDisableTiming)) != 0)
        return emu_error(cudaErrorInvalidValue);
    swt_emu_host_call("cudaEventCreate");
    *event = calloc(1, sizeof **event);
    if (*event == NULL)
        return emu_error(cudaErrorMemoryAllocation);
    (*event)->flags = flags;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) {
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    if (event == NULL || event->destroyed)
        return emu_error(cudaErrorInvalidResourceHandle);
    event->destroyed = true;
    event->pending++;
    let_go(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    struct CUstream_st *const s = emu_stream_find(stream);
    if (event == NULL || event->destroyed || s == NULL)
        return emu_error(cudaErrorInvalidResourceHandle);
    const cudaError_t error = emu_capture_allows(s);
    if (error != cudaSuccess)
        return emu_error(error);
    if (s->captured)
        return emu_error(emu_capture_record(event, s));
    event->capture = 0;
    event->stream = s;
    event->pending++;
    const mark m = {event, ++event->recorded};
    emu_push(s, "cudaEventRecord", record, &m, sizeof m, NULL);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    struct CUstream_st *const s = emu_stream_find(stream);
    if (event == NULL || event->destroyed || s == NULL)
        return emu_error(cudaErrorInvalidResourceHandle);
    if (flags != 0)
        return emu_error(cudaErrorInvalidValue);
    if (event->capture != 0 || s->captured)
        return emu_error(emu_capture_wait(s, event));
    const cudaError_t error = emu_capture_allows(s);
    if (error != cudaSuccess)
        return emu_error(error);
    if (event->recorded == 0) /* never recorded: nothing to wait for */
        return cudaSuccess;
    event->pending++;
    const mark m = {event, event->recorded};
    emu_push(s, "cudaStreamWaitEvent", wait_mark, &m, sizeof m, event->stream);
    return cudaSuccess;
}

static bool event_done(const void *what) {
    const struct CUevent_st *const e = what;
    return e->done >= e->recorded;
}

/* May the host ask for this event? */
static cudaError_t host_may_ask(const struct CUevent_st *event) {
    if (event == NULL || event->destroyed)
        return cudaErrorInvalidResourceHandle;
    const cudaError_t error = emu_capture_refuses();
    if (emu_capture_has(event))
        return cudaErrorCapturedEvent;
    return error;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    swt_emu_host_call("cudaEventSynchronize");
    const cudaError_t error = host_may_ask(event);
    if (error != cudaSuccess)
        return emu_error(error);
    emu_run_until(event_done, event, event->stream);
    tsan_acquire(event);
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    const cudaError_t error = host_may_ask(event);
    if (error != cudaSuccess)
        return emu_error(error);
    if (event_done(event)) {
        tsan_acquire(event);
        return cudaSuccess;
    }
    emu_run_some(1);
    return emu_error(cudaErrorNotReady);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end) {
    const cudaEvent_t both[2] = {start, end};
    for (int i = 0; i < 2; i++) {
        const cudaError_t error = host_may_ask(both[i]);
        if (error != cudaSuccess)
            return emu_error(error);
        if (both[i]->recorded == 0 || (both[i]->flags & cudaEventDisableTiming) != 0)
            return emu_error(cudaErrorInvalidResourceHandle);
        if (!event_done(both[i]))
            return emu_error(cudaErrorNotReady);
    }
    *ms = (float)(end->ms - start->ms);
    return cudaSuccess;
}
