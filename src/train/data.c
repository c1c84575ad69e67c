#include "train/data.h"

#include "base/checked.h"
#include "base/rng.h"
#include "train/files.h"
#include "train/utf8.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Cut the tokens into the two parts, check that each has a window, and make room for the order. */
static swt_status cut(swt_data *d, const char *path, double valid_fraction) {
    d->train_count = (int64_t)((1.0 - valid_fraction) * (double)d->count);
    const int64_t valid_count = d->count - d->train_count;
    d->train_windows = swt_max(d->train_count - 1, 0) / d->T;
    d->valid_windows = swt_max(valid_count - 1, 0) / d->T;
    if (d->train_windows == 0)
        return SWT_FAIL(FILE,
                        "%s: the training part has %lld tokens, %lld are needed; use a longer "
                        "text, or a smaller batch.seq_len or data.valid_fraction",
                        path, (long long)d->train_count, (long long)d->T + 1);
    if (d->valid_windows == 0)
        return SWT_FAIL(FILE,
                        "%s: the validation part has %lld tokens, %lld are needed; use a longer "
                        "text, a smaller batch.seq_len or a larger data.valid_fraction",
                        path, (long long)valid_count, (long long)d->T + 1);
    if (d->train_windows > INT32_MAX)
        return SWT_FAIL(FILE, "%s: %lld windows are more than %d; use a larger batch.seq_len", path,
                        (long long)d->train_windows, INT32_MAX);
    d->order = malloc((size_t)d->train_windows * sizeof *d->order);
    if (d->order == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for the order of %lld windows", path,
                        (long long)d->train_windows);
    return SWT_OK;
}

static swt_status encode_and_cut(swt_data *d, const swt_tokenizer *t, const char *text,
                                 size_t bytes, const char *path, double valid_fraction) {
    /* A token is at least one byte. */
    if (bytes > PTRDIFF_MAX / sizeof *d->ids || (d->ids = malloc(bytes * sizeof *d->ids)) == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for the tokens of %zu bytes of text", path, bytes);
    SWT_TRY(swt_tokenizer_encode(t, text, bytes, d->ids, &d->count));
    SWT_TRY(cut(d, path, valid_fraction));
    int32_t *exact = realloc(d->ids, (size_t)d->count * sizeof *d->ids);
    if (exact != NULL)
        d->ids = exact;
    return SWT_OK;
}

swt_status swt_data_init(swt_data *out, const swt_tokenizer *t, const char *text, size_t bytes,
                         const char *path, const swt_options *o) {
    *out = (swt_data){.T = o->batch_seq_len, .seed = (uint64_t)o->train_seed, .order_epoch = -1};
    if (bytes == 0)
        return SWT_FAIL(FILE, "%s: is empty; a text is needed", path);
    /* Here, too, so that the message names the path. */
    if (t->kind == SWT_TOKENIZER_CHAR)
        SWT_TRY(swt_utf8_check(text, bytes, path));
    const swt_status status = encode_and_cut(out, t, text, bytes, path, o->data_valid_fraction);
    if (status != SWT_OK)
        swt_data_fini(out);
    return status;
}

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

static void copy_window(const swt_data *d, int64_t start, int32_t *tokens, int32_t *targets) {
    const size_t bytes = (size_t)d->T * sizeof *tokens;
    memcpy(tokens, d->ids + start, bytes);
    memcpy(targets, d->ids + start + 1, bytes);
}

swt_status swt_data_train_window(swt_data *d, int64_t w, int32_t *tokens, int32_t *targets) {
    if (w < 0)
        return SWT_FAIL(INTERNAL, "data: training window %lld does not exist", (long long)w);
    const int64_t epoch = w / d->train_windows, index = w % d->train_windows;
    if (epoch != d->order_epoch)
        shuffle(d, epoch);
    const int64_t start = d->order[index] * d->T;
    const int64_t largest = swt_min(d->T - 1, d->train_count - (start + d->T + 1));
    /* The offset's counter is (element = index in the epoch, a and b = the epoch). */
    const swt_rng_u32x4 r = swt_rng(d->seed, (uint32_t)index, (uint32_t)epoch,
                                    (uint32_t)(epoch >> 32), SWT_RNG_OFFSET, 0);
    const int64_t offset = (int64_t)swt_rng_below(r.v[0], r.v[1], (uint64_t)largest + 1);
    copy_window(d, start + offset, tokens, targets);
    return SWT_OK;
}

void swt_data_valid_window(const swt_data *d, int64_t j, int32_t *tokens, int32_t *targets) {
    copy_window(d, d->train_count + j * d->T, tokens, targets);
}
