/* What was given on the command line and does nothing: said, never dropped in silence. */
#include "options/table.h"

#include <stdarg.h>
#include <string.h>

static void note(swt_options *o, const char *fmt, ...) SWT_PRINTF(2, 3);

/* One more line; what has no room is left out. */
static void note(swt_options *o, const char *fmt, ...) {
    const size_t used = strlen(o->notes);
    char line[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (used + strlen(line) + 2 <= sizeof o->notes)
        snprintf(o->notes + used, sizeof o->notes - used, "%s\n", line);
}

/* Whether a row's value is among words: "adam sgd", or with a ! at the front none of them. */
static bool is_among(const swt_options *o, const swt_option *row, const char *words) {
    char value[SWT_OPTION_NAME_BYTES];
    swt_option_format(o, row, value, sizeof value);
    const size_t n = strlen(value);
    const bool inverted = words[0] == '!';
    for (const char *word = words + inverted; *word != '\0';) {
        const size_t length = strcspn(word, " ");
        if (length == n && strncmp(word, value, n) == 0)
            return !inverted;
        word += length + (word[length] == ' ');
    }
    return inverted;
}

/* The row's flag has an effect only where another option has some of its values. */
static void note_unused(swt_options *o, const swt_option *row, const char *flag) {
    char other[SWT_OPTION_NAME_BYTES], value[SWT_OPTION_NAME_BYTES];
    if (row->only_with[0] == '\0') {
        note(o, "%s: is not in use yet; leave it out", flag);
        return;
    }
    const char *words = strchr(row->only_with, ' ') + 1;
    snprintf(other, sizeof other, "%.*s", (int)(words - 1 - row->only_with), row->only_with);
    const swt_option *on = swt_option_of_key(other);
    for (int i = 0; on == NULL; i++)
        if (swt_option_table[i].flag != NULL && strcmp(swt_option_table[i].flag, other) == 0)
            on = &swt_option_table[i];
    if (is_among(o, on, words))
        return;
    swt_option_format(o, on, value, sizeof value);
    note(o, "%s: has no effect with %s %s; leave it out, or set %s to %s%s", flag, other, value,
         other, words[0] == '!' ? "another value than " : "", words + (words[0] == '!'));
}

void swt_options_note(swt_options *o, const char *const *values, const char *const *earlier) {
    for (int i = 0; i < swt_option_count; i++) {
        const swt_option *row = &swt_option_table[i];
        char flag[SWT_OPTION_NAME_BYTES];
        swt_option_flag(row, flag, sizeof flag);
        if (values[i] == NULL)
            continue;
        if (earlier[i] != NULL && strcmp(earlier[i], values[i]) != 0)
            note(o, "%s: is given twice, %.40s and then %.40s; the last one counts", flag,
                 earlier[i], values[i]);
        if (row->type == SWT_OPTION_TEXT && row->bytes == SWT_PATH_BYTES && values[i][0] == '\0')
            note(o, "%s: is empty, as if it were not given; give a path, or leave it out", flag);
        if (row->only_with != NULL)
            note_unused(o, row, flag);
    }
}
