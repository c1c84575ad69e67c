#include "train/stop.h"

#include "base/checked.h"
#include "base/clock.h"

static const double look_every_ms = 100.0;

/* A signal and a time in one number, of which the ranks take the largest. */
enum { US_BITS = 40 };

/* From the longest time that any rank took for the last stride, so that all choose the same. */
static void choose_stride(swt_pace *pace, int64_t us) {
    const double piece_ms = (double)swt_max(us, 1) / 1e3 / (double)pace->stride;
    const double fitting = look_every_ms / piece_ms;
    pace->stride = swt_max(1, swt_min((int64_t)fitting, 2 * pace->stride));
}

swt_status swt_stop_look(swt_session *s, swt_pace *pace) {
    if (s->stop == NULL || --pace->left > 0)
        return SWT_OK;
    const double now_ms = swt_now_ms();
    const int64_t us = pace->start_ms > 0.0 ? (int64_t)((now_ms - pace->start_ms) * 1e3) : 0;
    const int64_t most_us = ((int64_t)1 << US_BITS) - 1;
    int64_t most = 0;
    SWT_TRY(swt_comm_max(s->world, ((int64_t)(*s->stop != 0) << US_BITS) + swt_min(us, most_us),
                         &most));
    if (most > most_us)
        return swt_comm_agree(s->world, SWT_FAIL(INTERRUPTED, "training: interrupted"));
    if (pace->start_ms > 0.0)
        choose_stride(pace, most);
    else
        pace->stride = 1;
    pace->left = pace->stride;
    pace->start_ms = now_ms;
    return SWT_OK;
}
