/* Rows by name, and by a name that is nearly one. */
#include "train/options_table.h"

#include <limits.h>
#include <string.h>

const swt_option *swt_option_of_key(const char *key) {
    for (int i = 0; i < swt_option_count; i++) {
        const swt_option *row = &swt_option_table[i];
        if (row->key != NULL && strcmp(row->key, key) == 0)
            return row;
    }
    return NULL;
}

bool swt_option_in_section(const swt_option *row, const char *section) {
    const size_t n = strlen(section);
    return row->key != NULL && strncmp(row->key, section, n) == 0 && row->key[n] == '.';
}

void swt_option_flag(const swt_option *row, char *out, size_t out_bytes) {
    if (row->flag != NULL)
        snprintf(out, out_bytes, "%s", row->flag);
    else
        snprintf(out, out_bytes, "--%s", row->key);
}

static bool same(char a, char b) {
    return a == b || (a == '-' && b == '_') || (a == '_' && b == '-');
}

static int least(int a, int b) {
    return a < b ? a : b;
}

/* Levenshtein's table, one line of it at a time. What is beyond the longest name counts in full. */
int swt_edit_distance(const char *a, const char *b) {
    const size_t an = strnlen(a, SWT_OPTION_NAME_BYTES), bn = strnlen(b, SWT_OPTION_NAME_BYTES);
    int line[SWT_OPTION_NAME_BYTES + 1];
    for (size_t j = 0; j <= bn; j++)
        line[j] = (int)j;
    for (size_t i = 1; i <= an; i++) {
        int diagonal = line[0];
        line[0] = (int)i;
        for (size_t j = 1; j <= bn; j++) {
            const int replace = diagonal + !same(a[i - 1], b[j - 1]);
            diagonal = line[j];
            line[j] = least(replace, least(line[j], line[j - 1]) + 1);
        }
    }
    return line[bn];
}

/* The part after the dot; all of a name without one. */
static const char *last_part(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot != NULL ? dot + 1 : name;
}

static int distance(const char *name, const swt_option *row) {
    int best = INT_MAX;
    if (row->flag != NULL)
        best = swt_edit_distance(name, row->flag + 2);
    if (row->key != NULL) {
        best = least(best, swt_edit_distance(name, row->key));
        /* "--lr" and "train.lr" both mean optim.lr; a wrong or missing section is one change. */
        best = least(best, swt_edit_distance(last_part(name), last_part(row->key)) + 1);
    }
    return best;
}

const swt_option *swt_option_nearest(const char *name, unsigned commands, bool keyed_only) {
    if (strncmp(name, "--", 2) == 0)
        name += 2;
    const swt_option *nearest = &swt_option_table[0];
    int nearest_distance = INT_MAX;
    for (int i = 0; i < swt_option_count; i++) {
        const swt_option *row = &swt_option_table[i];
        if ((row->commands & commands) == 0 || (keyed_only && row->key == NULL))
            continue;
        const int d = distance(name, row);
        if (d < nearest_distance) {
            nearest_distance = d;
            nearest = row;
        }
    }
    return nearest;
}

const char *swt_path_tail(const char *path) {
    enum { TAIL_BYTES = 200 };
    const size_t n = strlen(path);
    return n > TAIL_BYTES ? path + n - TAIL_BYTES : path;
}
