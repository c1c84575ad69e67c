#include "train/stop.h"

#include "base/checked.h"
#include "base/clock.h"

static const double look_every_ms = 100.0;

/* A signal, lateness and a time in one number, of which the ranks take the largest. */
enum { US_BITS = 40 };
static const int64_t LATE = INT64_C(1) << US_BITS, SIGNAL = INT64_C(1) << (US_BITS + 1);

/* From the longest time that any rank took for the last stride, so that all choose the same. */
static void choose_stride(swt_pace *pace, int64_t us) {
    const double piece_ms = (double)swt_max(us, 1) / 1e3 / (double)pace->stride;
    const double fitting = look_every_ms / piece_ms;
    pace->stride = swt_max(1, swt_min((int64_t)fitting, 2 * pace->stride));
}

swt_status swt_stop_look(swt_session *s, swt_pace *pace) {
    pace->looked = s->stop != NULL && --pace->left <= 0;
    if (!pace->looked)
        return SWT_OK;
    const double now_ms = swt_now_ms();
    const int64_t us = pace->start_ms > 0.0 ? (int64_t)((now_ms - pace->start_ms) * 1e3) : 0;
    const bool late = pace->until_ms != 0.0 && now_ms > pace->until_ms;
    int64_t most = 0;
    SWT_TRY(swt_comm_max(
        s->world, (*s->stop != 0 ? SIGNAL : 0) + (late ? LATE : 0) + swt_min(us, LATE - 1), &most));
    if (most >= SIGNAL)
        return swt_comm_agree(s->world, SWT_FAIL(INTERRUPTED, "training: interrupted"));
    pace->late = most >= LATE;
    if (pace->start_ms > 0.0)
        choose_stride(pace, most % LATE);
    else
        pace->stride = 1;
    pace->left = pace->stride;
    pace->start_ms = now_ms;
    return SWT_OK;
}
