/* Options beside those of the run that a checkpoint is of. */
#include "options/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

int swt_options_key_count(void) {
    int count = 0;
    for (int i = 0; i < swt_option_count; i++)
        count += swt_option_table[i].key != NULL;
    return count;
}

swt_status swt_options_visit(const swt_options *o, swt_options_visitor visit, void *context) {
    char value[SWT_PATH_BYTES];
    for (int i = 0; i < swt_option_count; i++) {
        const swt_option *row = &swt_option_table[i];
        if (row->key == NULL)
            continue;
        swt_option_print(o, row, value, sizeof value);
        SWT_TRY(visit(context, row->key, value));
    }
    return SWT_OK;
}

/* More steps than before; under a schedule that ends with them they are another schedule. */
static swt_status check_steps(const swt_options *o, const char *old, int64_t step,
                              const char *from) {
    const int64_t steps = o->train_steps;
    char now[32];
    snprintf(now, sizeof now, "%" PRId64, steps);
    if (steps < step)
        return SWT_FAIL(USAGE,
                        "train.steps: is %" PRId64 ", but %s has %" PRId64
                        " steps done; give at least as many",
                        steps, from, step);
    if (o->schedule.kind == SWT_SCHEDULE_COSINE && strcmp(now, old) != 0)
        return SWT_FAIL(USAGE,
                        "train.steps: is %" PRId64 ", but %s in %s, where optim.schedule cosine "
                        "ends; give --steps %s, or --init-from for another schedule",
                        steps, old, from, old);
    return SWT_OK;
}

static swt_status check_row(const swt_options *o, const swt_option *row, const char *old,
                            const char *from) {
    char now[SWT_PATH_BYTES];
    swt_option_print(o, row, now, sizeof now);
    if (strcmp(now, old) == 0)
        return SWT_OK;
    return SWT_FAIL(USAGE,
                    "%s: is %.60s, but %.60s in %s; give %s %.60s to go on, or --init-from, into "
                    "another --out, to train its weights on otherwise",
                    row->key, now, old, from, swt_option_flag(row), old);
}

swt_status swt_options_check_resume(const swt_options *o, swt_options_old old, const void *context,
                                    int64_t step, const char *from) {
    for (int i = 0; i < swt_option_count; i++) {
        const swt_option *row = &swt_option_table[i];
        if (row->key == NULL || row->resumes == SWT_RESUMES_FREE ||
            row->resumes == SWT_RESUMES_GIVEN)
            continue;
        const char *value = old(context, row->key);
        if (value == NULL && swt_options_is_default(o, row->key))
            continue;
        if (value == NULL)
            value = swt_option_default(row, (swt_preset)o->model_preset);
        SWT_TRY(row->resumes == SWT_RESUMES_LONGER ? check_steps(o, value, step, from)
                                                   : check_row(o, row, value, from));
    }
    return SWT_OK;
}

uint64_t swt_options_identity(const swt_options *o) {
    char value[SWT_PATH_BYTES];
    uint64_t hash = 0;
    for (int i = 0; i < swt_option_count; i++) {
        const swt_option *row = &swt_option_table[i];
        if (row->key == NULL || row->resumes != SWT_RESUMES_SAME)
            continue;
        swt_option_print(o, row, value, sizeof value);
        hash = XXH3_64bits_withSeed(row->key, strlen(row->key), hash);
        hash = XXH3_64bits_withSeed(value, strlen(value), hash);
    }
    return hash;
}
