/* Every operation by the judge's cases, on the backend that SWT_TEST_DEVICE names: the right
 * numbers at sizes of several parts and blocks, the same bits for any number of threads (on an
 * emulated GPU: in any order), and what an operation refuses before it touches anything. */
#include "judge/cases.h"
#include "support/bed.h"

#include <string.h>

/* On the emulated GPU sanitizers take minutes for large sizes, and what they find is there at small
 * ones, too. */
static bool sizes_are_large(void) {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    return swt_bed_backend() != &swt_cuda_backend;
#else
    return true;
#endif
}

/* A trial with a backend of its own. */
typedef struct place {
    swt_device device;
    swt_stream *stream;
    swt_comm world;
    swt_trial trial;
} place;

static void open_place(place *p, int threads, bool large) {
    const swt_backend *backend = swt_bed_backend();
    int count = 0;
    swt_comm_open_self(&p->world);
    swt_bed_expect(backend->count(&count), "no usable GPU");
    swt_bed_expect(backend->open(&p->device, 0, threads), "open");
    swt_bed_expect(swt_stream_create(&p->device, &p->stream), "stream");
    const swt_trial_setup setup = {.ops = backend->ops,
                                   .device = &p->device,
                                   .stream = p->stream,
                                   .host = &p->world,
                                   .world = &p->world,
                                   .seed = 42,
                                   .large = large};
    swt_bed_expect(swt_trial_open(&p->trial, &setup), "trial");
}

static void close_place(place *p) {
    swt_trial_close_all(&p->trial);
    swt_stream_destroy(&p->device, p->stream);
    swt_device_close(&p->device);
}

static const char *name_of(const swt_case_row *row) {
    return swt_op_table[row->op].name;
}

static void expect_right(const place *p, const char *name) {
    if (p->trial.found.failed)
        fail_msg("%s: %s", name, p->trial.found.message);
}

static void test_large(void **state) {
    (void)state;
    place p;
    open_place(&p, 2, sizes_are_large());
    for (const swt_case_row *row = swt_case_table; row < swt_case_table + SWT_OP_COUNT; row++) {
        swt_trial_start(&p.trial, 0);
        swt_bed_expect(swt_case_run_all(&p.trial, row), name_of(row));
        expect_right(&p, name_of(row));
        assert_true(p.trial.found.cases >= row->cases);
    }
    close_place(&p);
}

/* ---- bits */

/* The tensors of a case after its call, scratch aside. */
static void run_one(place *p, const swt_case_row *row, int number) {
    swt_case k;
    swt_trial_start(&p->trial, number);
    swt_bed_expect(swt_case_make(&p->trial, row, number, &k), name_of(row));
    swt_bed_expect(swt_case_call(&k, &k.host), name_of(row));
    expect_right(p, name_of(row));
}

static void expect_same(const place *a, const place *b, const char *name) {
    assert_int_equal(a->trial.n_tensors, b->trial.n_tensors);
    for (int i = 0; i < a->trial.n_tensors; i++) {
        const swt_trial_tensor *t = &a->trial.tensors[i];
        if (t->kind != SWT_TRIAL_SCRATCH &&
            memcmp(a->trial.memory + t->at, b->trial.memory + t->at, t->bytes) != 0)
            fail_msg("%s, %s: tensor %d has other bits with %d threads than with %d", name,
                     a->trial.label, i, b->trial.threads, a->trial.threads);
    }
}

static void test_same_bits(void **state) {
    (void)state;
    place p[3];
    for (int i = 0; i < 3; i++)
        open_place(&p[i], i + 1, sizes_are_large());
    for (const swt_case_row *row = swt_case_table; row < swt_case_table + SWT_OP_COUNT; row++)
        for (int number = 0; number < row->cases; number++) {
            for (int i = 0; i < 3; i++)
                run_one(&p[i], row, number);
            expect_same(&p[0], &p[1], name_of(row));
            expect_same(&p[0], &p[2], name_of(row));
        }
    for (int i = 0; i < 3; i++)
        close_place(&p[i]);
}

/* ---- refusals */

/* The call must refuse these arguments with SHAPE and change nothing at all. */
static void expect_refused(swt_case *k, const swt_any_args *args, const char *what) {
    const size_t bytes = k->t->used_bytes;
    if (swt_case_call(k, args) != SWT_SHAPE)
        fail_msg("%s, %s: %s was not refused", k->op->name, k->t->label, what);
    if (memcmp(k->t->memory, k->t->before, bytes) != 0)
        fail_msg("%s, %s: %s changed memory", k->op->name, k->t->label, what);
}

/* Missing, misaligned, and in the memory of an output. */
static void refuse_pointers(swt_case *k) {
    for (int i = 0; i < k->list.n; i++) {
        const swt_arg *arg = &k->list.args[i];
        unsigned char *tensor = swt_arg_tensor(arg);
        if (arg->count == 0 || tensor == NULL)
            continue;
        swt_any_args args = k->host;
        swt_case_set(k, &args, arg, NULL);
        if (!(arg->role & SWT_ARG_OPTIONAL))
            expect_refused(k, &args, arg->name);
        swt_case_set(k, &args, arg, tensor + 1);
        expect_refused(k, &args, arg->name);
        for (int j = 0; j < i; j++) {
            const swt_arg *other = &k->list.args[j];
            const bool output = (arg->role | other->role) & SWT_ARG_OUT;
            if (!output || other->count == 0 || swt_arg_tensor(other) == NULL ||
                (j == 0 && (arg->role & SWT_ARG_IN_PLACE)))
                continue;
            swt_case_set(k, &args, arg, swt_arg_tensor(other));
            expect_refused(k, &args, arg->name);
        }
    }
}

/* Negative, and 2^62 elements of any type: more bytes than a size can count. */
static void refuse_dims(swt_case *k) {
    static const int64_t wrong[] = {-1, INT64_MIN, (int64_t)1 << 62, INT64_MAX};
    for (int i = 0; i < k->n_dims; i++) {
        swt_any_args args = k->host;
        int64_t *dim = (int64_t *)(void *)((unsigned char *)&args + ((unsigned char *)k->dims[i] -
                                                                     (unsigned char *)&k->host));
        for (size_t w = 0; w < sizeof wrong / sizeof wrong[0]; w++) {
            *dim = wrong[w];
            expect_refused(k, &args, "a dimension");
        }
    }
}

/* No context, and no step state where it is read or written. */
static void refuse_contexts(swt_case *k) {
    assert_int_equal(k->op->run(NULL, &k->host), SWT_SHAPE);
    const swt_ctx whole = k->t->ctx;
    k->t->ctx.state = NULL;
    if (k->list.state)
        expect_refused(k, &k->host, "no state");
    k->t->ctx = whole;
}

static void test_refusals(void **state) {
    (void)state;
    place p;
    open_place(&p, 1, false);
    for (const swt_case_row *row = swt_case_table; row < swt_case_table + SWT_OP_COUNT; row++)
        for (int number = 0; number < row->cases; number++) {
            swt_case k;
            swt_trial_start(&p.trial, number);
            swt_bed_expect(swt_case_make(&p.trial, row, number, &k), name_of(row));
            refuse_pointers(&k);
            refuse_dims(&k);
            refuse_contexts(&k);
            expect_right(&p, name_of(row));
        }
    close_place(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
