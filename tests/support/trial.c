#include "support/trial.h"

#include "judge/case.h"

#include <stdlib.h>
#include <string.h>

/* The trial comes first, so that it leads to its place. */
typedef struct place {
    swt_trial trial;
    swt_device device;
    swt_stream *stream;
    swt_comm world;
} place;

const swt_backend *swt_test_backend(void) {
    const char *name = getenv("SWT_TEST_DEVICE");
    if (name == NULL || strcmp(name, "cpu") == 0)
        return &swt_cpu_backend;
    if (strcmp(name, "cuda") != 0)
        fail_msg("SWT_TEST_DEVICE: '%s' is no backend; use cpu or cuda", name);
    return &swt_cuda_backend;
}

bool swt_test_on_gpu(void) {
    return swt_test_backend() == &swt_cuda_backend;
}

bool swt_test_is_slow(void) {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    return swt_test_on_gpu();
#else
    return false;
#endif
}

int swt_test_share(int repetitions) {
    return repetitions / (swt_test_is_slow() ? 100 : swt_test_on_gpu() ? 10 : 1);
}

void swt_test_expect(swt_status status, const char *what) {
    if (status != SWT_OK)
        fail_msg("%s: %s", what, swt_last_error()->message);
}

static void fail_at_once(const char *message) {
    fail_msg("%s", message);
}

/* "no usable GPU" is what CTest knows a skipped test by. */
swt_trial *swt_test_open(int threads, bool large) {
    const swt_backend *backend = swt_test_backend();
    place *p = calloc(1, sizeof *p);
    int count = 0;
    assert_non_null(p);
    swt_comm_open_self(&p->world);
    swt_test_expect(backend->count(&count), "no usable GPU");
    swt_test_expect(backend->open(&p->device, 0, threads), "open");
    swt_test_expect(swt_stream_create(&p->device, &p->stream), "stream");
    const swt_trial_setup setup = {.ops = backend->ops,
                                   .device = &p->device,
                                   .stream = p->stream,
                                   .host = &p->world,
                                   .world = &p->world,
                                   .seed = 42,
                                   .large = large,
                                   .on_miss = fail_at_once};
    swt_test_expect(swt_trial_open(&p->trial, &setup), "trial");
    return &p->trial;
}

void swt_test_close(swt_trial *t) {
    place *p = (place *)t;
    swt_trial_close_all(t);
    swt_stream_destroy(&p->device, p->stream);
    swt_device_close(&p->device);
    free(p);
}

int swt_test_setup(void **state) {
    *state = swt_test_open(2, true);
    return 0;
}

/* After a set-up that failed, too. */
int swt_test_teardown(void **state) {
    if (*state != NULL)
        swt_test_close(*state);
    return 0;
}

swt_trial *swt_test_trial(void **state) {
    swt_trial *t = *state;
    swt_trial_start(t, 0);
    return t;
}

void swt_test_call(swt_trial *t, int op, const swt_any_args *args, swt_status expected) {
    const char *name = swt_op_table[op].name;
    const swt_status status = swt_trial_call(t, op, args);
    if (status != expected)
        fail_msg("%s: %s gave %s instead of %s (%s)", t->label, name, swt_status_name(status),
                 swt_status_name(expected), status == SWT_OK ? "-" : swt_last_error()->message);
    if (expected != SWT_OK && memcmp(t->memory, t->before, t->used_bytes) != 0)
        fail_msg("%s: %s refused, and changed memory", t->label, name);
}

swt_any_args swt_test_fill(swt_trial *t, int op, swt_any_args args) {
    swt_test_expect(swt_case_fill(t, op, &args), swt_op_table[op].name);
    return args;
}

swt_any_args swt_test_make(swt_trial *t, int op, swt_any_args args) {
    const swt_any_args filled = swt_test_fill(t, op, args);
    swt_test_call(t, op, &filled, SWT_OK);
    return filled;
}

void *swt_test_zeros(swt_trial *t, int64_t count, swt_dtype dtype) {
    return memset(swt_trial_out(t, count, dtype), 0, (size_t)count * swt_dtype_bytes(dtype));
}

swt_test_mark swt_test_set_mark(const swt_trial *t) {
    return (swt_test_mark){.used_bytes = t->used_bytes, .n_tensors = t->n_tensors};
}

void swt_test_back_to(swt_trial *t, swt_test_mark mark) {
    t->used_bytes = mark.used_bytes;
    t->n_tensors = mark.n_tensors;
}

void swt_test_keep(swt_trial *t) {
    for (int i = 1; i < t->n_tensors; i++)
        if (t->tensors[i].kind == SWT_TRIAL_OUT)
            t->tensors[i].kind = SWT_TRIAL_IN;
}

void swt_test_expect_same(const swt_trial *a, const swt_trial *b) {
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (int i = 0; i < a->n_tensors; i++) {
        const swt_trial_tensor *tensor = &a->tensors[i];
        assert_int_equal(tensor->bytes, b->tensors[i].bytes);
        if (tensor->kind != SWT_TRIAL_SCRATCH &&
            memcmp(a->memory + tensor->first_byte, b->memory + tensor->first_byte, tensor->bytes) !=
                0)
            fail_msg("%s: tensor %d (0 is the step state) has other bits with %d threads than with "
                     "%d",
                     a->label, i, b->threads, a->threads);
    }
}
