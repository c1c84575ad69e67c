#include "train/agree.h"

#include "io/files.h"
#include "train/options_table.h"
#include "train/rundir.h"

#include <string.h>
#include <xxhash.h>

/* ---- checkpoints */

swt_status swt_agree_on_checkpoint(swt_comm *world, const char *name, char dir[SWT_PATH_BYTES]) {
    const uint64_t given = XXH3_64bits(dir, strlen(dir));
    int differs = -1;
    SWT_TRY(swt_comm_differ(world, &given, 1, &differs));
    swt_status status = SWT_OK;
    if (differs >= 0)
        status = SWT_FAIL(USAGE,
                          "%s: is \"%s\", but another path on rank 0; start every rank with the "
                          "same options",
                          name, swt_path_tail(dir));
    char found[SWT_PATH_BYTES] = "";
    if (status == SWT_OK && world->rank == 0 && dir[0] != '\0')
        status = swt_checkpoint_find(found, sizeof found, dir);
    SWT_TRY(swt_comm_agree(world, status));
    SWT_TRY(swt_comm_broadcast(world, found, sizeof found, 0, NULL));
    memcpy(dir, found, sizeof found);
    return SWT_OK;
}

/* ---- options */

/* What a rank may have for itself: its threads, and where it finds what is compared by its
 * contents. Rank 0 alone writes run.out. */
static bool is_own(const swt_option *row) {
    static const size_t fields[] = {
        offsetof(swt_options, run_threads), offsetof(swt_options, run_out),
        offsetof(swt_options, config_path), offsetof(swt_options, data_path),
        offsetof(swt_options, data_valid),  offsetof(swt_options, weights_path),
        offsetof(swt_options, batch_path),  offsetof(swt_options, checkpoint_path),
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (row->offset == fields[i])
            return true;
    return false;
}

swt_status swt_agree_on_options(swt_comm *world, const swt_options *o) {
    enum { VERSION, COMMAND, FIRST_ROW };
    uint64_t own[FIRST_ROW + SWT_OPTION_LIMIT] = {
        [VERSION] = XXH3_64bits(SWT_VERSION, sizeof SWT_VERSION), [COMMAND] = o->command};
    char value[SWT_PATH_BYTES + SWT_OPTION_NAME_BYTES], name[SWT_OPTION_NAME_BYTES];
    for (int i = 0; i < swt_option_count; i++) {
        if (is_own(&swt_option_table[i]))
            continue;
        swt_option_format(o, &swt_option_table[i], value, sizeof value);
        own[FIRST_ROW + i] = XXH3_64bits(value, strlen(value));
    }
    int first = -1;
    SWT_TRY(swt_comm_differ(world, own, FIRST_ROW + SWT_OPTION_LIMIT, &first));
    if (first < 0)
        return swt_comm_agree(world, SWT_OK);
    if (first < FIRST_ROW)
        return swt_comm_agree(world,
                              SWT_FAIL(USAGE,
                                       "%s is not that of rank 0; start every rank with the "
                                       "same program and the same options",
                                       first == VERSION ? "version: " SWT_VERSION : "command: it"));
    const swt_option *row = &swt_option_table[first - FIRST_ROW];
    swt_option_format(o, row, value, sizeof value);
    if (row->key != NULL)
        snprintf(name, sizeof name, "%s", row->key);
    else
        swt_option_flag(row, name, sizeof name);
    const char *quote = row->type == SWT_OPTION_TEXT ? "\"" : "";
    return swt_comm_agree(
        world,
        SWT_FAIL(USAGE, "%s: is %s%s%s, but not on rank 0; start every rank with the same options",
                 name, quote, swt_path_tail(value), quote));
}

/* ---- contents */

static swt_status files_differ(swt_status code, const char *what, const char *path) {
    return swt_fail(code, __FILE__, __LINE__,
                    "%s: is %s than that of rank 0; every rank must read the same file", path,
                    what);
}

swt_status swt_agree_on_bytes(swt_comm *world, const void *data, size_t bytes, const char *path) {
    const uint64_t own = XXH3_64bits(data, bytes);
    int differs = -1;
    SWT_TRY(swt_comm_differ(world, &own, 1, &differs));
    return swt_comm_agree(world,
                          differs < 0 ? SWT_OK : files_differ(SWT_FILE, "another one", path));
}

swt_status swt_agree_on_text(const swt_session *s, const char *checkpoint) {
    const swt_tokenizer *t = &s->tokenizer;
    const swt_data *d = &s->data;
    const size_t points = t->kind == SWT_TOKENIZER_CHAR ? (size_t)t->vocab : 0;
    uint64_t own[] = {
        XXH3_64bits(d->ids, (size_t)d->count * sizeof *d->ids),
        (uint64_t)d->train_count,
        XXH3_64bits_withSeed(t->code_points, points * sizeof *t->code_points, (uint64_t)t->vocab),
    };
    int first = -1;
    SWT_TRY(swt_comm_differ(s->world, own, sizeof own / sizeof own[0], &first));
    swt_status status = SWT_OK;
    if (first >= 0 && checkpoint != NULL && first == 2)
        status = files_differ(SWT_CHECKPOINT, "a checkpoint with another tokenizer", checkpoint);
    else if (first >= 0)
        status = files_differ(SWT_FILE, "another text", s->data_path);
    return swt_comm_agree(s->world, status);
}

swt_status swt_agree_on_weights(swt_session *s, const char *path, swt_status code) {
    const swt_params *params = &s->model.params;
    uint64_t own = 0;
    for (int64_t i = 0; i < params->count; i++) {
        const swt_param *p = &params->table[i];
        const size_t bytes = (size_t)p->count * sizeof(float);
        if (p->expert >= 0)
            continue;
        SWT_TRY(swt_model_read(&s->model, s->model.staging, s->model.param + p->offset, bytes));
        own = XXH3_64bits_withSeed(s->model.staging, bytes, own);
    }
    int differs = -1;
    SWT_TRY(swt_comm_differ(s->world, &own, 1, &differs));
    swt_status status = SWT_OK;
    if (differs >= 0 && path != NULL)
        status = files_differ(code, "a file of other weights", path);
    else if (differs >= 0)
        status = swt_fail(code, __FILE__, __LINE__,
                          "weights: drawn from train.seed, but not those of rank 0; use the same "
                          "program and libraries on every machine");
    return swt_comm_agree(s->world, status);
}
