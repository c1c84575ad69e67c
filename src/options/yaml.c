/* The YAML side of the options: a mapping of sections, each a mapping of keys to single values. It
 * is read by libyaml's events, in one pass. */
#include "io/files.h"
#include "options/table.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { FILE_MOST_BYTES = 1 << 20 };

/* A file being read. */
typedef struct reader {
    yaml_parser_t parser;
    yaml_event_t event; /* the current one, given back by the next or at the end */
    swt_options *o;
    bool keep_preset; /* a flag has decided it */
    const unsigned char *text;
    const char *path;                   /* for messages */
    swt_status status;                  /* code of this file's errors */
    size_t key_lines[SWT_OPTION_LIMIT]; /* where each row was given; 0: not yet */
    size_t section_lines[SWT_OPTION_LIMIT];
} reader;

static size_t line_of(const reader *r) {
    return r->event.start_mark.line + 1;
}

/* The error "PATH:LINE: WHAT" of a line, and of the current event's. */
#define FAIL_LINE(r, line, fmt, ...)                                                               \
    SWT_FAIL_AS((r)->status, "%s:%zu: " fmt, (r)->path, line, __VA_ARGS__)
#define FAIL_HERE(r, ...) FAIL_LINE(r, line_of(r), __VA_ARGS__)

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
    return FAIL_LINE(r, line,
                     "no valid YAML: %s; write 'section:' and, indented by spaces, 'key: value'",
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
        return FAIL_HERE(r, "%s: is a mapping, nested too deep; write a single value", what);
    case YAML_SEQUENCE_START_EVENT:
        return FAIL_HERE(r, "%s: is a list; write a single value", what);
    default:
        return FAIL_HERE(r, "%s: is an alias; write the value", what);
    }
    if (r->event.data.scalar.anchor != NULL || r->event.data.scalar.tag != NULL)
        return FAIL_HERE(r, "%s: has an anchor or a tag; write the plain value", what);
    const char *text = (const char *)r->event.data.scalar.value;
    if (strlen(text) != r->event.data.scalar.length)
        return FAIL_HERE(r, "%s: contains a NUL character; leave it out", what);
    return SWT_OK;
}

static const char *scalar(const reader *r) {
    return (const char *)r->event.data.scalar.value;
}

static bool is_plain(const reader *r) {
    return r->event.type == YAML_SCALAR_EVENT &&
           r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

/* Whether the value says "nothing" to YAML: without quotes, a word for it or not a character. */
static bool is_null(const reader *r) {
    return is_plain(r) && swt_yaml_is_null(scalar(r));
}

static bool is_octal(const char *text) {
    const char *digits = text + strspn(text, "+-");
    return digits[0] == '0' && digits[1] != '\0';
}

static swt_status once(size_t *seen_line, const reader *r, const char *name) {
    if (*seen_line != 0)
        return FAIL_HERE(r, "%.80s: is given twice, first in line %zu; keep one", name, *seen_line);
    *seen_line = line_of(r);
    return SWT_OK;
}

/* The preset stands anywhere in the file: its defaults are for what was not given before it. */
static void apply_preset(const reader *r) {
    for (int i = 0; i < swt_option_count; i++)
        if (swt_option_table[i].key != NULL && r->key_lines[i] == 0)
            swt_option_reset(r->o, &swt_option_table[i], (swt_preset)r->o->model_preset);
}

static swt_status read_value(reader *r, const swt_option *row) {
    SWT_TRY(next(r));
    SWT_TRY(want_scalar(r, row->key));
    const char *text = scalar(r);
    /* Without a path is the default of each; a prompt could be meant to be "null". */
    if (swt_option_is_path(row) && is_null(r))
        text = "";
    else if (row->type == &swt_option_text && is_null(r) && text[0] != '\0')
        return FAIL_HERE(
            r, "%s: is null, which is no text; write \"\" for none, or quotes around it", row->key);
    if (row->type == &swt_option_int && is_plain(r) && is_octal(text))
        return FAIL_HERE(r,
                         "%s: is %.60s, which YAML libraries read to the base of 8; write it "
                         "without the leading 0",
                         row->key, text);
    char where[SWT_PATH_BYTES + 32];
    snprintf(where, sizeof where, "%s:%zu", r->path, line_of(r));
    SWT_TRY(swt_option_set(r->o, row, text, where, r->status));
    if (strcmp(row->key, "model.preset") == 0 && !r->keep_preset)
        apply_preset(r);
    return SWT_OK;
}

/* An unknown key, or a section that may be meant as one. */
static swt_status unknown(const reader *r, const char *name, const char *what) {
    char advice[SWT_OPTION_RANGE_BYTES];
    swt_option_suggest(name, SWT_TAKES_ALL, true, advice, sizeof advice);
    return FAIL_HERE(r, "%.60s: unknown %s; %s", name, what, advice);
}

static swt_status read_keys(reader *r, const char *section) {
    for (;;) {
        SWT_TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT)
            return SWT_OK;
        SWT_TRY(want_scalar(r, section));
        char key[SWT_OPTION_NAME_BYTES];
        const int n = snprintf(key, sizeof key, "%s.%s", section, scalar(r));
        const swt_option *row = (size_t)n < sizeof key ? swt_option_of_key(key) : NULL;
        if (row == NULL)
            return unknown(r, key, "key");
        SWT_TRY(once(&r->key_lines[row - swt_option_table], r, key));
        SWT_TRY(read_value(r, row));
    }
}

static swt_status find_section(const reader *r, const swt_topic **out) {
    const char *name = scalar(r);
    *out = swt_topic_named(swt_sections, name);
    if (*out != NULL)
        return SWT_OK;
    if (swt_option_of_key(name) != NULL)
        return FAIL_HERE(r, "%s: is no section; write '%.*s:' and, indented below it, '%s: ...'",
                         name, (int)strcspn(name, "."), name, strchr(name, '.') + 1);
    const swt_topic *nearest = swt_topic_nearest(swt_sections, name);
    if (nearest == NULL)
        return unknown(r, name, "section");
    return FAIL_HERE(r, "%.60s: unknown section; did you mean %s?", name, nearest->name);
}

static swt_status read_sections(reader *r) {
    for (;;) {
        SWT_TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT)
            return SWT_OK;
        SWT_TRY(want_scalar(r, "a section's name"));
        const swt_topic *section;
        SWT_TRY(find_section(r, &section));
        SWT_TRY(once(&r->section_lines[section - swt_sections], r, section->name));
        SWT_TRY(next(r));
        if (r->event.type == YAML_MAPPING_START_EVENT)
            SWT_TRY(read_keys(r, section->name));
        else if (!is_null(r)) /* a section whose keys are all commented out is an empty one */
            return FAIL_HERE(r, "%s: is no mapping; write 'key: value' lines, indented, below it",
                             section->name);
    }
}

static swt_status read_document(reader *r) {
    static const char form[] = "write 'section:' and below it 'key: value'";
    SWT_TRY(next(r)); /* the stream's start */
    SWT_TRY(next(r));
    if (r->event.type == YAML_STREAM_END_EVENT)
        return FAIL_HERE(r, "the file is empty; %s", form);
    SWT_TRY(next(r));
    if (r->event.type != YAML_MAPPING_START_EVENT)
        return FAIL_HERE(r, "the file is no mapping; %s", form);
    SWT_TRY(read_sections(r));
    SWT_TRY(next(r)); /* the document's end */
    SWT_TRY(next(r));
    if (r->event.type != YAML_STREAM_END_EVENT)
        return FAIL_HERE(r, "%s", "a second document begins; keep one");
    return SWT_OK;
}

swt_status swt_options_read_yaml(swt_options *o, const char *path, swt_status status,
                                 bool keep_preset) {
    char *text;
    size_t bytes;
    SWT_TRY(swt_file_load(&text, &bytes, path, FILE_MOST_BYTES, status));
    reader r = {.o = o,
                .keep_preset = keep_preset,
                .text = (const unsigned char *)text,
                .path = swt_path_tail(path),
                .status = status};
    if (yaml_parser_initialize(&r.parser)) {
        yaml_parser_set_input_string(&r.parser, r.text, bytes);
        status = read_document(&r);
        yaml_event_delete(&r.event);
        yaml_parser_delete(&r.parser);
    } else {
        status = SWT_FAIL(MEMORY, "%s: out of memory while reading it", r.path);
    }
    free(text);
    return status;
}
