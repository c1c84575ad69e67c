/* The table of checks. */
#include "judge/checks.h"

#include "base/clock.h"
#include "judge/case.h"

enum { ALONE = false, TOGETHER = true };

#define OP_ROW(op)       {.name = #op},
#define ROW(name, ranks) {#name, ranks, swt_check_##name},
const swt_check_row swt_check_table[] = {SWT_OPS(OP_ROW) SWT_CHECK_LIST(ROW)};
const int swt_check_count = (int)(sizeof swt_check_table / sizeof swt_check_table[0]);

swt_status swt_check_run(swt_trial *t, int check) {
    const double start = swt_now_ms();
    swt_trial_start(t, check);
    const swt_check_row *row = &swt_check_table[check];
    const swt_status status = row->run != NULL ? row->run(t) : swt_case_run_all(t, check);
    t->found.ms = swt_now_ms() - start;
    return status;
}
