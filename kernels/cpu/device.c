#include "kernels/cpu/cpu.h"

#include "base/clock.h"
#include "base/room.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Large blocks ask for pages of 2 MiB: a head's rows are 3 C floats apart, so that with small pages
 * nearly each needs another entry of the address tables. 137 ms a step became 125. */
enum { ALIGN_BYTES = 64, HUGE_PAGE_BYTES = 2 << 20 };

static swt_status cpu_room(swt_device *d, size_t *free_bytes, size_t *total_bytes) {
    (void)d;
    if (!swt_room("", free_bytes, total_bytes))
        return SWT_FAIL(INTERNAL,
                        "cpu: the system does not say how much memory it has; mount /proc");
    return SWT_OK;
}

static swt_status cpu_alloc(swt_device *d, void **out, size_t bytes) {
    (void)d;
    const size_t align = bytes < HUGE_PAGE_BYTES ? ALIGN_BYTES : HUGE_PAGE_BYTES;
    const size_t whole = (bytes / align + 1) * align; /* never 0 */
    *out = whole > bytes ? aligned_alloc(align, whole) : NULL;
    if (*out == NULL)
        return SWT_FAIL(
            MEMORY, "memory: cannot allocate %zu bytes; use smaller batches or more ranks", bytes);
    if (align == HUGE_PAGE_BYTES)
        (void)madvise(*out, whole, MADV_HUGEPAGE); /* a wish: without it, it is only slower */
    return SWT_OK;
}

static void cpu_release(swt_device *d, void *memory) {
    (void)d;
    free(memory);
}

static swt_status cpu_copy(swt_device *d, swt_stream *s, swt_copy_kind kind, void *to,
                           const void *from, size_t bytes) {
    (void)d, (void)s, (void)kind;
    if (bytes > 0)
        memcpy(to, from, bytes);
    return SWT_OK;
}

static swt_status cpu_set(swt_device *d, swt_stream *s, void *memory, int byte, size_t bytes) {
    (void)d, (void)s;
    if (bytes > 0)
        memset(memory, byte, bytes);
    return SWT_OK;
}

/* Work runs at once: the only stream is NULL, and an event is the time when it was recorded. */
struct swt_event {
    double recorded_ms;
};

static swt_status cpu_stream_create(swt_device *d, swt_stream **out) {
    (void)d;
    *out = NULL;
    return SWT_OK;
}

static void cpu_stream_destroy(swt_device *d, swt_stream *s) {
    (void)d, (void)s;
}

static swt_status cpu_stream_sync(swt_device *d, swt_stream *s) {
    (void)d, (void)s;
    return SWT_OK;
}

static swt_status cpu_event_create(swt_device *d, swt_event **out) {
    (void)d;
    *out = calloc(1, sizeof **out);
    return *out != NULL ? SWT_OK : SWT_FAIL(MEMORY, "memory: no room for an event; free some");
}

static void cpu_event_destroy(swt_device *d, swt_event *e) {
    (void)d;
    free(e);
}

static swt_status cpu_event_record(swt_device *d, swt_event *e, swt_stream *s) {
    (void)d, (void)s;
    e->recorded_ms = swt_now_ms();
    return SWT_OK;
}

static swt_status cpu_event_ms(swt_device *d, swt_event *from, swt_event *to, double *ms) {
    (void)d;
    *ms = to->recorded_ms - from->recorded_ms;
    return SWT_OK;
}

static swt_status cpu_stream_wait(swt_device *d, swt_stream *s, swt_event *e) {
    (void)d, (void)s, (void)e;
    return SWT_OK;
}

static void cpu_close(swt_device *d) {
    swt_cpu_own *own = d->own;
    free(own->scratch);
    free(own);
}

static const swt_device_table cpu_table = {
    .name = "cpu",
    .room = cpu_room,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .host_alloc = cpu_alloc,
    .host_release = cpu_release,
    .copy = cpu_copy,
    .set = cpu_set,
    .stream_create = cpu_stream_create,
    .stream_destroy = cpu_stream_destroy,
    .stream_sync = cpu_stream_sync,
    .event_create = cpu_event_create,
    .event_destroy = cpu_event_destroy,
    .event_record = cpu_event_record,
    .stream_wait = cpu_stream_wait,
    .event_ms = cpu_event_ms,
    .close = cpu_close,
};

/* The widest vector code that this processor runs, or the one that SWT_ISA names; NULL if it
 * cannot. */
static const swt_vec *choose_vec(const char *isa) {
    const swt_vec *tables[3] = {NULL}; /* widest first */
    int n = 0;
#ifdef SWT_X86
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        tables[n++] = &swt_vec_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        tables[n++] = &swt_vec_avx2;
#endif
    tables[n++] = &swt_vec_plain;
    for (int i = 0; i < n; i++)
        if (isa == NULL || strcmp(isa, tables[i]->name) == 0)
            return tables[i];
    return NULL;
}

swt_status swt_cpu_open(swt_device *out, int ordinal, int threads) {
    (void)ordinal;
    const char *isa = getenv("SWT_ISA");
    const swt_vec *vec = choose_vec(isa);
    if (threads < 1)
        return SWT_FAIL(USAGE, "cpu: %d threads; at least 1 is needed", threads);
    if (vec == NULL)
        return SWT_FAIL(USAGE,
                        "SWT_ISA: '%s' is not vector code that this processor runs; "
                        "use plain, avx2 or avx512, or unset it",
                        isa);
    swt_cpu_own *own = calloc(1, sizeof *own);
    if (own != NULL)
        own->scratch = aligned_alloc(ALIGN_BYTES, (size_t)threads * SWT_SCRATCH_BYTES);
    if (own == NULL || own->scratch == NULL) {
        free(own);
        return SWT_FAIL(MEMORY, "cpu: no memory for %d threads; use fewer", threads);
    }
    own->vec = vec;
    *out = (swt_device){.table = &cpu_table, .threads = threads, .own = own};
    snprintf(out->arithmetic, sizeof out->arithmetic, "cpu-%s", vec->name);
    return SWT_OK;
}
