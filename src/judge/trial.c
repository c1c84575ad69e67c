/* A trial's memory and random numbers. */
#include "judge/trial.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

/* A gap holds bytes 0xFE: whatever reads it as a number gets -1.7e38, and as an index a wild one.
 */
enum { ALIGN_BYTES = 64, GAP_BYTE = 0xFE, OUT_BYTE = 0xFF, BEHIND_BYTES = 4096 };
/* In a large trial so many times as much. */
#define MEMORY_BYTES ((size_t)8 << 20)
#define NUMBERS      ((size_t)2 << 20)
enum { LARGE = 12 };

swt_status swt_trial_open(swt_trial *out, const swt_trial_setup *setup) {
    *out = (swt_trial){.threads = setup->device->threads,
                       .host = setup->host,
                       .world = setup->world,
                       .seed = setup->seed,
                       .large = setup->large,
                       .on_miss = setup->on_miss};
    out->memory_bytes = MEMORY_BYTES * (setup->large ? LARGE : 1);
    out->numbers_room = NUMBERS * (setup->large ? LARGE : 1);
    out->ctx = (swt_ctx){
        .ops = setup->ops, .device = setup->device, .stream = setup->stream, .dtype = SWT_F32};
    out->numbers = malloc(out->numbers_room * sizeof *out->numbers);
    if (out->numbers == NULL)
        return SWT_FAIL(MEMORY, "memory: no room for the self-test's numbers");
    void *blocks[3] = {NULL};
    swt_status status = swt_device_host_alloc(setup->device, &blocks[0], out->memory_bytes);
    if (status == SWT_OK)
        status = swt_device_host_alloc(setup->device, &blocks[1], out->memory_bytes);
    if (status == SWT_OK)
        status = swt_device_alloc(setup->device, &blocks[2], out->memory_bytes);
    out->memory = blocks[0];
    out->before = blocks[1];
    out->twin = blocks[2];
    SWT_TRY(status);
    if (setup->ops->workspace_bytes > 0)
        SWT_TRY(swt_device_alloc(setup->device, &out->ctx.workspace,
                                 (size_t)setup->ops->workspace_bytes));
    swt_trial_start(out, 0);
    return SWT_OK;
}

void swt_trial_close_all(swt_trial *t) {
    swt_device *d = t->ctx.device;
    if (t->ctx.workspace != NULL)
        swt_device_release(d, t->ctx.workspace);
    if (t->twin != NULL)
        swt_device_release(d, t->twin);
    if (t->before != NULL)
        swt_device_host_release(d, t->before);
    if (t->memory != NULL)
        swt_device_host_release(d, t->memory);
    free(t->numbers);
    *t = (swt_trial){0};
}

/* ---- tensors */

void *swt_trial_twin(const swt_trial *t, const void *tensor) {
    return tensor != NULL ? t->twin + ((const unsigned char *)tensor - t->memory) : NULL;
}

/* The first aligned place behind a gap after `end`. */
static size_t next_place(size_t end) {
    return (end + (size_t)2 * ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

/* Without room the memory begins again, and the check has failed. */
static void *take(swt_trial *t, int64_t bytes, swt_trial_kind kind) {
    size_t next = next_place(t->used_bytes + (size_t)bytes);
    if (next > t->memory_bytes || t->n_tensors == SWT_TRIAL_TENSORS) {
        swt_trial_miss(t, "the self-test has no room for %lld more bytes", (long long)bytes);
        t->n_tensors = 0;
        t->used_bytes = 0;
        next = next_place((size_t)bytes);
    }
    unsigned char *tensor = t->memory + t->used_bytes;
    t->tensors[t->n_tensors++] =
        (swt_trial_tensor){.first_byte = t->used_bytes, .bytes = (size_t)bytes, .kind = kind};
    memset(tensor, kind == SWT_TRIAL_IN ? 0 : OUT_BYTE, (size_t)bytes);
    memset(tensor + bytes, GAP_BYTE, next - t->used_bytes - (size_t)bytes);
    t->used_bytes = next;
    return tensor;
}

void swt_trial_start(swt_trial *t, int check) {
    t->found = (swt_finding){0};
    t->check = (uint32_t)check;
    t->drawn = 0;
}

void swt_trial_begin(swt_trial *t, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(t->label, sizeof t->label, fmt, args);
    va_end(args);
    t->found.cases++;
    memset(t->memory, GAP_BYTE, ALIGN_BYTES);
    t->used_bytes = ALIGN_BYTES;
    t->numbers_used = 0;
    t->n_tensors = 0;
    t->state = take(t, sizeof *t->state, SWT_TRIAL_IN);
    *t->state = (swt_step_state){.seed = t->seed, .step = 7, .targets = 1, .clip = 1};
    t->ctx.state = swt_trial_twin(t, t->state);
}

static int64_t bytes_of(int64_t count, swt_dtype dtype) {
    return count * (int64_t)swt_dtype_bytes(dtype);
}

void *swt_trial_in(swt_trial *t, int64_t count, swt_dtype dtype) {
    return take(t, bytes_of(count, dtype), SWT_TRIAL_IN);
}

void *swt_trial_out(swt_trial *t, int64_t count, swt_dtype dtype) {
    return take(t, bytes_of(count, dtype), SWT_TRIAL_OUT);
}

void *swt_trial_scratch(swt_trial *t, int64_t bytes) {
    return take(t, bytes, SWT_TRIAL_SCRATCH);
}

void *swt_trial_copy(swt_trial *t, const void *from, int64_t count, swt_dtype dtype) {
    void *to = swt_trial_out(t, count, dtype);
    memcpy(to, from, (size_t)bytes_of(count, dtype));
    return to;
}

double *swt_trial_doubles(swt_trial *t, int64_t count) {
    if (t->numbers_used + (size_t)count > t->numbers_room) {
        swt_trial_miss(t, "the self-test has no room for %lld more numbers", (long long)count);
        t->numbers_used = 0;
    }
    double *numbers = t->numbers + t->numbers_used;
    t->numbers_used += (size_t)count;
    memset(numbers, 0, (size_t)count * sizeof *numbers);
    return numbers;
}

double *swt_trial_widen(swt_trial *t, const float *from, int64_t count) {
    if (from == NULL)
        return NULL;
    double *to = swt_trial_doubles(t, count);
    for (int64_t i = 0; i < count; i++)
        to[i] = (double)from[i];
    return to;
}

void swt_trial_release_state(swt_trial *t) {
    t->tensors[0].kind = SWT_TRIAL_OUT;
}

/* ---- random numbers */

double swt_trial_draw(swt_trial *t) {
    const swt_rng_u32x4 r = swt_rng(t->seed, t->drawn++, t->check, 0, SWT_RNG_SAMPLE, 0);
    return (double)r.v[0] * 0x1p-32;
}

int swt_trial_choose(swt_trial *t, int low, int high) {
    return low + (int)(swt_trial_draw(t) * (high - low + 1));
}

int64_t swt_trial_size(swt_trial *t, int64_t most) {
    static const int64_t sizes[] = {1, 2, 5, 7, 16, 17, 31, 32, 33, 40, 63, 64, 65, 100, 128, 130};
    int n = sizeof sizes / sizeof sizes[0];
    while (n > 1 && sizes[n - 1] > most)
        n--;
    return sizes[swt_trial_choose(t, 0, n - 1)];
}

float *swt_trial_uniform(swt_trial *t, int64_t count, double low, double high) {
    float *x = swt_trial_in(t, count, SWT_F32);
    for (int64_t i = 0; i < count; i++)
        x[i] = (float)(low + (high - low) * swt_trial_draw(t));
    return x;
}

float *swt_trial_whole(swt_trial *t, int64_t count, int low, int high) {
    float *x = swt_trial_in(t, count, SWT_F32);
    for (int64_t i = 0; i < count; i++)
        x[i] = (float)swt_trial_choose(t, low, high);
    return x;
}

int32_t *swt_trial_integers(swt_trial *t, int64_t count, int low, int high) {
    int32_t *x = swt_trial_in(t, count, SWT_I32);
    for (int64_t i = 0; i < count; i++)
        x[i] = (int32_t)swt_trial_choose(t, low, high);
    return x;
}

/* ---- around a call */

#ifdef __SANITIZE_ADDRESS__
/* Some memory behind the last tensor belongs to the gap there. */
static size_t guarded_bytes(const swt_trial *t) {
    const size_t end = t->used_bytes + BEHIND_BYTES;
    return end < t->memory_bytes ? end : t->memory_bytes;
}

static swt_status guard(swt_trial *t) {
    const swt_ctx *c = &t->ctx;
    size_t end = 0;
    SWT_TRY(swt_stream_sync(c->device, c->stream)); /* the copy writes the gaps */
    for (int i = 0; i < t->n_tensors; i++) {
        __asan_poison_memory_region(t->twin + end, t->tensors[i].first_byte - end);
        end = t->tensors[i].first_byte + t->tensors[i].bytes;
    }
    __asan_poison_memory_region(t->twin + end, guarded_bytes(t) - end);
    return SWT_OK;
}

static swt_status unguard(swt_trial *t) {
    const swt_status status = swt_stream_sync(t->ctx.device, t->ctx.stream);
    __asan_unpoison_memory_region(t->twin, guarded_bytes(t));
    return status;
}
#else
static swt_status guard(const swt_trial *t) {
    (void)t;
    return SWT_OK;
}

static swt_status unguard(const swt_trial *t) {
    (void)t;
    return SWT_OK;
}
#endif

swt_status swt_trial_upload(swt_trial *t) {
    const swt_ctx *c = &t->ctx;
    memcpy(t->before, t->memory, t->used_bytes);
    SWT_TRY(
        swt_device_copy(c->device, c->stream, SWT_TO_DEVICE, t->twin, t->before, t->used_bytes));
    return guard(t);
}

static void expect_unchanged(swt_trial *t, size_t from, size_t to, const char *what, int tensor,
                             const char *name) {
    if (memcmp(t->memory + from, t->before + from, to - from) == 0)
        return;
    while (t->memory[from] == t->before[from])
        from++;
    const size_t start = tensor < t->n_tensors ? t->tensors[tensor].first_byte : t->used_bytes;
    swt_trial_miss(t, "%s wrote %s tensor %d (0 is the step state) at byte %lld of it", name, what,
                   tensor, (long long)from - (long long)start);
}

swt_status swt_trial_download(swt_trial *t, const char *name) {
    const swt_ctx *c = &t->ctx;
    size_t end = 0;
    SWT_TRY(unguard(t));
    SWT_TRY(swt_device_copy(c->device, c->stream, SWT_TO_HOST, t->memory, t->twin, t->used_bytes));
    SWT_TRY(swt_comm_wait(t->world, c->stream)); /* where a lost peer is an error */
    SWT_TRY(swt_stream_sync(c->device, c->stream));
    for (int i = 0; i < t->n_tensors; i++) {
        const swt_trial_tensor *tensor = &t->tensors[i];
        expect_unchanged(t, end, tensor->first_byte, "before", i, name);
        end = tensor->first_byte + tensor->bytes;
        if (tensor->kind == SWT_TRIAL_IN)
            expect_unchanged(t, tensor->first_byte, end, "into input", i, name);
    }
    expect_unchanged(t, end, t->used_bytes, "behind", t->n_tensors, name);
    return SWT_OK;
}

/* Every address in the trial's memory becomes that of its twin: all operations' arguments are
 * structures of pointers and numbers, and no number looks like such an address. */
static swt_any_args on_device(const swt_trial *t, int op, const swt_any_args *host) {
    swt_any_args device = *host;
    for (size_t i = 0; i + sizeof(void *) <= swt_op_table[op].args_bytes; i += sizeof(void *)) {
        uintptr_t address = 0;
        memcpy(&address, (const unsigned char *)host + i, sizeof address);
        if (address < (uintptr_t)t->memory || address >= (uintptr_t)t->memory + t->memory_bytes)
            continue;
        const void *twin = t->twin + (address - (uintptr_t)t->memory);
        memcpy((unsigned char *)&device + i, &twin, sizeof twin);
    }
    return device;
}

swt_status swt_trial_call(swt_trial *t, int op, const swt_any_args *args) {
    const swt_any_args device = on_device(t, op, args);
    SWT_TRY(swt_trial_upload(t));
    const swt_status status = swt_op_table[op].run(&t->ctx, &device);
    SWT_TRY(swt_trial_download(t, swt_op_table[op].name));
    return status;
}
