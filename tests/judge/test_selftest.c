/* The self-test finds what is wrong: each operation in turn, the communicator, numbers out of
 * bounds. All ranks together: test_mpi_selftest.c; the command: tests/e2e/test_selftest.py. */
#include "judge/broken.h"
#include "judge/case.h"
#include "judge/checks.h"
#include "judge/selftest.h"
#include "support/trial.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A trial with these operations that notes what is wrong, as the self-test's own. */
static swt_trial *open_trial(const swt_ops *ops) {
    swt_trial *t = swt_test_open(1, false);
    t->ctx.ops = ops;
    t->on_miss = NULL;
    return t;
}

static int check_of_name(const char *name) {
    for (int i = 0; i < swt_check_count; i++)
        if (strcmp(swt_check_table[i].name, name) == 0)
            return i;
    return -1;
}

/* Is the fault found by the check of its operation? `alone`: and by no other of a single operation.
 */
static bool is_found(swt_fault *fault, bool alone) {
    swt_trial *t = open_trial(swt_plant(fault));
    assert_int_equal(swt_check_run(t, fault->op), SWT_OK);
    const bool found = t->found.failed;
    for (int i = 0; alone && i < SWT_OP_COUNT; i++) {
        assert_int_equal(swt_check_run(t, i), SWT_OK);
        if (t->found.failed && i != fault->op)
            fail_msg("with a broken %s the check %s fails: %s", swt_op_table[fault->op].name,
                     swt_check_table[i].name, t->found.message);
        assert_true(t->found.cases > 0);
    }
    swt_test_close(t);
    return found;
}

/* Of every output the first and the last number. The loss is a sum of what F32 tells apart. */
static void each_broken_output_is_found(void **state) {
    (void)state;
    for (int op = 0; op < SWT_OP_COUNT; op++) {
        swt_fault fault = {
            .op = op, .by = 1e-4F, .part = op == SWT_OP_cross_entropy ? 1e-4 : 1e-9, .outputs = 1};
        for (fault.output = 0; fault.output < fault.outputs; fault.output++)
            for (int last = 0; last < 2; last++) {
                fault.last = last;
                if (!is_found(&fault, fault.output == 0 && last == 0))
                    fail_msg("with a broken output %d of %s its check passes", fault.output,
                             swt_op_table[op].name);
            }
    }
}

/* Of what only moves or rounds numbers the last bit. */
static void one_wrong_bit_is_found(void **state) {
    (void)state;
    static const int exact[] = {SWT_OP_embedding_forward, SWT_OP_dispatch_forward,
                                SWT_OP_dispatch_backward, SWT_OP_grad_finish, SWT_OP_cast};
    for (size_t i = 0; i < sizeof exact / sizeof exact[0]; i++) {
        swt_fault fault = {.op = exact[i]};
        if (!is_found(&fault, true))
            fail_msg("with one wrong bit of %s its check passes", swt_op_table[exact[i]].name);
    }
}

/* The check of a whole step sees the operations that it is made of. */
static void broken_parts_are_found(void **state) {
    (void)state;
    static const int parts[] = {SWT_OP_norm_forward, SWT_OP_attention_backward,
                                SWT_OP_experts_backward_input};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        swt_fault fault = {.op = parts[i], .by = 0.01F};
        swt_trial *t = open_trial(swt_plant(&fault));
        assert_int_equal(swt_check_run(t, check_of_name("step_against_cpu")), SWT_OK);
        if (!t->found.failed)
            fail_msg("with a broken %s the step is right", swt_op_table[parts[i]].name);
        swt_test_close(t);
    }
}

/* An operation that writes where it must not. AddressSanitizer would end the program at once: it is
 * the self-test that must find it here. */
__attribute__((no_sanitize_address)) static swt_status careless_sgd(const swt_ctx *c,
                                                                    const swt_sgd_args *a) {
    SWT_TRY(swt_cpu_backend.ops->sgd(c, a));
    a->param[a->n] = 0;
    return SWT_OK;
}

static void writing_out_of_bounds_is_found(void **state) {
    (void)state;
    swt_ops ops = *swt_cpu_backend.ops;
    ops.sgd = careless_sgd;
    swt_trial *t = open_trial(&ops);
    assert_int_equal(swt_check_run(t, SWT_OP_sgd), SWT_OK);
    assert_true(t->found.failed);
    assert_non_null(strstr(t->found.message, "sgd wrote"));
    swt_test_close(t);
}

/* NaN, errors of one element and of all, and what is allowed. */
static void verdicts(void **state) {
    (void)state;
    swt_trial *t = open_trial(swt_cpu_backend.ops);
    const double want[4] = {1, -1, 1, -1};
    const struct {
        float got[4];
        bool fails;
    } cases[] = {{{1, -1, 1, -1}, false},
                 {{1, NAN, 1, -1}, true},
                 {{1, -INFINITY, 1, -1}, true},
                 {{1.0009f, -1, 1, -1}, false},
                 {{1.0015f, -1.0015f, 1.0015f, -1.0015f}, true},
                 {{1.0025f, -1, 1, -1}, true}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        swt_trial_start(t, 0);
        swt_trial_begin(t, "case %zu", i);
        swt_trial_close(t, "x", cases[i].got, want, 4, 1e-3, 0);
        assert_int_equal(t->found.failed, cases[i].fails);
        assert_int_equal(t->found.worst > 1, cases[i].fails);
    }
    swt_trial_start(t, 0);
    swt_trial_number(t, "x", NAN, 1, 1e9);
    assert_true(t->found.failed);
    swt_trial_start(t, 0);
    swt_trial_number(t, "x", NAN, 1, 0);
    assert_true(t->found.failed);
    swt_test_close(t);
}

/* The whole test: the table's end, the code and the one line. */
static void the_first_failure_is_named(void **state) {
    (void)state;
    swt_device device;
    swt_comm world;
    swt_comm_open_self(&world);
    assert_int_equal(swt_cpu_backend.open(&device, 0, 1), SWT_OK);
    swt_fault fault = {.op = SWT_OP_adam, .by = 1e-4F};
    for (int i = 0; i < 2; i++) {
        FILE *out = tmpfile();
        char text[16384];
        assert_non_null(out);
        const swt_trial_setup setup = {.ops = i == 0 ? swt_cpu_backend.ops : swt_plant(&fault),
                                       .device = &device,
                                       .host = &world,
                                       .world = &world,
                                       .seed = 5};
        assert_int_equal(swt_selftest_all(&setup, out), i == 0 ? SWT_OK : SWT_NUMBERS);
        rewind(out);
        text[fread(text, 1, sizeof text - 1, out)] = '\0';
        fclose(out);
        assert_non_null(strstr(text, i == 0 ? " 0 failed" : " 1 failed"));
        assert_true((strstr(text, "FAILED on rank 0") == NULL) == (i == 0));
        if (i == 1)
            assert_non_null(
                strstr(swt_last_error()->message, "selftest: adam failed on rank 0: n="));
    }
    swt_device_close(&device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_broken_output_is_found),
        cmocka_unit_test(one_wrong_bit_is_found),
        cmocka_unit_test(broken_parts_are_found),
        cmocka_unit_test(writing_out_of_bounds_is_found),
        cmocka_unit_test(verdicts),
        cmocka_unit_test(the_first_failure_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
