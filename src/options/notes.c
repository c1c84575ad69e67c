/* What was given on the command line and does nothing: said, never dropped in silence. */
#include "options/table.h"

#include <string.h>

/* The row's flag has an effect only where another option has some of its values. */
static void note_unused(swt_options *o, const swt_option *row, const char *flag) {
    char value[SWT_OPTION_NAME_BYTES];
    const char *name = row->only_with, *words = strchr(name, ' ') + 1;
    const int n = (int)(words - 1 - name), dashes = (int)strspn(name, "-");
    const swt_option *other = swt_option_named(name + dashes, (size_t)(n - dashes));
    if (swt_option_is_among(o, other, words))
        return;
    swt_option_print(o, other, value, sizeof value);
    swt_warn(&o->notes, "%s: has no effect with %.*s %s; leave it out, or set %.*s to %s%s", flag,
             n, name, value, n, name, words[0] == '!' ? "another value than " : "",
             words + (words[0] == '!'));
}

void swt_options_note(swt_options *o, const char *const *values, const char *const *earlier) {
    for (int i = 0; i < swt_option_count; i++) {
        const swt_option *row = &swt_option_table[i];
        const char *flag = swt_option_flag(row);
        if (values[i] == NULL)
            continue;
        if (earlier[i] != NULL && strcmp(earlier[i], values[i]) != 0)
            swt_warn(&o->notes, "%s: is given twice, %.40s and then %.40s; the last one counts",
                     flag, earlier[i], values[i]);
        if (swt_option_is_path(row) && values[i][0] == '\0')
            swt_warn(&o->notes,
                     "%s: is empty, as if it were not given; give a path, or leave it out", flag);
        if (row->only_with != NULL)
            note_unused(o, row, flag);
    }
}
