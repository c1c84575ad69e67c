/* A judge's trial (judge/trial.h) in a cmocka test, on the backend that the environment variable
 * SWT_TEST_DEVICE names: cpu (default) or cuda. What is wrong fails the test at once.
 *
 *     static void test_order(void **state) {
 *         swt_trial *t = swt_test_trial(state);
 *         swt_trial_begin(t, "embedding order");
 *         float *dx = swt_trial_uniform(t, N * C, 1, 1);
 *         float *dtable = swt_trial_out(t, V * C, SWT_F32);
 *         SWT_RUN(t, embedding_backward, .dtable = dtable, .dx = dx, ...);
 *         assert_true(dtable[0] == 0);
 *     }
 *     ... cmocka_run_group_tests(tests, swt_test_setup, swt_test_teardown); */
#ifndef SWT_TESTS_SUPPORT_TRIAL_H
#define SWT_TESTS_SUPPORT_TRIAL_H

#include "judge/trial.h"
#include "support/test.h"

/* The backend under test, and is it CUDA? */
const swt_backend *swt_test_backend(void);
bool swt_test_on_gpu(void);

/* On the emulated GPU sanitizers take minutes for large sizes and many repetitions, and what they
 * find is there in small ones, too. */
bool swt_test_is_slow(void);

/* How many of so many repetitions: all, of a GPU a tenth, and where that is slow a hundredth. */
int swt_test_share(int repetitions);

/* Fails the test unless a status is OK. */
void swt_test_expect(swt_status status, const char *what);

/* A trial with a device of its own, seed 42. */
swt_trial *swt_test_open(int threads, bool large);
void swt_test_close(swt_trial *t);

/* Of a group of tests: a large trial with 2 threads, as *state. */
int swt_test_setup(void **state);
int swt_test_teardown(void **state);

/* That trial, whose random numbers start again. */
swt_trial *swt_test_trial(void **state);

/* The arguments of an operation, which are the host's tensors: those that are missing are made by
 * its row as the judge's cases make them (judge/case.h), but for optional ones. */
#define SWT_FILLED(t, op, ...) swt_test_fill(t, SWT_OP_##op, (swt_any_args){.op = {__VA_ARGS__}}).op
swt_any_args swt_test_fill(swt_trial *t, int op, swt_any_args args);

/* Fill them and call the operation, which must succeed; MADE gives them back. Or it must refuse
 * arguments as they are with SWT_status and change nothing at all. */
#define SWT_RUN(t, op, ...)  (void)swt_test_make(t, SWT_OP_##op, (swt_any_args){.op = {__VA_ARGS__}})
#define SWT_MADE(t, op, ...) swt_test_make(t, SWT_OP_##op, (swt_any_args){.op = {__VA_ARGS__}}).op
swt_any_args swt_test_make(swt_trial *t, int op, swt_any_args args);
#define SWT_REFUSE(t, status, op, ...)                                                             \
    swt_test_call(t, SWT_OP_##op, &(swt_any_args){.op = {__VA_ARGS__}}, SWT_##status)
void swt_test_call(swt_trial *t, int op, const swt_any_args *args, swt_status expected);

/* An output that starts as zeros. */
void *swt_test_zeros(swt_trial *t, int64_t count, swt_dtype dtype);

/* Give back all tensors taken since the mark, for loops that would fill the trial. */
typedef struct swt_test_mark {
    size_t used_bytes;
    int n_tensors;
} swt_test_mark;
swt_test_mark swt_test_set_mark(const swt_trial *t);
void swt_test_back_to(swt_trial *t, swt_test_mark mark);

/* Outputs so far are inputs of the operations that follow. */
void swt_test_keep(swt_trial *t);

/* All tensors, scratch aside, have the same bits in both. */
void swt_test_expect_same(const swt_trial *a, const swt_trial *b);

#endif
