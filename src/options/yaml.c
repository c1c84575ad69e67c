/* The YAML side of the options: a mapping of sections, each a mapping of keys to single values.
 *
 * The events of values are kept until the whole file is known: the preset, wherever it stands,
 * brings its defaults before the other values are set. */
#include "io/files.h"
#include "options/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { FILE_MOST_BYTES = 1 << 20 };

/* A row's value in the file. */
typedef struct setting {
    const swt_option *row;
    yaml_event_t value;
} setting;

/* A file being read. */
typedef struct reader {
    yaml_parser_t parser;
    yaml_event_t event; /* the current one, given back by the next or at the end */
    swt_options *o;
    const swt_option *preset; /* the row of model.preset */
    const unsigned char *text;
    const char *path;                   /* for messages */
    swt_status status;                  /* code of this file's errors */
    setting settings[SWT_OPTION_LIMIT]; /* in the order of the file */
    int count;                          /* of the settings */
    size_t key_lines[SWT_OPTION_LIMIT]; /* where each row was given; 0: not yet */
    size_t section_lines[SWT_OPTION_LIMIT];
} reader;

/* The error "PATH:LINE: WHAT". */
static swt_status yaml_fail(const reader *r, int code_line, size_t line, const char *fmt, ...)
    SWT_PRINTF(4, 5);

static swt_status yaml_fail(const reader *r, int code_line, size_t line, const char *fmt, ...) {
    char what[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    return swt_fail(r->status, __FILE__, code_line, "%s:%zu: %s", r->path, line, what);
}

static size_t line_of(const yaml_event_t *event) {
    return event->start_mark.line + 1;
}

/* The same of the current event. */
#define YAML_FAIL(r, ...) yaml_fail(r, __LINE__, line_of(&(r)->event), __VA_ARGS__)

/* What libyaml could not read: it gives a place in the text, or an offset where the bytes are no
 * text. */
static swt_status broken(const reader *r) {
    size_t line = r->parser.problem_mark.line + 1;
    /* Some of the library's failed allocations end without any error of its own. */
    if (r->parser.error == YAML_MEMORY_ERROR || r->parser.error == YAML_NO_ERROR)
        return SWT_FAIL(MEMORY, "%s: out of memory while reading it", r->path);
    if (r->parser.error == YAML_READER_ERROR) {
        line = 1;
        for (size_t i = 0; i < r->parser.problem_offset; i++)
            line += r->text[i] == '\n';
    }
    return yaml_fail(r, __LINE__, line,
                     "no valid YAML: %s; write 'section:' and, indented by spaces, "
                     "'key: value'",
                     r->parser.problem);
}

static swt_status next(reader *r) {
    yaml_event_delete(&r->event);
    if (!yaml_parser_parse(&r->parser, &r->event))
        return broken(r);
    return SWT_OK;
}

/* The event as a scalar without decoration; `what` names it in the error. */
static swt_status want_scalar(const reader *r, const char *what) {
    switch (r->event.type) {
    case YAML_SCALAR_EVENT:
        break;
    case YAML_MAPPING_START_EVENT:
        return YAML_FAIL(r, "%s: is a mapping, nested too deep; write a single value", what);
    case YAML_SEQUENCE_START_EVENT:
        return YAML_FAIL(r, "%s: is a list; write a single value", what);
    default:
        return YAML_FAIL(r, "%s: is an alias; write the value", what);
    }
    if (r->event.data.scalar.anchor != NULL || r->event.data.scalar.tag != NULL)
        return YAML_FAIL(r, "%s: has an anchor or a tag; write the plain value", what);
    const char *text = (const char *)r->event.data.scalar.value;
    if (strlen(text) != r->event.data.scalar.length)
        return YAML_FAIL(r, "%s: contains a NUL character; leave it out", what);
    return SWT_OK;
}

static const char *scalar(const yaml_event_t *event) {
    return (const char *)event->data.scalar.value;
}

static bool is_plain(const yaml_event_t *event) {
    return event->type == YAML_SCALAR_EVENT && event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

/* Whether the value says "nothing" to YAML: without quotes, a word for it or not a character. */
static bool is_null(const yaml_event_t *event) {
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    for (size_t i = 0; is_plain(event) && i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(scalar(event), words[i]) == 0)
            return true;
    }
    return false;
}

static swt_status once(size_t *seen_line, const reader *r, const char *name) {
    if (*seen_line != 0)
        return YAML_FAIL(r, "%.80s: is given twice, first in line %zu; keep one", name, *seen_line);
    *seen_line = line_of(&r->event);
    return SWT_OK;
}

static bool is_octal(const char *text) {
    const char *digits = text + strspn(text, "+-");
    return digits[0] == '0' && digits[1] != '\0';
}

static swt_status apply(const reader *r, const setting *s) {
    const bool none = swt_option_is_path(s->row) && is_null(&s->value);
    const char *text = none ? "" : scalar(&s->value);
    if (s->row->type == &swt_option_int && is_plain(&s->value) && is_octal(text))
        return yaml_fail(r, __LINE__, line_of(&s->value),
                         "%s: is %.60s, which YAML libraries read to the base of 8; write it "
                         "without the leading 0",
                         s->row->key, text);
    char where[SWT_PATH_BYTES + 32];
    snprintf(where, sizeof where, "%s:%zu", r->path, line_of(&s->value));
    return swt_option_set(r->o, s->row, text, where, r->status);
}

/* The value of a row, kept for when all of the file is known; which preset it is, at once. */
static swt_status read_value(reader *r, const swt_option *row) {
    SWT_TRY(next(r));
    SWT_TRY(want_scalar(r, row->key));
    /* Without a path is the default of each; a prompt could be meant to be "null". */
    if (row->type == &swt_option_text && !swt_option_is_path(row) && is_null(&r->event) &&
        scalar(&r->event)[0] != '\0')
        return YAML_FAIL(
            r, "%s: is null, which is no text; write \"\" for none, or quotes around it", row->key);
    setting *kept = &r->settings[r->count++];
    *kept = (setting){row, r->event};
    r->event = (yaml_event_t){0};
    return row == r->preset ? apply(r, kept) : SWT_OK;
}

/* An unknown key, or a section that may be meant as one. */
static swt_status unknown(const reader *r, const char *name, const char *what) {
    char advice[SWT_OPTION_RANGE_BYTES];
    swt_option_suggest(name, SWT_TAKES_ALL, true, advice, sizeof advice);
    return YAML_FAIL(r, "%.60s: unknown %s; %s", name, what, advice);
}

static swt_status read_keys(reader *r, const char *section) {
    for (;;) {
        SWT_TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT)
            return SWT_OK;
        SWT_TRY(want_scalar(r, section));
        char key[SWT_OPTION_NAME_BYTES];
        const int n = snprintf(key, sizeof key, "%s.%s", section, scalar(&r->event));
        const swt_option *row = (size_t)n < sizeof key ? swt_option_of_key(key) : NULL;
        if (row == NULL)
            return unknown(r, key, "key");
        SWT_TRY(once(&r->key_lines[row - swt_option_table], r, key));
        SWT_TRY(read_value(r, row));
    }
}

static swt_status find_section(const reader *r, int *index) {
    const char *name = scalar(&r->event);
    const swt_option *row = swt_option_of_key(name);
    if (row != NULL)
        return YAML_FAIL(r, "%s: is no section; write '%.*s:' and, indented below it, '%s: ...'",
                         name, (int)strcspn(name, "."), name, strchr(name, '.') + 1);
    int nearest_distance = SWT_OPTION_FAR;
    for (int i = 0; i < swt_option_section_count; i++) {
        const swt_option_section *section = &swt_option_sections[i];
        if (strcmp(name, section->name) == 0) {
            *index = i;
            return SWT_OK;
        }
        const int d = swt_name_distance(name, section->name, section->also);
        if (d < nearest_distance) {
            nearest_distance = d;
            *index = i;
        }
    }
    if (nearest_distance == SWT_OPTION_FAR)
        return unknown(r, name, "section");
    return YAML_FAIL(r, "%.60s: unknown section; did you mean %s?", name,
                     swt_option_sections[*index].name);
}

static swt_status read_sections(reader *r) {
    for (;;) {
        SWT_TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT)
            return SWT_OK;
        SWT_TRY(want_scalar(r, "a section's name"));
        int index = 0;
        SWT_TRY(find_section(r, &index));
        const char *section = swt_option_sections[index].name;
        SWT_TRY(once(&r->section_lines[index], r, section));
        SWT_TRY(next(r));
        if (r->event.type == YAML_MAPPING_START_EVENT) {
            SWT_TRY(read_keys(r, section));
            continue;
        }
        /* A section whose keys are all commented out is an empty one. */
        if (!is_null(&r->event))
            return YAML_FAIL(r, "%s: is no mapping; write 'key: value' lines, indented, below it",
                             section);
    }
}

static swt_status read_document(reader *r) {
    SWT_TRY(next(r)); /* the stream's start */
    SWT_TRY(next(r));
    if (r->event.type == YAML_STREAM_END_EVENT)
        return YAML_FAIL(r, "the file is empty; write 'section:' and below it 'key: value'");
    SWT_TRY(next(r));
    if (r->event.type != YAML_MAPPING_START_EVENT)
        return YAML_FAIL(r, "the file is no mapping; write 'section:' and below it 'key: value'");
    SWT_TRY(read_sections(r));
    SWT_TRY(next(r)); /* the document's end */
    SWT_TRY(next(r));
    if (r->event.type != YAML_STREAM_END_EVENT)
        return YAML_FAIL(r, "a second document begins; keep one");
    return SWT_OK;
}

/* The preset's defaults first, unless a flag has decided the preset. */
static swt_status apply_all(const reader *r, bool keep_preset) {
    for (int i = 0; i < r->count; i++) {
        if (r->settings[i].row == r->preset && !keep_preset)
            swt_options_reset_keys(r->o, (swt_preset)r->o->model_preset);
    }
    for (int i = 0; i < r->count; i++)
        SWT_TRY(apply(r, &r->settings[i]));
    return SWT_OK;
}

static swt_status read_text(reader *r, size_t bytes, bool keep_preset) {
    if (!yaml_parser_initialize(&r->parser))
        return SWT_FAIL(MEMORY, "%s: out of memory while reading it", r->path);
    yaml_parser_set_input_string(&r->parser, r->text, bytes);
    swt_status status = read_document(r);
    if (status == SWT_OK)
        status = apply_all(r, keep_preset);
    yaml_event_delete(&r->event);
    for (int i = 0; i < r->count; i++)
        yaml_event_delete(&r->settings[i].value);
    yaml_parser_delete(&r->parser);
    return status;
}

swt_status swt_options_read_yaml(swt_options *o, const char *path, swt_status status,
                                 bool keep_preset) {
    char *text;
    size_t bytes;
    SWT_TRY(swt_file_load(&text, &bytes, path, FILE_MOST_BYTES, status));
    reader r = {.o = o,
                .preset = swt_option_of_key("model.preset"),
                .text = (const unsigned char *)text,
                .path = swt_path_tail(path),
                .status = status};
    status = read_text(&r, bytes, keep_preset);
    free(text);
    return status;
}
