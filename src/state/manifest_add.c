#include "state/manifest_add.h"

#include "base/utf8.h"
#include "io/files.h"
#include "io/json.h"

#include <stdio.h>
#include <stdlib.h>

swt_status swt_manifest_add_file(swt_manifest *m, const char *folder, const char *name) {
    char path[SWT_PATH_BYTES];
    swt_manifest_file *f = &m->files[m->file_count++];
    snprintf(f->name, sizeof f->name, "%s", name);
    SWT_TRY(swt_path_join(path, folder, name));
    return swt_hash_file(path, &f->bytes, &f->hash, SWT_FILE);
}

/* A key of the configuration. A path may be no UTF-8, which JSON is. */
static swt_status add_key(void *context, const char *key, const char *value) {
    swt_manifest *m = context;
    char clean[SWT_PATH_BYTES];
    snprintf(clean, sizeof clean, "%s", value);
    json_t *text = json_string(value);
    if (text == NULL) {
        swt_utf8_clean(clean, false);
        text = json_string(clean);
    }
    if (json_object_set_new(m->tree, key, text) != 0)
        return SWT_FAIL(MEMORY, "checkpoint: no memory for its manifest");
    m->keys[m->key_count++] = (swt_manifest_key){.key = key, .value = json_string_value(text)};
    return SWT_OK;
}

swt_status swt_manifest_add_options(swt_manifest *m, const swt_options *o) {
    m->tree = json_object();
    m->keys = calloc((size_t)swt_options_key_count(), sizeof *m->keys);
    if (m->tree == NULL || m->keys == NULL)
        return SWT_FAIL(MEMORY, "checkpoint: no memory for its manifest");
    SWT_TRY(swt_options_visit(o, add_key, m));
    m->data_path = swt_manifest_value(m, "data.path");
    return SWT_OK;
}
