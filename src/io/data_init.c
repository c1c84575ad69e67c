/* From texts to ids, and where their windows lie. */
#include "io/data.h"

#include "base/checked.h"

#include <limits.h>
#include <stdlib.h>

/* Tokens that a part has, where it needs more. */
static swt_status too_short(const char *path, const char *part, int64_t count, int64_t needed,
                            const char *better) {
    return SWT_FAIL(FILE, "%s: the %s has %lld tokens, %lld are needed; use %s", path, part,
                    (long long)count, (long long)needed, better);
}

static swt_status lay_train_windows(swt_data *d, const char *path) {
    d->train_windows = swt_max(d->train_count - d->before, 0) / d->T;
    if (d->train_windows == 0)
        return too_short(path, "training part", d->train_count, d->T + d->before,
                         "a longer text, or a smaller batch.seq_len or data.valid_fraction");
    if (d->train_windows > INT32_MAX)
        return SWT_FAIL(FILE, "%s: %lld windows are more than %d; use a larger batch.seq_len", path,
                        (long long)d->train_windows, INT32_MAX);
    d->order = malloc((size_t)d->train_windows * sizeof *d->order);
    if (d->order == NULL)
        return SWT_FAIL(MEMORY, "%s: no memory for the order of %lld windows; use a shorter text",
                        path, (long long)d->train_windows);
    return SWT_OK;
}

/* to_end: the last targets count, too, though they fill no window. */
static swt_status lay_valid_windows(swt_data *d, const char *path, const char *part, bool to_end) {
    const int64_t count = d->count - d->train_count, targets = swt_max(count - d->before, 0);
    d->valid_targets = to_end ? targets : targets / d->T * d->T;
    d->valid_windows = swt_ceil_div(d->valid_targets, d->T);
    d->valid_left = targets - d->valid_targets;
    if (d->valid_windows > 0)
        return SWT_OK;
    return too_short(path, part, count, (to_end ? 1 : d->T) + d->before,
                     to_end ? "a longer text"
                            : "a longer text, a smaller batch.seq_len or a larger "
                              "data.valid_fraction");
}

/* Append the tokens of a text. What its vocabulary has not is refused, or left out where the user
 * says so and something is left. */
static swt_status append(swt_data *d, swt_unknown *unknown, const swt_tokenizer *t,
                         const swt_text *text, const char *vocabulary, bool skip_unknown) {
    int64_t count = 0;
    *unknown = (swt_unknown){0};
    if (text->at == NULL)
        return SWT_OK;
    if (text->bytes == 0)
        return SWT_FAIL(FILE, "%s: is empty; a text is needed", text->path);
    SWT_TRY(swt_tokenizer_encode(t, text, d->ids + d->count, &count, unknown));
    d->count += count;
    if (unknown->count == 0 || (skip_unknown && count > 0))
        return SWT_OK;
    char what[SWT_UNKNOWN_BYTES];
    swt_unknown_print(unknown, what);
    return SWT_FAIL(
        FILE, "%s: the vocabulary of %s has not %s; %s", text->path, vocabulary, what,
        unknown->carriage_return
            ? "its lines end in CRLF: take out the CR (tr -d '\\r'), or set data.unknown skip"
            : "use a text without them, or set data.unknown skip, which leaves them "
              "out and says so");
}

static swt_status encode_and_cut(swt_data *d, const swt_tokenizer *t, const swt_texts *texts,
                                 const swt_cut *cut) {
    const swt_text *train = &texts->train, *valid = &texts->valid;
    const bool whole = valid->at != NULL;
    /* A token is at least one byte. */
    const size_t bytes = train->bytes + valid->bytes;
    if (bytes > PTRDIFF_MAX / sizeof *d->ids || (d->ids = malloc(bytes * sizeof *d->ids)) == NULL)
        return SWT_FAIL(MEMORY,
                        "%s: no memory for the tokens of %zu bytes of text, %zu bytes each; use a "
                        "shorter text or a machine with more",
                        whole ? valid->path : train->path, bytes, sizeof *d->ids);
    SWT_TRY(append(d, &d->unknown_train, t, train, texts->vocabulary, cut->skip_unknown));
    d->train_count = whole ? d->count : (int64_t)((1.0 - cut->valid_fraction) * (double)d->count);
    SWT_TRY(append(d, &d->unknown_valid, t, valid, texts->vocabulary, cut->skip_unknown));
    if (!cut->evaluates)
        SWT_TRY(lay_train_windows(d, train->path));
    const bool less_than_a_window = d->count - d->train_count < d->T + d->before;
    SWT_TRY(
        lay_valid_windows(d, whole ? valid->path : train->path, whole ? "text" : "validation part",
                          d->train_count == 0 || whole || (cut->evaluates && less_than_a_window)));
    int32_t *exact = realloc(d->ids, (size_t)d->count * sizeof *d->ids);
    if (exact != NULL)
        d->ids = exact;
    return SWT_OK;
}

swt_status swt_data_init(swt_data *out, const swt_tokenizer *t, const swt_texts *texts,
                         const swt_cut *cut) {
    *out = (swt_data){.T = cut->T,
                      .S = cut->S,
                      .before = swt_max(cut->S, 1),
                      .seed = cut->seed,
                      .order_epoch = -1};
    const swt_status status = encode_and_cut(out, t, texts, cut);
    if (status != SWT_OK)
        swt_data_fini(out);
    return status;
}
