#include "support/bed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes)   ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

/* A gap holds bytes 0xFE: whatever reads it as a number gets -1.7e38, and as an index a wild one.
 */
enum { ALIGN_BYTES = 64, GAP_BYTE = 0xFE, OUT_BYTE = 0xFF, SEED = 42, BEHIND_BYTES = 4096 };
#define MEMORY_BYTES ((size_t)96 << 20)

const swt_backend *swt_bed_backend(void) {
    const char *name = getenv("SWT_TEST_DEVICE");
    if (name == NULL || strcmp(name, "cpu") == 0)
        return &swt_cpu_backend;
    if (strcmp(name, "cuda") != 0)
        fail_msg("SWT_TEST_DEVICE: '%s' is no backend; use cpu or cuda", name);
    return &swt_cuda_backend;
}

bool swt_bed_on_gpu(const swt_bed *bed) {
    return bed->backend == &swt_cuda_backend;
}

/* Fails the test unless ok. "no usable GPU" is what CTest knows a skipped test by. */
void swt_bed_expect(swt_status status, const char *what) {
    if (status != SWT_OK)
        fail_msg("%s: %s", what, swt_last_error()->message);
}

void swt_bed_open(swt_bed *bed, int threads) {
    memset(bed, 0, sizeof *bed);
    bed->backend = swt_bed_backend();
    int count = 0;
    swt_bed_expect(bed->backend->count(&count), "no usable GPU");
    swt_bed_expect(bed->backend->open(&bed->device, 0, threads), "open");
    void *memory = NULL;
    if (swt_bed_on_gpu(bed))
        memory = swt_bed_managed_alloc(MEMORY_BYTES);
    else
        swt_bed_expect(swt_device_alloc(&bed->device, &memory, MEMORY_BYTES), "alloc");
    assert_non_null(memory);
    bed->memory = memory;
    bed->frozen = malloc(MEMORY_BYTES);
    assert_non_null(bed->frozen);
    bed->ctx = (swt_ctx){.ops = bed->backend->ops, .device = &bed->device, .dtype = SWT_F32};
    swt_bed_expect(swt_stream_create(&bed->device, &bed->ctx.stream), "stream");
    if (bed->ctx.ops->workspace_bytes > 0)
        swt_bed_expect(swt_device_alloc(&bed->device, &bed->ctx.workspace,
                                        (size_t)bed->ctx.ops->workspace_bytes),
                       "workspace");
    swt_bed_begin(bed, "no case");
}

void swt_bed_close(swt_bed *bed) {
    swt_device_release(&bed->device, bed->ctx.workspace);
    swt_stream_destroy(&bed->device, bed->ctx.stream);
    if (swt_bed_on_gpu(bed))
        swt_bed_managed_release(bed->memory);
    else
        swt_device_release(&bed->device, bed->memory);
    swt_device_close(&bed->device);
    free(bed->frozen);
}

static void *take(swt_bed *bed, int64_t bytes, swt_bed_kind kind) {
    const size_t end = bed->used_bytes + (size_t)bytes;
    const size_t next = (end + 2 * ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    if (bytes < 0 || next > MEMORY_BYTES || bed->n_tensors == SWT_BED_TENSORS)
        fail_msg("%s: the bed is too small for %lld more bytes", bed->label, (long long)bytes);
    unsigned char *tensor = bed->memory + bed->used_bytes;
    bed->tensors[bed->n_tensors++] =
        (swt_bed_tensor){.at = bed->used_bytes, .bytes = (size_t)bytes, .kind = kind};
    const bool zeros = kind == SWT_BED_IN || kind == SWT_BED_HOST;
    memset(tensor, zeros ? 0 : OUT_BYTE, (size_t)bytes);
    memset(tensor + bytes, GAP_BYTE, next - end);
    bed->used_bytes = next;
    return tensor;
}

void swt_bed_begin(swt_bed *bed, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(bed->label, sizeof bed->label, fmt, args);
    va_end(args);
    memset(bed->memory, GAP_BYTE, ALIGN_BYTES);
    bed->used_bytes = ALIGN_BYTES;
    bed->n_tensors = 0;
    bed->drawn = 0;
    bed->ctx.state = take(bed, sizeof *bed->ctx.state, SWT_BED_IN);
    *bed->ctx.state = (swt_step_state){.seed = SEED, .step = 7, .targets = 1, .clip = 1};
}

static int64_t bytes_of(int64_t count, swt_dtype dtype) {
    return count * (int64_t)swt_dtype_bytes(dtype);
}

void *swt_bed_in(swt_bed *bed, int64_t count, swt_dtype dtype) {
    return take(bed, bytes_of(count, dtype), SWT_BED_IN);
}

void *swt_bed_out(swt_bed *bed, int64_t count, swt_dtype dtype) {
    return take(bed, bytes_of(count, dtype), SWT_BED_OUT);
}

void *swt_bed_scratch(swt_bed *bed, int64_t bytes) {
    return take(bed, bytes, SWT_BED_SCRATCH);
}

void *swt_bed_copy(swt_bed *bed, const void *from, int64_t count, swt_dtype dtype) {
    void *to = swt_bed_out(bed, count, dtype);
    memcpy(to, from, (size_t)bytes_of(count, dtype));
    return to;
}

double *swt_bed_doubles(swt_bed *bed, int64_t count) {
    return take(bed, bytes_of(count, SWT_F64), SWT_BED_HOST);
}

double *swt_bed_widen(swt_bed *bed, const float *from, int64_t count) {
    double *to = swt_bed_doubles(bed, count);
    for (int64_t i = 0; i < count; i++)
        to[i] = (double)from[i];
    return to;
}

double swt_bed_draw(swt_bed *bed) {
    return (double)swt_rng(SEED, bed->drawn++, bed->stream, 0, SWT_RNG_SAMPLE, 0).v[0] * 0x1p-32;
}

int swt_bed_choose(swt_bed *bed, int low, int high) {
    return low + (int)(swt_bed_draw(bed) * (high - low + 1));
}

float *swt_bed_uniform(swt_bed *bed, int64_t count, double low, double high) {
    float *x = swt_bed_in(bed, count, SWT_F32);
    for (int64_t i = 0; i < count; i++)
        x[i] = (float)(low + (high - low) * swt_bed_draw(bed));
    return x;
}

float *swt_bed_whole(swt_bed *bed, int64_t count, int low, int high) {
    float *x = swt_bed_in(bed, count, SWT_F32);
    for (int64_t i = 0; i < count; i++)
        x[i] = (float)swt_bed_choose(bed, low, high);
    return x;
}

int32_t *swt_bed_integers(swt_bed *bed, int64_t count, int low, int high) {
    int32_t *x = swt_bed_in(bed, count, SWT_I32);
    for (int64_t i = 0; i < count; i++)
        x[i] = (int32_t)swt_bed_choose(bed, low, high);
    return x;
}

void swt_bed_keep(swt_bed *bed) {
    for (int i = 1; i < bed->n_tensors; i++)
        if (bed->tensors[i].kind == SWT_BED_OUT)
            bed->tensors[i].kind = SWT_BED_IN;
}

swt_bed_mark swt_bed_set_mark(const swt_bed *bed) {
    return (swt_bed_mark){.used_bytes = bed->used_bytes, .n_tensors = bed->n_tensors};
}

void swt_bed_back_to(swt_bed *bed, swt_bed_mark mark) {
    bed->used_bytes = mark.used_bytes;
    bed->n_tensors = mark.n_tensors;
}

void swt_bed_release_state(swt_bed *bed) {
    bed->tensors[0].kind = SWT_BED_OUT;
}

/* Some memory behind the last tensor belongs to the gap there. */
static size_t guarded_bytes(const swt_bed *bed) {
    const size_t end = bed->used_bytes + BEHIND_BYTES;
    return end < MEMORY_BYTES ? end : MEMORY_BYTES;
}

void swt_bed_freeze(swt_bed *bed) {
    memcpy(bed->frozen, bed->memory, bed->used_bytes);
    size_t at = 0;
    for (int i = 0; i < bed->n_tensors; i++) {
        const swt_bed_tensor *t = &bed->tensors[i];
        ASAN_POISON_MEMORY_REGION(bed->memory + at, t->at - at);
        at = t->at + t->bytes;
    }
    ASAN_POISON_MEMORY_REGION(bed->memory + at, guarded_bytes(bed) - at);
}

/* The call's work is done, and the gaps are memory again. */
static void finish(swt_bed *bed, const char *call) {
    const swt_status status = swt_stream_sync(&bed->device, bed->ctx.stream);
    ASAN_UNPOISON_MEMORY_REGION(bed->memory, guarded_bytes(bed));
    swt_bed_expect(status, call);
}

static void expect_unchanged(const swt_bed *bed, size_t from, size_t to, const char *what,
                             int tensor, const char *call) {
    if (memcmp(bed->memory + from, bed->frozen + from, to - from) == 0)
        return;
    while (bed->memory[from] == bed->frozen[from])
        from++;
    const size_t start = tensor < bed->n_tensors ? bed->tensors[tensor].at : bed->used_bytes;
    fail_msg("%s: %s wrote %s tensor %d (0 is the step state) at byte %lld of it", bed->label, call,
             what, tensor, (long long)from - (long long)start);
}

void swt_bed_settle(swt_bed *bed, swt_status status, swt_status expected, const char *call) {
    const swt_error error = *swt_last_error(); /* of the call; waiting may have another */
    finish(bed, call);
    if (status != expected)
        fail_msg("%s: %s gave %s instead of %s (%s)", bed->label, call, swt_status_name(status),
                 swt_status_name(expected), status == SWT_OK ? "-" : error.message);
    size_t at = 0;
    for (int i = 0; i < bed->n_tensors; i++) {
        const swt_bed_tensor *t = &bed->tensors[i];
        expect_unchanged(bed, at, t->at, "before", i, call);
        if (t->kind == SWT_BED_IN || expected != SWT_OK)
            expect_unchanged(bed, t->at, t->at + t->bytes, "input", i, call);
        at = t->at + t->bytes;
    }
    expect_unchanged(bed, at, bed->used_bytes, "behind", bed->n_tensors, call);
}

static void expect_same_tensors(const swt_bed *a, const swt_bed *b) {
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (int i = 0; i < a->n_tensors; i++) {
        const swt_bed_tensor *t = &a->tensors[i];
        assert_int_equal(t->bytes, b->tensors[i].bytes);
        if (t->kind != SWT_BED_SCRATCH &&
            memcmp(a->memory + t->at, b->memory + t->at, t->bytes) != 0)
            fail_msg("%s: tensor %d has other bits with %d threads than with %d (%s)", a->label, i,
                     b->device.threads, a->device.threads, a->backend->name);
    }
}

void swt_bed_same_bits(void (*run)(swt_bed *bed, const void *what), const void *what) {
    swt_bed one;
    swt_bed_open(&one, 1);
    run(&one, what);
    for (int threads = 2; threads <= 3; threads++) {
        swt_bed more;
        swt_bed_open(&more, threads);
        run(&more, what);
        expect_same_tensors(&one, &more);
        swt_bed_close(&more);
    }
    swt_bed_close(&one);
}
