/* The device interface: memory, copies, streams and events of one processor (CPU or GPU).
 *
 * Work is queued on a stream and runs in the stream's order; on the CPU it runs at once, and
 * streams are empty and events hold the time. The stream NULL is the host itself: what is called on
 * it comes after all work queued before on any stream and is done when the call returns (operations
 * are queued on it, so a swt_stream_sync must follow). On the CPU it is the only stream.
 *
 * "Backend memory" is what swt_device_alloc gives: only operations, copies and communicators of the
 * same backend may touch it. Local: no call here is collective. */
#ifndef SWT_DEVICE_H
#define SWT_DEVICE_H

#include "base/words.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct swt_device swt_device;
typedef struct swt_stream swt_stream; /* opaque; NULL: see above */
typedef struct swt_event swt_event;   /* opaque */

typedef enum swt_copy_kind { SWT_TO_DEVICE, SWT_TO_HOST, SWT_ON_DEVICE } swt_copy_kind;

/* One backend. Every slot is mandatory. */
typedef struct swt_device_table {
    const char *name; /* "cpu", "cuda" */
    bool queues;      /* work goes on after the call that queued it: waiting for it has a price */
    swt_status (*room)(swt_device *d, size_t *free_bytes, size_t *total_bytes);
    swt_status (*alloc)(swt_device *d, void **out, size_t bytes);
    void (*release)(swt_device *d, void *memory);
    swt_status (*host_alloc)(swt_device *d, void **out, size_t bytes);
    void (*host_release)(swt_device *d, void *memory);
    swt_status (*copy)(swt_device *d, swt_stream *s, swt_copy_kind kind, void *to, const void *from,
                       size_t bytes);
    swt_status (*set)(swt_device *d, swt_stream *s, void *memory, int byte, size_t bytes);
    swt_status (*stream_create)(swt_device *d, swt_stream **out);
    void (*stream_destroy)(swt_device *d, swt_stream *s);
    swt_status (*stream_sync)(swt_device *d, swt_stream *s);
    swt_status (*event_create)(swt_device *d, swt_event **out);
    void (*event_destroy)(swt_device *d, swt_event *e);
    swt_status (*event_record)(swt_device *d, swt_event *e, swt_stream *s);
    swt_status (*stream_wait)(swt_device *d, swt_stream *s, swt_event *e);
    swt_status (*event_ms)(swt_device *d, swt_event *from, swt_event *to, double *ms);
    void (*close)(swt_device *d);
} swt_device_table;

enum { SWT_ARITHMETIC_BYTES = 24 };

struct swt_device {
    const swt_device_table *table;
    /* "cpu-avx512", "cuda-sm_90": processors of the same name give the same bits, a GPU with the
     * same libraries. Letters, digits, - and _. */
    char arithmetic[SWT_ARITHMETIC_BYTES];
    int threads;    /* CPU threads that operations may use, >= 1 */
    void *own;      /* the backend's */
    double idle_ms; /* time in which threads had no part to run, before their first and after their
                       last, summed over threads and the operations that have several parts: the
                       caller may reset it */
    swt_warnings *warnings; /* the caller's: where to the backend says what makes it slow; NULL */
};

void swt_device_close(swt_device *d);

/* The processor's memory: what is free now, of how much. On the CPU all processes share it. */
SWT_MUST_CHECK swt_status swt_device_room(swt_device *d, size_t *free_bytes, size_t *total_bytes);

/* Backend memory, aligned to 64 bytes, contents undefined. Errors: MEMORY. */
SWT_MUST_CHECK swt_status swt_device_alloc(swt_device *d, void **out, size_t bytes);
void swt_device_release(swt_device *d, void *memory);

/* Host memory, aligned to 64 bytes, whose copies to and from the device need no host meanwhile
 * (page-locked where that matters). Errors: MEMORY. */
SWT_MUST_CHECK swt_status swt_device_host_alloc(swt_device *d, void **out, size_t bytes);
void swt_device_host_release(swt_device *d, void *memory);

/* Copy bytes in stream order. Host memory of an unfinished copy must not be touched before a
 * swt_stream_sync. */
SWT_MUST_CHECK swt_status swt_device_copy(swt_device *d, swt_stream *s, swt_copy_kind kind,
                                          void *to, const void *from, size_t bytes);

/* Set every byte, in stream order. */
SWT_MUST_CHECK swt_status swt_device_set(swt_device *d, swt_stream *s, void *memory, int byte,
                                         size_t bytes);

SWT_MUST_CHECK swt_status swt_stream_create(swt_device *d, swt_stream **out);
void swt_stream_destroy(swt_device *d, swt_stream *s);

/* Wait on the host until the stream's work is done. Never called inside a step. */
SWT_MUST_CHECK swt_status swt_stream_sync(swt_device *d, swt_stream *s);

SWT_MUST_CHECK swt_status swt_event_create(swt_device *d, swt_event **out);
void swt_event_destroy(swt_device *d, swt_event *e);
SWT_MUST_CHECK swt_status swt_event_record(swt_device *d, swt_event *e, swt_stream *s);

/* Work queued on s after this call waits for what the event recorded. */
SWT_MUST_CHECK swt_status swt_stream_wait(swt_device *d, swt_stream *s, swt_event *e);

/* *ms = the processor's time between two events that it has passed. */
SWT_MUST_CHECK swt_status swt_event_ms(swt_device *d, swt_event *from, swt_event *to, double *ms);

#endif
