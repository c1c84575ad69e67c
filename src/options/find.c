/* Rows by name, and by a name that is nearly one. */
#include "base/words.h"
#include "options/table.h"

#include <ctype.h>
#include <string.h>

/* Whether the first n characters of a name are all of the known one. */
static bool is_name(const char *name, size_t n, const char *known) {
    return strlen(known) == n && strncmp(name, known, n) == 0;
}

const swt_option *swt_option_named(const char *name, size_t n) {
    for (int i = 0; i < swt_option_count; i++) {
        const swt_option *row = &swt_option_table[i];
        if ((row->key != NULL && is_name(name, n, row->key)) ||
            (row->flag != NULL && is_name(name, n, row->flag + 2)))
            return row;
    }
    return NULL;
}

const swt_option *swt_option_of_key(const char *key) {
    const swt_option *row = swt_option_named(key, strlen(key));
    return row != NULL && row->key != NULL && strchr(key, '.') != NULL ? row : NULL;
}

const char *swt_options_choice_name(const char *key, int value) {
    const swt_option *row = swt_option_of_key(key);
    for (int i = 0; row != NULL && row->choices != NULL && row->choices[i] != NULL; i++) {
        if (i == value)
            return row->choices[i];
    }
    return "?";
}

bool swt_option_is_path(const swt_option *row) {
    return row->type == &swt_option_text && row->bytes == SWT_PATH_BYTES;
}

bool swt_option_in_section(const swt_option *row, const char *section) {
    const size_t n = strlen(section);
    return row->key != NULL && strncmp(row->key, section, n) == 0 && row->key[n] == '.';
}

const swt_option *swt_option_next(const swt_option *row, const char *section) {
    row = row == NULL ? swt_option_table : row + 1;
    for (; row < swt_option_table + swt_option_count; row++)
        if (section == NULL ? row->key == NULL : swt_option_in_section(row, section))
            return row;
    return NULL;
}

const char *swt_option_flag(const swt_option *row) {
    return row->flag != NULL ? row->flag : row->full_flag;
}

void swt_option_append_commands(const swt_option *row, char *out, size_t out_bytes) {
    const char *before = "";
    for (const swt_topic *c = swt_commands; c->name != NULL; c++) {
        if ((row->commands & (1u << c->command)) == 0)
            continue;
        swt_append(out, out_bytes, "%s%s", before, c->name);
        before = ", ";
    }
}

bool swt_next_word(const char **words, char out[SWT_OPTION_NAME_BYTES]) {
    const int n = (int)strcspn(*words, " ");
    snprintf(out, SWT_OPTION_NAME_BYTES, "%.*s", n, *words);
    *words += n + ((*words)[n] == ' ');
    return n > 0;
}

/* ---- names that are nearly one */

static bool same(char a, char b) {
    if (a == '-' || a == '_')
        return b == '-' || b == '_';
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

static int least(int a, int b) {
    return a < b ? a : b;
}

/* Levenshtein's table with exchanges, three lines of it at a time. What is beyond the longest name
 * is not looked at. */
int swt_edit_distance(const char *a, const char *b) {
    const size_t an = strnlen(a, SWT_OPTION_NAME_BYTES), bn = strnlen(b, SWT_OPTION_NAME_BYTES);
    int lines[3][SWT_OPTION_NAME_BYTES + 1];
    for (size_t j = 0; j <= bn; j++)
        lines[0][j] = (int)j;
    for (size_t i = 1; i <= an; i++) {
        int *line = lines[i % 3];
        const int *above = lines[(i + 2) % 3], *second = lines[(i + 1) % 3];
        line[0] = (int)i;
        for (size_t j = 1; j <= bn; j++) {
            line[j] =
                least(above[j - 1] + !same(a[i - 1], b[j - 1]), least(above[j], line[j - 1]) + 1);
            if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]))
                line[j] = least(line[j], second[j - 2] + 1);
        }
    }
    return lines[an % 3][bn];
}

/* The changes, where they are few for names of such a length: one in three characters. */
static int slip(const char *name, const char *known) {
    const size_t n = strlen(name), m = strlen(known);
    const int d = swt_edit_distance(name, known);
    return 3 * (size_t)d <= (n > m ? n : m) ? d : SWT_OPTION_FAR;
}

/* The least slip from any of some words. */
static int slip_of_words(const char *name, const char *words) {
    char word[SWT_OPTION_NAME_BYTES];
    int best = SWT_OPTION_FAR;
    while (words != NULL && swt_next_word(&words, word))
        best = least(best, slip(name, word));
    return best;
}

/* The part after the dot; all of a name without one. */
static const char *last_part(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot != NULL ? dot + 1 : name;
}

/* "train.lr" means optim.lr: a wrong or missing section is one change. */
static int distance(const char *name, const swt_option *row, const char **difference) {
    const char *last = last_part(name);
    const int apart = last != name;
    int best = least(slip_of_words(name, row->also), slip_of_words(last, row->also) + apart);
    if (row->flag != NULL)
        best = least(best, slip(name, row->flag + 2));
    if (row->key != NULL) {
        best = least(best, slip(name, row->key));
        best = least(best, slip(last, last_part(row->key)) + 1);
    }
    const int nearly =
        least(slip_of_words(name, row->nearly), slip_of_words(last, row->nearly) + apart);
    *difference = nearly < best ? row->difference : NULL;
    return least(nearly, best);
}

const swt_option *swt_option_nearest(const char *name, unsigned commands, bool keyed_only, int most,
                                     const char **difference) {
    const swt_option *nearest = NULL;
    int nearest_distance = most + 1;
    *difference = NULL;
    name += strspn(name, "-");
    for (int i = 0; i < swt_option_count; i++) {
        const swt_option *row = &swt_option_table[i];
        if ((row->commands & commands) == 0 || (keyed_only && row->key == NULL))
            continue;
        const char *own = NULL;
        const int d = distance(name, row, &own);
        if (d < nearest_distance) {
            nearest_distance = d;
            nearest = row;
            *difference = own;
        }
    }
    return nearest;
}

void swt_option_suggest(const char *name, unsigned commands, bool keyed, char *out,
                        size_t out_bytes) {
    const char *difference;
    const swt_option *row =
        swt_option_nearest(name, commands, keyed, SWT_OPTION_FAR - 1, &difference);
    if (row == NULL) {
        snprintf(out, out_bytes, "--help-config lists all");
        return;
    }
    snprintf(out, out_bytes, "did you mean %s?", keyed ? row->key : swt_option_flag(row));
    if (difference != NULL)
        swt_append(out, out_bytes, " (%s)", difference);
}

/* ---- commands and sections */

const swt_topic *swt_topic_named(const swt_topic *topics, const char *word) {
    for (; topics->name != NULL; topics++)
        if (strcmp(word, topics->name) == 0)
            return topics;
    return NULL;
}

const swt_topic *swt_topic_nearest(const swt_topic *topics, const char *word) {
    const swt_topic *nearest = NULL;
    int nearest_distance = SWT_OPTION_FAR;
    for (; topics->name != NULL; topics++) {
        const int d = least(slip(word, topics->name), slip_of_words(word, topics->also));
        if (d < nearest_distance) {
            nearest_distance = d;
            nearest = topics;
        }
    }
    return nearest;
}
