#include "kernels/swt_device.h"

void swt_device_close(swt_device *d) {
    if (d == NULL || d->table == NULL)
        return;
    d->table->close(d);
    *d = (swt_device){0};
}

static swt_status check_open(const swt_device *d) {
    if (d == NULL || d->table == NULL)
        return SWT_FAIL(INTERNAL, "device: used while not open; open it first");
    return SWT_OK;
}

swt_status swt_device_room(swt_device *d, size_t *free_bytes, size_t *total_bytes) {
    SWT_TRY(check_open(d));
    return d->table->room(d, free_bytes, total_bytes);
}

swt_status swt_device_alloc(swt_device *d, void **out, size_t bytes) {
    SWT_TRY(check_open(d));
    return d->table->alloc(d, out, bytes);
}

void swt_device_release(swt_device *d, void *memory) {
    if (memory != NULL)
        d->table->release(d, memory);
}

swt_status swt_device_host_alloc(swt_device *d, void **out, size_t bytes) {
    SWT_TRY(check_open(d));
    return d->table->host_alloc(d, out, bytes);
}

void swt_device_host_release(swt_device *d, void *memory) {
    if (memory != NULL)
        d->table->host_release(d, memory);
}

swt_status swt_device_copy(swt_device *d, swt_stream *s, swt_copy_kind kind, void *to,
                           const void *from, size_t bytes) {
    SWT_TRY(check_open(d));
    if (bytes == 0)
        return SWT_OK;
    if (to == NULL || from == NULL)
        return SWT_FAIL(SHAPE, "copy: an address is NULL; both must be given");
    return d->table->copy(d, s, kind, to, from, bytes);
}

swt_status swt_device_set(swt_device *d, swt_stream *s, void *memory, int byte, size_t bytes) {
    SWT_TRY(check_open(d));
    if (bytes == 0)
        return SWT_OK;
    if (memory == NULL)
        return SWT_FAIL(SHAPE, "set: the address is NULL; it must be given");
    return d->table->set(d, s, memory, byte, bytes);
}

swt_status swt_stream_create(swt_device *d, swt_stream **out) {
    SWT_TRY(check_open(d));
    return d->table->stream_create(d, out);
}

void swt_stream_destroy(swt_device *d, swt_stream *s) {
    d->table->stream_destroy(d, s);
}

swt_status swt_stream_sync(swt_device *d, swt_stream *s) {
    SWT_TRY(check_open(d));
    return d->table->stream_sync(d, s);
}

swt_status swt_event_create(swt_device *d, swt_event **out) {
    SWT_TRY(check_open(d));
    return d->table->event_create(d, out);
}

void swt_event_destroy(swt_device *d, swt_event *e) {
    d->table->event_destroy(d, e);
}

swt_status swt_event_record(swt_device *d, swt_event *e, swt_stream *s) {
    SWT_TRY(check_open(d));
    return d->table->event_record(d, e, s);
}

swt_status swt_stream_wait(swt_device *d, swt_stream *s, swt_event *e) {
    SWT_TRY(check_open(d));
    return d->table->stream_wait(d, s, e);
}

swt_status swt_event_ms(swt_device *d, swt_event *from, swt_event *to, double *ms) {
    SWT_TRY(check_open(d));
    return d->table->event_ms(d, from, to, ms);
}
