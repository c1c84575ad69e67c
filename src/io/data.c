#include "io/data.h"

#include "base/checked.h"
#include "base/rng.h"

#include <stdlib.h>
#include <string.h>

void swt_data_fini(swt_data *d) {
    free(d->ids);
    free(d->order);
    *d = (swt_data){0};
}

/* Draw the epoch's permutation by Fisher and Yates. Exchange i reads the number of counter
 * (element = i, a = low half of the epoch, b = its high half). */
static void shuffle(swt_data *d, int64_t epoch) {
    for (int64_t i = 0; i < d->train_windows; i++)
        d->order[i] = (int32_t)i;
    for (int64_t i = d->train_windows - 1; i > 0; i--) {
        const swt_rng_u32x4 r = swt_rng(d->seed, (uint32_t)i, (uint32_t)epoch,
                                        (uint32_t)(epoch >> 32), SWT_RNG_PERMUTATION, 0);
        const uint64_t j = swt_rng_below(r.v[0], r.v[1], (uint64_t)i + 1);
        const int32_t swapped = d->order[i];
        d->order[i] = d->order[j];
        d->order[j] = swapped;
    }
    d->order_epoch = epoch;
}

/* `length` targets of the window that starts at a place of the text. */
static void copy_window(const swt_data *d, int64_t start, int64_t length, const swt_window *out) {
    const int32_t *first = d->ids + start + d->before;
    const size_t bytes = (size_t)length * sizeof *first;
    memcpy(out->targets, first, bytes);
    memcpy(out->tokens, first - 1, bytes);
    if (d->S > 0)
        memcpy(out->inputs, first - d->S, (size_t)d->S * sizeof *first);
}

swt_status swt_data_train_window(swt_data *d, int64_t w, const swt_window *out) {
    if (w < 0)
        return SWT_FAIL(INTERNAL, "data: training window %lld does not exist", (long long)w);
    const int64_t epoch = w / d->train_windows, index = w % d->train_windows;
    if (epoch != d->order_epoch)
        shuffle(d, epoch);
    const int64_t start = d->order[index] * d->T;
    const int64_t largest = swt_min(d->T - 1, d->train_count - (start + d->T + d->before));
    /* The offset's counter is (element = index in the epoch, a and b = the epoch). */
    const swt_rng_u32x4 r = swt_rng(d->seed, (uint32_t)index, (uint32_t)epoch,
                                    (uint32_t)(epoch >> 32), SWT_RNG_OFFSET, 0);
    const int64_t offset = (int64_t)swt_rng_below(r.v[0], r.v[1], (uint64_t)largest + 1);
    copy_window(d, start + offset, d->T, out);
    return SWT_OK;
}

int64_t swt_data_valid_window(const swt_data *d, int64_t j, const swt_window *out) {
    const int64_t length = swt_min(d->T, d->valid_targets - j * d->T);
    copy_window(d, d->train_count + j * d->T, length, out);
    return length;
}
