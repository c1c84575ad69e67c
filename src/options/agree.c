/* Whether all ranks were given the same options. */
#include "io/checkpoint_dir.h"
#include "io/files.h"
#include "options/table.h"

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
        status = swt_checkpoint_find(found, dir);
    SWT_TRY(swt_comm_agree(world, status));
    SWT_TRY(swt_comm_broadcast(world, found, sizeof found, 0, NULL));
    memcpy(dir, found, sizeof found);
    return SWT_OK;
}

/* ---- options */

swt_status swt_agree_on_options(swt_comm *world, const swt_options *o) {
    enum { VERSION, COMMAND, FIRST_ROW };
    uint64_t own[FIRST_ROW + SWT_OPTION_LIMIT] = {
        [VERSION] = XXH3_64bits(SWT_VERSION, sizeof SWT_VERSION), [COMMAND] = o->command};
    char value[SWT_PATH_BYTES];
    for (int i = 0; i < swt_option_count; i++) {
        if (swt_option_table[i].own)
            continue;
        swt_option_print(o, &swt_option_table[i], value, sizeof value);
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
    swt_option_print(o, row, value, sizeof value);
    const char *quote = row->type == &swt_option_text ? "\"" : "";
    return swt_comm_agree(
        world,
        SWT_FAIL(USAGE, "%s: is %s%s%s, but not on rank 0; start every rank with the same options",
                 row->key != NULL ? row->key : row->flag, quote, swt_path_tail(value), quote));
}
