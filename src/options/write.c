/* The options as a YAML file that reads back to the same options. */
#include "io/files.h"
#include "options/table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

/* Hand an event to the emitter; false where the event could not be made or written. The emitter
 * takes the event over in both cases. */
static bool put(yaml_emitter_t *emitter, yaml_event_t *event, int made) {
    return made && yaml_emitter_emit(emitter, event);
}

static bool put_scalar(yaml_emitter_t *emitter, const char *text, yaml_scalar_style_t style) {
    yaml_event_t event;
    return put(emitter, &event,
               yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *)text,
                                            (int)strlen(text), 1, 1, style));
}

static bool put_mapping_start(yaml_emitter_t *emitter) {
    yaml_event_t event;
    return put(
        emitter, &event,
        yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE));
}

static bool put_mapping_end(yaml_emitter_t *emitter) {
    yaml_event_t event;
    return put(emitter, &event, yaml_mapping_end_event_initialize(&event));
}

/* What any YAML library reads as it was meant, and writes again so that it is taken: texts always
 * in double quotes (none can then look like a number, and every character has an escape), truth
 * values as true and false, and choices in quotes that would be something else without. */
static bool put_row(yaml_emitter_t *emitter, const swt_options *o, const swt_option *row) {
    char value[SWT_PATH_BYTES];
    swt_option_format(o, row, value, sizeof value);
    if (row->type == SWT_OPTION_BOOL)
        snprintf(value, sizeof value, "%s", strcmp(value, row->choices[1]) == 0 ? "true" : "false");
    const bool quoted = row->type == SWT_OPTION_TEXT ||
                        (row->type == SWT_OPTION_CHOICE && swt_option_is_ambiguous(value));
    return put_scalar(emitter, strchr(row->key, '.') + 1, YAML_PLAIN_SCALAR_STYLE) &&
           put_scalar(emitter, value,
                      quoted ? YAML_DOUBLE_QUOTED_SCALAR_STYLE : YAML_PLAIN_SCALAR_STYLE);
}

static bool put_section(yaml_emitter_t *emitter, const swt_options *o, const char *section) {
    if (!put_scalar(emitter, section, YAML_PLAIN_SCALAR_STYLE) || !put_mapping_start(emitter))
        return false;
    for (int i = 0; i < swt_option_count; i++) {
        const swt_option *row = &swt_option_table[i];
        if (swt_option_in_section(row, section) && !put_row(emitter, o, row))
            return false;
    }
    return put_mapping_end(emitter);
}

static bool put_document(yaml_emitter_t *emitter, const swt_options *o) {
    yaml_event_t event;
    if (!put(emitter, &event, yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING)) ||
        !put(emitter, &event, yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1)) ||
        !put_mapping_start(emitter))
        return false;
    for (int i = 0; i < swt_option_section_count; i++) {
        if (!put_section(emitter, o, swt_option_sections[i].name))
            return false;
    }
    return put_mapping_end(emitter) &&
           put(emitter, &event, yaml_document_end_event_initialize(&event, 1)) &&
           put(emitter, &event, yaml_stream_end_event_initialize(&event)) &&
           yaml_emitter_flush(emitter);
}

swt_status swt_options_write_yaml(const swt_options *o, FILE *f) {
    yaml_emitter_t emitter;
    if (!yaml_emitter_initialize(&emitter))
        return SWT_FAIL(MEMORY, "config.yaml: out of memory while writing it");
    yaml_emitter_set_output_file(&emitter, f);
    yaml_emitter_set_unicode(&emitter, 1);
    yaml_emitter_set_width(&emitter, -1); /* never folds a long text */
    errno = 0;
    const bool made = put_document(&emitter, o), written = fflush(f) == 0 && !ferror(f);
    const int failed = errno;
    yaml_emitter_delete(&emitter);
    if (!written)
        return swt_file_unwritten("config.yaml", failed);
    /* What else stops the library is that it gets no memory. */
    return made ? SWT_OK
                : SWT_FAIL(MEMORY, "config.yaml: no memory to write it; use a machine with more");
}

swt_status swt_options_write_file(const swt_options *o, const char *path) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    swt_status status = SWT_OK;
    if (file == NULL || swt_options_write_yaml(o, file) != SWT_OK)
        status = SWT_FAIL(MEMORY, "%s: no memory to write it; use a machine with more", path);
    /* fclose says nothing of the memory that it did not get: there is no text then. */
    if (file != NULL && (fclose(file) != 0 || text == NULL) && status == SWT_OK)
        status = SWT_FAIL(MEMORY, "%s: no memory to write it; use a machine with more", path);
    if (status == SWT_OK)
        status = swt_file_save(path, text, bytes);
    free(text);
    return status;
}
