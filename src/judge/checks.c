/* The table of checks. */
#include "judge/checks.h"

#include "base/clock.h"
#include "judge/cases.h"

#include <math.h>

#define CASE_ROW(op, n) [SWT_OP_##op] = {SWT_OP_##op, n, swt_draw_##op, swt_judge_##op},
const swt_case_row swt_case_table[SWT_OP_COUNT] = {SWT_CASE_LIST(CASE_ROW)};

/* The check of an operation runs its cases. */
#define CASE_CHECK(op)                                                                             \
    static swt_status check_##op(swt_trial *t) {                                                   \
        return swt_case_run_all(t, &swt_case_table[SWT_OP_##op]);                                  \
    }
SWT_OPS(CASE_CHECK)

enum { ALONE = false, TOGETHER = true };

#define OP_ROW(op)       {#op, ALONE, check_##op},
#define ROW(name, ranks) {#name, ranks, swt_selftest_##name},
const swt_check_row swt_check_table[] = {SWT_OPS(OP_ROW) SWT_CHECK_LIST(ROW)};
const int swt_check_count = (int)(sizeof swt_check_table / sizeof swt_check_table[0]);

swt_status swt_check_run(swt_trial *t, int check) {
    const double start = swt_now_ms();
    swt_trial_start(t, check);
    const swt_status status = swt_check_table[check].run(t);
    t->found.ms = swt_now_ms() - start;
    return status;
}

double swt_sum_tolerance(int64_t n) {
    return 4 * sqrt(fmax(1, (double)n)) * SWT_ROUNDING;
}

double swt_sum_size(int64_t n) {
    return sqrt((double)n) / 3;
}
