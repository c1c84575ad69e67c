/* The options as a YAML file that reads back to the same options: the rows of each section, one a
 * line. */
#include "base/utf8.h"
#include "io/files.h"
#include "options/table.h"

#include <string.h>

/* Characters that any YAML library takes inside double quotes as they are: no controls, no byte
 * order mark, nothing that some of them take for the end of a line, nothing beyond 16 bits. */
static bool is_plain(uint32_t c) {
    return (c >= 0x20 && c <= 0x7E && c != '"' && c != '\\') ||
           (c >= 0xA0 && c <= 0xFFFD && c != 0x2028 && c != 0x2029 && c != 0xFEFF);
}

/* YAML's escape of one character. */
static void put_escape(FILE *f, uint32_t c) {
    static const uint32_t named[] = {'\a', '\b', '\t', '\n', '\v',   '\f',  '\r',
                                     0x1B, '"',  '\\', 0x85, 0x2028, 0x2029};
    static const char letters[] = "abtnvfre\"\\NLP";
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
        if (named[i] == c) {
            fprintf(f, "\\%c", letters[i]);
            return;
        }
    }
    fprintf(f, c <= 0xFF ? "\\x%02X" : c <= 0xFFFF ? "\\u%04X" : "\\U%08X", (unsigned)c);
}

static void put_quoted(FILE *f, const char *text) {
    const char *end = text + strlen(text);
    fputc('"', f);
    while (text < end) {
        uint32_t c = 0;
        const int n = swt_utf8_decode(text, (size_t)(end - text), &c);
        if (n <= 0) /* the options hold no such text */
            break;
        if (is_plain(c))
            fwrite(text, 1, (size_t)n, f);
        else
            put_escape(f, c);
        text += n;
    }
    fputc('"', f);
}

/* What any YAML library reads as it was meant, and writes again so that it is taken: texts always
 * in double quotes (none can then look like a number, and every character has an escape), truth
 * values as true and false, and choices in quotes that would be something else without. */
static void put_row(FILE *f, const swt_options *o, const swt_option *row) {
    char value[SWT_PATH_BYTES];
    swt_option_print(o, row, value, sizeof value);
    fprintf(f, "  %s: ", strchr(row->key, '.') + 1);
    if (row->type == &swt_option_bool)
        fputs(strcmp(value, row->choices[1]) == 0 ? "true" : "false", f);
    else if (row->type == &swt_option_text ||
             (row->type == &swt_option_choice && swt_yaml_is_ambiguous(value)))
        put_quoted(f, value);
    else
        fputs(value, f);
    fputc('\n', f);
}

void swt_options_print_yaml(const swt_options *o, FILE *f) {
    for (const swt_topic *section = swt_sections; section->name != NULL; section++) {
        fprintf(f, "%s:\n", section->name);
        for (const swt_option *row = NULL; (row = swt_option_next(row, section->name)) != NULL;)
            put_row(f, o, row);
    }
}

static void print(FILE *out, const void *options) {
    swt_options_print_yaml(options, out);
}

swt_status swt_options_write_file(const swt_options *o, const char *path) {
    return swt_file_print(path, "it", print, o);
}
