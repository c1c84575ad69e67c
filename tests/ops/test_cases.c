/* Every operation by the judge's cases, on the backend that SWT_TEST_DEVICE names: the right
 * numbers at sizes of several parts and blocks, the same bits for any number of threads (on an
 * emulated GPU: in any order), and what an operation refuses before it touches anything. */
#include "judge/case.h"
#include "support/trial.h"

#include <string.h>

static void test_large(void **state) {
    (void)state;
    swt_trial *t = swt_test_open(2, !swt_test_is_slow());
    for (int op = 0; op < SWT_OP_COUNT; op++) {
        swt_trial_start(t, 0);
        swt_test_expect(swt_case_run_all(t, op), swt_op_table[op].name);
        assert_true(t->found.cases >= SWT_CASES);
    }
    swt_test_close(t);
}

/* ---- bits */

static void make(swt_trial *t, int op, int number, swt_case *k) {
    swt_trial_start(t, number);
    swt_test_expect(swt_case_make(t, op, number, k), swt_op_table[op].name);
}

static void test_same_bits(void **state) {
    (void)state;
    const int places = swt_test_is_slow() ? 2 : 3; /* a GPU knows no threads, orders alone */
    swt_trial *t[3];
    for (int i = 0; i < places; i++)
        t[i] = swt_test_open(i + 1, !swt_test_is_slow());
    for (int op = 0; op < SWT_OP_COUNT; op++)
        for (int number = 0; number < SWT_CASES; number++)
            for (int i = 0; i < places; i++) {
                swt_case k;
                make(t[i], op, number, &k);
                swt_test_call(t[i], op, &k.host, SWT_OK);
                swt_test_expect_same(t[0], t[i]);
            }
    for (int i = 0; i < places; i++)
        swt_test_close(t[i]);
}

/* ---- refusals */

/* With the host's addresses: the checks ask where a tensor lies, not what is there, and a GPU that
 * were asked to work at them would fail. */
static void expect_refused(const swt_case *k, const swt_any_args *args) {
    if (swt_op_table[k->op].run(&k->t->ctx, args) != SWT_SHAPE)
        fail_msg("%s: %s does not refuse", k->t->label, swt_op_table[k->op].name);
}

/* Missing, misaligned, and in the memory of an output. */
static void refuse_pointers(const swt_case *k) {
    for (int i = 0; i < k->list.n; i++) {
        const swt_arg *arg = &k->list.args[i];
        unsigned char *tensor = swt_arg_tensor(arg);
        if (arg->count == 0 || tensor == NULL)
            continue;
        swt_any_args args = k->host;
        swt_case_set(k, &args, arg, NULL);
        if (!(arg->role & SWT_ARG_OPTIONAL))
            expect_refused(k, &args);
        swt_case_set(k, &args, arg, tensor + 1);
        expect_refused(k, &args);
        for (int j = 0; j < i; j++) {
            const swt_arg *other = &k->list.args[j];
            const bool output = (arg->role | other->role) & SWT_ARG_OUT;
            if (!output || other->count == 0 || swt_arg_tensor(other) == NULL ||
                (j == 0 && (arg->role & SWT_ARG_IN_PLACE)))
                continue;
            swt_case_set(k, &args, arg, swt_arg_tensor(other));
            expect_refused(k, &args);
        }
    }
}

/* Negative, and 2^62 elements of any type: more bytes than a size can count. */
static void refuse_dims(const swt_case *k) {
    static const int64_t wrong[] = {-1, INT64_MIN, (int64_t)1 << 62, INT64_MAX};
    for (int i = 0; i < k->n_dims; i++) {
        swt_any_args args = k->host;
        int64_t *dim =
            (int64_t *)(void *)((unsigned char *)&args +
                                ((unsigned char *)k->dims[i] - (const unsigned char *)&k->host));
        for (size_t w = 0; w < sizeof wrong / sizeof wrong[0]; w++) {
            *dim = wrong[w];
            expect_refused(k, &args);
        }
    }
}

/* No context, and no step state where it is read or written. */
static void refuse_contexts(const swt_case *k) {
    assert_int_equal(swt_op_table[k->op].run(NULL, &k->host), SWT_SHAPE);
    const swt_ctx whole = k->t->ctx;
    k->t->ctx.state = NULL;
    if (k->list.state)
        expect_refused(k, &k->host);
    k->t->ctx = whole;
}

static void test_refusals(void **state) {
    (void)state;
    swt_trial *t = swt_test_open(1, false);
    for (int op = 0; op < SWT_OP_COUNT; op++)
        for (int number = 0; number < SWT_CASES; number++) {
            swt_case k;
            make(t, op, number, &k);
            memcpy(t->before, t->memory, t->used_bytes);
            refuse_pointers(&k);
            refuse_dims(&k);
            refuse_contexts(&k);
            swt_test_expect(swt_stream_sync(t->ctx.device, t->ctx.stream), t->label);
            if (memcmp(t->memory, t->before, t->used_bytes) != 0)
                fail_msg("%s: %s refused, and changed memory", t->label, swt_op_table[op].name);
        }
    swt_test_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
