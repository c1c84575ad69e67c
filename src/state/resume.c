#include "state/resume.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

swt_status swt_resume_newest(const swt_checkpoints *c, char folder[SWT_PATH_BYTES],
                             swt_warnings *skipped) {
    int64_t step = INT64_MAX, broken = 0;
    for (;;) {
        SWT_TRY(swt_checkpoints_newest(c, step, &step, folder));
        if (step < 0)
            break;
        swt_manifest m;
        const swt_status status = swt_manifest_verify(&m, folder, NULL, NULL);
        swt_manifest_fini(&m);
        if (status != SWT_CHECKPOINT) /* it verifies, or memory is missing */
            return status;
        broken++;
        swt_warn(skipped, "the checkpoint of step %" PRId64 " is not resumed from: %.*s", step,
                 (int)strcspn(swt_last_error()->message, ";"), swt_last_error()->message);
    }
    folder[0] = '\0';
    if (broken == 0)
        return SWT_OK;
    const swt_error why = *swt_last_error();
    return SWT_FAIL(CHECKPOINT,
                    "%s: none of its %" PRId64 " checkpoint%s verifies (%.*s); give another --out, "
                    "or --init-from DIR for the weights of one",
                    swt_path_tail(c->path), broken, swt_plural(broken),
                    (int)strcspn(why.message, ";"), why.message);
}

static const char *old_value(const void *context, const char *key) {
    const swt_checkpoint *c = context;
    return swt_manifest_value(&c->manifest, key);
}

swt_status swt_resume_check_options(const swt_checkpoint *c, const swt_options *o) {
    char from[64];
    snprintf(from, sizeof from, "the checkpoint of step %" PRId64, c->manifest.step);
    return swt_options_check_resume(o, old_value, c, c->manifest.step, from);
}

swt_status swt_resume_check_text(const swt_checkpoint *c, const swt_options *o, uint64_t train_hash,
                                 uint64_t valid_hash) {
    const swt_manifest *m = &c->manifest;
    const bool trains = m->train_hash == train_hash, own = o->data_valid[0] != '\0';
    if (trains && m->valid_hash == valid_hash)
        return SWT_OK;
    return SWT_FAIL(
        FILE,
        "%s: its tokens are not those that the checkpoint of step %" PRId64
        " was %s on (%.300s then); give that text, or --init-from, into another --out, "
        "to train its weights on otherwise",
        swt_path_tail(trains && own ? o->data_valid : o->data_path), m->step,
        trains ? "evaluated" : "trained",
        swt_path_tail(trains && own ? swt_manifest_value(m, "data.valid") : m->data_path));
}
